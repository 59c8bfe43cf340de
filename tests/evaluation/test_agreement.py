"""Error by thirds of agreement: every slice in one third, and losses that are worked by hand."""

import numpy as np
import pytest

from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import LABELS
from ich3d.core.metrics import weighted_log_loss
from ich3d.evaluation.agreement import (
    ALL_SLICES,
    SUSPECTED,
    ErrorByAgreement,
    agreement_markdown,
    error_by_agreement,
)
from tests.helpers.scores import SLICES, scores, thirty_patients

ANY = LABELS.index("any")


def entries_of(
    agreement: np.ndarray, prob: np.ndarray, truth: GroundTruth, draws: int = 50
) -> dict[str, ErrorByAgreement]:
    """The entries by which slices they are of."""
    entries = error_by_agreement(agreement, prob, truth, draws, seed=0)
    return {entry.slices: entry for entry in entries}


def test_thirds_are_sorted_by_agreement_and_hold_every_slice_once() -> None:
    truth = thirty_patients()
    (prob,) = scores(truth, certainty=1.0)
    agreement = np.random.default_rng(1).random(len(prob))
    entry = entries_of(agreement, prob, truth)[ALL_SLICES]
    order = np.argsort(agreement)
    for third, rows in zip(entry.thirds, np.split(order, 3), strict=True):
        assert third.n_slices == len(rows) == 10 * SLICES
        assert (third.low, third.high) == (agreement[rows].min(), agreement[rows].max())
        assert third.bleeding == truth.target[rows, ANY].mean()
        assert third.loss == weighted_log_loss(prob[rows], truth.target[rows])
    lowest, _, highest = entry.thirds
    assert entry.difference.value == highest.loss - lowest.loss


def test_error_that_falls_as_agreement_rises_is_shown() -> None:
    """Scores that know the truth where models agree, and nothing where they do not."""
    truth = thirty_patients()
    agreement = np.random.default_rng(1).random(len(truth.table))
    known = np.clip(truth.target, 0.01, 0.99)
    prob = np.where(agreement[:, None] > 0.5, known, 0.5)
    for entry in entries_of(agreement, prob, truth).values():
        assert entry.difference.high < 0

    indifferent = np.full_like(prob, 0.5)
    for entry in entries_of(agreement, indifferent, truth).values():
        ends = (entry.difference.value, entry.difference.low, entry.difference.high)
        assert ends == pytest.approx((0, 0, 0), abs=1e-12)


def test_what_is_scored_low_is_left_out_of_the_second_entry() -> None:
    truth = thirty_patients()
    prob = np.full(truth.target.shape, 0.01)
    prob[:SLICES, ANY] = 0.1  # of a patient without a bleed
    agreement = np.linspace(0, 1, len(prob))
    entry = entries_of(agreement, prob, truth)[SUSPECTED]
    assert [third.n_slices for third in entry.thirds] == 3 * [SLICES // 3]
    assert [third.bleeding for third in entry.thirds] == [0, 0, 0]
    assert entry.thirds[-1].high == agreement[SLICES - 1]


def test_slices_of_equal_agreement_keep_their_order() -> None:
    truth = thirty_patients()
    (prob,) = scores(truth, certainty=1.0)
    lowest, _, highest = entries_of(np.ones(len(prob)), prob, truth)[ALL_SLICES].thirds
    third = len(prob) // 3
    assert lowest.loss == weighted_log_loss(prob[:third], truth.target[:third])
    assert highest.loss == weighted_log_loss(prob[-third:], truth.target[-third:])


def test_slices_without_an_agreement_take_no_part() -> None:
    truth = thirty_patients()
    (prob,) = scores(truth, certainty=1.0)
    agreement = np.full(len(prob), np.nan)
    assert error_by_agreement(None, prob, truth, 10, 0) == []
    assert error_by_agreement(agreement, prob, truth, 10, 0) == []
    agreement[[5, 17, 40]] = [0.5, 0.25, 0.75]
    thirds = entries_of(agreement, prob, truth)[ALL_SLICES].thirds
    assert [(third.n_slices, third.low) for third in thirds] == [(1, 0.25), (1, 0.5), (1, 0.75)]


@pytest.mark.parametrize("draws", [0, 20])
def test_the_table_has_every_number_and_no_nan(draws: int) -> None:
    truth = thirty_patients()
    (prob,) = scores(truth, certainty=1.0)
    agreement = np.linspace(0.5, 1, len(prob))
    entries = error_by_agreement(agreement, prob, truth, draws, 0)
    table = agreement_markdown(entries)
    lines = table.splitlines()
    assert len(lines) == 2 + 2 * 4
    assert lines[2].startswith("| all | lowest | 0.500 to ")
    assert f"| {entries[0].difference:+} |" in lines[5]
    assert "nan" not in table
