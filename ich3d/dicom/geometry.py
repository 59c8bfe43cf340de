"""Geometry of slices in the patient: their normal, their order along it, their steps, their affine.

All of it follows from ImagePositionPatient, ImageOrientationPatient and PixelSpacing (PS3.3
C.7.6.2.1.1). Lengths are millimetres in DICOM's patient coordinate system (LPS).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ich3d.core.issues import IssueCode
from ich3d.core.types import Series, SliceHeader

SAME_POSITION_MM: Final = 0.01
"""Slices closer than this are at the same position: far below any slice spacing of a CT scanner."""

STEP_TOLERANCE_MM: Final = 0.02
STEP_TOLERANCE: Final = 0.01
"""A step between slices is regular within the larger of 0.02 mm and 1 % of the median step."""

ROUNDED_TO_MM: Final = 0.1
"""What some archives round ImagePositionPatient to: steps of 0.625 mm become 0.6 and 0.7 mm."""

ROUNDED_TILT_DEG: Final = 0.1
"""How far the normal of directions that were rounded to three decimals may be off, in degrees."""

_EXACT: Final = 1e-9
"""Directions this close to perpendicular unit vectors stay as they are, to the last bit."""


@dataclass(frozen=True)
class Plane:
    """The common orientation of slices, by ImageOrientationPatient.

    Attributes:
        row_dir, col_dir: perpendicular unit vectors (3,) in LPS: the median over the slices.
        skew_deg: by how much row and column direction were no right angle, in degrees.
        noise_deg: the largest angle of a slice's own directions to the common ones, in degrees.
        turned_deg: by how much the plane was turned to be perpendicular to the stack, in degrees.
    """

    row_dir: np.ndarray
    col_dir: np.ndarray
    skew_deg: float
    noise_deg: float
    turned_deg: float = 0.0

    @property
    def normal(self) -> np.ndarray:
        """row_dir x col_dir, a unit vector (3,) that may point up or down in the patient."""
        across = np.cross(self.row_dir, self.col_dir)
        unit: np.ndarray = across / np.linalg.norm(across)
        return unit


def common_plane(headers: Sequence[SliceHeader]) -> Plane:
    """The common orientation of slices; it does not depend on the order of `headers`.

    Directions that were rounded when they were written are not quite perpendicular. Both are turned
    by half of the error, within their plane.
    """
    first = headers[0]
    row_dir, col_dir = first.row_dir, first.col_dir
    if all(header.row_dir == row_dir and header.col_dir == col_dir for header in headers):
        headers = (first,)
    own = np.array([(header.row_dir, header.col_dir) for header in headers])  # (Z, 2, 3)
    directions = np.median(own, axis=0) if len(own) > 1 else own[0]  # (2, 3)
    lengths = np.linalg.norm(directions, axis=1)
    if np.any(np.abs(lengths - 1) > _EXACT):
        directions = directions / lengths[:, None]

    cosine = float(directions[0] @ directions[1])
    if abs(cosine) > _EXACT:
        directions = _perpendicular(directions)

    chords = np.linalg.norm(own - directions, axis=2)  # (Z, 2)
    return Plane(
        row_dir=directions[0],
        col_dir=directions[1],
        skew_deg=float(np.degrees(np.arcsin(min(abs(cosine), 1.0)))),
        noise_deg=float(np.degrees(2 * np.arcsin(min(chords.max() / 2, 1.0)))),
    )


def stack_plane(slices: Sequence[SliceHeader], step_mm: np.ndarray) -> Plane:
    """The common orientation of slices that are stacked by `step_mm` (3,), in LPS mm.

    Oblique directions that were rounded to three decimals give a normal that is up to a tenth of a
    degree off the direction of the stack. Positions are more exact, so the directions are turned to
    be perpendicular to the stack. Directions along the patient's axes are exact, and a step that
    leaves their normal is a tilt of the gantry.
    """
    plane = common_plane(slices)
    along = step_mm / np.linalg.norm(step_mm)
    directions = np.array((plane.row_dir, plane.col_dir))
    off_deg = float(
        np.degrees(np.arcsin(np.clip(np.linalg.norm(np.cross(along, plane.normal)), 0, 1)))
    )
    is_oblique = bool(np.any(np.abs(directions).max(axis=1) < 1 - _EXACT))
    if not is_oblique or off_deg > ROUNDED_TILT_DEG:
        return plane
    turned = _perpendicular(directions - np.outer(directions @ along, along))
    return replace(plane, row_dir=turned[0], col_dir=turned[1], turned_deg=off_deg)


def _perpendicular(directions: np.ndarray) -> np.ndarray:
    """Two directions (2, 3) as perpendicular unit vectors of their plane, each turned equally."""
    unit = directions / np.linalg.norm(directions, axis=1)[:, None]
    total, difference = unit[0] + unit[1], unit[0] - unit[1]
    total, difference = total / np.linalg.norm(total), difference / np.linalg.norm(difference)
    perpendicular: np.ndarray = np.array([total + difference, total - difference]) / np.sqrt(2)
    return perpendicular


def slice_normal(headers: Sequence[SliceHeader]) -> np.ndarray:
    """The common normal (3,) of slices whose orientations agree, a unit vector in LPS."""
    return common_plane(headers).normal


def slice_thickness_mm(header: SliceHeader) -> float | None:
    """SliceThickness in mm; None where it is missing or no length."""
    try:
        thickness_mm = float(header.thickness)
    except ValueError:
        return None
    return thickness_mm if 0 < thickness_mm < 100 else None


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


def is_evenly_stacked(slices: Sequence[SliceHeader]) -> bool:
    """Whether all steps between sorted slices are equal, within tolerance or but for rounding."""
    is_even = not len(irregular_steps(project_on_normal(slices)))
    return is_even or rounded_step_mm(slices) is not None


def is_even_but_for_gaps(slices: Sequence[SliceHeader]) -> bool:
    """Whether steps between sorted slices are the median step or, where slices lack, multiples.

    Where as many slices lack as there are, nothing shows that they were equally spaced.
    """
    steps_mm = np.diff(project_on_normal(slices))  # (Z - 1,)
    median_mm = float(np.median(steps_mm))
    n_steps = np.maximum(np.rint(steps_mm / median_mm), 1)
    is_even = not len(out_of_tolerance(steps_mm - n_steps * median_mm, steps_mm))
    return is_even and n_steps.sum() < 2 * len(slices)


def rounded_step_mm(slices: Sequence[SliceHeader]) -> np.ndarray | None:
    """The step (3,) in LPS mm of a regular stack whose positions were rounded to 0.1 mm.

    None where any coordinate has more decimals, or where rounding does not explain how the sorted
    slices lie: there must be a step with which each coordinate of each slice is the rounded one.
    """
    positions = positions_mm(slices)  # (Z, 3)
    tenths = positions / ROUNDED_TO_MM
    if len(slices) < 3 or np.any(np.abs(tenths - np.rint(tenths)) > 1e-4):
        return None

    # Between slices i < j, rounding moves a distance by at most one unit. Slice by slice, because
    # all pairs of a long series would fill the memory.
    smallest, largest = np.full(3, -np.inf), np.full(3, np.inf)
    for i in range(len(slices) - 1):
        apart = positions[i + 1 :] - positions[i]  # (Z - i - 1, 3)
        n_steps = np.arange(1, len(apart) + 1)[:, None]
        smallest = np.maximum(smallest, ((apart - ROUNDED_TO_MM) / n_steps).max(axis=0))
        largest = np.minimum(largest, ((apart + ROUNDED_TO_MM) / n_steps).min(axis=0))
        if np.any(smallest > largest + 1e-6):
            return None
    step: np.ndarray = (smallest + largest) / 2
    return step


def affine_mm(series: Series) -> np.ndarray | None:
    """The affine (4, 4) from index (column, row, slice) to LPS mm, sheared by a tilted gantry.

    None where steps are irregular, or where a single slice gives no step.
    """
    if not series.is_regular or len(series) == 1:
        return None
    first, last = series.headers[0], series.headers[-1]
    step_mm = np.subtract(last.position_mm, first.position_mm) / (len(series) - 1)
    if any(issue.code is IssueCode.ROUNDED_POSITIONS for issue in series.issues):
        exact_mm = rounded_step_mm(series.headers)
        step_mm = step_mm if exact_mm is None else exact_mm
    return slice_affine_mm(series, step_mm)


def slice_affine_mm(series: Series, step_mm: np.ndarray) -> np.ndarray:
    """The affine (4, 4) of the first slice, with `step_mm` (3,) in LPS mm to the next one."""
    between_rows, between_columns = series.headers[0].pixel_spacing_mm
    plane = stack_plane(series.headers, step_mm)
    affine = np.eye(4)
    affine[:3, 0] = plane.row_dir * between_columns
    affine[:3, 1] = plane.col_dir * between_rows
    affine[:3, 2] = step_mm
    affine[:3, 3] = series.headers[0].position_mm
    return affine
