"""A recalibration: each label's final logit becomes scale * logit + shift.

It is fitted on a hospital's own scored studies (`ich3d.recalibrate`), kept in the model folder as
recalibration.json, and applied to the mean over folds, wherever the final probability is served.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ich3d.core.labels import LABELS
from ich3d.core.metrics import logit, sigmoid
from ich3d.prepare.hu_features import silenced
from ich3d.stack.booster import coherent


@dataclass(frozen=True)
class LabelRecalibration:
    """The recalibration of one label.

    Attributes:
        is_kept: False where it does not help; then the label's scores stay as they are.
        scale: factor of the logit, a temperature; 1 where it is not kept.
        shift: what is added to the logit for another prevalence; 0 where it is not kept.
        loss_before: mean log loss of the model's scores on the patients that it was fitted on.
        loss_after: that of recalibrated scores, each fitted on other patients.
        gain_se: standard error over patients of the difference.
    """

    is_kept: bool
    scale: float
    shift: float
    loss_before: float
    loss_after: float
    gain_se: float


@dataclass(frozen=True)
class Recalibration:
    """The recalibration of all labels.

    Attributes:
        by_label: each label's recalibration.
        n_groups: how many patients, or studies, it was fitted on.
        groups_are: `patient`, or `study` where patients are not known.
        n_slices: number of their labelled slices.
        model_sha256: the model whose scores it was fitted on.
    """

    by_label: Mapping[str, LabelRecalibration]
    n_groups: int
    groups_are: str
    n_slices: int
    model_sha256: str

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Recalibration":
        """What `as_dict` wrote."""
        by_label = {label: LabelRecalibration(**fields["by_label"][label]) for label in LABELS}
        return cls(**{**fields, "by_label": by_label})

    def as_dict(self) -> dict[str, Any]:
        """All fields as JSON-ready data."""
        return asdict(self)

    @property
    def kept(self) -> list[str]:
        """The labels whose scores it changes."""
        return [label for label in LABELS if self.by_label[label].is_kept]

    def apply(self, prob: np.ndarray, hu_features: np.ndarray) -> np.ndarray:
        """Recalibrated probabilities (Z, K) of final ones (Z, K), of the same type.

        `any` is at least the largest subtype, and a slice that shows no brain, which its features
        (Z, F) tell, gets next to nothing.
        """
        changed = prob.copy()
        for label in self.kept:
            k, of_label = LABELS.index(label), self.by_label[label]
            changed[:, k] = sigmoid(of_label.scale * logit(prob[:, k]) + of_label.shift)
        return silenced(coherent(changed), hu_features)
