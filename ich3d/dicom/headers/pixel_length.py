"""Check that a file holds PixelData for all of its frames, without decoding any of it."""

import struct
from typing import BinaryIO, Final, NamedTuple

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ich3d.core.issues import IssueCode
from ich3d.core.text import pluralize
from ich3d.dicom.headers.element_scanner import ITEM, SEQUENCE_DELIMITER, UNDEFINED_LENGTH
from ich3d.dicom.headers.elements import Elements, InvalidHeader, tag_text

DELIMITER: Final = struct.pack("<HHI", SEQUENCE_DELIMITER >> 16, SEQUENCE_DELIMITER & 0xFFFF, 0)
"""The delimiter behind the items of compressed pixels (PS3.5 A.4)."""

_TRAILING_PADDING: Final = 0xFFFCFFFC

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
    items = walk_items(stream, elements.pixel_data_offset, file_bytes)
    n_frames = len(elements.frames) or 1
    # A file may lack the delimiter where each frame has its one item: then no item is missing.
    if items.is_cut or not (items.has_delimiter or items.n_items == n_frames):
        raise InvalidHeader(
            IssueCode.TRUNCATED_PIXELS, f"{tag_text('PixelData')} ends within one of its items"
        )


class PixelItems(NamedTuple):
    """The items of compressed pixels.

    Attributes:
        n_items: their number, without the Basic Offset Table, which is the first item.
        end: byte offset in the file behind the last item.
        has_delimiter: whether the sequence delimiter follows. False where the file ends instead,
            within the delimiter or before it, or goes on with DataSetTrailingPadding (FFFC,FFFC).
        is_cut: whether the file ends within an item.
    """

    n_items: int
    end: int
    has_delimiter: bool
    is_cut: bool


def walk_items(stream: BinaryIO, offset: int, file_bytes: int) -> PixelItems:
    """Go from item to item of the compressed pixels at byte `offset` (PS3.5 A.4).

    What follows the items and is neither their delimiter nor its lack counts as the delimiter:
    whoever reads the frames will refuse it.
    """
    n_items, end = -1, offset
    stream.seek(offset)
    while len(head := stream.read(8)) == 8:
        group, number, length = struct.unpack("<HHI", head)
        if group << 16 | number != ITEM:
            return PixelItems(n_items, end, group << 16 | number != _TRAILING_PADDING, False)
        if stream.seek(length, 1) > file_bytes:
            return PixelItems(n_items, end, False, True)
        n_items, end = n_items + 1, stream.tell()
    return PixelItems(n_items, end, False, not DELIMITER.startswith(head))
