"""Scoring in memory: folds, order, neighbours in the batch, odd series, and what is rejected."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from ich3d.config.root import Config
from ich3d.core.errors import DataError, ModelError
from ich3d.core.issues import IssueCode
from ich3d.core.labels import LABELS, STAGES
from ich3d.core.types import Issue, Rejected, TrainingGroups
from ich3d.core.workspace import Workspace
from ich3d.crossfit.out_of_fold import probabilities, read_oof
from ich3d.dicom.assembly.grouping import Policy
from ich3d.dicom.write import SeriesToWrite, write_series
from ich3d.inference.scoring import (
    Prediction,
    SeriesPrediction,
    find,
    predict,
    predict_one,
    stream,
)
from ich3d.model.folder import Model
from ich3d.prepare.store import Store
from ich3d.slices import dataset
from tests.helpers.undecodable import garble, truncate, two_kernels


def scores_by_slice(prediction: Prediction, stage: str) -> pd.DataFrame:
    """Probabilities of a stage, sorted by SOPInstanceUID."""
    blocks = [
        pd.DataFrame(
            scored.prob[stage],
            index=[key.sop_uid for key in scored.series.keys],
            columns=list(LABELS),
        )
        for scored in prediction.series
    ]
    return pd.concat(blocks).sort_index()


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_a_loaded_fold_gives_its_out_of_fold_scores(
    finished_run: Config, model: Model, fold: int
) -> None:
    workspace = Workspace(Path(finished_run.workspace))
    table = Store(workspace.store).table
    held_out = table[table["fold"] == fold]
    folders = {workspace.source("phantom") / Path(path).parent for path in held_out["path"]}
    prediction = predict(model.fold(fold), *sorted(folders))

    for stage, tolerance in zip(STAGES, (1e-5, 1e-5, 1e-6), strict=True):
        oof = read_oof(workspace, stage)
        oof = oof[oof["fold"] == fold].set_index("sop_uid").sort_index()
        predicted = scores_by_slice(prediction, stage)
        assert list(predicted.index) == list(oof.index)
        assert predicted.to_numpy().std(axis=0).max() > 1e-4  # far above the tolerance
        np.testing.assert_allclose(predicted, probabilities(oof), rtol=0, atol=tolerance)


def test_a_models_score_is_the_mean_over_its_folds(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    write_series(make_head("a"), tmp_path)
    (scored,) = predict(model, tmp_path).series
    folds = [model.fold(fold_model.fold) for fold_model in model.fold_models]
    scores = [
        fold.score(scored.series.hu, scored.series.z_mm, scored.series.hu_features)
        for fold in folds
    ]
    assert len(scores) == 3
    for stage in STAGES:
        mean = np.mean([score[stage] for score in scores], axis=0)
        np.testing.assert_allclose(scored.prob[stage], mean, atol=1e-7)


def test_a_model_folder_can_be_given_in_place_of_a_model(
    model_folder: Path, model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    write_series(make_head("a", n=3), tmp_path / "in")
    (expected,) = predict(model, tmp_path / "in").series
    for folder in (model_folder, str(model_folder)):
        (scored,) = predict(folder, tmp_path / "in").series
        np.testing.assert_array_equal(scored.prob["stack"], expected.prob["stack"])
    with pytest.raises(ModelError):
        predict(tmp_path / "in", tmp_path / "in")


def test_each_slice_has_its_file(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    """The table goes from superior to inferior, so the order of files is turned."""
    write_series(make_head("a", row_dir=(-1.0, 0.0, 0.0)), tmp_path)
    (scored,) = predict(model, tmp_path).series
    headers = [
        pydicom.dcmread(file.path, specific_tags=["SOPInstanceUID"]) for file in scored.files
    ]
    assert [ds.SOPInstanceUID for ds in headers] == [key.sop_uid for key in scored.series.keys]
    assert len(headers) == 6


@pytest.mark.parametrize("batch", [dataset.CPU_BATCH, 1, 5])
def test_file_order_table_direction_other_series_and_batches_change_no_score(
    batch: int,
    amplified: Model,
    make_head: Callable[..., SeriesToWrite],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = make_head("a", n=7)
    write_series(plain, tmp_path / "plain")
    reversed_series = replace(
        plain,
        hu=plain.hu[:, :, ::-1],
        position_mm=plain.position_mm + [63 * 4.0, 0, 0],
        row_dir=(-1.0, 0.0, 0.0),
        instance_numbers=list(range(7, 0, -1)),
        file_names=[f"{name}.dcm" for name in "fbdagce"],
    )
    write_series(reversed_series, tmp_path / "several" / "m")
    write_series(make_head("b", n=3), tmp_path / "several" / "a")
    write_series(make_head("c", n=20), tmp_path / "several" / "z")

    alone = predict(amplified, tmp_path / "plain")
    monkeypatch.setattr(dataset, "CPU_BATCH", batch)
    several = predict(replace(amplified), tmp_path / "several")
    assert len(several.series) == 3
    for stage in STAGES:
        expected = scores_by_slice(alone, stage)
        scores = scores_by_slice(several, stage).loc[expected.index]
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)
        assert expected.to_numpy().std(axis=0).max() > 1e-3  # slices differ, so order matters


def test_a_single_slice_is_scored(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    write_series(make_head("one", n=1), tmp_path)
    (scored,) = predict(model, tmp_path).series
    assert [issue.code for issue in scored.series.issues] == [IssueCode.SINGLE_SLICE]
    for stage in STAGES:
        assert scored.prob[stage].shape == (1, 6)
        assert np.all((scored.prob[stage] > 0) & (scored.prob[stage] < 1))


def test_a_long_thin_series_is_scored_slice_by_slice(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    position_mm = np.array([(-126.0, -126.0, 1.0 * i) for i in range(120)])
    write_series(
        make_head("thin", n=120, position_mm=position_mm, slice_thickness_mm=1.0), tmp_path
    )
    (scored,) = predict(model, tmp_path).series
    assert {"n_slices", "spacing_mm"} <= set(scored.out_of_range)
    for stage in STAGES:
        assert scored.prob[stage].shape == (120, 6)
        assert np.all((scored.prob[stage] > 0) & (scored.prob[stage] < 1))


def test_a_series_that_lacks_its_upper_slices_is_scored_as_it_is(
    amplified: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    """The encoder's scores are those of the whole series, the later stages' are not."""
    write_series(make_head("a", n=9), tmp_path / "whole")
    write_series(make_head("a", n=9), tmp_path / "cut")
    for name in "678":
        (tmp_path / "cut" / f"{name}.dcm").unlink()

    whole, cut = (predict(amplified, tmp_path / name) for name in ("whole", "cut"))
    (scored,) = cut.series
    assert scored.series.issues == ()
    assert "n_slices" in scored.out_of_range
    for stage in STAGES:
        kept = scores_by_slice(whole, stage).loc[scores_by_slice(cut, stage).index]
        same = np.allclose(kept, scores_by_slice(cut, stage), rtol=0, atol=1e-5)
        assert same == (stage == "encoder")


def test_values_outside_the_training_set_are_named(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    write_series(make_head("thin", n=6), tmp_path)
    (scored,) = predict(model, tmp_path).series
    assert "spacing_mm" in scored.out_of_range
    assert "rows" not in scored.out_of_range


def test_an_undecodable_volume_rejects_its_whole_series_uid(model: Model, tmp_path: Path) -> None:
    """Two kernels under one SeriesInstanceUID, also when only the sound one is asked for."""
    paths = two_kernels(tmp_path)
    assert len(predict(model, tmp_path).series) == 2
    sound = predict_one(model, tmp_path, "2.25.9-1")
    assert [scored.series.volume_id for scored in sound.series] == ["2.25.9-1"]

    garble(paths[2])
    for prediction in (predict(model, tmp_path), predict_one(model, tmp_path, "2.25.9-1")):
        assert not prediction.series
        assert [rejected.subject for rejected in prediction.rejected] == ["2.25.9"]
        assert len(prediction.rejected[0].paths) == 12


def test_a_series_whose_files_disappear_is_rejected_and_the_next_scored(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    for name in "ab":
        write_series(make_head(name, n=3, study_uid=f"2.25.{ord(name)}"), tmp_path / name)
    index = find([tmp_path])
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    gone, scored = stream(model, index, index.series)
    assert isinstance(gone, Rejected)
    assert (gone.code, gone.subject) == (IssueCode.UNREADABLE, make_head("a").series_uid)
    assert "a/0.dcm" in gone.detail
    assert isinstance(scored, SeriesPrediction)


def test_of_several_series_one_must_be_named(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    for name in "ab":
        write_series(make_head(name, n=3), tmp_path / name)
    with pytest.raises(DataError, match="holds 2 series; name one of them"):
        predict_one(model, tmp_path, None)
    with pytest.raises(DataError, match=r"no series 1\.2\.3 in"):
        predict_one(model, tmp_path, "1.2.3")
    (scored,) = predict_one(model, tmp_path, make_head("b").series_uid).series
    assert scored.series.series_uid == make_head("b").series_uid


def test_an_unusable_slice_rejects_its_series_unless_the_policy_is_lenient(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    head = make_head("a")
    truncate(write_series(head, tmp_path)[2])
    strict = predict(model, tmp_path)
    assert not strict.series
    assert [rejected.code for rejected in strict.rejected] == [IssueCode.TRUNCATED_PIXELS]

    lenient = predict(model, tmp_path, policy=Policy(lenient=True))
    (scored,) = lenient.series
    assert not lenient.rejected
    assert len(scored.series) == 5
    assert [(dropped.sop_uid, dropped.z_mm, dropped.code) for dropped in scored.unscored] == [
        (head.sop_uids[2], 10.0, IssueCode.TRUNCATED_PIXELS)
    ]
    assert IssueCode.INCOMPLETE in {issue.code for issue in scored.series.issues}
    assert all(isinstance(issue, Issue) and issue.detail for issue in scored.series.issues)


def test_a_path_that_does_not_exist_is_named(model: Model, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        predict(model, tmp_path / "nowhere")


@pytest.mark.parametrize(("step_mm", "is_named"), [(5.1, False), (4.8, False), (5.4, True)])
def test_a_step_that_is_nearly_that_of_the_training_set_is_no_difference(
    model: Model,
    make_head: Callable[..., SeriesToWrite],
    tmp_path: Path,
    step_mm: float,
    is_named: bool,
) -> None:
    position_mm = np.array([(-126.0, -126.0, step_mm * i) for i in range(12)])
    write_series(make_head("a", n=12, position_mm=position_mm), tmp_path)
    only_5_mm = {**model.fingerprint, "ranges": {"spacing_mm": (5.0, 5.0, 5.0)}}
    (scored,) = predict(replace(model, fingerprint=only_5_mm), tmp_path).series
    assert scored.out_of_range == (("spacing_mm",) if is_named else ())


def test_agreement_is_told_for_patients_outside_training_alone(
    model: Model, make_head: Callable[..., SeriesToWrite], tmp_path: Path
) -> None:
    write_series(make_head("a"), tmp_path)
    (scored,) = predict(model, tmp_path).series
    assert np.all((scored.agreement > 0) & (scored.agreement <= 1))

    group = TrainingGroups.of([scored.series.patient_id])
    first, *others = model.fold_models
    knows_the_patient = replace(model, fold_models=[replace(first, training_groups=group), *others])
    (scored,) = predict(knows_the_patient, tmp_path).series
    assert np.isnan(scored.agreement).all()
