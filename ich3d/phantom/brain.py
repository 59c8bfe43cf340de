"""The brain in its cavity: gyri, deep nuclei, ventricles, cisterns, dural folds and venous sinuses.

Functions take points (N,) in the head frame, mm, and return float32 (N,): signed distances in mm,
positive inside, or fractions 0..1 of a voxel that a structure fills.
"""

from dataclasses import dataclass

import numpy as np

from ich3d.phantom.fields import Points, blend, blob, capsule, ellipsoid, smooth_step, soft_mask
from ich3d.phantom.head import Head

_SULCUS_DEPTH_MM = 16.0
_FOLD_RADIUS_MM = 75.0
# Mean slope of noise smoothed with a Gaussian of SD s: 1 / (sqrt(2) s) per mm; here s is 3 mm.
_FOLD_SLOPE = 0.236


@dataclass(frozen=True)
class Brain:
    """Tissue and geometry at points (N,) inside the cavity; every array is float32 (N,).

    points: head coordinates in mm.
    hu: Hounsfield units without noise.
    depth_mm: distance below the inner table of the skull.
    csf: fraction 0..1 of fluid outside the ventricles.
    ventricle: fraction 0..1 of ventricle.
    parenchyma: fraction 0..1 of brain tissue.
    above_tentorium_mm: positive above the tentorium, negative below it.
    sagittal_sinus_mm: distance into the superior sagittal or straight sinus.
    transverse_sinus_mm: distance into a transverse or sigmoid sinus.
    texture: smooth noise of mean 0 and SD 1.
    csf_gap_mm: width of the fluid between skull and brain, one number.
    """

    points: Points
    hu: np.ndarray
    depth_mm: np.ndarray
    csf: np.ndarray
    ventricle: np.ndarray
    parenchyma: np.ndarray
    above_tentorium_mm: np.ndarray
    sagittal_sinus_mm: np.ndarray
    transverse_sinus_mm: np.ndarray
    texture: np.ndarray
    csf_gap_mm: float


def brain_at(head: Head, p: Points, depth_mm: np.ndarray) -> Brain:
    """The brain at points `p` (N,) that lie `depth_mm` (N,) below the inner table of the skull."""
    csf_gap_mm = 0.6 + 3.0 * head.atrophy**2
    above = _above_tentorium(p)
    texture = head.texture.sample(p)
    stem = _brainstem(p)
    cortex, sulci = _cortex_and_sulci(head, p, depth_mm - np.float32(csf_gap_mm), above)

    ventricle = soft_mask(_ventricles(head, p))
    csf_spaces = [
        soft_mask(csf_gap_mm - depth_mm),
        sulci * soft_mask(-stem - 1),
        soft_mask(_cisterns(head, p, stem, texture)),
        _interhemispheric_fissure(head, p, above),
    ]
    csf = np.maximum.reduce(csf_spaces) * (1 - ventricle)

    # Later tissues cover earlier ones.
    hu = _grey_and_white(head, p, cortex, stem)
    hu += 1.2 * texture
    blend(hu, np.maximum(csf, ventricle), head.hu["csf"])
    dura = np.maximum(_falx(p, depth_mm, above), _tentorium(p, above, stem))
    blend(hu, dura, head.hu["dura"])
    sagittal, transverse = _sinuses(head, p, depth_mm, above)
    blend(hu, soft_mask(np.maximum(sagittal, transverse)), head.hu["sinus"])
    blend(hu, soft_mask(_calcium(head, p)), head.hu["calcium"])

    return Brain(
        points=p,
        hu=hu,
        depth_mm=depth_mm,
        csf=csf,
        ventricle=ventricle,
        parenchyma=(1 - csf) * (1 - ventricle),
        above_tentorium_mm=above,
        sagittal_sinus_mm=sagittal,
        transverse_sinus_mm=transverse,
        texture=texture,
        csf_gap_mm=csf_gap_mm,
    )


def _grey_and_white(head: Head, p: Points, cortex: np.ndarray, stem: np.ndarray) -> np.ndarray:
    """HU of brain tissue: cortex, deep nuclei and white matter; the brainstem is a mixture."""
    hu: np.ndarray = head.hu["white"] + (head.hu["grey"] - head.hu["white"]) * cortex
    deep_grey = np.maximum(soft_mask(_nuclei(p)), 0.45 * soft_mask(stem))
    blend(hu, deep_grey, head.hu["deep_grey"])
    return hu


def tentorium_height(p: Points) -> np.ndarray:
    """Height (z) of the tentorium in mm: a tent whose ridge falls from great vein to torcula."""
    height: np.ndarray = 8 - np.float32(0.4) * (p.y - 30) - np.float32(0.0105) * p.x * p.x
    return height


