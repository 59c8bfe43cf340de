"""Find files below a folder and open them, on disk or inside a zip.

A zip is treated like a folder: its members are read in place and nothing is unpacked to disk.
"""

import lzma
import os
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from ich3d.core.errors import DataError
from ich3d.core.issues import IssueCode
from ich3d.core.text import pluralize
from ich3d.core.types import FileRef, ZipSpan
from ich3d.dicom.limits import WHOLE_FILE_BYTES, unpacking_problem

ZIP_SIGNATURES: Final = (b"PK\x03\x04", b"PK\x05\x06")
"""How a zip with members begins, and an empty one (PKWARE APPNOTE 4.3.7, 4.3.16)."""

_ENCRYPTED_FLAG: Final = 0x1
"""Bit 0 of a member's general purpose flags (PKWARE APPNOTE 4.4.4)."""

_ENCRYPTED: Final = "encrypted: unpack the zip with its password, and give the folder"

_LOCAL_HEADER: Final = struct.Struct("<4s2xHH16xHH")
"""Signature, flags, method, and length of name and extra field (PKWARE APPNOTE 4.3.7)."""

_READABLE_METHODS: Final = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
    zipfile.ZIP_BZIP2,
    zipfile.ZIP_LZMA,
)

_METHOD_NAMES: Final = {9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES"}
"""Other compression methods by their number (PKWARE APPNOTE 4.4.5)."""

_ZIP_ERRORS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    KeyError,
    UnicodeDecodeError,
)
"""Everything that `zipfile` raises on a damaged archive or an unknown compression method."""


@dataclass(frozen=True)
class FolderListing:
    """What lies below a folder.

    Attributes:
        files: all files, sorted by path.
        outside_links: symbolic links that lead out of the searched folders, sorted; they were not
            followed.
        unlistable: sub-folders that could not be listed, each with the system's reason.
    """

    files: tuple[Path, ...]
    outside_links: tuple[Path, ...]
    unlistable: tuple[tuple[Path, str], ...]


def list_files(
    folder: Path, searched: Sequence[Path] = (), follow_links: bool = False
) -> FolderListing:
    """List all files below `folder`.

    Symbolic links are followed where they stay within `folder` or one of the `searched` paths;
    with `follow_links` all are. Each real folder is searched only once, so links that form a
    circle end. A sub-folder that cannot be listed is skipped and named. Raises DataError where
    `folder` itself cannot be listed.
    """
    allowed = [os.path.realpath(path) for path in (folder, *searched)]
    files: list[Path] = []
    outside_links: list[Path] = []
    unlistable: list[tuple[Path, str]] = []
    visited: set[str] = set()
    pending = [str(folder)]

    while pending:
        directory = pending.pop()
        real_directory = os.path.realpath(directory)
        if real_directory in visited:
            continue
        visited.add(real_directory)

        try:
            with os.scandir(directory) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            if directory == str(folder):
                raise DataError(f"cannot list directory {folder}: {error.strerror}") from None
            unlistable.append((Path(directory), error.strerror or "cannot be listed"))
            continue

        for entry in entries:
            is_link = entry.is_symlink()
            if is_link and not (follow_links or _is_within(entry.path, allowed)):
                outside_links.append(Path(entry.path))
            elif os.path.isdir(entry.path) if is_link else entry.is_dir():
                pending.append(entry.path)
            else:
                files.append(Path(entry.path))

    return FolderListing(tuple(sorted(files)), tuple(sorted(outside_links)), tuple(unlistable))


def _is_within(path: str, folders: Sequence[str]) -> bool:
    """Whether the real path of `path` is one of the real `folders` or lies below one."""
    real_path = os.path.join(os.path.realpath(path), "")
    return any(real_path.startswith(os.path.join(folder, "")) for folder in folders)


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


@dataclass(frozen=True)
class RefusedMembers:
    """Members of a zip that are not read, all for the same reason.

    Attributes:
        code: the kind of problem.
        problem: what is wrong and what to do, as one sentence without the name of the zip.
        members: the members, sorted by name.
    """

    code: IssueCode
    problem: str
    members: tuple[FileRef, ...]


@dataclass(frozen=True)
class ZipListing:
    """The files in a zip, sorted by name: those that can be opened, and those that are refused."""

    members: tuple[FileRef, ...]
    refused: tuple[RefusedMembers, ...]


def list_members(archive: FileRef) -> ZipListing:
    """List the files in a zip, without its folders. Nothing is unpacked.

    A name that occurs several times is listed once and stands for its last member, which is the
    one that unpacking would leave. Members that this program cannot unpack, or whose size or
    packing makes them a zip bomb, are refused. Raises OSError where the zip is damaged.
    """
    with _zip_errors_as_os_error(), zipfile.ZipFile(archive.path) as opened:
        infos = {info.filename: info for info in opened.infolist() if not info.is_dir()}
        overlapping = _overlapping(opened)

    members: list[FileRef] = []
    refused: dict[tuple[IssueCode, str], list[FileRef]] = defaultdict(list)
    for name in sorted(infos):
        info = infos[name]
        member = FileRef(archive.path, f"{archive.name}/{name.lstrip('/')}", _span(info))
        refusal = _refusal(info, overlapping)
        if refusal is None:
            members.append(member)
        else:
            refused[refusal].append(member)

    return ZipListing(
        tuple(members),
        tuple(
            RefusedMembers(code, f"{pluralize(len(those), 'member')} {problem}", tuple(those))
            for (code, problem), those in refused.items()
        ),
    )


