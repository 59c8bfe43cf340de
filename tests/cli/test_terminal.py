"""What the command line prints is plain text in single lines."""

import io
import logging
import sys

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
