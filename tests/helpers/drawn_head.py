"""Heads drawn as discs, whose brain and blood have areas that are known exactly."""

from typing import NamedTuple

import numpy as np

BRAIN_HU, BONE_HU, SCALP_HU, AIR_HU = 32, 900, 20, -1000


class Plane(NamedTuple):
    """Coordinates of pixel centres in mm from the centre of a slice: y toward posterior."""

    y_mm: np.ndarray
    x_mm: np.ndarray

    def disc(self, radius_mm: float, y_mm: float = 0.0, x_mm: float = 0.0) -> np.ndarray:
        """The pixels within `radius_mm` of a point, bool (H, W)."""
        return np.asarray(np.hypot(self.y_mm - y_mm, self.x_mm - x_mm) <= radius_mm)


def plane(matrix: int = 192, pixel_mm: float = 1.2) -> Plane:
    """The pixel centres of a slice of `matrix` x `matrix` pixels."""
    side_mm = (np.arange(matrix) - (matrix - 1) / 2) * pixel_mm
    return Plane(*np.broadcast_arrays(side_mm[:, None], side_mm[None]))


def drawn_slice(
    where: Plane, brain_mm: float = 65.0, skull_mm: float = 7.0, bone_hu: int = BONE_HU
) -> np.ndarray:
    """A round head of brain in a skull in a scalp of 5 mm, HU int16 (H, W)."""
    hu = np.full(where.y_mm.shape, AIR_HU, dtype=np.int16)
    hu[where.disc(brain_mm + skull_mm + 5)] = SCALP_HU
    hu[where.disc(brain_mm + skull_mm)] = bone_hu
    hu[where.disc(brain_mm)] = BRAIN_HU
    return hu


def with_noise(hu: np.ndarray, sd_hu: float = 3.0, seed: int = 0) -> np.ndarray:
    """`hu` with Gaussian noise, int16."""
    noise = np.random.default_rng(seed).normal(0, sd_hu, hu.shape)
    return np.rint(hu + noise).astype(np.int16)
