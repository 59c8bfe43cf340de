"""Every backbone builds, and takes pretrained weights only from a file it can trust."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ich3d.config.schema import ENCODERS, SlicesConfig
from ich3d.core.errors import ConfigError, ModelError
from ich3d.core.labels import LABELS
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder, load_start_weights
from ich3d.training.weights import save_weights
from tests.helpers.encoders import PLAIN


def weights_file(path: Path, tensors: dict[str, torch.Tensor]) -> tuple[str, str]:
    """A file of `tensors` and its hash, as a config names them."""
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return str(path), hashlib.sha256(path.read_bytes()).hexdigest()


def three_channels(config: SlicesConfig) -> tuple[dict[str, torch.Tensor], str]:
    """Tensors of the encoder's network as it would be for colour photographs, and its first
    kernel's name.
    """
    torch.manual_seed(0)
    tensors = SliceEncoder.from_config(config).backbone.state_dict()
    wider = SliceEncoder.from_config(
        replace(config, neighbours=config.neighbours + 1)
    ).backbone.state_dict()
    (first,) = (name for name in tensors if tensors[name].shape != wider[name].shape)
    out, _, height, width = tensors[first].shape
    return {**tensors, first: torch.randn(out, 3, height, width)}, first


def started(config: SlicesConfig) -> SliceEncoder:
    encoder = SliceEncoder.from_config(config)
    load_start_weights(encoder, config)
    return encoder


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_builds_and_starts_from_a_file(name: str, tmp_path: Path) -> None:
    """The file's first convolution has three channels, which go to the windows of the centre slice,
    and a classifier of another task is left over.
    """
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
    centre = list(encoder.centre_channels)
    assert own[first].shape[1] > len(centre) == 3
    torch.testing.assert_close(own[first][:, centre], tensors[first])
    assert own[first].abs().sum() == pytest.approx(tensors[first].abs().sum())
    for other in own.keys() - {first}:
        assert torch.equal(own[other], tensors[other])


def test_a_torch_file_is_read_as_tensors_only(tmp_path: Path) -> None:
    tensors = SliceEncoder.from_config(PLAIN).backbone.state_dict()
    path, sha256 = weights_file(tmp_path / "w.pt", dict(tensors))
    own = started(replace(PLAIN, weights=path, weights_sha256=sha256)).backbone.state_dict()
    assert all(torch.equal(own[name], tensors[name]) for name in own)


def test_another_hash_is_refused(tmp_path: Path) -> None:
    path, _ = weights_file(tmp_path / "w.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(ConfigError, match=r"w\.safetensors does not have the hash"):
        started(replace(PLAIN, weights=path, weights_sha256="0" * 64))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.safetensors, which does not exist"):
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
    run = EncoderEnsemble.from_config(
        replace(PLAIN, windows=("brain", "subdural", "bone"), ensemble_size=2)
    )
    save_weights(tmp_path / "w.safetensors", run)
    settings = replace(
        PLAIN, windows=("bone", "brain", "soft"), weights=str(tmp_path / "w.safetensors")
    )
    begun = started(settings)
    assert torch.equal(begun.low, SliceEncoder.from_config(settings).low)
    member = run.members[0]
    assert isinstance(member, SliceEncoder)
    assert torch.equal(begun.head.weight, member.head.weight)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = SliceEncoder("efficientnet-b0", neighbours=0).backbone.state_dict()
    path, sha256 = weights_file(tmp_path / "w.safetensors", other)
    with pytest.raises(ConfigError, match=r"w\.safetensors lacks \d+ tensors of this encoder"):
        started(replace(PLAIN, weights=path, weights_sha256=sha256))


def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    tensors = SliceEncoder.from_config(PLAIN).backbone.state_dict()
    tensors["layer1.0.conv1.weight"] = torch.zeros(1, 2, 3, 3)
    path, sha256 = weights_file(tmp_path / "w.safetensors", tensors)
    with pytest.raises(ConfigError, match=r"layer1\.0\.conv1\.weight has shape \(1, 2, 3, 3\)"):
        started(replace(PLAIN, weights=path, weights_sha256=sha256))
