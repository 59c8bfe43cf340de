"""One DICOM file to one slice header, or to the reason why it is none. Pixels are measured, not read."""

import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from ich3d.core.codes import Code
from ich3d.core.types import LeftOut, SliceHeader, Vector3
from ich3d.dicom.elements import Elements, Refusal, tag_text

UNIT_TOLERANCE: Final = 1e-2
"""How far ImageOrientationPatient may be from two perpendicular unit vectors before it is refused: files
that round to two decimals (0.98, -0.19) are common."""

_CT_CLASSES: Final = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_ITEM: Final = (0xFFFE, 0xE000)
_UNDEFINED_LENGTH: Final = 0xFFFFFFFF


@dataclass(frozen=True)
class Flawed:
    """A file that should be a slice and is not. `series_uid` ties it to a series: empty where the file
    is whole but names none, None where the file ends before it could."""

    path: Path
    code: Code
    detail: str
    series_uid: str | None


def read_header(path: Path, name: str) -> SliceHeader | LeftOut | Flawed:
    """The slice header of the file at `path`; `name` is what sentences call it."""
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            return LeftOut((name,), Code.NOT_DICOM, f"{name}: not a regular file")
        if info.st_size == 0:
            return Flawed(path, Code.EMPTY_FILE, f"{name}: the file is empty", None)
        with path.open("rb") as file:
            return _read(file, info.st_size, path, name)
    except OSError as error:
        return Flawed(path, Code.UNREADABLE, f"{name}: {error.strerror or 'cannot be read'}", None)


def _read(file: BinaryIO, size: int, path: Path, name: str) -> SliceHeader | LeftOut | Flawed:
    if not _starts_as_dicom(file, size):
        return LeftOut((name,), Code.NOT_DICOM, f"{name}: not a DICOM file")
    try:
        elements = Elements(file)
    except Exception as error:  # pydicom on foreign bytes: whatever it raises, the file does not parse
        return Flawed(
            path, Code.UNREADABLE, f"{name}: does not parse as DICOM ({type(error).__name__})", None
        )
    try:
        if (other := _no_slice(elements)) is not None:
            code, problem = other
            return LeftOut((name,), code, f"{name}: {problem}")
        return _slice_header(elements, file, size, path)
    except Refusal as refusal:
        uid = elements.text("SeriesInstanceUID")
        tied = uid if uid or elements.at_pixels else None
        return Flawed(path, refusal.code, f"{name}: {refusal}", tied)


def _starts_as_dicom(file: BinaryIO, size: int) -> bool:
    """Whether the file has the DICM prefix (PS3.10 7.1) or, without one, begins like a data set: an
    element of group 0002 or 0008 that fits into the file."""
    start = file.read(132)
    file.seek(0)
    if start[128:] == b"DICM":
        return True
    if len(start) < 132:
        return False
    return any(_is_first_element(start, size, order) for order in "<>")


def _is_first_element(start: bytes, size: int, order: str) -> bool:
    group, element, length = struct.unpack(f"{order}HHI", start[:8])
    if group not in (0x0002, 0x0008) or element > 0x0100:
        return False
    vr = start[4:6]
    return length < size or (vr.isalpha() and vr.isupper())


def _no_slice(elements: Elements) -> tuple[Code, str] | None:
    """Why a sound DICOM file is no part of a CT volume, if it is none."""
    modality = elements.text("Modality")
    if modality and modality != "CT":
        return Code.NOT_CT, f"{tag_text('Modality')} is {modality}"
    foreign_class = elements.sop_class and elements.sop_class not in _CT_CLASSES
    if foreign_class and not modality:
        return Code.NO_IMAGE, f"{tag_text('SOPClassUID')} is no CT image"
    if "LOCALIZER" in elements.text("ImageType").upper().split("\\"):
        return Code.LOCALIZER, f"{tag_text('ImageType')} says LOCALIZER"
    geometry = elements.text("ImagePositionPatient") or elements.text("ImageOrientationPatient")
    if foreign_class and not (elements.at_pixels and geometry):
        return Code.NO_IMAGE, f"{tag_text('SOPClassUID')} is no CT image, and it has no place in the patient"
    photometric = elements.text("PhotometricInterpretation")
    if photometric and photometric not in ("MONOCHROME1", "MONOCHROME2"):
        return Code.NO_IMAGE, f"{tag_text('PhotometricInterpretation')} is {photometric}"
    return None


