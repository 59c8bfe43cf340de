"""The notebooks run from start to end, and are kept without outputs."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
SMALL = (
    "phantom.studies=8 phantom.matrix=64 phantom.thickness_mm=[10.0] "
    "prepare.matrix=48 prepare.pixel_mm=4.8 slices.epochs=1 context.epochs=2 "
    "stack.num_trees=10 report.resamples=50 precision=fp32"
)
"""Overrides that make a run of seconds; the notebooks read them from ICH3D_SET."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run folder for all notebooks, so that they train once."""
    return tmp_path_factory.mktemp("notebooks")


def outputs_of(notebook: Any) -> list[Any]:
    """The outputs of all cells."""
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_there_are_notebooks() -> None:
    assert PATHS


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICH3D_SET", f"{SMALL} workspace={workspace}")
    monkeypatch.setenv("ICH3D_WORKSPACE", str(workspace / "rsna_project"))
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(NOTEBOOKS)}}
    NotebookClient(notebook, timeout=300, resources=resources).execute()

    outputs = outputs_of(notebook)
    assert "display_data" in {output.output_type for output in outputs}
    streams = [output for output in outputs if output.output_type == "stream"]
    assert not [stream.text for stream in streams if stream.name == "stderr"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert outputs_of(notebook) == []
    assert {cell.get("execution_count") for cell in notebook.cells} == {None}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_page_of_a_notebook_shows_its_code(path: Path) -> None:
    """`python scripts/docs_pictures.py notebooks` writes the pages, with outputs."""
    page = (ROOT / "docs" / "notebooks" / f"{path.stem}.md").read_text(encoding="utf-8")
    notebook = nbformat.read(path, as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert re.findall(r"^```py\n(.*?)\n```$", page, re.DOTALL | re.MULTILINE) == cells
    assert "![Output]" in page
