"""Which files make one series, and what an invalid file does to it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ich3d.core.issues import IssueCode
from ich3d.core.types import Issue, SliceHeader, Volume
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.assembly.stacks import Match, compare_pixels
from ich3d.dicom.index import Index, index
from ich3d.dicom.uids import uid
from ich3d.dicom.volume import load_volume
from tests.helpers.pixels import EditFile, WriteStack
from tests.helpers.undecodable import garble

LENIENT = Policy(lenient=True)
HEADERS_ONLY = Policy(headers_only=True)


def accounted(indexed: Index) -> list[str]:
    """The names of all files that an index accounts for."""
    in_series = [header.file.name for series in indexed.series for header in series.headers]
    left_out = [path for entry in indexed.left_out for path in entry.paths]
    rejected = [path for entry in indexed.rejected for path in entry.paths]
    return sorted(in_series + left_out + rejected)


def test_series_of_one_folder_are_kept_apart(tmp_path: Path, write_stack: WriteStack) -> None:
    write_stack(name="one", n=4)
    write_stack(name="three", n=6)
    indexed = index(tmp_path)
    assert {series.volume_id: len(series) for series in indexed.series} == {
        uid("series", "one"): 4,
        uid("series", "three"): 6,
    }
    assert [series.volume_id for series in indexed.series] == sorted(
        s.volume_id for s in indexed.series
    )


def test_one_series_in_several_folders_is_one_volume(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    paths = write_stack(n=6)
    (tmp_path / "rest").mkdir()
    for path in paths[3:]:
        path.rename(tmp_path / "rest" / path.name)
    (series,) = index(tmp_path).series
    assert len(series) == 6
    assert series.is_regular


def test_files_without_a_series_uid_are_one_series_a_folder(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    for folder in ("p", "q"):
        for path in write_stack(folder, name=folder):
            edit_file(path, SeriesInstanceUID=None)
    indexed = index(tmp_path)
    assert [len(series) for series in indexed.series] == [4, 4]
    assert len({series.volume_id for series in indexed.series}) == 2
    for series in indexed.series:
        assert [issue.code for issue in series.issues] == [IssueCode.NO_SERIES_UID]
        assert isinstance(load_volume(series), Volume)


def test_an_invalid_file_rejects_the_folder_that_is_its_series(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    for folder in ("p", "q"):
        for path in write_stack(folder, name=folder):
            edit_file(path, SeriesInstanceUID=None)
    edit_file(path, PixelSpacing=None)
    indexed = index(tmp_path)
    assert [len(series) for series in indexed.series] == [4]
    (rejected,) = indexed.rejected
    assert (rejected.subject, rejected.code, len(rejected.paths)) == (
        "q",
        IssueCode.NO_PIXEL_SPACING,
        4,
    )


@pytest.fixture
def write_unnamed(write_stack: WriteStack, edit_file: EditFile) -> Callable[..., list[Path]]:
    """Writes a folder of files without SeriesInstanceUID; all folders have the same SOP UIDs."""

    def write(folder: str, **changes: Any) -> list[Path]:
        paths = write_stack(folder)
        for path in paths:
            edit_file(path, SeriesInstanceUID=None, **changes)
        return paths

    return write


def test_a_copied_folder_without_a_series_uid_is_no_second_volume(
    tmp_path: Path, write_unnamed: Callable[..., list[Path]]
) -> None:
    write_unnamed("one")
    write_unnamed("two")
    indexed = index(tmp_path)
    assert [len(series) for series in indexed.series] == [4]
    assert [entry.code for entry in indexed.left_out] == [IssueCode.DUPLICATE] * 4


def test_folders_without_a_series_uid_that_only_seem_to_be_copies(
    tmp_path: Path, write_unnamed: Callable[..., list[Path]]
) -> None:
    write_unnamed("one")
    write_unnamed("two", PixelData=bytes(512))
    (rejected,) = index(tmp_path).rejected
    assert (rejected.code, len(rejected.paths)) == (IssueCode.SAME_POSITION, 8)
    assert "one/" in rejected.detail
    assert "two/" in rejected.detail


def test_patients_without_a_series_uid_are_a_volume_each(
    tmp_path: Path, write_unnamed: Callable[..., list[Path]]
) -> None:
    write_unnamed("one")
    write_unnamed("two", PatientID="another")
    first, second = index(tmp_path).series
    assert first.volume_id != second.volume_id


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ImagePositionPatient": None}, IssueCode.NO_POSITION),
        ({"RescaleSlope": b""}, IssueCode.NO_RESCALE),
        ({"PixelData": bytes(300)}, IssueCode.TRUNCATED_PIXELS),
    ],
)
def test_lenient_drops_an_invalid_slice_and_reports_the_gap(
    tmp_path: Path,
    write_stack: WriteStack,
    edit_file: EditFile,
    changes: dict[str, Any],
    code: IssueCode,
) -> None:
    paths = write_stack(n=6)
    edit_file(paths[2], **changes)
    indexed = index(tmp_path, policy=LENIENT)
    assert not indexed.rejected
    (series,) = indexed.series
    assert [header.file.path for header in series.headers] == [*paths[:2], *paths[3:]]
    assert [(entry.paths, entry.code) for entry in indexed.left_out] == [((paths[2].name,), code)]
    irregular, incomplete = series.issues
    assert irregular.code is IssueCode.IRREGULAR_SPACING
    assert f"{paths[1].name} and {paths[3].name} lie 10.00 mm apart" in irregular.detail
    assert incomplete.code is IssueCode.INCOMPLETE
    assert indexed.left_out[0].detail in incomplete.detail
    assert isinstance(load_volume(series), Volume)


def test_lenient_reports_dropped_slices_that_leave_no_gap(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    paths = write_stack(n=6)
    for path in paths[4:]:
        edit_file(path, PixelSpacing=None)
    (series,) = index(tmp_path, policy=LENIENT).series
    (issue,) = series.issues
    assert issue.code is IssueCode.INCOMPLETE
    assert paths[4].name in issue.detail
    assert "1 more" in issue.detail


def test_lenient_rejects_a_series_without_a_valid_slice(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    for path in write_stack():
        edit_file(path, PixelSpacing=None)
    indexed = index(tmp_path, policy=LENIENT)
    assert [entry.code for entry in indexed.rejected] == [IssueCode.NO_PIXEL_SPACING]


def test_lenient_still_rejects_two_patients_and_different_slices_at_one_place(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    paths = write_stack("p", name="p")
    edit_file(paths[0], PatientID="Other")
    second = shutil.copy(write_stack("q", name="q")[1], tmp_path / "q" / "second")
    edit_file(second, PixelData=bytes(512))
    codes = {entry.code for entry in index(tmp_path, policy=LENIENT).rejected}
    assert codes == {IssueCode.MIXED_PATIENTS, IssueCode.SAME_POSITION}


@pytest.mark.parametrize("pixels", ["equal", "different"])
def test_headers_alone_do_not_compare_slices_at_one_position(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile, pixels: str
) -> None:
    paths = write_stack()
    second = tmp_path / "second.dcm"
    shutil.copy(paths[1], second)
    if pixels == "different":
        edit_file(second, PixelData=bytes(512))
    indexed = index(tmp_path, policy=HEADERS_ONLY)
    assert not indexed.rejected
    (series,) = indexed.series
    assert len(series) == 4
    (issue,) = series.issues
    assert issue.code is IssueCode.SAME_POSITION
    assert paths[1].name in issue.detail
    assert "second.dcm" in issue.detail
    assert "pixels not compared" in issue.detail
    assert len(accounted(indexed)) == indexed.n_files


def test_headers_alone_tell_slices_beside_each_other_apart(
    tmp_path: Path, write_stack: WriteStack, edit_file: EditFile
) -> None:
    paths = write_stack()
    shutil.copy(paths[1], tmp_path / "beside.dcm")
    edit_file(tmp_path / "beside.dcm", ImagePositionPatient=[-95, -120, 5])
    (rejected,) = index(tmp_path, policy=HEADERS_ONLY).rejected
    assert rejected.code is IssueCode.SAME_POSITION
    assert paths[1].name in rejected.detail
    assert "beside.dcm" in rejected.detail


def test_headers_alone_read_no_pixels(tmp_path: Path, write_stack: WriteStack) -> None:
    """Damaged pixels of a copy have no influence."""
    paths = write_stack()
    shutil.copy(paths[1], tmp_path / "second")
    garble(tmp_path / "second")
    assert [entry.code for entry in index(tmp_path).rejected] == [IssueCode.UNDECODABLE]
    assert not index(tmp_path, policy=HEADERS_ONLY).rejected


def test_two_slices_are_compared_once(
    tmp_path: Path, write_stack: WriteStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A series that is split by kernel compares slices before and after it is split."""
    for name, kernel in (("a", "H31s"), ("b", "H60s")):
        (*_, last) = write_stack(
            name=name, series_uid="2.25.9", study_uid="2.25.8", extra={"ConvolutionKernel": kernel}
        )
    shutil.copy(last, tmp_path / "copy.dcm")
    compared: list[tuple[str, str]] = []

    def compare_and_count(a: SliceHeader, b: SliceHeader) -> Match | Issue:
        compared.append((a.name, b.name))
        return compare_pixels(a, b)

    monkeypatch.setattr("ich3d.dicom.assembly.grouping.compare_pixels", compare_and_count)
    indexed = index(tmp_path)
    assert [len(series) for series in indexed.series] == [4, 4]
    assert compared
    assert len(set(compared)) == len(compared)


def test_series_that_share_sop_uids_are_both_warned_of(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    sop_uids = [uid("sop", "a", i) for i in range(4)]
    write_stack(name="a")
    write_stack(name="b", sop_uids=[*sop_uids[:3], "2.25.5"])
    write_stack(name="c")
    by_id = {series.volume_id: series for series in index(tmp_path).series}
    for name, other in (("a", "b"), ("b", "a")):
        (issue,) = by_id[uid("series", name)].issues
        assert issue.code is IssueCode.REPEATED_SOP_UID
        assert f"3 slices, such as {name}000.dcm" in issue.detail
        assert uid("series", other) in issue.detail
    assert by_id[uid("series", "c")].issues == ()
