"""The metric of the task, its parts, and intervals by resampling patient groups.

Rows are slices. `prob` and `target` are (N, K) in the order of `LABELS`; a NaN target is a slice
without that label and counts nowhere.
"""

from dataclasses import dataclass

import numpy as np

from ich3d.core.labels import ANY, LABELS, SUBTYPES, weight_vector

CLIP = 1e-6  # probabilities are kept this far from 0 and 1, so that one slice cannot own the mean


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
    ranked = RankedScores.of(prob, target)
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
class RankedScores:
    """Labelled rows by rising score, sorted once for any number of weightings: `order` into the original
    rows, their truth, and where each run of equal scores starts."""

    order: np.ndarray
    truth: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, prob: np.ndarray, target: np.ndarray) -> "RankedScores":
        known = np.flatnonzero(~np.isnan(target))
        order = known[np.argsort(prob[known], kind="stable")]
        return cls(
            order, target[order] > 0.5, np.flatnonzero(np.diff(prob[order], prepend=-np.inf) > 0)
        )

    def auc(self, weight: np.ndarray) -> float:
        """AUC with each row counted `weight` times, rows in `order`."""
        positive, negative = weight * self.truth, weight * ~self.truth
        pairs = positive.sum() * negative.sum()
        if pairs == 0:
            return float("nan")
        pos, neg = np.add.reduceat(positive, self.starts), np.add.reduceat(negative, self.starts)
        below = np.cumsum(neg) - neg
        return float((pos * (below + neg / 2)).sum() / pairs)
