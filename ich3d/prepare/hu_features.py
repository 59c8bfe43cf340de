"""What Hounsfield units say of each slice without any network.

Blood has the same HU on every scanner. So these numbers carry over to scanners that no network was
trained on: how much brain a slice shows, and how much of what lies inside the skull is denser than
the rest, where, in how large a piece, and on which side.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from typing import Final

import numpy as np
from scipy import ndimage

from ich3d.core.processes import useful_threads
from ich3d.prepare.intracranial import (
    bounding_box,
    gaussian_sums,
    intracranial_mask,
    smoothed,
)

DENSE_HU: Final = 18.0
"""What lies so far above the slice's median is dense: grey matter stays below, most blood above."""

VERY_DENSE_HU: Final = 28.0
LOW_HU: Final = 12.0
"""What lies so far below the slice's median is fluid, swelling or an old infarct."""

RIM_MM: Final = 6.0
"""What lies nearer to the edge of the inside of the skull is its rim: extra-axial blood lies there,
but also the part of bone that a pixel takes in, and what beam hardening adds.
"""

BLOB_MM: Final = (3.0, 6.0)
"""SDs of the Gaussians under which the densest spot of a slice is sought."""

COARSEST_MM: Final = 1.3
"""Finer grids are averaged to pixels of at most this size."""

MIN_BRAIN_CM2: Final = 2.0
"""A slice with less inside the skull shows no brain, and so no bleed."""

NO_BRAIN_PROB: Final = 0.001
"""Probability of every label in a slice that shows no brain: it lies below the rate of the rarest
one, epidural, in RSNA 2019 (0.4 %).
"""


@dataclass(frozen=True)
class SliceHuFeatures:
    """The numbers of one slice; all but the area are NaN in a slice without brain.

    Attributes:
        brain_cm2: area inside the skull without bone and air, blood included.
        median_hu: median HU there.
        p05_hu, p25_hu, p75_hu, p95_hu, p99_hu: percentiles, from the median.
        spread_hu: median distance from the median.
        low_cm2: area more than `LOW_HU` below the median.
        dense_deep_cm2, dense_rim_cm2: area more than `DENSE_HU` above the median, away from the
            rim and in it.
        very_dense_deep_cm2, very_dense_rim_cm2: the same for `VERY_DENSE_HU`.
        largest_deep_cm2, largest_rim_cm2: the largest connected piece of the dense area in each.
        dense_side_cm2: by how much the dense area differs between the left and right half.
        mean_side_hu: by how much the mean HU of the halves differ.
        small_blob_hu, large_blob_hu: the densest spot under a Gaussian of `BLOB_MM`, from the
            median.
        dense_posterior_mm: how far behind the centre the dense area lies on average; 0 for none.
        dense_depth_mm: how far from the edge it lies on average; 0 for none.
    """

    brain_cm2: float
    median_hu: float
    p05_hu: float
    p25_hu: float
    p75_hu: float
    p95_hu: float
    p99_hu: float
    spread_hu: float
    low_cm2: float
    dense_deep_cm2: float
    dense_rim_cm2: float
    very_dense_deep_cm2: float
    very_dense_rim_cm2: float
    largest_deep_cm2: float
    largest_rim_cm2: float
    dense_side_cm2: float
    mean_side_hu: float
    small_blob_hu: float
    large_blob_hu: float
    dense_posterior_mm: float
    dense_depth_mm: float


HU_FEATURES: Final = tuple(field.name for field in fields(SliceHuFeatures))
"""The columns of `hu_features`."""

BRAIN_CM2: Final = HU_FEATURES.index("brain_cm2")
"""The column of the area that tells whether a slice shows brain at all."""


def hu_features(hu: np.ndarray, pixel_mm: float) -> np.ndarray:
    """The features of every slice of one series, float32 (Z, F), columns `HU_FEATURES`.

    Args:
        hu: Hounsfield units on the model's grid, int16 (Z, H, W).
        pixel_mm: distance between its pixels in mm.
    """
    step = coarsening(pixel_mm)
    hu, pixel_mm = _coarser(hu, step), pixel_mm * step
    with ThreadPoolExecutor(useful_threads()) as threads:  # most of the time is spent in C
        rows = list(threads.map(partial(_slice_row, pixel_mm=pixel_mm), hu))
    return np.array(rows, dtype=np.float32).reshape(len(hu), len(HU_FEATURES))


def coarsening(pixel_mm: float) -> int:
    """How many pixels a side are averaged before features are computed: 1 on most grids.

    Morphology on a grid of 0.6 mm takes five times as long as on one of 1.2 mm, to tell the same.
    """
    return max(1, int(COARSEST_MM / pixel_mm + 1e-9))


def _coarser(hu: np.ndarray, step: int) -> np.ndarray:
    """`hu` (Z, H, W) averaged over squares of `step` pixels, int16; a rest at the edge is cut."""
    if step == 1:
        return hu
    n, height, width = hu.shape
    rows, columns = height // step, width // step
    squares = hu[:, : rows * step, : columns * step].reshape(n, rows, step, columns, step)
    return np.asarray(np.rint(squares.mean(axis=(2, 4), dtype=np.float32)), dtype=np.int16)


def shows_brain(features: np.ndarray) -> np.ndarray:
    """Which slices show brain, bool (Z,), from their features (Z, F)."""
    return np.asarray(features[:, BRAIN_CM2] >= MIN_BRAIN_CM2)


