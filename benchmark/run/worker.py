"""The warm fork server, and what a stage's process does.

`python -m benchmark.run.worker` imports what stages need, then reads one JSON line a request from standard input and
answers on standard output:

    {"run": SCRATCH, "gpu": null}    fork a process, in a process group of its own, that runs the stage in SCRATCH
    {"stop": SCRATCH}                terminate that group, and kill it three seconds later
    {"ended": SCRATCH, "code": 0, "over": null}
                                     answer: the process is gone; a negative code is a signal; `over` names the limit
                                     of the request for which the server has ended it

A stage that is over the time or the memory that its request grants is ended in the same way. When standard input
closes, whoever asked is gone: every group is killed and the server ends.

`python -m benchmark.run.worker SCRATCH [MINUTES]` runs that one stage in the same way, asks nobody, and leaves
`ended.json` in the scratch folder: a cluster's job is that (`alone`).
"""

import contextlib
import csv
import ctypes
import errno
import json
import os
import resource
import select
import selectors
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from importlib.metadata import packages_distributions, version
from itertools import takewhile
from pathlib import Path
from typing import Any

from benchmark.run import processes

WARM = (
    "torch",
    "transformers.models.bert.modeling_bert",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "pytorch_lightning",
    "datasets",
    "benchmark.models.tagging",
    "benchmark.redact",
    "benchmark.run.stage",
    "benchmark.run.store",
)
PR_SET_PDEATHSIG = 1  # prctl(2)
GRACE = 3.0  # seconds between terminate and kill
LOOK = 0.5  # seconds between two looks at a limited stage's memory
STARTS = 3  # of one scratch folder, where a cluster starts it again
TOLD = {
    signal.SIGTERM: "killed: by SIGTERM, which the harness did not send",
    signal.SIGUSR2: "time limit: the cluster's own is near",
}  # what a cluster sends to a stage that is alone, and what it means


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
    with ending_with_its_input():
        for name in WARM:
            import_module(name)
        loaded_packages()  # these two are remembered, and need not be found out by every stage
        cpu_name()
    answers.write(json.dumps({"ready": os.getpid()}) + "\n")
    Server(answers, reader).loop()


@contextlib.contextmanager
def ending_with_its_input() -> Iterator[None]:
    """End this process where standard input closes meanwhile: whoever asked is gone, and imports take seconds."""
    done = threading.Event()

    def watch() -> None:
        closed = select.poll()
        closed.register(0, 0)  # for its end alone: what is asked is read later
        while not done.is_set():
            if closed.poll(20):
                os._exit(0)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()  # what forks has one thread


@dataclass
class Job:
    """A process that runs a stage, and what it may use."""

    scratch: str
    began: float
    minutes: float | None
    gib: float | None
    kill_at: float | None = None
    over: str | None = None

    def exceeded(self, pid: int, now: float) -> str | None:
        """Return the limit that the stage is over, in words."""
        if self.minutes is not None and now - self.began > self.minutes * 60:
            return f"time limit: over {self.minutes:g} minutes"
        if self.gib is not None:
            used = processes.memory(pid) / 2**30
            if used > self.gib:
                return f"out of memory: {used:.2f} GiB, over the {self.gib:g} GiB that a stage may use"
        return None


