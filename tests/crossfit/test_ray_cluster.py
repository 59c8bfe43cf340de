"""Training on a Ray cluster of two nodes on this machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from ich3d.config.load import as_dict
from ich3d.config.root import Config
from ich3d.config.schema import (
    ContextConfig,
    PhantomConfig,
    PrepareConfig,
    SlicesConfig,
    StackConfig,
)
from ich3d.core.ray_cluster import LOCAL
from ich3d.crossfit.ray_cluster import Wanted, train_on_ray
from ich3d.crossfit.stages import Stages
from tests.helpers.ray_cluster import running_cluster
from tests.helpers.runs import copy_run, store_of, workspace_of

T = TypeVar("T")

CONFIG = Config(
    precision="fp32",
    phantom=PhantomConfig(studies=6, matrix=64, thickness_mm=(10.0,), prevalence={"subdural": 0.9}),
    prepare=PrepareConfig(matrix=48, pixel_mm=4.8, folds=3),
    slices=SlicesConfig(encoder="resnet10-half", epochs=3, ensemble_size=2),
    context=ContextConfig(ensemble_size=1, hidden_size=8, epochs=2),
    stack=StackConfig(num_trees=4),
)


def command_for(workspace: Path, *options: str) -> list[str]:
    config = workspace.with_suffix(".json")
    config.write_text(json.dumps(as_dict(replace(CONFIG, workspace=str(workspace)))))
    return [sys.executable, "-m", "ich3d", "train", "--config", str(config), *options]


def results(workspace: Path) -> dict[str, bytes]:
    """The scores, the model and the trained weights."""
    return {
        path.relative_to(workspace).as_posix(): path.read_bytes()
        for folder in ("oof", "encoder", "context", "stack")
        for path in sorted((workspace / folder).rglob("*"))
        if path.name in {"weights.safetensors", "stack.json"} or path.suffix == ".csv"
    }


def n_finished(workspace: Path) -> int:
    return len(list(workspace.glob("*/fold*/done.json")))


@pytest.mark.slow
def test_a_lost_node_and_a_killed_driver_cost_only_what_they_had_in_hand(tmp_path: Path) -> None:
    serial, workspace = tmp_path / "serial", tmp_path / "run"
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as Ray gives a task of one CPU
    subprocess.run(command_for(serial), check=True, env=one_thread)

    with running_cluster() as cluster:
        command = command_for(workspace, "--ray", cluster.address)
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as driver:
            for count, then in ((3, cluster.kill_node), (6, driver.kill)):
                while n_finished(workspace) < count:
                    assert driver.poll() is None, "the driver ended too early"
                    time.sleep(0.02)
                then()
        finished = {p: p.stat().st_mtime_ns for p in workspace.glob("*/fold*/done.json")}
        assert len(finished) < 9
        subprocess.run(command, check=True, timeout=300, env=one_thread)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert results(workspace) == results(serial)
    assert len(results(serial)) == 3 + 9


@pytest.mark.slow
def test_rows_with_one_frozen_network_run_it_once(finished_run: Config, tmp_path: Path) -> None:
    """Two rows differ in the last layer, two others in the seed of their augmented copies."""
    frozen = SlicesConfig(encoder="efficientnet-lite0", weights="imagenet", frozen=True)
    run = replace(copy_run(finished_run, tmp_path / "run"), slices=frozen)
    rows = [frozen, replace(frozen, regression_c=0.5), replace(frozen, augmented=1)]
    wanted = [Wanted(replace(run, slices=row), ("encoder",)) for row in rows]
    wanted.append(replace(wanted[-1], config=replace(wanted[-1].config, seed=run.seed + 1)))
    n_parts = 0

    def count(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        nonlocal n_parts
        for item in items:
            n_parts += 1
            yield item

    train_on_ray(wanted, run, store_of(run), LOCAL, count)
    assert n_parts == 4 * 3 + 3  # encoders of three folds each; the network, and copies twice
    for one in wanted:
        stages = Stages(one.config, workspace_of(run), store_of(run), run)
        assert len(stages.embedded()) == len(store_of(run).volume_ids)
