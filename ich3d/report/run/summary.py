"""What the numbers of a run show, in words."""

from ich3d.core.labels import STAGES
from ich3d.evaluation.claims import VERDICT_TEXT, Verdict
from ich3d.evaluation.table import ResultRow

WHAT_IS_SHOWN = {
    Verdict.GAIN: "which excludes zero",
    Verdict.WORSE: "which excludes zero",
    Verdict.NO_GAIN: "which includes zero: no gain is shown",
    Verdict.SMALL: "which excludes zero, but it is less than 1 %: no gain is told",
    Verdict.FEW: "of too few patients: no gain is told",
}
"""The end of the sentence about the best row."""


def headline(rows: list[ResultRow]) -> str:
    """One sentence: the best row, by how much, whether that is certain, and the other stages."""
    best = min(rows, key=lambda row: row.weighted_log_loss.value)
    others = [_comparison(row) for row in rows if row is not best and row.name in STAGES]
    return "; ".join([_best_row(best), *others]) + "."


def _best_row(best: ResultRow) -> str:
    name, loss, difference = best.name, best.weighted_log_loss, best.difference
    if name not in STAGES:
        return f"No stage beats {name}, whose weighted log loss is {loss}"

    lead = f"The {name} stage scores best with a weighted log loss of {loss}"
    if difference is None or best.verdict is None:
        return lead
    size = f"{abs(difference.value):.4f} lower than {best.against}"
    ends = f"{difference.low:+.4f} to {difference.high:+.4f}"
    shown = WHAT_IS_SHOWN[best.verdict]
    return f"{lead}, {size} (95 % interval of the difference {ends}, {shown})"


def _comparison(row: ResultRow) -> str:
    assert row.verdict is not None
    return f"{row.name} {VERDICT_TEXT[row.verdict]} {row.against}"
