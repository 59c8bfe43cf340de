"""A scored series and the page of a study, which the tests of this folder share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ich3d.core.labels import ANY, LABELS
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.inference.scoring import SeriesPrediction, predict_one
from ich3d.model.folder import Model
from ich3d.report.study.page import write_study_page
from tests.helpers.identity import IDENTITY, PATIENT_ID
from tests.helpers.page_tree import Element, Tree
from tests.helpers.predictions import with_bleeds

Z_MM = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 45.0)


@pytest.fixture(scope="session")
def head(make_head: Callable[..., SeriesToWrite], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one series of nine slices, the last gap twice as wide, of a named patient."""
    folder = tmp_path_factory.mktemp("head")
    position_mm = np.array([(-126.0, -126.0, z) for z in Z_MM])
    write_series(
        make_head("a", 9, position_mm=position_mm, patient_id=PATIENT_ID, extra=IDENTITY), folder
    )
    return folder


@pytest.fixture(scope="session")
def scored(model: Model, head: Path) -> SeriesPrediction:
    """The series in `head`, scored."""
    (prediction,) = predict_one(model, head, None).series
    return prediction


@pytest.fixture(scope="session")
def study(model: Model, scored: SeriesPrediction, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two series: in the first, slices 3 and 4 bleed; in the second, none does."""
    first = with_bleeds(
        scored, (3, "subdural", 0.75), (4, "subdural", 0.875), (4, "epidural", 0.625)
    )
    first.prob["stack"][4, LABELS.index(ANY)] = 0.875
    return write_study_page(model, [first, with_bleeds(scored)], tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def page(study: Path) -> Element:
    """The same page as a tree."""
    return Tree(study.read_text(encoding="utf-8")).root
