"""TODO."""

from typing import Final

import numpy as np

from ich3d.dicom.pixels.stored import Stored

AIR_HU: Final = -1024
"""What padding becomes, and the floor of a file that names no padding value."""


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
