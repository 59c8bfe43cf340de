"""docs/tables.md lists the columns that the code writes, in their order."""

import re
from pathlib import Path

import pandas as pd
import pytest

from ich3d.config.root import Config
from ich3d.core.labels import LABELS
from ich3d.core.workspace import Workspace
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.write import write_series
from ich3d.inference.run import predict_to_folder
from ich3d.model.folder import Model
from tests.helpers.series import head_series
from tests.helpers.undecodable import truncate

DOCUMENT = Path(__file__).parents[2] / "docs" / "tables.md"
ALWAYS_FILLED = "never"


def documented_cells(file_name: str) -> dict[str, str]:
    """When each column of the table under the heading `file_name` is empty, by its name."""
    section = re.split(r"^#+ ", DOCUMENT.read_text(), flags=re.M)
    (text,) = [part for part in section if part.startswith(f"{file_name}\n")]
    rows = re.findall(r"^\| (`[\w<>`, ]+`) \|.*\| (.*?) \|$", text, flags=re.M)
    return {
        name.replace("<label>", label): when_empty
        for names, when_empty in rows
        for name in re.findall(r"`([\w<>]+)`", names)
        for label in (LABELS if "<label>" in name else ("",))
    }


def assert_documented(table: Path) -> None:
    """The columns of the file `table` are the documented ones, and filled where it says so."""
    written = pd.read_csv(table, dtype=str)
    documented = documented_cells(table.name)
    assert list(written) == list(documented)
    filled = [name for name, when_empty in documented.items() if when_empty == ALWAYS_FILLED]
    assert len(written) > 0
    assert filled
    assert not written[filled].isna().any(axis=None)


@pytest.fixture(scope="module")
def prediction(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of a series without one of its slices, and of an empty file."""
    folder = tmp_path_factory.mktemp("studies")
    truncate(write_series(head_series(n=4), folder)[1])
    (folder / "empty.dcm").write_bytes(b"")
    out = tmp_path_factory.mktemp("out")
    predict_to_folder(model.fold(0), [folder], out, policy=Policy(lenient=True))
    return out


@pytest.mark.parametrize("name", ["slices.csv", "series.csv", "submission.csv", "failures.csv"])
def test_the_columns_of_a_prediction_are_documented(prediction: Path, name: str) -> None:
    assert_documented(prediction / name)


def test_the_columns_of_what_further_outputs_lack_are_documented(
    model: Model, tmp_path: Path
) -> None:
    sop_uids = [f"2.25.{i}" for i in range(1, 4)]
    for name in "ab":  # two series share their SOPInstanceUIDs
        write_series(head_series(name, n=3, sop_uids=sop_uids), tmp_path / "in" / name)
    predict_to_folder(model.fold(0), [tmp_path / "in"], tmp_path / "out")
    assert_documented(tmp_path / "out" / "incomplete.csv")


@pytest.mark.parametrize("name", ["folds.csv", "rejected.csv", "unmatched.csv"])
def test_the_columns_of_a_run_folder_are_documented(finished_run: Config, name: str) -> None:
    assert_documented(Workspace(Path(finished_run.workspace)).root / name)
