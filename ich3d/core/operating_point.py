"""Sensitivity and specificity at a threshold, of slices and of series, with intervals."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ich3d.core.bootstrap import Interval, PatientBootstrap, interval
from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import LABELS

SLICES: Final = "slices"
SERIES: Final = "series"


@dataclass(frozen=True)
class OperatingPoint:
    """How many of the slices or series with and without a label are told so at a threshold.

    Attributes:
        level: `slices` or `series`; a series counts by its highest slice.
        label: the label.
        n_positive, n_negative: how many have the label, and how many do not.
        sensitivity: share of the positive ones that reach the threshold; NaN for none.
        specificity: share of the negative ones that do not; NaN for none.
    """

    level: str
    label: str
    n_positive: int
    n_negative: int
    sensitivity: Interval
    specificity: Interval


def operating_points(
    prob: np.ndarray, truth: GroundTruth, threshold: float, draws: int, seed: int
) -> list[OperatingPoint]:
    """Each label's operating point on slices, then on series.

    Args:
        prob: probabilities (N, K) of the slices of `truth`.
        truth: the labels of the N slices.
        threshold: what reaches it is flagged.
        draws: how often patient groups are resampled for the intervals.
        seed: seed of the resampling.
    """
    bootstrap = truth.bootstrap(draws, seed)
    names, first, series = np.unique(truth.volume, return_index=True, return_inverse=True)
    series_bootstrap = PatientBootstrap(bootstrap.counts, bootstrap.row_group[first])
    points = []
    for level, of_level in ((SLICES, bootstrap), (SERIES, series_bootstrap)):
        for k, label in enumerate(LABELS):
            is_flagged, target = prob[:, k] >= threshold, truth.target[:, k]
            if level == SERIES:
                is_flagged = _any_of(is_flagged, series, len(names)) > 0
                target = _any_of(target, series, len(names))
            points.append(_point(level, label, is_flagged, target, of_level))
    return points


def _any_of(values: np.ndarray, series: np.ndarray, count: int) -> np.ndarray:
    """The highest value of each of `count` series, NaN where none of its slices has one."""
    highest = np.full(count, -np.inf)
    known = ~np.isnan(values.astype(float))
    np.maximum.at(highest, series[known], values[known].astype(float))
    return np.where(np.isinf(highest), np.nan, highest)


def _point(
    level: str,
    label: str,
    is_flagged: np.ndarray,
    target: np.ndarray,
    bootstrap: PatientBootstrap,
) -> OperatingPoint:
    """One operating point, from flags and labels (M,) of slices or series."""
    is_positive, is_negative = target > 0.5, target <= 0.5  # NaN is neither
    return OperatingPoint(
        level=level,
        label=label,
        n_positive=int(is_positive.sum()),
        n_negative=int(is_negative.sum()),
        sensitivity=_share(is_flagged, is_positive, bootstrap),
        specificity=_share(~is_flagged, is_negative, bootstrap),
    )


def _share(is_right: np.ndarray, counts: np.ndarray, bootstrap: PatientBootstrap) -> Interval:
    """Share of those that count (M,) which are right (M,), over patients; NaN for none."""
    n_groups = bootstrap.counts.shape[1]
    right = np.bincount(bootstrap.row_group, is_right & counts, n_groups)  # (G,)
    of_all = np.bincount(bootstrap.row_group, counts, n_groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = (bootstrap.counts @ right) / (bootstrap.counts @ of_all)  # (R,)
        value = right.sum() / of_all.sum()
    return interval(value, draws)
