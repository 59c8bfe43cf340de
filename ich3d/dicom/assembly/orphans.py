"""Orphans: volumes without a SeriesInstanceUID that fit a series which has one.

A slice whose SeriesInstanceUID was removed becomes a volume by itself. A reader of the series from
which it came would not look for it there, so both volumes get an issue that names the other one.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ich3d.core.issues import IssueCode
from ich3d.core.types import Issue, Series
from ich3d.dicom.assembly.stacks import have_same_geometry
from ich3d.dicom.geometry import (
    SAME_POSITION_MM,
    STEP_TOLERANCE,
    irregular_steps,
    project_on_normal,
    sort_along_normal,
)
from ich3d.dicom.headers.elements import tag_text


def cross_reference_orphans(all_series: Sequence[Series]) -> tuple[Series, ...]:
    """Add an issue to each orphan and to each series that it fits. The order of series is kept."""
    linked = list(all_series)
    is_orphan = [_has_no_series_uid(series) for series in all_series]
    orphan_indices = [index for index, orphan in enumerate(is_orphan) if orphan]
    parent_indices = [index for index, orphan in enumerate(is_orphan) if not orphan]

    for orphan_index in orphan_indices:
        for parent_index in parent_indices:
            orphan, parent = linked[orphan_index], linked[parent_index]
            if _fits(orphan, parent):
                linked[orphan_index] = _add_issue(orphan, _orphan_issue(orphan, parent))
                linked[parent_index] = _add_issue(parent, _parent_issue(orphan))
    return tuple(linked)


def _has_no_series_uid(series: Series) -> bool:
    return any(issue.code is IssueCode.NO_SERIES_UID for issue in series.issues)


def _fits(orphan: Series, parent: Series) -> bool:
    """Whether the slices of both make one volume of the parent's study, geometry and spacing.

    The orphan then fills gaps of the parent, or continues it at one end.
    """
    first, parent_first = orphan.headers[0], parent.headers[0]
    if (first.patient_id, first.study_uid) != (parent_first.patient_id, parent_first.study_uid):
        return False
    if parent.spacing_mm is None:
        return False
    if not have_same_geometry(first, parent_first):
        return False

    together = sort_along_normal((*parent.headers, *orphan.headers))
    z_mm = project_on_normal(together)  # (Z,)
    steps_mm = np.diff(z_mm)  # (Z - 1,)

    shares_no_position = steps_mm.min() >= SAME_POSITION_MM
    step_change_mm = abs(np.median(steps_mm) - parent.spacing_mm)
    keeps_step = step_change_mm <= STEP_TOLERANCE * parent.spacing_mm
    adds_no_gap = len(irregular_steps(z_mm)) <= len(irregular_steps(parent.z_mm))
    return bool(shares_no_position and keeps_step and adds_no_gap)


def _orphan_issue(orphan: Series, parent: Series) -> Issue:
    """The orphan's issue, which names the parent."""
    place = f"study, geometry and place are those of a slice of {parent.volume_id}"
    return Issue(IssueCode.NO_SERIES_UID, f"{orphan.headers[0].name}: {place}")


def _parent_issue(orphan: Series) -> Issue:
    """The parent's issue, which names the files of the orphan."""
    names = ", ".join(orphan.paths)
    missing = f"{tag_text('SeriesInstanceUID')} is missing, all else fits this series"
    return Issue(IssueCode.INCOMPLETE, f"left out: {names}: {missing}")


def _add_issue(series: Series, issue: Issue) -> Series:
    return replace(series, issues=(*series.issues, issue))
