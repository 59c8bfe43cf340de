"""Temporary places: one for each writer, and none that a killed writer left."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ich3d.core import temporary
from ich3d.core.temporary import FOLDER, UNLOCKABLE_SECONDS, remove_leftovers, temporary_path
from ich3d.core.workspace import replacing, write_json
from tests.helpers.leftovers import left_by_a_killed_writer

WAIT_AND_WRITE = """
import sys
from pathlib import Path
from ich3d.core.workspace import replacing
path, text = Path(sys.argv[1]), sys.argv[2]
with replacing(path) as partial:
    partial.write_text(text[: len(text) // 2])
    print("begun", flush=True)
    sys.stdin.readline()
    partial.write_text(text)
"""


def begin(path: Path, text: str) -> subprocess.Popen[str]:
    """A process that has written half of `text` for `path`, and waits for a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT_AND_WRITE, str(path), text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def test_two_processes_write_the_same_file_at_the_same_time(tmp_path: Path) -> None:
    """Neither disturbs the other, in whatever order they end."""
    path = tmp_path / "a.txt"
    with begin(path, "first text") as first, begin(path, "second") as second:
        assert not path.exists()
        second.communicate("go\n", timeout=60)
        assert path.read_text() == "second"
        first.communicate("go\n", timeout=60)
        assert path.read_text() == "first text"
    assert first.returncode == second.returncode == 0
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    place = left_by_a_killed_writer(tmp_path)
    with begin(tmp_path / "b.txt", "alive") as living:
        assert not place.exists()
        write_json(tmp_path / "a.json", [1])
        living.communicate("go\n", timeout=60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.txt"]
    assert (tmp_path / "b.txt").read_text() == "alive"


def test_a_writer_that_was_killed_before_its_lock_leaves_an_empty_folder_that_goes(
    tmp_path: Path,
) -> None:
    (tmp_path / FOLDER / "0123").mkdir(parents=True)
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_removed_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another machine may, which takes it for one that was left."""
    opened = os.open
    removed: list[Path] = []

    def remove_then_open(path: Path, *arguments: int) -> int:
        if not removed:
            removed.append(path.parent)
            path.parent.rmdir()
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", remove_then_open)
    with replacing(tmp_path / "a.txt") as partial:
        assert partial.parent not in removed
        partial.write_text("text")
    assert removed
    assert (tmp_path / "a.txt").read_text() == "text"


def test_without_locks_a_place_is_left_alone_for_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary, "_hold", lambda lock: None)  # as on some network file systems
    place = left_by_a_killed_writer(tmp_path)
    remove_leftovers(tmp_path)
    assert place.exists()
    long_ago = time.time() - UNLOCKABLE_SECONDS - 60
    os.utime(place / "lock", (long_ago, long_ago))
    remove_leftovers(tmp_path)
    assert not place.exists()


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    name = "a" * 255
    with temporary_path(tmp_path / name) as partial:
        partial.write_text("text")
        os.replace(partial, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_many_writers_of_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each removes the folder of temporary places when it seems to be the last one."""
    n_writers, n_files = 16, 40

    def write(writer: int) -> None:
        for number in range(n_files):
            write_json(tmp_path / f"{writer}-{number}.json", [number])

    with ThreadPoolExecutor(n_writers) as pool:
        list(pool.map(write, range(n_writers)))  # raises what a writer raised
    assert len(list(tmp_path.glob("*.json"))) == n_writers * n_files
    assert not (tmp_path / FOLDER).exists()
