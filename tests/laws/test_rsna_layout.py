"""From RSNA's zip to a valid submission, in its exact layout."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ich3d.cli.parser import main
from ich3d.core.labels import LABELS
from ich3d.core.workspace import Workspace, read_csv, read_json
from tests.helpers.rsna import N_SLICES, RsnaData, write_rsna

PATIENTS = 9


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> RsnaData:
    return write_rsna(tmp_path_factory.mktemp("rsna"), PATIENTS)


@pytest.fixture(scope="module")
def workspace(data: RsnaData, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The zip, prepared by the command."""
    root = tmp_path_factory.mktemp("run") / "run"
    config = root.with_suffix(".yaml")
    config.write_text(
        f"workspace: {root}\nsource: {{kind: rsna, path: {data.path}}}\n"
        "prepare: {folds: 3, matrix: 48, pixel_mm: 5.2}\n"
    )
    assert main(["prepare", "--config", str(config), "--workers", "1"]) == 3
    return Workspace(root)


def test_the_zip_is_prepared_in_place_with_its_labels(workspace: Workspace) -> None:
    slices = read_csv(workspace.store / "slices.csv")
    assert slices["volume_id"].nunique() == PATIENTS - 2
    assert slices["sop_uid"].str.startswith("ID_a").all()
    assert slices[list(LABELS)].notna().all(axis=None)
    assert slices["any"].sum() == 2 * PATIENTS / 3
    series = read_csv(workspace.inspect)
    assert series["spacing_mm"].to_numpy(float) == pytest.approx(5.0, abs=1e-3)
    assert series["tilt_deg"].to_numpy(float) == pytest.approx(11.0, abs=0.01)


def test_a_cut_file_and_noise_reject_their_series_alone(workspace: Workspace) -> None:
    cut, noise = read_csv(workspace.rejected).to_dict("records")
    assert (cut["subject"], cut["code"]) == ("ID_sea4", "truncated_pixels")
    assert "ID_a4001.dcm" in cut["detail"]
    assert (noise["subject"], noise["code"]) == ("ID_sea5", "implausible_hu")


def test_identical_slices_with_other_labels_are_listed(workspace: Workspace) -> None:
    table = read_csv(workspace.conflicts)
    assert table["sop_uid"].tolist() == ["ID_a0002", "ID_a8003"]
    assert table["any"].tolist() == [1.0, 0.0]
    assert table["hash"].nunique() == 1


def test_patients_who_share_a_slice_share_a_fold(workspace: Workspace) -> None:
    table = read_csv(workspace.folds)
    assert len(table) == PATIENTS - 2
    assert table["group_id"].nunique() == PATIENTS - 3
    assert table.groupby("group_id")["fold"].nunique().eq(1).all()


def test_a_submission_has_every_asked_id_and_no_other(
    data: RsnaData, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ["predict", str(data.test_images), "-o", str(out), "--model", str(model_folder)]
    assert main([*command, "--ids", str(data.sample), "--lenient"]) == 0

    table = pd.read_csv(out / "submission.csv")
    assert table["ID"].tolist() == data.test_ids
    assert table["Label"].between(0, 1).all()
    scored = read_csv(out / "slices.csv").set_index("sop_uid")
    by_id = table.set_index("ID")["Label"]
    stack = scored.loc["ID_t0003", "stack_any"]
    assert by_id["ID_t0003_any"] == pytest.approx(stack)

    # The cut file takes what its neighbours say, the slice that was not given the base rate.
    neighbours = scored.loc[["ID_t1001", "ID_t1003"], "stack_any"].to_numpy(float)
    assert neighbours.min() <= by_id["ID_t1002_any"] <= neighbours.max()
    rates = read_json(model_folder / "manifest.json")["fingerprint"]["prevalence"]
    given = np.array([by_id[f"ID_gone_{label}"] for label in LABELS])
    assert given == pytest.approx([rates[label] for label in LABELS], abs=1e-7)
    assert read_json(out / "run.json")["slices_at_base_rate"] == 1


def test_a_series_that_was_not_scored_is_submitted_too(
    data: RsnaData, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ["predict", str(data.test_images), "-o", str(out), "--model", str(model_folder)]
    assert main([*command, "--ids", str(data.sample)]) == 3
    assert pd.read_csv(out / "submission.csv")["ID"].tolist() == data.test_ids
    assert read_json(out / "run.json")["slices_at_base_rate"] == 1 + N_SLICES


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name\nx\n", "has no column ID"),
        ("", "has no column ID"),
        ("ID\n\n,\n", "has no"),
        ("ID,Label\nx_any,0\n,0\n", "row 3 has no ID"),
    ],
)
def test_a_table_without_ids_is_told(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "ids.csv"
    table.write_text(content)
    assert main(["predict", str(tmp_path), "-o", str(tmp_path / "out"), "--ids", str(table)]) == 2
    assert message in capsys.readouterr().err
