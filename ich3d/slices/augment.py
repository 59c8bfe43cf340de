"""Augmentation of a batch on its device: geometry, then HU, then mixing. A stack's slices move together."""

import torch

AIR_HU = -1024.0
MAX_DEGREES = 20.0
MAX_SHIFT = 0.08  # of the matrix
MAX_SCALE = 0.12
MAX_OFFSET_HU = 4.0  # calibration of scanners is held to a few HU in water (IEC 61223-3-5: 4 HU)
MAX_GAIN = 0.04
MAX_NOISE_HU = 4.0


def augment(hu: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """HU (B, S, H, W), float32 or int16, to float32: turned, scaled, shifted and mirrored left to right,
    then with another gain, offset and noise a stack."""
    count = len(hu)
    device = hu.device

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator).to(device) * 2 - 1

    angle = torch.deg2rad(uniform(count) * MAX_DEGREES)
    scale = 1 + uniform(count) * MAX_SCALE
    mirror = uniform(count).sign()
    shift = uniform(count, 2) * 2 * MAX_SHIFT
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack(
        [
            torch.stack([cos * mirror, -sin, shift[:, 0]], 1),
            torch.stack([sin * mirror, cos, shift[:, 1]], 1),
        ],
        1,
    )
    grid = torch.nn.functional.affine_grid(theta, [count, 1, *hu.shape[2:]], align_corners=False)
    moved = torch.nn.functional.grid_sample(hu.float() - AIR_HU, grid, align_corners=False) + AIR_HU
    gain = 1 + uniform(count, 1, 1, 1) * MAX_GAIN
    offset = uniform(count, 1, 1, 1) * MAX_OFFSET_HU
    sd = torch.rand(count, 1, 1, 1, generator=generator).to(device) * MAX_NOISE_HU
    noise = torch.randn(moved.shape, generator=generator).to(device) * sd
    return moved * gain + offset + noise


def mix(
    image: torch.Tensor, target: torch.Tensor, alpha: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Network inputs (B, C, H, W) and targets (B, K), each mixed with a shuffled partner by one weight a
    batch (mixup, Zhang et al., ICLR 2018). A target that either partner lacks is NaN. Draws from torch's
    global stream, which training seeds anew each epoch."""
    order = torch.randperm(len(image)).to(image.device)
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    return image[order].lerp_(image, share), share * target + (1 - share) * target[order]
