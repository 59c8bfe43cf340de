"""Checks of paths that callers give, apart from other arguments: these need no numpy."""

import os
from collections.abc import Iterable
from pathlib import Path

from ich3d.core.errors import DataError


def as_path(name: str, path: Path | str) -> Path:
    """A path that was given as text or as `Path`. DataError for anything else, and for ""."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        shown = "None" if path is None else "''" if isinstance(path, str) else type(path).__name__
        raise DataError(f"{name} must be a path, as text or as Path, got {shown}")
    return Path(path)


def as_paths(name: str, paths: Path | str | Iterable[Path | str]) -> list[Path]:
    """One path or several as a list. DataError where there is none, or anything else."""
    if isinstance(paths, str | os.PathLike) or not isinstance(paths, Iterable):
        return [as_path(name, paths)]
    several = [as_path(name, path) for path in paths]
    if not several:
        raise DataError(f"{name} must hold at least one path, got none")
    return several
