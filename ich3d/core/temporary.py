"""A temporary place for each writer of a file, also where several machines write the same file.

A writer holds a lock in its place, which the system releases when the writer ends or is killed. So
the next writer knows which places nobody needs any more, whatever machine or container they are of.
"""

import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

if sys.platform != "win32":
    import fcntl

FOLDER: Final = ".partial"
"""The folder of temporary places, beside what is written; it is gone when nobody writes."""

UNLOCKABLE_SECONDS: Final = 24 * 3600
"""On a file system without locks, a place that is older is nobody's any more."""

_LOCK: Final = "lock"
_MAX_TRIES: Final = 100


@contextmanager
def temporary_path(path: Path) -> Iterator[Path]:
    """A path of the name of `path` in a new place on the same file system.

    What lies there at the end is removed, and so is what killed writers left beside `path`.
    OSError where no place can be made.
    """
    remove_leftovers(path.parent)
    place, lock = _new_place(path.parent / FOLDER)
    try:
        yield place / path.name
    finally:
        with suppress(FileNotFoundError):  # somebody else removed it
            _remove_place(place)
        os.close(lock)
        with suppress(OSError):  # others write too
            place.parent.rmdir()


def remove_leftovers(parent: Path) -> None:
    """Remove the temporary places in `parent` whose writers were killed."""
    folder = parent / FOLDER
    try:
        places = list(folder.iterdir())
    except FileNotFoundError:  # nobody writes, or another writer has just removed it
        return
    for place in places:
        with suppress(OSError):  # another writer removes it too, or it is another user's
            _remove_if_left(place)
    with suppress(OSError):
        folder.rmdir()


def remove_tree(path: Path) -> None:
    """Remove a file or a folder with its contents; nothing happens where it does not exist."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _new_place(folder: Path) -> tuple[Path, int]:
    """A new place in `folder`, and its lock, which is held."""
    for _ in range(_MAX_TRIES):
        place = folder / secrets.token_hex(8)
        try:
            place.mkdir(parents=True)
            lock = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # another writer took it for one that was left
            continue
        if _hold(lock) is not False and (place / _LOCK).exists():
            return place, lock
        os.close(lock)
    raise OSError(f"no temporary place in {folder}: other writers remove each")


def _remove_if_left(place: Path) -> None:
    """Remove a place if nobody holds its lock."""
    try:
        lock = os.open(place / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        place.rmdir()  # if a writer has just made it, that one makes another
        return
    try:
        is_free = _hold(lock)
        if is_free is None:
            is_free = time.time() - os.fstat(lock).st_mtime > UNLOCKABLE_SECONDS
        if is_free:
            _remove_place(place)
    finally:
        os.close(lock)


def _remove_place(place: Path) -> None:
    """Remove a place, its lock last: without it, nobody would know whether it is in use."""
    for path in place.iterdir():
        if path.name != _LOCK:
            remove_tree(path)
    (place / _LOCK).unlink(missing_ok=True)
    place.rmdir()


def _hold(lock: int) -> bool | None:
    """Take a lock: False where another writer has it, None where the file system has no locks."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
