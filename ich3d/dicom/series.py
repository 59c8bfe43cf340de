"""The headers of one volume in order along the slice normal, and the geometry that follows from it.

Order, spacing and tilt come from ImagePositionPatient and ImageOrientationPatient alone (PS3.3
C.7.6.2.1.1): names, InstanceNumber and SliceLocation are never asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from ich3d.core.codes import Code
from ich3d.core.types import LostSlice, Reason, Rejected, Series, SliceHeader
from ich3d.core.words import counted

_OF_ORDER: Final = (Code.IRREGULAR_SPACING, Code.SHIFTED_SLICE, Code.SINGLE_SLICE)
"""The reasons that `order` finds."""

SAME_PLACE_MM: Final = 0.01
"""Positions closer than this along the normal are one position: far below any CT slice spacing."""

STEP_TOLERANCE_MM: Final = 0.02
STEP_TOLERANCE: Final = 0.01
"""A step is regular within the larger of 0.02 mm and 1 % of the median step."""


def order(headers: Sequence[SliceHeader], volume_id: str, reasons: tuple[Reason, ...] = ()) -> Series:
    """The series of `headers`, which agree in orientation and lie at different heights. The `reasons` given
    come first."""
    slices = ascending(headers)
    odd = _odd_steps(slices)
    alone = [Reason(Code.SINGLE_SLICE, f"{slices[0].name} is the only slice of its series")]
    z_mm = project(slices)
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
        is_regular=not odd,
        reasons=(*reasons, *odd, *(alone if len(slices) == 1 else ())),
    )


def without(series: Series, problems: Mapping[SliceHeader, str]) -> Series:
    """`series` without the slices that have problems, which it then tells of."""
    told = tuple(reason for reason in series.reasons if reason.code not in _OF_ORDER)
    rest = [header for header in series.headers if header not in problems]
    lost = [LostSlice(h.file, h.frame, h.sop_uid, h.position_mm, Code.UNDECODABLE) for h in problems]
    shorter = order(rest, series.volume_id, (*told, incomplete(list(problems.values()))))
    return replace(shorter, lost=(*series.lost, *lost))


def incomplete(problems: Sequence[str]) -> Reason:
    """The warning of a series that goes on without slices; `problems` name each."""
    more = f"; and {counted(len(problems) - 1, 'more slice')}" if len(problems) > 1 else ""
    return Reason(Code.INCOMPLETE, f"left out: {problems[0]}{more}")


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


def _tilt_deg(slices: Sequence[SliceHeader]) -> float | None:
    """The angle in degrees between the stack's direction and the slice normal, None for one slice."""
    if len(slices) == 1:
        return None
    step = np.subtract(slices[-1].position_mm, slices[0].position_mm)
    along = step @ _normal(slices)
    across = np.linalg.norm(step - along * _normal(slices))
    return float(np.degrees(np.arctan2(across, along)))


def _odd_steps(slices: Sequence[SliceHeader]) -> list[Reason]:
    """The worst step along the normal and the worst shift within the plane, where they are out of
    tolerance, and how many more are."""
    if len(slices) < 3:
        return []
    found = []
    steps, shifts = np.diff(project(slices)), _shifts(slices)
    if len(irregular := irregular_steps(slices)):
        lower = irregular[0]
        apart = f"{steps[lower]:.2f} mm apart where {np.median(steps):.2f} mm are expected"
        detail = f"{_pair(slices, lower)} lie {apart}{_more(irregular, 'irregular step')}"
        found.append(Reason(Code.IRREGULAR_SPACING, detail))
    if len(shifted := _out_of_tolerance(shifts, steps)):
        lower = shifted[0]
        told = f"{_pair(slices, lower)} are shifted in their plane by {shifts[lower]:.2f} mm"
        found.append(Reason(Code.SHIFTED_SLICE, told + _more(shifted, "shifted step")))
    return found


def _more(odd: np.ndarray, what: str) -> str:
    return f"; {counted(len(odd) - 1, f'more {what}')}" if len(odd) > 1 else ""


def _shifts(slices: Sequence[SliceHeader]) -> np.ndarray:
    """How far in mm each step (Z - 1,) leaves the direction of the stack, which is the median one."""
    steps = np.diff(_positions(slices), axis=0)
    heights = np.diff(project(slices))
    direction = np.median(steps / heights[:, None], axis=0)
    shifts: np.ndarray = np.linalg.norm(steps - heights[:, None] * direction, axis=1)
    return shifts


def _out_of_tolerance(deviation: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The indices of the deviations that are out of tolerance for such steps, the largest first."""
    size = np.abs(deviation)
    tolerance = max(STEP_TOLERANCE_MM, STEP_TOLERANCE * float(np.median(steps)))
    largest_first = np.argsort(-size, kind="stable")
    found: np.ndarray = largest_first[size[largest_first] > tolerance]
    return found


def _pair(slices: Sequence[SliceHeader], lower: int) -> str:
    return f"{slices[lower].name} and {slices[lower + 1].name}"
