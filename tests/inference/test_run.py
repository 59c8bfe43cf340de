"""An output folder: the promised columns, every file and slice accounted for, no patient named."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ich3d.config.root import Config
from ich3d.core.errors import DataError
from ich3d.core.issues import IssueCode
from ich3d.core.labels import LABELS
from ich3d.core.types import Rejected
from ich3d.core.workspace import Workspace, read_csv, read_json
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.uids import uid
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.inference.run import Outcome, OutputWriter, predict_to_folder
from ich3d.inference.scoring import SeriesPrediction, predict
from ich3d.inference.tables import SLICE_TEXT
from ich3d.model.folder import Model
from tests.helpers.series import edit
from tests.helpers.undecodable import garble, remove_position, truncate

LENIENT = Policy(lenient=True)
SIX = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")
KEYS = ["study_uid", "series_uid", "volume_id"]
SLICE_COLUMNS = [
    *KEYS, "patient_id", "sop_uid", "frame", "slice_index", "z_mm", "gap_mm", "brain_cm2", "codes",
    *(f"{stage}_{label}" for stage in ("encoder", "context", "stack") for label in SIX),
    "agreement",
]  # fmt: skip
SERIES_COLUMNS = [
    *KEYS, "n_slices", "codes", "out_of_range", *(f"prob_{label}" for label in SIX), "agreement",
    "top_slices", "leads_study", "series_description", "convolution_kernel", "slice_thickness_mm",
    "manufacturer", "manufacturer_model_name", "folder", "trained_on",
]  # fmt: skip
TEXT = (*KEYS, "sop_uid", "codes", "out_of_range", "top_slices")


@dataclass(frozen=True)
class Written:
    """What `predict_to_folder` returned, its folder, and two of the tables there."""

    outcome: Outcome
    out: Path
    slices: pd.DataFrame
    series: pd.DataFrame


@pytest.fixture(scope="module")
def written(
    finished_run: Config, model: Model, tmp_path_factory: pytest.TempPathFactory
) -> Written:
    """The run's source, predicted: six phantoms, one that lacks a slice, one without a head."""
    out = tmp_path_factory.mktemp("out")
    source = Workspace(Path(finished_run.workspace)).source("phantom")
    outcome = predict_to_folder(model, [source], out)
    slices, series = (read_csv(out / f"{name}.csv", TEXT) for name in ("slices", "series"))
    return Written(outcome, out, slices, series)


