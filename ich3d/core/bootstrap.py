"""Confidence intervals by bootstrap resampling of patient groups.

Slices of one patient are not independent, so patient groups are drawn and never single slices.
Groups with and without a bleed are drawn separately, so that every draw holds as many of each as
the data. All rows of a table share the same draws, which makes their differences paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ich3d.core.metrics import RankedScores, log_losses, weighted_mean

PERCENTILES = (2.5, 97.5)  # a 95 % percentile interval


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval from `low` to `high`."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self}"

    def __format__(self, sign: str) -> str:
        """`value (low to high)` with four decimals; with `sign` "+", each number has its sign. The
        value alone where no draw is defined.
        """
        if np.isnan(self.low):
            return f"{self.value:{sign}.4f}"
        return f"{self.value:{sign}.4f} ({self.low:{sign}.4f} to {self.high:{sign}.4f})"

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval; False where the interval is NaN."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class PatientBootstrap:
    """Draws of G patient groups with replacement, the same for every row that is compared.

    `counts` (R, G) says how often each of R draws holds each group; `row_group` (N,) gives the
    index of the group of each slice.
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
        """Draw patient groups, stratified by whether a group has a bleeding slice.

        There are no draws, and so no intervals, where no stratum has two groups.

        Args:
            groups: the patient group of each slice (N,).
            bleeds: the label `any` of each slice (N,), NaN where unlabelled.
            draws: the number of draws R.
            rng: the source of randomness.
        """
        names, row_group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        has_bleed = np.zeros(len(names), dtype=bool)
        np.logical_or.at(has_bleed, row_group, np.nan_to_num(bleeds) > 0.5)

        strata = [np.flatnonzero(has_bleed == stratum) for stratum in (False, True)]
        if max(map(len, strata)) < 2:  # all draws would be equal, and say nothing of others
            draws = 0
        counts = np.zeros((draws, len(names)))
        for members in strata:
            if len(members):
                share = np.full(len(members), 1 / len(members))
                counts[:, members] = rng.multinomial(len(members), share, size=draws)
        return cls(counts, row_group)

    def label_log_loss(self, prob: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Mean log loss (R, K) of each draw, from `prob` and `target` (N, K)."""
        losses = log_losses(prob, target)  # (N, K)
        is_labelled = ~np.isnan(losses)

        # Sums per group are enough: a draw repeats whole groups.
        shape = (self.counts.shape[1], losses.shape[1])
        loss_sums, label_counts = np.zeros(shape), np.zeros(shape)  # (G, K)
        np.add.at(loss_sums, self.row_group, np.where(is_labelled, losses, 0.0))
        np.add.at(label_counts, self.row_group, is_labelled)

        # A draw without a labelled slice divides zero by zero: its loss is NaN.
        with np.errstate(invalid="ignore"):
            return np.asarray((self.counts @ loss_sums) / (self.counts @ label_counts))  # (R, K)

    def weighted_log_loss(self, prob: np.ndarray, target: np.ndarray) -> np.ndarray:
        """RSNA 2019's score (R,) of each draw, from `prob` and `target` (N, K)."""
        return weighted_mean(self.label_log_loss(prob, target))

    def auc(self, prob: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Area under the ROC curve (R,) of each draw, from `prob`, `target` (N,) of one label."""
        ranked = RankedScores.of(prob, target)
        ranked_groups = self.row_group[ranked.order]
        return np.array([ranked.auc(draw[ranked_groups]) for draw in self.counts])


def interval(value: float | np.ndarray, draws: np.ndarray) -> Interval:
    """`value` with the 2.5th and 97.5th percentile of `draws` (R,), of which NaN are left out.

    Both ends are NaN where no draw is defined.
    """
    defined = draws[~np.isnan(draws)]
    low, high = np.percentile(defined, PERCENTILES) if len(defined) else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high))
