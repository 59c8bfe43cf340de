"""What looks like blood in one slice and is none: its neighbours tell.

calcification       a bleed's very cross-section, in its place and at its HU, in one 5 mm slice only.
partial_volume      bone of the skull base that reaches into a slice's lower part; the next lower slice
                    shows it.
streak              bright and dark bands between the petrous bones, in one or two 5 mm slices.
hyperdense_sinus    a dense sinus: a tube through many slices, where a bleed beside it would end.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Literal

import numpy as np

from ich3d.phantom.bleeds import Bleed, draw_bleed
from ich3d.phantom.brain import Brain
from ich3d.phantom.fields import Points, Triple, bell, soft
from ich3d.phantom.head import Head, base_height
from ich3d.phantom.tissues import THROMBUS


class Kind(StrEnum):
    """The kinds, by the names that `truth.csv` uses."""

    CALCIFICATION = "calcification"
    PARTIAL_VOLUME = "partial_volume"
    STREAK = "streak"
    HYPERDENSE_SINUS = "hyperdense_sinus"


@dataclass(frozen=True)
class Slab:
    """The space between two planes: where head coordinates times `normal` are within `half_mm` of
    `offset_mm`."""

    normal: np.ndarray
    offset_mm: float
    half_mm: float

    def above(self, brain: Brain) -> np.ndarray:
        """Distance in mm above the slab's middle."""
        n = self.normal.astype(np.float32)
        p = brain.p
        height: np.ndarray = n[0] * p.x + n[1] * p.y + n[2] * p.z - np.float32(self.offset_mm)
        return height

    def share(self, brain: Brain) -> np.ndarray:
        """1 inside, 0 outside, with a sharp edge: nothing leaks into the next slice."""
        inside: np.ndarray = (np.abs(self.above(brain)) <= self.half_mm).astype(np.float32)
        return inside


@dataclass(frozen=True)
class Calcification:
    """The cut of a would-be bleed with one slab."""

    like: Bleed
    slab: Slab
    name: Kind = Kind.CALCIFICATION

    def paint(self, brain: Brain, image: np.ndarray) -> np.ndarray:
        """Draw onto `image` (N,) in place; the share 0..1 that was covered."""
        within = self.slab.share(brain)
        with_it = image.copy()
        share: np.ndarray = self.like.paint(brain, with_it) * within
        image += (with_it - image) * within
        return share


@dataclass(frozen=True)
class PartialVolume:
    """A bony bump at `site` (head x, y) with its top in a slab, where it measures `hu`; below, it is bone."""

    site: tuple[float, float]
    radii_mm: tuple[float, float]
    hu: float
    bone_hu: float
    slab: Slab
    name: Kind = Kind.PARTIAL_VOLUME

    def paint(self, brain: Brain, image: np.ndarray) -> np.ndarray:
        """Draw onto `image` (N,) in place; the share 0..1 of the bump's top."""
        (x, y), (a, b) = self.site, self.radii_mm
        column = min(a, b) * (
            1 - np.hypot((brain.p.x - x) / np.float32(a), (brain.p.y - y) / np.float32(b))
        )
        near_base = soft(30 - brain.depth)
        top: np.ndarray = soft(column + brain.texture) * self.slab.share(brain) * near_base
        image += (np.float32(self.hu) - image) * top
        below = self.slab.above(brain) < -self.slab.half_mm
        image += (
            (np.float32(self.bone_hu) - image)
            * soft(column + 2 + brain.texture)
            * below
            * near_base
        )
        return top


@dataclass(frozen=True)
class Streak:
    """A bright band `high_hu` above the tissue and a dark one behind it, across the midline."""

    y_mm: float
    slope: float
    width_mm: float
    high_hu: float
    slab: Slab
    name: Kind = Kind.STREAK

    def paint(self, brain: Brain, image: np.ndarray) -> np.ndarray:
        """Add to `image` (N,) in place; the share 0..1 of the bright band."""
        p = brain.p
        along = p.y - np.float32(self.y_mm) - np.float32(self.slope) * p.x
        window = bell(p.x / np.float32(32)) * self.slab.share(brain)
        bright: np.ndarray = bell(along / np.float32(self.width_mm)) * window
        dark = (
            bell((along - np.float32(2.4 * self.width_mm)) / np.float32(1.5 * self.width_mm))
            * window
        )
        image += np.float32(self.high_hu) * (bright - np.float32(0.6) * dark)
        return bright


