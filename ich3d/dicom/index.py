"""A folder of anything to the CT series in it: every file ends up in a series, left out, or rejected."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ich3d.core.errors import DataError
from ich3d.core.issues import IssueCode
from ich3d.core.types import FileRef, LeftOut, Rejected, Series
from ich3d.dicom.assembly.grouping import Policy, group_files
from ich3d.dicom.files import files_below, members, without_repeats
from ich3d.dicom.headers.read import InvalidSlice, NonCTFile, Slices, Zip, read_file

Progress = Callable[[Iterable[FileRef]], Iterable[FileRef]]

STRICT: Final = Policy()


@dataclass(frozen=True)
class Index:
    """What was found below `root`; the files of the three tuples add up to `n_files`."""

    root: Path
    n_files: int
    series: tuple[Series, ...]
    left_out: tuple[LeftOut, ...]
    rejected: tuple[Rejected, ...]


def index(path: Path, progress: Progress = iter, policy: Policy = STRICT) -> Index:
    """Every CT series in `path`: a folder, searched with its sub-folders, a zip, or one file.

    Names and extensions mean nothing. `progress` wraps the files as they are read. Raises DataError
    where there is no such path, or a folder cannot be looked into.
    """
    return index_all([path], progress, policy)


def index_all(paths: Sequence[Path], progress: Progress = iter, policy: Policy = STRICT) -> Index:
    """Every CT series in some files and folders, taken together: a file that is named twice counts once,
    and a series may lie permute_slices over them. The index's root is the folder that holds them all."""
    for path in paths:
        if not path.exists():
            raise DataError(f"no file or folder {path}")
    root = Path(os.path.commonpath([path if path.is_dir() else path.parent for path in paths]))
    named = [file for path in paths for file in (files_below(path) if path.is_dir() else [path])]
    files = [FileRef(file, file.relative_to(root).as_posix()) for file in without_repeats(named)]
    items = _read_all(files, progress)
    left_out = [_left_out(item) for item in items if isinstance(item, NonCTFile)]
    result = group_files([item for item in items if not isinstance(item, NonCTFile)], policy)
    return Index(
        root=root,
        n_files=len(items),
        series=tuple(sorted(result.series, key=lambda series: series.volume_id)),
        left_out=tuple(sorted((*left_out, *result.left_out), key=lambda item: item.paths)),
        rejected=tuple(sorted(result.rejected, key=lambda item: (item.subject, item.paths))),
    )


def _read_all(
    files: Sequence[FileRef], progress: Progress
) -> list[Slices | NonCTFile | InvalidSlice]:
    """What each file is; zips give way to their members, which are read last."""
    items: list[Slices | NonCTFile | InvalidSlice] = []
    packed: list[FileRef] = []
    for file in progress(files):
        match read_file(file):
            case Zip():
                inner = _members(file)
                if isinstance(inner, list):
                    packed += inner
                else:
                    items.append(inner)
            case item:
                items.append(item)
    return [*items, *_read_all(packed, progress)] if packed else items


def _members(file: FileRef) -> list[FileRef] | NonCTFile | InvalidSlice:
    try:
        inner = members(file)
    except OSError as error:
        return InvalidSlice(file, IssueCode.UNREADABLE, error.strerror or "cannot be read", None)
    return inner or NonCTFile(file, IssueCode.NOT_DICOM, "an empty zip")


def _left_out(item: NonCTFile) -> LeftOut:
    return LeftOut((item.file.name,), item.code, f"{item.file.name}: {item.problem}")
