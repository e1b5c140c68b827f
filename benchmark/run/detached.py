"""A board that SLURM runs with no harness beside it: submitted whole, and collected later.

`detach` submits every stage that is missing, each after the jobs of its parents (`afterok`), and writes down what it
has submitted, in `slurm/<board>.json` of the store. `standing` says how those jobs stand. `collect` writes the records
of what has ended. A queued stage is nobody else's: every harness on the store sees its job in the scratch folder
(`benchmark.run.upkeep.living`), and waits. A job that is gone frees its stage.
"""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.errors import EngineError
from benchmark.files import write_whole
from benchmark.run import processes, slurm, slurm_jobs, upkeep
from benchmark.run import record as records
from benchmark.run.engine import Ending, Engine
from benchmark.run.failure import failure
from benchmark.run.plan import Board
from benchmark.run.runner import Runner, Summary, Watcher
from benchmark.run.stage import Stage
from benchmark.run.store import Store
from benchmark.run.workload import Workload

UNASKED = "SLURM cannot be asked from here"
BUSY_PAUSE = 2.0  # seconds before a submission is tried again


@dataclass(frozen=True)
class Submitted:
    """A stage that is with SLURM, or was.

    after     numbers of the jobs that have to end well first
    attempts  at the stage, when it was submitted
    ended     how it ended: `ok`, or why not; None: not known yet
    """

    key: str
    title: str
    step: str
    scratch: str
    job: str | None
    after: tuple[str, ...]
    attempts: int
    submitted: str
    ended: str | None = None


@dataclass(frozen=True)
class Standing:
    """How a submitted stage stands, and why.

    state   `queued`, `running`, `ok`; `failed` for a reason of its own; `killed`, `cancelled` before it began, or
            `unknown`: built again by any run
    """

    stage: Submitted
    state: str
    why: str = ""

    @property
    def pending(self) -> bool:
        """Return whether its job is still to end, or may be: it is queued, runs, or cannot be asked for."""
        return self.state in {"queued", "running"} or self.why == UNASKED


@dataclass(frozen=True)
class Detached:
    """What `detach` has done.

    submitted   stages that it has submitted
    queued      stages that were with SLURM already
    elsewhere   stages that a harness builds now, with all that need them: not submitted
    """

    submitted: list[Submitted]
    queued: list[Submitted]
    elsewhere: list[Stage]


def file_of(store: Path, board: Path) -> Path:
    """Return where the store keeps what was submitted of a board."""
    return store / "slurm" / upkeep.snapshot_file(store, board).name


