"""Runs a workload: the engine runs what is missing, and records are written, seed 1 of everything first."""

import heapq
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmark.errors import CdnerError
from benchmark.run import record as records
from benchmark.run.cells import Planned
from benchmark.run.engine import Ending, Engine
from benchmark.run.outcome import compose, corpora_of, score_cell
from benchmark.run.plan import Board
from benchmark.run.stage import Stage
from benchmark.run.store import Store
from benchmark.run.workload import Estimator, Workload
from benchmark.score.protocols import SCORER_VERSION


@dataclass(frozen=True)
class Summary:
    """What a run did, and what it left."""

    cells: int
    done: int
    ok: int
    failed: int
    skipped: int
    stages_run: int
    seconds: float
    interrupted: bool = False
    left: int = 0


class Watcher(Protocol):
    """Is told what happens while a board runs."""

    def planned(self, work: "Workload") -> None:
        """The graph is known; nothing has started."""

    def started(self, stage: Stage) -> None:
        """A stage has started."""

    def ticked(self, running: Mapping[Stage, dict[str, Any]], left: float | None) -> None:
        """Time has passed: the last progress of every running stage, and an estimate of the minutes left."""

    def ended(self, stage: Stage, reason: str | None, seconds: float) -> None:
        """A stage has ended, well or for a reason."""

    def recorded(self, record: records.Record) -> None:
        """A record was written."""


@dataclass
class Running:
    """A stage that runs now."""

    stage: Stage
    scratch: Path
    began: float
    stopped: str | None = None  # why the harness ended it


