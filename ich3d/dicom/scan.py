"""The headers of all files of a large data set, in a file: read once, and read on after a stop.

`index` holds all headers in memory, 4 kB a slice. A scan holds them in an SQLite database, without
what names a patient, and gives them out in parts. A part holds whole series, with all that share a
patient's study or a SOPInstanceUID. So what `index_contents` says of a part is what `index` says of
it among all files.
"""

import errno
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import ich3d
from ich3d.core.errors import DataError
from ich3d.core.issues import IssueCode
from ich3d.core.path_kinds import no_such
from ich3d.core.processes import Done, call_apart, run_tasks, useful_workers
from ich3d.core.progress import Progress, quiet
from ich3d.core.types import FileRef, Rejected, SliceHeader, ZipSpan
from ich3d.dicom.assembly.grouping import series_key
from ich3d.dicom.files import ZipListing
from ich3d.dicom.headers.content_json import content_from_json, content_to_json
from ich3d.dicom.headers.read import (
    FileContent,
    InvalidSlice,
    NonCTFile,
    PlainContent,
    ZipArchive,
    read_file,
)
from ich3d.dicom.index import common_folder, list_all, list_zip, reject_members, unread_paths
from ich3d.dicom.origin import without_patient

FILES_PER_TASK: Final = 256
"""Files whose headers are read, and kept, together."""

_NEW_ZIP: Final = "new zip"
_LISTED_ZIP: Final = "zip"

_OS_ERRORS: Final = {
    sqlite3.SQLITE_FULL: (errno.ENOSPC, "No space left on device"),
    sqlite3.SQLITE_IOERR: (errno.EFBIG, "cannot be written whole"),
    sqlite3.SQLITE_CANTOPEN: (errno.EACCES, "Permission denied"),
    sqlite3.SQLITE_READONLY: (errno.EACCES, "Permission denied"),
}
"""Errors of the file system as SQLite calls them."""

_TABLES: Final = """
CREATE TABLE about (version TEXT, path BLOB, within TEXT, follow_links INTEGER);
CREATE TABLE finished (seconds REAL);
CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    name BLOB NOT NULL UNIQUE,
    archive BLOB,
    span TEXT,
    size INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    content TEXT,
    n_slices INTEGER,
    patient TEXT,
    study BLOB,
    series BLOB,
    sop BLOB
);
CREATE INDEX files_by_series ON files (series);
CREATE TABLE unread (archive BLOB, rejected TEXT NOT NULL);
CREATE TABLE parts (series BLOB PRIMARY KEY, part INTEGER NOT NULL);
"""
"""A row of `files` is a file or a member of a zip (`archive`); `changed` is its time of change in
nanoseconds, or a member's checksum. Study, series and SOP are digests, of what may be any bytes.
"""


@dataclass(frozen=True)
class Part:
    """Series of a scan that can be prepared without all others.

    Attributes:
        number: its number in the scan.
        patients: pseudonyms of its patients.
        n_slices: slices of its files.
        files_sha256: hash of names, sizes and times of change of its files.
    """

    number: int
    patients: frozenset[str]
    n_slices: int
    files_sha256: str


class HeaderScan:
    """A complete scan, opened for reading.

    Attributes:
        database: the SQLite file.
        root: the folder to which the names of files are relative.
    """

    def __init__(self, database: Path) -> None:
        """Open the scan in `database`, which `scan_headers` wrote."""
        self.database = database
        with _connected(database) as connection:
            (path,) = connection.execute("SELECT path FROM about").fetchone()
        self.root = common_folder([Path(os.fsdecode(path))])

    def parts(self) -> list[Part]:
        """All parts, by number."""
        query = (
            "SELECT part, name, size, changed, n_slices, patient FROM files "
            "JOIN parts USING (series) ORDER BY part, name"
        )
        with _connected(self.database) as connection:
            rows = connection.execute(query)
            return [_part(number, files) for number, files in groupby(rows, itemgetter(0))]

    def contents(self, part: int) -> list[PlainContent]:
        """What the files of one part hold, sorted by name."""
        return self._read("JOIN parts USING (series) WHERE part = ?", part)

    def without_series(self) -> list[PlainContent]:
        """The files that are no part of a CT, and those too damaged to tell their series."""
        return self._read("WHERE series IS NULL AND content != ?", _LISTED_ZIP)

    def unread(self) -> list[Rejected]:
        """Links, folders and members of zips that were not read."""
        with _connected(self.database) as connection:
            rows = connection.execute("SELECT rejected FROM unread").fetchall()
        return [_rejected_from_json(text) for (text,) in rows]

    def _read(self, which: str, value: int | str) -> list[PlainContent]:
        query = f"SELECT name, archive, span, content FROM files {which} ORDER BY name"
        with _connected(self.database) as connection:
            rows = connection.execute(query, (value,)).fetchall()
        return [
            content_from_json(content, _file(self.root, name, archive, span))
            for name, archive, span, content in rows
        ]


