"""A recalibration moves the labels that it keeps, and no other score."""

import json

import numpy as np
import pytest

from ich3d.core.labels import ANY, LABELS, label_index
from ich3d.core.metrics import logit
from ich3d.model.recalibration import LabelRecalibration, Recalibration
from ich3d.prepare.hu_features import BRAIN_CM2, NO_BRAIN_PROB
from tests.helpers.hu_features import brain_features
from tests.helpers.recalibrations import recalibration_of

N_SLICES = 5
FEATURES = brain_features(N_SLICES)


@pytest.fixture
def prob() -> np.ndarray:
    """Probabilities float32 (Z, K) with `any` above all subtypes."""
    prob = np.random.default_rng(0).uniform(0.1, 0.5, (N_SLICES, len(LABELS))).astype(np.float32)
    prob[:, LABELS.index(ANY)] = 0.6
    return prob


def test_a_kept_label_gets_its_scale_and_shift(prob: np.ndarray) -> None:
    k = label_index("subdural")
    changed = recalibration_of(subdural=(0.5, -0.7)).apply(prob, FEATURES)
    np.testing.assert_allclose(logit(changed[:, k]), 0.5 * logit(prob[:, k]) - 0.7, atol=1e-5)
    others = [index for index in range(len(LABELS)) if index != k]
    np.testing.assert_array_equal(changed[:, others], prob[:, others])
    assert changed.dtype == prob.dtype


def test_nothing_kept_changes_no_bit(prob: np.ndarray) -> None:
    np.testing.assert_array_equal(recalibration_of().apply(prob, FEATURES), prob)


def test_any_stays_at_least_the_largest_subtype(prob: np.ndarray) -> None:
    changed = recalibration_of(subdural=(1.0, 5.0)).apply(prob, FEATURES)
    assert (changed[:, label_index("subdural")] > 0.9).all()
    np.testing.assert_array_equal(changed[:, LABELS.index(ANY)], changed[:, :-1].max(axis=1))


def test_a_slice_without_brain_still_gets_next_to_nothing(prob: np.ndarray) -> None:
    features = FEATURES.copy()
    features[2, BRAIN_CM2] = 0
    changed = recalibration_of(any=(1.0, 3.0)).apply(prob, features)
    np.testing.assert_allclose(changed[2], NO_BRAIN_PROB)
    assert changed[1, LABELS.index(ANY)] > prob[1, LABELS.index(ANY)]


def test_it_comes_back_from_json() -> None:
    recalibration = recalibration_of(epidural=(0.8, 0.1))
    tree = json.loads(json.dumps(recalibration.as_dict()))
    assert Recalibration.from_dict(tree) == recalibration
    assert recalibration.kept == ["epidural"]
    assert isinstance(recalibration.by_label["any"], LabelRecalibration)
