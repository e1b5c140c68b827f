"""Runs a board: its cells become a graph of stages, the engine runs what is missing, and records are written.

plan_cells   cells -> planned cells, each with its final stage, or the reason why it is skipped
Work to do   a cell whose record has its final stage's key is done; a stage whose artefact is in the store is done
run          the rest, seed 1 of everything first, telling a `Watcher` what happens
"""

import hashlib
import heapq
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import methods
from benchmark.corpus.corpus import Corpus, Split, load, load_split
from benchmark.corpus.transfer import Transfer, build, describe
from benchmark.errors import CdnerError, RecordError, UnknownName, Unsupported, nearest
from benchmark.run import record as records
from benchmark.run.engine import Ending, Engine
from benchmark.run.method import Method
from benchmark.run.plan import Board, Cell, read_board
from benchmark.run.stage import Stage, plain
from benchmark.run.store import Store
from benchmark.score.protocols import SCORER_VERSION, Gold, read_predictions

RATE = {"train_tagger": 1200.0, "tag": 4000.0}  # words a second and slot, until the store knows better


@dataclass(eq=False)
class Planned:
    """A cell, the stage that it ends in, and the record that there is of it."""

    cell: Cell
    method: type[Method]
    settings: Any
    transfer: Transfer | None
    final: Stage | None
    reason: str | None  # why it is skipped
    record: records.Record | None
    gold: str = ""  # what the scores hang on beside the predictions: gold, general types, card versions

    @property
    def predicted(self) -> bool:
        """Return whether there is a good record of this very stage, whatever it was scored against."""
        found = self.record
        return bool(found and self.final and found["status"] == "ok" and found["final"] == self.final.key)

    @property
    def done(self) -> bool:
        """Return whether the record is of this very stage, and of this gold and this scorer."""
        found = self.record
        return bool(found and self.predicted and found["scorer"] == SCORER_VERSION and found.get("gold") == self.gold)

    @property
    def failed(self) -> bool:
        """Return whether this very stage has failed before."""
        found = self.record
        return bool(found and self.final and found["status"] == "failed" and found["final"] == self.final.key)

    @property
    def stale(self) -> bool:
        """Return whether there is a good record, but of another stage."""
        return bool(self.record and self.record["status"] == "ok" and not self.predicted)


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
class Workload:
    """The graph of a board, and what of it is still to do."""

    planned: list[Planned]
    stages: dict[str, Stage]  # of every cell, each key once
    todo: dict[str, Stage]  # parents first, in running order
    stored: int
    references: int  # stages of all cells, each counted for every cell that needs it
    minutes: float
    slots: int
    todo_cells: list[Planned] = field(default_factory=list)
    rescore: list[Planned] = field(default_factory=list)  # predictions stand; gold, a card or the scorer has changed


def plan_cells(
    board: Board, cells: Iterable[Cell], *, data: Path | None = None, cards: tuple[Path, ...] = ()
) -> list[Planned]:
    """Return the cells with their final stages. A cell that a method cannot do carries the reason.

    Each corpus is read once. Raises what reading a corpus raises, and PlanError.
    """
    corpora = corpus_reader()
    transfers: dict[Any, Transfer] = {}
    found = []
    for cell in cells:
        if cell.spec not in transfers:
            transfers[cell.spec] = build(cell.spec, data=data, cards=cards, corpora=corpora)
        transfer = transfers[cell.spec]
        method = methods.find(cell.variant.method)
        settings = method.settings(cell.changed, cell.name)
        final, reason = None, None
        try:
            final = method().plan(transfer, settings, cell.seed)
        except Unsupported as error:
            reason = str(error)
        known = records.read(board.folder, cell.name)
        test = corpora(cell.spec.target, data=data, cards=cards, dev=cell.spec.dev).test
        found.append(Planned(cell, method, settings, transfer, final, reason, known, gold_of(transfer, test)))
    return found


