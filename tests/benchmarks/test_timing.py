"""Candidates are timed fairly, and tables say what was run."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from ich3d.benchmarks.timing import (
    Candidate,
    describe_machine,
    markdown_table,
    peak_mib,
    time_candidates,
)

FILES = (Path("a"), Path("b"))


def allocate(files: Sequence[Path]) -> object:
    """Fill 32 MiB a file, writing to each page so that it takes up memory."""
    block = bytearray(2**25 * len(files))
    block[::4096] = b"x" * len(block[::4096])
    return len(block)


def test_candidates_alternate_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    def recorder(name: str) -> Candidate:
        return Candidate(name, lambda files: calls.append(name), FILES)

    timings = time_candidates([recorder(name) for name in "abc"], "b", repeats=2)
    assert "".join(calls) == "abc" + "bca" + "cab"
    assert [timing.name for timing in timings] == ["a", "b", "c"]
    assert timings[1].ratio == 1


def test_peak_memory_is_what_the_work_adds_to_one_file() -> None:
    assert peak_mib(Candidate("allocate", allocate, FILES)) == pytest.approx(32, abs=6)


def test_a_table_is_markdown() -> None:
    table = markdown_table(("what", "ms"), [("a", "1.0")])
    assert table == "| what | ms |\n| --- | ---: |\n| a | 1.0 |"


def test_the_machine_is_described_with_the_versions() -> None:
    assert "cores" in describe_machine(["pydicom"])
    assert "pydicom 3" in describe_machine(["pydicom"])
