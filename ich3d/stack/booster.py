"""LightGBM boosters on top of a blend, one for each label, kept only where they help.

The blend's logit is a booster's starting score, so no tree means no change. The blend, the number
of trees, the calibration, whether the trees are kept, and a temperature toward the base rate are
decided by cross-validation over the training folds.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final

import lightgbm as lgb
import numpy as np
import pandas as pd
from scipy.optimize import minimize

from ich3d.config.schema import StackConfig
from ich3d.core.arguments import as_prob, require_type
from ich3d.core.errors import DataError
from ich3d.core.labels import ANY, LABELS, SUBTYPES
from ich3d.core.metrics import log_losses, logit, sigmoid
from ich3d.stack.blend import Blend, HuRegression, fit_blend
from ich3d.stack.features import DECIMALS, columns_of

START: Final = "start"
AVERAGE: Final = "average"
"""The two contributions to a stacker's logit that come from no column."""

MIN_GROUPS_TO_CALIBRATE: Final = 8
"""Patient groups with the label below which neither two calibration parameters, nor a temperature,
nor a gain can be told from noise.
"""

ROWS_WORTH_THREADS: Final = 50_000
"""Fewer rows are trained on in one thread. Threads gain nothing on a few thousand, and wait for
each other in a busy loop, which beside another program takes many times as long.
"""

TEMPERATURES: Final = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Factors of a logit's distance from the base rate, the most cautious first."""

RENAMED_FIELDS: Final = {
    "inner_loss": "validation_loss",
    "inner_start_loss": "validation_start_loss",
    "inner_se": "validation_gain_se",
}
"""Fields of `LabelStacker` that version 0.1 saved under other names."""


