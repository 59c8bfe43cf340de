"""Which pixels of a prepared series lie inside the skull: brain, its fluid, and blood.

Each slice is judged alone, so that a single slice counts as it would in its series.
"""

from typing import Final

import numpy as np
from scipy import ndimage

from ich3d.core.hounsfield import AIR_HU

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


def intracranial_mask(hu: np.ndarray, pixel_mm: float) -> np.ndarray:
    """The pixels inside the skull that are neither bone nor air, bool (Z, H, W).

    Args:
        hu: Hounsfield units on the model's grid, int16 (Z, H, W).
        pixel_mm: distance between its pixels in mm.
    """
    masks = [_slice_mask(image, pixel_mm) for image in hu]
    return np.array(masks, dtype=bool).reshape(hu.shape)


def smoothed(image: np.ndarray, pixel_mm: float) -> np.ndarray:
    """One slice (H, W) with less noise, float32 HU; bone and air do not leak into what they touch.

    Each pixel is a mean under a Gaussian of the soft pixels around it; air, where there are none.
    """
    is_soft = (image <= BONE_HU) & (image > AIR_BELOW_HU)
    sigma_px = SMOOTHING_MM / pixel_mm
    total = ndimage.gaussian_filter(np.where(is_soft, image, 0).astype(np.float32), sigma_px)
    weight = ndimage.gaussian_filter(is_soft.astype(np.float32), sigma_px)
    mean = total / weight.clip(min=MIN_SOFT_WEIGHT)
    return np.asarray(np.where(weight < MIN_SOFT_WEIGHT, np.float32(AIR_HU), mean))


def disk(radius_px: float) -> np.ndarray:
    """A disk for morphology in plane, bool (2 r + 1, 2 r + 1)."""
    reach = int(radius_px)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.asarray(np.hypot(rows, columns) <= radius_px)


def _slice_mask(image: np.ndarray, pixel_mm: float) -> np.ndarray:
    """The mask (H, W) of one slice (H, W)."""
    mask = np.zeros(image.shape, dtype=bool)
    body = _largest_body(image, pixel_mm)
    if body is None:
        return mask

    box = ndimage.find_objects(body.astype(np.int8))[0]
    hu, body = image[box], body[box]
    bone = (hu > BONE_HU) & body
    low, high = SOFT_HU
    soft = smoothed(hu, pixel_mm)
    is_enclosed = _directions_with_bone(bone) >= MIN_DIRECTIONS
    beside_bone = ndimage.binary_dilation(bone)  # such pixels take in some bone
    inside = is_enclosed & ~beside_bone & (soft > low) & (soft < high)

    opened = ndimage.binary_opening(inside, disk(OPENING_MM / pixel_mm))
    pieces, count = ndimage.label(opened)
    if count:
        piece_cm2 = np.bincount(pieces.ravel()) * pixel_mm**2 / 100
        is_large = piece_cm2 >= MIN_PIECE_CM2
        is_large[0] = False  # the background
        mask[box] = is_large[pieces]
    return mask


def _largest_body(image: np.ndarray, pixel_mm: float) -> np.ndarray | None:
    """The largest piece of tissue in a slice, bool (H, W): the head without hands and table.

    None where there is no tissue wider than a table top.
    """
    coarse = image[::_BODY_STEP, ::_BODY_STEP] > _TISSUE_HU
    opened = ndimage.binary_opening(coarse, disk(_BODY_OPENING_MM / (_BODY_STEP * pixel_mm)))
    pieces, count = ndimage.label(opened)
    if count == 0:
        return None
    largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))

    # The opening rounded the body off: take back what lies within twice its radius.
    radius_px = 2 * _BODY_OPENING_MM / (_BODY_STEP * pixel_mm)
    body = ndimage.binary_dilation(pieces == largest, disk(radius_px))
    height, width = image.shape
    fine = body.repeat(_BODY_STEP, axis=0).repeat(_BODY_STEP, axis=1)
    return np.asarray(fine[:height, :width])


def _directions_with_bone(bone: np.ndarray) -> np.ndarray:
    """In how many of eight directions bone comes, seen from each pixel: int8 (H, W).

    Bone itself counts as seen.
    """
    straight = _seen_along(bone, axis=0) + _seen_along(bone, axis=1)
    diagonal = _diagonals(bone) + _diagonals(bone[:, ::-1])[:, ::-1]
    return np.asarray(straight + diagonal)


def _seen_along(bone: np.ndarray, axis: int) -> np.ndarray:
    """On how many of both sides along an axis bone comes, int8 of the shape of `bone`."""
    before = np.maximum.accumulate(bone, axis)
    after = np.flip(np.maximum.accumulate(np.flip(bone, axis), axis), axis)
    return np.asarray(before.astype(np.int8) + after)


def _diagonals(bone: np.ndarray) -> np.ndarray:
    """On how many of both sides along one diagonal bone comes, int8 (H, W)."""
    # Each row is shifted by one pixel more, so that a diagonal becomes a column.
    height, width = bone.shape
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    sheared = np.zeros((height, width + height), dtype=bool)
    sheared[rows, columns + rows] = bone
    return np.asarray(_seen_along(sheared, axis=0)[rows, columns + rows])
