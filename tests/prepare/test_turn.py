"""However a series was stored, models see it one way: inferior to superior, toward posterior, toward left."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected, Volume
from ich3d.dicom.index import index
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.prepare.head import ReorientedVolume, reorient

N, ROWS, COLUMNS = 4, 7, 5
ROW_MM, COLUMN_MM, STEP_MM = 2.0, 3.0, 5.0


def read(folder: Path) -> Volume:
    (series,) = index(folder).series
    volume = load_volume(series)
    assert isinstance(volume, Volume)
    return volume


def about_x(degrees: float) -> np.ndarray:
    """Rotation (3, 3) about the patient's left-right axis."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])


def stored(
    series: SeriesToWrite, degrees: float, flip_rows: bool, flip_columns: bool, transpose: bool
) -> SeriesToWrite:
    """The canonical `series` as another scanner would store the same patient: rows and columns reversed
    or exchanged, the whole stack tipped by `degrees`."""
    rotation = about_x(degrees)
    hu, origin = series.hu, series.position_mm.copy()
    row_dir, col_dir = rotation @ [1.0, 0.0, 0.0], rotation @ [0.0, 1.0, 0.0]
    origin = origin @ rotation.T
    row_mm, column_mm = series.pixel_spacing_mm
    if flip_columns:
        hu, origin, row_dir = hu[:, :, ::-1], origin + (COLUMNS - 1) * column_mm * row_dir, -row_dir
    if flip_rows:
        hu, origin, col_dir = hu[:, ::-1], origin + (ROWS - 1) * row_mm * col_dir, -col_dir
    spacing = (row_mm, column_mm)
    if transpose:
        hu, row_dir, col_dir, spacing = hu.transpose(0, 2, 1), col_dir, row_dir, (column_mm, row_mm)
    return replace(
        series, hu=hu, position_mm=origin, pixel_spacing_mm=spacing,
        row_dir=tuple(row_dir.tolist()), col_dir=tuple(col_dir.tolist()),
    )  # fmt: skip


@pytest.fixture(scope="module")
def canonical(make_head: Callable[..., SeriesToWrite]) -> SeriesToWrite:
    """Small, with unequal sides and spacings, every pixel another value."""
    hu = np.random.default_rng(0).permutation(N * ROWS * COLUMNS).reshape(N, ROWS, COLUMNS)
    position = np.array([(-7.0, -4.0, STEP_MM * i - 3.0) for i in range(N)])
    return make_head(
        "turn",
        n=N,
        hu=hu.astype(np.int16),
        position_mm=position,
        pixel_spacing_mm=(ROW_MM, COLUMN_MM),
    )


@settings(max_examples=40, deadline=None)
@given(
    flip_rows=st.booleans(),
    flip_columns=st.booleans(),
    transpose=st.booleans(),
    degrees=st.sampled_from([0.0, -30.0, 12.5, 44.0]),
    names=st.permutations(range(N)),
)
def test_every_axial_orientation_turns_to_one(
    canonical: SeriesToWrite,
    tmp_path_factory: pytest.TempPathFactory,
    flip_rows: bool,
    flip_columns: bool,
    transpose: bool,
    degrees: float,
    names: list[int],
) -> None:
    series = stored(canonical, degrees, flip_rows, flip_columns, transpose)
    series = replace(
        series, file_names=[str(name) for name in names], instance_numbers=[n + 1 for n in names]
    )
    folder = tmp_path_factory.mktemp("turn")
    write_series(series, folder)
    turned = reorient(read(folder))
    assert isinstance(turned, ReorientedVolume)
    np.testing.assert_array_equal(turned.hu, canonical.hu)
    assert turned.spacing_mm == (ROW_MM, COLUMN_MM)
    assert [key.sop_uid for key in turned.keys] == list(canonical.sop_uids)
    assert [Path(key.path).name for key in turned.keys] == list(series.file_names)
    np.testing.assert_allclose(np.diff(turned.z_mm), STEP_MM, atol=1e-6)
    np.testing.assert_allclose(turned.z_mm, canonical.position_mm @ [0, 0, 1], atol=1e-6)


def test_a_tilted_gantry_keeps_its_slices(canonical: SeriesToWrite, tmp_path: Path) -> None:
    """Slices of a sheared stack stay as they were acquired, ordered along the normal."""
    drift = np.array([(0.0, 1.5 * i, 0.0) for i in range(N)])
    sheared = replace(canonical, position_mm=canonical.position_mm + drift)
    write_series(sheared, tmp_path)
    turned = reorient(read(tmp_path))
    assert isinstance(turned, ReorientedVolume)
    np.testing.assert_array_equal(turned.hu, canonical.hu)


@pytest.mark.parametrize("degrees", [46.0, -60.0, 90.0, 134.0])
def test_beyond_45_degrees_is_not_axial(
    canonical: SeriesToWrite, tmp_path: Path, degrees: float
) -> None:
    write_series(stored(canonical, degrees, False, False, False), tmp_path)
    rejected = reorient(read(tmp_path))
    assert isinstance(rejected, Rejected)
    assert rejected.code is IssueCode.NOT_AXIAL
    assert rejected.subject == canonical.series_uid
    assert f"{min(abs(degrees), 180 - abs(degrees)):.0f} degrees" in rejected.detail


def test_a_sagittal_series_is_not_axial(canonical: SeriesToWrite, tmp_path: Path) -> None:
    position = np.array([(5.0 * i, 0.0, 0.0) for i in range(N)])
    sagittal = replace(
        canonical, position_mm=position, row_dir=(0.0, 1.0, 0.0), col_dir=(0.0, 0.0, -1.0)
    )
    write_series(sagittal, tmp_path)
    rejected = reorient(read(tmp_path))
    assert isinstance(rejected, Rejected)
    assert rejected.code is IssueCode.NOT_AXIAL


def test_turning_writes_into_nothing(canonical: SeriesToWrite, tmp_path: Path) -> None:
    write_series(stored(canonical, 0.0, True, False, False), tmp_path)
    volume = read(tmp_path)
    before = volume.hu.copy(), volume.series.z_mm.copy()
    reorient(volume)
    np.testing.assert_array_equal(volume.hu, before[0])
    np.testing.assert_array_equal(volume.series.z_mm, before[1])
