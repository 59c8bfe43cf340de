"""What a model is worth: the figures that it keeps, and whether 0.5 may be called likely."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ich3d.config.root import Config
from ich3d.core.bootstrap import Interval
from ich3d.core.labels import ANY, FLAG_AT
from ich3d.core.workspace import Workspace, read_json
from ich3d.evaluation.run import out_of_fold
from ich3d.model.folder import load_model
from ich3d.model.manifest import MANIFEST, read_manifest
from ich3d.model.performance import (
    HELD_OUT,
    MIN_PATIENTS,
    NOT_RECORDED,
    Performance,
    doubt,
    sentences,
    with_card,
)
from ich3d.model.starter import STARTER
from tests.helpers.manifests import edit_manifest
from tests.helpers.performance import figures, performance


def test_a_trained_model_keeps_the_figures_of_its_out_of_fold_scores(finished_run: Config) -> None:
    workspace = Workspace(Path(finished_run.workspace))
    kept = load_model(workspace.model).performance
    assert kept is not None
    assert kept == read_manifest(workspace.model).performance
    assert (kept.source, kept.external) == ("phantom", ())

    scores = out_of_fold(workspace)
    rows = scores.result_rows(finished_run.report.resamples, finished_run.seed)
    (auc,) = (row.auc[ANY] for row in rows if row.name == "stack")
    of_manifest = kept.held_out.auc
    for name in ("value", "low", "high"):
        assert getattr(of_manifest, name) == pytest.approx(getattr(auc, name), abs=1e-5)
    assert kept.held_out.patients == scores.truth.table["group_id"].nunique()

    bleeds = scores.truth.target[:, -1]  # NaN where the slice has no label
    flagged = bleeds[(scores.prob["stack"][:, -1] >= FLAG_AT) & ~np.isnan(bleeds)]
    assert kept.held_out.flagged == (len(flagged), flagged.sum())


def test_figures_survive_json_and_undefined_ones_are_null() -> None:
    without = figures(specificity=(math.nan,) * 3)
    kept = Performance("folder", without, (figures(name="elsewhere", patients=None),))
    tree = json.loads(json.dumps(kept.as_dict(), allow_nan=False))
    assert tree["held_out"]["slices"]["specificity"] == {"value": None, "low": None, "high": None}
    read = Performance.from_dict(tree)
    assert math.isnan(read.held_out.slices.specificity.value)
    assert read.external == kept.external
    assert read.held_out.flagged == (0, 0)


def test_the_sentence_has_patients_auc_and_the_operating_point() -> None:
    assert performance().sentences == {
        HELD_OUT: (
            "40 patients, AUC of any bleeding 0.90 (0.85 to 0.95); flagged at 0.5, slices: "
            "sensitivity 0.80 (0.70 to 0.90), specificity 0.95 (0.90 to 1.00)"
        ),
        "calibration": (
            f"Of 90 slices with a probability of 0.5 or more, 80 bled, which is 89% ({HELD_OUT})."
        ),
    }
    nothing = figures(sensitivity=(0.0, 0.0, 0.0), specificity=(1.0, 1.0, 1.0))
    assert nothing.calibration.startswith("No slice had a probability of 0.5 or more")


def test_likelier_than_not_needs_patients_and_flagged_slices_of_which_most_bled() -> None:
    assert performance().doubt == ""
    assert "drawn heads" in performance("phantom").doubt
    few = performance(patients=MIN_PATIENTS - 1)
    assert few.doubt == "the model was tested on 19 held-out patients only"
    assert performance(patients=MIN_PATIENTS).doubt == ""

    # 70 of 80 would be enough; at the lower ends 20 of 60 are not.
    unsure = performance(sensitivity=(0.7, 0.2, 0.9), specificity=(0.95, 0.8, 1.0))
    assert "70 of 80 flagged slices bled" in unsure.doubt
    elsewhere = replace(performance(), external=(figures((0.3, 0.0, 0.5), name="elsewhere"),))
    assert "elsewhere" in elsewhere.doubt
    assert doubt(None) == NOT_RECORDED
    assert sentences(None) == {HELD_OUT: NOT_RECORDED}


def test_a_model_of_an_earlier_version_says_that_nothing_is_recorded(
    model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / MANIFEST).write_bytes((model_folder / MANIFEST).read_bytes())

    def forget(manifest: dict[str, object]) -> None:
        del manifest["performance"]
        manifest["files"] = {}

    edit_manifest(tmp_path, forget)
    assert read_manifest(tmp_path).performance is None


def test_the_card_beside_a_model_adds_what_was_measured_elsewhere() -> None:
    """The starter model's card; the figures are those that the card prints."""
    manifest = read_manifest(STARTER / "model")
    assert manifest.performance is not None
    card = read_json(STARTER / "card.json")
    assert manifest.performance.held_out.patients == card["patients"]
    assert [one.name for one in manifest.performance.external] == list(card["evaluations"])
    for one in (manifest.performance.held_out, *manifest.performance.external):
        for interval in (one.auc, one.slices.sensitivity, one.slices.specificity):
            assert np.isfinite([interval.value, interval.low, interval.high]).all()

    own = performance()
    added = with_card(own, STARTER / "model", manifest.sha256)
    assert added is not None
    assert (added.held_out, added.external) == (own.held_out, manifest.performance.external)
    assert with_card(own, STARTER / "model", "another model") is own
    assert with_card(None, STARTER / "nowhere" / "model", manifest.sha256) is None


def test_an_interval_without_draws_is_its_value_alone() -> None:
    alone = figures(auc=Interval(0.9, math.nan, math.nan), patients=None)
    assert alone.sentence.startswith("AUC of any bleeding 0.90; flagged at 0.5")
