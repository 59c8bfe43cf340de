"""The ablation's page: what was compared, on what, by which command, and what to conclude."""

from datetime import date
from pathlib import Path
from typing import Any

import ich3d
from ich3d.ablation.figures import by_label, forest
from ich3d.config.load import as_dict
from ich3d.config.root import Config
from ich3d.core.labels import ANY, LABELS, SUBTYPES
from ich3d.core.workspace import replacing
from ich3d.evaluation.bootstrap import Interval
from ich3d.evaluation.ground_truth import GroundTruth
from ich3d.evaluation.table import FEW_PATIENTS, ResultRow, auc_cell
from ich3d.report.run.metadata import left_out
from ich3d.report.run.page import template
from ich3d.report.run.summary import SAYS, verdict


def write_page(path: Path, config: Config, lines: list[ResultRow], truth: GroundTruth) -> None:
    """Write the page whole."""
    html = template("ablation.html.j2").render(_content(config, lines, truth))
    with replacing(path) as partial:
        partial.write_text(html, encoding="utf-8")


def answers(lines: list[ResultRow], question: str, truth: GroundTruth) -> list[str]:
    """One sentence for the metric and one for each label that enough patients have: what the row `question`
    is worth over the row that it is compared with."""
    (line,) = (line for line in lines if line.name == question)
    if line.difference is None or line.against is None:
        return []
    positive = truth.positive_patients
    told = [_sentence("Weighted log loss", line, line.difference)]
    for label in (ANY, *SUBTYPES):
        if positive[label] >= FEW_PATIENTS:
            told.append(_sentence(f"Log loss of {label}", line, line.log_loss_difference[label]))
    return told


def _sentence(what: str, line: ResultRow, difference: Interval) -> str:
    return f"{what}: {line.name} {SAYS[verdict(difference)]} {line.against}, {difference:+}."


def _content(config: Config, lines: list[ResultRow], truth: GroundTruth) -> dict[str, Any]:
    """All that the template names."""
    positive = truth.positive_patients
    changes = {name: row.set for name, row in config.ablation.rows.items() if row.set}
    question = config.ablation.question
    return {
        "answers": [] if question is None else answers(lines, question, truth),
        "facts": _facts(config, lines, truth),
        "config": as_dict(config),
        "changes": changes,
        "labels": LABELS,
        "positive": positive,
        "few": FEW_PATIENTS,
        "lines": lines,
        "verdict": verdict,
        "auc": auc_cell,
        "forest": forest(lines),
        "by_label": by_label(lines, positive),
    }


def _facts(config: Config, lines: list[ResultRow], truth: GroundTruth) -> dict[str, str]:
    table = truth.table[truth.table[ANY].notna()]
    bleeding = table.groupby("group_id")[ANY].max().sum()
    counts = {name: table[f"{name}_id"].nunique() for name in ("group", "volume")}
    return {
        "data": f"{config.source.kind}: {counts['group']} patient groups, {bleeding:.0f} of which bleed, "
        f"{counts['volume']} series, {len(table)} labelled slices",
        **left_out(truth),
        "folds": f"{config.prepare.folds}, by patient group; no score is from a model that saw the group",
        "seeds": f"{max(line.seeds for line in lines)} a trained row; figures are means over seeds",
        "intervals": f"95 %, {config.report.resamples} resamples of patient groups, bleeding and calm ones "
        "apart, the same draws for every row",
        "configurations in the table": str(len(lines)),
        "made": f"{date.today().isoformat()} by ich3d {ich3d.__version__}",
    }
