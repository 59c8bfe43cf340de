"""The exceptions that ich3d raises on purpose, and the hint that their messages end with.

Ich3dError
  UserError         wrong input from the user: one sentence, exit code 2
    ConfigError     an unknown key, a value that is not allowed
    DataError       a path, label table or prepared store that cannot be used
    ModelError      a model folder that cannot be used
  LeakageError      a model would be trained or scored on patients it must not see

A `UserError` is printed as one sentence without a traceback, and so is an `OSError`, which the
system raises: a full disk, a file that is gone. Every other exception is a bug and keeps its
traceback.
"""

import errno
import os
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_REMEDIES: Final = (
    (
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        "make room there or raise the limit, and run the same command again",
    ),
    (
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "change its permissions, or name another path",
    ),
    (
        (errno.EEXIST, errno.ENOTDIR),
        "a file lies where a folder is needed: move it, or name another path",
    ),
    (
        (errno.EISDIR, errno.ENOTEMPTY),
        "a folder lies where a file is needed: move it, or name another path",
    ),
    (
        (errno.ENOENT, errno.ESTALE),
        "it was removed while it was needed: put it back, and run the same command again",
    ),
    ((errno.EIO, errno.EINVAL), "the disk or its connection fails: copy the data to another"),
)
"""What a user can do about an error of the file system, by the system's numbers."""
MAX_LISTED: Final = 40
"""Names that a message lists at most."""


class Ich3dError(Exception):
    """Base class of every exception that ich3d raises on purpose."""


class UserError(Ich3dError):
    """The user's input cannot be used. The message is one sentence that names the input."""


class ConfigError(UserError):
    """A configuration key is unknown, or its value is not allowed."""


class DataError(UserError):
    """A path, a label table or a prepared store is missing or does not have the expected form."""


class ModelError(UserError):
    """A model folder is incomplete, was changed, or was written by a newer version."""


class LeakageError(Ich3dError):
    """A stage received scores or embeddings from a model that was trained on the same patients."""


def suggestion(name: str, allowed: Iterable[str], otherwise: str | None = None) -> str:
    """End of an error message: the closest allowed name, or what is allowed where none is close.

    Args:
        name: what the user wrote.
        allowed: the names that exist.
        otherwise: what the message ends with where none is close; None lists what is allowed.

    >>> suggestion("brian", ["brain", "bone"])
    "; did you mean 'brain'?"
    >>> suggestion("liver", ["brain", "bone"])
    '; known are bone, brain'
    """
    names = list(allowed)
    closest = get_close_matches(name, names, n=1)
    if closest:
        return f"; did you mean {closest[0]!r}?"
    if otherwise is not None:
        return otherwise
    if len(names) > MAX_LISTED:
        first, rest = sorted(names)[:MAX_LISTED], len(names) - MAX_LISTED
        return f"; known are {', '.join(first)} and {rest} more"
    return f"; known are {', '.join(sorted(names))}"


def os_error_sentence(error: OSError) -> str:
    """One sentence about an error of the file system: the file, what is wrong, what to do.

    >>> os_error_sentence(OSError(28, "No space left on device", "out/slices.csv"))[:45]
    'out/slices.csv: No space left on device: make'
    """
    subject = os.fspath(error.filename) if error.filename else "input or output"
    text = f"{subject}: {error.strerror or error}"
    remedies = [remedy for numbers, remedy in _REMEDIES if error.errno in numbers]
    return ": ".join([text, *remedies])
