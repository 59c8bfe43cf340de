"""The six labels of the task, their one order, and their weight in the metric.

Source: RSNA Intracranial Hemorrhage Detection (2019), whose score is
``(2 * LL_any + sum of the five subtypes' LL) / 7``, each LL a mean over slices.
"""

from typing import Final

import numpy as np

from ich3d.core.errors import DataError, suggestion

SUBTYPES: Final = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")
ANY: Final = "any"
LABELS: Final = (*SUBTYPES, ANY)
WEIGHTS: Final = {**dict.fromkeys(SUBTYPES, 1.0), ANY: 2.0}
STAGES: Final = ("encoder", "context", "stack")
FLAG_AT: Final = 0.5
"""A slice is flagged where bleeding is likelier than not. No data chose this number, and a calibrated score
needs none: whatever flags slices names it, and gives every probability."""


def label_index(label: str) -> int:
    """Where `label` stands in `LABELS`; DataError names the nearest one where there is none."""
    if label not in LABELS:
        raise DataError(f"no label is called {label!r}{suggestion(label, LABELS)}")
    return LABELS.index(label)


def weight_vector() -> np.ndarray:
    """Metric weights (K,) in the order of `LABELS`; they sum to one."""
    weights = np.array([WEIGHTS[label] for label in LABELS])
    return np.asarray(weights / weights.sum())
