"""The elements of one file's header that this room reads, checked as they are asked for.

Values are taken from the raw bytes of their elements, because de-identified files hold UIDs and
numbers that pydicom would remark on one by one.
"""

import math
import struct
import warnings
from typing import BinaryIO, Final

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.uid import DeflatedExplicitVRLittleEndian

from ich3d.core.codes import Code

PIXEL_DATA: Final = 0x7FE00010
KEYWORDS: Final = (
    "ImageType", "SOPClassUID", "SOPInstanceUID", "Modality", "PatientID", "StudyInstanceUID",
    "SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "PixelSpacing", "BitsAllocated",
    "BitsStored", "PixelRepresentation", "RescaleIntercept", "RescaleSlope",
)  # fmt: skip


class Refusal(Exception):
    """Ends the reading of one file; `read_header` turns it into a value."""

    def __init__(self, code: Code, problem: str) -> None:
        super().__init__(problem)
        self.code = code


def tag_text(keyword: str) -> str:
    """`Rows (0028,0010)` for `Rows`."""
    tag = _tag(keyword)
    return f"{keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


class Elements:
    """The header of an open DICOM file, read up to PixelData; the file is left standing there.

    `at_pixels` tells whether there is PixelData at all. pydicom's own exceptions pass through.
    """

    def __init__(self, file: BinaryIO) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on values that are checked here, or not used
            self._ds = pydicom.dcmread(
                file, stop_before_pixels=True, force=True, specific_tags=list(KEYWORDS)
            )
            meta = self._ds.file_meta
            self.patient_id = str(self._ds.get("PatientID") or "").strip()
            self.transfer_syntax = str(meta.get("TransferSyntaxUID", ""))
            self.sop_class = self.text("SOPClassUID") or str(meta.get("MediaStorageSOPClassUID", ""))
        implicit, little = self._ds.original_encoding
        self.implicit = bool(implicit)
        self.order = "<" if little else ">"
        self.deflated = self.transfer_syntax == DeflatedExplicitVRLittleEndian
        self.at_pixels = self.deflated or self._next_tag(file) == PIXEL_DATA

    def raw(self, keyword: str) -> bytes | None:
        """The bytes of a value; None where the element is missing or the file ends within it."""
        tag = _tag(keyword)
        if tag not in self._ds:
            return None
        element = self._ds.get_item(tag)
        value = element.value or b""
        if not isinstance(value, bytes) or len(value) < getattr(element, "length", 0):
            return None
        return value

    def text(self, keyword: str) -> str:
        """A value as text, empty where it is missing."""
        return (self.raw(keyword) or b"").decode("latin-1").strip(" \0")

    def numbers(self, keyword: str, count: int, code: Code) -> tuple[float, ...]:
        """The `count` finite values of a decimal string (PS3.5 6.2, VR DS), or a refusal with `code`."""
        raw = self.raw(keyword)
        if raw is None:
            raise Refusal(code, f"{tag_text(keyword)} is missing")
        parts = raw.decode("latin-1").strip(" \0").split("\\")
        if parts == [""]:
            raise Refusal(code, f"{tag_text(keyword)} is empty")
        if len(parts) != count:
            raise Refusal(code, f"{tag_text(keyword)} holds {len(parts)} values and not {count}")
        try:
            values = tuple(float(part) for part in parts)
        except ValueError:
            raise Refusal(code, f"{tag_text(keyword)} does not read as numbers") from None
        if not all(math.isfinite(value) for value in values):
            raise Refusal(code, f"{tag_text(keyword)} holds a value that is not finite")
        return values

    def whole(self, keyword: str) -> int:
        """The value of an unsigned short (PS3.5 6.2, VR US), or a refusal as UNREADABLE."""
        raw = self.raw(keyword)
        if raw is None or len(raw) < 2:
            raise Refusal(Code.UNREADABLE, f"{tag_text(keyword)} is missing")
        return int(struct.unpack(f"{self.order}H", raw[:2])[0])

    def _next_tag(self, file: BinaryIO) -> int | None:
        start = file.read(4)
        if len(start) < 4:
            return None
        file.seek(-4, 1)
        group, element = struct.unpack(f"{self.order}HH", start)
        return int(group << 16 | element)


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag
