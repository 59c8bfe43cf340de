"""Bleeds: shapes grown to a volume from the literature, with the HU of blood and of oedema."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ich3d.phantom.bleed_shapes import BleedShape, draw_shape
from ich3d.phantom.brain import Brain, brain_at
from ich3d.phantom.fields import Points, blend, soft_mask
from ich3d.phantom.head import CAVITY_MM, Head, scalp_distance, surfaces_at
from ich3d.phantom.tissues import BLEEDS

_LATTICE_MM: Final = 3.0


@dataclass(frozen=True)
class Bleed:
    """A grown bleed.

    subtype: one of `SUBTYPES`.
    shape: its region and growth field.
    size_mm: the value of the growth field at its surface.
    volume_ml: its volume in the patient.
    hu: Hounsfield units of its blood.
    rim_mm: width of the oedema around it; zero for none.
    oedema_hu: Hounsfield units of that oedema.
    """

    subtype: str
    shape: BleedShape
    size_mm: float
    volume_ml: float
    hu: float
    rim_mm: float
    oedema_hu: float

    @property
    def name(self) -> str:
        """The subtype: what `truth.csv` calls this finding."""
        return self.subtype

    def paint(self, brain: Brain, image: np.ndarray) -> np.ndarray:
        """Draw the bleed onto `image` (N,) HU in place; the fraction 0..1 (N,) of blood."""
        if self.rim_mm > 0:
            image += (np.float32(self.oedema_hu) - image) * self.oedema(brain) * np.float32(0.8)

        fraction = self.fraction(brain)
        # A clot is not of one density.
        blend(image, fraction, np.float32(self.hu) + 2 * brain.texture)
        return fraction

    def fraction(self, brain: Brain) -> np.ndarray:
        """Fraction 0..1 (N,) of blood at the brain's points."""
        within = soft_mask(self.size_mm - self.shape.growth(brain))
        fraction: np.ndarray = within * self.shape.region(brain)
        return fraction

    def oedema(self, brain: Brain) -> np.ndarray:
        """Fraction 0..1 (N,) of swollen tissue at the brain's points, blood included."""
        within = soft_mask((self.size_mm + self.rim_mm - self.shape.growth(brain)) / np.float32(2))
        fraction: np.ndarray = within * self.shape.region(brain)
        return fraction


def coarse_brain(head: Head) -> Brain:
    """The brain on a 3 mm lattice through the whole cavity, for measuring volumes."""
    axes = (np.arange(-m, m + 1, _LATTICE_MM, dtype=np.float32) for m in CAVITY_MM)
    p = Points(*(axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")))
    cavity = surfaces_at(p, scalp_distance(p)).cavity
    inside = cavity > 0
    return brain_at(head, p.where(inside), cavity[inside])


def draw_bleed(
    head: Head, coarse: Brain, subtype: str, rng: np.random.Generator, largest_ml: float = np.inf
) -> Bleed:
    """A bleed with site, volume and HU drawn at random.

    Args:
        head: the head that bleeds.
        coarse: its `coarse_brain`.
        subtype: one of `SUBTYPES`.
        rng: source of all random draws.
        largest_ml: upper limit of the volume.
    """
    volumes, shape = draw_shape(coarse, subtype, rng)
    size_mm, volume_ml = grow(head, coarse, shape, min(volumes.draw(rng), largest_ml))
    rim_mm = float(rng.uniform(1.5, 6)) if subtype == "intraparenchymal" else 0.0
    hu = BLEEDS[subtype].draw(rng)
    return Bleed(subtype, shape, size_mm, volume_ml, hu, rim_mm, head.hu["oedema"])


def grow(head: Head, coarse: Brain, shape: BleedShape, volume_ml: float) -> tuple[float, float]:
    """Size in mm at which `shape` has the volume `volume_ml`, and the volume in mL that it reached.

    The volume is smaller than asked for where it would take more than nine tenths of the region.
    """
    growth = shape.growth(coarse)
    order = np.argsort(growth)
    point_ml = head.volume_scale * _LATTICE_MM**3 / 1000
    filled_ml = np.cumsum(shape.region(coarse)[order], dtype=np.float64) * point_ml

    wanted, most = np.searchsorted(filled_ml, (volume_ml, 0.9 * filled_ml[-1]))
    last = min(int(wanted), int(most))
    return float(growth[order[last]]), float(filled_ml[last])
