"""The head around the brain: scalp, layered skull, skull base, air sinuses and orbits."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.spatial.transform import Rotation

from ich3d.phantom.fields import (
    Noise,
    Points,
    bell,
    blob,
    capsule,
    draw_noise,
    ellipsoid,
    soft,
    step,
)
from ich3d.phantom.tissues import draw_tissues

AIR_HU: Final = -1000.0
CAVITY_MM: Final = (67.0, 84.0, 74.0)
CAVITY_DEPTH_MM: Final = 68.0
_TABLE_MM: Final = 1.8


@dataclass(frozen=True)
class Head:
    """One person's head. Head coordinates times `scale`, rotated, plus `centre_mm` are patient millimetres.

    `atrophy` runs from 0 (tight) to 1 (wide CSF spaces); `calcified_mm` are the radii of the pineal's and
    the two choroid plexus' calcium, zero for none.
    """

    rotation: np.ndarray
    scale: np.ndarray
    centre_mm: np.ndarray
    atrophy: float
    ventricles: float
    scalp_mm: float
    skull_mm: float
    pneumatised: float
    calcified_mm: tuple[float, float, float]
    sinus_mm: float
    hu: dict[str, float]
    folds: Noise
    texture: Noise

    def to_head(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> Points:
        """Patient millimetres as float32 head coordinates."""
        matrix = (self.rotation.T / self.scale[:, None]).astype(np.float32)
        x, y, z = (c - np.float32(m) for c, m in zip((x, y, z), self.centre_mm, strict=True))
        return Points(*(row[0] * x + row[1] * y + row[2] * z for row in matrix))

    @property
    def mm3(self) -> float:
        """Patient cubic millimetres in one of head coordinates."""
        return float(np.prod(self.scale))


@dataclass(frozen=True)
class Shell:
    """Distances in mm at some points, positive inside: skin, inner table, skull base, cavity."""

    scalp: np.ndarray
    vault: np.ndarray
    base: np.ndarray
    cavity: np.ndarray

    def where(self, mask: np.ndarray) -> "Shell":
        """The distances (N,) that `mask` selects."""
        return Shell(self.scalp[mask], self.vault[mask], self.base[mask], self.cavity[mask])


def draw_head(rng: np.random.Generator) -> Head:
    """A head drawn at random: size, pose, atrophy, layers, calcium and HU."""
    atrophy = float(rng.beta(1.6, 1.6))
    angles = rng.normal(0, (4, 3, 5)).clip(-10, 10)
    return Head(
        rotation=Rotation.from_euler("xyz", angles, degrees=True).as_matrix(),
        scale=rng.normal(1, 0.03) * rng.normal(1, 0.025, 3),
        centre_mm=rng.normal(0, (3, 4, 2)),
        atrophy=atrophy,
        ventricles=float(0.75 + 0.7 * atrophy + rng.normal(0, 0.1)),
        scalp_mm=float(rng.uniform(3.5, 7)),
        skull_mm=float(rng.uniform(5.5, 8.5)),
        pneumatised=float(rng.uniform(0.4, 1)),
        calcified_mm=_calcified(rng),
        sinus_mm=float(rng.uniform(3.2, 4.8)),
        hu=draw_tissues(rng),
        folds=draw_noise(rng, 3.0),
        texture=draw_noise(rng, 5.0),
    )


def _calcified(rng: np.random.Generator) -> tuple[float, float, float]:
    """Pineal calcium in 68 % and choroid plexus calcium in 54 %, mostly on both sides (Al-Ameri 2020)."""
    pineal = rng.uniform(1.2, 3.2) if rng.random() < 0.68 else 0.0
    plexus = rng.uniform(1.2, 3.8, 2) if rng.random() < 0.54 else np.zeros(2)
    if rng.random() < 0.23:
        plexus[rng.integers(2)] = 0
    return float(pineal), float(plexus[0]), float(plexus[1])


def scalp_distance(p: Points) -> np.ndarray:
    """Distance to the skin: an egg above, a long barrel towards face and neck."""
    a, b, c = CAVITY_MM
    below = p.z < 0
    stretched = Points(
        p.x * (1 - p.y * np.float32(0.0009)), p.y, np.where(below, p.z * np.float32(0.5), p.z)
    )
    return ellipsoid(stretched, (0, 0, 0), (a + 12, b + 12, c + 13))


def shell(p: Points, scalp: np.ndarray) -> Shell:
    """The surfaces around the cavity at `p`, given the distance to the skin there."""
    deep = Points(
        p.x * (1 - p.y * np.float32(0.0009)),
        p.y,
        np.where(p.z < 0, p.z * np.float32(CAVITY_MM[2] / CAVITY_DEPTH_MM), p.z),
    )
    vault = ellipsoid(deep, (0, 0, 0), CAVITY_MM)
    base = (p.z - base_height(p)) * np.float32(0.75)
    return Shell(scalp, vault, base, np.minimum(vault, base))


def base_height(p: Points) -> np.ndarray:
    """Height of the skull base's upper surface in mm: three fossae like steps, clivus and petrous ridges."""
    side = np.abs(p.x)
    anterior = -24 + 4 * bell((side - 27) / 13) - 5 * bell(side / 5)
    middle = -45 + 19 * bell(side / 13)
    clivus = -80 + 54 * bell(side / 13) * bell((p.y - 3) / 15)
    wing = -30 - 9 * bell((side - 32) / 16)
    to_middle, to_posterior = step((p.y - wing) / 1.5), step((p.y - 9) / 2)
    floor = anterior * (1 - to_middle) + to_middle * (
        middle * (1 - to_posterior) + clivus * to_posterior
    )
    along = (side - 13) * np.float32(0.83) + (p.y - 4) * np.float32(0.55)
    ridge = -32 - 0.09 * across_petrous(p) ** 2 - 60 * step(-(along + 2) / 1.5)
    height: np.ndarray = np.maximum(floor, ridge)
    return height