def read(store: Path, board: Path) -> list[Submitted]:
    """Return what was submitted of a board; nothing where nothing was."""
    try:
        found = json.loads(file_of(store, board).read_text(encoding="utf8"))
        return [Submitted(**{**told, "after": tuple(told["after"])}) for told in found["stages"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def write(store: Path, board: Board, stages: list[Submitted]) -> None:
    """Write down what was submitted of a board."""
    told = {
        "schema": 1, "board": board.name, "folder": str(board.folder.resolve()), "written": records.now(),
        "stages": [asdict(stage) for stage in stages],
    }  # fmt: skip
    write_whole(file_of(store, board.folder), json.dumps(told, indent=1))


@contextlib.contextmanager
def alone_with(store: Store, board: Board) -> Iterator[list[Submitted]]:
    """Give what was submitted of a board by now, while nobody else writes it down."""
    lease = store.lease(file_of(store.root, board.folder).stem)
    while not lease.take():
        time.sleep(0.1)
    try:
        yield read(store.root, board.folder)
    finally:
        lease.release()


# ------------------------------------------------------------------------------------------------------- submitting


def detach(
    board: Board, work: Workload, store: Store, options: slurm.SlurmOptions,
    *, threads: int | None = None, llm: str = "live",
) -> Detached:  # fmt: skip
    """Submit the whole graph that is missing. What is queued already is not submitted twice.

    Raises EngineError where SLURM cannot be asked or refuses a stage; what was submitted until then stays, and is
    written down.
    """
    cluster = slurm.check()
    upkeep.sweep(store, board.folder)
    known = {stage.key: stage for stage in read(store.root, board.folder)}
    git = records.git_state()
    limits = {"minutes": board.minutes_per_stage, "gib": board.gib_per_stage}
    found = Detached([], [], [])
    jobs: dict[str, str] = {}  # stage -> number of its job
    barred: set[str] = set()
    try:
        for key, stage in work.todo.items():
            if store.has(key):
                continue
            if any(parent.key in barred for parent in stage.parents):
                barred.add(key)
                found.elsewhere.append(stage)
                continue
            after = [jobs[p.key] for p in stage.parents if p.key in jobs and not store.has(p.key)]
            job, lease = _living(store, key), store.lease(key)
            if job is None and not lease.take():
                barred.add(key)
                found.elsewhere.append(stage)
                continue
            try:
                job = job or _living(store, key)  # another command may have submitted it meanwhile
                if job is None and not store.has(key):
                    upkeep.reclaim(store, key)
                    scratch = store.prepare(
                        stage, threads=threads or options.cpus_per_task, limits=limits, llm=llm, about=git
                    )
                    attempts = len(store.attempts(key))
                    job = _submit(options, scratch, cluster, after)
                    found.submitted.append(_told(stage, job, after, attempts))
                elif job is not None:
                    told = known.get(key)
                    if told is None or told.scratch != str(job.scratch):  # of an older job
                        told = _told(stage, job, after, len(store.attempts(key)))
                    found.queued.append(told)
            finally:
                lease.release()
            if job is not None:
                assert job.id is not None
                jobs[key] = job.id
    finally:
        new = [*found.queued, *found.submitted]
        fresh = {stage.key for stage in new}
        with alone_with(store, board) as now:
            kept = [s for s in now if s.key not in fresh and s.key in work.stages and s.ended is None]
            write(store.root, board, [*kept, *new])
    return found


def _told(stage: Stage, job: slurm_jobs.Job, after: list[str], attempts: int) -> Submitted:
    return Submitted(
        stage.key, stage.title, stage.step.__name__, str(job.scratch), job.id, tuple(after), attempts, records.now()
    )


def _living(store: Store, key: str) -> slurm_jobs.Job | None:
    """Return the job that builds a stage, with its number."""
    job = upkeep.living(store, key)
    if job is None:
        return None
    known = None
    with contextlib.suppress(slurm_jobs.Unheard):
        known = slurm_jobs.numbered(job)
    if known is None:
        raise EngineError(
            f"{job.called} was being submitted when its harness was ended, and SLURM does not know it yet; try again "
            "in half a minute."
        )
    return known


def _submit(options: slurm.SlurmOptions, scratch: Path, cluster: str, after: list[str]) -> slurm_jobs.Job:
    deadline = time.monotonic() + slurm.PATIENCE
    while True:
        try:
            return slurm.submit(options, scratch, cluster, after=after, detached=True)
        except slurm.Busy as error:
            if isinstance(error, slurm.Full) or time.monotonic() > deadline:
                raise EngineError(
                    f"SLURM takes no more jobs ({error}). What was submitted stays; the same command goes on from here."
                ) from None
            time.sleep(BUSY_PAUSE)


# ------------------------------------------------------------------------------------------------- how jobs stand


def standing(store: Path, stages: list[Submitted]) -> list[Standing]:
    """Return how submitted stages stand, from the store and from SLURM. Nothing is written."""
    jobs = {stage.key: slurm_jobs.job_in(Path(stage.scratch)) for stage in stages}
    slurm_jobs.ASKED.know(job for job in jobs.values() if job is not None)
    return [_standing(store, stage, jobs[stage.key]) for stage in stages]


def _standing(store: Path, stage: Submitted, job: slurm_jobs.Job | None) -> Standing:
    if (store / "stages" / stage.key / "manifest.json").is_file():
        return Standing(stage, "ok")
    if stage.ended is not None:
        return Standing(stage, _word(stage.ended), stage.ended)
    if job is None:
        tries = Store(store).attempts(stage.key)
        if len(tries) > stage.attempts:
            return Standing(stage, _word(str(tries[-1]["message"])), str(tries[-1]["message"]))
        return Standing(stage, "unknown", "its scratch folder is gone")
    if slurm_jobs.arriving(job.scratch):
        return Standing(stage, "running", "its artefact is still to be seen here")
    state = slurm_jobs.ASKED.state(job)
    if not slurm_jobs.at_its_end(job.scratch) and (state is None or not state.over):
        if state is None:
            return Standing(stage, "unknown", UNASKED)
        if state.waits:
            return Standing(stage, "queued", "" if state.reason in {"None", "Priority"} else state.reason)
        return Standing(stage, "running", state.nodes and f"on {state.nodes}")
    why = fate(job, state)
    return Standing(stage, _word(why), why)


def _word(why: str) -> str:
    return next((word for word in ("killed", "cancelled") if why.startswith(f"{word}: ")), "failed")


def fate(job: slurm_jobs.Job, state: slurm_jobs.State | None) -> str:
    """Return in words how the job of a stage ended that has brought no artefact."""
    if processes.began(job.scratch):
        return failure(slurm_jobs.ending(job, state)).told
    if state is not None and state.reason == "DependencyNeverSatisfied":
        return "cancelled: a stage that it needs has failed"
    if state is not None and state.state == slurm_jobs.GONE:
        return "cancelled: it is gone, and never began"
    if state is not None and state.state == "CANCELLED":
        return "cancelled: by a person, before it began"
    return failure(slurm_jobs.ending(job, state)).told


# -------------------------------------------------------------------------------------------------------- collecting


class Nobody(Engine):
    """The engine of whoever only collects: it runs nothing."""

    slots = 0
    threads = 1

    def start(self, scratch: Path) -> None:
        """Is never called: there is no slot."""
        raise NotImplementedError

    def wait(self, seconds: float) -> list[Ending]:
        """Return nothing."""
        return []

    def stop(self, scratch: Path) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def collect(
    board: Board, work: Workload, store: Store, watcher: Watcher, *, data: Path | None = None
) -> tuple[Summary, list[Standing]]:
    """Write the records of what has ended of a board, and run nothing. Returns how the submitted stages stand.

    A stage that has failed for a reason of its own fails the cells that need it. One that was killed, or never began,
    fails none: the next run, detached or not, submits it again.
    """
    before = standing(store.root, read(store.root, board.folder))
    tried = {s.stage.key: s.stage.attempts for s in before if s.stage.key in work.todo}
    summary = Runner(board, work, store, Nobody(), watcher, data=data).gather(tried)
    ended = {
        s.stage.scratch: s.why or "ok" for s in before
        if not s.pending and (s.state != "unknown" or s.stage.ended is not None)
    }  # fmt: skip
    with alone_with(store, board) as now:  # what was submitted meanwhile stands there too
        told = [replace(stage, ended=ended.get(stage.scratch, stage.ended)) for stage in now]
        write(store.root, board, told)
    return summary, standing(store.root, told)


def counts(found: list[Standing]) -> Mapping[str, int]:
    """Return how many stages stand how."""
    return Counter(s.state for s in found)


def as_json(found: list[Standing]) -> list[dict[str, Any]]:
    """Return how stages stand, as JSON."""
    return [{**asdict(s.stage), "state": s.state, "why": s.why} for s in found]
