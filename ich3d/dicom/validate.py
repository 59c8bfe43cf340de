"""What only the pixels of an index show: slices that cannot be decoded, and HU that were altered.

Volumes of one SeriesInstanceUID are accepted or rejected together. One scan was split into them, so
where one of them cannot be read, the others are no longer the whole of what was acquired.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from ich3d.core.issues import IssueCode
from ich3d.core.types import FileRef, Issue, LeftOut, Rejected, Series, SliceHeader, Volume
from ich3d.dicom.assembly.ordering import without
from ich3d.dicom.index import Index
from ich3d.dicom.pixels.stored import read_slices
from ich3d.dicom.volume import load_volume

T = TypeVar("T")

SeriesGroup = tuple[Series, ...]
"""All volumes of one SeriesInstanceUID."""

GroupProgress = Callable[[Iterable[SeriesGroup]], Iterable[SeriesGroup]]
SeriesProgress = Callable[[Iterable[Series]], Iterable[Series]]


def group_by_series_uid(series: Iterable[Series]) -> list[SeriesGroup]:
    """The volumes of each SeriesInstanceUID together, in the order of their first volume."""
    groups: dict[str, list[Series]] = defaultdict(list)
    for volume in series:
        groups[volume.series_uid].append(volume)
    return [tuple(group) for group in groups.values()]


def load_volumes(series: Iterable[Series]) -> Iterator[Volume | Rejected]:
    """Decode all `series` once, one SeriesInstanceUID at a time.

    `series` must hold all volumes of a SeriesInstanceUID, or none. Yields the volumes of
    `group_by_series_uid(series)` in that order; a group with a volume that cannot be read yields
    one `Rejected` in place of all its volumes. The volumes of one group are in memory together.
    """
    for group in group_by_series_uid(series):
        loaded = load_group(group)
        if isinstance(loaded, Rejected):
            yield loaded
        else:
            yield from loaded


def load_group(group: SeriesGroup) -> list[Volume] | Rejected:
    """Decode all volumes of one SeriesInstanceUID, in their order.

    Where one cannot be read, all are rejected: `subject` is the SeriesInstanceUID, `detail`
    names the first file that cannot be decoded, `paths` are the files of the whole group.
    """
    return _decode_group(group, lambda volume: volume)


def check_pixels(index: Index, progress: GroupProgress = iter) -> Index:
    """Decode every volume of `index` and keep what was learned, not the pixels.

    Series that cannot be read are moved to `rejected` with all volumes of their SeriesInstanceUID;
    the others gain the issues that only pixels show. One volume is in memory at a time. `progress`
    wraps the groups of `group_by_series_uid`.
    """
    series: list[Series] = []
    rejected = list(index.rejected)
    for group in progress(group_by_series_uid(index.series)):
        checked = _decode_group(group, lambda volume: replace(volume.series, issues=volume.issues))
        if isinstance(checked, Rejected):
            rejected.append(checked)
        else:
            series += checked
    rejected.sort(key=lambda item: (item.subject, item.paths))
    return replace(index, series=tuple(series), rejected=tuple(rejected))


def leave_out_undecodable(index: Index, progress: SeriesProgress = iter) -> Index:
    """Remove the slices whose pixels cannot be decoded, for the lenient policy.

    Each shortened series names them in an INCOMPLETE issue, and files without a usable frame are
    added to `left_out`. A series without any decodable slice is kept, for `check_pixels` or
    `load_volumes` to reject. `progress` wraps the series.
    """
    kept: list[Series] = []
    problems: dict[FileRef, str] = {}
    for series in progress(index.series):
        undecodable = _undecodable_slices(series)
        if undecodable and len(undecodable) < len(series):
            problems |= {header.file: problem for header, problem in undecodable.items()}
            series = without(series, undecodable)
        kept.append(series)

    # A multi-frame file stays in use while any of its frames, in whichever volume, is.
    used = {header.file for series in kept for header in series.headers}
    left_out = list(index.left_out)
    for file, problem in problems.items():
        if file not in used:
            left_out.append(LeftOut((file.name,), IssueCode.UNDECODABLE, problem))
    left_out.sort(key=lambda item: item.paths)
    return replace(index, series=tuple(kept), left_out=tuple(left_out))


def _undecodable_slices(series: Series) -> dict[SliceHeader, str]:
    """The slices whose pixels cannot be decoded, with the reason in words."""
    undecodable = {}
    for header, stored in zip(series.headers, read_slices(series.headers), strict=True):
        if isinstance(stored, Issue):
            undecodable[header] = stored.detail
    return undecodable


def _decode_group(group: Sequence[Series], keep: Callable[[Volume], T]) -> list[T] | Rejected:
    """What `keep` takes from each decoded volume, or the rejection of the whole group."""
    kept = []
    for series in group:
        volume = load_volume(series)
        if isinstance(volume, Rejected):
            paths = dict.fromkeys(path for member in group for path in member.paths)
            return replace(volume, subject=series.series_uid, paths=tuple(paths))
        kept.append(keep(volume))
    return kept
