"""Where in a slice the encoders saw signs of a label: Grad-CAM (Selvaraju et al., ICCV 2017)."""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from monai.visualize import GradCAM
from torch import nn

from ich3d.slices.dataset import neighbour_stack
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder
from ich3d.slices.lite0 import POOLED_PIXELS, EfficientNetLite0


def heat_maps(
    encoder: EncoderEnsemble,
    hu: np.ndarray,
    slices_and_labels: Sequence[tuple[int, int]],
    tta_flip: bool,
) -> list[np.ndarray]:
    """A map of each pair of a slice and a label, float32 (H, W), zero or more.

    Maps are means over the members and, as scores are, over both mirror images if `tta_flip`
    says so.

    Args:
        encoder: one fold's encoders.
        hu: the series, int16 (Z, H, W).
        slices_and_labels: pairs of a slice index and an index into `core.labels.LABELS`.
        tta_flip: whether scores are means over mirror images.
    """
    members = [member for member in encoder.members if isinstance(member, SliceEncoder)]
    watched = [_WatchedEncoder(member) for member in members]
    cams = [
        [GradCAM(network, layer, postprocessing=nn.Identity()) for layer in network.layers]
        for network in watched
    ]
    device = next(encoder.parameters()).device

    maps_of_pairs = []
    for index, k in slices_and_labels:
        stack, is_copy = neighbour_stack(hu, index, encoder.neighbours)
        stack_hu = torch.from_numpy(stack)[None].to(device)  # (1, S, H, W)
        flags = torch.from_numpy(is_copy)[None].to(device)  # (1, S)

        maps = []
        for of_member, member in zip(cams, members, strict=True):
            maps.append(_grad_cam(of_member, member, stack_hu, flags, k))
            if tta_flip:
                flipped = _grad_cam(of_member, member, stack_hu.flip(-1), flags, k)
                maps.append(flipped.flip(-1))
        mean_map = torch.stack(maps).mean(dim=0)  # (H, W)
        maps_of_pairs.append(np.asarray(mean_map.cpu().numpy()))
    return maps_of_pairs


class _WatchedEncoder(nn.Module):
    """A copy of an encoder in which every map that is pooled into the embedding is a layer of its
    own, named in `layers`.

    What a global pooling reads is the one place that every backbone has. Most have one such map;
    EfficientNet-Lite0 has three.
    """

    def __init__(self, encoder: SliceEncoder) -> None:
        super().__init__()
        self.encoder = deepcopy(
            encoder
        )  # MONAI's hooks stay; the predicting encoder shall have none
        poolings = [
            name
            for name, module in self.encoder.named_modules()
            if isinstance(module, nn.AdaptiveAvgPool2d)
        ]
        is_lite0 = isinstance(self.encoder.backbone, EfficientNetLite0)
        self.layers = []
        for name in poolings if is_lite0 else poolings[-1:]:
            parent, _, attribute = name.rpartition(".")
            watched = nn.Sequential(nn.Identity(), self.encoder.get_submodule(name))
            setattr(self.encoder.get_submodule(parent), attribute, watched)
            self.layers.append(f"encoder.{name}.0")

    def forward(self, network_input: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) of what `SliceEncoder.network_input` returned (B, C, H, W)."""
        logits: torch.Tensor = self.encoder.encode(network_input)[1]
        return logits


def _grad_cam(
    cams: Sequence[GradCAM],
    encoder: SliceEncoder,
    hu: torch.Tensor,
    is_copy: torch.Tensor,
    k: int,
) -> torch.Tensor:
    """The sum of MONAI's maps (H, W) of one stack of slices (1, S, H, W), a map a layer, on the
    slices' grid and not yet scaled.

    MONAI's weights are means over a map's pixels: a map of more pixels counts as much as it does
    in the logit once it is multiplied by their ratio.
    """
    network_input = encoder.network_input(hu, is_copy).contiguous()  # MONAI flattens by `view`
    pixels = POOLED_PIXELS if len(cams) == len(POOLED_PIXELS) else (1,)
    maps = [
        ratio * cam(network_input, class_idx=k)[0, 0].detach()
        for ratio, cam in zip(pixels, cams, strict=True)
    ]  # (H, W) each
    return torch.stack(maps).sum(dim=0)
