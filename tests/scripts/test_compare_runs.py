"""Two runs on the same slices are compared stage by stage, with paired differences."""

import shutil
from pathlib import Path

import pytest

from ich3d.config.root import Config
from ich3d.core.errors import DataError
from ich3d.core.workspace import Workspace, write_csv
from ich3d.crossfit.out_of_fold import read_oof
from scripts.compare_runs import compare_runs
from tests.helpers.runs import workspace_of


@pytest.mark.trains
def test_a_run_does_not_differ_from_its_copy(finished_run: Config, tmp_path: Path) -> None:
    run = workspace_of(finished_run).root
    shutil.copytree(run / "oof", tmp_path / "copy" / "oof")
    table = compare_runs(run, tmp_path / "copy")
    assert f"| encoder, {run.name} |" in table
    assert f"+0.0000 (+0.0000 to +0.0000) vs stack, {run.name}" in table


@pytest.mark.trains
def test_runs_on_other_slices_are_not_compared(finished_run: Config, tmp_path: Path) -> None:
    run = workspace_of(finished_run)
    for stage in ("encoder", "context", "stack"):
        write_csv(Workspace(tmp_path).oof(stage), read_oof(run, stage).iloc[1:])
    with pytest.raises(DataError, match="do not hold the same slices in the same folds"):
        compare_runs(run.root, tmp_path)
