"""One DICOM file to the headers of its slices, or to the reason why it has none. Pixels are measured,
not read."""

import struct
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

import pydicom
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    LegacyConvertedEnhancedCTImageStorage,
)

from ich3d.core.issues import IssueCode
from ich3d.core.text import pluralize
from ich3d.core.types import FileRef, SliceHeader, Vector3
from ich3d.dicom.files import ZIP_STARTS, is_regular, opened
from ich3d.dicom.headers.elements import Elements, InvalidHeader, tag_text
from ich3d.dicom.headers.fast_parser import fast_parse
from ich3d.dicom.headers.pydicom_parser import parse_with_pydicom
from ich3d.dicom.headers.slice_header import grey_image, slice_header
from ich3d.dicom.pydicom_warnings import suppress_pydicom_warnings

_EMPTY_PREAMBLE: Final = bytes(128)
_PREFIX: Final = b"DICM"
"""How a DICOM file begins: 128 bytes for any use, and four that name the format (PS3.10 7.1)."""

_BEGINNING: Final = 8192
"""The bytes of a file that hold an ordinary header; a buffered file reads as many at once."""

CT_CLASSES: Final = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_ITEM: Final = (0xFFFE, 0xE000)
_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_NATIVE: Final = ("", ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
"""Transfer syntaxes whose pixels have a length; a file that names none is read as one of them."""


@dataclass(frozen=True)
class NonCTFile:
    """A file that is no part of a CT volume, with what it is instead."""

    file: FileRef
    code: IssueCode
    problem: str


@dataclass(frozen=True)
class InvalidSlice:
    """A file, or a frame of one, that should be a slice and is not. `series_uid` ties it to a series: empty
    where the file is whole but names none, None where the file ends before it could. `sop_uid` and
    `position_mm` are what can be told of the slice all the same, `frame` is as in `SliceHeader`."""

    file: FileRef
    code: IssueCode
    problem: str
    series_uid: str | None
    sop_uid: str = ""
    position_mm: Vector3 | None = None
    frame: int | None = None


@dataclass(frozen=True)
class Zip:
    """A zip on disk: its members are the files."""

    file: FileRef


Slices = tuple[SliceHeader | InvalidSlice, ...]
"""The slices of one file: one, or one a frame, of which some may be flawed."""


def read_file(file: FileRef) -> Slices | NonCTFile | InvalidSlice | Zip:
    """The slices of one file, or why it has none."""
    try:
        if not is_regular(file.path):
            return NonCTFile(file, IssueCode.NOT_DICOM, "not a regular file")
        with opened(file) as (stream, size):
            return _read(stream, size, file)
    except OSError as error:
        return InvalidSlice(file, IssueCode.UNREADABLE, error.strerror or "cannot be read", None)


def _read(stream: BinaryIO, size: int, file: FileRef) -> Slices | NonCTFile | InvalidSlice | Zip:
    if size == 0:
        return InvalidSlice(file, IssueCode.EMPTY_FILE, "the file is empty", None)
    beginning = stream.read(_BEGINNING)
    if beginning[128:132] != _PREFIX and beginning[:4] in ZIP_STARTS:
        return (
            NonCTFile(file, IssueCode.NOT_DICOM, "a zip within a zip") if file.member else Zip(file)
        )
    if not _starts_as_dicom(beginning, size):
        problem = _spoilt_start(beginning, size)
        if problem:
            return InvalidSlice(file, IssueCode.UNREADABLE, problem, None)
        return NonCTFile(file, IssueCode.NOT_DICOM, "not a DICOM file")
    try:
        elements = fast_parse(beginning) or _parsed(stream)
    except (
        Exception
    ) as error:  # pydicom on foreign bytes: whatever it raises, the file does not parse
        return InvalidSlice(
            file, IssueCode.UNREADABLE, f"does not parse as DICOM ({type(error).__name__})", None
        )
    try:
        if (other := _no_slice(elements)) is not None:
            return NonCTFile(file, *other)
        return _slice_headers(elements, stream, size, file)
    except InvalidHeader as refusal:
        uid = elements.text("SeriesInstanceUID")
        tied = uid if uid or elements.has_pixels else None
        return _flawed(elements, file, refusal.code, str(refusal), tied)


def _flawed(
    elements: Elements, file: FileRef, code: IssueCode, problem: str, series_uid: str | None
) -> InvalidSlice:
    """What is wrong with a slice, and what its elements tell of it all the same."""
    try:
        x, y, z = elements.numbers("ImagePositionPatient", 3, code)
    except InvalidHeader:
        return InvalidSlice(file, code, problem, series_uid, elements.text("SOPInstanceUID"))
    return InvalidSlice(file, code, problem, series_uid, elements.text("SOPInstanceUID"), (x, y, z))


def _parsed(stream: BinaryIO) -> Elements:
    stream.seek(0)
    return parse_with_pydicom(stream)


def _starts_as_dicom(start: bytes, size: int) -> bool:
    """Whether a file of `size` bytes has the DICM prefix or, without one, begins like a data set: an element
    of group 0002 or 0008 that fits into the file."""
    return start[128:132] == _PREFIX or any(_is_first_element(start, size, order) for order in "<>")


def _spoilt_start(start: bytes, size: int) -> str:
    """What is wrong with a file that begins with the preamble that most writers leave empty, and yet lacks
    the prefix; nothing where the file is something else."""
    if size < len(_EMPTY_PREAMBLE + _PREFIX) and (_EMPTY_PREAMBLE + _PREFIX).startswith(start):
        return "the file ends within its preamble"
    if start.startswith(_EMPTY_PREAMBLE) and _is_first_element(start[132:], size, "<"):
        return "the DICM prefix after its preamble is damaged"
    return ""


def _is_first_element(start: bytes, size: int, order: str) -> bool:
    if len(start) < 8:
        return False
    group, element, length = struct.unpack_from(f"{order}HHI", start)
    if group not in (0x0002, 0x0008) or element > 0x0100:
        return False
    vr = start[4:6]
    return length < size or (vr.isalpha() and vr.isupper())


def _no_slice(elements: Elements) -> tuple[IssueCode, str] | None:
    """Why a sound DICOM file is no part of a CT volume, if it is none."""
    modality = elements.text("Modality")
    if modality and modality != "CT":
        return IssueCode.NOT_CT, f"{tag_text('Modality')} is {modality}"
    foreign_class = elements.sop_class and elements.sop_class not in CT_CLASSES
    if foreign_class and not modality:
        return IssueCode.NO_IMAGE, f"{tag_text('SOPClassUID')} is no CT image"
    if "LOCALIZER" in elements.text("ImageType").upper().split("\\"):
        return IssueCode.LOCALIZER, f"{tag_text('ImageType')} says LOCALIZER"
    geometry = elements.text("ImagePositionPatient") or elements.text("ImageOrientationPatient")
    if foreign_class and not (elements.has_pixels and geometry):
        return (
            IssueCode.NO_IMAGE,
            f"{tag_text('SOPClassUID')} is no CT image, and it has no place in the patient",
        )
    photometric = elements.text("PhotometricInterpretation")
    if photometric and photometric not in ("MONOCHROME1", "MONOCHROME2"):
        return IssueCode.NO_IMAGE, f"{tag_text('PhotometricInterpretation')} is {photometric}"
    return None


def _slice_headers(elements: Elements, stream: BinaryIO, size: int, file: FileRef) -> Slices:
    if not elements.text("SOPInstanceUID"):
        raise InvalidHeader(IssueCode.NO_UID, f"{tag_text('SOPInstanceUID')} is missing")
    if not elements.has_pixels:
        raise InvalidHeader(IssueCode.TRUNCATED_PIXELS, f"{tag_text('PixelData')} is missing")
    if not elements.text("Modality") and not elements.sop_class:
        raise InvalidHeader(IssueCode.UNREADABLE, f"{tag_text('Modality')} is missing")
    n_frames = _count_frames(elements)
    slices: Slices
    if not elements.frames:
        slices = (slice_header(elements, file),)
    elif n_frames == 1:
        slices = (slice_header(_frame(elements, 0), file),)
    else:
        slices = tuple(_numbered(elements, number, file) for number in range(1, n_frames + 1))
    rows, columns, _ = grey_image(elements)
    expected = rows * columns * elements.whole("BitsAllocated") // 8
    _require_pixels(elements, stream, size, n_frames * expected)
    return slices


def _count_frames(elements: Elements) -> int:
    """NumberOfFrames, 1 where it is missing; several frames need a functional group each."""
    text = elements.text("NumberOfFrames") or "1"
    if not text.isdecimal() or int(text) == 0:
        raise InvalidHeader(
            IssueCode.UNREADABLE, f"{tag_text('NumberOfFrames')} does not read as a number"
        )
    if int(text) != (len(elements.frames) or 1):
        raise InvalidHeader(
            IssueCode.UNREADABLE,
            f"{tag_text('NumberOfFrames')} is {int(text)}, but "
            f"{tag_text('PerFrameFunctionalGroupsSequence')} holds {pluralize(len(elements.frames), 'item')}",
        )
    return int(text)


def _frame(elements: Elements, index: int) -> Elements:
    return replace(elements, values={**elements.values, **elements.frames[index]})


def _numbered(elements: Elements, number: int, file: FileRef) -> SliceHeader | InvalidSlice:
    own = _frame(elements, number - 1)
    try:
        return replace(slice_header(own, file), frame=number)
    except InvalidHeader as refusal:
        problem = f"frame {number}: {refusal}"
        flawed = _flawed(own, file, refusal.code, problem, elements.text("SeriesInstanceUID"))
        return replace(flawed, frame=number)


def _require_pixels(elements: Elements, stream: BinaryIO, size: int, expected: int) -> None:
    """Refuse a file whose PixelData is shorter than its frames, or that ends before it does.

    Native pixels have a length (PS3.5 8.1.1); encapsulated ones are items up to a delimiter (PS3.5 A.4).
    """
    if elements.pixels_at is None or elements.pixels_length is None:  # deflated
        stream.seek(0)
        with suppress_pydicom_warnings():
            length = len(
                pydicom.dcmread(stream, specific_tags=["PixelData"]).get("PixelData") or b""
            )
        present = length
    else:
        stream.seek(elements.pixels_at)
        length = elements.pixels_length
        present = size - elements.pixels_at
    if length == _UNDEFINED_LENGTH:
        if elements.transfer_syntax in _NATIVE:
            raise InvalidHeader(
                IssueCode.UNREADABLE,
                f"{tag_text('PixelData')} has no length, and no compression is named",
            )
        _require_items(stream, size)
    elif min(length, present) < expected:
        raise InvalidHeader(
            IssueCode.TRUNCATED_PIXELS,
            f"{tag_text('PixelData')} holds {min(length, present)} of {pluralize(expected, 'byte')}",
        )


def _require_items(stream: BinaryIO, size: int) -> None:
    while len(head := stream.read(8)) == 8:
        group, element, length = struct.unpack("<HHI", head)
        if (group, element) != _ITEM:
            return
        if stream.seek(length, 1) > size:
            break
    raise InvalidHeader(
        IssueCode.TRUNCATED_PIXELS, f"{tag_text('PixelData')} ends before its last item does"
    )
