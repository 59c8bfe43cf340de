"""The figures of an ablation."""

import base64

import pytest

from ich3d.ablation.figures import BETTER_COLOR, WORSE_COLOR, auc_by_label, forest_plot
from ich3d.core.ground_truth import GroundTruth
from ich3d.evaluation.table import compare
from ich3d.report.drawing import EmbeddedImage
from tests.helpers.scores import scores, thirty_patients


@pytest.fixture(scope="module")
def truth() -> GroundTruth:
    return thirty_patients()


def svg_text(image: EmbeddedImage) -> str:
    return base64.b64decode(image.src.partition(",")[2]).decode()


@pytest.mark.parametrize(
    ("against", "shown", "absent"),
    [
        ({"strong": "weak"}, BETTER_COLOR, WORSE_COLOR),
        ({"weak": "strong"}, WORSE_COLOR, BETTER_COLOR),
    ],
)
def test_a_difference_has_the_colour_of_its_verdict(
    truth: GroundTruth, against: dict[str, str], shown: str, absent: str
) -> None:
    prob = {"weak": scores(truth, 1.0), "strong": scores(truth, 3.0)}
    image = forest_plot(compare(prob, against, truth, 20, 0))
    assert shown.lower() in svg_text(image)
    assert absent.lower() not in svg_text(image)
    assert "weak " in image.alt
    assert "strong " in image.alt


def test_equal_rows_give_equal_figures(truth: GroundTruth) -> None:
    rows = compare({"row": scores(truth, 1.0)}, {}, truth, 20, 0)
    positive = truth.positive_patients
    assert forest_plot(rows) == forest_plot(rows)
    assert auc_by_label(rows, positive) == auc_by_label(rows, positive)
    assert auc_by_label(rows, positive) != auc_by_label(rows, dict.fromkeys(positive, 3))