def silenced(prob: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Probabilities (Z, K), with `NO_BRAIN_PROB` in slices that show no brain, whatever a model
    says of them.
    """
    return np.where(shows_brain(features)[:, None], prob, prob.dtype.type(NO_BRAIN_PROB))


def silenced_logits(logits: np.ndarray, features: np.ndarray) -> np.ndarray:
    """As `silenced`, for logits (Z, K)."""
    no_brain_logit = logits.dtype.type(np.log(NO_BRAIN_PROB / (1 - NO_BRAIN_PROB)))
    return np.where(shows_brain(features)[:, None], logits, no_brain_logit)


def _slice_row(image: np.ndarray, pixel_mm: float) -> list[float]:
    """The features of one slice (H, W)."""
    mask = intracranial_mask(image, pixel_mm)
    brain_cm2 = float(mask.sum() * pixel_mm**2 / 100)
    if brain_cm2 < MIN_BRAIN_CM2:
        return [brain_cm2] + [np.nan] * (len(HU_FEATURES) - 1)
    box = bounding_box(mask)
    features = _brain_features(smoothed(image[box], pixel_mm), mask[box], pixel_mm)
    return [getattr(features, name) for name in HU_FEATURES]


def _brain_features(hu: np.ndarray, mask: np.ndarray, pixel_mm: float) -> SliceHuFeatures:
    """The features of smoothed HU (H, W), cut to the box of `mask` (H, W)."""
    inside = hu[mask]  # (N,)
    percentiles = _percentiles(inside, [5, 25, 50, 75, 95, 99])
    median = float(percentiles[2])
    p05, p25, _, p75, p95, p99 = percentiles - median
    dense, very_dense = mask & (hu > median + DENSE_HU), mask & (hu > median + VERY_DENSE_HU)

    depth_mm = _depth_px(mask) * pixel_mm
    rim = depth_mm < RIM_MM
    behind, beside = _from_the_middle(mask)
    is_left = _is_left(mask, behind, beside)
    of_left = is_left[mask]  # (N,)
    small_blob, large_blob = (_densest_spot(hu - median, mask, mm / pixel_mm) for mm in BLOB_MM)

    def cm2(pixels: np.ndarray) -> float:
        return float(pixels.sum() * pixel_mm**2 / 100)

    return SliceHuFeatures(
        brain_cm2=cm2(mask),
        median_hu=median,
        p05_hu=float(p05),
        p25_hu=float(p25),
        p75_hu=float(p75),
        p95_hu=float(p95),
        p99_hu=float(p99),
        spread_hu=float(_percentiles(np.abs(inside - median), [50])[0]),
        low_cm2=cm2(inside < median - LOW_HU),
        dense_deep_cm2=cm2(dense & ~rim),
        dense_rim_cm2=cm2(dense & rim),
        very_dense_deep_cm2=cm2(very_dense & ~rim),
        very_dense_rim_cm2=cm2(very_dense & rim),
        largest_deep_cm2=_largest_piece(dense & ~rim) * pixel_mm**2 / 100,
        largest_rim_cm2=_largest_piece(dense & rim) * pixel_mm**2 / 100,
        dense_side_cm2=abs(cm2(dense & is_left) - cm2(dense & ~is_left)),
        mean_side_hu=abs(float(inside[of_left].mean() - inside[~of_left].mean())),
        small_blob_hu=small_blob,
        large_blob_hu=large_blob,
        dense_posterior_mm=_mean(behind[np.nonzero(dense)[0]]) * pixel_mm,
        dense_depth_mm=_mean(depth_mm[dense]),
    )


def _percentiles(values: np.ndarray, percents: list[float]) -> np.ndarray:
    """Those of `numpy.percentile` of `values` (N,), which takes longer on values in no order."""
    ordered = np.sort(values)
    places = np.array(percents) / 100 * (len(ordered) - 1)
    return np.asarray(np.interp(places, np.arange(len(ordered)), ordered))


def _depth_px(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel of `mask` (H, W) to the nearest outside of it, in pixels."""
    return np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1])


def _is_left(mask: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Which pixels (H, W) lie left of the midline of `mask`.

    Its rows `y` (H,) and columns `x` (W,) are numbered from its centre.

    The midline goes through the centre, along the principal axis that is nearer to front-back: a
    head may be turned in the scanner.
    """
    mixed = y @ mask @ x
    spread = [[mask.sum(axis=1) @ y**2, mixed], [mixed, mask.sum(axis=0) @ x**2]]
    _, axes = np.linalg.eigh(spread)  # columns are axes (y, x)
    along_y, along_x = axes[:, np.argmax(np.abs(axes[0]))]
    sign = 1.0 if along_y > 0 else -1.0
    return np.asarray(sign * (x * along_y - y[:, None] * along_x) > 0)


def _from_the_middle(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows (H,) and the columns (W,) of a mask (H, W) from its centre."""
    sides = np.arange(mask.shape[0]), np.arange(mask.shape[1])
    y, x = (
        side - np.average(side, weights=mask.sum(axis=axis))
        for side, axis in zip(sides, (1, 0), strict=True)
    )
    return y, x


def _largest_piece(pixels: np.ndarray) -> float:
    """Pixels in the largest connected piece; 0 where there is none."""
    if not pixels.any():
        return 0.0
    pieces, _ = ndimage.label(pixels[bounding_box(pixels)])
    return float(np.bincount(pieces.ravel())[1:].max())


def _densest_spot(above_median: np.ndarray, mask: np.ndarray, sigma_px: float) -> float:
    """The highest mean under a Gaussian within `mask` of HU above the median (H, W)."""
    total, weight = gaussian_sums(above_median, mask, sigma_px)
    # Near the edge few pixels have weight: a mean of a third of the disk is the least that counts.
    return float((total / weight.clip(min=1 / 3))[mask].max())


def _mean(values: np.ndarray) -> float:
    """The mean of `values` (N,); 0 for none."""
    return float(values.mean()) if len(values) else 0.0
