"""Heat maps of encoders whose signs of a label are known."""

import gc
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ich3d.config.root import Config
from ich3d.config.schema import ENCODERS
from ich3d.core.labels import LABELS, label_index
from ich3d.explain.grad_cam import heat_maps
from ich3d.slices.embed import embed
from ich3d.slices.encoder import EncoderEnsemble, SliceEncoder
from ich3d.slices.lite0 import EfficientNetLite0

ANY, FIRST_SUBTYPE = label_index("any"), 0
SIDE = 64


def random_head(n_slices: int = 3) -> np.ndarray:
    """HU int16 (Z, 64, 64) of soft tissue without structure."""
    rng = np.random.default_rng(0)
    return rng.integers(-100, 100, (n_slices, SIDE, SIDE)).astype(np.int16)


@torch.no_grad()
def positive_encoder(backbone: str, **settings: Any) -> EncoderEnsemble:
    """An untrained encoder for whose logits every feature is a positive sign.

    Batch normalisations have the statistics of `random_head`, so that features do not vanish.
    """
    torch.manual_seed(0)
    member = SliceEncoder(backbone, **settings)
    for module in member.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean over all batches, here one
    stack = torch.from_numpy(random_head(member.num_slices))[None].expand(4, -1, -1, -1)
    member.train()
    member(stack)

    member.head.weight.abs_()
    if isinstance(member.backbone, EfficientNetLite0):
        # Its first 304 features come from maps without a ReLU, and may be negative.
        member.head.weight[:, :304] = 0.0
    return EncoderEnsemble([member]).eval()


@torch.no_grad()
def brightness_encoder(count: int) -> EncoderEnsemble:
    """Encoders with one feature: how far a pixel lies above the middle of the brain window.

    It is a sign of `any`, and a sign against the first subtype.
    """
    return EncoderEnsemble([_brightness_member() for _ in range(count)]).eval()


def _brightness_member() -> SliceEncoder:
    member = SliceEncoder("resnet10", neighbours=0)
    look = nn.Conv2d(6, 1, kernel_size=1)  # three windows, and their differences to the mirror
    nn.init.zeros_(look.weight)[0, 0] = 1.0
    look.bias = nn.Parameter(torch.zeros(1))
    member.backbone = nn.Sequential(look, nn.ReLU(), nn.AvgPool2d(4), nn.AdaptiveAvgPool2d(1))

    member.head = nn.Linear(1, len(LABELS))
    nn.init.zeros_(member.head.weight)[ANY] = 5.0
    member.head.weight[FIRST_SUBTYPE] = -5.0
    return member


def logits_of(encoder: EncoderEnsemble, hu: np.ndarray) -> np.ndarray:
    """The encoder's logits (Z, K)."""
    return embed(encoder, hu, Config(precision="fp32", slices=encoder.config))[1]


@pytest.mark.parametrize("name", ENCODERS)
def test_a_heat_map_is_the_logit_spread_over_the_slice(name: str) -> None:
    """Every network ends in a mean over the last map and a linear head.

    Where no feature is a sign against the label, the mean of the heat map is the logit less the
    head's bias, divided by the number of pixels of the last map: a grid of 2 x 2.
    """
    encoder, hu = positive_encoder(name), random_head()
    (heat,) = heat_maps(encoder, hu, [(1, ANY)], tta_flip=False)
    assert heat.shape == (SIDE, SIDE)
    assert heat.min() > 0

    (member,) = encoder.members
    assert isinstance(member, SliceEncoder)
    stack = torch.from_numpy(hu)[None]
    with torch.no_grad():
        logit = encoder(stack)[1][0, ANY].item()
    assert 4 * heat.mean() == pytest.approx(logit - member.head.bias[ANY].item(), rel=1e-3)


def test_a_frozen_network_has_the_heat_map_of_a_trained_one() -> None:
    encoder, hu = positive_encoder("efficientnet-lite0"), random_head()
    expected = heat_maps(encoder, hu, [(1, ANY)], tta_flip=False)
    frozen = heat_maps(encoder.requires_grad_(False), hu, [(1, ANY)], tta_flip=False)
    np.testing.assert_allclose(frozen, expected, rtol=1e-5)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_the_encoder_stays_as_it_was() -> None:
    encoder, hu = positive_encoder("resnet10-half"), random_head()
    before = logits_of(encoder, hu)
    heat_maps(encoder, hu, [(1, ANY)], tta_flip=True)
    np.testing.assert_array_equal(logits_of(encoder, hu), before)
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert not any(module._forward_hooks for module in encoder.modules())


@pytest.mark.parametrize("tta_flip", [False, True])
def test_an_encoder_of_brightness_sees_the_bright_spot(tta_flip: bool) -> None:
    hu = np.full((3, SIDE, SIDE), 30, dtype=np.int16)
    rows, columns = slice(40, 48), slice(8, 16)
    hu[1, rows, columns] = 75
    pairs = [(1, ANY), (0, ANY), (1, FIRST_SUBTYPE)]
    heat, of_slice_below, of_subtype = heat_maps(brightness_encoder(2), hu, pairs, tta_flip)

    peak_row, peak_column = np.unravel_index(heat.argmax(), heat.shape)
    assert rows.start <= peak_row < rows.stop
    assert columns.start <= peak_column < columns.stop
    assert heat[rows, columns].sum() > 0.7 * heat.sum()
    assert not heat[:32].any()
    assert not of_slice_below.any()
    assert not of_subtype.any()  # a sign against a label is no sign of it


def test_a_mirrored_head_has_the_mirrored_heat_map_where_scores_are_flipped_too() -> None:
    encoder, hu = positive_encoder("resnet10"), random_head()
    mirrored_hu = np.ascontiguousarray(hu[:, :, ::-1])
    (heat,) = heat_maps(encoder, hu, [(1, ANY)], tta_flip=True)
    (of_mirrored,) = heat_maps(encoder, mirrored_hu, [(1, ANY)], tta_flip=True)
    np.testing.assert_allclose(of_mirrored[:, ::-1], heat, atol=1e-5)
    assert heat.std() > 0


def n_parameters() -> int:
    """Parameters of networks in memory."""
    gc.collect()
    return sum(type(thing) is nn.Parameter for thing in gc.get_objects())


def test_a_map_leaves_no_network_in_memory() -> None:
    """A study's page has dozens of maps, and a process may write many pages."""
    encoder, hu = positive_encoder("resnet10"), random_head()
    before = n_parameters()
    heat_maps(encoder, hu, [(1, ANY)], tta_flip=True)
    assert n_parameters() == before
