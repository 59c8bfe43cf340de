"""A simple CT scanner: where slices lie, what each averages, how it blurs, and its noise."""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from scipy.ndimage import gaussian_filter

from ich3d.config.schema import PhantomConfig
from ich3d.core.hounsfield import OPEN_AIR_HU
from ich3d.core.types import Vector3
from ich3d.phantom.brain import Brain, brain_at
from ich3d.phantom.fields import Points, soft_mask
from ich3d.phantom.head import Head, paint_outside, scalp_distance, surfaces_at
from ich3d.phantom.lookalikes import Slab

_REFERENCE_MM: Final = 5.0
# The ACR's CT accreditation asks for water within 5 HU of zero (and accepts 7).
_WATER_HU: Final = 5.0
_BOTTOM_MM: Final = -64.0
_TOP_MM: Final = 76.0
# Half of water's attenuation at 70 keV, halved again by the modulation of the tube current.
_NOISE_PER_MM: Final = 0.005
# A table top of carbon fibre over foam, under the headrest.
_TABLE_TOP_MM: Final = 118.0
_TABLE_CURVE_MM: Final = 400.0
_TABLE_HEIGHT_MM: Final = 30.0
_TABLE_SHELL_MM: Final = 2.0
_TABLE_HU: Final = 40.0
_FOAM_HU: Final = -930.0
_HEAD_WIDTH_MM: Final = 150.0
_HEAD_PATH_MM: Final = 170.0


class Finding(Protocol):
    """A bleed or a look-alike."""

    @property
    def name(self) -> str:
        """The subtype, or the kind of look-alike."""

    def paint(self, brain: Brain, image: np.ndarray) -> np.ndarray:
        """Draw onto `image` (N,) HU in place; the fraction 0..1 (N,) that the finding fills."""


@dataclass(frozen=True)
class Geometry:
    """A tilted stack of square slices, inferior to superior.

    position_mm: centre (Z, 3) of each slice's first pixel in patient coordinates (LPS). The table
        moves along z, so all slices have one x and y (ImagePositionPatient, PS3.3 C.7.6.2.1.1).
    tilt_deg: gantry tilt, a rotation about x.
    thickness_mm: thickness of a slice, and the distance between slices along their normal.
    pixel_mm: distance between pixels in both directions.
    matrix: rows and columns.
    """

    position_mm: np.ndarray
    tilt_deg: float
    thickness_mm: float
    pixel_mm: float
    matrix: int

    @property
    def row_dir(self) -> Vector3:
        """Unit vector along a row, towards the patient's left."""
        return (1.0, 0.0, 0.0)

    @property
    def col_dir(self) -> Vector3:
        """Unit vector along a column, towards posterior."""
        tilt = np.radians(self.tilt_deg)
        return (0.0, float(np.cos(tilt)), float(np.sin(tilt)))

    @property
    def normal(self) -> np.ndarray:
        """Unit normal (3,) of the slices, towards superior."""
        return np.cross(self.row_dir, self.col_dir)

    def slabs(self, head: Head) -> tuple[Slab, ...]:
        """The slices as slabs in the coordinates of `head`."""
        normal = head.scale * (head.rotation.T @ self.normal)
        offsets = (self.position_mm - head.centre_mm) @ self.normal
        return tuple(Slab(normal, float(offset), self.thickness_mm / 2) for offset in offsets)


@dataclass(frozen=True)
class Scanner:
    """Properties of one scanner.

    noise_hu: SD of the noise in brain, in 5 mm slices.
    blur_mm: SD of the point spread function.
    offset_hu: calibration error.
    rim_hu: what beam hardening adds just under the skull.
    headrest_mm: radius of the headrest's curve.
    has_table: whether a table lies under the headrest.
    """

    noise_hu: float
    blur_mm: float
    offset_hu: float
    rim_hu: float
    headrest_mm: float
    has_table: bool = False


