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
    ROUNDED_TO_MM,
    common_plane,
    irregular_steps,
    out_of_tolerance,
    positions_mm,
    project_on_normal,
    rounded_step_mm,
    slice_normal,
    slice_thickness_mm,
    sort_along_normal,
    stack_plane,
)
from ich3d.dicom.headers.elements import tag_text

_ORDER_ISSUES: Final = (
    IssueCode.IRREGULAR_SPACING,
    IssueCode.SHIFTED_SLICE,
    IssueCode.SINGLE_SLICE,
    IssueCode.INEXACT_ORIENTATION,
    IssueCode.ROUNDED_POSITIONS,
)
"""The issues that `order` adds; they are found anew when slices are removed."""


WIDEST_STEP_MM: Final = 15.0
"""Slices of a head CT are at most 10 mm apart."""

WIDEST_STEP_OF_TWO: Final = 2.1
"""The same for two slices, in units of their thickness: some protocols leave every second out."""

LEAST_TOLD_NOISE_DEG: Final = 0.06
"""Smaller differences come from rounding to three decimals, in degrees."""

LEAST_TOLD_SKEW_DEG: Final = 0.006
"""Smaller errors come from rounding to four decimals, in degrees."""


def order(headers: Sequence[SliceHeader], volume_id: str, issues: tuple[Issue, ...] = ()) -> Series:
    """Sort the slices of one volume into a `Series`.

    Args:
        headers: slices of one orientation, at different heights, in any order.
        volume_id: name of the volume.
        issues: warnings that are already known. They come first in the series' issues.

    Returns:
        The series, with warnings about irregular or wide steps, shifted slices, rounded positions
        and orientations, or a single slice.
    """
    slices = sort_along_normal(headers)
    z_mm = project_on_normal(slices)  # (Z,)
    spacing_mm = float(np.median(np.diff(z_mm))) if len(slices) > 1 else None
    step_issues = _step_issues(slices, z_mm)
    further_issues = [*_orientation_issues(slices), *_single_slice_issues(slices)]

    step_mm = rounded_step_mm(slices) if step_issues else None
    if step_mm is not None:
        spacing_mm = float(abs(step_mm @ slice_normal(slices)))
        step_issues, further_issues = [], [_rounded_issue(spacing_mm), *further_issues]
    if spacing_mm is not None and not step_issues:
        further_issues = [*_wide_step_issues(slices, spacing_mm), *further_issues]
    first = slices[0]

    return Series(
        volume_id=volume_id,
        series_uid=first.series_uid,
        study_uid=first.study_uid,
        patient_id=first.patient_id,
        headers=slices,
        z_mm=z_mm,
        spacing_mm=spacing_mm,
        tilt_deg=_tilt_deg(slices),
        is_regular=not step_issues,
        issues=(*issues, *step_issues, *further_issues),
    )


def drop_undecodable(series: Series, problems: Mapping[SliceHeader, str]) -> Series:
    """Remove the slices that cannot be decoded from a series.

    Args:
        series: an ordered series.
        problems: the slices to remove, with one sentence each that names the file and the problem.

    Returns:
        The series of the remaining slices, with the removed ones in `dropped` and an INCOMPLETE
        issue. Spacing, tilt and the warnings about steps are those of the remaining slices.
    """
    remaining = [header for header in series.headers if header not in problems]
    other_issues = [issue for issue in series.issues if issue.code not in _ORDER_ISSUES]
    issues = (*other_issues, incomplete_issue(list(problems.values())))
    shorter = order(remaining, series.volume_id, issues)

    dropped = [
        DroppedSlice(
            header.file, header.frame, header.sop_uid, header.position_mm, IssueCode.UNDECODABLE
        )
        for header in problems
    ]
    return replace(shorter, dropped=(*series.dropped, *dropped))


def incomplete_issue(problems: Sequence[str]) -> Issue:
    """The warning about a series that is used without some of its slices.

    `problems` holds one sentence for each missing slice; the first one is quoted.
    """
    more = f"; and {pluralize(len(problems) - 1, 'more slice')}" if len(problems) > 1 else ""
    return Issue(IssueCode.INCOMPLETE, f"left out: {problems[0]}{more}")


def _tilt_deg(slices: Sequence[SliceHeader]) -> float | None:
    """Angle in degrees between the direction of the stack and the slice normal."""
    if len(slices) == 1:
        return None
    unit_normal = slice_normal(slices)  # (3,)
    stack_mm = np.subtract(slices[-1].position_mm, slices[0].position_mm)  # (3,), first to last
    along_mm = stack_mm @ unit_normal
    across_mm = np.linalg.norm(stack_mm - along_mm * unit_normal)
    return float(np.degrees(np.arctan2(across_mm, along_mm)))


def _step_issues(slices: Sequence[SliceHeader], z_mm: np.ndarray) -> list[Issue]:
    """Warnings about the steps between slices, whose heights are `z_mm` (Z,).

    One step says nothing about regularity, so at least 3 slices are needed.
    """
    if len(slices) < 3:
        return []
    return [*_spacing_issues(slices, z_mm), *_shift_issues(slices, z_mm)]


