"""TODO."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ich3d.core.metrics import RankedScores, log_losses, weighted_mean


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self}"

    def __format__(self, sign: str) -> str:
        """`value (low to high)`, each with a sign where `sign` is `+`."""
        return f"{self.value:{sign}.4f} ({self.low:{sign}.4f} to {self.high:{sign}.4f})"

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class PatientBootstrap:
    """Draws of patient groups with replacement, within strata, the same for every row compared.

    `counts` (R, G) says how often each draw holds each group; `row_group` (N,) which group a slice is of.
    """

    counts: np.ndarray
    row_group: np.ndarray

    @classmethod
    def of(
        cls,
        groups: Sequence[str] | np.ndarray,
        bleeds: np.ndarray,
        draws: int,
        rng: np.random.Generator,
    ) -> "PatientBootstrap":
        """Draws for slices of these groups (N,); groups with and without a bleeding slice are strata."""
        names, row_group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        stratum = np.zeros(len(names), dtype=bool)
        np.logical_or.at(stratum, row_group, np.nan_to_num(bleeds) > 0.5)
        counts = np.zeros((draws, len(names)))
        for value in (False, True):
            members = np.flatnonzero(stratum == value)
            if len(members):
                share = np.full(len(members), 1 / len(members))
                counts[:, members] = rng.multinomial(len(members), share, size=draws)
        return cls(counts, row_group)

    def label_log_loss(self, prob: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Mean log loss (R, K) of each draw."""
        losses = log_losses(prob, target)
        present = ~np.isnan(losses)
        n_groups = self.counts.shape[1]
        total = np.zeros((n_groups, losses.shape[1]))
        rows = np.zeros_like(total)
        np.add.at(total, self.row_group, np.where(present, losses, 0.0))
        np.add.at(rows, self.row_group, present)
        with np.errstate(invalid="ignore"):
            return np.asarray((self.counts @ total) / (self.counts @ rows))

    def weighted_log_loss(self, prob: np.ndarray, target: np.ndarray) -> np.ndarray:
        """RSNA's score (R,) of each draw."""
        return weighted_mean(self.label_log_loss(prob, target))

    def auc(self, prob: np.ndarray, target: np.ndarray) -> np.ndarray:
        """AUC (R,) of one label (N,) for each draw."""
        ranked = RankedScores.of(prob, target)
        rows = self.row_group[ranked.order]
        return np.array([ranked.auc(draw[rows]) for draw in self.counts])


def interval(value: float | np.ndarray, draws: np.ndarray) -> Interval:
    """`value` with the 2.5th and 97.5th percentile of the draws that are defined."""
    known = draws[~np.isnan(draws)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high))
