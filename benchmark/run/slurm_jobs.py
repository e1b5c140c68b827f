"""SLURM's jobs, as whoever is not their harness sees them: which stage is whose, does it live, how did it end.

A stage that was handed to SLURM has `slurm.json` in its scratch folder, written before it is submitted, so that no job
is lost when its harness is. A job's name is that of the scratch folder: it is found by it where its number was never
written down. The stage entry point (`benchmark.run.worker.alone`) leaves `ended.json` beside it; that file is believed
first, then `squeue`, which forgets a job minutes after its end, then `sacct`, where there is an accounting database.
"""

import json
import math
import os
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.files import write_whole
from benchmark.run import processes
from benchmark.run.engine import Ending

MARKER, ENDED = "slurm.json", "ended.json"
OVER = frozenset({
    "COMPLETED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "CANCELLED", "NODE_FAIL", "BOOT_FAIL", "DEADLINE", "PREEMPTED",
    "GONE",
})  # fmt: skip
WAITS = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"})
GONE = "GONE"  # neither squeue nor sacct knows the job
ANSWER = 30.0  # seconds within which SLURM has to answer
FRESH = 5.0  # seconds that an answer counts
SILENCE = 10.0  # seconds after which a SLURM that did not answer is asked for its name again
SETTLE = 60.0  # seconds after a job's end within which what it left may come: a file system keeps old listings as long
UNDER_WAY = 20.0  # seconds that a submission may take whose number nobody knows yet
FOREIGN = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_", "SUBMITIT_")
OURS = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_SACK_KEY", "SLURM_SACK_JWKS")  # where, and as whom
NO_MEMORY = ("exceeded memory limit", "exceeded job memory limit", "oom-kill", "oom_kill", "out of memory")


@dataclass(frozen=True)
class Job:
    """A stage that was handed to SLURM.

    name       of the job: that of the scratch folder
    id         None while it is being submitted
    cluster    whose job it is
    detached   whether no harness waits for it
    submitted  seconds since 1970
    uid        of whoever submitted it; None: not written down
    """

    scratch: Path
    name: str
    id: str | None
    cluster: str
    detached: bool
    submitted: float
    uid: int | None = None

    def write(self) -> None:
        """Leave it in the scratch folder."""
        told = {name: value for name, value in asdict(self).items() if name != "scratch"}
        write_whole(self.scratch / MARKER, json.dumps(told))

    @property
    def ours(self) -> bool:
        """Return whether this user has submitted it, and may end it."""
        return self.uid is None or self.uid == os.getuid()

    @property
    def called(self) -> str:
        """Return what to call it in front of a person."""
        return f"SLURM job {self.id or self.name}"


@dataclass(frozen=True)
class State:
    """What SLURM says of a job: its state, why (`Dependency`, `NodeDown`), where, and its time limit."""

    id: str
    state: str
    reason: str = ""
    nodes: str = ""
    limit: str = ""

    @property
    def over(self) -> bool:
        """Return whether it has ended, or never will begin."""
        return self.state in OVER or self.reason == "DependencyNeverSatisfied"

    @property
    def waits(self) -> bool:
        """Return whether it has not begun."""
        return self.state in WAITS


def job_in(scratch: Path) -> Job | None:
    """Return the job that a scratch folder was handed to; None where it was handed to none."""
    try:
        told: dict[str, Any] = json.loads((scratch / MARKER).read_text(encoding="utf8"))
        return Job(scratch, **told)
    except (OSError, ValueError, TypeError):
        return None


