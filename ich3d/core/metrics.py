"""Metrics of slice predictions: log loss, AUC, average precision, calibration.

A row is a slice. `prob` and `target` are (N, K) with labels in the order of `LABELS`, or (N,) for
a single label. `prob` holds probabilities 0..1; `target` holds 0, 1 or NaN. NaN means that the
slice has no ground truth for that label; such entries are excluded from every metric.

Confidence intervals of these metrics are in `ich3d.core.bootstrap`.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ich3d.core.labels import ANY, LABELS, SUBTYPES, weight_vector

CLIP: Final = 1e-6
"""Probabilities are clipped to CLIP..1 - CLIP, so that one wrong slice cannot dominate the mean."""


def logit(prob: np.ndarray) -> np.ndarray:
    """`log(p / (1 - p))` float64 of clipped probabilities; same shape as `prob`."""
    clipped = np.clip(prob.astype(np.float64), CLIP, 1 - CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities `1 / (1 + exp(-x))` float64, in a form that does not overflow; same shape."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64))))


def log_losses(prob: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Log loss of each slice and label, the shape of `prob`; NaN without ground truth."""
    p = np.clip(prob.astype(np.float64), CLIP, 1 - CLIP)
    return np.asarray(-(target * np.log(p) + (1 - target) * np.log1p(-p)))


def label_log_loss(prob: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean log loss (K,) of each label over its slices; NaN where no slice has ground truth."""
    losses = log_losses(prob, target)  # (N, K)
    counts = (~np.isnan(losses)).sum(axis=0)  # (K,)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(losses, axis=0) / counts)


def weighted_mean(losses: np.ndarray) -> np.ndarray:
    """RSNA 2019 score (...) of the labels' mean log losses (..., K): `any` counts twice.

    A label whose loss is NaN is left out, and the other weights are scaled up. The score is NaN
    where all losses are.
    """
    weights = np.where(np.isnan(losses), 0.0, weight_vector())  # (..., K)
    with np.errstate(invalid="ignore"):
        return np.asarray((np.nan_to_num(losses) * weights).sum(axis=-1) / weights.sum(axis=-1))


def weighted_log_loss(prob: np.ndarray, target: np.ndarray) -> float:
    """RSNA 2019 score of probabilities (N, K): the weighted mean of the labels' log losses."""
    return float(weighted_mean(label_log_loss(prob, target)))


def auc(prob: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Area under the ROC curve of one label (N,); NaN where one class is absent.

    Each row counts `weight` (N,) times, once by default; ties count half. Computed as the
    Mann-Whitney statistic (Hanley and McNeil, Radiology 1982).
    """
    ranked = RankedScores.of(prob, target)
    ranked_weight = np.ones(len(ranked.order)) if weight is None else weight[ranked.order]
    return ranked.auc(ranked_weight)


def average_precision(prob: np.ndarray, target: np.ndarray) -> float:
    """Average precision of one label (N,), a step-wise sum; NaN where no slice is positive."""
    from sklearn.metrics import average_precision_score

    known = ~np.isnan(target)
    if not (target[known] > 0.5).any():
        return float("nan")
    return float(average_precision_score(target[known] > 0.5, prob[known]))


def calibration_error(prob: np.ndarray, target: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error of one label (N,), in units of probability.

    The mean absolute gap between mean probability and observed rate over `bins` bins with equal
    numbers of slices (Nixon et al., CVPR workshops 2019). NaN without ground truth.
    """
    known = np.flatnonzero(~np.isnan(target))
    if not len(known):
        return float("nan")

    order = known[np.argsort(prob[known], kind="stable")]
    filled_bins = [rows for rows in np.array_split(order, bins) if len(rows)]
    gaps = [abs(float((prob[rows] - target[rows]).sum())) for rows in filled_bins]
    return float(np.sum(gaps) / len(order))


def incoherent_share(prob: np.ndarray) -> float:
    """Share 0..1 of slices (N, K) whose probability of `any` is below that of a subtype."""
    largest_subtype = np.max([prob[:, LABELS.index(label)] for label in SUBTYPES], axis=0)  # (N,)
    return float(np.mean(prob[:, LABELS.index(ANY)] < largest_subtype))


@dataclass(frozen=True)
class RankedScores:
    """The M rows with ground truth, sorted once by score; then AUCs under many weights are cheap.

    order: (M,) int, the original row of each sorted row.
    truth: (M,) bool, in sorted order.
    starts: int, the sorted row at which each run of equal scores starts.
    """

    order: np.ndarray
    truth: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, prob: np.ndarray, target: np.ndarray) -> "RankedScores":
        """Sort probabilities (N,) of one label; rows whose target is NaN are dropped."""
        known = np.flatnonzero(~np.isnan(target))
        order = known[np.argsort(prob[known], kind="stable")]
        starts = np.flatnonzero(np.diff(prob[order], prepend=-np.inf) > 0)
        return cls(order, target[order] > 0.5, starts)

    def auc(self, weight: np.ndarray) -> float:
        """Area under the ROC curve with weights (M,) in sorted order; NaN if a class is absent."""
        positive, negative = weight * self.truth, weight * ~self.truth  # (M,) each
        pairs = positive.sum() * negative.sum()
        if pairs == 0:
            return float("nan")

        # Rows of equal score are summed first, so that a tied pair counts half.
        tied_positive = np.add.reduceat(positive, self.starts)
        tied_negative = np.add.reduceat(negative, self.starts)
        negatives_below = np.cumsum(tied_negative) - tied_negative
        return float((tied_positive * (negatives_below + tied_negative / 2)).sum() / pairs)


def agreement(prob: np.ndarray) -> np.ndarray:
    """How far M models agree on the probability of one label (M, N) in each slice (N,): one minus
    twice its SD over models.

    1 where all give the same; 0 where half of them say 0 and half say 1. NaN for one model.
    """
    if len(prob) == 1:
        return np.full(prob.shape[1], np.nan)
    return np.asarray(1 - 2 * prob.std(axis=0))
