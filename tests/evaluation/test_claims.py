"""When a difference is called a gain."""

import numpy as np
import pytest

from ich3d.core.bootstrap import Interval
from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import ANY
from ich3d.evaluation.claims import (
    MIN_PATIENTS,
    MIN_WITH_LABEL,
    SMALLEST_SHARE,
    Verdict,
    claim,
    verdict,
)
from ich3d.evaluation.table import compare
from tests.helpers.scores import scores, thirty_patients


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (-0.2, -0.1, Verdict.GAIN),
        (-0.2, 0.1, Verdict.NO_GAIN),
        (-0.1, 0.0, Verdict.NO_GAIN),
        (0.0, 0.0, Verdict.NO_GAIN),
        (0.1, 0.2, Verdict.WORSE),
        (float("nan"), float("nan"), Verdict.NO_GAIN),
    ],
)
def test_a_gain_needs_an_interval_that_excludes_zero(
    low: float, high: float, shown: Verdict
) -> None:
    assert verdict(Interval((low + high) / 2, low, high), 1.0, 40, 20) is shown


@pytest.mark.parametrize(
    ("patients", "with_label", "shown"),
    [
        (MIN_PATIENTS, MIN_WITH_LABEL, Verdict.GAIN),
        (MIN_PATIENTS - 1, MIN_WITH_LABEL, Verdict.FEW),
        (MIN_PATIENTS, MIN_WITH_LABEL - 1, Verdict.FEW),
        (12, 12, Verdict.FEW),
    ],
)
def test_a_gain_needs_patients(patients: int, with_label: int, shown: Verdict) -> None:
    assert verdict(Interval(-0.1, -0.2, -0.05), 1.0, patients, with_label) is shown


@pytest.mark.parametrize(("factor", "shown"), [(1.01, Verdict.GAIN), (0.99, Verdict.SMALL)])
def test_a_gain_is_large_enough_to_matter(factor: float, shown: Verdict) -> None:
    value = -factor * SMALLEST_SHARE * 0.15
    assert verdict(Interval(value, 2 * value, value / 2), 0.15, 40, 20) is shown


@pytest.mark.parametrize("shown", Verdict)
def test_a_claim_is_one_sentence(shown: Verdict) -> None:
    sentence = claim("Log loss of any", "stack", "context", Interval(-0.1, -0.2, -0.05), shown)
    assert sentence.startswith("Log loss of any: stack ")
    assert sentence.endswith(" context, -0.1000 (-0.2000 to -0.0500).")
    assert ("better" in sentence) == (shown is Verdict.GAIN)


def test_rows_carry_what_their_differences_show() -> None:
    truth = thirty_patients()
    prob = {"weak": scores(truth, 1.0), "strong": scores(truth, 3.0)}
    weak, strong = compare(prob, {"strong": "weak"}, truth, 100, 0)
    assert weak.verdict is None
    assert strong.verdict is Verdict.GAIN
    assert strong.label_verdicts[ANY] is Verdict.GAIN
    assert strong.label_verdicts["subdural"] is Verdict.FEW  # three patients have it

    is_first = np.isin(truth.group, np.unique(truth.group)[:12])
    few = GroundTruth(truth.table[is_first].reset_index(drop=True))
    cut = {name: runs[:, is_first] for name, runs in prob.items()}
    assert compare(cut, {"strong": "weak"}, few, 100, 0)[1].verdict is Verdict.FEW
