"""TODO."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from ich3d.core.types import Reason, Rejected, Series, SliceHeader

SAME_PLACE_MM: Final = 0.01
"""Positions closer than this along the normal are one position: far below any CT slice spacing."""


STEP_TOLERANCE_MM: Final = 0.02


STEP_TOLERANCE: Final = 0.01
"""A step is regular within the larger of 0.02 mm and 1 % of the median step."""


def rejected(series: Series, reason: Reason) -> Rejected:
    """`series` as no volume, with all its files."""
    return Rejected(series.volume_id, reason.code, reason.detail, series.paths)


def normal(series: Series) -> np.ndarray:
    """The slice normal (3,), a unit vector in LPS: row direction x column direction."""
    return _normal(series.headers)


def affine_mm(series: Series) -> np.ndarray | None:
    """The affine (4, 4) from index (column, row, slice) to LPS mm, sheared where the gantry was tilted.

    None where steps are irregular, or where one slice gives no step.
    """
    if not series.is_regular or len(series) == 1:
        return None
    first, last = series.headers[0], series.headers[-1]
    between_rows, between_columns = first.pixel_spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = np.array(first.row_dir) * between_columns
    affine[:3, 1] = np.array(first.col_dir) * between_rows
    affine[:3, 2] = np.subtract(last.position_mm, first.position_mm) / (len(series) - 1)
    affine[:3, 3] = first.position_mm
    return affine


def ascending(headers: Sequence[SliceHeader]) -> tuple[SliceHeader, ...]:
    """`headers` in order along their common normal; those at one height keep theirs."""
    return tuple(headers[i] for i in np.argsort(project(headers), kind="stable"))


def project(headers: Sequence[SliceHeader]) -> np.ndarray:
    """Heights (n,) in mm of the slices along their common normal."""
    heights: np.ndarray = _positions(headers) @ _normal(headers)
    return heights


def irregular_steps(slices: Sequence[SliceHeader]) -> np.ndarray:
    """The indices of the slices below each irregular step, the worst first. Slices ascend."""
    steps = np.diff(project(slices))
    return _out_of_tolerance(steps - np.median(steps), steps) if len(slices) > 2 else np.arange(0)


def _positions(headers: Sequence[SliceHeader]) -> np.ndarray:
    return np.array([header.position_mm for header in headers])


def _normal(headers: Sequence[SliceHeader]) -> np.ndarray:
    """Orientations agree to a thousandth; their median does not depend on the order of `headers`."""
    row_dir = np.median([header.row_dir for header in headers], axis=0)
    col_dir = np.median([header.col_dir for header in headers], axis=0)
    across = np.cross(row_dir, col_dir)
    unit: np.ndarray = across / np.linalg.norm(across)
    return unit


def _out_of_tolerance(deviation: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The indices of the deviations that are out of tolerance for such steps, the largest first."""
    size = np.abs(deviation)
    tolerance = max(STEP_TOLERANCE_MM, STEP_TOLERANCE * float(np.median(steps)))
    largest_first = np.argsort(-size, kind="stable")
    found: np.ndarray = largest_first[size[largest_first] > tolerance]
    return found
