"""A real Ray of several nodes on this machine: raylets of their own, on 127.0.0.1, behind a token, in a short folder."""

import gc
import os
import shutil
import tempfile
from pathlib import Path

import psutil

VARIABLES = {  # of Ray, and of all that joins it
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listen on 127.0.0.1 alone
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
TRIES = 5  # Ray gives a node 30 seconds to start, which a busy machine exceeds


class Nodes:
    """A head without room for stages, and nodes with a CPU each. VARIABLES are in the environment before it is made."""

    def __init__(self, number: int, gpus: int = 0):
        self.folder, self.gpus = tempfile.mkdtemp(prefix="ray-", dir="/tmp"), gpus  # sockets lie in it
        (Path(self.folder) / "ray").mkdir()
        os.environ["RAY_TMPDIR"] = self.folder
        from ray.cluster_utils import Cluster

        self.cluster = Cluster()
        self._add(num_cpus=0)
        for _ in range(number):
            self.add()

    @property
    def address(self) -> str:
        return self.cluster.address

    @property
    def nodes(self) -> list:
        return list(self.cluster.worker_nodes)

    def add(self) -> None:
        self._add(num_cpus=1, num_gpus=self.gpus)

    def _add(self, **more: int) -> None:
        before = {p.pid for p in psutil.Process().children()}
        for left in reversed(range(TRIES)):
            try:
                self.cluster.add_node(
                    node_ip_address="127.0.0.1", object_store_memory=80 * 2**20, include_dashboard=False,
                    temp_dir=self.folder, **more,
                )  # fmt: skip
            except Exception as error:
                if "timed out during startup" not in str(error) or not left:
                    raise
                for process in psutil.Process().children():
                    if process.pid not in before:
                        process.kill()
                        process.wait(timeout=20)
            else:
                return

    def processes(self, node) -> list[psutil.Process]:
        """Return the raylet of a node and all below it: Ray's processes, fork servers, stages."""
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        return [raylet, *raylet.children(recursive=True)]

    def node_of(self, pid: int):
        """Return the node on which a process runs."""
        return next(n for n in self.nodes if pid in {p.pid for p in self.processes(n)})

    def kill(self, node) -> list[psutil.Process]:
        """Kill a node. Returns the processes that were on it."""
        there = self.processes(node)
        self.cluster.remove_node(node, allow_graceful=False)
        return there

    def close(self) -> None:
        self.cluster.shutdown()
        os.environ.pop("RAY_TMPDIR", None)
        shutil.rmtree(self.folder, ignore_errors=True)
        gc.collect()  # Ray leaves pipes and log files to it
