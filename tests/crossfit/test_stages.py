"""No model scores patients that it was trained on, and later stages refuse one that would."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from torch import nn

from ich3d.config.ablation import STACKER_PARTS
from ich3d.config.load import with_overrides
from ich3d.config.root import Config
from ich3d.context.train import train_context
from ich3d.core.errors import LeakageError
from ich3d.core.types import TrainingGroups
from ich3d.core.workspace import Workspace, read_csv, read_json, write_json
from ich3d.crossfit import status
from ich3d.crossfit.stages import Stages
from ich3d.crossfit.train import train
from ich3d.model.folder import Model
from ich3d.prepare.store import Store
from ich3d.slices.embed import load_embeddings, save_embeddings
from ich3d.slices.train import train_encoder
from ich3d.stack.booster import LabelStacker, coherent
from ich3d.stack.features import columns_without
from tests.helpers.lite0 import partly_frozen
from tests.helpers.runs import copy_run, store_of, with_inverted_labels, workspace_of

FOLD = 0


@pytest.fixture
def copied_run(finished_run: Config, tmp_path: Path) -> Config:
    """A copy of the finished run, free to be changed."""
    return copy_run(finished_run, tmp_path / "run")


@pytest.fixture
def inverted(finished_run: Config, tmp_path: Path) -> Store:
    """The finished run's store with every label of `FOLD` inverted."""
    return with_inverted_labels(finished_run, FOLD, tmp_path / "store")


def groups_of_folds(store: Store, folds: set[int]) -> set[str]:
    """The patient groups of some folds."""
    return {store.groups[name] for name, fold in store.folds.items() if fold in folds}


def claim_trained_on_everyone(workspace: Workspace, fold: int) -> None:
    """Let the embeddings of `fold` say that their encoder was trained on all patients."""
    path = workspace.stage("encoder", fold) / "embeddings.safetensors"
    everyone = TrainingGroups.of(Store(workspace.store).groups.values())
    claimed = [replace(series, training_groups=everyone) for series in load_embeddings(path)]
    save_embeddings(path, claimed)


def remove_stage(workspace: Workspace, stage: str, fold: int) -> None:
    """So that the stage is trained again."""
    shutil.rmtree(workspace.stage(stage, fold))


def assert_saved_weights(model: nn.Module, folder: Path) -> None:
    """The model has exactly the weights that were saved in `folder`."""
    saved = load_file(folder / "weights.safetensors")
    assert model.state_dict().keys() == saved.keys()
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.cpu().numpy(), saved[name].numpy())


# Who was trained on whom


@pytest.mark.parametrize("stage", ["encoder", "context", "stack"])
def test_a_folds_models_are_trained_on_all_other_folds_and_on_none_of_their_own(
    finished_run: Config, stage: str
) -> None:
    workspace, store = workspace_of(finished_run), store_of(finished_run)
    folds = set(range(finished_run.prepare.folds))
    for fold in folds:
        facts = read_json(workspace.stage(stage, fold) / "done.json")
        trained_on = set(facts["training_groups"])
        assert trained_on == groups_of_folds(store, folds - {fold})
        assert trained_on.isdisjoint(groups_of_folds(store, {fold}))


def test_embeddings_and_the_saved_model_carry_their_training_groups(
    finished_run: Config, model: Model
) -> None:
    workspace, store = workspace_of(finished_run), store_of(finished_run)
    assert len(model.fold_models) == finished_run.prepare.folds
    for fold_model in model.fold_models:
        path = workspace.stage("encoder", fold_model.fold) / "embeddings.safetensors"
        embedded = list(load_embeddings(path))
        held_out = [name for name, fold in store.folds.items() if fold == fold_model.fold]
        assert [series.volume_id for series in embedded] == held_out
        for series in embedded:
            assert series.training_groups == fold_model.training_groups
            assert store.groups[series.volume_id] not in series.training_groups


