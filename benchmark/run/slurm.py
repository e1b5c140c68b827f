"""The engine of a SLURM cluster: every stage is a job, submitted through submitit.

A job runs the stage entry point (`benchmark.run.worker.alone`) on a node that sees the store; the store is the only
channel for data. How a job ended is told by `ended.json` in its scratch folder, by `squeue`, and by `sacct` where there
is an accounting database (`benchmark.run.slurm_jobs`): it is needed nowhere.
"""

import contextlib
import fnmatch
import json
import logging
import math
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from benchmark.errors import EngineError, nearest
from benchmark.run import slurm_jobs
from benchmark.run.engine import Ending, Engine
from benchmark.run.slurm_jobs import Job, State

MARGIN = 3  # minutes that SLURM lends beside those of the stage, which ends itself when they are over
MARGIN_GIB = 1.0  # that SLURM lends beside those of the stage
WARN = 30  # seconds before the end of SLURM's own time limit at which the stage is told
GRACE = 20.0  # seconds that jobs have to end when the harness does
CANCEL_PAUSE = 3.0  # seconds after which a job that has not ended is cancelled again
SETTLE_SHORT = 5.0  # the same, where SLURM tells why it has ended
FULL_PAUSE = 60.0  # seconds after which a SLURM that was full is tried again, though no job of ours has ended
SUBMITTING = 60.0  # seconds that sbatch may take
PATIENCE = 900.0  # seconds for which a submission is tried again while SLURM does not answer
SILENT = (
    "unable to contact slurm controller", "socket timed out", "connection refused", "resource temporarily unavailable",
    "temporarily unable", "zero bytes were transmitted", "slurm backup controller", "communication connection failure",
    "transport endpoint",
)  # fmt: skip
ALONG = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ",
    "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
    "PYTHON*", "VIRTUAL_ENV", "CONDA_*", "LD_LIBRARY_PATH", "LD_PRELOAD",
    "CUDA_*", "CUBLAS_*", "CUDNN_*", "NVIDIA_*", "NCCL_*", "OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*",
    "TORCH*", "PYTORCH_*",
    "CDNER_*", "HF_*", "OPENAI_*", "TRANSFORMERS_*", "TOKENIZERS_*",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "SSL_CERT_*", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "BASH_ENV", "BASH_FUNC_module*", "BASH_FUNC_ml*", "BASH_FUNC__module*", "MODULE*", "LMOD_*", "__LMOD_*",
    "_ModuleTable*", "LOADEDMODULES", "_LMFILES_*",
    *slurm_jobs.OURS,
)  # fmt: skip
# variables that jobs are given: what stages read, where programs lie, and what `module` needs


