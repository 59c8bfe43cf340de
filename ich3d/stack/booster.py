"""One LightGBM a label that corrects the context logit; boosted, calibrated, kept only where it helps.

The context logit is the booster's starting score, so no tree means no change. How many trees, the
calibration, and whether the result is kept at all are decided on inner folds of the training groups.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import lightgbm as lgb
import numpy as np
import pandas as pd
from scipy.optimize import minimize

from ich3d.config.schema import StackConfig
from ich3d.core.labels import ANY, LABELS, SUBTYPES
from ich3d.core.metrics import log_losses, logit, sigmoid
from ich3d.stack.features import DECIMALS, columns_of

START, AVERAGE = "start", "average"  # of a stacker's contributions, what no column gives
MIN_GROUPS_TO_CALIBRATE = 8  # positive groups below which two parameters cannot be told from noise


@dataclass(frozen=True)
class LabelStack:
    """What is kept for one label: trees over `columns`, then logit -> scale * logit + shift.

    `is_kept` False means the score of the stage before stands. The losses are those that decided: the
    stacker's and that stage's mean log loss on inner patients, with the standard error of their difference;
    zero where the label has one class and there was nothing to decide.
    """

    label: str
    is_kept: bool
    columns: tuple[str, ...]
    trees: str
    scale: float
    shift: float
    inner_loss: float
    inner_start_loss: float
    inner_se: float

    @cached_property
    def booster(self) -> lgb.Booster:
        """The trees, read once."""
        return lgb.Booster(model_str=self.trees)

    def score(self, features: pd.DataFrame, start: np.ndarray) -> np.ndarray:
        """Probability (N,) of this label, from those of the stage before (N,)."""
        if not self.is_kept:
            return start
        raw = np.round(logit(start), DECIMALS) + _raw(self.booster, features[list(self.columns)])
        return sigmoid(self.scale * raw + self.shift)

    def contributions(self, features: pd.DataFrame, start: np.ndarray) -> pd.DataFrame:
        """What the logit before calibration is the sum of, a row a slice: `START`, the logit of the stage
        before; `AVERAGE`, the trees' mean answer; and what each column adds to these (exact TreeSHAP,
        Lundberg et al., Nature Machine Intelligence 2020). `START` alone where no stacker is kept."""
        if not self.is_kept:
            return pd.DataFrame({START: logit(start)})
        added = self.booster.predict(features[list(self.columns)], pred_contrib=True)
        table = pd.DataFrame(added, columns=[*self.columns, AVERAGE])
        return table.assign(**{START: np.round(logit(start), DECIMALS)})


def score_stack(
    stack: Mapping[str, LabelStack], features: pd.DataFrame, start: np.ndarray
) -> np.ndarray:
    """Probabilities float32 (N, K) over those of the stage before, each label for itself."""
    columns = [stack[label].score(features, start[:, k]) for k, label in enumerate(LABELS)]
    return np.stack(columns, axis=1).astype(np.float32)


def coherent(prob: np.ndarray) -> np.ndarray:
    """Probabilities (..., K) with `any` raised to the largest subtype where it lies below."""
    mended = prob.copy()
    subtypes = [LABELS.index(label) for label in SUBTYPES]
    mended[..., LABELS.index(ANY)] = np.maximum(
        prob[..., LABELS.index(ANY)], prob[..., subtypes].max(axis=-1)
    )
    return mended


@dataclass(frozen=True)
class StackRows:
    """Rows that a stacker is fitted on: features (N, F), the probabilities (N, K) of the stage
    before, targets (N, K), the patient group and the outer fold of each."""

    features: pd.DataFrame
    start: np.ndarray
    target: np.ndarray
    group: np.ndarray
    fold: np.ndarray


KeepRule = Callable[[float, float], bool]


def where_it_helps(gain: float, se: float) -> bool:
    """Keep what gains more on inner patients than its own standard error (Breiman et al., 1984)."""
    return gain > se


def always(gain: float, se: float) -> bool:
    """Keep whatever was fitted: a control that shows what the rule is worth."""
    return True


def fit_stack(
    rows: StackRows, config: StackConfig, seed: int, keep: KeepRule = where_it_helps
) -> dict[str, LabelStack]:
    """The stack of every label, kept where `keep` says so of its gain and the gain's standard error."""
    return {label: _fit_label(label, rows, config, seed, keep) for label in LABELS}


