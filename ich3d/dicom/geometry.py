"""Geometry of slices in the patient: their normal, their order along it, their steps, their affine.

All of it follows from ImagePositionPatient, ImageOrientationPatient and PixelSpacing (PS3.3
C.7.6.2.1.1). Lengths are millimetres in DICOM's patient coordinate system (LPS).
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from ich3d.core.types import Series, SliceHeader

SAME_POSITION_MM: Final = 0.01
"""Slices closer than this are at the same position: far below any slice spacing of a CT scanner."""

STEP_TOLERANCE_MM: Final = 0.02
STEP_TOLERANCE: Final = 0.01
"""A step between slices is regular within the larger of 0.02 mm and 1 % of the median step."""


def slice_normal(headers: Sequence[SliceHeader]) -> np.ndarray:
    """The common normal (3,) of slices whose orientations agree, a unit vector in LPS.

    It is row direction x column direction, so it may point up or down in the patient. Orientations
    of one volume may differ by rounding; the median does not depend on the order of `headers`.
    """
    row_dir = np.median([header.row_dir for header in headers], axis=0)
    col_dir = np.median([header.col_dir for header in headers], axis=0)
    across = np.cross(row_dir, col_dir)
    unit: np.ndarray = across / np.linalg.norm(across)
    return unit


def positions_mm(headers: Sequence[SliceHeader]) -> np.ndarray:
    """ImagePositionPatient of each slice (Z, 3), in LPS millimetres."""
    return np.array([header.position_mm for header in headers])


def project_on_normal(headers: Sequence[SliceHeader]) -> np.ndarray:
    """Height (Z,) of each slice in mm: its position projected on the common normal.

    The normal may point up or down in the patient, and so may the heights.
    """
    heights_mm: np.ndarray = positions_mm(headers) @ slice_normal(headers)
    return heights_mm


def sort_along_normal(headers: Sequence[SliceHeader]) -> tuple[SliceHeader, ...]:
    """`headers` by height, lowest first; slices of equal height keep their order."""
    order = np.argsort(project_on_normal(headers), kind="stable")
    return tuple(headers[i] for i in order)


def irregular_steps(z_mm: np.ndarray) -> np.ndarray:
    """Indices of the slices below an irregular step, worst step first.

    `z_mm` (Z,) holds the ascending heights of the slices, in mm. A step is irregular where it
    differs from the median step by more than the tolerance; fewer than 3 slices have none.
    """
    if len(z_mm) < 3:
        return np.arange(0)
    steps_mm = np.diff(z_mm)  # (Z - 1,)
    return out_of_tolerance(steps_mm - np.median(steps_mm), steps_mm)


def out_of_tolerance(deviations_mm: np.ndarray, steps_mm: np.ndarray) -> np.ndarray:
    """Indices of the deviations (Z - 1,) that exceed the tolerance, largest deviation first.

    The tolerance follows from the median of `steps_mm` (Z - 1,), the steps between slices.
    """
    sizes_mm = np.abs(deviations_mm)
    tolerance_mm = max(STEP_TOLERANCE_MM, STEP_TOLERANCE * float(np.median(steps_mm)))
    largest_first = np.argsort(-sizes_mm, kind="stable")
    beyond: np.ndarray = largest_first[sizes_mm[largest_first] > tolerance_mm]
    return beyond


def affine_mm(series: Series) -> np.ndarray | None:
    """The affine (4, 4) from index (column, row, slice) to LPS mm, sheared by a tilted gantry.

    None where steps are irregular, or where a single slice gives no step.
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