def scan_headers(
    path: Path,
    database: Path,
    within: str = "",
    follow_links: bool = False,
    workers: int = 1,
    progress: Progress = quiet,
) -> HeaderScan:
    """Read the headers of all files in `path` that have not been read yet.

    A file is read again where its size or time of change differs, and all files are where another
    version of this package read them. The scan can be stopped at any time.

    Args:
        path: a folder, searched with its sub-folders, or a zip.
        database: where the scan is kept; made anew where it is damaged, or a scan of other files.
        within: of a zip, read only what lies in a folder of this name.
        follow_links: also follow symbolic links that lead out of `path`.
        workers: processes that read headers.
        progress: shows how many files have been read.

    Raises:
        DataError: `path` does not exist or is a folder that cannot be listed.
    """
    if not path.exists():
        raise no_such("file or folder", path)
    database.parent.mkdir(parents=True, exist_ok=True)
    _make_usable(database, _about(path, within, follow_links))

    root = common_folder([path])
    with _connected(database) as connection:
        connection.execute("DELETE FROM finished")
    call: Callable[..., None] = _enter_here if workers == 1 else call_apart
    call(path, _enter_files, database, path, follow_links)
    _read_new(database, root, workers, progress)
    for archive in _new_zips(database):
        zip_file = _file(root, archive, None, None).path
        call(zip_file, _enter_members, database, root, archive, within)
    _read_new(database, root, workers, progress)
    _divide(database)
    return HeaderScan(database)


def finished_scan(
    path: Path, database: Path, within: str = "", follow_links: bool = False
) -> HeaderScan | None:
    """The scan of `path` in `database` if it is finished; what has changed since is not seen."""
    if not database.exists():
        return None
    try:
        with _connected(database) as connection:
            is_finished = connection.execute("SELECT * FROM finished").fetchone() is not None
            is_same = connection.execute("SELECT * FROM about").fetchone() == _about(
                path, within, follow_links
            )
    except sqlite3.DatabaseError:  # damaged
        return None
    return HeaderScan(database) if is_finished and is_same else None


def _about(path: Path, within: str, follow_links: bool) -> tuple[Any, ...]:
    """What a scan is of, and the version that read it: the row of `about`."""
    return ich3d.__version__, os.fsencode(path), within, int(follow_links)


