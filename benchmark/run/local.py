"""The engine of one machine: a fork server that is warm, and slots: one a GPU, else a few for the CPU's cores."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmark.errors import StoreError
from benchmark.run import processes
from benchmark.run.engine import Ending, Engine

GRACE = 3.0  # seconds that a stage has between terminate and kill


class LocalEngine(Engine):
    """Runs stages in processes forked from a warm server (`benchmark.run.worker`).

    slots    stages at once; None: one a GPU, else one a core, four at most
    threads  of each stage; None: the cores divided among the slots
    lend     the GPUs that stages may see; None: those of the machine
    """

    def __init__(self, slots: int | None = None, threads: int | None = None, *, lend: list[str] | None = None) -> None:
        self.gpus = gpus() if lend is None else lend
        self.slots, self.threads = divided(len(self.gpus), slots, threads)
        self._endings: queue.Queue[Ending | subprocess.Popen[str]] = queue.Queue()  # a server: it has died
        self._gpu: dict[Path, str] = {}  # of what runs
        self._running: dict[Path, subprocess.Popen[str]] = {}  # by the server that was asked
        self._server: subprocess.Popen[str] | None = None
        self._ready = threading.Event()  # the server has imported all, and forks from now on
        self._log = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - closed in `close`; what the server itself complains of

    def warm(self) -> None:
        """Start the fork server, without waiting until its imports are done."""
        if self._server is not None and self._server.poll() is None:
            return
        self._ready = threading.Event()
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
        self._server = subprocess.Popen(
            [sys.executable, "-P", "-m", "benchmark.run.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=(self._server, self._ready), daemon=True).start()

    def _listen(self, server: "subprocess.Popen[str]", ready: threading.Event) -> None:
        assert server.stdout is not None
        for line in server.stdout:
            if not line.endswith("\n"):
                break  # it was killed while it spoke
            answer = json.loads(line)
            if "ready" in answer:
                ready.set()
            if "ended" in answer:
                self._endings.put(Ending(Path(answer["ended"]), int(answer["code"]), answer["over"]))
        self._endings.put(server)

    def start(self, scratch: Path) -> None:
        """Fork a process for the stage in `scratch`, which sees one GPU, the least used, where there are any."""
        self.warm()
        taken = list(self._gpu.values())
        gpu = min(self.gpus, key=taken.count, default=None)
        if gpu is not None:
            self._gpu[scratch] = gpu
        assert self._server is not None
        self._running[scratch] = self._server
        self._ask({"run": str(scratch), "gpu": gpu})

    def wait(self, seconds: float) -> list[Ending]:
        """Return what has ended. When the server itself has died, every running stage has ended with it.

        The next `start` starts another server. Raises StoreError where a server cannot run at all.
        """
        found = []
        try:
            found.append(self._endings.get(timeout=seconds))
            while True:
                found.append(self._endings.get_nowait())
        except queue.Empty:
            pass
        endings = [ending for ending in found if isinstance(ending, Ending)]
        for server in (ending for ending in found if isinstance(ending, subprocess.Popen)):
            self._server_died(server)
            lost = {s for s, asked in self._running.items() if asked is server} - {e.scratch for e in endings}
            for scratch in lost:
                processes.end(scratch)  # the kernel has ended the stage itself, but not what it had started
            endings.extend(Ending(scratch, -signal.SIGKILL) for scratch in lost)
        for ending in endings:
            self._running.pop(ending.scratch, None)
            self._gpu.pop(ending.scratch, None)
        return endings

    def _server_died(self, server: "subprocess.Popen[str]") -> None:
        code = server.wait()
        let_go(server)
        if server is self._server:
            self._server = None
        if code > 0:
            self._log.seek(0)
            told = self._log.read()
            raise StoreError(f"the server that stages are forked from cannot run:\n{told[-2000:]}")

    def stop(self, scratch: Path) -> None:
        """Terminate the stage's process group; the server kills it when it does not end."""
        self._ask({"stop": str(scratch)})

    def _ask(self, request: dict[str, str | None]) -> None:
        if self._server is None:
            return  # it has died, and all that it ran with it
        assert self._server.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the server is gone; `wait` tells what went with it
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()

    def close(self) -> None:
        """End all that runs, then close the server's input, upon which it ends itself."""
        if self._server is None:
            self._log.close()
            return
        if self._ready.is_set():
            self._end_all()
        server, self._server = self._server, None
        if server is None:
            return
        assert server.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            server.stdin.close()
        if not self._ready.is_set():
            server.kill()  # it still imports and has forked nothing; its imports are not waited for
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        let_go(server)
        self._log.close()

    def _end_all(self) -> None:
        """Stop all that runs, and wait until it has ended."""
        for scratch in self._running:
            self.stop(scratch)
        deadline = time.monotonic() + 2 * GRACE
        while self._running and self._server is not None and time.monotonic() < deadline:
            self.wait(0.1)


def divided(gpus: int, slots: int | None, threads: int | None) -> tuple[int, int]:
    """Return how many stages this machine runs at once, and the threads of each, where not both are given."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    slots = slots or gpus or min(4, cores)
    return slots, threads or max(1, cores // slots)


def let_go(server: "subprocess.Popen[str]") -> None:
    """Close the pipes of a server that has ended."""
    for pipe in (server.stdin, server.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def gpus() -> list[str]:
    """Return the GPUs that stages may use, as CUDA_VISIBLE_DEVICES names them, without importing torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part for part in named.split(",") if part.strip() and part.strip() != "-1"]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return listed.stdout.split()
