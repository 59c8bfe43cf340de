"""Reorient a volume, find the head in it, and resample the head to the model's grid, in plane.

Models see one orientation: slices inferior to superior, rows toward posterior, columns toward the
patient's left (LPS +z, +y, +x). Slices of a tilted gantry stay as they were acquired.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_array

from ich3d.config.schema import PrepareConfig
from ich3d.core.arguments import require_type
from ich3d.core.hounsfield import AIR_HU
from ich3d.core.issues import IssueCode
from ich3d.core.types import Cropping, Issue, Rejected, SliceHeader, SliceKey, Volume
from ich3d.prepare.bit_grid import BitGrid

TISSUE_HU = -300
"""Tissue is above: fat has about -100 HU, head holders of foam stay below."""

COARSE_MM = 2.0
"""Pixel spacing of the grid on which the head is searched."""

OPENING_RADIUS = 3
"""In coarse pixels. What is narrower than about 14 mm, such as the table, is removed."""

MIN_HEAD_CM2 = 30.0
"""Smallest area of the largest section of a head; that of a newborn's has about 70 cm2."""

AXIAL_COS = np.cos(np.radians(45))
"""Smallest cosine between the slice normal and the head-foot axis."""

BRAIN_HU = (0, 80)
"""HU of brain, above the first and up to the second."""


@dataclass(frozen=True)
class ReorientedVolume:
    """A volume at its acquired resolution in the model's orientation.

    Attributes:
        hu: int16 (Z, Y, X), Hounsfield units.
        z_mm: position of each slice along the superior normal (Z,), increasing.
        keys: keys of the slices (Z,).
        pixel_spacing_mm: distance between rows, then between columns, in mm.
    """

    hu: np.ndarray
    z_mm: np.ndarray
    keys: tuple[SliceKey, ...]
    pixel_spacing_mm: tuple[float, float]


def reorient(volume: Volume) -> ReorientedVolume | Rejected:
    """Turn a volume so that its axes point to superior, posterior and the patient's left.

    Axes are transposed and flipped, never interpolated. Rejected as NOT_AXIAL where the slice
    normal is more than 45 degrees from the head-foot axis. DataError where `volume` is no
    `Volume`, but for example a `Rejected`.
    """
    require_type("volume", volume, Volume)
    header = volume.series.headers[0]
    normal_z = np.cross(header.row_dir, header.col_dir)[2]
    if abs(normal_z) < AXIAL_COS:
        angle = np.degrees(np.arccos(min(1.0, abs(normal_z))))
        detail = (
            f"the slice normal lies {angle:.0f} degrees from the head-foot axis; "
            "axial slices are scored"
        )
        return volume.series.reject(Issue(IssueCode.NOT_AXIAL, detail))

    hu, (row_mm, col_mm) = volume.hu, header.pixel_spacing_mm
    is_transposed, flip_y, flip_x = _turn(header)
    if is_transposed:
        hu, row_mm, col_mm = hu.transpose(0, 2, 1), col_mm, row_mm

    flip_z = normal_z < 0
    steps = [slice(None, None, -1) if flip else slice(None) for flip in (flip_z, flip_y, flip_x)]
    return ReorientedVolume(
        hu=np.ascontiguousarray(hu[tuple(steps)]),
        z_mm=-volume.series.z_mm[::-1] if flip_z else volume.series.z_mm,
        keys=volume.keys[::-1] if flip_z else volume.keys,
        pixel_spacing_mm=(row_mm, col_mm),
    )


def _turn(header: SliceHeader) -> tuple[bool, bool, bool]:
    """Whether `reorient` transposes an image, and then flips the order of its rows and columns."""
    row_dir, col_dir = header.row_dir, header.col_dir
    is_transposed = abs(row_dir[0]) < abs(row_dir[1])  # rows run from front to back
    if is_transposed:
        row_dir, col_dir = col_dir, row_dir
    return is_transposed, col_dir[1] < 0, row_dir[0] < 0


def crop_head(volume: ReorientedVolume, config: PrepareConfig) -> np.ndarray | None:
    """HU int16 (Z, H, W) on the config's grid, centred on the head; None where no head is found.

    DataError where `volume` is not what `reorient` returned, but for example a `Rejected`.
    """
    require_type("volume", volume, ReorientedVolume)
    center_mm = head_center_mm(volume)
    return None if center_mm is None else crop_around(volume, center_mm, config)


def crop_around(
    volume: ReorientedVolume, center_mm: tuple[float, float], config: PrepareConfig
) -> np.ndarray:
    """HU int16 (Z, H, W) on the config's grid, centred on what `head_center_mm` returned."""
    size, pixel_mm = config.matrix, config.pixel_mm
    rows, columns = (
        _weights(n, source_mm, size, pixel_mm, start_mm=middle_mm - size * pixel_mm / 2)
        for n, source_mm, middle_mm in zip(
            volume.hu.shape[1:], volume.pixel_spacing_mm, center_mm, strict=True
        )
    )
    return _resample(volume.hu, rows, columns)


def cropping(volume: Volume, center_mm: tuple[float, float], config: PrepareConfig) -> Cropping:
    """How `reorient` and `crop_around` get from the acquired images of `volume` to the grid."""
    header = volume.series.headers[0]
    is_transposed, flip_y, flip_x = _turn(header)
    return Cropping(
        rows=header.rows,
        columns=header.columns,
        pixel_spacing_mm=header.pixel_spacing_mm,
        is_transposed=is_transposed,
        is_flipped=(flip_y, flip_x),
        center_mm=center_mm,
        pixel_mm=config.pixel_mm,
    )


