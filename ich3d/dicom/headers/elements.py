"""The elements of one file's header that this room reads, checked as they are asked for.

Values are the raw bytes of their elements, because de-identified files hold UIDs and numbers that
pydicom would remark on one by one.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydicom.uid import DeflatedExplicitVRLittleEndian

from ich3d.core.issues import IssueCode
from ich3d.core.text import pluralize

PIXEL_DATA: Final = 0x7FE00010
TAGS: Final = {
    "MediaStorageSOPClassUID": 0x00020002,
    "ImageType": 0x00080008,
    "SOPClassUID": 0x00080016,
    "SOPInstanceUID": 0x00080018,
    "Modality": 0x00080060,
    "FrameType": 0x00089007,
    "PatientID": 0x00100020,
    "ConvolutionKernel": 0x00181210,
    "StudyInstanceUID": 0x0020000D,
    "SeriesInstanceUID": 0x0020000E,
    "AcquisitionNumber": 0x00200012,
    "ImagePositionPatient": 0x00200032,
    "ImageOrientationPatient": 0x00200037,
    "FrameAcquisitionNumber": 0x00209156,
    "SamplesPerPixel": 0x00280002,
    "PhotometricInterpretation": 0x00280004,
    "NumberOfFrames": 0x00280008,
    "Rows": 0x00280010,
    "Columns": 0x00280011,
    "PixelSpacing": 0x00280030,
    "BitsAllocated": 0x00280100,
    "BitsStored": 0x00280101,
    "PixelRepresentation": 0x00280103,
    "RescaleIntercept": 0x00281052,
    "RescaleSlope": 0x00281053,
    "SharedFunctionalGroupsSequence": 0x52009229,
    "PerFrameFunctionalGroupsSequence": 0x52009230,
    "PixelData": PIXEL_DATA,
}

LARGEST_NUMBER: Final = 1e6
"""No scanner writes a position, spacing or rescale beyond it: a kilometre, or 15 times the range of a pixel.
Reckoning with damaged numbers that are larger would overflow."""


class InvalidHeader(Exception):
    """Ends the reading of one file; `read_file` turns it into a value."""

    def __init__(self, code: IssueCode, problem: str) -> None:
        super().__init__(problem)
        self.code = code


def tag_text(keyword: str) -> str:
    """`Rows (0028,0010)` for `Rows`."""
    tag = TAGS[keyword]
    return f"{keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


@dataclass(frozen=True)
class Elements:
    """A header up to PixelData.

    `values` are raw bytes by keyword, without elements that the file ends within; `frames` those of each
    frame's functional groups (PS3.3 C.7.6.16), empty in a file without such groups. `pixels_at` is where
    in the file the value of PixelData begins, `pixels_length` what its element says of its length: None
    where there is none, and in a deflated file, which does not tell.
    """

    values: Mapping[str, bytes]
    patient_id: str
    transfer_syntax: str
    order: str
    pixels_at: int | None
    pixels_length: int | None
    frames: tuple[Mapping[str, bytes], ...] = ()

    @property
    def deflated(self) -> bool:
        return self.transfer_syntax == DeflatedExplicitVRLittleEndian

    @property
    def has_pixels(self) -> bool:
        """Whether the header is whole, that is, PixelData follows."""
        return self.pixels_at is not None or self.deflated

    @property
    def sop_class(self) -> str:
        return self.text("SOPClassUID") or self.text("MediaStorageSOPClassUID")

    def text(self, keyword: str) -> str:
        """A value as text, empty where it is missing. NUL pads at the end alone (PS3.5 6.2): before a
        number it is damage, which may stand for a digit."""
        return self.values.get(keyword, b"").decode("latin-1").rstrip(" \0").lstrip(" ")

    def numbers(self, keyword: str, count: int, code: IssueCode) -> tuple[float, ...]:
        """The `count` finite values of a decimal string (PS3.5 6.2, VR DS), none beyond LARGEST_NUMBER, or a
        refusal with `code`."""
        if keyword not in self.values:
            raise InvalidHeader(code, f"{tag_text(keyword)} is missing")
        parts = self.text(keyword).split("\\")
        if parts == [""]:
            raise InvalidHeader(code, f"{tag_text(keyword)} is empty")
        if len(parts) != count:
            raise InvalidHeader(
                code, f"{tag_text(keyword)} holds {pluralize(len(parts), 'value')} and not {count}"
            )
        try:
            values = tuple(
                float(part.replace("_", "?")) for part in parts
            )  # Python reads 1_0 as ten
        except ValueError:
            raise InvalidHeader(code, f"{tag_text(keyword)} does not read as numbers") from None
        if not all(map(math.isfinite, values)):
            raise InvalidHeader(code, f"{tag_text(keyword)} holds a value that is not finite")
        if max(map(abs, values)) > LARGEST_NUMBER:
            raise InvalidHeader(
                code, f"{tag_text(keyword)} holds a value beyond {LARGEST_NUMBER:,.0f}"
            )
        return values

    def whole(self, keyword: str) -> int:
        """The value of an unsigned short (PS3.5 6.2, VR US), or a refusal as UNREADABLE."""
        raw = self.values.get(keyword, b"")
        if len(raw) < 2:
            raise InvalidHeader(IssueCode.UNREADABLE, f"{tag_text(keyword)} is missing")
        return int(struct.unpack(f"{self.order}H", raw[:2])[0])
