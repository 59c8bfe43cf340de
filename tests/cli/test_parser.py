"""The `ich3d` command: help, usage errors, and what it prints when a command fails."""

import os
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest

from ich3d.cli import commands
from tests.helpers.command import Run, sentence

HEAVY = (
    "torch",
    "monai",
    "lightgbm",
    "sklearn",
    "pandas",
    "scipy",
    "pydicom",
    "SimpleITK",
    "matplotlib",
)
"""Packages that take long to import."""

COMMANDS = (
    "phantom",
    "import",
    "inspect",
    "convert",
    "prepare",
    "train",
    "report",
    "ablate",
    "demo",
    "export",
    "doctor",
    "info",
    "card",
    "predict",
    "evaluate",
    "recalibrate",
    "explain",
    "completion",
    "model",
)


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"]])
def test_help_imports_no_heavy_package(words: list[str]) -> None:
    script = (
        "import sys\nfrom ich3d.cli.parser import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        f"print('LOADED', sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True
    )
    assert "LOADED []" in done.stdout
    assert "ich3d" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_listed_and_has_an_example(run: Run, command: str) -> None:
    _, out, _ = run("--help")
    assert re.search(rf"\n    {command}\s", out)

    code, text, _ = run(command, "--help")
    assert code == 0
    assert f"\nexample: ich3d {command}" in text


@pytest.mark.parametrize(
    "words", [[], ["trian"], ["inspect"], ["inspect", ".", "--jsn"], ["predict", "."]]
)
def test_wrong_arguments_print_the_usage(run: Run, words: list[str]) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert "usage: ich3d" in err


def test_without_a_word_all_commands_are_shown(run: Run) -> None:
    code, out, err = run()
    assert (code, out) == (2, "")
    assert "first steps" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pedict"], "ich3d: error: no command is called 'pedict'; did you mean 'predict'?"),
        (["model", "dif"], "ich3d model: error: no command is called 'dif'; did you mean 'diff'?"),
        (["import", "ct_ich"], "no dataset is called 'ct_ich'; did you mean 'ct-ich'?"),
        (["--vesion"], "ich3d: error: there is no option --vesion; did you mean '--version'?"),
        (
            ["predict", "study", "-o", "out", "--modle=a"],
            "ich3d predict: error: there is no option --modle; did you mean '--model'?",
        ),
        (["train", "--confg", "a.yaml"], "there is no option --confg; did you mean '--config'?"),
        (["info", "--frobnicate"], "there is no option --frobnicate (see `ich3d info --help`)"),
        (["info", "a", "b"], "ich3d info: error: unrecognized arguments: b"),
    ],
)
def test_a_misspelt_word_gets_the_nearest_name(run: Run, words: list[str], told: str) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert told in err.splitlines()[-1]


def test_an_option_may_be_shortened_and_a_path_may_look_like_one(run: Run) -> None:
    assert run("doctor", "--qui", "--js")[0] in (0, 1)
    code, _, err = run("inspect", "--", "--nowhere")
    assert code == 2
    assert sentence(err).startswith("ich3d: no file or folder --nowhere")


def replace_doctor(monkeypatch: pytest.MonkeyPatch, raises: BaseException) -> None:
    """Let `ich3d doctor` raise an exception."""

    def fail(arguments: Namespace) -> int:
        raise raises

    monkeypatch.setattr(commands, "doctor", fail)


def test_an_error_of_the_file_system_names_the_file(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_doctor(monkeypatch, OSError(28, "No space left on device", "out/a\nb.csv"))
    code, _, err = run("doctor")
    assert code == 1
    remedy = "make room there or raise the limit, and run the same command again"
    assert sentence(err) == rf"ich3d: out/a\nb.csv: No space left on device: {remedy}"


def test_an_interrupted_command_says_how_to_continue(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_doctor(monkeypatch, KeyboardInterrupt())
    code, _, err = run("doctor")
    assert code == 130
    assert "run the same command again" in sentence(err)


def test_a_bug_keeps_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_doctor(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        run("doctor")


def test_the_module_is_the_command(good: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ich3d", "inspect", str(good)],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "6 files" in done.stdout


@pytest.fixture
def closed_pipe() -> Callable[[], int]:
    """Makes a pipe whose reading end is closed, and returns its writing end."""

    def make() -> int:
        reading, writing = os.pipe()
        os.close(reading)
        return writing

    return make


def test_a_reader_that_stops_early_causes_no_error_message(
    closed_pipe: Callable[[], int],
) -> None:
    """As in `ich3d doctor | head -0`: the pipe is closed before anything is printed."""
    with os.fdopen(closed_pipe(), "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "ich3d", "doctor"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.stderr == b""
    assert done.returncode == 1
