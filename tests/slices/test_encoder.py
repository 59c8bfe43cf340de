"""Every encoder builds, takes pretrained weights from a file it can trust, and scores a slice alone."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ich3d.config.root import Config
from ich3d.config.schema import ENCODERS, SlicesConfig
from ich3d.core.errors import ConfigError, ModelError
from ich3d.core.labels import LABELS
from ich3d.core.metrics import sigmoid, weighted_log_loss
from ich3d.core.types import SliceEmbeddings, TrainingGroups
from ich3d.core.windows import window
from ich3d.slices.augment import MAX_NOISE_HU, augment
from ich3d.slices.embed import embed, load_embeddings, save_embeddings
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder, load_start
from ich3d.training.losses import masked_log_loss
from ich3d.training.weights import load_weights, save_weights

PLAIN = SlicesConfig(encoder="resnet18", neighbours=1)


@pytest.fixture(scope="module")
def small() -> SliceEncoder:
    torch.manual_seed(0)
    return SliceEncoder(PLAIN).eval()


def series(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 300, (count, 48, 48)).astype(np.int16)


def in_batches(size: int, **changes: Any) -> Config:
    return Config(precision="fp32", slices=replace(PLAIN, batch_size=size, **changes))


def weights_file(path: Path, tensors: dict[str, torch.Tensor]) -> tuple[str, str]:
    """A file of `tensors` and its hash, as a config names them."""
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return str(path), hashlib.sha256(path.read_bytes()).hexdigest()


def three_channels(config: SlicesConfig) -> tuple[dict[str, torch.Tensor], str]:
    """Tensors of the encoder's network as it would be for colour photographs, and its first kernel's name."""
    torch.manual_seed(0)
    tensors = SliceEncoder(config).backbone.state_dict()
    wider = SliceEncoder(replace(config, neighbours=config.neighbours + 1)).backbone.state_dict()
    (first,) = (name for name in tensors if tensors[name].shape != wider[name].shape)
    out, _, height, width = tensors[first].shape
    return {**tensors, first: torch.randn(out, 3, height, width)}, first


def started(config: SlicesConfig) -> SliceEncoder:
    encoder = SliceEncoder(config)
    load_start(encoder, config)
    return encoder


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_builds_and_starts_from_a_file(name: str, tmp_path: Path) -> None:
    """The file's first convolution has three channels, and a classifier of another task is left over."""
    plain = SlicesConfig(encoder=name, neighbours=1)
    tensors, first = three_channels(plain)
    path, sha256 = weights_file(
        tmp_path / "w.safetensors", {**tensors, "head.weight": torch.ones(3, 3)}
    )
    encoder = started(replace(plain, weights=path, weights_sha256=sha256)).eval()
    with torch.no_grad():
        embeddings, logits = encoder(torch.zeros(2, 3, 64, 64), torch.zeros(2, 3, dtype=torch.bool))
    assert embeddings.shape == (2, encoder.embedding_width)
    assert logits.shape == (2, len(LABELS))
    own = encoder.backbone.state_dict()
    channels = own[first].shape[1]
    assert channels > 3
    for channel in range(channels):
        torch.testing.assert_close(
            own[first][:, channel], tensors[first].mean(dim=1) * 3 / channels
        )
    for other in own.keys() - {first}:
        assert torch.equal(own[other], tensors[other])


def test_a_torch_file_is_read_as_tensors_only(tmp_path: Path) -> None:
    tensors = SliceEncoder(PLAIN).backbone.state_dict()
    path, sha256 = weights_file(tmp_path / "w.pt", dict(tensors))
    own = started(replace(PLAIN, weights=path, weights_sha256=sha256)).backbone.state_dict()
    assert all(torch.equal(own[name], tensors[name]) for name in own)


