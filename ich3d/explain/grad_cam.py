"""Where in a slice the encoders saw signs of a label: Grad-CAM (Selvaraju et al., ICCV 2017)."""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from monai.visualize import GradCAM
from torch import nn

from ich3d.slices.dataset import neighbour_stack
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder


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
    cams = [GradCAM(network, network.layer, postprocessing=nn.Identity()) for network in watched]
    device = next(encoder.parameters()).device

    maps_of_pairs = []
    for index, k in slices_and_labels:
        stack, is_copy = neighbour_stack(hu, index, encoder.neighbours)
        stack_hu = torch.from_numpy(stack)[None].to(device)  # (1, S, H, W)
        flags = torch.from_numpy(is_copy)[None].to(device)  # (1, S)

        maps = []
        for cam, member in zip(cams, members, strict=True):
            maps.append(_grad_cam(cam, member, stack_hu, flags, k))
            if tta_flip:
                flipped = _grad_cam(cam, member, stack_hu.flip(-1), flags, k)
                maps.append(flipped.flip(-1))
        mean_map = torch.stack(maps).mean(dim=0)  # (H, W)
        maps_of_pairs.append(np.asarray(mean_map.cpu().numpy()))
    return maps_of_pairs


class _WatchedEncoder(nn.Module):
    """A copy of an encoder whose last feature map has a layer of its own, named `layer`.

    That map is what the global pooling reads: the one place that every backbone has.
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
        parent, _, attribute = poolings[-1].rpartition(".")
        pooling = self.encoder.get_submodule(poolings[-1])
        watched = nn.Sequential(nn.Identity(), pooling)
        setattr(self.encoder.get_submodule(parent), attribute, watched)
        self.layer = f"encoder.{poolings[-1]}.0"

    def forward(self, network_input: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) of what `SliceEncoder.network_input` returned (B, C, H, W)."""
        logits: torch.Tensor = self.encoder.encode(network_input)[1]
        return logits


def _grad_cam(
    cam: GradCAM, encoder: SliceEncoder, hu: torch.Tensor, is_copy: torch.Tensor, k: int
) -> torch.Tensor:
    """MONAI's map (H, W) of one stack of slices (1, S, H, W), on their grid and not yet scaled."""
    network_input = encoder.network_input(hu, is_copy).contiguous()  # MONAI flattens by `view`
    heat: torch.Tensor = cam(network_input, class_idx=k)  # (1, 1, H, W)
    return heat[0, 0].detach()
