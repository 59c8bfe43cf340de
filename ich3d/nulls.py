"""The rows that a model has to beat: the base rate, and a slice's position alone."""

import numpy as np

from ich3d.core.labels import LABELS

KNOTS = 5


def place(z_mm: np.ndarray) -> np.ndarray:
    """What position-only reads (Z, 2): millimetres below the top slice, and relative index."""
    index = np.arange(len(z_mm)) / max(1, len(z_mm) - 1)
    return np.stack([z_mm[-1] - z_mm, index], axis=1)


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


def _rates(target: np.ndarray) -> np.ndarray:
    """Rate (K,) of each label, kept off 0 and 1 by one slice in the middle."""
    known = (~np.isnan(target)).sum(axis=0)
    return np.asarray((np.nansum(target, axis=0) + 0.5) / (known + 1.0))
