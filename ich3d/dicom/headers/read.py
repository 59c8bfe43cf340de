"""Read one file: the headers of its slices, or the reason why it has none.

Bad files are values, not exceptions. Pixels are not decoded; only their length is checked.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import BinaryIO, Final

from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)

from ich3d.core.issues import IssueCode
from ich3d.core.text import pluralize
from ich3d.core.types import FileRef, SliceHeader, Vector3
from ich3d.dicom.files import is_regular_file, open_file
from ich3d.dicom.headers.deflated import inflated
from ich3d.dicom.headers.elements import Elements, InvalidHeader, tag_text
from ich3d.dicom.headers.fast_parser import fast_parse
from ich3d.dicom.headers.file_format import (
    damaged_dicom_problem,
    is_dicom,
    is_zip,
    other_format,
)
from ich3d.dicom.headers.pixel_length import require_whole_pixel_data
from ich3d.dicom.headers.pydicom_parser import parse_with_pydicom
from ich3d.dicom.headers.slice_header import PixelFormat, read_pixel_format, slice_header
from ich3d.dicom.headers.units import not_hu_problem
from ich3d.dicom.limits import HeaderTooLarge

CT_CLASSES: Final = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
"""The SOP classes of CT images (PS3.4 B.5)."""

_FIRST_READ_BYTES: Final = 8192
"""Holds the header of an ordinary file, and is what a buffered file reads at once anyway."""


MAX_SCOUT_NORMAL_Z: Final = 0.5
"""A localizer is coronal or sagittal: its normal is 60 degrees or more from the patient's axis."""

_SCOUT: Final = re.compile("LOCALIZER|SURVIEW|SCOUT|TOPOGRAM|SCANOGRAM", re.IGNORECASE)


@dataclass(frozen=True)
class NonCTFile:
    """A file that is no part of a CT volume; `problem` says what it is instead.

    `series_uid` is SeriesInstanceUID, empty where it is unknown or missing.
    """

    file: FileRef
    code: IssueCode
    problem: str
    series_uid: str = ""


@dataclass(frozen=True)
class InvalidSlice:
    """A slice that cannot be used: a file, or a frame of a multi-frame file.

    A file that cannot be read at all, such as an empty file or a damaged zip, counts as one as
    well, because it may have held a slice.

    Attributes:
        file: the file.
        code: the kind of issue.
        problem: the issue in words, without the name of the file.
        series_uid: SeriesInstanceUID; empty where the header is complete and holds none, None
            where the header is damaged so that its series is unknown.
        sop_uid: SOPInstanceUID, empty where unknown.
        position_mm: ImagePositionPatient, None where unknown.
        frame: number of the frame from 1, None where the issue concerns the whole file.
        study_uid, series_number: StudyInstanceUID and SeriesNumber, empty where unknown.
    """

    file: FileRef
    code: IssueCode
    problem: str
    series_uid: str | None
    sop_uid: str = ""
    position_mm: Vector3 | None = None
    frame: int | None = None
    study_uid: str = ""
    series_number: str = ""


@dataclass(frozen=True)
class ZipArchive:
    """A zip on disk, whose members are to be read in its place."""

    file: FileRef


Slices = tuple[SliceHeader | InvalidSlice, ...]
"""The slices of one file: one, or one for each frame of which some may be invalid."""

FileContent = Slices | NonCTFile | InvalidSlice | ZipArchive
"""Everything that a file can be."""


def read_file(file: FileRef) -> FileContent:
    """Read the headers of all slices in one file, or say why it has none. Raises nothing."""
    try:
        if not is_regular_file(file.path):
            return NonCTFile(file, IssueCode.NOT_DICOM, "not a regular file")
        with open_file(file) as (stream, size):
            return _read_stream(stream, size, file)
    except OSError as error:
        return InvalidSlice(file, IssueCode.UNREADABLE, error.strerror or "cannot be read", None)


def _read_stream(stream: BinaryIO, size: int, file: FileRef) -> FileContent:
    """Recognize the format of a file of `size` bytes and read the slices of a DICOM file."""
    if size == 0:
        return InvalidSlice(file, IssueCode.EMPTY_FILE, "the file is empty", None)

    start = stream.read(_FIRST_READ_BYTES)
    if is_zip(start):
        if file.member:
            problem = "a zip within a zip, not opened: unpack the outer zip and give the folder"
            return InvalidSlice(file, IssueCode.UNREADABLE, problem, None)
        return ZipArchive(file)

    if not is_dicom(start, size):
        problem = damaged_dicom_problem(start, size)
        if problem:
            return InvalidSlice(file, IssueCode.UNREADABLE, problem, None)
        other = other_format(start)
        if other.may_hold_dicom:
            return InvalidSlice(file, IssueCode.UNREADABLE, other.problem, None)
        return NonCTFile(file, IssueCode.NOT_DICOM, other.problem)

    ordinary = fast_parse(start)
    if ordinary is not None:
        return _read_slices(ordinary, stream, size, file)
    return _read_unusual(stream, size, file)


