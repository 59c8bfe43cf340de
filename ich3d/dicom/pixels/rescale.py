"""From stored values to Hounsfield units: HU = slope * stored + intercept (PS3.3 C.11.1.1.2)."""

from typing import Final

import numpy as np

from ich3d.core.hounsfield import AIR_HU
from ich3d.dicom.pixels.stored import StoredValues

FILL_HU: Final = -2000
"""No air is so low, whatever its noise: it is a fill of the background, also where the file
declares another padding value."""

_INT16: Final = np.iinfo(np.int16)


def to_hu(stored: StoredValues, slope: float, intercept: float) -> tuple[np.ndarray, int]:
    """Rescale one slice to `hu` (Y, X) int16, and count the pixels that were clipped to fit.

    Fractions are rounded half to even. Padding becomes `AIR_HU`, and so does everything up to
    `FILL_HU`. Where the file declares no padding value, everything below `AIR_HU` is taken for
    padding: outside the field of view scanners write -2000 or -3024.
    """
    ends = _whole_ends(stored.values, slope, intercept)
    if ends is None:
        return _rounded_hu(stored, slope, intercept)

    # Every HU is a whole number of 16 bits, so it can be computed modulo 16 bits, which is fast.
    modulus = 1 << 16
    hu = stored.values.astype(np.uint16)
    if slope != 1:
        hu *= np.uint16(int(slope) % modulus)
    if intercept != 0:
        hu += np.uint16(int(intercept) % modulus)
    hu = hu.view(np.int16)
    if stored.is_padding is not None:
        hu[stored.is_padding] = AIR_HU
    # Only where there is something to replace, since a comparison takes as long as the rescale.
    highest_fill = _highest_fill(stored)
    if min(ends) <= highest_fill:
        hu[hu <= highest_fill] = AIR_HU
    return hu, 0


def _rounded_hu(stored: StoredValues, slope: float, intercept: float) -> tuple[np.ndarray, int]:
    """`to_hu` for any slope, intercept and range."""
    hu = np.rint(stored.values * slope + intercept)
    if stored.is_padding is not None:
        hu[stored.is_padding] = AIR_HU
    hu[hu <= _highest_fill(stored)] = AIR_HU
    n_clipped = int(np.count_nonzero(hu > _INT16.max))
    return np.minimum(hu, _INT16.max).astype(np.int16), n_clipped


def _highest_fill(stored: StoredValues) -> int:
    """HU up to which everything is a fill of the background."""
    return AIR_HU - 1 if stored.is_padding is None else FILL_HU


def _whole_ends(values: np.ndarray, slope: float, intercept: float) -> tuple[int, int] | None:
    """HU of the smallest and largest value, where every HU is whole and fits into 16 bits."""
    if not (slope.is_integer() and intercept.is_integer()):
        return None
    low, high = (int(value) * int(slope) + int(intercept) for value in (values.min(), values.max()))
    fits = _INT16.min <= min(low, high) and max(low, high) <= _INT16.max
    return (low, high) if fits else None
