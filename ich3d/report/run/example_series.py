"""One held-out series to look at: which one, its slices as a strip, its probabilities along the head."""

from dataclasses import dataclass

import numpy as np

from ich3d.core.labels import ANY, LABELS, STAGES, SUBTYPES
from ich3d.core.metrics import weighted_log_loss
from ich3d.evaluation.run import OutOfFold

STRIP_SLICES = 12
RULE = (
    "Of the fully labelled series that bleed, the one with the most bleeding slices among those whose "
    "stack loss lies in the middle half; the first by volume_id on a tie."
)


@dataclass(frozen=True)
class ExampleSeries:
    """One series, held out, inferior to superior: `z_mm` (Z,), `target` (Z, K), `prob[stage]` (Z, K)."""

    volume_id: str
    fold: int
    z_mm: np.ndarray
    target: np.ndarray
    prob: dict[str, np.ndarray]

    @property
    def shown_labels(self) -> list[str]:
        """`any`, then the subtypes that occur."""
        return [ANY, *self.labels_of(slice(None), SUBTYPES)]

    @property
    def strip(self) -> list[int]:
        """Indices of up to `STRIP_SLICES` slices, evenly from the lowest to the highest."""
        count = len(self.z_mm)
        picked = np.linspace(0, count - 1, min(count, STRIP_SLICES)).round().astype(int)
        return [int(index) for index in picked]

    def labels_of(self, which: int | slice, among: tuple[str, ...] = SUBTYPES) -> list[str]:
        """The labels that a slice, or any of some slices, truly has."""
        has = self.target[which].reshape(-1, len(LABELS)).max(axis=0) > 0.5
        return [label for label in among if has[LABELS.index(label)]]

    def true_spans_mm(self, label: str) -> list[tuple[float, float]]:
        """Where the label is true: each slice, halfway to the one below and to the one above."""
        true = self.target[:, LABELS.index(label)] > 0.5
        return [(float(low), float(high)) for low, high in slabs_mm(self.z_mm)[true]]


def slabs_mm(z_mm: np.ndarray) -> np.ndarray:
    """The slab (Z, 2) that each slice stands for, from halfway to the one below to halfway to the one above;
    an only slice's is 1 mm."""
    half = np.diff(z_mm) / 2
    lowest, highest = (half[0], half[-1]) if len(half) else (0.5, 0.5)
    return np.stack([z_mm - np.r_[lowest, half], z_mm + np.r_[half, highest]], axis=1)


def typical_series(result: OutOfFold) -> ExampleSeries | None:
    """The series that `RULE` names; None where no fully labelled series bleeds."""
    bleeding, table, all_targets = {}, result.truth.table, result.truth.target
    for name, rows in table.groupby("volume_id", sort=True).indices.items():
        target = all_targets[rows]
        if not np.isnan(target).any() and target[:, LABELS.index(ANY)].any():
            bleeding[str(name)] = rows
    if not bleeding:
        return None
    stack = result.rows["stack"]
    loss = {
        name: weighted_log_loss(stack[rows], all_targets[rows]) for name, rows in bleeding.items()
    }
    low = np.quantile(list(loss.values()), 0.25, method="lower")
    high = np.quantile(list(loss.values()), 0.75, method="higher")
    typical = [name for name in bleeding if low <= loss[name] <= high]
    chosen = max(typical, key=lambda name: all_targets[bleeding[name], LABELS.index(ANY)].sum())
    rows = bleeding[chosen]
    return ExampleSeries(
        volume_id=chosen,
        fold=int(result.truth.fold[rows[0]]),
        z_mm=table["z_mm"].to_numpy(float)[rows],
        target=all_targets[rows],
        prob={stage: result.rows[stage][rows] for stage in STAGES},
    )
