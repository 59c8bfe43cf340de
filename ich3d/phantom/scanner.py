"""The scanner: where slices lie, what they average, how they blur, and their noise."""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from scipy.ndimage import gaussian_filter

from ich3d.config.schema import PhantomConfig
from ich3d.core.types import Vector3
from ich3d.phantom.brain import Brain, brain_at
from ich3d.phantom.fields import Points, soft
from ich3d.phantom.head import AIR_HU, Head, paint_outside, scalp_distance, shell
from ich3d.phantom.lookalikes import Slab

_REFERENCE_MM: Final = 5.0
# The ACR's CT accreditation asks for water within 5 HU of zero (and accepts 7).
_WATER_HU: Final = 5.0
_BOTTOM_MM: Final = -64.0
_TOP_MM: Final = 76.0
# Half of water's attenuation at 70 keV, halved again by the modulation of the tube current.
_NOISE_PER_MM: Final = 0.005
_HEAD_WIDTH_MM: Final = 150.0
_HEAD_PATH_MM: Final = 170.0


class Finding(Protocol):
    """A bleed or a look-alike."""

    @property
    def name(self) -> str: ...

    def paint(self, brain: Brain, image: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Geometry:
    """A tilted stack of square slices, inferior to superior. `position_mm` (Z, 3) is the centre of each
    slice's first pixel in LPS; the table moves along z, so all have one x and y (PS3.3 C.7.6.2.1.1)."""

    position_mm: np.ndarray
    tilt_deg: float
    thickness_mm: float
    pixel_mm: float
    matrix: int

    @property
    def row_dir(self) -> Vector3:
        return (1.0, 0.0, 0.0)

    @property
    def col_dir(self) -> Vector3:
        tilt = np.radians(self.tilt_deg)
        return (0.0, float(np.cos(tilt)), float(np.sin(tilt)))

    @property
    def normal(self) -> np.ndarray:
        """Unit normal (3,), pointing up."""
        return np.cross(self.row_dir, self.col_dir)

    def slabs(self, head: Head) -> tuple[Slab, ...]:
        """The slices as slabs in `head`'s coordinates."""
        normal = head.scale * (head.rotation.T @ self.normal)
        offsets = (self.position_mm - head.centre_mm) @ self.normal
        return tuple(Slab(normal, float(offset), self.thickness_mm / 2) for offset in offsets)


@dataclass(frozen=True)
class Optics:
    """One scanner's ways. `noise_hu` is the SD in brain at 5 mm, `blur_mm` the SD of the point spread,
    `offset_hu` its error of calibration, `rim_hu` what beam hardening adds just under the skull."""

    noise_hu: float
    blur_mm: float
    offset_hu: float
    rim_hu: float
    headrest_mm: float


def draw_geometry(config: PhantomConfig, head: Head, rng: np.random.Generator) -> Geometry:
    """Field of view, thickness, tilt and coverage drawn from `config`; slices reach past both ends."""
    fov = float(rng.uniform(*config.fov_mm))
    thickness = float(rng.choice(config.thickness_mm))
    tilt = float(rng.uniform(-config.max_tilt_deg, config.max_tilt_deg))
    pixel = fov / config.matrix
    bottom, top = _BOTTOM_MM + float(rng.uniform(-8, 6)), _TOP_MM + float(rng.uniform(0, 6))
    step = thickness / np.cos(np.radians(tilt))
    count = int(head.scale[2] * (top - bottom) / step) + 1
    z = head.centre_mm[2] + head.scale[2] * bottom + step * np.arange(count)
    corner = -pixel * (config.matrix - 1) / 2
    y, rise = corner * np.cos(np.radians(tilt)), corner * np.sin(np.radians(tilt))
    centre = head.centre_mm + rng.normal(0, (3, 4, 0))
    position = np.zeros((count, 3)) + (centre[0] + corner, centre[1] + y, rise)
    position[:, 2] += z
    return Geometry(position.round(4), tilt, thickness, pixel, config.matrix)


def draw_optics(config: PhantomConfig, rng: np.random.Generator) -> Optics:
    """A scanner drawn from `config`'s noise range."""
    return Optics(
        noise_hu=float(rng.uniform(*config.noise_hu)),
        blur_mm=float(rng.uniform(0.55, 0.85)),
        offset_hu=float(rng.uniform(-_WATER_HU, _WATER_HU)),
        rim_hu=float(rng.uniform(2, 9)),
        headrest_mm=float(rng.uniform(102, 112)),
    )


@dataclass(frozen=True)
class Exposure:
    """`hu` float32 (Z, Y, X) without noise; `area_mm2` (findings, Z), the area of the pixels that each
    finding fills to at least a half over the slice's thickness, before blur."""

    hu: np.ndarray
    area_mm2: np.ndarray


def expose(
    head: Head, findings: tuple[Finding, ...], geometry: Geometry, optics: Optics
) -> Exposure:
    """The stack as this scanner sees the head, before noise."""
    n, m = len(geometry.position_mm), geometry.matrix
    image = np.empty((n, m, m), np.float32)
    area = np.zeros((len(findings), n))
    for index in range(n):
        image[index], shares = _slice(head, findings, geometry, optics, index)
        area[:, index] = [(share >= 0.5).sum() * geometry.pixel_mm**2 for share in shares]
    return Exposure(image, area)


def add_noise(
    image: np.ndarray, geometry: Geometry, optics: Optics, rng: np.random.Generator
) -> np.ndarray:
    """Rounded HU int16 (Z, Y, X) of `image` under quantum noise: grained by the kernel, more in thin slices
    and where the beam passes more bone, less in the air."""
    grain = gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), (0, 0.6, 0.6))
    sd = optics.noise_hu * np.sqrt(_REFERENCE_MM / geometry.thickness_mm) / float(grain.std())
    water_mm = ((image - AIR_HU) / 1000).sum(axis=(1, 2)) * geometry.pixel_mm**2 / _HEAD_WIDTH_MM
    by_slice = (sd * np.exp(_NOISE_PER_MM * (water_mm - _HEAD_PATH_MM))).astype(np.float32)
    noisy = image + grain * by_slice[:, None, None] * np.where(
        image > -900, np.float32(1), np.float32(0.4)
    )
    rounded: np.ndarray = np.clip(np.rint(noisy), -1024, 3071).astype(np.int16)
    return rounded


