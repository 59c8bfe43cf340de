"""Find files below a folder and open them, on disk or inside a zip.

A zip is treated like a folder: its members are read in place and nothing is unpacked to disk.
"""

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

ZIP_SIGNATURES: Final = (b"PK\x03\x04", b"PK\x05\x06")
"""How a zip with members begins, and an empty one (PKWARE APPNOTE 4.3.7, 4.3.16)."""

_ENCRYPTED_FLAG: Final = 0x1
"""Bit 0 of a member's general purpose flags (PKWARE APPNOTE 4.4.4)."""

_ZIP_ERRORS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    KeyError,
)
"""Everything that `zipfile` raises on a damaged archive or an unknown compression method."""


def list_files(folder: Path) -> list[Path]:
    """List all files below `folder`, sorted by path.

    Symbolic links to folders are followed. Each real folder is searched only once, so links that
    form a circle end. Raises DataError where a folder cannot be listed.
    """
    visited: set[str] = set()
    files: list[Path] = []

    for directory, subfolders, names in os.walk(
        folder, onerror=_raise_unlistable, followlinks=True
    ):
        real_directory = os.path.realpath(directory)
        if real_directory in visited:
            subfolders.clear()
            continue
        visited.add(real_directory)
        files += [Path(directory) / name for name in names]

    return sorted(files)


def drop_repeated_files(files: Sequence[Path]) -> list[Path]:
    """Keep each real file once, under the first of its paths, in the order given.

    Two paths are the same file where they differ only by symbolic links.
    """
    # Resolving a path is slow, so it is done once for each folder, not for each of its files.
    real_folders = {folder: os.path.realpath(folder) for folder in {file.parent for file in files}}

    first_paths: dict[str, Path] = {}
    for file in files:
        if os.path.islink(file):
            real_path = os.path.realpath(file)
        else:
            real_path = os.path.join(real_folders[file.parent], file.name)
        first_paths.setdefault(real_path, file)
    return list(first_paths.values())


def is_regular_file(path: Path) -> bool:
    """Tell whether `path` is a regular file, not a pipe, device or socket.

    Raises OSError where `path` does not exist, for example a link without a target.
    """
    return stat.S_ISREG(path.stat().st_mode)


def list_members(archive: FileRef) -> list[FileRef]:
    """List the files in a zip, sorted by name, without its folders.

    A name that occurs several times is listed once and stands for its last member, which is the
    one that unpacking would leave. Raises OSError where the zip is damaged.
    """
    with _zip_errors_as_os_error():
        infos = _cached_zip(archive.path).infolist()

    names = {info.filename for info in infos if not info.is_dir()}
    return [
        FileRef(archive.path, f"{archive.name}/{name.lstrip('/')}", name) for name in sorted(names)
    ]


@contextmanager
def open_file(file: FileRef) -> Iterator[tuple[BinaryIO, int]]:
    """Open a file, or a member of a zip, for reading.

    Yields a seekable binary stream and the file's size in bytes. Raises OSError where the file
    cannot be opened, and also inside the `with` block where a damaged member cannot be read on.
    """
    if not file.member:
        with file.path.open("rb") as stream:
            yield stream, os.fstat(stream.fileno()).st_size
        return

    with _zip_errors_as_os_error():
        archive = _cached_zip(file.path)
        info = archive.getinfo(file.member)
        if info.flag_bits & _ENCRYPTED_FLAG:
            raise OSError(0, "the zip member is encrypted")
        with archive.open(info) as member:
            yield cast(BinaryIO, member), info.file_size


def read_bytes(file: FileRef) -> bytes:
    """Read all bytes of a file or of a member of a zip. Raises OSError where that fails."""
    with open_file(file) as (stream, _):
        return stream.read()


@contextmanager
def _zip_errors_as_os_error() -> Iterator[None]:
    """Turn everything that a damaged zip raises into OSError without a system error number."""
    try:
        yield
    except _ZIP_ERRORS as error:
        raise OSError(0, f"the zip is damaged ({type(error).__name__})") from None


def _cached_zip(path: Path) -> zipfile.ZipFile:
    """Return the open zip at `path`; a zip that has changed on disk is opened again."""
    status = path.stat()
    return _open_zip(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=2)
def _open_zip(path: Path, mtime_ns: int, size: int) -> zipfile.ZipFile:
    """Open a zip and keep it open: listing an archive of 750,000 members takes seconds."""
    return zipfile.ZipFile(path)


def _raise_unlistable(error: OSError) -> None:
    raise DataError(f"cannot list directory {error.filename}: {error.strerror}") from None
