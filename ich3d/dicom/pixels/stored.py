"""Stored pixel values of one file, and their HU. Everything a vendor does differently ends here.

Stored values follow PS3.3 C.7.6.3.1 and PS3.5 8.1.1: BitsStored bits below and including HighBit, two's
complement where PixelRepresentation is 1; HU = slope * stored + intercept (PS3.3 C.11.1.1.2).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from pydicom.dataset import FileDataset

from ich3d.core.issues import IssueCode
from ich3d.core.types import FileRef, Reason, SliceHeader
from ich3d.dicom.files import content
from ich3d.dicom.pixels.decode import dataset, decode
from ich3d.dicom.pixels.native import DecoderError, Image, native_image


@dataclass(frozen=True)
class Stored:
    """Stored values, whole numbers (Y, X); `padding` bool (Y, X) marks the pixels that the file declares
    to be padding, None where it declares none."""

    values: np.ndarray
    padding: np.ndarray | None


def read_stored(header: SliceHeader) -> Stored | Reason:
    """The stored values of the slice, or why its pixels cannot be had."""
    return next(read_each([header]))


def read_each(headers: Sequence[SliceHeader]) -> Iterator[Stored | Reason]:
    """What `read_stored` says of each slice; frames that follow each other in one file read it once."""
    for file, slices in groupby(headers, key=lambda header: header.file):
        pixels = _open(file)
        for header in slices:
            yield pixels if isinstance(pixels, Reason) else _stored(pixels, header)


def _open(file: FileRef) -> Image | FileDataset | Reason:
    """The one image of an ordinary file, or a dataset whose frames are to be decoded."""
    try:
        found = content(file)
        return native_image(found) or dataset(found)
    except OSError as error:
        code = (
            IssueCode.UNREADABLE if error.errno else IssueCode.UNDECODABLE
        )  # a zip that is broken gives no number
        problem = error.strerror
    except Exception as error:  # pydicom on foreign bytes: whatever it raises, there are no pixels
        code, problem = IssueCode.UNDECODABLE, type(error).__name__
    return Reason(code, f"{file.name}: PixelData (7FE0,0010) cannot be read ({problem})")


def _stored(pixels: Image | FileDataset, header: SliceHeader) -> Stored | Reason:
    subject = f"{header.name}: PixelData (7FE0,0010)"
    try:
        image = pixels if isinstance(pixels, Image) else decode(pixels, (header.frame or 1) - 1)
        above, below = _unused_bits(image, header.bits_stored)
    except DecoderError as error:
        return Reason(IssueCode.UNDECODABLE, f"{subject} cannot be decoded: {error}")
    except (
        Exception
    ) as error:  # two decoders on foreign bytes: whatever they raise, there are no pixels
        return Reason(
            IssueCode.UNDECODABLE, f"{subject} cannot be decoded ({type(error).__name__})"
        )
    if image.container.shape != (header.rows, header.columns):
        return Reason(
            IssueCode.UNDECODABLE, f"{subject} decodes to the shape {image.container.shape}"
        )
    values = _stored_bits(image.container, header.signed, above, below)
    return Stored(values, _is_padding(image, values))


def _unused_bits(image: Image, bits_stored: int) -> tuple[int, int]:
    """How many bits lie above and below the stored ones. HighBit is BitsStored - 1 by the standard
    (PS3.5 8.1.1); older files used it to store at the top of the container."""
    high_bit = bits_stored - 1 if image.high_bit is None else image.high_bit
    below = high_bit + 1 - bits_stored
    if not 0 <= below <= image.bits_allocated - bits_stored:
        raise DecoderError("HighBit (0028,0102) does not fit BitsStored (0028,0101)")
    return 8 * image.container.dtype.itemsize - bits_stored - below, below


def _stored_bits(container: np.ndarray, signed: bool, above: int, below: int) -> np.ndarray:
    """Stored values (Y, X) out of their containers, without the unused bits and sign-extended; where
    all bits are used they are the containers themselves."""
    if above < 0:  # the decoder found narrower pixels than the header tells of
        container, above = container.astype(np.int64), above + 64 - 8 * container.dtype.itemsize
    native = container.astype(container.dtype.newbyteorder("="), copy=False)
    values = native.view(f"{'i' if signed else 'u'}{native.dtype.itemsize}")
    if above == below == 0:
        return values
    values = values << above
    values >>= above + below
    return values


def _is_padding(image: Image, values: np.ndarray) -> np.ndarray | None:
    """Which pixels hold the padding value, or lie between it and the range limit (PS3.3 C.7.5.1.1.2).

    Files write the value as unsigned or signed at will, and beyond BitsStored: it is compared modulo
    the container, and with the stored value as well.
    """
    if not image.padding:
        return None
    container = image.container
    unsigned = np.dtype(f"u{container.dtype.itemsize}")
    span = 1 << (8 * unsigned.itemsize)
    low, high = min(image.padding), max(image.padding)

    def within(pixels: np.ndarray) -> np.ndarray:
        above_low = pixels.astype(unsigned, copy=False) - unsigned.type(low % span)
        inside: np.ndarray = above_low <= unsigned.type((high - low) % span)
        return inside

    found = within(container)
    if not np.may_share_memory(container, values):
        found |= within(values)
    return found
