"""Lenient, by headers alone, or by all pixels: how strictly an index is judged."""

import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from ich3d.cli.parser import main
from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected, Volume
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.index import index
from ich3d.dicom.uids import uid
from ich3d.dicom.validate import check_pixels, check_siblings, leave_out_undecodable
from ich3d.dicom.volume import load_volume
from ich3d.export.nifti import convert
from tests.helpers.enhanced import damage_last_frame, functional_group, write_enhanced

LENIENT = Policy(lenient=True)
HEADERS_ONLY = Policy(headers_only=True)


def accounted(found):
    in_series = [h.path.relative_to(found.root).as_posix() for s in found.series for h in s.headers]
    others = [path for item in (*found.left_out, *found.rejected) for path in item.paths]
    return sorted(in_series + others)


def damage(path):
    """Pixels that no decoder reads, in a file that is whole."""
    ds = pydicom.dcmread(path)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.PixelData = encapsulate([b"\xff" * 64])
    ds.save_as(path)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ImagePositionPatient": None}, IssueCode.NO_POSITION),
        ({"RescaleSlope": b""}, IssueCode.NO_RESCALE),
        ({"PixelData": bytes(300)}, IssueCode.TRUNCATED_PIXELS),
    ],
)
def test_lenient_leaves_a_flawed_slice_out_and_tells_the_gap(
    tmp_path, write_stack, edit_file, changes, code
):
    paths = write_stack(n=6)
    edit_file(paths[2], **changes)
    found = index(tmp_path, policy=LENIENT)
    assert not found.rejected
    (series,) = found.series
    assert [header.path for header in series.headers] == [*paths[:2], *paths[3:]]
    assert [(item.paths, item.code) for item in found.left_out] == [((paths[2].name,), code)]
    irregular, incomplete = series.issues
    assert irregular.code is IssueCode.IRREGULAR_SPACING
    assert f"{paths[1].name} and {paths[3].name} lie 10.00 mm apart" in irregular.detail
    assert incomplete.code is IssueCode.INCOMPLETE
    assert found.left_out[0].detail in incomplete.detail
    assert isinstance(load_volume(series), Volume)


def test_lenient_tells_of_a_slice_that_leaves_no_gap(tmp_path, write_stack, edit_file):
    paths = write_stack(n=6)
    for path in paths[4:]:
        edit_file(path, PixelSpacing=None)
    (series,) = index(tmp_path, policy=LENIENT).series
    (issue,) = series.issues
    assert issue.code is IssueCode.INCOMPLETE
    assert paths[4].name in issue.detail
    assert "1 more" in issue.detail


def test_lenient_has_nothing_to_keep_of_a_series_without_a_sound_slice(
    tmp_path, write_stack, edit_file
):
    for path in write_stack():
        edit_file(path, PixelSpacing=None)
    found = index(tmp_path, policy=LENIENT)
    assert [item.code for item in found.rejected] == [IssueCode.NO_PIXEL_SPACING]


def test_lenient_still_rejects_two_patients_and_different_slices_at_one_place(
    tmp_path, write_stack, edit_file
):
    paths = write_stack("p", name="p")
    edit_file(paths[0], PatientID="Other")
    twin = shutil.copy(write_stack("q", name="q")[1], tmp_path / "q" / "twin")
    edit_file(twin, PixelData=bytes(512))
    codes = {item.code for item in index(tmp_path, policy=LENIENT).rejected}
    assert codes == {IssueCode.MIXED_PATIENTS, IssueCode.SAME_POSITION}


def test_lenient_leaves_undecodable_slices_out(tmp_path, write_stack):
    paths = write_stack(n=6)
    damage(paths[2])
    found = index(tmp_path, policy=LENIENT)
    checked = check_pixels(leave_out_undecodable(found))
    assert not checked.rejected
    (series,) = checked.series
    assert len(series) == 5
    assert {issue.code for issue in series.issues} == {
        IssueCode.INCOMPLETE,
        IssueCode.IRREGULAR_SPACING,
    }
    (item,) = checked.left_out
    assert (item.code, item.paths) == (IssueCode.UNDECODABLE, (paths[2].name,))
    assert accounted(checked) == sorted(path.name for path in paths)


def test_a_series_without_a_decodable_slice_is_rejected(tmp_path, write_stack):
    for path in write_stack():
        damage(path)
    checked = check_pixels(leave_out_undecodable(index(tmp_path)))
    assert [item.code for item in checked.rejected] == [IssueCode.UNDECODABLE]
    assert not checked.series


