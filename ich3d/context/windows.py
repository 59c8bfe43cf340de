"""Windows over the slices of a padded batch: for each slice, the slices that it may read."""

from dataclasses import dataclass

import torch

from ich3d.config.schema import ContextConfig
from ich3d.context.geometry import POSITION_TOLERANCE_MM


@dataclass(frozen=True)
class Windows:
    """The windows of the N slices of a batch, each a run of at most W slices of its series.

    Attributes:
        series: the series of each window, an index into the batch (N,).
        centre: the slice whose window it is, an index into the series (N,).
        slices: the slices of the window, indices into the series (N, W), padded at the end.
        size: how many of these are real (N,), on the CPU.
    """

    series: torch.Tensor
    centre: torch.Tensor
    slices: torch.Tensor
    size: torch.Tensor

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows (B, T, C) of every window (N, W, C)."""
        return rows[self.series[:, None], self.slices]

    def centre_rows(self, windowed: torch.Tensor) -> torch.Tensor:
        """Of every window's rows (N, W, C) the row of its centre slice (N, C)."""
        offset = self.centre - self.slices[:, 0]
        return windowed[torch.arange(len(offset), device=offset.device), offset]


def find_windows(is_slice: torch.Tensor, z_mm: torch.Tensor, config: ContextConfig) -> Windows:
    """The windows that `context.window` or `context.window_mm` give every slice.

    Args:
        is_slice: which rows of the padded batch are slices, bool (B, T).
        z_mm: positions along the slice normal (B, T).
        config: its `window` (slices on each side) or `window_mm` (millimetres on each side) is set.
    """
    if config.window_mm is None:
        assert config.window is not None
        index = torch.arange(is_slice.shape[1], device=is_slice.device)
        is_near = (index - index[:, None]).abs() <= config.window  # (T, T)
    else:
        distance_mm = (z_mm[:, None] - z_mm[:, :, None]).abs()  # (B, T, T)
        is_near = distance_mm <= config.window_mm + POSITION_TOLERANCE_MM

    # One row for each slice of the batch; slices ascend, so what is near is a run without holes.
    is_near = (is_near & is_slice[:, None])[is_slice]  # (N, T)
    first, size = is_near.int().argmax(dim=1), is_near.sum(dim=1)  # (N,), (N,)
    offset = torch.arange(int(size.max()), device=is_slice.device)
    slices = (first[:, None] + offset).clamp(max=is_slice.shape[1] - 1)  # (N, W)

    series, centre = is_slice.nonzero(as_tuple=True)  # (N,), (N,)
    return Windows(series, centre, slices, size.cpu())
