"""Train stages on a Ray cluster whose machines share the workspace.

A task trains one part: a member of an encoder, the encoder of a fold, its context models, its
stacker. It begins when the parts that it reads are finished, and leaves its result in the
workspace, as a run in one process does. A task whose machine is lost is repeated, and goes on from
its last checkpoint. Afterwards the same command finds every stage finished.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from ich3d.config.root import Config
from ich3d.core.progress import Progress, quiet
from ich3d.core.ray_cluster import connected_ray
from ich3d.core.workspace import Workspace
from ich3d.crossfit.stages import Stages
from ich3d.prepare.store import Store

SERIES_PER_TASK: Final = 50
"""Series that one task sends through a frozen network."""


class Key(NamedTuple):
    """What a part is made of, so that two rows of an ablation may share it.

    Attributes:
        stage: its stage; `member` for one network of an encoder, `frozen` for what is frozen of it.
        inputs: hash of what the stage depends on; of a frozen network, its identity.
        number: the fold; of a frozen network, the chunk of the series.
        member: which network of an encoder; of a frozen network, how many augmented copies.
        seed: of a frozen network with augmented copies, their seed.
    """

    stage: str
    inputs: str
    number: int
    member: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Wanted:
    """A configuration, and the last stages that are wanted of it."""

    config: Config
    stages: tuple[str, ...]


def train_on_ray(
    wanted: Sequence[Wanted],
    run: Config | None,
    store: Store,
    address: str,
    progress: Progress = quiet,
) -> None:
    """Train the stages of some configurations on the cluster at `address`.

    Args:
        wanted: which stages of which configurations.
        run: as `Stages` takes it: the workspace's run, beside which an ablation keeps what differs
            from it; None where the run itself is trained.
        store: the prepared data.
        address: of the cluster; `local` starts one on this machine.
        progress: shows the parts.

    Raises:
        ConfigError: Ray is not installed.
        DataError: there is no cluster at the address, or what the stages raise.
    """
    with connected_ray(address) as ray:
        plan = _Plan(ray, run, store)
        for one in wanted:
            plan.add(one)
        parts = plan.finished()
        for _ in progress(parts, "parts of stages", total=len(plan.tasks)):
            pass


class _Plan:
    """The tasks of some configurations, each part once."""

    def __init__(self, ray: Any, run: Config | None, store: Store) -> None:
        self.tasks: dict[Key, Any] = {}
        self._ray, self._run, self._store = ray, run, store
        resources = ray.cluster_resources()
        n_gpus, n_cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        train = ray.remote(_train_part)
        self._on_cpu = train.options(num_cpus=1, max_retries=-1)
        self._on_device = self._on_cpu
        if n_gpus:
            cpus = max(1, n_cpus // n_gpus)  # they read slices ahead
            self._on_device = train.options(num_cpus=cpus, num_gpus=1, max_retries=-1)

    def add(self, wanted: Wanted) -> None:
        """Submit what is missing, in an order in which every part comes after what it reads."""
        stages = _stages(wanted.config, self._run, self._store)
        folds = sorted(set(self._store.folds.values()))
        frozen = self._frozen(wanted, stages) if stages.has_frozen_parts else ()
        n_members = wanted.config.slices.ensemble_size
        for fold in folds:
            stages.start("encoder", fold)
            members = [
                self._task(wanted, Key("member", stages.inputs_sha256("encoder"), fold, member))
                for member in (range(n_members) if n_members > 1 else ())
            ]
            self._task(wanted, _key(stages, "encoder", fold), [*frozen, *members])
        encoders = self._of("encoder", stages)
        for stage in wanted.stages:
            before = encoders
            if stage == "stack":
                before = [
                    self._task(wanted, _key(stages, "context", fold), encoders) for fold in folds
                ]
            if stage != "encoder":
                for fold in folds:
                    self._task(wanted, _key(stages, stage, fold), before)

    def _frozen(self, wanted: Wanted, stages: Stages) -> list[Any]:
        """The tasks that run what is frozen over all series. Where another configuration has the
        same network with other copies, one chunk comes after the other: series are embedded once.
        """
        tasks = []
        for chunk in range(math.ceil(len(self._store.volume_ids) / SERIES_PER_TASK)):
            key = Key("frozen", stages.frozen_identity, chunk)
            before = [task for other, task in self.tasks.items() if other[:3] == key[:3]]
            copies = wanted.config.slices.augmented
            if copies:
                key = key._replace(member=copies, seed=wanted.config.seed)
            tasks.append(self._task(wanted, key, before))
        return tasks

    def finished(self) -> Iterator[None]:
        """Yield as parts are finished; an error of a part ends the run."""
        left = list(self.tasks.values())
        while left:
            ready, left = self._ray.wait(left, num_returns=1)
            self._ray.get(ready)
            yield from (None for _ in ready)

    def _task(self, wanted: Wanted, key: Key, before: Sequence[Any] = ()) -> Any:
        """The task of a part, submitted where no other configuration did."""
        if key not in self.tasks:
            remote = self._on_cpu if key.stage.endswith("stack") else self._on_device
            self.tasks[key] = remote.remote(wanted.config, self._run, key, *before)
        return self.tasks[key]

    def _of(self, stage: str, stages: Stages) -> list[Any]:
        """The tasks of all folds of a stage."""
        inputs = stages.inputs_sha256(stage)
        return [
            task for key, task in self.tasks.items() if (key.stage, key.inputs) == (stage, inputs)
        ]


def _key(stages: Stages, stage: str, fold: int) -> Key:
    return Key(stage, stages.inputs_sha256(stage), fold)


def _stages(config: Config, run: Config | None, store: Store) -> Stages:
    return Stages(config, Workspace(Path(config.workspace)), store, run)


def _train_part(config: Config, run: Config | None, part: Key, *finished: None) -> None:
    """Train a part where it is missing; `finished` are the results that Ray waited for."""
    store = Store(Workspace(Path(config.workspace)).store)
    stages = _stages(config, run, store)
    if part.stage == "frozen":
        start = part.number * SERIES_PER_TASK
        stages.compute_frozen(store.volume_ids[start : start + SERIES_PER_TASK])
    elif part.stage == "member":
        stages.train_member(part.number, part.member)
    else:
        stages.train_fold(part.stage, part.number)
