"""Where the parts of a data set are prepared: here, in a pool of processes, or on a Ray cluster.

The function that does the work is the same everywhere, and so are the files that it writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ich3d.core.errors import ConfigError
from ich3d.core.processes import run_tasks, useful_workers
from ich3d.core.progress import Progress, quiet
from ich3d.prepare.parts import (
    MOST_DEATHS,
    PartTask,
    attempts,
    give_up,
    note_attempt,
    prepare_part,
    read_outcome,
)

_POOL: Final = "pool"


@dataclass(frozen=True)
class Shard:
    """One of `count` equal shares of a data set, by `number` from 1."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ConfigError(f"shard {self}: the first number must be from 1 to the second")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def has(self, task: PartTask) -> bool:
        """Whether the shard has this part; each part is in one shard, whatever its number is."""
        return int(task.part.files_sha256, 16) % self.count == self.number - 1


@dataclass(frozen=True)
class Spread:
    """What prepares the parts.

    Attributes:
        workers: processes on this machine; they also read the headers.
        ray: address of a Ray cluster, or `local`; None for the processes alone.
    """

    workers: int = 1
    ray: str | None = None


HERE: Final = Spread()
"""One part after the other, in this process."""


def prepare_parts(
    tasks: Sequence[PartTask], spread: Spread, progress: Progress = quiet
) -> list[PartTask]:
    """Prepare the parts that are not prepared yet; returns those.

    A part that kills its process `MOST_DEATHS` times is rejected.
    """
    missing = [task for task in tasks if read_outcome(task) is None]
    if spread.ray is None:
        _prepare_in_pool(missing, spread.workers, progress)
    else:
        from ich3d.prepare.ray_cluster import prepare_on_ray

        prepare_on_ray(missing, spread.ray, progress)
    return missing


def _prepare_in_pool(tasks: Sequence[PartTask], workers: int, progress: Progress) -> None:
    workers = useful_workers(workers, len(tasks))
    while tasks:
        run = progress(run_tasks(prepare_part, tasks, workers), "series", total=len(tasks))
        died = [done.task for done in run if done.has_died]
        for task in died:
            note_attempt(task, _POOL)
            if attempts(task).count(_POOL) >= MOST_DEATHS:
                give_up(task)
        tasks = [task for task in died if read_outcome(task) is None]
