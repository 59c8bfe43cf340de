"""MONAI's 2-D networks without their classifiers, and pretrained weights for them."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from monai.networks import nets
from torch import nn

from ich3d.core.errors import ConfigError
from ich3d.core.labels import LABELS
from ich3d.core.text import pluralize
from ich3d.training.weights import FIRST_MEMBER, read_tensors


def build_backbone(name: str, channels: int) -> tuple[nn.Module, int]:
    """The network `name`, one of `config.schema.ENCODERS`, for images of `channels` channels.

    Returns:
        The network, images (B, channels, H, W) to features (B, D), and their width D.
    """
    return _BUILDERS[name](channels)


def load_pretrained(encoder: nn.Module, path: Path, sha256: str | None) -> None:
    """Put pretrained tensors into a `SliceEncoder`; nothing is downloaded.

    Of another run's encoder the first member is taken, its head too. Of a file of MONAI's
    network the backbone is taken, and classifier tensors are ignored. Where the first
    convolution has another number of input channels, its mean over them is repeated, scaled so
    that activations keep their size.

    Args:
        encoder: the encoder to fill.
        path: a file of named tensors.
        sha256: the hash that the file must have; None accepts any.

    Raises:
        ConfigError: the file is missing, has another hash, or lacks tensors of this encoder.
        ModelError: the file holds no named tensors.
    """
    if not path.is_file():
        raise ConfigError(f"slices.weights names {path}, which does not exist")
    if sha256 is not None and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise ConfigError(f"{path} does not have the hash that slices.weights_sha256 gives")

    tensors = read_tensors(path)
    is_encoder = any(name.startswith(FIRST_MEMBER) for name in tensors)
    module = encoder if is_encoder else encoder.get_submodule("backbone")
    prefix = FIRST_MEMBER if is_encoder else ""

    # Windows are buffers of the encoder; they stay as the configuration names them.
    windows = {name for name, _ in encoder.named_buffers(recurse=False)}
    wanted = {
        prefix + name: tensor for name, tensor in module.state_dict().items() if name not in windows
    }
    missing = sorted(
        name for name in wanted if name not in tensors and not name.endswith("num_batches_tracked")
    )
    if missing:
        count = pluralize(len(missing), "tensor")
        raise ConfigError(f"{path} lacks {count} of this encoder, {missing[0]} first")

    for name, tensor in wanted.items():
        if name in tensors:
            tensor.copy_(_fit_channels(tensors[name], tensor, f"{path}: {name}"))


def _resnet(
    build: Callable[..., nn.Module], channels: int, widen_factor: float = 1.0
) -> tuple[nn.Module, int]:
    network = build(
        spatial_dims=2,
        n_input_channels=channels,
        conv1_t_stride=2,
        shortcut_type="B",
        bias_downsample=False,
        widen_factor=widen_factor,
    )
    return _without_classifier(network, "fc")


def _densenet121(channels: int) -> tuple[nn.Module, int]:
    network = nets.DenseNet121(spatial_dims=2, in_channels=channels, out_channels=len(LABELS))
    _, width = _without_classifier(network.class_layers, "out")
    return network, width


def _seresnext50(channels: int) -> tuple[nn.Module, int]:
    network = nets.SEResNext50(spatial_dims=2, in_channels=channels, num_classes=len(LABELS))
    return _without_classifier(network, "last_linear")


def _efficientnet_b0(channels: int) -> tuple[nn.Module, int]:
    network = nets.EfficientNetBN(
        "efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=channels
    )
    return _without_classifier(network, "_fc")


def _without_classifier(network: Any, classifier: str) -> tuple[nn.Module, int]:
    """`network` with its attribute `classifier` replaced by the identity, and the width that it
    read.
    """
    width = getattr(network, classifier).in_features
    setattr(network, classifier, nn.Identity())
    return network, width


_BUILDERS: Final[dict[str, Callable[[int], tuple[nn.Module, int]]]] = {
    "resnet10": partial(_resnet, nets.resnet10),
    "resnet10-half": partial(_resnet, nets.resnet10, widen_factor=0.5),
    "resnet18": partial(_resnet, nets.resnet18),
    "resnet18-half": partial(_resnet, nets.resnet18, widen_factor=0.5),
    "densenet121": _densenet121,
    "seresnext50": _seresnext50,
    "efficientnet-b0": _efficientnet_b0,
}


def _fit_channels(given: torch.Tensor, wanted: torch.Tensor, subject: str) -> torch.Tensor:
    """`given` in the shape of `wanted`; `subject` names file and tensor in errors."""
    if given.shape == wanted.shape:
        return given

    is_convolution = given.ndim == 4
    if is_convolution and given.shape[0] == wanted.shape[0] and given.shape[2:] == wanted.shape[2:]:
        scale = given.shape[1] / wanted.shape[1]
        return given.mean(dim=1, keepdim=True).expand_as(wanted) * scale
    raise ConfigError(
        f"{subject} has shape {tuple(given.shape)}, the encoder needs {tuple(wanted.shape)}"
    )
