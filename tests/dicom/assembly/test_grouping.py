"""Which slices make one volume, which are copies, and which may not stand together."""

import shutil

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate

from ich3d.core.issues import IssueCode
from ich3d.core.types import Volume
from ich3d.dicom.index import index
from ich3d.dicom.uids import uid
from ich3d.dicom.volume import load_volume


def test_series_of_one_folder_are_kept_apart(tmp_path, write_stack):
    write_stack(name="one", n=4)
    write_stack(name="three", n=6)
    found = index(tmp_path)
    assert {series.volume_id: len(series) for series in found.series} == {
        uid("series", "one"): 4,
        uid("series", "three"): 6,
    }
    assert [series.volume_id for series in found.series] == sorted(
        s.volume_id for s in found.series
    )


def test_one_series_in_several_folders_is_one_volume(tmp_path, write_stack):
    paths = write_stack(n=6)
    (tmp_path / "rest").mkdir()
    for path in paths[3:]:
        path.rename(tmp_path / "rest" / path.name)
    (series,) = index(tmp_path).series
    assert len(series) == 6
    assert series.is_regular


@pytest.mark.parametrize(
    ("changes", "keyword"),
    [
        ({"pixel_spacing_mm": (0.6, 0.4)}, "PixelSpacing (0028,0030)"),
        ({"col_dir": (0.0, np.cos(0.2), np.sin(0.2))}, "ImageOrientationPatient (0020,0037)"),
        ({"hu": np.zeros((4, 20, 16), np.int16)}, "Rows (0028,0010)"),
        ({"hu": np.zeros((4, 16, 20), np.int16)}, "Columns (0028,0011)"),
        ({"study_uid": "2.25.77"}, "StudyInstanceUID (0020,000D)"),
    ],
)
class TestSeveralGeometries:
    def other(self, write_stack, changes, n):
        """`n` slices of another geometry, above those of the series of four, under its UID."""
        changes = {**changes, "hu": changes["hu"][:n]} if "hu" in changes else changes
        position_mm = np.array([(-100.0, -120.0, 200.0 + 5.0 * i) for i in range(n)])
        same = {
            "series_uid": uid("series", "a"),
            "study_uid": uid("study", "a"),
            "position_mm": position_mm,
        }
        return write_stack(**{"name": "b", "n": n, **same, **changes})

    def test_clean_stacks_are_a_volume_each(self, tmp_path, write_stack, changes, keyword):
        write_stack()
        self.other(write_stack, changes, n=3)
        found = index(tmp_path)
        first, second = found.series
        assert (first.volume_id, len(first)) == (uid("series", "a") + "-1", 4)
        assert (second.volume_id, len(second)) == (uid("series", "a") + "-2", 3)
        assert {series.series_uid for series in found.series} == {uid("series", "a")}
        for series in found.series:
            assert [issue.code for issue in series.issues] == [IssueCode.SEVERAL_VOLUMES]

    @pytest.mark.parametrize("n", [1, 2])
    def test_a_lone_odd_slice_or_two_reject_the_series(
        self, tmp_path, write_stack, changes, keyword, n
    ):
        write_stack()
        odd = self.other(write_stack, changes, n=n)
        found = index(tmp_path)
        assert not found.series
        (rejected,) = found.rejected
        assert rejected.code is IssueCode.MIXED_GEOMETRY
        assert len(rejected.paths) == 4 + n
        assert keyword in rejected.detail
        for path in odd:
            assert path.name in rejected.detail


def test_odd_slices_scattered_over_a_series_reject_it(tmp_path, write_stack, edit_file):
    paths = write_stack(n=12)
    for i in (2, 3, 9):
        edit_file(paths[i], PixelSpacing=[0.7, 0.7])
    assert [item.code for item in index(tmp_path).rejected] == [IssueCode.MIXED_GEOMETRY]


def test_a_rounding_of_the_geometry_is_no_difference(tmp_path, write_stack, edit_file):
    paths = write_stack()
    edit_file(
        paths[1], PixelSpacing=[0.5001, 0.4001], ImageOrientationPatient=[1, 0, 0, 0, 1, 0.0005]
    )
    (series,) = index(tmp_path).series
    assert len(series) == 4


