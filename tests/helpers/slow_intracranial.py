"""The inside of the skull by scipy's morphology: slow, and the oracle of the fast way."""

import numpy as np
from scipy import ndimage

from ich3d.core.hounsfield import AIR_HU
from ich3d.prepare.intracranial import (
    AIR_BELOW_HU,
    BONE_HU,
    MIN_DIRECTIONS,
    MIN_PIECE_CM2,
    MIN_SOFT_WEIGHT,
    OPENING_MM,
    SMOOTHING_MM,
    SOFT_HU,
)

TISSUE_HU, BODY_STEP, BODY_OPENING_MM = -300, 2, 6.0


def slow_mask(image: np.ndarray, pixel_mm: float) -> np.ndarray:
    """The mask (H, W) of one slice (H, W), as `intracranial_mask` gives it."""
    mask = np.zeros(image.shape, dtype=bool)
    body = slow_body(image, pixel_mm)
    if body is None:
        return mask

    box = ndimage.find_objects(body.astype(np.int8))[0]
    hu, body = image[box], body[box]
    bone = (hu > BONE_HU) & body
    soft = slow_smoothed(hu, pixel_mm)
    is_enclosed = slow_directions(bone) >= MIN_DIRECTIONS
    inside = is_enclosed & ~ndimage.binary_dilation(bone)
    inside &= (soft > SOFT_HU[0]) & (soft < SOFT_HU[1])
    pieces, count = ndimage.label(ndimage.binary_opening(inside, disk(OPENING_MM / pixel_mm)))
    if count:
        is_large = np.bincount(pieces.ravel()) * pixel_mm**2 / 100 >= MIN_PIECE_CM2
        is_large[0] = False
        mask[box] = is_large[pieces]
    return mask


def slow_smoothed(image: np.ndarray, pixel_mm: float) -> np.ndarray:
    """One slice (H, W) with less noise, as `smoothed` gives it."""
    is_soft = (image <= BONE_HU) & (image > AIR_BELOW_HU)
    sigma_px = SMOOTHING_MM / pixel_mm
    total = ndimage.gaussian_filter(np.where(is_soft, image, 0).astype(np.float32), sigma_px)
    weight = ndimage.gaussian_filter(is_soft.astype(np.float32), sigma_px)
    mean = total / weight.clip(min=MIN_SOFT_WEIGHT)
    return np.asarray(np.where(weight < MIN_SOFT_WEIGHT, np.float32(AIR_HU), mean))


def slow_body(image: np.ndarray, pixel_mm: float) -> np.ndarray | None:
    """The largest piece of tissue, bool (H, W)."""
    coarse = image[::BODY_STEP, ::BODY_STEP] > TISSUE_HU
    radius_px = BODY_OPENING_MM / (BODY_STEP * pixel_mm)
    pieces, count = ndimage.label(ndimage.binary_opening(coarse, disk(radius_px)))
    if count == 0:
        return None
    largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    body = ndimage.binary_dilation(pieces == largest, disk(2 * radius_px))
    fine = body.repeat(BODY_STEP, axis=0).repeat(BODY_STEP, axis=1)
    return np.asarray(fine[: image.shape[0], : image.shape[1]])


def disk(radius_px: float) -> np.ndarray:
    """A disk for morphology in plane, bool (2 r + 1, 2 r + 1)."""
    reach = int(radius_px)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.asarray(np.hypot(rows, columns) <= radius_px)


def slow_directions(image: np.ndarray) -> np.ndarray:
    """In how many of eight directions a pixel of `image` comes, int (H, W)."""
    height, width = image.shape
    seen = np.zeros(image.shape, dtype=int)
    for row, column in np.argwhere(np.ones((3, 3))) - 1:
        if row == column == 0:
            continue
        found = image.copy()
        for step in range(1, max(height, width)):
            target = np.zeros_like(image)
            into = _overlap(height, step * row), _overlap(width, step * column)
            out_of = _overlap(height, -step * row), _overlap(width, -step * column)
            target[into] = image[out_of]
            found |= target
        seen += found
    return seen


def _overlap(size: int, moved: int) -> slice:
    """The places of an axis into which a shift by `moved` brings something."""
    return slice(min(size, max(0, moved)), max(0, size + min(0, moved)))
