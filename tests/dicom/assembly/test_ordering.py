"""Order, spacing, tilt and regularity follow from positions and orientations alone."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ich3d.core.issues import IssueCode
from ich3d.core.types import Vector3, Volume
from ich3d.dicom.geometry import affine_mm
from ich3d.dicom.index import index
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import SeriesToWrite, write_series
from tests.helpers.pixels import EditFile, WriteStack

TILT = np.radians(20)
TILTED = (0.0, float(np.cos(TILT)), float(-np.sin(TILT)))


def positions(z: Iterable[float]) -> np.ndarray:
    return np.array([(-100.0, -120.0, height) for height in z])


def test_order_ignores_names_instance_numbers_and_slice_location(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    write_stack(
        file_names=["d", "b", "a", "c"],
        instance_numbers=[3, 1, 4, 2],
        extra={"SliceLocation": "7"},
    )
    (series,) = index(tmp_path).series
    assert [header.file.path.name for header in series.headers] == ["d", "b", "a", "c"]
    assert series.z_mm.tolist() == [0, 5, 10, 15]


def test_a_tilted_gantry_is_a_sheared_stack_and_no_warning(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    write_stack(col_dir=TILTED, position_mm=positions([0, 5.1, 10.2, 15.3]))
    (series,) = index(tmp_path).series
    assert series.tilt_deg == pytest.approx(20)
    assert series.spacing_mm == pytest.approx(5.1 * np.cos(TILT))
    assert series.is_regular
    assert not series.issues
    affine = affine_mm(series)
    assert affine is not None
    assert affine[:3, 2] == pytest.approx([0, 0, 5.1])


@pytest.mark.parametrize("header_tilt", [None, "20", "-20", "0"])
def test_the_tilt_in_the_header_is_ignored(
    tmp_path: Path, write_stack: WriteStack, header_tilt: str | None
) -> None:
    """GantryDetectorTilt has opposite signs on two vendors; positions have one."""
    extra = {} if header_tilt is None else {"GantryDetectorTilt": header_tilt}
    write_stack(col_dir=TILTED, position_mm=positions([0, 5.1, 10.2, 15.3]), extra=extra)
    (series,) = index(tmp_path).series
    assert series.tilt_deg == pytest.approx(20)
    assert not series.issues


def test_an_oblique_stack_along_its_normal_has_no_tilt(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    along = np.array([0.0, np.sin(TILT), np.cos(TILT)])
    write_stack(col_dir=TILTED, position_mm=np.outer(np.arange(4) * 3.0, along))
    (series,) = index(tmp_path).series
    assert series.tilt_deg == pytest.approx(0, abs=1e-4)
    assert series.spacing_mm == pytest.approx(3)


def test_orientations_rounded_to_two_decimals_are_made_unit(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    write_stack(col_dir=(0.0, 0.98, -0.19), position_mm=positions([0, 5.1, 10.2]), n=3)
    (series,) = index(tmp_path).series
    assert np.linalg.norm(series.headers[0].col_dir) == pytest.approx(1)
    assert series.spacing_mm == pytest.approx(5.0, abs=0.01)
    assert series.tilt_deg == pytest.approx(10.97, abs=0.01)


def test_a_missing_slice_is_named_with_both_neighbours(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    paths = write_stack(n=6)
    paths[2].unlink()
    (series,) = index(tmp_path).series
    (issue,) = series.issues
    assert issue.code is IssueCode.IRREGULAR_SPACING
    assert (
        issue.detail
        == f"{paths[1].name} and {paths[3].name} lie 10.00 mm apart where 5.00 mm are expected"
    )
    assert not series.is_regular
    assert series.spacing_mm == pytest.approx(5)
    volume = load_volume(series)
    assert isinstance(volume, Volume)
    assert volume.affine_mm is None
    assert len(volume.hu) == 5


def test_the_largest_of_two_gaps_is_named(tmp_path: Path, write_stack: WriteStack) -> None:
    paths = write_stack(n=9)
    for missing in (2, 5, 6):
        paths[missing].unlink()
    (series,) = index(tmp_path).series
    (issue,) = series.issues
    assert f"{paths[4].name} and {paths[7].name} lie 15.00 mm apart" in issue.detail
    assert "; 1 more irregular step" in issue.detail


@pytest.mark.parametrize(
    ("spacing", "shift", "regular"),
    [(5.0, 0.04, True), (5.0, 0.06, False), (0.6, 0.015, True), (0.6, 0.03, False)],
)
def test_a_step_may_err_by_a_hundredth_or_two_hundredths_of_a_mm(
    tmp_path: Path, write_stack: WriteStack, spacing: float, shift: float, regular: bool
) -> None:
    z = np.arange(8) * spacing
    z[5:] += shift
    write_stack(n=8, position_mm=positions(z))
    assert index(tmp_path).series[0].is_regular is regular


@pytest.mark.parametrize("step_mm", [0.625, 1.25, 0.6, 3.75, 0.33])
def test_positions_rounded_to_a_tenth_are_regular_with_a_note(
    tmp_path: Path, write_stack: WriteStack, step_mm: float
) -> None:
    z_mm = np.round(np.arange(40) * step_mm + 3.3, 1)
    write_stack(n=40, position_mm=positions(z_mm), slice_thickness_mm=step_mm)
    (series,) = index(tmp_path).series
    assert series.is_regular
    assert series.spacing_mm == pytest.approx(step_mm, abs=0.005)
    expected = [] if step_mm == 0.6 else [IssueCode.ROUNDED_POSITIONS]
    assert [issue.code for issue in series.issues] == expected
    for issue in series.issues:
        assert f"rounded to 0.1 mm: taken for regular steps of {step_mm:.2f}" in issue.detail


def test_a_missing_slice_is_no_rounding(tmp_path: Path, write_stack: WriteStack) -> None:
    z_mm = np.delete(np.round(np.arange(20) * 0.625, 1), 9)
    write_stack(n=19, position_mm=positions(z_mm))
    (series,) = index(tmp_path).series
    assert not series.is_regular
    assert [issue.code for issue in series.issues] == [IssueCode.IRREGULAR_SPACING]


def test_a_tilted_stack_rounded_to_a_tenth_has_no_shifted_slices(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    along = np.array([0.0, 0.123, 1.237])
    position_mm = np.round(np.outer(np.arange(20), along), 1)
    write_stack(n=20, position_mm=position_mm, col_dir=TILTED)
    (series,) = index(tmp_path).series
    assert [issue.code for issue in series.issues] == [IssueCode.ROUNDED_POSITIONS]


@pytest.mark.parametrize("noise_deg", [0.03, 0.1, 0.2])
def test_orientation_noise_is_one_volume_with_a_warning(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile, noise_deg: float
) -> None:
    for i, path in enumerate(write_stack(n=9)):
        turn = rotation(*np.radians((0, (i % 3 - 1) * noise_deg, 0)))
        edit_file(path, ImageOrientationPatient=[f"{v:.7f}" for v in turn.T[:2].ravel()])
    (series,) = index(tmp_path).series
    assert (len(series), series.is_regular) == (9, True)
    assert series.spacing_mm == pytest.approx(5)
    expected = [IssueCode.INEXACT_ORIENTATION] if noise_deg > 0.06 else []
    assert [issue.code for issue in series.issues] == expected
    for issue in series.issues:
        assert "ImageOrientationPatient (0020,0037)" in issue.detail
        assert f"differs by up to {noise_deg:.2f} degrees" in issue.detail
    affine = affine_mm(series)
    assert affine is not None
    assert affine[:3, :3] == pytest.approx(np.diag((0.4, 0.5, 5.0)))


def test_an_orientation_half_a_degree_off_is_another_geometry(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    paths = write_stack(n=9)
    turn = rotation(*np.radians((0, 0.5, 0)))
    edit_file(paths[-1], ImageOrientationPatient=[f"{v:.7f}" for v in turn.T[:2].ravel()])
    indexed = index(tmp_path)
    assert [len(series) for series in indexed.series] == [8]
    assert [entry.paths for entry in indexed.rejected] == [(paths[-1].name,)]


@pytest.mark.parametrize(
    ("n", "step_mm", "thickness_mm", "is_wide"),
    [
        (2, 35.0, 5.0, True),
        (2, 35.0, 50.0, True),
        (2, 12.0, 5.0, True),
        (2, 10.0, 5.0, False),
        (2, 5.0, 5.0, False),
        (6, 35.0, 5.0, True),
        (6, 10.0, 10.0, False),
        (6, 10.0, 1.0, False),
    ],
)
def test_slices_too_far_apart_are_warned_of(
    tmp_path: Path,
    write_stack: WriteStack,
    n: int,
    step_mm: float,
    thickness_mm: float,
    is_wide: bool,
) -> None:
    position_mm = positions(np.arange(n) * step_mm)
    write_stack(n=n, position_mm=position_mm, slice_thickness_mm=thickness_mm)
    (series,) = index(tmp_path).series
    codes = [issue.code for issue in series.issues]
    assert codes == ([IssueCode.IRREGULAR_SPACING] if is_wide else [])
    if is_wide:
        assert f"a000.dcm and a001.dcm lie {step_mm:.2f} mm apart" in series.issues[0].detail


def test_a_single_slice_has_neither_spacing_nor_tilt(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    write_stack(n=1)
    (series,) = index(tmp_path).series
    assert (series.spacing_mm, series.tilt_deg) == (None, None)
    assert [issue.code for issue in series.issues] == [IssueCode.SINGLE_SLICE]
    volume = load_volume(series)
    assert isinstance(volume, Volume)
    assert volume.affine_mm is None


def test_a_series_that_was_cut_off_is_a_volume(tmp_path: Path, write_stack: WriteStack) -> None:
    for path in write_stack(n=12)[7:]:
        path.unlink()
    (series,) = index(tmp_path).series
    assert len(series) == 7
    assert not series.issues


def test_three_hundred_slices_a_millimetre_apart_are_a_volume(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    write_stack(n=300, position_mm=positions(np.arange(300.0)))
    (series,) = index(tmp_path).series
    assert (len(series), series.spacing_mm, series.issues) == (300, 1.0, ())


angles = st.floats(-3.1, 3.1)
shifts = st.floats(-150, 150)
jitters = st.floats(-5, 5)


@settings(max_examples=25)
@given(
    names=st.permutations(range(5)),
    table_up=st.booleans(),
    turn=st.tuples(angles, angles, angles),
    tilt=st.floats(-0.5, 0.5),
    shift=st.tuples(shifts, shifts, shifts),
    jitter=st.lists(st.tuples(jitters, jitters), min_size=5, max_size=5)
    | st.just([(0.0, 0.0)] * 5),
)
def test_names_table_pose_and_jitter_leave_order_and_hu(
    make_stack: Callable[..., SeriesToWrite],
    names: list[int],
    table_up: bool,
    turn: Vector3,
    tilt: float,
    shift: Vector3,
    jitter: list[tuple[float, float]],
) -> None:
    pose = rotation(*turn)
    step = 4.0 * (pose @ (0, np.sin(tilt), np.cos(tilt)))
    plain = make_stack(n=5)
    numbers = list(range(5)) if table_up else list(reversed(range(5)))
    moved = make_stack(
        n=5,
        hu=plain.hu,
        row_dir=tuple(pose[:, 0]),
        col_dir=tuple(pose[:, 1]),
        position_mm=np.outer(np.arange(5), step) + shift + np.array(jitter) @ pose[:, :2].T,
        file_names=[f"{i}.dcm" for i in names],
        instance_numbers=numbers,
    )
    with tempfile.TemporaryDirectory() as folder:
        write_series(moved, Path(folder))
        (series,) = index(Path(folder)).series
        volume = load_volume(series)
    assert isinstance(volume, Volume)
    assert [header.sop_uid for header in series.headers] == list(plain.sop_uids)
    assert np.array_equal(volume.hu, plain.hu)
    assert series.spacing_mm == pytest.approx(4 * np.cos(tilt), abs=1e-4)
    for header, position_mm in zip(series.headers, moved.position_mm, strict=True):
        assert header.position_mm == pytest.approx(position_mm, abs=1e-4)
    if not np.any(jitter):
        assert series.is_regular
        assert series.tilt_deg == pytest.approx(np.degrees(abs(tilt)), abs=1e-2)


def rotation(a: float, b: float, c: float) -> np.ndarray:
    """A rotation (3, 3) by angles in radians about x, y and z."""
    about_x = np.array([(1, 0, 0), (0, np.cos(a), -np.sin(a)), (0, np.sin(a), np.cos(a))])
    about_y = np.array([(np.cos(b), 0, np.sin(b)), (0, 1, 0), (-np.sin(b), 0, np.cos(b))])
    about_z = np.array([(np.cos(c), -np.sin(c), 0), (np.sin(c), np.cos(c), 0), (0, 0, 1)])
    turned: np.ndarray = about_x @ about_y @ about_z
    return turned


def test_a_slice_shifted_in_its_plane_is_an_issue_and_leaves_no_affine(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    position_mm = np.array([(-100.0, -120.0, 5.0 * i) for i in range(6)])
    position_mm[3, 0] += 4
    paths = write_stack(n=6, position_mm=position_mm)
    (series,) = index(tmp_path).series
    (issue,) = series.issues
    assert issue.code is IssueCode.SHIFTED_SLICE
    assert "shifted in their plane by 4.00 mm" in issue.detail
    assert paths[3].name in issue.detail
    assert not series.is_regular
    volume = load_volume(series)
    assert isinstance(volume, Volume)
    assert volume.affine_mm is None


def test_a_gap_in_a_tilted_stack_is_no_shift(tmp_path: Path, write_stack: WriteStack) -> None:
    tilt = np.radians(11)
    paths = write_stack(n=7, col_dir=(0.0, np.cos(tilt), -np.sin(tilt)))
    paths[3].unlink()
    (series,) = index(tmp_path).series
    assert [issue.code for issue in series.issues] == [IssueCode.IRREGULAR_SPACING]
