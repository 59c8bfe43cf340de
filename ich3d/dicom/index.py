"""A folder of anything to the CT series in it: every file ends up in a series, left out, or rejected."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ich3d.core.errors import DataError
from ich3d.core.types import FileRef, LeftOut, Rejected, Series
from ich3d.dicom.group import sort_out
from ich3d.dicom.header import Foreign, read_file
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
    return index_all([path], progress)


def index_all(paths: Sequence[Path], progress: Progress | None = None) -> Index:
    """Every CT series in some files and folders, taken together: a file that is named twice counts once,
    and a series may lie scattered over them. The index's root is the folder that holds them all."""
    for path in paths:
        if not path.exists():
            raise DataError(f"no file or folder {path}")
    root = Path(os.path.commonpath([path if path.is_dir() else path.parent for path in paths]))
    named = [file for path in paths for file in (_files(path) if path.is_dir() else [path])]
    files = list({file.resolve(): file for file in reversed(named)}.values())[::-1]
    left_out = []
    found = []
    for file in progress(files) if progress else files:
        item = read_file(FileRef(file))
        if isinstance(item, Foreign):
            left_out.append(_left_out(item, root))
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


def _left_out(item: Foreign, root: Path) -> LeftOut:
    name = relative(item.file.name, root)
    return LeftOut((name,), item.code, f"{name}: {item.problem}")


def _files(folder: Path) -> list[Path]:
    """Every file below `folder`, also through linked folders, each real folder searched once."""
    seen: set[Path] = set()
    files: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = Path(place).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        files += [Path(place) / name for name in names]
    return sorted(files)


def _refuse(error: OSError) -> None:
    raise DataError(f"cannot look into {error.filename}: {error.strerror}") from None