@dataclass(frozen=True)
class HyperdenseSinus:
    """The superior sagittal sinus, or the transverse and sigmoid sinus of one side, swollen and dense."""

    place: Literal["sagittal", "left", "right"]
    swollen_mm: float
    hu: float
    name: Kind = Kind.HYPERDENSE_SINUS

    def paint(self, brain: Brain, image: np.ndarray) -> np.ndarray:
        """Draw onto `image` (N,) in place; the share 0..1 of the dense sinus."""
        if self.place == "sagittal":
            share = soft(brain.sagittal + np.float32(self.swollen_mm))
        else:
            side = 1 if self.place == "left" else -1
            share = soft(brain.transverse + np.float32(self.swollen_mm)) * (brain.p.x * side > 0)
        image += (np.float32(self.hu) - image) * share
        return share


Lookalike = Calcification | PartialVolume | Streak | HyperdenseSinus

_MIMICKED: Final = {
    "intraparenchymal": 0.35,
    "intraventricular": 0.15,
    "subarachnoid": 0.15,
    "subdural": 0.2,
    "epidural": 0.15,
}
_SLAB_HALF_MM: Final = 2.0
_BUMPS: Final = (
    (27.0, -50.0),
    (20.0, -46.0),
    (38.0, -14.0),
    (30.0, -6.0),
    (24.0, 9.0),
    (36.0, 18.0),
)


def draw_lookalikes(
    head: Head, coarse: Brain, slabs: tuple[Slab, ...], chance: float, rng: np.random.Generator
) -> tuple[Lookalike, ...]:
    """Each kind with `chance`; `slabs` are the slices, `coarse` is the brain on a lattice."""
    kinds = [kind for kind in Kind if rng.random() < chance]
    drawn: list[Lookalike] = []
    for kind in kinds:
        if kind is Kind.CALCIFICATION:
            drawn += [
                _calcification(head, coarse, slabs, rng) for _ in range(int(rng.integers(1, 4)))
            ]
        elif kind is Kind.PARTIAL_VOLUME:
            drawn += [_partial_volume(head, slabs, rng) for _ in range(int(rng.integers(1, 3)))]
        elif kind is Kind.STREAK:
            drawn.append(_streak(slabs, rng))
        else:
            drawn.append(_sinus(rng))
    return tuple(drawn)


def _calcification(
    head: Head, coarse: Brain, slabs: tuple[Slab, ...], rng: np.random.Generator
) -> Calcification:
    subtype = str(rng.choice(list(_MIMICKED), p=list(_MIMICKED.values())))
    like = draw_bleed(head, coarse, subtype, rng, largest_ml=8)
    share = like.share(coarse)
    thin = [replace(slab, half_mm=_SLAB_HALF_MM) for slab in slabs]
    inside = np.array([float((share * slab.share(coarse)).sum()) for slab in thin])
    return Calcification(like, thin[int(rng.choice(len(thin), p=inside / inside.sum()))])


def _partial_volume(head: Head, slabs: tuple[Slab, ...], rng: np.random.Generator) -> PartialVolume:
    x, y = _BUMPS[int(rng.integers(len(_BUMPS)))]
    x *= float(rng.choice((-1, 1)))
    site = Points(*(np.array([c], np.float32) for c in (x, y, 0)))
    height = float(base_height(site)[0]) + float(rng.uniform(2, 6))
    radii = float(rng.uniform(3.5, 9)), float(rng.uniform(3.5, 9))
    slab = _slab_at((x, y, height), slabs)
    slab = replace(slab, half_mm=max(slab.half_mm, _SLAB_HALF_MM))
    return PartialVolume((x, y), radii, float(rng.uniform(55, 82)), head.hu["diploe"], slab)


def _streak(slabs: tuple[Slab, ...], rng: np.random.Generator) -> Streak:
    y = float(rng.uniform(12, 30))
    slab = _slab_at((0, y, float(rng.uniform(-42, -32))), slabs)
    if rng.random() < 0.5:
        slab = replace(slab, half_mm=_SLAB_HALF_MM)
    else:
        slab = replace(slab, offset_mm=slab.offset_mm + 2.5, half_mm=2.5 + _SLAB_HALF_MM)
    slope, width = float(rng.normal(0, 0.08)), float(rng.uniform(1.8, 3.5))
    return Streak(y, slope, width, float(rng.uniform(24, 42)), slab)


def _sinus(rng: np.random.Generator) -> HyperdenseSinus:
    place: Literal["sagittal", "left", "right"] = ("sagittal", "left", "right")[
        int(rng.integers(3))
    ]
    return HyperdenseSinus(place, float(rng.uniform(0, 2)), THROMBUS.draw(rng))


def _slab_at(point: Triple, slabs: tuple[Slab, ...]) -> Slab:
    """The slab whose middle lies nearest to a head coordinate."""
    return min(slabs, key=lambda slab: abs(float(slab.normal @ np.asarray(point)) - slab.offset_mm))
