"""The geometry of slices as the context model reads it: for padded batches, in units of about one.

The values are those of `core.slice_geometry`, computed on tensors so that the model needs
nothing but the slices' positions.
"""

from typing import Final

import torch

GEOMETRY_WIDTH: Final = 5
"""Columns of `geometry_features`."""

GAP_UNIT_MM: Final = 5.0
"""Gaps are divided by the common step of head CT."""

POSITION_UNIT_MM: Final = 100.0
"""Distances from the ends of the series are divided by this: a head is about 150 mm high."""

POSITION_TOLERANCE_MM: Final = 0.1
"""Headers round positions: a neighbour may lie this much farther away than its step."""


def geometry_features(z_mm: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Where the slices of a padded batch lie.

    Args:
        z_mm: positions along the slice normal (B, T), inferior to superior, padded with any value.
        lengths: slices of each series (B,); what lies beyond them is padding.

    Returns:
        float32 (B, T, 5), zero in the padding: gap to the slice below and gap to the slice
        above in units of 5 mm (zero at the ends), distance from the highest and from the lowest
        slice in units of 100 mm, relative index (0 for the lowest slice, 1 for the highest).
    """
    lengths = lengths.to(z_mm.device)[:, None]  # (B, 1)
    index = torch.arange(z_mm.shape[1], device=z_mm.device)[None]  # (1, T)
    is_slice = index < lengths  # (B, T)
    end = torch.zeros_like(z_mm[:, :1])

    # The step into the padding is no gap.
    gaps = (z_mm[:, 1:] - z_mm[:, :-1]) / GAP_UNIT_MM
    gaps = torch.where(is_slice[:, 1:], gaps, torch.zeros_like(gaps))  # (B, T - 1)
    below = torch.cat([end, gaps], dim=1)
    above = torch.cat([gaps, end], dim=1)

    highest_mm = z_mm.gather(1, lengths - 1)  # (B, 1)
    from_top = (highest_mm - z_mm) / POSITION_UNIT_MM
    from_bottom = (z_mm - z_mm[:, :1]) / POSITION_UNIT_MM
    relative_index = (index / (lengths - 1).clamp(min=1)).to(z_mm.dtype)

    columns = torch.stack([below, above, from_top, from_bottom, relative_index], dim=2)  # (B, T, 5)
    return torch.where(is_slice[..., None], columns, torch.zeros_like(columns)).float()
