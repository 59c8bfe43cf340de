"""TODO."""

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
from monai.visualize import GradCAM
from torch import nn

from ich3d.config.root import Config
from ich3d.slices.dataset import stack
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder


def heat_maps(
    encoder: EncoderEnsemble, hu: np.ndarray, config: Config, asked: Sequence[tuple[int, int]]
) -> list[np.ndarray]:
    """Where slices of HU (Z, H, W) speak for labels, float32 (H, W) a pair of slice and label, zero or more:
    Grad-CAM (Selvaraju et al., ICCV 2017), the mean over members and, as scores are, over both mirror images.
    """
    members = [member for member in encoder.members if isinstance(member, SliceEncoder)]
    watched = [_Watched(member) for member in members]
    cams = [GradCAM(one, one.layer, postprocessing=nn.Identity()) for one in watched]
    where = next(encoder.parameters()).device
    found = []
    for index, k in asked:
        slices, copies = stack(hu, index, encoder.slices // 2)
        here, is_copy = (
            torch.from_numpy(slices)[None].to(where),
            torch.from_numpy(copies)[None].to(where),
        )
        maps = []
        for cam, member in zip(cams, members, strict=True):
            maps.append(_grad_cam(cam, member, here, is_copy, k))
            if config.slices.tta_flip:
                maps.append(_grad_cam(cam, member, here.flip(-1), is_copy, k).flip(-1))
        found.append(np.asarray(torch.stack(maps).mean(dim=0).cpu().numpy()))
    return found


class _Watched(nn.Module):
    """A copy of an encoder, image (B, C, H, W) to logits (B, K), in which the last feature map has a layer of
    its own, `layer`: what the global pooling reads, the one place that every backbone has."""

    def __init__(self, encoder: SliceEncoder) -> None:
        super().__init__()
        self.encoder = deepcopy(
            encoder
        )  # MONAI's hooks stay, and the served encoder is to have none
        poolings = [
            n for n, m in self.encoder.named_modules() if isinstance(m, nn.AdaptiveAvgPool2d)
        ]
        parent, _, own = poolings[-1].rpartition(".")
        pooling = self.encoder.get_submodule(poolings[-1])
        setattr(self.encoder.get_submodule(parent), own, nn.Sequential(nn.Identity(), pooling))
        self.layer = f"encoder.{poolings[-1]}.0"

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.encoder.encode(image)[1]
        return logits


def _grad_cam(
    cam: GradCAM, encoder: SliceEncoder, hu: torch.Tensor, is_copy: torch.Tensor, k: int
) -> torch.Tensor:
    """MONAI's map (H, W) of one stack of slices (1, S, H, W), resized to their grid and not yet scaled."""
    image = encoder.image(
        encoder.with_mirror(hu), is_copy
    ).contiguous()  # MONAI flattens maps by `view`
    heat: torch.Tensor = cam(image, class_idx=k)
    return heat[0, 0].detach()
