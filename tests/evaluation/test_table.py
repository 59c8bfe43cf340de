"""The figures of a table on scores whose worth is known."""

import numpy as np
import pytest

from ich3d.core.labels import LABELS
from ich3d.core.metrics import weighted_log_loss
from ich3d.evaluation.bootstrap import Interval
from ich3d.evaluation.ground_truth import GroundTruth
from ich3d.evaluation.table import auc_cell, compare, markdown
from tests.helpers.scores import scores, thirty_patients


@pytest.fixture(scope="module")
def truth() -> GroundTruth:
    return thirty_patients()


def test_a_better_row_is_shown_as_better_and_the_same_row_as_the_same(truth: GroundTruth) -> None:
    prob = {"weak": scores(truth, 1.0), "same": scores(truth, 1.0), "strong": scores(truth, 3.0)}
    weak, same, strong = compare(
        prob, {"same": "weak", "strong": "weak", "weak": "weak"}, truth, 200, 0
    )
    assert weak.difference is None
    assert same.difference == Interval(0.0, 0.0, 0.0)
    assert strong.difference is not None
    assert strong.difference.high < 0
    assert strong.auc_difference["any"].low > 0
    assert strong.log_loss_difference["epidural"].high < 0
    assert weak.weighted_log_loss.value == pytest.approx(
        weighted_log_loss(prob["weak"][0], truth.target)
    )


def test_a_row_of_several_seeds_is_their_mean_with_its_spread(truth: GroundTruth) -> None:
    prob = scores(truth, 2.0, seeds=3)
    (line,) = compare({"row": prob}, {}, truth, 50, 0)
    losses = [weighted_log_loss(run, truth.target) for run in prob]
    assert line.seeds == 3
    assert line.weighted_log_loss.value == pytest.approx(np.mean(losses))
    assert line.spread == pytest.approx(np.std(losses, ddof=1))


def test_a_row_that_seeds_do_not_touch_has_one(truth: GroundTruth) -> None:
    prob = {"row": scores(truth, 2.0), "repeated": scores(truth, 2.0).repeat(3, axis=0)}
    once, repeated = compare(prob, {}, truth, 50, 0)
    assert repeated.seeds == 1
    assert np.isnan(repeated.spread)
    assert repeated.weighted_log_loss == once.weighted_log_loss
    assert "SD over seeds" not in markdown([once, repeated], truth)


def test_a_label_of_few_patients_bears_no_claim(truth: GroundTruth) -> None:
    prob = {"weak": scores(truth, 1.0), "strong": scores(truth, 3.0)}
    lines = compare(prob, {"strong": "weak"}, truth, 50, 0)
    assert truth.positive_patients == {
        **dict.fromkeys(LABELS, 0),
        "any": 20,
        "subdural": 3,
        "epidural": 17,
    }
    table = markdown(lines, truth)
    assert "AUC subdural (3 patients)" in table
    assert auc_cell(lines[1].auc["subdural"], 3) == f"{lines[1].auc['subdural'].value:.3f}"
    assert auc_cell(lines[1].auc["subarachnoid"], 0) == "-"


def test_the_stackers_any_is_mended_and_what_was_mended_is_told(truth: GroundTruth) -> None:
    prob = np.full((1, *truth.target.shape), 0.2)
    prob[0, : len(truth.target) // 4, 0] = 0.9
    plain, stacked = compare({"row": prob, "row + stacker": prob}, {}, truth, 20, 0)
    assert plain.incoherent == stacked.incoherent == 0.25
    assert plain.log_loss["any"].value < stacked.log_loss["any"].value


def test_a_label_without_truth_counts_nowhere() -> None:
    known, unknown = thirty_patients(), thirty_patients()
    unknown.table["epidural"] = np.nan
    prob = {"weak": scores(known, 1.0), "strong": scores(known, 3.0)}
    _, line = compare(prob, {"strong": "weak"}, unknown, 20, 0)
    (all_six,) = compare({"strong": prob["strong"]}, {}, known, 20, 0)
    others = {label: loss.value for label, loss in all_six.log_loss.items() if label != "epidural"}
    expected = (sum(others.values()) + others["any"]) / 6
    assert line.weighted_log_loss.value == pytest.approx(expected)
    assert line.difference is not None
    assert line.difference.high < 0
    assert np.isnan(line.log_loss["epidural"].value)
    assert unknown.unknown_labels == ["epidural"]
    assert known.unknown_labels == []


def test_series_are_judged_by_their_highest_slice(truth: GroundTruth) -> None:
    prob = np.full((1, *truth.target.shape), 0.1)
    first = truth.table["slice_index"] == 0  # no slice that bleeds, but of a series that does
    prob[
        0,
        first & truth.table["group_id"].isin(truth.table.loc[truth.table["any"] == 1, "group_id"]),
        5,
    ] = 0.9
    (line,) = compare({"row": prob}, {}, truth, 20, 0)
    assert line.series_auc["any"].value == 1.0
    assert line.auc["any"].value < 0.5
