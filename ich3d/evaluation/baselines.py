"""Simple predictors that a model has to beat.

The base rate; a slice's position alone; label continuity, an oracle that knows the true label of
the slice below; and a rolling mean of another row's scores. Each fold is scored by what was fitted
on the other folds. Rows are slices, series by series, from inferior to superior in each.
"""

import numpy as np
import pandas as pd

from ich3d.core.labels import LABELS
from ich3d.core.metrics import weighted_log_loss
from ich3d.core.slice_geometry import slice_geometry

BASELINE_FORMAT = 5  # raised when a baseline of this module scores otherwise
SPLINE_KNOTS = 5
HALF_WIDTHS = (0, 1, 2, 3, 4)  # slices on each side that a rolling mean may average over


def position_features(z_mm: np.ndarray) -> np.ndarray:
    """Position (Z, 2) of the slices of one series at `z_mm` (Z,), inferior to superior.

    Columns: millimetres below the top slice, and relative index from 0 to 1.
    """
    geometry = slice_geometry(z_mm)
    return np.stack([geometry.from_top_mm, geometry.relative_index], axis=1)  # (Z, 2)


def position_features_by_volume(table: pd.DataFrame) -> np.ndarray:
    """`position_features` (N, 2) of a table `volume_id, z_mm` that runs series by series."""
    by_volume = table.groupby("volume_id", sort=False)["z_mm"]
    return np.concatenate([position_features(z_mm.to_numpy()) for _, z_mm in by_volume])


def base_rate(target: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Score each slice with the rates of the labels in the other folds.

    `target` (N, K) with NaN where unlabelled, `fold` (N,); returns probabilities (N, K).
    """
    prob = np.empty_like(target)
    for held_out in np.unique(fold):
        prob[fold == held_out] = _label_rates(target[fold != held_out])
    return prob


def position_only(features: np.ndarray, target: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Score each slice by its position alone, with a model fitted on the other folds.

    A logistic regression on splines of the features, one for each label. A label that no slice of
    the other folds has, or that all of them have, gets its rate there.

    Args:
        features: `position_features` of the slices (N, 2).
        target: labels (N, K), NaN where unlabelled.
        fold: the fold of each slice (N,).

    Returns:
        Probabilities (N, K).
    """
    prob = np.empty_like(target)
    for held_out in np.unique(fold):
        in_training, in_test = fold != held_out, fold == held_out
        rates = _label_rates(target[in_training])

        for k in range(len(LABELS)):
            labelled = in_training & ~np.isnan(target[:, k])
            is_positive = target[labelled, k] > 0.5
            if is_positive.all() or not is_positive.any():
                prob[in_test, k] = rates[k]
            else:
                prob[in_test, k] = _fit_and_score(
                    features[labelled], is_positive, features[in_test]
                )
    return prob


def _fit_and_score(train: np.ndarray, is_positive: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Probability of one label for the features `test` (M, 2), fitted on `train` (N, 2)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import SplineTransformer

    model = make_pipeline(
        SplineTransformer(n_knots=SPLINE_KNOTS, extrapolation="constant"),
        LogisticRegression(C=1.0, max_iter=1000),
    )
    model.fit(train, is_positive)
    return np.asarray(model.predict_proba(test)[:, 1])


def label_continuity(target: np.ndarray, fold: np.ndarray, volume: np.ndarray) -> np.ndarray:
    """Score each slice by the true labels of the slice below, at the rates of the other folds.

    An oracle: it shows how much continuity along the head is worth to someone who knows the truth.
    The lowest slice of a series, and a slice above an unlabelled one, get the base rate.

    Args:
        target: labels (N, K), NaN where unlabelled.
        fold: the fold of each slice (N,).
        volume: the volume_id of each slice (N,).

    Returns:
        Probabilities (N, K).
    """
    prob = base_rate(target, fold)

    # Labels of the slice below, NaN at the bottom of a series.
    target_below = np.full_like(target, np.nan)
    has_slice_above = np.flatnonzero(volume[1:] == volume[:-1])
    target_below[has_slice_above + 1] = target[has_slice_above]

    for held_out in np.unique(fold):
        in_training, in_test = fold != held_out, fold == held_out
        for k in range(len(LABELS)):
            for value_below in (0.0, 1.0):
                applies = target_below[:, k] == value_below
                if applies[in_training].any():
                    rate = _label_rates(target[in_training & applies, k : k + 1])[0]
                    prob[in_test & applies, k] = rate
    return prob


def rolling_mean(
    prob: np.ndarray, target: np.ndarray, fold: np.ndarray, volume: np.ndarray
) -> np.ndarray:
    """Average scores over neighbouring slices, with the width that suits the other folds best.

    Args:
        prob: the scores to average (N, K).
        target: labels (N, K), NaN where unlabelled.
        fold: the fold of each slice (N,).
        volume: the volume_id of each slice (N,).

    Returns:
        Probabilities (N, K).
    """
    candidates = [_average_neighbours(prob, volume, half_width) for half_width in HALF_WIDTHS]
    result = np.empty_like(prob)
    for held_out in np.unique(fold):
        in_training = fold != held_out
        losses = [
            weighted_log_loss(candidate[in_training], target[in_training])
            for candidate in candidates
        ]
        best = candidates[int(np.argmin(losses))]
        result[~in_training] = best[~in_training]
    return result


def _average_neighbours(prob: np.ndarray, volume: np.ndarray, half_width: int) -> np.ndarray:
    """Mean (N, K) of each slice's scores and of up to `half_width` slices on each side."""
    total, count = prob.copy(), np.ones(len(prob))
    for step in range(1, half_width + 1):
        lower = np.flatnonzero(volume[step:] == volume[:-step])  # both slices in one series
        total[lower] += prob[lower + step]
        total[lower + step] += prob[lower]
        count[lower] += 1
        count[lower + step] += 1
    return np.asarray(total / count[:, None])


def _label_rates(target: np.ndarray) -> np.ndarray:
    """Rate (K,) of each label; one half-positive slice is added, which keeps rates off 0 and 1."""
    labelled = (~np.isnan(target)).sum(axis=0)
    return np.asarray((np.nansum(target, axis=0) + 0.5) / (labelled + 1.0))
