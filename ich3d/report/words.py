"""What the figures of a run say, in words."""

from ich3d.core.labels import STAGES
from ich3d.core.metrics import Interval
from ich3d.results import Row

GAIN, NO_GAIN, WORSE = "gain", "no gain", "worse"
_SAYS = {GAIN: "is better than", NO_GAIN: "shows no gain over", WORSE: "is worse than"}


def verdict(difference: Interval) -> str:
    """What a paired difference of log losses shows: lower is better; around zero is nothing shown."""
    if difference.high < 0:
        return GAIN
    return WORSE if difference.low > 0 else NO_GAIN


def headline(rows: list[Row]) -> str:
    """One sentence: which row is best, by how much, whether that is sure, and what the other stages do."""
    best = min(rows, key=lambda row: row.evaluation.weighted_log_loss.value)
    others = [_clause(row) for row in rows if row is not best and row.evaluation.name in STAGES]
    return "; ".join([_lead(best), *others]) + "."


def _lead(best: Row) -> str:
    name, loss = best.evaluation.name, best.evaluation.weighted_log_loss
    if name not in STAGES:
        return f"No stage beats {name}, whose weighted log loss is {loss}"
    lead = f"The {name} stage scores best with a weighted log loss of {loss}"
    if best.difference is None:
        return lead
    low, high = (f"{end:+.4f}" for end in (best.difference.low, best.difference.high))
    zero = "excludes zero" if best.difference.excludes_zero else "includes zero: no gain is shown"
    size = f"{abs(best.difference.value):.4f} lower than {best.against}"
    return f"{lead}, {size} (95 % interval of the difference {low} to {high}, which {zero})"


def _clause(row: Row) -> str:
    assert row.difference is not None
    return f"{row.evaluation.name} {_SAYS[verdict(row.difference)]} {row.against}"
