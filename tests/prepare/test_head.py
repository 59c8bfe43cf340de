"""Reorientation, head crop and resampling: HU and millimetres stay what they were."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich3d.config.schema import PrepareConfig
from ich3d.core.hounsfield import AIR_HU
from ich3d.core.issues import IssueCode
from ich3d.core.types import Cropping, Rejected, SliceKey, Volume
from ich3d.dicom.index import index
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.prepare.head import (
    ReorientedVolume,
    _resample,
    _weights,
    brain_hu_cm2,
    crop_head,
    head_center_mm,
    reorient,
    uncrop,
)

N, ROWS, COLUMNS = 4, 7, 5
ROW_MM, COLUMN_MM, STEP_MM = 2.0, 3.0, 5.0
RADIUS_MM = 70.0
SPACING = st.floats(0.2, 2.0)
PIXEL = st.floats(0.2, 5.0)


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
    """The canonical `series` as another scanner might store the same patient.

    Rows and columns are reversed or exchanged, and the whole stack is tipped by `degrees`.
    """
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
    """A small series with unequal sides and spacings, in which every pixel has another value."""
    hu = np.random.default_rng(0).permutation(N * ROWS * COLUMNS).reshape(N, ROWS, COLUMNS)
    position = np.array([(-7.0, -4.0, STEP_MM * i - 3.0) for i in range(N)])
    return make_head(
        "turn",
        n=N,
        hu=hu.astype(np.int16),
        position_mm=position,
        pixel_spacing_mm=(ROW_MM, COLUMN_MM),
    )


@settings(max_examples=40)
@given(
    flip_rows=st.booleans(),
    flip_columns=st.booleans(),
    transpose=st.booleans(),
    degrees=st.sampled_from([0.0, -30.0, 12.5, 44.0]),
    names=st.permutations(range(N)),
)
def test_every_axial_orientation_is_turned_to_the_same_one(
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
    assert turned.pixel_spacing_mm == (ROW_MM, COLUMN_MM)
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


def test_reorienting_does_not_change_its_argument(canonical: SeriesToWrite, tmp_path: Path) -> None:
    write_series(stored(canonical, 0.0, True, False, False), tmp_path)
    volume = read(tmp_path)
    before = volume.hu.copy(), volume.series.z_mm.copy()
    reorient(volume)
    np.testing.assert_array_equal(volume.hu, before[0])
    np.testing.assert_array_equal(volume.series.z_mm, before[1])


def disc_volume(
    pixel_mm: float = 1.5,
    shift_mm: tuple[float, float] = (0.0, 0.0),
    hu: int = 40,
    radius_mm: float = RADIUS_MM,
    n: int = 3,
    field_mm: float = 250.0,
) -> ReorientedVolume:
    """Uniform discs of `hu` in air, `shift_mm` (rows, columns) from the middle of the image."""
    size = round(field_mm / pixel_mm)
    side = (np.arange(size) + 0.5) * pixel_mm - size * pixel_mm / 2
    inside = np.hypot(side[:, None] - shift_mm[0], side[None] - shift_mm[1]) < radius_mm
    image = np.where(inside, hu, -1000).astype(np.int16)
    keys = tuple(SliceKey(str(i), None, str(i)) for i in range(n))
    return ReorientedVolume(np.stack([image] * n), 5.0 * np.arange(n), keys, (pixel_mm, pixel_mm))


@settings(max_examples=20)
@given(
    source_mm=st.sampled_from([0.45, 0.8, 1.2, 2.0]),
    pixel_mm=st.sampled_from([1.0, 1.2, 2.2, 3.0]),
    hu=st.integers(-100, 1500),
)
def test_crop_keeps_hu_and_millimetres(source_mm: float, pixel_mm: float, hu: int) -> None:
    matrix = round(200 / pixel_mm)
    cropped = crop_head(
        disc_volume(source_mm, hu=hu, n=1), PrepareConfig(pixel_mm=pixel_mm, matrix=matrix)
    )
    assert cropped is not None
    assert cropped.shape == (1, matrix, matrix)
    assert cropped.dtype == np.int16
    side = (np.arange(matrix) + 0.5 - matrix / 2) * pixel_mm
    radius = np.hypot(side[:, None], side[None])
    margin = pixel_mm + source_mm + 2.0  # the head is searched on a 2 mm grid
    assert np.all(np.abs(cropped[0][radius < RADIUS_MM - margin] - hu) <= 1)
    assert np.all(np.abs(cropped[0][radius > RADIUS_MM + margin] + 1000) <= 1)
    area_mm2 = (cropped[0] > (hu - 1000) / 2).sum() * pixel_mm**2
    assert area_mm2 == pytest.approx(np.pi * RADIUS_MM**2, rel=0.03)


@settings(max_examples=20)
@given(down=st.floats(-35, 35), right=st.floats(-35, 35))
def test_the_centre_follows_the_head(down: float, right: float) -> None:
    center_mm = head_center_mm(disc_volume(shift_mm=(down, right)))
    assert center_mm is not None
    middle = round(250 / 1.5) * 1.5 / 2
    np.testing.assert_allclose(center_mm, (middle + down, middle + right), atol=2.0)


def test_the_table_does_not_move_the_centre() -> None:
    plain = disc_volume()
    hu = plain.hu.copy()
    hu[:, 140:143, 10:160] = 200  # a plate of 4.5 mm, wider than the head, below it
    with_table = ReorientedVolume(hu, plain.z_mm, plain.keys, plain.pixel_spacing_mm)
    assert head_center_mm(with_table) == head_center_mm(plain)


def test_a_small_neck_section_does_not_move_the_centre() -> None:
    """The centre comes from the larger sections alone, not from chin or shoulders."""
    plain = disc_volume(n=5)
    hu = plain.hu.copy()
    hu[0] = disc_volume(shift_mm=(30.0, 0.0), radius_mm=40.0, n=1).hu[0]
    with_neck = ReorientedVolume(hu, plain.z_mm, plain.keys, plain.pixel_spacing_mm)
    assert head_center_mm(with_neck) == head_center_mm(plain)


@pytest.mark.parametrize(
    "volume",
    [disc_volume(hu=-1000), disc_volume(radius_mm=20.0), disc_volume(hu=-700)],
    ids=["air", "a finger", "foam"],
)
def test_without_a_head_there_is_no_crop(volume: ReorientedVolume) -> None:
    assert crop_head(volume, PrepareConfig()) is None


def test_a_newborns_head_is_a_head() -> None:
    assert crop_head(disc_volume(radius_mm=45.0), PrepareConfig()) is not None


def test_outside_the_image_is_air() -> None:
    """The grid reaches beyond a small field of view."""
    cropped = crop_head(disc_volume(field_mm=150.0, n=1), PrepareConfig(pixel_mm=2.0, matrix=128))
    assert cropped is not None
    outside = np.abs((np.arange(128) + 0.5 - 64) * 2.0) > 75.0 + 4.0
    assert np.all(cropped[0][outside] == AIR_HU)
    assert np.all(cropped[0][:, outside] == AIR_HU)


def test_uncropping_leads_back_to_the_acquired_pixels() -> None:
    """A ramp along each axis of the grid, whose values are millimetres from its centre."""
    side_mm = (np.arange(40) + 0.5 - 20) * 2.0
    ramp = np.stack(np.meshgrid(side_mm, side_mm, indexing="ij"))  # (2, H, W): y, x
    plain = Cropping(30, 24, (1.5, 2.5), False, (False, False), (24.0, 28.0), 2.0)
    y, x = (uncrop(axis, plain) for axis in ramp)
    y_mm, x_mm = (np.arange(30) + 0.5) * 1.5 - 24.0, (np.arange(24) + 0.5) * 2.5 - 28.0
    inside = (np.abs(y_mm) < 38)[:, None] & (np.abs(x_mm) < 38)[None]
    np.testing.assert_allclose(
        y[inside], np.broadcast_to(y_mm[:, None], (30, 24))[inside], atol=0.3
    )
    np.testing.assert_allclose(x[inside], np.broadcast_to(x_mm, (30, 24))[inside], atol=0.3)

    acquired = Cropping(24, 30, (2.5, 1.5), True, (True, False), (24.0, 28.0), 2.0)
    np.testing.assert_array_equal(uncrop(ramp[0], acquired), y[::-1].T)
    np.testing.assert_array_equal(uncrop(ramp[1], acquired), x[::-1].T)

    beyond = uncrop(
        np.ones((40, 40)), Cropping(100, 100, (1, 1), False, (False, False), (30, 50), 2)
    )
    assert beyond[:69, 11:89].min() == pytest.approx(1.0)
    assert not beyond[71:].any()
    assert not beyond[:, :9].any()


def test_brain_area_counts_voxels_of_brain() -> None:
    volume = disc_volume(pixel_mm=1.0)
    assert brain_hu_cm2(volume) == pytest.approx([np.pi * (RADIUS_MM / 10) ** 2] * 3, rel=0.01)
    assert brain_hu_cm2(disc_volume(hu=900)) == pytest.approx([0.0] * 3)


def test_slices_are_resampled_independently() -> None:
    """A slice's pixels depend on no other slice, given the centre."""
    plain = disc_volume(n=3)
    hu = plain.hu.copy()
    hu[2] += np.where(hu[2] > 0, 20, 0).astype(np.int16)
    changed = ReorientedVolume(hu, plain.z_mm, plain.keys, plain.pixel_spacing_mm)
    before, after = crop_head(plain, PrepareConfig()), crop_head(changed, PrepareConfig())
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(before[:2], after[:2])
    assert not np.array_equal(before[2], after[2])


