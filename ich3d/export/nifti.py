"""HU volumes to NIfTI files, each voxel where it is in the patient.

A tilted gantry makes a sheared grid. SimpleITK replaces its direction by an orthogonal one when it writes,
so the exact affine goes into the sform through nibabel; the qform cannot hold it and is marked unknown
(NIfTI-1: `qform_code` 0). A file holds HU and the affine, and nothing of the patient or the study.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Final
from urllib.parse import quote

import nibabel
import numpy as np
import SimpleITK as sitk

from ich3d.core.issues import IssueCode
from ich3d.core.text import pluralize
from ich3d.core.types import Reason, Rejected, Series, Volume
from ich3d.core.workspace import replacing
from ich3d.dicom.geometry import STEP_TOLERANCE, STEP_TOLERANCE_MM, normal, rejected
from ich3d.dicom.headers.elements import tag_text
from ich3d.dicom.pixels.rescale import AIR_HU
from ich3d.dicom.volume import load_volume

LARGEST_GROWTH: Final = 8
"""How many times its own voxels a deskewed volume may take. A tilt of 30 degrees or a missing third takes
less than twice; slices that are permute_slices about would fill the memory with air."""

LONGEST_NAME: Final = 255 - len(".nii.gz") - len("..partial")
"""Of a volume's file without its extension: file systems take 255 bytes, and it is first written beside its
place under a longer name. UIDs by the rules have at most 64 (PS3.5 9.1)."""

_LPS_TO_RAS: Final = np.diag((-1.0, -1.0, 1.0, 1.0))
_COMPRESSION: Final = 3


@dataclass(frozen=True)
class Grid:
    """HU int16 (Z, Y, X) with the affine (4, 4) from index (column, row, slice) to LPS mm.

    `reasons` are those of the volume, and what placing it on the grid adds.
    """

    hu: np.ndarray
    affine_mm: np.ndarray
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Converted:
    """The file that holds a volume, with the shape (Z, Y, X) and the reasons of its grid."""

    path: Path
    shape: tuple[int, int, int]
    reasons: tuple[Reason, ...]


def as_acquired(volume: Volume) -> Grid | Rejected:
    """The slices as they are. Rejected where no one affine puts every slice in its place."""
    problem = _no_affine(volume)
    if problem is not None:
        return rejected(volume.series, problem)
    assert volume.affine_mm is not None
    return Grid(volume.hu, volume.affine_mm, volume.reasons)


def deskewed(volume: Volume) -> Grid | Rejected:
    """The volume on an orthogonal grid: its slices' rows, columns and normal, one plane a median step.

    Each slice is shifted within its plane to where its position puts it, and a plane between slices is
    linear between the nearest two, so tilt, gaps and shifted slices all come out straight. Outside is air.
    Rejected where a single slice gives no step, or where slices are permute_slices too far apart.
    """
    series = volume.series
    if series.spacing_mm is None:
        return rejected(series, _single(series))
    place_mm, axes = _places(series)
    between_rows, between_columns = series.headers[0].pixel_spacing_mm
    steps = np.array((between_columns, between_rows, series.spacing_mm))
    corner_mm = place_mm.min(axis=0)
    indices = (place_mm - corner_mm) / steps
    n_slices, rows, columns = volume.hu.shape
    extent = indices.max(axis=0)
    size = (columns + _whole(extent[0]), rows + _whole(extent[1]))
    n_planes = 1 + round(extent[2])
    if n_planes * size[0] * size[1] > LARGEST_GROWTH * volume.hu.size:
        detail = f"its {n_slices} slices would take {n_planes} planes of {size[1]} x {size[0]}"
        return rejected(
            series, Reason(IssueCode.IRREGULAR_SPACING, f"{series.volume_id}: {detail}")
        )
    affine = np.eye(4)
    affine[:3, :3] = axes * steps
    affine[:3, 3] = axes @ corner_mm
    return Grid(
        _planes(volume.hu, indices, n_planes, size), affine, (*volume.reasons, *_resampled(volume))
    )


def convert(
    series: Series, folder: Path, place: Callable[[Volume], Grid | Rejected] = as_acquired
) -> Converted | Rejected:
    """Write `series` as `<volume_id>.nii.gz` into `folder`, placed by `as_acquired` or `deskewed`.

    Rejected where its UID is too long for a name, its pixels cannot be read or `place` finds no grid; then
    no file is written. Of several volumes of one SeriesInstanceUID, `ich3d.dicom.validate.check_siblings` tells
    whether all stand.
    """
    name = quote(series.volume_id, safe="")  # a foreign UID may hold a slash
    if len(name) > LONGEST_NAME:
        return rejected(series, _too_long(series))
    volume = load_volume(series)
    if isinstance(volume, Rejected):
        return volume
    grid = place(volume)
    if isinstance(grid, Rejected):
        return grid
    path = folder / f"{name}.nii.gz"
    write_nifti(grid, path)
    n_slices, rows, columns = grid.hu.shape
    return Converted(path, (n_slices, rows, columns), grid.reasons)


def write_nifti(grid: Grid, path: Path) -> None:
    """Write `grid` as gzipped NIfTI-1, axes (column, row, slice), affine in RAS mm; equal grids give
    equal bytes."""
    image = nibabel.Nifti1Image(grid.hu.transpose(2, 1, 0), _LPS_TO_RAS @ grid.affine_mm)
    image.set_qform(None, code="unknown")
    image.set_sform(image.affine, code="scanner")
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(1, 0)
    with replacing(path) as partial:
        partial.write_bytes(gzip.compress(image.to_bytes(), _COMPRESSION, mtime=0))


def _no_affine(volume: Volume) -> Reason | None:
    """Why no one affine holds the volume, if none does."""
    series = volume.series
    if series.spacing_mm is None:
        return _single(series)
    if volume.affine_mm is None:
        odd = next(
            r
            for r in series.reasons
            if r.code in (IssueCode.IRREGULAR_SPACING, IssueCode.SHIFTED_SLICE)
        )
        return Reason(odd.code, f"{odd.detail}: it is written only with --deskew")
    line = np.outer(np.arange(len(series)), volume.affine_mm[:3, 2]) + volume.affine_mm[:3, 3]
    stray = np.linalg.norm([h.position_mm for h in series.headers] - line, axis=1)
    worst = int(np.argmax(stray))
    if stray[worst] <= max(STEP_TOLERANCE_MM, STEP_TOLERANCE * series.spacing_mm):
        return None
    detail = f"{series.headers[worst].name} lies {stray[worst]:.2f} mm off the line of the others"
    return Reason(
        IssueCode.IRREGULAR_SPACING, f"{detail}: the volume is written only with --deskew"
    )


def _single(series: Series) -> Reason:
    name = series.headers[0].name
    return Reason(
        IssueCode.SINGLE_SLICE, f"{name} is the only slice of its series, which gives no step"
    )


def _too_long(series: Series) -> Reason:
    subject = f"{series.headers[0].name}: {tag_text('SeriesInstanceUID')}"
    detail = (
        f"has {pluralize(len(series.series_uid), 'character')}, too many for the name of a file"
    )
    return Reason(IssueCode.NO_UID, f"{subject} {detail}")


def _places(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """Each slice's position (Z, 3) in mm along the axes, and the axes (3, 3) as columns in LPS: row
    direction, column direction, normal."""
    first = series.headers[0]
    axes = np.column_stack((first.row_dir, first.col_dir, normal(series)))
    positions = np.array([header.position_mm for header in series.headers])
    return np.linalg.solve(axes, positions.T).T, axes


def _planes(
    hu: np.ndarray, indices: np.ndarray, n_planes: int, size: tuple[int, int]
) -> np.ndarray:
    """The slices `hu` (Z, Y, X), whose first pixels lie at `indices` (Z, 3) = (column, row, plane) of the
    grid, as its `n_planes` planes of `size` (columns, rows)."""
    planes = np.empty((n_planes, *reversed(size)), dtype=np.int16)
    between = np.interp(np.arange(n_planes), indices[:, 2], np.arange(len(hu)))
    for plane, (lower, weight) in zip(planes, ((int(b), b % 1) for b in between), strict=True):
        values = _shifted(hu[lower], indices[lower], size)
        if weight:
            values += weight * (_shifted(hu[lower + 1], indices[lower + 1], size) - values)
        plane[:] = np.rint(values)
    return planes


def _shifted(pixels: np.ndarray, index: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One slice (Y, X) float32 on a plane of `size` (columns, rows), its first pixel at `index`."""
    image = sitk.GetImageFromArray(pixels)
    image.SetOrigin(index[:2].tolist())
    resampled = sitk.Resample(
        image, size, sitk.Transform(), sitk.sitkLinear, (0.0, 0.0), (1.0, 1.0), (1.0, 0.0, 0.0, 1.0),
        AIR_HU, sitk.sitkFloat32,
    )  # fmt: skip
    values: np.ndarray = sitk.GetArrayFromImage(resampled)
    return values


def _resampled(volume: Volume) -> tuple[Reason, ...]:
    """What is said of a volume that was not regular before it was deskewed."""
    if _no_affine(volume) is None:
        return ()
    return (
        Reason(
            IssueCode.IRREGULAR_SPACING,
            f"resampled to its median step of {volume.series.spacing_mm:.2f} mm",
        ),
    )


def _whole(pixels: float) -> int:
    """Whole pixels that hold `pixels`; positions written to a few decimals may err by a hundredth."""
    return ceil(pixels - 0.01)
