"""The five kinds of bleed. Each grows in its own host, along its own field, until it has its volume.

A bleed is the part of its host where a growth field (millimetres) stays below a size. So one rule makes
all of them: a lens where the field is depth plus a steep bowl, a crescent where the bowl is flat, a level
where it is height over the back of the head, a blob around a centre, fluid near a source.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from ich3d.phantom.brain import Brain, brain_at
from ich3d.phantom.fields import Points, Triple, capsule, soft
from ich3d.phantom.head import CAVITY_MM, Head, scalp_distance, shell
from ich3d.phantom.tissues import BLEEDS, VOLUMES_ML, VolumeRange

_LATTICE_MM: Final = 3.0


@dataclass(frozen=True)
class Shape:
    """Where a bleed can be (`host`, share 0..1 at points) and in which order it fills (`growth`, mm)."""

    host: Callable[[Brain], np.ndarray]
    growth: Callable[[Brain], np.ndarray]


Drawn = tuple[VolumeRange, Shape]


@dataclass(frozen=True)
class Bleed:
    """A grown bleed: its shape up to `size_mm`, at `hu`, perhaps with a rim of oedema."""

    subtype: str
    shape: Shape
    size_mm: float
    volume_ml: float
    hu: float
    rim_mm: float
    oedema_hu: float

    @property
    def name(self) -> str:
        return self.subtype

    def paint(self, brain: Brain, image: np.ndarray) -> np.ndarray:
        """Draw onto `image` (N,) in place; the share 0..1 of blood at each point."""
        if self.rim_mm > 0:
            image += (np.float32(self.oedema_hu) - image) * self.oedema(brain) * np.float32(0.8)
        share = self.share(brain)
        # Clot is denser here and there.
        image += (np.float32(self.hu) + 2 * brain.texture - image) * share
        return share

    def share(self, brain: Brain) -> np.ndarray:
        """Share 0..1 of blood at the brain's points."""
        share: np.ndarray = soft(self.size_mm - self.shape.growth(brain)) * self.shape.host(brain)
        return share

    def oedema(self, brain: Brain) -> np.ndarray:
        """Share 0..1 of swollen white matter at the brain's points, blood included."""
        rim = (self.size_mm + self.rim_mm - self.shape.growth(brain)) / np.float32(2)
        swollen: np.ndarray = soft(rim) * self.shape.host(brain)
        return swollen


