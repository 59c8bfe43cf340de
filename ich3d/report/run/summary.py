"""What the numbers of a run show, in words."""

from ich3d.core.bootstrap import Interval
from ich3d.core.labels import STAGES
from ich3d.evaluation.table import ResultRow

GAIN, NO_GAIN, WORSE = "gain", "no gain", "worse"
VERDICT_TEXT = {GAIN: "is better than", NO_GAIN: "shows no gain over", WORSE: "is worse than"}


def verdict(difference: Interval) -> str:
    """What a paired difference of log losses shows: `GAIN`, `NO_GAIN` or `WORSE`.

    Lower is better. An interval that includes zero shows no gain.
    """
    if difference.high < 0:
        return GAIN
    return WORSE if difference.low > 0 else NO_GAIN


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
    if difference is None:
        return lead
    size = f"{abs(difference.value):.4f} lower than {best.against}"
    ends = f"{difference.low:+.4f} to {difference.high:+.4f}"
    zero = "excludes zero" if difference.excludes_zero else "includes zero: no gain is shown"
    return f"{lead}, {size} (95 % interval of the difference {ends}, which {zero})"


def _comparison(row: ResultRow) -> str:
    assert row.difference is not None
    return f"{row.name} {VERDICT_TEXT[verdict(row.difference)]} {row.against}"
