"""Sort the headers of one volume along the slice normal, and derive spacing, tilt and regularity.

Only ImagePositionPatient and ImageOrientationPatient decide (PS3.3 C.7.6.2.1.1). File names,
InstanceNumber, SliceLocation and GantryDetectorTilt are ignored: scanners and archives disagree
about them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from ich3d.core.issues import IssueCode
from ich3d.core.text import pluralize
from ich3d.core.types import DroppedSlice, Issue, Series, SliceHeader
from ich3d.dicom.geometry import (
    irregular_steps,
    out_of_tolerance,
    positions_mm,
    project_on_normal,
    slice_normal,
    sort_along_normal,
)

_ORDER_ISSUES: Final = (
    IssueCode.IRREGULAR_SPACING,
    IssueCode.SHIFTED_SLICE,
    IssueCode.SINGLE_SLICE,
)
"""The issues that `order` finds."""


def order(headers: Sequence[SliceHeader], volume_id: str, issues: tuple[Issue, ...] = ()) -> Series:
    """Sort the slices of one volume into a `Series`.

    Args:
        headers: slices of one orientation, at different heights, in any order.
        volume_id: name of the volume.
        issues: warnings that are already known; they come before those of the order.

    Returns:
        The series, with warnings about irregular steps, shifted slices, or a single slice.
    """
    slices = sort_along_normal(headers)
    z_mm = project_on_normal(slices)
    step_issues = _step_issues(slices)
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
        is_regular=not step_issues,
        issues=(*issues, *step_issues, *_single_slice_issues(slices)),
    )


def without(series: Series, problems: Mapping[SliceHeader, str]) -> Series:
    """`series` without its undecodable slices; `problems` says in one sentence what is wrong
    with each.

    Spacing, tilt and the issues of the order are derived anew, an INCOMPLETE issue is added, and
    the slices are recorded in `lost`.
    """
    remaining = [header for header in series.headers if header not in problems]
    other_issues = tuple(issue for issue in series.issues if issue.code not in _ORDER_ISSUES)
    issues = (*other_issues, incomplete(list(problems.values())))
    lost = [
        DroppedSlice(
            header.file, header.frame, header.sop_uid, header.position_mm, IssueCode.UNDECODABLE
        )
        for header in problems
    ]
    shorter = order(remaining, series.volume_id, issues)
    return replace(shorter, lost=(*series.lost, *lost))


def incomplete(problems: Sequence[str]) -> Issue:
    """The warning of a series that goes on without some slices; each of `problems` names one."""
    more = f"; and {pluralize(len(problems) - 1, 'more slice')}" if len(problems) > 1 else ""
    return Issue(IssueCode.INCOMPLETE, f"left out: {problems[0]}{more}")


def _tilt_deg(slices: Sequence[SliceHeader]) -> float | None:
    """Angle in degrees between the direction of the stack and the slice normal."""
    if len(slices) == 1:
        return None
    unit_normal = slice_normal(slices)
    stack_mm = np.subtract(slices[-1].position_mm, slices[0].position_mm)
    along = stack_mm @ unit_normal
    across = np.linalg.norm(stack_mm - along * unit_normal)
    return float(np.degrees(np.arctan2(across, along)))


def _step_issues(slices: Sequence[SliceHeader]) -> list[Issue]:
    """Warnings about the worst step along the normal and the worst shift within the slice plane."""
    if len(slices) < 3:
        return []
    return [*_spacing_issues(slices), *_shift_issues(slices)]


def _spacing_issues(slices: Sequence[SliceHeader]) -> list[Issue]:
    irregular = irregular_steps(slices)
    if not len(irregular):
        return []
    lower = irregular[0]
    steps_mm = np.diff(project_on_normal(slices))
    apart = f"{steps_mm[lower]:.2f} mm apart where {np.median(steps_mm):.2f} mm are expected"
    more = _count_more(irregular, "irregular step")
    detail = f"{_pair_names(slices, lower)} lie {apart}{more}"
    return [Issue(IssueCode.IRREGULAR_SPACING, detail)]


def _shift_issues(slices: Sequence[SliceHeader]) -> list[Issue]:
    shifts_mm = _in_plane_shifts(slices)
    shifted = out_of_tolerance(shifts_mm, np.diff(project_on_normal(slices)))
    if not len(shifted):
        return []
    lower = shifted[0]
    shift = f"{_pair_names(slices, lower)} are shifted in their plane by {shifts_mm[lower]:.2f} mm"
    return [Issue(IssueCode.SHIFTED_SLICE, shift + _count_more(shifted, "shifted step"))]


def _single_slice_issues(slices: Sequence[SliceHeader]) -> list[Issue]:
    if len(slices) > 1:
        return []
    detail = f"{slices[0].name} is the only slice of its series"
    return [Issue(IssueCode.SINGLE_SLICE, detail)]


def _in_plane_shifts(slices: Sequence[SliceHeader]) -> np.ndarray:
    """How far each step (Z - 1,) leaves the direction of the stack within the slice plane, in mm.

    The direction of the stack is the median over its steps, so a tilted stack is not shifted.
    """
    steps_mm = np.diff(positions_mm(slices), axis=0)  # (Z - 1, 3)
    rises_mm = np.diff(project_on_normal(slices))[:, None]  # (Z - 1, 1)
    direction = np.median(steps_mm / rises_mm, axis=0)  # (3,)
    shifts_mm: np.ndarray = np.linalg.norm(steps_mm - rises_mm * direction, axis=1)
    return shifts_mm


def _pair_names(slices: Sequence[SliceHeader], lower: int) -> str:
    return f"{slices[lower].name} and {slices[lower + 1].name}"


def _count_more(indices: np.ndarray, what: str) -> str:
    """How many there are beside the one that is described."""
    return f"; {pluralize(len(indices) - 1, f'more {what}')}" if len(indices) > 1 else ""
