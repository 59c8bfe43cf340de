"""The demo predicts with the starter model, runs all steps, and predicts a study that was not
trained on.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ich3d.cli.demo import demo
from ich3d.config.root import Config
from ich3d.core.labels import STAGES
from ich3d.core.workspace import Workspace


def test_the_demo_ends_with_a_table_predictions_and_a_report(
    finished_run: Config, tmp_path: Path
) -> None:
    """On a copy of a finished run, so that nothing has to be trained again."""
    workspace = Workspace(Path(shutil.copytree(finished_run.workspace, tmp_path / "run")))
    lines: list[str] = []
    n_rejected = demo(replace(finished_run, workspace=str(workspace.root)), lines.append)
    assert n_rejected == 0

    notice, by_starter, _, table, by_trained, report = lines
    assert "not a medical device" in notice
    for stage in STAGES:
        assert f"\n| {stage} |" in table
    assert Path(report.removeprefix("report: ")) == workspace.report
    assert workspace.report.is_file()

    trained_on = pd.read_csv(workspace.oof("stack"))
    for line in (by_starter, by_trained):
        scores = pd.read_csv(line.partition("all are in ")[2])
        assert line.partition(": ")[2].startswith(f"{len(scores)} slices")
        assert f"is {scores['stack_any'].max():.2f} at z" in line
        assert set(scores["sop_uid"]).isdisjoint(trained_on["sop_uid"])
