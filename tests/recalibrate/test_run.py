"""A new model is written where held-out patients gain by it, and holds what was fitted."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from ich3d.core.errors import DataError, ModelError
from ich3d.core.labels import LABELS
from ich3d.core.types import TrainingGroups
from ich3d.core.workspace import read_csv, read_json, write_csv, write_json
from ich3d.inference.tables import SLICE_TEXT
from ich3d.model.folder import Model, load_model, write_model
from ich3d.model.info import info
from ich3d.recalibrate.run import recalibrate
from tests.helpers.encoders import random_hu
from tests.helpers.hospital import (
    FINGERPRINT,
    Hospital,
    random_cases,
    write_frozen_model,
    write_hospital,
)
from tests.helpers.hu_features import brain_features

N_SLICES = 4
N_STUDIES = 10
Z_MM = 5.0 * np.arange(N_SLICES)


@pytest.fixture(scope="module")
def known_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "model"
    write_frozen_model(folder, ["p900"])
    return folder


@pytest.fixture(scope="module")
def known(known_folder: Path) -> Model:
    return load_model(known_folder)


def score(model: Model) -> np.ndarray:
    """The final probabilities of a fixed random series."""
    return model.score(random_hu(N_SLICES), Z_MM, brain_features(N_SLICES))["stack"]


def test_a_miscalibrated_hospital_gets_a_model_of_its_own(
    known_folder: Path, known: Model, tmp_path: Path
) -> None:
    drawn = random_cases(40, scale=2.0, shift=1.0)
    result = recalibrate(
        known_folder, *write_hospital(tmp_path / "out", known, drawn), tmp_path / "new"
    )
    assert result.is_written
    new = load_model(tmp_path / "new")
    assert new.recalibration is not None
    assert "epidural" in new.recalibration.kept
    expected = new.recalibration.apply(score(known), brain_features(N_SLICES))
    np.testing.assert_allclose(score(new), expected, atol=1e-6)
    assert np.abs(score(new) - score(known)).max() > 0.01
    assert new.training_groups == known.training_groups

    assert new.recalibration.model_sha256 == known.sha256
    assert info(tmp_path / "new")["recalibrated"].startswith("on 39 patients (468 slices), kept")
    assert info(known_folder)["recalibrated"] == "no"
    assert any("trained on 1 patient, who take no part: p900" in note for note in result.notes)
    assert len(result.table.splitlines()) == 2 + len(LABELS) + 1


def test_a_calibrated_hospital_keeps_its_model(
    known_folder: Path, known: Model, tmp_path: Path
) -> None:
    drawn = random_cases(40, seed=3)
    hospital = write_hospital(tmp_path / "out", known, drawn)
    result = recalibrate(known_folder, *hospital, tmp_path / "new")
    assert not result.is_written
    assert not (tmp_path / "new").exists()
    assert "| 0 of 6 labels |" in result.table


def test_what_cannot_be_recalibrated_is_refused(
    known_folder: Path, known: Model, tmp_path: Path
) -> None:
    predictions, labels = write_hospital(
        tmp_path / "out", known, random_cases(40, scale=2.0, shift=1.0)
    )
    with pytest.raises(DataError, match="holds a model: add --overwrite"):
        recalibrate(known_folder, predictions, labels, known_folder)
    with pytest.raises(DataError, match="with --embeddings"):
        recalibrate(known_folder, predictions, labels, tmp_path / "new", is_retrained=True)

    recalibrate(known_folder, predictions, labels, tmp_path / "new")
    with pytest.raises(ModelError, match="recalibrated already"):
        recalibrate(tmp_path / "new", predictions, labels, tmp_path / "newer")

    unknown = tmp_path / "unknown"
    write_model(unknown, known.config, FINGERPRINT, known.fold_models, False)
    with pytest.raises(ModelError, match="does not record the patients"):
        recalibrate(unknown, predictions, labels, tmp_path / "newer")


def test_folds_with_networks_of_their_own_cannot_be_retrained(
    model: Model, known: Model, tmp_path: Path
) -> None:
    predictions, labels = write_hospital(tmp_path / "out", known, random_cases(5))
    folder = tmp_path / "model"
    write_model(folder, model.config, model.fingerprint, model.fold_models)
    with pytest.raises(ModelError, match="recalibrate it without --retrain"):
        recalibrate(folder, predictions, labels, tmp_path / "new", is_retrained=True)


# Training anew


def test_a_retrained_model_is_written_where_it_is_better(
    hospital: Hospital, tmp_path: Path
) -> None:
    new_folder = tmp_path / "new"
    result = recalibrate(
        hospital.model_folder, hospital.out, hospital.labels, new_folder, is_retrained=True
    )
    assert result.is_written, result.table
    assert result.table.splitlines()[-1].endswith("| yes |")
    new = load_model(new_folder)
    assert len(new.fold_models) == 3

    # Every fold knows the patients behind the encoder, and its own training patients.
    patients = set(read_csv(hospital.out / "slices.csv", text=SLICE_TEXT)["patient_id"])
    assert len(patients) == N_STUDIES
    behind_encoder = hospital.model.training_groups.groups
    assert new.training_groups == TrainingGroups.of({*patients, *behind_encoder})
    for fold in new.fold_models:
        held_out = patients - fold.training_groups.groups
        assert held_out
        assert behind_encoder <= fold.training_groups.groups
    every_fold = [patients - fold.training_groups.groups for fold in new.fold_models]
    assert sorted(set().union(*every_fold)) == sorted(patients)

    facts = info(new_folder)["trained_on"]
    assert facts["retrained_from"] == hospital.model.sha256
    assert facts["counts"]["series"] == N_STUDIES
    assert facts["ranges"]["spacing_mm"][1] == pytest.approx(10.0)
    assert facts["prevalence"]["any"] == pytest.approx(0.5, abs=0.1)

    with pytest.raises(DataError, match="scored by another model"):
        recalibrate(new_folder, hospital.out, hospital.labels, tmp_path / "newer")


def test_a_model_that_is_better_than_a_retrained_one_stays(
    hospital: Hospital, tmp_path: Path
) -> None:
    """The old scores are made nearly right, so that training anew can only lose."""
    out = Path(shutil.copytree(hospital.out, tmp_path / "out"))
    slices = read_csv(out / "slices.csv", text=SLICE_TEXT)
    target = hospital.labels.loc[slices["sop_uid"]].to_numpy()
    slices[[f"stack_{label}" for label in LABELS]] = 0.001 + 0.998 * target
    write_csv(out / "slices.csv", slices)
    result = recalibrate(
        hospital.model_folder, out, hospital.labels, tmp_path / "new", is_retrained=True
    )
    assert not result.is_written
    assert not (tmp_path / "new").exists()
    assert result.table.splitlines()[-1].endswith("| no |")


def test_embeddings_of_another_model_are_refused(hospital: Hospital, tmp_path: Path) -> None:
    other = tmp_path / "model"
    write_frozen_model(other, ["p2"])
    out = Path(shutil.copytree(hospital.out, tmp_path / "out"))
    facts = read_json(out / "run.json")
    (out / "run.json").write_text(
        (out / "run.json").read_text().replace(facts["model_sha256"], load_model(other).sha256)
    )
    with pytest.raises(DataError, match="made by another model"):
        recalibrate(other, out, hospital.labels, tmp_path / "new", is_retrained=True)


def test_embeddings_of_other_slices_are_refused(hospital: Hospital, tmp_path: Path) -> None:
    out = Path(shutil.copytree(hospital.out, tmp_path / "out"))
    slices = read_csv(out / "slices.csv", text=SLICE_TEXT)
    write_csv(out / "slices.csv", slices.drop(index=slices.index[0]))
    with pytest.raises(DataError, match=r"slices\.csv was cut: it has \d+ of \d+ rows"):
        recalibrate(hospital.model_folder, out, hospital.labels, tmp_path / "new")

    facts = read_json(out / "run.json")
    write_json(out / "run.json", {**facts, "slices": facts["slices"] - 1})
    with pytest.raises(DataError, match="holds other slices"):
        recalibrate(
            hospital.model_folder, out, hospital.labels, tmp_path / "new", is_retrained=True
        )