def test_pixels_that_do_not_decode_reject_their_series_alone(tmp_path, write_stack):
    bad = write_stack("bad", name="bad")
    damage(bad[1])
    write_stack("good", name="good")
    checked = check_pixels(index(tmp_path))
    assert [series.volume_id for series in checked.series] == [uid("series", "good")]
    (rejected,) = checked.rejected
    assert rejected.code is IssueCode.UNDECODABLE
    assert rejected.paths == tuple(f"bad/{path.name}" for path in bad)
    assert bad[1].name in rejected.detail
    assert "PixelData (7FE0,0010)" in rejected.detail
    assert len(accounted(checked)) == checked.n_files


def test_pixels_that_do_not_decode_take_the_other_volumes_of_their_series_along(
    tmp_path, write_stack
):
    for name, kernel in (("a", "H31s"), ("b", "H60s")):
        paths = write_stack(
            name=name, series_uid="2.25.9", study_uid="2.25.8", extra={"ConvolutionKernel": kernel}
        )
    damage(paths[1])
    checked = check_pixels(index(tmp_path))
    assert not checked.series
    (rejected,) = checked.rejected
    assert (rejected.subject, rejected.code, len(rejected.paths)) == (
        "2.25.9",
        IssueCode.UNDECODABLE,
        8,
    )
    assert paths[1].name in rejected.detail


@pytest.fixture
def two_kernels(tmp_path, write_stack):
    """One SeriesInstanceUID of two volumes, the second with a slice that does not decode; and a sound one."""
    write_stack("in/c", name="c")
    for name, kernel in (("a", "H31s"), ("b", "H60s")):
        paths = write_stack(
            f"in/{name}", name=name, series_uid="2.25.9", study_uid="2.25.8",
            position_mm=np.array([(0, 0, 5 * i + ord(name)) for i in range(4)]),
            extra={"ConvolutionKernel": kernel},
        )  # fmt: skip
    damage(paths[1])
    return tmp_path / "in"


def test_a_volume_that_cannot_be_read_takes_its_siblings_along_at_every_door(two_kernels):
    """By headers alone there are three volumes; a door that reads each by itself must not keep one of two."""
    found = index(two_kernels)
    assert {one.volume_id for one in found.series} == {"2.25.9-1", "2.25.9-2", uid("series", "c")}
    assert sum(isinstance(load_volume(one), Volume) for one in found.series) == 2
    alike = [check(found) for check in (check_pixels, check_siblings)]
    for checked in alike:
        assert [one.volume_id for one in checked.series] == [uid("series", "c")]
        assert len(accounted(checked)) == 12
    assert alike[0].rejected == alike[1].rejected
    assert alike[0].rejected[0].detail.startswith("b/b001.dcm: ")


