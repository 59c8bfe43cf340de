"""What a person at the terminal sees: log lines and progress bars, both on stderr.

Only the doors (the command line, scripts, notebooks) set this up; rooms log and take a `Progress`.
"""

import sys
from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Wraps an iterable so that a person can see it advance."""

    def __call__(self, items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]: ...


def quiet(items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]:
    """No progress shown: the default of every function that takes a `Progress`."""
    return items


def progress_bar(items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]:
    """A progress bar on stderr."""
    from tqdm import tqdm

    return tqdm(
        items, desc=label, total=total, file=sys.stderr, dynamic_ncols=True, mininterval=0.5
    )
