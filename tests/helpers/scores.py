"""Thirty synthetic patients, and scores of known quality, for tests of result tables."""

import numpy as np
import pandas as pd

from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import LABELS

PATIENTS, SLICES = 30, 12
_SUBDURAL_PATIENTS = (1, 2, 4)


def thirty_patients() -> GroundTruth:
    """Thirty patients of twelve slices in five folds.

    Slices 4 to 7 bleed in two of three patients: 20 have `any`, of which 3 have `subdural` and 17
    `epidural`.
    """
    rows = [_slice(patient, index) for patient in range(PATIENTS) for index in range(SLICES)]
    return GroundTruth(pd.DataFrame(rows))


def _slice(patient: int, index: int) -> dict[str, object]:
    bleeds = int(patient % 3 != 0 and 4 <= index < 8)
    subtype = "subdural" if patient in _SUBDURAL_PATIENTS else "epidural"
    return {
        "volume_id": f"v{patient:02d}",
        "slice_index": index,
        "z_mm": 5.0 * index,
        "group_id": f"p{patient:02d}",
        "fold": patient % 5,
        "sop_uid": f"{patient}.{index}",
        **dict.fromkeys(LABELS, 0),
        "any": bleeds,
        subtype: bleeds,
    }


def scores(truth: GroundTruth, certainty: float, seeds: int = 1) -> np.ndarray:
    """Probabilities (S, N, K): normal noise in logits, shifted toward the truth by `certainty`."""
    noise = np.random.default_rng(0).normal(size=(seeds, *truth.target.shape))
    return np.asarray(1 / (1 + np.exp(-(noise + certainty * (2 * truth.target - 1)))))