def across_petrous(p: Points) -> np.ndarray:
    """Distance in mm behind the petrous ridge, which runs from the clivus' side backward and outward."""
    across: np.ndarray = (p.y - 4) * np.float32(0.83) - (np.abs(p.x) - 13) * np.float32(0.55)
    return across


def paint_outside(head: Head, p: Points, s: Shell) -> np.ndarray:
    """HU of everything outside the cavity at `p` (N,)."""
    coarse = head.texture.near(p)
    fine = head.texture.near(Points(p.x * 2.3, p.y * 2.3, p.z * 2.3))
    image = np.full(p.x.shape, head.hu["fat"], np.float32)
    _over(image, soft(2.2 - s.scalp), head.hu["skin"])
    _paint_soft_tissue(head, p, s, coarse, image)
    _paint_vault(head, p, s, coarse, image)
    _paint_base(head, p, s, fine, image)
    _paint_air(head, p, s, fine, image)
    _over(image, soft(-s.scalp), AIR_HU)
    return image


def _over(image: np.ndarray, share: np.ndarray, hu: np.ndarray | float) -> None:
    """Lay `hu` over `image` in place, as thickly as `share` says."""
    image += (hu - image) * share


def _paint_soft_tissue(
    head: Head, p: Points, s: Shell, texture: np.ndarray, image: np.ndarray
) -> None:
    """Muscle under the temples and in neck and face; orbits with fat, globe and optic nerve."""
    below = soft(s.scalp - 4) * step(-(p.z + 12) / 4)
    _over(image, below * step(3 * texture + 3), head.hu["muscle"])
    half = p.folded()
    orbit = blob(half, (27, -56, -40), (18, 27, 15))
    _over(image, soft(orbit), head.hu["fat"])
    nerve = capsule(half, (29, -58, -40), (9, -26, -38), (2, 2))
    _over(image, soft(np.minimum(nerve, orbit)), head.hu["grey"])
    globe = blob(half, (31, -72, -40), (12, 12, 12))
    _over(image, soft(globe), head.hu["muscle"])
    _over(image, soft(globe - 1.5), head.hu["vitreous"])


def _paint_vault(head: Head, p: Points, s: Shell, texture: np.ndarray, image: np.ndarray) -> None:
    """Inner table, diploe, outer table: thick in front and behind, thin at the temples.

    Means in a series of 100 CTs from Nepal: frontal 8.0, parietal 7.0, temporal 4.7, occipital 8.0 mm.
    """
    temple = bell((p.z + 12) / 24) * (p.x / CAVITY_MM[0]) ** 2
    thickness = head.skull_mm + (p.y / CAVITY_MM[1]) ** 2 - 2.5 * temple
    depth = -s.vault
    floor = step((p.z - np.where(p.y < -20, -38, -66).astype(np.float32)) / 1.5)
    bone = np.minimum(soft(depth), soft(thickness - depth)) * floor
    tables = np.maximum(soft(_TABLE_MM - depth), soft(depth - thickness + _TABLE_MM))
    marrow = head.hu["diploe"] * (1 + 0.2 * texture)
    _over(image, bone, marrow + (head.hu["table"] - marrow) * tables)


def _paint_base(head: Head, p: Points, s: Shell, grain: np.ndarray, image: np.ndarray) -> None:
    """The plate under the fossae, the petrous pyramids and the sphenoid body."""
    side = np.abs(p.x)
    plate_mm = 2.5 + 2.0 * step((p.y + 34) / 3)
    inside = soft(s.vault + 3) * soft(s.scalp - 4)
    _over(
        image, np.minimum(soft(-s.base), soft(plate_mm + s.base)) * inside, head.hu["table"] * 0.8
    )
    pyramid = np.minimum(
        11 - np.abs(across_petrous(p)), np.minimum(side - 9, np.minimum(-s.base, 22 + s.base))
    )
    _over(image, soft(pyramid) * inside, head.hu["petrous"] * (1 + 0.25 * np.tanh(grain)))
    body = blob(p, (0, -10, -44), (17, 20, 19))
    _over(image, soft(np.minimum(body, -s.base)), head.hu["diploe"])


def _paint_air(head: Head, p: Points, s: Shell, cells: np.ndarray, image: np.ndarray) -> None:
    """Frontal, ethmoid, sphenoid and maxillary sinuses, mastoid cells, ear canals, nose."""
    half, size = p.folded(), head.pneumatised
    frontal = np.minimum(blob(half, (9, -88, -17), (13 * size, 3.5, 11 * size)), -s.vault - 1.5)
    ethmoid = np.minimum(blob(half, (5, -54, -40), (6, 25, 13)), half.x - 0.6)
    sphenoid = np.minimum(blob(half, (6, -15, -43), (7 * size, 11 * size, 9 * size)), half.x - 0.6)
    maxillary = blob(half, (27, -58, -70), (14, 18, 14))
    mastoid = np.minimum(blob(half, (56, 30, -48), (12, 15, 17)), 3 * cells)
    canal = capsule(half, (48, 14, -46), (90, 12, -48), (3.5, 4))
    nose = blob(half, (4, -62, -72), (4, 35, 22))
    for cavity in (
        frontal,
        ethmoid - 1.2 * np.abs(cells),
        sphenoid,
        maxillary,
        mastoid,
        canal,
        nose,
    ):
        _over(image, soft(np.minimum(cavity, -s.cavity - 1)), AIR_HU)
