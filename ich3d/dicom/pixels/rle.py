"""RLE Lossless (PS3.5 Annex G), with every length checked.

A frame that is damaged where its lengths stand no longer unpacks to its size and is refused, never cut or
filled. A damaged byte within a run keeps every length, and nothing in the file tells of it.
"""

import struct
from typing import Final

import numpy as np

from ich3d.core.text import pluralize
from ich3d.dicom.pixels.native import DecoderError

_HEADER: Final = struct.Struct("<16L")
_NO_OPERATION: Final = 128


def decode(frame: bytes, rows: int, columns: int, n_bytes: int) -> np.ndarray:
    """The pixel containers (Y, X), unsigned and of `n_bytes` bytes, of one grey frame: a segment a byte, the
    most significant first (PS3.5 G.2)."""
    planes = np.empty((rows * columns, n_bytes), dtype=np.uint8)
    for number, packed in enumerate(_segments(frame, n_bytes), start=1):
        try:
            planes[:, n_bytes - number] = np.frombuffer(_unpacked(packed, rows * columns), np.uint8)
        except DecoderError as error:
            raise DecoderError(f"RLE segment {number} {error}") from None
    return planes.view(f"<u{n_bytes}").reshape(rows, columns)


def _segments(frame: bytes, expected: int) -> list[bytes]:
    """The segments, which follow the header and each other without a gap (PS3.5 G.4, G.5)."""
    if len(frame) < _HEADER.size:
        raise DecoderError("it ends within the RLE header")
    count, *offsets = _HEADER.unpack_from(frame)
    if count != expected:
        raise DecoderError(
            f"the RLE header counts {pluralize(count, 'segment')} where the pixels have {expected}"
        )
    ends = [*offsets[1:count], len(frame)]
    starts = offsets[:count]
    if starts[0] != _HEADER.size or any(
        start >= end for start, end in zip(starts, ends, strict=True)
    ):
        raise DecoderError("the offsets of the RLE segments do not ascend within the frame")
    return [frame[start:end] for start, end in zip(starts, ends, strict=True)]


def _unpacked(packed: bytes, size: int) -> bytes:
    """The `size` bytes of a segment (PS3.5 G.3.2); one byte may be left over, for lengths are even."""
    found = bytearray()
    at = 0
    while len(found) < size and at < len(packed):
        control = packed[at]
        if control < _NO_OPERATION:
            run = packed[at + 1 : at + 2 + control]
            at += 2 + control
        elif control > _NO_OPERATION:
            run = packed[at + 1 : at + 2] * (257 - control)
            at += 2
        else:
            run = b""
            at += 1
        found += run
    if len(found) != size or at > len(packed):
        raise DecoderError(f"unpacks to {pluralize(len(found), 'byte')} and not to {size}")
    if len(packed) - at > 1:
        raise DecoderError(f"has {pluralize(len(packed) - at, 'byte')} beyond its {size}")
    return bytes(found)
