"""Check that a file holds PixelData for all of its frames, without decoding any of it."""

import struct
from typing import BinaryIO, Final

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ich3d.core.issues import IssueCode
from ich3d.core.text import pluralize
from ich3d.dicom.headers.element_scanner import ITEM, UNDEFINED_LENGTH
from ich3d.dicom.headers.elements import Elements, InvalidHeader, tag_text

_NATIVE_SYNTAXES: Final = (
    "",
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
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
        stream: the plain file (`deflated.inflated`); it is left at any place.
        file_bytes: the size of the plain file.
        expected_bytes: the length of all frames if they are not compressed.

    Raises:
        InvalidHeader: with TRUNCATED_PIXELS where pixels are missing, with UNREADABLE where
            PixelData has no length although no compression is named.
    """
    assert elements.pixel_data_offset is not None
    assert elements.pixel_data_length is not None
    declared = elements.pixel_data_length
    present = file_bytes - elements.pixel_data_offset

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
    stream.seek(elements.pixel_data_offset)
    _require_all_items(stream, file_bytes, len(elements.frames) or 1)


def _require_all_items(stream: BinaryIO, file_bytes: int, n_frames: int) -> None:
    """Go from item to item up to the delimiter. Raises InvalidHeader if the file ends before.

    A file may end without the delimiter where each frame has its one item: then none is missing.
    """
    n_items = 0
    while len(head := stream.read(8)) == 8:
        group, number, length = struct.unpack("<HHI", head)
        if group << 16 | number != ITEM:
            return
        if stream.seek(length, 1) > file_bytes:
            break
        n_items += 1
    else:
        # The first item is the Basic Offset Table.
        if not head and n_items - 1 == n_frames:
            return

    raise InvalidHeader(
        IssueCode.TRUNCATED_PIXELS, f"{tag_text('PixelData')} ends within one of its items"
    )