@dataclass
class Server:
    """Forks stages, keeps them within their limits, and tells how they ended."""

    answers: Any
    woken: int
    pid: int = field(default_factory=os.getpid)
    running: dict[int, Job] = field(default_factory=dict)  # by process id
    buffer: bytes = b""
    kills: int = field(default_factory=lambda: memory_kills())

    def loop(self) -> None:
        """Serve until standard input closes."""
        selector = selectors.DefaultSelector()
        selector.register(0, selectors.EVENT_READ)
        selector.register(self.woken, selectors.EVENT_READ)
        while True:
            for chosen, _ in selector.select(self.pause()):
                if chosen.fd == self.woken:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.woken, 4096)
                elif not self.read():
                    self.end()
                    return
            self.reap()
            self.limit()

    def pause(self) -> float:
        """Return how long nothing needs to be looked at, in seconds."""
        now = time.monotonic()
        moments = [now + 60]
        for job in self.running.values():
            if job.kill_at is not None:
                moments.append(job.kill_at)
            elif job.over is None:
                moments.extend([now + LOOK] if job.gib is not None else [])
                moments.extend([job.began + job.minutes * 60] if job.minutes is not None else [])
        return max(0.0, min(moments) - now)

    def limit(self) -> None:
        """End the stages that are over a limit; kill those that were asked to end and do not."""
        now = time.monotonic()
        for pid, job in self.running.items():
            if job.kill_at is None and job.over is None:
                job.over = job.exceeded(pid, now)
                if job.over is not None:
                    self.terminate(pid)
            elif job.kill_at is not None and now >= job.kill_at:
                signal_group(pid, signal.SIGKILL)
                job.kill_at = None

    def terminate(self, pid: int) -> None:
        """Ask a process group to end; `limit` kills it when it does not."""
        signal_group(pid, signal.SIGTERM)
        if self.running[pid].kill_at is None:  # asked again, it gets no more time
            self.running[pid].kill_at = time.monotonic() + GRACE

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
                for pid in [p for p, job in self.running.items() if job.scratch == request["stop"]]:
                    self.terminate(pid)
        return bool(chunk)

    def fork(self, asked: dict[str, Any]) -> None:
        """Fork the process of a stage."""
        try:
            limits = request_of(Path(asked["run"]))["limits"]
        except FileNotFoundError:  # the stage was another's meanwhile, and its folder was swept
            self.answers.write(json.dumps({"ended": asked["run"], "code": -signal.SIGKILL, "over": None}) + "\n")
            return
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setsid()
                signal.set_wakeup_fd(-1)
                self.let_go()
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, *TOLD):
                    signal.signal(number, signal.SIG_DFL)
                if asked.get("gpu") is not None:
                    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi counts
                    os.environ["CUDA_VISIBLE_DEVICES"] = str(asked["gpu"])
                code = run(Path(asked["run"]))
            finally:
                os._exit(code)
        self.running[pid] = Job(asked["run"], time.monotonic(), limits.get("minutes"), limits.get("gib"))

    def let_go(self) -> None:
        """In a stage's process: die with the server, and hold neither its questions nor its answers."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self.pid:  # it died in between
                os._exit(1)
            with contextlib.suppress(OSError):  # where memory runs out, this is killed before the harness is
                score = Path("/proc/self/oom_score_adj")
                score.write_text(str(max(500, int(score.read_text()))))
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.close(self.answers.fileno())

    def reap(self) -> None:
        """Tell of every process that has ended."""
        for pid in list(self.running):
            found, status = os.waitpid(pid, os.WNOHANG)
            if not found:
                continue
            signal_group(pid, signal.SIGKILL)  # what it may have left behind
            job, code = self.running.pop(pid), os.waitstatus_to_exitcode(status)
            kills = memory_kills()
            if code == -signal.SIGKILL and job.over is None and kills > self.kills:
                job.over = "out of memory: the system killed it"
            self.kills = kills
            self.answers.write(json.dumps({"ended": job.scratch, "code": code, "over": job.over}) + "\n")

    def end(self) -> None:
        """Kill all that runs, and what it has put into sessions of its own: nobody waits for it."""
        for pid in self.running:
            signal_group(pid, signal.SIGKILL)
        for job in self.running.values():
            processes.end(Path(job.scratch), grace=0.5)


def memory_kills() -> int:
    """Return how often the kernel has killed a process of this control group for want of memory; 0 if unknown."""
    try:
        group = Path("/proc/self/cgroup").read_text(encoding="utf8").rpartition("::")[2].strip().lstrip("/")
        events = (Path("/sys/fs/cgroup") / group / "memory.events").read_text(encoding="utf8")
        return int(dict(line.split() for line in events.splitlines())["oom_kill"])
    except (OSError, ValueError, KeyError):
        return 0


def request_of(scratch: Path) -> dict[str, Any]:
    """Return the request that lies in a scratch folder."""
    found: dict[str, Any] = json.loads((scratch / "request.json").read_text(encoding="utf8"))
    return found


def signal_group(pid: int, number: int) -> None:
    """Send a signal to a process group that may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


