"""Work spread over processes."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from ich3d.core.errors import DataError
from ich3d.core.hardware import usable_cores
from ich3d.core.processes import call_apart, run_tasks, useful_threads, useful_workers


def square_unless_thirteen(number: int) -> tuple[int, int]:
    """The square and the process that computed it; 13 kills its process."""
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2, os.getpid()


def fail_at_two(number: int) -> int:
    if number == 2:
        raise ValueError("two")
    return number


def test_one_worker_is_this_process() -> None:
    results = [done.result for done in run_tasks(square_unless_thirteen, [1, 2], workers=1)]
    assert results == [(1, os.getpid()), (4, os.getpid())]


def test_a_dead_worker_costs_its_own_task_alone() -> None:
    done = list(run_tasks(square_unless_thirteen, range(20), workers=2))
    assert sorted(item.task for item in done) == list(range(20))
    assert [item.task for item in done if item.has_died] == [13]
    results = {item.task: item.result for item in done if item.result is not None}
    assert all(result[0] == task**2 for task, result in results.items())
    processes = Counter(result[1] for result in results.values())
    assert os.getpid() not in processes
    assert len(processes) in (2, 3)  # two; the one in place of the dead one may get no task


def test_an_error_in_a_worker_is_raised_here() -> None:
    with pytest.raises(ValueError, match="two"):
        list(run_tasks(fail_at_two, range(20), workers=2))


def test_a_call_apart_is_made_in_another_process() -> None:
    square, process = call_apart(Path("zip"), square_unless_thirteen, 5)
    assert square == 25
    assert process != os.getpid()


def test_a_killed_call_apart_is_told_with_its_file_and_what_to_do() -> None:
    with pytest.raises(
        DataError, match=r"^in/rsna\.zip: the process .* was killed, .* run the same"
    ):
        call_apart(Path("in/rsna.zip"), square_unless_thirteen, 13)


def test_few_tasks_are_not_worth_a_process() -> None:
    assert [useful_workers(4, n_tasks) for n_tasks in (0, 3, 8, 100)] == [1, 1, 2, 4]


def test_one_of_several_processes_uses_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert useful_threads() == usable_cores()
    assert [done.result for done in run_tasks(threads_in_a_worker, range(8), workers=2)] == [1] * 8
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert useful_threads() == 3


def threads_in_a_worker(_: int) -> int:
    return useful_threads()
