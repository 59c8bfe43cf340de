"""The metric on numbers worked by hand, and the laws of its intervals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from ich3d.core.labels import ANY, LABELS, SUBTYPES, WEIGHTS, weight_vector
from ich3d.core.metrics import (
    CLIP,
    auc,
    label_log_loss,
    log_losses,
    logit,
    sigmoid,
    weighted_log_loss,
)
from ich3d.core.seeds import stream
from ich3d.evaluation.bootstrap import Interval, PatientBootstrap, interval


def example(
    seed: int = 0, slices: int = 60, groups: int = 9
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, targets with some NaN, and the group of each slice."""
    rng = np.random.default_rng(seed)
    prob = rng.uniform(0.01, 0.99, (slices, 6))
    target = (rng.random((slices, 6)) < 0.3).astype(float)
    target[rng.random((slices, 6)) < 0.1] = np.nan
    return prob, target, np.array([f"p{i % groups}" for i in range(slices)])


def test_the_labels_have_one_order_and_any_counts_twice() -> None:
    assert LABELS == (
        "epidural",
        "intraparenchymal",
        "intraventricular",
        "subarachnoid",
        "subdural",
        "any",
    )
    assert [WEIGHTS[label] for label in SUBTYPES] == [1.0] * 5
    assert WEIGHTS[ANY] == 2.0
    assert weight_vector() == pytest.approx(np.array([1, 1, 1, 1, 1, 2]) / 7)


def test_weighted_log_loss_by_hand() -> None:
    """Two slices. Every subtype is half sure and costs ln 2; `any` is 0.8 sure of a yes, 0.25 of a no."""
    prob = np.array([[0.5] * 5 + [0.8], [0.5] * 5 + [0.25]])
    target = np.array([[0.0] * 5 + [1.0], [0.0] * 5 + [0.0]])
    any_loss = -(np.log(0.8) + np.log(0.75)) / 2
    assert weighted_log_loss(prob, target) == pytest.approx((5 * np.log(2) + 2 * any_loss) / 7)
    assert weighted_log_loss(prob, target) == pytest.approx(0.568080, abs=1e-6)


def test_a_sure_error_costs_the_clip_and_not_infinity() -> None:
    assert log_losses(np.array([[1.0]]), np.array([[0.0]])) == pytest.approx(
        -np.log(CLIP), rel=1e-6
    )


def test_a_slice_without_a_label_counts_nowhere() -> None:
    prob, target, groups = example()
    known = ~np.isnan(target[:, 2])
    expected = log_losses(prob[known, 2], target[known, 2]).mean()
    assert label_log_loss(prob, target)[2] == pytest.approx(expected)
    unlabelled = np.full((5, 6), np.nan)
    longer = np.vstack([prob, np.full((5, 6), 0.9)]), np.vstack([target, unlabelled])
    assert weighted_log_loss(*longer) == pytest.approx(weighted_log_loss(prob, target), rel=1e-12)
    assert auc(longer[0][:, 1], longer[1][:, 1]) == auc(prob[:, 1], target[:, 1])
    bleeds = np.append(target[:, 5], [np.nan] * 5)
    bootstrap = PatientBootstrap.of([*groups, *["p0"] * 5], bleeds, 20, stream(0, "x"))
    plain = PatientBootstrap.of(groups, target[:, 5], 20, stream(0, "x"))
    np.testing.assert_allclose(
        bootstrap.weighted_log_loss(*longer), plain.weighted_log_loss(prob, target), rtol=1e-12
    )


SCORES = st.integers(2, 40).flatmap(
    lambda n: st.tuples(
        arrays(float, n, elements=st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9, 1.0])),
        arrays(float, n, elements=st.sampled_from([0.0, 1.0])),
        arrays(float, n, elements=st.sampled_from([0.0, 1.0, 2.0, 3.5])),
    )
)


@given(SCORES)
def test_auc_is_that_of_scikit_learn(drawn: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """With ties and with weights; undefined where a class has no weight."""
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


def test_drawing_every_group_once_is_the_plain_value() -> None:
    prob, target, groups = example()
    names, row_group = np.unique(groups, return_inverse=True)
    once = PatientBootstrap(np.ones((1, len(names))), row_group)
    np.testing.assert_allclose(once.label_log_loss(prob, target)[0], label_log_loss(prob, target))
    assert once.weighted_log_loss(prob, target)[0] == pytest.approx(weighted_log_loss(prob, target))
    assert once.auc(prob[:, 0], target[:, 0])[0] == pytest.approx(auc(prob[:, 0], target[:, 0]))


def test_drawing_a_group_twice_is_its_slices_twice() -> None:
    prob, target, groups = example()
    names, row_group = np.unique(groups, return_inverse=True)
    counts = np.ones((1, len(names)))
    counts[0, 3], counts[0, 4] = 2, 0
    rows = np.concatenate(
        [np.flatnonzero(row_group == g).repeat(int(counts[0, g])) for g in range(len(names))]
    )
    drawn = PatientBootstrap(counts, row_group)
    assert drawn.weighted_log_loss(prob, target)[0] == pytest.approx(
        weighted_log_loss(prob[rows], target[rows])
    )
    assert drawn.auc(prob[:, 1], target[:, 1])[0] == pytest.approx(
        auc(prob[rows, 1], target[rows, 1])
    )


def test_draws_keep_the_number_of_bleeding_and_other_patients() -> None:
    groups = np.array([f"p{i}" for i in range(20)])
    bleeds = np.array([1.0] * 7 + [0.0] * 12 + [np.nan])
    bootstrap = PatientBootstrap.of(groups, bleeds, 50, stream(0, "draws"))
    names = np.unique(groups)
    bleeding = np.isin(names, groups[:7])
    assert np.all(bootstrap.counts[:, bleeding].sum(axis=1) == 7)
    assert np.all(bootstrap.counts[:, ~bleeding].sum(axis=1) == 13)
    assert len(np.unique(bootstrap.counts, axis=0)) > 40


def test_a_better_row_differs_by_its_gain_in_every_draw() -> None:
    prob, target, groups = example()
    better = np.where(np.nan_to_num(target) > 0.5, np.sqrt(prob), prob**2)
    bootstrap = PatientBootstrap.of(groups, target[:, 5], 30, stream(0, "draws"))
    gains = bootstrap.weighted_log_loss(better, target) - bootstrap.weighted_log_loss(prob, target)
    gain = weighted_log_loss(better, target) - weighted_log_loss(prob, target)
    found = interval(gain, gains)
    assert found.low <= gain <= found.high < 0
    assert found.excludes_zero


def test_a_draw_without_a_class_is_left_out_of_the_interval() -> None:
    assert interval(0.5, np.array([0.1, np.nan, 0.9])) == Interval(
        0.5, pytest.approx(0.12), pytest.approx(0.88)
    )
    undefined = interval(float("nan"), np.array([np.nan]))
    assert np.isnan([undefined.value, undefined.low, undefined.high]).all()


@given(arrays(float, 5, elements=st.floats(-12, 12)))
def test_logit_undoes_sigmoid(x: np.ndarray) -> None:
    np.testing.assert_allclose(logit(sigmoid(x)), x, rtol=1e-6, atol=1e-9)


def test_sigmoid_of_anything_is_a_probability() -> None:
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]


def test_an_interval_reads_as_text() -> None:
    found = Interval(-0.1, -0.2, 0.05)
    assert f"{found}" == "-0.1000 (-0.2000 to 0.0500)"
    assert f"{found:+}" == "-0.1000 (-0.2000 to +0.0500)"
