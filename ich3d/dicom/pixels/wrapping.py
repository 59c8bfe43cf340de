"""Signed 12-bit values that were written as unsigned ones: how to recognize and mend them.

Some images of the RSNA 2019 data hold HU as 12-bit two's complement, while PixelRepresentation says
unsigned: -1000 HU is stored as 3096. Entrants of that challenge shared a rule for every image with
BitsStored 12, PixelRepresentation 0 and an intercept above -100: add 1000, wrap at 4096, subtract
1000. It ruins honest images with such a header, so here the pixels decide. It also leaves the
darkest air, -1024 to -1001 HU, at +3072 to +3095; here every value from 3072 on is negative.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from ich3d.core.types import SliceHeader
from ich3d.dicom.pixels.stored import StoredValues

MODULUS: Final = 4096
"""Number of 12-bit values."""

LOWEST_HU: Final = -1024
"""HU from here to 3071 can be recovered: what scanners give is no lower."""

MIN_INTERCEPT: Final = -100
"""Images with a lower intercept, usually -1024, hold unsigned values, as their header says."""

WRAPPED_AIR_START: Final = 3072
DENSE_BONE_START: Final = 2048
MIN_AIR_SHARE: Final = 0.05
MIN_AIR_TO_BONE: Final = 1.5
"""What `looks_wrapped` compares: stored values, a share of all pixels, a ratio of two counts."""


def may_be_wrapped(header: SliceHeader) -> bool:
    """Whether the header is of the kind that was written with wrapped values; the pixels decide."""
    return (
        header.bits_stored == 12
        and not header.signed
        and header.slope == 1
        and header.intercept > MIN_INTERCEPT
    )


def looks_wrapped(values: Sequence[np.ndarray]) -> bool:
    """Whether the stored values (Y, X) of slices that `may_be_wrapped` are wrapped HU.

    The evidence is air, which every head CT shows. Wrapped air is stored as 3072 to 4095, where an
    honest image has nothing but metal. So the values are wrapped where at least 5 % of all pixels
    are in that range, and clearly more than in 2048 to 3071, which holds the densest bone.
    """
    n_air = sum(int(np.count_nonzero(pixels >= WRAPPED_AIR_START)) for pixels in values)
    n_dense = sum(int(np.count_nonzero(pixels >= DENSE_BONE_START)) for pixels in values)
    n_bone = n_dense - n_air
    n_pixels = sum(pixels.size for pixels in values)
    return n_air >= MIN_AIR_SHARE * n_pixels and n_air > MIN_AIR_TO_BONE * n_bone


def unwrap(stored: StoredValues) -> StoredValues:
    """Wrapped values as the HU from -1024 to 3071 that they stand for."""
    hu = (stored.values.astype(np.int32) - LOWEST_HU) % MODULUS + LOWEST_HU
    return StoredValues(hu, stored.is_padding)
