"""Stored pixel values of one file, and their HU. Everything a vendor does differently ends here.

Stored values follow PS3.3 C.7.6.3.1 and PS3.5 8.1.1: BitsStored bits below and including HighBit, two's
complement where PixelRepresentation is 1; HU = slope * stored + intercept (PS3.3 C.11.1.1.2).
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset

from ich3d.core.codes import Code
from ich3d.core.types import FileRef, Reason, SliceHeader
from ich3d.dicom.decode import PIXEL_KEYWORDS, decode
from ich3d.dicom.files import whole

AIR_HU: Final = -1024
"""What padding becomes, and the floor of a file that names no padding value."""

WRAP: Final = 4096
WRAP_SHIFT: Final = 1000
WRAP_INTERCEPT: Final = -100
WRAP_SHARE: Final = 0.05
WRAP_RATIO: Final = 1.5

_PADDING_KEYWORDS: Final = ("PixelPaddingValue", "PixelPaddingRangeLimit")


@dataclass(frozen=True)
class Stored:
    """Stored values int64 (Y, X); `padding` bool (Y, X) marks the pixels that the file declares to be
    padding, None where it declares none."""

    values: np.ndarray
    padding: np.ndarray | None


def read_stored(header: SliceHeader) -> Stored | Reason:
    """The stored values of the slice, or why its pixels cannot be had."""
    return next(read_each([header]))


def read_each(headers: Sequence[SliceHeader]) -> Iterator[Stored | Reason]:
    """What `read_stored` says of each slice; frames that follow each other from one file open it once."""
    for file, slices in groupby(headers, key=lambda header: header.file):
        ds = _dataset(file)
        for header in slices:
            yield ds if isinstance(ds, Reason) else _stored(ds, header)


def _dataset(file: FileRef) -> FileDataset | Reason:
    subject = f"{file.name.name}: PixelData (7FE0,0010)"
    try:
        with warnings.catch_warnings(), whole(file) as stream:
            warnings.simplefilter("ignore")  # remarks on values that do not touch the pixels
            return pydicom.dcmread(stream, force=True, specific_tags=[*PIXEL_KEYWORDS, *_PADDING_KEYWORDS])
    except OSError as error:
        return Reason(Code.UNDECODABLE, f"{subject} cannot be read ({error.strerror})")
    except Exception as error:  # pydicom on foreign bytes
        return Reason(Code.UNDECODABLE, f"{subject} cannot be read ({type(error).__name__})")


def _stored(ds: FileDataset, header: SliceHeader) -> Stored | Reason:
    name = header.path.name if header.frame is None else f"{header.path.name} frame {header.frame}"
    subject = f"{name}: PixelData (7FE0,0010)"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on values that do not touch the pixels
            container = decode(ds, (header.frame or 1) - 1)
            padding = [int(ds[key].value) for key in _PADDING_KEYWORDS if ds.get(key) not in (None, "")]
            shift = _unused_low_bits(ds, header.bits_stored)
    except Exception as error:  # two decoders on foreign bytes: whatever they raise, there are no pixels
        return Reason(Code.UNDECODABLE, f"{subject} cannot be decoded ({type(error).__name__})")
    if container.shape != (header.rows, header.columns):
        return Reason(Code.UNDECODABLE, f"{subject} decodes to the shape {container.shape}")
    values = _stored_bits(container, header, shift)
    return Stored(values, _is_padding(container, values, padding))


def to_hu(stored: Stored, slope: float, intercept: float) -> tuple[np.ndarray, int]:
    """HU int16 (Y, X), and how many pixels had to be clipped to fit.

    A fractional result is rounded half to even. Padding becomes -1024; where the file declares none, so
    does everything below it (outside the field of view scanners write -2000 or -3024).
    """
    hu = np.rint(stored.values * slope + intercept)
    padding = hu < AIR_HU if stored.padding is None else stored.padding
    hu[padding] = AIR_HU
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
    return Stored((stored.values + WRAP_SHIFT) % WRAP - WRAP_SHIFT, stored.padding)


def _unused_low_bits(ds: Dataset, bits_stored: int) -> int:
    """How many bits lie below the stored ones. HighBit is BitsStored - 1 by the standard (PS3.5 8.1.1);
    older files used it to store at the top of the container."""
    shift = int(ds.get("HighBit", bits_stored - 1)) + 1 - bits_stored
    if not 0 <= shift <= ds.BitsAllocated - bits_stored:
        raise ValueError("HighBit (0028,0102) does not fit BitsStored (0028,0101)")
    return shift


def _stored_bits(container: np.ndarray, header: SliceHeader, shift: int) -> np.ndarray:
    """Stored values int64 (Y, X) out of their containers: masked to BitsStored, sign-extended."""
    bits = header.bits_stored
    values = (container.astype(np.int64) >> shift) & ((1 << bits) - 1)
    if header.signed:
        values -= (values >> (bits - 1)) << bits
    return values


def _is_padding(container: np.ndarray, values: np.ndarray, padding: list[int]) -> np.ndarray | None:
    """Which pixels hold the padding value, or lie between it and the range limit (PS3.3 C.7.5.1.1.2).

    Files write the value as unsigned or signed at will, and beyond BitsStored: it is compared modulo
    the container, and with the stored value as well.
    """
    if not padding:
        return None
    span = 1 << (8 * container.dtype.itemsize)
    found = np.zeros(values.shape, dtype=bool)
    low, high = min(padding), max(padding)
    for pixels in (container.astype(np.int64), values):
        found |= (pixels - low) % span <= (high - low) % span
    return found
