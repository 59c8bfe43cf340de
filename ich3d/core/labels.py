"""The six hemorrhage labels, their order in every array and table, and their metric weights.

Source: the RSNA Intracranial Hemorrhage Detection challenge (2019). Its score is the mean log
loss with `any` counted twice: `(2 * LL_any + LL_epidural + ... + LL_subdural) / 7`, where each LL
is a mean over slices.
"""

from typing import Final

import numpy as np

from ich3d.core.errors import DataError, suggestion

SUBTYPES: Final = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")
"""The five hemorrhage subtypes, in alphabetical order."""

ANY: Final = "any"
"""The label of a slice that shows a hemorrhage of any subtype."""

LABELS: Final = (*SUBTYPES, ANY)
"""All K = 6 labels. The label axis of every array and table has this order."""

WEIGHTS: Final = {**dict.fromkeys(SUBTYPES, 1.0), ANY: 2.0}
"""Weight of each label in the RSNA score, not normalised."""

STAGES: Final = ("encoder", "context", "stack")
"""The three model stages, in the order in which they run."""

FLAG_AT: Final = 0.5
"""Probability from which a slice is flagged: hemorrhage is then more likely than not, if the model
is calibrated (`model.performance.Performance.doubt`).

The threshold was not tuned on data. Every report that flags slices also shows the probabilities.
"""


def label_index(label: str) -> int:
    """Index of `label` in `LABELS`, 0..5. An unknown label raises DataError with a suggestion."""
    if label not in LABELS:
        raise DataError(f"no label is called {label!r}{suggestion(str(label), LABELS)}")
    return LABELS.index(label)


def series_prob(slice_prob: np.ndarray) -> np.ndarray:
    """Probabilities (K,) of a series: the maximum over its slices, `slice_prob` (Z, K)."""
    return np.asarray(slice_prob.max(axis=0))


def weight_vector() -> np.ndarray:
    """Metric weights (K,) float64 in the order of `LABELS`, which sum to 1."""
    weights = np.array([WEIGHTS[label] for label in LABELS])
    return np.asarray(weights / weights.sum())
