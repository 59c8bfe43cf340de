"""A zip is a folder that nobody unpacks."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected, Volume
from ich3d.dicom.index import index
from ich3d.dicom.inspection import as_json
from ich3d.dicom.uids import uid
from ich3d.dicom.volume import load_volume


def pack(folder: Path, path: Path, method: int = zipfile.ZIP_DEFLATED) -> None:
    """Move the files of `folder` into a zip, under names below `inner/`."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.mkdir("inner")
        for file in sorted(folder.iterdir()):
            archive.write(file, f"inner/{file.name}")
            file.unlink()
    folder.rmdir()


def untouched(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_series_in_a_zip_is_read_in_place(tmp_path, write_stack, make_stack, method):
    write_stack("x")
    (tmp_path / "x" / "readme").write_text("words " * 50)
    pack(tmp_path / "x", tmp_path / "study.dat", method)
    before = untouched(tmp_path)

    found = index(tmp_path)

    told = as_json(found)
    assert told["files"] == 5
    assert told["series"][0]["paths"] == [f"study.dat/inner/a{i:03d}.dcm" for i in range(4)]
    assert [item["paths"] for item in told["left_out"]] == [["study.dat/inner/readme"]]
    volume = load_volume(found.series[0])
    assert isinstance(volume, Volume)
    assert np.array_equal(volume.hu, make_stack().hu)
    assert [key.path for key in volume.keys] == told["series"][0]["paths"]
    assert untouched(tmp_path) == before


def test_a_zip_may_be_named_itself(tmp_path, write_stack):
    write_stack("x")
    pack(tmp_path / "x", tmp_path / "a.zip")
    found = index(tmp_path / "a.zip")
    assert as_json(found)["series"][0]["paths"][0] == "a.zip/inner/a000.dcm"


def test_a_series_may_lie_in_a_zip_in_part(tmp_path, write_stack):
    paths = write_stack("x")
    paths[0].rename(tmp_path / "lowest")
    pack(tmp_path / "x", tmp_path / "a.zip")
    (series,) = index(tmp_path).series
    assert [header.path.name for header in series.headers][:2] == ["lowest", "a001.dcm"]


def test_a_flaw_in_a_zip_names_the_member(tmp_path, write_stack, edit_file):
    edit_file(write_stack("x")[2], PixelSpacing=None)
    pack(tmp_path / "x", tmp_path / "a.zip")
    (rejected,) = index(tmp_path).rejected
    assert rejected.detail == "a.zip/inner/a002.dcm: PixelSpacing (0028,0030) is missing"
    assert rejected.paths == tuple(f"a.zip/inner/a{i:03d}.dcm" for i in range(4))


def test_files_without_a_series_uid_are_one_series_a_folder_of_the_zip(
    tmp_path, write_stack, edit_file
):
    for path in write_stack("x"):
        edit_file(path, SeriesInstanceUID=None)
    pack(tmp_path / "x", tmp_path / "a.zip")
    (series,) = index(tmp_path).series
    assert [reason.code for reason in series.reasons] == [IssueCode.NO_SERIES_UID]
    assert series.reasons[0].detail.startswith("a.zip/inner: ")


def test_a_cut_zip_is_rejected_alone(tmp_path, write_stack):
    write_stack("x")
    pack(tmp_path / "x", tmp_path / "a.zip")
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-30])
    write_stack("y", name="sound")
    found = index(tmp_path)
    (rejected,) = found.rejected
    assert (rejected.subject, rejected.code, rejected.paths) == (
        "a.zip",
        IssueCode.UNREADABLE,
        ("a.zip",),
    )
    assert "broken in its zip" in rejected.detail
    assert [series.volume_id for series in found.series] == [uid("series", "sound")]


def test_pixels_that_the_zip_holds_wrongly_reject_the_volume(tmp_path, write_stack):
    write_stack("x", hu=np.zeros((4, 64, 64), np.int16))
    pack(tmp_path / "x", tmp_path / "a.zip", zipfile.ZIP_STORED)
    whole = bytearray((tmp_path / "a.zip").read_bytes())
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        info = archive.getinfo("inner/a001.dcm")
    whole[info.header_offset + info.file_size] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(whole)
    rejected = load_volume(index(tmp_path).series[0])
    assert isinstance(rejected, Rejected)
    assert rejected.code is IssueCode.UNDECODABLE
    assert rejected.detail.startswith(
        "a.zip/inner/a001.dcm: PixelData (7FE0,0010) cannot be read (broken in its zip"
    )
    assert rejected.paths == tuple(f"a.zip/inner/a{i:03d}.dcm" for i in range(4))


def test_an_encrypted_member_is_rejected(tmp_path, write_stack):
    write_stack("x", n=1)
    pack(tmp_path / "x", tmp_path / "a.zip")
    whole = (tmp_path / "a.zip").read_bytes()
    central = whole.rindex(b"PK\x01\x02")
    flagged = bytearray(whole)
    flagged[central + 8] |= 1
    (tmp_path / "a.zip").write_bytes(flagged)
    (rejected,) = index(tmp_path).rejected
    assert rejected.detail == "a.zip/inner/a000.dcm: encrypted in its zip"


def test_an_empty_zip_and_a_zip_within_a_zip_are_left_out(tmp_path, write_stack):
    with zipfile.ZipFile(tmp_path / "empty", "w"):
        pass
    (tmp_path / "x").mkdir()
    write_stack("x/y", n=1)
    pack(tmp_path / "x" / "y", tmp_path / "x" / "within.zip")
    pack(tmp_path / "x", tmp_path / "outer.zip")
    found = index(tmp_path)
    assert found.n_files == 2
    assert [(item.code, item.detail) for item in found.left_out] == [
        (IssueCode.NOT_DICOM, "empty: an empty zip"),
        (IssueCode.NOT_DICOM, "outer.zip/inner/within.zip: a zip within a zip"),
    ]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_written_twice_counts_once_as_the_last(tmp_path, write_stack, edit_file):
    paths = write_stack("x")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in (*paths, paths[2]):
            archive.write(path, path.name)
            edit_file(path, RescaleIntercept="-7")
            path.with_suffix("").touch()
    for path in (tmp_path / "x").iterdir():
        path.unlink()
    found = index(tmp_path)
    assert found.n_files == 4
    assert [header.intercept for header in found.series[0].headers] == [0, 0, -7, 0]


def test_a_zip_that_changed_is_read_anew(tmp_path, write_stack):
    for n in (3, 5):
        write_stack("x", n=n)
        pack(tmp_path / "x", tmp_path / "a.zip")
        assert [len(series) for series in index(tmp_path).series] == [n]