@given(SPACING, PIXEL)
def test_a_constant_image_stays_constant_inside_the_field_of_view(
    spacing: float, pixel: float
) -> None:
    n = 64
    size = max(1, int((n * spacing - 2 * max(spacing, pixel)) / pixel))
    start = max(spacing, pixel)
    weights = _weights(n, spacing, size, pixel, start)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)


@given(st.floats(0.5, 2.0), st.floats(0.2, 1.0))
def test_finer_pixels_interpolate_linearly(spacing: float, share: float) -> None:
    n, pixel = 20, spacing * share
    size = int((n - 2) * spacing / pixel)
    weights = _weights(n, spacing, size, pixel, spacing)
    centers = spacing + (np.arange(size) + 0.5) * pixel
    ramp = (np.arange(n) + 0.5) * spacing
    np.testing.assert_allclose(weights @ ramp, centers, rtol=1e-4)


def test_what_lies_outside_the_image_is_air() -> None:
    hu = np.full((1, 10, 10), 40, dtype=np.int16)
    weights = _weights(10, 1.0, 4, 1.0, -2.0)
    assert _resample(hu, weights, weights)[0].tolist() == [
        [AIR_HU] * 4,
        [AIR_HU] * 4,
        [AIR_HU, AIR_HU, 40, 40],
        [AIR_HU, AIR_HU, 40, 40],
    ]


def test_a_head_keeps_its_hu_and_its_size_in_millimetres() -> None:
    y, x = np.mgrid[:300, :300] * 0.7
    inside = np.hypot(y - 100, x - 120) < 70
    hu = np.where(inside, 35, -1000).astype(np.int16)[None].repeat(3, axis=0)
    volume = ReorientedVolume(hu, np.arange(3) * 5.0, (), (0.7, 0.7))
    cropped = crop_head(volume, PrepareConfig(pixel_mm=1.3, matrix=160))
    assert cropped is not None
    assert np.isclose((cropped[1] > -300).sum() * 1.3**2, inside.sum() * 0.7**2, rtol=0.02)
    assert cropped[1, 70:90, 70:90].tolist() == np.full((20, 20), 35).tolist()
