"""Headers to volumes: which slices belong together, which are copies, and what may not stand together."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from ich3d.core.codes import Code
from ich3d.core.types import LeftOut, Reason, Rejected, Series, SliceHeader
from ich3d.dicom.elements import tag_text
from ich3d.dicom.header import Flawed
from ich3d.dicom.pixels import read_stored
from ich3d.dicom.series import SAME_PLACE_MM, order, project, relative
from ich3d.dicom.write import uid

SPACING_TOLERANCE: Final = 1e-3
"""Largest relative difference of PixelSpacing within one volume."""

ORIENTATION_TOLERANCE: Final = 1e-3
"""Largest difference of one ImageOrientationPatient component within one volume."""

CLEAN_STACK: Final = 3
"""Fewest slices that may stand beside another volume of the same SeriesInstanceUID."""

_NAMED: Final = 5


@dataclass(frozen=True)
class Sorted:
    """What became of a set of files."""

    series: tuple[Series, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    rejected: tuple[Rejected, ...] = ()


def sort_out(found: Sequence[SliceHeader | Flawed], root: Path) -> Sorted:
    """Every file of `found` in a series, left out as a copy, or rejected; names are relative to `root`.

    One SeriesInstanceUID is one series; files that name none are one series a folder.
    """
    files: dict[str | Path, list[SliceHeader | Flawed]] = defaultdict(list)
    alone = []
    for item in found:
        if item.series_uid is None:
            assert isinstance(item, Flawed)
            name = relative(item.path, root)
            alone.append(Rejected(name, item.code, item.detail, (name,)))
        else:
            files[item.series_uid or item.path.parent].append(item)
    results = [_one_series(_by_name(items), root) for items in files.values()]
    return Sorted(
        tuple(series for result in results for series in result.series),
        tuple(left_out for result in results for left_out in result.left_out),
        (*alone, *(rejected for result in results for rejected in result.rejected)),
    )


def _one_series(items: list[SliceHeader | Flawed], root: Path) -> Sorted:
    flawed = [item for item in items if isinstance(item, Flawed)]
    headers = [item for item in items if isinstance(item, SliceHeader)]
    if flawed:
        more = f"; {len(flawed) - 1} more files are flawed" if len(flawed) > 1 else ""
        return _reject(items, root, flawed[0].code, flawed[0].detail + more)
    if len({header.patient_id for header in headers}) > 1:
        return _reject(items, root, Code.MIXED_PATIENTS, _two_patients(headers, root))
    kept: list[list[SliceHeader]] = []
    copies: list[LeftOut] = []
    for group in _groups(headers):
        match _without_copies(group, root):
            case Reason(code, detail):
                return _reject(items, root, code, detail)
            case (slices, left_out):
                kept.append(slices)
                copies.extend(left_out)
    volumes = _volumes(kept, root)
    if len(volumes) > 1 and not all(len(v) >= CLEAN_STACK and v.is_regular for v in volumes):
        return _reject(items, root, Code.MIXED_GEOMETRY, _odd_slices(kept, root))
    return Sorted(volumes, tuple(copies))


def _volumes(groups: list[list[SliceHeader]], root: Path) -> tuple[Series, ...]:
    """The ordered series of each group, numbered by lowest position where there are several."""
    groups = sorted(groups, key=lambda group: (float(project(group).min()), group[0].sop_uid))
    first = groups[0][0]
    reasons: tuple[Reason, ...] = ()
    series_uid = first.series_uid
    if not series_uid:
        series_uid = uid("series", *sorted(header.sop_uid for group in groups for header in group))
        folder = relative(first.path.parent, root)
        reasons = (
            Reason(
                Code.NO_SERIES_UID,
                f"{folder}: {tag_text('SeriesInstanceUID')} is missing, the folder is one series",
            ),
        )
        groups = [[replace(header, series_uid=series_uid) for header in group] for group in groups]
    if len(groups) == 1:
        return (order(groups[0], series_uid, root, reasons),)
    several = Reason(
        Code.SEVERAL_VOLUMES,
        f"{tag_text('SeriesInstanceUID')} holds {len(groups)} volumes of different geometry",
    )
    return tuple(
        order(group, f"{series_uid}-{number}", root, (*reasons, several))
        for number, group in enumerate(groups, start=1)
    )


def _groups(headers: list[SliceHeader]) -> list[list[SliceHeader]]:
    """Headers of equal geometry together. The sorting keeps groups free of file order."""
    groups: list[list[SliceHeader]] = []
    for header in sorted(headers, key=lambda h: (h.sop_uid, h.position_mm)):
        for group in groups:
            if _difference(group[0], header) is None:
                group.append(header)
                break
        else:
            groups.append([header])
    return groups


def _difference(a: SliceHeader, b: SliceHeader) -> str | None:
    """The first attribute that keeps two slices out of one volume."""
    spacing = np.divide(a.pixel_spacing_mm, b.pixel_spacing_mm) - 1
    turn = np.subtract((*a.row_dir, *a.col_dir), (*b.row_dir, *b.col_dir))
    different = {
        "StudyInstanceUID": a.study_uid != b.study_uid,
        "Rows": a.rows != b.rows,
        "Columns": a.columns != b.columns,
        "PixelSpacing": bool(np.any(np.abs(spacing) > SPACING_TOLERANCE)),
        "ImageOrientationPatient": bool(np.any(np.abs(turn) > ORIENTATION_TOLERANCE)),
    }
    return next((keyword for keyword, differs in different.items() if differs), None)


def _without_copies(group: list[SliceHeader], root: Path) -> tuple[list[SliceHeader], list[LeftOut]] | Reason:
    """One slice a position, and the exact copies left out; or two different slices at one position."""
    heights = project(group)
    kept: list[SliceHeader] = []
    copies = []
    height = -np.inf
    for i in np.lexsort((np.arange(len(group)), np.round(heights / SAME_PLACE_MM))):
        header = group[i]
        if heights[i] - height >= SAME_PLACE_MM:
            kept.append(header)
            height = heights[i]
            continue
        name, kept_name = relative(header.path, root), relative(kept[-1].path, root)
        same = _same_slice(kept[-1], header)
        if isinstance(same, Reason):
            return same
        if not same:
            return Reason(
                Code.SAME_POSITION,
                f"{kept_name} and {name} have one {tag_text('ImagePositionPatient')} but differ",
            )
        copies.append(LeftOut((name,), Code.DUPLICATE, f"{name}: a copy of {kept_name}"))
    return kept, copies


def _same_slice(a: SliceHeader, b: SliceHeader) -> bool | Reason:
    """Whether two slices at one height are the same place, rescale and pixels."""
    if np.any(np.abs(np.subtract(a.position_mm, b.position_mm)) >= SAME_PLACE_MM):
        return False
    if (a.slope, a.intercept) != (b.slope, b.intercept):
        return False
    one, other = read_stored(a), read_stored(b)
    if isinstance(one, Reason):
        return one
    if isinstance(other, Reason):
        return other
    return np.array_equal(one.values, other.values)


def _two_patients(headers: list[SliceHeader], root: Path) -> str:
    other = next(header for header in headers if header.patient_id != headers[0].patient_id)
    names = f"{relative(headers[0].path, root)} and {relative(other.path, root)}"
    return f"{names} share {tag_text('SeriesInstanceUID')} but differ in {tag_text('PatientID')}"


def _odd_slices(groups: list[list[SliceHeader]], root: Path) -> str:
    """Names the slices outside the largest group, and what sets them apart."""
    largest, *others = sorted(groups, key=len, reverse=True)
    odd = [header for group in others for header in group]
    names = sorted(relative(header.path, root) for header in odd)
    named = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    keyword = _difference(largest[0], odd[0])
    assert keyword is not None
    return f"{named}: {tag_text(keyword)} differs from that of {len(largest)} other slices of the series"


def _reject(items: Sequence[SliceHeader | Flawed], root: Path, code: Code, detail: str) -> Sorted:
    subject = items[0].series_uid or relative(items[0].path.parent, root)
    paths = tuple(relative(item.path, root) for item in items)
    return Sorted(rejected=(Rejected(subject, code, detail, paths),))


def _by_name(items: list[SliceHeader | Flawed]) -> list[SliceHeader | Flawed]:
    return sorted(items, key=lambda item: item.path.as_posix())