# -------------------------------------------------------------------------------------------- one stage, and no more


def alone(scratch: Path, minutes: float | None = None) -> int:
    """Run the one stage in `scratch` within its limits, and leave `ended.json` there. Returns the exit status.

    minutes   that it may take, where its request grants more

    `ended.json` has `code`, `over` and `seconds` as an `Ending`, and `signal`, what a signal that came has meant. An
    artefact that somebody else has published meanwhile is as good as one of its own: 0. A cluster that has lost the
    machine, and starts the job again on another, finds what the first start has left: it is noted as an attempt.
    """
    from benchmark.run.store import Store

    request = request_of(scratch)
    store, key = Store(Path(request["store"])), request["key"]
    if store.has(key):
        tell_end(scratch, 0, None, 0.0)
        return 0
    if (scratch / "process.json").is_file() and not begin_again(scratch, store, request):
        return 1
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    began, came = time.monotonic(), list[int]()
    for number in TOLD:
        signal.signal(number, lambda number, _: came.append(number))
    with (scratch / "ended.part").open("w+", buffering=1, encoding="utf8") as answers:
        server = Server(answers, reader)
        server.fork({"run": str(scratch), "gpu": None})
        for job in server.running.values():
            job.minutes = min((m for m in (minutes, job.minutes) if m is not None), default=None)
        selector = selectors.DefaultSelector()
        selector.register(reader, selectors.EVENT_READ)
        while server.running:
            if selector.select(server.pause()):
                with contextlib.suppress(BlockingIOError):
                    os.read(reader, 4096)
            for pid in [p for p, job in server.running.items() if came and job.kill_at is None and job.over is None]:
                server.terminate(pid)
            server.reap()
            server.limit()
        signal.set_wakeup_fd(-1)
        answers.seek(0)
        told = json.loads(answers.readline())
    meant = next((TOLD[signal.Signals(number)] for number in came), None)
    tell_end(scratch, told["code"], told["over"], time.monotonic() - began, meant)
    return 0 if store.has(key) else 1


def tell_end(scratch: Path, code: int, over: str | None, seconds: float, meant: str | None = None) -> None:
    """Write ended.json, whole or not at all."""
    from benchmark.files import write_whole

    told = {"code": code, "over": over, "seconds": round(seconds, 3), "signal": meant}
    write_whole(scratch / "ended.json", json.dumps(told))