def _slice_header(elements: Elements, file: BinaryIO, size: int, path: Path) -> SliceHeader:
    if not elements.text("SOPInstanceUID"):
        raise Refusal(Code.NO_UID, f"{tag_text('SOPInstanceUID')} is missing")
    if not elements.at_pixels:
        raise Refusal(Code.TRUNCATED_PIXELS, f"{tag_text('PixelData')} is missing")
    if not elements.text("Modality") and not elements.sop_class:
        raise Refusal(Code.UNREADABLE, f"{tag_text('Modality')} is missing")
    rows, columns, bits_allocated, bits_stored = _grey_image(elements)
    x, y, z = elements.numbers("ImagePositionPatient", 3, Code.NO_POSITION)
    row_dir, col_dir = _directions(elements)
    header = SliceHeader(
        path=path,
        sop_uid=elements.text("SOPInstanceUID"),
        series_uid=elements.text("SeriesInstanceUID"),
        study_uid=elements.text("StudyInstanceUID"),
        patient_id=elements.patient_id,
        position_mm=(x, y, z),
        row_dir=row_dir,
        col_dir=col_dir,
        pixel_spacing_mm=_pixel_spacing(elements),
        rows=rows,
        columns=columns,
        slope=_slope(elements),
        intercept=elements.numbers("RescaleIntercept", 1, Code.NO_RESCALE)[0],
        bits_stored=bits_stored,
        signed=elements.whole("PixelRepresentation") == 1,
    )
    _require_pixels(elements, file, size, rows * columns * bits_allocated // 8)
    return header


def _grey_image(elements: Elements) -> tuple[int, int, int, int]:
    """Rows, columns, bits allocated and bits stored of one grey frame (PS3.3 C.7.6.3.1)."""
    if elements.text("NumberOfFrames") not in ("", "1"):
        raise Refusal(Code.UNREADABLE, f"{tag_text('NumberOfFrames')} is above 1, which is not read")
    if not elements.text("PhotometricInterpretation"):
        raise Refusal(Code.UNREADABLE, f"{tag_text('PhotometricInterpretation')} is missing")
    if elements.whole("SamplesPerPixel") != 1:
        raise Refusal(Code.UNREADABLE, f"{tag_text('SamplesPerPixel')} is not 1")
    rows, columns = elements.whole("Rows"), elements.whole("Columns")
    if min(rows, columns) == 0:
        raise Refusal(Code.UNREADABLE, f"{tag_text('Rows')} or {tag_text('Columns')} is 0")
    allocated, stored = elements.whole("BitsAllocated"), elements.whole("BitsStored")
    if allocated not in (8, 16, 32):
        raise Refusal(Code.UNREADABLE, f"{tag_text('BitsAllocated')} is {allocated}, which is not read")
    if not 1 <= stored <= allocated:
        raise Refusal(Code.UNREADABLE, f"{tag_text('BitsStored')} is {stored}, of {allocated} bits")
    return rows, columns, allocated, stored


def _directions(elements: Elements) -> tuple[Vector3, Vector3]:
    """Row and column direction as unit vectors (PS3.3 C.7.6.2.1.1)."""
    cosines = np.array(elements.numbers("ImageOrientationPatient", 6, Code.NO_ORIENTATION)).reshape(2, 3)
    lengths = np.linalg.norm(cosines, axis=1)
    if np.any(np.abs(lengths - 1) > UNIT_TOLERANCE) or abs(cosines[0] @ cosines[1]) > UNIT_TOLERANCE:
        raise Refusal(
            Code.NO_ORIENTATION,
            f"{tag_text('ImageOrientationPatient')} is no pair of perpendicular unit vectors",
        )
    (a, b, c), (d, e, f) = (cosines / lengths[:, None]).tolist()
    return (a, b, c), (d, e, f)


def _pixel_spacing(elements: Elements) -> tuple[float, float]:
    between_rows, between_columns = elements.numbers("PixelSpacing", 2, Code.NO_PIXEL_SPACING)
    if min(between_rows, between_columns) <= 0:
        raise Refusal(Code.NO_PIXEL_SPACING, f"{tag_text('PixelSpacing')} is not positive")
    return between_rows, between_columns


def _slope(elements: Elements) -> float:
    (slope,) = elements.numbers("RescaleSlope", 1, Code.NO_RESCALE)
    if slope == 0:
        raise Refusal(Code.NO_RESCALE, f"{tag_text('RescaleSlope')} is 0")
    return slope


def _require_pixels(elements: Elements, file: BinaryIO, size: int, expected: int) -> None:
    """Refuse a file whose PixelData is shorter than the image, or that ends before it does.

    `file` stands at the PixelData element, unless the data set is deflated. Native pixels have a length
    (PS3.5 8.1.1); encapsulated ones are items up to a delimiter (PS3.5 A.4).
    """
    if elements.deflated:
        file.seek(0)
        length = len(pydicom.dcmread(file, specific_tags=["PixelData"]).get("PixelData") or b"")
        present = length
    else:
        head = file.read(8 if elements.implicit else 12)
        (length,) = struct.unpack(f"{elements.order}I", head[-4:])
        present = size - file.tell()
    if length == _UNDEFINED_LENGTH:
        _require_items(file, size)
    elif min(length, present) < expected:
        raise Refusal(
            Code.TRUNCATED_PIXELS,
            f"{tag_text('PixelData')} holds {min(length, present)} of {expected} bytes",
        )


def _require_items(file: BinaryIO, size: int) -> None:
    while len(head := file.read(8)) == 8:
        group, element, length = struct.unpack("<HHI", head)
        if (group, element) != _ITEM:
            return
        if file.seek(length, 1) > size:
            break
    raise Refusal(Code.TRUNCATED_PIXELS, f"{tag_text('PixelData')} ends before its last item does")
