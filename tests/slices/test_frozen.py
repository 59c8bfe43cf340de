"""A frozen network: embeddings are computed once, and the last layer is a regression."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ich3d.config.root import Config
from ich3d.config.schema import SlicesConfig
from ich3d.core.errors import ConfigError, ModelError
from ich3d.core.types import TrainingGroups
from ich3d.slices.embed import embed
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder, frozen_encoder
from ich3d.slices.frozen import (
    FrozenEmbeddings,
    embed_frozen,
    fit_regressions,
    load_head,
    load_network,
    mean_head,
    save_head,
    save_network,
    train_frozen,
)
from tests.helpers.runs import store_of


@pytest.fixture
def config(finished_run: Config, tmp_path: Path) -> Config:
    """The small run with a frozen network of random weights from a file."""
    slices = SlicesConfig(encoder="resnet10-half", neighbours=0)
    torch.manual_seed(0)
    network = SliceEncoder.from_config(slices).backbone
    save_file(network.state_dict(), tmp_path / "network.safetensors")
    frozen = replace(slices, weights=str(tmp_path / "network.safetensors"), frozen=True)
    return replace(finished_run, slices=frozen, precision="fp32")


def test_embeddings_are_those_of_the_network_and_computed_once(
    config: Config, tmp_path: Path
) -> None:
    store = store_of(config)
    name = store.volume_ids[0]
    embeddings = FrozenEmbeddings(store, config, tmp_path / "features")
    embeddings.compute([name])
    (path,) = (tmp_path / "features").rglob("*.safetensors")
    written = path.stat().st_mtime_ns
    expected, _ = embed(embeddings.encoder, store.hu(name), config)
    np.testing.assert_array_equal(embeddings[name], expected)

    asked: list[object] = []

    def progress(items: Iterable[Any], label: str, total: int | None = None) -> Iterable[Any]:
        asked.append(total)
        return items

    embeddings.compute([name], progress)
    assert asked == []  # nothing is missing, so nothing is shown
    again = FrozenEmbeddings(store, config, tmp_path / "features")
    np.testing.assert_array_equal(again[name], expected)
    assert path.stat().st_mtime_ns == written


def test_weights_of_another_content_are_not_taken_for_those_of_the_same_file(
    config: Config, tmp_path: Path
) -> None:
    store, folder = store_of(config), tmp_path / "features"
    FrozenEmbeddings(store, config, folder).compute(store.volume_ids[:1])
    torch.manual_seed(1)
    other = SliceEncoder.from_config(config.slices).backbone
    assert config.slices.weights is not None
    save_file(other.state_dict(), config.slices.weights)
    FrozenEmbeddings(store, config, folder).compute(store.volume_ids[:1])
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("changed", [{"windows": ("brain", "bone")}, {"tta_flip": False}])
def test_another_input_has_embeddings_of_its_own(
    config: Config, tmp_path: Path, changed: dict[str, Any]
) -> None:
    store, folder = store_of(config), tmp_path / "features"
    FrozenEmbeddings(store, config, folder).compute(store.volume_ids[:1])
    other = replace(config, slices=replace(config.slices, **changed))
    FrozenEmbeddings(store, other, folder).compute(store.volume_ids[:1])
    assert len(list(folder.iterdir())) == 2


def test_the_last_layer_of_a_training_changes_with_no_other_network(
    config: Config, tmp_path: Path
) -> None:
    """What is scored from kept embeddings is what the encoder says of the pixels."""
    store, names = store_of(config), store_of(config).volume_ids
    embeddings = FrozenEmbeddings(store, config, tmp_path / "features")
    before = {name: tensor.clone() for name, tensor in embeddings.encoder.state_dict().items()}
    encoder = train_frozen(store, config, embeddings, names)
    for name, tensor in embeddings.encoder.backbone.state_dict().items():
        assert torch.equal(tensor, before[f"backbone.{name}"])

    groups = TrainingGroups.of(["p"])
    (embedded,) = embed_frozen(encoder, "encoder 0", groups, store, names[:1], embeddings)
    _, logits = embed(encoder, store.hu(names[0]), config)
    shows_brain = embedded.logits > -6.8
    np.testing.assert_allclose(embedded.logits[shows_brain], logits[shows_brain], atol=1e-4)
    assert embedded.training_groups == groups
    assert shows_brain.any()


def test_augmented_copies_are_embedded_once_and_trained_on(config: Config, tmp_path: Path) -> None:
    store, folder = store_of(config), tmp_path / "features"
    names = store.volume_ids[:6]
    plain = FrozenEmbeddings(store, config, folder)
    augmented = replace(config, slices=replace(config.slices, augmented=2))
    embeddings = FrozenEmbeddings(store, augmented, folder)
    embeddings.compute(names)
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    assert len(written) == 3 * len(names)

    assert plain.copies(names[0]) == []
    first, second = embeddings.copies(names[0])
    np.testing.assert_array_equal(embeddings[names[0]], plain[names[0]])
    for one, other in ((first, second), (first, plain[names[0]])):
        assert one.shape == other.shape
        assert np.abs(one - other).max() > 1e-3
    again = FrozenEmbeddings(store, augmented, folder)
    np.testing.assert_array_equal(again.copies(names[0])[1], second)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} == written

    heads = [
        train_frozen(store, one, of_one, names).members[0].head.weight.detach().numpy()  # type: ignore[union-attr,operator]
        for one, of_one in ((config, plain), (augmented, embeddings))
    ]
    assert np.abs(heads[0] - heads[1]).max() > 1e-6


def test_head_and_network_come_back_from_their_files(config: Config, tmp_path: Path) -> None:
    store = store_of(config)
    embeddings = FrozenEmbeddings(store, config, tmp_path / "features")
    encoder = train_frozen(store, config, embeddings, store.volume_ids)
    save_head(tmp_path / "head.safetensors", encoder)
    save_network(tmp_path / "net.safetensors", encoder)
    assert (tmp_path / "head.safetensors").stat().st_size < 50_000

    network = load_network(tmp_path / "net.safetensors", config.slices)
    loaded = EncoderEnsemble.from_config(config.slices, network)
    load_head(tmp_path / "head.safetensors", loaded)
    for name, tensor in encoder.cpu().state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_a_head_that_does_not_fit_is_named(config: Config, tmp_path: Path) -> None:
    save_file({"members.0.head.bias": torch.zeros(6)}, tmp_path / "head.safetensors")
    encoder = EncoderEnsemble.from_config(config.slices)
    with pytest.raises(ModelError, match="does not fit the model"):
        load_head(tmp_path / "head.safetensors", encoder)


def test_the_mean_of_last_layers_gives_the_mean_of_their_logits(
    config: Config, tmp_path: Path
) -> None:
    store = store_of(config)
    embeddings = FrozenEmbeddings(store, config, tmp_path / "features")
    names = store.volume_ids
    encoders = [
        train_frozen(store, config, embeddings, chosen) for chosen in (names[:3], names[3:])
    ]
    mean = mean_head(encoders)
    (first,), (member,) = encoders[0].members, mean.members
    assert isinstance(first, SliceEncoder)
    assert isinstance(member, SliceEncoder)
    assert member.backbone is first.backbone
    hu = store.hu(names[0])
    logits = [embed(encoder, hu, config)[1] for encoder in encoders]
    np.testing.assert_allclose(embed(mean, hu, config)[1], np.mean(logits, axis=0), atol=1e-4)
    baselines = torch.stack([encoder.mean_validation_logits for encoder in encoders])
    torch.testing.assert_close(mean.mean_validation_logits, baselines.mean(dim=0))


def test_a_frozen_network_needs_weights_and_stands_alone() -> None:
    with pytest.raises(ConfigError, match=r"slices\.augmented must be 0 unless slices\.frozen"):
        SlicesConfig(augmented=1)
    with pytest.raises(ConfigError, match=r"slices\.weights"):
        SlicesConfig(frozen=True)
    with pytest.raises(ConfigError, match=r"slices\.ensemble_size"):
        SlicesConfig(frozen=True, weights="w.safetensors", ensemble_size=2)


def test_weights_that_half_precision_cannot_hold_are_named(config: Config) -> None:
    path = config.slices.weights
    assert path is not None
    tensors = SliceEncoder.from_config(config.slices).backbone.state_dict()
    tensors["bn1.running_var"] = torch.full_like(tensors["bn1.running_var"], 1e6)
    save_file(tensors, path)
    with pytest.raises(ConfigError, match=r"bn1\.running_var is too large for half precision"):
        frozen_encoder(config.slices)


# The regressions


def test_each_label_is_the_logistic_regression_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(2, 3, (200, 8))
    target = (features[:, :6] + rng.normal(0, 3, (200, 6)) > 2).astype(np.float32)
    weight, bias = fit_regressions(features, target, 0.1)
    for k in range(6):
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
        expected = pipeline.fit(features, target[:, k]).decision_function(features)
        np.testing.assert_allclose(features @ weight[k] + bias[k], expected, atol=0.03)


def test_slices_without_a_label_do_not_count_for_it() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(100, 4))
    target = (rng.random((100, 6)) < 0.3).astype(np.float32)
    target[60:, 2] = np.nan
    scaled = features - features.mean(axis=0)
    weight, _ = fit_regressions(scaled, target, 0.01)
    changed = target.copy()
    changed[60:, 3] = np.nan
    weight_with_more_gaps, _ = fit_regressions(scaled, changed, 0.01)
    np.testing.assert_array_equal(weight[2], weight_with_more_gaps[2])
    assert not np.array_equal(weight[3], weight_with_more_gaps[3])


@given(st.integers(1, 50), st.sampled_from(["no", "all", "unknown"]))
def test_a_label_with_one_class_gets_its_rate(n: int, kind: str) -> None:
    features = np.random.default_rng(n).normal(size=(n, 3))
    value = {"no": 0.0, "all": 1.0, "unknown": np.nan}[kind]
    weight, bias = fit_regressions(features, np.full((n, 6), value, dtype=np.float32), 1.0)
    assert not weight.any()
    n_positive = n if kind == "all" else 0
    rate = (n_positive + 0.5) / (n + 1)
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), rate, rtol=1e-5)
