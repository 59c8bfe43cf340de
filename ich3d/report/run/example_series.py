"""One held-out series as an example: how it is chosen, and which of its slices are shown."""

from dataclasses import dataclass

import numpy as np

from ich3d.core.labels import ANY, LABELS, STAGES, SUBTYPES
from ich3d.core.metrics import weighted_log_loss
from ich3d.evaluation.run import OutOfFold

MAX_SHOWN_SLICES = 12
SELECTION_RULE = (
    "Of the fully labelled series with a bleed, those whose stack loss lies in the middle half are "
    "considered; of these the one with the most bleeding slices is shown, the first by volume_id "
    "on a tie."
)


@dataclass(frozen=True)
class ExampleSeries:
    """One held-out series, inferior to superior.

    `z_mm` (Z,) in millimetres, `target` (Z, K) as 0 or 1, `prob[stage]` (Z, K).
    """

    volume_id: str
    fold: int
    z_mm: np.ndarray
    target: np.ndarray
    prob: dict[str, np.ndarray]

    @property
    def shown_labels(self) -> list[str]:
        """`any`, then the subtypes that occur in the series."""
        return [ANY, *self._subtypes_in(self.target)]

    @property
    def shown_slices(self) -> list[int]:
        """Indices of at most `MAX_SHOWN_SLICES` slices, evenly from the lowest to the highest."""
        count = len(self.z_mm)
        evenly = np.linspace(0, count - 1, min(count, MAX_SHOWN_SLICES)).round().astype(int)
        return [int(index) for index in evenly]

    def subtypes_of(self, index: int) -> list[str]:
        """The subtypes that slice `index` truly has."""
        return self._subtypes_in(self.target[index : index + 1])

    def _subtypes_in(self, target: np.ndarray) -> list[str]:
        """The subtypes that at least one of the labelled slices (N, K) has."""
        is_present = target.max(axis=0) > 0.5  # (K,)
        return [label for label in SUBTYPES if is_present[LABELS.index(label)]]

    def true_spans_mm(self, label: str) -> list[tuple[float, float]]:
        """From where to where the label is present, a pair for each slice that has it."""
        is_positive = self.target[:, LABELS.index(label)] > 0.5
        return [(float(low), float(high)) for low, high in slabs_mm(self.z_mm)[is_positive]]


def slabs_mm(z_mm: np.ndarray) -> np.ndarray:
    """The slab (Z, 2) that each slice at `z_mm` (Z,) stands for, from lower to upper end in mm.

    It ends halfway to the slice below and to the slice above. A single slice has a slab of 1 mm.
    """
    half = np.diff(z_mm) / 2  # (Z - 1,)
    lowest, highest = (half[0], half[-1]) if len(half) else (0.5, 0.5)
    return np.stack([z_mm - np.r_[lowest, half], z_mm + np.r_[half, highest]], axis=1)  # (Z, 2)


def typical_series(result: OutOfFold) -> ExampleSeries | None:
    """Choose the series by `SELECTION_RULE`; None where no fully labelled series has a bleed."""
    target, stack = result.truth.target, result.prob["stack"]
    slices = _fully_labelled_with_bleed(result)
    if not slices:
        return None

    loss = {name: weighted_log_loss(stack[rows], target[rows]) for name, rows in slices.items()}
    low = np.quantile(list(loss.values()), 0.25, method="lower")
    high = np.quantile(list(loss.values()), 0.75, method="higher")
    middle_half = [name for name in slices if low <= loss[name] <= high]
    chosen = max(middle_half, key=lambda name: target[slices[name], LABELS.index(ANY)].sum())

    rows = slices[chosen]
    return ExampleSeries(
        volume_id=chosen,
        fold=int(result.truth.fold[rows[0]]),
        z_mm=result.truth.table["z_mm"].to_numpy(float)[rows],
        target=target[rows],
        prob={stage: result.prob[stage][rows] for stage in STAGES},
    )


def _fully_labelled_with_bleed(result: OutOfFold) -> dict[str, np.ndarray]:
    """Indices of the slices of each such series, by volume_id in sorted order."""
    target = result.truth.target
    by_volume = result.truth.table.groupby("volume_id", sort=True).indices
    return {
        str(name): np.asarray(rows)
        for name, rows in by_volume.items()
        if not np.isnan(target[rows]).any() and target[rows, LABELS.index(ANY)].any()
    }
