"""What rows make of the phantoms' look-alikes: findings that only their neighbours give away."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ich3d.core.labels import ANY, LABELS
from ich3d.core.metrics import log_losses, weighted_mean
from ich3d.evaluation.ground_truth import GroundTruth
from ich3d.evaluation.table import as_served


def on_lookalikes(
    prob: Mapping[str, np.ndarray], truth: GroundTruth, kinds: pd.DataFrame
) -> pd.DataFrame:
    """Mean weighted log loss of each row on phantom slices without a bleed, with and without a look-alike.

    `kinds` is the phantoms' own table (`sop_uid, lookalike, ...`). Bleeding slices are left out: they are
    harder for reasons of their own.
    """
    kind = truth.table["sop_uid"].map(kinds.set_index("sop_uid")["lookalike"])
    calm = truth.target[:, LABELS.index(ANY)] == 0
    chosen = {
        "look-alike": (calm & (kind != "")).to_numpy(),
        "none": (calm & (kind == "")).to_numpy(),
    }
    rows = []
    for name, runs in prob.items():
        losses = np.mean(
            [weighted_mean(log_losses(run, truth.target)) for run in as_served(name, runs)], axis=0
        )
        rows += [
            {
                "row": name,
                "slices without a bleed": what,
                "count": int(is_in.sum()),
                "loss": float(losses[is_in].mean()),
            }
            for what, is_in in chosen.items()
            if is_in.any()
        ]
    return pd.DataFrame(rows)
