"""Processes that train one network together give what one process gives, also after a kill."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ich3d.config.load import as_dict
from ich3d.config.root import Config
from ich3d.config.schema import SlicesConfig
from ich3d.slices.dataset import SliceDataset
from ich3d.training.ranks import ALONE
from tests.helpers.runs import store_of
from tests.helpers.torchrun import torchrun

# What every rank runs: the gradients of each batch of an epoch, in evaluation mode, so that batch
# normalisation does not depend on who shares the batch.
GRADIENTS = """
import sys, torch
from ich3d.config.load import load_config
from ich3d.core.workspace import Workspace
from ich3d.prepare.store import Store
from ich3d.slices.train import encoder_task
from ich3d.training.loop import backward
from ich3d.training.ranks import started_ranks

config, out = load_config(sys.argv[1]), sys.argv[2]
with started_ranks() as ranks:
    store = Store(config.workspace + "/store")
    _, _, task = encoder_task(store, config, fold=0, ranks=ranks)
    task.model.eval()
    torch.manual_seed(0)
    rows = []
    for batch in task.batches(0, 0):
        loss = backward(task, batch)
        rows.append(torch.cat([loss[None], *(p.grad.flatten() for p in task.model.parameters())]))
    if ranks.is_first:
        torch.save(torch.stack(rows), out)
"""

# The second rank kills itself within the second epoch, unless it was restarted.
TRAINING = """
import os, signal, sys
from pathlib import Path
import ich3d.training.loop as loop
from ich3d.config.load import load_config
from ich3d.prepare.store import Store
from ich3d.slices.train import train_encoder
from ich3d.training.ranks import started_ranks
from ich3d.training.weights import save_weights

config, folder, kill_at = load_config(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
loop.MIN_CHECKPOINT_STEPS = 2
original, steps = loop.backward, 0

def backward(task, batch):
    global steps
    steps += 1
    is_new = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    if steps == kill_at and is_new and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return original(task, batch)

loop.backward = backward
with started_ranks() as ranks:
    encoder, _ = train_encoder(Store(config.workspace + "/store"), config, 0, folder, ranks=ranks)
    if ranks.is_first:
        save_weights(folder / "weights.safetensors", encoder)
        (folder / "steps").write_text(str(steps))
"""


@pytest.fixture(scope="module")
def config(finished_run: Config) -> Config:
    """An encoder without dropout and mixup; its last batch has one slice."""
    slices = SlicesConfig(encoder="resnet10-half", epochs=2, mixup=0, dropout=0)
    config = replace(finished_run, precision="fp32", slices=slices)
    n_training = len(SliceDataset(store_of(config)))
    sizes = [size for size in range(5, 12) if n_training % size]
    return replace(config, slices=replace(slices, batch_size=sizes[0]))


def gradients(config: Config, folder: Path) -> np.ndarray:
    """Loss and gradients (steps, 1 + P) of one process."""
    (folder / "one.py").write_text(GRADIENTS)
    (folder / "config.json").write_text(json.dumps(as_dict(config)))
    out = folder / "one.pt"
    command = [str(folder / "one.py"), str(folder / "config.json"), str(out)]
    subprocess.run([sys.executable, *command], check=True)
    return np.asarray(torch.load(out).numpy())


def test_two_ranks_have_the_gradients_of_one_process(config: Config, tmp_path: Path) -> None:
    torchrun(GRADIENTS, tmp_path, config, str(tmp_path / "two.pt"))
    together = torch.load(tmp_path / "two.pt").numpy()
    alone = gradients(config, tmp_path)
    assert len(alone) > 2
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)
    assert np.abs(alone[:, 1:]).max(axis=1).min() > 1e-3


@pytest.mark.slow
def test_ranks_that_lose_one_end_with_the_weights_of_undisturbed_ones(
    config: Config, tmp_path: Path
) -> None:
    weights, steps = [], []
    for kill_at in (0, 14):
        folder = tmp_path / str(kill_at)
        folder.mkdir()
        torchrun(TRAINING, folder, config, str(folder), str(kill_at), restarts=1)
        weights.append((folder / "weights.safetensors").read_bytes())
        steps.append(int((folder / "steps").read_text()))
    assert weights[0] == weights[1]
    assert 0 < steps[1] < steps[0]


def test_a_process_without_torchrun_trains_alone() -> None:
    assert ALONE.is_first
    assert ALONE.gather(3) == [3]
    assert list(range(4))[ALONE.part] == [0, 1, 2, 3]
