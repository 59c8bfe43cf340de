"""The exceptions that ich3d raises on purpose, and the hint that their messages end with.

Ich3dError
  UserError         wrong input from the user: one sentence, exit code 2
    ConfigError     an unknown key, a value that is not allowed
    DataError       a path, label table or prepared store that cannot be used
    ModelError      a model folder that cannot be used
  LeakageError      a model would be trained or scored on patients it must not see

A `UserError` is printed as one sentence without a traceback. Every other exception is a bug and
keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

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


def suggestion(name: str, allowed: Iterable[str]) -> str:
    """End of an error message: the closest allowed name, or what is allowed where none is close.

    >>> suggestion("brian", ["brain", "bone"])
    "; did you mean 'brain'?"
    >>> suggestion("liver", ["brain", "bone"])
    '; known are bone, brain'
    """
    names = list(allowed)
    closest = get_close_matches(name, names, n=1)
    if closest:
        return f"; did you mean {closest[0]!r}?"
    if len(names) > MAX_LISTED:
        first, rest = sorted(names)[:MAX_LISTED], len(names) - MAX_LISTED
        return f"; known are {', '.join(first)} and {rest} more"
    return f"; known are {', '.join(sorted(names))}"
