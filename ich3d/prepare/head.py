"""A volume turned the one way that models see, its head found, cropped and resampled in plane.

Turned once, here: slices run inferior to superior, rows toward posterior, columns toward the
patient's left (LPS +z, +y, +x). Tilted stacks keep their slices as they were acquired.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ich3d.core.codes import Code
from ich3d.core.config import PrepareConfig
from ich3d.core.types import Rejected, SliceKey, Volume

AIR_HU = -1024
TISSUE_HU = -300  # between fat (about -100) and air; head holders of foam stay below
COARSE_MM = 2.0  # grid on which the head is looked for
MIN_HEAD_CM2 = 30.0  # the largest section of a newborn's head has about 70 cm2
MAX_LEAN_DEG = 28.0  # a head turned further lies on its side
LEAN_GAIN = 0.003  # of correlation, by which a leaning axis must be better than an upright one
MAX_ASIDE_MM = 16.0  # from the middle of the head's box to its midline
AXIAL_COS = np.cos(np.radians(45))
BRAIN_HU = (0, 80)


@dataclass(frozen=True)
class TurnedVolume:
    """A volume in the model's orientation; `hu` int16 (Z, Y, X), spacing (rows, columns) in mm."""

    hu: np.ndarray
    z_mm: np.ndarray
    keys: tuple[SliceKey, ...]
    spacing_mm: tuple[float, float]


def turn(volume: Volume) -> TurnedVolume | Rejected:
    """`volume` with slices toward superior, rows toward posterior, columns toward the patient's left.

    Rejected as NOT_AXIAL where the slice normal is over 45 degrees from the head-foot axis.
    """
    header = volume.series.headers[0]
    row_dir, col_dir = np.array(header.row_dir), np.array(header.col_dir)
    normal = np.cross(row_dir, col_dir)
    if abs(normal[2]) < AXIAL_COS:
        angle = np.degrees(np.arccos(min(1.0, abs(normal[2]))))
        detail = f"the slice normal lies {angle:.0f} degrees from the head-foot axis; axial slices are scored"
        return Rejected(volume.series.volume_id, Code.NOT_AXIAL, detail)
    hu, (row_mm, col_mm) = volume.hu, header.pixel_spacing_mm
    if abs(row_dir[0]) < abs(row_dir[1]):
        hu, row_mm, col_mm = hu.transpose(0, 2, 1), col_mm, row_mm
        row_dir, col_dir = col_dir, row_dir
    flip_z, flip_y, flip_x = normal[2] < 0, col_dir[1] < 0, row_dir[0] < 0
    steps = [slice(None, None, -1) if flip else slice(None) for flip in (flip_z, flip_y, flip_x)]
    z_mm = -volume.series.z_mm[::-1] if flip_z else volume.series.z_mm
    keys = volume.keys[::-1] if flip_z else volume.keys
    return TurnedVolume(np.ascontiguousarray(hu[tuple(steps)]), z_mm, keys, (row_mm, col_mm))


@dataclass(frozen=True)
class HeadPlace:
    """Where a head lies in its images: a point of the midline, (down the rows, along the columns) in mm from
    the image's corner, and how far the midline leans out of the columns, in degrees, positive where the top
    of the image leans toward its right."""

    row_mm: float
    column_mm: float
    lean_deg: float


def crop(volume: TurnedVolume, config: PrepareConfig) -> np.ndarray | None:
    """HU int16 (Z, H, W) on the config's grid, centred on the head, its midline upright and in the middle,
    so that one side can be compared with the other; None where no head is found."""
    place = head_place(volume)
    if place is None:
        return None
    size, pixel = config.matrix, config.pixel_mm
    if place.lean_deg == 0:
        return _resample(volume.hu, *_grid(volume, place, size, pixel))
    # Turning interpolates. On pixels of half the size, where the image has them, it blurs less.
    finer = 2 if pixel >= 2 * max(volume.spacing_mm) else 1
    lean = np.radians(place.lean_deg)
    reach = math.ceil(size * finer * (abs(np.cos(lean)) + abs(np.sin(lean))) / 2) + 1
    wide = _resample(volume.hu, *_grid(volume, place, 2 * reach, pixel / finer))
    out = np.empty((len(wide), size, size), dtype=np.int16)
    middle, about = np.full(2, size * finer / 2 - 0.5), np.full(2, reach - 0.5)
    for index, image in enumerate(wide):
        above_air = image.astype(np.float32) - AIR_HU
        upright = _turned(above_air, place.lean_deg, about, middle, (size * finer, size * finer))
        out[index] = np.rint(upright.reshape(size, finer, size, finer).mean(axis=(1, 3)) + AIR_HU)
    return out


