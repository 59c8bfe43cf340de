"""Work spread over processes, in which a worker that dies costs its own task alone."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from ich3d.core.errors import DataError
from ich3d.core.hardware import usable_cores

Task = TypeVar("Task")
Result = TypeVar("Result")

MIN_TASKS_PER_WORKER: Final = 4
"""To start a process takes as long as a few tasks: fewer are done in this process."""


@dataclass(frozen=True)
class Done(Generic[Task, Result]):
    """A task and what it returned; `result` is None where its worker died."""

    task: Task
    result: Result | None
    has_died: bool = False


def useful_workers(workers: int, n_tasks: int) -> int:
    """How many of `workers` processes are worth their start for so many tasks; 1 for few."""
    return max(1, min(workers, n_tasks // MIN_TASKS_PER_WORKER))


def useful_threads() -> int:
    """How many threads a step of this process may use for itself.

    As many as `OMP_NUM_THREADS` allows, which Ray and torchrun set; else one in a process that
    another started to share its work, and as many as there are cores in one that works alone.
    """
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    if allowed.isdigit():
        return max(1, int(allowed))
    return usable_cores() if multiprocessing.parent_process() is None else 1


def run_tasks(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int
) -> Iterator[Done[Task, Result]]:
    """Call `function` on each task, in up to `workers` processes; results come as they are ready.

    Each worker is a process of its own, so that it is known which task a dead worker had. With one
    worker the tasks are done in this process.

    Args:
        function: a function of a module, which a new process can import.
        tasks: what can be pickled; they are taken one by one as workers are free.
        workers: most processes at a time.
    """
    if workers == 1:
        return (Done(task, function(task)) for task in tasks)
    return _in_processes(function, iter(tasks), workers)


def torchrun_rank() -> int | None:
    """The number of this process among those that `torchrun` started; None without it.

    Read without importing torch.
    """
    return int(os.environ["RANK"]) if "TORCHELASTIC_RUN_ID" in os.environ else None


def call_apart(about: Path, function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function of a module in a new process, which returns the memory that it takes.

    The list of a million files takes 0.5 GB, of which Python gives little back to the system.

    Args:
        about: the path that the function reads, for a message.
        function: a function of a module, which a new process can import.
        arguments: its arguments, which can be pickled.

    Raises:
        DataError: the process was killed.
    """
    with _worker() as process:
        try:
            return process.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise DataError(
                f"{about}: the process that listed it was killed, as a system does that runs out "
                "of memory: end other programs, and run the same command again"
            ) from None


def _in_processes(
    function: Callable[[Task], Result], tasks: Iterator[Task], workers: int
) -> Iterator[Done[Task, Result]]:
    idle = [_worker() for _ in range(workers)]
    running: dict[Future[Result], tuple[ProcessPoolExecutor, Task]] = {}
    try:
        while True:
            while idle:
                try:
                    task = next(tasks)
                except StopIteration:
                    break
                worker = idle.pop()
                running[worker.submit(function, task)] = (worker, task)
            if not running:
                return
            ready, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ready:
                worker, task = running.pop(future)
                try:
                    done = Done(task, future.result())
                except BrokenProcessPool:
                    worker.shutdown(wait=False)
                    worker, done = _worker(), Done(task, None, has_died=True)
                idle.append(worker)
                yield done
    finally:
        for worker in [*idle, *(worker for worker, _ in running.values())]:
            worker.shutdown(wait=False, cancel_futures=True)


def _worker() -> ProcessPoolExecutor:
    """One process, started anew: a fork would copy the threads' locks of this one."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(max_workers=1, mp_context=context, initializer=_follow_parent)


def _follow_parent() -> None:
    """Leave an interrupt from the keyboard to the parent, and end where the parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_after_parent, daemon=True).start()


def _end_after_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
