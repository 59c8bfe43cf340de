"""Look-alikes: what resembles blood in one slice, and what the neighbouring slices show to be none.

calcification       the exact cross-section of a bleed, at its HU, but in a single 5 mm slice.
partial_volume      bone of the skull base that reaches into the lower part of a slice; the next
                    lower slice shows it as bone.
streak              bright and dark bands between the petrous bones, in one or two 5 mm slices.
hyperdense_sinus    a dense venous sinus: a tube through many slices, where a bleed beside it would
                    end.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Literal

import numpy as np

from ich3d.phantom.bleeds import Bleed, draw_bleed
from ich3d.phantom.brain import Brain
from ich3d.phantom.fields import Points, Triple, bell, blend, soft_mask
from ich3d.phantom.head import Head, base_height
from ich3d.phantom.tissues import THROMBUS


class LookalikeKind(StrEnum):
    """The kinds of look-alike, by their names in `truth.csv`."""

    CALCIFICATION = "calcification"
    PARTIAL_VOLUME = "partial_volume"
    STREAK = "streak"
    HYPERDENSE_SINUS = "hyperdense_sinus"


@dataclass(frozen=True)
class Slab:
    """The space between two parallel planes, such as a slice with its thickness.

    normal: vector (3,) in head coordinates; a point lies inside where its dot product with the
        vector is within `half_mm` of `offset_mm`.
    offset_mm: that product in the middle of the slab.
    half_mm: half the thickness.
    """

    normal: np.ndarray
    offset_mm: float
    half_mm: float

    def above_middle(self, brain: Brain) -> np.ndarray:
        """Distance in mm (N,) above the middle of the slab; negative below it."""
        n, p = self.normal.astype(np.float32), brain.points
        height: np.ndarray = n[0] * p.x + n[1] * p.y + n[2] * p.z - np.float32(self.offset_mm)
        return height

    def mask(self, brain: Brain) -> np.ndarray:
        """Mask float32 (N,): 1 inside, 0 outside, with a sharp edge that spares other slices."""
        inside: np.ndarray = (np.abs(self.above_middle(brain)) <= self.half_mm).astype(np.float32)
        return inside


@dataclass(frozen=True)
class Calcification:
    """The part of a would-be `bleed` that lies in one `slab`."""

    bleed: Bleed
    slab: Slab
    name: LookalikeKind = LookalikeKind.CALCIFICATION

    def paint(self, brain: Brain, image: np.ndarray) -> np.ndarray:
        """Draw onto `image` (N,) HU in place; the fraction 0..1 (N,) that it covers."""
        in_slab = self.slab.mask(brain)
        with_bleed = image.copy()
        fraction: np.ndarray = self.bleed.paint(brain, with_bleed) * in_slab
        blend(image, in_slab, with_bleed)
        return fraction


@dataclass(frozen=True)
class PartialVolume:
    """A bony bump on the skull base whose top is averaged with brain in one slice.

    site: x and y in mm, head coordinates.
    radii_mm: half axes along x and y.
    hu: Hounsfield units of the top, in the slab.
    bone_hu: Hounsfield units of the bone below the slab.
    slab: the slice that holds the top.
    """

    site: tuple[float, float]
    radii_mm: tuple[float, float]
    hu: float
    bone_hu: float
    slab: Slab
    name: LookalikeKind = LookalikeKind.PARTIAL_VOLUME

    def paint(self, brain: Brain, image: np.ndarray) -> np.ndarray:
        """Draw onto `image` (N,) HU in place; the fraction 0..1 (N,) of the bump's top."""
        (x, y), (a, b) = self.site, self.radii_mm
        p = brain.points
        # Distance in mm into an upright column with an elliptic outline.
        column = min(a, b) * (1 - np.hypot((p.x - x) / np.float32(a), (p.y - y) / np.float32(b)))
        near_base = soft_mask(30 - brain.depth_mm)

        top: np.ndarray = soft_mask(column + brain.texture) * self.slab.mask(brain) * near_base
        blend(image, top, self.hu)

        below = self.slab.above_middle(brain) < -self.slab.half_mm
        bone = soft_mask(column + 2 + brain.texture)
        image += (np.float32(self.bone_hu) - image) * bone * below * near_base
        return top


