"""Thirty made-up patients and scores of known worth, for the tests of tables."""

import numpy as np
import pandas as pd

from ich3d.core.labels import LABELS
from ich3d.evaluation.ground_truth import GroundTruth

PATIENTS, SLICES = 30, 12


def thirty_patients() -> GroundTruth:
    """Thirty patients; `any` in two thirds of them, `subdural` in three, `epidural` in the rest."""
    rows = []
    for patient in range(PATIENTS):
        for index in range(SLICES):
            bleeds = patient % 3 != 0 and 4 <= index < 8
            label = "subdural" if patient in (1, 2, 4) else "epidural"
            rows.append(
                {
                    "volume_id": f"v{patient:02d}", "slice_index": index, "z_mm": 5.0 * index,
                    "group_id": f"p{patient:02d}", "fold": patient % 5, "sop_uid": f"{patient}.{index}",
                    **dict.fromkeys(LABELS, 0), "any": int(bleeds), label: int(bleeds),
                }
            )  # fmt: skip
    return GroundTruth(pd.DataFrame(rows))


def scores(truth: GroundTruth, sureness: float, seeds: int = 1) -> np.ndarray:
    """Probabilities (S, N, K) that lean to the truth by so many logits, under noise."""
    noise = np.random.default_rng(0).normal(size=(seeds, *truth.target.shape))
    return 1 / (1 + np.exp(-(noise + sureness * (2 * truth.target - 1))))
