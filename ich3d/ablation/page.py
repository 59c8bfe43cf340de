"""The page of an ablation: what was compared, on which data, how to repeat it, and the results."""

from datetime import date
from pathlib import Path
from typing import Any

import ich3d
from ich3d.ablation.figures import auc_by_label, forest_plot
from ich3d.ablation.simulation.evidence import LOG_LOSS
from ich3d.config.load import as_dict
from ich3d.config.root import Config
from ich3d.config.schema import SEQUENCES
from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import ANY, LABELS, SUBTYPES
from ich3d.core.workspace import replacing
from ich3d.evaluation.claims import claim
from ich3d.evaluation.table import FEW_PATIENTS, ResultRow
from ich3d.report.page_template import template
from ich3d.report.run.metadata import labels_without_truth
from ich3d.report.run.page import table_content


def write_page(path: Path, config: Config, rows: list[ResultRow], truth: GroundTruth) -> None:
    """Write the page of the result rows to `path`."""
    html = template("ablation.html.j2").render(_content(config, rows, truth))
    with replacing(path) as partial:
        partial.write_text(html, encoding="utf-8")


def answers(rows: list[ResultRow], question: str, truth: GroundTruth) -> list[str]:
    """What the row `question` gains over the row that it is compared with.

    One sentence on the weighted log loss, then one for each label that enough patients have. Empty
    where the row is not compared.
    """
    (row,) = (row for row in rows if row.name == question)
    if row.difference is None:
        return []

    assert row.verdict is not None
    assert row.against is not None
    names = row.name, row.against
    sentences = [claim("Weighted log loss", *names, row.difference, row.verdict)]
    for label in (ANY, *SUBTYPES):
        if truth.positive_patients[label] >= FEW_PATIENTS:
            difference, shown = row.log_loss_difference[label], row.label_verdicts[label]
            sentences.append(claim(f"Log loss of {label}", *names, difference, shown))
    return sentences


def _content(config: Config, rows: list[ResultRow], truth: GroundTruth) -> dict[str, Any]:
    """The variables of `ablation.html.j2`."""
    positive = truth.positive_patients
    question = config.ablation.question
    return {
        "title": _title(config),
        "answers": [] if question is None else answers(rows, question, truth),
        "metadata": _metadata(config, rows, truth),
        "config": as_dict(config),
        "changes": {name: row.set for name, row in config.ablation.rows.items() if row.set},
        **table_content(rows, truth),
        "forest_plot": forest_plot(rows),
        "auc_by_label": auc_by_label(rows, positive),
    }


def _title(config: Config) -> str:
    """The first line of the page; of a simulation it says so."""
    title = config.ablation.title or "Ablation"
    is_told = config.source.kind != SEQUENCES or title.startswith("Simulation")
    return title if is_told else f"Simulation: {title}"


def _metadata(config: Config, rows: list[ResultRow], truth: GroundTruth) -> dict[str, str]:
    """Name and value of what was compared."""
    labelled = truth.table[truth.table[ANY].notna()]
    bleeding_groups = labelled.groupby("group_id")[ANY].max().sum()
    groups, volumes = labelled["group_id"].nunique(), labelled["volume_id"].nunique()
    return {
        "data": (
            f"{config.source.kind}: {groups} patient groups, {bleeding_groups:.0f} of them with "
            f"a bleed, {volumes} series, {len(labelled)} labelled slices"
        ),
        **(_simulation(truth) if config.source.kind == SEQUENCES else {}),
        **labels_without_truth(truth),
        "folds": (
            f"{config.prepare.folds}, split by patient group; no group is scored by a model that "
            "was trained on it"
        ),
        "seeds": f"{max(row.seeds for row in rows)} for a trained row; metrics are their means",
        "intervals": (
            f"95 %, {config.report.resamples} resamples of patient groups, those with and without "
            "a bleed drawn separately, with the same draws for every row"
        ),
        "configurations in the table": str(len(rows)),
        "created": f"{date.today().isoformat()} by ich3d {ich3d.__version__}",
    }


def _simulation(truth: GroundTruth) -> dict[str, str]:
    """Name and value of what was simulated, on which labels."""
    prevalence = ", ".join(f"{label} {100 * truth.table[label].mean():.2f} %" for label in LABELS)
    losses = ", ".join(f"{label} {loss:.4f}" for label, loss in LOG_LOSS.items())
    return {
        "labelled slices that bleed": prevalence,
        "simulated": (
            "the encoder alone, which reads single slices as well as can be. In each process its "
            f"log loss is that of a published network on RSNA 2019: {losses}. Labels and positions "
            "are real. HU features are constant. A row of the smoother knows the process, but "
            "neither the labels nor how they follow each other in the fold that it scores"
        ),
    }