@dataclass(frozen=True)
class Streak:
    """A bright band and a dark one behind it, across the midline, as beam hardening leaves them.

    y_mm: where the bright band crosses the midline, head coordinates.
    slope: its slope, dy / dx.
    width_mm: its width.
    high_hu: by how much it is brighter than the tissue.
    slab: the slices that show it.
    """

    y_mm: float
    slope: float
    width_mm: float
    high_hu: float
    slab: Slab
    name: LookalikeKind = LookalikeKind.STREAK

    def paint(self, brain: Brain, image: np.ndarray) -> np.ndarray:
        """Add to `image` (N,) HU in place; the fraction 0..1 (N,) of the bright band."""
        p = brain.points
        behind = p.y - np.float32(self.y_mm) - np.float32(self.slope) * p.x
        envelope = bell(p.x / np.float32(32)) * self.slab.mask(brain)

        bright: np.ndarray = bell(behind / np.float32(self.width_mm)) * envelope
        behind_bright = behind - np.float32(2.4 * self.width_mm)
        dark = bell(behind_bright / np.float32(1.5 * self.width_mm)) * envelope
        image += np.float32(self.high_hu) * (bright - np.float32(0.6) * dark)
        return bright


SinusName = Literal["sagittal", "left", "right"]


@dataclass(frozen=True)
class HyperdenseSinus:
    """A swollen, dense venous sinus: the sagittal one, or one side's transverse and sigmoid sinus.

    sinus: which one.
    swollen_mm: by how much its radius has grown.
    hu: Hounsfield units of the thrombus.
    """

    sinus: SinusName
    swollen_mm: float
    hu: float
    name: LookalikeKind = LookalikeKind.HYPERDENSE_SINUS

    def paint(self, brain: Brain, image: np.ndarray) -> np.ndarray:
        """Draw onto `image` (N,) HU in place; the fraction 0..1 (N,) of the dense sinus."""
        swollen = np.float32(self.swollen_mm)
        if self.sinus == "sagittal":
            fraction = soft_mask(brain.sagittal_sinus_mm + swollen)
        else:
            side = 1 if self.sinus == "left" else -1
            on_side = brain.points.x * side > 0
            fraction = soft_mask(brain.transverse_sinus_mm + swollen) * on_side
        blend(image, fraction, self.hu)
        return fraction


Lookalike = Calcification | PartialVolume | Streak | HyperdenseSinus

_MIMICKED_SUBTYPES: Final = {
    "intraparenchymal": 0.35,
    "intraventricular": 0.15,
    "subarachnoid": 0.15,
    "subdural": 0.2,
    "epidural": 0.15,
}
"""How often a calcification has the cross-section of each subtype."""

_THIN_HALF_MM: Final = 2.0
"""Half the thickness of what one 5 mm slice shows; a margin keeps it out of the next slice."""

_BUMP_SITES_MM: Final = (
    (27.0, -50.0),
    (20.0, -46.0),
    (38.0, -14.0),
    (30.0, -6.0),
    (24.0, 9.0),
    (36.0, 18.0),
)
"""x and y of bony bumps: orbital roofs, floors of the middle fossae, petrous ridges."""


