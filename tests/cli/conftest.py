"""Fixtures for the tests of the `ich3d` command."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ich3d.cli.parser import main
from ich3d.dicom.write import SeriesToWrite, write_series
from tests.helpers.command import Run


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run a command in this process: exit code, stdout, stderr."""

    def call(*argv: object) -> tuple[int, str, str]:
        try:
            code = main([str(word) for word in argv])
        except SystemExit as stop:  # argparse exits by itself
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield call
    logging.getLogger("ich3d").handlers.clear()  # they write to the stderr of this test alone


@pytest.fixture
def good(make_head: Callable[..., SeriesToWrite], tmp_path: Path) -> Path:
    """A folder with one good head CT series of six slices."""
    write_series(make_head("good"), tmp_path / "good")
    return tmp_path / "good"
