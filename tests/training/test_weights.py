"""Weights are saved whole and read under today's names; files that do not fit are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
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
    round_to_half,
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


def test_weights_that_half_precision_holds_are_written_in_it(tmp_path: Path) -> None:
    path, loaded = tmp_path / "weights.safetensors", contexts()
    saved = with_random_tensors(contexts())
    save_weights(path, saved)
    whole = path.stat().st_size

    round_to_half(saved)
    save_weights(path, saved)
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    assert path.stat().st_size < 0.6 * whole
    load_weights(path, loaded)
    assert_equal_tensors(loaded, saved)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("value", [1e-9, 1 / 3, 1e6, float("nan")])
def test_a_tensor_that_half_precision_would_change_stays_as_it_is(
    value: float, tmp_path: Path
) -> None:
    saved = nn.Linear(2, 1)
    nn.init.ones_(saved.weight)
    nn.init.constant_(saved.bias, value)
    save_weights(tmp_path / "weights.safetensors", saved)
    written = load_file(tmp_path / "weights.safetensors")
    assert (written["weight"].dtype, written["bias"].dtype) == (torch.float16, torch.float32)
    torch.testing.assert_close(written["bias"], saved.bias.detach(), rtol=0, atol=0, equal_nan=True)


def test_rounding_keeps_what_is_too_large_for_half_precision() -> None:
    model = nn.Linear(1, 2)
    nn.init.constant_(model.weight, 1 / 3)
    nn.init.constant_(model.bias, 1e6)
    round_to_half(model)
    assert model.weight.tolist() == [[0.333251953125]] * 2
    assert model.bias.tolist() == [1e6] * 2


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
