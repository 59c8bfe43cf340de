"""Every backend gives the scores of plain fp32 torch, whatever else is in a slice's batch."""

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ich3d.config.root import Config
from ich3d.config.schema import ENCODERS, PrepareConfig, SlicesConfig
from ich3d.core.metrics import sigmoid, weighted_log_loss
from ich3d.core.workspace import Workspace
from ich3d.model.backends import FoldEncoders
from ich3d.model.folder import Model
from ich3d.prepare.store import Store
from ich3d.slices import dataset
from ich3d.slices.embed import embed
from ich3d.slices.encoder import EncoderEnsemble

AGREEMENT = {"encoder": (0.99, 0.005), "context": (0.99, 0.005), "stack": (0.95, 0.02)}
"""By stage: the share of scores that must agree, and the largest difference of these."""

SIGNALLED = """
import gc, os, signal, sys
from dataclasses import replace
import numpy as np
from ich3d.model.folder import load_model

signal.signal(signal.SIGUSR1, lambda number, frame: print("handled"))
model = load_model(sys.argv[1])
side, auto = model.config.prepare.matrix, replace(model.config, precision="auto")
models = [replace(model, config=auto) for _ in range(2)]
for number in range(2):
    models[number].encoders.embed(np.zeros((1, side, side), np.int16))
while models:
    del models[0]
    gc.collect()
os.kill(os.getpid(), signal.SIGUSR1)
"""
"""A process frees two models, the older one first, and handles a signal."""

CONFIG = Config(
    precision="fp32",
    prepare=PrepareConfig(matrix=64, pixel_mm=3.6),
    slices=SlicesConfig(encoder="resnet10-half", neighbours=1, ensemble_size=2),
)
AUTO = replace(CONFIG, precision="auto")


@pytest.fixture
def encoders() -> list[EncoderEnsemble]:
    """The encoders of two folds."""
    torch.manual_seed(0)
    return [EncoderEnsemble.from_config(CONFIG.slices).eval() for _ in range(2)]


@pytest.fixture
def hu() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1500, (7, 64, 64)).astype(np.int16)


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if OpenVINO was not installed."""
    monkeypatch.setitem(sys.modules, "openvino", None)


def require_openvino() -> None:
    if find_spec("openvino") is None:
        pytest.skip("the openvino extra is not installed")
    if torch.accelerator.is_available():
        pytest.skip("OpenVINO is for the CPU, and there is an accelerator")


def probabilities(encoders: list[EncoderEnsemble], config: Config, hu: np.ndarray) -> np.ndarray:
    """The encoders' probabilities (folds, Z, K)."""
    embedded = FoldEncoders(encoders, config).embed(hu)
    assert all(logits.dtype == np.float32 for _, logits in embedded)
    return np.stack([sigmoid(logits) for _, logits in embedded])


@pytest.mark.parametrize("tta_flip", [True, False])
def test_folds_that_run_together_give_what_each_gives_alone(
    encoders: list[EncoderEnsemble], hu: np.ndarray, tta_flip: bool
) -> None:
    config = replace(CONFIG, slices=replace(CONFIG.slices, tta_flip=tta_flip))
    together = FoldEncoders(encoders, config)
    assert together.runtime == "torch fp32"
    for encoder, (embeddings, logits) in zip(encoders, together.embed(hu), strict=True):
        alone_embeddings, alone_logits = embed(encoder, hu, config)
        np.testing.assert_allclose(embeddings, alone_embeddings, rtol=0, atol=1e-5)
        np.testing.assert_allclose(logits, alone_logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_the_batch_size_changes_no_score(
    encoders: list[EncoderEnsemble],
    hu: np.ndarray,
    batch_size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = probabilities(encoders, CONFIG, hu)
    monkeypatch.setattr(dataset, "CPU_BATCH", batch_size)
    monkeypatch.setattr(dataset, "GPU_BATCH", batch_size)
    np.testing.assert_allclose(probabilities(encoders, CONFIG, hu), usual, rtol=0, atol=1e-5)


def test_the_fastest_path_agrees_with_fp32(encoders: list[EncoderEnsemble], hu: np.ndarray) -> None:
    exact, fast = probabilities(encoders, CONFIG, hu), probabilities(encoders, AUTO, hu)
    np.testing.assert_allclose(fast, exact, rtol=0, atol=0.01)
    assert np.abs(exact - 0.5).max() > 0.02  # scores differ from those of a silent network


def test_openvino_is_used_where_it_is_installed_and_reports_nothing(
    encoders: list[EncoderEnsemble],
) -> None:
    require_openvino()
    path = FoldEncoders(encoders, AUTO).runtime  # this imports it
    assert path.split()[0] == "openvino"
    openvino: Any = sys.modules["openvino"]
    telemetry = openvino.tools.ovc.telemetry_utils.tm
    assert telemetry.__name__ == "openvino.tools.ovc.telemetry_stub"


def test_a_process_that_has_freed_its_models_handles_signals(model_folder: Path) -> None:
    require_openvino()
    command = [sys.executable, "-c", SIGNALLED, str(model_folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@pytest.mark.usefixtures("without_openvino")
@pytest.mark.parametrize("name", ENCODERS)
def test_without_openvino_torch_agrees_with_fp32(name: str, hu: np.ndarray) -> None:
    """For every network, with normalisations that are not the identity."""
    slices = replace(CONFIG.slices, encoder=name, ensemble_size=1)
    torch.manual_seed(0)
    encoder = EncoderEnsemble.from_config(slices).eval()
    randomise_normalisations(encoder)

    exact = probabilities([encoder], replace(CONFIG, slices=slices), hu)
    auto = replace(AUTO, slices=slices)
    assert FoldEncoders([encoder], auto).runtime.split()[0] == "torch"
    np.testing.assert_allclose(probabilities([encoder], auto, hu), exact, rtol=0, atol=0.02)


def randomise_normalisations(network: nn.Module) -> None:
    """Give every batch normalisation parameters and statistics other than its initial ones."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.8, 1.2)
            for tensor in (module.bias, module.running_mean):
                assert tensor is not None
                nn.init.uniform_(tensor, -0.2, 0.2)


@pytest.mark.parametrize("library", ["openvino", "torch"])
def test_a_trained_model_scores_on_fast_paths_as_in_fp32(
    finished_run: Config, model: Model, library: str, request: pytest.FixtureRequest
) -> None:
    """Nearly all scores of all stages agree; where one differs, a tree took its other branch."""
    if library == "torch":
        request.getfixturevalue("without_openvino")
    else:
        require_openvino()
    fast_model = replace(model, config=replace(model.config, precision="auto"))
    assert fast_model.encoders.runtime.split()[0] == library

    store = Store(Workspace(Path(finished_run.workspace)).store)
    names = store.volume_ids
    exact_scores = [model.score(store.hu(name), store.z_mm(name)) for name in names]
    fast_scores = [fast_model.score(store.hu(name), store.z_mm(name)) for name in names]
    target = np.concatenate([store.targets(name) for name in names])
    for stage, (share, tolerance) in AGREEMENT.items():
        exact = np.concatenate([prob[stage] for prob in exact_scores])
        fast = np.concatenate([prob[stage] for prob in fast_scores])
        assert np.quantile(np.abs(fast - exact), share) < tolerance
        loss = weighted_log_loss(exact, target)
        assert weighted_log_loss(fast, target) == pytest.approx(loss, rel=0.005)
