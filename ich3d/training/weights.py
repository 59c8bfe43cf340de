"""TODO."""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ich3d.core.errors import ModelError
from ich3d.core.workspace import replacing

RENAMED_MODULES = {
    "level": "mean_validation_logits",
    "enter": "input_proj",
    "reduce": "embedding_proj",
    "correct": "correction_head",
}
"""Modules and buffers of version 0.1 that have another name now."""

FIRST_MEMBER = "members.0."
"""How an ensemble names the tensors of its first network."""


def save_weights(path: Path, model: nn.Module) -> None:
    """The model's tensors as safetensors, written whole."""
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    with replacing(path) as partial:
        save_file(tensors, partial)


def load_weights(path: Path, model: nn.Module, prefix: str = "") -> None:
    """Put the tensors of `path` whose names begin with `prefix` into `model`; ModelError where they do not
    fit."""
    tensors = read_tensors(path)
    own = {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    try:
        model.load_state_dict(own)
    except RuntimeError as error:
        problem = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise ModelError(f"{path} does not fit the model: {problem}") from None


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The named tensors of a safetensors file, or of one of torch's that holds nothing else; ModelError where
    it is neither."""
    try:
        found: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, weights_only=True, map_location="cpu")
        )
    except (
        Exception
    ) as error:  # of foreign bytes: whatever the two readers raise, there are no tensors
        raise ModelError(f"{path} cannot be read as tensors ({type(error).__name__})") from None
    if not isinstance(found, dict) or not all(
        isinstance(item, torch.Tensor) for item in found.values()
    ):
        raise ModelError(f"{path} holds something else than named tensors")
    return {_current_name(name): tensor for name, tensor in found.items()}


def _current_name(name: str) -> str:
    """The name of a tensor that any version saved, in this version's networks."""
    member = re.match(r"(members\.\d+\.)?", name)
    prefix = member.group() if member else ""
    module, dot, parameter = name.removeprefix(prefix).partition(".")
    return f"{prefix}{RENAMED_MODULES.get(module, module)}{dot}{parameter}"