def test_another_hash_is_refused(tmp_path: Path) -> None:
    path, _ = weights_file(tmp_path / "w.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(ConfigError, match=r"w\.safetensors does not have the hash"):
        started(replace(PLAIN, weights=path, weights_sha256="0" * 64))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.safetensors, which is not there"):
        started(replace(PLAIN, weights=str(tmp_path / "none.safetensors"), weights_sha256="0" * 64))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_a_file_of_something_else_is_no_weights(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"junk" * 9)
    with pytest.raises(ModelError, match=rf"{name} cannot be read as tensors"):
        started(replace(PLAIN, weights=str(tmp_path / name)))
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="something else than named tensors"):
        started(replace(PLAIN, weights=str(tmp_path / "w.pt")))


def test_another_runs_encoder_does_not_bring_its_windows(tmp_path: Path) -> None:
    run = EncoderEnsemble(replace(PLAIN, windows=("brain", "subdural", "bone"), ensemble_size=2))
    save_weights(tmp_path / "w.safetensors", run)
    settings = replace(
        PLAIN, windows=("bone", "brain", "soft"), weights=str(tmp_path / "w.safetensors")
    )
    begun = started(settings)
    assert torch.equal(begun.low, SliceEncoder(settings).low)
    assert torch.equal(begun.head.weight, run.members[0].head.weight)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = SliceEncoder(
        SlicesConfig(encoder="efficientnet-b0", neighbours=0)
    ).backbone.state_dict()
    path, sha256 = weights_file(tmp_path / "w.safetensors", other)
    with pytest.raises(ConfigError, match=r"w\.safetensors lacks \d+ tensors of this encoder"):
        started(replace(PLAIN, weights=path, weights_sha256=sha256))


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    tensors = SliceEncoder(PLAIN).backbone.state_dict()
    tensors["layer1.0.conv1.weight"] = torch.zeros(1, 2, 3, 3)
    path, sha256 = weights_file(tmp_path / "w.safetensors", tensors)
    with pytest.raises(ConfigError, match=r"layer1\.0\.conv1\.weight has shape \(1, 2, 3, 3\)"):
        started(replace(PLAIN, weights=path, weights_sha256=sha256))


def test_a_symmetric_head_stays_symmetric_when_turned(small: SliceEncoder) -> None:
    """Augmentation turns and shifts the slice; what sets it apart from its mirror image is noise alone."""
    half = torch.linspace(0, 80, 24)
    hu = torch.cat([half, half.flip(0)]).expand(8, 3, 48, 48)
    torch.manual_seed(0)
    turned = augment(small.with_mirror(hu), torch.default_generator)
    asymmetry = small.image(turned, torch.zeros(8, 3, dtype=torch.bool))[:, -len(PLAIN.windows) :]
    assert asymmetry[:, 0].abs().mean() < 2 * MAX_NOISE_HU / 80
    assert (turned[:, 1] - turned[:, 1].flip(-1)).abs().mean() > 4 * MAX_NOISE_HU


def test_the_windows_are_inside(small: SliceEncoder) -> None:
    """HU beyond every window's ends look alike; HU inside one do not."""
    low = min(window(name).low for name in PLAIN.windows)
    high = max(window(name).high for name in PLAIN.windows)
    none = torch.zeros(1, 3, dtype=torch.bool)

    def score(hu: float) -> torch.Tensor:
        with torch.no_grad():
            return small(torch.full((1, 3, 48, 48), hu), none)[1]

    assert torch.equal(score(low), score(low - 5000))
    assert torch.equal(score(high), score(high + 5000))
    assert not torch.equal(score(30), score(40))


def test_a_copied_edge_is_told_from_a_real_neighbour(small: SliceEncoder) -> None:
    hu = torch.zeros(1, 3, 48, 48)
    with torch.no_grad():
        real, copied = (
            small(hu, torch.tensor([[flag, False, False]]))[1] for flag in (False, True)
        )
    assert not torch.equal(real, copied)


@settings(max_examples=8, deadline=None)
@given(batch=st.integers(1, 9), other=st.integers(1, 9), count=st.integers(1, 9))
def test_a_slice_scores_the_same_whatever_the_batch(
    small: SliceEncoder, batch: int, other: int, count: int
) -> None:
    hu = series(count)
    one, two = embed(small, hu, in_batches(batch)), embed(small, hu, in_batches(other))
    for left, right in zip(one, two, strict=True):
        assert len(left) == count
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-5)


