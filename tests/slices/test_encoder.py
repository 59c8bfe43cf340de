"""The encoder holds its windows, knows copies from neighbours, and sees asymmetry."""

import pytest
import torch

from ich3d.core.windows import window
from ich3d.slices.augment import MAX_NOISE_HU, augment
from ich3d.slices.encoder import SliceEncoder
from tests.helpers.encoders import PLAIN


@pytest.fixture(scope="module")
def small() -> SliceEncoder:
    torch.manual_seed(0)
    return SliceEncoder.from_config(PLAIN).eval()


def test_a_symmetric_head_stays_symmetric_when_turned(small: SliceEncoder) -> None:
    """Augmentation turns and shifts the slice; what sets it apart from its mirror image is
    noise alone.
    """
    half = torch.linspace(0, 80, 24)
    hu = torch.cat([half, half.flip(0)]).expand(8, 3, 48, 48)
    torch.manual_seed(0)
    turned = []

    def turn(stack: torch.Tensor) -> torch.Tensor:
        turned.append(augment(stack, torch.default_generator))
        return turned[0]

    network_input = small.network_input(hu, augment=turn)
    asymmetry = network_input[:, -len(PLAIN.windows) :]
    assert asymmetry[:, 0].abs().mean() < 2 * MAX_NOISE_HU / 80
    centre = turned[0][:, 1]
    assert (centre - centre.flip(-1)).abs().mean() > 4 * MAX_NOISE_HU


def test_the_windows_are_inside(small: SliceEncoder) -> None:
    """HU beyond every window's ends look alike; HU inside one do not."""
    low = min(window(name).low for name in PLAIN.windows)
    high = max(window(name).high for name in PLAIN.windows)
    none = torch.zeros(1, 3, dtype=torch.bool)

    def score(hu: float) -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = small(torch.full((1, 3, 48, 48), hu), none)[1]
        return logits

    assert torch.equal(score(low), score(low - 5000))
    assert torch.equal(score(high), score(high + 5000))
    assert not torch.equal(score(30), score(40))


def test_a_copied_edge_is_told_from_a_real_neighbour(small: SliceEncoder) -> None:
    hu = torch.zeros(1, 3, 48, 48)
    with torch.no_grad():
        real, copied = (
            small(hu, torch.tensor([[flag, False, False]]))[1] for flag in (False, True)
        )
    assert not torch.equal(real, copied)
