"""A miscalibrated label is corrected, a calibrated one left alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ich3d.core.labels import LABELS, label_index
from ich3d.core.metrics import label_log_loss
from ich3d.model.folder import Model
from ich3d.recalibrate.cases import Cases, read_cases
from ich3d.recalibrate.fit import fit_recalibration
from ich3d.recalibrate.gains import WEIGHTED
from tests.helpers.hospital import Drawn, random_cases, write_frozen_model, write_hospital
from tests.helpers.hu_features import brain_features

N_PATIENTS = 40


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return write_frozen_model(tmp_path_factory.mktemp("model") / "model")


def cases_of(model: Model, folder: Path, drawn: Drawn) -> Cases:
    return read_cases(model, *write_hospital(folder, model, drawn))


def test_overconfident_scores_are_corrected(model: Model, tmp_path: Path) -> None:
    """Logits that are doubled and raised by one are halved and lowered by a half."""
    cases = cases_of(model, tmp_path, random_cases(N_PATIENTS, scale=2.0, shift=1.0))
    fitted = fit_recalibration(cases, model.sha256)
    assert {"epidural", "subdural"} <= set(fitted.recalibration.kept)
    for label in fitted.recalibration.kept[:-1]:
        of_label = fitted.recalibration.by_label[label]
        assert of_label.scale == pytest.approx(0.5, abs=0.15)
        assert of_label.shift == pytest.approx(-0.5, abs=0.3)
        assert of_label.loss_before - of_label.loss_after > of_label.gain_se
        assert fitted.kept[label].startswith("scale 0.")

    after = fitted.recalibration.apply(cases.prob, brain_features(len(cases.prob)))
    before_loss, after_loss = (label_log_loss(p, cases.target) for p in (cases.prob, after))
    assert (after_loss <= before_loss).all()
    assert fitted.gains[-1].name == WEIGHTED
    assert fitted.gains[-1].value > fitted.gains[-1].se


def test_calibrated_scores_are_left_alone(model: Model, tmp_path: Path) -> None:
    cases = cases_of(model, tmp_path, random_cases(N_PATIENTS, seed=3))
    fitted = fit_recalibration(cases, model.sha256)
    assert fitted.recalibration.kept == []
    for of_label in fitted.recalibration.by_label.values():
        assert (of_label.scale, of_label.shift) == (1.0, 0.0)
    assert fitted.gains[-1].value == pytest.approx(0, abs=1e-6)


def test_a_label_of_seven_patients_keeps_its_scores(model: Model, tmp_path: Path) -> None:
    target, prob = random_cases(N_PATIENTS, scale=2.0, shift=1.0)
    k = label_index("epidural")
    target[7:, :, k] = 0
    fitted = fit_recalibration(cases_of(model, tmp_path, (target, prob)), model.sha256)
    assert "epidural" not in fitted.recalibration.kept
    assert fitted.kept["epidural"] == "no, too few have it"
    assert (fitted.gains[k].n_groups, fitted.gains[k].value) == (7, 0)
    assert "subdural" in fitted.recalibration.kept


def test_each_patient_is_scored_without_their_own_labels(model: Model, tmp_path: Path) -> None:
    """Held-out losses of a fold do not change with the labels of the others' slices of it."""
    cases = cases_of(model, tmp_path, random_cases(N_PATIENTS, scale=2.0, shift=1.0))
    in_fold = cases.fold == 0
    inverted = cases.table.copy()
    inverted.loc[in_fold, list(LABELS)] = 1 - inverted.loc[in_fold, list(LABELS)]
    before, after = (
        fit_recalibration(c, "0a").gains[0] for c in (cases, replace(cases, table=inverted))
    )
    assert after.after > before.after


def test_slices_without_brain_do_not_count(model: Model, tmp_path: Path) -> None:
    cases = cases_of(model, tmp_path, random_cases(N_PATIENTS, scale=2.0, shift=1.0))
    table = cases.table.copy()
    is_empty = table["sop_uid"].str.endswith(".0")
    table.loc[is_empty, "brain_cm2"] = 0.5
    table.loc[is_empty, list(LABELS)] = 1.0  # a bleed that no score can follow
    table.loc[is_empty, [f"stack_{label}" for label in LABELS]] = 0.001
    rest = replace(cases, table=cases.table[~is_empty])
    with_empty, without = (
        fit_recalibration(c, "0a").recalibration.by_label["epidural"]
        for c in (replace(cases, table=table), rest)
    )
    np.testing.assert_allclose(with_empty.scale, without.scale)
    np.testing.assert_allclose(with_empty.shift, without.shift)
