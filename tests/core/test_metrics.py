"""The metrics on numbers worked by hand, and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, roc_auc_score

from ich3d.core.metrics import (
    CLIP,
    RankedScores,
    agreement,
    auc,
    average_precision,
    calibration_error,
    incoherent_share,
    label_log_loss,
    log_losses,
    logit,
    sigmoid,
    weighted_log_loss,
    weighted_mean,
)


def example(slices: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, K) and targets (N, K), some of which are NaN."""
    rng = np.random.default_rng(0)
    prob = rng.uniform(0.01, 0.99, (slices, 6))
    target = (rng.random((slices, 6)) < 0.3).astype(float)
    target[rng.random((slices, 6)) < 0.1] = np.nan
    return prob, target


def test_weighted_log_loss_by_hand() -> None:
    """Two slices. Each subtype has probability 0.5, and costs ln 2.

    `any` has 0.8 where it is present and 0.25 where it is absent.
    """
    prob = np.array([[0.5] * 5 + [0.8], [0.5] * 5 + [0.25]])
    target = np.array([[0.0] * 5 + [1.0], [0.0] * 5 + [0.0]])
    any_loss = -(np.log(0.8) + np.log(0.75)) / 2
    assert weighted_log_loss(prob, target) == pytest.approx((5 * np.log(2) + 2 * any_loss) / 7)
    assert weighted_log_loss(prob, target) == pytest.approx(0.568080, abs=1e-6)


def test_a_label_without_a_loss_is_left_out_of_the_weighted_mean() -> None:
    losses = np.array([[0.1, np.nan, 0.3, 0.4, 0.5, 0.6], [np.nan] * 6])
    mean = weighted_mean(losses)
    assert mean[0] == pytest.approx((0.1 + 0.3 + 0.4 + 0.5 + 2 * 0.6) / 6)
    assert np.isnan(mean[1])


def test_a_certain_error_costs_the_clip_and_not_infinity() -> None:
    loss = log_losses(np.array([[1.0]]), np.array([[0.0]]))
    assert loss == pytest.approx(-np.log(CLIP), rel=1e-6)


def test_slices_without_ground_truth_are_excluded_from_the_metrics() -> None:
    prob, target = example()
    known = ~np.isnan(target[:, 2])
    expected = log_losses(prob[known, 2], target[known, 2]).mean()
    assert label_log_loss(prob, target)[2] == pytest.approx(expected)

    more_prob = np.vstack([prob, np.full((5, 6), 0.9)])
    more_target = np.vstack([target, np.full((5, 6), np.nan)])
    loss = weighted_log_loss(more_prob, more_target)
    assert loss == pytest.approx(weighted_log_loss(prob, target), rel=1e-12)
    for metric in (auc, average_precision, calibration_error):
        assert metric(more_prob[:, 1], more_target[:, 1]) == metric(prob[:, 1], target[:, 1])


SCORES = st.integers(2, 40).flatmap(
    lambda n: st.tuples(
        arrays(float, n, elements=st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9, 1.0])),
        arrays(float, n, elements=st.sampled_from([0.0, 1.0])),
        arrays(float, n, elements=st.sampled_from([0.0, 1.0, 2.0, 3.5])),
    )
)
"""Scores, many of them equal; targets; weights, some of them zero."""


@given(SCORES)
def test_auc_equals_scikit_learn(drawn: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """With ties and with weights; NaN where a class has no weight."""
    prob, target, weight = drawn
    if len(np.unique(target)) == 2:
        assert auc(prob, target) == pytest.approx(roc_auc_score(target, prob))
    else:
        assert np.isnan(auc(prob, target))

    if (weight * target).sum() > 0 and (weight * (1 - target)).sum() > 0:
        expected = roc_auc_score(target, prob, sample_weight=weight)
        assert auc(prob, target, weight) == pytest.approx(expected)
    else:
        assert np.isnan(auc(prob, target, weight))


def test_scores_are_ranked_once_for_many_weights() -> None:
    prob = np.array([0.3, 0.1, np.nan, 0.3, 0.2])
    target = np.array([1.0, 0.0, np.nan, 0.0, 1.0])
    ranked = RankedScores.of(prob, target)
    assert ranked.order.tolist() == [1, 4, 0, 3]
    assert ranked.truth.tolist() == [False, True, True, False]
    assert ranked.starts.tolist() == [0, 1, 2]
    assert ranked.auc(np.ones(4)) == pytest.approx((1 + 0 + 1 + 0.5) / 4)


def test_average_precision_equals_scikit_learn_and_needs_a_positive_slice() -> None:
    prob, target = example()
    known = ~np.isnan(target[:, 0])
    expected = average_precision_score(target[known, 0], prob[known, 0])
    assert average_precision(prob[:, 0], target[:, 0]) == pytest.approx(expected)
    assert np.isnan(average_precision(prob[:, 0], np.zeros(len(prob))))


def test_calibration_error_by_hand() -> None:
    """Two bins of two slices: mean probability 0.15 against rate 0, and 0.8 against 0.5."""
    prob = np.array([0.1, 0.9, 0.2, 0.7])
    target = np.array([0.0, 1.0, 0.0, 0.0])
    assert calibration_error(prob, target, bins=2) == pytest.approx((0.15 + 0.3) / 2)
    assert np.isnan(calibration_error(prob, np.full(4, np.nan)))


def test_a_slice_whose_any_is_below_a_subtype_is_incoherent() -> None:
    prob = np.full((4, 6), 0.3)
    prob[0, 5] = 0.2
    assert incoherent_share(prob) == 0.25


@given(arrays(float, 5, elements=st.floats(-12, 12)))
def test_logit_is_the_inverse_of_sigmoid(x: np.ndarray) -> None:
    np.testing.assert_allclose(logit(sigmoid(x)), x, rtol=1e-6, atol=1e-9)


def test_sigmoid_does_not_overflow() -> None:
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]


def test_models_agree_as_far_as_their_probabilities_are_equal() -> None:
    same, apart = agreement(np.array([[0.25, 1.0], [0.25, 0.0]]))
    assert (same, apart) == (1.0, 0.0)
    (near,) = agreement(np.array([[0.4], [0.5], [0.6]]))
    assert near == pytest.approx(1 - 2 * np.std([0.4, 0.5, 0.6]))
    assert np.isnan(agreement(np.array([[0.5, 0.5]]))).all()
