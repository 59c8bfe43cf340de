"""What only the pixels of an index show: slices that cannot be decoded, and HU that were altered.

Volumes of one SeriesInstanceUID are accepted or rejected together: where one of them cannot be
decoded, the others are no longer all that was acquired.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from ich3d.core.issues import IssueCode
from ich3d.core.progress import Progress, quiet
from ich3d.core.text import pluralize
from ich3d.core.types import FileRef, Issue, LeftOut, Rejected, Series, SliceHeader, Volume
from ich3d.dicom.assembly.ordering import drop_undecodable
from ich3d.dicom.index import Index
from ich3d.dicom.pixels.stored import read_slices
from ich3d.dicom.volume import load_volume

SeriesGroup = tuple[Series, ...]
"""The series of one SeriesInstanceUID, one for each of its volumes."""


def group_by_series_uid(all_series: Iterable[Series]) -> list[SeriesGroup]:
    """Group series by SeriesInstanceUID; groups are in the order of their first series."""
    groups: dict[str, list[Series]] = defaultdict(list)
    for series in all_series:
        groups[series.series_uid].append(series)
    return [tuple(group) for group in groups.values()]


def load_volumes(all_series: Iterable[Series]) -> Iterator[Volume | Rejected]:
    """Decode each series once, one SeriesInstanceUID after the other.

    `all_series` must hold all volumes of a SeriesInstanceUID, or none of them. Volumes are yielded
    in the order of `group_by_series_uid`. A group with a volume that cannot be decoded yields one
    `Rejected` in place of all its volumes. The volumes of one group are in memory together.
    """
    for group in group_by_series_uid(all_series):
        loaded = load_group(group)
        if isinstance(loaded, Rejected):
            yield loaded
        else:
            yield from loaded


def load_group(group: SeriesGroup) -> list[Volume] | Rejected:
    """Decode all volumes of one SeriesInstanceUID, in their order.

    Where one cannot be decoded, all are rejected: `subject` is the SeriesInstanceUID, `detail`
    names the first file that cannot be decoded, `paths` are the files of the whole group.
    """
    volumes = []
    for series in group:
        volume = load_volume(series)
        if isinstance(volume, Rejected):
            return _reject_group(group, volume)
        volumes.append(volume)
    return volumes


def check_pixels(
    index: Index,
    progress: Progress = quiet,
    judge: Callable[[Volume], Issue | None] = lambda volume: None,
) -> Index:
    """Decode every volume of `index`, and keep the issues but not the pixels.

    Series that cannot be decoded are moved to `rejected` with all volumes of their
    SeriesInstanceUID. The others gain the issues that only pixels show. Only one volume is needed
    in memory at a time.

    Args:
        index: where the series were found.
        progress: shows the groups of `group_by_series_uid`.
        judge: a further issue of a decoded volume; None where it has none.
    """
    accepted: list[Series] = []
    rejected = list(index.rejected)
    groups = group_by_series_uid(index.series)
    for group in progress(groups, "pixels", total=len(groups)):
        checked = _check_group(group, judge)
        if isinstance(checked, Rejected):
            rejected.append(checked)
        else:
            accepted += checked

    rejected.sort(key=lambda rejection: (rejection.subject, rejection.paths))
    return replace(index, series=tuple(accepted), rejected=tuple(rejected))


def leave_out_undecodable(index: Index, progress: Progress = quiet) -> Index:
    """Remove the slices whose pixels cannot be decoded, for the lenient policy.

    Each shortened series names them in an INCOMPLETE issue, and files without a usable frame are
    added to `left_out`. A series without any decodable slice is kept, so that `check_pixels` or
    `load_volumes` rejects it. `progress` shows the series.

    All pixels are decoded here and not kept: which slices a series has must be known before it
    is loaded, and the volumes of a whole index do not fit into memory.
    """
    kept: list[Series] = []
    problems: dict[FileRef, str] = {}
    for series in progress(index.series, "decode", total=len(index.series)):
        undecodable = _undecodable_slices(series)
        if undecodable and len(undecodable) < len(series):
            problems |= {header.file: problem for header, problem in undecodable.items()}
            series = drop_undecodable(series, undecodable)
        kept.append(series)

    # A multi-frame file stays in use while any of its frames, in whichever volume, is.
    used = {header.file for series in kept for header in series.headers}
    left_out = list(index.left_out)
    for file, problem in problems.items():
        if file not in used:
            left_out.append(LeftOut((file.name,), IssueCode.UNDECODABLE, problem))
    left_out.sort(key=lambda files: files.paths)
    return replace(index, series=tuple(kept), left_out=tuple(left_out))


def _undecodable_slices(series: Series) -> dict[SliceHeader, str]:
    """The slices whose pixels cannot be decoded, with one sentence each that says why."""
    undecodable = {}
    for header, stored in zip(series.headers, read_slices(series.headers), strict=True):
        if isinstance(stored, Issue):
            undecodable[header] = stored.detail
    return undecodable


def _check_group(
    group: SeriesGroup, judge: Callable[[Volume], Issue | None]
) -> list[Series] | Rejected:
    """Decode a group; return its series with the issues of their pixels, or the rejection."""
    checked = []
    for series in group:
        volume = load_volume(series)
        if isinstance(volume, Rejected):
            return _reject_group(group, volume)
        further = judge(volume)
        issues = volume.issues if further is None else (*volume.issues, further)
        checked.append(replace(series, issues=issues))
    return checked


def _reject_group(group: SeriesGroup, rejected: Rejected) -> Rejected:
    """The whole group as rejected, because a slice of one of its volumes cannot be decoded."""
    others = sum(map(len, group)) - 1
    advice = (
        f"; {pluralize(others, 'other slice')} of the series cannot be used because of it: "
        "with --lenient, predict, explain and convert keep what can be decoded"
    )
    paths = dict.fromkeys(path for series in group for path in series.paths)
    sop_uids = dict.fromkeys(sop_uid for series in group for sop_uid in series.sop_uids)
    return replace(
        rejected,
        subject=group[0].series_uid,
        detail=rejected.detail + (advice if others else ""),
        paths=tuple(paths),
        sop_uids=tuple(sop_uids),
    )