@pytest.mark.parametrize("asked", [(), ("--series", "2.25.9"), ("--series", "2.25.9-1")])
def test_inspect_and_convert_agree_on_siblings(two_kernels, tmp_path, capsys, asked):
    assert main(["inspect", str(two_kernels), "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert main(["convert", str(two_kernels), "-o", str(tmp_path / "out"), *asked]) == 3
    captured = capsys.readouterr()
    written = [] if asked else [series["volume_id"] for series in told["series"]]
    assert [Path(line.split(": ")[0]).name for line in captured.out.splitlines()] == [
        f"{name}.nii.gz" for name in written
    ]
    (rejected,) = told["rejected"]
    assert f"{rejected['subject']}: {rejected['detail']}" in captured.err.splitlines()


def test_volumes_without_siblings_are_not_read_twice(tmp_path, write_stack):
    write_stack()
    found = index(tmp_path)
    seen = []
    assert check_siblings(found, lambda series: seen.extend(series) or ()) == found
    assert not seen


def test_warnings_that_need_pixels_are_those_of_the_volume(tmp_path, write_stack, edit_file):
    path = write_stack()[2]
    edit_file(path, RescaleSlope="40")
    checked = check_pixels(index(tmp_path))
    (issue,) = checked.series[0].issues
    assert issue.code is IssueCode.HU_CLIPPED
    assert path.name in issue.detail


@pytest.mark.parametrize("flaw", [damage, Path.unlink])
def test_reasons_that_need_pixels_name_the_file_below_the_searched_folder(
    tmp_path, write_stack, flaw
):
    """Two patients' folders hold files of the same names."""
    write_stack("one/ct", name="one", file_names=[f"{i}" for i in range(4)])
    paths = write_stack("two/ct", name="two", file_names=[f"{i}" for i in range(4)])
    found = index(tmp_path)
    flaw(paths[2])
    (series,) = (series for series in found.series if series.volume_id == uid("series", "two"))
    names = tuple(f"two/ct/{i}" for i in range(4))
    for rejected in (
        load_volume(series),
        convert(series, tmp_path / "out"),
        *check_pixels(found).rejected,
    ):
        assert isinstance(rejected, Rejected)
        assert rejected.detail.startswith("two/ct/2: PixelData (7FE0,0010)")
        assert rejected.paths == names
    if flaw is damage:
        lenient = leave_out_undecodable(found)
        assert [item.paths for item in lenient.left_out] == [("two/ct/2",)]
        assert lenient.left_out[0].detail.startswith("two/ct/2: ")


def test_what_is_clipped_is_named_below_the_searched_folder(tmp_path, write_stack, edit_file):
    write_stack("one/ct", name="one", file_names=[f"{i}" for i in range(4)])
    edit_file(
        write_stack("two/ct", name="two", file_names=[f"{i}" for i in range(4)])[2],
        RescaleSlope="40",
    )
    (issue,) = (issue for one in check_pixels(index(tmp_path)).series for issue in one.issues)
    assert "two/ct/2 in" in issue.detail


@pytest.mark.parametrize("pixels", ["equal", "different"])
def test_headers_alone_judge_no_slices_at_one_position(tmp_path, write_stack, edit_file, pixels):
    paths = write_stack()
    twin = tmp_path / "twin.dcm"
    shutil.copy(paths[1], twin)
    if pixels == "different":
        edit_file(twin, PixelData=bytes(512))
    found = index(tmp_path, policy=HEADERS_ONLY)
    assert not found.rejected
    (series,) = found.series
    assert len(series) == 4
    (issue,) = series.issues
    assert issue.code is IssueCode.SAME_POSITION
    assert paths[1].name in issue.detail
    assert "twin.dcm" in issue.detail
    assert "pixels not compared" in issue.detail
    assert len(accounted(found)) == found.n_files


def test_headers_alone_tell_slices_beside_each_other_apart(tmp_path, write_stack, edit_file):
    paths = write_stack()
    shutil.copy(paths[1], tmp_path / "beside.dcm")
    edit_file(tmp_path / "beside.dcm", ImagePositionPatient=[-95, -120, 5])
    (rejected,) = index(tmp_path, policy=HEADERS_ONLY).rejected
    assert rejected.code is IssueCode.SAME_POSITION
    assert paths[1].name in rejected.detail
    assert "beside.dcm" in rejected.detail


def test_headers_alone_part_two_kernels(tmp_path, write_stack):
    for name, kernel in (("a", "H31s"), ("b", "H60s")):
        write_stack(
            name=name, series_uid="2.25.9", study_uid="2.25.8", extra={"ConvolutionKernel": kernel}
        )
    found = index(tmp_path, policy=HEADERS_ONLY)
    assert [len(series) for series in found.series] == [4, 4]
    assert not found.left_out


def test_headers_alone_read_no_pixels(tmp_path, write_stack):
    """Damaged pixels of a copy cannot matter to who does not look."""
    paths = write_stack()
    shutil.copy(paths[1], tmp_path / "twin")
    damage(tmp_path / "twin")
    assert [item.code for item in index(tmp_path).rejected] == [IssueCode.UNDECODABLE]
    assert not index(tmp_path, policy=HEADERS_ONLY).rejected


def test_a_file_of_two_volumes_with_a_damaged_frame_counts_once(tmp_path: Path) -> None:
    """A file is rejected with its damaged frame, and stays in use where only that is left out."""
    path = write_enhanced(
        tmp_path,
        n=8,
        frame_groups=lambda frame: functional_group(
            "FrameContentSequence", FrameAcquisitionNumber=1 if frame <= 4 else 2
        ),
    )
    damage_last_frame(path)
    headers_only = index(path)
    assert len(headers_only.series) == 2

    strict = check_pixels(headers_only)
    assert [rejected.paths for rejected in strict.rejected] == [("a.dcm",)]
    assert not strict.series

    lenient = check_pixels(leave_out_undecodable(headers_only))
    assert [len(series) for series in lenient.series] == [4, 3]
    assert not lenient.rejected
    assert not lenient.left_out
