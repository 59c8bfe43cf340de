"""The examples in docstrings run as they stand, in a folder with a model, a store and a study."""

import doctest
import importlib
import pkgutil
import shutil
from pathlib import Path

import pytest

import ich3d
from ich3d.config.root import Config
from ich3d.core.workspace import Workspace

CALLED_FIRST = (
    "ich3d.load_model",
    "ich3d.save_model",
    "ich3d.predict",
    "ich3d.SliceDataset",
    "ich3d.SeriesDataset",
    "ich3d.SliceEncoder",
    "ich3d.ContextModel",
    "ich3d.Stacker",
    "ich3d.dicom.index.index",
    "ich3d.dicom.volume.load_volume",
    "ich3d.explain.explanation.explain",
)
"""What a user calls first: each has an example that runs."""

PROGRAMS = ("ich3d.__main__", "ich3d.dicom.pixels.sitk_worker")
"""Modules that run when they are imported."""


def modules_with_examples() -> list[str]:
    """The names of all modules with at least one example."""
    names = [module.name for module in pkgutil.walk_packages(ich3d.__path__, "ich3d.")]
    sources = {name: Path(*ich3d.__path__, *name.split(".")[1:]) for name in names}
    files = {
        name: path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for name, path in sources.items()
    }
    return [
        name
        for name in names
        if name not in PROGRAMS and ">>> " in files[name].read_text(encoding="utf-8")
    ]


@pytest.fixture
def user_folder(finished_run: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a user: `runs/demo` with a trained model, and a study."""
    workspace = Workspace(Path(finished_run.workspace))
    shutil.copytree(workspace.model, tmp_path / "runs" / "demo" / "model")
    shutil.copytree(workspace.store, tmp_path / "runs" / "demo" / "store")
    shutil.copytree(workspace.source("phantom") / "unlabelled", tmp_path / "study")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("user_folder")
@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_run(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize("name", CALLED_FIRST)
def test_what_a_user_calls_first_has_an_example_that_is_run(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    documentation = getattr(importlib.import_module(module), attribute).__doc__ or ""
    assert ">>> " in documentation
    assert "+SKIP" not in documentation
