"""Decoder of RLE Lossless frames (PS3.5 Annex G), with every length checked.

A frame is never filled up: where damage changes a length, it no longer unpacks to its size and is
refused. A byte too many is cut off where the runs before it show that no pixel has moved. Damage
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

_LONGEST_REST: Final = 4
"""Bytes of a run of one or two bytes and of padding, behind the last pixel."""


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
            deviation = "its RLE segments hold more bytes than there are pixels"
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
    """The rows * columns bytes of a segment (PS3.5 G.3.2), and whether a byte more was cut off."""
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

    rest = segment[position:]
    is_whole = len(unpacked) == size and position <= len(segment)
    if is_whole and len(rest) <= 1:
        return bytes(unpacked), False  # segments have an even length, so a byte may be padding

    # The byte too many is the last one of the last run, or a run of its own.
    is_one_more = len(unpacked) in (size, size + 1) and position <= len(segment)
    is_zero_run = is_whole and len(rest) <= _LONGEST_REST - 1 and not any(rest)
    in_step = is_one_more and len(rest) <= _LONGEST_REST and _ends_rows(segment, columns, size)
    if is_zero_run or in_step:
        return bytes(unpacked[:size]), True
    if is_whole:
        raise DecoderError(f"has {pluralize(len(rest), 'byte')} beyond its {size}")
    raise DecoderError(f"unpacks to {pluralize(len(unpacked), 'byte')} and not to {size}")


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
