"""Stored values of slices: the numbers in PixelData before they are rescaled to HU.

Differences between vendors end here. A stored value takes BitsStored bits of its pixel cell, the
highest of which is HighBit, and is two's complement where PixelRepresentation is 1 (PS3.3
C.7.6.3.1, PS3.5 8.1.1).
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from typing import Final

import numpy as np

from ich3d.core.issues import IssueCode
from ich3d.core.types import FileRef, Issue, SliceHeader
from ich3d.dicom.files import open_large, read_small
from ich3d.dicom.headers.deflated import inflated
from ich3d.dicom.headers.elements import InvalidHeader
from ich3d.dicom.pixels.decode import FrameSource, decode, open_frames
from ich3d.dicom.pixels.native import DecoderError, Frame, native_frame

_BODY_HU: Final = (-100, 0, 40, 1000)
"""HU of fat, water, brain and bone: a range of padding that holds one of them is none."""

MIN_FILL_SHARE: Final = 0.01
"""A background that is filled takes more of a slice."""


@dataclass(frozen=True)
class StoredValues:
    """The stored values of one slice.

    Attributes:
        values: stored values (Y, X), integers; they may be a view of the bytes of the file.
        is_padding: bool (Y, X), the pixels that the file declares as padding; None where it
            declares no padding value.
        n_stray: how many pixels hold data in bits of their cell that BitsStored calls unused.
        ignored_limit: whether PixelPaddingRangeLimit was ignored, because the range holds HU of
            the body.
        deviation: how the file breaks the rules of its encoding although its pixels are exact;
            empty where it does not.
    """

    values: np.ndarray
    is_padding: np.ndarray | None
    n_stray: int = 0
    ignored_limit: bool = False
    deviation: str = ""


def read_slice(header: SliceHeader) -> StoredValues | Issue:
    """Decode one slice. An issue, which names its file, where its pixels cannot be read."""
    return next(read_slices([header]))


def read_slices(headers: Sequence[SliceHeader]) -> Iterator[StoredValues | Issue]:
    """Decode slices in their order; a file is opened once for the frames that follow each other.

    Frames of a multi-frame file are read one at a time.
    """
    for file, slices in groupby(headers, key=lambda header: header.file):
        with ExitStack() as opened:
            source = _open(file, opened)
            for header in slices:
                yield source if isinstance(source, Issue) else _decode_slice(source, header)


def _open(file: FileRef, opened: ExitStack) -> Frame | FrameSource | Issue:
    """The only frame of an ordinary file, or the frames to decode; `opened` keeps the file open."""
    try:
        content = read_small(file)
        if content is None:
            stream, size = opened.enter_context(open_large(file))
        else:
            frame = native_frame(content)
            if frame is not None:
                return frame
            stream, size = BytesIO(content), len(content)
        plain, plain_bytes, _ = opened.enter_context(inflated(stream, size))
        return open_frames(plain, plain_bytes)
    except OSError as error:
        # The operating system numbers its errors; a broken zip has no number.
        code = IssueCode.UNREADABLE if error.errno else IssueCode.UNDECODABLE
        problem = error.strerror
    except (InvalidHeader, DecoderError) as error:
        code, problem = IssueCode.UNDECODABLE, str(error)
    # pydicom may raise anything on damaged bytes. Whatever it is, there are no pixels.
    except Exception:
        code, problem = IssueCode.UNDECODABLE, "its header is damaged"
    return Issue(code, f"{file.name}: PixelData (7FE0,0010) cannot be read: {problem}")


def _decode_slice(source: Frame | FrameSource, header: SliceHeader) -> StoredValues | Issue:
    """The stored values of one slice from its opened file."""
    subject = f"{header.name}: PixelData (7FE0,0010)"
    try:
        frame = source if isinstance(source, Frame) else decode(source, (header.frame or 1) - 1)
        high, low = _unused_bits(frame, header.bits_stored)
    except DecoderError as error:
        return Issue(IssueCode.UNDECODABLE, f"{subject} cannot be decoded: {error}")
    # pydicom and SimpleITK may raise anything on damaged pixels. Whatever it is, there are none.
    except Exception:
        return Issue(IssueCode.UNDECODABLE, f"{subject} cannot be decoded: it is damaged")

    if frame.cells.shape != (header.rows, header.columns):
        return Issue(IssueCode.UNDECODABLE, f"{subject} decodes to the shape {frame.cells.shape}")
    values = _extract_bits(frame.cells, header.signed, high, low)
    padding = frame.padding
    ignored_limit = len(padding) == 2 and _holds_body(padding, frame.cells.dtype.itemsize, header)
    if ignored_limit:
        padding = padding[:1]
    is_padding = _declared_padding(frame.cells, padding, values)

    n_stray, is_stray = 0, _stray_pixels(frame, high, low)
    if is_stray is not None:
        if is_padding is not None:
            is_stray &= ~is_padding
        n_stray = int(np.count_nonzero(is_stray))
        # One and the same value that needs more bits than there are is the fill of a background.
        stray_cells = frame.cells[is_stray]
        if n_stray > MIN_FILL_SHARE * is_stray.size and np.all(stray_cells == stray_cells[0]):
            is_padding = is_stray if is_padding is None else is_padding | is_stray
            n_stray = 0
    return StoredValues(values, is_padding, n_stray, ignored_limit, frame.deviation)


def _unused_bits(frame: Frame, bits_stored: int) -> tuple[int, int]:
    """How many high and how many low bits of a pixel cell are unused.

    HighBit is BitsStored - 1 by today's standard (PS3.5 8.1.1); older files may use the top bits
    of the cell instead.
    """
    high_bit = bits_stored - 1 if frame.high_bit is None else frame.high_bit
    low = high_bit + 1 - bits_stored
    if not 0 <= low <= frame.bits_allocated - bits_stored:
        raise DecoderError("HighBit (0028,0102) does not fit BitsStored (0028,0101)")
    high = 8 * frame.cells.dtype.itemsize - bits_stored - low
    return high, low


def _extract_bits(cells: np.ndarray, signed: bool, high: int, low: int) -> np.ndarray:
    """Stored values (Y, X) of pixel cells, sign-extended, without the unused bits.

    `high` and `low` count the unused bits at either end of a cell. Where there are none, the result
    is a view of the cells.
    """
    # A decoder may give narrower cells than the header declares: widen them first.
    if high < 0:
        high += 64 - 8 * cells.dtype.itemsize
        cells = cells.astype(np.int64)

    native = cells.astype(cells.dtype.newbyteorder("="), copy=False)
    values = native.view(f"{'i' if signed else 'u'}{native.dtype.itemsize}")
    if high == low == 0:
        return values

    # Shifted to the top and down again, a signed value is filled up with its sign bit.
    values = values << high
    values >>= high + low
    return values


def _stray_pixels(frame: Frame, high: int, low: int) -> np.ndarray | None:
    """Which pixels (Y, X) hold data in the `high` and `low` unused bits of their cells.

    None where these bits are zero, or the same in all pixels, or where the file declares an overlay
    in them. Copies of the sign bit are no data.
    """
    cells = frame.cells.view(f"{frame.cells.dtype.byteorder}u{frame.cells.dtype.itemsize}")
    n_bits = 8 * cells.dtype.itemsize
    if frame.has_overlay_bits or high < 0 or high == low == 0:
        return None
    if low == 0 and cells.max() >> (n_bits - high) == 0:
        return None

    above = cells >> (n_bits - high) if high else np.zeros_like(cells)
    below = cells & ((1 << low) - 1)
    if np.ptp(above) == 0 and np.ptp(below) == 0:
        return None
    sign = cells >> (n_bits - high - 1) & 1
    is_stray: np.ndarray = (above != 0) & (above != sign * ((1 << high) - 1)) | (below != 0)
    return is_stray


def _holds_body(padding: Sequence[int], cell_bytes: int, header: SliceHeader) -> bool:
    """Whether a range of padding holds HU of the body; compared modulo the size of a cell."""
    modulus = 1 << (8 * cell_bytes)
    width = (max(padding) - min(padding)) % modulus
    body = [round((hu - header.intercept) / header.slope) for hu in _BODY_HU]
    return any((value - min(padding)) % modulus <= width for value in body)


def _declared_padding(
    cells: np.ndarray, padding: Sequence[int], values: np.ndarray
) -> np.ndarray | None:
    """Which pixels (Y, X) have the padding value, or lie in its range (PS3.3 C.7.5.1.1.2).

    Files write the padding value as signed or unsigned at will, and with more bits than BitsStored.
    So it is compared modulo the size of the pixel cell, and with the stored values as well.
    """
    if not padding:
        return None
    unsigned = np.dtype(f"u{cells.dtype.itemsize}")
    modulus = 1 << (8 * unsigned.itemsize)
    low, high = min(padding), max(padding)

    def is_within(pixels: np.ndarray) -> np.ndarray:
        above_low = pixels.astype(unsigned, copy=False) - unsigned.type(low % modulus)
        within: np.ndarray = above_low <= unsigned.type((high - low) % modulus)
        return within

    mask = is_within(cells)
    if not np.may_share_memory(cells, values):
        mask |= is_within(values)
    return mask
