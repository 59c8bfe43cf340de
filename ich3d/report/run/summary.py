"""What the figures of a run say, in words."""

from ich3d.core.labels import STAGES
from ich3d.evaluation.bootstrap import Interval
from ich3d.evaluation.table import ResultRow

GAIN, NO_GAIN, WORSE = "gain", "no gain", "worse"
SAYS = {GAIN: "is better than", NO_GAIN: "shows no gain over", WORSE: "is worse than"}


def verdict(difference: Interval) -> str:
    """What a paired difference of log losses shows: lower is better; around zero is nothing shown."""
    if difference.high < 0:
        return GAIN
    return WORSE if difference.low > 0 else NO_GAIN


def headline(lines: list[ResultRow]) -> str:
    """One sentence: which row is best, by how much, whether that is sure, and what the other stages do."""
    best = min(lines, key=lambda line: line.weighted_log_loss.value)
    others = [_clause(line) for line in lines if line is not best and line.name in STAGES]
    return "; ".join([_lead(best), *others]) + "."


def _lead(best: ResultRow) -> str:
    name, loss = best.name, best.weighted_log_loss
    if name not in STAGES:
        return f"No stage beats {name}, whose weighted log loss is {loss}"
    lead = f"The {name} stage scores best with a weighted log loss of {loss}"
    if best.difference is None:
        return lead
    low, high = (f"{end:+.4f}" for end in (best.difference.low, best.difference.high))
    zero = "excludes zero" if best.difference.excludes_zero else "includes zero: no gain is shown"
    size = f"{abs(best.difference.value):.4f} lower than {best.against}"
    return f"{lead}, {size} (95 % interval of the difference {low} to {high}, which {zero})"


def _clause(line: ResultRow) -> str:
    assert line.difference is not None
    return f"{line.name} {SAYS[verdict(line.difference)]} {line.against}"
