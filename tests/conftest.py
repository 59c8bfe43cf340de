"""Fixtures that several rooms share: a small trained run, its model, and DICOM series to write."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock
from hypothesis import settings

from ich3d.config.root import Config
from ich3d.config.schema import (
    ContextConfig,
    PhantomConfig,
    PrepareConfig,
    ReportConfig,
    SlicesConfig,
    StackConfig,
)
from ich3d.core.workspace import Workspace
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.phantom import write_phantoms
from ich3d.prepare.build import open_source
from tests.helpers.ci_skips import pytest_make_collect_report, pytest_runtest_makereport
from tests.helpers.markers import pytest_collection_modifyitems, pytest_ignore_collect
from tests.helpers.series import air_series, edit, head_series, stack

if TYPE_CHECKING:
    from ich3d.model.folder import Model

__all__ = [
    "pytest_collection_modifyitems",
    "pytest_ignore_collect",
    "pytest_make_collect_report",
    "pytest_runtest_makereport",
]  # hooks that pytest finds here

settings.register_profile("ich3d", deadline=None)  # a busy machine is no failure
settings.load_profile("ich3d")

CHANCES = {
    "epidural": 0.3,
    "intraparenchymal": 0.5,
    "intraventricular": 0.3,
    "subarachnoid": 0.4,
    "subdural": 0.5,
}


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The config of a run on six labelled phantoms, with all stages trained.

    Beside the phantoms lie an unlabelled study that lacks a slice, and a series of `PATIENT_ID`
    that shows no head. Processes that share the tests share the run: read it, do not change it.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with FileLock(root / "run.lock"):
        return _trained(root / "run")


def _trained(workspace: Path) -> Config:
    """The config of the run in `workspace`, which is trained where it is not there yet."""
    config = Config(
        workspace=str(workspace),
        precision="fp32",
        phantom=PhantomConfig(studies=6, matrix=64, thickness_mm=(10.0,), prevalence=CHANCES),
        prepare=PrepareConfig(matrix=48, pixel_mm=4.8, folds=3),
        slices=SlicesConfig(encoder="resnet10-half", epochs=2, neighbours=0),
        context=ContextConfig(hidden_size=16, epochs=2),
        stack=StackConfig(num_trees=10),
        report=ReportConfig(resamples=50),
    )
    if Workspace(workspace).run.exists():  # it is written last
        return config

    from ich3d.crossfit.train import train

    source = open_source(config, Workspace(workspace)).images
    unlabelled = PhantomConfig(studies=1, matrix=64, thickness_mm=(10.0,))
    list(write_phantoms(unlabelled, 1, source / "unlabelled"))
    paths = sorted((source / "unlabelled").rglob("*.dcm"))
    paths[len(paths) // 2].unlink()

    write_series(air_series(), source / "headless")
    train(config)
    return config


@pytest.fixture(scope="session")
def model_folder(finished_run: Config) -> Path:
    """The folder of the run's model, shared by all tests: read it, copy it, do not change it."""
    return Workspace(Path(finished_run.workspace)).model


@pytest.fixture(scope="session")
def model(model_folder: Path) -> "Model":
    """The run's model, loaded."""
    from ich3d.model.folder import load_model

    return load_model(model_folder)


@pytest.fixture(scope="session")
def make_head() -> Callable[..., SeriesToWrite]:
    return head_series


@pytest.fixture(scope="session")
def make_stack() -> Callable[..., SeriesToWrite]:
    return stack


@pytest.fixture
def write_stack(tmp_path: Path) -> Callable[..., list[Path]]:
    """A function that writes `stack(...)` into the test's folder, or into `folder` within it.

    It returns the paths, lowest slice first.
    """

    def write(folder: str = ".", **changes: Any) -> list[Path]:
        return write_series(stack(**changes), tmp_path / folder)

    return write


@pytest.fixture(scope="session")
def edit_file() -> Callable[..., None]:
    return edit