def test_later_stages_record_all_patients_behind_them(finished_run: Config) -> None:
    """In plain cross-fitting the encoders behind a context model have, between them, seen all."""
    workspace, store = workspace_of(finished_run), store_of(finished_run)
    everyone = sorted(set(store.groups.values()))
    for fold in range(finished_run.prepare.folds):
        for stage in ("context", "stack"):
            facts = read_json(workspace.stage(stage, fold) / "done.json")
            assert facts["upstream_groups"] == everyone
        facts = read_json(workspace.stage("encoder", fold) / "done.json")
        assert facts["upstream_groups"] == facts["training_groups"]


# Leakage is refused


@pytest.mark.parametrize("fold", [FOLD, FOLD + 1], ids=["scoring", "training"])
def test_the_context_stage_refuses_embeddings_of_training_patients(
    copied_run: Config, fold: int
) -> None:
    """The embeddings of `FOLD` are scored by its own context model and train the others."""
    workspace = workspace_of(copied_run)
    claim_trained_on_everyone(workspace, FOLD)
    remove_stage(workspace, "context", fold)
    with pytest.raises(LeakageError, match=f"encoder fold {FOLD} was trained on group"):
        train(copied_run)


def test_the_stack_stage_refuses_scores_of_training_patients(copied_run: Config) -> None:
    workspace, store = workspace_of(copied_run), store_of(copied_run)
    everyone = {"training_groups": sorted(set(store.groups.values()))}
    write_json(workspace.stage("context", FOLD) / "done.json", everyone)
    remove_stage(workspace, "stack", FOLD + 1)
    with pytest.raises(LeakageError, match=f"context fold {FOLD} was trained on group"):
        train(copied_run)


def test_a_patient_moved_to_another_fold_is_found(copied_run: Config) -> None:
    """The recorded inputs no longer fit; where they are forged, the training groups tell."""
    workspace = workspace_of(copied_run)
    table = read_csv(workspace.store / "slices.csv")
    moved = table.loc[table["fold"] == FOLD, "group_id"].iloc[0]
    table.loc[table["group_id"] == moved, "fold"] = FOLD + 1
    Store.finish(workspace.store, table, read_json(workspace.store / "meta.json"))

    stages = Stages(copied_run, workspace, store_of(copied_run))
    for stage in ("encoder", "context", "stack"):
        for fold in range(copied_run.prepare.folds):
            path = workspace.stage(stage, fold) / "inputs.json"
            assert read_json(path) != stages.inputs_sha256(stage)
            write_json(path, stages.inputs_sha256(stage))
    with pytest.raises(LeakageError, match=f"context fold {FOLD + 1} was trained on group {moved}"):
        stages.context(stages.embedded())


# A fold's labels do not reach its models


def test_labels_of_a_fold_do_not_change_its_encoder(
    finished_run: Config, inverted: Store, tmp_path: Path
) -> None:
    encoder, _ = train_encoder(inverted, finished_run, FOLD, tmp_path / "encoder")
    assert_saved_weights(encoder, workspace_of(finished_run).stage("encoder", FOLD))


def test_labels_of_a_fold_do_not_change_its_context_model(
    finished_run: Config, inverted: Store, tmp_path: Path
) -> None:
    workspace = workspace_of(finished_run)
    stages = Stages(finished_run, workspace, store_of(finished_run))
    training_data = stages.context_training_data(FOLD, stages.embedded())
    context, _ = train_context(inverted, training_data, finished_run, FOLD, tmp_path / "context")
    assert_saved_weights(context, workspace.stage("context", FOLD))


def test_labels_of_a_fold_do_not_change_its_stacker(copied_run: Config, inverted: Store) -> None:
    """Shown for the stacker on the encoder, which the run itself does not train."""
    workspace = workspace_of(copied_run)
    embedded = Stages(copied_run, workspace, store_of(copied_run)).embedded()
    before, after = (
        stages.stack(embedded, stages.encoder(embedded))
        for stages in (
            Stages(copied_run, workspace, store) for store in (store_of(copied_run), inverted)
        )
    )
    held_out = [name for name, fold in inverted.folds.items() if fold == FOLD]
    assert held_out
    for name in held_out:
        np.testing.assert_array_equal(before[name].prob, after[name].prob)


