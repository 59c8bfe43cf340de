"""From stored values to Hounsfield units: HU = slope * stored + intercept (PS3.3 C.11.1.1.2)."""

from typing import Final

import numpy as np

from ich3d.core.hounsfield import AIR_HU
from ich3d.dicom.pixels.stored import StoredValues

_INT16: Final = np.iinfo(np.int16)


def to_hu(stored: StoredValues, slope: float, intercept: float) -> tuple[np.ndarray, int]:
    """Rescale one slice to `hu` (Y, X) int16, and count the pixels that were clipped to fit.

    Fractions are rounded half to even. Padding becomes `AIR_HU`. Where the file declares no padding
    value, everything below `AIR_HU` is taken for padding: outside the field of view scanners write
    -2000 or -3024.
    """
    if not _is_whole_and_fits(stored.values, slope, intercept):
        return _rounded_hu(stored, slope, intercept)

    # Every HU is a whole number of 16 bits, so it can be computed modulo 16 bits, which is fast.
    modulus = 1 << 16
    hu = stored.values.astype(np.uint16)
    if slope != 1:
        hu *= np.uint16(int(slope) % modulus)
    hu += np.uint16(int(intercept) % modulus)
    hu = hu.view(np.int16)
    hu[_outside_field_of_view(stored, hu)] = AIR_HU
    return hu, 0


def _rounded_hu(stored: StoredValues, slope: float, intercept: float) -> tuple[np.ndarray, int]:
    """`to_hu` for any slope, intercept and range."""
    hu = np.rint(stored.values * slope + intercept)
    hu[_outside_field_of_view(stored, hu)] = AIR_HU
    n_clipped = int(np.count_nonzero((hu < _INT16.min) | (hu > _INT16.max)))
    return np.clip(hu, _INT16.min, _INT16.max).astype(np.int16), n_clipped


def _is_whole_and_fits(values: np.ndarray, slope: float, intercept: float) -> bool:
    """Whether every value has a whole HU that fits into 16 bits."""
    if not (slope.is_integer() and intercept.is_integer()):
        return False
    ends = [int(value) * int(slope) + int(intercept) for value in (values.min(), values.max())]
    return bool(_INT16.min <= min(ends) and max(ends) <= _INT16.max)


def _outside_field_of_view(stored: StoredValues, hu: np.ndarray) -> np.ndarray:
    """Which pixels (Y, X) are outside: the declared padding, or else everything below air."""
    mask: np.ndarray = hu < AIR_HU if stored.is_padding is None else stored.is_padding
    return mask