def draw_geometry(config: PhantomConfig, head: Head, rng: np.random.Generator) -> Geometry:
    """A stack with field of view, thickness, tilt and coverage drawn at random from `config`.

    The stack reaches beyond both ends of the brain.
    """
    fov_mm = float(rng.uniform(*config.fov_mm))
    thickness_mm = float(rng.choice(config.thickness_mm))
    tilt_deg = float(rng.uniform(-config.max_tilt_deg, config.max_tilt_deg))
    pixel_mm = fov_mm / config.matrix

    # A tilted slice is thicker along z, along which the table moves.
    bottom, top = _BOTTOM_MM + float(rng.uniform(-8, 6)), _TOP_MM + float(rng.uniform(0, 6))
    top += config.margin_mm
    step = thickness_mm / np.cos(np.radians(tilt_deg))
    count = int(head.scale[2] * (top - bottom) / step) + 1
    z = head.centre_mm[2] + head.scale[2] * bottom + step * np.arange(count)  # (Z,)

    # From the centre of a slice to that of its first pixel.
    corner = -pixel_mm * (config.matrix - 1) / 2
    y, rise = corner * np.cos(np.radians(tilt_deg)), corner * np.sin(np.radians(tilt_deg))
    centre = head.centre_mm + rng.normal(0, (3, 4, 0))
    position_mm = np.zeros((count, 3)) + (centre[0] + corner, centre[1] + y, rise)  # (Z, 3)
    position_mm[:, 2] += z
    return Geometry(position_mm.round(4), tilt_deg, thickness_mm, pixel_mm, config.matrix)


def draw_scanner(config: PhantomConfig, rng: np.random.Generator) -> Scanner:
    """A scanner drawn at random, its noise from the range of `config`."""
    return Scanner(
        noise_hu=float(rng.uniform(*config.noise_hu)),
        blur_mm=float(rng.uniform(*config.blur_mm)),
        offset_hu=float(rng.uniform(-_WATER_HU, _WATER_HU)),
        rim_hu=float(rng.uniform(2, 9)),
        headrest_mm=float(rng.uniform(102, 112)),
        has_table=config.table,
    )


@dataclass(frozen=True)
class Acquisition:
    """A noise-free image and how much of it each finding takes.

    hu: float32 (Z, Y, X), Hounsfield units without noise.
    area_mm2: (findings, Z), the area of the pixels that each finding fills to at least a half,
        averaged over the slice's thickness, before blur.
    """

    hu: np.ndarray
    area_mm2: np.ndarray


def acquire(
    head: Head, findings: tuple[Finding, ...], geometry: Geometry, scanner: Scanner
) -> Acquisition:
    """The stack of slices that `scanner` makes of `head` with its `findings`, before noise."""
    n, m = len(geometry.position_mm), geometry.matrix
    hu = np.empty((n, m, m), np.float32)
    area_mm2 = np.zeros((len(findings), n))
    for index in range(n):
        hu[index], fractions = _acquire_slice(head, findings, geometry, scanner, index)
        filled = [(fraction >= 0.5).sum() for fraction in fractions]
        area_mm2[:, index] = [pixels * geometry.pixel_mm**2 for pixels in filled]
    return Acquisition(hu, area_mm2)


def add_noise(
    hu: np.ndarray, geometry: Geometry, scanner: Scanner, rng: np.random.Generator
) -> np.ndarray:
    """Rounded HU int16 (Z, Y, X) of `hu` float32 (Z, Y, X) with quantum noise.

    Noise is grained by the reconstruction kernel, stronger in thin slices and where the beam passes
    more bone, and weaker in air.
    """
    grain = gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), (0, 0.6, 0.6))
    sd = scanner.noise_hu * np.sqrt(_REFERENCE_MM / geometry.thickness_mm) / float(grain.std())

    # Noise grows with the attenuation along the beam, given as mm of water.
    attenuation = ((hu - OPEN_AIR_HU) / 1000).sum(axis=(1, 2))  # (Z,)
    water_mm = attenuation * geometry.pixel_mm**2 / _HEAD_WIDTH_MM
    sd_by_slice = (sd * np.exp(_NOISE_PER_MM * (water_mm - _HEAD_PATH_MM))).astype(np.float32)

    weight = np.where(hu > -900, np.float32(1), np.float32(0.4))
    noisy = hu + grain * sd_by_slice[:, None, None] * weight
    rounded: np.ndarray = np.clip(np.rint(noisy), -1024, 3071).astype(np.int16)
    return rounded


