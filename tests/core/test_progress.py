"""Progress is shown on stderr, and only if it is asked for."""

import sys
import time
from io import StringIO

import pytest

from ich3d.core.progress import progress_bar, quiet


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(quiet([1, 2, 3], "count")) == [1, 2, 3]
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


class Terminal(StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_bar_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(progress_bar(iter([1, 2, 3]), "count", total=3)) == [1, 2, 3]
    assert isinstance(sys.stderr, Terminal)
    assert "count" in sys.stderr.getvalue()
    assert "3/3" in sys.stderr.getvalue()


def test_a_pipe_gets_a_line_every_half_minute_at_most(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter([0, 10, 29, 33, 60, 65])
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    assert list(progress_bar(iter("abcde"), "files", total=15)) == list("abcde")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "files: 3 of 15, 11.0 s each, 02:12 left\nfiles: 5 of 15, 13.0 s each, 02:10 left\n"
    )


def test_a_line_tells_how_many_a_second_where_the_end_is_not_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter([0, *[1] * 99, 40])
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    assert len(list(progress_bar(range(100), "files"))) == 100
    assert capsys.readouterr().err == "files: 100, 2.5 a second\n"


def test_a_pipe_gets_nothing_of_what_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar([1, 2, 3], "count")) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")
