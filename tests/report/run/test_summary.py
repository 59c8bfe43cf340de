"""What the numbers of a run show, in words."""

from ich3d.core.bootstrap import Interval
from ich3d.evaluation.claims import verdict
from ich3d.evaluation.table import ResultRow
from ich3d.report.run.summary import headline


def row(
    name: str,
    loss: float,
    against: str | None = None,
    *,
    low: float = 0,
    high: float = 0,
    patients: int = 40,
) -> ResultRow:
    """A row with this weighted log loss, and with a paired difference from `low` to `high`."""
    difference = None if against is None else Interval((low + high) / 2, low, high)
    return ResultRow(
        name=name,
        seeds=1,
        weighted_log_loss=Interval(loss, loss - 0.01, loss + 0.01),
        spread=float("nan"),
        log_loss={},
        auc={},
        series_auc={},
        average_precision={},
        calibration_error={},
        incoherent=0.0,
        against=against,
        difference=difference,
        log_loss_difference={},
        auc_difference={},
        verdict=None if difference is None else verdict(difference, loss, patients, patients // 2),
    )


def test_the_headline_names_the_best_stage_its_lead_and_the_others() -> None:
    rows = [
        row("base rate", 0.3),
        row("position only", 0.28, "base rate", low=-0.03, high=-0.01),
        row("encoder", 0.2, "position only", low=-0.1, high=-0.06),
        row("context", 0.15, "encoder", low=-0.06, high=-0.04),
        row("stack", 0.16, "context", low=0.005, high=0.015),
    ]
    assert headline(rows) == (
        "The context stage scores best with a weighted log loss of 0.1500 (0.1400 to 0.1600), "
        "0.0500 lower than encoder "
        "(95 % interval of the difference -0.0600 to -0.0400, which excludes zero); "
        "encoder is better than position only; stack is worse than context."
    )


def test_the_headline_claims_no_gain_that_may_be_chance() -> None:
    rows = [
        row("base rate", 0.3),
        row("encoder", 0.29, "base rate", low=-0.03, high=0.01),
        row("stack", 0.3, "encoder", low=-0.01, high=0.03),
    ]
    assert "0.0100 lower than base rate" in headline(rows)
    assert "includes zero: no gain is shown" in headline(rows)
    assert headline(rows).endswith("stack shows no gain over encoder.")


def test_the_headline_says_where_a_baseline_is_best() -> None:
    rows = [row("base rate", 0.1), row("encoder", 0.2, "base rate", low=0.05, high=0.15)]
    assert headline(rows) == (
        "No stage beats base rate, whose weighted log loss is 0.1000 (0.0900 to 0.1100); "
        "encoder is worse than base rate."
    )


def test_a_gain_of_twelve_patients_is_not_told() -> None:
    rows = [
        row("base rate", 0.30),
        row("context", 0.2810, "base rate", low=-0.03, high=-0.01, patients=12),
        row("stack", 0.2800, "context", low=-0.0015, high=-0.0005, patients=12),
    ]
    text = headline(rows)
    assert "0.0010 lower than context" in text
    assert "of too few patients: no gain is told" in text
    assert "context was compared on too few patients with base rate" in text
    assert "better" not in text


def test_a_gain_below_one_percent_is_not_told() -> None:
    rows = [row("base rate", 0.281), row("stack", 0.28, "base rate", low=-0.0015, high=-0.0005)]
    assert headline(rows).endswith("but it is less than 1 %: no gain is told).")
