"""Intervals by resampling patient groups."""

import numpy as np
import pytest

from ich3d.core.bootstrap import Interval, PatientBootstrap, interval
from ich3d.core.metrics import auc, label_log_loss, weighted_log_loss
from ich3d.core.seeds import stream

Example = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture
def example() -> Example:
    """Probabilities (N, K), targets (N, K) with some NaN, and the group (N,) of 60 slices."""
    rng = np.random.default_rng(0)
    prob = rng.uniform(0.01, 0.99, (60, 6))
    target = (rng.random((60, 6)) < 0.3).astype(float)
    target[rng.random((60, 6)) < 0.1] = np.nan
    return prob, target, np.array([f"p{index % 9}" for index in range(60)])


def test_a_draw_of_every_group_once_gives_the_plain_metric(example: Example) -> None:
    prob, target, groups = example
    names, row_group = np.unique(groups, return_inverse=True)
    once = PatientBootstrap(np.ones((1, len(names))), row_group)
    np.testing.assert_allclose(once.label_log_loss(prob, target)[0], label_log_loss(prob, target))
    assert once.weighted_log_loss(prob, target)[0] == pytest.approx(weighted_log_loss(prob, target))
    assert once.auc(prob[:, 0], target[:, 0])[0] == pytest.approx(auc(prob[:, 0], target[:, 0]))


def test_a_group_drawn_twice_counts_like_its_slices_twice(example: Example) -> None:
    prob, target, groups = example
    names, row_group = np.unique(groups, return_inverse=True)
    counts = np.ones((1, len(names)))
    counts[0, 3], counts[0, 4] = 2, 0
    bootstrap = PatientBootstrap(counts, row_group)

    repeated = np.repeat(np.arange(len(groups)), counts[0, row_group].astype(int))
    assert bootstrap.weighted_log_loss(prob, target)[0] == pytest.approx(
        weighted_log_loss(prob[repeated], target[repeated])
    )
    assert bootstrap.auc(prob[:, 1], target[:, 1])[0] == pytest.approx(
        auc(prob[repeated, 1], target[repeated, 1])
    )


def test_every_draw_has_as_many_patients_with_a_bleed_as_the_data() -> None:
    groups = np.array([f"p{index}" for index in range(20)])
    bleeds = np.array([1.0] * 7 + [0.0] * 12 + [np.nan])
    bootstrap = PatientBootstrap.of(groups, bleeds, 50, stream(0, "draws"))
    has_bleed = np.isin(np.unique(groups), groups[:7])
    assert np.all(bootstrap.counts[:, has_bleed].sum(axis=1) == 7)
    assert np.all(bootstrap.counts[:, ~has_bleed].sum(axis=1) == 13)
    assert len(np.unique(bootstrap.counts, axis=0)) > 40


def test_unlabelled_slices_change_no_draw(example: Example) -> None:
    prob, target, groups = example
    longer_prob = np.vstack([prob, np.full((5, 6), 0.9)])
    longer_target = np.vstack([target, np.full((5, 6), np.nan)])
    plain = PatientBootstrap.of(groups, target[:, 5], 20, stream(0, "x"))
    longer = PatientBootstrap.of([*groups, *["p0"] * 5], longer_target[:, 5], 20, stream(0, "x"))
    np.testing.assert_allclose(
        longer.weighted_log_loss(longer_prob, longer_target),
        plain.weighted_log_loss(prob, target),
        rtol=1e-12,
    )


def test_the_difference_of_a_better_row_excludes_zero(example: Example) -> None:
    prob, target, groups = example
    better = np.where(np.nan_to_num(target) > 0.5, np.sqrt(prob), prob**2)
    bootstrap = PatientBootstrap.of(groups, target[:, 5], 30, stream(0, "draws"))
    differences = bootstrap.weighted_log_loss(better, target) - bootstrap.weighted_log_loss(
        prob, target
    )
    difference = weighted_log_loss(better, target) - weighted_log_loss(prob, target)
    result = interval(difference, differences)
    assert result.low <= difference <= result.high < 0
    assert result.excludes_zero


def test_draws_that_are_not_defined_are_left_out_of_the_interval() -> None:
    result = interval(0.5, np.array([0.1, np.nan, 0.9]))
    assert (result.value, result.low, result.high) == pytest.approx((0.5, 0.12, 0.88))
    undefined = interval(float("nan"), np.array([np.nan]))
    assert np.isnan([undefined.value, undefined.low, undefined.high]).all()
    assert not undefined.excludes_zero


def test_an_interval_as_text() -> None:
    result = Interval(-0.1, -0.2, 0.05)
    assert f"{result}" == str(result) == "-0.1000 (-0.2000 to 0.0500)"
    assert f"{result:+}" == "-0.1000 (-0.2000 to +0.0500)"


@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
def test_one_patient_has_no_interval(example: Example, names: list[str]) -> None:
    """Nor one who bleeds beside one who does not: every draw would hold the same patients."""
    prob, target, _ = example
    groups = np.array([names[index % len(names)] for index in range(60)])
    bleeds = (groups == "a").astype(float)
    bootstrap = PatientBootstrap.of(groups, bleeds, 50, stream(0, "test"))
    losses = interval(weighted_log_loss(prob, target), bootstrap.weighted_log_loss(prob, target))
    assert str(losses) == f"{weighted_log_loss(prob, target):.4f}"
    assert np.isnan(interval(0.7, bootstrap.auc(prob[:, 5], target[:, 5])).low)
