"""What came of a cell: its predictions are scored, and its record is put together."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmark.corpus.corpus import load_split
from benchmark.corpus.transfer import Transfer, describe
from benchmark.run import record as records
from benchmark.run.cells import Planned
from benchmark.run.plan import Board
from benchmark.run.stage import Stage, plain
from benchmark.run.store import Store
from benchmark.score.protocols import SCORER_VERSION, Gold, read_predictions


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
