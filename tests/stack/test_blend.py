"""A blend takes the experts that are right, and HU where they know more."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from ich3d.core.labels import LABELS
from ich3d.core.metrics import log_losses, logit, sigmoid
from ich3d.prepare.hu_features import HU_FEATURES
from ich3d.stack.blend import HU_C, MIN_GROUPS_TO_CHOOSE, MIN_SD, Blend, fit_blend, fit_hu
from ich3d.stack.features import build_features
from tests.helpers.hu_features import brain_features

N_GROUPS, N_SLICES = 24, 20
Z_MM = 5.0 * np.arange(N_SLICES)
GROUP = np.repeat(np.arange(N_GROUPS), N_SLICES)
FOLD = GROUP % 3


def truth(seed: int = 0) -> np.ndarray:
    """Labels (N,) of one label, one slice in four positive."""
    return (np.random.default_rng(seed).random(len(GROUP)) < 0.25).astype(float)


def features_of(y: np.ndarray, says: dict[str, float], seed: int = 1) -> pd.DataFrame:
    """Features in which each expert tells `y` (N,) so well: 0 is noise, larger is better."""
    rng = np.random.default_rng(seed)
    tables = []
    for group in range(N_GROUPS):
        rows = group == GROUP
        signal = np.where(y[rows] > 0.5, 1.0, -1.0)
        prob = {
            stage: np.tile(
                sigmoid(says[stage] * signal + rng.normal(0, 1, N_SLICES) - 1)[:, None],
                len(LABELS),
            )
            for stage in ("encoder", "context")
        }
        hu_features = brain_features(N_SLICES, group)
        dense = HU_FEATURES.index("dense_deep_cm2")
        hu_features[:, dense] = np.exp(says["hu"] * signal + rng.normal(0, 1, N_SLICES))
        tables.append(build_features(prob, Z_MM, 15.0, hu_features))
    return pd.concat(tables, ignore_index=True)


@pytest.mark.parametrize("best", ["encoder", "context", "hu"])
def test_the_expert_that_knows_more_gets_most(best: str) -> None:
    y = truth()
    says = {"encoder": 0.0, "context": 0.0, "hu": 0.0, best: 2.0}
    blend, _ = fit_blend("any", features_of(y, says), y, GROUP, FOLD)
    assert max(blend.weights, key=lambda expert: blend.weights[expert]) == best
    assert sum(blend.weights.values()) == pytest.approx(1)


def test_three_that_err_differently_do_better_together() -> None:
    y = truth()
    features = features_of(y, {"encoder": 1.0, "context": 1.0, "hu": 1.0})
    blend, held_out = fit_blend("any", features, y, GROUP, FOLD)
    assert sum(weight > 0 for weight in blend.weights.values()) >= 2
    alone = log_losses(sigmoid(features["context.any.own"].to_numpy(float)), y).mean()
    assert log_losses(sigmoid(held_out), y).mean() < 0.9 * alone


def test_with_few_patients_all_have_equal_shares() -> None:
    y = truth()
    y[GROUP >= MIN_GROUPS_TO_CHOOSE - 1] = 0
    says = {"encoder": 0.0, "context": 3.0, "hu": 0.0}
    blend, _ = fit_blend("any", features_of(y, says), y, GROUP, FOLD)
    assert list(blend.weights.values()) == pytest.approx([1 / 3] * 3)


def test_without_columns_of_hu_the_stages_alone_are_blended() -> None:
    y = truth()
    features = features_of(y, {"encoder": 1.0, "context": 1.0, "hu": 1.0})
    stages = features[[name for name in features if not str(name).startswith("hu.")]]
    blend, _ = fit_blend("any", stages, y, GROUP, FOLD)
    assert set(blend.weights) == {"encoder", "context"}
    assert blend.hu is None


def test_an_expert_without_a_share_is_not_read() -> None:
    y = truth()
    features = features_of(y, {"encoder": 0.0, "context": 2.0, "hu": 0.0})
    blend = Blend({"encoder": 0.0, "context": 1.0, "hu": 0.0}, None)
    expected = features["context.any.own"].to_numpy(float)
    np.testing.assert_array_equal(blend.logits("any", features), expected)


def test_the_regression_on_hu_is_that_of_scikit_learn() -> None:
    y = truth()
    features = features_of(y, {"encoder": 0.0, "context": 0.0, "hu": 1.0})
    hu = features[[name for name in features if str(name).startswith("hu.")]]
    values = hu.to_numpy(float)
    shortened = np.sign(values) * np.log1p(np.abs(values))
    scaled = shortened - np.nanmean(shortened, axis=0)
    scaled = np.nan_to_num(scaled / (np.nanstd(shortened, axis=0) + MIN_SD))
    expected = LogisticRegression(C=HU_C, max_iter=2000).fit(scaled, y).decision_function(scaled)
    np.testing.assert_allclose(fit_hu(hu, y).logits(features), expected, atol=1e-6)


@settings(max_examples=10)
@given(st.integers(0, 200))
def test_what_hu_say_of_a_slice_is_from_other_folds(seed: int) -> None:
    """With labels that are noise, held-out HU cannot do better than the rate."""
    y = truth(seed)
    features = features_of(y, {"encoder": 0.0, "context": 0.0, "hu": 0.0}, seed + 1000)
    weights = {"hu": 1.0}
    hu = [name for name in features if str(name).startswith("hu.")]
    blend, held_out = fit_blend("any", features[hu], y, GROUP, FOLD)
    assert blend.weights == weights
    rate = log_losses(np.full(len(y), y.mean()), y).mean()
    assert log_losses(sigmoid(held_out), y).mean() > rate - 0.02
    assert np.isfinite(logit(sigmoid(held_out))).all()


def test_a_neighbour_that_is_not_there_says_nothing() -> None:
    """Its columns count as their means: a missing value is no sign for or against a bleed."""
    y = truth()
    features = features_of(y, {"encoder": 0.0, "context": 0.0, "hu": 1.0})
    hu = features[[name for name in features if str(name).startswith("hu.")]]
    regression = fit_hu(hu, y)
    column = "hu.dense_deep_cm2.below_5mm"
    means = hu.assign(**{column: np.expm1(regression.means[column])})
    missing = hu.assign(**{column: np.nan})
    np.testing.assert_allclose(regression.logits(missing), regression.logits(means), atol=1e-6)
    nothing = regression.logits(missing.assign(**dict.fromkeys(map(str, hu), np.nan)))
    np.testing.assert_allclose(nothing, regression.bias)
