"""Orphans: volumes without a SeriesInstanceUID that fit a series which has one.

A slice whose UID was lost becomes a volume by itself, and someone who reads the series that it came
from would not look for it there. So both volumes get an issue that names the other one.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ich3d.core.issues import IssueCode
from ich3d.core.types import Issue, Series
from ich3d.dicom.assembly.stacks import geometry_differences
from ich3d.dicom.geometry import (
    SAME_POSITION_MM,
    STEP_TOLERANCE,
    irregular_steps,
    project_on_normal,
    sort_along_normal,
)
from ich3d.dicom.headers.elements import tag_text


def cross_reference_orphans(series: Sequence[Series]) -> tuple[Series, ...]:
    """Add an issue to each orphan and to each series that it fits; the order stays."""
    linked = list(series)
    orphans = [index for index, volume in enumerate(series) if _has_no_series_uid(volume)]
    parents = [index for index, volume in enumerate(series) if not _has_no_series_uid(volume)]
    for orphan_index in orphans:
        for parent_index in parents:
            orphan, parent = linked[orphan_index], linked[parent_index]
            if _fits(orphan, parent):
                linked[orphan_index] = _add_issue(orphan, _orphan_issue(orphan, parent))
                linked[parent_index] = _add_issue(parent, _parent_issue(orphan))
    return tuple(linked)


def _has_no_series_uid(series: Series) -> bool:
    return any(issue.code is IssueCode.NO_SERIES_UID for issue in series.issues)


def _fits(orphan: Series, parent: Series) -> bool:
    """Whether the orphan fills gaps of the parent, or continues it at an end, at the same step."""
    first, parent_first = orphan.headers[0], parent.headers[0]
    if first.patient_id != parent_first.patient_id or parent.spacing_mm is None:
        return False
    if any(geometry_differences(first, parent_first).values()):
        return False

    together = sort_along_normal((*parent.headers, *orphan.headers))
    steps_mm = np.diff(project_on_normal(together))
    shares_no_position = steps_mm.min() >= SAME_POSITION_MM
    step_change_mm = abs(np.median(steps_mm) - parent.spacing_mm)
    keeps_step = step_change_mm <= STEP_TOLERANCE * parent.spacing_mm
    adds_no_gap = len(irregular_steps(together)) <= len(irregular_steps(parent.headers))
    return bool(shares_no_position and keeps_step and adds_no_gap)


def _orphan_issue(orphan: Series, parent: Series) -> Issue:
    place = f"study, geometry and place are those of a slice of {parent.volume_id}"
    return Issue(IssueCode.NO_SERIES_UID, f"{orphan.headers[0].name}: {place}")


def _parent_issue(orphan: Series) -> Issue:
    names = ", ".join(orphan.paths)
    missing = f"{tag_text('SeriesInstanceUID')} is missing, all else fits this series"
    return Issue(IssueCode.INCOMPLETE, f"left out: {names}: {missing}")


def _add_issue(series: Series, issue: Issue) -> Series:
    return replace(series, issues=(*series.issues, issue))
