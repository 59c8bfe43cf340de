"""Decoder of RLE Lossless frames (PS3.5 Annex G), with every length checked.

A frame is never filled up: where damage changes a length, it no longer unpacks to its size and is
refused. One byte too many is cut off where the runs before it prove that no pixel has moved. Damage
that keeps all lengths cannot be detected, as the format has no checksum.
"""

import struct
from typing import Final

import numpy as np

from ich3d.core.text import pluralize
from ich3d.dicom.pixels.native import DecoderError

_HEADER: Final = struct.Struct("<16L")
"""The number of segments and the offsets of up to 15 segments (PS3.5 G.5)."""

_NO_OPERATION: Final = 128
"""A control byte that stands for no output (PS3.5 G.3.1)."""


def decode(frame: bytes, rows: int, columns: int, n_bytes: int) -> tuple[np.ndarray, str]:
    """Decode a greyscale frame to pixel cells (Y, X), unsigned integers of `n_bytes` bytes.

    Each segment holds one byte of every pixel, the most significant first (PS3.5 G.2). Also returns
    how the frame breaks these rules although its pixels are exact; empty where it does not. Raises
    DecoderError where the header, an offset or a length is wrong.
    """
    planes = np.empty((rows * columns, n_bytes), dtype=np.uint8)
    deviation = ""
    for number, segment in enumerate(_split_segments(frame, n_bytes), start=1):
        try:
            plane, has_excess = _unpack(segment, rows, columns)
        except DecoderError as error:
            raise DecoderError(f"RLE segment {number} {error}") from None
        planes[:, n_bytes - number] = np.frombuffer(plane, np.uint8)
        if has_excess:
            deviation = "an RLE segment holds a byte more than there are pixels"
    return planes.view(f"<u{n_bytes}").reshape(rows, columns), deviation  # (Y, X)


def _split_segments(frame: bytes, n_expected: int) -> list[bytes]:
    """The segments, which follow the header and each other without a gap (PS3.5 G.4, G.5)."""
    if len(frame) < _HEADER.size:
        raise DecoderError("it ends within the RLE header")
    count, *offsets = _HEADER.unpack_from(frame)
    if count != n_expected:
        segments = pluralize(count, "segment")
        raise DecoderError(f"the RLE header counts {segments} where the pixels have {n_expected}")

    starts = offsets[:count]
    ends = [*offsets[1:count], len(frame)]
    bounds = list(zip(starts, ends, strict=True))
    if starts[0] != _HEADER.size or any(start >= end for start, end in bounds):
        raise DecoderError("the offsets of the RLE segments do not ascend within the frame")
    return [frame[start:end] for start, end in bounds]


def _unpack(segment: bytes, rows: int, columns: int) -> tuple[bytes, bool]:
    """The rows * columns bytes of a segment (PS3.5 G.3.2), and whether it holds one byte more."""
    size = rows * columns
    unpacked = bytearray()
    position = 0
    while len(unpacked) < size and position < len(segment):
        control = segment[position]
        if control < _NO_OPERATION:  # the next control + 1 bytes as they are
            unpacked += segment[position + 1 : position + 2 + control]
            position += 2 + control
        elif control > _NO_OPERATION:  # the next byte, repeated
            unpacked += segment[position + 1 : position + 2] * (257 - control)
            position += 2
        else:
            position += 1

    n_left = len(segment) - position
    if len(unpacked) == size and n_left in (0, 1):
        return bytes(unpacked), False  # segments have an even length, so a byte may be padding
    if len(unpacked) < size or n_left < 0 or len(unpacked) > size + 1:
        raise DecoderError(f"unpacks to {pluralize(len(unpacked), 'byte')} and not to {size}")

    # The byte too many is the last one of the last run, or a run of its own.
    is_own_run = len(unpacked) == size and segment[position] == 0 and n_left in (2, 3)
    if not is_own_run and (len(unpacked) == size or n_left > 1):
        raise DecoderError(f"has {pluralize(n_left, 'byte')} beyond its {size}")
    if not _ends_rows(segment, columns, size) and not (is_own_run and segment[position + 1] == 0):
        raise DecoderError(f"unpacks to {size + 1} bytes and not to {size}")
    return bytes(unpacked[:size]), True


def _ends_rows(segment: bytes, columns: int, size: int) -> bool:
    """Whether a run ends where each row but the last does, as PS3.5 G.3.1 demands.

    Then no run before is too long: otherwise the rows behind it would be out of step.
    """
    unpacked = position = 0
    run_ends = set()
    while unpacked < size:
        control = segment[position]
        if control < _NO_OPERATION:
            unpacked += control + 1
            position += 2 + control
        elif control > _NO_OPERATION:
            unpacked += 257 - control
            position += 2
        else:
            position += 1
        run_ends.add(unpacked)
    return run_ends.issuperset(range(columns, size, columns))
