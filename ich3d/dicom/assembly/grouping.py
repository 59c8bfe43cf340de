"""Group the slices of many files into CT series. Every file ends up used, left out, or rejected.

What happens to a file, in the order of this module:

1. `group_files` collects the slices of each SeriesInstanceUID; a folder of files without one is a
   series of its own.
2. A series with an invalid slice is rejected as a whole, because a volume with a hole would look
   complete. Under the lenient policy only the slice is dropped.
3. `split_series` splits what is left of a series into volumes, each sorted along its slice normal.
4. `cross_reference_orphans` links volumes without a SeriesInstanceUID to the series that they fit.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import PurePosixPath

from ich3d.core.text import pluralize
from ich3d.core.types import DroppedSlice, FileRef, Issue, LeftOut, Rejected, Series, SliceHeader
from ich3d.dicom.assembly.ordering import incomplete
from ich3d.dicom.assembly.orphans import cross_reference_orphans
from ich3d.dicom.assembly.splitting import derive_series_uid, split_series
from ich3d.dicom.assembly.stacks import Compare, compare_pixels, compare_positions
from ich3d.dicom.headers.read import InvalidSlice, Slices

SeriesKey = str | PurePosixPath
"""What the slices of a series share: the SeriesInstanceUID, or the folder where files have none."""

AnySlice = SliceHeader | InvalidSlice


@dataclass(frozen=True)
class Policy:
    """How strictly files are judged.

    Attributes:
        lenient: drop an invalid slice and go on with its series, instead of rejecting the series.
        headers_only: decode no pixels. Slices at one position are then not compared, and copies
            cannot be told from different slices.
    """

    lenient: bool = False
    headers_only: bool = False

    @property
    def compare(self) -> Compare:
        """How two slices at one position are compared."""
        return compare_positions if self.headers_only else compare_pixels


@dataclass(frozen=True)
class GroupingResult:
    """The volumes in a set of files, and the files that are in none."""

    series: tuple[Series, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    rejected: tuple[Rejected, ...] = ()


def group_files(files: Sequence[Slices | InvalidSlice], policy: Policy) -> GroupingResult:
    """Group the slices of `files` into ordered series.

    Args:
        files: for each file the headers of its slices, or why it has none.
        policy: what to do about invalid slices, and whether pixels are compared.

    Returns:
        Ordered series of one volume each; files left out, such as copies; and rejected series. A
        file that is too damaged to name its series is rejected alone.
    """
    groups: dict[SeriesKey, list[AnySlice]] = defaultdict(list)
    rejected: list[Rejected] = []

    # Sorted, so that messages name the same files whatever the order of the folder listing.
    for file in sorted(files, key=lambda file: _file_ref(file).name):
        if isinstance(file, InvalidSlice) and file.series_uid is None:
            rejected.append(_reject_file(file))
            continue
        slices = (file,) if isinstance(file, InvalidSlice) else file
        groups[slices[0].series_uid or _folder(slices[0].file)].extend(slices)

    series: list[Series] = []
    left_out: list[LeftOut] = []
    for slices_of_series in _merge_copied_folders(groups):
        result = _assemble(slices_of_series, policy)
        series += result.series
        left_out += result.left_out
        rejected += result.rejected
    return GroupingResult(cross_reference_orphans(series), tuple(left_out), tuple(rejected))


def _merge_copied_folders(
    groups: Mapping[SeriesKey, list[AnySlice]],
) -> list[list[AnySlice]]:
    """The slices of each series; folders without a SeriesInstanceUID that hold the same are merged.

    A copied folder is then recognized as a set of duplicates, as a copied series with a UID is.
    """
    merged: dict[SeriesKey, list[AnySlice]] = defaultdict(list)
    for key, slices in groups.items():
        headers = [header for header in slices if isinstance(header, SliceHeader)]
        if isinstance(key, PurePosixPath) and headers:
            key = derive_series_uid(headers)
        merged[key].extend(slices)
    return list(merged.values())


def _assemble(slices: Sequence[AnySlice], policy: Policy) -> GroupingResult:
    """The volumes of one series, as far as `policy` accepts its invalid slices."""
    headers = [header for header in slices if isinstance(header, SliceHeader)]
    invalid = [bad for bad in slices if isinstance(bad, InvalidSlice)]
    if not invalid:
        return _assemble_valid(headers, policy)
    if policy.lenient and headers:
        return _drop_invalid(invalid, _assemble_valid(headers, policy), headers)
    first = invalid[0]
    return _reject(slices, Issue(first.code, _describe(first) + _count_more(invalid)))


def _assemble_valid(headers: Sequence[SliceHeader], policy: Policy) -> GroupingResult:
    """The volumes of one series whose slices are all valid."""
    # Cached, because a series that is split compares some of its slices several times.
    split = split_series(headers, cache(policy.compare))
    if isinstance(split, Issue):
        return _reject(headers, split)
    return GroupingResult(split.series, split.left_out)


def _drop_invalid(
    invalid: Sequence[InvalidSlice], result: GroupingResult, headers: Sequence[SliceHeader]
) -> GroupingResult:
    """`result`, which was made of the valid `headers`, with a record of the `invalid` slices."""
    warning = incomplete([_describe(bad) for bad in invalid])
    series = [replace(volume, issues=(*volume.issues, warning)) for volume in result.series]

    # To which of several volumes the slices belonged is unknown: the first one records them.
    if series:
        series[0] = replace(series[0], lost=tuple(_dropped_slice(bad) for bad in invalid))

    left_out = (*result.left_out, *_unused_files(invalid, headers))
    return replace(result, series=tuple(series), left_out=left_out)


def _dropped_slice(bad: InvalidSlice) -> DroppedSlice:
    return DroppedSlice(bad.file, bad.frame, bad.sop_uid, bad.position_mm, bad.code)


def _unused_files(invalid: Iterable[InvalidSlice], headers: Iterable[SliceHeader]) -> list[LeftOut]:
    """The files of invalid slices, without those of which another frame is in use."""
    used = {header.file for header in headers}
    first_of_file: dict[FileRef, InvalidSlice] = {}
    for bad in invalid:
        if bad.file not in used:
            first_of_file.setdefault(bad.file, bad)
    return [LeftOut((bad.file.name,), bad.code, _describe(bad)) for bad in first_of_file.values()]


def _reject(slices: Sequence[AnySlice], issue: Issue) -> GroupingResult:
    """A whole series as rejected, with all its files."""
    subject = slices[0].series_uid or str(_folder(slices[0].file))
    paths = tuple(dict.fromkeys(any_slice.file.name for any_slice in slices))
    return GroupingResult(rejected=(Rejected(subject, issue.code, issue.detail, paths),))


def _reject_file(bad: InvalidSlice) -> Rejected:
    """A file whose series is unknown, as rejected."""
    return Rejected(bad.file.name, bad.code, _describe(bad), (bad.file.name,))


def _file_ref(file: Slices | InvalidSlice) -> FileRef:
    return file.file if isinstance(file, InvalidSlice) else file[0].file


def _folder(file: FileRef) -> PurePosixPath:
    return PurePosixPath(file.name).parent


def _describe(bad: InvalidSlice) -> str:
    return f"{bad.file.name}: {bad.problem}"


def _count_more(invalid: Sequence[InvalidSlice]) -> str:
    """How many files beside the first are invalid, or frames where all are in one file."""
    n_files = len({bad.file for bad in invalid})
    if n_files > 1:
        return f"; {pluralize(n_files - 1, 'more file')} with flaws"
    if len(invalid) > 1:
        return f"; {pluralize(len(invalid) - 1, 'more frame')} with flaws"
    return ""