def test_a_slice_scores_the_same_whatever_lies_beyond_its_neighbours(small: SliceEncoder) -> None:
    hu = series(9)
    embeddings, logits = embed(small, hu, in_batches(4))
    part_vectors, part_logits = embed(small, hu[3:8], in_batches(4))
    np.testing.assert_allclose(part_vectors[1:-1], embeddings[4:7], rtol=0, atol=1e-5)
    np.testing.assert_allclose(part_logits[1:-1], logits[4:7], rtol=0, atol=1e-5)
    assert np.abs(part_logits[0] - logits[3]).max() > 1e-4  # its lower neighbour is a copy here


def test_mirrored_embedding_does_not_know_left_from_right(small: SliceEncoder) -> None:
    hu = series(5)
    for mirror in (True, False):
        one, two = (
            embed(small, image, in_batches(4, tta_flip=mirror))[1]
            for image in (hu, hu[:, :, ::-1].copy())
        )
        assert np.allclose(one, two, rtol=0, atol=1e-5) is mirror


def test_masked_log_loss_is_the_metric() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (40, 6)).astype(np.float32)
    target = (rng.random((40, 6)) < 0.3).astype(np.float32)
    target[rng.random((40, 6)) < 0.2] = np.nan
    loss = masked_log_loss(torch.from_numpy(logits), torch.from_numpy(target))
    assert float(loss) == pytest.approx(weighted_log_loss(sigmoid(logits), target), rel=1e-5)


def test_unlabelled_targets_carry_no_gradient() -> None:
    logits = torch.zeros(3, 6, requires_grad=True)
    target = torch.ones(3, 6)
    target[1] = torch.nan
    masked_log_loss(logits, target).backward()
    assert logits.grad is not None
    assert torch.all(logits.grad[1] == 0)
    assert torch.all(logits.grad[0] < 0)


def test_a_batch_without_any_label_has_no_loss() -> None:
    assert float(masked_log_loss(torch.zeros(2, 6), torch.full((2, 6), torch.nan))) == 0.0


def test_saved_weights_are_loaded_and_others_refused(small: SliceEncoder, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", small)
    again = SliceEncoder(PLAIN).eval()
    load_weights(tmp_path / "w.safetensors", again)
    hu = series(3)
    np.testing.assert_array_equal(
        embed(small, hu, in_batches(4))[1], embed(again, hu, in_batches(4))[1]
    )
    with pytest.raises(ModelError, match=r"w\.safetensors does not fit the model"):
        load_weights(tmp_path / "w.safetensors", SliceEncoder(SlicesConfig(neighbours=0)))
    with pytest.raises(ModelError, match=r"none\.safetensors"):
        load_weights(tmp_path / "none.safetensors", again)


def test_embeddings_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    seen = TrainingGroups.of(["p1", "p2"])
    items = [
        SliceEmbeddings(
            name,
            rng.normal(size=(n, 5)).astype(np.float32),
            rng.normal(size=(n, 6)).astype(np.float32),
            "encoder fold 1",
            seen,
        )
        for name, n in (("z", 3), ("a", 1), ("m/..", 2))
    ]
    save_embeddings(tmp_path / "e.safetensors", items)
    loaded = list(load_embeddings(tmp_path / "e.safetensors"))
    assert [item.volume_id for item in loaded] == ["z", "a", "m/.."]
    for one, two in zip(items, loaded, strict=True):
        np.testing.assert_array_equal(one.embeddings, two.embeddings)
        np.testing.assert_array_equal(one.logits, two.logits)
        assert (one.encoder_id, one.training_groups) == (two.encoder_id, two.training_groups)
    save_embeddings(tmp_path / "none.safetensors", [])
    assert list(load_embeddings(tmp_path / "none.safetensors")) == []