def ended(scratch: Path) -> dict[str, Any] | None:
    """Return what the stage entry point told at its end; None where it has told nothing."""
    try:
        found: dict[str, Any] = json.loads((scratch / ENDED).read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
    return found


def in_store(root: Path) -> list[Job]:
    """Return the jobs of all scratch folders of a store."""
    return list(filter(None, map(job_in, sorted((root / "scratch").glob("*/")))))


def at_its_end(scratch: Path) -> bool:
    """Return whether a stage has told how it ended, and will not be started again.

    One that was sent a signal may be: SLURM puts a job back into the queue when its node goes, or another needs it.
    """
    told = ended(scratch)
    return told is not None and (told["code"] == 0 or told["signal"] is None)


# --------------------------------------------------------------------------------------------------- asking SLURM


class Unheard(Exception):
    """SLURM cannot be asked now."""


def call(
    *command: str, environment: Mapping[str, str] | None = None, seconds: float = ANSWER
) -> "subprocess.CompletedProcess[str] | None":
    """Run a command of SLURM's. Returns None where there is none such here, or it does not answer.

    environment   of the command; None: `clean` of this process
    """
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL,
            env=clean(os.environ) if environment is None else environment,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what changes the answers of SLURM's commands, or is of the job that this runs in.

    >>> clean({"HOME": "/home/ada", "SQUEUE_PARTITION": "gpu", "SLURM_JOB_ID": "7", "SLURM_CONF": "/etc/slurm.conf"})
    {'HOME': '/home/ada', 'SLURM_CONF': '/etc/slurm.conf'}
    """
    return {name: value for name, value in environment.items() if name in OURS or not name.startswith(FOREIGN)}


_CONFIGURED: dict[str, tuple[float, dict[str, str]]] = {}  # file -> when it was asked for, what SLURM is told there


def _configured(name: str) -> str | None:
    """Return what the SLURM that commands here speak to is told under a name; None where it does not answer."""
    file = os.environ.get("SLURM_CONF", "")
    at, known = _CONFIGURED.get(file, (-math.inf, {}))
    if not known and time.monotonic() - at >= SILENCE:
        answer = call("scontrol", "show", "config")
        if answer is not None and answer.returncode == 0:
            lines = (line.partition("=") for line in answer.stdout.splitlines())
            known = {what.strip(): value.strip() for what, _, value in lines}
        _CONFIGURED[file] = (time.monotonic(), known)
    return known.get(name)


def cluster() -> str | None:
    """Return the name of the cluster that commands here speak to; None where it does not answer."""
    return _configured("ClusterName")


def lists(job: Job) -> bool:
    """Return whether SLURM would list a job if there were one: it may hide those of other users (`PrivateData`)."""
    hidden = _configured("PrivateData")
    return job.ours or (hidden is not None and not {"jobs", "all"} & set(hidden.split(",")))


def states(ids: Iterable[str]) -> dict[str, State] | None:
    """Return the states of jobs. A job that nobody knows is GONE. None: SLURM cannot be asked now."""
    wanted = sorted(set(ids), key=int)
    if not wanted:
        return {}
    found = _squeue("-j", ",".join(wanted))
    if found is None:
        return None
    lacking = [job for job in wanted if job not in found]
    if lacking:
        found.update(_sacct(lacking))
    return {job: found.get(job, State(job, GONE)) for job in wanted}


def find(name: str) -> State | None:
    """Return the state of the job of a name; None where there is none. Raises Unheard where SLURM cannot be asked."""
    found = _squeue("-n", name)
    if found is None:
        raise Unheard
    return max(found.values(), key=lambda state: int(state.id), default=None)


def numbered(job: Job) -> Job | None:
    """Return a job with its number, found by its name where that was not written down; None where there is none yet.

    Raises Unheard where SLURM cannot be asked.
    """
    if job.id is not None:
        return job
    found = find(job.name)
    if found is None:
        return None
    job = replace(job, id=found.id)
    job.write()
    return job


def _squeue(*which: str) -> dict[str, State] | None:
    answer = call("squeue", "-h", "-a", "-t", "all", "-o", "%i|%T|%r|%N|%l", *which)
    if answer is None:
        return None
    if answer.returncode:
        return {} if "Invalid job id" in answer.stderr else None
    rows = [line.split("|") for line in answer.stdout.splitlines()]
    return {row[0]: State(*row) for row in rows if len(row) == 5}


def _sacct(ids: list[str]) -> dict[str, State]:
    """Return what an accounting database knows; nothing where there is none."""
    answer = call("sacct", "-n", "-X", "-P", "-j", ",".join(ids), "-o", "JobIDRaw,State,Reason,NodeList,Timelimit")
    if answer is None or answer.returncode:
        return {}
    rows = [line.split("|") for line in answer.stdout.splitlines()]
    return {row[0]: State(row[0], (row[1].split() or [GONE])[0], *row[2:]) for row in rows if len(row) == 5}


class Asked:
    """What SLURM has said of jobs: asked again, for all of them at once, when it is too old."""

    def __init__(self) -> None:
        self.known: dict[str, State | None] = {}  # by number; None: not asked yet, or SLURM did not answer
        self.asked: set[str] = set()
        self.at = -FRESH

    def know(self, jobs: Iterable[Job]) -> None:
        """Take note of jobs that will be asked for, so that they are asked for together."""
        for job in jobs:
            if job.id is not None and job.cluster == cluster():
                self.known.setdefault(job.id, None)

    def state(self, job: Job) -> State | None:
        """Return the state of a job; None where it cannot be asked for here."""
        if cluster() != job.cluster:
            return None
        if job.id is None:
            try:
                found = find(job.name)
            except Unheard:
                return None
            under_way = time.time() - job.submitted < UNDER_WAY
            return found or self._gone(job, State(job.name, "PENDING" if under_way else GONE))
        state = self.known.get(job.id)
        if state is not None and state.over:
            return self._gone(job, state)
        if job.id not in self.asked or time.monotonic() - self.at >= FRESH:
            self.known.setdefault(job.id, None)
            self.at = time.monotonic()
            going = [i for i, s in self.known.items() if s is None or not s.over]
            self.asked.update(going)
            self.known.update(states(going) or {})
        state = self.known[job.id]
        return state and self._gone(job, state)

    def _gone(self, job: Job, state: State) -> State | None:
        """Return a state, but None for another user's job that is not listed, where such jobs are hidden."""
        return None if state.state == GONE and not lists(job) else state


ASKED = Asked()


def lives(job: Job) -> bool:
    """Return whether a job is queued or runs; also where that cannot be asked from here."""
    if at_its_end(job.scratch):
        return arriving(job.scratch)
    state = ASKED.state(job)
    return state is None or not state.over


def standing(root: Path) -> dict[str, tuple[str, bool]]:
    """Return the jobs on a store that are not over: scratch folder's name -> what to call it, whether it runs."""
    jobs = in_store(root)
    ASKED.know(jobs)
    found = {}
    for job in jobs:
        if lives(job):
            state = ASKED.state(job)
            runs = processes.began(job.scratch) if state is None else not state.waits
            found[job.scratch.name] = (job.called, runs)
    return found


# ------------------------------------------------------------------------------------------------- how a job ended


def ending(job: Job, state: State | None) -> Ending:
    """Return how the stage of a job that is over has ended, from what it told itself and what SLURM says."""
    told = ended(job.scratch)
    said = None if state is None else words(job, state)
    if told is None:
        _keep_words(job)
        said = said or _from_log(job) or _silent(job, state)
        return Ending(job.scratch, 1 if state and state.state in {"COMPLETED", "FAILED"} else -9, said)
    over = told["over"]
    if over is None and told["code"] != 0 and not speaks(job.scratch):
        over = said or _from_log(job) or told.get("signal")
    return Ending(job.scratch, told["code"], over, told["seconds"])


def reason(job: Job, state: State) -> str | None:
    """Return why a job has ended that has told nothing itself; None where neither SLURM nor its log says so."""
    return words(job, state) or _from_log(job)


def arriving(scratch: Path) -> bool:
    """Return whether a stage has just told that it ended well, and its artefact cannot be seen yet."""
    told = ended(scratch)
    if told is None or told["code"] != 0 or published(scratch):
        return False
    try:
        return time.time() - (scratch / ENDED).stat().st_mtime < SETTLE
    except OSError:
        return False


def published(scratch: Path) -> bool:
    """Return whether the artefact of a stage can be seen in its store."""
    return (scratch.parent.parent / "stages" / scratch.name.partition(".")[0] / "manifest.json").is_file()


def speaks(scratch: Path) -> bool:
    """Return whether the stage itself has told why it failed, and was not ended from outside."""
    try:
        return bool(json.loads((scratch / "failure.json").read_text(encoding="utf8"))["reason"] != "killed")
    except (OSError, ValueError, KeyError):
        return False


def words(job: Job, state: State) -> str | None:
    """Return why SLURM has ended a job; None where it has not, or does not say."""
    where = f" on {state.nodes}" if state.nodes else ""
    return {
        "TIMEOUT": f"time limit: SLURM's own for {job.called}, {state.limit}",
        "DEADLINE": f"time limit: SLURM's deadline for {job.called}",
        "OUT_OF_MEMORY": f"out of memory: over what SLURM lends to {job.called}",
        "CANCELLED": f"killed: {job.called} was cancelled"
        + (", for a stage that it needs has failed" if state.reason == "DependencyNeverSatisfied" else ""),
        "NODE_FAIL": f"killed: the node of {job.called} was lost{where}",
        "BOOT_FAIL": f"killed: the node of {job.called} did not start{where}",
        "PREEMPTED": f"killed: {job.called} had to give way to another",
    }.get(state.state)


def last_words(job: Job) -> str:
    """Return the last of what SLURM and the entry point have printed to a job's error log."""
    log = job.scratch / "slurm" / f"{job.id}_0_log.err"
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 8192))
            return stream.read().decode("utf8", errors="replace")
    except OSError:
        return ""


def _keep_words(job: Job) -> None:
    """Let the stage's log end with what the job has printed, where the stage itself printed nothing."""
    log = job.scratch / "artefact" / "log.txt"
    printed = last_words(job)
    if printed and log.parent.is_dir() and not (log.is_file() and log.stat().st_size):
        log.write_text(printed, encoding="utf8")


def _from_log(job: Job) -> str | None:
    printed = last_words(job).lower()
    if any(text in printed for text in NO_MEMORY):
        return f"out of memory: over what SLURM lends to {job.called}"
    return None


def _silent(job: Job, state: State | None) -> str | None:
    """Return what to say of a job that has told nothing, and of which SLURM tells no reason."""
    if state is None or state.state == GONE:
        return f"killed: {job.called} is gone, and nobody says how it ended"
    return None if last_words(job).strip() else f"error: {job.called} has ended and told nothing ({state.state})"
