"""Whether models err less where they agree: the error by thirds of the slices, by agreement."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ich3d.core.bootstrap import Interval, PatientBootstrap, interval
from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import ANY, LABELS
from ich3d.core.metrics import weighted_log_loss

THIRDS: Final = ("lowest", "middle", "highest")

SUSPECTED_FROM: Final = 0.1
"""A final probability of `any` from which on a slice is no easy negative.

Labels take no part in the choice: with the missed bleeds alone added, those on which models agree
would look worse than they are.
"""

ALL_SLICES: Final = "all"
SUSPECTED: Final = f"any from {SUSPECTED_FROM:g} on"


@dataclass(frozen=True)
class Third:
    """A third of the slices.

    Attributes:
        name: one of `THIRDS`, by agreement.
        n_slices: how many slices it has.
        low, high: the least and the largest agreement among them, at most 1.
        bleeding: share of the labelled ones that have the label `any`; NaN where none is labelled.
        loss: their weighted log loss.
    """

    name: str
    n_slices: int
    low: float
    high: float
    bleeding: float
    loss: float

    @property
    def bleeding_text(self) -> str:
        """The share with two decimals; a dash where it is not defined."""
        return "-" if np.isnan(self.bleeding) else f"{self.bleeding:.2f}"


@dataclass(frozen=True)
class ErrorByAgreement:
    """The thirds of some slices, lowest agreement first.

    Attributes:
        slices: which slices they are, `ALL_SLICES` or `SUSPECTED`.
        thirds: the three thirds.
        difference: weighted log loss of the highest third minus that of the lowest; below zero
            where error falls as agreement rises. Its interval resamples patient groups.
    """

    slices: str
    thirds: tuple[Third, ...]
    difference: Interval


def error_by_agreement(
    agreement: np.ndarray | None, prob: np.ndarray, truth: GroundTruth, draws: int, seed: int
) -> list[ErrorByAgreement]:
    """The error by thirds of agreement, of all slices and of those that are suspected to bleed.

    Most slices are easy negatives, on which models agree and do not err: among all slices, error
    falls for that alone. The second entry is without them. Slices of equal agreement keep the
    order of the table. Slices without an agreement are left out, and so is an entry of fewer than
    three slices.

    Args:
        agreement: that of the models behind each slice (N,), NaN where it is not told; None where
            there is none at all.
        prob: probabilities (N, K) of the final stage.
        truth: the labels of the N slices.
        draws: how often patient groups are resampled for the intervals.
        seed: seed of the resampling.
    """
    if agreement is None:
        return []
    bootstrap = truth.bootstrap(draws, seed)
    any_index = LABELS.index(ANY)
    is_told = ~np.isnan(agreement)
    is_suspected = prob[:, any_index] >= SUSPECTED_FROM
    subsets = {ALL_SLICES: is_told, SUSPECTED: is_told & is_suspected}
    return [
        _by_thirds(name, np.flatnonzero(subset), agreement, prob, truth, bootstrap)
        for name, subset in subsets.items()
        if subset.sum() >= len(THIRDS)
    ]


def agreement_markdown(entries: Sequence[ErrorByAgreement]) -> str:
    """The thirds as a table in Markdown, with the difference of the highest and the lowest."""
    text = [
        "| slices | third by agreement | agreement | number | bleeding | weighted log loss |",
        "|" + "---|" * 6,
    ]
    for entry in entries:
        for third in entry.thirds:
            cells = (
                entry.slices,
                third.name,
                f"{third.low:.3f} to {third.high:.3f}",
                str(third.n_slices),
                third.bleeding_text,
                f"{third.loss:.4f}",
            )
            text.append(f"| {' | '.join(cells)} |")
        difference = f"{entry.difference:+}"
        text.append(f"| {entry.slices} | highest minus lowest | | | | {difference} |")
    return "\n".join(text)


def _by_thirds(
    name: str,
    rows: np.ndarray,
    agreement: np.ndarray,
    prob: np.ndarray,
    truth: GroundTruth,
    bootstrap: PatientBootstrap,
) -> ErrorByAgreement:
    """The thirds of the slices `rows` (M,), indices into the N slices of the other arguments."""
    ascending = rows[np.argsort(agreement[rows], kind="stable")]
    parts = np.array_split(ascending, len(THIRDS))
    bleeds = truth.target[:, LABELS.index(ANY)]
    thirds = tuple(
        Third(
            name=third,
            n_slices=len(part),
            low=float(agreement[part[0]]),
            high=float(agreement[part[-1]]),
            bleeding=_known_mean(bleeds[part]),
            loss=weighted_log_loss(prob[part], truth.target[part]),
        )
        for third, part in zip(THIRDS, parts, strict=True)
    )
    low_draws, high_draws = (
        PatientBootstrap(bootstrap.counts, bootstrap.row_group[part]).weighted_log_loss(
            prob[part], truth.target[part]
        )
        for part in (parts[0], parts[-1])
    )
    difference = interval(thirds[-1].loss - thirds[0].loss, high_draws - low_draws)
    return ErrorByAgreement(name, thirds, difference)


def _known_mean(values: np.ndarray) -> float:
    """The mean of values (M,) without NaN; NaN where there is no other."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
