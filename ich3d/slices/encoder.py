"""A MONAI network between HU and an embedding, with the windows inside it.

The windows are part of the model, so what was trained is what is served; the store keeps HU.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.networks import nets
from torch import nn

from ich3d.config.schema import SlicesConfig
from ich3d.core.errors import ConfigError
from ich3d.core.labels import LABELS
from ich3d.core.text import pluralize
from ich3d.core.windows import window
from ich3d.training.weights import FIRST_MEMBER, read_tensors


class SliceEncoder(nn.Module):
    """HU (B, S, H, W) of S = 2 * neighbours + 1 slices, and which of them are edge copies (B, S),
    to an embedding (B, D) and logits (B, K).

    Channels are slices x windows, then a constant plane a slice that says whether it is a copy of the
    series' edge slice, then (`symmetry`) the centre slice less its mirror image a window: a head is nearly
    symmetric, and most bleeds are not.
    """

    low: torch.Tensor
    width: torch.Tensor

    def __init__(self, config: SlicesConfig) -> None:
        super().__init__()
        windows = [window(name) for name in config.windows]
        self.register_buffer("low", torch.tensor([w.low for w in windows]))
        self.register_buffer("width", torch.tensor([w.width for w in windows]))
        self.slices = 2 * config.neighbours + 1
        self.symmetry = config.symmetry
        channels = self.slices * len(windows) + (self.slices if config.neighbours else 0)
        channels += len(windows) if config.symmetry else 0
        self.backbone, self.embedding_width = _backbone(config.encoder, channels)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.embedding_width, len(LABELS))

    def forward(self, hu: torch.Tensor, is_copy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.encode(self.image(self.with_mirror(hu), is_copy))

    def with_mirror(self, hu: torch.Tensor) -> torch.Tensor:
        """`hu` (B, S, H, W) and, where the network looks for asymmetry, the centre slice's mirror image last.

        Joined before augmentation, so that it stays the head's own however the head is then turned.
        """
        return torch.cat([hu, hu[:, [self.slices // 2]].flip(-1)], dim=1) if self.symmetry else hu

    def image(self, hu: torch.Tensor, is_copy: torch.Tensor) -> torch.Tensor:
        """The network's input (B, C, H, W) from what `with_mirror` gave: windows, flags, asymmetry."""
        planes = hu.float().unsqueeze(2) - self.low[:, None, None]  # (B, S or S + 1, windows, H, W)
        planes = planes.div_(self.width[:, None, None]).clamp_(0, 1)
        channels = [planes[:, : self.slices].flatten(1, 2) - 0.5]
        if self.slices > 1:
            channels.append(
                is_copy.to(planes.dtype)[..., None, None].expand(-1, -1, *planes.shape[3:])
            )
        if self.symmetry:
            channels.append(planes[:, self.slices // 2] - planes[:, -1])
        return torch.cat(channels, dim=1).contiguous(memory_format=torch.channels_last)

    def encode(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embedding (B, D) and logits (B, K) of `image` (B, C, H, W)."""
        embeddings = self.backbone(image).flatten(1).float()
        return embeddings, self.head(self.dropout(embeddings)).float()


class EncoderEnsemble(nn.Module):
    """FoldEncoders of one config side by side: embeddings (B, members * D) joined, logits (B, K) averaged.

    `mean_validation_logits` (K,) is the mean of the logits on patients held back in training.
    """

    mean_validation_logits: torch.Tensor

    def __init__(self, config: SlicesConfig) -> None:
        super().__init__()
        members = [SliceEncoder(config) for _ in range(config.ensemble_size)]
        self.members = nn.ModuleList(members)
        self.register_buffer("mean_validation_logits", torch.zeros(len(LABELS)))
        self.slices = members[0].slices
        self.embedding_width = sum(member.embedding_width for member in members)

    def forward(self, hu: torch.Tensor, is_copy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.encode(self.image(hu, is_copy))

    def image(self, hu: torch.Tensor, is_copy: torch.Tensor) -> torch.Tensor:
        """What every member reads, (B, C, H, W): it depends on the config alone."""
        first: Any = self.members[0]
        made: torch.Tensor = first.image(first.with_mirror(hu), is_copy)
        return made

    def encode(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embedding and logits of `image` (B, C, H, W)."""
        members: Any = self.members
        embeddings, logits = zip(*(member.encode(image) for member in members), strict=True)
        return torch.cat(embeddings, dim=1), torch.stack(logits).mean(dim=0)


def load_start(encoder: SliceEncoder, config: SlicesConfig) -> None:
    """Put the weights that `config` names into `encoder`, if it names any."""
    if config.weights is not None:
        _load_pretrained(encoder, Path(config.weights), config.weights_sha256)


def _resnet(
    make: Callable[..., nn.Module], channels: int, widen_factor: float = 1.0
) -> tuple[nn.Module, int]:
    net = make(
        spatial_dims=2, n_input_channels=channels, conv1_t_stride=2, shortcut_type="B", bias_downsample=False,
        widen_factor=widen_factor,
    )  # fmt: skip
    return _without(net, "fc")


def _densenet121(channels: int) -> tuple[nn.Module, int]:
    net = nets.DenseNet121(spatial_dims=2, in_channels=channels, out_channels=len(LABELS))
    _, width = _without(net.class_layers, "out")
    return net, width


def _seresnext50(channels: int) -> tuple[nn.Module, int]:
    return _without(
        nets.SEResNext50(spatial_dims=2, in_channels=channels, num_classes=len(LABELS)),
        "last_linear",
    )


def _efficientnet_b0(channels: int) -> tuple[nn.Module, int]:
    net = nets.EfficientNetBN(
        "efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=channels
    )
    return _without(net, "_fc")


_BACKBONES: dict[str, Callable[[int], tuple[nn.Module, int]]] = {
    "resnet10": partial(_resnet, nets.resnet10),
    "resnet10-half": partial(_resnet, nets.resnet10, widen_factor=0.5),
    "resnet18": partial(_resnet, nets.resnet18),
    "resnet18-half": partial(_resnet, nets.resnet18, widen_factor=0.5),
    "densenet121": _densenet121,
    "seresnext50": _seresnext50,
    "efficientnet-b0": _efficientnet_b0,
}


def _backbone(name: str, channels: int) -> tuple[nn.Module, int]:
    """MONAI's network `name` without its classifier, and the width of what it then gives."""
    return _BACKBONES[name](channels)


def _without(net: Any, classifier: str) -> tuple[nn.Module, int]:
    width = getattr(net, classifier).in_features
    setattr(net, classifier, nn.Identity())
    return net, width


def _load_pretrained(encoder: SliceEncoder, path: Path, sha256: str | None) -> None:
    """Put pretrained tensors into `encoder`; nothing is fetched, a hash that is given is checked first.

    Of another run's encoder the first member is taken, its head too; of a file of MONAI's network the
    backbone, where classifier tensors are left over. The first convolution is fitted to the channel count by
    repeating its mean over the input channels, scaled so that activations keep their size.
    """
    if not path.is_file():
        raise ConfigError(f"slices.weights names {path}, which is not there")
    if sha256 is not None and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise ConfigError(f"{path} does not have the hash that slices.weights_sha256 gives")
    tensors = read_tensors(path)
    is_run = any(name.startswith(FIRST_MEMBER) for name in tensors)
    part = encoder if is_run else encoder.backbone
    prefix = FIRST_MEMBER if is_run else ""
    windows = {name for name, _ in encoder.named_buffers(recurse=False)}  # these are the config's
    own = {
        prefix + name: tensor for name, tensor in part.state_dict().items() if name not in windows
    }
    missing = sorted(
        name for name in own if name not in tensors and not name.endswith("num_batches_tracked")
    )
    if missing:
        lacks = pluralize(len(missing), "tensor")
        raise ConfigError(f"{path} lacks {lacks} of this encoder, {missing[0]} first")
    for name, tensor in own.items():
        if name in tensors:
            tensor.copy_(_fit_channels(tensors[name], tensor, f"{path}: {name}"))


def _fit_channels(given: torch.Tensor, wanted: torch.Tensor, subject: str) -> torch.Tensor:
    if given.shape == wanted.shape:
        return given
    if (
        given.ndim == 4
        and given.shape[0] == wanted.shape[0]
        and given.shape[2:] == wanted.shape[2:]
    ):
        scale = given.shape[1] / wanted.shape[1]
        return given.mean(dim=1, keepdim=True).expand_as(wanted) * scale
    raise ConfigError(
        f"{subject} has shape {tuple(given.shape)}, the encoder needs {tuple(wanted.shape)}"
    )
