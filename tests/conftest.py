"""A tiny trained run that several tests look at, and heads of a few slices."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

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
from tests.helpers.series import air_series, edit, head_series, stack

if TYPE_CHECKING:
    from ich3d.model.folder import Model

CHANCES = {
    "epidural": 0.3,
    "intraparenchymal": 0.5,
    "intraventricular": 0.3,
    "subarachnoid": 0.4,
    "subdural": 0.5,
}


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Six labelled phantoms, all stages trained. Beside them lie an unlabelled study with a slice missing,
    and a series of `PATIENT_ID` that shows no head."""
    from ich3d.crossfit.train import train

    config = Config(
        workspace=str(tmp_path_factory.mktemp("run")),
        precision="fp32",
        phantom=PhantomConfig(studies=6, matrix=64, thickness_mm=(10.0,), prevalence=CHANCES),
        prepare=PrepareConfig(matrix=48, pixel_mm=4.8, folds=3),
        slices=SlicesConfig(encoder="resnet10", epochs=2, neighbours=0),
        context=ContextConfig(hidden_size=16, epochs=2),
        stack=StackConfig(num_trees=10),
        report=ReportConfig(resamples=50),
    )
    source = open_source(config, Workspace(Path(config.workspace))).images
    list(
        write_phantoms(
            PhantomConfig(studies=1, matrix=64, thickness_mm=(10.0,)), 1, source / "unlabelled"
        )
    )
    headers = sorted((source / "unlabelled").rglob("*.dcm"))
    headers[len(headers) // 2].unlink()
    write_series(air_series(), source / "headless")
    train(config)
    return config


@pytest.fixture(scope="session")
def model_folder(finished_run: Config) -> Path:
    """Where the run's model is saved; it is not to be changed."""
    return Workspace(Path(finished_run.workspace)).model


@pytest.fixture(scope="session")
def model(model_folder: Path) -> "Model":
    """The run's model."""
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
    """Write `stack(...)` into the test's folder (or `folder` in it); the paths, lowest slice first."""

    def write(folder: str = ".", **changes: Any) -> list[Path]:
        return write_series(stack(**changes), tmp_path / folder)

    return write


@pytest.fixture(scope="session")
def edit_file() -> Callable[..., None]:
    return edit