def _spacing_issues(slices: Sequence[SliceHeader], z_mm: np.ndarray) -> list[Issue]:
    """A warning that names the worst irregular step along the normal."""
    irregular = irregular_steps(z_mm)
    if not len(irregular):
        return []

    lower = irregular[0]
    steps_mm = np.diff(z_mm)  # (Z - 1,)
    apart = f"{steps_mm[lower]:.2f} mm apart where {np.median(steps_mm):.2f} mm are expected"
    more = _count_more(irregular, "irregular step")
    detail = f"{_pair_names(slices, lower)} lie {apart}{more}"
    return [Issue(IssueCode.IRREGULAR_SPACING, detail)]


def _shift_issues(slices: Sequence[SliceHeader], z_mm: np.ndarray) -> list[Issue]:
    """A warning that names the worst shift within the slice plane."""
    shifts_mm = _in_plane_shifts(slices, z_mm)  # (Z - 1,)
    shifted = out_of_tolerance(shifts_mm, np.diff(z_mm))
    if not len(shifted):
        return []

    lower = shifted[0]
    shift = f"{_pair_names(slices, lower)} are shifted in their plane by {shifts_mm[lower]:.2f} mm"
    return [Issue(IssueCode.SHIFTED_SLICE, shift + _count_more(shifted, "shifted step"))]


def _wide_step_issues(slices: Sequence[SliceHeader], spacing_mm: float) -> list[Issue]:
    """A warning about slices so far apart that others must be missing between them.

    Two slices have no other step to compare theirs with, only their SliceThickness.
    """
    widest_mm = WIDEST_STEP_MM
    thickness_mm = slice_thickness_mm(slices[0])
    if len(slices) == 2 and thickness_mm is not None:
        widest_mm = min(widest_mm, WIDEST_STEP_OF_TWO * thickness_mm)
    if spacing_mm <= widest_mm:
        return []
    detail = f"{_pair_names(slices, 0)} lie {spacing_mm:.2f} mm apart: slices are missing"
    return [Issue(IssueCode.IRREGULAR_SPACING, detail)]


def _rounded_issue(spacing_mm: float) -> Issue:
    """The note about positions that were rounded."""
    rounded = f"{tag_text('ImagePositionPatient')} is rounded to {ROUNDED_TO_MM} mm"
    detail = f"{rounded}: taken for regular steps of {spacing_mm:.3f} mm"
    return Issue(IssueCode.ROUNDED_POSITIONS, detail)


def _orientation_issues(slices: Sequence[SliceHeader]) -> list[Issue]:
    """A warning about orientations that differ a little, or about directions that were rounded."""
    plane = common_plane(slices)
    if len(slices) > 1:
        plane = stack_plane(slices, np.subtract(slices[-1].position_mm, slices[0].position_mm))
    name = tag_text("ImageOrientationPatient")
    if plane.noise_deg > LEAST_TOLD_NOISE_DEG:
        common = "the median is taken for all slices"
        detail = f"{name} differs by up to {plane.noise_deg:.2f} degrees: {common}"
    elif max(plane.skew_deg, plane.turned_deg) > LEAST_TOLD_SKEW_DEG:
        right_angle = f"rows and columns are {plane.skew_deg:.3f} degrees off a right angle"
        stack = f"{plane.turned_deg:.3f} degrees off that to the stack"
        detail = f"{name}: {right_angle} and {stack}: they were made perpendicular"
    else:
        return []
    return [Issue(IssueCode.INEXACT_ORIENTATION, detail)]


def _single_slice_issues(slices: Sequence[SliceHeader]) -> list[Issue]:
    """A warning about a series of one slice."""
    if len(slices) > 1:
        return []
    detail = f"{slices[0].name} is the only slice of its series"
    return [Issue(IssueCode.SINGLE_SLICE, detail)]


def _in_plane_shifts(slices: Sequence[SliceHeader], z_mm: np.ndarray) -> np.ndarray:
    """Sideways part (Z - 1,) of each step in mm: its distance from the direction of the stack.

    The direction of the stack is the median over its steps. So a tilted gantry, which moves all
    slices sideways by the same amount, is no shift.
    """
    steps_mm = np.diff(positions_mm(slices), axis=0)  # (Z - 1, 3)
    rises_mm = np.diff(z_mm)[:, None]  # (Z - 1, 1)
    direction = np.median(steps_mm / rises_mm, axis=0)  # (3,)
    shifts_mm: np.ndarray = np.linalg.norm(steps_mm - rises_mm * direction, axis=1)
    return shifts_mm


def _pair_names(slices: Sequence[SliceHeader], lower: int) -> str:
    """The names of the slice at index `lower` and of the next one."""
    return f"{slices[lower].name} and {slices[lower + 1].name}"


def _count_more(indices: np.ndarray, what: str) -> str:
    """How many steps there are beside the one that the message names; empty where none."""
    return f"; {pluralize(len(indices) - 1, f'more {what}')}" if len(indices) > 1 else ""
