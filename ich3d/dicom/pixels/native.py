"""A frame as it is stored, and the short way to the frame of an ordinary file.

Most CT files hold one uncompressed frame of 16 bits. Its pixel cells are a view of the bytes of the
file: no copy, no pydicom.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ich3d.dicom.headers.element_scanner import (
    ScannedElements,
    UnusualFile,
    Value,
    scan_elements,
)

_NUMBER_OF_FRAMES: Final = 0x00280008
_ROWS: Final = 0x00280010
_COLUMNS: Final = 0x00280011
_HIGH_BIT: Final = 0x00280102
_PIXEL_REPRESENTATION: Final = 0x00280103
_PADDING: Final = (0x00280120, 0x00280121)
"""PixelPaddingValue and PixelPaddingRangeLimit."""

OVERLAY_BIT_POSITIONS: Final = frozenset(range(0x60000102, 0x60200102, 0x20000))
"""OverlayBitPosition of every overlay: before 2004 an overlay could lie in unused bits of the pixel
cells (PS3.5 8.1.2)."""

_ORDINARY: Final = {0x00280002: 1, 0x00280100: 16}
"""The values of SamplesPerPixel and BitsAllocated that are read here."""

_WANTED: Final = frozenset(
    {
        _NUMBER_OF_FRAMES, _ROWS, _COLUMNS, _HIGH_BIT, _PIXEL_REPRESENTATION, *_PADDING, *_ORDINARY,
        *OVERLAY_BIT_POSITIONS,
    }
)  # fmt: skip


class DecoderError(Exception):
    """A frame cannot be decoded; the text says why, as the end of a sentence."""


@dataclass(frozen=True)
class Frame:
    """One frame as it is stored.

    Attributes:
        cells: pixel cells (Y, X) of BitsAllocated bits, with their unused bits (PS3.5 8.1.1).
        bits_allocated: BitsAllocated.
        high_bit: HighBit; None where the file has none.
        padding: the values that mark padding: none, one value, or both ends of a range.
        has_overlay_bits: whether unused bits of the cells may hold an overlay.
        deviation: how the file breaks the rules of its encoding although its pixels are exact;
            empty where it does not.
    """

    cells: np.ndarray
    bits_allocated: int
    high_bit: int | None
    padding: tuple[int, ...]
    has_overlay_bits: bool = False
    deviation: str = ""


def native_frame(content: bytes) -> Frame | None:
    """The frame of a file with the bytes `content`; None where pydicom is needed to read it.

    It is read here where it is the only one, uncompressed, little endian and of 16 bits. The header
    is scanned again: a `SliceHeader` does not hold the offset of PixelData, HighBit and padding,
    and the file may have changed since it was indexed.
    """
    try:
        return _read_frame(content, scan_elements(content, _WANTED))
    except (UnusualFile, KeyError):
        return None


def padding_range(value: int | None, limit: int | None) -> tuple[int, ...]:
    """The padding values of PixelPaddingValue and PixelPaddingRangeLimit.

    A limit without a value has no meaning (PS3.3 C.7.5.1.1.2).
    """
    if value is None:
        return ()
    return (value,) if limit is None else (value, limit)


def _read_frame(content: bytes, scanned: ScannedElements) -> Frame | None:
    """The frame, None where it is no ordinary one. KeyError where an element is missing."""
    values = scanned.values
    if scanned.transfer_syntax not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        return None
    if any(_unsigned_short(values[tag]) != value for tag, value in _ORDINARY.items()):
        return None
    if _NUMBER_OF_FRAMES in values:
        return None

    rows, columns = _unsigned_short(values[_ROWS]), _unsigned_short(values[_COLUMNS])
    is_signed = _unsigned_short(values[_PIXEL_REPRESENTATION]) == 1
    high_bit = _unsigned_short(values[_HIGH_BIT]) if _HIGH_BIT in values else None
    padding = padding_range(
        *(_padding_value(values[tag], is_signed) if tag in values else None for tag in _PADDING)
    )

    start, length = scanned.pixel_data_offset, scanned.pixel_data_length
    if length != 2 * rows * columns or start + length > len(content):
        return None
    cells = np.frombuffer(content, dtype="<u2", count=rows * columns, offset=start)
    has_overlay_bits = not OVERLAY_BIT_POSITIONS.isdisjoint(values)
    return Frame(cells.reshape(rows, columns), 16, high_bit, padding, has_overlay_bits)


def _unsigned_short(value: Value) -> int:
    """A single unsigned short (VR US, PS3.5 6.2); an implicit VR file gives no VR."""
    if value.vr not in (b"", b"US") or len(value.raw) != 2:
        raise UnusualFile
    return int.from_bytes(value.raw, "little")


def _padding_value(value: Value, pixels_are_signed: bool) -> int:
    """A padding value of VR US or SS; without a VR it is signed as the pixels are (PS3.5 A.1)."""
    if value.vr not in (b"", b"US", b"SS") or len(value.raw) != 2:
        raise UnusualFile
    is_signed = pixels_are_signed if value.vr == b"" else value.vr == b"SS"
    return int.from_bytes(value.raw, "little", signed=is_signed)