def uncrop(image: np.ndarray, cropping: Cropping) -> np.ndarray:
    """An image (H, W) of the grid on the acquired pixels, float32 (rows, columns).

    It is interpolated linearly, and zero outside the grid.
    """
    pixel_mm = cropping.pixel_mm
    size, spacing_mm = (cropping.rows, cropping.columns), cropping.pixel_spacing_mm
    if cropping.is_transposed:
        size, spacing_mm = size[::-1], spacing_mm[::-1]

    down, across = (
        _weights(n, pixel_mm, count, step_mm, start_mm=n * pixel_mm / 2 - middle_mm)
        for n, count, step_mm, middle_mm in zip(
            image.shape, size, spacing_mm, cropping.center_mm, strict=True
        )
    )
    acquired = down @ image.astype(np.float32) @ across.T
    flip_y, flip_x = (
        slice(None, None, -1) if flip else slice(None) for flip in cropping.is_flipped
    )
    acquired = acquired[flip_y, flip_x]
    return np.ascontiguousarray(acquired.T if cropping.is_transposed else acquired)


def has_head(volume: ReorientedVolume) -> bool:
    """Whether a head is found. Every fifth slice is enough to find an ordinary one in."""
    every_fifth = replace(volume, hu=volume.hu[::5], z_mm=volume.z_mm[::5], keys=volume.keys[::5])
    return head_center_mm(every_fifth) is not None or head_center_mm(volume) is not None


def head_center_mm(volume: ReorientedVolume) -> tuple[float, float] | None:
    """Centre (y, x) of the head in plane, in mm from the corner of the first pixel.

    The head is the largest connected body of tissue after a morphological opening in plane, which
    removes the table. Its centre is the median over its larger sections of the centres of their
    bounding boxes. None where no body is as large as a head.
    """
    grids = [
        _weights(n, source_mm, max(1, int(n * source_mm / COARSE_MM)), COARSE_MM, start_mm=0.0)
        for n, source_mm in zip(volume.hu.shape[1:], volume.pixel_spacing_mm, strict=True)
    ]
    tissue = _resample(volume.hu, *grids) > TISSUE_HU  # (Z, coarse Y, coarse X)

    bodies, count = ndimage.label(_opened(tissue))
    if count == 0:
        return None
    head = bodies == 1 + np.argmax(np.bincount(bodies.ravel())[1:])  # (Z, coarse Y, coarse X)

    area_cm2 = head.sum(axis=(1, 2)) * (COARSE_MM / 10) ** 2  # (Z,)
    if area_cm2.max() < MIN_HEAD_CM2:
        return None

    boxes = [
        ndimage.find_objects(section.astype(np.int8))[0]
        for section in head[area_cm2 > area_cm2.max() / 2]
    ]
    middles = [[(side.start + side.stop) / 2 for side in box] for box in boxes]
    y_mm, x_mm = np.median(middles, axis=0) * COARSE_MM
    return float(y_mm), float(x_mm)


def _opened(tissue: np.ndarray) -> np.ndarray:
    """`tissue`, bool (Z, Y, X), without what is narrower in plane than the opening."""
    _, height, width = tissue.shape
    grid = BitGrid(height, width, margin=OPENING_RADIUS)
    images = (grid.opened(grid.pack(section), OPENING_RADIUS) for section in tissue)
    return np.stack([grid.unpack(image) for image in images])


def brain_hu_cm2(volume: ReorientedVolume) -> np.ndarray:
    """Area of pixels with the HU of brain in each slice (Z,), in square centimetres."""
    low, high = BRAIN_HU
    n_pixels = [np.count_nonzero((image > low) & (image <= high)) for image in volume.hu]
    pixel_cm2 = volume.pixel_spacing_mm[0] * volume.pixel_spacing_mm[1] / 100
    return np.array(n_pixels) * pixel_cm2


def _weights(n: int, source_mm: float, size: int, pixel_mm: float, start_mm: float) -> np.ndarray:
    """Resampling matrix float32 (size, n) of one axis.

    Each output pixel is the mean of the image over a box around its centre. The box is as wide as
    an output pixel, or as an input pixel where that is wider. From 0.5 to 1 mm, a box of 1 mm
    averages two input pixels, so nothing aliases. From 1 to 0.5 mm, a box of 1 mm reaches over two
    input pixels, and its mean is their linear interpolation. Weights of a box inside the image sum
    to one; what lies outside counts as air.

    Args:
        n: number of input pixels.
        source_mm: distance between them.
        size: number of output pixels.
        pixel_mm: distance between them.
        start_mm: where the first output pixel begins, from the edge of the image.
    """
    width_mm = max(source_mm, pixel_mm)
    centers = start_mm + (np.arange(size)[:, None] + 0.5) * pixel_mm  # (size, 1)
    starts = np.arange(n) * source_mm  # (n,)

    right = np.minimum(centers + width_mm / 2, starts + source_mm)  # (size, n)
    left = np.maximum(centers - width_mm / 2, starts)
    return np.asarray((right - left).clip(min=0) / width_mm, dtype=np.float32)


def _resample(hu: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Resample each slice of `hu` (Z, Y, X) to int16 (Z, H, W), rounded half to even.

    `rows` (H, Y) and `columns` (W, X) are from `_weights`. Weights apply to HU above air, so that
    what lies outside the image becomes air.
    """
    down, across = csr_array(rows), csr_array(columns)  # an output pixel reads only a few pixels
    out = np.empty((len(hu), len(rows), len(columns)), dtype=np.int16)
    for index, image in enumerate(hu):
        above_air = image.astype(np.float32) - AIR_HU  # (Y, X)
        resampled = (across @ (down @ above_air).T).T + AIR_HU  # (H, W)
        out[index] = np.rint(resampled).clip(-32768, 32767)
    return out
