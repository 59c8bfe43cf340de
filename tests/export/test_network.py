"""The exported network returns the scores of the model, for every setting of a config."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ich3d.config.root import Config
from ich3d.config.schema import ENCODERS, ContextConfig, PrepareConfig, SlicesConfig
from ich3d.context.bigru import ContextEnsemble, ContextModel
from ich3d.core.errors import ModelError
from ich3d.core.labels import LABELS
from ich3d.core.types import TrainingGroups
from ich3d.export.configs import STAGES
from ich3d.export.network import torchscript
from ich3d.model.fold_model import FoldModel
from ich3d.model.folder import Model
from ich3d.prepare.hu_features import BRAIN_CM2, NO_BRAIN_PROB
from ich3d.slices.encoder import EncoderEnsemble
from ich3d.stack.booster import Stacker
from tests.helpers.hu_features import brain_features

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:DeprecationWarning")
JIT: Any = torch.jit


def first_without_brain(n: int) -> np.ndarray:
    """HU features (n, F) of slices of which all but the first show brain."""
    features = brain_features(n)
    features[0] = np.nan
    features[0, BRAIN_CM2] = 0.0
    return features


def model_prob(model: Model, hu: np.ndarray, z_mm: np.ndarray) -> np.ndarray:
    """Probabilities (Z, 2, K) of the encoder and context stage, as prediction computes them."""
    prob = model.score(hu, z_mm, first_without_brain(len(hu)))
    return np.stack([prob[stage] for stage in STAGES], axis=1)


def network_prob(network: torch.jit.ScriptModule, hu: np.ndarray, z_mm: np.ndarray) -> np.ndarray:
    """Probabilities (Z, 2, K) of an exported network."""
    brain_cm2 = torch.from_numpy(first_without_brain(len(hu))[:, BRAIN_CM2])
    prob: torch.Tensor = network(torch.from_numpy(hu).float(), torch.from_numpy(z_mm), brain_cm2)
    assert np.allclose(prob[0], NO_BRAIN_PROB)
    assert not prob.requires_grad
    return np.asarray(prob.numpy())


def random_series(n: int, matrix: int) -> tuple[np.ndarray, np.ndarray]:
    """HU int16 (n, matrix, matrix) and increasing positions (n,) with irregular gaps."""
    rng = np.random.default_rng(n)
    hu = rng.integers(-1000, 1500, (n, matrix, matrix)).astype(np.int16)
    return hu, np.cumsum(rng.uniform(1, 9, n))


def untrained_model(slices: SlicesConfig, context: ContextConfig) -> Model:
    """Two untrained folds without a stacker.

    A new context model returns the encoder's logits. So random weights are put in its last layer.
    """
    config = Config(
        precision="fp32",
        prepare=PrepareConfig(matrix=48),
        slices=replace(slices, batch_size=4),
        context=context,
    )
    torch.manual_seed(0)
    fold_models = []
    for fold in range(2):
        encoder = EncoderEnsemble.from_config(config.slices).eval()
        ensemble = ContextEnsemble.from_config(config.context, encoder.embedding_width).eval()
        for member in ensemble.members:
            assert isinstance(member, ContextModel)
            torch.nn.init.normal_(member.correction_head.weight)
        fold_models.append(
            FoldModel(fold, encoder, ensemble, Stacker.empty(), TrainingGroups.of([]))
        )
    return Model(config, fold_models, {}, "")


@pytest.mark.parametrize("n", [1, 2, 70])
def test_the_saved_network_scores_series_of_any_length(model: Model, bundle: Path, n: int) -> None:
    network = JIT.load(bundle / "models" / "model.ts")
    hu, z_mm = random_series(n, model.config.prepare.matrix)
    prob = network_prob(network, hu, z_mm)
    assert prob.shape == (n, 2, len(LABELS))
    np.testing.assert_allclose(prob, model_prob(model, hu, z_mm), atol=1e-5)


@pytest.mark.parametrize(
    ("slices", "context"),
    [
        (
            SlicesConfig(encoder="resnet10", ensemble_size=2, neighbours=2),
            ContextConfig(num_layers=2, reads="both", ensemble_size=2),
        ),
        (
            SlicesConfig(encoder="resnet10", neighbours=0, tta_flip=False, symmetry=False),
            ContextConfig(geometry=False),
        ),
        (SlicesConfig(encoder="resnet10", neighbours=1), ContextConfig(direction="forward")),
    ],
    ids=["every option on", "every option off", "one direction"],
)
def test_every_setting_can_be_exported(slices: SlicesConfig, context: ContextConfig) -> None:
    model = untrained_model(slices, context)
    hu, z_mm = random_series(7, 48)
    prob = network_prob(torchscript(model), hu, z_mm)
    np.testing.assert_allclose(prob, model_prob(model, hu, z_mm), atol=1e-5)
    assert np.abs(prob[:, 0] - prob[:, 1]).max() > 0.01


@pytest.mark.parametrize(
    "encoder",
    [
        name if name == "efficientnet-b0" else pytest.param(name, marks=pytest.mark.slow)
        for name in ENCODERS
    ],
)
def test_every_encoder_can_be_exported(encoder: str) -> None:
    model = untrained_model(SlicesConfig(encoder=encoder), ContextConfig(ensemble_size=1))
    hu, z_mm = random_series(3, 48)
    prob = network_prob(torchscript(model), hu, z_mm)
    np.testing.assert_allclose(prob, model_prob(model, hu, z_mm), atol=1e-5)


def test_positions_far_from_zero_lose_no_precision() -> None:
    """Positions are read in float64: a table position of 2 m leaves gaps of 0.1 mm intact."""
    model = untrained_model(SlicesConfig(encoder="resnet10"), ContextConfig())
    network = torchscript(model)
    hu, z_mm = random_series(5, 48)
    near = network_prob(network, hu, z_mm / 50)
    far = network_prob(network, hu, z_mm / 50 - 2000)
    np.testing.assert_allclose(far, near, atol=1e-5)
    assert np.abs(network_prob(network, hu, z_mm) - near).max() > 1e-4


def test_a_context_that_reads_a_window_is_rejected() -> None:
    model = untrained_model(SlicesConfig(encoder="resnet10"), ContextConfig(window=2))
    with pytest.raises(ModelError, match="reads a window of slices"):
        torchscript(model)


def test_exporting_does_not_change_the_model(model: Model) -> None:
    encoders = [fold_model.encoder for fold_model in model.fold_models]
    torchscript(model)
    assert encoders
    for encoder in encoders:
        assert all(parameter.requires_grad for parameter in encoder.parameters())