def head_place(volume: TurnedVolume) -> HeadPlace | None:
    """The place of the head, None where there is none.

    The head is the largest connected body of tissue once thin things (the table) are opened away. Its
    middle is the median over its larger sections of their bounding boxes' centres, then moved to the
    midline: the axis about which the mean of these sections is most like its own mirror image.
    """
    grids = [
        _weights(n, spacing, max(1, int(n * spacing / COARSE_MM)), COARSE_MM, 0.0)
        for n, spacing in zip(volume.hu.shape[1:], volume.spacing_mm, strict=True)
    ]
    coarse = _resample(volume.hu, *grids)
    disk = np.hypot(*np.mgrid[-3:4, -3:4]) <= 3
    opened = ndimage.binary_opening(coarse > TISSUE_HU, disk[None])
    parts, count = ndimage.label(opened)
    if count == 0:
        return None
    head = parts == 1 + np.argmax(ndimage.sum_labels(opened, parts, range(1, count + 1)))
    area_cm2 = head.sum(axis=(1, 2)) * (COARSE_MM / 10) ** 2
    if area_cm2.max() < MIN_HEAD_CM2:
        return None
    large = area_cm2 > area_cm2.max() / 2
    boxes = [ndimage.find_objects(section.astype(np.int8))[0] for section in head[large]]
    row, column = np.median([[(side.start + side.stop) / 2 for side in box] for box in boxes], axis=0)
    hu = np.where(head[large], coarse[large].clip(TISSUE_HU, -TISSUE_HU), TISSUE_HU)
    lean, aside = _midline(hu.mean(axis=0) - TISSUE_HU, row - 0.5, column - 0.5)
    across, down = aside * np.cos(np.radians(lean)), aside * np.sin(np.radians(lean))
    return HeadPlace(float(row + down) * COARSE_MM, float(column + across) * COARSE_MM, lean)


def _midline(section: np.ndarray, row: float, column: float) -> tuple[float, float]:
    """Lean in degrees of the axis of symmetry of `section` (Y, X), and how many pixels it lies to the right
    of (row, column), across itself. Upright where nothing speaks for a lean."""
    smooth = ndimage.gaussian_filter(section, 1.0)  # turning smooths too: all angles start alike
    about = np.array([row, column])

    def fit(lean: float) -> tuple[float, float]:
        return _mirror_fit(_turned(smooth, lean, about, about, smooth.shape), column)

    best, (least, aside) = 0.0, fit(0.0)
    least += LEAN_GAIN
    for step, reach in ((4.0, MAX_LEAN_DEG), (1.0, 3.0)):
        fits = {float(lean): fit(lean) for lean in best + np.arange(-reach, reach + step / 2, step)}
        top = max(fits, key=lambda lean: fits[lean][0])
        if fits[top][0] > least:
            best, (least, aside) = top, fits[top]
    return best, aside


def _mirror_fit(image: np.ndarray, column: float) -> tuple[float, float]:
    """Correlation of `image` (Y, X) with its best mirror image about an upright axis, and how many columns
    that axis lies to the right of `column`."""
    width = image.shape[1]
    centered = image - image.mean()
    spectrum = np.fft.rfft(centered, 2 * width, axis=1)
    # The sum over x of f(x) f(s - x), for every s at once; s is twice the axis.
    products = np.fft.irfft((spectrum**2).sum(axis=0), 2 * width)
    near = np.abs(np.arange(2 * width) / 2 - column) <= MAX_ASIDE_MM / COARSE_MM
    best = int(np.flatnonzero(near)[np.argmax(products[near])])
    return float(products[best] / max(1e-9, (centered**2).sum())), best / 2 - column


def _turned(
    image: np.ndarray, lean: float, about: np.ndarray, to: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """`image` (Y, X) turned so that what leans by `lean` degrees stands upright, its pixel `about` brought to
    `to` in an image of `shape`; zero outside."""
    cos, sin = np.cos(np.radians(lean)), np.sin(np.radians(lean))
    matrix = np.array([[cos, sin], [-sin, cos]])
    offset = about - matrix @ to
    return np.asarray(ndimage.affine_transform(image, matrix, offset, shape, order=1))


def brain_cm2(volume: TurnedVolume) -> np.ndarray:
    """Area (Z,) of voxels with the HU of brain in each slice, in cm2."""
    low, high = BRAIN_HU
    inside = (volume.hu > low) & (volume.hu <= high)
    return np.asarray(inside.sum(axis=(1, 2)) * (volume.spacing_mm[0] * volume.spacing_mm[1] / 100))


def _grid(volume: TurnedVolume, place: HeadPlace, size: int, pixel: float) -> tuple[np.ndarray, np.ndarray]:
    """The resampling matrices of rows and columns for `size` x `size` pixels of `pixel` mm about the head."""
    rows, columns = (
        _weights(n, spacing, size, pixel, start_mm=middle - size * pixel / 2)
        for n, spacing, middle in zip(
            volume.hu.shape[1:], volume.spacing_mm, (place.row_mm, place.column_mm), strict=True
        )
    )
    return rows, columns


def _weights(n: int, spacing: float, size: int, pixel: float, start_mm: float) -> np.ndarray:
    """Resampling matrix float32 (size, n) of one axis: each output is the mean of the image over a box as
    wide as the larger of both pixels, so nothing aliases and weights inside the image sum to one. For
    pixels finer than the image's that is linear interpolation. What falls outside the image is air.
    """
    reach = max(spacing, pixel)
    centers = start_mm + (np.arange(size)[:, None] + 0.5) * pixel
    left = np.arange(n) * spacing
    overlap = np.minimum(centers + reach / 2, left + spacing) - np.maximum(centers - reach / 2, left)
    return np.asarray(overlap.clip(min=0) / reach, dtype=np.float32)


def _resample(hu: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """`rows` and `columns` applied to each slice above air; int16, rounded half to even."""
    out = np.empty((len(hu), len(rows), len(columns)), dtype=np.int16)
    for index, image in enumerate(hu):
        above_air = image.astype(np.float32) - AIR_HU
        out[index] = np.rint(rows @ above_air @ columns.T + AIR_HU).clip(-32768, 32767)
    return out