@pytest.mark.parametrize(
    ("changes", "together"),
    [
        ({"PixelSpacing": [0.5004, 0.4]}, True),
        ({"PixelSpacing": [0.5006, 0.4]}, False),
        ({"PixelSpacing": [0.5, 0.39968]}, True),
        ({"PixelSpacing": [0.5, 0.39952]}, False),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0.0009]}, True),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0.0011]}, False),
    ],
)
def test_geometry_parts_from_a_thousandth_on(tmp_path, write_stack, edit_file, changes, together):
    edit_file(write_stack()[1], **changes)
    found = index(tmp_path)
    assert [len(series) for series in found.series] == ([4] if together else [])
    assert [item.code for item in found.rejected] == (
        [] if together else [IssueCode.MIXED_GEOMETRY]
    )


def test_two_patients_under_one_series_uid_are_rejected(tmp_path, write_stack, edit_file):
    paths = write_stack()
    edit_file(paths[3], PatientID="Somebody-Else")
    (rejected,) = index(tmp_path).rejected
    assert rejected.code is IssueCode.MIXED_PATIENTS
    assert "PatientID (0010,0020)" in rejected.detail
    assert "Somebody" not in rejected.detail
    assert len(rejected.paths) == 4


@pytest.mark.parametrize("missing", [0, 2])
@pytest.mark.parametrize("value", [None, ""])
def test_a_slice_without_a_patient_among_those_of_one_rejects_the_series(
    tmp_path, write_stack, edit_file, missing, value
):
    paths = write_stack("deep")
    edit_file(paths[missing], PatientID=value)
    (rejected,) = index(tmp_path).rejected
    assert rejected.code is IssueCode.MIXED_PATIENTS
    assert rejected.detail == (
        f"deep/{paths[missing].name}: PatientID (0010,0020) is missing, other files of the series have one"
    )
    assert len(rejected.paths) == 4


def test_a_series_without_a_patient_is_a_volume(tmp_path, write_stack, edit_file):
    for path in write_stack():
        edit_file(path, PatientID=None)
    (series,) = index(tmp_path).series
    assert (series.patient_id, series.issues) == ("", ())


@pytest.mark.parametrize("lost", [0, 3, 6])
def test_a_slice_that_lost_its_series_uid_is_told_by_both(tmp_path, write_stack, edit_file, lost):
    """At an end there is no gap that would tell of it."""
    paths = write_stack("deep", n=7)
    edit_file(paths[lost], SeriesInstanceUID=None)
    found = index(tmp_path)
    assert not found.rejected
    host, stray = sorted(found.series, key=len, reverse=True)
    assert (len(host), len(stray)) == (6, 1)
    name = f"deep/{paths[lost].name}"
    assert IssueCode.IRREGULAR_SPACING in {issue.code for issue in host.issues} or lost != 3
    assert host.issues[-1].code is IssueCode.INCOMPLETE
    assert f"{name}: SeriesInstanceUID (0020,000E) is missing" in host.issues[-1].detail
    assert {issue.code for issue in stray.issues} == {
        IssueCode.NO_SERIES_UID,
        IssueCode.SINGLE_SLICE,
    }
    assert stray.issues[-1].detail.startswith(f"{name}: ")
    assert uid("series", "a") in stray.issues[-1].detail


@pytest.mark.parametrize(
    "changes",
    [
        {"StudyInstanceUID": "2.25.1"},
        {"PatientID": "Other"},
        {"PixelSpacing": [0.7, 0.7]},
        {"ImagePositionPatient": [-100, -120, 17.5]},
        {"ImagePositionPatient": [-100, -120, 60]},
        {"ImagePositionPatient": [-100, -120, 10]},
    ],
    ids=["study", "patient", "spacing", "between", "far off", "taken"],
)
def test_a_slice_without_a_series_uid_that_fits_nowhere_stands_alone(
    tmp_path, write_stack, edit_file, changes
):
    paths = write_stack(n=7)
    edit_file(paths[3], SeriesInstanceUID=None, **changes)
    host, stray = sorted(index(tmp_path).series, key=len, reverse=True)
    assert [issue.code for issue in host.issues] == [IssueCode.IRREGULAR_SPACING]
    assert [issue.code for issue in stray.issues] == [
        IssueCode.NO_SERIES_UID,
        IssueCode.SINGLE_SLICE,
    ]


def test_files_without_a_series_uid_are_one_series_a_folder(tmp_path, write_stack, edit_file):
    for folder in ("p", "q"):
        for path in write_stack(folder, name=folder):
            edit_file(path, SeriesInstanceUID=None)
    found = index(tmp_path)
    assert [len(series) for series in found.series] == [4, 4]
    assert len({series.volume_id for series in found.series}) == 2
    for series in found.series:
        assert [issue.code for issue in series.issues] == [IssueCode.NO_SERIES_UID]
        assert isinstance(load_volume(series), Volume)


