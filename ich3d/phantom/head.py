"""The head around the brain: scalp, layered skull, skull base, air sinuses and orbits.

Functions take points (N,) or (S, Y, X) in the head frame, mm, and return float32 arrays of that
shape: signed distances in mm, positive inside, or Hounsfield units.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.spatial.transform import Rotation

from ich3d.core.hounsfield import OPEN_AIR_HU
from ich3d.phantom.fields import (
    Noise,
    Points,
    bell,
    blend,
    blob,
    capsule,
    draw_noise,
    ellipsoid,
    smooth_step,
    soft_mask,
)
from ich3d.phantom.tissues import draw_tissues

CAVITY_MM: Final = (67.0, 84.0, 74.0)
"""Half axes of the skull's cavity along x, y and, above the origin, z."""

CAVITY_DEPTH_MM: Final = 68.0
"""Half axis of the cavity along z below the origin; the skull base cuts it off."""

_TABLE_MM: Final = 1.8
_TAPER_PER_MM: Final = 0.0009  # the head is narrower in front than behind


@dataclass(frozen=True)
class Head:
    """One person's head, and how it lies in the patient coordinate system.

    Patient mm (LPS) are head coordinates times `scale`, rotated, plus `centre_mm`.

    rotation: matrix (3, 3) from the head's axes to the patient's.
    scale: sizes (3,) along the head's axes, relative to the standard head.
    centre_mm: the head's origin (3,) in patient coordinates.
    atrophy: from 0 (tight) to 1 (wide CSF spaces).
    ventricle_width: relative width of the ventricles.
    skull_mm: mean thickness of the vault.
    pneumatisation: relative size of the frontal and sphenoid sinuses.
    calcified_mm: radii of the calcium in the pineal gland, the left and the right choroid plexus;
        zero for none.
    sinus_mm: radius of the dural venous sinuses.
    hu: Hounsfield units of each tissue, by the names of `tissues.TISSUES`.
    folds: noise that places the sulci.
    texture: noise that makes tissues uneven.
    """

    rotation: np.ndarray
    scale: np.ndarray
    centre_mm: np.ndarray
    atrophy: float
    ventricle_width: float
    skull_mm: float
    pneumatisation: float
    calcified_mm: tuple[float, float, float]
    sinus_mm: float
    hu: dict[str, float]
    folds: Noise
    texture: Noise

    def to_head(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> Points:
        """Head coordinates float32 in mm of patient coordinates in mm (arrays that broadcast)."""
        matrix = (self.rotation.T / self.scale[:, None]).astype(np.float32)  # (3, 3)
        x, y, z = (c - np.float32(m) for c, m in zip((x, y, z), self.centre_mm, strict=True))
        return Points(*(row[0] * x + row[1] * y + row[2] * z for row in matrix))

    @property
    def volume_scale(self) -> float:
        """Patient cubic millimetres in one cubic millimetre of head coordinates."""
        return float(np.prod(self.scale))


@dataclass(frozen=True)
class Surfaces:
    """Distances in mm into skin, inner table of the vault, skull base and cavity, of one shape."""

    scalp: np.ndarray
    vault: np.ndarray
    base: np.ndarray
    cavity: np.ndarray

    def where(self, mask: np.ndarray) -> "Surfaces":
        """The distances (N,) at which the boolean `mask`, of the same shape, is true."""
        return Surfaces(self.scalp[mask], self.vault[mask], self.base[mask], self.cavity[mask])


def draw_head(rng: np.random.Generator) -> Head:
    """A head drawn at random: size, pose, atrophy, thickness of the skull, calcium and HU."""
    atrophy = float(rng.beta(1.6, 1.6))
    angles_deg = rng.normal(0, (4, 3, 5)).clip(-10, 10)
    scale = rng.normal(1, 0.03) * rng.normal(1, 0.025, 3)
    centre_mm = rng.normal(0, (3, 4, 2))
    ventricle_width = float(0.75 + 0.7 * atrophy + rng.normal(0, 0.1))
    rng.uniform(3.5, 7)  # not used: without this draw, each seed would give another head

    return Head(
        rotation=Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix(),
        scale=scale,
        centre_mm=centre_mm,
        atrophy=atrophy,
        ventricle_width=ventricle_width,
        skull_mm=float(rng.uniform(5.5, 8.5)),
        pneumatisation=float(rng.uniform(0.4, 1)),
        calcified_mm=_draw_calcifications(rng),
        sinus_mm=float(rng.uniform(3.2, 4.8)),
        hu=draw_tissues(rng),
        folds=draw_noise(rng, 3.0),
        texture=draw_noise(rng, 5.0),
    )


def _draw_calcifications(rng: np.random.Generator) -> tuple[float, float, float]:
    """Radii in mm of the calcium in pineal gland, left and right choroid plexus.

    The pineal gland is calcified in 68 %, the choroid plexus in 54 %, mostly on both sides
    (Al-Ameri 2020).
    """
    pineal = rng.uniform(1.2, 3.2) if rng.random() < 0.68 else 0.0
    plexus = rng.uniform(1.2, 3.8, 2) if rng.random() < 0.54 else np.zeros(2)
    if rng.random() < 0.23:
        plexus[rng.integers(2)] = 0
    return float(pineal), float(plexus[0]), float(plexus[1])


def scalp_distance(p: Points) -> np.ndarray:
    """Distance in mm into the skin: an egg above, a long barrel towards face and neck."""
    a, b, c = CAVITY_MM
    stretched = Points(_untapered(p), p.y, np.where(p.z < 0, p.z * np.float32(0.5), p.z))
    return ellipsoid(stretched, (0, 0, 0), (a + 12, b + 12, c + 13))


def surfaces_at(p: Points, scalp: np.ndarray) -> Surfaces:
    """The surfaces around the cavity at `p`; `scalp` is the distance in mm into the skin there."""
    flattening = np.float32(CAVITY_MM[2] / CAVITY_DEPTH_MM)
    flattened = Points(_untapered(p), p.y, np.where(p.z < 0, p.z * flattening, p.z))
    vault = ellipsoid(flattened, (0, 0, 0), CAVITY_MM)
    base = (p.z - base_height(p)) * np.float32(0.75)
    return Surfaces(scalp, vault, base, np.minimum(vault, base))


def _untapered(p: Points) -> np.ndarray:
    """The x of `p` in a head as wide in front as behind, which an ellipsoid fits."""
    x: np.ndarray = p.x * (1 - p.y * np.float32(_TAPER_PER_MM))
    return x


def base_height(p: Points) -> np.ndarray:
    """Height (z) of the skull base's upper surface in mm.

    Three fossae lie like steps from front to back, with the clivus and the petrous ridges between.
    """
    side = np.abs(p.x)
    anterior = -24 + 4 * bell((side - 27) / 13) - 5 * bell(side / 5)
    middle = -45 + 19 * bell(side / 13)
    clivus = -80 + 54 * bell(side / 13) * bell((p.y - 3) / 15)

    sphenoid_wing = -30 - 9 * bell((side - 32) / 16)
    to_middle, to_posterior = smooth_step((p.y - sphenoid_wing) / 1.5), smooth_step((p.y - 9) / 2)
    behind_wing = middle * (1 - to_posterior) + clivus * to_posterior
    floor = anterior * (1 - to_middle) + to_middle * behind_wing

    along = (side - 13) * np.float32(0.83) + (p.y - 4) * np.float32(0.55)
    ridge = -32 - 0.09 * across_petrous(p) ** 2 - 60 * smooth_step(-(along + 2) / 1.5)
    height: np.ndarray = np.maximum(floor, ridge)
    return height


def across_petrous(p: Points) -> np.ndarray:
    """Distance in mm behind the petrous ridge, which runs from the clivus backward and outward."""
    across: np.ndarray = (p.y - 4) * np.float32(0.83) - (np.abs(p.x) - 13) * np.float32(0.55)
    return across


def paint_outside(head: Head, p: Points, surfaces: Surfaces) -> np.ndarray:
    """HU float32 (N,) of all that lies outside the cavity, at `p` (N,) with their `surfaces`."""
    coarse = head.texture.sample(p)
    fine = head.texture.sample(Points(p.x * 2.3, p.y * 2.3, p.z * 2.3))

    # Later tissues cover earlier ones.
    image = np.full(p.x.shape, head.hu["fat"], np.float32)
    blend(image, soft_mask(2.2 - surfaces.scalp), head.hu["skin"])
    _paint_soft_tissue(head, p, surfaces, coarse, image)
    _paint_vault(head, p, surfaces, coarse, image)
    _paint_base(head, p, surfaces, fine, image)
    _paint_air(head, p, surfaces, fine, image)
    blend(image, soft_mask(-surfaces.scalp), OPEN_AIR_HU)
    return image


def _paint_soft_tissue(
    head: Head, p: Points, surfaces: Surfaces, texture: np.ndarray, image: np.ndarray
) -> None:
    """Muscle under the temples and in neck and face; orbits with fat, globe and optic nerve."""
    below = soft_mask(surfaces.scalp - 4) * smooth_step(-(p.z + 12) / 4)
    blend(image, below * smooth_step(3 * texture + 3), head.hu["muscle"])

    left = p.mirrored_to_left()
    orbit = blob(left, (27, -56, -40), (18, 27, 15))
    blend(image, soft_mask(orbit), head.hu["fat"])
    nerve = capsule(left, (29, -58, -40), (9, -26, -38), (2, 2))
    blend(image, soft_mask(np.minimum(nerve, orbit)), head.hu["grey"])
    globe = blob(left, (31, -72, -40), (12, 12, 12))
    blend(image, soft_mask(globe), head.hu["muscle"])
    blend(image, soft_mask(globe - 1.5), head.hu["vitreous"])


def _paint_vault(
    head: Head, p: Points, surfaces: Surfaces, texture: np.ndarray, image: np.ndarray
) -> None:
    """Inner table, diploe, outer table: thick in front and behind, thin at the temples.

    Means in a series of 100 CTs from Nepal: frontal 8.0, parietal 7.0, temporal 4.7 and occipital
    8.0 mm.
    """
    temple = bell((p.z + 12) / 24) * (p.x / CAVITY_MM[0]) ** 2
    thickness = head.skull_mm + (p.y / CAVITY_MM[1]) ** 2 - 2.5 * temple
    depth = -surfaces.vault

    # In front, above the face, the vault ends higher than behind.
    lower_end = np.where(p.y < -20, -38, -66).astype(np.float32)
    bone = np.minimum(soft_mask(depth), soft_mask(thickness - depth))
    bone = bone * smooth_step((p.z - lower_end) / 1.5)

    tables = np.maximum(soft_mask(_TABLE_MM - depth), soft_mask(depth - thickness + _TABLE_MM))
    marrow = head.hu["diploe"] * (1 + 0.2 * texture)
    blend(image, bone, marrow + (head.hu["table"] - marrow) * tables)


def _paint_base(
    head: Head, p: Points, surfaces: Surfaces, texture: np.ndarray, image: np.ndarray
) -> None:
    """The plate under the fossae, the petrous pyramids and the body of the sphenoid."""
    base = surfaces.base
    inside = soft_mask(surfaces.vault + 3) * soft_mask(surfaces.scalp - 4)

    plate_mm = 2.5 + 2.0 * smooth_step((p.y + 34) / 3)
    plate = np.minimum(soft_mask(-base), soft_mask(plate_mm + base))
    blend(image, plate * inside, head.hu["table"] * 0.8)

    beside_midline = np.minimum(np.abs(p.x) - 9, np.minimum(-base, 22 + base))
    pyramid = np.minimum(11 - np.abs(across_petrous(p)), beside_midline)
    blend(image, soft_mask(pyramid) * inside, head.hu["petrous"] * (1 + 0.25 * np.tanh(texture)))

    sphenoid = blob(p, (0, -10, -44), (17, 20, 19))
    blend(image, soft_mask(np.minimum(sphenoid, -base)), head.hu["diploe"])


def _paint_air(
    head: Head, p: Points, surfaces: Surfaces, cells: np.ndarray, image: np.ndarray
) -> None:
    """Frontal, ethmoid, sphenoid and maxillary sinuses, mastoid cells, ear canals, nose.

    `cells` (N,) is noise that divides the ethmoid and the mastoids into small cells.
    """
    left, size = p.mirrored_to_left(), head.pneumatisation
    septum = left.x - 0.6
    frontal = blob(left, (9, -88, -17), (13 * size, 3.5, 11 * size))
    ethmoid = np.minimum(blob(left, (5, -54, -40), (6, 25, 13)), septum)
    sphenoid = np.minimum(blob(left, (6, -15, -43), (7 * size, 11 * size, 9 * size)), septum)

    for distance in (
        np.minimum(frontal, -surfaces.vault - 1.5),
        ethmoid - 1.2 * np.abs(cells),
        sphenoid,
        blob(left, (27, -58, -70), (14, 18, 14)),  # maxillary sinus
        np.minimum(blob(left, (56, 30, -48), (12, 15, 17)), 3 * cells),  # mastoid
        capsule(left, (48, 14, -46), (90, 12, -48), (3.5, 4)),  # ear canal
        blob(left, (4, -62, -72), (4, 35, 22)),  # nose
    ):
        # Air stays 1 mm away from the cavity.
        blend(image, soft_mask(np.minimum(distance, -surfaces.cavity - 1)), OPEN_AIR_HU)
