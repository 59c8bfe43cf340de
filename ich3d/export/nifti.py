"""CT volumes as NIfTI files in Hounsfield units, every voxel at its place in the patient.

A tilted gantry gives a sheared grid. SimpleITK makes the directions orthogonal when it writes
such a grid, so files are written with nibabel: the exact affine goes into the sform, and the
qform, which cannot hold a shear, is marked as unknown (NIfTI-1, `qform_code` 0). A file holds
pixels and an affine, and nothing that identifies the patient or the study.
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

from ich3d.core.hounsfield import AIR_HU
from ich3d.core.issues import IssueCode
from ich3d.core.outputs import refusal
from ich3d.core.text import pluralize
from ich3d.core.types import Issue, Rejected, Series, Volume
from ich3d.core.workspace import replacing
from ich3d.dicom.geometry import (
    STEP_TOLERANCE,
    STEP_TOLERANCE_MM,
    common_plane,
    slice_affine_mm,
    slice_thickness_mm,
)
from ich3d.dicom.headers.elements import tag_text

MAX_GROWTH: Final = 8
"""Largest number of voxels of a deskewed volume, as a multiple of the acquired ones. A tilt of 30
degrees, or a third of the slices missing, needs less than 2; slices far apart would fill the memory
with air."""

MAX_NAME_LENGTH: Final = 255 - len(".nii.gz")
"""Longest file name without its extension, in bytes: file systems allow 255. Valid UIDs have at
most 64 characters (PS3.5 9.1)."""

PLACEHOLDER_MM: Final = 1.0
"""Thickness of a single slice that states none, in mm: an affine needs one."""

ITK_ORTHOGONAL: Final = 1e-4
"""Cosines between axes up to which ITK takes them for perpendicular (itkNiftiImageIO)."""

ON_PLANE_MM: Final = 0.1
"""A slice so near to a plane of the grid lies on it."""

_LPS_TO_RAS: Final = np.diag((-1.0, -1.0, 1.0, 1.0))
_COMPRESSION_LEVEL: Final = 3


@dataclass(frozen=True)
class Grid:
    """A volume on the grid on which it is written.

    Attributes:
        hu: (Z, Y, X) int16, Hounsfield units.
        affine_mm: (4, 4), from index (column, row, slice) to LPS millimetres.
        issues: the issues of the volume, and those that resampling added.
    """

    hu: np.ndarray
    affine_mm: np.ndarray
    issues: tuple[Issue, ...]


@dataclass(frozen=True)
class Converted:
    """A written file, with the shape (Z, Y, X) and the issues of its grid.

    `note` says what to know of the file where not every program can read it.
    """

    path: Path
    shape: tuple[int, int, int]
    issues: tuple[Issue, ...]
    note: str = ""


def as_acquired(volume: Volume) -> Grid | Rejected:
    """The slices as they were acquired.

    A single slice is as thick as its SliceThickness, or 1 mm, with an issue, where that is missing.
    Rejected where no single affine describes the place of every slice.
    """
    if len(volume.series) == 1:
        return _single_slice(volume)
    issue = _no_affine_issue(volume)
    if issue is not None:
        return volume.series.reject(issue)
    assert volume.affine_mm is not None
    return Grid(volume.hu, volume.affine_mm, volume.issues)


def deskewed(volume: Volume) -> Grid | Rejected:
    """The volume resampled to an orthogonal grid along rows, columns and slice normal.

    Each slice is shifted within its plane to its own position, and a plane between two slices is
    interpolated linearly, which straightens a tilt, gaps and shifted slices alike. The rest of the
    grid is filled with air. Planes are one step apart; where steps differ, as near as it takes for
    every slice to lie on a plane (`_plane_step_mm`): on a coarser grid a slice would be blended
    with its neighbours.

    A single slice stays as it was acquired. Rejected where slices are too far apart (`MAX_GROWTH`).
    """
    series = volume.series
    if series.spacing_mm is None:
        return _single_slice(volume)

    # The grid starts at the smallest coordinate of any slice on each axis.
    axes = _grid_axes(series)
    positions_mm = _positions_along(series, axes)
    between_rows, between_columns = series.headers[0].pixel_spacing_mm
    origin_mm = positions_mm.min(axis=0)
    offsets_mm = positions_mm - origin_mm  # (Z, 3)

    # It ends where the last slice does: shifted slices need more columns or rows than each has.
    n_slices, rows, columns = volume.hu.shape
    extent_mm = offsets_mm.max(axis=0)
    size = (
        columns + _whole_pixels(extent_mm[0] / between_columns),
        rows + _whole_pixels(extent_mm[1] / between_rows),
    )
    max_planes = MAX_GROWTH * volume.hu.size // (size[0] * size[1])
    step_mm = series.spacing_mm
    if _no_affine_issue(volume) is not None:
        step_mm = _plane_step_mm(offsets_mm[:, 2], step_mm, max_planes)
    steps_mm = np.array((between_columns, between_rows, step_mm))
    indices = offsets_mm / steps_mm  # (Z, 3): column, row, plane
    n_planes = 1 + round(indices[:, 2].max())
    if n_planes > max_planes:
        detail = f"its {n_slices} slices would take {n_planes} planes of {size[1]} x {size[0]}"
        issue = Issue(IssueCode.IRREGULAR_SPACING, f"{series.volume_id}: {detail}")
        return series.reject(issue)

    affine = np.eye(4)
    affine[:3, :3] = axes * steps_mm
    affine[:3, 3] = axes @ origin_mm
    hu = _resample_planes(volume.hu, indices, n_planes, size)
    issues = _resampling_issues(volume, offsets_mm[:, 2], step_mm)
    return Grid(hu, affine, (*volume.issues, *issues))


def convert(
    volume: Volume,
    folder: Path,
    place: Callable[[Volume], Grid | Rejected] = as_acquired,
    overwrite: bool = False,
) -> Converted | Rejected:
    """Write `volume` to `folder` as `<volume_id>.nii.gz`.

    Args:
        volume: from `ich3d.dicom.validate.load_volumes`, which rejects all volumes of a
            SeriesInstanceUID where one of them cannot be read.
        folder: created when the file is written.
        place: `as_acquired` or `deskewed`.
        overwrite: whether a file of other voxels or another grid is replaced.

    Returns:
        The written file. Rejected, and no file is written, where the UID is too long for a file
        name or `place` finds no grid.

    Raises:
        DataError: the file is there with other content, and `overwrite` is not set.
    """
    name = quote(volume.series.volume_id, safe="")  # a malformed UID may hold a slash
    if len(name) > MAX_NAME_LENGTH:
        return volume.series.reject(_long_uid_issue(volume.series))
    grid = place(volume)
    if isinstance(grid, Rejected):
        return grid
    path = folder / f"{name}.nii.gz"
    write_nifti(grid, path, overwrite)
    n_slices, rows, columns = grid.hu.shape
    return Converted(path, (n_slices, rows, columns), grid.issues, _shear_note(grid))


def write_nifti(grid: Grid, path: Path, overwrite: bool = True) -> None:
    """Write `grid` as gzipped NIfTI-1: axes (column, row, slice), affine in RAS millimetres.

    Equal grids give equal bytes. DataError where the file is there with others, and `overwrite` is
    not set.
    """
    image = nibabel.Nifti1Image(grid.hu.transpose(2, 1, 0), _LPS_TO_RAS @ grid.affine_mm)
    image.set_qform(None, code="unknown")
    image.set_sform(image.affine, code="scanner")
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(1, 0)
    content = gzip.compress(image.to_bytes(), _COMPRESSION_LEVEL, mtime=0)
    if path.exists() and not overwrite and path.read_bytes() != content:
        raise refusal(path, "other voxels or another grid")
    with replacing(path) as partial:
        partial.write_bytes(content)


def _no_affine_issue(volume: Volume) -> Issue | None:
    """Why no single affine describes the place of every slice; None where one does."""
    series = volume.series
    assert series.spacing_mm is not None
    if volume.affine_mm is None:
        irregular = next(
            issue
            for issue in series.issues
            if issue.code in (IssueCode.IRREGULAR_SPACING, IssueCode.SHIFTED_SLICE)
        )
        detail = f"{irregular.detail}: it is written only with --deskew"
        return Issue(irregular.code, detail)

    if any(issue.code is IssueCode.ROUNDED_POSITIONS for issue in series.issues):
        return None

    # Steps are regular one by one, but small deviations may add up along the stack.
    expected_mm = np.outer(np.arange(len(series)), volume.affine_mm[:3, 2])  # (Z, 3)
    expected_mm += volume.affine_mm[:3, 3]
    actual_mm = np.array([header.position_mm for header in series.headers])
    deviation_mm = np.linalg.norm(actual_mm - expected_mm, axis=1)  # (Z,)
    worst = int(np.argmax(deviation_mm))
    if deviation_mm[worst] <= max(STEP_TOLERANCE_MM, STEP_TOLERANCE * series.spacing_mm):
        return None
    name = series.headers[worst].name
    detail = f"{name} lies {deviation_mm[worst]:.2f} mm off the line of the others"
    return Issue(IssueCode.IRREGULAR_SPACING, f"{detail}: the volume is written only with --deskew")


def _single_slice(volume: Volume) -> Grid:
    """The grid of a volume of one slice."""
    series = volume.series
    thickness_mm = slice_thickness_mm(series.headers[0])
    issues = volume.issues
    if thickness_mm is None:
        thickness_mm = PLACEHOLDER_MM
        missing = f"{tag_text('SliceThickness')} is missing"
        place = f"the thickness of {PLACEHOLDER_MM:g} mm in the NIfTI is only a placeholder"
        detail = f"{series.headers[0].name}: {missing}, {place}"
        issues = (*issues, Issue(IssueCode.SINGLE_SLICE, detail))

    step_mm = common_plane(series.headers).normal * thickness_mm
    return Grid(volume.hu, slice_affine_mm(series, step_mm), issues)


def _long_uid_issue(series: Series) -> Issue:
    subject = f"{series.headers[0].name}: {tag_text('SeriesInstanceUID')}"
    length = pluralize(len(series.series_uid), "character")
    return Issue(IssueCode.NO_UID, f"{subject} has {length}, too many for the name of a file")


def _plane_step_mm(heights_mm: np.ndarray, median_mm: float, max_planes: int) -> float:
    """The distance between planes on which slices at `heights_mm` (Z,), from 0 on, come to lie.

    It is the largest whole part of the median or of the smallest step with which every slice lies
    on a plane; if there is none within `max_planes`, the one with which the farthest slice lies
    nearest to a plane.
    """
    smallest_mm = float(np.diff(np.sort(heights_mm)).min())
    finest_mm = heights_mm.max() / max(1, max_planes - 1)
    candidates = [
        whole_mm / part
        for whole_mm in (median_mm, smallest_mm)
        for part in range(1, 1 + int(whole_mm / finest_mm))
    ]
    by_size = sorted(candidates, reverse=True)
    off_plane_mm = [max(_off_plane_mm(heights_mm, step_mm), ON_PLANE_MM) for step_mm in by_size]
    return by_size[int(np.argmin(off_plane_mm))] if by_size else median_mm


def _off_plane_mm(heights_mm: np.ndarray, step_mm: float) -> float:
    """How far the farthest of the slices at `heights_mm` (Z,) lies from its nearest plane."""
    return float(np.abs(heights_mm - step_mm * np.rint(heights_mm / step_mm)).max())


def _resampling_issues(volume: Volume, heights_mm: np.ndarray, step_mm: float) -> tuple[Issue, ...]:
    """The warning about planes that were interpolated, where the volume was not regular."""
    if _no_affine_issue(volume) is None:
        return ()
    off_plane_mm = _off_plane_mm(heights_mm, step_mm)
    place = "every slice lies on a plane, and those between slices are interpolated"
    if off_plane_mm > ON_PLANE_MM:
        place = (
            f"slices lie up to {off_plane_mm:.2f} mm off a plane, "
            "and are blended with the next slice there"
        )
    detail = f"resampled to planes {step_mm:.2f} mm apart: {place}"
    return (Issue(IssueCode.IRREGULAR_SPACING, detail),)


def _shear_note(grid: Grid) -> str:
    """What to know of an affine whose axes are not perpendicular; empty where they are."""
    directions = grid.affine_mm[:3, :3] / np.linalg.norm(grid.affine_mm[:3, :3], axis=0)
    if np.abs(directions.T @ directions - np.eye(3)).max() <= ITK_ORTHOGONAL:
        return ""
    cosine = np.cross(directions[:, 0], directions[:, 1]) @ directions[:, 2]
    angle_deg = np.degrees(np.arccos(min(1.0, abs(cosine))))
    return (
        f"slices are sheared by a tilt of {angle_deg:.1f} degrees: nibabel reads the exact affine, "
        "ITK and 3D Slicer refuse the file; --deskew writes one that they open"
    )


def _grid_axes(series: Series) -> np.ndarray:
    """Row direction, column direction and slice normal in LPS, as columns of a (3, 3) matrix."""
    plane = common_plane(series.headers)
    return np.column_stack((plane.row_dir, plane.col_dir, plane.normal))


def _positions_along(series: Series, axes: np.ndarray) -> np.ndarray:
    """The position (Z, 3) of each slice in mm, in coordinates along `axes` (3, 3)."""
    positions_mm = np.array([header.position_mm for header in series.headers])
    along: np.ndarray = np.linalg.solve(axes, positions_mm.T).T
    return along


def _resample_planes(
    hu: np.ndarray, indices: np.ndarray, n_planes: int, size: tuple[int, int]
) -> np.ndarray:
    """Slices on the planes of a grid, interpolated linearly between the nearest two.

    Args:
        hu: slices (Z, Y, X) int16.
        indices: where the first pixel of each slice lies on the grid (Z, 3): column, row, plane.
        n_planes: number of planes of the grid.
        size: columns and rows of the grid.

    Returns:
        Planes (n_planes, rows, columns) int16.
    """
    planes = np.empty((n_planes, *reversed(size)), dtype=np.int16)
    slice_positions = np.interp(np.arange(n_planes), indices[:, 2], np.arange(len(hu)))

    for plane, position in zip(planes, slice_positions, strict=True):
        lower, weight = int(position), position % 1
        values = _shift_slice(hu[lower], indices[lower], size)
        if weight:
            upper_values = _shift_slice(hu[lower + 1], indices[lower + 1], size)
            values += weight * (upper_values - values)
        plane[:] = np.rint(values)
    return planes


def _shift_slice(pixels: np.ndarray, index: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One slice (Y, X) float32 on a plane of `size` (columns, rows), first pixel at `index`."""
    image = sitk.GetImageFromArray(pixels)
    image.SetOrigin(index[:2].tolist())
    resampled = sitk.Resample(
        image, size, sitk.Transform(), sitk.sitkLinear, (0.0, 0.0), (1.0, 1.0), (1.0, 0.0, 0.0,
        1.0), AIR_HU, sitk.sitkFloat32,
    )  # fmt: skip
    values: np.ndarray = sitk.GetArrayFromImage(resampled)
    return values


def _whole_pixels(extent: float) -> int:
    """Whole pixels that cover `extent`; positions are rounded, by up to a hundredth of a pixel."""
    return ceil(extent - 0.01)
