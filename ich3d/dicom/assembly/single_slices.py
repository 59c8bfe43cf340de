"""Single slices that fit one series: some exports give each slice a SeriesInstanceUID."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from ich3d.core.issues import IssueCode
from ich3d.core.types import Issue, Series, SliceHeader
from ich3d.dicom.assembly.ordering import order
from ich3d.dicom.assembly.splitting import derive_series_uid
from ich3d.dicom.assembly.stacks import Compare, Stack, group_by_geometry, split_into_stacks
from ich3d.dicom.assembly.sweeps import MIN_CLEAN_SLICES
from ich3d.dicom.geometry import is_even_but_for_gaps
from ich3d.dicom.headers.elements import tag_text


def find_single_slices(
    all_series: Sequence[Series], compare: Compare, join: bool
) -> tuple[Series, ...]:
    """Warn of single slices of one study, geometry and frame of reference that fit one series.

    Args:
        all_series: the volumes of all series.
        compare: how two slices at one position are compared.
        join: whether such slices become one series.

    Returns:
        All series. Those of a single slice that fits others have an issue, or stand joined at the
        end, under a SeriesInstanceUID that is derived from their slices.
    """
    issue_of: dict[SliceHeader, Issue] = {}
    joined: list[Series] = []
    for stack in _fitting_stacks(all_series, compare):
        issue = _issue(stack, join)
        issue_of |= dict.fromkeys(stack.slices, issue)
        uid = derive_series_uid(stack.slices)
        joined.append(replace(order(stack.slices, uid, (issue,)), series_uid=uid))

    kept = []
    for series in all_series:
        fitting = issue_of.get(series.headers[0]) if len(series) == 1 else None
        if fitting is None:
            kept.append(series)
        elif not join:
            kept.append(replace(series, issues=(*series.issues, fitting)))
    return (*kept, *joined) if join else tuple(kept)


def _fitting_stacks(all_series: Sequence[Series], compare: Compare) -> list[Stack]:
    """The stacks of three slices and more that the single slices make, regular but for gaps."""
    groups: dict[tuple[str, ...], list[SliceHeader]] = defaultdict(list)
    for series in all_series:
        header = series.headers[0]
        if len(series) == 1 and header.series_uid and header.study_uid:
            key = (header.patient_id, header.study_uid, header.frame_of_reference)
            groups[key].append(header)

    fitting: list[Stack] = []
    for headers in groups.values():
        for same_geometry in group_by_geometry(headers):
            stacks = split_into_stacks(same_geometry, compare)
            if not isinstance(stacks, Issue):
                fitting += [stack for stack in stacks if _is_fitting(stack)]
    return fitting


def _is_fitting(stack: Stack) -> bool:
    """Whether the slices fit one series, of which others may be missing."""
    is_long = len(stack.slices) >= MIN_CLEAN_SLICES and stack.is_compared
    return stack.is_clean or (is_long and is_even_but_for_gaps(stack.slices))


def _issue(stack: Stack, join: bool) -> Issue:
    """The warning about single slices, which says what to do."""
    first, last = stack.slices[0].name, stack.slices[-1].name
    slices = f"{len(stack.slices)} single slices, from {first} to {last}"
    same = "share study, geometry and frame of reference and fit one series"
    own = f"each has a {tag_text('SeriesInstanceUID')} of its own"
    action = "they were joined" if join else "predict, explain and convert join them with --lenient"
    return Issue(IssueCode.UID_PER_SLICE, f"{slices}, {same}, but {own}: {action}")
