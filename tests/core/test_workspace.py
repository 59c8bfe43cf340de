"""Files and folders are written atomically, and tables are read back as they were written."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ich3d.core.errors import DataError
from ich3d.core.workspace import Workspace, read_csv, read_json, replacing, write_csv, write_json


class Interrupted(Exception):
    pass


def interrupted_write(path: Path, begin: Callable[[Path], object]) -> None:
    with replacing(path) as partial:
        begin(partial)
        raise Interrupted


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(Interrupted):
        interrupted_write(path, lambda partial: partial.write_text("ne"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_folder_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").write_text("")
    with pytest.raises(Interrupted):
        interrupted_write(folder, lambda partial: partial.mkdir())
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]


def test_an_existing_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with replacing(tmp_path / "deep" / "model") as partial:
            partial.mkdir()
            (partial / name).write_text(name)
    assert [path.name for path in (tmp_path / "deep" / "model").iterdir()] == ["two"]


WRITE_WEIGHTS = """
import sys
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
from ich3d.core.workspace import replacing
with replacing(Path(sys.argv[1])) as partial:
    save_file({"weight": np.zeros(2)}, partial)
"""


@pytest.mark.skipif(os.name != "posix", reason="a umask is a thing of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_can_be_read_by_whom_the_umask_allows(tmp_path: Path, umask: int, mode: int) -> None:
    """safetensors itself makes its files private."""
    path = tmp_path / "weights.safetensors"
    subprocess.run([sys.executable, "-c", WRITE_WEIGHTS, str(path)], check=True, umask=umask)
    assert path.stat().st_mode & 0o777 == mode


def test_json_round_trip_and_its_errors(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, None], "a": "x"})
    assert read_json(tmp_path / "a.json") == {"a": "x", "b": [1, None]}
    with pytest.raises(DataError, match=r"b\.json is missing"):
        read_json(tmp_path / "b.json")
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(DataError, match=r"c\.json is not valid JSON"):
        read_json(tmp_path / "c.json")


def test_text_columns_of_a_table_stay_text(tmp_path: Path) -> None:
    """A UID or hash that looks like a number, or is empty, comes back as it was written."""
    table = pd.DataFrame({"uid": ["1.20", "007", ""], "value": [1.5, None, 3.0]})
    write_csv(tmp_path / "a.csv", table)
    pd.testing.assert_frame_equal(
        read_csv(tmp_path / "a.csv", text=("uid",)), table, check_dtype=False
    )
    with pytest.raises(DataError, match=r"b\.csv is missing"):
        read_csv(tmp_path / "b.csv")


@pytest.mark.parametrize("word", ["NA", "null", "None", "nan"])
def test_text_is_never_read_as_a_missing_value(tmp_path: Path, word: str) -> None:
    write_csv(tmp_path / "a.csv", pd.DataFrame({"uid": [word], "value": [1.0]}))
    assert read_csv(tmp_path / "a.csv", text=("uid",))["uid"].tolist() == [word]


def test_the_files_of_a_run_have_fixed_paths() -> None:
    run = Workspace(Path("run"))
    paths = {
        "inspect.csv": run.inspect,
        "folds.csv": run.folds,
        "rejected.csv": run.rejected,
        "unmatched.csv": run.unmatched,
        "fingerprint.json": run.fingerprint,
        "fingerprint.html": run.fingerprint_page,
        "contact_sheets": run.contact_sheets,
        "store": run.store,
        "encoder/fold2": run.stage("encoder", 2),
        "ablation/context-0123456789ab/fold2": run.variant("context", "0123456789abcdef", 2),
        "ablation/scores": run.scores,
        "oof/stack.csv": run.oof("stack"),
        "lookalikes.csv": run.lookalikes,
        "source/phantom": run.source("phantom"),
        "model": run.model,
        "run.json": run.run,
        "report.html": run.report,
    }
    for name, path in paths.items():
        assert path.as_posix() == f"run/{name}"
