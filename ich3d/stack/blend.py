"""What a stacker starts from: a blend, in logits, of encoder, context and what HU say.

The three err differently. HU know nothing of shapes, but blood has the same HU on every scanner.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from ich3d.core.labels import STAGES
from ich3d.core.metrics import log_losses, sigmoid
from ich3d.stack.features import HU

STEPS: Final = 4
"""Weights of a blend are multiples of a quarter."""

MIN_GROUPS_TO_CHOOSE: Final = 8
"""With fewer patient groups that have the label, weights are noise, and all are made equal."""

HU_C: Final = 0.01
"""scikit-learn's C of the regression on HU, on columns of unit variance."""

MIN_SD: Final = 1e-3


@dataclass(frozen=True)
class HuRegression:
    """One label's logistic regression on the HU columns of the stacker's features.

    Columns enter as sign(x) * log(1 + |x|), for areas have long tails, less their mean. A missing
    value counts as the mean, so that a neighbour that is not there says nothing.

    Attributes:
        weights: what the logit grows by for each column, by name.
        means: the mean of each column in training, by name.
        bias: the logit where all columns have their means.
    """

    weights: Mapping[str, float]
    means: Mapping[str, float]
    bias: float

    def logits(self, features: pd.DataFrame) -> np.ndarray:
        """Logits (N,) of the slices of the stacker's table of features."""
        names = list(self.weights)
        above_mean = _hu_values(features, names) - np.array([self.means[name] for name in names])
        weights = np.array([self.weights[name] for name in names])
        return np.asarray(np.nan_to_num(above_mean) @ weights + self.bias)


@dataclass(frozen=True)
class Blend:
    """One label's blend: a weighted mean of logits.

    Attributes:
        weights: share of each expert, which sum to one: `encoder`, `context`, `hu`.
        hu: the regression behind `hu`; None where its share is zero.
    """

    weights: Mapping[str, float]
    hu: HuRegression | None

    def logits(self, label: str, features: pd.DataFrame) -> np.ndarray:
        """Logits (N,) of the slices of the stacker's table of features."""
        total = np.zeros(len(features))
        for expert, weight in self.weights.items():
            if weight:
                total += weight * self._expert(expert, label, features)
        return total

    def columns(self, label: str) -> set[str]:
        """The columns of the stacker's table that the blend of one label reads."""
        hu = set() if self.hu is None or not self.weights.get(HU) else set(self.hu.weights)
        return hu | {f"{name}.{label}.own" for name, w in self.weights.items() if w and name != HU}

    def _expert(self, expert: str, label: str, features: pd.DataFrame) -> np.ndarray:
        if expert != HU:
            return features[f"{expert}.{label}.own"].to_numpy(float)
        assert self.hu is not None
        return self.hu.logits(features)


def fit_blend(
    label: str, features: pd.DataFrame, y: np.ndarray, group: np.ndarray, fold: np.ndarray
) -> tuple[Blend, np.ndarray]:
    """The blend of one label that is best on slices that no expert was trained on.

    Args:
        label: the label.
        features: the stacker's features of N labelled slices; the scores in them are held out.
        y: the label (N,), both classes among it.
        group: patient group (N,).
        fold: fold (N,); the regression on HU scores each from the others.

    Returns:
        The blend, and the held-out logits (N,) that it gives to these slices.
    """
    held_out = {
        stage: features[f"{stage}.{label}.own"].to_numpy(float)
        for stage in STAGES
        if f"{stage}.{label}.own" in features
    }
    hu_columns = [str(name) for name in features.columns if str(name).startswith(f"{HU}.")]
    if hu_columns:
        held_out[HU] = _held_out_hu(features[hu_columns], y, fold)

    experts = list(held_out)
    logits = np.stack([held_out[expert] for expert in experts])  # (E, N)
    candidates = _weights(len(experts))
    if len(np.unique(group[y > 0.5])) < MIN_GROUPS_TO_CHOOSE:
        candidates = [np.full(len(experts), 1 / len(experts))]
    losses = [log_losses(sigmoid(weights @ logits), y).mean() for weights in candidates]
    best = candidates[int(np.argmin(losses))]

    weights = dict(zip(experts, best.tolist(), strict=True))
    hu = fit_hu(features[hu_columns], y) if weights.get(HU) else None
    return Blend(weights, hu), best @ logits


def fit_hu(features: pd.DataFrame, y: np.ndarray) -> HuRegression:
    """The regression of one label (N,), both classes among it, on HU columns."""
    names = [str(name) for name in features.columns]
    columns = _hu_values(features, names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column may have no value at all
        mean = np.nan_to_num(np.nanmean(columns, axis=0))
        sd = np.nan_to_num(np.nanstd(columns, axis=0)) + MIN_SD
    regression = LogisticRegression(C=HU_C, max_iter=2000)
    regression.fit(np.nan_to_num((columns - mean) / sd), y)
    weights = regression.coef_[0] / sd
    return HuRegression(
        weights=dict(zip(names, weights.tolist(), strict=True)),
        means=dict(zip(names, mean.tolist(), strict=True)),
        bias=float(regression.intercept_[0]),
    )


def _held_out_hu(features: pd.DataFrame, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Logits (N,) of each fold by a regression on the others, or their rate where they have one
    class.
    """
    logits = np.empty(len(y))
    for held_out_fold in np.unique(fold):
        is_held_out = fold == held_out_fold
        others = y[~is_held_out]
        if len(np.unique(others)) == 2:
            regression = fit_hu(features[~is_held_out], others)
            logits[is_held_out] = regression.logits(features[is_held_out])
        else:
            rate = (others.sum() + 0.5) / (len(others) + 1)
            logits[is_held_out] = np.log(rate / (1 - rate))
    return logits


def _hu_values(features: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """The HU columns (N, F) with shorter tails; NaN where a value is missing."""
    values = features[list(names)].to_numpy(float)
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)))


def _weights(n_experts: int) -> list[np.ndarray]:
    """All weights of so many experts that are multiples of 1 / STEPS and sum to one."""
    shares = product(range(STEPS + 1), repeat=n_experts)
    return [np.array(share) / STEPS for share in shares if sum(share) == STEPS]
