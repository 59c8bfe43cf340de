"""Deskewing heads whose steps change, against the slices that a scanner made there."""

from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.ndimage import map_coordinates

from ich3d.config.schema import PhantomConfig
from ich3d.core.seeds import stream
from ich3d.core.types import Volume
from ich3d.dicom.index import index
from ich3d.dicom.uids import uid
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.export.nifti import Grid, as_acquired, deskewed
from ich3d.phantom.scanner import Geometry, acquire
from ich3d.phantom.study import draw_plan

MATRIX = 96


def head(tilt_deg: float, blocks: list[tuple[float, int]]) -> SeriesToWrite:
    """A head without noise in blocks of (step in mm, slices), lowest first, as GE scanners
    make them: thin slices at the base, thick ones above.
    """
    config = PhantomConfig(studies=1, matrix=MATRIX, max_tilt_deg=0.0)
    plan = draw_plan(config, stream(3, "phantom", 0))
    start_mm, pixel_mm = plan.geometry.position_mm[0], plan.geometry.pixel_mm
    up = 1 / np.cos(np.radians(tilt_deg))  # the table moves along z, not along the normal

    hu, position_mm, last_mm, last_step_mm = [], [], None, 0.0
    for step_mm, n in blocks:
        first_mm = 0.0 if last_mm is None else last_mm + (last_step_mm + step_mm) / 2
        heights_mm = first_mm + step_mm * np.arange(n)
        places_mm = start_mm + np.outer(heights_mm * up, (0.0, 0.0, 1.0))
        geometry = Geometry(places_mm, tilt_deg, step_mm, pixel_mm, MATRIX)
        hu.append(acquire(plan.head, (), geometry, plan.scanner).hu)
        position_mm.append(places_mm)
        last_mm, last_step_mm = float(heights_mm[-1]), step_mm

    pixels = np.rint(np.concatenate(hu)).clip(-1024, 3071).astype(np.int16)
    n_slices = len(pixels)
    return SeriesToWrite(
        hu=pixels,
        position_mm=np.concatenate(position_mm),
        row_dir=geometry.row_dir,
        col_dir=geometry.col_dir,
        pixel_spacing_mm=(pixel_mm, pixel_mm),
        slice_thickness_mm=blocks[0][0],
        patient_id="steps",
        study_uid=uid("steps", "study"),
        series_uid=uid("steps", "series"),
        sop_uids=[uid("steps", i) for i in range(n_slices)],
        file_names=[f"{i}.dcm" for i in range(n_slices)],
        instance_numbers=list(range(1, n_slices + 1)),
    )


def loaded(series: SeriesToWrite, folder: Path) -> Volume:
    write_series(series, folder)
    (indexed,) = index(folder).series
    volume = load_volume(indexed)
    assert isinstance(volume, Volume)
    return volume


def brain_error_hu(volume: Volume, grid: Grid) -> np.ndarray:
    """For each slice with brain, the median of |grid read at the slice's place - slice| there."""
    to_index = np.linalg.inv(grid.affine_mm)
    rows, columns = np.mgrid[:MATRIX, :MATRIX].reshape(2, -1)
    errors = []
    for header, image in zip(volume.series.headers, volume.hu, strict=True):
        between_rows, between_columns = header.pixel_spacing_mm
        place_mm = np.array(header.position_mm)[:, None]
        place_mm = place_mm + np.outer(header.row_dir, columns * between_columns)
        place_mm = place_mm + np.outer(header.col_dir, rows * between_rows)
        column, row, plane = to_index[:3, :3] @ place_mm + to_index[:3, 3:]
        values = grid.hu.astype(np.float32)
        there = map_coordinates(values, (plane, row, column), order=1, mode="nearest")
        is_brain = (image.ravel() > 0) & (image.ravel() < 80)
        if is_brain.sum() > 100:
            errors.append(np.median(np.abs(there - image.ravel())[is_brain]))
    return np.array(errors)


def at_median_step(volume: Volume) -> Grid:
    """A straight volume interpolated to planes that lie its median step apart."""
    z_mm, step_mm = volume.series.z_mm, volume.series.spacing_mm
    assert step_mm is not None
    planes_mm = np.arange(z_mm[0], z_mm[-1] + step_mm / 2, step_mm)
    values = interp1d(z_mm, volume.hu, axis=0, fill_value="extrapolate")(planes_mm)
    (between_rows, between_columns) = volume.series.headers[0].pixel_spacing_mm
    affine = np.diag((between_columns, between_rows, step_mm, 1.0))
    affine[:3, 3] = volume.series.headers[0].position_mm
    return Grid(np.rint(values).astype(np.int16), affine, ())


@pytest.mark.parametrize(
    ("blocks", "step_mm"),
    [([(4.0, 6), (6.0, 8)], 1.0), ([(5.0, 6), (10.0, 6)], 2.5), ([(2.5, 12), (5.0, 12)], 1.25)],
)
def test_every_slice_lies_on_a_plane_as_it_is(
    tmp_path: Path, blocks: list[tuple[float, int]], step_mm: float
) -> None:
    volume = loaded(head(0.0, blocks), tmp_path)
    grid = deskewed(volume)
    assert isinstance(grid, Grid)
    assert grid.affine_mm[2, 2] == pytest.approx(step_mm)
    planes = np.rint((volume.series.z_mm - volume.series.z_mm[0]) / step_mm).astype(int)
    assert np.array_equal(grid.hu[planes], volume.hu)
    said = f"planes {step_mm:.2f} mm apart: every slice lies on a plane"
    assert said in grid.issues[-1].detail


@pytest.mark.parametrize(("tilt_deg", "largest_hu"), [(0.0, 10), (18.0, 10)])
def test_a_head_of_4_and_7_mm_keeps_the_hu_of_its_slices(
    tmp_path: Path, tilt_deg: float, largest_hu: float
) -> None:
    volume = loaded(head(tilt_deg, [(4.0, 14), (7.0, 13)]), tmp_path)
    grid = deskewed(volume)
    assert isinstance(grid, Grid)
    assert brain_error_hu(volume, grid).max() < largest_hu
    if not tilt_deg:  # the measure tells such a grid from one at the median step
        assert brain_error_hu(volume, at_median_step(volume)).max() > 3 * largest_hu
    assert grid.hu.size <= 8 * volume.hu.size
    assert "mm off a plane, and are blended" in grid.issues[-1].detail


def test_a_missing_slice_needs_no_finer_planes(tmp_path: Path) -> None:
    series = head(18.0, [(5.0, 12)])
    write_series(series, tmp_path / "in")
    (tmp_path / "in" / "5.dcm").unlink()
    (indexed,) = index(tmp_path / "in").series
    volume = load_volume(indexed)
    assert isinstance(volume, Volume)
    grid = deskewed(volume)
    assert isinstance(grid, Grid)
    assert len(grid.hu) == 12
    assert isinstance(as_acquired(volume), Grid) is False
