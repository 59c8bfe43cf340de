"""The metric of the task, its parts, and intervals by resampling patient groups.

Rows are slices. `prob` and `target` are (N, K) in the order of `LABELS`; a NaN target is a slice
without that label and counts nowhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ich3d.core.labels import ANY, LABELS, SUBTYPES, weight_vector

CLIP = 1e-6  # probabilities are kept this far from 0 and 1, so that one slice cannot own the mean


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self}"

    def __format__(self, sign: str) -> str:
        """`value (low to high)`, each with a sign where `sign` is `+`."""
        return f"{self.value:{sign}.4f} ({self.low:{sign}.4f} to {self.high:{sign}.4f})"

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def logit(prob: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)) of clipped probabilities."""
    clipped = np.clip(prob.astype(np.float64), CLIP, 1 - CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64))))


def log_losses(prob: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Log loss (N, K) of each slice and label; NaN where unlabelled."""
    p = np.clip(prob.astype(np.float64), CLIP, 1 - CLIP)
    return np.asarray(-(target * np.log(p) + (1 - target) * np.log1p(-p)))


def label_log_loss(prob: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean log loss (K,) of each label; NaN where no slice has it."""
    losses = log_losses(prob, target)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(losses, axis=0) / (~np.isnan(losses)).sum(axis=0))


def weighted_mean(losses: np.ndarray) -> np.ndarray:
    """RSNA 2019's score (...) of the labels' mean log losses (..., K): `any` counts twice, a label without
    a loss not at all; NaN where none has one."""
    weight = np.where(np.isnan(losses), 0.0, weight_vector())
    with np.errstate(invalid="ignore"):
        return np.asarray((np.nan_to_num(losses) * weight).sum(axis=-1) / weight.sum(axis=-1))


def weighted_log_loss(prob: np.ndarray, target: np.ndarray) -> float:
    """RSNA 2019's score."""
    return float(weighted_mean(label_log_loss(prob, target)))


def auc(prob: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Area under the ROC curve of one label (N,), rows counted `weight` times, ties by half;
    NaN where one class is absent. Mann-Whitney form (Hanley and McNeil, Radiology 1982)."""
    ranked = _Ranked.of(prob, target)
    return ranked.auc(np.ones(len(ranked.order)) if weight is None else weight[ranked.order])


def average_precision(prob: np.ndarray, target: np.ndarray) -> float:
    """Area under the precision-recall curve of one label (N,) as a sum of steps; NaN where nobody has it."""
    from sklearn.metrics import average_precision_score

    known = ~np.isnan(target)
    if not (target[known] > 0.5).any():
        return float("nan")
    return float(average_precision_score(target[known] > 0.5, prob[known]))


def calibration_error(prob: np.ndarray, target: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error of one label (N,): the mean gap between score and rate over `bins` bins that
    hold equally many slices (Nixon et al., CVPR workshops 2019)."""
    known = np.flatnonzero(~np.isnan(target))
    order = known[np.argsort(prob[known], kind="stable")]
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [abs(float((prob[part] - target[part]).sum())) for part in parts]
    return float(np.sum(gaps) / len(order)) if len(order) else float("nan")


def incoherent_share(prob: np.ndarray) -> float:
    """Share of slices (N, K) that score `any` below one of its subtypes."""
    largest = np.max([prob[:, LABELS.index(label)] for label in SUBTYPES], axis=0)
    return float(np.mean(prob[:, LABELS.index(ANY)] < largest))


@dataclass(frozen=True)
class _Ranked:
    """Labelled rows by rising score, sorted once for any number of weightings: `order` into the original
    rows, their truth, and where each run of equal scores starts."""

    order: np.ndarray
    truth: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, prob: np.ndarray, target: np.ndarray) -> "_Ranked":
        known = np.flatnonzero(~np.isnan(target))
        order = known[np.argsort(prob[known], kind="stable")]
        return cls(order, target[order] > 0.5, np.flatnonzero(np.diff(prob[order], prepend=-np.inf) > 0))

    def auc(self, weight: np.ndarray) -> float:
        """AUC with each row counted `weight` times, rows in `order`."""
        positive, negative = weight * self.truth, weight * ~self.truth
        pairs = positive.sum() * negative.sum()
        if pairs == 0:
            return float("nan")
        pos, neg = np.add.reduceat(positive, self.starts), np.add.reduceat(negative, self.starts)
        below = np.cumsum(neg) - neg
        return float((pos * (below + neg / 2)).sum() / pairs)


@dataclass(frozen=True)
class Resampling:
    """Draws of patient groups with replacement, within strata, the same for every row compared.

    `counts` (R, G) says how often each draw holds each group; `row_group` (N,) which group a slice is of.
    """

    counts: np.ndarray
    row_group: np.ndarray

    @classmethod
    def of(
        cls, groups: Sequence[str] | np.ndarray, bleeds: np.ndarray, draws: int, rng: np.random.Generator
    ) -> "Resampling":
        """Draws for slices of these groups (N,); groups with and without a bleeding slice are strata."""
        names, row_group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        stratum = np.zeros(len(names), dtype=bool)
        np.logical_or.at(stratum, row_group, np.nan_to_num(bleeds) > 0.5)
        counts = np.zeros((draws, len(names)))
        for value in (False, True):
            members = np.flatnonzero(stratum == value)
            if len(members):
                share = np.full(len(members), 1 / len(members))
                counts[:, members] = rng.multinomial(len(members), share, size=draws)
        return cls(counts, row_group)

    def label_log_loss(self, prob: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Mean log loss (R, K) of each draw."""
        losses = log_losses(prob, target)
        present = ~np.isnan(losses)
        n_groups = self.counts.shape[1]
        total = np.zeros((n_groups, losses.shape[1]))
        rows = np.zeros_like(total)
        np.add.at(total, self.row_group, np.where(present, losses, 0.0))
        np.add.at(rows, self.row_group, present)
        with np.errstate(invalid="ignore"):
            return np.asarray((self.counts @ total) / (self.counts @ rows))

    def weighted_log_loss(self, prob: np.ndarray, target: np.ndarray) -> np.ndarray:
        """RSNA's score (R,) of each draw."""
        return weighted_mean(self.label_log_loss(prob, target))

    def auc(self, prob: np.ndarray, target: np.ndarray) -> np.ndarray:
        """AUC (R,) of one label (N,) for each draw."""
        ranked = _Ranked.of(prob, target)
        rows = self.row_group[ranked.order]
        return np.array([ranked.auc(draw[rows]) for draw in self.counts])


def interval(value: float | np.ndarray, draws: np.ndarray) -> Interval:
    """`value` with the 2.5th and 97.5th percentile of the draws that are defined."""
    known = draws[~np.isnan(draws)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high))