def _slice(
    head: Head, findings: tuple[Finding, ...], geometry: Geometry, optics: Optics, index: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    x, y, z = _sub_planes(geometry, index)
    p = head.to_head(x, y, z)
    scalp = scalp_distance(p)
    head_here = scalp > -1.5
    image = np.repeat(_surroundings(x, y[:1], head, optics), len(y), axis=0)
    shares = np.zeros((len(findings), p.x.size), np.float32)
    if head_here.any():
        image[head_here] = _head_values(head, optics, findings, p, scalp, head_here, shares)
    blur = optics.blur_mm / geometry.pixel_mm
    seen = gaussian_filter(image.mean(axis=0), blur)
    seen += np.float32(optics.offset_hu) * (seen > -300)
    radius = np.arange(geometry.matrix) - (geometry.matrix - 1) / 2
    seen[np.hypot(radius[:, None], radius) > geometry.matrix / 2] = AIR_HU
    return seen, list(shares.reshape(len(findings), *p.x.shape).mean(axis=1))


def _sub_planes(geometry: Geometry, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patient coordinates x (1, 1, X), y and z (S, Y, 1) of the planes that slice `index` averages."""
    count = 3 if geometry.thickness_mm > 3.5 else 2 if geometry.thickness_mm > 1.5 else 1
    across = ((np.arange(count) + 0.5) / count - 0.5) * geometry.thickness_mm
    steps = np.arange(geometry.matrix) * geometry.pixel_mm
    origin = geometry.position_mm[index] + across[:, None] * geometry.normal
    x = origin[:1, 0, None, None] + steps[None, None, :]
    y = origin[:, 1, None, None] + (steps * geometry.col_dir[1])[None, :, None]
    z = origin[:, 2, None, None] + (steps * geometry.col_dir[2])[None, :, None]
    return x.astype(np.float32), y.astype(np.float32), z.astype(np.float32)


def _surroundings(x: np.ndarray, y: np.ndarray, head: Head, optics: Optics) -> np.ndarray:
    """Air, and the headrest as a thin shell under the head."""
    behind = y - np.float32(head.centre_mm[1] + 4)
    shell_mm = np.abs(
        np.hypot(x - np.float32(head.centre_mm[0]), behind) - np.float32(optics.headrest_mm)
    )
    rest = np.clip(2.0 - shell_mm, 0, 1) * (behind > 35)
    return (AIR_HU + 950 * rest).astype(np.float32)


def _head_values(
    head: Head,
    optics: Optics,
    findings: tuple[Finding, ...],
    p: Points,
    scalp: np.ndarray,
    here: np.ndarray,
    shares: np.ndarray,
) -> np.ndarray:
    """HU at the points that `here` (S, Y, X) selects; fills `shares` (findings, S * Y * X)."""
    local = p.where(here)
    surfaces = shell(local, scalp[here])
    values = np.zeros(local.x.shape, np.float32)
    outside, within = surfaces.cavity < 0.5, surfaces.cavity > -0.5
    values[outside] = paint_outside(head, local.where(outside), surfaces.where(outside))
    if not within.any():
        return values
    depth = surfaces.cavity[within]
    brain = brain_at(head, local.where(within), depth)
    image = brain.hu.copy()
    flat = np.flatnonzero(here)[within]
    for finding, share in zip(findings, shares, strict=True):
        share[flat] = finding.paint(brain, image) * (depth > 0)
    image += np.float32(optics.rim_hu) * np.exp(-depth / 4)
    values[within] += (image - values[within]) * soft(depth)
    return values
