"""A Ray cluster of two nodes on this machine, in a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CLUSTER = """
import os, sys
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_worker_niceness"] = "0"  # else other programs of this machine starve its workers
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
