"""Weights are saved whole and read under today's names; files that do not fit are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ich3d.config.schema import ContextConfig, SlicesConfig
from ich3d.context.bigru import ContextEnsemble
from ich3d.core.errors import ModelError
from ich3d.slices.encoder import EncoderEnsemble
from ich3d.training.weights import (
    FIRST_MEMBER,
    RENAMED_MODULES,
    load_weights,
    read_tensors,
    save_weights,
)

EMBEDDING_WIDTH = 12


def encoders() -> EncoderEnsemble:
    config = SlicesConfig(encoder="resnet10-half", neighbours=0, ensemble_size=2)
    return EncoderEnsemble.from_config(config)


def contexts() -> ContextEnsemble:
    config = ContextConfig(reads="both", hidden_size=8, ensemble_size=2)
    return ContextEnsemble.from_config(config, EMBEDDING_WIDTH)


def with_random_tensors(model: nn.Module) -> nn.Module:
    """`model` with random numbers in all tensors, also in those that begin at zero."""
    torch.manual_seed(0)
    for tensor in model.state_dict().values():
        if tensor.dtype.is_floating_point:
            tensor.uniform_(-1, 1)
    return model


def assert_equal_tensors(model: nn.Module, other: nn.Module) -> None:
    tensors, others = model.state_dict(), other.state_dict()
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, others[name]), name


def test_saved_weights_are_loaded(tmp_path: Path) -> None:
    saved, loaded = with_random_tensors(encoders()), encoders()
    save_weights(tmp_path / "weights.safetensors", saved)
    load_weights(tmp_path / "weights.safetensors", loaded)
    assert_equal_tensors(loaded, saved)


def test_one_member_of_an_ensemble_is_loaded_by_its_prefix(tmp_path: Path) -> None:
    saved, single = with_random_tensors(contexts()), contexts().members[1]
    save_weights(tmp_path / "weights.safetensors", saved)
    load_weights(tmp_path / "weights.safetensors", single, FIRST_MEMBER)
    assert_equal_tensors(single, saved.get_submodule("members.0"))


@pytest.mark.parametrize("build", [encoders, contexts], ids=["encoder", "context"])
def test_tensors_of_version_0_1_are_read_under_their_new_names(
    build: Callable[[], nn.Module], tmp_path: Path
) -> None:
    saved, loaded = with_random_tensors(build()), build()
    old_names = {new: old for old, new in RENAMED_MODULES.items()}
    old_tensors = {
        ".".join(old_names.get(part, part) for part in name.split(".")): tensor
        for name, tensor in saved.state_dict().items()
    }
    assert old_tensors.keys() != saved.state_dict().keys()
    save_file(old_tensors, tmp_path / "weights.safetensors")

    assert read_tensors(tmp_path / "weights.safetensors").keys() == saved.state_dict().keys()
    load_weights(tmp_path / "weights.safetensors", loaded)
    assert_equal_tensors(loaded, saved)


def test_every_renamed_tensor_exists_today() -> None:
    """So that the test above covers each name."""
    names = {
        part
        for model in (encoders(), contexts())
        for name in model.state_dict()
        for part in name.split(".")
    }
    assert set(RENAMED_MODULES.values()) <= names
    assert names.isdisjoint(RENAMED_MODULES)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_weights(tmp_path / "weights.safetensors", contexts())
    with pytest.raises(ModelError, match=r"weights\.safetensors does not fit the model") as caught:
        load_weights(tmp_path / "weights.safetensors", encoders())
    assert "\n" not in str(caught.value)


def test_a_file_by_torch_save_is_read_where_it_holds_tensors_alone(tmp_path: Path) -> None:
    tensors = {"weight": torch.ones(2)}
    torch.save(tensors, tmp_path / "tensors.pt")
    assert torch.equal(read_tensors(tmp_path / "tensors.pt")["weight"], tensors["weight"])

    torch.save({"weight": tensors}, tmp_path / "nested.pt")
    with pytest.raises(ModelError, match=r"nested\.pt holds something else than named tensors"):
        read_tensors(tmp_path / "nested.pt")


@pytest.mark.parametrize("name", ["missing.safetensors", "text.safetensors", "text.pt"])
def test_a_file_that_holds_no_tensors_is_refused(name: str, tmp_path: Path) -> None:
    for text in ("text.safetensors", "text.pt"):
        (tmp_path / text).write_text("no tensors")
    with pytest.raises(ModelError, match=f"{name} cannot be read as tensors"):
        read_tensors(tmp_path / name)
