"""Signed distances and smooth noise: the pencils that the head is drawn with.

Every distance is in millimetres, positive inside. Points are in the head frame: origin between the
foramina of Monro, x to the patient's left, y to posterior, z to superior (DICOM's LPS for a straight head).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

Triple = tuple[float, float, float]

_CELLS = 80
_CELL_MM = 2.0
_EPSILON = np.float32(1e-6)


class Points(NamedTuple):
    """Coordinates in millimetres, three arrays of one shape."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    def where(self, mask: np.ndarray) -> "Points":
        """The points (N,) that `mask` selects."""
        return Points(self.x[mask], self.y[mask], self.z[mask])

    def folded(self) -> "Points":
        """Both halves of the head laid on the left one."""
        return Points(np.abs(self.x), self.y, self.z)


def soft(distance: np.ndarray) -> np.ndarray:
    """Share of a voxel inside a surface, 0..1: a ramp 1 mm wide around distance zero."""
    return np.clip(distance + np.float32(0.5), 0, 1)


def step(value: np.ndarray) -> np.ndarray:
    """A smooth step from 0 to 1 around zero, about 4 units wide."""
    return np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * value))


def bell(value: np.ndarray) -> np.ndarray:
    """A bump of height 1 at zero and unit width."""
    bump: np.ndarray = np.exp(-value * value)
    return bump


def ellipsoid(p: Points, centre: Triple, radii: Triple) -> np.ndarray:
    """Distance to an ellipsoid's surface, to first order: the level over its gradient's length."""
    u, v, w = (
        (c - np.float32(m)) / np.float32(r) for c, m, r in zip(p, centre, radii, strict=True)
    )
    level = np.sqrt(u * u + v * v + w * w)
    a, b, c = (np.float32(r) for r in radii)
    slope = np.sqrt((u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2)
    distance: np.ndarray = (1 - level) * (level + _EPSILON) / (slope + _EPSILON / a)
    return distance


def blob(p: Points, centre: Triple, radii: Triple) -> np.ndarray:
    """A cheaper ellipsoid for small structures: exact on the shortest axis."""
    u, v, w = (
        (c - np.float32(m)) / np.float32(r) for c, m, r in zip(p, centre, radii, strict=True)
    )
    distance: np.ndarray = np.float32(min(radii)) * (1 - np.sqrt(u * u + v * v + w * w))
    return distance


def capsule(p: Points, start: Triple, end: Triple, radii: tuple[float, float]) -> np.ndarray:
    """Distance to a rod from `start` to `end` whose radius runs from the first to the second of `radii`."""
    axis = np.subtract(end, start).astype(np.float32)
    u, v, w = (c - np.float32(m) for c, m in zip(p, start, strict=True))
    along = np.clip((u * axis[0] + v * axis[1] + w * axis[2]) / (axis @ axis), 0, 1)
    u, v, w = u - along * axis[0], v - along * axis[1], w - along * axis[2]
    radius = radii[0] + along * np.float32(radii[1] - radii[0])
    distance: np.ndarray = radius - np.sqrt(u * u + v * v + w * w)
    return distance


@dataclass(frozen=True)
class Noise:
    """A smooth periodic random field of mean 0 and SD 1; `grid` float32 (80, 80, 80) at 2 mm."""

    grid: np.ndarray

    def at(self, p: Points) -> np.ndarray:
        """The field at `p`, trilinear between the grid's points: for outlines."""
        cells = np.stack([c / np.float32(_CELL_MM) for c in p])
        values: np.ndarray = map_coordinates(
            self.grid, cells, order=1, mode="grid-wrap", prefilter=False
        )
        return values

    def near(self, p: Points) -> np.ndarray:
        """The field at the grid's point below `p`, four times as fast: for grain."""
        i, j, k = (
            (c / np.float32(_CELL_MM) + np.float32(64 * _CELLS)).astype(np.int32) % _CELLS
            for c in p
        )
        values: np.ndarray = self.grid.ravel()[(i * _CELLS + j) * _CELLS + k]
        return values


def draw_noise(rng: np.random.Generator, scale_mm: float) -> Noise:
    """White noise smoothed with a Gaussian of SD `scale_mm`; its zeros lie about 4.4 of it apart."""
    white = rng.standard_normal((_CELLS,) * 3, dtype=np.float32)
    smooth = gaussian_filter(white, scale_mm / _CELL_MM, mode="wrap")
    return Noise((smooth / smooth.std()).astype(np.float32))
