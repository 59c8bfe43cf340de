"""Where in a slice the encoders saw signs of a label: Grad-CAM (Selvaraju et al., ICCV 2017)."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from monai.visualize import GradCAM
from torch import nn
from torch.nn.functional import interpolate

from ich3d.slices.dataset import neighbour_stack
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder
from ich3d.slices.lite0 import EfficientNetLite0


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
    mappers = [_mapper(member) for member in members]
    device = next(encoder.parameters()).device

    maps_of_pairs = []
    for index, k in slices_and_labels:
        stack, is_copy = neighbour_stack(hu, index, encoder.neighbours)
        stack_hu = torch.from_numpy(stack)[None].to(device)  # (1, S, H, W)
        flags = torch.from_numpy(is_copy)[None].to(device)  # (1, S)

        maps = []
        for heat_map, member in zip(mappers, members, strict=True):
            maps.append(heat_map(member.network_input(stack_hu, flags), k))
            if tta_flip:
                flipped = heat_map(member.network_input(stack_hu.flip(-1), flags), k)
                maps.append(flipped.flip(-1))
        mean_map = torch.stack(maps).mean(dim=0)  # (H, W)
        maps_of_pairs.append(np.asarray(mean_map.cpu().numpy()))
    return maps_of_pairs


def _mapper(encoder: SliceEncoder) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """A function from an input (1, C, H, W) and a label to its map (H, W), not yet scaled."""
    if isinstance(encoder.backbone, EfficientNetLite0):
        return partial(_lite0_map, encoder, encoder.backbone)

    watched = _WatchedEncoder(encoder)
    cam = GradCAM(watched, watched.layer, postprocessing=nn.Identity())

    def heat_map(network_input: torch.Tensor, k: int) -> torch.Tensor:
        network_input = network_input.contiguous()  # MONAI flattens by `view`
        heat: torch.Tensor = cam(network_input, class_idx=k)  # (1, 1, H, W)

        # What MONAI keeps refers to the graph, and the graph to it: it would never be freed.
        cam.nn_module.score = None
        cam.nn_module.activations.clear()
        return heat[0, 0].detach()

    return heat_map


@torch.no_grad()
def _lite0_map(
    encoder: SliceEncoder, network: EfficientNetLite0, network_input: torch.Tensor, k: int
) -> torch.Tensor:
    """The map (H, W) of a network that pools three of its maps, each under a linear layer.

    There the gradient of the logit is the layer's weight, so none has to be computed. Each map is
    brought to the slice's size before they are summed, so that it counts as it does in the logit.
    """
    maps = network.pooled_maps(network_input)
    weights = encoder.head.weight[k].split([one.shape[1] for one in maps])
    smallest = maps[-1].shape[2] * maps[-1].shape[3]
    total = torch.zeros(network_input.shape[2:], device=network_input.device)
    for one, weight in zip(maps, weights, strict=True):
        signs = torch.einsum("bchw,c->bhw", one, weight)[:, None] / smallest
        total += interpolate(signs, network_input.shape[2:], mode="bilinear")[0, 0]
    return total.clamp(min=0)


class _WatchedEncoder(nn.Module):
    """A copy of an encoder whose last feature map has a layer of its own, named `layer`.

    That map is what the global pooling reads.
    """

    def __init__(self, encoder: SliceEncoder) -> None:
        super().__init__()
        # MONAI's hooks stay in the copy; the predicting encoder shall have none. A frozen network
        # has gradients here.
        self.encoder = deepcopy(encoder).requires_grad_(True)
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
