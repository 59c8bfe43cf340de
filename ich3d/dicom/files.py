"""Where files lie: in folders with their sub-folders, and in zips, which are read in place."""

import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final, cast

from ich3d.core.errors import DataError
from ich3d.core.types import FileRef

ZIP_STARTS: Final = (b"PK\x03\x04", b"PK\x05\x06")
"""How a zip begins, with a file or empty (APPNOTE 4.3.7, 4.3.16)."""

_ENCRYPTED: Final = 1
_BROKEN_ZIP: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    KeyError,
)


def files_below(folder: Path) -> list[Path]:
    """Every file below `folder`, also through linked folders, each real folder searched once. DataError
    where a folder cannot be looked into."""
    seen: set[str] = set()
    files: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        files += [Path(place) / name for name in names]
    return sorted(files)


def without_repeats(files: Sequence[Path]) -> list[Path]:
    """`files`, each once, also where another path or a link leads to it; the first name is kept."""
    folders = {folder: os.path.realpath(folder) for folder in {file.parent for file in files}}
    real: dict[str, Path] = {}
    for file in files:
        beside = os.path.join(folders[file.parent], file.name)
        real.setdefault(os.path.realpath(file) if os.path.islink(file) else beside, file)
    return list(real.values())


def members(file: FileRef) -> list[FileRef]:
    """The files in the zip `file`; of several under one name the last, as unpacking would leave it.
    OSError where it is no whole zip."""
    with _zip_errors():
        names = {info.filename for info in _archive(file.path).infolist() if not info.is_dir()}
    return [FileRef(file.path, f"{file.name}/{name.lstrip('/')}", name) for name in sorted(names)]


@contextmanager
def opened(file: FileRef) -> Iterator[tuple[BinaryIO, int]]:
    """The bytes of a file, to read and to seek in, and how many there are. OSError where they cannot be
    had, also in the midst of reading."""
    if not file.member:
        with file.path.open("rb") as on_disk:
            yield on_disk, os.fstat(on_disk.fileno()).st_size
        return
    with _zip_errors():
        archive = _archive(file.path)
        info = archive.getinfo(file.member)
        if info.flag_bits & _ENCRYPTED:
            raise OSError(0, "encrypted in its zip")
        with archive.open(info) as packed:
            yield cast(BinaryIO, packed), info.file_size


def content(file: FileRef) -> bytes:
    """All bytes of a file. OSError where they cannot be had."""
    with opened(file) as (stream, _):
        return stream.read()


def is_regular(path: Path) -> bool:
    """Whether `path` is a file with bytes in it, and no pipe, device or socket."""
    return stat.S_ISREG(path.stat().st_mode)


@contextmanager
def _zip_errors() -> Iterator[None]:
    try:
        yield
    except _BROKEN_ZIP as error:
        raise OSError(0, f"broken in its zip ({type(error).__name__})") from None


def _archive(path: Path) -> zipfile.ZipFile:
    status = path.stat()
    return _open_archive(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=2)
def _open_archive(path: Path, mtime_ns: int, size: int) -> zipfile.ZipFile:
    """Kept open, because a zip's list of 750,000 files takes seconds to read; a changed zip is another."""
    return zipfile.ZipFile(path)


def _refuse(error: OSError) -> None:
    raise DataError(f"cannot look into {error.filename}: {error.strerror}") from None
