"""Split slices of equal geometry into stacks with one slice at each position.

Two slices at one position are either copies, of which one is removed, or belong to different sweeps
over the same part of the body, such as two reconstruction kernels. Those are told apart by an
attribute in which the sweeps differ.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import groupby
from typing import Final

import numpy as np

from ich3d.core.issues import IssueCode
from ich3d.core.types import Issue, SliceHeader
from ich3d.dicom.geometry import (
    SAME_POSITION_MM,
    irregular_steps,
    project_on_normal,
    sort_along_normal,
)
from ich3d.dicom.headers.elements import tag_text
from ich3d.dicom.pixels.stored import read_slice

MIN_CLEAN_SLICES: Final = 3
"""Fewest slices of a volume where a SeriesInstanceUID holds more than one."""

SPACING_TOLERANCE: Final = 1e-3
"""Largest relative difference of PixelSpacing within one volume."""

ORIENTATION_TOLERANCE: Final = 1e-3
"""Largest difference of one ImageOrientationPatient component within one volume."""

SWEEP_ATTRIBUTES: Final[dict[str, Callable[[SliceHeader], str]]] = {
    "ConvolutionKernel": lambda header: header.kernel,
    "AcquisitionNumber": lambda header: header.acquisition,
    "ImageType": lambda header: header.image_type,
}
"""Attributes in which sweeps over the same positions may differ, in the order in which they are
tried. Another value alone does not split a stack: one sweep of a head may carry 21
AcquisitionNumbers."""


class Match(Enum):
    """Whether two slices at one height are the same slice."""

    SAME = auto()
    DIFFERENT = auto()
    NOT_COMPARED = auto()


Compare = Callable[[SliceHeader, SliceHeader], Match | Issue]
"""Compares two slices at one height; an issue where the pixels of one cannot be decoded."""


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
        """Whether it may be one of several volumes: long enough, regular, all compared."""
        is_long = len(self.slices) >= MIN_CLEAN_SLICES
        return self.is_compared and is_long and not len(irregular_steps(self.slices))


def split_into_stacks(headers: Sequence[SliceHeader], compare: Compare) -> list[Stack] | Issue:
    """The stacks of slices that agree in geometry, or why there are none.

    All slices make one stack, unless different slices share a position or a sweep attribute
    alternates along the stack. Then the first attribute that splits them into clean stacks does so;
    where none does, they stay one stack, or cannot be used where positions are shared.
    """
    whole = _single_stack(headers, compare)
    if isinstance(whole, Stack) and whole.is_compared and not alternating(whole.slices):
        return [whole]
    for attribute in SWEEP_ATTRIBUTES.values():
        stacks = _split_by(attribute, headers, compare)
        if len(stacks) > 1 and all(stack.is_clean for stack in stacks):
            return stacks
    return whole if isinstance(whole, Issue) else [whole]


def alternating(slices: Sequence[SliceHeader]) -> list[str]:
    """Keywords of the sweep attributes that return to an earlier value along the sorted slices."""
    keywords = []
    for keyword, attribute in SWEEP_ATTRIBUTES.items():
        n_runs = len(list(groupby(slices, key=attribute)))
        n_values = len({attribute(header) for header in slices})
        if n_runs > n_values:
            keywords.append(keyword)
    return keywords


def geometry_differences(a: SliceHeader, b: SliceHeader) -> dict[str, bool]:
    """For each attribute that all slices of a volume share: whether `a` and `b` differ in it."""
    spacings = zip(a.pixel_spacing_mm, b.pixel_spacing_mm, strict=True)
    cosines = zip((*a.row_dir, *a.col_dir), (*b.row_dir, *b.col_dir), strict=True)
    return {
        "StudyInstanceUID": a.study_uid != b.study_uid,
        "Rows": a.rows != b.rows,
        "Columns": a.columns != b.columns,
        "PixelSpacing": any(abs(p / q - 1) > SPACING_TOLERANCE for p, q in spacings),
        "ImageOrientationPatient": any(abs(p - q) > ORIENTATION_TOLERANCE for p, q in cosines),
        "FrameType": a.frame_type != b.frame_type,
    }


def compare_pixels(a: SliceHeader, b: SliceHeader) -> Match | Issue:
    """Compare position, rescale and stored values of two slices; decodes both."""
    if not _same_position(a, b) or (a.slope, a.intercept) != (b.slope, b.intercept):
        return Match.DIFFERENT
    stored_a, stored_b = read_slice(a), read_slice(b)
    if isinstance(stored_a, Issue):
        return stored_a
    if isinstance(stored_b, Issue):
        return stored_b
    return Match.SAME if np.array_equal(stored_a.values, stored_b.values) else Match.DIFFERENT


def compare_positions(a: SliceHeader, b: SliceHeader) -> Match | Issue:
    """Compare positions alone, where pixels are not to be read."""
    return Match.NOT_COMPARED if _same_position(a, b) else Match.DIFFERENT


def _same_position(a: SliceHeader, b: SliceHeader) -> bool:
    apart_mm = np.abs(np.subtract(a.position_mm, b.position_mm))
    return not np.any(apart_mm >= SAME_POSITION_MM)


def _split_by(
    attribute: Callable[[SliceHeader], str], headers: Sequence[SliceHeader], compare: Compare
) -> list[Stack]:
    """The stacks of each value of `attribute`, which may be split further.

    Empty where all slices have one value, or where the slices of a value make no stack.
    """
    by_value: dict[str, list[SliceHeader]] = defaultdict(list)
    for header in headers:
        by_value[attribute(header)].append(header)
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
    """All slices as one stack without duplicates; an issue where two of a position differ."""
    kept: list[SliceHeader] = []
    duplicates: list[DuplicateSlice] = []
    last_height = -np.inf

    # Of copies, the one with the smallest UID is kept: file names do not matter.
    by_uid = sorted(headers, key=lambda header: (header.sop_uid, header.frame or 0))
    slices = sort_along_normal(by_uid)
    for header, height in zip(slices, project_on_normal(slices), strict=True):
        if height - last_height >= SAME_POSITION_MM:
            kept.append(header)
            last_height = height
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
    height = f"lie at one height by {tag_text('ImagePositionPatient')} but differ"
    return Issue(IssueCode.SAME_POSITION, f"{a.name} and {b.name} {height}")
