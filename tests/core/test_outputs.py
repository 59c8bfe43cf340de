"""Other work asks before it replaces what is there; the same work goes on."""

from pathlib import Path

import pytest

from ich3d.core.errors import DataError
from ich3d.core.outputs import RECORD, claim, remove, require_folder
from ich3d.core.workspace import read_json

COMMAND = "ich3d predict"
OUTPUTS = ("table.csv", "pages")


def finished(folder: Path, **work: object) -> Path:
    """A folder with the finished outputs of some work."""
    claim(folder, COMMAND, work, OUTPUTS)
    (folder / "table.csv").write_text("1\n")
    (folder / "pages").mkdir()
    (folder / "pages" / "a.html").write_text("a")
    return folder


def test_the_same_work_goes_on(tmp_path: Path) -> None:
    folder = finished(tmp_path / "out", model="a", series=["1", "2"])
    assert not claim(folder, COMMAND, {"model": "a", "series": ["1", "2"]}, OUTPUTS)
    assert not claim(folder, COMMAND, {"model": "a", "series": ["1", "2", "3"]}, OUTPUTS)
    assert read_json(folder / RECORD)[COMMAND]["series"] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("work", "difference"),
    [
        ({"model": "b", "series": ["1", "2"]}, "another model"),
        ({"model": "a", "series": ["2", "3"]}, "other series, such as 1"),
    ],
)
def test_other_work_asks_and_leaves_all_as_it_is(
    tmp_path: Path, work: dict[str, object], difference: str
) -> None:
    folder = finished(tmp_path / "out", model="a", series=["1", "2"])
    before = (folder / RECORD).read_bytes()
    with pytest.raises(DataError) as raised:
        claim(folder, COMMAND, work, OUTPUTS)
    assert str(raised.value) == (
        f"{folder} holds what `ich3d predict` made from {difference}: add --overwrite to replace "
        "it, or name another folder"
    )
    assert (folder / RECORD).read_bytes() == before
    assert claim(folder, COMMAND, work, OUTPUTS, overwrite=True)
    remove(folder, OUTPUTS)
    assert [path.name for path in folder.iterdir()] == [RECORD]


def test_a_folder_in_which_nothing_was_finished_is_free(tmp_path: Path) -> None:
    claim(tmp_path, COMMAND, {"model": "a"}, OUTPUTS)
    (tmp_path / "table.csv").touch()
    assert not claim(tmp_path, COMMAND, {"model": "b"}, OUTPUTS)


def test_outputs_without_a_record_ask_unless_it_is_known_what_made_them(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("1\n")
    with pytest.raises(DataError, match="something that is not recorded"):
        claim(tmp_path, COMMAND, {"model": "a"}, OUTPUTS)
    assert not claim(tmp_path, COMMAND, {"model": "a"}, OUTPUTS, known={"model": "a"})


def test_two_commands_share_a_folder(tmp_path: Path) -> None:
    finished(tmp_path, model="a")
    claim(tmp_path, "ich3d evaluate", {"threshold": 0.5}, ("page.html",))
    assert not claim(tmp_path, COMMAND, {"model": "a"}, OUTPUTS)


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        DataError, match=rf"^{tmp_path / 'file'} is a file where a folder is needed"
    ):
        require_folder(tmp_path / "file" / "a" / "b")
    require_folder(tmp_path / "new" / "a")
    assert not (tmp_path / "new").exists()