@dataclass(frozen=True)
class LabelStacker:
    """The stacker of one label: a blend, trees over `columns`, then logit -> scale * logit + shift.

    Scale and shift are the calibration of the trees, where they are kept, followed by the
    temperature.

    Attributes:
        label: the label.
        is_kept: False where the trees do not help, and the blend stands.
        columns: the features that the trees read, by name.
        trees: the LightGBM model as text; empty where it is not kept.
        scale: factor of the logit.
        shift: what is added to the logit.
        validation_loss: the stacker's mean log loss on patients that it had not seen.
        validation_start_loss: that of the stage before, on the same patients.
        validation_gain_se: standard error over patients of what the trees gain on the blend. The
            three are zero where the label has only one class and there was nothing to decide.
        blend: what the trees start from; None for the stage before alone.
    """

    label: str
    is_kept: bool
    columns: tuple[str, ...]
    trees: str
    scale: float
    shift: float
    validation_loss: float
    validation_start_loss: float
    validation_gain_se: float
    blend: Blend | None = None

    @classmethod
    def not_kept(cls, label: str, columns: tuple[str, ...] = ()) -> "LabelStacker":
        """A stacker that changes nothing."""
        return cls(label, False, columns, "", 1.0, 0.0, 0.0, 0.0, 0.0)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "LabelStacker":
        """What `as_dict` wrote, in this version or in version 0.1."""
        renamed = {RENAMED_FIELDS.get(name, name): value for name, value in fields.items()}
        blend = renamed.get("blend")  # new in version 0.3
        if blend is not None:
            hu = blend["hu"]
            blend = Blend(blend["weights"], None if hu is None else HuRegression(**hu))
        return cls(**{**renamed, "columns": tuple(renamed["columns"]), "blend": blend})

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON-ready data."""
        return asdict(self)

    @cached_property
    def booster(self) -> lgb.Booster:
        """The trees, parsed once."""
        return lgb.Booster(model_str=self.trees)

    @property
    def read_columns(self) -> set[str]:
        """The columns of features that a score is made of."""
        of_blend = set() if self.blend is None else self.blend.columns(self.label)
        return of_blend | set(self.columns if self.is_kept else ())

    def score(self, features: pd.DataFrame, start_prob: np.ndarray) -> np.ndarray:
        """Probability of the label (N,), from `features` and the probability of the stage
        before (N,).
        """
        if not self.is_kept and self.blend is None:
            return start_prob
        logits = self._start(features, start_prob)
        if self.is_kept:
            logits = logits + _tree_logits(self.booster, features[list(self.columns)])
        return sigmoid(self.scale * logits + self.shift)

    def _start(self, features: pd.DataFrame, start_prob: np.ndarray) -> np.ndarray:
        """The logits (N,) that the trees start from."""
        if self.blend is None:
            return np.round(logit(start_prob), DECIMALS)
        return self.blend.logits(self.label, features)

    def contributions(self, features: pd.DataFrame, start_prob: np.ndarray) -> pd.DataFrame:
        """What the logit before calibration is the sum of, one row a slice.

        `START` is the blend's logit, or that of the stage before; `AVERAGE` the trees' mean; each
        column of features has what it adds to these: exact TreeSHAP (Lundberg et al., Nature
        Machine Intelligence 2020). `START` alone where no trees are kept.
        """
        if not self.is_kept:
            is_blend = self.blend is not None
            start = self._start(features, start_prob) if is_blend else logit(start_prob)
            return pd.DataFrame({START: start})
        shap = self.booster.predict(features[list(self.columns)], pred_contrib=True)
        table = pd.DataFrame(shap, columns=[*self.columns, AVERAGE])
        return table.assign(**{START: self._start(features, start_prob)})


@dataclass(frozen=True)
class Stacker:
    """The stackers of all labels: features and context scores in, refined probabilities out.

    Attributes:
        by_label: each label's stacker.
        reach_mm: how far on each side the features read neighbours.

    Examples:
        >>> unchanged = Stacker.empty()
        >>> start = np.full((2, 6), 0.25)
        >>> bool((unchanged.score(pd.DataFrame(index=range(2)), start) == start).all())
        True
    """

    by_label: Mapping[str, LabelStacker]
    reach_mm: float = StackConfig().reach_mm

    @classmethod
    def empty(cls) -> "Stacker":
        """A stacker that keeps no label, and so returns what it is given."""
        return cls({label: LabelStacker.not_kept(label) for label in LABELS})

    def score(self, features: pd.DataFrame, start_prob: np.ndarray) -> np.ndarray:
        """Probabilities float32 (N, K), each label by itself.

        Args:
            features: the table of `features.build_features`, N rows.
            start_prob: probabilities of the stage before (N, K).

        Raises:
            DataError: a column that a label reads is missing, or `start_prob` is not (N, K) within
                0..1.
        """
        require_type("features", features, pd.DataFrame)
        start_prob = as_prob("start_prob", start_prob, len(features))
        self._require_columns(features)
        columns = [
            self.by_label[label].score(features, start_prob[:, k]) for k, label in enumerate(LABELS)
        ]
        return np.stack(columns, axis=1).astype(np.float32)

    def _require_columns(self, features: pd.DataFrame) -> None:
        """DataError unless `features` has all that the kept trees read."""
        for label, stacker in self.by_label.items():
            missing = stacker.read_columns - set(features.columns)
            if missing:
                raise DataError(
                    f"features lacks the column {min(missing)}, which the stacker of {label} reads"
                )


def coherent(prob: np.ndarray) -> np.ndarray:
    """Probabilities (..., K) with `any` raised to the largest subtype where it lies below."""
    any_index, subtypes = LABELS.index(ANY), [LABELS.index(label) for label in SUBTYPES]
    raised = prob.copy()
    raised[..., any_index] = np.maximum(prob[..., any_index], prob[..., subtypes].max(axis=-1))
    return raised


@dataclass(frozen=True)
class StackRows:
    """The N slices that a stacker is trained on.

    Attributes:
        features: the table of `features.build_features`.
        start_prob: probabilities of the stage before (N, K).
        target: labels (N, K), NaN where there is none.
        group: patient group (N,).
        fold: outer fold (N,).
    """

    features: pd.DataFrame
    start_prob: np.ndarray
    target: np.ndarray
    group: np.ndarray
    fold: np.ndarray


KeepRule = Callable[[float, float, int], bool]
"""Whether to keep trees, from their gain in log loss on validation patients, the gain's standard
error, and the number of patient groups that have the label.
"""


def where_it_helps(gain: float, se: float, n_positive_groups: int) -> bool:
    """Keep a gain that is larger than its own standard error (Breiman et al., 1984), if enough
    patients have the label for that error to mean anything.
    """
    return gain > se and n_positive_groups >= MIN_GROUPS_TO_CALIBRATE


def always(gain: float, se: float, n_positive_groups: int) -> bool:
    """Keep whatever was trained on more than one patient: a control that shows what the rule is
    worth.
    """
    return n_positive_groups > 1


def never(gain: float, se: float, n_positive_groups: int) -> bool:
    """Keep no trees: a control that shows what the blend alone is worth."""
    return False


def fit_stacker(
    rows: StackRows, config: StackConfig, seed: int, keep: KeepRule = where_it_helps
) -> Stacker:
    """Train the stacker of every label and keep it where `keep` says so.

    Args:
        rows: slices scored by a stage that was not trained on their patients.
        config: trees and learning rate.
        seed: LightGBM's seed.
        keep: decides from a gain and its standard error.
    """
    by_label = {label: _fit_label(label, rows, config, seed, keep) for label in LABELS}
    return Stacker(by_label, config.reach_mm)


def _fit_label(
    label: str, rows: StackRows, config: StackConfig, seed: int, keep: KeepRule
) -> LabelStacker:
    """The stacker of one label, from the rows that have it."""
    k = LABELS.index(label)
    is_known = ~np.isnan(rows.target[:, k])
    columns = columns_of(label, list(rows.features.columns))
    x, y = rows.features.loc[is_known, columns], rows.target[is_known, k]
    before = np.round(logit(rows.start_prob[is_known, k]), DECIMALS)
    group, fold = rows.group[is_known], rows.fold[is_known]
    if len(np.unique(y)) < 2:
        return LabelStacker.not_kept(label, tuple(columns))
    blend, start_logit = fit_blend(label, rows.features[is_known], y, group, fold)

    def grow(is_training: np.ndarray, trees: int) -> lgb.Booster:
        """A booster on some rows, starting from the blend."""
        data = lgb.Dataset(
            x[is_training], y[is_training], init_score=start_logit[is_training], free_raw_data=False
        )
        parameters = _parameters(config, seed, n_rows=int(is_training.sum()))
        return lgb.train(parameters, data, num_boost_round=trees)

    # Each fold is scored by trees of the other folds, at several numbers of trees at once.
    tree_counts = _tree_counts(config.num_trees)
    held_out = np.zeros((len(tree_counts), len(y)))
    for validation_fold in np.unique(fold):
        is_training, is_validation = fold != validation_fold, fold == validation_fold
        if len(np.unique(y[is_training])) < 2:
            continue  # the fold keeps zeros: the blend stands there
        booster = grow(is_training, tree_counts[-1])
        for row, count in zip(held_out, tree_counts, strict=True):
            row[is_validation] = _tree_logits(booster, x[is_validation], count)
    losses = [_loss(start_logit + trees, y).mean() for trees in held_out]
    best = int(np.argmin(losses))
    raw = start_logit + held_out[best]

    # Is the gain, after calibration across folds, larger than chance?
    n_positive_groups = len(np.unique(group[y > 0.5]))
    can_calibrate = n_positive_groups >= MIN_GROUPS_TO_CALIBRATE
    calibrated = cross_calibrated(raw, y, fold) if can_calibrate else raw
    gain = _loss(start_logit, y) - _loss(calibrated, y)
    se = paired_se(gain, group)
    is_kept = keep(float(gain.mean()), se, n_positive_groups)

    scale, shift = platt(raw, y) if is_kept and can_calibrate else (1.0, 0.0)
    held_out_logits = calibrated if is_kept else start_logit
    base, temperature = _temperature(held_out_logits, y, group) if can_calibrate else (0.0, 1.0)
    all_rows = np.ones(len(y), dtype=bool)
    return LabelStacker(
        label=label,
        is_kept=is_kept,
        columns=tuple(columns),
        trees=grow(all_rows, tree_counts[best]).model_to_string() if is_kept else "",
        scale=temperature * scale,
        shift=temperature * shift + (1 - temperature) * base,
        validation_loss=float(_loss(held_out_logits, y).mean()),
        validation_start_loss=float(_loss(before, y).mean()),
        validation_gain_se=se,
        blend=blend,
    )


def _parameters(config: StackConfig, seed: int, n_rows: int) -> dict[str, object]:
    """LightGBM's parameters for so many rows; the trees do not depend on the number of threads."""
    return {
        "num_threads": 1 if n_rows < ROWS_WORTH_THREADS else 0,  # 0: as many as OpenMP has
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


def _tree_counts(largest: int) -> list[int]:
    """Numbers of trees to try, ascending: `largest`, and halves of it down to about five."""
    counts = [largest]
    while counts[0] >= 10:
        counts.insert(0, counts[0] // 2)
    return counts


def _tree_logits(
    booster: lgb.Booster, features: pd.DataFrame, trees: int | None = None
) -> np.ndarray:
    """The sum of the first `trees` trees (N,), or of all of them."""
    return np.asarray(booster.predict(features, raw_score=True, num_iteration=trees))


def _loss(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Log loss of each row (N,)."""
    return log_losses(sigmoid(logits), y)


def platt(logits: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Scale and shift of the logits (N,) that fit best, held near (1, 0) by a weak prior (Platt
    1999).
    """

    def cost(scale_and_shift: np.ndarray) -> float:
        scale, shift = scale_and_shift
        prior = (scale - 1) ** 2 + shift**2
        return float(_loss(scale * logits + shift, y).sum() + prior)

    scale, shift = minimize(cost, np.array([1.0, 0.0]), method="Nelder-Mead").x
    return float(scale), float(shift)


def cross_calibrated(logits: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Logits (N,) of each fold, calibrated on the other folds."""
    calibrated = np.empty_like(logits)
    for validation_fold in np.unique(fold):
        is_validation = fold == validation_fold
        scale, shift = platt(logits[~is_validation], y[~is_validation])
        calibrated[is_validation] = scale * logits[is_validation] + shift
    return calibrated


def _temperature(logits: np.ndarray, y: np.ndarray, group: np.ndarray) -> tuple[float, float]:
    """The base rate's logit, and the factor of held-out logits' (N,) distance from it.

    It is the most cautious factor whose loss is within one standard error of the lowest loss:
    being too sure is what costs most on a scanner that was not trained on, and patients that
    resemble the training set cannot tell such factors apart. Temperature scaling (Guo et al., ICML
    2017) around the base rate, chosen by the rule of one standard error (Breiman et al., 1984).
    """
    base = float(logit(np.array(y.mean())))
    losses = [_loss(base + factor * (logits - base), y) for factor in TEMPERATURES]  # each (N,)
    best = losses[int(np.argmin([loss.mean() for loss in losses]))]
    for factor, loss in zip(TEMPERATURES, losses, strict=True):
        if (loss - best).mean() <= paired_se(loss - best, group):
            return base, factor
    return base, TEMPERATURES[-1]


def paired_se(gain: np.ndarray, group: np.ndarray) -> float:
    """Standard error of the mean of `gain` (N,), with patient groups as the independent units."""
    _, index = np.unique(group, return_inverse=True)
    residual = np.bincount(index, gain - gain.mean())  # (G,)
    n_groups = len(residual)
    return float(np.sqrt((residual**2).sum() * n_groups / max(1, n_groups - 1)) / len(gain))
