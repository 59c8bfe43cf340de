"""What was saved is what is loaded is what is served, and what users are promised to find in the tables."""

import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from ich3d.config.root import Config
from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS, STAGES
from ich3d.core.metrics import weighted_log_loss
from ich3d.core.workspace import Workspace, read_csv, read_json
from ich3d.crossfit.out_of_fold import probabilities, read_oof
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.inference.run import Outcome, predict_to_folder
from ich3d.inference.scoring import Prediction, predict, predict_one
from ich3d.inference.tables import submission
from ich3d.model import backends as fast
from ich3d.model.folder import Model
from ich3d.prepare.store import Store
from ich3d.training.device import device

SIX = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")
KEYS = ["study_uid", "series_uid", "volume_id"]
SLICE_COLUMNS = [
    *KEYS, "sop_uid", "frame", "slice_index", "z_mm", "gap_mm", "codes",
    *(f"{stage}_{label}" for stage in ("encoder", "context", "stack") for label in SIX),
]  # fmt: skip
SERIES_COLUMNS = [
    *KEYS, "n_slices", "codes", "out_of_range", *(f"prob_{label}" for label in SIX), "top_slices",
]  # fmt: skip
TEXT = (*KEYS, "sop_uid", "codes", "out_of_range", "top_slices")
# So many of the scores are nearer than this to those in fp32; a tree may tip over in the last bits.
AGREEMENT = {"encoder": (0.99, 0.005), "context": (0.99, 0.005), "stack": (0.95, 0.02)}


@dataclass(frozen=True)
class Written:
    outcome: Outcome
    prediction: Prediction
    out: Path
    slices: pd.DataFrame
    series: pd.DataFrame


@pytest.fixture(scope="module")
def written(
    finished_run: Config, model: Model, tmp_path_factory: pytest.TempPathFactory
) -> Written:
    """All that lies in the run's source, predicted: six phantoms, one with a slice missing, one headless."""
    out = tmp_path_factory.mktemp("out")
    source = Workspace(Path(finished_run.workspace)).source("phantom")
    outcome, prediction = predict_to_folder(model, [source], out), predict(model, source)
    slices, series = (read_csv(out / f"{name}.csv", TEXT) for name in ("slices", "series"))
    return Written(outcome, prediction, out, slices, series)


def by_slice(prediction: Prediction, stage: str) -> pd.DataFrame:
    """Probabilities of a stage, indexed by SOPInstanceUID in one order."""
    blocks = [
        pd.DataFrame(
            item.prob[stage], index=[key.sop_uid for key in item.stored.keys], columns=list(LABELS)
        )
        for item in prediction.series
    ]
    return pd.concat(blocks).sort_index()