def begin_again(scratch: Path, store: Any, request: dict[str, Any]) -> bool:
    """Note the start that was cut off as an attempt, and make room for this one. Returns False after the last."""
    import shutil

    from benchmark.files import write_whole
    from benchmark.work import reported

    began = (scratch / "process.json").stat().st_mtime
    last = max(p.stat().st_mtime for p in (scratch / "artefact").rglob("*"))
    told: dict[str, Any] = {
        "attempt": len(request["attempts"]) + 1, "reason": "killed",
        "message": "killed: the cluster has lost its machine, or gave it to another job",
        "usd": reported(scratch / "progress.jsonl").get("usd"),
        "seconds": round(max(0.0, last - began), 3), "host": None, "log": [],
        "ended": datetime.fromtimestamp(last, UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    starts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    if starts >= STARTS:
        tell_end(scratch, -9, f"{told['message']}, {starts} times", told["seconds"])
        return False
    store.note_attempt(request["key"], told)
    request["attempts"].append(told)
    write_whole(scratch / "request.json", json.dumps(request))
    shutil.rmtree(scratch / "artefact")
    (scratch / "artefact").mkdir()
    for name in ("process.json", "progress.jsonl", "failure.json", "ended.json"):
        (scratch / name).unlink(missing_ok=True)
    return True


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
        processes.mark(scratch)
        execute(scratch)
    except BaseException as error:  # noqa: BLE001 - told in full to whoever reads failure.json
        traceback.print_exc()
        tell_failure(scratch, error)
        return 1
    return 0


def tell_failure(scratch: Path, error: BaseException) -> None:
    """Write failure.json, and take what is secret out of the log."""
    from benchmark.errors import BrokenArtefact
    from benchmark.redact import redact, redact_file

    message = f"killed by signal {signal.SIGTERM.value}" if was_terminated(error) else redact(str(error))
    told = {"reason": reason_of(error), "error": type(error).__name__, "message": message}
    if isinstance(error, BrokenArtefact):
        told["key"] = error.key
    (scratch / "failure.json").write_text(json.dumps(told), encoding="utf8")
    redact_file(scratch / "artefact" / "log.txt")


def execute(scratch: Path) -> None:
    """Resolve the inputs of a request, run its step, publish the artefact."""
    from benchmark import paths
    from benchmark.errors import BrokenArtefact
    from benchmark.redact import redact_file
    from benchmark.run.stage import unpack
    from benchmark.run.store import Store, split_from
    from benchmark.work import Work

    request = request_of(scratch)
    key, cached, limits = request["key"], request["cached"], request["limits"]
    store = Store(Path(request["store"]))

    def artefact(parent: str) -> Path:
        problem = store.problem(parent)
        if problem is not None:
            raise BrokenArtefact(parent, f"{store.folder(parent)}: {problem}.")
        return store.folder(parent)

    step = planned_step(request)
    inputs = {
        name: unpack(value, split=lambda h: split_from(store.split_file(h)), stage=artefact)
        for name, value in request["inputs"].items()
    }
    started, cpu = datetime.now(UTC), time.process_time()
    work = Work(
        folder=scratch / "artefact",
        cache=store.root / "encoded" if cached else None,
        threads=request["threads"],
        progress=scratch / "progress.jsonl",
        checkpoints=store.partial(key) if cached else None,
        checkpoint_seconds=paths.checkpoint_seconds(),
        carried=carried_seconds(store.partial(key)) if cached else 0.0,
        usd=limits.get("usd"),
        tokens=limits.get("tokens"),
        llm=request.get("llm", "live"),
        answers=None if request.get("answers") is None else Path(request["answers"]),
    )
    step(work, **inputs)
    seconds = work.seconds()
    sys.stdout.flush()
    sys.stderr.flush()
    earlier = request["attempts"]
    manifest = {
        "schema": 2,
        **{name: request[name] for name in ("key", "step", "title", "size", "threads", "ingredients")},
        "seconds": round(seconds, 3),
        "spent_seconds": round(seconds - work.carried + sum(a.get("seconds") or 0.0 for a in earlier), 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "usd": round(work.spent + sum(a.get("usd") or 0.0 for a in earlier), 6) or None,
        "attempt": len(earlier) + 1,
        "attempts": [{name: a.get(name) for name in ("attempt", "reason", "seconds", "ended")} for a in earlier],
        "started": started.isoformat(timespec="seconds"),
        **surroundings(),
        **request["about"],
    }
    write_metrics(scratch / "progress.jsonl", scratch / "artefact" / "metrics.csv")
    redact_file(scratch / "artefact" / "log.txt")
    store.publish(scratch, key, manifest)


def planned_step(request: dict[str, Any]) -> Callable[..., None]:
    """Return the step of a request. Raises CodeChanged where its code is not the one that the key stands for."""
    from benchmark.errors import CodeChanged, PlanError
    from benchmark.run.stage import code, key_of, resolve, stamp

    name, ingredients, files = request["step"], request["ingredients"], request.get("sources")
    loaded = {module: sys.modules[module] for module in ingredients["code"]["versions"] if module in sys.modules}
    older = any(ingredients["code"]["versions"][module] != found.VERSION for module, found in loaded.items())
    try:
        step: Callable[..., None] = resolve(name)
        as_planned = files is not None and all(stamp(Path(file)) == tuple(told) for file, told in files.items())
        if not older and (as_planned or key_of({**ingredients, "code": code(step)}) == request["key"]):
            return step
    except (AttributeError, PlanError):
        pass  # there is no such step any more
    raise CodeChanged(f"killed: the code of {name} has changed since it was planned; run the command again")


def carried_seconds(checkpoints: Path) -> float:
    """Return the seconds of work that the checkpoints of earlier attempts hold."""
    try:
        return float((checkpoints / "seconds.txt").read_text(encoding="utf8"))
    except (OSError, ValueError):
        return 0.0


def write_metrics(progress: Path, target: Path) -> None:
    """Write what a step has reported as CSV, but for secrets: one row a report, in the order of time."""
    from benchmark.redact import redact

    if not progress.is_file():
        return
    told = [json.loads(line) for line in progress.read_text(encoding="utf8").splitlines()]
    rows = [{name: redact(v) if isinstance(v, str) else v for name, v in row.items()} for row in told]
    names = list(dict.fromkeys(name for row in rows for name in row))
    with target.open("w", encoding="utf8", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)


def surroundings() -> dict[str, Any]:
    """Return what the step ran on and with; None where it cannot be told.

    `peak_memory_mib` is the largest of this process and its children.
    """
    torch: Any = sys.modules.get("torch")
    gpu = torch is not None and torch.cuda.is_initialized()
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "peak_memory_mib": round(peak / (1024 if sys.platform != "darwin" else 1024 * 1024), 1),
        "gpu_peak_memory_mib": round(torch.cuda.max_memory_allocated() / 2**20, 1) if gpu else None,
        "device": torch.cuda.get_device_name() if gpu else cpu_name(),
        "cuda": torch.version.cuda if gpu else None,
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "packages": loaded_packages(),
    }


def loaded_packages() -> dict[str, str]:
    """Return the version of every installed package of which this process has imported anything."""
    last, known = first_packages()
    newer = list(takewhile(lambda module: module != last, reversed(sys.modules)))
    return dict(sorted({**known, **packages_of(newer)}.items(), key=lambda item: item[0].lower()))


@cache
def first_packages() -> tuple[str, dict[str, str]]:
    """Return the last module that was imported when this was first asked, before any fork, and all packages by then.

    A stage that goes through all modules copies most of the server's memory: 8 ms.
    """
    return next(reversed(sys.modules)), packages_of(list(sys.modules))


def packages_of(modules: Iterable[str]) -> dict[str, str]:
    """Return the versions of the installed packages that modules come from."""
    homes = distributions()
    tops = {module.partition(".")[0] for module in modules}
    return {name: version_of(name) for top in tops for name in homes.get(top, ())}


@cache
def distributions() -> dict[str, tuple[str, ...]]:
    """Return the packages that each top-level module comes from."""
    return {top: tuple(set(names)) for top, names in packages_distributions().items()}


@cache
def version_of(package: str) -> str:
    """Return the version of an installed package."""
    return version(package)


@cache
def cpu_name() -> str:
    """Return the processor's name, as the system tells it."""
    import platform

    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def was_terminated(error: BaseException) -> bool:
    """Return whether this is how Lightning tells that SIGTERM came while it trained."""
    lightning: Any = sys.modules.get("pytorch_lightning.utilities.exceptions")
    return lightning is not None and isinstance(error, lightning.SIGTERMException)


def reason_of(error: BaseException) -> str:
    """Return the word for a failure (`benchmark.run.failure`)."""
    from benchmark.errors import BrokenArtefact, CdnerError, StageFailed

    text = str(error).lower()
    if was_terminated(error):
        return "killed"
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return "out of memory"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return "out of memory"
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "disk full"
    if "loss is not a number" in text:
        return "loss is not a number"
    if isinstance(error, StageFailed):
        return error.reason
    if isinstance(error, BrokenArtefact):
        return "broken input"
    return "bad input" if isinstance(error, CdnerError) else "error"


if __name__ == "__main__":
    if sys.argv[1:]:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        sys.exit(alone(Path(sys.argv[1]).absolute(), *map(float, sys.argv[2:])))
    serve()
