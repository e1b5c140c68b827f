"""What of a board is still to do, and how long it may take.

A cell whose record has its final stage's key is done; a stage whose artefact is in the store is done.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmark.run import record as records
from benchmark.run.cells import Planned
from benchmark.run.plan import Board
from benchmark.run.stage import Stage
from benchmark.run.store import Store

RATE = {"train_tagger": 1200.0, "tag": 4000.0}  # words a second and slot, until the store knows better


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
