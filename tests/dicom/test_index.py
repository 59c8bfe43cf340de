"""Every file below a path ends up in a series, left out, or rejected."""

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pydicom
import pytest
from pydicom.sequence import Sequence
from pydicom.uid import UID

from ich3d.core.errors import DataError
from ich3d.core.issues import IssueCode
from ich3d.core.types import FileRef, LeftOut, Rejected, Volume
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.headers.elements import tag_text
from ich3d.dicom.index import Index, index, index_all
from ich3d.dicom.uids import uid
from ich3d.dicom.volume import load_volume
from tests.helpers.enhanced import for_frames, functional_group, write_enhanced
from tests.helpers.series import edit, stack
from tests.helpers.zips import mark_last_member_encrypted, pack_zip

T = TypeVar("T")

WriteStack = Callable[..., list[Path]]

LENIENT = Policy(lenient=True)
NO_POSITION = {"PlanePositionSequence": Sequence([])}


def lengths(indexed: Index) -> list[int]:
    """The number of slices of each series."""
    return [len(series) for series in indexed.series]


def codes_and_paths(
    entries: Iterable[LeftOut | Rejected],
) -> list[tuple[IssueCode, tuple[str, ...]]]:
    return [(entry.code, entry.paths) for entry in entries]


def accounted_files(indexed: Index) -> list[str]:
    """The names of all files in an index, as often as they occur."""
    in_series = [header.file.name for series in indexed.series for header in series.headers]
    left_out = [path for entry in indexed.left_out for path in entry.paths]
    rejected = [path for entry in indexed.rejected for path in entry.paths]
    return sorted([*in_series, *left_out, *rejected])


