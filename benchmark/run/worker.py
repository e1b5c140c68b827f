"""The warm fork server, and what a stage's process does.

`python -m benchmark.run.worker` imports what stages need, then reads one JSON line a request from standard input and
answers on standard output:

    {"run": SCRATCH, "gpu": null}    fork a process, in a process group of its own, that runs the stage in SCRATCH
    {"stop": SCRATCH}                terminate that group, and kill it three seconds later
    {"ended": SCRATCH, "code": 0}    answer: the process is gone; a negative code is a signal

When standard input closes, whoever asked is gone: every group is killed and the server ends.
"""

import contextlib
import ctypes
import json
import os
import resource
import selectors
import signal
import sys
import time
import traceback
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

WARM = (
    "torch",
    "transformers.models.bert.modeling_bert",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "pytorch_lightning",
    "datasets",
    "benchmark.models.tagging",
    "benchmark.run.store",
)
PR_SET_PDEATHSIG = 1  # prctl(2)
GRACE = 3.0  # seconds between terminate and kill


def serve() -> None:
    """Import what stages need, then fork one process a request until standard input closes."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever asks; it then closes our input
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for name in WARM:
        import_module(name)
    answers.write(json.dumps({"ready": os.getpid()}) + "\n")
    Server(answers, reader).loop()


class Server:
    """Forks stages, and tells how they ended."""

    def __init__(self, answers: Any, woken: int) -> None:
        self.answers, self.woken = answers, woken
        self.pid = os.getpid()
        self.running: dict[int, str] = {}  # process id -> scratch folder
        self.kill_at: dict[int, float] = {}
        self.buffer = b""

    def loop(self) -> None:
        """Serve until standard input closes."""
        selector = selectors.DefaultSelector()
        selector.register(0, selectors.EVENT_READ)
        selector.register(self.woken, selectors.EVENT_READ)
        while True:
            wait = min(self.kill_at.values(), default=time.monotonic() + 60) - time.monotonic()
            for chosen, _ in selector.select(max(0.0, wait)):
                if chosen.fd == self.woken:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.woken, 4096)
                elif not self.read():
                    self.end()
                    return
            self.reap()
            for pid, moment in list(self.kill_at.items()):
                if time.monotonic() >= moment:
                    signal_group(pid, signal.SIGKILL)
                    del self.kill_at[pid]

    def read(self) -> bool:
        """Take the requests that have come. Returns False when standard input is closed."""
        chunk = os.read(0, 1 << 16)
        self.buffer += chunk
        *lines, self.buffer = self.buffer.split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "run" in request:
                self.fork(request)
            elif "stop" in request:
                for pid in [p for p, s in self.running.items() if s == request["stop"]]:
                    signal_group(pid, signal.SIGTERM)
                    self.kill_at[pid] = time.monotonic() + GRACE
        return bool(chunk)

    def fork(self, request: dict[str, Any]) -> None:
        """Fork the process of a stage."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setsid()
                signal.set_wakeup_fd(-1)
                self.let_go()
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
                    signal.signal(number, signal.SIG_DFL)
                if request.get("gpu") is not None:
                    os.environ["CUDA_VISIBLE_DEVICES"] = str(request["gpu"])
                code = run(Path(request["run"]))
            finally:
                os._exit(code)
        self.running[pid] = request["run"]

    def let_go(self) -> None:
        """In a stage's process: die with the server, and hold neither its questions nor its answers."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self.pid:  # it died in between
                os._exit(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.close(self.answers.fileno())

    def reap(self) -> None:
        """Tell of every process that has ended."""
        for pid in list(self.running):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                signal_group(pid, signal.SIGKILL)  # what it may have left behind
                self.kill_at.pop(pid, None)
                code = os.waitstatus_to_exitcode(status)
                self.answers.write(json.dumps({"ended": self.running.pop(pid), "code": code}) + "\n")

    def end(self) -> None:
        """Kill all that runs."""
        for pid in self.running:
            signal_group(pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        while self.running and time.monotonic() < deadline:
            for pid in list(self.running):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    signal_group(pid, signal.SIGKILL)  # what it may have left behind
                    del self.running[pid]
            time.sleep(0.02)
        for pid in self.running:
            signal_group(pid, signal.SIGKILL)


def signal_group(pid: int, number: int) -> None:
    """Send a signal to a process group that may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


# ------------------------------------------------------------------------------------------ in the stage's process


def run(scratch: Path) -> int:
    """Run the stage whose request lies in `scratch`, publish its artefact, return the exit code.

    Standard output and error go to log.txt. A failure is told in failure.json: its reason, and the traceback.
    """
    log = os.open(scratch / "artefact" / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    try:
        execute(scratch)
    except BaseException as error:  # noqa: BLE001 - told in full to whoever reads failure.json
        traceback.print_exc()
        told = {"reason": reason_of(error), "error": type(error).__name__, "message": str(error)}
        (scratch / "failure.json").write_text(json.dumps(told), encoding="utf8")
        return 1
    return 0


def execute(scratch: Path) -> None:
    """Resolve the inputs of a request, run its step, publish the artefact."""
    from benchmark.run.stage import resolve, unpack
    from benchmark.run.store import Store, split_from
    from benchmark.work import Work

    request = json.loads((scratch / "request.json").read_text(encoding="utf8"))
    store = Store(Path(request["store"]))
    work = Work(
        folder=scratch / "artefact",
        cache=store.root / "encoded" if request["cached"] else None,
        threads=request["threads"],
        progress=scratch / "progress.jsonl",
    )
    inputs = {
        name: unpack(value, split=lambda h: split_from(store.split_file(h)), stage=store.folder)
        for name, value in request["inputs"].items()
    }
    started, clock, cpu = datetime.now(UTC), time.perf_counter(), time.process_time()
    resolve(request["step"])(work, **inputs)
    manifest = {
        "schema": 1,
        **{name: request[name] for name in ("key", "step", "title", "size", "threads", "ingredients")},
        "seconds": round(time.perf_counter() - clock, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "started": started.isoformat(timespec="seconds"),
        **surroundings(),
    }
    sys.stdout.flush()
    sys.stderr.flush()
    store.publish(scratch, request["key"], manifest)


def surroundings() -> dict[str, Any]:
    """Return the device, its peak memory in MiB (null where it cannot be told) and this process's peak."""
    torch: Any = sys.modules.get("torch")
    gpu = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "peak_memory_mib": round(peak / (1024 if sys.platform != "darwin" else 1024 * 1024), 1),
        "gpu_peak_memory_mib": round(torch.cuda.max_memory_allocated() / 2**20, 1) if gpu else None,
        "device": torch.cuda.get_device_name() if gpu else cpu_name(),
    }


def cpu_name() -> str:
    """Return the processor's name, as the system tells it."""
    import platform

    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def reason_of(error: BaseException) -> str:
    """Return the word for a failure: out of memory, loss is not a number, bad input, error."""
    text = str(error)
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text.lower():
        return "out of memory"
    if "loss is not a number" in text:
        return "loss is not a number"
    from benchmark.errors import CdnerError

    return "bad input" if isinstance(error, CdnerError) else "error"


if __name__ == "__main__":
    serve()
