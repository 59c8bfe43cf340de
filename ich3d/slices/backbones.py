"""MONAI's 2-D networks without their classifiers, and pretrained weights for them."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from monai.networks import nets
from torch import nn

from ich3d.config.schema import IMAGENET
from ich3d.core.errors import ConfigError
from ich3d.core.labels import LABELS
from ich3d.core.text import pluralize
from ich3d.slices.lite0 import EfficientNetLite0, imagenet_tensors
from ich3d.training.weights import FIRST_MEMBER, read_tensors

COLOURS: Final = 3
"""Input channels of a network for photographs."""


def build_backbone(name: str, channels: int) -> tuple[nn.Module, int]:
    """The network `name`, one of `config.schema.ENCODERS`, for images of `channels` channels.

    Returns:
        The network, images (B, channels, H, W) to features (B, D), and their width D.
    """
    return _BUILDERS[name](channels)


def load_pretrained(
    encoder: nn.Module, weights: str, sha256: str | None, centre: Sequence[int]
) -> None:
    """Put pretrained tensors into a `SliceEncoder`; nothing is downloaded.

    Of another run's encoder the first member is taken, its head too. Of a file of MONAI's
    network the backbone is taken, and classifier tensors are ignored.

    Where the first convolution has another number of input channels, kernels for the three colours
    of photographs go to the three windows of the centre slice, and the other channels start at
    zero. With another number of windows, their mean over channels is repeated, scaled so that
    activations keep their size.

    Args:
        encoder: the encoder to fill.
        weights: a file of named tensors, or `imagenet` for the weights of EfficientNet-Lite0 that
            a package brings.
        sha256: the hash that the file must have; None accepts any.
        centre: the input channels that are windows of the centre slice.

    Raises:
        ConfigError: the file or package is missing, has another hash, or lacks tensors of this
            encoder.
        ModelError: the file holds no named tensors.
    """
    tensors = imagenet_tensors() if weights == IMAGENET else _read_file(Path(weights), sha256)
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
        raise ConfigError(f"{weights} lacks {count} of this encoder, {missing[0]} first")

    for name, tensor in wanted.items():
        if name in tensors:
            tensor.copy_(_fit_channels(tensors[name], tensor, centre, f"{weights}: {name}"))


def _read_file(path: Path, sha256: str | None) -> dict[str, torch.Tensor]:
    """The tensors of a file that `slices.weights` names."""
    if not path.is_file():
        raise ConfigError(f"slices.weights names {path}, which does not exist")
    if sha256 is not None and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise ConfigError(f"{path} does not have the hash that slices.weights_sha256 gives")
    return read_tensors(path)


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


def _efficientnet_lite0(channels: int) -> tuple[nn.Module, int]:
    return EfficientNetLite0(channels), EfficientNetLite0.width


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
    "efficientnet-lite0": _efficientnet_lite0,
}


def _fit_channels(
    given: torch.Tensor, wanted: torch.Tensor, centre: Sequence[int], subject: str
) -> torch.Tensor:
    """`given` in the shape of `wanted`; `subject` names file and tensor in errors."""
    if given.shape == wanted.shape:
        return given

    is_convolution = given.ndim == 4
    if is_convolution and given.shape[0] == wanted.shape[0] and given.shape[2:] == wanted.shape[2:]:
        if given.shape[1] == COLOURS == len(centre):
            fitted = torch.zeros_like(wanted)
            fitted[:, list(centre)] = given
            return fitted
        scale = given.shape[1] / wanted.shape[1]
        return given.mean(dim=1, keepdim=True).expand_as(wanted) * scale
    raise ConfigError(
        f"{subject} has shape {tuple(given.shape)}, the encoder needs {tuple(wanted.shape)}"
    )
