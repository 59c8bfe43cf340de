"""Which pixels of a prepared slice lie inside the skull: brain, its fluid, and blood.

No other slice is looked at, so that a single slice counts as it would in its series.
"""

from functools import cache
from typing import Final

import numpy as np
from scipy import ndimage

from ich3d.core.hounsfield import AIR_HU
from ich3d.prepare.bit_grid import BitGrid, at_least

BONE_HU: Final = 160
"""Bone is above; clotted blood stays below 100 HU, and enhanced vessels mostly below 160."""

SOFT_HU: Final = (-20, 110)
"""HU of what fills the skull, after smoothing: fluid with noise at one end, clots at the other."""

SMOOTHING_MM: Final = 1.0
"""SD of the Gaussian that takes noise from HU before they are compared with a limit."""

AIR_BELOW_HU: Final = -200
"""Air, and what a pixel takes in of it, is below; fat is above."""

MIN_SOFT_WEIGHT: Final = 0.1
"""Share of a smoothed pixel's Gaussian that must be soft for the pixel to have a value."""

MIN_DIRECTIONS: Final = 6
"""Of eight directions in plane, in so many bone must come for a pixel to lie inside the skull. With
a third of the skull removed half of the brain still does. With five, the features of much of the
face are taken in, and they rank CT-ICH's slices worse.
"""

OPENING_MM: Final = 4.0
"""Radius of the opening that removes what only leaks through gaps of the skull."""

MIN_PIECE_CM2: Final = 2.0
"""Smallest area of a connected piece; fingers and the soft parts of teeth are smaller."""

_TISSUE_HU: Final = -300
_BODY_STEP: Final = 2
_BODY_OPENING_MM: Final = 6.0


def intracranial_mask(image: np.ndarray, pixel_mm: float) -> np.ndarray:
    """The pixels of a slice inside the skull that are neither bone nor air, bool (H, W).

    Args:
        image: Hounsfield units on the model's grid, int16 (H, W).
        pixel_mm: distance between its pixels in mm.
    """
    mask = np.zeros(image.shape, dtype=bool)
    body = _largest_body(image, pixel_mm)
    if body is None:
        return mask

    radius_px = OPENING_MM / pixel_mm
    height, width = image.shape
    grid = BitGrid(height, width, margin=max(1, int(radius_px)))
    bone = grid.pack((image > BONE_HU) & body)
    enclosed = at_least(MIN_DIRECTIONS, grid.shadows(bone), grid)
    beside_bone = grid.dilated(bone, 1)  # such pixels take in some bone

    box = bounding_box(body)
    low, high = SOFT_HU
    soft = smoothed(image[box], pixel_mm)
    mask[box] = (soft > low) & (soft < high)
    inside = grid.pack(mask) & enclosed & ~beside_bone

    opened = grid.unpack(grid.opened(inside, radius_px))
    pieces, count = ndimage.label(opened)
    if count == 0:
        return opened
    piece_cm2 = np.bincount(pieces.ravel()) * pixel_mm**2 / 100
    is_large = piece_cm2 >= MIN_PIECE_CM2
    is_large[0] = False  # the background
    return np.asarray(is_large[pieces])


def smoothed(image: np.ndarray, pixel_mm: float) -> np.ndarray:
    """One slice (H, W) with less noise, float32 HU; bone and air do not leak into what they touch.

    Each pixel is a mean under a Gaussian of the soft pixels around it; air, where there are none.
    """
    is_soft = (image <= BONE_HU) & (image > AIR_BELOW_HU)
    total, weight = gaussian_sums(image, is_soft, SMOOTHING_MM / pixel_mm)
    mean = total / weight.clip(min=MIN_SOFT_WEIGHT)
    return np.asarray(np.where(weight < MIN_SOFT_WEIGHT, np.float32(AIR_HU), mean))


def gaussian_sums(
    values: np.ndarray, mask: np.ndarray, sigma_px: float
) -> tuple[np.ndarray, np.ndarray]:
    """Sums under a Gaussian of the values (H, W) in a mask (H, W), and of the mask, float32.

    Those of `ndimage.gaussian_filter`; both are filtered in one go.
    """
    both = np.stack([np.where(mask, values, 0), mask]).astype(np.float32)  # (2, H, W)
    kernel = _gaussian_kernel(sigma_px)
    for axis in (1, 2):
        ndimage.correlate1d(both, kernel, axis, output=both)
    return both[0], both[1]


def bounding_box(mask: np.ndarray) -> tuple[slice, slice]:
    """The smallest box around the pixels of a mask (H, W) that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


@cache
def _gaussian_kernel(sigma_px: float) -> np.ndarray:
    """The weights of `ndimage.gaussian_filter1d`, which reach over four SDs to either side."""
    reach = int(4 * sigma_px + 0.5)
    weights = np.exp(-0.5 / (sigma_px * sigma_px) * np.arange(-reach, reach + 1) ** 2)
    return np.asarray(weights / weights.sum())


def _largest_body(image: np.ndarray, pixel_mm: float) -> np.ndarray | None:
    """The largest piece of tissue in a slice, bool (H, W): the head without hands and table.

    None where there is no tissue wider than a table top.
    """
    coarse = image[::_BODY_STEP, ::_BODY_STEP] > _TISSUE_HU
    opening_px = _BODY_OPENING_MM / (_BODY_STEP * pixel_mm)
    grid = BitGrid(len(coarse), len(coarse[0]), margin=int(2 * opening_px))
    opened = grid.unpack(grid.opened(grid.pack(coarse), opening_px))
    pieces, count = ndimage.label(opened)
    if count == 0:
        return None
    largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))

    # The opening rounded the body off: take back what lies within twice its radius.
    body = grid.unpack(grid.dilated(grid.pack(pieces == largest), 2 * opening_px))
    height, width = image.shape
    fine = body.repeat(_BODY_STEP, axis=0).repeat(_BODY_STEP, axis=1)
    return np.asarray(fine[:height, :width])
