"""How well each row scores the phantoms' look-alikes: findings that resemble a bleed in one slice.

Only the neighbouring slices tell a look-alike from a bleed (`ich3d.phantom.lookalikes`).
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import ANY, LABELS
from ich3d.core.metrics import log_losses, weighted_mean
from ich3d.evaluation.table import as_served


def lookalike_losses(
    prob: Mapping[str, np.ndarray], truth: GroundTruth, phantoms: pd.DataFrame
) -> pd.DataFrame:
    """Mean weighted log loss on slices without a bleed, with and without a look-alike.

    Slices with a bleed are excluded: they are harder for other reasons.

    Args:
        prob: probabilities (S, N, K) of each row.
        truth: the labels of the N slices.
        phantoms: the table of the phantoms, with `sop_uid` and `lookalike` (empty without one).

    Returns:
        A table `row, slices without a bleed, count, loss`.
    """
    lookalike = truth.table["sop_uid"].map(phantoms.set_index("sop_uid")["lookalike"])
    without_bleed = truth.target[:, LABELS.index(ANY)] == 0
    subsets = {
        "look-alike": (without_bleed & (lookalike != "")).to_numpy(),
        "none": (without_bleed & (lookalike == "")).to_numpy(),
    }

    records = []
    for name, runs in prob.items():
        losses = _slice_losses(as_served(name, runs), truth.target)
        for subset, is_in in subsets.items():
            if is_in.any():
                records.append(
                    {
                        "row": name,
                        "slices without a bleed": subset,
                        "count": int(is_in.sum()),
                        "loss": float(losses[is_in].mean()),
                    }
                )
    return pd.DataFrame(records)


def _slice_losses(prob: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Weighted log loss (N,) of each slice, averaged over the seeds of `prob` (S, N, K)."""
    return np.asarray(np.mean([weighted_mean(log_losses(run, target)) for run in prob], axis=0))