def _acquire_slice(
    head: Head, findings: tuple[Finding, ...], geometry: Geometry, scanner: Scanner, index: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """HU float32 (Y, X) of one slice, and the fraction 0..1 (Y, X) that each finding fills."""
    x, y, z = _sub_planes(geometry, index)
    p = head.to_head(x, y, z)  # (S, Y, X)
    scalp = scalp_distance(p)
    near_head = scalp > -1.5

    image = np.repeat(_surroundings(x, y[:1], head, scanner), len(y), axis=0)
    fractions = np.zeros((len(findings), p.x.size), np.float32)
    if near_head.any():
        image[near_head] = _head_hu(head, scanner, findings, p, scalp, near_head, fractions)

    blurred = gaussian_filter(image.mean(axis=0), scanner.blur_mm / geometry.pixel_mm)  # (Y, X)
    blurred += np.float32(scanner.offset_hu) * (blurred > -300)
    offset = np.arange(geometry.matrix) - (geometry.matrix - 1) / 2
    outside_fov = np.hypot(offset[:, None], offset) > geometry.matrix / 2
    blurred[outside_fov] = OPEN_AIR_HU

    fractions = fractions.reshape(len(findings), *p.x.shape).mean(axis=1)  # (findings, Y, X)
    return blurred, list(fractions)


def _sub_planes(geometry: Geometry, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patient mm x (1, 1, X), y and z (S, Y, 1) of the planes averaged for slice `index`."""
    if geometry.thickness_mm > 3.5:
        count = 3
    elif geometry.thickness_mm > 1.5:
        count = 2
    else:
        count = 1
    through = ((np.arange(count) + 0.5) / count - 0.5) * geometry.thickness_mm
    origin = geometry.position_mm[index] + through[:, None] * geometry.normal  # (S, 3)

    steps = np.arange(geometry.matrix) * geometry.pixel_mm
    x = origin[:1, 0, None, None] + steps[None, None, :]
    y = origin[:, 1, None, None] + (steps * geometry.col_dir[1])[None, :, None]
    z = origin[:, 2, None, None] + (steps * geometry.col_dir[2])[None, :, None]
    return x.astype(np.float32), y.astype(np.float32), z.astype(np.float32)


def _surroundings(x: np.ndarray, y: np.ndarray, head: Head, scanner: Scanner) -> np.ndarray:
    """HU float32 (1, Y, X) of air, of the headrest as a thin shell behind the head, and of the
    table as two curved shells with foam between them.
    """
    behind = y - np.float32(head.centre_mm[1] + 4)
    radius = np.hypot(x - np.float32(head.centre_mm[0]), behind)
    from_shell = np.abs(radius - np.float32(scanner.headrest_mm))
    headrest = np.clip(2.0 - from_shell, 0, 1) * (behind > 35)
    image = OPEN_AIR_HU + 950 * headrest
    if scanner.has_table:
        # A wide circle, so that the table top is nearly flat.
        depth_mm = np.hypot(x - np.float32(head.centre_mm[0]), behind + _TABLE_CURVE_MM)
        from_top_mm = depth_mm - np.float32(_TABLE_CURVE_MM + _TABLE_TOP_MM)
        shells = np.abs(from_top_mm - _TABLE_HEIGHT_MM / 2) - _TABLE_HEIGHT_MM / 2
        image = np.where(np.abs(shells) < _TABLE_SHELL_MM, _TABLE_HU, image)
        image = np.where(shells < -_TABLE_SHELL_MM, _FOAM_HU, image)
    return image.astype(np.float32)


def _head_hu(
    head: Head,
    scanner: Scanner,
    findings: tuple[Finding, ...],
    p: Points,
    scalp: np.ndarray,
    near_head: np.ndarray,
    fractions: np.ndarray,
) -> np.ndarray:
    """HU float32 (N,) at the points that the mask `near_head` (S, Y, X) selects.

    Fills `fractions` (findings, S * Y * X) in place with what each finding fills of each point.
    """
    local = p.where(near_head)
    surfaces = surfaces_at(local, scalp[near_head])
    values = np.zeros(local.x.shape, np.float32)

    # Both sides of the inner table are painted where they overlap by a voxel, and blended there.
    outside, within = surfaces.cavity < 0.5, surfaces.cavity > -0.5
    values[outside] = paint_outside(head, local.where(outside), surfaces.where(outside))
    if not within.any():
        return values

    depth_mm = surfaces.cavity[within]
    brain = brain_at(head, local.where(within), depth_mm)
    image = brain.hu.copy()
    flat = np.flatnonzero(near_head)[within]
    for finding, fraction in zip(findings, fractions, strict=True):
        fraction[flat] = finding.paint(brain, image) * (depth_mm > 0)
    image += np.float32(scanner.rim_hu) * np.exp(-depth_mm / 4)
    values[within] += (image - values[within]) * soft_mask(depth_mm)
    return values
