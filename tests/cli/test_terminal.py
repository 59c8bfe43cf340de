"""What the command line prints: plain text in single lines; progress and colours on a terminal."""

import io
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ich3d.cli.terminal import (
    as_text,
    escape_unencodable,
    log_to_stderr,
    print_error,
    print_rejected,
)
from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected
from ich3d.dicom.write import SeriesToWrite, write_series
from tests.helpers.command import Run
from tests.helpers.terminal import Terminal

ICH3D = [sys.executable, "-m", "ich3d"]
RED, YELLOW, END = "\x1b[31m", "\x1b[33m", "\x1b[0m"


def test_a_tree_is_printed_as_indented_lines() -> None:
    tree = {
        "device": "cpu",
        "memory_gb": 16.123456,
        "codes": ["a", 2, None],
        "packages": {"numpy": "2.1", "extras": {"openvino": None}},
        "none": {},
    }
    assert as_text(tree).splitlines() == [
        "device: cpu",
        "memory_gb: 16.12",
        "codes: a, 2, -",
        "packages:",
        "  numpy: 2.1",
        "  extras:",
        "    openvino: -",
        "none:",
    ]


def test_an_error_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("there is no a\nb\x1b[2J")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "ich3d: there is no a\\nb\\x1b[2J\n"


def test_rejected_files_are_a_line_each_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    first = Rejected("a\n.dcm", IssueCode.EMPTY_FILE, "a\n.dcm is empty")
    second = Rejected("1.2.3", IssueCode.NO_HEAD, "no head in 1.2.3")
    print_rejected([first, second, first])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "a\\n.dcm is empty",
        "1.2.3: no head in 1.2.3",
    ]


def test_characters_that_the_encoding_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    stdout = io.TextIOWrapper(written, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    escape_unencodable()
    stdout.write("ü\n")
    stdout.flush()
    assert written.getvalue() == b"\\xfc\n"


@pytest.mark.parametrize(("verbose", "level"), [(False, logging.INFO), (True, logging.DEBUG)])
def test_details_are_logged_where_they_are_asked_for(verbose: bool, level: int) -> None:
    logger = logging.getLogger("ich3d")
    log_to_stderr(verbose)
    assert logger.level == level
    handlers = len(logger.handlers)
    log_to_stderr(verbose)  # a second call adds no second handler
    assert len(logger.handlers) == handlers


def on_terminal(*words: object, **environment: str) -> tuple[int, str]:
    """Exit code of a command, and what its terminal shows."""
    terminal = Terminal([*ICH3D, *map(str, words)], {"NO_COLOR": "", **environment})
    return terminal.finish()


def piped(*words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command between pipes."""
    done = subprocess.run(
        [*ICH3D, *map(str, words)], capture_output=True, encoding="utf-8", check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def damaged(good: Path, make_head: Callable[..., SeriesToWrite]) -> Path:
    """The folder of `good`, and in it a second series whose last file was cut."""
    *_, last = write_series(make_head("damaged"), good / "damaged")
    last.write_bytes(last.read_bytes()[:5000])
    return good


def test_a_terminal_shows_progress_and_a_quiet_command_none(good: Path, tmp_path: Path) -> None:
    code, shown = on_terminal("convert", good, "-o", tmp_path / "nifti")
    assert code == 0
    assert "it/s" in shown
    assert ".nii.gz: 6 slices" in shown

    assert on_terminal("convert", good, "-o", tmp_path / "nifti", "--quiet") == (0, "")
    assert piped("convert", good, "-o", tmp_path / "nifti", "--quiet") == (0, "", "")


def test_what_is_asked_for_is_printed_even_if_quiet(good: Path) -> None:
    code, out, err = piped("inspect", good, "-q")
    assert (code, err) == (0, "")
    assert "6 files" in out
    assert piped("config", "stack", "-q")[1].startswith("stack.num_trees = ")


def test_a_quiet_command_still_warns(run: Run, damaged: Path, tmp_path: Path) -> None:
    code, out, err = run("convert", damaged, "-o", tmp_path / "nifti", "-q")
    assert code == 3
    assert out == ""
    assert "damaged" in err


def test_errors_are_red_and_warnings_yellow_on_a_terminal_alone(
    damaged: Path, tmp_path: Path
) -> None:
    command = ("convert", damaged, "-o", tmp_path / "nifti", "-q")
    code, shown = on_terminal(*command)
    assert code == 3
    (line,) = shown.splitlines()
    assert line.startswith(YELLOW)
    assert line.endswith(END)

    wrong = ("convert", tmp_path / "nowhere", "-o", tmp_path / "nifti")
    code, shown = on_terminal(*wrong)
    assert code == 2
    assert shown.startswith(f"{RED}ich3d: no file or folder")
    assert RED in on_terminal("convert")[1]  # so does the parser of the arguments

    assert "\x1b" not in on_terminal(*wrong, NO_COLOR="1")[1]
    assert "\x1b" not in on_terminal(*wrong, TERM="dumb")[1]
    assert "\x1b" not in piped(*wrong)[2]


def test_a_command_is_not_quiet_and_verbose(run: Run) -> None:
    code, _, err = run("doctor", "--quiet", "--verbose")
    assert code == 2
    assert "not allowed with" in err


def test_a_quiet_prediction_prints_nothing(
    run: Run, model_folder: Path, good: Path, tmp_path: Path
) -> None:
    assert run("predict", good, "-o", tmp_path / "a", "--model", model_folder, "-q") == (0, "", "")
    assert (tmp_path / "a" / "slices.csv").is_file()


@pytest.mark.parametrize(
    ("words", "next_step"),
    [
        (("inspect", "empty"), "name a folder of CT images in DICOM"),
        (("convert", "empty", "-o", "nifti"), "`ich3d inspect empty` shows what is there"),
        (("inspect", "emty"), "did you mean 'empty'?"),
        (("evaluate", "table.csv", "--labels", "tabel.csv"), "did you mean 'table.csv'?"),
        (("report", "--config", "a.yaml", "--set", "seed"), "`ich3d config` lists the keys"),
        (("report", "--config", "a.yaml", "--set", "workspace=new"), "`ich3d train`"),
        (("predict",), "see `ich3d predict --help`"),
    ],
)
def test_an_error_says_what_to_do_next(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    next_step: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text("ID,Label\n")
    (tmp_path / "a.yaml").write_text("seed: 1\n")
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*words)
    assert code in (2, 3)
    assert next_step in err


def test_model_diff_compares_two_folders(
    run: Run, model_folder: Path, good: Path, tmp_path: Path
) -> None:
    command = ("model", "diff", model_folder, model_folder, "--on", good, "-o", tmp_path / "diff")
    code, out, _ = run(*command)
    assert code == 0
    assert out.splitlines() == [
        "Nothing differs: both are the same model.",
        str(tmp_path / "diff" / "diff.html"),
    ]
    code, _, err = run("model", "diff", model_folder, good, "--on", good, "-o", tmp_path / "x")
    assert code == 2
    assert "no model folder" in err
