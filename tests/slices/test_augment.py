"""Augmentation moves a stack as one, keeps air as air, and depends on its generator alone."""

import numpy as np
import pytest
import torch

from ich3d.core.hounsfield import AIR_HU
from ich3d.slices.augment import (
    MAX_GAIN,
    MAX_NOISE_HU,
    MAX_OFFSET_HU,
    augment,
    augment_series,
    mix,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def head(count: int = 4, slices: int = 3, size: int = 48) -> torch.Tensor:
    """A disc of 40 HU with one bright spot, the same in every slice of a stack."""
    side = torch.arange(size) - (size - 1) / 2
    radius = torch.hypot(side[:, None], side[None])
    image = torch.where(radius < size / 3, 40.0, AIR_HU)
    image[size // 3 : size // 3 + 4, size // 2 : size // 2 + 4] = 400.0
    return image.expand(count, slices, size, size).to(torch.int16)


def test_equal_generators_give_equal_batches() -> None:
    one, two = augment(head(), generator(1)), augment(head(), generator(1))
    assert torch.equal(one, two)
    assert not torch.equal(one, augment(head(), generator(2)))


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32])
def test_it_gives_float32_of_the_same_shape_and_leaves_its_input(dtype: torch.dtype) -> None:
    hu = head().to(dtype)
    before = hu.clone()
    out = augment(hu, generator())
    assert out.dtype == torch.float32
    assert out.shape == hu.shape
    assert torch.equal(hu, before)


def test_air_stays_air_also_where_the_image_moved_in() -> None:
    """Up to gain, offset and noise: nothing near tissue appears outside the head."""
    air = torch.full((8, 1, 48, 48), int(AIR_HU), dtype=torch.int16)
    out = augment(air, generator())
    slack = abs(AIR_HU) * MAX_GAIN + MAX_OFFSET_HU + 6 * MAX_NOISE_HU
    assert out.max() < AIR_HU + slack
    assert out.min() > AIR_HU - slack


def test_the_corners_of_a_head_image_are_air() -> None:
    out = augment(head(32), generator())
    assert out[:, :, :2, :2].max() < -900


def test_a_series_changes_as_one_and_keeps_air_as_air() -> None:
    hu = head(1, slices=5)[0].numpy()
    copy = augment_series(hu, generator(3))
    assert copy.dtype == np.int16
    assert copy.shape == hu.shape
    assert np.array_equal(copy, augment_series(hu, generator(3)))
    assert not np.array_equal(copy, augment_series(hu, generator(4)))
    means = copy.mean(axis=(1, 2))
    assert np.ptp(means) < 1.0  # equal slices stay equal but for the noise
    assert copy[:, :2, :2].max() < -900


def test_copies_differ_in_sharpness() -> None:
    """The bright spot of a head stands out of what surrounds it by more or by less."""
    hu = head(1, slices=1)[0].numpy()
    highest = [int(augment_series(hu, generator(seed)).max()) for seed in range(12)]
    assert max(highest) > 450
    assert min(highest) < 400


def test_every_slice_of_a_stack_moves_together() -> None:
    """Equal slices stay equal but for the noise, which is drawn for each pixel."""
    out = augment(head(16), generator())
    assert (out[:, 0] - out[:, 2]).abs().max() < 12 * MAX_NOISE_HU
    means = out.mean(dim=(2, 3))
    assert (means[:, 0] - means[:, 2]).abs().max() < 1.0


def test_stacks_move_apart_and_both_ways() -> None:
    out = augment(head(64, 1), generator())[:, 0]
    left, right = out[:, :, :24].mean(dim=(1, 2)), out[:, :, 24:].mean(dim=(1, 2))
    assert (left > right).any()
    assert (left < right).any()


def test_the_hu_of_brain_stay_near() -> None:
    tissue = torch.full((32, 1, 48, 48), 40, dtype=torch.int16)
    out = augment(tissue, generator())[:, 0, 20:28, 20:28]
    assert (out.mean(dim=(1, 2)) - 40).abs().max() < 40 * MAX_GAIN + MAX_OFFSET_HU + MAX_NOISE_HU


def mix_seeded(hu: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return mix(hu, target, 0.4)


def test_mixing_gives_image_and_labels_the_same_share() -> None:
    """Stack i is all 10 i HU and its labels all i / 10, so that mixed HU are a hundred mixed
    labels.
    """
    number = torch.arange(8.0)
    hu = (10 * number)[:, None, None, None].expand(8, 3, 4, 4)
    labels = (number / 10)[:, None].expand(8, 6)
    mixed, target = mix_seeded(hu, labels)
    torch.testing.assert_close(mixed[:, 0, 0, 0], 100 * target[:, 0])
    assert not torch.equal(mixed, hu)
    assert float(mixed.mean()) == pytest.approx(35.0, abs=1e-3)
    assert torch.equal(mixed, mix_seeded(hu, labels)[0])


def test_a_label_that_one_of_a_mixed_pair_lacks_is_unknown() -> None:
    target = torch.ones(8, 6)
    target[0, 2] = torch.nan
    _, mixed = mix_seeded(torch.zeros(8, 1, 2, 2), target)
    assert mixed[:, [0, 1, 3, 4, 5]].isnan().sum() == 0
    assert mixed[0, 2].isnan()
    assert 1 <= mixed[:, 2].isnan().sum() <= 2