@contextmanager
def _connected(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the database; changes are committed at the end.

    Raises OSError where the file cannot be opened or written.
    """
    try:
        with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            yield connection
    except sqlite3.OperationalError as error:
        known = _OS_ERRORS.get(error.sqlite_errorcode & 0xFF)  # without its extended part
        if known is None:
            raise
        raise OSError(*known, str(database)) from None


def _make_usable(database: Path, about: tuple[Any, ...]) -> None:
    """Keep the database if it is a sound scan of the same files, else begin a new one."""
    try:
        with _connected(database) as connection:
            (check,) = connection.execute("PRAGMA quick_check").fetchone()
            if check == "ok" and connection.execute("SELECT * FROM about").fetchone() == about:
                return
    except sqlite3.DatabaseError:
        pass
    database.unlink(missing_ok=True)
    with _connected(database) as connection:
        connection.executescript(_TABLES)
        connection.execute("INSERT INTO about VALUES (?, ?, ?, ?)", about)


def _enter_here(_: Path, function: Callable[..., None], *arguments: Any) -> None:
    """As `call_apart`, in this process."""
    function(*arguments)


def _enter_files(database: Path, path: Path, follow_links: bool) -> None:
    """Enter the files in `path` that are new or changed, and remove what is gone."""
    listing = list_all([path], follow_links)
    root = common_folder([path])
    with _connected(database) as connection:
        connection.execute(
            "CREATE TEMP TABLE listed (name BLOB PRIMARY KEY, size INTEGER, changed INTEGER)"
        )
        connection.executemany(
            "INSERT INTO listed VALUES (?, ?, ?)",
            (
                (os.fsencode(file.relative_to(root).as_posix()), *_facts(file))
                for file in listing.files
            ),
        )
        connection.execute(
            "DELETE FROM files WHERE archive IS NULL AND (name, size, changed) NOT IN "
            "(SELECT * FROM listed)"
        )
        gone = "archive IS NOT NULL AND archive NOT IN (SELECT name FROM files)"
        connection.execute(f"DELETE FROM files WHERE {gone}")
        connection.execute(f"DELETE FROM unread WHERE archive IS NULL OR {gone}")
        connection.execute("INSERT OR IGNORE INTO files (name, size, changed) SELECT * FROM listed")
        _enter_unread(connection, None, unread_paths(listing, root))


def _enter_members(database: Path, root: Path, archive: bytes, within: str) -> None:
    """Enter the members of a zip, or what is wrong with it."""
    file = _file(root, archive, None, None)
    listing = list_zip(file)
    with _connected(database) as connection:
        if not isinstance(listing, ZipListing):
            _keep(connection, [_columns(listing, archive)])
            return
        connection.executemany(
            "INSERT OR REPLACE INTO files (name, archive, span, size, changed) "
            "VALUES (?, ?, ?, ?, ?)",
            (
                (os.fsencode(name), archive, json.dumps(span), span.unpacked_bytes, span.crc32)
                for _, name, span in listing.members
                if span is not None and (not within or f"/{within}/" in name)
            ),
        )
        refused = [reject_members(file, those) for those in listing.refused]
        _enter_unread(connection, archive, refused)
        connection.execute("UPDATE files SET content = ? WHERE name = ?", (_LISTED_ZIP, archive))


def _enter_unread(
    connection: sqlite3.Connection, archive: bytes | None, unread: Iterable[Rejected]
) -> None:
    connection.executemany(
        "INSERT INTO unread VALUES (?, ?)",
        [(archive, _rejected_to_json(rejected)) for rejected in unread],
    )


def _name(file: Path, root: Path) -> bytes:
    return os.fsencode(file.relative_to(root).as_posix())


def _facts(path: Path) -> tuple[int, int]:
    """Size and time of change of a file; -1 where it cannot be seen, such as a dangling link."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


class _Unread(NamedTuple):
    """A file whose headers are to be read."""

    name: bytes
    archive: bytes | None
    span: str | None


class _Columns(NamedTuple):
    """What was read of a file, as columns of its row."""

    content: str
    n_slices: int
    patient: str | None
    study: bytes | None
    series: bytes | None
    sop: bytes | None
    name: bytes


def _read_new(database: Path, root: Path, workers: int, progress: Progress) -> None:
    """Read the headers of all files that have not been read."""
    with _connected(database) as connection:
        (n_new,) = connection.execute("SELECT COUNT(*) FROM files WHERE content IS NULL").fetchone()
        workers = useful_workers(workers, -(-n_new // FILES_PER_TASK))
        tasks = run_tasks(partial(_read_files, root), _unread(connection), workers)
        for done in _counted(tasks, progress, n_new):
            if done.result is None:
                raise DataError(
                    "a process that read headers was killed, as a system does that runs out of "
                    "memory: run the same command again, with fewer --workers"
                )
            _keep(connection, done.result)
            connection.commit()


def _unread(connection: sqlite3.Connection) -> Iterator[list[_Unread]]:
    """The files that have not been read, some at a time."""
    query = (
        "SELECT id, name, archive, span FROM files WHERE content IS NULL AND id > ? ORDER BY id "
        f"LIMIT {FILES_PER_TASK}"
    )
    last = -1
    while rows := connection.execute(query, (last,)).fetchall():
        last = rows[-1][0]
        yield [_Unread(*row[1:]) for row in rows]


def _counted(
    tasks: Iterable[Done[list[_Unread], list[_Columns]]], progress: Progress, n_files: int
) -> Iterator[Done[list[_Unread], list[_Columns]]]:
    """The tasks, while `progress` counts their files."""
    shown = iter(progress(range(n_files), "headers", total=n_files))
    for done in tasks:
        for _ in done.task:
            next(shown)
        yield done
    next(shown, None)  # ends the progress


def _read_files(root: Path, files: Sequence[_Unread]) -> list[_Columns]:
    return [_columns(read_file(_file(root, *file)), file.name) for file in files]


def _keep(connection: sqlite3.Connection, rows: Iterable[_Columns]) -> None:
    connection.executemany(
        "UPDATE files SET content = ?, n_slices = ?, patient = ?, study = ?, series = ?, sop = ? "
        "WHERE name = ?",
        rows,
    )


def _columns(content: FileContent, name: bytes) -> _Columns:
    """The columns of a file; what its slices share is that of the first."""
    if isinstance(content, ZipArchive):
        return _Columns(_NEW_ZIP, 0, None, None, None, None, name)
    if isinstance(content, NonCTFile):
        return _Columns(content_to_json(content), 0, None, None, None, None, name)
    if isinstance(content, InvalidSlice):
        return _slice_columns(content_to_json(content), [content], name)
    slices = tuple(
        without_patient(item) if isinstance(item, SliceHeader) else item for item in content
    )
    return _slice_columns(content_to_json(slices), slices, name)


def _slice_columns(
    text: str, slices: Sequence[SliceHeader | InvalidSlice], name: bytes
) -> _Columns:
    first, key = slices[0], series_key(slices[0])
    header = next((item for item in slices if isinstance(item, SliceHeader)), None)
    return _Columns(
        text,
        n_slices=len(slices),
        patient=None if header is None else header.patient_id,
        study=None if header is None else _digest(header.patient_id, header.study_uid),
        series=None if key is None else _digest(repr(key)),
        sop=_digest(first.sop_uid) if first.sop_uid else None,
        name=name,
    )


def _new_zips(database: Path) -> list[bytes]:
    with _connected(database) as connection:
        query = "SELECT name FROM files WHERE content = ? ORDER BY name"
        return [name for (name,) in connection.execute(query, (_NEW_ZIP,))]


def _divide(database: Path) -> None:
    """Number the parts: series are together that share a study or a SOPInstanceUID."""
    linked = (
        "SELECT DISTINCT study, series FROM files WHERE study IS NOT NULL AND series IS NOT NULL "
        "UNION SELECT DISTINCT sop, series FROM files WHERE series IS NOT NULL AND sop IN "
        "(SELECT sop FROM files WHERE series IS NOT NULL GROUP BY sop "
        "HAVING COUNT(DISTINCT series) > 1)"
    )
    with _connected(database) as connection:
        part_of = _Links()
        query = "SELECT series, MIN(name) FROM files WHERE series IS NOT NULL GROUP BY series"
        series = connection.execute(f"{query} ORDER BY 2").fetchall()
        for shared, one in connection.execute(linked):
            part_of.join(shared, one)

        numbers: dict[bytes, int] = {}
        rows = [(one, numbers.setdefault(part_of[one], len(numbers))) for one, _ in series]
        connection.execute("DELETE FROM parts")
        connection.executemany("INSERT INTO parts VALUES (?, ?)", rows)
        connection.execute("INSERT INTO finished VALUES (?)", (time.time(),))


class _Links:
    """Sets of digests that were joined with each other (union-find)."""

    def __init__(self) -> None:
        self._parent: dict[bytes, bytes] = {}

    def __getitem__(self, digest: bytes) -> bytes:
        """The one digest that stands for all that are joined with this one."""
        path = []
        while (parent := self._parent.get(digest, digest)) != digest:
            path.append(digest)
            digest = parent
        self._parent |= dict.fromkeys(path, digest)
        return digest

    def join(self, one: bytes, other: bytes) -> None:
        """Join two digests, and all that are joined with either."""
        self._parent[self[one]] = self[other]


def _part(number: int, files: Iterable[tuple[Any, ...]]) -> Part:
    """The part of these rows: number, name, size, time of change, slices and patient."""
    digest = hashlib.sha256()
    patients, n_slices = set(), 0
    for _, name, size, changed, slices, patient in files:
        digest.update(repr((name, size, changed)).encode())
        n_slices += slices
        if patient is not None:
            patients.add(patient)
    return Part(number, frozenset(patients), n_slices, digest.hexdigest())


def _file(root: Path, name: bytes, archive: bytes | None, span: str | None) -> FileRef:
    """The file of a row."""
    on_disk = root / os.fsdecode(archive or name)
    return FileRef(on_disk, os.fsdecode(name), ZipSpan(*json.loads(span)) if span else None)


def _digest(*texts: str) -> bytes:
    return hashlib.blake2b(repr(texts).encode(), digest_size=16).digest()


def _rejected_to_json(rejected: Rejected) -> str:
    return json.dumps([rejected.subject, rejected.code, rejected.detail, rejected.paths])


def _rejected_from_json(text: str) -> Rejected:
    subject, code, detail, paths = json.loads(text)
    return Rejected(subject, IssueCode(code), detail, tuple(paths))
