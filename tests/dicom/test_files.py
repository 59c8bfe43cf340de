"""Find each file once, and read it from disk or from a zip."""

import os
import zipfile
from pathlib import Path

import pytest

from ich3d.core.errors import DataError
from ich3d.core.issues import IssueCode
from ich3d.core.types import FileRef
from ich3d.dicom.files import (
    drop_repeated_files,
    is_regular_file,
    list_files,
    list_members,
    open_file,
    open_large,
    read_small,
)
from ich3d.dicom.limits import WHOLE_FILE_BYTES
from tests.helpers.zips import (
    damage_member,
    mark_last_member_encrypted,
    set_method,
    share_first_member,
)


def read_bytes(file: FileRef) -> bytes:
    with open_file(file) as (stream, _):
        return stream.read()


def write_files(folder: Path, *names: str) -> list[Path]:
    """Write a file for each name, with its name as content."""
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    return paths


def write_zip(path: Path, method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> FileRef:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return FileRef(path, path.name)


def test_files_of_all_subfolders_are_listed_in_order(tmp_path: Path) -> None:
    paths = write_files(tmp_path, "b", "a/deep/c", ".hidden")
    assert list_files(tmp_path).files == tuple(sorted(paths))


def test_a_linked_folder_is_searched_once_and_a_circle_of_links_ends(tmp_path: Path) -> None:
    write_files(tmp_path / "elsewhere", "x", "y")
    folder = tmp_path / "in"
    folder.mkdir()
    for link in ("first", "second"):
        (folder / link).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "elsewhere")
    listing = list_files(folder, follow_links=True)
    assert listing.files == (folder / "first" / "x", folder / "first" / "y")


def test_a_folder_that_cannot_be_listed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=f"cannot list directory {tmp_path}: Permission denied"):
        list_files(tmp_path)


def test_a_sub_folder_that_cannot_be_listed_is_skipped_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = write_files(tmp_path, "a")
    write_files(tmp_path, "locked/b")
    scan = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = list_files(tmp_path)
    assert listing.files == (path,)
    assert listing.unlistable == ((tmp_path / "locked", "Permission denied"),)


def test_links_are_followed_within_the_searched_folders_alone(tmp_path: Path) -> None:
    write_files(tmp_path, "in/deep/x", "also/y", "elsewhere/z")
    for name, target in (
        ("inside", tmp_path / "in" / "deep"),
        ("to_also", tmp_path / "also"),
        ("outside", tmp_path / "elsewhere"),
        ("file_outside", tmp_path / "elsewhere" / "z"),
        ("sibling_of_like_name", tmp_path / "in_not"),
    ):
        (tmp_path / "in" / name).symlink_to(target)
    folder = tmp_path / "in"
    listing = list_files(folder, [folder, tmp_path / "also"])
    assert listing.files == (folder / "deep" / "x", folder / "to_also" / "y")
    names = ("file_outside", "outside", "sibling_of_like_name")
    assert listing.outside_links == tuple(folder / name for name in names)
    assert not list_files(folder, [folder], follow_links=True).outside_links


def test_a_searched_folder_may_be_a_link_itself(tmp_path: Path) -> None:
    write_files(tmp_path, "real/x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    listing = list_files(tmp_path / "link")
    assert listing.files == (tmp_path / "link" / "x",)
    assert not listing.outside_links


def test_a_file_is_kept_once_under_its_first_path(tmp_path: Path) -> None:
    path, other = write_files(tmp_path, "in/x", "in/y")
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "folder").symlink_to(tmp_path / "in")
    paths = [tmp_path / "link", path, tmp_path / "folder" / "x", path, other]
    assert drop_repeated_files(paths) == [tmp_path / "link", other]


