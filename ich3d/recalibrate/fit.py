"""A scale and a shift of each label's final logits, kept where held-out patients gain by them."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ich3d.core.labels import LABELS
from ich3d.core.metrics import logit, sigmoid
from ich3d.model.recalibration import LabelRecalibration, Recalibration
from ich3d.recalibrate.cases import Cases
from ich3d.recalibrate.gains import Gain, label_gain, weighted_gain
from ich3d.stack.booster import (
    MIN_GROUPS_TO_CALIBRATE,
    coherent,
    cross_calibrated,
    platt,
    where_it_helps,
)

NOT_KEPT: Final = "no"


@dataclass(frozen=True)
class Fitted:
    """A recalibration with the gains that decided on it.

    Attributes:
        recalibration: what was fitted on all cases.
        gains: cross-validated gain of each label, then of all labels as they would be served.
    """

    recalibration: Recalibration
    gains: tuple[Gain, ...]

    @property
    def kept(self) -> dict[str, str]:
        """What is kept of each label, in words."""
        return {gain.name: self._kept(gain) for gain in self.gains if gain.name in LABELS}

    def _kept(self, gain: Gain) -> str:
        item = self.recalibration.by_label[gain.name]
        if item.is_kept:
            return f"scale {item.scale:.2f}, shift {item.shift:+.2f}"
        is_rare = gain.n_groups < MIN_GROUPS_TO_CALIBRATE
        return f"{NOT_KEPT}, too few have it" if is_rare else NOT_KEPT


def fit_recalibration(cases: Cases, model_sha256: str) -> Fitted:
    """Fit each label's scale and shift, held near (1, 0) by a weak prior.

    They are kept where scores that were recalibrated on other patients are better by more than one
    standard error, and never for a label that fewer than eight patient groups have.

    Args:
        cases: scored and labelled slices of patients who are new to the model.
        model_sha256: the model that scored them.
    """
    prob, target, group = cases.prob, cases.target, cases.group
    held_out = np.stack([_held_out(cases, k) for k in range(len(LABELS))], axis=1)  # (N, K)
    by_label, gains = {}, []
    for k, label in enumerate(LABELS):
        gain = label_gain(label, prob[:, k], held_out[:, k], target[:, k], group)
        by_label[label] = _label_recalibration(cases, k, gain)
        gains.append(gain)

    # As served: labels that are not kept have their old scores, and `any` the largest subtype's.
    is_kept = [by_label[label].is_kept for label in LABELS]
    served = coherent(np.where(is_kept, held_out, prob))
    recalibration = Recalibration(
        by_label=by_label,
        n_groups=cases.n_groups,
        groups_are=cases.groups_are,
        n_slices=cases.n_labelled,
        model_sha256=model_sha256,
    )
    return Fitted(recalibration, (*gains, weighted_gain(prob, served, target, group)))


def _held_out(cases: Cases, k: int) -> np.ndarray:
    """Probabilities (N,) of one label, those of each fold recalibrated on the other folds.

    They are the old ones where the label is too rare to be recalibrated, and in slices that show no
    brain.
    """
    prob = cases.prob[:, k]
    rows = _rows_to_fit(cases, k)
    if rows is None:
        return prob
    held_out = prob.copy()
    logits = cross_calibrated(logit(prob[rows]), cases.target[rows, k], cases.fold[rows])
    held_out[rows] = sigmoid(logits)
    return held_out


def _rows_to_fit(cases: Cases, k: int) -> np.ndarray | None:
    """The rows, bool (N,), that one label is recalibrated on; None where it is too rare."""
    target = cases.target[:, k]
    rows = cases.shows_brain & ~np.isnan(target)
    with_label = cases.group[rows & (target > 0.5)]
    is_rare = len(np.unique(with_label)) < MIN_GROUPS_TO_CALIBRATE
    return None if is_rare or len(np.unique(target[rows])) < 2 else rows


def _label_recalibration(cases: Cases, k: int, gain: Gain) -> LabelRecalibration:
    """One label's recalibration, fitted on all cases where its gain is kept."""
    rows = _rows_to_fit(cases, k)
    is_kept = rows is not None and where_it_helps(gain.value, gain.se, gain.n_groups)
    scale, shift = 1.0, 0.0
    if rows is not None and is_kept:
        scale, shift = platt(logit(cases.prob[rows, k]), cases.target[rows, k])
    return LabelRecalibration(is_kept, scale, shift, gain.before, gain.after, gain.se)
