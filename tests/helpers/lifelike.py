"""A head whose HU are distributed as in a real one, for tests of what values look like."""

import numpy as np
from scipy import ndimage

PIXEL_MM = 3.6


def lifelike_head(n: int = 16, side: int = 64, seed: int = 0) -> np.ndarray:
    """HU (n, side, side) int16: noisy air, scalp, a skull of thin and dense bone, brain.

    The head narrows toward the last slices; edges are blurred, as pixels average over them.
    """
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:n, :side, :side].astype(float)
    scale = side * (0.40 - 0.12 * (z / max(n - 1, 1)) ** 2)
    radius = np.hypot((y - side / 2) / 1.15, x - side / 2) / scale

    hu = np.full(radius.shape, -1000.0)
    hu[radius < 1.00] = -20
    hu[radius < 0.92] = 700
    hu[radius < 0.89] = 1300
    hu[radius < 0.85] = 700
    hu[radius < 0.82] = 36
    hu[radius < 0.15] = 8
    hu = ndimage.gaussian_filter(hu, (0, 0.7, 0.7)) + rng.normal(0, 5, hu.shape)
    values: np.ndarray = np.rint(hu).clip(-1024, 3071).astype(np.int16)
    return values
