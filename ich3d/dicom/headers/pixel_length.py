"""Check that a file holds PixelData for all of its frames, without decoding any of it."""

import struct
from typing import BinaryIO, Final

import pydicom
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ich3d.core.issues import IssueCode
from ich3d.core.text import pluralize
from ich3d.dicom.headers.element_scanner import UNDEFINED_LENGTH
from ich3d.dicom.headers.elements import Elements, InvalidHeader, tag_text
from ich3d.dicom.pydicom_warnings import suppress_pydicom_warnings

_ITEM: Final = (0xFFFE, 0xE000)

_NATIVE_SYNTAXES: Final = (
    "",
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)
"""Transfer syntaxes of uncompressed pixels; a file that names none is read as one of them."""


def require_whole_pixel_data(
    elements: Elements, stream: BinaryIO, file_bytes: int, expected_bytes: int
) -> None:
    """Check the length of PixelData, whose value has to be present up to its end.

    Uncompressed pixels declare their length (PS3.5 8.1.1). Compressed ones are a sequence of items
    up to a delimiter (PS3.5 A.4), of which each has to lie within the file.

    Args:
        elements: the header of the file, which has PixelData.
        stream: the file; it is left at any place.
        file_bytes: the size of the file.
        expected_bytes: the length of all frames if they are not compressed.

    Raises:
        InvalidHeader: with TRUNCATED_PIXELS where pixels are missing, with UNREADABLE where
            PixelData has no length although no compression is named.
    """
    declared, present = _declared_and_present_bytes(elements, stream, file_bytes)

    if declared != UNDEFINED_LENGTH:
        if min(declared, present) < expected_bytes:
            raise InvalidHeader(
                IssueCode.TRUNCATED_PIXELS,
                f"{tag_text('PixelData')} holds {min(declared, present)} of "
                f"{pluralize(expected_bytes, 'byte')}",
            )
        return

    if elements.transfer_syntax in _NATIVE_SYNTAXES:
        raise InvalidHeader(
            IssueCode.UNREADABLE,
            f"{tag_text('PixelData')} has no length, and no compression is named",
        )
    _require_all_items(stream, file_bytes)


def _declared_and_present_bytes(
    elements: Elements, stream: BinaryIO, file_bytes: int
) -> tuple[int, int]:
    """The length that PixelData declares, and how many bytes the file holds of it.

    Leaves the stream at the value of PixelData, except in a deflated file, which is unpacked.
    """
    if elements.pixel_data_offset is None or elements.pixel_data_length is None:
        unpacked_bytes = _deflated_pixel_bytes(stream)
        return unpacked_bytes, unpacked_bytes

    stream.seek(elements.pixel_data_offset)
    return elements.pixel_data_length, file_bytes - elements.pixel_data_offset


def _deflated_pixel_bytes(stream: BinaryIO) -> int:
    """The length of PixelData in a deflated file, which has to be unpacked for it (PS3.5 A.5)."""
    stream.seek(0)
    try:
        with suppress_pydicom_warnings():
            dataset = pydicom.dcmread(stream, specific_tags=["PixelData"])
            return len(dataset.get("PixelData") or b"")
    # pydicom may raise anything on damaged bytes, for example on an unknown VR.
    except Exception as error:
        raise InvalidHeader(
            IssueCode.UNREADABLE,
            f"{tag_text('PixelData')} cannot be read ({type(error).__name__})",
        ) from None


def _require_all_items(stream: BinaryIO, file_bytes: int) -> None:
    """Go from item to item up to the delimiter. Raises InvalidHeader if the file ends before."""
    while len(head := stream.read(8)) == 8:
        group, number, length = struct.unpack("<HHI", head)
        if (group, number) != _ITEM:
            return
        if stream.seek(length, 1) > file_bytes:
            break

    raise InvalidHeader(
        IssueCode.TRUNCATED_PIXELS, f"{tag_text('PixelData')} ends within one of its items"
    )
