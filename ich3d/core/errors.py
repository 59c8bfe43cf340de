"""What can go wrong, as a tree. A user's mistake prints one sentence; a bug keeps its traceback.

Ich3dError
  UserError         the command cannot start: exit code 2
    ConfigError     an unknown key, a value out of range
    DataError       a path, label table or store that does not fit
    ModelError      a model folder that is refused
  LeakageError      a later stage was offered rows that its maker has seen
"""

from collections.abc import Iterable
from difflib import get_close_matches


class Ich3dError(Exception):
    """Base of every error that ich3d raises on purpose."""


class UserError(Ich3dError):
    """Something the user gave cannot be used; the message is one sentence that names it."""


class ConfigError(UserError):
    """A configuration key or value that is not known or not allowed."""


class DataError(UserError):
    """A path, a label table or a prepared store that does not fit."""


class ModelError(UserError):
    """A model folder that is refused: changed, foreign, newer or incomplete."""


class LeakageError(Ich3dError):
    """A stage was offered rows from patients that their maker was fitted on."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the nearest known word, else the list of what is known."""
    names = list(known)
    near = get_close_matches(word, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(names))}"
