"""Group the slices of many files into CT series. Every file ends up used, left out, or rejected.

The steps, in the order of this module:

1. `group_files` collects the slices of each SeriesInstanceUID. Files without one are grouped by
   their folder, StudyInstanceUID and SeriesNumber.
2. A series with an invalid slice is rejected as a whole, because a volume with a hole would look
   complete. Under the lenient policy only the slice is dropped.
3. `split_series` splits the slices of a series into volumes and sorts each along its slice normal.
4. `cross_reference_orphans` links volumes without a SeriesInstanceUID to the series that they fit.
5. `find_single_slices` warns of single slices that fit one series; the lenient policy joins them.
6. Series that repeat each other's SOPInstanceUIDs are warned of.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import PurePosixPath

from ich3d.core.issues import IssueCode
from ich3d.core.text import pluralize
from ich3d.core.types import DroppedSlice, FileRef, Issue, LeftOut, Rejected, Series, SliceHeader
from ich3d.dicom.assembly.ordering import incomplete_issue
from ich3d.dicom.assembly.orphans import cross_reference_orphans
from ich3d.dicom.assembly.single_slices import find_single_slices
from ich3d.dicom.assembly.splitting import (
    GroupingResult,
    derive_series_uid,
    split_series,
)
from ich3d.dicom.assembly.stacks import Compare, compare_pixels, compare_positions
from ich3d.dicom.headers.elements import tag_text
from ich3d.dicom.headers.read import InvalidSlice, Slices

SeriesKey = str | tuple[PurePosixPath, str, str]
"""What the slices of a series share: the SeriesInstanceUID; or where files have none, the folder,
StudyInstanceUID and SeriesNumber."""

AnySlice = SliceHeader | InvalidSlice


@dataclass(frozen=True)
class Policy:
    """How strictly files are judged.

    Attributes:
        lenient: drop an invalid slice and use the rest of its series, instead of rejecting the
            series; join single slices that fit one series; prepare and score a volume whose values
            do not look like HU.
        headers_only: decode no pixels. Slices at one position are then not compared, and copies
            cannot be told from different slices.
        follow_links: also follow symbolic links that lead out of the searched folders.
    """

    lenient: bool = False
    headers_only: bool = False
    follow_links: bool = False


def group_files(contents: Sequence[Slices | InvalidSlice], policy: Policy) -> GroupingResult:
    """Group the slices of many files into ordered series.

    Args:
        contents: for each file the headers of its slices, or why it has none.
        policy: what to do with invalid slices, and whether pixels are compared.

    Returns:
        The ordered series, the files that are left out, such as copies, and the rejected series.
        A file that is too damaged to tell its series is rejected alone.
    """
    groups: dict[SeriesKey, list[AnySlice]] = defaultdict(list)
    all_series: list[Series] = []
    left_out: list[LeftOut] = []
    rejected: list[Rejected] = []

    # Sorted, so that messages name the same files whatever the order of the folder listing.
    for slices in sorted(map(_as_slices, contents), key=lambda slices: slices[0].file.name):
        first = slices[0]
        key = series_key(first)
        if isinstance(first, InvalidSlice) and key is None:
            rejected.append(_reject_file(first))
        elif key is not None:
            groups[key].extend(slices)

    # Cached, because a series that is split compares some pairs of slices several times.
    compare = cache(compare_positions if policy.headers_only else compare_pixels)
    for slices_of_series in _merge_copied_folders(groups):
        result = _assemble(slices_of_series, compare, policy)
        all_series += result.series
        left_out += result.left_out
        rejected += result.rejected

    linked = cross_reference_orphans(all_series)
    warned = _warn_of_shared_uids(find_single_slices(linked, compare, join=policy.lenient))
    return GroupingResult(warned, tuple(left_out), tuple(rejected))


def series_key(any_slice: AnySlice) -> SeriesKey | None:
    """What the slices of a series share; None where a file is too damaged to tell its series."""
    if any_slice.series_uid is None:
        return None
    return any_slice.series_uid or _unnamed_series(any_slice)


def _as_slices(content: Slices | InvalidSlice) -> Slices:
    """The slices of one file; a file that is invalid as a whole counts as one invalid slice."""
    return (content,) if isinstance(content, InvalidSlice) else content


def _merge_copied_folders(groups: Mapping[SeriesKey, list[AnySlice]]) -> list[list[AnySlice]]:
    """The slices of each series. Folders that are copies of each other become one series.

    This concerns folders of files without a SeriesInstanceUID. Their slices are then recognized as
    duplicates, just as those of a copied series that has a UID.
    """
    merged: dict[SeriesKey, list[AnySlice]] = defaultdict(list)
    for key, slices in groups.items():
        headers = [header for header in slices if isinstance(header, SliceHeader)]
        if isinstance(key, tuple) and headers:
            key = derive_series_uid(headers)
        merged[key].extend(slices)
    return list(merged.values())


def _assemble(slices: Sequence[AnySlice], compare: Compare, policy: Policy) -> GroupingResult:
    """The volumes of one series, or the series as rejected."""
    headers = [header for header in slices if isinstance(header, SliceHeader)]
    invalid = [invalid for invalid in slices if isinstance(invalid, InvalidSlice)]
    if invalid and not (policy.lenient and headers):
        first = invalid[0]
        detail = _describe(first) + _count_more(invalid) + _count_lost(headers)
        return _reject(slices, Issue(first.code, detail))

    result = split_series(headers, compare)
    if isinstance(result, Issue):
        result = _reject(headers, result)
    return _record_dropped(result, invalid, headers) if invalid else result


def _warn_of_shared_uids(all_series: Sequence[Series]) -> tuple[Series, ...]:
    """Add an issue to each series with a SOPInstanceUID that a slice of another series has too.

    Within one SeriesInstanceUID, `split_series` warns of it.
    """
    holders: dict[str, dict[str, Series]] = defaultdict(dict)  # by SOPInstanceUID, then series
    for series in all_series:
        for header in series.headers:
            holders[header.sop_uid].setdefault(series.series_uid, series)

    warned = []
    for series in all_series:
        shared = [header for header in series.headers if len(holders[header.sop_uid]) > 1]
        if shared:
            others = holders[shared[0].sop_uid].values()
            other = next(other for other in others if other.series_uid != series.series_uid)
            series = replace(series, issues=(*series.issues, _shared_uid_issue(shared, other)))
        warned.append(series)
    return tuple(warned)


def _shared_uid_issue(shared: Sequence[SliceHeader], other: Series) -> Issue:
    """The warning about slices whose SOPInstanceUIDs are also those of slices of `other`."""
    slices = pluralize(len(shared), "slice")
    detail = f"{tag_text('SOPInstanceUID')} of {slices}, such as {shared[0].name}, is also that of"
    return Issue(IssueCode.REPEATED_SOP_UID, f"{detail} a slice of {other.volume_id}")


def _record_dropped(
    result: GroupingResult, invalid: Sequence[InvalidSlice], headers: Sequence[SliceHeader]
) -> GroupingResult:
    """Add the dropped `invalid` slices to `result`, the volumes of the valid `headers`."""
    warning = incomplete_issue([_describe(dropped) for dropped in invalid])
    all_series = [replace(series, issues=(*series.issues, warning)) for series in result.series]

    # It is not known from which of several volumes the slices are missing: the first records them.
    if all_series:
        dropped_slices = tuple(_dropped_slice(dropped) for dropped in invalid)
        all_series[0] = replace(all_series[0], dropped=dropped_slices)

    left_out = (*result.left_out, *_unused_files(invalid, headers))
    return replace(result, series=tuple(all_series), left_out=left_out)


def _dropped_slice(invalid: InvalidSlice) -> DroppedSlice:
    return DroppedSlice(
        invalid.file, invalid.frame, invalid.sop_uid, invalid.position_mm, invalid.code
    )


def _unused_files(invalid: Iterable[InvalidSlice], headers: Iterable[SliceHeader]) -> list[LeftOut]:
    """The files of `invalid` slices, each once, except those of which another frame is used."""
    used_files = {header.file for header in headers}
    first_of_file: dict[FileRef, InvalidSlice] = {}
    for invalid_slice in invalid:
        if invalid_slice.file not in used_files:
            first_of_file.setdefault(invalid_slice.file, invalid_slice)
    return [
        LeftOut((file.name,), first.code, _describe(first)) for file, first in first_of_file.items()
    ]


def _folder_name(file: FileRef) -> str:
    """The folder of a file in messages; the file itself if it lies in the searched folder."""
    folder = PurePosixPath(file.name).parent
    return str(folder) if folder.name else file.name


def _reject(slices: Sequence[AnySlice], issue: Issue) -> GroupingResult:
    """A whole series as rejected, with all its files."""
    subject = slices[0].series_uid or _folder_name(slices[0].file)
    paths = tuple(dict.fromkeys(any_slice.file.name for any_slice in slices))
    sop_uids = tuple(dict.fromkeys(s.sop_uid for s in slices if s.sop_uid))
    return GroupingResult(rejected=(Rejected(subject, issue.code, issue.detail, paths, sop_uids),))


def _reject_file(invalid: InvalidSlice) -> Rejected:
    """A file whose series is unknown, as rejected."""
    name, sop_uids = invalid.file.name, (invalid.sop_uid,) if invalid.sop_uid else ()
    return Rejected(name, invalid.code, _describe(invalid), (name,), sop_uids)


def _unnamed_series(any_slice: AnySlice) -> SeriesKey:
    """What the slices of a series without a SeriesInstanceUID share."""
    return _folder(any_slice.file), any_slice.study_uid, any_slice.series_number


def _folder(file: FileRef) -> PurePosixPath:
    return PurePosixPath(file.name).parent


def _describe(invalid: InvalidSlice) -> str:
    return f"{invalid.file.name}: {invalid.problem}"


def _count_lost(valid: Sequence[SliceHeader]) -> str:
    """How many valid slices are rejected too, and what keeps them; empty for none."""
    if not valid:
        return ""
    lost = f"{pluralize(len(valid), 'other slice')} of the series cannot be used because of it"
    return f"; {lost}: predict, explain and convert keep the others with --lenient"


def _count_more(invalid: Sequence[InvalidSlice]) -> str:
    """How many more files are invalid, or more frames where all are in one file."""
    n_files = len({invalid_slice.file for invalid_slice in invalid})
    if n_files > 1:
        return f"; {pluralize(n_files - 1, 'more file')} cannot be used either"
    if len(invalid) > 1:
        return f"; {pluralize(len(invalid) - 1, 'more frame')} cannot be used either"
    return ""
