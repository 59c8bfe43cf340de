"""Where each slice of a series lies along the head: gaps, distances from the ends, relative index.

Every table and model that reads geometry takes it from here. The context model computes the same
values for padded batches of tensors (`context.geometry`); a test holds the two together.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SliceGeometry:
    """Geometry of the Z slices of one series, in millimetres along the superior normal.

    In a `core.types.Series` whose normal points down, `z_mm` grows toward inferior, and above and
    below change places; from `PreparedSeries` on they do not.

    Attributes:
        gap_below_mm: distance to the next slice below (Z,); NaN for the lowest slice.
        gap_above_mm: distance to the next slice above (Z,); NaN for the highest slice.
        from_top_mm: distance from the highest slice (Z,).
        from_bottom_mm: distance from the lowest slice (Z,).
        relative_index: 0 for the lowest slice to 1 for the highest (Z,); 0 for a single slice.
    """

    gap_below_mm: np.ndarray
    gap_above_mm: np.ndarray
    from_top_mm: np.ndarray
    from_bottom_mm: np.ndarray
    relative_index: np.ndarray

    @property
    def largest_gap_mm(self) -> float | None:
        """The largest distance between neighbouring slices in mm; None for a single slice."""
        gaps_mm = self.gap_below_mm[1:]
        return float(gaps_mm.max()) if len(gaps_mm) else None


def slice_geometry(z_mm: np.ndarray) -> SliceGeometry:
    """Geometry of a series whose slices lie at `z_mm` (Z,), in increasing order.

    Examples:
        >>> slice_geometry(np.array([0.0, 5.0, 10.0])).from_top_mm
        array([10.,  5.,  0.])
    """
    count = len(z_mm)
    gaps_mm = np.diff(z_mm)
    return SliceGeometry(
        gap_below_mm=np.concatenate([[np.nan], gaps_mm]),
        gap_above_mm=np.concatenate([gaps_mm, [np.nan]]),
        from_top_mm=z_mm[-1] - z_mm,
        from_bottom_mm=z_mm - z_mm[0],
        relative_index=np.arange(count) / max(1, count - 1),
    )
