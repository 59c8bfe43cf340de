"""When a difference in log loss is called a gain: one rule for every page, table and message.

A row `is better` or `is worse` than another where all of this holds; otherwise the words say what
is missing.

- At least `MIN_PATIENTS` patients were compared, and `MIN_WITH_LABEL` of them have the label.
- The 95 % interval of the paired difference excludes zero.
- The difference is at least `SMALLEST_SHARE` of the log loss that it is compared with.
"""

from enum import StrEnum
from typing import Final

from ich3d.core.bootstrap import Interval

MIN_PATIENTS: Final = 20
"""With fewer, the draws of a bootstrap repeat the same few patients, and its interval is too
narrow."""

MIN_WITH_LABEL: Final = 8
"""Patients with the label. The other half of a log loss comes from them."""

SMALLEST_SHARE: Final = 0.01
"""A difference below a hundredth of the log loss changes nothing that a reader would do."""


class Verdict(StrEnum):
    """What a paired difference of log losses shows; lower is better."""

    GAIN = "gain"
    WORSE = "worse"
    NO_GAIN = "no gain"
    SMALL = "too small"
    FEW = "too few patients"


VERDICT_TEXT: Final = {
    Verdict.GAIN: "is better than",
    Verdict.WORSE: "is worse than",
    Verdict.NO_GAIN: "shows no gain over",
    Verdict.SMALL: "differs by less than 1 % from",
    Verdict.FEW: "was compared on too few patients with",
}
"""What stands between the names of the two rows."""


def verdict(difference: Interval, reference: float, patients: int, with_label: int) -> Verdict:
    """What a difference shows.

    Args:
        difference: of the log loss, paired: a row minus the one that it is compared with.
        reference: the log loss of that one.
        patients: patient groups that were compared.
        with_label: those of them that have the label; `any` for the weighted log loss.
    """
    if patients < MIN_PATIENTS or with_label < MIN_WITH_LABEL:
        return Verdict.FEW
    if not difference.excludes_zero:
        return Verdict.NO_GAIN
    if abs(difference.value) < SMALLEST_SHARE * reference:
        return Verdict.SMALL
    return Verdict.GAIN if difference.high < 0 else Verdict.WORSE


def claim(metric: str, name: str, against: str, difference: Interval, shown: Verdict) -> str:
    """A difference in one sentence: `Log loss: stack is better than context, -0.01 (...)`."""
    return f"{metric}: {name} {VERDICT_TEXT[shown]} {against}, {difference:+}."
