"""No score may come from a maker that saw its patient, and a later stage must refuse one that did."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from ich3d.config.load import with_overrides
from ich3d.config.root import Config
from ich3d.context.train import train_context
from ich3d.core.errors import ConfigError, LeakageError
from ich3d.core.labels import LABELS
from ich3d.core.types import TrainingGroups
from ich3d.core.workspace import Workspace, read_csv, read_json, write_csv, write_json
from ich3d.crossfit.stages import Stages
from ich3d.crossfit.train import train
from ich3d.model.folder import load_model
from ich3d.prepare.store import Store
from ich3d.slices.embed import load_embeddings, save_embeddings
from ich3d.slices.train import train_encoder

FOLD = 0


@pytest.fixture
def copied(finished_run: Config, tmp_path: Path) -> tuple[Config, Workspace]:
    """The finished run in another folder, free to be spoiled."""
    shutil.copytree(finished_run.workspace, tmp_path / "run")
    config = replace(finished_run, workspace=str(tmp_path / "run"))
    return config, Workspace(tmp_path / "run")


@pytest.fixture
def inverted(finished_run: Config, tmp_path: Path) -> Store:
    """The finished run's store with every label of `FOLD` inverted."""
    folder = tmp_path / "store"
    shutil.copytree(Workspace(Path(finished_run.workspace)).store, folder)
    table = read_csv(folder / "slices.csv")
    table.loc[table["fold"] == FOLD, list(LABELS)] = (
        1 - table.loc[table["fold"] == FOLD, list(LABELS)]
    )
    write_csv(folder / "slices.csv", table)
    return Store(folder)


def tamper_embeddings(workspace: Workspace, fold: int) -> None:
    """Make the embeddings of `fold` say that their encoder was fitted on everyone."""
    path = workspace.stage("encoder", fold) / "embeddings.safetensors"
    everyone = TrainingGroups.of(Store(workspace.store).groups.values())
    items = [replace(item, training_groups=everyone) for item in load_embeddings(path)]
    save_embeddings(path, items)


def undo(workspace: Workspace, stage: str, fold: int) -> None:
    shutil.rmtree(workspace.stage(stage, fold))


@pytest.mark.parametrize("stage", ["encoder", "context", "stack"])
def test_every_maker_of_a_fold_saw_all_other_groups_and_none_of_its_own(
    finished_run: Config, stage: str
) -> None:
    workspace = Workspace(Path(finished_run.workspace))
    store = Store(workspace.store)
    for fold in range(finished_run.prepare.folds):
        seen = set(read_json(workspace.stage(stage, fold) / "done.json")["training_groups"])
        assert seen == {store.groups[name] for name, own in store.folds.items() if own != fold}
        assert not seen & {store.groups[name] for name, own in store.folds.items() if own == fold}


def test_embeddings_and_the_saved_model_carry_who_their_makers_saw(finished_run: Config) -> None:
    workspace = Workspace(Path(finished_run.workspace))
    store = Store(workspace.store)
    for fold_model in load_model(workspace.model).fold_models:
        path = workspace.stage("encoder", fold_model.fold) / "embeddings.safetensors"
        held_out = [name for name, own in store.folds.items() if own == fold_model.fold]
        items = list(load_embeddings(path))
        assert [item.volume_id for item in items] == held_out
        for item in items:
            assert item.training_groups == fold_model.training_groups
            assert store.groups[item.volume_id] not in item.training_groups


@pytest.mark.parametrize("fold", [FOLD, FOLD + 1])
def test_the_context_stage_refuses_embeddings_whose_encoder_saw_them(
    copied: tuple[Config, Workspace], fold: int
) -> None:
    """Both where the fold is to be scored and where it is to be trained on."""
    config, workspace = copied
    tamper_embeddings(workspace, FOLD)
    undo(workspace, "context", fold)
    with pytest.raises(LeakageError, match=f"encoder fold {FOLD} was fitted on group"):
        train(config)


def test_the_stack_stage_refuses_scores_whose_context_model_saw_them(
    copied: tuple[Config, Workspace],
) -> None:
    config, workspace = copied
    done = workspace.stage("context", FOLD) / "done.json"
    write_json(done, {"training_groups": sorted(set(Store(workspace.store).groups.values()))})
    undo(workspace, "stack", FOLD + 1)
    with pytest.raises(LeakageError, match=f"context fold {FOLD} was fitted on group"):
        train(config)


def test_labels_of_a_fold_do_not_touch_its_encoder(
    finished_run: Config, inverted: Store, tmp_path: Path
) -> None:
    encoder, _ = train_encoder(inverted, finished_run, FOLD, tmp_path / "encoder")
    saved = load_file(
        Workspace(Path(finished_run.workspace)).stage("encoder", FOLD) / "weights.safetensors"
    )
    for name, tensor in encoder.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), saved[name].numpy())


