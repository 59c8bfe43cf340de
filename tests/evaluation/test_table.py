"""The result table on scores of known quality."""

import numpy as np
import pytest

from ich3d.core.bootstrap import Interval
from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import ANY, LABELS
from ich3d.core.metrics import weighted_log_loss
from ich3d.evaluation.table import auc_cell, compare, markdown, tidy
from tests.helpers.scores import scores, thirty_patients

ANY_INDEX = LABELS.index(ANY)


@pytest.fixture(scope="module")
def truth() -> GroundTruth:
    return thirty_patients()


def test_a_better_row_is_shown_as_better_and_an_equal_row_as_equal(truth: GroundTruth) -> None:
    prob = {"weak": scores(truth, 1.0), "same": scores(truth, 1.0), "strong": scores(truth, 3.0)}
    against = {"same": "weak", "strong": "weak", "weak": "weak"}
    weak, same, strong = compare(prob, against, truth, 200, 0)
    assert weak.difference is None
    assert same.difference == Interval(0.0, 0.0, 0.0)
    assert strong.difference is not None
    assert strong.difference.high < 0
    assert strong.auc_difference["any"].low > 0
    assert strong.log_loss_difference["epidural"].high < 0
    assert weak.weighted_log_loss.value == pytest.approx(
        weighted_log_loss(prob["weak"][0], truth.target)
    )


def test_a_row_of_several_seeds_has_their_mean_and_spread(truth: GroundTruth) -> None:
    prob = scores(truth, 2.0, seeds=3)
    (row,) = compare({"row": prob}, {}, truth, 50, 0)
    losses = [weighted_log_loss(run, truth.target) for run in prob]
    assert row.seeds == 3
    assert row.weighted_log_loss.value == pytest.approx(np.mean(losses))
    assert row.spread == pytest.approx(np.std(losses, ddof=1))


def test_equal_scores_of_all_seeds_count_as_one_seed(truth: GroundTruth) -> None:
    prob = {"row": scores(truth, 2.0), "repeated": scores(truth, 2.0).repeat(3, axis=0)}
    once, repeated = compare(prob, {}, truth, 50, 0)
    assert repeated.seeds == 1
    assert np.isnan(repeated.spread)
    assert repeated.weighted_log_loss == once.weighted_log_loss
    assert "SD over seeds" not in markdown([once, repeated], truth)


def test_a_label_of_few_patients_is_shown_without_an_interval(truth: GroundTruth) -> None:
    prob = {"weak": scores(truth, 1.0), "strong": scores(truth, 3.0)}
    _, strong = compare(prob, {"strong": "weak"}, truth, 50, 0)
    assert "AUC subdural (3 patients)" in markdown([strong], truth)
    assert auc_cell(strong.auc["subdural"], 3) == f"{strong.auc['subdural'].value:.3f}"
    assert auc_cell(strong.auc["subarachnoid"], 0) == "-"


def test_any_is_raised_to_the_largest_subtype_in_rows_of_a_stacker(truth: GroundTruth) -> None:
    prob = np.full((1, *truth.target.shape), 0.2)
    prob[0, : len(truth.target) // 4, 0] = 0.9
    plain, stacked = compare({"row": prob, "row + stacker": prob}, {}, truth, 20, 0)
    assert plain.incoherent == stacked.incoherent == 0.25  # the share before the correction
    assert plain.log_loss["any"].value < stacked.log_loss["any"].value


def test_labels_without_ground_truth_are_excluded_from_the_metrics() -> None:
    known, unknown = thirty_patients(), thirty_patients()
    unknown.table["epidural"] = np.nan
    prob = {"weak": scores(known, 1.0), "strong": scores(known, 3.0)}
    _, strong = compare(prob, {"strong": "weak"}, unknown, 20, 0)

    (all_labels,) = compare({"strong": prob["strong"]}, {}, known, 20, 0)
    losses = {label: loss.value for label, loss in all_labels.log_loss.items()}
    del losses["epidural"]
    expected = (sum(losses.values()) + losses["any"]) / 6
    assert strong.weighted_log_loss.value == pytest.approx(expected)
    assert strong.difference is not None
    assert strong.difference.high < 0
    assert np.isnan(strong.log_loss["epidural"].value)


def test_series_are_scored_by_their_highest_slice(truth: GroundTruth) -> None:
    """In series with a bleed only the lowest slice scores high, and it does not bleed itself."""
    table = truth.table
    bleeding_groups = table.loc[table["any"] == 1, "group_id"]
    lowest = (table["slice_index"] == 0) & table["group_id"].isin(bleeding_groups)
    prob = np.full((1, *truth.target.shape), 0.1)
    prob[0, lowest, ANY_INDEX] = 0.9
    (row,) = compare({"row": prob}, {}, truth, 20, 0)
    assert row.series_auc["any"].value == 1.0
    assert row.auc["any"].value < 0.5


def test_the_long_table_has_every_metric_of_every_label(truth: GroundTruth) -> None:
    prob = {"weak": scores(truth, 1.0), "strong": scores(truth, 3.0)}
    weak, strong = compare(prob, {"strong": "weak"}, truth, 20, 0)
    table = tidy([weak, strong])
    assert list(table.columns) == ["row", "metric", "label", "value", "low", "high"]
    overall = table[table["label"] == ""].groupby("row")["metric"].apply(list)
    assert overall["weak"] == [
        "weighted_log_loss", "seeds", "spread over seeds", "incoherent share",
    ]  # fmt: skip
    assert overall["strong"] == [*overall["weak"], "weighted_log_loss minus weak"]

    by_label = table[table["label"] != ""]
    strong_metrics = by_label.loc[by_label["row"] == "strong", "metric"]
    assert list(strong_metrics.unique()) == [
        "log_loss", "auc", "series_auc", "average_precision", "calibration_error",
        "log_loss minus weak", "auc minus weak",
    ]  # fmt: skip
    assert set(strong_metrics.value_counts()) == {len(LABELS)}