def _above_tentorium(p: Points) -> np.ndarray:
    """Height above the tentorium in mm; 30 in front of the petrous ridges, where it ends."""
    behind_petrous = p.y > 5 + np.float32(0.66) * np.maximum(np.abs(p.x) - 14, 0)
    return np.where(behind_petrous, p.z - tentorium_height(p), np.float32(30))


def _cortex_and_sulci(
    head: Head, p: Points, depth_mm: np.ndarray, above: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fractions of cortex and of sulcal fluid; `depth_mm` is measured from the brain's surface.

    Sulci are sheets: each point is projected towards the surface of the brain, a noise field is
    read there, and a sheet sinks from the surface wherever that noise is zero.
    """
    cerebellum = above < 0
    to_sheet = np.abs(head.folds.interpolate(_on_surface(p, cerebellum))) / np.float32(_FOLD_SLOPE)

    # Sulci narrow with depth, widen with atrophy, and are finer in the cerebellum.
    fade = np.clip(1 - depth_mm / np.float32(_SULCUS_DEPTH_MM), 0, 1)
    narrowing = np.where(cerebellum, np.float32(0.6), np.float32(1))
    width = (np.float32(0.45 + 1.5 * head.atrophy) * fade) * narrowing
    sulci = np.clip(width - to_sheet + np.float32(0.3), 0, 1) * (fade > 0)

    # The cortex lines the surface and both sides of each sulcus.
    near_sheet = np.where(depth_mm < _SULCUS_DEPTH_MM + 3, to_sheet - width, np.float32(9))
    cortex = soft_mask(2.8 - np.minimum(depth_mm, near_sheet))
    return np.where(cerebellum, 0.5 + 0.4 * cortex, cortex), sulci


def _on_surface(p: Points, cerebellum: np.ndarray) -> Points:
    """Points (N,) of the cerebrum pulled to the surface; those of the cerebellum spread along z.

    The pull makes gyri run inward from the surface; the spread makes the folia flat and thin.
    """
    radius = np.sqrt(p.x * p.x + p.y * p.y + p.z * p.z) + np.float32(1e-3)
    pull = np.float32(0.35) + np.float32(0.65 * _FOLD_RADIUS_MM) / radius
    return Points(
        np.where(cerebellum, p.x, p.x * pull),
        np.where(cerebellum, p.y, p.y * pull),
        np.where(cerebellum, p.z * np.float32(2.2), p.z * pull),
    )


def _brainstem(p: Points) -> np.ndarray:
    """Distance in mm into midbrain, pons and medulla."""
    midbrain = capsule(p, (0, 12, -6), (0, 12, -20), (12, 13))
    pons = capsule(p, (0, 15, -26), (0, 18, -38), (14, 13))
    medulla = capsule(p, (0, 22, -44), (0, 32, -75), (9, 7))
    distance: np.ndarray = np.maximum(np.maximum(midbrain, pons), medulla)
    return distance


def _ventricles(head: Head, p: Points) -> np.ndarray:
    """Distance in mm into the lateral ventricles with their horns, the third and the fourth."""
    left, v = p.mirrored_to_left(), head.ventricle_width
    frontal = capsule(left, (12, -36, 6), (9, -12, 17), (3.6 * v, 4.2 * v))
    body = capsule(left, (9, -12, 17), (14, 18, 21), (4.2 * v, 4.4 * v))
    atrium = capsule(left, (14, 18, 21), (25, 34, 6), (4.4 * v, 5.4 * v))
    occipital = capsule(left, (25, 34, 6), (19, 60, 4), (5.2 * v, 1.8 * v))
    temporal = capsule(left, (25, 34, 6), (33, 4, -20), (4.2 * v, 1.4 * v))
    third = blob(p, (0, 2, -1), (2.2 * v, 16, 11))
    fourth = ellipsoid(p, (0, 34, -37), (6.5 * v, 6 * v, 9))

    parts = [frontal, body, atrium, occipital, temporal, third, fourth]
    distance: np.ndarray = np.maximum.reduce(parts)
    return distance


def _cisterns(head: Head, p: Points, stem: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """Distance in mm into the basal cisterns and the Sylvian fissures, wider with atrophy."""
    left, wide = p.mirrored_to_left(), 0.7 + 0.6 * head.atrophy
    suprasellar = blob(p, (0, -11, -19), (10 * wide, 9 * wide, 7))
    crural = capsule(left, (4, -6, -18), (17, 4, -17), (3 * wide, 2 * wide))
    quadrigeminal = blob(p, (0, 28, -3), (9 * wide, 4.5 * wide, 9))
    magna = blob(p, (0, 60, -60), (14 * wide, 12 * wide, 9))

    # Ambient and prepontine cisterns: a layer around the front and the sides of the brainstem.
    ambient = np.minimum(2.4 * wide + texture + stem, -stem)
    ambient = np.minimum(ambient, np.minimum(15 - p.y, -4 - p.z))

    # Each Sylvian fissure has a stem, a sheet over the insula, and a slit between its lips.
    stalk = capsule(left, (8, -14, -18), (34, -14, -11), (2.2 * wide, 1.5 * wide))
    sheet = 1.2 * wide - np.abs(left.x - 38 - 2 * texture)
    insula = np.minimum(sheet, blob(left, (38, -3, 1), (9, 21, 14)))
    climb = (left.z - 1 - left.y * np.float32(0.75)) * np.float32(0.8) + 2 * texture
    lips = np.minimum(1.3 * wide - np.abs(climb), np.minimum(left.x - 38, 22 - np.abs(left.y + 2)))

    parts = [suprasellar, crural, ambient, quadrigeminal, magna, stalk, insula, lips]
    distance: np.ndarray = np.maximum.reduce(parts)
    return distance


def _above_callosum(p: Points) -> np.ndarray:
    """Distance in mm outside the region of the corpus callosum and all that lies below it."""
    return -blob(p, (0, 4, 0), (1e6, 46, 30))


def _interhemispheric_fissure(head: Head, p: Points, above: np.ndarray) -> np.ndarray:
    """Fraction of fluid between the hemispheres; the falx hangs in it."""
    width = (0.9 + 1.8 * head.atrophy) * np.where(p.y < -20, np.float32(1), np.float32(0.7))
    slit = soft_mask(width - np.abs(p.x)) * soft_mask(_above_callosum(p))
    fraction: np.ndarray = slit * ((above > 0) & (p.z > -22))
    return fraction


def _falx(p: Points, depth_mm: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Fraction of falx: shallow in front, deep behind."""
    reach = 26 + np.float32(0.25) * p.y
    region = soft_mask(reach - depth_mm) * soft_mask(_above_callosum(p) - 2)
    region = region * ((above > 0) & (p.z > -18))
    fraction: np.ndarray = np.clip(1 - np.abs(p.x), 0, 1) * region
    return fraction


def _tentorium(p: Points, above: np.ndarray, stem: np.ndarray) -> np.ndarray:
    """Fraction of tentorium: outside its notch, behind the petrous ridges."""
    notch = 1 - np.sqrt((p.x / 17) ** 2 + ((p.y - 10) / 24) ** 2)
    sheet = np.clip(1.1 - np.abs(above) * np.float32(0.9), 0, 1)
    fraction: np.ndarray = sheet * soft_mask(-20 * notch) * soft_mask(-stem - 2)
    return fraction


def _sinuses(
    head: Head, p: Points, depth_mm: np.ndarray, above: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distances in mm into sagittal or straight sinus, and into transverse or sigmoid sinus."""
    radius = head.sinus_mm
    below_table = depth_mm - 0.6 * radius

    # The sagittal sinus widens towards the back and ends at the torcula.
    above_base = (p.z + 4 + np.maximum(p.y, 0) * np.float32(0.2)) / 3
    extent = smooth_step((above + 4) / 2) * smooth_step(above_base)
    widening = np.minimum(1, 0.5 + 0.5 * smooth_step((p.y + 60) / 20))
    sagittal = radius * widening * extent - np.hypot(p.x, below_table)
    straight = capsule(p, (0, 32, 7), (0, 78, -11), (1.8, 2.4))

    # The transverse sinuses follow the edge of the tentorium; the sigmoids leave it downward.
    on_edge = (p.y > 28) & (np.abs(p.x) > 3)
    to_axis = np.where(on_edge, np.hypot(above + 1, below_table), np.float32(99))
    left = p.mirrored_to_left()
    sigmoid = capsule(left, (54, 29, -27), (44, 32, -56), (radius, 0.9 * radius))
    return np.maximum(sagittal, straight), np.maximum(radius - to_axis, sigmoid)


def _nuclei(p: Points) -> np.ndarray:
    """Distance in mm into thalami, lentiform nuclei and heads of the caudate."""
    left = p.mirrored_to_left()
    thalamus = blob(left, (10, 9, 3), (7.5, 14, 9))
    lentiform = blob(left, (24, -6, 1), (7, 17, 10))
    caudate = capsule(left, (14, -27, 6), (16, 0, 20), (5.5, 2.5))
    distance: np.ndarray = np.maximum(np.maximum(thalamus, lentiform), caudate)
    return distance


def _calcium(head: Head, p: Points) -> np.ndarray:
    """Distance in mm into calcified pineal gland and choroid plexus; -99 if none is calcified."""
    centres = ((0.0, 27.0, 2.0), (24.0, 32.0, 8.0), (-24.0, 32.0, 8.0))
    distances = [
        blob(p, centre, (radius, radius, 1.2 * radius))
        for radius, centre in zip(head.calcified_mm, centres, strict=True)
        if radius > 0
    ]
    return np.maximum.reduce(distances) if distances else np.full(p.x.shape, -99, np.float32)
