"""Races are fair, and tables say what was run."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from ich3d.benchmarks.dicom import dicom
from ich3d.benchmarks.timing import Candidate, machine, markdown, peak_mib, race

FILES = (Path("a"), Path("b"))


def hold(files: Sequence[Path]) -> object:
    """About 32 MiB a file, and a byte in each page."""
    held = bytearray(2**25 * len(files))
    held[::4096] = b"x" * len(held[::4096])
    return len(held)


def test_contenders_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []
    contenders = [
        Candidate(name, lambda files, name=name: calls.append(name), FILES) for name in "abc"
    ]
    results = race(contenders, "b", repeats=2)
    assert "".join(calls) == "abc" + "bca" + "cab"
    assert [result.name for result in results] == ["a", "b", "c"]
    assert results[1].ratio == 1


def test_peak_memory_is_what_the_work_adds_to_one_file() -> None:
    assert peak_mib(Candidate("hold", hold, FILES)) == pytest.approx(32, abs=6)


def test_a_table_is_markdown() -> None:
    assert markdown(("what", "ms"), [("a", "1.0")]) == "| what | ms |\n| --- | ---: |\n| a | 1.0 |"


def test_the_machine_is_named_with_its_versions() -> None:
    assert "cores" in machine(["pydicom"])
    assert "pydicom 3" in machine(["pydicom"])


@pytest.mark.slow
def test_every_dicom_contender_runs() -> None:
    table = dicom(repeats=1)
    for name in ("raw read", "ich3d load", "SimpleITK", "MONAI", "workers: 2"):
        assert name in table
