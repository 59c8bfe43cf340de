"""Scan the elements of an ordinary DICOM file without pydicom, in a tenth of pydicom's time.

A file is ordinary if it has a preamble and file meta information (PS3.10 7.1), is little endian,
uses known VRs, has its tags in ascending order (PS3.5 7.1) and is encoded as its transfer syntax
says. Every other file raises `UnusualFile` and is left to pydicom.
"""

import struct
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

PIXEL_DATA: Final = 0x7FE00010
UNDEFINED_LENGTH: Final = 0xFFFFFFFF
ITEM: Final = 0xFFFEE000
SEQUENCE_DELIMITER: Final = 0xFFFEE0DD

_TRANSFER_SYNTAX_UID: Final = 0x00020010
_LAST_META_TAG: Final = 0x0002FFFF
_ITEM_DELIMITER: Final = 0xFFFEE00D

_LONG_VRS: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""VRs with a length of four bytes in explicit VR (PS3.5 7.1.2)."""

_SHORT_VRS: Final = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
)
"""VRs with a length of two bytes in explicit VR (PS3.5 7.1.2)."""

_PIXEL_VRS: Final = (b"", b"OB", b"OW")

_UID_CHARACTERS: Final = frozenset("0123456789.")
"""The characters of a UID (PS3.5 9.1)."""

_unpack_implicit = struct.Struct("<HHI").unpack_from
_unpack_explicit = struct.Struct("<HH2sH").unpack_from
_unpack_long_length = struct.Struct("<I").unpack_from


class UnusualFile(Exception):
    """The file is not an ordinary one. It may still be valid: pydicom has to read it."""


class Value(NamedTuple):
    """The VR of an element, empty in an implicit VR file, and the raw bytes of its value."""

    vr: bytes
    raw: bytes


@dataclass(frozen=True)
class ScannedElements:
    """The elements of a file up to PixelData.

    Attributes:
        transfer_syntax: TransferSyntaxUID.
        values: the wanted elements by tag.
        pixel_data_offset: byte offset in the file at which the value of PixelData begins.
        pixel_data_length: length in bytes that PixelData declares, or `UNDEFINED_LENGTH`.
    """

    transfer_syntax: str
    values: Mapping[int, Value]
    pixel_data_offset: int
    pixel_data_length: int


def scan_elements(content: bytes, wanted: Container[int]) -> ScannedElements:
    """Scan a file up to PixelData and keep the values of the `wanted` tags.

    `content` holds the whole file or its first bytes, as far as the header goes. Raises
    `UnusualFile` where the file is not an ordinary one or the header does not fit into `content`.
    """
    try:
        return _scan_file(content, wanted)
    # Offsets beyond the content, and damaged sequences that nest without end.
    except (struct.error, RecursionError):
        raise UnusualFile from None


def _scan_file(content: bytes, wanted: Container[int]) -> ScannedElements:
    if content[128:132] != b"DICM":
        raise UnusualFile

    values, offset = _scan_file_meta(content, wanted)
    transfer_syntax = values[_TRANSFER_SYNTAX_UID].raw.rstrip(b"\0 ").decode("latin-1")
    if transfer_syntax in (ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        raise UnusualFile
    if not set(transfer_syntax) <= _UID_CHARACTERS:
        raise UnusualFile  # damaged: pydicom strips more than padding

    implicit = transfer_syntax == ImplicitVRLittleEndian
    if implicit and _looks_like_vr(content[offset + 4 : offset + 6]):
        raise UnusualFile

    start, length = _scan_data_set(content, offset, implicit, wanted, values)
    return ScannedElements(transfer_syntax, values, start, length)


def _scan_file_meta(content: bytes, wanted: Container[int]) -> tuple[dict[int, Value], int]:
    """Return the wanted UIDs of group 0002 and the byte offset at which the data set begins."""
    values: dict[int, Value] = {}
    offset, previous_tag = 132, 0

    while content[offset : offset + 2] == b"\2\0":
        tag, vr, start, length = _read_element(content, offset, implicit=False)
        if tag <= previous_tag:
            raise UnusualFile
        offset, previous_tag = start + length, tag
        if tag == _TRANSFER_SYNTAX_UID or tag in wanted:
            if vr != b"UI":
                raise UnusualFile
            # As `Value(...)`, in half the time.
            values[tag] = tuple.__new__(Value, (vr, content[start:offset]))

    if _TRANSFER_SYNTAX_UID not in values:
        raise UnusualFile
    return values, offset


def _scan_data_set(
    content: bytes, offset: int, implicit: bool, wanted: Container[int], values: dict[int, Value]
) -> tuple[int, int]:
    """Add the wanted elements from `offset` on to `values`.

    Returns the byte offset and the length of the value of PixelData.
    """
    previous_tag = _LAST_META_TAG
    n_bytes = len(content)

    while True:
        tag, vr, start, length = _read_element(content, offset, implicit)
        if tag <= previous_tag:
            raise UnusualFile
        if tag >= PIXEL_DATA:
            break
        previous_tag = tag
        if length != UNDEFINED_LENGTH:  # as nearly always: a call for each element takes its time
            offset = start + length
        else:
            offset = _value_end(content, vr, start, length, implicit)
        if tag in wanted:
            if offset > n_bytes:
                raise UnusualFile
            # As `Value(...)`, in half the time.
            values[tag] = tuple.__new__(Value, (vr, content[start:offset]))

    if tag != PIXEL_DATA or vr not in _PIXEL_VRS:
        raise UnusualFile
    return start, length


def _looks_like_vr(two_bytes: bytes) -> bool:
    """Tell whether an element that should be implicit has a VR all the same."""
    return two_bytes.isalpha() and two_bytes.isupper()


def _read_element(content: bytes, offset: int, implicit: bool) -> tuple[int, bytes, int, int]:
    """Read the element at `offset`: tag, VR, offset of its value, length (PS3.5 7.1.2, 7.1.3).

    A plain tuple, because building a class for each element takes half of the scanner's time.
    """
    if implicit:
        group, number, length = _unpack_implicit(content, offset)
        return group << 16 | number, b"", offset + 8, length

    group, number, vr, length = _unpack_explicit(content, offset)
    if vr in _SHORT_VRS:
        return group << 16 | number, vr, offset + 8, length
    if vr in _LONG_VRS:
        (length,) = _unpack_long_length(content, offset + 8)
        return group << 16 | number, vr, offset + 12, length
    raise UnusualFile


def _value_end(content: bytes, vr: bytes, start: int, length: int, implicit: bool) -> int:
    """Return the byte offset after a value, or after its delimiter if its length is undefined.

    Only sequences may have an undefined length (PS3.5 7.5).
    """
    if length != UNDEFINED_LENGTH:
        return start + length
    if not implicit and vr != b"SQ":
        raise UnusualFile

    offset = start
    while True:
        group, number, length = _unpack_implicit(content, offset)
        tag = group << 16 | number
        offset += 8
        if tag == SEQUENCE_DELIMITER:
            return offset
        if tag != ITEM:
            raise UnusualFile
        if length == UNDEFINED_LENGTH:
            offset = _item_end(content, offset, implicit)
        else:
            offset += length


def _item_end(content: bytes, offset: int, implicit: bool) -> int:
    """Return the byte offset after the delimiter of an item of undefined length."""
    while True:
        group, number, _ = _unpack_implicit(content, offset)
        if group << 16 | number == _ITEM_DELIMITER:
            return offset + 8
        _, vr, start, length = _read_element(content, offset, implicit)
        offset = _value_end(content, vr, start, length, implicit)
