"""The page and the tables of `ich3d evaluate`: predictions judged against labels."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

import ich3d
from ich3d.core.bootstrap import Interval
from ich3d.core.labels import ANY
from ich3d.core.operating_point import SERIES, SLICES, OperatingPoint, operating_points
from ich3d.core.text import pluralize
from ich3d.core.workspace import replacing, write_csv
from ich3d.evaluation.agreement import agreement_markdown, error_by_agreement
from ich3d.evaluation.predictions import BASE_RATE, LabelledScores
from ich3d.evaluation.table import ResultRow, auc_cell, compare, markdown, tidy
from ich3d.report.figures import forest_plot
from ich3d.report.page_template import template
from ich3d.report.run.page import table_content

OUTPUTS: Final = (
    "evaluation.html", "evaluation.csv", "evaluation_points.csv", "evaluation_unscored.csv",
)  # fmt: skip

MAX_LISTED: Final = 50
"""Longest list of unscored slices on the page; `evaluation_unscored.csv` holds all."""


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation: its tables in Markdown, and the path of its page."""

    tables: str
    page: Path


def write_evaluation(
    scores: LabelledScores, out: Path, threshold: float, draws: int, seed: int
) -> Evaluation:
    """Judge scores and write `evaluation.html`, `evaluation.csv`, `evaluation_points.csv` and
    `evaluation_unscored.csv` to the folder `out`.

    Args:
        scores: predictions with their labels.
        out: the folder to write to.
        threshold: probability from which on a slice or series is flagged.
        draws: how often groups are resampled for the intervals; none are drawn where slices are
            not known to belong together.
        seed: seed of the resampling.
    """
    draws = draws if scores.groups_are else 0
    names = list(scores.prob)
    against = dict(zip(names[1:], names, strict=False))  # each row and the one before it
    runs = {name: prob[None] for name, prob in scores.prob.items()}  # one seed: (1, N, K)
    rows = compare(runs, against, scores.truth, draws, seed)
    points = operating_points(scores.prob[names[-1]], scores.truth, threshold, draws, seed)
    by_agreement = error_by_agreement(
        scores.agreement, scores.prob[names[-1]], scores.truth, draws, seed
    )
    if scores.groups_are is None:
        points = [point for point in points if point.level == SLICES]

    write_csv(out / "evaluation.csv", tidy(rows))
    write_csv(out / "evaluation_points.csv", points_table(points, threshold))
    write_csv(out / "evaluation_unscored.csv", pd.DataFrame({"sop_uid": scores.unscored}))
    page = out / "evaluation.html"
    content = _content(scores, rows, points, threshold, draws)
    html = template("evaluation.html.j2").render({**content, "by_agreement": by_agreement})
    with replacing(page) as partial:
        partial.write_text(html, encoding="utf-8")
    tables = [markdown(rows, scores.truth), points_markdown(points)]
    if by_agreement:
        tables.append(agreement_markdown(by_agreement))
    return Evaluation("\n\n".join(tables), page)


def points_table(points: list[OperatingPoint], threshold: float) -> pd.DataFrame:
    """One row an operating point; the ends of an interval are empty where there is none."""
    return pd.DataFrame(
        {
            "level": point.level,
            "label": point.label,
            "threshold": threshold,
            "n_positive": point.n_positive,
            "n_negative": point.n_negative,
            **_columns("sensitivity", point.sensitivity),
            **_columns("specificity", point.specificity),
        }
        for point in points
    )


def points_markdown(points: list[OperatingPoint]) -> str:
    """The operating points as a table in Markdown."""
    text = [
        "| level | label | with it | sensitivity | without it | specificity |",
        "|" + "---|" * 6,
    ]
    for point in points:
        cells = (
            point.level,
            point.label,
            str(point.n_positive),
            share_cell(point.sensitivity),
            str(point.n_negative),
            share_cell(point.specificity),
        )
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def share_cell(share: Interval) -> str:
    """A share with its interval, two decimals; a dash where it is not defined."""
    if np.isnan(share.value):
        return "-"
    if np.isnan(share.low):
        return f"{share.value:.2f}"
    return f"{share.value:.2f} ({share.low:.2f} to {share.high:.2f})"


def _columns(name: str, share: Interval) -> dict[str, float]:
    return {name: share.value, f"{name}_low": share.low, f"{name}_high": share.high}


def _content(
    scores: LabelledScores,
    rows: list[ResultRow],
    points: list[OperatingPoint],
    threshold: float,
    draws: int,
) -> dict[str, Any]:
    """The variables of `evaluation.html.j2`."""
    return {
        "headline": _headline(scores, rows, points, threshold),
        "metadata": _metadata(scores, draws),
        **table_content(rows, scores.truth),
        "forest_plot": forest_plot(rows),
        "share": share_cell,
        "points": points,
        "threshold": threshold,
        "unscored": scores.unscored[:MAX_LISTED],
        "n_unscored": len(scores.unscored),
    }


def _headline(
    scores: LabelledScores, rows: list[ResultRow], points: list[OperatingPoint], threshold: float
) -> str:
    """The answer in two sentences."""
    answer, base = rows[-1], rows[0]
    level = SERIES if scores.groups_are else SLICES
    (point,) = (point for point in points if (point.level, point.label) == (level, ANY))
    auc = auc_cell(answer.auc[ANY], scores.truth.positive_patients[ANY])
    return (
        f"Weighted log loss {answer.weighted_log_loss}, where the base rate scores "
        f"{base.weighted_log_loss.value:.4f}; AUC of any {auc}. "
        f"At a threshold of {threshold:g}, sensitivity for {level} that bleed is "
        f"{share_cell(point.sensitivity)} and specificity {share_cell(point.specificity)}."
    )


def _metadata(scores: LabelledScores, draws: int) -> dict[str, str]:
    """Name and value of what was judged."""
    truth = scores.truth
    n_slices = len(truth.table)
    bleeding = int((truth.table[ANY] > 0.5).sum())
    intervals = (
        f"95 %, {draws} resamples; what is drawn is a {scores.groups_are}"
        if scores.groups_are
        else "none: which slices belong to one patient is not known (give --series)"
    )
    return {
        "labelled": f"{pluralize(n_slices, 'slice')}, {bleeding} of them with a bleed",
        "series": str(truth.table["volume_id"].nunique()) if scores.groups_are else "not known",
        "without a score": f"{len(scores.unscored)}; they count at the row {BASE_RATE}",
        "scored without a label": f"{scores.n_unlabelled}; they take no part",
        "intervals": intervals,
        "created": f"{date.today().isoformat()} by ich3d {ich3d.__version__}",
    }
