"""A volume turned the one way that models see, its head found, cropped and resampled in plane.

Turned once, here: slices run inferior to superior, rows toward posterior, columns toward the
patient's left (LPS +z, +y, +x). Tilted stacks keep their slices as they were acquired.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.sparse import csr_array

from ich3d.config.schema import PrepareConfig
from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected, SliceKey, Volume

AIR_HU = -1024
TISSUE_HU = -300  # between fat (about -100) and air; head holders of foam stay below
COARSE_MM = 2.0  # grid on which the head is looked for
MIN_HEAD_CM2 = 30.0  # the largest section of a newborn's head has about 70 cm2
AXIAL_COS = np.cos(np.radians(45))
BRAIN_HU = (0, 80)


@dataclass(frozen=True)
class ReorientedVolume:
    """A volume in the model's orientation; `hu` int16 (Z, Y, X), spacing (rows, columns) in mm."""

    hu: np.ndarray
    z_mm: np.ndarray
    keys: tuple[SliceKey, ...]
    spacing_mm: tuple[float, float]


def reorient(volume: Volume) -> ReorientedVolume | Rejected:
    """`volume` with slices toward superior, rows toward posterior, columns toward the patient's left.

    Rejected as NOT_AXIAL where the slice normal is over 45 degrees from the head-foot axis.
    """
    header = volume.series.headers[0]
    row_dir, col_dir = np.array(header.row_dir), np.array(header.col_dir)
    normal = np.cross(row_dir, col_dir)
    if abs(normal[2]) < AXIAL_COS:
        angle = np.degrees(np.arccos(min(1.0, abs(normal[2]))))
        detail = f"the slice normal lies {angle:.0f} degrees from the head-foot axis; axial slices are scored"
        return Rejected(volume.series.volume_id, IssueCode.NOT_AXIAL, detail)
    hu, (row_mm, col_mm) = volume.hu, header.pixel_spacing_mm
    if abs(row_dir[0]) < abs(row_dir[1]):
        hu, row_mm, col_mm = hu.transpose(0, 2, 1), col_mm, row_mm
        row_dir, col_dir = col_dir, row_dir
    flip_z, flip_y, flip_x = normal[2] < 0, col_dir[1] < 0, row_dir[0] < 0
    steps = [slice(None, None, -1) if flip else slice(None) for flip in (flip_z, flip_y, flip_x)]
    z_mm = -volume.series.z_mm[::-1] if flip_z else volume.series.z_mm
    keys = volume.keys[::-1] if flip_z else volume.keys
    return ReorientedVolume(np.ascontiguousarray(hu[tuple(steps)]), z_mm, keys, (row_mm, col_mm))


def crop_head(volume: ReorientedVolume, config: PrepareConfig) -> np.ndarray | None:
    """HU int16 (Z, H, W) on the config's grid, centred on the head; None where no head is found."""
    center = head_center_mm(volume)
    if center is None:
        return None
    size, pixel = config.matrix, config.pixel_mm
    rows, columns = (
        _weights(n, spacing, size, pixel, start_mm=middle - size * pixel / 2)
        for n, spacing, middle in zip(volume.hu.shape[1:], volume.spacing_mm, center, strict=True)
    )
    return _resample(volume.hu, rows, columns)


def head_center_mm(volume: ReorientedVolume) -> tuple[float, float] | None:
    """Centre of the head in plane, (down the rows, along the columns) in mm from the image's corner.

    The head is the largest connected body of tissue once thin things (the table) are opened away;
    the centre is the median over its larger sections of their bounding boxes' centres.
    """
    grids = [
        _weights(n, spacing, max(1, int(n * spacing / COARSE_MM)), COARSE_MM, 0.0)
        for n, spacing in zip(volume.hu.shape[1:], volume.spacing_mm, strict=True)
    ]
    tissue = _resample(volume.hu, *grids) > TISSUE_HU
    disk = np.hypot(*np.mgrid[-3:4, -3:4]) <= 3
    opened = ndimage.binary_opening(tissue, disk[None])
    parts, count = ndimage.label(opened)
    if count == 0:
        return None
    head = parts == 1 + np.argmax(ndimage.sum_labels(opened, parts, range(1, count + 1)))
    area_cm2 = head.sum(axis=(1, 2)) * (COARSE_MM / 10) ** 2
    if area_cm2.max() < MIN_HEAD_CM2:
        return None
    boxes = [
        ndimage.find_objects(section.astype(np.int8))[0]
        for section in head[area_cm2 > area_cm2.max() / 2]
    ]
    middles = [[(side.start + side.stop) / 2 for side in box] for box in boxes]
    row, column = np.median(middles, axis=0) * COARSE_MM
    return float(row), float(column)


def brain_cm2(volume: ReorientedVolume) -> np.ndarray:
    """Area (Z,) of voxels with the HU of brain in each slice, in cm2."""
    low, high = BRAIN_HU
    inside = (volume.hu > low) & (volume.hu <= high)
    return np.asarray(inside.sum(axis=(1, 2)) * (volume.spacing_mm[0] * volume.spacing_mm[1] / 100))


def _weights(n: int, spacing: float, size: int, pixel: float, start_mm: float) -> np.ndarray:
    """Resampling matrix float32 (size, n) of one axis: each output is the mean of the image over a box as
    wide as the larger of both pixels, so nothing aliases and weights inside the image sum to one. For
    pixels finer than the image's that is linear interpolation. What falls outside the image is air.
    """
    reach = max(spacing, pixel)
    centers = start_mm + (np.arange(size)[:, None] + 0.5) * pixel
    left = np.arange(n) * spacing
    overlap = np.minimum(centers + reach / 2, left + spacing) - np.maximum(
        centers - reach / 2, left
    )
    return np.asarray(overlap.clip(min=0) / reach, dtype=np.float32)


def _resample(hu: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """`rows` and `columns` applied to each slice above air; int16, rounded half to even.

    An output pixel reads a few pixels, so the matrices are nearly empty.
    """
    down, across = csr_array(rows), csr_array(columns)
    out = np.empty((len(hu), len(rows), len(columns)), dtype=np.int16)
    for index, image in enumerate(hu):
        above_air = image.astype(np.float32) - AIR_HU
        out[index] = np.rint((across @ (down @ above_air).T).T + AIR_HU).clip(-32768, 32767)
    return out
