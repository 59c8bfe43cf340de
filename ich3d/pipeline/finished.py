"""The series of an output folder that are finished: a file of one JSON line each, written as they are scored.

A run that was killed finds there what it need not do again, and the tables are put together from these lines
alone, so that they are the same bytes however often a run was begun.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ich3d.core.codes import Code
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


class Finished:
    """What is finished, by a key that stands for all that it was made of."""

    def __init__(self, path: Path, keys: Collection[str]) -> None:
        """Open `path`, or begin it. Lines of other keys, and one that was being written, are dropped."""
        self._path = path
        self._places: dict[str, int] = {}
        with replacing(path) as partial, partial.open("wb") as file:
            for key, line in _lines(path):
                if key in keys and key not in self._places:
                    self._places[key] = file.tell()
                    file.write(line)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def add(self, key: str, done: Done) -> None:
        """Note that a series is finished."""
        with self._path.open("ab") as file:
            place = file.tell()
            file.write(json.dumps({"key": key, **asdict(done)}).encode() + b"\n")
        self._places[key] = place

    def __getitem__(self, key: str) -> Done:
        with self._path.open("rb") as file:
            file.seek(self._places[key])
            tree: dict[str, Any] = json.loads(file.readline())
        del tree["key"]
        refused = {name: _rejected(**item) for name, item in tree.pop("refused").items()}
        return Done(**tree, refused=refused)


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                yield json.loads(line)["key"], line
            except (ValueError, KeyError, TypeError):  # the process was killed here
                return


def _rejected(subject: str, code: str, detail: str, paths: list[str]) -> Rejected:
    return Rejected(subject, Code(code), detail, tuple(paths))
