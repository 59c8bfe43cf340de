"""The brain in its cavity: gyri, deep nuclei, ventricles, cisterns, dural folds and sinuses."""

from dataclasses import dataclass

import numpy as np

from ich3d.phantom.fields import Points, blob, capsule, ellipsoid, soft, step
from ich3d.phantom.head import Head

_SULCUS_MM = 16.0
_FOLD_RADIUS_MM = 75.0
# Mean slope of a Gaussian-smoothed noise of scale s is 1 / (sqrt(2) s) a mm, s being 3 mm here.
_FOLD_SLOPE = 0.236


@dataclass(frozen=True)
class Brain:
    """What lies at points (N,) inside the cavity. `hu` without noise; `depth` mm below the inner table;
    `gap_mm` the fluid's width there; `csf` (outside the ventricles), `ventricle` and `parenchyma` are
    shares 0..1; `above` is positive over the tentorium; `sagittal` and `transverse` are distances into
    the sinuses; `texture` is smooth noise."""

    p: Points
    hu: np.ndarray
    depth: np.ndarray
    csf: np.ndarray
    ventricle: np.ndarray
    parenchyma: np.ndarray
    above: np.ndarray
    sagittal: np.ndarray
    transverse: np.ndarray
    texture: np.ndarray
    gap_mm: float


def brain_at(head: Head, p: Points, depth: np.ndarray) -> Brain:
    """The brain at `p` (N,), which lies `depth` mm inside the cavity."""
    gap_mm = 0.6 + 3.0 * head.atrophy**2
    above = tentorium_height(p)
    above = np.where(_behind_petrous(p), p.z - above, np.float32(30))
    texture = head.texture.near(p)
    cortex, sulci = _folded(head, p, depth - np.float32(gap_mm), above)
    stem = _brainstem(p)
    ventricle = soft(_ventricles(head, p))
    cisterns = soft(_cisterns(head, p, stem, texture))
    spaces = [soft(gap_mm - depth), sulci * soft(-stem - 1), cisterns, _fissures(head, p, above)]
    csf = np.maximum.reduce(spaces) * (1 - ventricle)
    parenchyma = (1 - csf) * (1 - ventricle)

    image = head.hu["white"] + (head.hu["grey"] - head.hu["white"]) * cortex
    image += (head.hu["deep_grey"] - image) * np.maximum(soft(_nuclei(head, p)), 0.45 * soft(stem))
    image += 1.2 * texture
    image += (head.hu["csf"] - image) * np.maximum(csf, ventricle)
    sagittal, transverse = _sinuses(head, p, depth, above)
    image += (head.hu["dura"] - image) * np.maximum(
        _falx(p, depth, above), _tentorium(p, above, stem)
    )
    image += (head.hu["sinus"] - image) * soft(np.maximum(sagittal, transverse))
    image += (head.hu["calcium"] - image) * soft(_calcium(head, p))
    return Brain(
        p, image, depth, csf, ventricle, parenchyma, above, sagittal, transverse, texture, gap_mm
    )


def tentorium_height(p: Points) -> np.ndarray:
    """Height of the tentorium in mm: a tent whose ridge falls from the great vein to the torcula."""
    height: np.ndarray = 8 - np.float32(0.4) * (p.y - 30) - np.float32(0.0105) * p.x * p.x
    return height


def _behind_petrous(p: Points) -> np.ndarray:
    behind: np.ndarray = p.y > 5 + np.float32(0.66) * np.maximum(np.abs(p.x) - 14, 0)
    return behind