def test_a_link_without_a_target_is_listed_and_cannot_be_opened(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    assert list_files(tmp_path).files == (link,)
    with pytest.raises(FileNotFoundError):
        is_regular_file(link)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (path,) = write_files(tmp_path, "file")
    assert not is_regular_file(tmp_path / "pipe")
    assert is_regular_file(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_members_of_a_zip_are_named_and_read_like_files(tmp_path: Path, method: int) -> None:
    archive = write_zip(tmp_path / "a.dat", method, y=b"second", x=b"first")
    members = list_members(archive).members
    assert [member.name for member in members] == ["a.dat/x", "a.dat/y"]
    assert [read_bytes(member) for member in members] == [b"first", b"second"]
    with open_file(members[0]) as (stream, size):
        assert size == 5
        stream.seek(2)
        assert stream.read() == b"rst"


def test_a_file_on_disk_is_read(tmp_path: Path) -> None:
    (path,) = write_files(tmp_path, "x")
    file = FileRef(path, "x")
    assert read_bytes(file) == b"x"
    with open_file(file) as (_, size):
        assert size == 1


def test_folders_in_a_zip_are_not_listed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.mkdir("inner")
        archive.writestr("inner/x", b"x")
    members = list_members(FileRef(tmp_path / "a.zip", "a.zip")).members
    assert [member.name for member in members] == ["a.zip/inner/x"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_written_twice_is_read_once_as_the_last(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for content in (b"old", b"new"):
            archive.writestr("x", content)
    (member,) = list_members(FileRef(tmp_path / "a.zip", "a.zip")).members
    assert read_bytes(member) == b"new"


def test_a_zip_that_changed_is_opened_again(tmp_path: Path) -> None:
    assert len(list_members(write_zip(tmp_path / "a.zip", x=b"x")).members) == 1
    assert len(list_members(write_zip(tmp_path / "a.zip", x=b"x", y=b"y")).members) == 2


def test_a_truncated_zip_cannot_be_listed(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", x=b"x")
    archive.path.write_bytes(archive.path.read_bytes()[:-30])
    with pytest.raises(OSError, match="the zip is damaged"):
        list_members(archive)


def test_a_member_with_a_wrong_checksum_cannot_be_read(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", zipfile.ZIP_STORED, x=bytes(100))
    damage_member(archive.path, "x")
    (member,) = list_members(archive).members
    with pytest.raises(OSError, match="the zip is damaged"):
        read_bytes(member)


def test_an_encrypted_member_cannot_be_read(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", x=b"x")
    (member,) = list_members(archive).members
    mark_last_member_encrypted(archive.path)
    with pytest.raises(OSError, match="encrypted: unpack the zip with its password"):
        read_bytes(member)


def refusals(archive: Path) -> list[tuple[IssueCode, str, int]]:
    """Code, sentence and number of the members of a zip that are refused."""
    listing = list_members(FileRef(archive, archive.name))
    return [(those.code, those.problem, len(those.members)) for those in listing.refused]


def test_encrypted_members_are_refused_together(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", x=b"x", y=b"y")
    mark_last_member_encrypted(archive.path)
    assert [member.name for member in list_members(archive).members] == ["a.zip/x"]
    sentence = "1 member encrypted: unpack the zip with its password, and give the folder"
    assert refusals(archive.path) == [(IssueCode.UNREADABLE, sentence, 1)]


def test_a_method_of_packing_that_is_not_read_is_named(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", x=b"x", y=b"y")
    set_method(archive.path, 9)
    ((code, sentence, n),) = refusals(archive.path)
    assert (code, n) == (IssueCode.UNREADABLE, 2)
    assert sentence.startswith("2 members packed with Deflate64, which is not read here: unpack")


def test_a_member_that_unpacks_to_a_multiple_is_refused_and_the_others_are_read(
    tmp_path: Path,
) -> None:
    """80 MB of zeros are 80 KB in the zip."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(80_000_000))
        archive.writestr("small", bytes(1_000_000))
        archive.writestr("x", b"x")
    listing = list_members(FileRef(tmp_path / "a.zip", "a.zip"))
    assert [member.name for member in listing.members] == ["a.zip/small", "a.zip/x"]
    sentence = "1 member not read: unpacks to more than 100 times its size, as a bomb does"
    assert refusals(tmp_path / "a.zip") == [(IssueCode.TOO_LARGE, sentence, 1)]


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", a=bytes(range(256)) * 9)
    share_first_member(archive.path, ["a", "b", "c"])
    sentence = "3 members not read: members overlap in the zip, as in a zip bomb"
    assert refusals(archive.path) == [(IssueCode.TOO_LARGE, sentence, 3)]


def test_a_zip_of_very_many_members_is_listed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{number}", b"x")
    listing = list_members(FileRef(tmp_path / "a.zip", "a.zip"))
    assert len(listing.members) == 20_000
    assert not listing.refused


@pytest.mark.parametrize("zipped", [False, True])
def test_a_large_file_is_opened_for_seeking_and_not_read_as_a_whole(
    tmp_path: Path, zipped: bool
) -> None:
    content = bytes(WHOLE_FILE_BYTES) + b"last"
    (tmp_path / "x").write_bytes(content)
    file = FileRef(tmp_path / "x", "x")
    if zipped:
        (file,) = list_members(write_zip(tmp_path / "a.zip", zipfile.ZIP_STORED, x=content)).members
    assert read_small(file) is None
    with open_large(file) as (stream, n_bytes):
        assert n_bytes == len(content)
        stream.seek(WHOLE_FILE_BYTES)
        assert stream.read() == b"last"
        stream.seek(0)
        assert stream.read(3) == bytes(3)


def test_a_small_file_is_read_as_a_whole(tmp_path: Path) -> None:
    (path,) = write_files(tmp_path, "x")
    assert read_small(FileRef(path, "x")) == b"x"
    (member,) = list_members(write_zip(tmp_path / "a.zip", x=b"y")).members
    assert read_small(member) == b"y"
