"""The examples of reading DICOM, in the documentation and in the package, run as they stand."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import ich3d.dicom
from ich3d.dicom.uids import uid
from tests.helpers.series import edit

PAGE = Path(__file__).parents[2] / "docs" / "own_dicom.md"


@pytest.fixture
def study(
    tmp_path: Path, write_stack: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder `study` in the working directory, with a valid series and an invalid one."""
    write_stack("study/good")
    edit(write_stack("study/bad", name="bad")[0], RescaleSlope=None)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("study")
def test_the_example_of_the_documentation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall("```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (example,) = (block for block in blocks if "load_volume" in block)
    exec(example, {})
    assert capsys.readouterr().out.splitlines() == [
        f"{uid('series', 'a')} (4, 16, 16) []",
        f"{uid('series', 'bad')} bad/bad000.dcm: RescaleSlope (0028,1053) is missing; 3 other "
        "slices of the series cannot be used because of it: predict, explain and convert keep the "
        "others with --lenient",
    ]


@pytest.mark.usefixtures("study")
def test_the_example_of_the_package_runs(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, example = (ich3d.dicom.__doc__ or "").partition("Examples:\n")
    exec(inspect.cleandoc(example), {})
    assert capsys.readouterr().out.splitlines() == [f"{uid('series', 'a')} (4, 16, 16) 5.0"]
