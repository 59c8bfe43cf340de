"""A set that is labelled for some subtypes only trains a model for these."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ich3d.config.root import Config
from ich3d.config.schema import SourceConfig
from ich3d.core.labels import LABELS
from ich3d.core.workspace import Workspace
from ich3d.crossfit.train import train
from ich3d.evaluation.run import OutOfFold, out_of_fold
from ich3d.model.folder import load_model
from ich3d.report.run.page import write_report


@pytest.fixture(scope="module")
def workspace(finished_run: Config, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The finished run again, from a label CSV that has no line for epidural."""
    folder = tmp_path_factory.mktemp("unknown")
    images = Workspace(Path(finished_run.workspace)).source("phantom")
    lines = (images / "labels.csv").read_text().splitlines()
    (folder / "labels.csv").write_text(
        "\n".join(line for line in lines if "_epidural," not in line)
    )
    source = SourceConfig(kind="folder", path=str(images), labels=str(folder / "labels.csv"))
    config = replace(finished_run, workspace=str(folder / "run"), source=source)
    train(config)
    write_report(config)
    return Workspace(folder / "run")


@pytest.fixture(scope="module")
def result(workspace: Workspace) -> OutOfFold:
    return out_of_fold(workspace)


def test_its_score_stays_next_to_nothing(result: OutOfFold) -> None:
    """So `any`, which is no lower than a subtype, is not lifted by one that was never learnt."""
    for stage in ("encoder", "context", "stack"):
        assert result.prob[stage][:, LABELS.index("epidural")].max() < 0.02


def test_it_counts_nowhere_and_is_named(result: OutOfFold, workspace: Workspace) -> None:
    lines = result.result_rows(20, 0)
    assert all(np.isfinite(line.weighted_log_loss.value) for line in lines)
    assert "epidural: excluded from the weighted log loss" in workspace.report.read_text()
    prevalence = load_model(workspace.model).fingerprint["prevalence"]
    assert prevalence["epidural"] is None
    assert prevalence["any"] is not None
