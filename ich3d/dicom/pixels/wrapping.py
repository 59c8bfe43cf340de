"""Signed values that were written as unsigned ones: how to recognize and mend them.

Some images of the RSNA 2019 data hold HU as 12-bit two's complement, while PixelRepresentation says
unsigned: -1000 HU is stored as 3096. Entrants of that challenge shared a rule for every image with
BitsStored 12, PixelRepresentation 0 and an intercept above -100: add 1000, wrap at 4096, subtract
1000. It ruins honest images with such a header, so here the pixels decide. It also leaves the
darkest air, -1024 to -1001 HU, at +3072 to +3095; here every value from 3072 on is negative.

The same happens with 16 bits, where -1000 is stored as 64536. No CT measures 32768 HU and more.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from ich3d.core.types import SliceHeader
from ich3d.dicom.pixels.stored import StoredValues

WRAPPED_BITS: Final = (12, 16)
"""BitsStored of images in which wrapped values were seen."""

LOWEST_HU: Final = -1024
"""HU from here to 3071 can be recovered: what scanners give is no lower."""

MIN_INTERCEPT: Final = -100
"""12-bit images with a lower intercept, usually -1024, hold unsigned values, as the header says."""

WRAPPED_AIR_START: Final = 3072
DENSE_BONE_START: Final = 2048
MIN_AIR_SHARE: Final = 0.05
MIN_AIR_TO_BONE: Final = 1.5
"""What shows that 12-bit values are wrapped: stored values, a share of all pixels, a ratio of two
counts."""

SIGN_BIT: Final = 1 << 15
"""The lowest negative value of 16 bits, read as unsigned."""

NEAR_ZERO_START: Final = (1 << 16) - 4096
MIN_NEGATIVE_SHARE: Final = 0.001
MIN_EXPECTED_SHARE: Final = 0.99
"""The same for 16 bits: a stored value, a share of all pixels, and one of those with SIGN_BIT."""


def may_be_wrapped(header: SliceHeader, values: np.ndarray) -> bool:
    """Whether the stored values (Y, X) of a slice may be wrapped; those of all slices decide.

    With 12 bits this depends on the header alone, with 16 also on values beyond what CT measures.
    A slope other than 1 may bring such values back to HU.
    """
    if header.signed or header.slope != 1:
        return False
    if header.bits_stored == 12:
        return header.intercept > MIN_INTERCEPT
    return header.bits_stored == 16 and bool(values.max() >= SIGN_BIT)


def looks_wrapped(values: Sequence[np.ndarray], bits: int) -> bool:
    """Whether the stored values (Y, X) of slices that `may_be_wrapped` are wrapped.

    `bits` is their BitsStored, 12 or 16.
    """
    return _looks_wrapped_12(values) if bits == 12 else _looks_wrapped_16(values)


def unwrap(stored: StoredValues, bits: int) -> StoredValues:
    """Wrapped values as the signed ones that they stand for.

    With 12 bits these are HU from -1024 to 3071, with 16 all values from -32768 to 32767.
    """
    lowest = LOWEST_HU if bits == 12 else -SIGN_BIT
    signed = (stored.values.astype(np.int32) - lowest) % (1 << bits) + lowest
    return replace(stored, values=signed)


def _looks_wrapped_12(values: Sequence[np.ndarray]) -> bool:
    """The evidence is air, which every head CT shows.

    Wrapped air is stored as 3072 to 4095, where an honest image has nothing but metal. So the
    values are wrapped where at least 5 % of all pixels are in that range, and clearly more than in
    2048 to 3071, which holds the densest bone.
    """
    n_air = sum(int(np.count_nonzero(pixels >= WRAPPED_AIR_START)) for pixels in values)
    n_dense = sum(int(np.count_nonzero(pixels >= DENSE_BONE_START)) for pixels in values)
    n_bone = n_dense - n_air
    n_pixels = sum(pixels.size for pixels in values)
    return n_air >= MIN_AIR_SHARE * n_pixels and n_air > MIN_AIR_TO_BONE * n_bone


def _looks_wrapped_16(values: Sequence[np.ndarray]) -> bool:
    """The evidence is values near the upper end, which are negative ones near zero.

    At least one pixel in a thousand has the sign bit, and nearly all of these are, read as signed,
    above -4096, as air and the usual fills are, or the lowest value of all, which is a fill too.
    """
    n_negative = sum(int(np.count_nonzero(pixels >= SIGN_BIT)) for pixels in values)
    n_expected = sum(
        int(np.count_nonzero((pixels >= NEAR_ZERO_START) | (pixels == SIGN_BIT)))
        for pixels in values
    )
    n_pixels = sum(pixels.size for pixels in values)
    is_frequent = n_negative >= MIN_NEGATIVE_SHARE * n_pixels
    return is_frequent and n_expected >= MIN_EXPECTED_SHARE * n_negative
