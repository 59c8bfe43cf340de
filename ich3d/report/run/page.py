"""The page itself: figures and facts of a run put into the template."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from ich3d.config.root import Config
from ich3d.core.labels import LABELS
from ich3d.core.windows import window
from ich3d.core.workspace import Workspace, replacing
from ich3d.evaluation.run import OutOfFold, out_of_fold
from ich3d.evaluation.table import FEW_PATIENTS, Result, ResultRow, auc_cell, markdown
from ich3d.prepare.store import Store
from ich3d.report.figures import Picture, curves, forest, grey_picture, traces
from ich3d.report.run import metadata as facts
from ich3d.report.run.example_series import RULE, ExampleSeries, typical_series
from ich3d.report.run.summary import headline, verdict

LISTED = 300  # longest list shown; the CSV holds the rest, and the page stays small


@dataclass(frozen=True)
class StripSlice:
    """One picture of the strip."""

    number: int
    picture: Picture
    z_mm: float
    truth: str


def write_report(config: Config) -> Result:
    """Write `report.html` of the finished run in the config's workspace; its stage table.

    DataError names the missing file where the run is not finished.
    """
    workspace = Workspace(Path(config.workspace))
    result = out_of_fold(workspace)
    lines = result.lines(config.report.resamples, config.seed)
    html = template("report.html.j2").render(
        _content(workspace, result, lines, config.report.resamples)
    )
    with replacing(workspace.report) as partial:
        partial.write_text(html, encoding="utf-8")
    return Result(lines, markdown(lines, result.truth), workspace.report)


def template(name: str) -> Any:
    """One of the package's page templates."""
    environment = Environment(
        loader=PackageLoader("ich3d"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(name)


def _content(
    workspace: Workspace, result: OutOfFold, lines: list[ResultRow], draws: int
) -> dict[str, Any]:
    """All that the template names."""
    folds = [int(fold) for fold in np.unique(result.truth.fold)]
    trace = typical_series(result)
    return {
        "headline": headline(lines),
        "facts": facts.run_metadata(workspace, result.truth),
        "config": facts.run_config(workspace),
        "labels": LABELS,
        "positive": result.truth.positive_patients,
        "few": FEW_PATIENTS,
        "lines": lines,
        "verdict": verdict,
        "auc": auc_cell,
        "draws": draws,
        "forest": forest(lines),
        "rule": RULE,
        "trace": trace,
        "traces": None if trace is None else traces(trace),
        "strip": [] if trace is None else _strip(trace, Store(workspace.store)),
        "curves": [
            curves(stage, facts.histories(workspace, stage, folds))
            for stage in ("encoder", "context")
        ],
        "folds": folds,
        "decisions": facts.decisions(workspace, folds),
        "quality": facts.quality(workspace),
        "listed": LISTED,
    }


def _strip(trace: ExampleSeries, store: Store) -> list[StripSlice]:
    """The strip's slices in the brain window."""
    hu = store.hu(trace.volume_id)
    slices = []
    for number, index in enumerate(trace.strip, start=1):
        z_mm, truth = float(trace.z_mm[index]), ", ".join(trace.labels_of(index)) or "no bleed"
        alt = f"Slice {index}, of 0 to {len(hu) - 1}, at z {z_mm:.0f} mm, brain window; truth: {truth}."
        picture = grey_picture(window("brain").apply(hu[index]), alt)
        slices.append(StripSlice(number, picture, z_mm, truth))
    return slices
