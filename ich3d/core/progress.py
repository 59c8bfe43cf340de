"""Progress bars. Library functions take a `Progress`; only the command line and notebooks pass one.

The default is `quiet`, so that importing code prints nothing.
"""

import sys
from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """A function that returns an iterable unchanged and shows how far it has advanced."""

    def __call__(self, items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]:
        """Iterate over `items`; `label` names the step, `total` is their number where known."""
        ...


def quiet(items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]:
    """A `Progress` that shows nothing: the default of every function that takes one."""
    return items


def progress_bar(items: Iterable[T], label: str, total: int | None = None) -> Iterable[T]:
    """A `Progress` that draws a bar on stderr, updated at most every 0.5 seconds."""
    from tqdm import tqdm

    return tqdm(
        items, desc=label, total=total, file=sys.stderr, dynamic_ncols=True, mininterval=0.5
    )
