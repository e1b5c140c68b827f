"""What of a board is still to do, and how long it may take.

A cell whose record has its final stage's key is done; a stage whose artefact is in the store is done.
"""

import contextlib
import heapq
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.run import record as records
from benchmark.run.cells import Planned
from benchmark.run.plan import Board
from benchmark.run.stage import Stage
from benchmark.run.store import MANIFEST, Store

RATE = {
    "train": 1200.0,
    "adapt": 1200.0,
    "pretrain": 1200.0,
    "tag": 4000.0,
}  # words a second and slot, until the store knows better
OVERHEAD = 0.5  # seconds of a stage beside its work


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
    rescore: list[Planned] = field(default_factory=list)  # their predictions stand, and are scored again
    equal: dict[Planned, str] = field(default_factory=dict)  # to do -> a done cell that ends in the very same stage


def workload(
    board: Board, planned: list[Planned], store: Store, engine_slots: int, *, retry_failed: bool = False
) -> Workload:
    """Return what is to be done: stages that some unfinished cell needs and the store lacks, parents first.

    A cell whose stored predictions only want scoring again needs no stage, nor does one that ends in the stage of
    another whose predictions stand. A done cell whose record lacks a protocol or slices is scored again; it stays as
    it is where its predictions are gone.
    """
    stages: dict[str, Stage] = {}
    references = 0
    for item in planned:
        if item.final is not None:
            graph = item.final.graph()
            references += len(graph)
            stages.update({s.key: s for s in graph})
    cells = [p for p in planned if p.final is not None and not p.done and (retry_failed or not p.failed)]
    wanting = [*(p for p in cells if p.predicted), *(p for p in planned if p.lacks)]
    again = [p for p in wanting if records.predictions_hold(board.folder, p.record or {})]
    scored = set(again)
    equal = _equal(board, planned, [p for p in cells if p not in scored], store)
    cells = [p for p in cells if p not in equal and p not in scored]
    todo: dict[str, Stage] = {}
    for item in cells:
        assert item.final is not None
        need(item.final, store, todo)
    stored = sum(store.has(key) for key in stages)
    minutes = Estimator(store, (p.record for p in planned)).seconds(todo.values()) / 60 / max(1, engine_slots)
    return Workload(planned, stages, todo, stored, references, minutes, engine_slots, cells, again, equal)


def _equal(board: Board, planned: list[Planned], wanted: Collection[Planned], store: Store) -> dict[Planned, str]:
    """Return those of the wanted cells that end in the stage of another cell, planned now or not, with its name.

    That cell's predictions stand.
    """
    finals = {p: p.final.key for p in wanted if p.final is not None and not store.has(p.final.key)}
    if not finals:
        return {}
    own = {p.cell.name for p in planned}
    others = (records.read_or_none(board.folder, cell.name) for cell in board.cells if cell.name not in own)
    standing = {
        known["final"]: known
        for known in (*(p.record for p in planned), *others)
        if known is not None and known["status"] == "ok"
    }
    found = {p: standing[key] for p, key in finals.items() if key in standing}
    return {p: known["cell"] for p, known in found.items() if records.predictions_hold(board.folder, known)}


def need(stage: Stage, store: Store, todo: dict[str, Stage]) -> None:
    """Add to `todo` what must run before the artefact of `stage` is in the store, parents first, and itself."""
    if stage.key in todo or store.has(stage.key):
        return
    for parent in stage.parents:
        need(parent, store, todo)
    todo[stage.key] = stage


class Estimator:
    """Guesses the seconds of stages from those that the store, and the records of a board, have seen.

    Stages are alike that have the step and the backbone in common: their seconds go with their size. Where none has
    been seen, those of the same step count, then those of the same kind (`train_laner`, `train_tagger`) and backbone.
    """

    def __init__(self, store: Store, seen: Iterable[Mapping[str, Any] | None] = ()) -> None:
        self.sizes: Counter[str] = Counter()
        self.took: Counter[str] = Counter()
        self.wanted: dict[str, Counter[str]] = {}  # what is alike -> sizes and number of the stages still to run
        self._alike: dict[str, str] = {}
        self._counted: set[str] = set()
        for record in seen:
            for stage in (record or {}).get("stages", []):
                self.learn({**stage, "ingredients": stage})
        for path in recent(store, 200):
            try:
                self.learn(json.loads(path.read_text(encoding="utf8")))
            except (OSError, ValueError):
                continue  # only an estimate: what cannot be read teaches nothing

    def learn(self, seen: Mapping[str, Any]) -> None:
        """Take note of the seconds that a stage of a size took."""
        if seen.get("size") and seen.get("seconds"):
            step, encoder = seen["step"].partition(":")[2], encoder_of(seen["ingredients"])
            for name in {step + encoder, step, kind(step) + encoder}:
                self.sizes[name] += seen["size"]
                self.took[name] += seen["seconds"]

    def alike(self, stage: Stage) -> str:
        """Return what a stage has in common with those that take as long for their size."""
        if stage.key not in self._alike:
            self._alike[stage.key] = stage.step.__name__ + encoder_of(stage.ingredients)
        return self._alike[stage.key]

    def rate(self, alike: str) -> float:
        """Return the words a second of stages that are alike."""
        step, space, encoder = alike.partition(" ")
        for name in (alike, step, kind(step) + space + encoder):
            if self.took[name]:
                return float(self.sizes[name] / self.took[name])
        return RATE.get(kind(step), 20000.0)

    def seconds(self, stages: Iterable[Stage]) -> float:
        """Return a guess at the seconds that stages take, one after another."""
        return sum(stage.size / self.rate(self.alike(stage)) + OVERHEAD for stage in stages)

    def add(self, stage: Stage) -> None:
        """Count a stage among those still to run; one that is counted already is counted once."""
        if stage.key not in self._counted:
            self._counted.add(stage.key)
            self._count(stage, 1)

    def remove(self, stage: Stage) -> None:
        """Count a stage no more."""
        if stage.key in self._counted:
            self._counted.remove(stage.key)
            self._count(stage, -1)

    def _count(self, stage: Stage, sign: int) -> None:
        wanted = self.wanted.setdefault(self.alike(stage), Counter())
        wanted["size"] += sign * stage.size  # type: ignore[assignment]
        wanted["stages"] += sign

    def left(self, running: Mapping[Stage, float]) -> float:
        """Return a guess at the seconds of all that is counted, less those for which stages have been running."""
        total = sum(w["size"] / self.rate(name) + OVERHEAD * w["stages"] for name, w in self.wanted.items())
        return max(0.0, total - sum(min(t, self.seconds([stage])) for stage, t in running.items()))


def kind(step: str) -> str:
    """Return the first word of a step's name.

    >>> kind("train_tagger"), kind("tag")
    ('train', 'tag')
    """
    return step.partition("_")[0]


def recent(store: Store, number: int) -> list[Path]:
    """Return the manifests of the artefacts that were made last."""
    found = []
    with os.scandir(store.root / "stages") as folders:
        for folder in folders:
            with contextlib.suppress(FileNotFoundError):  # set aside meanwhile
                found.append((folder.stat().st_mtime, folder.path))
    return [Path(path) / MANIFEST for _, path in heapq.nlargest(number, found)]


def encoder_of(ingredients: Mapping[str, Any]) -> str:
    """Return the backbone among a stage's inputs, to tell a large model's seconds from a small one's."""
    backbone = ingredients["inputs"].get("backbone")
    return f" {backbone['Backbone']['name']}" if isinstance(backbone, dict) and "Backbone" in backbone else ""