def gold_of(transfer: Transfer, test: Split) -> str:
    """Return a hash of what turns predictions into scores: gold, the types' general types, the cards' versions."""
    versions = {d.name: d.card.version for d in (*transfer.sources, transfer.target)}
    text = json.dumps([test.hash, transfer.target.general, versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def corpus_reader() -> Any:
    """Return a function like `corpus.load` that reads each corpus once."""

    @cache
    def read(name: str, data: Path | None = None, cards: tuple[Path, ...] = (), dev: str = "card") -> Corpus:
        return load(name, data=data, cards=cards, dev=dev)

    return read


def workload(
    board: Board, planned: list[Planned], store: Store, engine_slots: int, *, retry_failed: bool = False
) -> Workload:
    """Return what is to be done: stages that some unfinished cell needs and the store lacks, parents first.

    A cell whose stored predictions only want scoring again needs no stage.
    """
    stages: dict[str, Stage] = {}
    references = 0
    for item in planned:
        if item.final is not None:
            graph = item.final.graph()
            references += len(graph)
            stages.update({s.key: s for s in graph})
    cells = [p for p in planned if p.final is not None and not p.done and (retry_failed or not p.failed)]
    again = [p for p in cells if p.predicted and records.predictions_hold(board.folder, p.record or {})]
    cells = [p for p in cells if p not in again]
    todo: dict[str, Stage] = {}
    for item in cells:
        assert item.final is not None
        need(item.final, store, todo)
    stored = sum(store.has(key) for key in stages)
    minutes = Estimator(store).seconds(todo.values()) / 60 / max(1, engine_slots)
    return Workload(planned, stages, todo, stored, references, minutes, engine_slots, cells, again)


def need(stage: Stage, store: Store, todo: dict[str, Stage]) -> None:
    """Add to `todo` what must run before the artefact of `stage` is in the store, parents first, and itself."""
    if stage.key in todo or store.has(stage.key):
        return
    for parent in stage.parents:
        need(parent, store, todo)
    todo[stage.key] = stage


class Estimator:
    """Guesses the seconds of stages from those that the store has seen, by step and size."""

    def __init__(self, store: Store) -> None:
        sizes: dict[str, float] = {}
        seconds: dict[str, float] = {}
        recent = sorted(store.root.glob("stages/*/manifest.json"), key=lambda p: p.stat().st_mtime)[-200:]
        for path in recent:
            try:
                seen = json.loads(path.read_text(encoding="utf8"))
                step = seen["step"].partition(":")[2] + encoder_of(seen["ingredients"])
                sizes[step] = sizes.get(step, 0.0) + seen["size"]
                seconds[step] = seconds.get(step, 0.0) + seen["seconds"]
            except (OSError, ValueError, KeyError, TypeError):
                continue  # only an estimate: what cannot be read teaches nothing
        self.rates = {step: sizes[step] / seconds[step] for step in sizes if sizes[step] and seconds[step]}

    def seconds(self, stages: Iterable[Stage]) -> float:
        """Return a guess at the seconds that stages take, one after another."""
        total = 0.0
        for stage in stages:
            step = stage.step.__name__
            rate = (
                self.rates.get(step + encoder_of(stage.ingredients)) or self.rates.get(step) or RATE.get(step, 20000.0)
            )
            total += stage.size / rate + 0.5
        return total


def encoder_of(ingredients: Mapping[str, Any]) -> str:
    """Return the backbone among a stage's inputs, to tell a large model's seconds from a small one's."""
    backbone = ingredients["inputs"].get("backbone")
    return f" {backbone['Backbone']['name']}" if isinstance(backbone, dict) and "Backbone" in backbone else ""


# ---------------------------------------------------------------------------------------------------------- running


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


def score_cell(item: Planned, predictions: Path, *, data: Path | None) -> dict[str, Any]:
    """Return the counts of a cell's predictions against the gold of the target's test split."""
    assert item.transfer is not None
    card = item.transfer.target.card
    split = load_split(card, "test", data)
    gold = [Gold(s.id, s.words, s.spans or ()) for s in split.sentences]
    general = {key: t.general for key, t in card.types.items()}
    return records.scores(gold, read_predictions(predictions), level=item.method.level, general=general)


def compose(board: Board, item: Planned, result: Mapping[str, Any], store: Store, spent: float) -> records.Record:
    """Return a cell's record, in the order in which its fields are read.

    spent   seconds of the stages that this run ran for this cell; a stage that several cells share is charged once
    """
    cell, transfer = item.cell, item.transfer
    assert transfer is not None
    graph = [] if item.final is None else item.final.graph()
    manifests = {s.key: store.manifest(s.key) for s in graph if store.has(s.key)}
    seconds = {key: m["seconds"] for key, m in manifests.items()}
    known = all(s.key in seconds for s in graph)
    counts = {name: result[name] for name in ("scores", "errors", "sentences") if name in result}
    return {
        "schema": records.SCHEMA,
        "cell": cell.name,
        "board": board.name,
        "status": result["status"],
        "reason": result["reason"],
        "variant": cell.variant.name,
        "method": cell.variant.method,
        "level": item.method.level,
        "backbone": getattr(item.settings, "encoder", None),
        "settings": plain(vars(item.settings)),
        "transfer": describe(cell.spec),
        "regime": cell.spec.regime_label,
        "draw": cell.spec.draw,
        "seed": cell.seed,
        "corpora": corpora_of(transfer),
        "scorer": SCORER_VERSION,
        "gold": item.gold,
        **counts,
        "final": None if item.final is None else item.final.key,
        "stages": [{"key": s.key, "title": s.title, "seconds": seconds.get(s.key), **s.ingredients} for s in graph],
        "cost": {
            "alone_seconds": round(sum(seconds.values()), 1) if known and graph else None,
            "spent_seconds": round(spent, 1),
            "peak_memory_mib": max((m["peak_memory_mib"] for m in manifests.values()), default=None),
        },
        "provenance": {
            **records.provenance(),
            "device": sorted({m["device"] for m in manifests.values()}),
            "threads": sorted({m["threads"] for m in manifests.values()}),
            "precision": precision_of(graph, store),
        },
    }


def corpora_of(transfer: Transfer) -> dict[str, Any]:
    """Return the corpora of a transfer as a record keeps them: card versions, and the hash of train as it was shown."""
    domains = (*transfer.sources, transfer.target)
    return {d.name: {"version": d.card.version, "train": d.train.hash[:16]} for d in domains}


def precision_of(graph: Iterable[Stage], store: Store) -> str | None:
    """Return the precision that the stages used, as they tell it in about.json; `32+bf16` where they differ."""
    told: set[str] = set()
    for stage in graph:
        path = store.folder(stage.key) / "about.json"
        if path.is_file():
            told.add(str(json.loads(path.read_text(encoding="utf8"))["precision"]))
    return "+".join(sorted(told)) or None


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


def find_cell(name: str, boards: Mapping[str, Path], cards: tuple[Path, ...] = ()) -> tuple[Board, Cell]:
    """Return a cell and its board, from `<cell>`, `<board>/<cell>` or `<folder of a board>/<cell>`.

    Raises UnknownName where there is none, RecordError where several boards have it. A board whose plan cannot be
    read is left out, and named where nothing is found.
    """
    parts = name.split("/")
    folder = "/".join(parts[:-4])  # a cell's name has four parts
    given = Path(folder).expanduser() if folder else None
    if given is not None and (folder in boards or (given / "plan.yaml").is_file()):
        chosen, wanted = {folder: boards.get(folder) or given}, "/".join(parts[-4:])
    else:
        chosen, wanted = dict(boards), name
    found: list[tuple[Board, Cell]] = []
    known: list[str] = []
    unread: list[str] = []
    for board_name, path in chosen.items():
        try:
            board = read_board(str(path), cards)
        except CdnerError as error:
            unread.append(f" The board {board_name} cannot be read: {error}")
            continue
        known.extend(c.name for c in board.cells)
        found.extend((board, c) for c in board.cells if c.name == wanted)
    if not found:
        raise UnknownName(
            f"there is no cell {name!r} in {', '.join(chosen) or 'any board'}.{nearest(wanted, known)} "
            "A cell is named <variant>/<sources>--<target>/<regime>/seed<n>; `cdner run BOARD --dry-run` lists them."
            + "".join(unread)
        )
    if len(found) > 1:
        where = ", ".join(b.name for b, _ in found)
        raise RecordError(f"the cell {name!r} stands in several boards ({where}); put the board's name before it.")
    return found[0]
