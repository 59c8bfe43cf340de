"""Preparation on a Ray cluster of two nodes on this machine."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ich3d.dicom.write import write_series
from tests.helpers.series import head_series

CLUSTER = """
import os, sys
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
from ray.cluster_utils import Cluster
memory = 80 * 1024 * 1024
cluster = Cluster(
    initialize_head=True,
    head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": memory},
)
node = cluster.add_node(num_cpus=1, object_store_memory=memory)
cluster.wait_for_nodes()
print("\\n" + cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(node, allow_graceful=False)
print("\\nremoved", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""
"""Two nodes; a line on stdin kills the second, another ends the cluster."""

N_SERIES = 30


class RunningCluster:
    """A cluster in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.address = self._line()

    def kill_node(self) -> None:
        """Kill the node that is not the head, as a lost machine would be."""
        self._next()
        assert self._line() == "removed"

    def end(self) -> None:
        """Shut the cluster down."""
        self._next()
        self._process.wait(60)

    def _next(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return next(line.strip() for line in self._process.stdout if line.strip())


@contextmanager
def running_cluster() -> Iterator[RunningCluster]:
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        cluster = RunningCluster(process)
        try:
            yield cluster
        finally:
            process.communicate("\n\n", timeout=60)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray") / "in"
    for number in range(N_SERIES):
        write_series(head_series(name=f"head{number}", n=10), folder / str(number))
    return folder


def config_for(images: Path, workspace: Path) -> Path:
    path = workspace.with_suffix(".yaml")
    path.write_text(
        f"workspace: {workspace}\nsource: {{kind: folder, path: {images}}}\n"
        "prepare: {folds: 3, matrix: 48, pixel_mm: 6.0}\n"
    )
    return path


def written(workspace: Path) -> dict[str, bytes]:
    return {
        path.relative_to(workspace).as_posix(): path.read_bytes()
        for path in sorted(workspace.rglob("*"))
        if path.is_file() and path.suffix != ".sqlite"
    }


def n_done(workspace: Path) -> int:
    return len(list(workspace.glob("store/parts/*.json")))


def wait_for(workspace: Path, count: int, driver: "subprocess.Popen[bytes]") -> None:
    """Wait until so many series are prepared."""
    while n_done(workspace) < count:
        assert driver.poll() is None, "the driver ended too early"
        time.sleep(0.02)


def prepare_command(config: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "ich3d", "prepare", "--config", str(config), *options]


@pytest.mark.trains
def test_a_lost_node_and_a_killed_driver_cost_only_what_they_had_in_hand(
    images: Path, tmp_path: Path
) -> None:
    serial, workspace = tmp_path / "serial", tmp_path / "run"
    subprocess.run(prepare_command(config_for(images, serial), "--workers", "1"), check=True)

    with running_cluster() as cluster:
        on_ray = ("--workers", "1", "--ray", cluster.address)
        command = prepare_command(config_for(images, workspace), *on_ray)
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as driver:
            wait_for(workspace, N_SERIES // 3, driver)
            cluster.kill_node()
            wait_for(workspace, N_SERIES * 2 // 3, driver)
            driver.kill()

        before = {path: path.stat().st_mtime_ns for path in workspace.rglob("*.b2nd")}
        assert n_done(workspace) < N_SERIES
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL, timeout=300)
    finished = {path: path.stat().st_mtime_ns for path in before}
    assert finished == before
    assert written(workspace) == written(serial)
