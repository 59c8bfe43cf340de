"""Only a model's own scores of patients who are new to it take part."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ich3d.core.errors import DataError
from ich3d.core.labels import LABELS
from ich3d.core.pseudonym import NOBODY
from ich3d.core.workspace import read_csv, write_csv, write_json
from ich3d.inference.tables import SLICE_TEXT
from ich3d.model.folder import Model
from ich3d.recalibrate.cases import PATIENT, STUDY, read_cases
from tests.helpers.hospital import (
    N_SLICES,
    labels_of,
    random_cases,
    scored_series,
    with_frames,
    write_frozen_model,
    write_hospital,
    write_predictions,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that was trained on the patients p900 and p901."""
    return write_frozen_model(tmp_path_factory.mktemp("model") / "model", ["p900", "p901"])


def test_scores_and_labels_come_together(model: Model, tmp_path: Path) -> None:
    target, prob = random_cases(6)
    folder, labels = write_hospital(tmp_path, model, (target, prob))
    cases = read_cases(model, folder, labels.iloc[::-1])
    np.testing.assert_allclose(cases.prob, prob[2:].reshape(-1, 6), atol=1e-7)
    np.testing.assert_array_equal(cases.target, target[2:].reshape(-1, 6))
    assert cases.groups_are == PATIENT
    assert cases.shows_brain.all()


def test_training_patients_take_no_part_and_are_named(model: Model, tmp_path: Path) -> None:
    cases = read_cases(model, *write_hospital(tmp_path, model, random_cases(6)))
    assert cases.known_patients == ("p900", "p901")
    assert set(cases.group) == {"p902", "p903", "p904", "p905"}
    assert cases.n_labelled == 4 * N_SLICES


def test_patients_stay_in_one_fold(model: Model, tmp_path: Path) -> None:
    cases = read_cases(model, *write_hospital(tmp_path, model, random_cases(8)))
    folds = cases.table.groupby("group_id")["fold"].nunique()
    assert (folds == 1).all()
    assert set(cases.fold) == {0, 1, 2}


def test_a_model_that_knows_everyone_is_refused(model: Model, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="trained on all 2 labelled patients"):
        read_cases(model, *write_hospital(tmp_path, model, random_cases(2)))


def test_two_patients_are_too_few(model: Model, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 labelled patients cannot recalibrate"):
        read_cases(model, *write_hospital(tmp_path, model, random_cases(4)))


def test_scores_of_another_model_or_of_one_fold_are_refused(model: Model, tmp_path: Path) -> None:
    folder, labels = write_hospital(tmp_path, model, random_cases(6))
    other = replace(model, sha256="0123456789abcdef")
    with pytest.raises(DataError, match="scored by another model"):
        read_cases(other, folder, labels)
    write_json(folder / "run.json", {"model_sha256": model.sha256, "folds": [0]})
    with pytest.raises(DataError, match="scored with --fast"):
        read_cases(model, folder, labels)
    (folder / "slices.csv").unlink()
    with pytest.raises(DataError, match=r"holds no slices\.csv"):
        read_cases(model, folder, labels)


def test_a_table_without_patients_is_of_an_earlier_version(model: Model, tmp_path: Path) -> None:
    folder, labels = write_hospital(tmp_path, model, random_cases(6))
    slices = read_csv(folder / "slices.csv", text=SLICE_TEXT)
    write_csv(folder / "slices.csv", slices.drop(columns="patient_id"))
    with pytest.raises(DataError, match="no column patient_id"):
        read_cases(model, folder, labels)


def test_labels_of_other_slices_are_named(model: Model, tmp_path: Path) -> None:
    folder, labels = write_hospital(tmp_path, model, random_cases(6))
    with pytest.raises(DataError, match=r"the labels name x\.p900\.0 and others"):
        read_cases(model, folder, labels.rename(index=lambda name: f"x.{name}"))


def test_where_no_patient_is_known_a_study_counts_as_one(model: Model, tmp_path: Path) -> None:
    target, prob = random_cases(5)
    series = [
        replace(scored_series(f"p8{index}", rows), patient_id=NOBODY)
        for index, rows in enumerate(prob)
    ]
    folder = write_predictions(tmp_path, model, series)
    cases = read_cases(model, folder, labels_of(series, target))
    assert cases.groups_are == STUDY
    assert set(cases.group) == {one_series.study_uid for one_series in series}


def test_frames_of_one_file_and_series_without_labels_take_no_part(
    model: Model, tmp_path: Path
) -> None:
    target, prob = random_cases(6)
    series = [scored_series(f"p8{index}", rows) for index, rows in enumerate(prob)]
    series[0] = with_frames(series[0])
    folder = write_predictions(tmp_path, model, series)
    labels = labels_of(series, target)
    labels = labels[~labels.index.duplicated()].drop(index=list(series[1].sop_uids))
    labels.loc[series[2].sop_uids[3]] = np.nan
    cases = read_cases(model, folder, labels)
    assert set(cases.group) == {"p82", "p83", "p84", "p85"}
    unlabelled = cases.table.loc[cases.table["sop_uid"] == series[2].sop_uids[3], list(LABELS)]
    assert unlabelled.isna().all(axis=None)
    assert cases.n_labelled == 4 * N_SLICES - 1
