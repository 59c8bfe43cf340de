"""What only pixels tell of an index: slices that do not decode, HU that were clipped or mended."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from ich3d.core.issues import IssueCode
from ich3d.core.types import FileRef, LeftOut, Reason, Rejected, Series
from ich3d.dicom.assembly.ordering import without
from ich3d.dicom.index import Index
from ich3d.dicom.pixels.stored import read_each
from ich3d.dicom.volume import load_volume

Progress = Callable[[Iterable[Series]], Iterable[Series]]


def check_pixels(found: Index, progress: Progress = iter) -> Index:
    """`found` once all pixels were read: series that are no volumes rejected, the others with all that is
    odd about them. A volume that cannot be read takes along the others of its SeriesInstanceUID.
    `progress` wraps the series."""
    read: list[Series] = []
    bad: dict[str, Rejected] = {}
    for one in progress(found.series):
        volume = load_volume(one)
        if isinstance(volume, Rejected):
            bad.setdefault(one.series_uid, volume)
        else:
            read.append(replace(one, reasons=volume.reasons))
    series = tuple(one for one in read if one.series_uid not in bad)
    rejected = [*found.rejected, *(_with_its_series(item, uid, found) for uid, item in bad.items())]
    rejected.sort(key=lambda item: (item.subject, item.paths))
    return replace(found, series=series, rejected=tuple(rejected))


def check_siblings(found: Index, progress: Progress = iter) -> Index:
    """`found` without the volumes that `check_pixels` would reject together with another one of their
    SeriesInstanceUID: for doors that read each volume by itself. Only such series are read."""
    volumes = Counter(one.series_uid for one in found.series)
    siblings = tuple(one for one in found.series if volumes[one.series_uid] > 1)
    checked = check_pixels(replace(found, series=siblings), progress)
    gone = {item.subject for item in checked.rejected}
    series = tuple(one for one in found.series if one.series_uid not in gone)
    return replace(found, series=series, rejected=checked.rejected)


def leave_out_undecodable(found: Index, progress: Progress = iter) -> Index:
    """`found` without the slices whose pixels cannot be had, which each series then tells of. A series of
    which no slice can be had stays as it is, for `check_pixels` to reject."""
    series: list[Series] = []
    gone: dict[FileRef, str] = {}
    for one in progress(found.series):
        problems = {
            header: stored.detail
            for header, stored in zip(one.headers, read_each(one.headers), strict=True)
            if isinstance(stored, Reason)
        }
        if not problems or len(problems) == len(one):
            series.append(one)
            continue
        series.append(without(one, problems))
        gone |= {header.file: problem for header, problem in problems.items()}
    left_out = [*found.left_out, *_left_out(gone, series)]
    left_out.sort(key=lambda item: item.paths)
    return replace(found, series=tuple(series), left_out=tuple(left_out))


def _with_its_series(item: Rejected, series_uid: str, found: Index) -> Rejected:
    """`item` with the files of all volumes of its SeriesInstanceUID."""
    paths = dict.fromkeys(
        path for one in found.series if one.series_uid == series_uid for path in one.paths
    )
    return replace(item, subject=series_uid, paths=tuple(paths))


def _left_out(gone: dict[FileRef, str], series: list[Series]) -> list[LeftOut]:
    """The files in `gone` of which no frame is used any more, in whatever volume."""
    used = {header.file for one in series for header in one.headers}
    return [
        LeftOut((file.name,), IssueCode.UNDECODABLE, problem)
        for file, problem in gone.items()
        if file not in used
    ]