def _read_unusual(stream: BinaryIO, size: int, file: FileRef) -> FileContent:
    """Read the slices of a DICOM file that only pydicom can parse."""
    try:
        with inflated(stream, size) as (plain, plain_bytes, was_deflated):
            elements = parse_with_pydicom(plain)
            if was_deflated:
                elements = replace(elements, transfer_syntax=DeflatedExplicitVRLittleEndian)
            return _read_slices(elements, plain, plain_bytes, file)
    except HeaderTooLarge:
        code, problem = IssueCode.TOO_LARGE, "its header has more elements than that of any CT"
    except InvalidHeader as error:
        code, problem = error.code, str(error)
    except OSError:
        raise
    # pydicom may raise anything on damaged bytes. Whatever it is, the file cannot be read.
    except Exception:
        code, problem = IssueCode.UNREADABLE, "its header is damaged"
    return InvalidSlice(file, code, problem, None)


def _read_slices(elements: Elements, stream: BinaryIO, size: int, file: FileRef) -> FileContent:
    """Turn the elements of a DICOM file into slices, or say why it has none."""
    try:
        non_ct = _non_ct_reason(elements)
        if non_ct is not None:
            return NonCTFile(file, *non_ct, elements.text("SeriesInstanceUID"))

        _require_basics(elements)
        n_frames = _count_frames(elements)
        pixel_format = read_pixel_format(elements)
        not_hu = _frames_not_in_hu(elements, n_frames)
        if len(not_hu) == n_frames:
            series_uid = elements.text("SeriesInstanceUID")
            return NonCTFile(file, IssueCode.NOT_HU, not_hu[1], series_uid)

        slices = _slice_headers(elements, file, n_frames, pixel_format, not_hu)
        require_whole_pixel_data(elements, stream, size, n_frames * pixel_format.frame_bytes)
        return slices
    except InvalidHeader as error:
        series_uid = elements.text("SeriesInstanceUID")
        # Without PixelData the header is cut off, so a missing UID may have been in the lost part.
        known_uid = series_uid if series_uid or elements.has_pixel_data else None
        return _invalid_slice(elements, file, error.code, str(error), known_uid)


def _non_ct_reason(elements: Elements) -> tuple[IssueCode, str] | None:
    """Why a valid DICOM file is no part of a CT volume, as code and text; None if it may be one."""
    modality = elements.text("Modality")
    if modality and modality != "CT":
        return IssueCode.NOT_CT, f"{tag_text('Modality')} is {modality}"

    other_class = bool(elements.sop_class) and elements.sop_class not in CT_CLASSES
    not_ct_image = f"{tag_text('SOPClassUID')} is not that of a CT image"
    if other_class and not modality:
        return IssueCode.NO_IMAGE, not_ct_image

    scout = _scout_keyword(elements)
    if scout:
        return IssueCode.LOCALIZER, f"{tag_text(scout)} is that of a localizer"

    # Some writers store CT slices as Secondary Capture: with a position they are kept.
    geometry = elements.text("ImagePositionPatient") or elements.text("ImageOrientationPatient")
    if other_class and not (elements.has_pixel_data and geometry):
        return IssueCode.NO_IMAGE, f"{not_ct_image}, and the file has no position in the patient"

    photometric = elements.text("PhotometricInterpretation")
    if photometric and photometric not in ("MONOCHROME1", "MONOCHROME2"):
        return IssueCode.NO_IMAGE, f"{tag_text('PhotometricInterpretation')} is {photometric}"

    not_hu = not_hu_problem(elements)
    return (IssueCode.NOT_HU, not_hu) if not_hu else None


def _scout_keyword(elements: Elements) -> str:
    """The attribute that says that the file is a localizer; empty where none does.

    ImageType says LOCALIZER (PS3.3 C.8.2.1.1.1) or a vendor's own word, as in REF_SURVIEW. A
    description counts only where the image is not axial: it may say "without scout".
    """
    if _scout_starts(elements.text("ImageType")) >= 0:
        return "ImageType"
    if _scout_starts(elements.text("SeriesDescription")) != 0:
        return ""
    try:
        a, b, _, d, e, _ = elements.numbers("ImageOrientationPatient", 6, IssueCode.NO_ORIENTATION)
    except InvalidHeader:
        return "SeriesDescription"
    return "SeriesDescription" if abs(a * e - b * d) < MAX_SCOUT_NORMAL_Z else ""


