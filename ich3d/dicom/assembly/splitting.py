"""Split the slices of one DICOM series into volumes, and warn about what is unusual in them.

A SeriesInstanceUID usually holds one volume. It may also hold several, which differ in size,
orientation or reconstruction kernel, or repeat a sweep. It is split only where every part is a
regular stack. Scouts are left out, and one stray slice of another size, spacing or orientation is
rejected by itself. Anything else comes from a mistake in sending or sorting the files, and the
series is rejected.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Final

from ich3d.core.issues import IssueCode
from ich3d.core.pseudonym import pseudonym
from ich3d.core.text import pluralize
from ich3d.core.types import FileRef, Issue, LeftOut, Rejected, Series, SliceHeader
from ich3d.dicom.assembly.ordering import incomplete_issue, order
from ich3d.dicom.assembly.series_kind import contrast_issue, derived_issue
from ich3d.dicom.assembly.stacks import (
    Compare,
    DuplicateSlice,
    Stack,
    geometry_differences,
    group_by_geometry,
    split_into_stacks,
)
from ich3d.dicom.assembly.sweeps import (
    MIN_CLEAN_SLICES,
    SWEEP_ATTRIBUTES,
    sweep_labels,
    warned_of,
)
from ich3d.dicom.geometry import project_on_normal, slice_normal
from ich3d.dicom.headers.elements import tag_text
from ich3d.dicom.headers.read import MAX_SCOUT_NORMAL_Z
from ich3d.dicom.headers.units import is_unspecified
from ich3d.dicom.uids import uid

_MAX_NAMES: Final = 5
"""Most file names in one message."""

_MAX_SCOUTS: Final = 2
"""A frontal and a lateral localizer."""

_SCOUT_ATTRIBUTES: Final = ("Rows", "Columns", "PixelSpacing")
_STRAY_ATTRIBUTES: Final = (*_SCOUT_ATTRIBUTES, "ImageOrientationPatient")


@dataclass(frozen=True)
class GroupingResult:
    """The volumes in a set of files, and the files that are in none.

    Attributes:
        series: one ordered `Series` for each volume.
        left_out: files that are not needed, such as copies.
        rejected: files and series that cannot be used.
    """

    series: tuple[Series, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    rejected: tuple[Rejected, ...] = ()


def split_series(headers: Sequence[SliceHeader], compare: Compare) -> GroupingResult | Issue:
    """Split the slices of one DICOM series into ordered volumes.

    Args:
        headers: all slices of one SeriesInstanceUID, or those without one that share folder, study
            and SeriesNumber.
        compare: how two slices at one position are compared.

    Returns:
        The volumes, the files left out as duplicates and scouts, and a stray slice as rejected. Or
        the issue for which the whole series is rejected: several patients, different slices at
        one position, mixed sweeps, or slices of another geometry that are no regular stack.
    """
    if len({header.patient_id for header in headers}) > 1:
        return _mixed_patients_issue(headers)

    groups = group_by_geometry(headers)
    scouts = _scouts(groups)
    groups = [group for group in groups if group[0] not in scouts]
    without_stray = _split_off_stray(groups, compare)
    if without_stray is not None:
        return _with_scouts(without_stray, scouts)

    stacks: list[Stack] = []
    for headers_of_group in groups:
        group_stacks = split_into_stacks(headers_of_group, compare)
        if isinstance(group_stacks, Issue):
            return group_stacks
        stacks += group_stacks

    # Gaps in a single volume only give a warning. But irregular parts of a series are a sign that
    # its slices do not belong together.
    if len(stacks) > 1 and not all(stack.is_clean for stack in stacks):
        return _mixed_geometry_issue(stacks)
    return _with_scouts(_build_volumes(stacks), scouts)


def derive_series_uid(headers: Sequence[SliceHeader]) -> str:
    """A UID for a series whose files have none.

    It depends on the PatientID, StudyInstanceUID and SOPInstanceUIDs alone, so copies of a folder
    get the same UID.
    """
    patients = sorted({pseudonym(header.patient_id) for header in headers})
    studies = sorted({header.study_uid for header in headers})
    slices = sorted({header.sop_uid for header in headers})
    return uid("series", *patients, *studies, *slices)


def _scouts(groups: Sequence[Sequence[SliceHeader]]) -> list[SliceHeader]:
    """The localizers among the slices, which no attribute says to be such.

    They are one or two slices at right angles to a stack. A single one must also have another size
    or pixel spacing: with those of the stack it may be a slice whose orientation is damaged.
    """
    largest = max(groups, key=len)
    if len(largest) < MIN_CLEAN_SLICES:
        return []
    normal = slice_normal(largest[:1])
    across = [
        header
        for group in groups
        if group is not largest and abs(slice_normal(group[:1]) @ normal) < MAX_SCOUT_NORMAL_Z
        for header in group
    ]
    if len(across) == 1:
        differences = geometry_differences(across[0], largest[0])
        across = across if any(differences[keyword] for keyword in _SCOUT_ATTRIBUTES) else []
    return across if len(across) <= _MAX_SCOUTS else []


def _with_scouts(result: GroupingResult, scouts: Sequence[SliceHeader]) -> GroupingResult:
    """`result`, with the files of `scouts` left out unless another frame of them is used."""
    used_files = {header.file for series in result.series for header in series.headers}
    across = "at right angles to the other slices of the series, as a localizer is"
    left_out = [
        LeftOut((scout.file.name,), IssueCode.LOCALIZER, f"{scout.file.name}: {across}")
        for scout in scouts
        if scout.file not in used_files
    ]
    return replace(result, left_out=(*result.left_out, *left_out))


def _split_off_stray(
    groups: Sequence[Sequence[SliceHeader]], compare: Compare
) -> GroupingResult | None:
    """The volumes without a stray, which is rejected by itself; None where there is no such thing.

    A stray is the only slice of another size, spacing or orientation. The others must be regular
    without it: in a gap it may have been the slice that is missing.
    """
    if len(groups) != 2 or min(map(len, groups)) != 1:
        return None
    stray_group, others = sorted(groups, key=len)
    (stray,) = stray_group
    keyword = _first_difference(others[0], stray)
    stacks = split_into_stacks(others, compare)
    if keyword not in _STRAY_ATTRIBUTES or isinstance(stacks, Issue):
        return None
    if not all(stack.is_clean for stack in stacks):
        return None

    regular = f"the {pluralize(len(others), 'other slice')} of the series, which are regular alone"
    detail = f"{stray.name}: {tag_text(keyword)} differs from that of {regular}"
    result = _build_volumes(stacks)
    incomplete = incomplete_issue([detail])
    is_used = any(stray.file == header.file for header in others)
    paths = () if is_used else (stray.file.name,)
    return replace(
        result,
        series=tuple(replace(s, issues=(*s.issues, incomplete)) for s in result.series),
        rejected=(Rejected(stray.name, IssueCode.MIXED_GEOMETRY, detail, paths, (stray.sop_uid,)),),
    )


def _build_volumes(stacks: Sequence[Stack]) -> GroupingResult:
    """One ordered series for each stack.

    Several volumes are numbered from 1, the one with the lowest slice first.
    """
    stacks = sorted(stacks, key=_lowest_position)
    used = [header for stack in stacks for header in stack.slices]
    used_files = {header.file for header in used}
    has_uid = bool(used[0].series_uid)
    series_uid = used[0].series_uid if has_uid else _derive_from_all_slices(stacks)
    series_issues = (*_no_uid_issues(used), *_several_issues(stacks), *_repeated_uid_issues(used))

    all_series = []
    for number, stack in enumerate(stacks, start=1):
        slices = stack.slices
        if not has_uid:
            slices = tuple(replace(header, series_uid=series_uid) for header in slices)
        volume_id = f"{series_uid}-{number}" if len(stacks) > 1 else series_uid
        issues = (*series_issues, *_stack_issues(stack, used_files), *_kind_issues(slices))
        all_series.append(order(slices, volume_id, issues))

    left_out = _left_out_duplicates(stacks, used_files)
    return GroupingResult(tuple(all_series), tuple(left_out))


def _derive_from_all_slices(stacks: Sequence[Stack]) -> str:
    """The UID of a series without one: it depends on its slices and on their duplicates."""
    used = [header for stack in stacks for header in stack.slices]
    duplicates = [duplicate.header for stack in stacks for duplicate in stack.duplicates]
    return derive_series_uid([*used, *duplicates])


def _lowest_position(stack: Stack) -> tuple[float, str]:
    """Sort key of stacks: height of the lowest slice in mm, then its UID."""
    return float(project_on_normal(stack.slices)[0]), stack.slices[0].sop_uid


def _left_out_duplicates(
    stacks: Sequence[Stack], used_files: AbstractSet[FileRef]
) -> list[LeftOut]:
    """The files whose slices are all duplicates of slices in other files."""
    duplicates = [duplicate for stack in stacks for duplicate in stack.duplicates]
    last_of_file = {duplicate.header.file: duplicate for duplicate in duplicates}
    return [
        LeftOut(
            (file.name,),
            duplicate.code,
            _describe_duplicate(duplicate),
            copy_of=(duplicate.header.sop_uid, duplicate.kept.sop_uid),
        )
        for file, duplicate in last_of_file.items()
        if file not in used_files
    ]


# Warnings about a DICOM series that can be used.


def _no_uid_issues(headers: Sequence[SliceHeader]) -> list[Issue]:
    """A warning where the files have no SeriesInstanceUID; it names the first of them."""
    if headers[0].series_uid:
        return []
    same = f"files of one folder with one {tag_text('SeriesNumber')} are one series"
    detail = f"{headers[0].file.name}: {tag_text('SeriesInstanceUID')} is missing, {same}"
    return [Issue(IssueCode.NO_SERIES_UID, detail)]


def _several_issues(stacks: Sequence[Stack]) -> list[Issue]:
    """A warning where the series holds several volumes; it names an attribute that differs."""
    if len(stacks) == 1:
        return []
    keyword = _first_difference(stacks[0].slices[0], stacks[1].slices[0])
    volumes = f"{len(stacks)} volumes, which differ in {tag_text(keyword)}"
    return [Issue(IssueCode.SEVERAL_VOLUMES, f"{tag_text('SeriesInstanceUID')} holds {volumes}")]


def _repeated_uid_issues(headers: Sequence[SliceHeader]) -> list[Issue]:
    """A warning where two files share a SOPInstanceUID although they hold different slices.

    Both slices are used: positions decide, not UIDs.
    """
    first_with_uid: dict[str, SliceHeader] = {}
    for header in headers:
        first = first_with_uid.setdefault(header.sop_uid, header)
        if first.file != header.file:
            names = f"{first.name} and {header.name}"
            detail = f"{names} share {tag_text('SOPInstanceUID')} at different positions"
            return [Issue(IssueCode.REPEATED_SOP_UID, detail)]
    return []


def _kind_issues(slices: Sequence[SliceHeader]) -> list[Issue]:
    """Warnings that slices show contrast agent or are derived; each names one file."""
    issues = []
    for issue_of in (contrast_issue, derived_issue):
        found = (issue for header in slices if (issue := issue_of(header)) is not None)
        issues += [issue for issue in [next(found, None)] if issue is not None]
    return issues


def _stack_issues(stack: Stack, used_files: AbstractSet[FileRef]) -> list[Issue]:
    """Warnings about attributes that alternate along the stack, and about its duplicates.

    A file that holds nothing but duplicates is listed as left out and needs no warning, unless
    pixels were not compared.
    """
    issues = _unit_issues(stack.slices)
    for keyword in warned_of(stack.slices):
        detail = f"{tag_text(keyword)} of some slices is not that of the others"
        issues.append(Issue(IssueCode.INTERLEAVED, detail))

    for duplicate in stack.duplicates:
        if duplicate.code is IssueCode.SAME_POSITION or duplicate.header.file in used_files:
            issues.append(Issue(duplicate.code, _describe_duplicate(duplicate)))
    return issues


def _unit_issues(headers: Sequence[SliceHeader]) -> list[Issue]:
    """Warnings about slices whose unit is not specified, and about frames that are not in HU."""
    issues = []
    unspecified = [header for header in headers if is_unspecified(header.rescale_type)]
    if unspecified:
        first = unspecified[0]
        unit = f"{tag_text('RescaleType')} is {first.rescale_type}, which leaves the unit open"
        detail = f"{first.name}: {unit}; read as HU"
        issues.append(Issue(IssueCode.UNSPECIFIED_UNIT, detail))
    for left_out in dict.fromkeys(header.left_out_frames for header in headers):
        if left_out:
            issues.append(Issue(IssueCode.NOT_HU, left_out))
    return issues


def _describe_duplicate(duplicate: DuplicateSlice) -> str:
    """One sentence that names the duplicate and the slice that is used instead."""
    name, kept = duplicate.header.name, duplicate.kept.name
    if duplicate.code is IssueCode.DUPLICATE:
        return f"{name}: a copy of {kept}"
    return f"{name}: at the position of {kept}, pixels not compared"


# Issues for which the whole DICOM series is rejected.


def _mixed_patients_issue(headers: Sequence[SliceHeader]) -> Issue:
    """The slices have two PatientIDs, or some have none; the message does not show the values."""
    first = headers[0]
    other = next(header for header in headers if header.patient_id != first.patient_id)
    without_id = [header for header in (first, other) if not header.patient_id]
    if without_id:
        missing = f"{tag_text('PatientID')} is missing, other files of the series have one"
        detail = f"{without_id[0].file.name}: {missing}"
    else:
        shared = f"share {tag_text('SeriesInstanceUID')} but differ in {tag_text('PatientID')}"
        detail = f"{first.file.name} and {other.file.name} {shared}"
    return Issue(IssueCode.MIXED_PATIENTS, detail)


def _mixed_geometry_issue(stacks: Sequence[Stack]) -> Issue:
    """Some slices do not fit the largest stack; the message names them and what differs."""
    largest, *others = sorted(stacks, key=lambda stack: -len(stack.slices))
    unfitting = [header for stack in others for header in stack.slices]
    names = sorted(header.name for header in unfitting)
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    listed = ", ".join(names[:_MAX_NAMES]) + more

    keyword = _first_difference(largest.slices[0], unfitting[0])
    other_slices = f"{pluralize(len(largest.slices), 'other slice')} of the series"
    detail = (
        f"{listed}: {tag_text(keyword)} differs from that of {other_slices}, "
        f"which leaves no regular stacks of at least {MIN_CLEAN_SLICES} slices each"
    )
    return Issue(IssueCode.MIXED_GEOMETRY, detail)


def _first_difference(a: SliceHeader, b: SliceHeader) -> str:
    """Keyword of the first attribute in which `a` and `b`, slices of two stacks, differ."""
    differences = geometry_differences(a, b)
    for keyword in SWEEP_ATTRIBUTES:
        label_a, label_b = sweep_labels(keyword, (a, b))
        differences[keyword] = label_a != label_b
    found = (keyword for keyword, differs in differences.items() if differs)
    return next(found, "ImageOrientationPatient")  # by less than two noisy slices may differ
