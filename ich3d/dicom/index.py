"""A folder of anything to the CT series in it: every file ends up in a series, left out, or rejected."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ich3d.core.errors import DataError
from ich3d.core.types import LeftOut, Rejected, Series
from ich3d.dicom.group import sort_out
from ich3d.dicom.header import read_header
from ich3d.dicom.series import relative

Progress = Callable[[Iterable[Path]], Iterable[Path]]


@dataclass(frozen=True)
class Index:
    """What was found below `root`; the files of the three tuples add up to `n_files`."""

    root: Path
    n_files: int
    series: tuple[Series, ...]
    left_out: tuple[LeftOut, ...]
    rejected: tuple[Rejected, ...]


def index(path: Path, progress: Progress | None = None) -> Index:
    """Every CT series in `path`: a folder, searched with its sub-folders, or one file.

    Names and extensions mean nothing. `progress` wraps the files as they are read. Raises DataError
    where there is no such path, or a folder cannot be looked into.
    """
    if not path.exists():
        raise DataError(f"no file or folder {path}")
    root = path if path.is_dir() else path.parent
    files = _files(path) if path.is_dir() else [path]
    left_out = []
    found = []
    for file in progress(files) if progress else files:
        item = read_header(file, relative(file, root))
        if isinstance(item, LeftOut):
            left_out.append(item)
        else:
            found.append(item)
    result = sort_out(found, root)
    return Index(
        root=root,
        n_files=len(files),
        series=tuple(sorted(result.series, key=lambda series: series.volume_id)),
        left_out=tuple(sorted((*left_out, *result.left_out), key=lambda item: item.paths)),
        rejected=tuple(sorted(result.rejected, key=lambda item: (item.subject, item.paths))),
    )


def _files(folder: Path) -> list[Path]:
    places = os.walk(folder, onerror=_refuse)
    return sorted(Path(place) / name for place, _, names in places for name in names)


def _refuse(error: OSError) -> None:
    raise DataError(f"cannot look into {error.filename}: {error.strerror}") from None
