"""The headers of one volume in order along the slice normal, and the geometry that follows from it.

Order, spacing and tilt come from ImagePositionPatient and ImageOrientationPatient alone (PS3.3
C.7.6.2.1.1): names, InstanceNumber and SliceLocation are never asked.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from ich3d.core.codes import Code
from ich3d.core.types import Reason, Series, SliceHeader

SAME_PLACE_MM: Final = 0.01
"""Positions closer than this along the normal are one position: far below any CT slice spacing."""

STEP_TOLERANCE_MM: Final = 0.02
STEP_TOLERANCE: Final = 0.01
"""A step is regular within the larger of 0.02 mm and 1 % of the median step."""


def order(
    headers: Sequence[SliceHeader], volume_id: str, root: Path, reasons: tuple[Reason, ...] = ()
) -> Series:
    """The series of `headers`, which agree in orientation and lie at different heights.

    Reasons name files relative to `root`; those given come first.
    """
    heights = project(headers)
    ascending = np.argsort(heights)
    slices = tuple(headers[i] for i in ascending)
    z_mm = heights[ascending]
    found = list(reasons)
    irregular = _irregular(slices, z_mm, root)
    if irregular is not None:
        found.append(irregular)
    if len(slices) == 1:
        name = relative(slices[0].path, root)
        found.append(Reason(Code.SINGLE_SLICE, f"{name} is the only slice of its series"))
    first = slices[0]
    return Series(
        volume_id=volume_id,
        series_uid=first.series_uid,
        study_uid=first.study_uid,
        patient_id=first.patient_id,
        headers=slices,
        z_mm=z_mm,
        spacing_mm=float(np.median(np.diff(z_mm))) if len(slices) > 1 else None,
        tilt_deg=_tilt_deg(slices),
        is_regular=irregular is None,
        reasons=tuple(found),
    )


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


def project(headers: Sequence[SliceHeader]) -> np.ndarray:
    """Heights (n,) in mm of the slices along their common normal."""
    positions = np.array([header.position_mm for header in headers])
    heights: np.ndarray = positions @ _normal(headers)
    return heights


def relative(path: Path, root: Path) -> str:
    """`path` as sentences and tables show it: below `root`, with forward slashes."""
    return path.relative_to(root).as_posix()


def _normal(headers: Sequence[SliceHeader]) -> np.ndarray:
    """Orientations agree to a thousandth; their median does not depend on the order of `headers`."""
    row_dir = np.median([header.row_dir for header in headers], axis=0)
    col_dir = np.median([header.col_dir for header in headers], axis=0)
    across = np.cross(row_dir, col_dir)
    unit: np.ndarray = across / np.linalg.norm(across)
    return unit


def _tilt_deg(slices: Sequence[SliceHeader]) -> float | None:
    """The angle in degrees between the stack's direction and the slice normal, None for one slice."""
    if len(slices) == 1:
        return None
    step = np.subtract(slices[-1].position_mm, slices[0].position_mm)
    along = step @ _normal(slices)
    across = np.linalg.norm(step - along * _normal(slices))
    return float(np.degrees(np.arctan2(across, along)))


def _irregular(slices: Sequence[SliceHeader], z_mm: np.ndarray, root: Path) -> Reason | None:
    """The worst step, where one leaves the tolerance around the median step."""
    if len(slices) < 3:
        return None
    steps = np.diff(z_mm)
    expected = float(np.median(steps))
    deviation = np.abs(steps - expected)
    worst = int(np.argmax(deviation))
    if deviation[worst] <= max(STEP_TOLERANCE_MM, STEP_TOLERANCE * expected):
        return None
    lower, upper = (relative(slices[i].path, root) for i in (worst, worst + 1))
    return Reason(
        Code.IRREGULAR_SPACING,
        f"{lower} and {upper} lie {steps[worst]:.2f} mm apart where {expected:.2f} mm are expected",
    )
