"""What came of a cell: its predictions are scored, and its record is put together."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmark.corpus.corpus import load_split
from benchmark.corpus.transfer import Spec, Transfer, describe
from benchmark.run import curves
from benchmark.run import record as records
from benchmark.run.cells import Planned
from benchmark.run.plan import Board
from benchmark.run.stage import Stage, plain
from benchmark.run.store import Store
from benchmark.score import slices
from benchmark.score.protocols import SCORER_VERSION, Gold, read_predictions


class Outcomes:
    """Scores a board's cells and puts their records together. Each corpus' gold is read once."""

    def __init__(self, board: Board, store: Store, data: Path | None) -> None:
        self.board, self.store, self.data = board, store, data
        self._gold: dict[str, list[Gold]] = {}
        self._shown: dict[Spec, dict[str, slices.Shown]] = {}

    def predictions(self, item: Planned) -> Path:
        """Return where the predictions of a cell lie in the store."""
        assert item.final is not None
        return self.store.folder(item.final.key) / "predictions.jsonl"

    def gold(self, transfer: Transfer) -> list[Gold]:
        """Return the gold of the test split that is predicted."""
        card = transfer.tested.card
        if card.name not in self._gold:
            split = load_split(card, "test", self.data)
            self._gold[card.name] = [Gold(s.id, s.words, s.spans or ()) for s in split.sentences]
        return self._gold[card.name]

    def score(self, item: Planned, predictions: Path) -> dict[str, Any]:
        """Return the counts of a cell's predictions against the gold of its test split."""
        assert item.transfer is not None
        general = {key: t.general for key, t in item.transfer.tested.card.types.items()}
        gold, found = self.gold(item.transfer), read_predictions(predictions)
        return {
            **records.scores(gold, found, level=item.method.level, general=general),
            "slices": records.sliced(
                gold, found, level=item.method.level, general=general, shown=self.shown(item.transfer)
            ),
        }

    def shown(self, transfer: Transfer) -> dict[str, slices.Shown]:
        """Return what a transfer shows of names and types, for each type level. That of each is read once."""
        if transfer.spec not in self._shown:
            self._shown[transfer.spec] = shown_by(transfer)
        return self._shown[transfer.spec]

    def scored_again(self, item: Planned, record: records.Record) -> records.Record:
        """Return a cell's record with the scores of the predictions that stand beside it, against the gold of today."""
        assert item.transfer is not None
        known = {name: value for name, value in record.items() if name != "curves"}
        return {
            **known,
            **self.score(item, records.predictions_path(self.board.folder, item.cell.name)),
            **self.curves(item),
            "corpora": corpora_of(item.transfer),
            "scorer": SCORER_VERSION,
            "gold": item.gold,
            "rescored": {**records.git_state(), "written": records.now()},
        }

    def taken_over(self, item: Planned, record: records.Record) -> records.Record:
        """Return the record of a cell that ends in the stage of another record: nothing was run for it."""
        assert item.transfer is not None
        return {
            **record,
            **self.about(item),
            **self.score(item, records.predictions_path(self.board.folder, record["cell"])),
            "cost": {**record["cost"], "spent_seconds": 0.0},
            "equal": record["cell"],
        }

    def compose(self, item: Planned, result: Mapping[str, Any]) -> records.Record:
        """Return a cell's record, in the order in which its fields are read."""
        store = self.store
        graph = [] if item.final is None else item.final.graph()
        read = {s.key: store.told(s.key) for s in graph}
        manifests = {key: manifest for key, manifest in read.items() if manifest is not None}
        told = {name: result[name] for name in ("failure", "scores", "errors", "sentences", "slices") if name in result}
        return {
            "schema": records.SCHEMA,
            **self.about(item),
            "status": result["status"],
            "reason": result["reason"],
            **told,
            **self.audit(item),
            **self.annotation(graph),
            **(self.curves(item) if result["status"] == "ok" else {}),
            "final": None if item.final is None else item.final.key,
            "stages": [stage_entry(s, manifests.get(s.key, {})) for s in graph],
            "attempts": [a for s in graph for a in self.attempts(s, manifests.get(s.key))],
            "cost": self.cost(f"{self.board.name}/{item.cell.name}", graph, manifests),
            "provenance": {**records.provenance(), **surroundings(manifests.values(), precision_of(graph, store))},
        }

    def about(self, item: Planned) -> dict[str, Any]:
        """Return what a good record tells of its cell, before what came of it."""
        cell, transfer = item.cell, item.transfer
        return {
            "cell": cell.name,
            "board": self.board.name,
            "status": "ok",
            "reason": None,
            "variant": cell.variant.name,
            "method": cell.variant.method,
            "level": item.method.level,
            "backbone": getattr(item.settings, "backbone", getattr(item.settings, "encoder", None)),
            "settings": plain(asdict(item.settings)),
            "transfer": describe(cell.spec),
            "regime": cell.spec.regime_label,
            "draw": cell.spec.draw,
            "seed": cell.seed,
            "corpora": {} if transfer is None else corpora_of(transfer),
            "scorer": SCORER_VERSION,
            "gold": item.gold,
        }

    def audit(self, item: Planned) -> dict[str, Any]:
        """Return what the last stage tells of generated text, in audit.json: nothing, where it tells nothing."""
        path = None if item.final is None else self.store.folder(item.final.key) / "audit.json"
        return {"audit": json.loads(path.read_text(encoding="utf8"))} if path is not None and path.is_file() else {}

    def annotation(self, graph: Iterable[Stage]) -> dict[str, Any]:
        """Return what a stage tells of words that were re-annotated, in annotation.json: nothing, where none does."""
        paths = [self.store.folder(stage.key) / "annotation.json" for stage in graph]
        told = [json.loads(path.read_text(encoding="utf8")) for path in paths if path.is_file()]
        return {"annotation": told[-1]} if told else {}

    def curves(self, item: Planned) -> dict[str, Any]:
        """Return what each epoch of the training would have given, where the transfer asks for it.

        Nothing, where its predictions are no longer in the store. Where no epochs can be kept, why.
        """
        if item.final is None or item.transfer is None or not item.cell.spec.curves:
            return {}
        stage = curves.kept_by(item.final)
        if stage is None:
            return {"curves": {"reason": curves.reason_without(item.final, item.transfer)}}
        if not self.store.has(stage.key):
            return {}
        folder = self.store.folder(stage.key)
        return {"curves": curves.scored(folder, item.transfer, self.gold(item.transfer), item.method.level)}

    def attempts(self, stage: Stage, manifest: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """Return how the attempts at a stage that brought no artefact ended."""
        known = self.store.attempts(stage.key) if manifest is None else manifest.get("attempts", [])
        return [
            {"stage": stage.key, **{name: a.get(name) for name in ("attempt", "reason", "seconds", "ended")}}
            for a in known
        ]

    def cost(self, cell: str, graph: list[Stage], manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return what a cell costs.

        alone_seconds   of its whole graph, as if it had been run alone
        spent_seconds   of what was really run for it, failed attempts included: a stage that several cells share is
                        charged to the first of them that is recorded
        """
        known = list(manifests.values())
        own = [m for key, m in manifests.items() if self.store.charge(key, cell)]
        return {
            "alone_seconds": round(sum(m["seconds"] for m in known), 1) if graph and len(known) == len(graph) else None,
            "spent_seconds": round(sum(m.get("spent_seconds", m["seconds"]) for m in own), 1),
            "usd": total(m.get("usd") for m in known),
            "peak_memory_mib": largest(m.get("peak_memory_mib") for m in known),
            "gpu_peak_memory_mib": largest(m.get("gpu_peak_memory_mib") for m in known),
        }


def shown_by(transfer: Transfer) -> dict[str, slices.Shown]:
    """Return what a transfer shows of names and types, for each type level.

    The target is the corpus that is predicted: what was learned of it, if anything. Mentions are gold's: a train that
    is annotated anew is not known before its stages have run. A method may have left some of it aside.
    """
    target = transfer.tested
    others = [domain for domain in transfer.domains if domain.name != target.name]
    identities = {identity for domain in others for identity in domain.identities.values()}
    fine = slices.Shown(
        own=slices.types_of((s.words, s.spans or ()) for s in target.train.sentences),
        others=frozenset(slices.types_of((s.words, s.spans or ()) for d in others for s in d.train.sentences)),
        shared=frozenset(key for key, identity in target.identities.items() if identity in identities),
    )
    broad = fine.relabel(target.general, {general for domain in others for general in domain.general.values()})
    return {"fine": fine, "general": broad}


def stage_entry(stage: Stage, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stage as a record keeps it: what it cost, the commit that built it, and its ingredients."""
    told = {name: manifest.get(name) for name in ("seconds", "attempt", "commit", "dirty")}
    return {"key": stage.key, "title": stage.title, "size": stage.size, **told, **stage.ingredients}


def surroundings(manifests: Iterable[Mapping[str, Any]], precision: str | None) -> dict[str, Any]:
    """Return what the stages of a cell ran on and with; None where no manifest tells."""
    known = list(manifests)
    packages: dict[str, set[str]] = {}
    for manifest in known:
        for name, version in (manifest.get("packages") or {}).items():
            packages.setdefault(name, set()).add(version)
    return {
        "packages": {name: "+".join(sorted(versions)) for name, versions in packages.items()} or None,
        **{name: every(known, name) for name in ("python", "device", "cuda", "cores", "threads")},
        "precision": precision,
    }


def every(manifests: Iterable[Mapping[str, Any]], name: str) -> list[Any] | None:
    """Return the different values of a field, sorted; None where no manifest has it."""
    return sorted({m[name] for m in manifests if m.get(name) is not None}) or None


def largest(values: Iterable[float | None]) -> float | None:
    """Return the largest of what is known; None where nothing is.

    >>> largest([None, 2.0, 1.0]), largest([None])
    (2.0, None)
    """
    return max((v for v in values if v is not None), default=None)


def total(values: Iterable[float | None]) -> float | None:
    """Return the sum of what is known; None where nothing is.

    >>> total([None, 2.0, 1.0]), total([None])
    (3.0, None)
    """
    known = [v for v in values if v is not None]
    return round(sum(known), 6) if known else None


def corpora_of(transfer: Transfer) -> dict[str, Any]:
    """Return the corpora of a transfer as a record keeps them: card versions, and the hash of train as it was shown."""
    return {d.name: {"version": d.card.version, "train": d.train.hash[:16]} for d in transfer.domains}


def precision_of(graph: Iterable[Stage], store: Store) -> str | None:
    """Return the precision that the stages used, as they tell it in about.json; `32+bf16` where they differ."""
    told: set[str] = set()
    for stage in graph:
        path = store.folder(stage.key) / "about.json"
        if path.is_file():
            told.add(str(json.loads(path.read_text(encoding="utf8"))["precision"]))
    return "+".join(sorted(told)) or None
