"""The raw elements of a header, and how their values are checked.

Values stay the raw bytes of the file until they are asked for. De-identified files hold UIDs and
numbers that are not valid DICOM, and pydicom would warn about each of them.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ich3d.core.issues import IssueCode
from ich3d.core.text import pluralize
from ich3d.dicom.headers.element_scanner import PIXEL_DATA

TAGS: Final = {
    "MediaStorageSOPClassUID": 0x00020002,
    "ImageType": 0x00080008,
    "SOPClassUID": 0x00080016,
    "SOPInstanceUID": 0x00080018,
    "SeriesDate": 0x00080021,
    "AcquisitionDate": 0x00080022,
    "AcquisitionDateTime": 0x0008002A,
    "SeriesTime": 0x00080031,
    "AcquisitionTime": 0x00080032,
    "Modality": 0x00080060,
    "StudyDescription": 0x00081030,
    "SeriesDescription": 0x0008103E,
    "FrameType": 0x00089007,
    "VolumeBasedCalculationTechnique": 0x00089207,
    "PatientID": 0x00100020,
    "ContrastBolusAgent": 0x00180010,
    "SliceThickness": 0x00180050,
    "KVP": 0x00180060,
    "ProtocolName": 0x00181030,
    "ContrastBolusVolume": 0x00181041,
    "ContrastBolusIngredient": 0x00181048,
    "ConvolutionKernel": 0x00181210,
    "FrameAcquisitionDateTime": 0x00189074,
    "FrameReferenceDateTime": 0x00189151,
    "ContrastBolusAgentAdministered": 0x00189342,
    "ContrastBolusAgentPhase": 0x00189344,
    "StudyInstanceUID": 0x0020000D,
    "SeriesInstanceUID": 0x0020000E,
    "SeriesNumber": 0x00200011,
    "AcquisitionNumber": 0x00200012,
    "ImagePositionPatient": 0x00200032,
    "ImageOrientationPatient": 0x00200037,
    "FrameOfReferenceUID": 0x00200052,
    "TemporalPositionIdentifier": 0x00200100,
    "StackID": 0x00209056,
    "TemporalPositionIndex": 0x00209128,
    "FrameAcquisitionNumber": 0x00209156,
    "NominalPercentageOfCardiacPhase": 0x00209241,
    "TemporalPositionTimeOffset": 0x0020930D,
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
    "RescaleType": 0x00281054,
    "SharedFunctionalGroupsSequence": 0x52009229,
    "PerFrameFunctionalGroupsSequence": 0x52009230,
    "PixelData": PIXEL_DATA,
}
"""The attributes that are read from a header, and their tags."""

LARGEST_NUMBER: Final = 1e6
"""No scanner writes a position, spacing or rescale beyond a million (1 km, or 15 times the range
of a 16-bit pixel). Arithmetic with damaged numbers that are larger could overflow."""


class InvalidHeader(Exception):
    """A header that cannot be used, with the issue's code. `read_file` turns it into a value."""

    def __init__(self, code: IssueCode, problem: str) -> None:
        super().__init__(problem)
        self.code = code


def tag_text(keyword: str) -> str:
    """Return the keyword with its tag, as in `Rows (0028,0010)`."""
    tag = TAGS[keyword]
    return f"{keyword} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


@dataclass(frozen=True)
class Elements:
    """The elements of one file's header, up to PixelData.

    Attributes:
        values: raw bytes by keyword. Elements that the end of the file cuts off are missing.
        patient_id: PatientID, decoded by the file's character set.
        transfer_syntax: TransferSyntaxUID, empty where the file has none.
        byte_order: `<` for little endian, `>` for big endian, as in `struct`.
        pixel_data_offset: byte offset in the plain file (`inflated`) at which the value of
            PixelData begins; None where there is no PixelData.
        pixel_data_length: length in bytes that PixelData declares; None like the offset.
        frames: for each frame of a multi-frame file, the raw bytes of the attributes in its
            functional groups (PS3.3 C.7.6.16); empty in a file without functional groups.
    """

    values: Mapping[str, bytes]
    patient_id: str
    transfer_syntax: str
    byte_order: str
    pixel_data_offset: int | None
    pixel_data_length: int | None
    frames: tuple[Mapping[str, bytes], ...] = ()

    @property
    def has_pixel_data(self) -> bool:
        """Whether PixelData follows, which also means that the header is complete."""
        return self.pixel_data_offset is not None

    @property
    def sop_class(self) -> str:
        """SOPClassUID, from the data set or else from the file meta information."""
        return self.text("SOPClassUID") or self.text("MediaStorageSOPClassUID")

    def text(self, keyword: str) -> str:
        """Return a value as text without padding, empty where the element is missing.

        Padding is spaces on both sides and NUL at the end (PS3.5 6.2). A NUL before a number is
        damage, which may have replaced a digit, so it is kept and the number is refused.
        """
        raw = self.values.get(keyword)
        return _without_padding(raw) if raw else ""

    def numbers(self, keyword: str, count: int, code: IssueCode) -> tuple[float, ...]:
        """Return the `count` numbers of a decimal string (PS3.5 6.2, VR DS).

        Raises InvalidHeader with `code` where the element is missing or empty, holds another
        count of values, or holds a value that is not a finite number up to `LARGEST_NUMBER`.
        """
        numbers = _floats(self.text(keyword))
        if numbers is None or len(numbers) != count or not _are_in_range(numbers):
            raise InvalidHeader(code, f"{tag_text(keyword)} {self._number_problem(keyword, count)}")
        return numbers

    def _number_problem(self, keyword: str, count: int) -> str:
        """Why an element does not hold `count` numbers, in words that follow its name."""
        if keyword not in self.values:
            return "is missing"
        parts = self.text(keyword).split("\\")
        if parts == [""]:
            return "is empty"
        if len(parts) != count:
            return f"holds {pluralize(len(parts), 'value')} and not {count}"

        numbers = _floats(self.text(keyword))
        if numbers is None:
            return "cannot be read as numbers"
        if not all(map(math.isfinite, numbers)):
            return "holds a value that is not finite"
        return f"holds a value beyond {LARGEST_NUMBER:,.0f}"

    def unsigned_short(self, keyword: str) -> int:
        """Return the value of an unsigned short (PS3.5 6.2, VR US).

        Raises InvalidHeader with UNREADABLE where the element is missing or too short.
        """
        raw = self.values.get(keyword, b"")
        if len(raw) < 2:
            raise InvalidHeader(IssueCode.UNREADABLE, f"{tag_text(keyword)} is missing")
        return int(struct.unpack(f"{self.byte_order}H", raw[:2])[0])


@lru_cache(maxsize=4096)  # the files of a series share most of their values
def _without_padding(raw: bytes) -> str:
    return raw.decode("latin-1").rstrip(" \0").lstrip(" ")


@lru_cache(maxsize=4096)
def _floats(text: str) -> tuple[float, ...] | None:
    """The numbers in a text, or None where one of them is no number."""
    # Python reads "1_0" as ten, which is not a decimal string.
    if "_" in text:
        return None
    try:
        return tuple(map(float, text.split("\\")))
    except ValueError:
        return None


def _are_in_range(numbers: tuple[float, ...]) -> bool:
    """Whether all are finite and up to `LARGEST_NUMBER`; a sum with NaN or infinity is neither."""
    return math.isfinite(sum(numbers)) and max(map(abs, numbers)) <= LARGEST_NUMBER
