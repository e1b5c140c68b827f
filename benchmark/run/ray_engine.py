"""The engine of a Ray cluster, or of a Ray that it starts itself on this machine.

A stage is one Ray task, which asks for the CPUs, GPUs and memory that the stage needs: Ray finds the node. What runs
there is `benchmark.run.ray_node`. The store, which all nodes must see, is the only channel for data. Ray itself tries
nothing again: a stage whose process or node was lost ends as `killed`, and the harness tries it again.
"""

import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark.errors import EngineError
from benchmark.run.engine import Ending, Engine
from benchmark.run.engines import RayOptions
from benchmark.run.local import GRACE, divided, gpus
from benchmark.run.ray_node import run_stage
from benchmark.run.stage import all_code

ALONG = ("CDNER_", "HF_", "OPENAI_")  # variables of the environment that stages are given on every node
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # all that Ray starts listens on 127.0.0.1 alone
OBJECTS = 80 * 2**20  # bytes of Ray's object store: nothing but a few words passes through it
LOOK = 5.0  # seconds between two looks at the nodes
PATIENCE = 60.0  # seconds without any node that has room for a stage


class RayEngine(Engine):
    """Runs each stage as a task of Ray.

    options  what the user says of this engine
    slots    stages at once, threads: of each; both go before the options
    """

    def __init__(self, options: RayOptions, slots: int | None = None, threads: int | None = None) -> None:
        self.options = options
        self.own = options.address is None
        self.fixed = slots or options.slots
        self.threads = threads or options.cpus_per_stage or 1
        self.slots = self.fixed or 1  # until the nodes are known
        if self.own:
            said = threads or options.cpus_per_stage
            self.slots, self.threads = divided(len(gpus()), self.fixed, said)
        self.gpus = 0.0 if options.gpus_per_stage is None else options.gpus_per_stage  # of a stage that needs one
        self._running: dict[Any, Path] = {}  # by the reference to the task
        self._task: Any = None  # connected: the function that runs a stage
        self._leave = contextlib.ExitStack()
        self._code: dict[str, str] = {}
        self._looked = self._seen = 0.0  # when the nodes were looked at, and when one had room

    # ---- the cluster

    def warm(self) -> None:
        """Join the cluster, or start Ray. Raises EngineError where that fails, or no node has room for a stage."""
        if self._task is not None:
            return
        if self.own:
            self._leave.enter_context(environment({**QUIET, **LOOPBACK, **own_token()}))
        else:
            knock(self.options.address or "")
            self._leave.enter_context(environment(QUIET))
        import ray

        if ray.is_initialized():
            pass  # whoever connected this process disconnects it too
        elif self.own:
            self._start()
        else:
            self._connect()
        hush()
        self._code = all_code()
        self._task = ray.remote(max_retries=0, max_calls=0)(run_stage)
        self._look()

    def _start(self) -> None:
        import ray

        folder = tempfile.mkdtemp(prefix="cdner-ray-")
        self._leave.callback(shutil.rmtree, folder, ignore_errors=True)
        self._leave.callback(ray.shutdown)
        try:
            with signals_kept():
                ray.init(
                    "local", num_cpus=self.slots * self.threads, num_gpus=len(gpus()), include_dashboard=False,
                    object_store_memory=OBJECTS, log_to_driver=False, logging_level=logging.ERROR, _temp_dir=folder,
                )  # fmt: skip
        except Exception as error:  # what it raises is of many kinds
            raise EngineError(f"Ray cannot be started on this machine: {first_sentence(error)}") from error

    def _connect(self) -> None:
        import ray

        self._leave.callback(ray.shutdown)
        try:
            with signals_kept():
                ray.init(self.options.address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # as above
            raise no_cluster(self.options.address, first_sentence(error)) from error

    def _look(self) -> None:
        """Count the places for stages on the nodes of now. Raises EngineError where there has been none for a while."""
        import ray

        first = not self._looked
        self._looked = time.monotonic()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        if self.options.gpus_per_stage is None:
            self.gpus = max(self.gpus, float(any(node.get("GPU") for node in nodes)))
        wanted = self.wanted("gpu")
        places = sum(places_on(node, wanted) for node in nodes)
        self.slots = self.fixed or max(1, places)
        if places:
            self._seen = self._looked
        elif self.fixed is None and (first or self._looked - self._seen > PATIENCE):
            raise EngineError(
                f"no node of the Ray cluster has room for a stage, which asks for {amounts(wanted)}; the nodes have: "
                f"{'; '.join(amounts(node) for node in nodes) or 'none is there'}. Ask for less in the options of the "
                "engine, or say `slots` there, and stages wait for nodes that are still to come."
            )

    def wanted(self, needs: str) -> dict[str, float]:
        """Return what a stage asks of Ray. One that waits for a language model's server asks for a single CPU."""
        found = {"CPU": 1.0 if needs == "llm" else float(self.threads)}
        if needs == "gpu" and self.gpus:
            found["GPU"] = self.gpus
        if self.options.memory_gib is not None:
            found["memory"] = self.options.memory_gib * 2**30
        return found

    # ---- stages

    def start(self, scratch: Path) -> None:
        """Ask Ray to run the stage in `scratch` where there is room for it."""
        self.warm()
        request = json.loads((scratch / "request.json").read_text(encoding="utf8"))
        wanted = self.wanted(request["needs"])
        task = self._task.options(
            name=request["title"] or request["key"],
            num_cpus=wanted["CPU"],
            num_gpus=wanted.get("GPU", 0),
            memory=int(wanted["memory"]) if "memory" in wanted else None,
        )
        reference = task.remote(str(scratch.absolute()), os.getcwd(), self._environment(), self._code)
        self._running[reference] = scratch

    def _environment(self) -> dict[str, str]:
        along = {name: value for name, value in os.environ.items() if name.startswith(ALONG)}
        return {**along, **self.options.worker_env}

    def wait(self, seconds: float) -> list[Ending]:
        """Return what has ended. Raises EngineError where the cluster cannot run stages at all."""
        import ray

        if self._task is not None and time.monotonic() - self._looked > LOOK:
            self._look()
        if not self._running:
            time.sleep(seconds)
            return []
        ready, _ = ray.wait(list(self._running), timeout=seconds)
        if ready:
            ready, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        return [ended(reference, self._running.pop(reference)) for reference in ready]

    def stop(self, scratch: Path) -> None:
        """Cancel the stage's task: its node terminates the process group, and kills it three seconds later."""
        import ray

        for reference in [r for r, of in self._running.items() if of == scratch]:
            ray.cancel(reference, force=False)

    def close(self) -> None:
        """End all that runs, leave the cluster, and end a Ray that was started here."""
        try:
            if self._running:
                self._end_all()
        finally:
            self._task = None
            self._running.clear()
            self._leave.close()

    def _end_all(self) -> None:
        import ray

        with contextlib.suppress(ray.exceptions.RayError, EngineError):
            for scratch in list(self._running.values()):
                self.stop(scratch)
            deadline = time.monotonic() + 2 * GRACE
            while self._running and time.monotonic() < deadline:
                self.wait(0.1)
            for reference in self._running:
                ray.cancel(reference, force=True)  # its process ends, and the fork server behind it


def ended(reference: Any, scratch: Path) -> Ending:
    """Return how a task has ended. Raises EngineError where its node cannot run stages."""
    import ray

    try:
        told: dict[str, Any] = ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return Ending(scratch, -signal.SIGTERM)
    except ray.exceptions.OutOfMemoryError:
        return Ending(scratch, -signal.SIGKILL, "out of memory: Ray has ended it, for its node had none left")
    except ray.exceptions.RayTaskError as error:
        raise EngineError(
            f"a node of the Ray cluster cannot run stages; is cdner installed there as it is here? {last_line(error)}"
        ) from None
    except ray.exceptions.RayError:
        return Ending(scratch, -signal.SIGKILL, "killed: its Ray process, or the node, was lost")
    if told.get("blind"):
        raise EngineError(
            f"{scratch.parent.parent}: {told['host']}, a node of the Ray cluster, does not see the store. "
            "Set CDNER_STORE to a folder of a file system that all nodes share."
        )
    if told.get("differs"):
        raise EngineError(
            f"{told['host']}, a node of the Ray cluster, has another cdner: {', '.join(told['differs'][:3])} differ. "
            "Install the same version, with the same methods, on every node, and start Ray there again."
        )
    return Ending(scratch, int(told["code"]), told["over"])


def places_on(node: Mapping[str, float], wanted: Mapping[str, float]) -> int:
    """Return how many stages a node has room for at once.

    >>> places_on({"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.0, "GPU": 0.5})
    2
    >>> places_on({"CPU": 8.0}, {"CPU": 3.0, "GPU": 0.5})
    0
    """
    return min(int(node.get(name, 0.0) / amount + 1e-9) for name, amount in wanted.items())


def amounts(resources: Mapping[str, float]) -> str:
    """Return resources in words.

    >>> amounts({"CPU": 4.0, "GPU": 0.5, "memory": 2.0**31})
    '4 CPU, 0.5 GPU, 2 GiB'
    """
    told = [f"{resources[name]:g} {name}" for name in ("CPU", "GPU") if name in resources]
    return ", ".join([*told, *([f"{resources['memory'] / 2**30:.3g} GiB"] if "memory" in resources else [])])


def first_sentence(error: BaseException) -> str:
    """Return the first sentence of what an error says."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line.partition(". ")[0].rstrip(".") + "."


def last_line(error: BaseException) -> str:
    """Return the last line of what an error says: of a traceback, the error itself."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def knock(address: str) -> None:
    """Raise EngineError where nothing listens at an address: Ray would wait for minutes."""
    host, _, port = address.rpartition(":")
    if not host:
        return  # `auto`: Ray looks for it on this machine
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise no_cluster(address, f"{getattr(error, 'strerror', None) or error}.") from None


def no_cluster(address: str | None, why: str) -> EngineError:
    """Return what to raise where a cluster cannot be joined."""
    return EngineError(
        f"there is no Ray cluster at {address!r} that this machine can join: {why} Start one (`ray start --head`), or "
        "leave `address` out, and cdner starts a Ray of its own."
    )


def hush() -> None:
    """Keep Ray from printing what it knows of a lost node into the harness' own output; it has no option for that."""
    from ray._private import worker

    worker.print_to_stdstream = lambda *_, **__: None


def own_token() -> dict[str, str]:
    """Return what lets nobody but this process and what it starts speak to a Ray."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment, and in the end what they were before."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Keep how SIGTERM is handled: Ray would exit at once, where the command line ends what runs first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