def _fit_label(
    label: str, rows: StackRows, config: StackConfig, seed: int, keep: KeepRule
) -> LabelStack:
    k = LABELS.index(label)
    known = ~np.isnan(rows.target[:, k])
    columns = columns_of(label, list(rows.features.columns))
    x, y = rows.features.loc[known, columns], rows.target[known, k]
    start = np.round(logit(rows.start[known, k]), DECIMALS)
    group, fold = rows.group[known], rows.fold[known]
    positive_groups = len(np.unique(group[y > 0.5]))
    if len(np.unique(y)) < 2:
        return LabelStack(label, False, tuple(columns), "", 1.0, 0.0, 0.0, 0.0, 0.0)

    def grow(train: np.ndarray, trees: int) -> lgb.Booster:
        data = lgb.Dataset(x[train], y[train], init_score=start[train], free_raw_data=False)
        return lgb.train(_parameters(config, seed), data, num_boost_round=trees)

    counts = _tree_counts(config.num_trees)
    held_out = np.zeros((len(counts), len(y)))
    for inner in np.unique(fold):
        train, test = fold != inner, fold == inner
        if len(np.unique(y[train])) < 2:
            continue
        booster = grow(train, counts[-1])
        for row, count in zip(held_out, counts, strict=True):
            row[test] = _raw(booster, x[test], count)
    losses = [_loss(start + raw, y).mean() for raw in held_out]
    best = int(np.argmin(losses))
    raw = start + held_out[best]
    can_calibrate = positive_groups >= MIN_GROUPS_TO_CALIBRATE
    calibrated = _cross_calibrated(raw, y, fold) if can_calibrate else raw
    gain = _loss(start, y) - _loss(calibrated, y)
    se = _paired_se(gain, group)
    scale, shift = _platt(raw, y) if can_calibrate else (1.0, 0.0)
    is_kept = positive_groups > 1 and keep(float(gain.mean()), se)
    return LabelStack(
        label=label,
        is_kept=is_kept,
        columns=tuple(columns),
        trees=grow(np.ones(len(y), dtype=bool), counts[best]).model_to_string() if is_kept else "",
        scale=scale,
        shift=shift,
        inner_loss=float(_loss(calibrated, y).mean()),
        inner_start_loss=float(_loss(start, y).mean()),
        inner_se=se,
    )


def _parameters(config: StackConfig, seed: int) -> dict[str, object]:
    return {
        "objective": "binary",
        "learning_rate": config.learning_rate,
        "num_leaves": config.num_leaves,
        "min_data_in_leaf": config.min_data_in_leaf,
        "lambda_l2": 10.0,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "boost_from_average": False,
        "deterministic": True,
        "force_row_wise": True,
        "seed": seed % 2**31,
        "verbosity": -1,
    }


def _tree_counts(most: int) -> list[int]:
    """Numbers of trees that are tried: `most`, and halves of it down to about five."""
    counts = [most]
    while counts[0] >= 10:
        counts.insert(0, counts[0] // 2)
    return counts


def _raw(booster: lgb.Booster, features: pd.DataFrame, trees: int | None = None) -> np.ndarray:
    return np.asarray(booster.predict(features, raw_score=True, num_iteration=trees))


def _loss(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    return log_losses(sigmoid(logits), y)


def _platt(logits: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Scale and shift of the logit that fit best, held near (1, 0) by a weak prior (Platt 1999)."""

    def cost(ab: np.ndarray) -> float:
        prior = (ab[0] - 1) ** 2 + ab[1] ** 2
        return float(_loss(ab[0] * logits + ab[1], y).sum() + prior)

    scale, shift = minimize(cost, np.array([1.0, 0.0]), method="Nelder-Mead").x
    return float(scale), float(shift)


def _cross_calibrated(logits: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Each fold's logits calibrated on the other folds."""
    result = np.empty_like(logits)
    for inner in np.unique(fold):
        test = fold == inner
        scale, shift = _platt(logits[~test], y[~test])
        result[test] = scale * logits[test] + shift
    return result


def _paired_se(gain: np.ndarray, group: np.ndarray) -> float:
    """Standard error of the mean of `gain` (N,), patients being the units."""
    _, index = np.unique(group, return_inverse=True)
    residual = np.bincount(index, gain - gain.mean())
    count = len(residual)
    return float(np.sqrt((residual**2).sum() * count / max(1, count - 1)) / len(gain))
