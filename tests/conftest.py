"""A tiny trained run that several tests look at."""

from pathlib import Path

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
from ich3d.dicom.write import SeriesToWrite, uid, write_series
from ich3d.phantom import write_phantoms

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
        slices=SlicesConfig(epochs=1, neighbours=0),
        context=ContextConfig(hidden=16, epochs=2),
        stack=StackConfig(trees=10),
        report=ReportConfig(resamples=50),
    )
    source = Path(config.workspace) / "source"
    list(write_phantoms(PhantomConfig(studies=1, matrix=64, thickness_mm=(10.0,)), 1, source / "unlabelled"))
    headers = sorted((source / "unlabelled").rglob("*.dcm"))
    headers[len(headers) // 2].unlink()
    write_series(_air(), source / "headless")
    train(config)
    return config


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