def _overlapping(archive: zipfile.ZipFile) -> bool:
    """Whether the packed bytes of two members overlap, or run into the list of members.

    So a zip of 42 KB can unpack to petabytes, and no honest program writes it.
    """
    spans = sorted(
        (info.header_offset, info.header_offset + info.compress_size) for info in archive.infolist()
    )
    next_starts = [start for start, _ in spans[1:]] + [archive.start_dir]
    return any(end > start for (_, end), start in zip(spans, next_starts, strict=False))


def _refusal(info: zipfile.ZipInfo, overlapping: bool) -> tuple[IssueCode, str] | None:
    """Why a member is not opened, as code and text; None where it can be."""
    if overlapping:
        return IssueCode.TOO_LARGE, "not read: members overlap in the zip, as in a zip bomb"
    if info.flag_bits & _ENCRYPTED_FLAG:
        return IssueCode.UNREADABLE, _ENCRYPTED
    if info.compress_type not in _READABLE_METHODS:
        name = _METHOD_NAMES.get(info.compress_type, f"method {info.compress_type}")
        advice = "unpack the zip with another program, and give the folder"
        return IssueCode.UNREADABLE, f"packed with {name}, which is not read here: {advice}"
    problem = unpacking_problem(info.file_size, info.compress_size)
    return (IssueCode.TOO_LARGE, f"not read: {problem}") if problem else None


@contextmanager
def open_file(file: FileRef) -> Iterator[tuple[BinaryIO, int]]:
    """Open a file, or a member of a zip, for reading.

    Yields a seekable binary stream and the file's size in bytes. Raises OSError where the file
    cannot be opened, and also inside the `with` block where a damaged member cannot be read on.
    """
    with file.path.open("rb") as stream:
        if file.span is None:
            yield stream, os.fstat(stream.fileno()).st_size
            return
        with _zip_errors_as_os_error(), _open_member(stream, file.span) as member:
            yield cast(BinaryIO, member), file.span.unpacked_bytes


def _open_member(stream: BinaryIO, span: ZipSpan) -> zipfile.ZipExtFile:
    """Open the member at `span` of the open zip `stream`; its local header is checked, because the
    zip may have changed since it was listed.
    """
    stream.seek(span.offset)
    header = stream.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size:
        raise zipfile.BadZipFile
    signature, flags, method, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    if signature != ZIP_SIGNATURES[0] or method != span.method:
        raise zipfile.BadZipFile
    if flags & _ENCRYPTED_FLAG:
        raise OSError(0, _ENCRYPTED)
    stream.seek(name_bytes + extra_bytes, os.SEEK_CUR)

    info = zipfile.ZipInfo()
    info.compress_size, info.file_size = span.packed_bytes, span.unpacked_bytes
    info.compress_type, info.CRC = span.method, span.crc32
    return zipfile.ZipExtFile(stream, "r", info)


def _span(info: zipfile.ZipInfo) -> ZipSpan:
    return ZipSpan(
        info.header_offset, info.compress_size, info.file_size, info.compress_type, info.CRC
    )


def read_small(file: FileRef) -> bytes | None:
    """The bytes of a file or member of a zip; None for one of more than `WHOLE_FILE_BYTES`.

    Raises OSError where it cannot be read.
    """
    if file.span is None:
        # Not by `open_file`: this is called for each slice, and a context manager takes its time.
        with file.path.open("rb", buffering=0) as stream:
            n_bytes = os.fstat(stream.fileno()).st_size
            return stream.readall() if n_bytes <= WHOLE_FILE_BYTES else None
    with open_file(file) as (member, n_bytes):
        return member.read() if n_bytes <= WHOLE_FILE_BYTES else None


@contextmanager
def open_large(file: FileRef) -> Iterator[tuple[BinaryIO, int]]:
    """Open a file as `open_file` does, so that seeking backwards is cheap.

    A member of a zip is unpacked to a temporary file, which is deleted in the end.
    """
    with open_file(file) as (stream, size):
        if file.span is None:
            yield stream, size
            return
        with tempfile.TemporaryFile(prefix="ich3d-") as unpacked:
            shutil.copyfileobj(stream, unpacked)
            unpacked_bytes = unpacked.tell()
            unpacked.seek(0)
            yield cast(BinaryIO, unpacked), unpacked_bytes


@contextmanager
def _zip_errors_as_os_error() -> Iterator[None]:
    """Turn everything that a damaged zip raises into OSError without a system error number."""
    try:
        yield
    except _ZIP_ERRORS:
        raise OSError(0, "the zip is damaged: copy or download it again") from None
