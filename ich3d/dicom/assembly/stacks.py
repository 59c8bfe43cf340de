"""Split slices of equal geometry into stacks with one slice at each position.

Two slices at one position are copies of each other, or they belong to two sweeps over the same part
of the body, for example with two reconstruction kernels. Of copies, one is removed. Sweeps are
separated by an attribute in which they differ.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import numpy as np

from ich3d.core.issues import IssueCode
from ich3d.core.types import Issue, SliceHeader
from ich3d.dicom.assembly.sweeps import (
    MIN_CLEAN_SLICES,
    SWEEP_ATTRIBUTES,
    mixed_attribute,
    separating,
    sweep_labels,
)
from ich3d.dicom.geometry import (
    SAME_POSITION_MM,
    common_plane,
    is_evenly_stacked,
    project_on_normal,
    sort_along_normal,
)
from ich3d.dicom.headers.elements import tag_text
from ich3d.dicom.pixels.stored import read_slice

SPACING_TOLERANCE: Final = 1e-3
"""Largest relative difference of PixelSpacing within one volume."""

ORIENTATION_NOISE_DEG: Final = 0.2
"""Largest angle of the orientation of one slice to the common one of its volume, in degrees."""

_NOISE_LIMIT_DEG: Final = ORIENTATION_NOISE_DEG + 1e-3
"""The same of directions that were rounded to six decimals."""

_ORIENTATION_ROUNDING: Final = 1e-3
"""Largest difference of one ImageOrientationPatient component that is mere rounding."""


class Match(Enum):
    """Whether two slices at one height are copies of each other.

    NOT_COMPARED means that their positions are the same and their pixels were not read.
    """

    SAME = auto()
    DIFFERENT = auto()
    NOT_COMPARED = auto()


Compare = Callable[[SliceHeader, SliceHeader], Match | Issue]
"""Compares two slices at one height. Returns an issue where pixels cannot be decoded."""


@dataclass(frozen=True)
class DuplicateSlice:
    """A slice that was removed because another one is at its position.

    Attributes:
        header: the removed slice.
        kept: the slice that is used instead.
        code: DUPLICATE where both are the same, SAME_POSITION where pixels were not compared.
    """

    header: SliceHeader
    kept: SliceHeader
    code: IssueCode


@dataclass(frozen=True)
class Stack:
    """Slices in ascending order, one at each position, and the duplicates that were removed."""

    slices: tuple[SliceHeader, ...]
    duplicates: tuple[DuplicateSlice, ...] = ()

    @property
    def is_compared(self) -> bool:
        """Whether all duplicates are known to be copies."""
        return all(duplicate.code is IssueCode.DUPLICATE for duplicate in self.duplicates)

    @property
    def is_clean(self) -> bool:
        """Whether it may be one of several volumes: long enough, regular, duplicates compared."""
        if not self.is_compared or len(self.slices) < MIN_CLEAN_SLICES:
            return False
        return is_evenly_stacked(self.slices)


def split_into_stacks(headers: Sequence[SliceHeader], compare: Compare) -> list[Stack] | Issue:
    """Split slices that agree in geometry into stacks with one slice at each position.

    All slices make one stack, unless different slices share a position or an attribute speaks for
    several sweeps (`sweeps.separating`). Then they are split by the first sweep attribute whose
    values give clean stacks. Where no attribute does so, slices stay one stack only if no more than
    single ones have another value.

    Args:
        headers: slices of equal geometry, in any order.
        compare: how two slices at one position are compared.

    Returns:
        The stacks, or an issue where different slices share a position, or two sweeps are mixed,
        and they cannot be separated.
    """
    whole = _single_stack(headers, compare)
    if isinstance(whole, Stack) and whole.is_compared and not separating(whole.slices):
        return [whole]

    for keyword in SWEEP_ATTRIBUTES:
        stacks = _split_by(keyword, headers, compare)
        if len(stacks) > 1 and all(stack.is_clean for stack in stacks):
            return stacks
    if isinstance(whole, Issue) and whole.code is not IssueCode.SAME_POSITION:
        return whole
    slices = sort_along_normal(headers)
    mixed = mixed_attribute(slices)
    if mixed is not None:
        return _mixed_sweeps_issue(mixed, slices)
    return whole if isinstance(whole, Issue) else [whole]


def group_by_geometry(headers: Iterable[SliceHeader]) -> list[list[SliceHeader]]:
    """Group slices of equal geometry; the order of files has no influence on the result."""
    in_order = sorted(headers, key=lambda header: (header.sop_uid, header.position_mm))
    groups: list[list[SliceHeader]] = []
    for group in _groups(in_order, have_same_geometry):
        if common_plane(group).noise_deg <= _NOISE_LIMIT_DEG:
            groups.append(group)
        else:  # two orientations, each with little noise
            groups += _groups(group, _have_same_rounded_orientation)
    return groups


def have_same_geometry(a: SliceHeader, b: SliceHeader) -> bool:
    """Whether `a` and `b` agree in all attributes of `geometry_differences`."""
    return not any(geometry_differences(a, b).values())


def _groups(
    headers: Iterable[SliceHeader], is_same: Callable[[SliceHeader, SliceHeader], bool]
) -> list[list[SliceHeader]]:
    """Each slice with the first earlier one that it is the same as."""
    groups: list[list[SliceHeader]] = []
    for header in headers:
        fitting = next((group for group in groups if is_same(group[0], header)), None)
        if fitting is None:
            groups.append([header])
        else:
            fitting.append(header)
    return groups


def _have_same_rounded_orientation(a: SliceHeader, b: SliceHeader) -> bool:
    cosines = zip((*a.row_dir, *a.col_dir), (*b.row_dir, *b.col_dir), strict=True)
    return all(abs(p - q) <= _ORIENTATION_ROUNDING for p, q in cosines)


def geometry_differences(a: SliceHeader, b: SliceHeader) -> dict[str, bool]:
    """Whether `a` and `b` differ in each attribute that all slices of a volume must share."""
    spacings = zip(a.pixel_spacing_mm, b.pixel_spacing_mm, strict=True)
    chord = max(math.dist(a.row_dir, b.row_dir), math.dist(a.col_dir, b.col_dir))
    angle_deg = math.degrees(chord)  # of a small angle
    return {
        "StudyInstanceUID": a.study_uid != b.study_uid,
        "Rows": a.rows != b.rows,
        "Columns": a.columns != b.columns,
        "PixelSpacing": any(abs(p / q - 1) > SPACING_TOLERANCE for p, q in spacings),
        "ImageOrientationPatient": angle_deg > 2 * _NOISE_LIMIT_DEG,
        "FrameType": a.frame_type != b.frame_type,
    }


def compare_pixels(a: SliceHeader, b: SliceHeader) -> Match | Issue:
    """Compare the position, rescale and stored values of two slices; decodes both."""
    if not _same_position(a, b) or (a.slope, a.intercept) != (b.slope, b.intercept):
        return Match.DIFFERENT
    stored_a, stored_b = read_slice(a), read_slice(b)
    if isinstance(stored_a, Issue):
        return stored_a
    if isinstance(stored_b, Issue):
        return stored_b
    return Match.SAME if np.array_equal(stored_a.values, stored_b.values) else Match.DIFFERENT


def compare_positions(a: SliceHeader, b: SliceHeader) -> Match | Issue:
    """Compare only the positions of two slices; reads no pixels."""
    return Match.NOT_COMPARED if _same_position(a, b) else Match.DIFFERENT


def _same_position(a: SliceHeader, b: SliceHeader) -> bool:
    apart_mm = np.abs(np.subtract(a.position_mm, b.position_mm))
    return not np.any(apart_mm >= SAME_POSITION_MM)


def _split_by(keyword: str, headers: Sequence[SliceHeader], compare: Compare) -> list[Stack]:
    """Split by the values of a sweep attribute, and each part by further ones where necessary.

    Returns the stacks of all parts. The list is empty where all slices have the same value, or
    where one of the parts cannot be made into stacks.
    """
    by_value: dict[str, list[SliceHeader]] = defaultdict(list)
    for header, label in zip(headers, sweep_labels(keyword, headers), strict=True):
        by_value[label].append(header)
    if len(by_value) == 1:
        return []

    stacks: list[Stack] = []
    for slices in by_value.values():
        inner_stacks = split_into_stacks(slices, compare)
        if isinstance(inner_stacks, Issue):
            return []
        stacks += inner_stacks
    return stacks


def _single_stack(headers: Sequence[SliceHeader], compare: Compare) -> Stack | Issue:
    """All slices as one stack without duplicates; an issue where slices at one position differ."""
    kept: list[SliceHeader] = []
    duplicates: list[DuplicateSlice] = []
    last_height_mm = -np.inf

    # The sort along the normal keeps the order of equal heights, so of copies the one with the
    # smallest UID is kept, whatever the names of the files.
    by_uid = sorted(headers, key=lambda header: (header.sop_uid, header.frame or 0))
    slices = sort_along_normal(by_uid)
    for header, height_mm in zip(slices, project_on_normal(slices), strict=True):
        if height_mm - last_height_mm >= SAME_POSITION_MM:
            kept.append(header)
            last_height_mm = height_mm
            continue

        match compare(kept[-1], header):
            case Issue() as issue:
                return issue
            case Match.DIFFERENT:
                return _same_position_issue(kept[-1], header)
            case Match.SAME:
                duplicates.append(DuplicateSlice(header, kept[-1], IssueCode.DUPLICATE))
            case Match.NOT_COMPARED:
                duplicates.append(DuplicateSlice(header, kept[-1], IssueCode.SAME_POSITION))
    return Stack(tuple(kept), tuple(duplicates))


def _same_position_issue(a: SliceHeader, b: SliceHeader) -> Issue:
    difference = f"lie at one height by {tag_text('ImagePositionPatient')} but differ"
    return Issue(IssueCode.SAME_POSITION, f"{a.name} and {b.name} {difference}")


def _mixed_sweeps_issue(keyword: str, slices: Sequence[SliceHeader]) -> Issue:
    """Two sweeps that cannot be separated; the message names two of their files."""
    first = slices[0]
    labels = sweep_labels(keyword, slices)
    other = next(header for header, label in zip(slices, labels, strict=True) if label != labels[0])
    sweeps = f"{first.name} and {other.name} differ in {tag_text(keyword)}: slices of two sweeps"
    detail = f"{sweeps}, which leave no regular stacks of at least {MIN_CLEAN_SLICES} slices each"
    return Issue(IssueCode.MIXED_SWEEPS, detail)
