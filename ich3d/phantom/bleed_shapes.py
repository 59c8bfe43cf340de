"""Shapes of the five subtypes of bleed: where blood can be, and in which order it fills it.

A bleed is the part of a region in which a growth field, in mm, stays below a size. This one rule
makes all subtypes; they differ in region and field:

epidural           a lens: depth below the skull plus a steep bowl around the site.
subdural           a crescent: depth below the skull plus a bowl that is flat up to its edge.
intraparenchymal   a blob: distance from a centre, with a ragged outline.
intraventricular   a layer: height above the back of the head, where blood sinks to.
subarachnoid       fluid spaces: distance from a source.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from ich3d.phantom.brain import Brain
from ich3d.phantom.fields import Points, Triple, capsule, soft_mask
from ich3d.phantom.head import CAVITY_MM
from ich3d.phantom.tissues import VOLUMES_ML, VolumeRange


@dataclass(frozen=True)
class BleedShape:
    """Where a bleed can be and how it spreads, as functions of a `Brain` at points (N,).

    region: fraction 0..1 (N,) of each point that blood can fill.
    growth: order in mm (N,) in which blood fills the region, lowest first.
    """

    region: Callable[[Brain], np.ndarray]
    growth: Callable[[Brain], np.ndarray]


def draw_shape(
    coarse: Brain, subtype: str, rng: np.random.Generator
) -> tuple[VolumeRange, BleedShape]:
    """The volumes that a bleed of `subtype` can have, and its shape at a site drawn at random.

    `coarse` is the brain on a lattice, from which a site inside the brain is drawn.
    """
    return _DRAW_SHAPE[subtype](coarse, rng)


def _draw_epidural(coarse: Brain, rng: np.random.Generator) -> tuple[VolumeRange, BleedShape]:
    site = _draw_convexity_site(rng, (-35, 45), (-10, 40))
    return VOLUMES_ML["epidural"], epidural_shape(site, float(rng.uniform(0.013, 0.02)))


def epidural_shape(site: Triple, bowl: float) -> BleedShape:
    """A lens under the skull around `site` (mm).

    A `bowl` (1/mm) above 1 / (2 * 75 mm), the skull's own curvature, makes the lens bulge inward.
    """

    def growth(brain: Brain) -> np.ndarray:
        return brain.depth_mm + np.float32(bowl) * _distance_to(brain.points, site) ** 2

    return BleedShape(lambda brain: _supratentorial(brain, site[0]), growth)


def _draw_subdural(coarse: Brain, rng: np.random.Generator) -> tuple[VolumeRange, BleedShape]:
    """Four in five along the convexity, the others along the falx."""
    if rng.random() < 0.2:
        shape = falcine_shape(float(rng.choice((-1, 1))), float(rng.uniform(-30, 50)))
    else:
        site = _draw_convexity_site(rng, (-40, 40), (5, 45))
        shape = subdural_shape(site, float(rng.uniform(32, 72)))
    return VOLUMES_ML["subdural"], shape


def subdural_shape(site: Triple, reach_mm: float) -> BleedShape:
    """A crescent of even thickness along the convexity, to about `reach_mm` around `site` (mm)."""

    def growth(brain: Brain) -> np.ndarray:
        apart = _distance_to(brain.points, site) / np.float32(reach_mm)
        return brain.depth_mm + 6 * apart**6

    return BleedShape(lambda brain: _supratentorial(brain, site[0]), growth)


def falcine_shape(side: float, y_mm: float) -> BleedShape:
    """A sheet along one face of the falx (`side` +1 left, -1 right), centred at `y_mm`."""

    def growth(brain: Brain) -> np.ndarray:
        p = brain.points
        below_falx = np.maximum(brain.depth_mm - 34, 0)
        bowl = ((p.y - np.float32(y_mm)) / np.float32(48)) ** 4
        order: np.ndarray = np.abs(p.x) + 4 * bowl + below_falx
        return order

    return BleedShape(lambda brain: _supratentorial(brain, side) * (brain.points.z > 12), growth)


_DEEP_SITES_MM: Final = (
    (24.0, -5.0, 2.0),
    (24.0, -5.0, 2.0),
    (11.0, 9.0, 4.0),
    (28.0, 5.0, 12.0),
)
_INFRATENTORIAL_SITES_MM: Final = ((24.0, 52.0, -40.0), (16.0, 56.0, -38.0), (3.0, 16.0, -32.0))


def _draw_intraparenchymal(
    coarse: Brain, rng: np.random.Generator
) -> tuple[VolumeRange, BleedShape]:
    """Half of them in the deep nuclei, four in ten lobar, the rest below the tentorium."""
    location = rng.choice(("deep", "lobar", "below"), p=(0.5, 0.4, 0.1))
    if location == "lobar":
        site = _draw_lobar_site(coarse, rng)
    elif location == "deep":
        site = _draw_site_near(_DEEP_SITES_MM, rng)
    else:
        site = _draw_site_near(_INFRATENTORIAL_SITES_MM, rng)

    shape = blob_shape(site, _draw_half_axes(rng), float(rng.uniform(0.3, 1.6)))
    return VOLUMES_ML["lobar" if location == "lobar" else "deep"], shape


def _draw_lobar_site(coarse: Brain, rng: np.random.Generator) -> Triple:
    """A point of brain some way below the surface, off the midline, above the tentorium."""
    p = coarse.points
    subcortical = (coarse.depth_mm > 9) & (coarse.depth_mm < 26) & (coarse.parenchyma > 0.9)
    lobar = subcortical & (np.abs(p.x) > 18) & (coarse.above_tentorium_mm > 12)
    index = int(rng.choice(np.flatnonzero(lobar)))
    return float(p.x[index]), float(p.y[index]), float(p.z[index])


def _draw_site_near(sites_mm: tuple[Triple, ...], rng: np.random.Generator) -> Triple:
    """One of `sites_mm` on either side of the head, moved by a few mm."""
    x, y, z = sites_mm[int(rng.integers(len(sites_mm)))]
    side = float(rng.choice((-1, 1)))
    return x * side, y + float(rng.normal(0, 3)), z + float(rng.normal(0, 2))


def _draw_half_axes(rng: np.random.Generator) -> Triple:
    """Relative half axes of a blob, of product one; the one along y tends to be the longest."""
    raw = np.exp(rng.normal((0, 0.2, 0), 0.18))
    x, y, z = raw / np.cbrt(raw.prod())
    return float(x), float(y), float(z)


def blob_shape(site: Triple, half_axes: Triple, ragged_mm: float) -> BleedShape:
    """A blob in the brain around `site` (mm); it closes sulci and is slow to cross the midline.

    Args:
        site: the centre in mm, head coordinates.
        half_axes: relative half axes along x, y and z, of product one.
        ragged_mm: how far the outline moves in and out.
    """

    def growth(brain: Brain) -> np.ndarray:
        u, v, w = (
            (c - np.float32(centre)) / np.float32(half_axis)
            for c, centre, half_axis in zip(brain.points, site, half_axes, strict=True)
        )
        across_midline = np.maximum(-np.float32(np.sign(site[0])) * brain.points.x, 0)
        ragged = np.float32(ragged_mm) * brain.texture
        distance = np.sqrt(u * u + v * v + w * w)
        order: np.ndarray = distance + ragged + np.float32(1.5) * across_midline
        return order

    def region(brain: Brain) -> np.ndarray:
        above = brain.above_tentorium_mm
        compartment = soft_mask(above) if site[2] > -15 else soft_mask(-above)
        below_surface = soft_mask(brain.depth_mm - brain.csf_gap_mm - 1.5)
        fraction: np.ndarray = (1 - brain.ventricle) * compartment * below_surface
        return fraction

    return BleedShape(region, growth)


def _draw_intraventricular(
    coarse: Brain, rng: np.random.Generator
) -> tuple[VolumeRange, BleedShape]:
    return VOLUMES_ML["intraventricular"], layer_shape(float(rng.choice((0.0, 0.6, -0.6))))


def layer_shape(lean: float) -> BleedShape:
    """Blood that has sunk to the back of a supine patient's ventricles.

    `lean` is the slope of its surface from right to left; unless it is zero, one side fills first.
    """

    def growth(brain: Brain) -> np.ndarray:
        return -brain.points.y + np.float32(lean) * brain.points.x

    return BleedShape(lambda brain: brain.ventricle, growth)


def _draw_subarachnoid(coarse: Brain, rng: np.random.Generator) -> tuple[VolumeRange, BleedShape]:
    """Half of them in the basal cisterns, as from an aneurysm, half in sulci, as from trauma."""
    if rng.random() < 0.5:
        shape = csf_shape((float(rng.uniform(-8, 8)), -11, -18))
    else:
        shape = csf_shape(_draw_convexity_site(rng, (-50, 50), (0, 60)))
    return VOLUMES_ML["subarachnoid"], shape


def csf_shape(source: Triple) -> BleedShape:
    """Blood in the CSF of cisterns and sulci around `source` (mm), but not just under the skull."""

    def region(brain: Brain) -> np.ndarray:
        fraction: np.ndarray = brain.csf * soft_mask(brain.depth_mm - brain.csf_gap_mm)
        return fraction

    return BleedShape(region, lambda brain: _distance_to(brain.points, source) * np.float32(0.5))


def _draw_convexity_site(
    rng: np.random.Generator, y_mm: tuple[float, float], z_mm: tuple[float, float]
) -> Triple:
    """A point in mm on the inner table on either side, with y and z within the given ranges."""
    a, b, c = CAVITY_MM
    y, z = float(rng.uniform(*y_mm)), float(rng.uniform(*z_mm))
    x = a * np.sqrt(max(0.05, 1 - (y / b) ** 2 - (z / c) ** 2))
    return float(x * rng.choice((-1, 1))), y, z


def _distance_to(p: Points, site: Triple) -> np.ndarray:
    """Distance in mm (N,) of `p` from one point: outside a capsule of almost no length."""
    return -capsule(p, site, (site[0], site[1], site[2] + 1e-3), (0, 0))


def _supratentorial(brain: Brain, x_mm: float) -> np.ndarray:
    """Fraction 0..1 (N,) above the tentorium, on the side of the head on which `x_mm` lies."""
    same_side = soft_mask(brain.points.x * np.float32(np.sign(x_mm)))
    fraction: np.ndarray = same_side * soft_mask(brain.above_tentorium_mm)
    return fraction


_DRAW_SHAPE: Final = {
    "epidural": _draw_epidural,
    "intraparenchymal": _draw_intraparenchymal,
    "intraventricular": _draw_intraventricular,
    "subarachnoid": _draw_subarachnoid,
    "subdural": _draw_subdural,
}