@pytest.mark.parametrize("path", ["openvino", "torch"])
def test_the_fast_paths_agree_with_fp32(
    finished_run: Config, model: Model, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path == "torch":
        monkeypatch.setitem(sys.modules, "openvino", None)
    elif find_spec("openvino") is None:
        pytest.skip("the openvino extra is not installed")
    quick = replace(model, config=replace(model.config, precision="auto"))
    assert quick.encoders.path.startswith(path if device().type == "cpu" else "torch")
    store = Store(Workspace(Path(finished_run.workspace)).store)
    names = store.volume_ids
    plain, fast = ([one.score(store.hu(n), store.z_mm(n)) for n in names] for one in (model, quick))
    target = np.concatenate([store.targets(name) for name in names])
    for stage in STAGES:
        one, other = (
            np.concatenate([score[stage] for score in scores]) for scores in (plain, fast)
        )
        share, most = AGREEMENT[stage]
        assert np.quantile(np.abs(one - other), share) < most
        assert weighted_log_loss(other, target) == pytest.approx(
            weighted_log_loss(one, target), rel=0.005
        )


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_a_loaded_chain_serves_its_folds_out_of_fold_scores(
    finished_run: Config, model: Model, fold: int
) -> None:
    workspace = Workspace(Path(finished_run.workspace))
    table = Store(workspace.store).table
    own = table[table["fold"] == fold]
    folders = sorted({workspace.source("phantom") / Path(path).parent for path in own["path"]})
    prediction = predict(model.fold(fold), *folders)
    for stage, tolerance in zip(STAGES, (1e-5, 1e-5, 1e-6), strict=True):
        oof = read_oof(workspace, stage)
        oof = oof[oof["fold"] == fold].set_index("sop_uid").sort_index()
        served = by_slice(prediction, stage)
        assert list(served.index) == list(oof.index)
        assert served.to_numpy().std(axis=0).max() > 1e-4  # far above the tolerance
        np.testing.assert_allclose(served.to_numpy(), probabilities(oof), rtol=0, atol=tolerance)


def test_a_models_score_is_the_mean_over_its_folds(written: Written, model: Model) -> None:
    item = written.prediction.series[0]
    z_mm = np.array(item.stored.z_mm)
    scores = [model.fold(fold_model.fold).score(item.hu, z_mm) for fold_model in model.fold_models]
    for stage in STAGES:
        np.testing.assert_allclose(
            item.prob[stage], sum(score[stage] for score in scores) / 3, atol=1e-7
        )


def test_the_tables_have_the_columns_that_are_promised(written: Written) -> None:
    columns = {path.name: list(pd.read_csv(path, nrows=0)) for path in written.out.glob("*.csv")}
    assert columns == {
        "slices.csv": SLICE_COLUMNS,
        "series.csv": SERIES_COLUMNS,
        "submission.csv": ["ID", "Label"],
        "failures.csv": ["subject", "path", "code", "detail"],
    }


def test_slices_run_from_inferior_to_superior_with_their_gaps(written: Written) -> None:
    for _, rows in written.slices.groupby("volume_id"):
        assert rows["slice_index"].tolist() == list(range(len(rows)))
        assert np.all(np.diff(rows["z_mm"]) > 0)
        assert np.isnan(rows["gap_mm"].iloc[0])
        np.testing.assert_allclose(rows["gap_mm"].iloc[1:], np.diff(rows["z_mm"]), atol=2e-4)


def test_each_slice_knows_its_file(written: Written) -> None:
    for item in written.prediction.series:
        found = [
            pydicom.dcmread(file.path, specific_tags=["SOPInstanceUID"]) for file in item.files
        ]
        assert [ds.SOPInstanceUID for ds in found] == [key.sop_uid for key in item.stored.keys]


def test_a_missing_slice_shows_in_codes_and_gap(written: Written) -> None:
    odd = written.slices[written.slices["codes"] != ""]
    assert odd["codes"].unique().tolist() == ["irregular_spacing"]
    assert odd["series_uid"].nunique() == 1
    assert odd["gap_mm"].max() == pytest.approx(20.0, abs=1e-3)


def test_a_series_score_is_the_maximum_over_its_slices(written: Written) -> None:
    assert len(written.series) == 7
    for _, row in written.series.iterrows():
        own = written.slices[written.slices["volume_id"] == row["volume_id"]]
        assert row["n_slices"] == len(own)
        for label in LABELS:
            assert row[f"prob_{label}"] == pytest.approx(own[f"stack_{label}"].max(), abs=1e-7)
        top = row["top_slices"].split("|")
        assert len(top) == 3
        assert own.set_index("sop_uid").loc[top[0], "stack_any"] == own["stack_any"].max()


def test_any_is_never_below_a_subtype_in_the_stack(written: Written) -> None:
    subtypes = written.slices[[f"stack_{label}" for label in LABELS[:-1]]].max(axis=1)
    assert (written.slices["stack_any"] >= subtypes - 1e-7).all()


def test_the_submission_has_six_rows_a_slice(written: Written) -> None:
    table = pd.read_csv(written.out / "submission.csv")
    sop_uids = written.slices["sop_uid"].tolist()
    assert table["ID"].tolist() == [f"{sop}_{label}" for sop in sop_uids for label in LABELS]
    stack = written.slices[[f"stack_{label}" for label in LABELS]].to_numpy().ravel()
    np.testing.assert_array_equal(table["Label"], stack)


def test_the_frames_of_one_slice_submit_their_maximum(written: Written) -> None:
    frames = written.slices.iloc[:2].assign(sop_uid="1.2")
    expected = frames[[f"stack_{label}" for label in LABELS]].max()
    assert submission(frames, dict.fromkeys(LABELS, 0.5))["Label"].tolist() == expected.tolist()


def test_a_bad_series_stops_no_other_and_is_listed(written: Written) -> None:
    failures = read_csv(written.out / "failures.csv")
    assert failures["code"].tolist() == ["no_head"]
    assert failures["path"].tolist() == ["headless/0.dcm|headless/1.dcm|headless/2.dcm"]


def test_every_file_is_accounted_for(written: Written, finished_run: Config) -> None:
    facts = read_json(written.out / "run.json")
    rejected = sum(len(item.paths) for item in written.outcome.rejected)
    assert facts["files_rejected"] == rejected
    present = [
        p
        for p in Workspace(Path(finished_run.workspace)).source("phantom").rglob("*")
        if p.is_file()
    ]
    assert facts["files"] == len(present)
    assert facts["files"] == facts["files_in_volumes"] + facts["files_left_out"] + rejected


def test_no_patient_is_named_in_any_output(written: Written) -> None:
    text = "".join(path.read_text() for path in written.out.iterdir())
    for secret in ("Secret-Patient", "19010101", "phantom-0-", "phantom-1-"):
        assert secret not in text


@pytest.fixture
def outspoken(model: Model) -> Model:
    """The model with its last layers amplified, so that slices differ as they do after long training."""
    made = deepcopy(model)
    with torch.no_grad():
        for fold_model in made.fold_models:
            fold_model.encoder.members[0].head.weight.mul_(300)
            for member in fold_model.context.members:
                member.correction_head.weight.mul_(300)
    return made


@pytest.mark.parametrize("batch", [fast.CPU_BATCH, 1, 5])
def test_file_order_table_direction_company_and_batches_change_no_score(
    batch: int,
    outspoken: Model,
    make_head: Callable[..., SeriesToWrite],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = make_head("a", n=7)
    write_series(plain, tmp_path / "plain")
    other_way = replace(
        plain,
        hu=plain.hu[:, :, ::-1],
        position_mm=plain.position_mm + [63 * 4.0, 0, 0],
        row_dir=(-1.0, 0.0, 0.0),
        instance_numbers=list(range(7, 0, -1)),
        file_names=[f"{name}.dcm" for name in "fbdagce"],
    )
    write_series(other_way, tmp_path / "company" / "m")
    write_series(make_head("b", n=3), tmp_path / "company" / "a")
    write_series(make_head("c", n=20), tmp_path / "company" / "z")
    alone = predict(outspoken, tmp_path / "plain")
    monkeypatch.setattr(fast, "CPU_BATCH", batch)
    company = predict(replace(outspoken), tmp_path / "company")
    assert len(company.series) == 3
    for stage in STAGES:
        one = by_slice(alone, stage)
        two = by_slice(company, stage).loc[one.index]
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-5)
        assert one.to_numpy().std(axis=0).max() > 1e-3  # slices differ, so that order matters


def test_a_single_slice_is_scored(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    write_series(make_head("one", n=1), tmp_path)
    (item,) = predict(model, tmp_path).series
    assert item.stored.codes == "single_slice"
    for stage in STAGES:
        assert item.prob[stage].shape == (1, 6)
        assert np.all((item.prob[stage] > 0) & (item.prob[stage] < 1))


def test_a_long_thin_series_is_scored_slice_by_slice(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    position_mm = np.array([(-126.0, -126.0, 1.0 * i) for i in range(300)])
    write_series(
        make_head("thin", n=300, position_mm=position_mm, slice_thickness_mm=1.0), tmp_path
    )
    (item,) = predict(model, tmp_path).series
    assert {"n_slices", "spacing_mm"} <= set(item.out_of_range)
    for stage in STAGES:
        assert item.prob[stage].shape == (300, 6)
        assert np.all((item.prob[stage] > 0) & (item.prob[stage] < 1))


def test_a_cut_off_series_is_scored_as_what_is_there(
    outspoken: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    """The encoder's scores are those of the whole series; context knows less, and says so in them alone."""
    write_series(make_head("a", n=9), tmp_path / "whole")
    write_series(make_head("a", n=9), tmp_path / "cut")
    for name in "678":
        (tmp_path / "cut" / f"{name}.dcm").unlink()
    whole, cut = (predict(outspoken, tmp_path / name) for name in ("whole", "cut"))
    (item,) = cut.series
    assert item.stored.codes == ""
    assert "n_slices" in item.out_of_range
    for stage in STAGES:
        kept = by_slice(whole, stage).loc[by_slice(cut, stage).index]
        same = np.allclose(kept, by_slice(cut, stage), rtol=0, atol=1e-5)
        assert same == (stage == "encoder")


def test_a_series_unlike_the_training_set_says_so(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    write_series(make_head("thin", n=6), tmp_path)
    (item,) = predict(model, tmp_path).series
    assert "spacing_mm" in item.out_of_range
    assert "rows" not in item.out_of_range


def test_nothing_to_score_still_gives_whole_tables(model: Model, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert predict_to_folder(model, [tmp_path / "in"], tmp_path / "out") == Outcome(0, ())
    assert list(pd.read_csv(tmp_path / "out" / "slices.csv")) == SLICE_COLUMNS
    assert pd.read_csv(tmp_path / "out" / "submission.csv").empty


def test_a_path_that_is_not_there_is_named(model: Model, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        predict_to_folder(model, [tmp_path / "nowhere"], tmp_path / "out")


def test_a_volume_goes_with_the_sibling_that_cannot_be_read(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    """Two kernels under one SeriesInstanceUID: scoring the sound one alone would pass for all there is."""
    for name in "ab":
        series = make_head(
            name,
            series_uid="2.25.9",
            study_uid="2.25.8",
            patient_id="p",
            extra={"ConvolutionKernel": name},
        )
        paths = write_series(series, tmp_path / name)
    assert len(predict(model, tmp_path).series) == 2
    spoilt = pydicom.dcmread(paths[2])
    spoilt.compress(RLELossless, generate_instance_uid=False)
    spoilt.PixelData = encapsulate([b"\xff" * 64])
    spoilt.save_as(paths[2])
    found = [predict(model, tmp_path), predict_one(model, tmp_path, "2.25.9-1")]
    for prediction in found:
        assert not prediction.series
        assert [item.subject for item in prediction.rejected] == ["2.25.9"]
