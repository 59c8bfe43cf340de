"""Models are saved as data, and score the same after loading, whoever trained them."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydicom.uid import ExplicitVRLittleEndian
from safetensors.torch import load_file

from ich3d.config.root import Config
from ich3d.config.schema import PrepareConfig, StackConfig
from ich3d.context.bigru import ContextModel
from ich3d.context.score import score_context
from ich3d.core.errors import ModelError
from ich3d.core.labels import ANY, LABELS, STAGES
from ich3d.core.metrics import sigmoid
from ich3d.core.types import SliceEmbeddings, TrainingGroups
from ich3d.core.workspace import Workspace, read_json
from ich3d.crossfit.out_of_fold import probabilities, read_oof
from ich3d.model.fold_model import StageOutputs, stacker_features
from ich3d.model.folder import Model, fold_agreement, load_model, save_model, write_model
from ich3d.model.info import info
from ich3d.model.manifest import MANIFEST
from ich3d.prepare.store import Store
from ich3d.slices.embed import embed, load_embeddings
from ich3d.slices.encoder import SliceEncoder
from ich3d.stack.booster import Stacker, coherent, fit_stacker
from tests.helpers.embedded import random_embedded
from tests.helpers.encoders import random_hu
from tests.helpers.hu_features import brain_features
from tests.helpers.networks import (
    random_context,
    random_contexts,
    random_encoder,
    random_encoders,
)
from tests.helpers.recalibrations import recalibration_of
from tests.helpers.stack_rows import predictable_rows

GRID = PrepareConfig(matrix=48, pixel_mm=4.8)
N_SLICES = 7
Z_MM = 5.0 * np.arange(N_SLICES)
BRAIN = brain_features(N_SLICES)


@pytest.fixture(scope="module")
def hu() -> np.ndarray:
    return random_hu(N_SLICES)


@pytest.fixture(scope="module")
def encoder() -> SliceEncoder:
    return random_encoder(neighbours=1, windows=("brain", "bone"))


@pytest.fixture(scope="module")
def context(encoder: SliceEncoder) -> ContextModel:
    return random_context(encoder.embedding_width, reads="both")


@pytest.fixture(scope="module")
def stacker() -> Stacker:
    """A stacker that keeps every label."""
    stacker = fit_stacker(predictable_rows(), StackConfig(num_trees=40), seed=0)
    assert all(label_stacker.is_kept for label_stacker in stacker.by_label.values())
    return stacker


def loaded_in_fp32(folder: Path) -> Model:
    """The model, told to compute in fp32, so that its scores can be compared closely."""
    model = load_model(folder)
    return replace(model, config=replace(model.config, precision="fp32"))


# Folders that a run wrote


def test_context_weights_are_kept_in_half_precision_and_score_the_same(
    finished_run: Config, model_folder: Path
) -> None:
    """What was scored out of fold in training, against the model that was saved."""
    model, store = load_model(model_folder), Store(Path(finished_run.workspace) / "store")
    table = read_oof(Workspace(Path(finished_run.workspace)), "context")
    for fold in model.fold_models:
        path = model_folder / "context" / f"fold{fold.fold}.safetensors"
        assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}

        rows = table[table["fold"] == fold.fold]
        volume_id = str(rows["volume_id"].iloc[0])
        encoded = Path(finished_run.workspace) / "encoder" / f"fold{fold.fold}"
        (series,) = (
            one
            for one in load_embeddings(encoded / "embeddings.safetensors")
            if one.volume_id == volume_id
        )
        prob = score_context(fold.context, series, store.z_mm(volume_id))
        expected = probabilities(rows[rows["volume_id"] == volume_id])
        np.testing.assert_array_equal(prob.astype(np.float64).round(7), expected)


def test_a_run_saves_its_config_folds_and_data(finished_run: Config, model_folder: Path) -> None:
    model = load_model(model_folder)
    assert model.config == finished_run
    assert [fold_model.fold for fold_model in model.fold_models] == [0, 1, 2]
    assert model.fingerprint["transfer_syntaxes"] == {ExplicitVRLittleEndian: 7}


def test_no_file_of_a_model_can_be_executed(model_folder: Path) -> None:
    files = [path for path in model_folder.rglob("*") if path.is_file()]
    assert len(files) == 1 + 3 * 3  # the manifest; encoder, context and stacker of each fold
    for path in files:
        assert path.suffix in {".json", ".safetensors", ".txt"}
        assert not path.read_bytes().startswith((b"\x80", b"PK"))  # pickles and zip archives


@pytest.mark.parametrize(
    "name", ["encoder/fold0.safetensors", "context/fold2.safetensors", "stack/fold1.json"]
)
def test_a_changed_file_is_refused(model_folder: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name} was changed"):
        load_model(folder)


def test_one_fold_can_be_used_alone(model: Model, hu: np.ndarray) -> None:
    scores_by_fold = [model.fold(fold).score(hu, Z_MM, BRAIN) for fold in range(3)]
    scores = model.score(hu, Z_MM, BRAIN)
    for stage in STAGES:
        mean = np.mean([fold_scores[stage] for fold_scores in scores_by_fold], axis=0)
        np.testing.assert_allclose(scores[stage], mean, atol=1e-6)


def test_a_recalibrated_model_comes_back_and_serves_recalibrated_scores(
    model: Model, hu: np.ndarray, tmp_path: Path
) -> None:
    recalibration = recalibration_of(any=(0.5, 1.0), epidural=(1.0, 4.0))
    write_model(
        tmp_path / "new", model.config, model.fingerprint, model.fold_models,
        recalibration=recalibration,
    )  # fmt: skip
    loaded = load_model(tmp_path / "new")
    assert loaded.recalibration == recalibration
    assert loaded.sha256 != model.sha256

    before, after = model.score(hu, Z_MM, BRAIN), loaded.score(hu, Z_MM, BRAIN)
    for stage in ("encoder", "context"):
        np.testing.assert_allclose(after[stage], before[stage], atol=1e-6)
    np.testing.assert_allclose(
        after["stack"], recalibration.apply(before["stack"], BRAIN), atol=1e-6
    )
    assert np.abs(after["stack"] - before["stack"]).max() > 0.05


def outputs_of(*any_probs: list[float]) -> list[StageOutputs]:
    """What folds give whose final probabilities of `any` are these (Z,)."""
    outputs = []
    for any_prob in any_probs:
        prob = np.zeros((len(any_prob), len(LABELS)))
        prob[:, LABELS.index(ANY)] = any_prob
        embedded = random_embedded(len(any_prob))
        outputs.append(StageOutputs(embedded, pd.DataFrame(), dict.fromkeys(STAGES, prob)))
    return outputs


def test_folds_agree_as_far_as_their_probabilities_are_equal() -> None:
    same, apart = fold_agreement(outputs_of([0.25, 1.0], [0.25, 0.0]))
    assert (same, apart) == (1.0, 0.0)
    (near,) = fold_agreement(outputs_of([0.4], [0.5], [0.6]))
    assert near == pytest.approx(1 - 2 * np.std([0.4, 0.5, 0.6]))
    assert np.isnan(fold_agreement(outputs_of([0.5, 0.5]))).all()


def test_trees_are_the_same_after_saving(model: Model, stacker: Stacker, tmp_path: Path) -> None:
    """The small run keeps no stacker, so its model is given one that is kept."""
    fold_model = replace(model.fold_models[0], stacker=stacker)
    write_model(tmp_path / "model", model.config, model.fingerprint, [fold_model])
    (loaded,) = load_model(tmp_path / "model").fold_models
    assert loaded.stacker == stacker

    rows = predictable_rows()
    before = stacker.score(rows.features, rows.start_prob)
    np.testing.assert_array_equal(loaded.stacker.score(rows.features, rows.start_prob), before)


# Networks of one's own training


def test_own_networks_score_the_same_after_saving(
    encoder: SliceEncoder, context: ContextModel, stacker: Stacker, hu: np.ndarray, tmp_path: Path
) -> None:
    save_model(tmp_path / "model", encoder, context, stacker, grid=GRID)
    scores = loaded_in_fp32(tmp_path / "model").score(hu, Z_MM, BRAIN)

    embeddings, logits = embed(encoder, hu, Config(precision="fp32", slices=encoder.config))
    embedded = SliceEmbeddings("", embeddings, logits, BRAIN, "encoder", TrainingGroups.of(()))
    context_prob = score_context(context, embedded, Z_MM)
    features = stacker_features(embedded, context_prob, Z_MM, stacker.reach_mm)
    np.testing.assert_allclose(scores["encoder"], sigmoid(logits), atol=1e-5)
    np.testing.assert_allclose(scores["context"], context_prob, atol=1e-5)
    np.testing.assert_allclose(
        scores["stack"], coherent(stacker.score(features, context_prob)), atol=0.02
    )  # logits are rounded to 1e-3: a tree may take its other branch
    assert np.abs(scores["encoder"] - scores["context"]).max() > 0.05
    assert np.abs(scores["context"] - scores["stack"]).max() > 0.05


def test_without_a_stacker_the_context_scores_stand(
    encoder: SliceEncoder, context: ContextModel, hu: np.ndarray, tmp_path: Path
) -> None:
    save_model(tmp_path / "model", encoder, context, grid=GRID)
    scores = load_model(tmp_path / "model").score(hu, Z_MM, BRAIN)
    np.testing.assert_array_equal(scores["stack"], coherent(scores["context"]))


def test_settings_of_the_networks_are_saved(tmp_path: Path) -> None:
    encoders = random_encoders(2, neighbours=0, symmetry=False, windows=("subdural",))
    contexts = random_contexts(encoders.embedding_width, 3, num_layers=2, geometry=False)
    save_model(tmp_path / "model", encoders, contexts, Stacker.empty(), grid=GRID)

    model = load_model(tmp_path / "model")
    assert model.config.prepare == GRID
    assert model.config.slices == replace(encoders.config, ensemble_size=2)
    assert model.config.context == replace(contexts.config, ensemble_size=3)
    (fold_model,) = model.fold_models
    assert len(fold_model.encoder.members) == 2
    assert len(fold_model.context.members) == 3
    for saved, loaded in ((encoders, fold_model.encoder), (contexts, fold_model.context)):
        for name, tensor in saved.state_dict().items():
            np.testing.assert_array_equal(loaded.state_dict()[name].cpu(), tensor)


def test_the_stackers_reach_is_saved(
    encoder: SliceEncoder, context: ContextModel, stacker: Stacker, tmp_path: Path
) -> None:
    far = replace(stacker, reach_mm=25.0)
    save_model(tmp_path / "model", encoder, context, far, grid=GRID)
    model = load_model(tmp_path / "model")
    assert model.fold_models[0].stacker == far
    assert model.config.stack.reach_mm == 25.0


def test_grid_and_fingerprint_are_those_of_the_store(
    finished_run: Config, encoder: SliceEncoder, context: ContextModel, tmp_path: Path
) -> None:
    store = Store(Workspace(Path(finished_run.workspace)).store)
    save_model(tmp_path / "model", encoder, context, grid=store)
    manifest = read_json(tmp_path / "model" / MANIFEST)
    assert manifest["preprocessing_sha256"] == store.meta["preprocessing_sha256"]
    assert manifest["fingerprint"] == store.meta["fingerprint"]
    assert load_model(tmp_path / "model").config.prepare.matrix == finished_run.prepare.matrix


def test_without_a_store_nothing_is_known_of_the_training_data(
    encoder: SliceEncoder, context: ContextModel, tmp_path: Path
) -> None:
    save_model(tmp_path / "model", encoder, context, grid=GRID)
    fingerprint = load_model(tmp_path / "model").fingerprint
    assert fingerprint["prevalence"] == dict.fromkeys(LABELS)
    assert fingerprint["ranges"] == fingerprint["counts"] == {}


@pytest.mark.parametrize(
    ("training_groups", "expected", "held_out"),
    [
        (["p1", "p2"], ["p1", "p2"], "provable: "),
        (np.array(["p1", "p2", "p1"]), ["p1", "p2"], "provable: "),
        ([], [], "not proven: "),
        (None, [], "not proven: "),
    ],
    ids=["list", "array", "no group", "unknown"],
)
def test_training_groups_are_recorded_where_they_are_given(
    encoder: SliceEncoder,
    context: ContextModel,
    tmp_path: Path,
    training_groups: Any,
    expected: list[str],
    held_out: str,
) -> None:
    folder = tmp_path / "model"
    save_model(folder, encoder, context, grid=GRID, training_groups=training_groups)
    assert read_json(folder / MANIFEST)["training_groups_known"] is bool(expected)
    assert info(folder)["held_out"].startswith(held_out)
    (fold_model,) = load_model(folder).fold_models
    assert fold_model.training_groups == TrainingGroups.of(expected)


def test_an_existing_model_is_replaced(
    encoder: SliceEncoder, context: ContextModel, stacker: Stacker, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    save_model(folder, encoder, context, stacker, grid=GRID)
    assert len(list(folder.rglob("*.txt"))) == len(LABELS)
    save_model(folder, encoder, context, grid=GRID)
    assert not list(folder.rglob("*.txt"))
    assert load_model(folder).fold_models[0].stacker == Stacker.empty()


def test_a_stacker_of_foreign_features_is_refused(
    encoder: SliceEncoder, context: ContextModel, stacker: Stacker, tmp_path: Path
) -> None:
    own = replace(stacker.by_label["any"], is_kept=True, columns=("age",))
    foreign = replace(stacker, by_label={**stacker.by_label, "any": own})
    with pytest.raises(ModelError, match="stacker of any reads the feature age, which a predic"):
        save_model(tmp_path / "model", encoder, context, foreign, grid=GRID)
    assert not list(tmp_path.iterdir())


def test_a_stacker_that_reads_farther_than_its_reach_is_refused(
    encoder: SliceEncoder, context: ContextModel, stacker: Stacker, tmp_path: Path
) -> None:
    near = replace(stacker, reach_mm=0.0)
    with pytest.raises(ModelError, match="a prediction with reach_mm=0 does not have"):
        save_model(tmp_path / "model", encoder, context, near, grid=GRID)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("width_change", "settings", "message"),
    [
        (1, {}, "reads embeddings of width 257, the encoder gives 256"),
        (0, {"num_features": 2}, "reads extra features, which a prediction does not have"),
    ],
    ids=["width", "features"],
)
def test_networks_that_do_not_fit_are_refused(
    encoder: SliceEncoder,
    tmp_path: Path,
    width_change: int,
    settings: dict[str, Any],
    message: str,
) -> None:
    context = random_context(encoder.embedding_width + width_change, **settings)
    with pytest.raises(ModelError, match=message):
        save_model(tmp_path / "model", encoder, context, grid=GRID)
    assert not list(tmp_path.iterdir())