@lru_cache(maxsize=1024)
def _scout_starts(text: str) -> int:
    """Where a word for a localizer starts in `text`; -1 where there is none."""
    found = _SCOUT.search(text)
    return found.start() if found else -1


def _require_basics(elements: Elements) -> None:
    """Raise InvalidHeader where a file has no UID, no pixels, or nothing that makes it a CT."""
    if not elements.text("SOPInstanceUID"):
        raise InvalidHeader(IssueCode.NO_UID, f"{tag_text('SOPInstanceUID')} is missing")
    if not elements.has_pixel_data:
        raise InvalidHeader(IssueCode.TRUNCATED_PIXELS, f"{tag_text('PixelData')} is missing")
    if not elements.text("Modality") and not elements.sop_class:
        raise InvalidHeader(IssueCode.UNREADABLE, f"{tag_text('Modality')} is missing")


def _frames_not_in_hu(elements: Elements, n_frames: int) -> dict[int, str]:
    """What shows of each such frame, by number from 1, that its values are not HU."""
    if not elements.frames:
        return {}
    problems = {
        number: not_hu_problem(_frame_elements(elements, number))
        for number in range(1, n_frames + 1)
    }
    return {number: problem for number, problem in problems.items() if problem}


def _slice_headers(
    elements: Elements,
    file: FileRef,
    n_frames: int,
    pixel_format: PixelFormat,
    not_hu: Mapping[int, str],
) -> Slices:
    """Return one header for each frame in HU. Frames are numbered from 1 where there are several.

    `not_hu` says why the other frames are not in HU; the headers name these frames.
    """
    if not elements.frames:
        return (slice_header(elements, file, pixel_format),)
    if n_frames == 1:
        return (slice_header(_frame_elements(elements, 1), file, pixel_format),)

    slices = [
        _frame_header(elements, number, file, pixel_format)
        for number in range(1, n_frames + 1)
        if number not in not_hu
    ]
    if not not_hu:
        return tuple(slices)
    first = min(not_hu)
    left_out = f"{file.name}: {pluralize(len(not_hu), 'frame')} left out, frame {first}: "
    return tuple(
        replace(header, left_out_frames=left_out + not_hu[first])
        if isinstance(header, SliceHeader)
        else header
        for header in slices
    )


def _count_frames(elements: Elements) -> int:
    """Return NumberOfFrames, which is 1 where it is missing.

    Raises InvalidHeader where it is no positive number, or not the number of functional groups:
    without those the frames of a file have no positions of their own.
    """
    n_groups = len(elements.frames)
    text = elements.text("NumberOfFrames") or "1"

    if not text.isdecimal() or int(text) == 0:
        raise InvalidHeader(
            IssueCode.UNREADABLE, f"{tag_text('NumberOfFrames')} is not a positive number"
        )
    if int(text) != (n_groups or 1):
        raise InvalidHeader(
            IssueCode.UNREADABLE,
            f"{tag_text('NumberOfFrames')} is {int(text)}, but "
            f"{tag_text('PerFrameFunctionalGroupsSequence')} has {pluralize(n_groups, 'item')}",
        )
    return int(text)


def _frame_elements(elements: Elements, number: int) -> Elements:
    """The elements of frame `number`, from 1: its functional groups over those of the file."""
    return replace(elements, values={**elements.values, **elements.frames[number - 1]})


def _frame_header(
    elements: Elements, number: int, file: FileRef, pixel_format: PixelFormat
) -> SliceHeader | InvalidSlice:
    """The header of frame `number`, or what is wrong with this frame alone."""
    of_frame = _frame_elements(elements, number)
    try:
        return replace(slice_header(of_frame, file, pixel_format), frame=number)
    except InvalidHeader as error:
        problem = f"frame {number}: {error}"
        series_uid = elements.text("SeriesInstanceUID")
        return replace(
            _invalid_slice(of_frame, file, error.code, problem, series_uid), frame=number
        )


def _invalid_slice(
    elements: Elements, file: FileRef, code: IssueCode, problem: str, series_uid: str | None
) -> InvalidSlice:
    """Keep UID and position of an invalid slice where they can be read: later they show the gap."""
    invalid = InvalidSlice(
        file,
        code,
        problem,
        series_uid,
        sop_uid=elements.text("SOPInstanceUID"),
        study_uid=elements.text("StudyInstanceUID"),
        series_number=elements.text("SeriesNumber"),
    )
    try:
        x, y, z = elements.numbers("ImagePositionPatient", 3, code)
    except InvalidHeader:
        return invalid
    return replace(invalid, position_mm=(x, y, z))