@dataclass(frozen=True)
class SlurmOptions:
    """What a user says of a cluster: the mapping under `slurm` of an engine file.

    partition, account, qos, constraint   as `sbatch` takes them
    time_minutes     of a stage, where the plan has no `minutes_per_stage`, or more
    mem_gib          of a stage, where the plan has no `gib_per_stage`
    cpus_per_task    cores of a stage, and its threads
    gpus_per_stage   of a stage that needs one; the others get none
    max_jobs         queued or running at once, of one harness; `--detach` submits all
    setup            lines of shell that run before the stage: modules, a virtual environment
    poll_seconds     between two looks at SLURM
    python           the interpreter on the nodes; None: this one
    env              variables that jobs are given beside those that go along anyway, by name; `WANDB_*` too
    sbatch           further parameters of `sbatch`, by their long names
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time_minutes: float | None = None
    mem_gib: float | None = None
    cpus_per_task: int = 1
    gpus_per_stage: int = 0
    max_jobs: int = 100
    setup: tuple[str, ...] = ()
    poll_seconds: float = 5.0
    python: str | None = None
    env: tuple[str, ...] = ()
    sbatch: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, lines in (("setup", "lines of shell"), ("env", "names of variables")):
            object.__setattr__(self, name, _texts(name, getattr(self, name), lines))
        if self.sbatch is None:
            object.__setattr__(self, "sbatch", {})
        for name in ("partition", "account", "qos", "constraint", "python"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise _wrong(name, value, "a text")
        for name in ("time_minutes", "mem_gib", "poll_seconds"):
            value = getattr(self, name)
            if (value is not None or name == "poll_seconds") and not _number(value):
                raise _wrong(name, value, "a number above 0")
        for name, least in (("cpus_per_task", 1), ("gpus_per_stage", 0), ("max_jobs", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise _wrong(name, value, f"a whole number, {least} or more")
        if not isinstance(self.sbatch, Mapping) or not all(isinstance(name, str) for name in self.sbatch):
            raise _wrong("sbatch", self.sbatch, "parameters of sbatch by their names")

    @classmethod
    def read(cls, given: Mapping[str, Any] | None) -> "SlurmOptions":
        """Return the options in a mapping. Raises EngineError for what is no option, or no value of one."""
        if given is not None and not isinstance(given, Mapping):
            raise EngineError(f"the options of slurm are {given!r}, expected a mapping, such as {{partition: gpu}}.")
        known = [f.name for f in fields(cls)]
        for name in given or {}:
            if name not in known:
                raise EngineError(
                    f"slurm has no option {name!r}.{nearest(name, known)} Its options are {', '.join(known)}."
                )
        return cls(**(given or {}))


def _texts(name: str, value: object, expected: str) -> tuple[str, ...]:
    """Return one text or several as a tuple; nothing is none."""
    found = () if value is None else (value,) if isinstance(value, str) else value
    if not isinstance(found, (list, tuple)) or not all(isinstance(line, str) for line in found):
        raise _wrong(name, value, expected)
    return tuple(found)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def _wrong(name: str, value: object, expected: str) -> EngineError:
    return EngineError(f"the option {name} of slurm is {value!r}, expected {expected}.")


# ------------------------------------------------------------------------------------------------------- submitting


class Busy(Exception):
    """SLURM does not take the job now; it may later."""


class Full(Busy):
    """SLURM takes no more jobs of this user until some have ended."""


def check() -> str:
    """Return the name of the cluster. Raises EngineError where there is none that answers."""
    lacking = [name for name in ("sbatch", "squeue", "scancel", "srun") if shutil.which(name) is None]
    if lacking:
        raise EngineError(
            f"{', '.join(lacking)}: no such command here. The engine slurm runs where jobs are submitted, on a login "
            "node; `--engine local` needs no cluster."
        )
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise EngineError("the engine slurm needs submitit: pip install 'cdner[slurm]'.") from None
    found = slurm_jobs.cluster()
    if found is None:
        answer = slurm_jobs.call("scontrol", "ping")
        said = "it does not answer" if answer is None else (answer.stdout + answer.stderr).strip()
        raise EngineError(f"SLURM cannot be asked here: {said}")
    return found


def parameters(options: SlurmOptions, scratch: Path, *, after: Iterable[str] = (), requeue: bool) -> dict[str, Any]:
    """Return what submitit is told of the job of a stage.

    after     numbers of the jobs that have to end well first; where one does not, SLURM cancels this one
    requeue   whether SLURM starts it again when its node is lost
    """
    request = json.loads((scratch / "request.json").read_text(encoding="utf8"))
    gib = request["limits"].get("gib")
    gpus = options.gpus_per_stage if request.get("needs", "gpu") == "gpu" else 0
    memory = options.mem_gib if gib is None else gib + MARGIN_GIB
    cores = request["threads"]
    minutes = minutes_of(options, scratch)
    more: dict[str, Any] = {"requeue" if requeue else "no-requeue": True, **options.sbatch}
    depends = list(after)
    if depends:
        more["kill-on-invalid-dep"] = "yes"
    chosen = {
        "job_name": f"cdner-{scratch.name}",
        "comment": f"cdner: {request['step'].partition(':')[2]} ({request['title']})".replace("\n", " "),
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "constraint": options.constraint,
        "mem": None if memory is None else f"{math.ceil(memory * 1024)}M",
        "cpus_per_task": cores,
        "gpus_per_node": gpus or None,
        "setup": list(options.setup) or None,
        "signal_delay_s": WARN,
        "dependency": f"afterok:{':'.join(depends)}" if depends else None,
        "srun_args": [f"--cpus-per-task={cores}"],  # srun does not take it from the job since 22.05
        "additional_parameters": more,
    }
    time_limit = None if minutes is None else math.ceil(minutes) + MARGIN
    return {**{name: value for name, value in chosen.items() if value is not None}, "time": time_limit}


def minutes_of(options: SlurmOptions, scratch: Path) -> float | None:
    """Return the minutes after which a stage ends itself; None where nobody sets a limit."""
    limits = json.loads((scratch / "request.json").read_text(encoding="utf8"))["limits"]
    return min((m for m in (limits.get("minutes"), options.time_minutes) if m is not None), default=None)


def submit(
    options: SlurmOptions, scratch: Path, cluster: str, *, after: Iterable[str] = (), detached: bool = False
) -> Job:
    """Submit the stage in a scratch folder. Returns its job, also left there as `slurm.json`.

    A submission that was cut off is found by its name and not made twice. Raises Busy where SLURM does not answer, Full
    where it takes no more jobs now, EngineError where it refuses this one.
    """
    job = slurm_jobs.job_in(scratch)
    told = parameters(options, scratch, after=after, requeue=detached)
    if job is None:
        job = Job(scratch, told["job_name"], None, cluster, detached, time.time(), os.getuid())
        job.write()
    else:  # tried before: SLURM may have heard it
        try:
            known = slurm_jobs.numbered(job)
        except slurm_jobs.Unheard:
            raise Busy("SLURM does not answer") from None
        if known is not None:
            return known
        job = replace(job, submitted=time.time())
        job.write()
    script = write_script(options, scratch, told)
    answer = slurm_jobs.call("sbatch", str(script), environment=environment(options), seconds=SUBMITTING)
    if answer is None:
        raise Busy("SLURM does not answer")
    number = re.search(r"\bjob (\d+)", answer.stdout)
    if answer.returncode == 0 and number is not None:
        job = replace(job, id=number[1])
        job.write()
        return job
    lines = (answer.stderr or answer.stdout).splitlines()
    said = " ".join(line for line in lines if "error" in line.lower()) or " ".join(lines)
    if is_full(said):
        raise Full(said)
    if answer.returncode == 0 or any(text in said.lower() for text in SILENT):
        raise Busy(said)
    raise EngineError(f"sbatch refuses the stage {told['comment'].removeprefix('cdner: ')}: {said}")


def is_full(said: str) -> bool:
    """Return whether sbatch takes no more jobs of this user for now. The same words tell of other limits too.

    >>> is_full("sbatch: error: QOSMaxSubmitJobPerUserLimit sbatch: error: Job violates policy (job submit limit)")
    True
    >>> is_full("sbatch: error: QOSMaxWallDurationPerJobLimit sbatch: error: Job violates policy (job submit limit)")
    False
    """
    named = re.findall(r"error: ((?:Assoc|QOS)\w+)", said)
    return any("SubmitJob" in limit for limit in named) if named else "submit limit" in said.lower()


def write_script(options: SlurmOptions, scratch: Path, told: Mapping[str, Any]) -> Path:
    """Write what sbatch is given, beside the logs of the job. Returns the file.

    The job runs the stage entry point, which needs nothing but the scratch folder: whenever SLURM has heard of a job,
    it can run, though the answer of sbatch was lost.
    """
    import submitit

    logging.getLogger("submitit").setLevel(logging.ERROR)
    folder = scratch / "slurm"
    folder.mkdir(exist_ok=True)
    executor = submitit.SlurmExecutor(folder=folder)
    executor.update_parameters(**told)
    minutes = minutes_of(options, scratch)
    python = options.python or f"{shlex.quote(sys.executable)} -P"
    command = [python, "-u -m benchmark.run.worker", shlex.quote(str(scratch.absolute()))]
    script = folder / "job.sh"
    text = executor._make_submission_file_text(" ".join([*command, *([f"{minutes!r}"] if minutes else [])]), "")
    script.write_text(text, encoding="utf8")
    return script


def environment(options: SlurmOptions) -> dict[str, str]:
    """Return the variables that jobs are given; what else a login shell knows, its secrets too, stays there."""
    names = [*ALONG, *options.env]
    return {n: value for n, value in os.environ.items() if any(fnmatch.fnmatchcase(n, name) for name in names)}


def cancel(jobs: Iterable[Job]) -> None:
    """Cancel jobs: SLURM terminates what runs of them, and kills it a while later."""
    chosen = list(jobs)
    known = [job.id for job in chosen if job.id is not None]
    if known:
        slurm_jobs.call("scancel", *known)
    for job in chosen:
        if job.id is None:  # its submission was cut off
            slurm_jobs.call("scancel", f"--name={job.name}")


# ------------------------------------------------------------------------------------------------------- the engine


class SlurmEngine(Engine):
    """Runs stages as jobs of a SLURM cluster.

    options   as SlurmOptions, or as a file says them
    slots     jobs at once; None: `max_jobs` of the options
    threads   of each stage; None: `cpus_per_task`
    tell      called with a line that a person should know
    """

    outlives = True

    def __init__(
        self, options: SlurmOptions | Mapping[str, Any], slots: int | None = None, threads: int | None = None,
        *, tell: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.options = options if isinstance(options, SlurmOptions) else SlurmOptions.read(options)
        self.slots = slots or self.options.max_jobs
        self.threads = threads or self.options.cpus_per_task
        self.tell = tell
        self._cluster: str | None = None
        self._running: dict[Path, Job] = {}
        self._waiting: dict[Path, None] = {}  # not submitted yet, as far as is known here
        self._stopping: set[Path] = set()  # that were cancelled, and have not ended yet
        self._stopped: list[Ending] = []  # that were never submitted
        self._left: dict[Path, Job] = {}  # that may run on although the engine is closed
        self._states: dict[str, State] = {}
        self._silent_since: float | None = None
        self._refused_since: float | None = None  # no job is taken, and nothing of ours runs that could make room
        self._refused = False  # whether that was told
        self._not_before = -math.inf  # when a SLURM that was full is tried again
        self._over: dict[Path, float] = {}  # since when a job is over whose last words have not come
        self._asking: Future[dict[str, State] | None] | None = None
        self._asked = -math.inf
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="squeue")

    def warm(self) -> None:
        """Find the cluster. Raises EngineError where there is none."""
        if self._cluster is None:
            self._cluster = check()

    # ---- how stages become jobs

    def start(self, scratch: Path) -> None:
        """Submit a stage. While SLURM takes none, it waits behind those that wait already."""
        self.warm()
        self._waiting[scratch] = None
        if len(self._waiting) == 1:
            self._submit()

    def _submit(self) -> None:
        """Submit what waits, in its order, until SLURM takes no more."""
        assert self._cluster is not None
        for scratch in list(self._waiting):
            try:
                self._running[scratch] = submit(self.options, scratch, self._cluster)
            except Busy as error:
                self._take_no(error)
                return
            del self._waiting[scratch]
            self._refused_since, self._refused = None, False

    def _take_no(self, error: Busy) -> None:
        """Take note that a submission was refused. Raises EngineError where that lasts, and nobody can tell its end.

        While jobs of ours make it full, SLURM takes the next when one of them has ended.
        """
        now = time.monotonic()
        if isinstance(error, Full) and self._running:
            self._refused_since, self._not_before = None, now + FULL_PAUSE
        elif self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since > PATIENCE:
            raise EngineError(f"SLURM has taken no jobs for {PATIENCE / 60:.0f} minutes: {error}") from None
        if not self._refused:
            self._refused = True
            again = "when one has ended" if self._not_before > now else f"every {self.options.poll_seconds:g} seconds"
            self.tell(f"SLURM takes no jobs now ({error}); tried again {again}")

    def adopt(self, scratch: Path) -> bool:
        """Take over a job of this user that runs on although its harness is gone; none that was detached."""
        job = slurm_jobs.job_in(scratch)
        if job is None or job.detached or not job.ours or not slurm_jobs.lives(job):
            return False
        self.warm()
        if job.cluster != self._cluster:
            return False
        try:
            known = slurm_jobs.numbered(job)
        except slurm_jobs.Unheard:
            return False
        if known is None:
            return False
        self._running[scratch] = known
        return True

    # ---- how they end

    def wait(self, seconds: float) -> list[Ending]:
        """Return what has ended, by its own word or SLURM's."""
        deadline = time.monotonic() + seconds
        while True:
            looked = self._look()
            found = [e for job in list(self._running.values()) if (e := self._ending(job)) is not None]
            for ending in found:
                self.forget(ending.scratch)
            if looked:
                self._stop_again()
            found.extend(self._stopped)
            self._stopped.clear()
            if looked and self._waiting and time.monotonic() >= self._not_before:
                self._submit()
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            time.sleep(min(0.05, left))

    def _look(self) -> bool:
        """Take what SLURM has answered, and ask again when it is time. Returns whether it was time to."""
        came = False
        if self._asking is not None and self._asking.done():
            found, self._asking = self._asking.result(), None
            came = True
            if found is None and self._silent_since is None:
                self._silent_since = time.time()
                self.tell("SLURM does not answer; jobs are waited for")
            elif found is not None:
                if self._silent_since is not None:
                    self.tell(f"SLURM answers again, after {time.time() - self._silent_since:.0f} seconds")
                self._silent_since = None
                self._states = found
        now = time.monotonic()
        if self._asking is None and now - self._asked >= self.options.poll_seconds and (self._running or self._waiting):
            self._asked = now
            ids = [job.id for job in self._running.values() if job.id is not None]
            self._asking = self._pool.submit(slurm_jobs.states, ids)
        return came

    def _ending(self, job: Job) -> Ending | None:
        """Return how a job ended; None where it has not, or what it has left may still come."""
        told = slurm_jobs.ended(job.scratch)
        if told is not None and told["code"] == 0:
            come = slurm_jobs.published(job.scratch) or self._settled(job, slurm_jobs.SETTLE)
            return slurm_jobs.ending(job, None) if come else None
        if told is not None and (told["over"] or slurm_jobs.speaks(job.scratch)):
            return slurm_jobs.ending(job, None)
        state = None if job.id is None else self._states.get(job.id)
        if state is None or not state.over:
            return None  # it runs, or has just ended and SLURM will say why
        if told is None:
            known = slurm_jobs.reason(job, state) is not None
            if not self._settled(job, SETTLE_SHORT if known else slurm_jobs.SETTLE):
                return None
        return slurm_jobs.ending(job, state)

    def _settled(self, job: Job, seconds: float) -> bool:
        """Return whether a job has been over for so long that what it left has come, also over a slow file system."""
        now = time.monotonic()
        return now - self._over.setdefault(job.scratch, now) >= seconds

    def forget(self, scratch: Path) -> None:
        """Let go of a job: it has ended, or another harness waits for it now."""
        job = self._running.pop(scratch, None)
        self._waiting.pop(scratch, None)
        self._over.pop(scratch, None)
        self._stopping.discard(scratch)
        self._not_before = -math.inf  # it may have made room
        if job is not None and job.id is not None:
            self._states.pop(job.id, None)

    # ---- how they are ended

    def stop(self, scratch: Path) -> None:
        """Cancel a stage's job; again at each look, until SLURM has heard it."""
        if scratch in self._waiting:
            del self._waiting[scratch]
            job = slurm_jobs.job_in(scratch)
            if job is None:
                self._stopped.append(Ending(scratch, -15))
                return
            self._running[scratch] = job  # SLURM may have heard it after all
        if scratch in self._running:
            self._stopping.add(scratch)
            cancel([self._running[scratch]])

    def _stop_again(self) -> None:
        for scratch in list(self._stopping):
            with contextlib.suppress(slurm_jobs.Unheard):
                job = slurm_jobs.numbered(self._running[scratch])
                if job is None:
                    self.forget(scratch)
                    self._stopped.append(Ending(scratch, -15))
                    continue
                self._running[scratch] = job
                state = self._states.get(job.id or "")
                if state is None or not state.over:
                    cancel([job])

    def close(self) -> None:
        """Cancel all jobs, and wait a while until they have ended. What SLURM does not say to be over runs on."""
        left = {scratch: job for scratch in self._waiting if (job := slurm_jobs.job_in(scratch)) is not None}
        left.update(self._running)
        self._left.update(left)
        self._waiting.clear()
        self._running.clear()
        try:
            if left:
                self._end_all()
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _end_all(self) -> None:
        deadline, again = time.monotonic() + GRACE, -math.inf
        while self._left and time.monotonic() < deadline:
            if time.monotonic() >= again:
                again = time.monotonic() + CANCEL_PAUSE
                cancel(self._left.values())
            try:
                known = {scratch: slurm_jobs.numbered(job) for scratch, job in self._left.items()}
            except slurm_jobs.Unheard:
                return
            states = slurm_jobs.states(job.id for job in known.values() if job is not None and job.id is not None)
            if states is None:
                return
            for scratch, job in known.items():
                if job is None or slurm_jobs.at_its_end(scratch) or states[job.id or ""].over:
                    del self._left[scratch]
                else:
                    self._left[scratch] = job
            if self._left:
                time.sleep(min(0.2, self.options.poll_seconds))

    def runs_on(self, scratch: Path) -> str | None:
        """Return what to call a job that was cancelled when the engine was closed, and may run on."""
        return self._left[scratch].called if scratch in self._left else None
