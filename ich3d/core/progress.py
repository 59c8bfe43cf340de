"""Progress bars and lines: library functions take a `Progress`, and only programs pass one.

The default is `quiet`, so that importing code prints nothing.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Final, Protocol, TypeVar

T = TypeVar("T")

LINE_SECONDS: Final = 30
"""Seconds between two lines of progress in a log or a pipe."""


class Progress(Protocol):
    """A function that returns an iterable unchanged and shows how far it has advanced."""

    def __call__(self, items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]:
        """Iterate over `items`; `label` names the step, `total` is their number where known."""
        ...


def quiet(items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]:
    """A `Progress` that shows nothing: the default of every function that takes one."""
    return items


def progress_bar(items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]:
    """A `Progress` on stderr: a bar on a terminal, else a line every `LINE_SECONDS` at most."""
    if not sys.stderr.isatty():
        return _progress_lines(items, label, total)

    from tqdm import tqdm

    return tqdm(
        items, desc=label, total=total, file=sys.stderr, dynamic_ncols=True, mininterval=0.5
    )


def _progress_lines(items: Iterable[T], label: str, total: int | None) -> Iterator[T]:
    """Yield the items; what takes less than `LINE_SECONDS` prints nothing."""
    of_total = "" if total is None else f" of {total}"
    start = last_line = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last_line >= LINE_SECONDS:
            sys.stderr.write(f"{label}: {done}{of_total}, {_pace(done, total, now - start)}\n")
            last_line = now


def _pace(done: int, total: int | None, seconds: float) -> str:
    """`2.5 a second, 01:20 left` after `done` items in so many seconds."""
    from tqdm import tqdm

    each = seconds / done
    pace = f"{1 / each:.1f} a second" if each < 1 else f"{each:.1f} s each"
    return pace if total is None else f"{pace}, {tqdm.format_interval(each * (total - done))} left"
