"""Slices of one geometry to stacks of one slice a position: copies are taken out, sweeps that overlap
are parted."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np

from ich3d.core.issues import IssueCode
from ich3d.core.types import Reason, SliceHeader
from ich3d.dicom.geometry import SAME_PLACE_MM, ascending, irregular_steps, project
from ich3d.dicom.headers.elements import tag_text
from ich3d.dicom.pixels.stored import read_stored

CLEAN_STACK: Final = 3
"""Fewest slices that may stand beside another volume of the same SeriesInstanceUID."""

SPACING_TOLERANCE: Final = 1e-3
"""Largest relative difference of PixelSpacing within one volume."""

ORIENTATION_TOLERANCE: Final = 1e-3
"""Largest difference of one ImageOrientationPatient component within one volume."""

MARKS: Final[dict[str, Callable[[SliceHeader], str]]] = {
    "ConvolutionKernel": lambda header: header.kernel,
    "AcquisitionNumber": lambda header: header.acquisition,
    "ImageType": lambda header: header.image_type,
}
"""What sets sweeps over one place apart. A mark that merely changes along the way parts nothing: one head
sweep may carry 21 AcquisitionNumbers."""

Compare = Callable[[SliceHeader, SliceHeader], bool | Reason | None]
"""Whether two slices at one height are the same; None where that is not judged, a reason where the pixels
of one cannot be had."""


@dataclass(frozen=True)
class DuplicateSlice:
    """A slice that another one of the same position stands for: DUPLICATE where they are the same,
    SAME_POSITION where that was not judged."""

    header: SliceHeader
    kept: SliceHeader
    code: IssueCode


@dataclass(frozen=True)
class Stack:
    """Slices in ascending order, one a position, and the twins that were taken out."""

    slices: tuple[SliceHeader, ...]
    twins: tuple[DuplicateSlice, ...] = ()

    @property
    def is_judged(self) -> bool:
        return all(twin.code is IssueCode.DUPLICATE for twin in self.twins)

    @property
    def is_clean(self) -> bool:
        return (
            self.is_judged
            and len(self.slices) >= CLEAN_STACK
            and not len(irregular_steps(self.slices))
        )


def stacks(headers: Sequence[SliceHeader], compare: Compare) -> list[Stack] | Reason:
    """The stacks of slices that agree in geometry, or why they cannot stand together.

    One stack, unless slices share a position or a mark runs to and fro: then as many as a mark parts
    into clean ones.
    """
    whole = _one_stack(headers, compare)
    if isinstance(whole, Stack) and whole.is_judged and not interleaved(whole.slices):
        return [whole]
    for mark in MARKS.values():
        parted = _parted(headers, mark, compare)
        if len(parted) > 1 and all(stack.is_clean for stack in parted):
            return parted
    return whole if isinstance(whole, Reason) else [whole]


def interleaved(slices: Sequence[SliceHeader]) -> list[str]:
    """The marks that come back after another value has come, going up the slices."""
    return [
        keyword
        for keyword, mark in MARKS.items()
        if len(list(groupby(slices, key=mark))) > len({mark(header) for header in slices})
    ]


def differences(a: SliceHeader, b: SliceHeader) -> dict[str, bool]:
    """Which attributes keep two slices out of one volume."""
    spacing = zip(a.pixel_spacing_mm, b.pixel_spacing_mm, strict=True)
    turn = zip((*a.row_dir, *a.col_dir), (*b.row_dir, *b.col_dir), strict=True)
    return {
        "StudyInstanceUID": a.study_uid != b.study_uid,
        "Rows": a.rows != b.rows,
        "Columns": a.columns != b.columns,
        "PixelSpacing": any(abs(p / q - 1) > SPACING_TOLERANCE for p, q in spacing),
        "ImageOrientationPatient": any(abs(p - q) > ORIENTATION_TOLERANCE for p, q in turn),
        "FrameType": a.frame_type != b.frame_type,
    }


def same_slice(a: SliceHeader, b: SliceHeader) -> bool | Reason | None:
    """Whether two slices at one height are the same place, rescale and pixels."""
    if not _one_place(a, b) or (a.slope, a.intercept) != (b.slope, b.intercept):
        return False
    one, other = read_stored(a), read_stored(b)
    if isinstance(one, Reason):
        return one
    if isinstance(other, Reason):
        return other
    return np.array_equal(one.values, other.values)


def not_judged(a: SliceHeader, b: SliceHeader) -> bool | Reason | None:
    """What is known of two slices at one height where pixels are not read."""
    return None if _one_place(a, b) else False


def _one_place(a: SliceHeader, b: SliceHeader) -> bool:
    return not np.any(np.abs(np.subtract(a.position_mm, b.position_mm)) >= SAME_PLACE_MM)


def _parted(
    headers: Sequence[SliceHeader], mark: Callable[[SliceHeader], str], compare: Compare
) -> list[Stack]:
    """The stacks of each value of `mark`, themselves parted where need be; none where a value has none."""
    parts: dict[str, list[SliceHeader]] = defaultdict(list)
    for header in headers:
        parts[mark(header)].append(header)
    if len(parts) == 1:
        return []
    found: list[Stack] = []
    for part in parts.values():
        inner = stacks(part, compare)
        if isinstance(inner, Reason):
            return []
        found += inner
    return found


def _one_stack(headers: Sequence[SliceHeader], compare: Compare) -> Stack | Reason:
    """All slices in one stack, or two that share a position and differ."""
    kept: list[SliceHeader] = []
    twins = []
    lowest = -np.inf
    slices = ascending(sorted(headers, key=lambda header: (header.sop_uid, header.frame or 0)))
    for header, height in zip(slices, project(slices), strict=True):
        if height - lowest >= SAME_PLACE_MM:
            kept.append(header)
            lowest = height
            continue
        same = compare(kept[-1], header)
        if isinstance(same, Reason):
            return same
        if same is False:
            names = f"{kept[-1].name} and {header.name}"
            detail = f"{names} lie at one height by {tag_text('ImagePositionPatient')} but differ"
            return Reason(IssueCode.SAME_POSITION, detail)
        code = IssueCode.DUPLICATE if same else IssueCode.SAME_POSITION
        twins.append(DuplicateSlice(header, kept[-1], code))
    return Stack(tuple(kept), tuple(twins))