class Runner:
    """Runs a workload on an engine and writes the board's records."""

    def __init__(
        self, board: Board, work: Workload, store: Store, engine: Engine, watcher: Watcher,
        *, data: Path | None = None, cards: tuple[Path, ...] = (),
    ) -> None:  # fmt: skip
        self.board, self.work, self.store, self.engine, self.watcher = board, work, store, engine, watcher
        self.data, self.cards = data, cards
        self.running: dict[Path, Running] = {}
        self.waiting = dict(work.todo)
        self.missing = {key: {p.key for p in s.parents if p.key in work.todo} for key, s in work.todo.items()}
        self.children: dict[str, list[str]] = {}
        for key, parents in self.missing.items():
            for parent in parents:
                self.children.setdefault(parent, []).append(key)
        self.order = {key: position for position, key in enumerate(work.todo)}
        self.ready = [(self.order[key], key) for key, parents in self.missing.items() if not parents]
        self.spent: dict[str, float] = {}  # stage key -> seconds, of what this run ran
        self.charged: set[str] = set()  # stages whose seconds stand in a record already
        records.git_state()  # as the tree is now, not when the first record is written
        self.open: dict[str, list[Planned]] = {}  # final stage's key -> cells without a record of it
        for item in work.todo_cells:
            assert item.final is not None
            self.open.setdefault(item.final.key, []).append(item)
        self.counts = {"ok": 0, "failed": 0, "skipped": 0}
        self.estimator = Estimator(store)
        self.guess = {key: self.estimator.seconds([stage]) for key, stage in work.todo.items()}

    def run(self) -> Summary:
        """Run all that is to do. Ctrl-C ends what runs, and leaves every finished stage and record."""
        began = time.monotonic()
        interrupted = False
        try:
            self.watcher.planned(self.work)
            self.skip()
            for item in self.work.rescore:
                self.score_again(item)
            self.settle()
            while self.waiting or self.running:
                self.fill()
                self.collect()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            self.engine.close()
            for job in self.running.values():
                self.store.discard(job.scratch)
        done = sum(p.done for p in self.work.planned)
        return Summary(
            len(self.work.planned), done, self.counts["ok"], self.counts["failed"], self.counts["skipped"],
            len(self.spent), time.monotonic() - began, interrupted, sum(map(len, self.open.values())),
        )  # fmt: skip

    def skip(self) -> None:
        """Write the records of cells that their methods cannot do."""
        for item in self.work.planned:
            if item.reason is not None:
                self.counts["skipped"] += 1
                known = item.record
                if known is None or (known["status"] != "ok" and known["reason"] != item.reason):
                    self.write(item, {"status": "skipped", "reason": item.reason})

    def fill(self) -> None:
        """Start stages whose parents are there, in running order, while a slot is free."""
        while self.ready and len(self.running) < self.engine.slots:
            _, key = heapq.heappop(self.ready)
            stage = self.waiting.pop(key)
            scratch = self.store.prepare(stage, threads=self.engine.threads)
            self.running[scratch] = Running(stage, scratch, time.monotonic())
            self.engine.start(scratch)
            self.watcher.started(stage)

    def collect(self) -> None:
        """Wait a moment for stages to end; end those that are over time; tell the watcher."""
        for ending in self.engine.wait(0.25):
            self.end(self.running.pop(ending.scratch), ending)
        limit = self.board.minutes_per_stage
        for job in self.running.values():
            if limit is not None and job.stopped is None and time.monotonic() - job.began > limit * 60:
                job.stopped = f"time limit: over {limit:g} minutes"
                self.engine.stop(job.scratch)
        left = sum(self.guess[key] for key in self.waiting)
        left += sum(max(0.0, self.guess[j.stage.key] - time.monotonic() + j.began) for j in self.running.values())
        minutes = left / 60 / self.engine.slots
        self.watcher.ticked({j.stage: last_progress(j.scratch) for j in self.running.values()}, minutes)

    def end(self, job: Running, ending: Ending) -> None:
        """Take note of a stage's end, and write the records of the cells that hung on it."""
        try:
            self.settle_end(job, ending)
        finally:
            self.store.discard(job.scratch)

    def settle_end(self, job: Running, ending: Ending) -> None:
        """Free the stages that waited for this one, or fail them with it."""
        seconds = time.monotonic() - job.began
        key = job.stage.key
        reason = None if self.store.has(key) else job.stopped or failure(job.scratch, ending.code)
        self.watcher.ended(job.stage, reason, seconds)
        if reason is not None:
            self.store.keep_log(job.scratch, key)
            self.fail(job.stage, reason)
        else:
            self.spent[key] = self.store.manifest(key)["seconds"]
            for child in self.children.get(key, ()):
                self.missing[child].discard(key)
                if not self.missing[child] and child in self.waiting:
                    heapq.heappush(self.ready, (self.order[child], child))
            for item in self.open.pop(key, ()):
                self.finish(item)
        if reason is None and len(self.spent) % 5 == 1:
            self.estimator = Estimator(self.store)
            self.guess.update({k: self.estimator.seconds([stage]) for k, stage in self.waiting.items()})

    def fail(self, stage: Stage, reason: str) -> None:
        """Write the records of the cells that need a stage which has failed. A better record is never hidden."""
        told = f"{stage.step.__name__} ({stage.title}): {reason}"
        below = [stage.key]
        while below:
            key = below.pop()
            self.waiting.pop(key, None)
            below.extend(child for child in self.children.get(key, ()) if child in self.waiting)
            for item in self.open.pop(key, ()):
                self.counts["failed"] += 1
                if not item.stale:
                    self.write(item, {"status": "failed", "reason": told})

    def settle(self) -> None:
        """Write the record of every open cell whose final stage is in the store already."""
        for key in [key for key in self.open if self.store.has(key)]:
            for item in self.open.pop(key):
                self.finish(item)

    def finish(self, item: Planned) -> None:
        """Score the predictions of a cell and write its record."""
        assert item.final is not None
        assert item.transfer is not None
        predictions = self.store.folder(item.final.key) / "predictions.jsonl"
        try:
            counted = score_cell(item, predictions, data=self.data)
        except CdnerError as error:
            self.counts["failed"] += 1
            if item.stale:
                return  # a better record is never hidden
            told = str(error).replace(str(predictions), predictions.name)
            self.write(item, {"status": "failed", "reason": f"the predictions cannot be scored: {told}"})
            return
        self.counts["ok"] += 1
        self.write(item, {"status": "ok", "reason": None, **counted}, predictions)

    def score_again(self, item: Planned) -> None:
        """Score the predictions that stand beside a record against the gold of today."""
        assert item.record is not None
        assert item.transfer is not None
        counted = score_cell(item, records.predictions_path(self.board.folder, item.cell.name), data=self.data)
        item.record = {
            **item.record,
            **counted,
            "corpora": corpora_of(item.transfer),
            "scorer": SCORER_VERSION,
            "gold": item.gold,
            "rescored": {**records.git_state(), "written": records.now()},
        }
        records.write(self.board.folder, item.record)
        self.counts["ok"] += 1
        self.watcher.recorded(item.record)

    def write(self, item: Planned, result: dict[str, Any], predictions: Path | None = None) -> None:
        """Write a record, and tell the watcher."""
        own = [s.key for s in (item.final.graph() if item.final else []) if s.key not in self.charged]
        record = compose(self.board, item, result, self.store, sum(self.spent.get(key, 0.0) for key in own))
        self.charged.update(key for key in own if key in self.spent)
        records.write(self.board.folder, record, predictions)
        item.record = record
        self.watcher.recorded(record)


def failure(scratch: Path, code: int) -> str:
    """Return why a stage failed: what it said itself, or what its exit status tells."""
    path = scratch / "failure.json"
    if path.is_file():
        told = json.loads(path.read_text(encoding="utf8"))
        detail = told["message"].strip().splitlines()
        line = detail[-1] if detail else ""
        return line[:500] if line.startswith(told["reason"]) else f"{told['reason']}: {told['error']}: {line}"[:500]
    if code < 0:
        return f"killed by signal {-code}" + (" (for want of memory, or by a person)" if code == -9 else "")
    log = scratch / "artefact" / "log.txt"
    tail = log.read_text(encoding="utf8", errors="replace").strip().splitlines()[-3:] if log.is_file() else []
    return f"error: exit status {code}: {' / '.join(tail)}"[:500]


def last_progress(scratch: Path) -> dict[str, Any]:
    """Return the last figures that a running stage reported."""
    try:
        lines = (scratch / "progress.jsonl").read_text(encoding="utf8").strip().splitlines()
        found: dict[str, Any] = {}
        for line in lines:
            found.update(json.loads(line))
    except (OSError, ValueError):
        return {}
    return found
