"""What only pixels tell of an index: slices that do not decode, HU that were clipped or mended."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from ich3d.core.codes import Code
from ich3d.core.types import LeftOut, Reason, Rejected, Series, SliceHeader
from ich3d.dicom.index import Index
from ich3d.dicom.pixels import read_each
from ich3d.dicom.series import relative, without
from ich3d.dicom.volume import load_volume

Progress = Callable[[Iterable[Series]], Iterable[Series]]


def check_pixels(found: Index, progress: Progress = iter) -> Index:
    """`found` once all pixels were read: series that are no volumes rejected, the others with all that is
    odd about them. `progress` wraps the series."""
    series, rejected = [], list(found.rejected)
    for one in progress(found.series):
        volume = load_volume(one)
        if isinstance(volume, Rejected):
            paths = dict.fromkeys(relative(header.path, found.root) for header in one.headers)
            rejected.append(replace(volume, paths=tuple(paths)))
        else:
            series.append(replace(one, reasons=volume.reasons))
    rejected.sort(key=lambda item: (item.subject, item.paths))
    return replace(found, series=tuple(series), rejected=tuple(rejected))


def leave_out_undecodable(found: Index, progress: Progress = iter) -> Index:
    """`found` without the slices whose pixels cannot be had, which each series then tells of. A series of
    which no slice can be had stays as it is, for `check_pixels` to reject."""
    series, left_out = [], list(found.left_out)
    for one in progress(found.series):
        problems = {
            header: stored.detail
            for header, stored in zip(one.headers, read_each(one.headers), strict=True)
            if isinstance(stored, Reason)
        }
        if not problems or len(problems) == len(one):
            series.append(one)
            continue
        series.append(without(one, problems, found.root))
        left_out += _left_out(one, problems, found)
    left_out.sort(key=lambda item: item.paths)
    return replace(found, series=tuple(series), left_out=tuple(left_out))


def _left_out(series: Series, problems: dict[SliceHeader, str], found: Index) -> list[LeftOut]:
    """The files of which no frame is used any more."""
    used = {header.file for header in series.headers if header not in problems}
    gone = {header.file: problem for header, problem in problems.items() if header.file not in used}
    return [
        LeftOut((relative(file.name, found.root),), Code.UNDECODABLE, problem)
        for file, problem in gone.items()
    ]