# Controls of ablations


def test_the_in_sample_control_allows_leakage(copied_run: Config) -> None:
    changes = ["control.allow_in_sample=true", "context.reads=both"]
    in_sample = with_overrides(copied_run, changes, "test")
    workspace, store = workspace_of(copied_run), store_of(copied_run)
    stages = Stages(in_sample, workspace, store, run=copied_run)
    embedded = stages.embedded()

    own_patients = stages.context_training_data(FOLD, embedded)
    assert own_patients
    for name, series in own_patients.items():
        assert store.groups[name] in series.training_groups
    assert set(stages.context(embedded)) == set(store.volume_ids)


def test_a_cut_series_is_scored_as_its_runs_are_served(copied_run: Config) -> None:
    """Trees are forced, so that the stacker reads neighbours and position."""
    workspace, store = workspace_of(copied_run), store_of(copied_run)
    forced = with_overrides(copied_run, ["control.force_stacker=true"], "test")
    cut = with_overrides(forced, ["control.cut=4"], "test")
    stages = Stages(cut, workspace, store, run=copied_run)
    embedded = stages.embedded()
    context = stages.context(embedded)
    stack = stages.stack(embedded, context)
    assert any(len(store.z_mm(name)) % 4 for name in store.volume_ids)  # one run is shorter

    for fold in range(copied_run.prepare.folds):
        fold_model = stages.fold_model(fold)
        assert any(item.is_kept for item in fold_model.stacker.by_label.values())
        for name in (name for name, own_fold in store.folds.items() if own_fold == fold):
            series, z_mm = embedded[name], store.z_mm(name)
            for start in range(0, len(z_mm), 4):
                run = slice(start, start + 4)
                served = fold_model.score(
                    series.embeddings[run],
                    series.logits[run],
                    z_mm[run],
                    series.hu_features[run],
                ).prob
                np.testing.assert_allclose(context[name].prob[run], served["context"], atol=1e-6)
                scored = coherent(stack[name].prob[run])
                np.testing.assert_allclose(scored, served["stack"], atol=1e-6)


def test_runs_longer_than_a_series_leave_it_whole(finished_run: Config) -> None:
    workspace, store = workspace_of(finished_run), store_of(finished_run)
    longest = max(len(store.z_mm(name)) for name in store.volume_ids)
    cut = with_overrides(finished_run, [f"control.cut={longest}"], "test")
    whole, in_runs = (
        Stages(config, workspace, store, run=finished_run) for config in (finished_run, cut)
    )
    embedded = whole.embedded()
    expected, scores = whole.context(embedded), in_runs.context(embedded)
    refined = in_runs.stack(embedded, scores)
    for name, prob in whole.stack(embedded, expected).items():
        np.testing.assert_array_equal(scores[name].prob, expected[name].prob)
        np.testing.assert_array_equal(refined[name].prob, prob.prob)


def test_cutting_trains_what_is_trained_without_it(finished_run: Config, tmp_path: Path) -> None:
    """Also where the row that cuts is the first to need a stacker."""
    forced = with_overrides(finished_run, ["control.force_stacker=true"], "test")
    cut = with_overrides(forced, ["control.cut=2"], "test")
    stackers = []
    for folder, config in (("whole", forced), ("cut", cut)):
        run = copy_run(finished_run, tmp_path / folder)
        workspace, store = workspace_of(run), store_of(run)
        stages = Stages(config, workspace, store, run=run)
        embedded = stages.embedded()
        for before in (stages.encoder(embedded), stages.context(embedded)):
            stages.stack(embedded, before)
        trained = sorted(workspace.root.rglob("stack.json"))
        stackers.append({path.relative_to(workspace.root): path.read_text() for path in trained})
    assert stackers[0] == stackers[1]


