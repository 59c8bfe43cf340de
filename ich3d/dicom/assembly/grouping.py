"""The slices of each SeriesInstanceUID to volumes: what may stand together, and what takes it all along."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final

from ich3d.core.issues import IssueCode
from ich3d.core.text import pluralize
from ich3d.core.types import DroppedSlice, FileRef, LeftOut, Reason, Rejected, Series, SliceHeader
from ich3d.dicom.assembly.ordering import incomplete, order
from ich3d.dicom.assembly.orphans import cross_reference_orphans
from ich3d.dicom.assembly.stacks import (
    CLEAN_STACK,
    MARKS,
    Compare,
    DuplicateSlice,
    Stack,
    differences,
    interleaved,
    not_judged,
    same_slice,
    stacks,
)
from ich3d.dicom.geometry import project
from ich3d.dicom.headers.elements import tag_text
from ich3d.dicom.headers.read import InvalidSlice, Slices
from ich3d.dicom.uids import uid

_NAMED: Final = 5


@dataclass(frozen=True)
class Policy:
    """How strictly files are judged. `lenient`: a flawed slice is left out and its series goes on without
    it. `headers_only`: pixels are not read, so slices at one position are not told from copies."""

    lenient: bool = False
    headers_only: bool = False

    @property
    def compare(self) -> Compare:
        return not_judged if self.headers_only else same_slice


@dataclass(frozen=True)
class GroupingResult:
    """What became of a set of files."""

    series: tuple[Series, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    rejected: tuple[Rejected, ...] = ()


def group_files(found: Sequence[Slices | InvalidSlice], policy: Policy) -> GroupingResult:
    """Every file of `found` in a series, left out as a copy, or rejected.

    One SeriesInstanceUID is one series; files that name none are one series a folder, and folders of the
    same slices are copies of one. One series is one patient's: another PatientID, or a file without one
    among files that have it, rejects the series, for nobody can tell whose it is.
    """
    series: dict[str | PurePosixPath, list[SliceHeader | InvalidSlice]] = defaultdict(list)
    alone = []
    for item in sorted(found, key=lambda item: _file(item).name):
        slices = (item,) if isinstance(item, InvalidSlice) else item
        series_uid = slices[0].series_uid
        if isinstance(item, InvalidSlice) and series_uid is None:
            alone.append(_rejected_alone(item))
        else:
            series[series_uid or _folder(_file(item))].extend(slices)
    results = [_one_series(slices, policy) for slices in _without_copies(series)]
    return GroupingResult(
        cross_reference_orphans([series for result in results for series in result.series]),
        tuple(left_out for result in results for left_out in result.left_out),
        (*alone, *(rejected for result in results for rejected in result.rejected)),
    )


def _without_copies(
    series: Mapping[str | PurePosixPath, list[SliceHeader | InvalidSlice]],
) -> list[list[SliceHeader | InvalidSlice]]:
    """The files of each series; folders whose files name no series and hold the same slices together."""
    together: dict[str | PurePosixPath, list[SliceHeader | InvalidSlice]] = defaultdict(list)
    for name, items in series.items():
        headers = [item for item in items if isinstance(item, SliceHeader)]
        together[
            _made_up_uid(headers) if isinstance(name, PurePosixPath) and headers else name
        ].extend(items)
    return list(together.values())


def _file(item: Slices | InvalidSlice) -> FileRef:
    return item.file if isinstance(item, InvalidSlice) else item[0].file


def _folder(file: FileRef) -> PurePosixPath:
    return PurePosixPath(file.name).parent


def _rejected_alone(item: InvalidSlice) -> Rejected:
    return Rejected(item.file.name, item.code, _told(item), (item.file.name,))


def _told(item: InvalidSlice) -> str:
    return f"{item.file.name}: {item.problem}"


def _one_series(items: list[SliceHeader | InvalidSlice], policy: Policy) -> GroupingResult:
    flawed = [item for item in items if isinstance(item, InvalidSlice)]
    headers = [item for item in items if isinstance(item, SliceHeader)]
    if flawed and not (policy.lenient and headers):
        return _reject(items, flawed[0].code, _told(flawed[0]) + _more(flawed))
    result = _sound_series(headers, policy.compare)
    if not flawed:
        return result
    reason = incomplete([_told(item) for item in flawed])
    series = [replace(one, reasons=(*one.reasons, reason)) for one in result.series]
    lost = [
        DroppedSlice(item.file, item.frame, item.sop_uid, item.position_mm, item.code)
        for item in flawed
    ]
    if series:  # nobody can tell of which of several volumes they were
        series[0] = replace(series[0], lost=tuple(lost))
    sound = {header.file for header in headers}
    gone = {item.file: item for item in reversed(flawed) if item.file not in sound}
    left_out = [LeftOut((item.file.name,), item.code, _told(item)) for item in gone.values()]
    return GroupingResult(tuple(series), (*result.left_out, *left_out), result.rejected)


def _more(flawed: Sequence[InvalidSlice]) -> str:
    """How many files, or frames of the only file, are flawed beside the first."""
    n_files = len({item.file for item in flawed})
    if n_files > 1:
        return f"; {pluralize(n_files - 1, 'more file')} with flaws"
    return f"; {pluralize(len(flawed) - 1, 'more frame')} with flaws" if len(flawed) > 1 else ""


def _sound_series(headers: list[SliceHeader], compare: Compare) -> GroupingResult:
    if len({header.patient_id for header in headers}) > 1:
        return _reject(headers, IssueCode.MIXED_PATIENTS, _two_patients(headers))
    found: list[Stack] = []
    for group in _groups(headers):
        match stacks(group, compare):
            case Reason(code, detail):
                return _reject(headers, code, detail)
            case list(inner):
                found += inner
    if len(found) > 1 and not all(stack.is_clean for stack in found):
        return _reject(headers, IssueCode.MIXED_GEOMETRY, _odd_slices(found))
    return _volumes(found)


def _volumes(found: list[Stack]) -> GroupingResult:
    """The ordered series of each stack, numbered by lowest position where there are several."""
    found = sorted(
        found, key=lambda stack: (float(project(stack.slices)[0]), stack.slices[0].sop_uid)
    )
    headers = [header for stack in found for header in stack.slices]
    reasons = [*_unnamed(headers), *_several(found), *_repeated(headers)]
    series_uid = headers[0].series_uid or _made_up_uid(
        [*headers, *(twin.header for stack in found for twin in stack.twins)]
    )
    series = []
    for number, stack in enumerate(found, start=1):
        slices = stack.slices
        if not headers[0].series_uid:
            slices = tuple(replace(header, series_uid=series_uid) for header in slices)
        volume_id = f"{series_uid}-{number}" if len(found) > 1 else series_uid
        own = (*reasons, *_remarks(stack, {header.file for header in headers}))
        series.append(order(slices, volume_id, own))
    return GroupingResult(tuple(series), tuple(_left_out(found)))


def _made_up_uid(headers: Sequence[SliceHeader]) -> str:
    """A name for a series whose files give none, wherever they lie."""
    patients = sorted({header.patient_id for header in headers})
    studies = sorted({header.study_uid for header in headers})
    return uid("series", *patients, *studies, *sorted({header.sop_uid for header in headers}))


def _unnamed(headers: list[SliceHeader]) -> list[Reason]:
    if headers[0].series_uid:
        return []
    folder = _folder(headers[0].file)
    detail = f"{folder}: {tag_text('SeriesInstanceUID')} is missing, the folder is one series"
    return [Reason(IssueCode.NO_SERIES_UID, detail)]


def _several(found: list[Stack]) -> list[Reason]:
    if len(found) == 1:
        return []
    keyword = _difference(found[0].slices[0], found[1].slices[0])
    what = f"{len(found)} volumes, which differ in {tag_text(keyword)}"
    return [Reason(IssueCode.SEVERAL_VOLUMES, f"{tag_text('SeriesInstanceUID')} holds {what}")]


def _repeated(headers: list[SliceHeader]) -> list[Reason]:
    """A warning where two files have one SOPInstanceUID: at different positions, both are used."""
    first: dict[str, SliceHeader] = {}
    for header in headers:
        other = first.setdefault(header.sop_uid, header)
        if other.file != header.file:
            names = f"{other.name} and {header.name}"
            detail = f"{names} have one {tag_text('SOPInstanceUID')} at different positions"
            return [Reason(IssueCode.REPEATED_SOP_UID, detail)]
    return []


def _remarks(stack: Stack, used: set[FileRef]) -> list[Reason]:
    """What is odd about how a stack came to be: marks that run to and fro along it, twins that were not
    judged, and frames that were taken out of a file whose other frames are used."""
    found = []
    for keyword in interleaved(stack.slices):
        if keyword != "AcquisitionNumber":
            detail = f"{tag_text(keyword)} changes to and fro along the slices"
            found.append(Reason(IssueCode.INTERLEAVED, detail))
    for twin in stack.twins:
        if twin.code is IssueCode.SAME_POSITION or twin.header.file in used:
            found.append(Reason(twin.code, _about(twin)))
    return found


def _left_out(found: list[Stack]) -> list[LeftOut]:
    """The files of which no slice is used, because other slices stand for them."""
    used = {header.file for stack in found for header in stack.slices}
    twins = {twin.header.file: twin for stack in found for twin in stack.twins}
    return [
        LeftOut((file.name,), twin.code, _about(twin))
        for file, twin in twins.items()
        if file not in used
    ]


def _about(twin: DuplicateSlice) -> str:
    name, kept = twin.header.name, twin.kept.name
    if twin.code is IssueCode.DUPLICATE:
        return f"{name}: a copy of {kept}"
    return f"{name}: at the position of {kept}, pixels not compared"


def _groups(headers: list[SliceHeader]) -> list[list[SliceHeader]]:
    """Headers of equal geometry together. The sorting keeps groups free of file order."""
    groups: list[list[SliceHeader]] = []
    for header in sorted(headers, key=lambda h: (h.sop_uid, h.position_mm)):
        for group in groups:
            if not any(differences(group[0], header).values()):
                group.append(header)
                break
        else:
            groups.append([header])
    return groups


def _difference(a: SliceHeader, b: SliceHeader) -> str:
    """The first attribute in which two slices of different stacks differ."""
    marks = {keyword: mark(a) != mark(b) for keyword, mark in MARKS.items()}
    return next(keyword for keyword, differs in (differences(a, b) | marks).items() if differs)


def _two_patients(headers: list[SliceHeader]) -> str:
    other = next(header for header in headers if header.patient_id != headers[0].patient_id)
    nameless = [header for header in (headers[0], other) if not header.patient_id]
    if nameless:
        return f"{nameless[0].file.name}: {tag_text('PatientID')} is missing, other files of the series have one"
    names = f"{headers[0].file.name} and {other.file.name}"
    return f"{names} share {tag_text('SeriesInstanceUID')} but differ in {tag_text('PatientID')}"


def _odd_slices(found: list[Stack]) -> str:
    """Names the slices outside the largest stack, and what sets them apart."""
    largest, *others = sorted(found, key=lambda stack: -len(stack.slices))
    odd = [header for stack in others for header in stack.slices]
    names = sorted(header.name for header in odd)
    named = ", ".join(names[:_NAMED]) + (
        f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    )
    keyword = _difference(largest.slices[0], odd[0])
    others_of = f"{pluralize(len(largest.slices), 'other slice')} of the series"
    return (
        f"{named}: {tag_text(keyword)} differs from that of {others_of}, "
        f"which leaves no regular stacks of at least {CLEAN_STACK} slices each"
    )


def _reject(
    items: Sequence[SliceHeader | InvalidSlice], code: IssueCode, detail: str
) -> GroupingResult:
    subject = items[0].series_uid or str(_folder(items[0].file))
    paths = dict.fromkeys(item.file.name for item in items)
    return GroupingResult(rejected=(Rejected(subject, code, detail, tuple(paths)),))
