"""Random changes of a batch on its device: geometry, then HU, then mixing. The slices of a
stack change alike. `augment_series` changes a whole series alike, sharpness too.

The ranges are about what heads and scanners differ by.
"""

from typing import Final

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import affine_grid, grid_sample

from ich3d.core.hounsfield import AIR_HU

MAX_DEGREES: Final = 20.0
MAX_SHIFT: Final = 0.08
"""Largest shift, as a share of the image's side."""

MAX_SCALE: Final = 0.12
MAX_OFFSET_HU: Final = 4.0
"""Scanners' calibration is held to a few HU in water (IEC 61223-3-5: 4 HU)."""

MAX_GAIN: Final = 0.04
MAX_NOISE_HU: Final = 4.0

SHARPNESS: Final = (-0.6, 1.0)
"""How much of what a blurred slice lacks is added to it: kernels of scanners differ so."""

INT16: Final = (-32768, 32767)

BLUR_PIXELS: Final = 1.0
"""Standard deviation of that blur, in pixels."""


def augment(
    hu: torch.Tensor,
    generator: torch.Generator,
    whole: int | None = None,
    part: slice = slice(None),
) -> torch.Tensor:
    """Rotate, scale, shift and mirror each stack, then change its gain and offset and add noise.

    Args:
        hu: Hounsfield units, float32 or int16 (B, S, H, W).
        generator: a generator on the CPU, from which everything is drawn.
        whole: the size of the batch that these stacks are a part of; None for their own number.
            The draws are those of the whole batch, however many processes share it.
        part: where in the batch these stacks lie.

    Returns:
        float32 (B, S, H, W); what comes from outside the image is air.
    """
    count, device = len(hu), hu.device
    drawn = count if whole is None else whole

    def uniform(*shape: int) -> torch.Tensor:
        """Numbers from -1 to 1, for these stacks."""
        return torch.rand(drawn, *shape, generator=generator)[part].to(device) * 2 - 1

    # One affine map a stack.
    angle = torch.deg2rad(uniform() * MAX_DEGREES)
    scale = 1 + uniform() * MAX_SCALE
    mirror = uniform().sign()
    shift = uniform(2) * 2 * MAX_SHIFT  # affine_grid's image is 2 wide
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    first_row = torch.stack([cos * mirror, -sin, shift[:, 0]], 1)
    second_row = torch.stack([sin * mirror, cos, shift[:, 1]], 1)
    theta = torch.stack([first_row, second_row], 1)  # (B, 2, 3)

    # Sampled above air, because grid_sample fills with zeros.
    grid = affine_grid(theta, [count, 1, *hu.shape[2:]], align_corners=False)  # (B, H, W, 2)
    above_air = hu.float() - AIR_HU
    moved = grid_sample(above_air, grid, align_corners=False) + AIR_HU

    gain = 1 + uniform(1, 1, 1) * MAX_GAIN
    offset = uniform(1, 1, 1) * MAX_OFFSET_HU
    noise_sd = torch.rand(drawn, 1, 1, 1, generator=generator)[part].to(device) * MAX_NOISE_HU
    noise = _noise(torch.Size([drawn, *moved.shape[1:]]), generator, device)[part]
    return moved * gain + offset + noise * noise_sd


def augment_series(hu: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """A copy of a series as another scanner might have given it, all its slices changed alike.

    As `augment`, with another sharpness, and noise that no kernel has smoothed.

    Args:
        hu: int16 (Z, H, W).
        generator: a generator on the CPU, from which everything is drawn.

    Returns:
        int16 (Z, H, W).
    """
    moved = augment(torch.from_numpy(hu)[None], generator)[0].numpy()  # (Z, H, W)
    sharpness, noise_sd = torch.rand(2, generator=generator).tolist()
    low, high = SHARPNESS
    blurred = gaussian_filter(moved, (0, BLUR_PIXELS, BLUR_PIXELS))
    sharpened = moved + (low + (high - low) * sharpness) * (moved - blurred)
    noise = torch.randn(sharpened.shape, generator=generator).numpy() * noise_sd * MAX_NOISE_HU
    changed: np.ndarray = np.clip(sharpened + noise, *INT16).round().astype(np.int16)
    return changed


def _noise(shape: torch.Size, generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """Standard normal numbers on `device`.

    A GPU draws them itself, seeded by `generator`: a CPU takes longer for them than a GPU does for
    the whole step.
    """
    if device.type == "cpu":
        return torch.randn(shape, generator=generator)
    seed = int(torch.randint(2**62, (), generator=generator))
    return torch.randn(shape, generator=torch.Generator(device).manual_seed(seed), device=device)


def mix(
    network_input: torch.Tensor, target: torch.Tensor, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each input with another one of the batch (mixup, Zhang et al., ICLR 2018).

    Draws from torch's global stream, which training seeds at the start of each epoch.

    Args:
        network_input: (B, C, H, W).
        target: labels (B, K), NaN where there is none.
        alpha: both parameters of the Beta distribution that the weight is drawn from, once a batch.

    Returns:
        Mixed inputs (B, C, H, W) and targets (B, K); a target that either partner lacks is NaN.
    """
    partner = torch.randperm(len(network_input)).to(network_input.device)
    weight = float(torch.distributions.Beta(alpha, alpha).sample())
    mixed = network_input[partner].lerp_(network_input, weight)
    return mixed, weight * target + (1 - weight) * target[partner]
