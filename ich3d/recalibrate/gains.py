"""What new scores gain on old ones, in log loss, with patients as the independent units."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from ich3d.core.bootstrap import Interval
from ich3d.core.labels import LABELS, weight_vector
from ich3d.core.metrics import log_losses, weighted_mean
from ich3d.evaluation.claims import claim, verdict
from ich3d.stack.booster import paired_se

Z_95: Final = 1.96
"""Standard errors from the middle of a normal distribution to an end of its 95 % interval."""

WEIGHTED: Final = "weighted"
"""The name of the gain in RSNA 2019's score, where `any` counts twice."""


@dataclass(frozen=True)
class Gain:
    """What new scores of one label, or of all labels, gain on old ones.

    Attributes:
        name: the label, or `weighted`.
        n_groups: patient groups that have the label, or any.
        n_slices: slices that have it.
        before: mean log loss of the old scores; NaN where no slice is labelled.
        after: mean log loss of the new scores on the same slices.
        se: standard error over patient groups of the difference.
    """

    name: str
    n_groups: int
    n_slices: int
    before: float
    after: float
    se: float

    @property
    def value(self) -> float:
        """The gain: positive where the new scores are better."""
        return self.before - self.after


def label_gain(
    label: str, before: np.ndarray, after: np.ndarray, target: np.ndarray, group: np.ndarray
) -> Gain:
    """The gain of one label, from probabilities `before` and `after` (N,), `target` (N,) with NaN
    where it is unknown, and the patient group (N,).
    """
    old, new = log_losses(before, target), log_losses(after, target)
    is_known, has_label = ~np.isnan(target), target > 0.5
    if not is_known.any():
        return Gain(label, 0, 0, np.nan, np.nan, np.nan)
    return Gain(
        name=label,
        n_groups=len(np.unique(group[has_label])),
        n_slices=int(has_label.sum()),
        before=float(old[is_known].mean()),
        after=float(new[is_known].mean()),
        se=paired_se((old - new)[is_known], group[is_known]),
    )


def weighted_gain(
    before: np.ndarray, after: np.ndarray, target: np.ndarray, group: np.ndarray
) -> Gain:
    """The gain of all labels together, from `before`, `after` and `target` (N, K)."""
    by_label = [
        label_gain(label, before[:, k], after[:, k], target[:, k], group)
        for k, label in enumerate(LABELS)
    ]
    old, new = (
        float(weighted_mean(np.array([getattr(gain, name) for gain in by_label])))
        for name in ("before", "after")
    )

    # What each slice adds to the weighted gain, from the mean: its sums over patients vary.
    difference = log_losses(before, target) - log_losses(after, target)  # (N, K)
    is_known = ~np.isnan(difference)
    counts = is_known.sum(axis=0)  # (K,)
    weights = np.where(counts > 0, weight_vector(), 0.0)
    scale = weights / weights.sum() * len(target) / np.maximum(counts, 1)
    residual = np.where(is_known, difference - [gain.value for gain in by_label], 0.0)

    has_any = np.nan_to_num(target).max(axis=1) > 0.5
    return Gain(
        name=WEIGHTED,
        n_groups=len(np.unique(group[has_any])),
        n_slices=int(has_any.sum()),
        before=old,
        after=new,
        se=paired_se(residual @ scale, group),
    )


def claim_of(gain: Gain, n_patients: int, before: str, after: str) -> str:
    """What a gain shows, as one sentence by the rule of `evaluation.claims`.

    Its 95 % interval is that of a normal distribution with the gain's standard error.

    Args:
        gain: the gain.
        n_patients: patient groups that were compared, with or without the label.
        before, after: names of the old and the new scores.
    """
    reach = Z_95 * gain.se
    difference = Interval(-gain.value, -gain.value - reach, -gain.value + reach)
    shown = verdict(difference, gain.before, n_patients, gain.n_groups)
    metric = "Weighted log loss" if gain.name == WEIGHTED else f"Log loss of {gain.name}"
    return claim(metric, after, before, difference, shown)


def markdown(gains: Iterable[Gain], kept: Mapping[str, str]) -> str:
    """The gains as a table in Markdown; `kept` says of each name whether new scores are kept."""
    header = (
        "label", "patients with it", "slices with it", "log loss before", "after, cross-validated",
        "gain (SE)", "kept",
    )  # fmt: skip
    text = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for gain in gains:
        losses = ["-", "-", "-"]
        if not np.isnan(gain.before):
            losses = [
                f"{gain.before:.4f}", f"{gain.after:.4f}", f"{gain.value:+.4f} ({gain.se:.4f})",
            ]  # fmt: skip
        cells = (gain.name, str(gain.n_groups), str(gain.n_slices), *losses, kept[gain.name])
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)
