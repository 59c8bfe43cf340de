"""Data labelled for some subtypes only: the other subtypes are neither learned nor counted."""

from dataclasses import replace

import numpy as np
import pytest

from ich3d.config.root import Config
from ich3d.config.schema import SourceConfig
from ich3d.core.labels import STAGES, label_index
from ich3d.core.workspace import Workspace
from ich3d.crossfit.train import train
from ich3d.evaluation.run import OutOfFold, out_of_fold
from ich3d.model.folder import load_model
from ich3d.report.run.page import write_report
from tests.helpers.runs import workspace_of


@pytest.fixture(scope="module")
def workspace(finished_run: Config, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A run on the phantoms of the finished run, from a label CSV without rows for epidural."""
    folder = tmp_path_factory.mktemp("without_epidural")
    images = workspace_of(finished_run).source("phantom")
    rows = (images / "labels.csv").read_text().splitlines()
    known_rows = [row for row in rows if "_epidural," not in row]
    assert len(known_rows) < len(rows)
    (folder / "labels.csv").write_text("\n".join(known_rows))

    source = SourceConfig(kind="folder", path=str(images), labels=str(folder / "labels.csv"))
    config = replace(finished_run, workspace=str(folder / "run"), source=source)
    train(config)
    write_report(config)
    return workspace_of(config)


@pytest.fixture(scope="module")
def result(workspace: Workspace) -> OutOfFold:
    return out_of_fold(workspace)


@pytest.mark.parametrize("stage", STAGES)
def test_the_unknown_label_scores_close_to_zero(result: OutOfFold, stage: str) -> None:
    """`any` is raised to the largest subtype, so a subtype that was never learned must be low."""
    assert result.prob[stage][:, label_index("epidural")].max() < 0.02


def test_the_metric_is_that_of_the_known_labels(result: OutOfFold) -> None:
    losses = [row.weighted_log_loss.value for row in result.result_rows(20, 0)]
    assert losses
    assert np.isfinite(losses).all()


def test_the_report_and_the_model_name_the_unknown_label(workspace: Workspace) -> None:
    assert "epidural: excluded from the weighted log loss" in workspace.report.read_text()
    prevalence = load_model(workspace.model).fingerprint["prevalence"]
    assert prevalence["epidural"] is None
    assert prevalence["any"] is not None