def predict_leniently(model: Model, folder: Path, out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`slices.csv`, and `submission.csv` with a row a SOPInstanceUID and a column a label."""
    predict_to_folder(model, [folder], out, policy=LENIENT)
    submission = read_csv(out / "submission.csv", text=("ID",))
    parts = submission["ID"].str.rsplit("_", n=1, expand=True)
    by_slice = submission.assign(sop_uid=parts[0], label=parts[1]).pivot(
        index="sop_uid", columns="label", values="Label"
    )
    return read_csv(out / "slices.csv", text=SLICE_TEXT), by_slice[list(LABELS)]


def test_the_tables_have_the_promised_columns(written: Written) -> None:
    columns = {path.name: list(pd.read_csv(path, nrows=0)) for path in written.out.glob("*.csv")}
    assert columns == {
        "slices.csv": SLICE_COLUMNS,
        "series.csv": SERIES_COLUMNS,
        "submission.csv": ["ID", "Label"],
        "failures.csv": ["subject", "path", "code", "detail"],
        "incomplete.csv": ["volume_id", "output", "code", "detail"],
    }


def test_slices_run_from_inferior_to_superior_with_their_gaps(written: Written) -> None:
    assert written.slices["volume_id"].nunique() == 7
    for _, rows in written.slices.groupby("volume_id"):
        assert rows["slice_index"].tolist() == list(range(len(rows)))
        assert np.all(np.diff(rows["z_mm"]) > 0)
        assert np.isnan(rows["gap_mm"].iloc[0])
        np.testing.assert_allclose(rows["gap_mm"].iloc[1:], np.diff(rows["z_mm"]), atol=2e-4)


def test_a_missing_slice_shows_in_codes_and_gap(written: Written) -> None:
    irregular = written.slices[written.slices["codes"] != ""]
    assert irregular["codes"].unique().tolist() == ["irregular_spacing"]
    assert irregular["series_uid"].nunique() == 1
    assert irregular["gap_mm"].max() == pytest.approx(20.0, abs=1e-3)


def test_a_series_score_is_the_maximum_over_its_slices(written: Written) -> None:
    assert len(written.series) == 7
    for _, row in written.series.iterrows():
        slices = written.slices[written.slices["volume_id"] == row["volume_id"]]
        assert row["n_slices"] == len(slices)
        for label in LABELS:
            assert row[f"prob_{label}"] == pytest.approx(slices[f"stack_{label}"].max(), abs=1e-7)
        top = row["top_slices"].split("|")
        assert len(top) == 3
        assert slices.set_index("sop_uid").loc[top[0], "stack_any"] == slices["stack_any"].max()


def test_any_is_never_below_a_subtype_in_the_stack(written: Written) -> None:
    subtypes = written.slices[[f"stack_{label}" for label in LABELS[:-1]]].max(axis=1)
    assert (written.slices["stack_any"] >= subtypes - 1e-7).all()


def test_the_submission_has_the_stack_scores_of_the_slices(written: Written) -> None:
    table = pd.read_csv(written.out / "submission.csv")
    sop_uids = written.slices["sop_uid"].tolist()
    scored = table[: len(sop_uids) * len(LABELS)]  # then the slices of the series without a head
    assert scored["ID"].tolist() == [f"{sop}_{label}" for sop in sop_uids for label in LABELS]
    stack = written.slices[[f"stack_{label}" for label in LABELS]].to_numpy().ravel()
    np.testing.assert_array_equal(scored["Label"], stack)
    assert len(table) == len(scored) + 3 * len(LABELS)


def test_a_rejected_series_stops_no_other_and_is_listed(written: Written) -> None:
    failures = read_csv(written.out / "failures.csv")
    assert failures["code"].tolist() == ["no_head"]
    assert failures["path"].tolist() == ["headless/0.dcm|headless/1.dcm|headless/2.dcm"]


def test_every_file_is_accounted_for(written: Written, finished_run: Config) -> None:
    counts = read_json(written.out / "run.json")
    rejected = sum(len(rejected.paths) for rejected in written.outcome.rejected)
    assert counts["files_rejected"] == rejected
    source = Workspace(Path(finished_run.workspace)).source("phantom")
    present = [path for path in source.rglob("*") if path.is_file()]
    assert counts["files"] == len(present)
    assert counts["files"] == counts["files_in_volumes"] + counts["files_left_out"] + rejected


def test_no_patient_is_named_in_any_output(written: Written) -> None:
    paths = [path for path in written.out.iterdir() if path.is_file()]
    assert len(paths) == 8
    text = "".join(path.read_text() for path in paths)
    for secret in ("Secret-Patient", "19010101", "phantom-0-", "phantom-1-"):
        assert secret not in text


@pytest.mark.parametrize("direction", [1.0, -1.0])
@pytest.mark.parametrize(
    ("spoil", "code"), [(truncate, "truncated_pixels"), (garble, "undecodable")]
)
def test_a_left_out_slice_has_its_position_its_code_and_its_neighbours_scores(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path,
    spoil: Callable[[Path], None], code: str, direction: float,
) -> None:  # fmt: skip
    """Slice 2 lies 3 mm above slice 1 and 5 mm below slice 3, in both directions of the table."""
    z_mm = np.array([0.0, 5.0, 8.0, 13.0, 18.0])
    position_mm = np.array([(-126.0, -126.0, z) for z in z_mm])
    head = make_head("a", n=5, position_mm=position_mm, row_dir=(direction, 0.0, 0.0))
    spoil(write_series(head, tmp_path / "in")[2])
    slices, submission = predict_leniently(model.fold(0), tmp_path / "in", tmp_path / "out")

    assert slices["z_mm"].tolist() == z_mm.tolist()
    left_out = slices.iloc[2]
    assert (left_out["sop_uid"], left_out["codes"]) == (head.sop_uids[2], code)
    empty = ["slice_index", "gap_mm", "encoder_any", "context_any", "stack_any"]
    assert left_out[empty].isna().all()
    assert slices["slice_index"].dropna().tolist() == [0, 1, 2, 3]

    below, filled, above = (submission.loc[head.sop_uids[i]].to_numpy() for i in (1, 2, 3))
    np.testing.assert_allclose(filled, (5 * below + 3 * above) / 8, atol=2e-7)
    assert np.abs(below - above).max() > 1e-6

    counts = read_json(tmp_path / "out" / "run.json")
    assert (counts["slices"], counts["slices_unscored"], counts["files_left_out"]) == (4, 1, 1)
    in_volumes, rejected = counts["files_in_volumes"], counts["files_rejected"]
    assert counts["files"] == in_volumes + counts["files_left_out"] + rejected
    assert counts["lenient"] is True


def test_a_left_out_slice_of_unknown_position_is_submitted_at_the_base_rate(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    head = make_head("a", n=4)
    remove_position(write_series(head, tmp_path / "in")[0])
    slices, submission = predict_leniently(model.fold(0), tmp_path / "in", tmp_path / "out")
    assert slices["sop_uid"].tolist() == [*head.sop_uids[1:], head.sop_uids[0]]
    assert slices["codes"].iloc[-1] == "no_position"
    rates = [model.fingerprint["prevalence"][label] for label in LABELS]
    np.testing.assert_allclose(submission.loc[head.sop_uids[0]], rates, atol=1e-7)


def test_each_odd_file_of_a_study_has_its_row_or_its_code(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    """Two series, a localizer, a copy of a slice, and an MR; one file of a series is empty."""
    study = uid("head study", "a")
    first = write_series(make_head("a", n=4), tmp_path / "in" / "a")
    (tmp_path / "in" / "copy.dcm").write_bytes(first[1].read_bytes())
    localizer = make_head(
        "scout", n=1, study_uid=study, extra={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    )
    write_series(localizer, tmp_path / "in" / "scout")
    mr = make_head("mr", n=2, study_uid=study, extra={"Modality": "MR"})
    write_series(mr, tmp_path / "in" / "mr")
    write_series(make_head("b", n=3, study_uid=study), tmp_path / "in" / "b")[1].write_bytes(b"")

    outcome = predict_to_folder(model.fold(0), [tmp_path / "in"], tmp_path / "out")
    slices = read_csv(tmp_path / "out" / "slices.csv", text=SLICE_TEXT)
    assert slices["series_uid"].value_counts().to_dict() == {
        uid("head series", "a"): 4,
        uid("head series", "b"): 2,
    }
    assert [rejected.code for rejected in outcome.rejected] == ["empty_file"]
    counts = read_json(tmp_path / "out" / "run.json")
    assert (counts["files"], counts["files_in_volumes"], counts["files_left_out"]) == (11, 6, 4)
    assert counts["files_rejected"] == 1


def test_nothing_to_score_still_gives_all_tables(model: Model, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert predict_to_folder(model, [tmp_path / "in"], tmp_path / "out") == Outcome(0, ())
    assert list(pd.read_csv(tmp_path / "out" / "slices.csv")) == SLICE_COLUMNS
    assert list(pd.read_csv(tmp_path / "out" / "series.csv")) == SERIES_COLUMNS
    assert pd.read_csv(tmp_path / "out" / "submission.csv").empty


def test_a_path_that_does_not_exist_is_named(model: Model, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        predict_to_folder(model, [tmp_path / "nowhere"], tmp_path / "out")


def test_the_plain_soft_series_speaks_for_its_study(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    """Outputs for a whole study begin with it; every series keeps its row."""
    kinds = {
        "1": {"ConvolutionKernel": "H60s", "SeriesDescription": "Bone"},
        "2": {"ConvolutionKernel": "H31s", "SeriesDescription": "CTA"},
        "3": {"ConvolutionKernel": "H31s", "SeriesDescription": "Head"},
    }
    for name, extra in kinds.items():
        series = make_head(name, series_uid=f"2.25.{name}", study_uid="2.25.9", extra=extra)
        write_series(series, tmp_path / "in" / name)
    written: list[str] = []

    def note(study: Sequence[SeriesPrediction]) -> tuple[Rejected, ...]:
        written.extend(f"{scored.series.volume_id} {scored.leads}".strip() for scored in study)
        return ()

    out = tmp_path / "out"
    writers = {"noted": OutputWriter(out / "noted", note)}
    predict_to_folder(model, [tmp_path / "in"], out, writers=writers)
    assert written == ["2.25.3 no contrast agent, soft kernel", "2.25.1", "2.25.2"]

    rows = read_csv(out / "series.csv", (*TEXT, "leads_study"))
    assert rows["volume_id"].tolist() == ["2.25.1", "2.25.2", "2.25.3"]
    assert rows["leads_study"].tolist() == ["", "", "no contrast agent, soft kernel"]
    assert rows["codes"].tolist() == ["", "contrast", ""]
    prediction = predict(model, tmp_path / "in")
    assert [bool(scored.leads) for scored in prediction.series] == [False, False, True]


def test_a_stray_slice_is_a_failure_and_its_series_is_scored(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    paths = write_series(make_head("a"), tmp_path / "in")
    edit(paths[-1], PixelSpacing=[3.0, 3.0])
    outcome = predict_to_folder(model, [tmp_path / "in"], tmp_path / "out")
    assert (outcome.scored, [rejected.subject for rejected in outcome.rejected]) == (1, ["5.dcm"])
    rows = read_csv(tmp_path / "out" / "series.csv", TEXT)
    assert (rows["n_slices"].tolist(), rows["codes"].tolist()) == ([5], ["incomplete"])
    run = read_json(tmp_path / "out" / "run.json")
    assert (run["files_in_volumes"], run["files_rejected"], run["files_left_out"]) == (5, 1, 0)


def test_shared_sop_uids_are_told_and_submit_the_highest_score(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    sop_uids = [f"2.25.{i}" for i in range(1, 7)]
    write_series(make_head("a", sop_uids=sop_uids), tmp_path / "in" / "a")
    write_series(
        make_head("b", sop_uids=[*sop_uids[:4], "2.25.8", "2.25.9"]), tmp_path / "in" / "b"
    )
    outcome = predict_to_folder(model, [tmp_path / "in"], tmp_path / "out")
    assert (outcome.scored, outcome.rejected) == (2, ())
    doubtful = outcome.refused["submission"]
    assert [rejected.code for rejected in doubtful] == [IssueCode.REPEATED_SOP_UID] * 2
    assert all("4 slices" in rejected.detail for rejected in doubtful)
    submission = pd.read_csv(tmp_path / "out" / "submission.csv")["ID"].str.rpartition("_")[0]
    assert set(submission) == {*sop_uids, "2.25.8", "2.25.9"}
    incomplete = read_csv(tmp_path / "out" / "incomplete.csv")
    assert incomplete["output"].tolist() == ["submission"] * 2
    assert read_csv(tmp_path / "out" / "failures.csv").empty


def test_slices_of_series_that_were_not_scored_are_submitted_at_the_base_rate(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    """One series has a truncated file, one an undecodable one; a copy stands for its slice."""
    heads = {name: make_head(name, n=3) for name in "abc"}
    paths = {name: write_series(head, tmp_path / "in" / name) for name, head in heads.items()}
    truncate(paths["a"][1])
    garble(paths["b"][1])
    copy = tmp_path / "in" / "c" / "copy.dcm"
    copy.write_bytes(paths["c"][1].read_bytes())
    edit(copy, SOPInstanceUID="2.25.77")
    outcome = predict_to_folder(model.fold(0), [tmp_path / "in"], tmp_path / "out")
    assert (outcome.scored, outcome.at_base_rate) == (1, 6)
    assert read_json(tmp_path / "out" / "run.json")["slices_at_base_rate"] == 6
    for rejected in outcome.rejected:
        assert "2 other slices of the series" in rejected.detail
        assert "--lenient" in rejected.detail

    table = pd.read_csv(tmp_path / "out" / "submission.csv").set_index("ID")["Label"]
    given = [uid for head in heads.values() for uid in head.sop_uids]
    assert {name.rpartition("_")[0] for name in table.index} == {*given, "2.25.77"}
    assert table["2.25.77_any"] == table[f"{heads['c'].sop_uids[1]}_any"]
    rate = model.fingerprint["prevalence"]["any"]
    assert table[f"{heads['a'].sop_uids[0]}_any"] == pytest.approx(rate, abs=1e-7)
