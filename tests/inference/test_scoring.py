"""A flawed slice left out instead of its series: its row, its place, and what is submitted for it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

import ich3d
from ich3d.config.root import Config
from ich3d.core.labels import LABELS
from ich3d.core.workspace import Workspace, read_csv, read_json
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.uids import uid
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.inference.run import predict_to_folder
from ich3d.inference.tables import SLICE_TEXT
from ich3d.model.folder import Model

LENIENT = Policy(lenient=True)
STACK = [f"stack_{label}" for label in LABELS]


@pytest.fixture(scope="module")
def model(model: Model) -> Model:
    return model.fold(0)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-99])


def garble(path: Path) -> None:
    ds = pydicom.dcmread(path)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.PixelData = encapsulate([b"\xff" * 64])
    ds.save_as(path)


def unplace(path: Path) -> None:
    ds = pydicom.dcmread(path)
    del ds.ImagePositionPatient
    ds.save_as(path)


def scored(model: Model, folder: Path, out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`slices.csv`, and `submission.csv` with a column a label."""
    predict_to_folder(model, [folder], out, policy=LENIENT)
    sent = read_csv(out / "submission.csv", text=("ID",))
    parts = sent["ID"].str.rsplit("_", n=1, expand=True)
    wide = sent.assign(sop=parts[0], label=parts[1]).pivot(
        index="sop", columns="label", values="Label"
    )
    return read_csv(out / "slices.csv", text=SLICE_TEXT), wide[list(LABELS)]


@pytest.mark.parametrize("direction", [1.0, -1.0])
@pytest.mark.parametrize(
    ("spoil", "code"), [(truncate, "truncated_pixels"), (garble, "undecodable")]
)
def test_a_left_out_slice_has_its_place_its_code_and_its_neighbours_mean(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path,
    spoil: Callable[[Path], None], code: str, direction: float,
) -> None:  # fmt: skip
    """Slice 2 lies 3 mm above slice 1 and 5 mm below slice 3, however the table went."""
    z_mm = np.array([0.0, 5.0, 8.0, 13.0, 18.0])
    place = np.array([(-126.0, -126.0, z) for z in z_mm])
    head = make_head("a", n=5, position_mm=place, row_dir=(direction, 0.0, 0.0))
    spoil(write_series(head, tmp_path / "in")[2])
    slices, sent = scored(model, tmp_path / "in", tmp_path / "out")
    assert slices["z_mm"].tolist() == z_mm.tolist()
    lost = slices.iloc[2]
    assert (lost["sop_uid"], lost["codes"]) == (head.sop_uids[2], code)
    assert lost[["slice_index", "gap_mm", "encoder_any", "context_any", "stack_any"]].isna().all()
    assert slices["slice_index"].dropna().tolist() == [0, 1, 2, 3]
    below, above = (sent.loc[head.sop_uids[i]].to_numpy() for i in (1, 3))
    np.testing.assert_allclose(sent.loc[head.sop_uids[2]], (5 * below + 3 * above) / 8, atol=2e-7)
    assert np.abs(below - above).max() > 1e-6
    facts = read_json(tmp_path / "out" / "run.json")
    assert (facts["slices"], facts["slices_unscored"], facts["files_left_out"]) == (4, 1, 1)
    assert (
        facts["files"]
        == facts["files_in_volumes"] + facts["files_left_out"] + facts["files_rejected"]
    )
    assert facts["lenient"] is True


def test_a_left_out_slice_of_unknown_place_is_submitted_at_the_base_rate(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    head = make_head("a", n=4)
    unplace(write_series(head, tmp_path / "in")[0])
    slices, sent = scored(model, tmp_path / "in", tmp_path / "out")
    assert slices["sop_uid"].tolist() == [*head.sop_uids[1:], head.sop_uids[0]]
    assert slices["codes"].iloc[-1] == "no_position"
    rates = [model.fingerprint["prevalence"][label] for label in LABELS]
    np.testing.assert_allclose(sent.loc[head.sop_uids[0]], rates, atol=1e-7)


def test_strictly_the_same_series_is_rejected(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    truncate(write_series(make_head("a"), tmp_path / "in")[2])
    done = predict_to_folder(model, [tmp_path / "in"], tmp_path / "out")
    assert done.scored == 0
    assert [item.code for item in done.rejected] == ["truncated_pixels"]


def test_each_odd_file_of_a_study_has_its_row_or_its_code(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    """Two series, a scout, a copy of a slice, and an MR; the second series was cut short."""
    study = uid("head study", "a")
    first = write_series(make_head("a", n=4), tmp_path / "in" / "a")
    (tmp_path / "in" / "copy.dcm").write_bytes(first[1].read_bytes())
    scout = make_head(
        "scout", n=1, study_uid=study, extra={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    )
    write_series(scout, tmp_path / "in" / "scout")
    write_series(
        make_head("mr", n=2, study_uid=study, extra={"Modality": "MR"}), tmp_path / "in" / "mr"
    )
    write_series(make_head("b", n=3, study_uid=study), tmp_path / "in" / "b")[1].write_bytes(b"")
    done = predict_to_folder(model, [tmp_path / "in"], tmp_path / "out")
    slices = read_csv(tmp_path / "out" / "slices.csv", text=SLICE_TEXT)
    assert slices["series_uid"].value_counts().to_dict() == {
        uid("head series", "a"): 4, uid("head series", "b"): 2,
    }  # fmt: skip
    assert [item.code for item in done.rejected] == ["empty_file"]
    facts = read_json(tmp_path / "out" / "run.json")
    assert (facts["files"], facts["files_in_volumes"], facts["files_left_out"]) == (11, 6, 4)
    assert facts["files_rejected"] == 1


def test_python_reads_a_study_in_three_lines(
    finished_run: Config, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    write_series(make_head("a", n=3), tmp_path / "in")
    model = ich3d.load_model(Workspace(Path(finished_run.workspace)).model)
    (series,) = ich3d.predict(model, tmp_path / "in").series
    assert series.prob["stack"].shape == (3, len(LABELS))


def test_importing_ich3d_is_light() -> None:
    script = "import sys, ich3d; print(sorted({'torch', 'numpy', 'pandas'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="load_modle"):
        _ = ich3d.load_modle
