"""The pixels of a file as they lie there, and the short way to those of an ordinary one: 16-bit native
containers are seen where they were read to, without a copy."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ich3d.dicom.headers.element_scanner import UnusualFile, Value, scan_elements

_NUMBER_OF_FRAMES: Final = 0x00280008
_ROWS: Final = 0x00280010
_COLUMNS: Final = 0x00280011
_HIGH_BIT: Final = 0x00280102
_SIGNED: Final = 0x00280103
_PADDING: Final = (0x00280120, 0x00280121)
_ONE_SAMPLE: Final = {0x00280002: 1, 0x00280100: 16}
"""SamplesPerPixel and BitsAllocated of an ordinary image."""

_WANTED: Final = frozenset(
    {_NUMBER_OF_FRAMES, _ROWS, _COLUMNS, _HIGH_BIT, _SIGNED, *_PADDING, *_ONE_SAMPLE}
)


class DecoderError(Exception):
    """Why a frame has no pixels, in words."""


@dataclass(frozen=True)
class Image:
    """Pixel containers (Y, X), unused bits and all; HighBit, if given; the ends of the range of padding that
    PixelPaddingValue and PixelPaddingRangeLimit give, none where they give none."""

    container: np.ndarray
    bits_allocated: int
    high_bit: int | None
    padding: tuple[int, ...]


def native_image(content: bytes) -> Image | None:
    """The image in the bytes of a file, where it is one little-endian frame of 16 bits, else None."""
    try:
        scanned = scan_elements(content, _WANTED)
        if scanned.transfer_syntax not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
            return None
        values = scanned.values
        if any(_short(values[tag]) != expected for tag, expected in _ONE_SAMPLE.items()):
            return None
        if _NUMBER_OF_FRAMES in values:
            return None
        rows, columns = _short(values[_ROWS]), _short(values[_COLUMNS])
        signed = _short(values[_SIGNED]) == 1
        ends = [_padding(values[tag], signed) if tag in values else None for tag in _PADDING]
        high_bit = _short(values[_HIGH_BIT]) if _HIGH_BIT in values else None
    except (UnusualFile, KeyError):
        return None
    start, length = scanned.pixels_at, scanned.pixels_length
    if length != 2 * rows * columns or start + length > len(content):
        return None
    container = np.frombuffer(content, dtype="<u2", count=rows * columns, offset=start)
    return Image(container.reshape(rows, columns), 16, high_bit, padding_range(*ends))


def padding_range(value: int | None, limit: int | None) -> tuple[int, ...]:
    """The ends of the range of padding, one where it is a single value. A limit by itself says nothing: the
    standard requires the value with it (PS3.3 C.7.5.1.1.2)."""
    if value is None:
        return ()
    return (value,) if limit is None else (value, limit)


def _short(value: Value) -> int:
    """One unsigned short (PS3.5 6.2, VR US)."""
    if value.vr not in (b"", b"US") or len(value.raw) != 2:
        raise UnusualFile
    return int.from_bytes(value.raw, "little")


def _padding(value: Value, signed: bool) -> int:
    """US or SS: as its VR says, and where the file is implicit, as the pixels are (PS3.5 A.1)."""
    if value.vr not in (b"", b"US", b"SS") or len(value.raw) != 2:
        raise UnusualFile
    return int.from_bytes(
        value.raw, "little", signed=value.vr == b"SS" or (not value.vr and signed)
    )
