"""Sensitivity and specificity, against counts by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import LABELS, label_index
from ich3d.core.operating_point import SERIES, SLICES, OperatingPoint, operating_points
from tests.helpers.scores import PATIENTS, thirty_patients
from tests.helpers.scores import SLICES as SLICES_EACH

ANY = label_index("any")


def point_of(points: list[OperatingPoint], level: str, label: str) -> OperatingPoint:
    (point,) = (point for point in points if (point.level, point.label) == (level, label))
    return point


def points_of(prob: np.ndarray, truth: GroundTruth, threshold: float = 0.5) -> list[OperatingPoint]:
    return operating_points(prob, truth, threshold, draws=50, seed=0)


def test_the_labels_themselves_are_told_without_error() -> None:
    truth = thirty_patients()
    points = points_of(truth.target, truth)
    assert len(points) == 2 * len(LABELS)
    any_slices, any_series = (point_of(points, level, "any") for level in (SLICES, SERIES))
    assert any_slices.n_positive == 20 * 4
    assert any_slices.n_positive + any_slices.n_negative == PATIENTS * SLICES_EACH
    assert (any_series.n_positive, any_series.n_negative) == (20, 10)
    for point in (any_slices, any_series):
        assert vars(point.sensitivity) == {"value": 1.0, "low": 1.0, "high": 1.0}
        assert vars(point.specificity) == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_shares_are_those_counted_by_hand() -> None:
    """One of the four bleeding slices of each patient is found, and one other is flagged."""
    truth = thirty_patients()
    index = np.tile(np.arange(SLICES_EACH), PATIENTS)
    prob = np.zeros_like(truth.target)
    prob[(index == 4) | (index == 0), ANY] = 0.5  # at the threshold is flagged
    points = points_of(prob, truth)
    slices, series = (point_of(points, level, "any") for level in (SLICES, SERIES))
    assert slices.sensitivity.value == pytest.approx(20 / 80)
    n_negative = PATIENTS * SLICES_EACH - 80
    assert slices.specificity.value == pytest.approx(1 - (30 + 10) / n_negative)
    assert series.sensitivity.value == 1.0
    assert series.specificity.value == 0.0


def test_a_label_that_nobody_has_has_no_sensitivity() -> None:
    truth = thirty_patients()
    point = point_of(points_of(truth.target, truth), SLICES, "intraventricular")
    assert point.n_positive == 0
    assert np.isnan(point.sensitivity.value)
    assert np.isnan(point.sensitivity.low)
    assert point.specificity.value == 1.0


def test_slices_without_ground_truth_count_for_neither() -> None:
    truth = thirty_patients()
    table = truth.table.copy()
    table.loc[table["volume_id"] == table["volume_id"].iloc[0], "any"] = np.nan
    points = points_of(np.nan_to_num(truth.target), replace(truth, table=table))
    slices, series = (point_of(points, level, "any") for level in (SLICES, SERIES))
    assert slices.n_positive + slices.n_negative == (PATIENTS - 1) * SLICES_EACH
    assert series.n_positive + series.n_negative == PATIENTS - 1


@given(st.floats(0.05, 0.95), st.integers(0, 20))
def test_a_higher_threshold_flags_no_more(threshold: float, seed: int) -> None:
    truth = thirty_patients()
    prob = np.random.default_rng(seed).random(truth.target.shape)
    low = operating_points(prob, truth, threshold / 2, draws=2, seed=0)
    high = operating_points(prob, truth, threshold, draws=2, seed=0)
    for before, after in zip(low, high, strict=True):
        if after.n_positive:
            assert after.sensitivity.value <= before.sensitivity.value
        if after.n_negative:
            assert after.specificity.value >= before.specificity.value
