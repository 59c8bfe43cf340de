"""Progress is shown on stderr, and only if it is asked for."""

import pytest

from ich3d.core.progress import progress_bar, quiet


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(quiet([1, 2, 3], "count")) == [1, 2, 3]
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_a_bar_is_drawn_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar(iter([1, 2, 3]), "count", total=3)) == [1, 2, 3]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "count" in captured.err
    assert "3/3" in captured.err
