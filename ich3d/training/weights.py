"""Networks' weights on disk: safetensors, and the names that tensors had in version 0.1."""

import re
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ich3d.core.errors import ModelError
from ich3d.core.workspace import replacing

FIRST_MEMBER: Final = "members.0."
"""How the names of an ensemble's first network begin."""

RENAMED_MODULES: Final = {
    "level": "mean_validation_logits",
    "enter": "input_proj",
    "reduce": "embedding_proj",
    "correct": "correction_head",
}
"""Modules and buffers of version 0.1 that have another name now."""


def round_to_half(model: nn.Module) -> None:
    """Round the model's tensors, in place, to what half precision holds, so that `save_weights`
    writes them in half the bytes.

    A tensor with a value that is too large for half precision stays as it is.
    """
    for tensor in model.state_dict().values():
        halved = tensor.half() if tensor.is_floating_point() else tensor
        if torch.isfinite(halved).all():
            tensor.copy_(halved)


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the model's tensors as safetensors, whole or not at all.

    A tensor whose values half precision holds exactly is written in it: no value changes.
    """
    tensors = {
        name: _smallest(tensor.detach().cpu().contiguous())
        for name, tensor in model.state_dict().items()
    }
    with replacing(path) as partial:
        save_file(tensors, partial)


def load_weights(path: Path, model: nn.Module, prefix: str = "") -> None:
    """Put the tensors of `path` into `model`: those whose names begin with `prefix`, without it.

    Raises:
        ModelError: the file cannot be read, or its tensors do not fit the model.
    """
    tensors = {
        name.removeprefix(prefix): tensor
        for name, tensor in read_tensors(path).items()
        if name.startswith(prefix)
    }
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        problem = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise ModelError(f"{path} does not fit the model: {problem}") from None


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file by name, under the names of this version.

    Args:
        path: a safetensors file, or a file by `torch.save` that holds named tensors and nothing
            else.

    Raises:
        ModelError: the file is neither.
    """
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, weights_only=True, map_location="cpu")
        )
    except Exception:  # on foreign bytes both readers raise many kinds of exceptions
        raise ModelError(f"{path} cannot be read as tensors: it is damaged or no weights") from None

    if not isinstance(content, dict) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise ModelError(f"{path} holds something else than named tensors")
    return {_current_name(name): tensor for name, tensor in content.items()}


def _smallest(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in half precision if that changes none of its values, else as it is."""
    if not tensor.is_floating_point():
        return tensor
    halved = tensor.half()
    return halved if torch.equal(halved.to(tensor.dtype), tensor) else tensor


def _current_name(name: str) -> str:
    """The name that a tensor of any version has in this version's networks."""
    member = re.match(r"(members\.\d+\.)?", name)
    prefix = member.group() if member else ""
    module, dot, parameter = name.removeprefix(prefix).partition(".")
    return f"{prefix}{RENAMED_MODULES.get(module, module)}{dot}{parameter}"