def files_on_disk(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def test_every_file_is_accounted_for_exactly_once(tmp_path: Path, write_stack: WriteStack) -> None:
    write_stack("deep/er", name="good")
    edit(write_stack("bad", name="bad")[2], ImagePositionPatient=None)
    copies = write_stack("copies", name="good")
    edit(write_stack("mr", name="mr")[0], Modality="MR")
    (tmp_path / "notes.dcm").write_text("plain text " * 50)
    (tmp_path / "short").write_bytes(b"x")
    (tmp_path / "empty.dcm").write_bytes(b"")

    indexed = index(tmp_path)

    assert accounted_files(indexed) == files_on_disk(tmp_path)
    assert indexed.n_files == len(files_on_disk(tmp_path))
    codes = [left_out.code for left_out in indexed.left_out]
    assert codes.count(IssueCode.DUPLICATE) == len(copies)


def test_names_and_extensions_do_not_matter(tmp_path: Path, write_stack: WriteStack) -> None:
    write_stack(file_names=["IM_0001", "notes.txt", "scan.jpg", ".hidden"])
    indexed = index(tmp_path)
    assert lengths(indexed) == [4]
    assert not indexed.left_out


def test_a_single_file_can_be_indexed(write_stack: WriteStack) -> None:
    path = write_stack()[1]
    indexed = index(path)
    assert (indexed.n_files, indexed.root) == (1, path.parent)
    assert indexed.series[0].headers[0].file.path == path


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file or folder .*nowhere"):
        index(tmp_path / "nowhere")


def test_an_empty_folder_gives_an_empty_index(tmp_path: Path) -> None:
    indexed = index(tmp_path)
    assert (indexed.n_files, indexed.series, indexed.left_out, indexed.rejected) == (0, (), (), ())


def test_progress_wraps_all_files(tmp_path: Path, write_stack: WriteStack) -> None:
    paths = write_stack()
    seen: list[Path] = []

    def watch(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        assert (label, total) == ("headers", len(paths))
        for item in items:
            assert isinstance(item, FileRef)
            seen.append(item.path)
            yield item

    index(tmp_path, progress=watch)
    assert sorted(seen) == sorted(paths)


def test_a_linked_file_is_read_once(tmp_path: Path, write_stack: WriteStack) -> None:
    paths = write_stack("in")
    (tmp_path / "in" / "link").symlink_to(paths[1])
    indexed = index(tmp_path / "in")
    assert indexed.n_files == 4
    assert not indexed.left_out


def test_links_that_lead_out_are_counted_named_and_followed_where_asked(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    elsewhere = write_stack("elsewhere", name="other")
    write_stack("in", name="good")
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "file").symlink_to(elsewhere[0])

    indexed = index(tmp_path / "in")
    assert lengths(indexed) == [4]
    assert indexed.n_files == 6
    (rejected,) = indexed.rejected
    assert (rejected.code, rejected.paths) == (IssueCode.OUTSIDE_LINK, ("file", "folder"))
    problem = "2 links that lead out of the folder, not followed without --follow-links"
    assert rejected.detail == f"file, folder: {problem}"

    followed = index(tmp_path / "in", policy=Policy(follow_links=True))
    assert lengths(followed) == [4, 4]
    assert not followed.rejected
    both = index_all([tmp_path / "in", tmp_path / "elsewhere"])
    assert lengths(both) == [4, 4]
    assert not both.rejected


def test_a_sub_folder_that_cannot_be_listed_is_rejected_and_the_rest_is_read(
    tmp_path: Path, write_stack: WriteStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stack("open")
    (tmp_path / "locked").mkdir()
    scan = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    indexed = index(tmp_path)
    assert lengths(indexed) == [4]
    (rejected,) = indexed.rejected
    assert (rejected.code, rejected.paths) == (IssueCode.UNREADABLE, ("locked",))
    assert rejected.detail.startswith("locked: the folder cannot be listed (Permission denied)")


def test_a_series_without_uid_in_the_searched_folder_is_named_by_a_file(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    paths = write_stack()
    for path in paths:
        edit(path, SeriesInstanceUID=None)
    (series,) = index(tmp_path).series
    (issue,) = series.issues
    assert issue.detail.startswith("a000.dcm: SeriesInstanceUID (0020,000E) is missing")
    edit(paths[2], PixelSpacing=None)
    (rejected,) = index(tmp_path).rejected
    assert rejected.subject == "a000.dcm"


def test_a_link_without_a_target_is_rejected_alone(tmp_path: Path, write_stack: WriteStack) -> None:
    write_stack()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    indexed = index(tmp_path)
    assert lengths(indexed) == [4]
    assert codes_and_paths(indexed.rejected) == [(IssueCode.UNREADABLE, ("link",))]


def test_overlapping_paths_count_each_file_once_and_share_a_series(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    paths = write_stack("in/deep")
    (tmp_path / "in" / "beside").mkdir()
    paths[3].rename(tmp_path / "in" / "beside" / "top.dcm")

    indexed = index_all([tmp_path / "in" / "deep", paths[0], tmp_path / "in" / "beside"])

    assert (indexed.n_files, indexed.root) == (4, tmp_path / "in")
    (series,) = indexed.series
    names = [header.file.name for header in series.headers]
    assert names == ["deep/a000.dcm", "deep/a001.dcm", "deep/a002.dcm", "beside/top.dcm"]


def test_files_that_are_no_ct_slices_are_left_out(tmp_path: Path, write_stack: WriteStack) -> None:
    edit(write_stack(n=5)[4], Modality="MR")
    (tmp_path / "report.dcm").write_text("a report " * 100)
    indexed = index(tmp_path)
    assert lengths(indexed) == [4]
    assert not indexed.rejected
    assert [left_out.detail for left_out in indexed.left_out] == [
        "a004.dcm: Modality (0008,0060) is MR",
        "report.dcm: not a DICOM file",
    ]


@pytest.mark.parametrize(
    ("keyword", "code"),
    [
        ("ImagePositionPatient", IssueCode.NO_POSITION),
        ("RescaleSlope", IssueCode.NO_RESCALE),
        ("SOPInstanceUID", IssueCode.NO_UID),
        ("Rows", IssueCode.UNREADABLE),
        ("PixelData", IssueCode.TRUNCATED_PIXELS),
    ],
)
def test_an_invalid_slice_rejects_its_series_and_no_other(
    tmp_path: Path, write_stack: WriteStack, keyword: str, code: IssueCode
) -> None:
    paths = write_stack("x", name="invalid")
    edit(paths[1], **{keyword: None})
    write_stack("y", name="valid")

    indexed = index(tmp_path)

    (rejected,) = indexed.rejected
    assert (rejected.subject, rejected.code) == (uid("series", "invalid"), code)
    problem, lost = rejected.detail.split("; ")
    assert problem == f"x/{paths[1].name}: {tag_text(keyword)} is missing"
    valid = len(paths) - 1
    assert lost.startswith(f"{valid} other slices of the series cannot be used because of it: ")
    assert "--lenient" in lost
    assert len(rejected.sop_uids) == (valid if code is IssueCode.NO_UID else len(paths))
    assert rejected.paths == tuple(f"x/{path.name}" for path in paths)
    assert [series.volume_id for series in indexed.series] == [uid("series", "valid")]


@pytest.mark.parametrize(
    ("keyword", "code"),
    [
        ("ImagePositionPatient", IssueCode.NO_POSITION),
        ("ImageOrientationPatient", IssueCode.NO_ORIENTATION),
        ("PixelSpacing", IssueCode.NO_PIXEL_SPACING),
        ("RescaleSlope", IssueCode.NO_RESCALE),
        ("RescaleIntercept", IssueCode.NO_RESCALE),
    ],
)
@pytest.mark.parametrize("value", [None, b""])
def test_what_all_slices_lack_has_no_default(
    tmp_path: Path, write_stack: WriteStack, keyword: str, code: IssueCode, value: bytes | None
) -> None:
    for path in write_stack():
        edit(path, **{keyword: value})
    indexed = index(tmp_path)
    assert not indexed.series
    (rejected,) = indexed.rejected
    assert (rejected.code, len(rejected.paths)) == (code, 4)
    assert rejected.detail.startswith(f"a000.dcm: {tag_text(keyword)}")


def test_further_invalid_slices_of_a_series_are_counted(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    for path in write_stack()[1:]:
        edit(path, PixelSpacing=None)
    (rejected,) = index(tmp_path).rejected
    assert "2 more files" in rejected.detail


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_a_file_cut_within_its_pixels_rejects_its_series(
    tmp_path: Path, write_stack: WriteStack, share: float
) -> None:
    path = write_stack()[3]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 512 + int(512 * share)])
    (rejected,) = index(tmp_path).rejected
    assert rejected.code is IssueCode.TRUNCATED_PIXELS
    assert "of 512 bytes" in rejected.detail
    assert len(rejected.paths) == 4


def test_a_file_cut_anywhere_is_never_a_slice(tmp_path: Path, write_stack: WriteStack) -> None:
    (path,) = write_stack(n=1)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        indexed = index(path)
        assert not indexed.series, length
        assert accounted_files(indexed) == ["a000.dcm"], length


@pytest.mark.parametrize("length", [0, 1, 131, 132, 200])
def test_a_file_cut_before_its_uids_is_rejected_alone(
    tmp_path: Path, write_stack: WriteStack, length: int
) -> None:
    path = write_stack(n=5)[4]
    path.write_bytes(path.read_bytes()[:length])
    indexed = index(tmp_path)
    assert lengths(indexed) == [4]
    assert not indexed.left_out
    (rejected,) = indexed.rejected
    assert (rejected.subject, rejected.paths) == (path.name, (path.name,))


@pytest.mark.parametrize("length", [8, 60, 131, 132, 200])
def test_a_file_without_preamble_that_is_cut_is_rejected_alone(
    tmp_path: Path, write_stack: WriteStack, length: int
) -> None:
    path = write_stack(n=5)[4]
    content = path.read_bytes()
    start = content.index(b"\x08\x00\x08\x00CS")
    path.write_bytes(content[start : start + length])
    indexed = index(tmp_path)
    assert lengths(indexed) == [4]
    assert not indexed.left_out
    assert [rejected.paths for rejected in indexed.rejected] == [(path.name,)]


def test_the_elements_of_rsna_files_are_enough(
    tmp_path: Path, write_stack: WriteStack, recwarn: pytest.WarningsRecorder
) -> None:
    """The RSNA 2019 files: few attributes, no valid UIDs, a tilted gantry, names in no order."""
    paths = write_stack(
        file_names=["c", "a", "d", "b"],
        col_dir=(0.0, 0.98, -0.19),
        position_mm=np.array([(-100, -120, 5.1 * i) for i in range(4)]),
    )
    for number, path in enumerate(paths):
        strip_to_rsna(path, number)

    (series,) = index(tmp_path).series

    assert series.volume_id == "ID_series"
    assert [header.sop_uid for header in series.headers] == [f"ID_{i}" for i in range(4)]
    assert series.spacing_mm == pytest.approx(5.0, abs=0.01)
    assert series.tilt_deg == pytest.approx(10.97, abs=0.01)
    assert not series.issues
    assert not recwarn.list
    volume = load_volume(series)
    assert isinstance(volume, Volume)
    assert np.array_equal(volume.hu, stack().hu)
    assert volume.affine_mm is not None
    assert volume.affine_mm[:3, 2] == pytest.approx((0, 0, 5.1))


RSNA_KEYWORDS = (
    "SOPInstanceUID", "Modality", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "StudyID",
    "ImagePositionPatient", "ImageOrientationPatient", "SamplesPerPixel",
    "PhotometricInterpretation", "Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "WindowCenter", "WindowWidth", "RescaleIntercept",
    "RescaleSlope", "PixelData",
)  # fmt: skip


def strip_to_rsna(path: Path, number: int) -> None:
    """Keep the 22 attributes that the RSNA 2019 files hold, with identifiers that are no UIDs."""
    dataset = pydicom.dcmread(path)
    for element in list(dataset):
        if element.keyword not in RSNA_KEYWORDS:
            del dataset[element.tag]

    identifiers = {
        "SOPInstanceUID": f"ID_{number}",
        "StudyInstanceUID": "ID_study",
        "SeriesInstanceUID": "ID_series",
    }
    for keyword, identifier in identifiers.items():
        dataset[keyword] = pydicom.DataElement(
            keyword, "UI", identifier, validation_mode=pydicom.config.IGNORE
        )
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("2.25.5")
    dataset.save_as(path, enforce_file_format=False)


def test_no_message_names_the_patient(
    tmp_path: Path, write_stack: WriteStack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    write_stack("a")
    edit(write_stack("b", name="b")[0], PatientID="Other-Patient")
    indexed = index(tmp_path)
    assert indexed.rejected[0].code is IssueCode.MIXED_PATIENTS
    messages = caplog.text + repr(indexed.rejected) + repr(indexed.left_out)
    assert "Secret" not in messages
    assert "Other" not in messages


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_series_in_a_zip_is_read_in_place(
    tmp_path: Path, write_stack: WriteStack, method: int
) -> None:
    write_stack("x")
    (tmp_path / "x" / "readme").write_text("words " * 50)
    pack_zip(tmp_path / "x", tmp_path / "study.dat", method)
    before = (tmp_path / "study.dat").read_bytes()

    indexed = index(tmp_path)

    assert indexed.n_files == 5
    (series,) = indexed.series
    assert series.paths == tuple(f"study.dat/inner/a{i:03d}.dcm" for i in range(4))
    assert codes_and_paths(indexed.left_out) == [(IssueCode.NOT_DICOM, ("study.dat/inner/readme",))]
    volume = load_volume(series)
    assert isinstance(volume, Volume)
    assert np.array_equal(volume.hu, stack().hu)
    assert tuple(key.path for key in volume.keys) == series.paths
    assert files_on_disk(tmp_path) == ["study.dat"]
    assert (tmp_path / "study.dat").read_bytes() == before


def test_a_single_zip_can_be_indexed(tmp_path: Path, write_stack: WriteStack) -> None:
    write_stack("x")
    pack_zip(tmp_path / "x", tmp_path / "a.zip")
    (series,) = index(tmp_path / "a.zip").series
    assert series.paths[0] == "a.zip/inner/a000.dcm"


def test_a_part_of_a_series_may_lie_in_a_zip(tmp_path: Path, write_stack: WriteStack) -> None:
    write_stack("x")[0].rename(tmp_path / "lowest")
    pack_zip(tmp_path / "x", tmp_path / "a.zip")
    (series,) = index(tmp_path).series
    assert series.paths[:2] == ("lowest", "a.zip/inner/a001.dcm")


def test_an_invalid_slice_in_a_zip_is_named_as_its_member(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    edit(write_stack("x")[2], PixelSpacing=None)
    pack_zip(tmp_path / "x", tmp_path / "a.zip")
    (rejected,) = index(tmp_path).rejected
    assert rejected.detail.startswith("a.zip/inner/a002.dcm: PixelSpacing (0028,0030) is missing; ")
    assert rejected.paths == tuple(f"a.zip/inner/a{i:03d}.dcm" for i in range(4))


def test_files_without_a_series_uid_are_one_series_in_each_folder_of_a_zip(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    for path in write_stack("x"):
        edit(path, SeriesInstanceUID=None)
    pack_zip(tmp_path / "x", tmp_path / "a.zip")
    (series,) = index(tmp_path).series
    (issue,) = series.issues
    assert issue.code is IssueCode.NO_SERIES_UID
    assert issue.detail.startswith("a.zip/inner/a000.dcm: ")


def test_a_truncated_zip_is_rejected_alone(tmp_path: Path, write_stack: WriteStack) -> None:
    write_stack("x")
    pack_zip(tmp_path / "x", tmp_path / "a.zip")
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-30])
    write_stack("y", name="valid")
    indexed = index(tmp_path)
    (rejected,) = indexed.rejected
    assert (rejected.subject, rejected.paths) == ("a.zip", ("a.zip",))
    assert rejected.code is IssueCode.UNREADABLE
    assert rejected.detail == "a.zip: the zip is damaged: copy or download it again"
    assert [series.volume_id for series in indexed.series] == [uid("series", "valid")]


def test_an_encrypted_member_is_rejected(tmp_path: Path, write_stack: WriteStack) -> None:
    write_stack("x", n=1)
    pack_zip(tmp_path / "x", tmp_path / "a.zip")
    mark_last_member_encrypted(tmp_path / "a.zip")
    (rejected,) = index(tmp_path).rejected
    assert rejected.subject == "a.zip"
    assert rejected.paths == ("a.zip/inner/a000.dcm",)
    advice = "unpack the zip with its password, and give the folder"
    assert rejected.detail == f"a.zip: 1 member encrypted: {advice}"


def test_an_empty_zip_is_left_out_and_a_zip_within_a_zip_rejected(
    tmp_path: Path, write_stack: WriteStack
) -> None:
    with zipfile.ZipFile(tmp_path / "empty", "w"):
        pass
    write_stack("x/y", n=1)
    pack_zip(tmp_path / "x" / "y", tmp_path / "x" / "within.zip")
    pack_zip(tmp_path / "x", tmp_path / "outer.zip")
    indexed = index(tmp_path)
    assert indexed.n_files == 2
    assert [left_out.detail for left_out in indexed.left_out] == ["empty: an empty zip"]
    (rejected,) = indexed.rejected
    assert rejected.detail.startswith("outer.zip/inner/within.zip: a zip within a zip, not opened")


def test_frames_of_one_file_are_a_series_in_ascending_order(tmp_path: Path) -> None:
    indexed = index(write_enhanced(tmp_path))
    assert indexed.n_files == 1
    (series,) = indexed.series
    assert [header.frame for header in series.headers] == [2, 4, 1, 3]
    assert series.z_mm.tolist() == [0, 5, 10, 15]
    assert series.paths == ("a.dcm",)
    assert not series.issues


def test_frames_of_different_types_are_different_volumes(tmp_path: Path) -> None:
    """Frames 5 to 8 lie where 1 to 4 do, and are an average of something else."""
    average = functional_group(
        "CTImageFrameTypeSequence", FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "AVERAGE"]
    )
    first, second = index(
        write_enhanced(tmp_path, n=8, frame_groups=for_frames((5, 6, 7, 8), average))
    ).series
    frames = [{header.frame for header in series.headers} for series in (first, second)]
    assert {1, 2, 3, 4} in frames
    assert {5, 6, 7, 8} in frames
    (issue,) = first.issues
    assert issue.code is IssueCode.SEVERAL_VOLUMES
    assert "FrameType (0008,9007)" in issue.detail


def test_overlapping_acquisitions_of_one_file_are_different_volumes(tmp_path: Path) -> None:
    second = functional_group("FrameContentSequence", FrameAcquisitionNumber=2)
    path = write_enhanced(tmp_path, n=8, frame_groups=for_frames((5, 6, 7, 8), second))
    assert lengths(index(path)) == [4, 4]


def test_an_invalid_frame_rejects_its_file(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path, frame_groups=for_frames((3,), NO_POSITION))
    (rejected,) = index(path).rejected
    assert codes_and_paths([rejected]) == [(IssueCode.NO_POSITION, ("a.dcm",))]
    assert rejected.detail.startswith(
        "a.dcm: frame 3: ImagePositionPatient (0020,0032) is missing; "
    )


def test_further_invalid_frames_are_counted(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path, frame_groups=for_frames((1, 3, 4), NO_POSITION))
    (rejected,) = index(path).rejected
    assert "2 more frames" in rejected.detail
    (series,) = index(path, policy=LENIENT).series
    assert [header.frame for header in series.headers] == [2]
    assert "a.dcm: frame 1: " in series.issues[-1].detail


def test_the_lenient_policy_leaves_an_invalid_frame_out_and_nothing_else(tmp_path: Path) -> None:
    """Frame 4 lies at 5 mm, between frame 2 at 0 mm and frame 1 at 10 mm."""
    path = write_enhanced(tmp_path, frame_groups=for_frames((4,), NO_POSITION))
    indexed = index(path, policy=LENIENT)
    assert not indexed.rejected
    assert not indexed.left_out  # other frames of the file are used
    (series,) = indexed.series
    assert [header.frame for header in series.headers] == [2, 1, 3]

    gap, incomplete = series.issues
    assert gap.code is IssueCode.IRREGULAR_SPACING
    assert "a.dcm frame 2 and a.dcm frame 1 lie 10.00 mm apart" in gap.detail
    assert incomplete.code is IssueCode.INCOMPLETE
    assert "a.dcm: frame 4: ImagePositionPatient (0020,0032) is missing" in incomplete.detail

    volume = load_volume(series)
    assert isinstance(volume, Volume)
    assert np.array_equal(volume.hu, stack().hu[[1, 0, 2]])


def test_the_lenient_policy_rejects_a_file_without_a_valid_frame(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path, frame_groups=lambda frame: NO_POSITION)
    indexed = index(path, policy=LENIENT)
    assert codes_and_paths(indexed.rejected) == [(IssueCode.NO_POSITION, ("a.dcm",))]


def test_the_lenient_policy_leaves_a_file_without_a_valid_frame_out_of_its_series(
    tmp_path: Path,
) -> None:
    """Two files of one series: of one no frame has a position."""
    write_enhanced(tmp_path)
    path = write_enhanced(tmp_path, name="b", frame_groups=lambda frame: NO_POSITION)
    edit(path, SeriesInstanceUID=uid("series", "a"))
    (rejected,) = index(tmp_path).rejected
    assert rejected.paths == ("a.dcm", "b.dcm")

    indexed = index(tmp_path, policy=LENIENT)
    assert lengths(indexed) == [4]
    assert codes_and_paths(indexed.left_out) == [(IssueCode.NO_POSITION, ("b.dcm",))]
    assert "frame 1" in indexed.left_out[0].detail


def test_equal_frames_are_used_once_and_named(tmp_path: Path) -> None:
    hu = stack(n=5).hu
    hu[4] = hu[0]
    indexed = index(write_enhanced(tmp_path, n=5, hu=hu))
    (series,) = indexed.series
    assert len(series) == 4
    (issue,) = series.issues
    assert issue.code is IssueCode.DUPLICATE
    assert "a.dcm frame 5" in issue.detail
    assert "a.dcm frame 1" in issue.detail
    assert not indexed.left_out


def test_a_copy_of_a_multi_frame_file_is_left_out_once(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path)
    (tmp_path / "b.dcm").write_bytes(path.read_bytes())
    indexed = index(tmp_path)
    assert lengths(indexed) == [4]
    assert codes_and_paths(indexed.left_out) == [(IssueCode.DUPLICATE, ("b.dcm",))]


def test_different_frames_at_one_position_reject_the_file(tmp_path: Path) -> None:
    (rejected,) = index(write_enhanced(tmp_path, n=5)).rejected
    assert codes_and_paths([rejected]) == [(IssueCode.SAME_POSITION, ("a.dcm",))]
    assert "a.dcm frame 1 and a.dcm frame 5" in rejected.detail


def test_later_rejections_are_listed_once_and_single_volumes_last(
    write_stack: WriteStack, tmp_path: Path
) -> None:
    write_stack(series_uid="1.5")

    def rejected(subject: str, code: IssueCode = IssueCode.UNDECODABLE) -> Rejected:
        return Rejected(subject, code, "why", (f"{subject}/0.dcm", f"{subject}/1.dcm"))

    files = (rejected("a/file"), rejected("z/file"))
    indexed = replace(index(tmp_path), rejected=files)
    volume, whole = rejected("1.5", IssueCode.NO_HEAD), rejected("1.9")
    merged = indexed.all_rejected([volume, whole, whole])
    assert [rejection.subject for rejection in merged] == ["1.9", "a/file", "z/file", "1.5"]
