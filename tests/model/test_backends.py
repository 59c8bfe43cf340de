"""Every path to an encoder's scores says what plain fp32 says, whatever a slice's company."""

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
from ich3d.model import backends as fast
from ich3d.model.backends import FoldEncoders
from ich3d.model.folder import Model
from ich3d.prepare.store import Store
from ich3d.slices.embed import embed
from ich3d.slices.encoder import EncoderEnsemble
from ich3d.training.device import device

AGREEMENT = {"encoder": (0.99, 0.005), "context": (0.99, 0.005), "stack": (0.95, 0.02)}
"""By stage: the share of scores that must agree, and how closely."""


@pytest.fixture
def config() -> Config:
    return Config(
        precision="fp32",
        prepare=PrepareConfig(matrix=64, pixel_mm=3.6),
        slices=SlicesConfig(encoder="resnet10-half", neighbours=1, ensemble_size=2),
    )


@pytest.fixture
def folds(config: Config) -> list[EncoderEnsemble]:
    torch.manual_seed(0)
    return [EncoderEnsemble(config.slices).eval() for _ in range(2)]


@pytest.fixture
def hu() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1500, (7, 64, 64)).astype(np.int16)


@pytest.mark.parametrize("mirror", [True, False])
def test_folds_together_say_what_each_says_alone(
    config: Config, folds: list[EncoderEnsemble], hu: np.ndarray, mirror: bool
) -> None:
    config = replace(config, slices=replace(config.slices, tta_flip=mirror))
    together = FoldEncoders(folds, config)
    assert together.path == "torch fp32"
    for encoder, found in zip(folds, together.embed(hu), strict=True):
        for own, expected in zip(found, embed(encoder, hu, config), strict=True):
            np.testing.assert_allclose(own, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_batches_change_no_score(
    config: Config,
    folds: list[EncoderEnsemble],
    hu: np.ndarray,
    batch: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = FoldEncoders(folds, config).embed(hu)
    monkeypatch.setattr(fast, "CPU_BATCH", batch)
    for one, other in zip(usual, FoldEncoders(folds, config).embed(hu), strict=True):
        np.testing.assert_allclose(one[1], other[1], rtol=0, atol=1e-5)


def test_the_fastest_path_agrees_with_fp32(
    config: Config, folds: list[EncoderEnsemble], hu: np.ndarray
) -> None:
    quick = FoldEncoders(folds, replace(config, precision="auto"))
    for one, other in zip(FoldEncoders(folds, config).embed(hu), quick.embed(hu), strict=True):
        assert other[1].dtype == np.float32
        np.testing.assert_allclose(sigmoid(other[1]), sigmoid(one[1]), rtol=0, atol=0.01)
        assert np.abs(sigmoid(one[1]) - 0.5).max() > 0.02  # far from saying nothing


def test_openvino_is_taken_where_it_is_and_tells_nobody(
    config: Config, folds: list[EncoderEnsemble]
) -> None:
    if find_spec("openvino") is None:
        pytest.skip("the openvino extra is not installed")
    quick = FoldEncoders(folds, replace(config, precision="auto"))
    if torch.accelerator.is_available():
        pytest.skip("OpenVINO serves the CPU, and there is an accelerator")
    assert quick.path.split()[0] == "openvino"  # which has imported it
    openvino: Any = sys.modules["openvino"]
    assert openvino.tools.ovc.telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"


@pytest.mark.parametrize("name", ENCODERS)
def test_without_openvino_torch_scores_alike(
    name: str, config: Config, hu: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every network, with normalisations that change what they are given."""
    monkeypatch.setitem(sys.modules, "openvino", None)  # as if it were not installed
    config = replace(config, slices=replace(config.slices, encoder=name, ensemble_size=1))
    torch.manual_seed(0)
    folds = [EncoderEnsemble(config.slices).eval()]
    for module in folds[0].modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.8, 1.2)
            for tensor in (module.bias, module.running_mean):
                nn.init.uniform_(tensor, -0.2, 0.2)
    quick = FoldEncoders(folds, replace(config, precision="auto"))
    assert quick.path.split()[0] == "torch"
    for one, other in zip(FoldEncoders(folds, config).embed(hu), quick.embed(hu), strict=True):
        np.testing.assert_allclose(sigmoid(other[1]), sigmoid(one[1]), rtol=0, atol=0.02)


@pytest.mark.parametrize("path", ["openvino", "torch"])
def test_the_fast_paths_of_a_model_agree_with_fp32(
    finished_run: Config, model: Model, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nearly all scores of all stages differ little: a tree may fall on its other side."""
    if path == "torch":
        monkeypatch.setitem(sys.modules, "openvino", None)
    elif find_spec("openvino") is None:
        pytest.skip("the openvino extra is not installed")
    quick = replace(model, config=replace(model.config, precision="auto"))
    assert quick.encoders.path.startswith(path if device().type == "cpu" else "torch")

    store = Store(Workspace(Path(finished_run.workspace)).store)
    exact, fast_scores = (
        [scorer.score(store.hu(name), store.z_mm(name)) for name in store.volume_ids]
        for scorer in (model, quick)
    )
    target = np.concatenate([store.targets(name) for name in store.volume_ids])
    for stage, (share, tolerance) in AGREEMENT.items():
        expected = np.concatenate([prob[stage] for prob in exact])
        scores = np.concatenate([prob[stage] for prob in fast_scores])
        assert np.quantile(np.abs(scores - expected), share) < tolerance
        loss = weighted_log_loss(expected, target)
        assert weighted_log_loss(scores, target) == pytest.approx(loss, rel=0.005)