def lattice(head: Head) -> Brain:
    """The brain on a coarse lattice through the cavity, for measuring volumes."""
    a, b, c = CAVITY_MM
    axes = (np.arange(-m, m + 1, _LATTICE_MM, dtype=np.float32) for m in (a, b, c))
    p = Points(*(axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")))
    cavity = shell(p, scalp_distance(p)).cavity
    inside = cavity > 0
    return brain_at(head, p.where(inside), cavity[inside])


def draw_bleed(
    head: Head, coarse: Brain, subtype: str, rng: np.random.Generator, largest_ml: float = np.inf
) -> Bleed:
    """A bleed of `subtype` at a site, volume and HU drawn at random, of at most `largest_ml`."""
    volumes, shape = _SHAPES[subtype](coarse, rng)
    size, volume = grow(head, coarse, shape, min(volumes.draw(rng), largest_ml))
    rim = float(rng.uniform(1.5, 6)) if subtype == "intraparenchymal" else 0.0
    return Bleed(subtype, shape, size, volume, BLEEDS[subtype].draw(rng), rim, head.hu["oedema"])


def grow(head: Head, coarse: Brain, shape: Shape, volume_ml: float) -> tuple[float, float]:
    """Size in mm at which `shape` holds `volume_ml`, and the volume it got (less where the host is full)."""
    growth = shape.growth(coarse)
    order = np.argsort(growth)
    cell_ml = head.mm3 * _LATTICE_MM**3 / 1000
    filled = np.cumsum(shape.host(coarse)[order], dtype=np.float64) * cell_ml
    last = min(
        int(np.searchsorted(filled, volume_ml)), int(np.searchsorted(filled, 0.9 * filled[-1]))
    )
    return float(growth[order[last]]), float(filled[last])


def _epidural(coarse: Brain, rng: np.random.Generator) -> Drawn:
    site = _convexity_site(rng, (-35, 45), (-10, 40))
    return VOLUMES_ML["epidural"], epidural_shape(site, float(rng.uniform(0.013, 0.02)))


def epidural_shape(site: Triple, bowl: float) -> Shape:
    """A lens under the skull at `site`: `bowl` (1/mm) above 1 / (2 * 75 mm) makes it bulge inward."""

    def growth(brain: Brain) -> np.ndarray:
        return brain.depth + np.float32(bowl) * _apart(brain.p, site) ** 2

    return Shape(lambda brain: _one_side(brain, site[0]) * soft(brain.above), growth)


def _subdural(coarse: Brain, rng: np.random.Generator) -> Drawn:
    """Four in five along the convexity, the others along the falx."""
    if rng.random() < 0.2:
        shape = falcine_shape(float(rng.choice((-1, 1))), float(rng.uniform(-30, 50)))
    else:
        shape = subdural_shape(_convexity_site(rng, (-40, 40), (5, 45)), float(rng.uniform(32, 72)))
    return VOLUMES_ML["subdural"], shape


def subdural_shape(site: Triple, reach_mm: float) -> Shape:
    """A crescent along the convexity around `site`: of even thickness, ending about `reach_mm` away."""

    def growth(brain: Brain) -> np.ndarray:
        return brain.depth + 6 * (_apart(brain.p, site) / np.float32(reach_mm)) ** 6

    return Shape(lambda brain: _one_side(brain, site[0]) * soft(brain.above), growth)


def falcine_shape(side: float, y_mm: float) -> Shape:
    """A sheet along one face of the falx, around `y_mm` in its length."""

    def growth(brain: Brain) -> np.ndarray:
        p = brain.p
        deep = np.maximum(brain.depth - 34, 0)
        bowl = ((p.y - np.float32(y_mm)) / np.float32(48)) ** 4
        filled: np.ndarray = np.abs(p.x) + 4 * bowl + deep
        return filled

    return Shape(
        lambda brain: _one_side(brain, side) * soft(brain.above) * (brain.p.z > 12), growth
    )


_DEEP: Final = ((24.0, -5.0, 2.0), (24.0, -5.0, 2.0), (11.0, 9.0, 4.0), (28.0, 5.0, 12.0))
_STEM_AND_CEREBELLUM: Final = ((24.0, 52.0, -40.0), (16.0, 56.0, -38.0), (3.0, 16.0, -32.0))


def _intraparenchymal(coarse: Brain, rng: np.random.Generator) -> Drawn:
    """Half of them deep, four in ten lobar, the rest under the tentorium."""
    kind = rng.choice(("deep", "lobar", "below"), p=(0.5, 0.4, 0.1))
    if kind == "lobar":
        site = _lobar_site(coarse, rng)
    else:
        sites = _DEEP if kind == "deep" else _STEM_AND_CEREBELLUM
        x, y, z = sites[int(rng.integers(len(sites)))]
        site = (
            x * float(rng.choice((-1, 1))),
            y + float(rng.normal(0, 3)),
            z + float(rng.normal(0, 2)),
        )
    shape = blob_shape(site, _axes(rng), float(rng.uniform(0.3, 1.6)))
    return VOLUMES_ML["lobar" if kind == "lobar" else "deep"], shape


def _lobar_site(coarse: Brain, rng: np.random.Generator) -> Triple:
    """A point of brain some way under the surface, off the midline, over the tentorium."""
    under = (coarse.depth > 9) & (coarse.depth < 26) & (coarse.parenchyma > 0.9)
    pick = int(rng.choice(np.flatnonzero(under & (np.abs(coarse.p.x) > 18) & (coarse.above > 12))))
    return float(coarse.p.x[pick]), float(coarse.p.y[pick]), float(coarse.p.z[pick])


def _axes(rng: np.random.Generator) -> Triple:
    """Relative half axes of a blob, their product one; the second, front to back, tends to be the longest."""
    raw = np.exp(rng.normal((0, 0.2, 0), 0.18))
    x, y, z = raw / np.cbrt(raw.prod())
    return float(x), float(y), float(z)


def blob_shape(site: Triple, axes: Triple, ragged_mm: float) -> Shape:
    """A blob in the brain around `site`, its outline moved in and out by about `ragged_mm`. It presses
    sulci shut, and is slow to cross the midline."""

    def growth(brain: Brain) -> np.ndarray:
        u, v, w = (
            (c - np.float32(m)) / np.float32(a) for c, m, a in zip(brain.p, site, axes, strict=True)
        )
        across = np.maximum(-np.float32(np.sign(site[0])) * brain.p.x, 0)
        ragged = np.float32(ragged_mm) * brain.texture
        filled: np.ndarray = np.sqrt(u * u + v * v + w * w) + ragged + np.float32(1.5) * across
        return filled

    def host(brain: Brain) -> np.ndarray:
        same_floor = soft(brain.above) if site[2] > -15 else soft(-brain.above)
        within: np.ndarray = (
            (1 - brain.ventricle) * same_floor * soft(brain.depth - brain.gap_mm - 1.5)
        )
        return within

    return Shape(host, growth)


def _intraventricular(coarse: Brain, rng: np.random.Generator) -> Drawn:
    return VOLUMES_ML["intraventricular"], level_shape(float(rng.choice((0.0, 0.6, -0.6))))


def level_shape(lean: float) -> Shape:
    """Blood that has sunk to the back of a supine patient's ventricles; `lean` fills one side first."""

    def growth(brain: Brain) -> np.ndarray:
        return -brain.p.y + np.float32(lean) * brain.p.x

    return Shape(lambda brain: brain.ventricle, growth)


def _subarachnoid(coarse: Brain, rng: np.random.Generator) -> Drawn:
    """Cisternal, as from an aneurysm, or sulcal, as from a blow."""
    if rng.random() < 0.5:
        shape = fluid_shape((float(rng.uniform(-8, 8)), -11, -18))
    else:
        shape = fluid_shape(_convexity_site(rng, (-50, 50), (0, 60)))
    return VOLUMES_ML["subarachnoid"], shape


def fluid_shape(source: Triple) -> Shape:
    """Blood in the fluid of cisterns and sulci around `source`, not in the gap under the skull."""

    def host(brain: Brain) -> np.ndarray:
        deep: np.ndarray = brain.csf * soft(brain.depth - brain.gap_mm)
        return deep

    return Shape(host, lambda brain: _apart(brain.p, source) * np.float32(0.5))


_SHAPES: Final = {
    "epidural": _epidural,
    "intraparenchymal": _intraparenchymal,
    "intraventricular": _intraventricular,
    "subarachnoid": _subarachnoid,
    "subdural": _subdural,
}


def _convexity_site(
    rng: np.random.Generator, y_mm: tuple[float, float], z_mm: tuple[float, float]
) -> Triple:
    """A point on the inner table on either side, front to back and low to high within the ranges."""
    a, b, c = CAVITY_MM
    y, z = float(rng.uniform(*y_mm)), float(rng.uniform(*z_mm))
    x = a * np.sqrt(max(0.05, 1 - (y / b) ** 2 - (z / c) ** 2))
    return float(x * rng.choice((-1, 1))), y, z


def _apart(p: Points, site: Triple) -> np.ndarray:
    return -capsule(p, site, (site[0], site[1], site[2] + 1e-3), (0, 0))


def _one_side(brain: Brain, x_mm: float) -> np.ndarray:
    return soft(brain.p.x * np.float32(np.sign(x_mm)))
