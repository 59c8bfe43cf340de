"""The series of an output folder that are finished, scored or rejected: a file of one JSON line each.

A run that was killed finds there what it need not do again, and the tables are put together from these lines
alone, so that they are the same bytes however often a run was begun.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ich3d.core.issues import IssueCode
from ich3d.core.types import Rejected
from ich3d.core.workspace import replacing


@dataclass(frozen=True)
class Done:
    """One finished series: its rows of `slices.csv` and `series.csv` as text, how many slices are scored and
    how many are not, and by the name of a further output why it has none."""

    slices: str
    series: str
    scored: int
    unscored: int
    refused: dict[str, Rejected] = field(default_factory=dict)


class Journal:
    """What is finished, by a key that stands for all that it was made of. `rejected` are the series that were
    read and found wanting."""

    def __init__(self, path: Path, keys: Collection[str]) -> None:
        """Open `path`, or begin it. Lines of other keys, and one that was being written, are dropped."""
        self._path = path
        self._places: dict[str, int] = {}
        self.rejected: dict[str, Rejected] = {}
        with replacing(path) as partial, partial.open("wb") as file:
            for tree, line in _lines(path):
                key = tree["key"]
                if key in keys and not self.knows(key):
                    self._know(key, tree, file.tell())
                    file.write(line)

    def __contains__(self, key: str) -> bool:
        """Whether it is scored."""
        return key in self._places

    def knows(self, key: str) -> bool:
        """Whether it is scored or rejected."""
        return key in self or key in self.rejected

    def add(self, key: str, item: Done | Rejected) -> None:
        """Note that a series is finished."""
        tree = asdict(item) if isinstance(item, Done) else {"rejected": asdict(item)}
        with self._path.open("ab") as file:
            place = file.tell()
            file.write(json.dumps({"key": key, **tree}).encode() + b"\n")
        self._know(key, tree, place)

    def _know(self, key: str, tree: dict[str, Any], place: int) -> None:
        if "rejected" in tree:
            self.rejected[key] = _rejected(**tree["rejected"])
        else:
            self._places[key] = place

    def __getitem__(self, key: str) -> Done:
        """The rows of a series that is scored."""
        with self._path.open("rb") as file:
            file.seek(self._places[key])
            tree: dict[str, Any] = json.loads(file.readline())
        del tree["key"]
        refused = {name: _rejected(**item) for name, item in tree.pop("refused").items()}
        return Done(**tree, refused=refused)


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                tree = json.loads(line)
                tree["key"]
            except (ValueError, KeyError, TypeError):  # the process was killed here
                return
            yield tree, line


def _rejected(subject: str, code: str, detail: str, paths: list[str]) -> Rejected:
    return Rejected(subject, IssueCode(code), detail, tuple(paths))