def draw_lookalikes(
    head: Head, coarse: Brain, slabs: tuple[Slab, ...], chance: float, rng: np.random.Generator
) -> tuple[Lookalike, ...]:
    """Look-alikes drawn at random.

    Args:
        head: the head that shows them.
        coarse: its `coarse_brain`.
        slabs: the slices of the study.
        chance: probability 0..1 of each kind.
        rng: source of all random draws.
    """
    kinds = [kind for kind in LookalikeKind if rng.random() < chance]
    lookalikes: list[Lookalike] = []
    for kind in kinds:
        match kind:
            case LookalikeKind.CALCIFICATION:
                for _ in range(int(rng.integers(1, 4))):
                    lookalikes.append(_draw_calcification(head, coarse, slabs, rng))
            case LookalikeKind.PARTIAL_VOLUME:
                for _ in range(int(rng.integers(1, 3))):
                    lookalikes.append(_draw_partial_volume(head, slabs, rng))
            case LookalikeKind.STREAK:
                lookalikes.append(_draw_streak(slabs, rng))
            case LookalikeKind.HYPERDENSE_SINUS:
                lookalikes.append(_draw_hyperdense_sinus(rng))
    return tuple(lookalikes)


def _draw_calcification(
    head: Head, coarse: Brain, slabs: tuple[Slab, ...], rng: np.random.Generator
) -> Calcification:
    """The cut of a small bleed with one slice; slices that hold more of the bleed are likelier."""
    subtype = str(rng.choice(list(_MIMICKED_SUBTYPES), p=list(_MIMICKED_SUBTYPES.values())))
    bleed = draw_bleed(head, coarse, subtype, rng, largest_ml=8)

    fraction = bleed.fraction(coarse)
    thin = [replace(slab, half_mm=_THIN_HALF_MM) for slab in slabs]
    inside = np.array([float((fraction * slab.mask(coarse)).sum()) for slab in thin])
    return Calcification(bleed, thin[int(rng.choice(len(thin), p=inside / inside.sum()))])


def _draw_partial_volume(
    head: Head, slabs: tuple[Slab, ...], rng: np.random.Generator
) -> PartialVolume:
    """A bump on either side whose top lies 2 to 6 mm above the skull base."""
    x, y = _BUMP_SITES_MM[int(rng.integers(len(_BUMP_SITES_MM)))]
    x *= float(rng.choice((-1, 1)))
    site = Points(*(np.array([c], np.float32) for c in (x, y, 0)))
    height = float(base_height(site)[0]) + float(rng.uniform(2, 6))

    radii_mm = float(rng.uniform(3.5, 9)), float(rng.uniform(3.5, 9))
    slab = _nearest_slab((x, y, height), slabs)
    slab = replace(slab, half_mm=max(slab.half_mm, _THIN_HALF_MM))
    return PartialVolume((x, y), radii_mm, float(rng.uniform(55, 82)), head.hu["diploe"], slab)


def _draw_streak(slabs: tuple[Slab, ...], rng: np.random.Generator) -> Streak:
    """A streak at the height of the petrous bones, in one 5 mm slice or in two."""
    y_mm = float(rng.uniform(12, 30))
    slab = _nearest_slab((0, y_mm, float(rng.uniform(-42, -32))), slabs)
    if rng.random() < 0.5:
        slab = replace(slab, half_mm=_THIN_HALF_MM)
    else:
        slab = replace(slab, offset_mm=slab.offset_mm + 2.5, half_mm=2.5 + _THIN_HALF_MM)

    slope, width_mm = float(rng.normal(0, 0.08)), float(rng.uniform(1.8, 3.5))
    return Streak(y_mm, slope, width_mm, float(rng.uniform(24, 42)), slab)


def _draw_hyperdense_sinus(rng: np.random.Generator) -> HyperdenseSinus:
    sinuses: tuple[SinusName, ...] = ("sagittal", "left", "right")
    sinus = sinuses[int(rng.integers(3))]
    return HyperdenseSinus(sinus, float(rng.uniform(0, 2)), THROMBUS.draw(rng))


def _nearest_slab(point: Triple, slabs: tuple[Slab, ...]) -> Slab:
    """The slab whose middle lies nearest to `point` (mm, head coordinates)."""

    def distance(slab: Slab) -> float:
        return abs(float(slab.normal @ np.asarray(point)) - slab.offset_mm)

    return min(slabs, key=distance)
