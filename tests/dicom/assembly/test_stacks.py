"""Slices that share a place: sweeps of another kernel, acquisition or kind, and slices that only seem to."""

import numpy as np
import pytest

from ich3d.core.issues import IssueCode
from ich3d.core.types import Volume
from ich3d.dicom.index import index
from ich3d.dicom.uids import uid
from ich3d.dicom.volume import load_volume

MARKS = [
    ("ConvolutionKernel", "(0018,1210)", "H31s", "H60s"),
    ("AcquisitionNumber", "(0020,0012)", "1", "2"),
    (
        "ImageType",
        "(0008,0008)",
        ["ORIGINAL", "PRIMARY", "AXIAL"],
        ["DERIVED", "SECONDARY", "AVERAGE"],
    ),
]


@pytest.fixture
def write_sweep(write_stack):
    """Write `n` slices of the series `a` from `lowest` mm on, 5 mm apart, with pixels of their own."""

    def write(name, lowest=0.0, n=4, **extra):
        return write_stack(
            name=name, n=n, series_uid=uid("series", "a"), study_uid=uid("study", "a"), extra=extra,
            position_mm=np.array([(-100.0, -120.0, lowest + 5.0 * i) for i in range(n)]),
        )  # fmt: skip

    return write


@pytest.mark.parametrize(("keyword", "tag", "one", "other"), MARKS)
@pytest.mark.parametrize("shift", [0.0, 2.5, 5.0, 15.0])
def test_sweeps_that_overlap_are_a_volume_each(
    tmp_path, write_sweep, keyword, tag, one, other, shift
):
    """At the same positions, between them, one further, and with one position in common."""
    write_sweep("a", **{keyword: one})
    write_sweep("b", shift, **{keyword: other})
    found = index(tmp_path)
    assert not found.rejected
    names = ["a", "b"] if shift else sorted("ab", key=lambda name: uid("sop", name, 0))
    for number, (name, series) in enumerate(zip(names, found.series, strict=True), start=1):
        assert series.volume_id == f"{uid('series', 'a')}-{number}"
        assert [header.sop_uid for header in series.headers] == [
            uid("sop", name, i) for i in range(4)
        ]
        (issue,) = series.issues
        assert issue.code is IssueCode.SEVERAL_VOLUMES
        assert f"{keyword} {tag}" in issue.detail
        assert isinstance(load_volume(series), Volume)


def test_two_kernels_of_two_acquisitions_are_four_volumes(tmp_path, write_sweep):
    for name, kernel, number in (
        ("a", "H31s", 1),
        ("b", "H60s", 1),
        ("c", "H31s", 2),
        ("d", "H60s", 2),
    ):
        write_sweep(name, 2.5 * number, ConvolutionKernel=kernel, AcquisitionNumber=number)
    found = index(tmp_path)
    assert [len(series) for series in found.series] == [4, 4, 4, 4]
    for series in found.series:
        assert len({(header.kernel, header.acquisition) for header in series.headers}) == 1


def test_one_sweep_of_many_acquisition_numbers_is_one_volume(tmp_path, write_stack, edit_file):
    numbers = [i * 3 // 4 for i in range(28)]
    assert len(set(numbers)) == 21
    for path, number in zip(write_stack(n=28), numbers, strict=True):
        edit_file(path, AcquisitionNumber=number)
    (series,) = index(tmp_path).series
    assert (len(series), series.issues) == (28, ())


@pytest.mark.parametrize(("keyword", "tag", "one", "other"), MARKS)
def test_a_mark_that_changes_along_the_way_parts_nothing(
    tmp_path, write_sweep, keyword, tag, one, other
):
    write_sweep("a", **{keyword: one})
    write_sweep("b", 20.0, **{keyword: other})
    (series,) = index(tmp_path).series
    assert (len(series), series.issues) == (8, ())


def test_a_kernel_that_runs_to_and_fro_without_clean_stacks_is_told(
    tmp_path, write_stack, edit_file
):
    paths = write_stack(n=6)
    for path in (paths[1], paths[4]):
        edit_file(path, ConvolutionKernel="H60s")
    (series,) = index(tmp_path).series
    assert [issue.code for issue in series.issues] == [IssueCode.INTERLEAVED]
    assert "ConvolutionKernel (0018,1210)" in series.issues[0].detail


def test_a_sweep_too_short_to_stand_alone_rejects_the_series(tmp_path, write_sweep):
    first = write_sweep("a", ConvolutionKernel="H31s")
    twins = write_sweep("b", n=2, ConvolutionKernel="H60s")
    (rejected,) = index(tmp_path).rejected
    assert rejected.code is IssueCode.SAME_POSITION
    assert len(rejected.paths) == 6
    assert first[0].name in rejected.detail
    assert twins[0].name in rejected.detail


def test_equal_slices_of_two_kernels_stay_in_both(tmp_path, write_stack, write_sweep):
    """Air above the head looks the same under every kernel; that makes no copy of it."""
    air = np.full((4, 16, 16), -1000, np.int16)
    for name, kernel in (("a", "H31s"), ("b", "H60s")):
        hu = air.copy()
        hu[:3] = ord(name)
        write_stack(
            name=name, hu=hu, extra={"ConvolutionKernel": kernel},
            series_uid=uid("series", "a"), study_uid=uid("study", "a"),
        )  # fmt: skip
    found = index(tmp_path)
    assert [len(series) for series in found.series] == [4, 4]
    assert not found.left_out


def test_one_sop_uid_at_two_positions_is_a_warning(tmp_path, write_stack):
    names = [uid("sop", "a", i) for i in (0, 1, 1, 3)]
    paths = write_stack(sop_uids=names)
    (series,) = index(tmp_path).series
    assert [header.path for header in series.headers] == paths
    (issue,) = series.issues
    assert issue.code is IssueCode.REPEATED_SOP_UID
    for word in ("SOPInstanceUID (0008,0018)", paths[1].name, paths[2].name):
        assert word in issue.detail


def test_a_slice_shifted_in_its_plane_is_told_and_leaves_no_affine(tmp_path, write_stack):
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


def test_a_gap_in_a_tilted_stack_is_no_shift(tmp_path, write_stack):
    tilt = np.radians(11)
    paths = write_stack(n=7, col_dir=(0.0, np.cos(tilt), -np.sin(tilt)))
    paths[3].unlink()
    (series,) = index(tmp_path).series
    assert [issue.code for issue in series.issues] == [IssueCode.IRREGULAR_SPACING]