def test_a_flawed_file_takes_the_folder_that_is_its_series_with_it(
    tmp_path, write_stack, edit_file
):
    for folder in ("p", "q"):
        for path in write_stack(folder, name=folder):
            edit_file(path, SeriesInstanceUID=None)
    edit_file(path, PixelSpacing=None)
    found = index(tmp_path)
    assert [len(series) for series in found.series] == [4]
    (rejected,) = found.rejected
    assert (rejected.subject, rejected.code, len(rejected.paths)) == (
        "q",
        IssueCode.NO_PIXEL_SPACING,
        4,
    )


def test_a_made_up_series_uid_does_not_depend_on_the_folder(tmp_path, write_stack, edit_file):
    for path in write_stack("here"):
        edit_file(path, SeriesInstanceUID=None)
    before = index(tmp_path).series[0].volume_id
    (tmp_path / "here").rename(tmp_path / "there")
    assert index(tmp_path).series[0].volume_id == before


@pytest.fixture
def write_unnamed(write_stack, edit_file):
    """A folder of a series whose files name none; two such folders hold the same SOPInstanceUIDs."""

    def write(folder, **changes):
        paths = write_stack(folder)
        for path in paths:
            edit_file(path, SeriesInstanceUID=None, **changes)
        return paths

    return write


def test_a_copied_folder_without_a_series_uid_is_no_second_volume(tmp_path, write_unnamed):
    write_unnamed("one")
    write_unnamed("two")
    found = index(tmp_path)
    assert [len(series) for series in found.series] == [4]
    assert [item.code for item in found.left_out] == [IssueCode.DUPLICATE] * 4


def test_folders_without_a_series_uid_that_only_seem_to_be_copies(tmp_path, write_unnamed):
    write_unnamed("one")
    write_unnamed("two", PixelData=bytes(512))
    (rejected,) = index(tmp_path).rejected
    assert (rejected.code, len(rejected.paths)) == (IssueCode.SAME_POSITION, 8)
    assert "one/" in rejected.detail
    assert "two/" in rejected.detail


def test_patients_without_a_series_uid_are_a_volume_each(tmp_path, write_unnamed):
    write_unnamed("one")
    write_unnamed("two", PatientID="another")
    first, second = index(tmp_path).series
    assert first.volume_id != second.volume_id


def test_copies_are_left_out_and_named(tmp_path, write_stack):
    paths = write_stack()
    shutil.copy(paths[2], tmp_path / "zz-copy")
    shutil.copy(paths[2], tmp_path / "zz-more")
    found = index(tmp_path)
    assert [len(series) for series in found.series] == [4]
    assert {item.paths for item in found.left_out} == {("zz-copy",), ("zz-more",)}
    assert {item.code for item in found.left_out} == {IssueCode.DUPLICATE}
    assert paths[2].name in found.left_out[0].detail


def test_a_copy_in_another_transfer_syntax_is_a_copy(tmp_path, write_stack):
    path = write_stack()[1]
    ds = pydicom.dcmread(path)
    ds.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
    ds.save_as(tmp_path / "rle")
    assert [item.code for item in index(tmp_path).left_out] == [IssueCode.DUPLICATE]


@pytest.mark.parametrize("change", ["pixels", "rescale", "place"])
def test_different_slices_at_one_height_reject_the_series(tmp_path, write_stack, edit_file, change):
    paths = write_stack()
    twin = tmp_path / "twin.dcm"
    shutil.copy(paths[1], twin)
    edit_file(twin, **{
        "pixels": {"PixelData": bytes(512)},
        "rescale": {"RescaleIntercept": "-24"},
        "place": {"ImagePositionPatient": [-90, -120, 5]},
    }[change])  # fmt: skip
    found = index(tmp_path)
    (rejected,) = found.rejected
    assert rejected.code is IssueCode.SAME_POSITION
    assert paths[1].name in rejected.detail
    assert "twin.dcm" in rejected.detail
    assert len(rejected.paths) == 5


def test_a_copy_that_cannot_be_decoded_rejects_the_series(tmp_path, write_stack):
    ds = pydicom.dcmread(write_stack()[1])
    ds.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
    ds.PixelData = encapsulate([b"\xff" * 64])
    ds.save_as(tmp_path / "twin")
    (rejected,) = index(tmp_path).rejected
    assert rejected.code is IssueCode.UNDECODABLE
    assert "twin" in rejected.detail
    assert len(rejected.paths) == 5
