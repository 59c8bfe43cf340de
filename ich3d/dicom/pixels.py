"""Stored pixel values of one file, and their HU. Everything a vendor does differently ends here.

Stored values follow PS3.3 C.7.6.3.1 and PS3.5 8.1.1: BitsStored bits below and including HighBit, two's
complement where PixelRepresentation is 1; HU = slope * stored + intercept (PS3.3 C.11.1.1.2).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
from pydicom.dataset import FileDataset

from ich3d.core.codes import Code
from ich3d.core.types import FileRef, Reason, SliceHeader
from ich3d.dicom.decode import dataset, decode
from ich3d.dicom.files import content
from ich3d.dicom.native import DecoderError, Image, native_image

AIR_HU: Final = -1024
"""What padding becomes, and the floor of a file that names no padding value."""

WRAP: Final = 4096
WRAP_SHIFT: Final = 1000
WRAP_INTERCEPT: Final = -100
WRAP_SHARE: Final = 0.05
WRAP_RATIO: Final = 1.5


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
        code = Code.UNREADABLE if error.errno else Code.UNDECODABLE  # a zip that is broken gives no number
        problem = error.strerror
    except Exception as error:  # pydicom on foreign bytes: whatever it raises, there are no pixels
        code, problem = Code.UNDECODABLE, type(error).__name__
    return Reason(code, f"{file.name}: PixelData (7FE0,0010) cannot be read ({problem})")


def _stored(pixels: Image | FileDataset, header: SliceHeader) -> Stored | Reason:
    subject = f"{header.name}: PixelData (7FE0,0010)"
    try:
        image = pixels if isinstance(pixels, Image) else decode(pixels, (header.frame or 1) - 1)
        above, below = _unused_bits(image, header.bits_stored)
    except DecoderError as error:
        return Reason(Code.UNDECODABLE, f"{subject} cannot be decoded: {error}")
    except Exception as error:  # two decoders on foreign bytes: whatever they raise, there are no pixels
        return Reason(Code.UNDECODABLE, f"{subject} cannot be decoded ({type(error).__name__})")
    if image.container.shape != (header.rows, header.columns):
        return Reason(Code.UNDECODABLE, f"{subject} decodes to the shape {image.container.shape}")
    values = _stored_bits(image.container, header.signed, above, below)
    return Stored(values, _is_padding(image, values))


def to_hu(stored: Stored, slope: float, intercept: float) -> tuple[np.ndarray, int]:
    """HU int16 (Y, X), and how many pixels had to be clipped to fit.

    A fractional result is rounded half to even. Padding becomes -1024; where the file declares none, so
    does everything below it (outside the field of view scanners write -2000 or -3024).
    """
    if not _is_whole_and_fits(stored.values, slope, intercept):
        return _rounded_hu(stored, slope, intercept)
    span = 1 << 16  # what fits into 16 bits may be reckoned modulo 16 bits
    hu = stored.values.astype(np.uint16)
    if slope != 1:
        hu *= np.uint16(int(slope) % span)
    hu += np.uint16(int(intercept) % span)
    hu = hu.view(np.int16)
    hu[hu < AIR_HU if stored.padding is None else stored.padding] = AIR_HU
    return hu, 0


def _is_whole_and_fits(values: np.ndarray, slope: float, intercept: float) -> bool:
    """Whether every value has a whole HU that fits into 16 bits."""
    if not (slope.is_integer() and intercept.is_integer()):
        return False
    ends = [int(end) * int(slope) + int(intercept) for end in (values.min(), values.max())]
    limits = np.iinfo(np.int16)
    return bool(limits.min <= min(ends) and max(ends) <= limits.max)


def _rounded_hu(stored: Stored, slope: float, intercept: float) -> tuple[np.ndarray, int]:
    """`to_hu` for any slope, intercept and range."""
    hu = np.rint(stored.values * slope + intercept)
    hu[hu < AIR_HU if stored.padding is None else stored.padding] = AIR_HU
    limits = np.iinfo(np.int16)
    clipped = int(np.count_nonzero((hu < limits.min) | (hu > limits.max)))
    return np.clip(hu, limits.min, limits.max).astype(np.int16), clipped


def may_be_wrapped(header: SliceHeader) -> bool:
    """Whether the header is one of those whose 12-bit values may be two's complement in disguise.

    In the RSNA 2019 data some images hold signed HU with BitsStored 12, PixelRepresentation 0 and an
    intercept near 0, so that -1000 reads 3096. The public rule looks at these three alone.
    """
    return (
        header.bits_stored == 12
        and not header.signed
        and header.slope == 1
        and header.intercept > WRAP_INTERCEPT
    )


def looks_wrapped(stored: list[np.ndarray]) -> bool:
    """Whether 12-bit values of slices that `may_be_wrapped` are wrapped HU.

    The header does not decide it: values that start at 0 with an intercept of 0 are as lawful, and the
    public rule would ruin them. The evidence is air. Every head CT shows some, and wrapped it lies in
    3072..4095, where an honest image has nothing but metal: so wrapped means that at least 5 % of all
    pixels lie there, and clearly more than in 2048..3071, the densest bone, which honest values pass.
    """
    top = sum(int(np.count_nonzero(values >= 3072)) for values in stored)
    below = sum(int(np.count_nonzero((values >= 2048) & (values < 3072))) for values in stored)
    total = sum(values.size for values in stored)
    return top >= WRAP_SHARE * total and top > WRAP_RATIO * below


def unwrapped(stored: Stored) -> Stored:
    """Wrapped values as the HU they stand for: add 1000, wrap at 4096, take 1000 off again.

    Source: the rule that RSNA 2019 entrants share; -1000 HU is the lowest value it gives back.
    """
    return Stored((stored.values.astype(np.int32) + WRAP_SHIFT) % WRAP - WRAP_SHIFT, stored.padding)


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
