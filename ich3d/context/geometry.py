"""TODO."""

import numpy as np

GEOMETRY = 5


GAP_MM = 5.0  # the common step of head CT; gaps and positions are given in units of about one


POSITION_MM = 100.0


FROM_BOTTOM = 3  # the column of `geometry` that says how far a slice lies above the lowest


SLACK_MM = 0.1  # headers round positions: a neighbour may lie this much farther off than its step


def geometry(z_mm: np.ndarray) -> np.ndarray:
    """Where each slice lies (Z, GEOMETRY): gap to the slice below and above in units of 5 mm (zero at
    the ends), distance from the top slice and from the bottom one in units of 100 mm, relative index."""
    count = len(z_mm)
    gaps = np.diff(z_mm) / GAP_MM
    below, above = np.concatenate([[0.0], gaps]), np.concatenate([gaps, [0.0]])
    from_top, from_bottom = (z_mm[-1] - z_mm) / POSITION_MM, (z_mm - z_mm[0]) / POSITION_MM
    index = np.arange(count) / max(1, count - 1)
    return np.stack([below, above, from_top, from_bottom, index], axis=1).astype(np.float32)
