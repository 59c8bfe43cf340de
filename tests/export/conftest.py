"""Fixtures of the export room: an exported bundle, studies to score, and a scored head."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ich3d.cli.parser import main
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.inference.scoring import SeriesPrediction
from tests.helpers.dicom_results import (
    EQUIPMENT,
    PATIENT_AND_STUDY,
    predicted_series,
    write_objects,
)


@pytest.fixture(scope="session")
def bundle(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's model, exported; shared by all tests, not to be changed."""
    folder = tmp_path_factory.mktemp("export") / "bundle"
    assert main(["export", str(model_folder), "--bundle", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def studies(
    make_head: Callable[..., SeriesToWrite], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Two series, one of six slices and one of a single slice."""
    folder = tmp_path_factory.mktemp("studies")
    for name, slices in (("a", 6), ("b", 1)):
        write_series(make_head(name, slices), folder / name)
    return folder


@pytest.fixture
def head_folder(make_head: Callable[..., SeriesToWrite], tmp_path: Path) -> Path:
    """A head of six slices whose headers identify patient, physician and hospital."""
    folder = tmp_path / "in"
    write_series(make_head("named", extra={**PATIENT_AND_STUDY, **EQUIPMENT}), folder)
    return folder


@pytest.fixture
def bleeding(head_folder: Path) -> SeriesPrediction:
    """Subdural in slices 2 and 3, epidural in slice 3 too; slice 4 is just below the threshold."""
    return predicted_series(
        head_folder,
        (2, "subdural", 0.75),
        (3, "subdural", 0.875),
        (3, "epidural", 0.875),
        (4, "any", 0.499),
    )


@pytest.fixture
def written(bleeding: SeriesPrediction, tmp_path: Path) -> tuple[Path, ...]:
    """The structured report and the key object selection of `bleeding`."""
    return write_objects(bleeding, tmp_path / "out")
