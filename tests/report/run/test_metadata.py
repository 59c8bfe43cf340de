"""What the report reads from the files of a run."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ich3d.config.root import Config
from ich3d.core.ground_truth import GroundTruth
from ich3d.core.labels import LABELS
from ich3d.core.workspace import Workspace, read_csv, read_json, write_csv
from ich3d.evaluation.run import out_of_fold
from ich3d.report.run.metadata import (
    data_quality,
    histories,
    labels_without_truth,
    run_metadata,
    stacker_decisions,
)
from tests.helpers.scores import thirty_patients


@pytest.fixture
def workspace(finished_run: Config) -> Workspace:
    return Workspace(Path(finished_run.workspace))


def test_metadata_describe_the_run(workspace: Workspace, finished_run: Config) -> None:
    truth = out_of_fold(workspace).truth
    metadata = run_metadata(workspace, truth)
    assert metadata["data source"] == "phantom"
    assert metadata["folds"] == str(finished_run.prepare.folds)
    assert metadata["slices"] == str(len(truth.table))
    assert metadata["versions"].startswith("ich3d ")
    assert metadata["finished"].endswith(" UTC")
    assert "without ground truth" not in metadata


def test_labels_without_ground_truth_are_named() -> None:
    truth = thirty_patients()
    assert labels_without_truth(truth) == {}
    unknown = GroundTruth(truth.table.assign(epidural=np.nan, subdural=np.nan))
    assert labels_without_truth(unknown) == {
        "without ground truth": "epidural, subdural: excluded from the weighted log loss"
    }


def test_decisions_are_those_of_the_saved_model(workspace: Workspace) -> None:
    decisions = stacker_decisions(workspace, [0, 1, 2])
    assert list(decisions) == list(LABELS)
    for fold in range(3):
        saved = read_json(workspace.model / "stack" / f"fold{fold}.json")
        for label in LABELS:
            decision = decisions[label][fold]
            assert decision.is_kept == saved[label]["is_kept"]
            assert decision.stacker_loss == saved[label]["validation_loss"]
            assert decision.context_loss == saved[label]["validation_start_loss"]


def test_one_epoch_of_each_history_is_marked_as_kept(workspace: Workspace) -> None:
    for stage in ("encoder", "context"):
        by_fold = histories(workspace, stage, [0, 1, 2])
        assert list(by_fold) == [0, 1, 2]
        assert all(sum(epoch["is_kept"] for epoch in history) == 1 for history in by_fold.values())


def test_the_data_quality_of_the_finished_run(workspace: Workspace) -> None:
    quality = data_quality(workspace)
    rejected = read_csv(workspace.rejected, text=("subject", "detail"))
    assert quality.rejected == {"no_head": [(rejected["subject"][0], rejected["detail"][0])]}
    assert list(quality.unmatched) == ["label"]
    assert quality.series_issues["irregular_spacing"] == 1


def test_entries_are_grouped_by_reason_and_issues_counted(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    rejected = [("b.dcm", "", "no_uid", "one"), ("a.dcm", "", "empty_file", "two")]
    write_csv(
        workspace.rejected, pd.DataFrame(rejected, columns=["subject", "path", "code", "detail"])
    )
    write_csv(workspace.unmatched, pd.DataFrame(columns=["sop_uid", "lacks", "detail"]))
    codes = ["duplicate|incomplete", "", "incomplete"]
    write_csv(workspace.inspect, pd.DataFrame({"volume_id": list("abc"), "codes": codes}))
    quality = data_quality(workspace)
    assert list(quality.rejected) == ["empty_file", "no_uid"]
    assert quality.rejected["no_uid"] == [("b.dcm", "one")]
    assert quality.unmatched == {}
    assert quality.series_issues == {"duplicate": 1, "incomplete": 2}
