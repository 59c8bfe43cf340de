"""Signed distance functions and smooth noise, from which the head is built.

Every distance is in millimetres and positive inside the structure. Points are in the head frame:
the origin lies between the foramina of Monro, x points to the patient's left, y to posterior, z to
superior (DICOM's LPS axes for a head that is not tilted).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

Triple = tuple[float, float, float]
"""A point (x, y, z) or three half axes, in mm."""

_GRID_SIZE = 80
_GRID_STEP_MM = 2.0
_EPSILON = np.float32(1e-6)


class Points(NamedTuple):
    """Coordinates in mm in the head frame: three float32 arrays that broadcast to one shape."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    def where(self, mask: np.ndarray) -> "Points":
        """The points (N,) at which the boolean `mask`, of the coordinates' shape, is true."""
        return Points(self.x[mask], self.y[mask], self.z[mask])

    def mirrored_to_left(self) -> "Points":
        """The same points with x >= 0, so that one drawn structure appears on both sides."""
        return Points(np.abs(self.x), self.y, self.z)


def soft_mask(distance: np.ndarray) -> np.ndarray:
    """Fraction 0..1 of a voxel inside a surface at `distance` (mm): a ramp 1 mm wide around 0."""
    return np.clip(distance + np.float32(0.5), 0, 1)


def smooth_step(value: np.ndarray) -> np.ndarray:
    """A smooth step from 0 to 1 around `value` zero, about 4 units wide; the shape of `value`."""
    return np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * value))


def bell(value: np.ndarray) -> np.ndarray:
    """The Gaussian `exp(-value ** 2)`: height 1 at zero; the shape of `value`."""
    height: np.ndarray = np.exp(-value * value)
    return height


def blend(image: np.ndarray, fraction: np.ndarray, hu: np.ndarray | float) -> None:
    """Blend `hu` (a number or (N,)) into `image` (N,) in place; weight `fraction` (N,) is 0..1."""
    image += (hu - image) * fraction


def ellipsoid(p: Points, centre: Triple, radii: Triple) -> np.ndarray:
    """Distance in mm from `p` to an ellipsoid's surface, correct to first order.

    `centre` is a point in mm, `radii` are the half axes along x, y and z in mm. The distance is
    the value of the level function over the length of its gradient.
    """
    u, v, w = _normalised(p, centre, radii)
    level = np.sqrt(u * u + v * v + w * w)

    a, b, c = (np.float32(radius) for radius in radii)
    slope = np.sqrt((u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2)
    distance: np.ndarray = (1 - level) * (level + _EPSILON) / (slope + _EPSILON / a)
    return distance


def blob(p: Points, centre: Triple, radii: Triple) -> np.ndarray:
    """Like `ellipsoid`, in mm, but cheaper: exact along the shortest half axis only.

    Meant for small structures, where the error is below a voxel.
    """
    u, v, w = _normalised(p, centre, radii)
    distance: np.ndarray = np.float32(min(radii)) * (1 - np.sqrt(u * u + v * v + w * w))
    return distance


def _normalised(p: Points, centre: Triple, radii: Triple) -> Iterator[np.ndarray]:
    """Offsets from `centre` along x, y and z, each in units of its half axis."""
    for coordinate, middle, radius in zip(p, centre, radii, strict=True):
        yield (coordinate - np.float32(middle)) / np.float32(radius)


def capsule(p: Points, start: Triple, end: Triple, radii: tuple[float, float]) -> np.ndarray:
    """Distance in mm at `p` to the surface of a rod with round ends.

    The rod runs from `start` to `end` (mm); its radius changes from `radii[0]` to `radii[1]` (mm).
    """
    axis = np.subtract(end, start).astype(np.float32)
    u, v, w = (c - np.float32(origin) for c, origin in zip(p, start, strict=True))
    # Position 0..1 along the axis of the axis point that lies nearest.
    along = np.clip((u * axis[0] + v * axis[1] + w * axis[2]) / (axis @ axis), 0, 1)

    u, v, w = u - along * axis[0], v - along * axis[1], w - along * axis[2]
    radius = radii[0] + along * np.float32(radii[1] - radii[0])
    distance: np.ndarray = radius - np.sqrt(u * u + v * v + w * w)
    return distance


@dataclass(frozen=True)
class Noise:
    """A smooth periodic random field, mean 0 and SD 1: `grid` float32 (80, 80, 80), 2 mm apart."""

    grid: np.ndarray

    def interpolate(self, p: Points) -> np.ndarray:
        """The field at `p`, interpolated trilinearly; use it where an outline must be smooth."""
        indices = np.stack([c / np.float32(_GRID_STEP_MM) for c in p])
        values: np.ndarray = map_coordinates(
            self.grid, indices, order=1, mode="grid-wrap", prefilter=False
        )
        return values

    def sample(self, p: Points) -> np.ndarray:
        """The field at the grid point below `p`, four times as fast; enough for texture."""
        # Coordinates are shifted by whole periods, so that the cast to int rounds down everywhere.
        shift = np.float32(64 * _GRID_SIZE)
        i, j, k = ((c / np.float32(_GRID_STEP_MM) + shift).astype(np.int32) % _GRID_SIZE for c in p)
        values: np.ndarray = self.grid.ravel()[(i * _GRID_SIZE + j) * _GRID_SIZE + k]
        return values


def draw_noise(rng: np.random.Generator, scale_mm: float) -> Noise:
    """White noise smoothed with a Gaussian of SD `scale_mm`; its zeros lie about 4.4 SD apart."""
    white = rng.standard_normal((_GRID_SIZE,) * 3, dtype=np.float32)
    smooth = gaussian_filter(white, scale_mm / _GRID_STEP_MM, mode="wrap")
    return Noise((smooth / smooth.std()).astype(np.float32))
