"""Contenders that do the same work, timed in turns on one machine.

A busy machine slows whoever runs just then, so contenders alternate, every round starts with another one,
and a ratio is the median of the rounds' own ratios.
"""

import multiprocessing
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter

Work = Callable[[Sequence[Path]], object]
"""Work on some files; a function of a module, so that another process can find it."""


@dataclass(frozen=True)
class Candidate:
    """A way to do the work, and the files that it is done on."""

    name: str
    work: Work
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Result:
    """Median seconds of all files, and the median ratio to the baseline's time in the same round."""

    name: str
    seconds: float
    ratio: float


def race(contenders: Sequence[Candidate], baseline: str, repeats: int) -> list[Result]:
    """Every contender's result over `repeats` rounds, after one that does not count."""
    rounds: list[dict[str, float]] = []
    for number in range(repeats + 1):
        first = number % len(contenders)
        rounds.append({c.name: _seconds(c) for c in (*contenders[first:], *contenders[:first])})
    del rounds[0]
    return [
        Result(
            contender.name,
            median(one[contender.name] for one in rounds),
            median(one[contender.name] / one[baseline] for one in rounds),
        )
        for contender in contenders
    ]


def peak_mib(contender: Candidate) -> float:
    """How far the work lifts the memory of a fresh process above what it takes for one file."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_grown_mib, (contender,))


def machine(packages: Sequence[str]) -> str:
    """The cores that this process may use, and the versions that raced."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores ({platform.machine()}), Python {platform.python_version()}, {versions}"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _seconds(contender: Candidate) -> float:
    start = perf_counter()
    contender.work(contender.files)
    return perf_counter() - start


def _grown_mib(contender: Candidate) -> float:
    contender.work(contender.files[:1])
    before = peak_kib()
    contender.work(contender.files)
    return (peak_kib() - before) / 1024


def peak_kib() -> int:
    """The largest resident memory so far (Linux, proc(5)); getrusage's would count the parent's as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
