"""A tiny trained run that several tests look at, and heads of a few slices."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ich3d.core.config import (
    Config,
    ContextConfig,
    PhantomConfig,
    PrepareConfig,
    ReportConfig,
    SlicesConfig,
    StackConfig,
)
from ich3d.core.workspace import Workspace
from ich3d.dicom.write import SeriesToWrite, uid, write_series
from ich3d.phantom import write_phantoms
from ich3d.prepare.build import open_source

if TYPE_CHECKING:
    from ich3d.pipeline import Model

PATIENT_ID = "Secret-Patient"
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
    from ich3d.pipeline import train  # torch and monai load only for tests that ask for a run

    config = Config(
        workspace=str(tmp_path_factory.mktemp("run")),
        precision="fp32",
        phantom=PhantomConfig(studies=6, matrix=64, thickness_mm=(10.0,), prevalence=CHANCES),
        prepare=PrepareConfig(matrix=48, pixel_mm=4.8, folds=3),
        slices=SlicesConfig(encoder="resnet10", epochs=2, neighbours=0),
        context=ContextConfig(hidden=16, epochs=2),
        stack=StackConfig(trees=10),
        report=ReportConfig(resamples=50),
    )
    source = open_source(config, Workspace(Path(config.workspace))).images
    list(write_phantoms(PhantomConfig(studies=1, matrix=64, thickness_mm=(10.0,)), 1, source / "unlabelled"))
    headers = sorted((source / "unlabelled").rglob("*.dcm"))
    headers[len(headers) // 2].unlink()
    write_series(_air(), source / "headless")
    train(config)
    return config


@pytest.fixture(scope="session")
def model_folder(finished_run: Config) -> Path:
    """Where the run's model is saved; it is not to be changed."""
    return Workspace(Path(finished_run.workspace)).model


@pytest.fixture(scope="session")
def model(model_folder: Path) -> "Model":
    """The run's model."""
    from ich3d.pipeline import load_model

    return load_model(model_folder)


def _air() -> SeriesToWrite:
    return SeriesToWrite(
        hu=np.full((3, 16, 16), -1000, dtype=np.int16),
        position_mm=np.array([(0.0, 0.0, 5.0 * i) for i in range(3)]),
        row_dir=(1.0, 0.0, 0.0),
        col_dir=(0.0, 1.0, 0.0),
        pixel_spacing_mm=(10.0, 10.0),
        slice_thickness_mm=5.0,
        patient_id=PATIENT_ID,
        study_uid=uid("air", "study"),
        series_uid=uid("air", "series"),
        sop_uids=[uid("air", i) for i in range(3)],
        file_names=[f"{i}.dcm" for i in range(3)],
        instance_numbers=[1, 2, 3],
        extra={"PatientName": PATIENT_ID, "PatientBirthDate": "19010101"},
    )


def head_series(name: str = "a", n: int = 6, **changes: Any) -> SeriesToWrite:
    """A round head of 70 mm radius: mottled brain in a skull, straight axial slices 5 mm apart. `name`
    makes its pixels, UIDs and patient; `changes` replace fields."""
    rng = np.random.default_rng(list(name.encode()))
    side = (np.arange(64) - 31.5) * 4.0
    radius = np.hypot(side[:, None], side[None])
    brain = rng.integers(20, 45, (n, 64, 64))
    hu = np.where(radius < 70, brain, np.where(radius < 78, 900, -1000)).astype(np.int16)
    fields: dict[str, Any] = {
        "hu": hu,
        "position_mm": np.array([(-126.0, -126.0, 5.0 * i) for i in range(n)]),
        "row_dir": (1.0, 0.0, 0.0),
        "col_dir": (0.0, 1.0, 0.0),
        "pixel_spacing_mm": (4.0, 4.0),
        "slice_thickness_mm": 5.0,
        "patient_id": f"patient {name}",
        "study_uid": uid("head study", name),
        "series_uid": uid("head series", name),
        "sop_uids": [uid("head slice", name, i) for i in range(n)],
        "file_names": [f"{i}.dcm" for i in range(n)],
        "instance_numbers": list(range(1, n + 1)),
    }
    return SeriesToWrite(**{**fields, **changes})


@pytest.fixture(scope="session")
def make_head() -> Callable[..., SeriesToWrite]:
    return head_series