def test_labels_of_a_fold_do_not_touch_its_context_model(
    finished_run: Config, inverted: Store, tmp_path: Path
) -> None:
    workspace = Workspace(Path(finished_run.workspace))
    stages = Stages(finished_run, workspace, Store(workspace.store))
    fitted_on = stages.fitted_on(FOLD, stages.embedded())
    model, _ = train_context(inverted, fitted_on, finished_run, FOLD, tmp_path / "context")
    saved = load_file(workspace.stage("context", FOLD) / "weights.safetensors")
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), saved[name].numpy())



def test_labels_of_a_fold_do_not_touch_the_stacker_on_its_encoder(
    copied: tuple[Config, Workspace], inverted: Store
) -> None:
    config, workspace = copied
    embedded = Stages(config, workspace, Store(workspace.store)).embedded()
    before, after = (
        stages.stack(embedded, stages.encoder(embedded))
        for stages in (
            Stages(config, workspace, store) for store in (Store(workspace.store), inverted)
        )
    )
    for name, fold in inverted.folds.items():
        if fold == FOLD:
            np.testing.assert_array_equal(before[name].prob, after[name].prob)


def test_a_relabelled_fold_table_trains_everything_anew_or_is_refused(
    copied: tuple[Config, Workspace],
) -> None:
    """A patient is moved to another fold after training: the stages' inputs no longer fit. Whoever makes the
    marks fit is refused, because each maker knows whom it saw."""
    config, workspace = copied
    table = read_csv(workspace.store / "slices.csv")
    moved = table.loc[table["fold"] == FOLD, "group_id"].iloc[0]
    table.loc[table["group_id"] == moved, "fold"] = FOLD + 1
    write_csv(workspace.store / "slices.csv", table)
    stages = Stages(config, workspace, Store(workspace.store))
    for stage in ("encoder", "context", "stack"):
        for fold in range(config.prepare.folds):
            mark = workspace.stage(stage, fold) / "inputs.json"
            assert read_json(mark) != stages.inputs_sha256(stage)
            write_json(mark, stages.inputs_sha256(stage))
    with pytest.raises(LeakageError, match=f"context fold {FOLD + 1} was fitted on group {moved}"):
        stages.context(stages.embedded())


def test_in_sample_embeddings_are_a_control_that_no_model_is_made_from(
    copied: tuple[Config, Workspace],
) -> None:
    config, workspace = copied
    cheating = with_overrides(
        config, ["control.allow_in_sample=true", "context.embeddings=true"], "test"
    )
    with pytest.raises(ConfigError, match="no model is made from it"):
        train(cheating)
    stages = Stages(cheating, workspace, Store(workspace.store), config)
    assert set(stages.context(stages.embedded())) == set(stages.store.volume_ids)


def test_every_stage_says_whom_it_knows_of_through_its_makers(finished_run: Config) -> None:
    """Plain cross-fitting: a chain's encoders have seen, between them, everyone."""
    workspace = Workspace(Path(finished_run.workspace))
    everyone = sorted(set(Store(workspace.store).groups.values()))
    for fold in range(finished_run.prepare.folds):
        for stage in ("context", "stack"):
            done = read_json(workspace.stage(stage, fold) / "done.json")
            assert done["upstream_groups"] == everyone
            assert done["upstream_groups_sha256"] == TrainingGroups.of(everyone).sha256
        done = read_json(workspace.stage("encoder", fold) / "done.json")
        assert done["upstream_groups"] == done["training_groups"]


def test_nested_encoders_see_neither_the_scored_fold_nor_their_own(
    copied: tuple[Config, Workspace],
) -> None:
    """Plain cross-fitting leaves a second-order leak; the nested control closes it."""
    config, workspace = copied
    store = Store(workspace.store)
    nested = with_overrides(config, ["control.nested=true"], "test")
    stages = Stages(nested, workspace, store, config)
    scores = stages.context(stages.embedded())
    assert set(scores) == set(store.volume_ids)
    encoders = list((workspace.root / "ablation").glob("nested-*/fold*/encoder/fold*/done.json"))
    contexts = list((workspace.root / "ablation").glob("context-*/fold*/done.json"))
    assert (len(encoders), len(contexts)) == (3 * 2, 3)
    for path in encoders:
        outer, inner = (
            int(part.name.removeprefix("fold")) for part in (path.parents[2], path.parents[0])
        )
        seen = set(read_json(path)["training_groups"])
        unseen = {
            store.groups[name] for name, fold in store.folds.items() if fold in (outer, inner)
        }
        assert seen == set(store.groups.values()) - unseen
    for path in contexts:
        done = read_json(path)
        assert done["upstream_groups"] == done["training_groups"]