def _folded(
    head: Head, p: Points, depth: np.ndarray, above: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Shares of cortex and of sulcal fluid: sheets that sink from the surface where a noise on it is zero."""
    radius = np.sqrt(p.x * p.x + p.y * p.y + p.z * p.z) + np.float32(1e-3)
    pull = np.float32(0.35) + np.float32(0.65 * _FOLD_RADIUS_MM) / radius
    cerebellum = above < 0
    on_surface = Points(*(np.where(cerebellum, c, c * pull) for c in p))
    folia = Points(
        on_surface.x, on_surface.y, np.where(cerebellum, p.z * np.float32(2.2), on_surface.z)
    )
    to_sheet = np.abs(head.folds.at(folia)) / np.float32(_FOLD_SLOPE)
    fade = np.clip(1 - depth / np.float32(_SULCUS_MM), 0, 1)
    width = (np.float32(0.45 + 1.5 * head.atrophy) * fade) * np.where(
        cerebellum, np.float32(0.6), np.float32(1)
    )
    sulci = np.clip(width - to_sheet + np.float32(0.3), 0, 1) * (fade > 0)
    near_sheet = np.where(depth < _SULCUS_MM + 3, to_sheet - width, np.float32(9))
    cortex = soft(2.8 - np.minimum(depth, near_sheet))
    return np.where(cerebellum, 0.5 + 0.4 * cortex, cortex), sulci


def _brainstem(p: Points) -> np.ndarray:
    midbrain = capsule(p, (0, 12, -6), (0, 12, -20), (12, 13))
    pons = capsule(p, (0, 15, -26), (0, 18, -38), (14, 13))
    medulla = capsule(p, (0, 22, -44), (0, 32, -75), (9, 7))
    stem: np.ndarray = np.maximum(np.maximum(midbrain, pons), medulla)
    return stem


def _ventricles(head: Head, p: Points) -> np.ndarray:
    """Lateral ventricles with frontal, occipital and temporal horns, third and fourth ventricle."""
    half, v = p.folded(), head.ventricles
    frontal = capsule(half, (12, -36, 6), (9, -12, 17), (3.6 * v, 4.2 * v))
    body = capsule(half, (9, -12, 17), (14, 18, 21), (4.2 * v, 4.4 * v))
    atrium = capsule(half, (14, 18, 21), (25, 34, 6), (4.4 * v, 5.4 * v))
    occipital = capsule(half, (25, 34, 6), (19, 60, 4), (5.2 * v, 1.8 * v))
    temporal = capsule(half, (25, 34, 6), (33, 4, -20), (4.2 * v, 1.4 * v))
    third = blob(p, (0, 2, -1), (2.2 * v, 16, 11))
    fourth = ellipsoid(p, (0, 34, -37), (6.5 * v, 6 * v, 9))
    parts = [frontal, body, atrium, occipital, temporal, third, fourth]
    distance: np.ndarray = np.maximum.reduce(parts)
    return distance


def _cisterns(head: Head, p: Points, stem: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """Suprasellar, ambient, prepontine, quadrigeminal cistern, great cistern and Sylvian fissures."""
    half, wide = p.folded(), 0.7 + 0.6 * head.atrophy
    suprasellar = blob(p, (0, -11, -19), (10 * wide, 9 * wide, 7))
    crural = capsule(half, (4, -6, -18), (17, 4, -17), (3 * wide, 2 * wide))
    around = np.minimum(2.4 * wide + texture + stem, -stem)
    around = np.minimum(around, np.minimum(15 - p.y, -4 - p.z))
    quadrigeminal = blob(p, (0, 28, -3), (9 * wide, 4.5 * wide, 9))
    magna = blob(p, (0, 60, -60), (14 * wide, 12 * wide, 9))
    stalk = capsule(half, (8, -14, -18), (34, -14, -11), (2.2 * wide, 1.5 * wide))
    insula = np.minimum(
        1.2 * wide - np.abs(half.x - 38 - 2 * texture), blob(half, (38, -3, 1), (9, 21, 14))
    )
    climb = (half.z - 1 - half.y * np.float32(0.75)) * np.float32(0.8) + 2 * texture
    lips = np.minimum(1.3 * wide - np.abs(climb), np.minimum(half.x - 38, 22 - np.abs(half.y + 2)))
    parts = [suprasellar, crural, around, quadrigeminal, magna, stalk, insula, lips]
    distance: np.ndarray = np.maximum.reduce(parts)
    return distance


def _callosum(p: Points) -> np.ndarray:
    """Distance outside the region that holds the corpus callosum and all below it, in mm."""
    return -blob(p, (0, 4, 0), (1e6, 46, 30))


def _fissures(head: Head, p: Points, above: np.ndarray) -> np.ndarray:
    """Share of fluid between the hemispheres; the falx hangs in it."""
    width = (0.9 + 1.8 * head.atrophy) * np.where(p.y < -20, np.float32(1), np.float32(0.7))
    share: np.ndarray = soft(width - np.abs(p.x)) * soft(_callosum(p)) * ((above > 0) & (p.z > -22))
    return share


def _falx(p: Points, depth: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Share of falx: shallow in front, deep behind."""
    reach = 26 + np.float32(0.25) * p.y
    where = soft(reach - depth) * soft(_callosum(p) - 2) * ((above > 0) & (p.z > -18))
    share: np.ndarray = np.clip(1 - np.abs(p.x), 0, 1) * where
    return share


def _tentorium(p: Points, above: np.ndarray, stem: np.ndarray) -> np.ndarray:
    """Share of tentorium: outside its notch, behind the petrous ridges."""
    notch = 1 - np.sqrt((p.x / 17) ** 2 + ((p.y - 10) / 24) ** 2)
    sheet = np.clip(1.1 - np.abs(above) * np.float32(0.9), 0, 1)
    share: np.ndarray = sheet * soft(-20 * notch) * soft(-stem - 2)
    return share


def _sinuses(
    head: Head, p: Points, depth: np.ndarray, above: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distances into the sagittal and straight sinuses, and the transverse and sigmoid ones."""
    r = head.sinus_mm
    below_table = depth - 0.6 * r
    ahead = step((above + 4) / 2) * step((p.z + 4 + np.maximum(p.y, 0) * np.float32(0.2)) / 3)
    sagittal = r * np.minimum(1, 0.5 + 0.5 * step((p.y + 60) / 20)) * ahead - np.hypot(
        p.x, below_table
    )
    beside = np.where(
        (p.y > 28) & (np.abs(p.x) > 3), np.hypot(above + 1, below_table), np.float32(99)
    )
    sigmoid = capsule(p.folded(), (54, 29, -27), (44, 32, -56), (r, 0.9 * r))
    transverse = np.maximum(r - beside, sigmoid)
    straight = capsule(p, (0, 32, 7), (0, 78, -11), (1.8, 2.4))
    return np.maximum(sagittal, straight), transverse


def _nuclei(head: Head, p: Points) -> np.ndarray:
    """Thalami, lentiform nuclei and heads of the caudate."""
    half = p.folded()
    thalamus = blob(half, (10, 9, 3), (7.5, 14, 9))
    lentiform = blob(half, (24, -6, 1), (7, 17, 10))
    caudate = capsule(half, (14, -27, 6), (16, 0, 20), (5.5, 2.5))
    distance: np.ndarray = np.maximum(np.maximum(thalamus, lentiform), caudate)
    return distance


def _calcium(head: Head, p: Points) -> np.ndarray:
    """Distance into the calcium of pineal gland and choroid plexus; far outside where there is none."""
    pineal, left, right = head.calcified_mm
    at = ((pineal, (0.0, 27.0, 2.0)), (left, (24.0, 32.0, 8.0)), (right, (-24.0, 32.0, 8.0)))
    distances = [blob(p, centre, (r, r, 1.2 * r)) for r, centre in at if r > 0]
    return np.maximum.reduce(distances) if distances else np.full(p.x.shape, -99, np.float32)
