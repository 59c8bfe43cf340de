"""Time several ways to do the same work fairly, on one machine.

Other processes slow down whatever runs at that moment. So the candidates alternate, each round
starts with another one, and a ratio is the median of the ratios within each round.
"""

import multiprocessing
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from ich3d.core.hardware import usable_cores
from ich3d.core.versions import installed_version

Work = Callable[[Sequence[Path]], object]
"""Work on some files. `peak_mib` needs a function of a module, which another process can import."""


@dataclass(frozen=True)
class Candidate:
    """One way to do the work, under its `name`, and the files to do it on."""

    name: str
    work: Work
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Timing:
    """Time of one candidate.

    Attributes:
        name: the candidate's name.
        seconds: median time for all files, in seconds.
        ratio: median of its time divided by the baseline's time in the same round.
    """

    name: str
    seconds: float
    ratio: float


def time_candidates(candidates: Sequence[Candidate], baseline: str, repeats: int) -> list[Timing]:
    """Time all candidates over `repeats` rounds, after one round that is not counted.

    Args:
        candidates: the ways to do the work.
        baseline: name of the candidate that the ratios compare with.
        repeats: number of rounds that count.

    Returns:
        One timing for each candidate, in the order given.
    """
    rounds: list[dict[str, float]] = []
    for number in range(repeats + 1):
        first = number % len(candidates)
        rotated = (*candidates[first:], *candidates[:first])
        rounds.append({candidate.name: _seconds(candidate) for candidate in rotated})

    del rounds[0]  # fills caches and imports libraries
    return [_summarize(candidate.name, baseline, rounds) for candidate in candidates]


def peak_mib(candidate: Candidate) -> float:
    """Memory in MiB that a fresh process needs for all files, above what it needs for one file."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_added_peak_mib, (candidate,))


def peak_kib() -> int:
    """Largest resident memory of this process so far, in KiB (VmHWM, Linux, proc(5)).

    `getrusage` would include the memory of the parent process from before the start.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def describe_machine(packages: Sequence[str]) -> str:
    """One line with the usable CPU cores and the versions of Python and `packages`."""
    versions = ", ".join(f"{package} {installed_version(package)}" for package in packages)
    python = platform.python_version()
    return f"{usable_cores()} cores ({platform.machine()}), Python {python}, {versions}"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; the first column is aligned left, the others right."""
    alignment = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, alignment, *rows))


def _summarize(name: str, baseline: str, rounds: Sequence[dict[str, float]]) -> Timing:
    seconds = median(times[name] for times in rounds)
    ratio = median(times[name] / times[baseline] for times in rounds)
    return Timing(name, seconds, ratio)


def _seconds(candidate: Candidate) -> float:
    start = perf_counter()
    candidate.work(candidate.files)
    return perf_counter() - start


def _added_peak_mib(candidate: Candidate) -> float:
    candidate.work(candidate.files[:1])  # also imports the candidate's libraries
    before = peak_kib()
    candidate.work(candidate.files)
    return (peak_kib() - before) / 1024
