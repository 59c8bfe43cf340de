"""Order, spacing, tilt and affine follow from positions and orientations alone."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from ich3d.core.issues import IssueCode
from ich3d.core.types import Volume
from ich3d.dicom.geometry import affine_mm, normal
from ich3d.dicom.index import index
from ich3d.dicom.volume import load_volume
from ich3d.dicom.write import write_series

TILT = np.radians(20)
TILTED = (0.0, float(np.cos(TILT)), float(-np.sin(TILT)))


def positions(z):
    return np.array([(-100.0, -120.0, height) for height in z])


def test_order_ignores_names_instance_numbers_and_slice_location(tmp_path, write_stack):
    write_stack(
        file_names=["d", "b", "a", "c"],
        instance_numbers=[3, 1, 4, 2],
        extra={"SliceLocation": "7"},
    )
    (series,) = index(tmp_path).series
    assert [header.path.name for header in series.headers] == ["d", "b", "a", "c"]
    assert series.z_mm.tolist() == [0, 5, 10, 15]


def test_a_sagittal_stack_is_ordered_along_its_normal(tmp_path, write_stack):
    write_stack(
        row_dir=(0.0, 1.0, 0.0),
        col_dir=(0.0, 0.0, -1.0),
        position_mm=np.array([(x, -120.0, 40.0) for x in (9.0, 6.0, 3.0, 0.0)]),
    )
    (series,) = index(tmp_path).series
    assert normal(series).tolist() == [-1, 0, 0]
    assert [header.position_mm[0] for header in series.headers] == [9, 6, 3, 0]
    assert series.spacing_mm == pytest.approx(3)


def test_a_tilted_gantry_is_a_sheared_stack_and_no_warning(tmp_path, write_stack):
    write_stack(col_dir=TILTED, position_mm=positions([0, 5.1, 10.2, 15.3]))
    (series,) = index(tmp_path).series
    assert series.tilt_deg == pytest.approx(20)
    assert series.spacing_mm == pytest.approx(5.1 * np.cos(TILT))
    assert series.is_regular
    assert not series.issues
    affine = affine_mm(series)
    assert affine is not None
    assert affine[:3, 2] == pytest.approx([0, 0, 5.1])


@pytest.mark.parametrize("said", [None, "20", "-20", "0"])
def test_the_tilt_that_a_header_says_is_not_asked(tmp_path, write_stack, said):
    """GantryDetectorTilt has opposite signs on two vendors; positions have one."""
    extra = {} if said is None else {"GantryDetectorTilt": said}
    write_stack(col_dir=TILTED, position_mm=positions([0, 5.1, 10.2, 15.3]), extra=extra)
    (series,) = index(tmp_path).series
    assert series.tilt_deg == pytest.approx(20)
    assert not series.issues


def test_an_oblique_stack_along_its_normal_has_no_tilt(tmp_path, write_stack):
    along = np.array([0.0, np.sin(TILT), np.cos(TILT)])
    write_stack(col_dir=TILTED, position_mm=np.outer(np.arange(4) * 3.0, along))
    (series,) = index(tmp_path).series
    assert series.tilt_deg == pytest.approx(0, abs=1e-4)
    assert series.spacing_mm == pytest.approx(3)


def test_orientations_rounded_to_two_decimals_are_made_unit(tmp_path, write_stack):
    write_stack(col_dir=(0.0, 0.98, -0.19), position_mm=positions([0, 5.1, 10.2]), n=3)
    (series,) = index(tmp_path).series
    assert np.linalg.norm(series.headers[0].col_dir) == pytest.approx(1)
    assert series.spacing_mm == pytest.approx(5.0, abs=0.01)
    assert series.tilt_deg == pytest.approx(10.97, abs=0.01)


def test_the_affine_places_every_voxel_where_itk_does(tmp_path, write_stack):
    write_stack()
    (series,) = index(tmp_path).series
    image = sitk.ReadImage([str(header.path) for header in series.headers])
    affine = affine_mm(series)
    for voxel in ((0, 0, 0), (15, 0, 0), (0, 9, 0), (3, 4, 3)):
        assert (affine @ (*voxel, 1))[:3] == pytest.approx(
            image.TransformIndexToPhysicalPoint(voxel)
        )


def test_the_affine_maps_each_slice_to_its_position(tmp_path, write_stack):
    write_stack(col_dir=TILTED, position_mm=np.outer(np.arange(4), (0.3, -0.2, 4.0)))
    (series,) = index(tmp_path).series
    for k, header in enumerate(series.headers):
        assert (affine_mm(series) @ (0, 0, k, 1))[:3] == pytest.approx(header.position_mm)


def test_a_missing_slice_is_named_with_both_neighbours(tmp_path, write_stack):
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


def test_two_gaps_are_told(tmp_path, write_stack):
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
    tmp_path, write_stack, spacing, shift, regular
):
    z = np.arange(8) * spacing
    z[5:] += shift
    write_stack(n=8, position_mm=positions(z))
    assert index(tmp_path).series[0].is_regular is regular


def test_a_single_slice_has_neither_spacing_nor_tilt(tmp_path, write_stack):
    write_stack(n=1)
    (series,) = index(tmp_path).series
    assert (series.spacing_mm, series.tilt_deg) == (None, None)
    assert [issue.code for issue in series.issues] == [IssueCode.SINGLE_SLICE]
    volume = load_volume(series)
    assert isinstance(volume, Volume)
    assert volume.affine_mm is None


def test_a_series_that_was_cut_off_is_a_volume(tmp_path, write_stack):
    for path in write_stack(n=12)[7:]:
        path.unlink()
    (series,) = index(tmp_path).series
    assert len(series) == 7
    assert not series.issues


def test_three_hundred_slices_a_millimetre_apart_are_a_volume(tmp_path, write_stack):
    write_stack(n=300, position_mm=positions(np.arange(300.0)))
    (series,) = index(tmp_path).series
    assert (len(series), series.spacing_mm, series.issues) == (300, 1.0, ())


angles = st.floats(-3.1, 3.1)
shifts = st.floats(-150, 150)
jitters = st.floats(-5, 5)


@settings(max_examples=25, deadline=None)
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
    make_stack, names, table_up, turn, tilt, shift, jitter
):
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


@settings(max_examples=10, deadline=None)
@given(names=st.permutations(range(8)))
def test_an_index_does_not_depend_on_file_names(make_stack, names):
    """Two geometries, a copy and a gap under one UID: the same volumes whatever the files are called."""
    z = [0.0, 5.0, 10.0, 10.0]
    low = make_stack(n=4, position_mm=positions(z))
    hu = low.hu.copy()
    hu[3] = hu[2]
    low = make_stack(n=4, position_mm=positions(z), hu=hu, file_names=[f"{i}" for i in names[:4]])
    high = make_stack(n=4, name="b", series_uid=low.series_uid, study_uid=low.study_uid,
                      position_mm=positions([60, 65, 70, 75]), pixel_spacing_mm=(0.7, 0.7),
                      file_names=[f"{i}" for i in names[4:]])  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        write_series(low, Path(folder))
        write_series(high, Path(folder))
        found = index(Path(folder))
    kept = min(low.sop_uids[2:])
    assert [[h.sop_uid for h in s.headers] for s in found.series] == [
        [*low.sop_uids[:2], kept],
        list(high.sop_uids),
    ]
    assert [item.code for item in found.left_out] == [IssueCode.DUPLICATE]
