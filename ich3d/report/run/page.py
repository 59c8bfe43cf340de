"""The page of a training run: its numbers and figures, put into the template."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ich3d.config.root import Config
from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import LABELS
from ich3d.core.windows import window
from ich3d.core.workspace import Workspace, replacing
from ich3d.evaluation.agreement import error_by_agreement
from ich3d.evaluation.claims import MIN_PATIENTS, SMALLEST_SHARE
from ich3d.evaluation.run import OutOfFold, out_of_fold
from ich3d.evaluation.table import FEW_PATIENTS, Result, ResultRow, auc_cell, markdown
from ich3d.prepare.store import Store
from ich3d.report.drawing import EmbeddedImage
from ich3d.report.figures import (
    forest_plot,
    grey_png,
    learning_curves,
    probability_curves,
)
from ich3d.report.page_template import template
from ich3d.report.run.example_series import SELECTION_RULE, ExampleSeries, typical_series
from ich3d.report.run.metadata import (
    data_quality,
    histories,
    run_config,
    run_metadata,
    stacker_decisions,
)
from ich3d.report.run.summary import headline

MAX_LISTED = 300  # longest list on the page; the CSV holds all, and the page stays small


@dataclass(frozen=True)
class ExampleSlice:
    """One image of the example series: its number, position in mm, and true subtypes in words."""

    number: int
    image: EmbeddedImage
    z_mm: float
    truth: str


def write_report(config: Config) -> Result:
    """Write `report.html` of the finished run in the config's workspace; returns its result table.

    Raises:
        DataError: where the run is not finished; it names the missing file.
    """
    workspace = Workspace(Path(config.workspace))
    out_of_fold_scores = out_of_fold(workspace)
    rows = out_of_fold_scores.result_rows(config.report.resamples, config.seed)

    by_agreement = error_by_agreement(
        out_of_fold_scores.agreement,
        out_of_fold_scores.prob["stack"],
        out_of_fold_scores.truth,
        config.report.resamples,
        config.seed,
    )
    content = _content(workspace, out_of_fold_scores, rows, config.report.resamples)
    html = template("report.html.j2").render({**content, "by_agreement": by_agreement})
    with replacing(workspace.report) as partial:
        partial.write_text(html, encoding="utf-8")
    return Result(rows, markdown(rows, out_of_fold_scores.truth), workspace.report)


def _content(
    workspace: Workspace, scores: OutOfFold, rows: list[ResultRow], draws: int
) -> dict[str, Any]:
    """The variables of `report.html.j2`."""
    folds = [int(fold) for fold in np.unique(scores.truth.fold)]
    return {
        "headline": headline(rows),
        "metadata": run_metadata(workspace, scores.truth),
        "config": run_config(workspace),
        **table_content(rows, scores.truth),
        "forest_plot": forest_plot(rows),
        "draws": draws,
        **_example(workspace, scores),
        "learning_curves": [
            learning_curves(stage, found)
            for stage in ("encoder", "context")
            if (found := histories(workspace, stage, folds))
        ],
        "folds": folds,
        "decisions": stacker_decisions(workspace, folds),
        "quality": data_quality(workspace),
        "max_listed": MAX_LISTED,
    }


def table_content(rows: list[ResultRow], truth: GroundTruth) -> dict[str, Any]:
    """The variables behind a page's table of result rows."""
    return {
        "labels": LABELS,
        "positive": truth.positive_patients,
        "few": FEW_PATIENTS,
        "min_patients": MIN_PATIENTS,
        "smallest_percent": f"{100 * SMALLEST_SHARE:g}",
        "rows": rows,
        "auc": auc_cell,
    }


def _example(workspace: Workspace, scores: OutOfFold) -> dict[str, Any]:
    """The variables of the section on one held-out series; `example` is None without one."""
    series = typical_series(scores)
    if series is None:
        return {"example": None}
    return {
        "example": series,
        "selection_rule": SELECTION_RULE,
        "example_slices": _example_slices(series, Store(workspace.store)),
        "probability_curves": probability_curves(series),
    }


def _example_slices(series: ExampleSeries, store: Store) -> list[ExampleSlice]:
    """The shown slices of the series in the brain window."""
    hu = store.hu(series.volume_id)  # (Z, H, W)
    slices = []
    for number, index in enumerate(series.shown_slices, start=1):
        z_mm = float(series.z_mm[index])
        truth = ", ".join(series.subtypes_of(index)) or "no bleed"
        alt = (
            f"Slice {index}, of 0 to {len(hu) - 1}, at z {z_mm:.0f} mm, brain window; "
            f"truth: {truth}."
        )
        image = grey_png(window("brain").apply(hu[index]), alt)
        slices.append(ExampleSlice(number, image, z_mm, truth))
    return slices
