"""Runs a workload: the engine runs what is missing, and records are written, seed 1 of everything first.

Nothing here is lost when it is ended at any moment: a finished stage is in the store, a record is written when its
last stage is there, and what a half-trained stage has kept is found by whoever takes up the stage next.
"""

import contextlib
import errno
import heapq
import json
import platform
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmark.errors import CdnerError, StoreError
from benchmark.redact import redact
from benchmark.run import processes, upkeep
from benchmark.run import record as records
from benchmark.run.cells import Planned
from benchmark.run.engine import Ending, Engine
from benchmark.run.failure import KEPT, PASSING, Failure, failure, last_lines
from benchmark.run.outcome import Outcomes
from benchmark.run.plan import Board
from benchmark.run.stage import Stage
from benchmark.run.store import Lease, Store
from benchmark.run.workload import Estimator, Workload, need

TRIES = 3  # attempts at a stage that is killed, in one run
LOOK = 1.0  # seconds between two looks at what others build


@dataclass(frozen=True)
class Limits:
    """What a run may use. When it is over, no further stage is started, and those that run are waited for."""

    hours: float | None = None
    usd: float | None = None
    tokens: int | None = None  # of language models
    fail_fast: bool = False  # the first failure ends the run, and what else runs
    llm: str = "live"  # `replay`: language models are not asked, their kept answers are all there is


@dataclass(frozen=True)
class Summary:
    """What a run did, and what it left.

    left      cells without a record
    stopped   why no further stage was started
    """

    cells: int
    done: int
    ok: int
    failed: int
    skipped: int
    stages_run: int
    seconds: float
    interrupted: bool = False
    left: int = 0
    stopped: str | None = None
    usd: float = 0.0


class Watcher(Protocol):
    """Is told what happens while a board runs."""

    def planned(self, work: "Workload") -> None:
        """The graph is known; nothing has started."""

    def say(self, line: str) -> None:
        """Something else that a person should know."""

    def started(self, stage: Stage, attempt: int = 1) -> None:
        """A stage has started."""

    def elsewhere(self, stage: Stage, owner: str) -> None:
        """Another harness builds a stage; it is waited for."""

    def ticked(self, running: Mapping[Stage, dict[str, Any]], left: float | None) -> None:
        """Time has passed: the last progress of every running stage, and an estimate of the minutes left."""

    def retried(self, stage: Stage, reason: str, attempt: int) -> None:
        """A stage was killed, and is tried again."""

    def ended(self, stage: Stage, reason: str | None, seconds: float) -> None:
        """A stage has ended, well or for a reason."""

    def recorded(self, record: records.Record) -> None:
        """A record was written."""

    def stopping(self, why: str) -> None:
        """No further stage is started."""

    def finished(self, summary: Summary) -> None:
        """The run is over."""


@dataclass
class Running:
    """A stage that runs now."""

    stage: Stage
    scratch: Path
    lease: Lease
    attempt: int
    told: dict[str, Any] = field(default_factory=dict)  # what it has reported, newest over oldest
    read: int = 0  # bytes of its progress file that were read
    stopped: str | None = None  # why the harness ends it
    began: float | None = None  # when its process did, in seconds since 1970

    def seconds(self) -> float:
        """Return for how long the stage has run; what it has waited for its place does not count."""
        if self.began is None:
            self.began = processes.begun_at(self.scratch)
        return 0.0 if self.began is None else max(0.0, time.time() - self.began)

    def progress(self) -> dict[str, Any]:
        """Return all that the stage has reported, newest over oldest."""
        try:
            with (self.scratch / "progress.jsonl").open("rb") as stream:
                stream.seek(self.read)
                chunk = stream.read()
        except OSError:
            return self.told
        whole, _, _ = chunk.rpartition(b"\n")
        for line in whole.splitlines():
            self.told.update(json.loads(line))
        self.read += len(whole) + 1 if whole else 0
        return self.told


