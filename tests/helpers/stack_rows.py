"""Slices with random scores that a stacker is trained on."""

import numpy as np
import pandas as pd

from ich3d.core.labels import LABELS
from ich3d.core.metrics import sigmoid
from ich3d.stack.booster import StackRows
from ich3d.stack.features import build_features

N_GROUPS, N_SLICES = 30, 20
Z_MM = 5.0 * np.arange(N_SLICES)
REACH_MM = 15.0


def random_context_prob(seed: int = 0) -> np.ndarray:
    """Probabilities float32 (groups, Z, K) of one series for each patient group."""
    shape = (N_GROUPS, N_SLICES, len(LABELS))
    logits = np.random.default_rng(seed).integers(-3000, 3000, shape) / 1000
    return sigmoid(logits).astype(np.float32)


def features_of(context_prob: np.ndarray) -> pd.DataFrame:
    """The stacker's features of one series with these context scores (Z, K).

    The encoder's scores are 0.5 everywhere.
    """
    prob = {"encoder": np.full(context_prob.shape, 0.5), "context": context_prob}
    return build_features(prob, Z_MM, REACH_MM)


def stack_rows(context_prob: np.ndarray, target: np.ndarray) -> StackRows:
    """All slices with these context scores and labels (groups, Z, K), in three folds."""
    features = [features_of(series_prob) for series_prob in context_prob]
    group_index = np.repeat(np.arange(N_GROUPS), N_SLICES)
    return StackRows(
        features=pd.concat(features, ignore_index=True),
        start_prob=context_prob.reshape(-1, len(LABELS)),
        target=target.reshape(-1, len(LABELS)),
        group=np.array([f"p{index}" for index in group_index]),
        fold=group_index % 3,
    )


def predictable_rows() -> StackRows:
    """Rows in which the context score of the slice below decides each label."""
    context_prob = random_context_prob()
    target = np.zeros_like(context_prob)
    target[:, 1:] = context_prob[:, :-1] > 0.5
    return stack_rows(context_prob, target)


def unpredictable_rows() -> StackRows:
    """Rows whose labels are drawn from the context scores, so that no model can do better."""
    context_prob = random_context_prob(15)
    is_positive = np.random.default_rng(7).random(context_prob.shape) < context_prob
    return stack_rows(context_prob, is_positive.astype(float))
