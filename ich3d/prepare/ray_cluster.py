"""Prepare parts on a Ray cluster whose machines share the folders of source and workspace.

Plain tasks, one a part, which return nothing: the store holds what they made. Ray repeats a task
whose process or machine is lost. A task notes that it begins, so that a part which kills its
process again and again is found; what was lost with a machine does not count.
"""

import importlib
import uuid
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from ich3d.core.progress import Progress, quiet
from ich3d.core.ray_cluster import connected_ray
from ich3d.prepare.parts import (
    MOST_DEATHS,
    PartTask,
    attempts,
    give_up,
    note_attempt,
    prepare_part,
)

TASKS_PER_CPU: Final = 2
"""Tasks that wait or run for each CPU: the driver need not hold one for each of 20,000 series."""


def prepare_on_ray(tasks: Sequence[PartTask], address: str, progress: Progress = quiet) -> None:
    """Prepare all parts on the cluster at `address`; `LOCAL` starts one on this machine.

    Raises:
        ConfigError: Ray is not installed.
        DataError: there is no cluster at the address.
    """
    run = uuid.uuid4().hex
    with connected_ray(address) as ray:
        remote = ray.remote(_prepare_and_count).options(num_cpus=1, max_retries=-1)
        finished = _finished(ray, remote, [(task, run) for task in tasks])
        for _ in progress(finished, "series", total=len(tasks)):
            pass


def _finished(ray: Any, remote: Any, arguments: Sequence[tuple[PartTask, str]]) -> Iterator[None]:
    """Yield as tasks end, while at most `TASKS_PER_CPU` for each CPU are in flight."""
    waiting = iter(arguments)
    in_flight: list[Any] = []
    while True:
        cap = max(1, int(TASKS_PER_CPU * ray.cluster_resources().get("CPU", 1)))
        in_flight += [remote.remote(*task) for task in islice(waiting, cap - len(in_flight))]
        if not in_flight:
            return
        ready, in_flight = ray.wait(in_flight, num_returns=1)
        ray.get(ready)
        yield from (None for _ in ready)


def _prepare_and_count(task: PartTask, run: str) -> None:
    """Prepare a part, or reject it where it killed its process too often in this run."""
    ray: Any = importlib.import_module("ray")
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    node = ray.get_runtime_context().get_node_id()
    own = [attempt for attempt in attempts(task) if attempt.startswith(f"{run}/")]
    if sum(attempt.partition("/")[2] in alive for attempt in own) >= MOST_DEATHS:
        give_up(task)
        return
    note_attempt(task, f"{run}/{node}")
    prepare_part(task)
