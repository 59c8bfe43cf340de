"""The headers of one volume in order along the slice normal, and the geometry that follows from it.

Order, spacing and tilt come from ImagePositionPatient and ImageOrientationPatient alone (PS3.3
C.7.6.2.1.1): names, InstanceNumber and SliceLocation are never asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from ich3d.core.issues import IssueCode
from ich3d.core.text import pluralize
from ich3d.core.types import DroppedSlice, Reason, Series, SliceHeader
from ich3d.dicom.geometry import (
    _normal,
    _out_of_tolerance,
    _positions,
    ascending,
    irregular_steps,
    project,
)

_OF_ORDER: Final = (IssueCode.IRREGULAR_SPACING, IssueCode.SHIFTED_SLICE, IssueCode.SINGLE_SLICE)
"""The reasons that `order` finds."""


def order(
    headers: Sequence[SliceHeader], volume_id: str, reasons: tuple[Reason, ...] = ()
) -> Series:
    """The series of `headers`, which agree in orientation and lie at different heights. The `reasons` given
    come first."""
    slices = ascending(headers)
    odd = _odd_steps(slices)
    alone = [Reason(IssueCode.SINGLE_SLICE, f"{slices[0].name} is the only slice of its series")]
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
    lost = [
        DroppedSlice(h.file, h.frame, h.sop_uid, h.position_mm, IssueCode.UNDECODABLE)
        for h in problems
    ]
    shorter = order(rest, series.volume_id, (*told, incomplete(list(problems.values()))))
    return replace(shorter, lost=(*series.lost, *lost))


def incomplete(problems: Sequence[str]) -> Reason:
    """The warning of a series that goes on without slices; `problems` name each."""
    more = f"; and {pluralize(len(problems) - 1, 'more slice')}" if len(problems) > 1 else ""
    return Reason(IssueCode.INCOMPLETE, f"left out: {problems[0]}{more}")


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
        found.append(Reason(IssueCode.IRREGULAR_SPACING, detail))
    if len(shifted := _out_of_tolerance(shifts, steps)):
        lower = shifted[0]
        told = f"{_pair(slices, lower)} are shifted in their plane by {shifts[lower]:.2f} mm"
        found.append(Reason(IssueCode.SHIFTED_SLICE, told + _more(shifted, "shifted step")))
    return found


def _more(odd: np.ndarray, what: str) -> str:
    return f"; {pluralize(len(odd) - 1, f'more {what}')}" if len(odd) > 1 else ""


def _shifts(slices: Sequence[SliceHeader]) -> np.ndarray:
    """How far in mm each step (Z - 1,) leaves the direction of the stack, which is the median one."""
    steps = np.diff(_positions(slices), axis=0)
    heights = np.diff(project(slices))
    direction = np.median(steps / heights[:, None], axis=0)
    shifts: np.ndarray = np.linalg.norm(steps - heights[:, None] * direction, axis=1)
    return shifts


def _pair(slices: Sequence[SliceHeader], lower: int) -> str:
    return f"{slices[lower].name} and {slices[lower + 1].name}"
