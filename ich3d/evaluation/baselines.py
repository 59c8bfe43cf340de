"""The rows that a model has to beat: the base rate, a slice's position alone, the true label of the slice
below (an oracle), and a rolling mean of another row's scores."""

import numpy as np
import pandas as pd

from ich3d.core.labels import LABELS
from ich3d.core.metrics import weighted_log_loss

BASELINE_FORMAT = 5  # raised when a row of this module scores otherwise
KNOTS = 5
REACHES = (0, 1, 2, 3, 4)  # slices on each side that a rolling mean may take in


def place(z_mm: np.ndarray) -> np.ndarray:
    """What position-only reads (Z, 2): millimetres below the top slice, and relative index."""
    index = np.arange(len(z_mm)) / max(1, len(z_mm) - 1)
    return np.stack([z_mm[-1] - z_mm, index], axis=1)


def places(table: pd.DataFrame) -> np.ndarray:
    """`place` of every slice (N, 2) of a table `volume_id, z_mm`, which runs series by series."""
    by_volume = table.groupby("volume_id", sort=False)["z_mm"]
    return np.concatenate([place(z_mm.to_numpy()) for _, z_mm in by_volume])


def base_rate(target: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Each fold's slices (N, K) scored with the labels' rates in the other folds."""
    prob = np.empty_like(target)
    for held_out in np.unique(fold):
        prob[fold == held_out] = _rates(target[fold != held_out])
    return prob


def position_only(places: np.ndarray, target: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Each fold's slices (N, K) scored by a spline logistic regression on `places` (N, 2), fitted on the
    other folds, a label at a time. A label that the other folds lack, or all have, gets its rate."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import SplineTransformer

    prob = np.empty_like(target)
    for held_out in np.unique(fold):
        train, test = fold != held_out, fold == held_out
        rates = _rates(target[train])
        for k in range(len(LABELS)):
            known = train & ~np.isnan(target[:, k])
            y = target[known, k] > 0.5
            if y.all() or not y.any():
                prob[test, k] = rates[k]
                continue
            model = make_pipeline(
                SplineTransformer(n_knots=KNOTS, extrapolation="constant"),
                LogisticRegression(C=1.0, max_iter=1000),
            )
            model.fit(places[known], y)
            prob[test, k] = model.predict_proba(places[test])[:, 1]
    return prob


def label_continuity(target: np.ndarray, fold: np.ndarray, volume: np.ndarray) -> np.ndarray:
    """Each slice's labels (N, K) given the true ones of the slice below, at the rates of the other folds:
    what continuity along the head is worth to someone who knows the truth. The lowest slice of a series, and
    one above an unlabelled slice, gets the base rate. Rows are series by series, inferior first."""
    prob = base_rate(target, fold)
    below = np.full_like(target, np.nan)
    same = np.flatnonzero(volume[1:] == volume[:-1])
    below[same + 1] = target[same]
    for held_out in np.unique(fold):
        train, test = fold != held_out, fold == held_out
        for k in range(len(LABELS)):
            for truth in (0.0, 1.0):
                given = below[:, k] == truth
                if given[train].any():
                    prob[test & given, k] = _rates(target[train & given, k : k + 1])[0]
    return prob


def rolling_mean(
    prob: np.ndarray, target: np.ndarray, fold: np.ndarray, volume: np.ndarray
) -> np.ndarray:
    """Scores (N, K) averaged over each slice's window_series, as wide as suits the other folds best."""
    averaged = [_averaged(prob, volume, reach) for reach in REACHES]
    result = np.empty_like(prob)
    for held_out in np.unique(fold):
        train = fold != held_out
        best = int(np.argmin([weighted_log_loss(one[train], target[train]) for one in averaged]))
        result[~train] = averaged[best][~train]
    return result


def _averaged(prob: np.ndarray, volume: np.ndarray, reach: int) -> np.ndarray:
    """Mean of each slice's scores and those of up to `reach` slices on each side in its series."""
    total, count = prob.copy(), np.ones(len(prob))
    for step in range(1, reach + 1):
        same = np.flatnonzero(volume[step:] == volume[:-step])
        total[same] += prob[same + step]
        total[same + step] += prob[same]
        count[same] += 1
        count[same + step] += 1
    return np.asarray(total / count[:, None])


def _rates(target: np.ndarray) -> np.ndarray:
    """Rate (K,) of each label, kept off 0 and 1 by one slice in the middle."""
    known = (~np.isnan(target)).sum(axis=0)
    return np.asarray((np.nansum(target, axis=0) + 0.5) / (known + 1.0))