class Runner:
    """Runs a workload on an engine and writes the board's records."""

    def __init__(
        self, board: Board, work: Workload, store: Store, engine: Engine, watcher: Watcher,
        *, data: Path | None = None, limits: Limits = Limits(),
    ) -> None:  # fmt: skip
        self.board, self.work, self.store, self.engine, self.watcher = board, work, store, engine, watcher
        self.limits = limits
        self.began = time.monotonic()
        self.known = {key: len(store.attempts(key)) for key in store.tried() if key in work.todo}  # attempts before
        self.outcomes = Outcomes(board, store, data)
        self.git = records.git_state()  # as the tree is now, not when the first record is written
        self.waiting: dict[str, Stage] = {}  # wanted, and not running
        self.missing: dict[str, set[str]] = {}  # parents that are not in the store
        self.children: dict[str, set[str]] = {}
        self.order: dict[str, int] = {}
        self.ready: list[tuple[int, str]] = []
        self.running: dict[Path, Running] = {}
        self.elsewhere: dict[str, Lease] = {}  # wanted, and held by another harness
        self.lost: set[str] = set()  # leases that were ours
        self.left: dict[str, Lease] = {}  # of scratch folders that are not ours
        self.broken: Counter[str] = Counter()
        self.tries: Counter[str] = Counter()
        self.ran: set[str] = set()
        self.usd = 0.0
        self.tokens = 0
        self.stopping: str | None = None
        self.looked = self.ticked = 0.0
        self.open: dict[str, list[Planned]] = {}  # final stage's key -> cells without a record of it
        for item in work.todo_cells:
            assert item.final is not None
            self.open.setdefault(item.final.key, []).append(item)
        self.counts = {"ok": 0, "failed": 0, "skipped": 0}
        self.estimator = Estimator(store, (p.record for p in work.planned))
        for item in work.planned:
            item.record = item.record and records.brief(item.record)
        for stage in work.todo.values():
            self.want(stage)

    def run(self) -> Summary:
        """Run all that is to do. Ctrl-C ends what runs, and leaves every finished stage and record."""
        interrupted = False
        try:
            self.watcher.planned(self.work)
            self.bring_up_to_date()
            while (self.waiting or self.running) and not (self.stopping and not self.running):
                self.fill()
                self.collect()
        except KeyboardInterrupt:
            interrupted = True
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise self.disk_full(error.filename) from None
            raise
        finally:
            self.end_all()
        return self.summary(interrupted)

    def gather(self, tried: Mapping[str, int]) -> Summary:
        """Write the records of what has ended without a harness, and run nothing.

        tried   attempts that stages had had when they were submitted: one that has failed since fails its cells
        """
        self.known.update(tried)
        self.bring_up_to_date()
        for key in tried:
            if key in self.waiting and not self.store.has(key):
                self.failed_elsewhere(self.waiting[key])
        return self.summary(interrupted=False)

    def bring_up_to_date(self) -> None:
        """Clear away what the dead have left, and write every record for which no stage has to run."""
        self.left = upkeep.sweep(self.store, self.board.folder)
        self.skip()
        for item in self.work.rescore:
            self.score_again(item)
        for item, name in self.work.equal.items():
            self.take_over(item, name)
        self.settle()

    def summary(self, interrupted: bool) -> Summary:
        """Return what was done, and tell the watcher."""
        done = sum(p.done for p in self.work.planned)
        summary = Summary(
            len(self.work.planned), done, self.counts["ok"], self.counts["failed"], self.counts["skipped"],
            len(self.ran), time.monotonic() - self.began, interrupted, sum(map(len, self.open.values())),
            self.stopping, round(self.usd, 4),
        )  # fmt: skip
        self.watcher.finished(summary)
        return summary

    # ---- what is to run

    def want(self, stage: Stage) -> None:
        """Add a stage to what is to run, behind those of its parents that are to run too."""
        key = stage.key
        self.waiting[key] = stage
        self.order.setdefault(key, len(self.order))
        busy = {job.stage.key for job in self.running.values()}
        self.missing[key] = {p.key for p in stage.parents if p.key in self.waiting or p.key in busy}
        for parent in self.missing[key]:
            self.children.setdefault(parent, set()).add(key)
        if not self.missing[key]:
            heapq.heappush(self.ready, (self.order[key], key))
        self.estimator.add(stage)

    def want_again(self, stage: Stage) -> None:
        """Add a stage whose artefact is gone, and all that the store lacks to build it."""
        lacking: dict[str, Stage] = {}
        need(stage, self.store, lacking)
        busy = {job.stage.key for job in self.running.values()}
        for found in lacking.values():
            if found.key not in self.waiting and found.key not in busy:
                self.want(found)

    def fill(self) -> None:
        """Start stages whose parents are there, in running order, while a slot is free."""
        while self.ready and self.stopping is None and len(self.running) < self.engine.slots:
            _, key = heapq.heappop(self.ready)
            if key in self.waiting and key not in self.elsewhere:
                self.begin(self.waiting[key])
        if not (self.ready or self.running or self.elsewhere or self.stopping) and self.waiting:
            raise RuntimeError(f"{len(self.waiting)} stages wait for parents that nobody builds")

    def begin(self, stage: Stage) -> None:
        """Start a stage, unless another harness builds it or has built it."""
        key = stage.key
        lease = self.elsewhere.get(key) or self.store.lease(key, lost=lambda: self.lost.add(key))
        if not self.store.has(key):
            owner = self.owner(stage, lease)
            if owner is not None:
                if key not in self.elsewhere:
                    self.watcher.elsewhere(stage, owner)
                self.elsewhere[key] = lease
                return
        self.elsewhere.pop(key, None)
        try:
            if key not in self.waiting:
                return  # it runs already, and was taken over
            if self.store.has(key):
                self.watcher.ended(stage, None, 0.0)  # another harness has built it
                self.built(stage)
            elif any(not self.store.has(parent.key) for parent in stage.parents):
                self.after_parents(stage)
            elif not self.failed_elsewhere(stage):
                self.start(stage, lease)
        finally:
            if not any(job.lease is lease for job in self.running.values()):
                lease.release()

    def owner(self, stage: Stage, lease: Lease) -> str | None:
        """Take the lease of a stage. Returns who builds it, where it is not for us to build.

        A job that has outlived its harness is taken over by the engine that can; others wait for it.
        """
        if not lease.take():
            return lease.owner
        job = upkeep.living(self.store, stage.key)
        if job is None:
            upkeep.reclaim(self.store, stage.key)
            return None
        if not self.engine.adopt(job.scratch):
            lease.release()
            return job.called
        attempt = len(self.store.attempts(stage.key)) + 1
        del self.waiting[stage.key]
        self.running[job.scratch] = Running(stage, job.scratch, lease, attempt)
        self.watcher.say(f"{stage.title}: {job.called} was found again, and is waited for")
        self.watcher.started(stage, attempt)
        return None

    def start(self, stage: Stage, lease: Lease) -> None:
        """Hand a stage whose lease is ours to the engine."""
        limits = {
            "minutes": self.board.minutes_per_stage, "gib": self.board.gib_per_stage,
            "usd": self.usd_left(), "tokens": self.tokens_left(),
        }  # fmt: skip
        scratch = self.store.prepare(
            stage, threads=self.engine.threads, limits=limits, llm=self.limits.llm, about=self.git
        )
        attempt = len(self.store.attempts(stage.key)) + 1
        del self.waiting[stage.key]
        self.running[scratch] = Running(stage, scratch, lease, attempt)
        self.engine.start(scratch)
        self.watcher.started(stage, attempt)

    def after_parents(self, stage: Stage) -> None:
        """Put a stage behind its parents, of which some have gone from the store."""
        for parent in stage.parents:
            if not self.store.has(parent.key):
                self.want_again(parent)
        self.want(stage)

    def failed_elsewhere(self, stage: Stage) -> bool:
        """Fail a stage that another harness has tried in vain since this run began. Returns whether that is so."""
        earlier = self.store.attempts(stage.key)
        if len(earlier) <= self.known.get(stage.key, 0) or earlier[-1]["reason"] in PASSING:
            return False
        last = earlier[-1]
        self.fail(stage, Failure(last["reason"], last["message"], tuple(last["log"])), last["attempt"])
        return True

    # ---- how it ends

    def collect(self) -> None:
        """Wait a moment for stages to end; look at limits and at what others build; tell the watcher."""
        for ending in self.engine.wait(0.25):
            if ending.scratch in self.running:
                self.end(self.running.pop(ending.scratch), ending)
        self.check_limits()
        now = time.monotonic()
        for job in [j for j in self.running.values() if j.stage.key in self.lost]:
            if self.engine.outlives:
                self.let_go(job)
            elif job.stopped is None:
                self.end_early(job, "another harness took it over")
        if now - self.looked > LOOK:
            self.looked = now
            self.look()
        if now - self.ticked > 0.25:
            self.ticked = now
            seconds = {j.stage: j.seconds() for j in self.running.values()}
            left = self.estimator.left(seconds) / 60 / self.engine.slots
            self.watcher.ticked({j.stage: j.progress() for j in self.running.values()}, left)

    def check_limits(self) -> None:
        """Stop the run where it is over one of its limits."""
        if self.limits.hours is not None and time.monotonic() - self.began > self.limits.hours * 3600:
            self.stop(f"the run's {self.limits.hours:g} hours are over")
        elif self.limits.usd is not None and self.spent() >= self.limits.usd:
            self.stop(f"the run's {self.limits.usd:g} USD are spent")
        elif self.limits.tokens is not None and self.spent_tokens() >= self.limits.tokens:
            self.stop(f"the run's {self.limits.tokens} tokens are spent")

    def look(self) -> None:
        """See what became of the stages that others build, and of what a machine left that may be gone."""
        self.left = upkeep.sweep_leases(self.store, self.left)
        for key in list(self.elsewhere):
            free = self.stopping is None and len(self.running) < self.engine.slots
            if key in self.waiting and (free or self.store.has(key)):
                self.begin(self.waiting[key])

    def end_early(self, job: Running, why: str) -> None:
        """End a stage that is no failure."""
        job.stopped = why
        self.engine.stop(job.scratch)

    def stop(self, why: str) -> None:
        """Start no further stage."""
        if self.stopping is None:
            self.stopping = why
            self.watcher.stopping(why)

    def spent(self) -> float:
        """Return the US dollars that this run has spent, those of the stages that run now included."""
        return self.usd + sum(float(job.progress().get("usd", 0.0)) for job in self.running.values())

    def usd_left(self) -> float | None:
        """Return what may still be spent; None where there is no limit."""
        return None if self.limits.usd is None else max(0.0, self.limits.usd - self.spent())

    def spent_tokens(self) -> int:
        """Return the tokens of language models that this run has spent, those of the stages that run now included."""
        return self.tokens + sum(int(job.progress().get("tokens", 0)) for job in self.running.values())

    def tokens_left(self) -> int | None:
        """Return the tokens that may still be spent; None where there is no limit."""
        return None if self.limits.tokens is None else max(0, self.limits.tokens - self.spent_tokens())

    def end(self, job: Running, ending: Ending) -> None:
        """Take note of a stage's end, and write the records of the cells that hung on it."""
        key = job.stage.key
        if self.engine.outlives and self.is_lost(job):
            self.let_go(job)
            return
        seconds = job.seconds() if ending.seconds is None else ending.seconds
        self.usd += job.progress().get("usd", 0.0)
        self.tokens += job.progress().get("tokens", 0)
        self.estimator.remove(job.stage)
        lost = key in self.lost
        self.lost.discard(key)
        try:
            if self.store.has(key):
                self.ran.add(key)
                self.store.settle(key)
                self.estimator.learn(self.store.manifest(key))
                self.watcher.ended(job.stage, None, seconds)
                self.built(job.stage)
            elif lost:
                self.watcher.say(f"another harness took over {job.stage.title}: this one was away for too long")
                self.want(job.stage)
            else:
                processes.end(job.scratch)  # what it has put into a session of its own
                self.unbuilt(job, self.why(job, ending), seconds)
        finally:
            self.store.discard(job.scratch)
            job.lease.release()

    def is_lost(self, job: Running) -> bool:
        """Return whether a stage is another harness' by now."""
        return job.stage.key in self.lost or job.lease.passed

    def let_go(self, job: Running) -> None:
        """Leave a stage that runs on to the harness that has taken it over, and wait for it there."""
        self.running.pop(job.scratch, None)
        self.engine.forget(job.scratch)
        self.lost.discard(job.stage.key)
        job.lease.release()
        self.estimator.remove(job.stage)
        self.watcher.say(f"another harness took over {job.stage.title}: this one was away for too long")
        self.want(job.stage)

    def built(self, stage: Stage) -> None:
        """Free the stages that waited for this one, and finish the cells that end in it."""
        key = stage.key
        self.waiting.pop(key, None)
        self.estimator.remove(stage)
        for child in self.children.pop(key, ()):
            self.missing[child].discard(key)
            if not self.missing[child] and child in self.waiting:
                heapq.heappush(self.ready, (self.order[child], child))
        for item in self.open.pop(key, []):
            self.finish(item)

    def why(self, job: Running, ending: Ending) -> Failure:
        """Return why a stage has ended without an artefact."""
        if job.stopped is None:
            return failure(ending)
        return Failure("interrupted", f"interrupted: {job.stopped}", last_lines(job.scratch / "artefact" / "log.txt"))

    def unbuilt(self, job: Running, told: Failure, seconds: float) -> None:
        """Try a stage again that was killed or found a broken artefact; else fail it."""
        key = job.stage.key
        self.tries[key] += 1
        if told.kind == "broken input" and told.key is not None and self.broken[told.key] < TRIES:
            self.mend(told.key)
            self.after_parents(job.stage)
            return
        self.note(job, told, seconds)
        if told.kind == "disk full":
            raise self.disk_full(None)
        if told.kind == "interrupted":
            self.want(job.stage)
            return
        if told.kind == "killed" and told.again and self.tries[key] < TRIES and self.stopping is None:
            self.watcher.retried(job.stage, told.told, len(self.store.attempts(key)) + 1)
            self.want(job.stage)
            return
        if told.kind not in KEPT:
            shutil.rmtree(self.store.partial(key), ignore_errors=True)
        self.watcher.ended(job.stage, told.told, seconds)
        self.fail(job.stage, told, job.attempt)

    def disk_full(self, path: str | None) -> StoreError:
        """Return what to raise where nothing can be written any more."""
        return StoreError(
            f"{path or self.store.root}: the disk is full. Make room (`cdner store` shows what takes it); the same "
            "command goes on from here."
        )

    def mend(self, key: str) -> None:
        """Set a broken artefact aside, so that it is built again."""
        self.broken[key] += 1
        problem = self.store.problem(key) if self.store.has(key) else None
        if problem is not None:
            where = self.store.set_aside(key)
            self.watcher.say(f"the artefact {key[:8]} is broken ({problem}); it is built again, and kept in {where}")

    def note(self, job: Running, told: Failure, seconds: float) -> None:
        """Keep how an attempt ended, and its log; not of one that was ended before it began."""
        if told.kind in {"killed", "interrupted"} and not processes.began(job.scratch):
            return
        self.store.note_attempt(job.stage.key, {
            "attempt": job.attempt, "reason": told.kind, "message": redact(told.told), "seconds": round(seconds, 3),
            "usd": job.progress().get("usd"), "ended": records.now(), "host": platform.node(), "log": told.log,
        })  # fmt: skip
        self.known[job.stage.key] = job.attempt
        if told.kind != "interrupted":
            self.store.keep_log(job.scratch, job.stage.key, job.attempt)

    def fail(self, stage: Stage, told: Failure, attempt: int) -> None:
        """Write the records of the cells that need a stage which has failed. A better record is never hidden."""
        reason = redact(f"{stage.step.__name__} ({stage.title}): {told.told}")
        about = {"kind": told.kind, "stage": stage.key, "title": stage.title, "attempt": attempt, "log": told.log}
        below = [stage.key]
        while below:
            key = below.pop()
            if key in self.waiting:
                self.estimator.remove(self.waiting.pop(key))
            below.extend(child for child in self.children.pop(key, ()) if child in self.waiting)
            for item in self.open.pop(key, []):
                self.counts["failed"] += 1
                if not item.stale:
                    self.write(item, {"status": "failed", "reason": reason, "failure": about})
        if self.limits.fail_fast and self.stopping is None:
            self.stop(f"--fail-fast: {reason}")
            for job in self.running.values():
                self.end_early(job, "the run was ended")

    def end_all(self) -> None:
        """End what runs. What it has kept so far is found by the next attempt."""
        if self.engine.outlives:
            for job in [j for j in self.running.values() if self.is_lost(j)]:
                self.let_go(job)
        try:
            self.engine.close()
        finally:
            for job in self.running.values():
                place = self.engine.runs_on(job.scratch)
                if place is not None:
                    self.watcher.say(
                        f"{job.stage.title}: {place} was cancelled and has not ended yet; the next run on this store "
                        "finds it, or clears away what is left of it"
                    )
                    job.lease.release()
                    continue
                if self.store.has(job.stage.key):
                    self.store.settle(job.stage.key)
                else:
                    processes.end(job.scratch)
                    log = last_lines(job.scratch / "artefact" / "log.txt")
                    told = Failure("interrupted", "interrupted: the run was ended", log)
                    with contextlib.suppress(OSError):  # on a full disk, that is what is told, and the rest is let go
                        self.note(job, told, job.seconds())
                self.store.discard(job.scratch)
                job.lease.release()

    # ---- records

    def skip(self) -> None:
        """Write the records of cells that their methods cannot do."""
        for item in self.work.planned:
            if item.reason is not None:
                self.counts["skipped"] += 1
                known = item.record
                if known is None or (known["status"] != "ok" and known["reason"] != item.reason):
                    self.write(item, {"status": "skipped", "reason": item.reason})

    def settle(self) -> None:
        """Write the record of every open cell whose final stage is in the store already."""
        for key in [key for key in self.open if self.store.has(key)]:
            for item in self.open.pop(key):
                self.finish(item)

    def finish(self, item: Planned) -> None:
        """Score the predictions of a cell and write its record. A torn artefact is built again first."""
        assert item.final is not None
        key = item.final.key
        if key not in self.ran and self.store.problem(key) is not None and self.broken[key] < TRIES:
            self.mend(key)
            self.open.setdefault(key, []).append(item)
            self.want_again(item.final)
            return
        try:
            counted = self.outcomes.score(item, self.outcomes.predictions(item))
        except CdnerError as error:
            self.counts["failed"] += 1
            if item.stale:
                return  # a better record is never hidden
            told = str(error).replace(str(self.store.folder(key)), "").strip("/")
            failed = {"kind": "bad input", "stage": key, "title": item.final.title, "attempt": 1, "log": []}
            reason = f"the predictions cannot be scored: {told}"
            self.write(item, {"status": "failed", "reason": reason, "failure": failed})
            return
        self.counts["ok"] += 1
        self.write(item, {"status": "ok", "reason": None, **counted}, self.outcomes.predictions(item))

    def score_again(self, item: Planned) -> None:
        """Score the predictions that stand beside a record against the gold of today, under the protocols of today."""
        old = records.read(self.board.folder, item.cell.name)
        if old is None:
            return  # somebody has taken it away meanwhile
        known = self.outcomes.scored_again(item, old)
        records.write(self.board.folder, known)
        self.counts["ok"] += 1
        self.noted(item, known)

    def take_over(self, item: Planned, name: str) -> None:
        """Write the record of a cell that ends in the stage of another one, from that one's predictions."""
        old = records.read(self.board.folder, name)
        if old is None or not records.predictions_hold(self.board.folder, old):
            return  # somebody has taken it away meanwhile; the next run builds the stages
        known = self.outcomes.taken_over(item, old)
        records.copy_predictions(self.board.folder, old, known)
        records.write(self.board.folder, known)
        self.counts["ok"] += 1
        self.noted(item, known)

    def write(self, item: Planned, result: dict[str, Any], predictions: Path | None = None) -> None:
        """Write a record, unless another harness has written the very same, and tell the watcher."""
        known = records.read_or_none(self.board.folder, item.cell.name)
        if not (result["status"] == "ok" and known is not None and item.fits(known) and not records.lacks(known)):
            known = self.outcomes.compose(item, result)
            records.write(self.board.folder, known, predictions)
        self.noted(item, known)

    def noted(self, item: Planned, record: records.Record) -> None:
        """Take note of a record that was written."""
        item.record = records.brief(record)
        self.watcher.recorded(record)