@pytest.mark.parametrize("part", STACKER_PARTS)
def test_a_stacker_reads_nothing_of_a_part_that_is_left_out(copied_run: Config, part: str) -> None:
    """Both stackers; where columns are left out, trees are forced."""
    settings = [f"control.stacker_without={part}", f"control.force_stacker={part != 'trees'}"]
    config = with_overrides(copied_run, settings, "test")
    workspace, store = workspace_of(copied_run), store_of(copied_run)
    stages = Stages(config, workspace, store, run=copied_run)
    embedded = stages.embedded()
    for before in (stages.encoder(embedded), stages.context(embedded)):
        scores = stages.stack(embedded, before)
        assert set(scores) == set(store.volume_ids)

    trained = list((workspace.root / "ablation").rglob("stack.json"))
    assert len(trained) == 2 * copied_run.prepare.folds
    stackers = [
        LabelStacker.from_dict(fields) for path in trained for fields in read_json(path).values()
    ]
    assert any(stacker.is_kept for stacker in stackers) == (part != "trees")
    for stacker in stackers:
        hu = stacker.blend.hu if stacker.blend else None
        columns = [*stacker.columns, *(hu.weights if hu else ())]
        assert columns == columns_without(part, columns)
        if part == "hu" and stacker.blend:
            assert "hu" not in stacker.blend.weights


def test_nested_encoders_see_neither_the_scored_fold_nor_their_own(copied_run: Config) -> None:
    """In plain cross-fitting a context model's encoders have seen the patients that it scores."""
    workspace, store = workspace_of(copied_run), store_of(copied_run)
    nested = with_overrides(copied_run, ["control.nested=true"], "test")
    stages = Stages(nested, workspace, store, run=copied_run)
    assert set(stages.context(stages.embedded())) == set(store.volume_ids)

    ablation = workspace.root / "ablation"
    encoders = list(ablation.glob("nested-*/fold*/encoder/fold*/done.json"))
    contexts = list(ablation.glob("context-*/fold*/done.json"))
    assert (len(encoders), len(contexts)) == (3 * 2, 3)
    for path in encoders:
        scored_fold, own_fold = (
            int(folder.name.removeprefix("fold")) for folder in (path.parents[2], path.parents[0])
        )
        seen = set(read_json(path)["training_groups"])
        unseen = groups_of_folds(store, {scored_fold, own_fold})
        assert seen == set(store.groups.values()) - unseen
    for path in contexts:
        facts = read_json(path)
        assert facts["upstream_groups"] == facts["training_groups"]


@pytest.mark.trains
def test_end_to_end_neither_model_of_a_pair_saw_the_patients_that_it_scores(
    finished_run: Config, tmp_path: Path
) -> None:
    config = partly_frozen(finished_run, tmp_path, frozen_parts=8, end_to_end=True)
    workspace, store = Workspace(tmp_path / "run"), store_of(config)
    stages = Stages(config, workspace, store)
    embedded = stages.embedded()
    context = stages.context(embedded)
    stack = stages.stack(embedded, context)
    for name in store.volume_ids:
        for scored in (embedded[name], context[name], stack[name]):
            assert store.groups[name] not in scored.training_groups

    # The pair is one stage: both were trained on the same patients, and are kept as they were.
    for fold in range(config.prepare.folds):
        pair, context_folder = workspace.stage("encoder", fold), workspace.stage("context", fold)
        assert status.training_groups_of(pair) == status.training_groups_of(context_folder)
        kept = (context_folder / "weights.safetensors").read_bytes()
        assert kept == (pair / "context.safetensors").read_bytes()

    # The saved pair scores as the stages did.
    name = next(name for name, fold in store.folds.items() if fold == FOLD)
    one = embedded[name]
    served = stages.fold_model(FOLD).score(
        one.embeddings, one.logits, store.z_mm(name), store.hu_features(name)
    )
    np.testing.assert_allclose(served.prob["context"], context[name].prob, atol=1e-6)
