"""The held-out scores of a finished run."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ich3d.config.root import Config
from ich3d.core.errors import DataError
from ich3d.core.workspace import Workspace, read_csv, write_csv
from ich3d.crossfit.out_of_fold import probabilities
from ich3d.evaluation.run import out_of_fold


def test_each_stage_and_baseline_scores_every_held_out_slice(finished_run: Config) -> None:
    workspace = Workspace(Path(finished_run.workspace))
    result = out_of_fold(workspace)
    assert list(result.prob) == ["base rate", "position only", "encoder", "context", "stack"]
    table = read_csv(workspace.oof("stack"))
    np.testing.assert_array_equal(result.prob["stack"], probabilities(table))
    assert {prob.shape for prob in result.prob.values()} == {result.truth.target.shape}
    np.testing.assert_array_equal(result.agreement, read_csv(workspace.oof("context"))["agreement"])


def test_a_run_that_recorded_no_agreement_is_read(finished_run: Config, tmp_path: Path) -> None:
    finished, older = Workspace(Path(finished_run.workspace)), Workspace(tmp_path)
    shutil.copytree(finished.root / "oof", older.root / "oof")
    shutil.copy(finished.run, older.run)
    table = read_csv(older.oof("context"), text=("volume_id", "sop_uid", "group_id"))
    write_csv(older.oof("context"), table.drop(columns="agreement"))
    assert out_of_fold(older).agreement is None


def test_each_row_is_compared_with_the_row_before(finished_run: Config) -> None:
    rows = out_of_fold(Workspace(Path(finished_run.workspace))).result_rows(20, 0)
    names = [row.name for row in rows]
    assert [row.against for row in rows] == [None, *names[:-1]]
    assert {row.seeds for row in rows} == {1}


def test_stages_of_different_runs_are_refused(finished_run: Config, tmp_path: Path) -> None:
    finished, mixed = Workspace(Path(finished_run.workspace)), Workspace(tmp_path)
    shutil.copytree(finished.root / "oof", mixed.root / "oof")
    shutil.copy(finished.run, mixed.run)
    table = read_csv(mixed.oof("context"), text=("volume_id", "sop_uid", "group_id"))
    write_csv(mixed.oof("context"), table.iloc[::-1])
    with pytest.raises(DataError, match="are of different runs"):
        out_of_fold(mixed)


def test_an_unfinished_run_is_refused(finished_run: Config, tmp_path: Path) -> None:
    unfinished = replace(finished_run, workspace=str(tmp_path))
    with pytest.raises(DataError, match=r"run\.json is missing"):
        out_of_fold(Workspace(Path(unfinished.workspace)))
