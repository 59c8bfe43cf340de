"""The baselines on thirty patients whose labels are known."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import ANY, LABELS
from ich3d.core.metrics import weighted_log_loss
from ich3d.evaluation.baselines import (
    base_rate,
    label_continuity,
    position_features,
    position_features_by_volume,
    position_only,
    rolling_mean,
)
from tests.helpers.scores import scores, thirty_patients

ANY_INDEX = LABELS.index(ANY)


@pytest.fixture(scope="module")
def truth() -> GroundTruth:
    return thirty_patients()


def by_position(truth: GroundTruth, target: np.ndarray) -> np.ndarray:
    return position_only(position_features_by_volume(truth.table), target, truth.fold)


def by_base_rate(truth: GroundTruth, target: np.ndarray) -> np.ndarray:
    return base_rate(target, truth.fold)


def test_position_features_by_hand() -> None:
    features = position_features(np.array([-10.0, -5.0, 5.0]))
    np.testing.assert_array_equal(features, [[15.0, 0.0], [10.0, 0.5], [0.0, 1.0]])
    np.testing.assert_array_equal(position_features(np.array([3.0])), [[0.0, 0.0]])


def test_position_features_start_anew_in_each_series() -> None:
    table = pd.DataFrame({"volume_id": ["b", "b", "a"], "z_mm": [0.0, 2.0, 7.0]})
    features = position_features_by_volume(table)
    np.testing.assert_array_equal(features, [[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]])


@pytest.mark.parametrize("baseline", [by_base_rate, by_position])
def test_labels_of_a_fold_do_not_change_its_own_scores(
    baseline: Callable[[GroundTruth, np.ndarray], np.ndarray], truth: GroundTruth
) -> None:
    in_fold = truth.fold == 1
    inverted = np.where(in_fold[:, None], 1 - truth.target, truth.target)
    before, after = baseline(truth, truth.target), baseline(truth, inverted)
    np.testing.assert_array_equal(before[in_fold], after[in_fold])
    assert not np.array_equal(before[~in_fold], after[~in_fold])


def test_the_base_rate_is_that_of_the_other_folds(truth: GroundTruth) -> None:
    prob = base_rate(truth.target, truth.fold)
    others = truth.target[truth.fold != 0, ANY_INDEX]
    expected = (others.sum() + 0.5) / (len(others) + 1)  # one half-positive slice is added
    np.testing.assert_allclose(prob[truth.fold == 0, ANY_INDEX], expected)


def test_position_alone_finds_the_slices_that_bleed_more_often(truth: GroundTruth) -> None:
    prob = by_position(truth, truth.target)[:, ANY_INDEX]
    middle = truth.table["slice_index"].between(4, 7).to_numpy()
    assert prob[middle].min() > prob[~middle].max()


def test_position_alone_gives_the_rate_of_a_label_that_no_training_slice_has(
    truth: GroundTruth,
) -> None:
    k = LABELS.index("subarachnoid")
    prob = by_position(truth, truth.target)
    np.testing.assert_array_equal(prob[:, k], base_rate(truth.target, truth.fold)[:, k])


def test_label_continuity_by_hand() -> None:
    """Fold 1 is scored by fold 0: there, slices above a bleed bleed in 1 of 2, others in 1 of 3."""
    any_label = np.array([0, 0, 1, 1, 0, 0, 0, 1, 0, np.nan, 1], dtype=float)
    target = np.repeat(any_label[:, None], len(LABELS), axis=1)
    fold = np.array([0] * 6 + [1] * 5)
    volume = np.array(["a"] * 6 + ["b"] * 5)

    scored = label_continuity(target, fold, volume)[6:, 0]
    rate = (2 + 0.5) / (6 + 1)
    above_bleed, above_none = (1 + 0.5) / (2 + 1), (1 + 0.5) / (3 + 1)
    # The lowest slice, and the one above an unlabelled slice, get the base rate.
    np.testing.assert_allclose(scored, [rate, above_none, above_bleed, above_none, rate])


def test_a_rolling_mean_improves_noisy_scores_and_stays_within_a_series(
    truth: GroundTruth,
) -> None:
    noisy = scores(truth, 1.0)[0]
    averaged = rolling_mean(noisy, truth.target, truth.fold, truth.volume)
    assert weighted_log_loss(averaged, truth.target) < weighted_log_loss(noisy, truth.target)

    changed = np.where((truth.volume == "v00")[:, None], 1 - noisy, noisy)
    same_width = rolling_mean(changed, truth.target, truth.fold, truth.volume)
    np.testing.assert_array_equal(
        averaged[truth.volume == "v05"], same_width[truth.volume == "v05"]
    )  # v05 is in the fold of v00, so its width does not depend on v00 either


def test_a_rolling_mean_leaves_perfect_scores_alone(truth: GroundTruth) -> None:
    averaged = rolling_mean(truth.target, truth.target, truth.fold, truth.volume)
    np.testing.assert_array_equal(averaged, truth.target)
