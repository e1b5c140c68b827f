"""Entities of new text, by the trained model of a cell: the cell's own last stage, bound to other words."""

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmark.corpus.corpus import Sentence, Split
from benchmark.errors import PlanError, StageFailed
from benchmark.run import upkeep
from benchmark.run.cells import Planned
from benchmark.run.engine import Engine
from benchmark.run.failure import failure
from benchmark.run.stage import Stage
from benchmark.run.store import Lease, Store
from benchmark.run.workload import need
from benchmark.score.protocols import Prediction, read_predictions


def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a line: runs of letters and digits, and every other mark alone.

    >>> words_of("Ada Lovelace (1815-1852), of London.")
    ('Ada', 'Lovelace', '(', '1815-1852', ')', ',', 'of', 'London', '.')
    """
    return tuple(re.findall(r"\w+(?:[-'’.&/]\w+)*|[^\w\s]", text))


def sentences_of(lines: Sequence[str]) -> Split:
    """Return lines of text as words to predict, one sentence a line; blank lines are left out."""
    found = [Sentence(f"text/new/{n}", words_of(line), None) for n, line in enumerate(lines)]
    return Split("text", "new", tuple(s for s in found if s.words))


def predict(
    item: Planned, words: Split, store: Store, engine: Engine, tell: Callable[[str], None], *, keep: bool = False
) -> list[Prediction]:
    """Return the predictions of a cell's model for other words.

    keep   whether what is made of the words stays in the store; a user's own text does not
    What the store lacks of the model is built again first, and told. Raises PlanError for a cell that was skipped,
    StageFailed where a stage fails.
    """
    if item.final is None or item.transfer is None:
        raise PlanError(f"{item.cell.name} is skipped: {item.reason}")
    if not words.sentences:
        return []
    known = {stage.key for stage in item.final.graph()}
    final = item.final.rebind(item.transfer.test, words)
    new = [stage for stage in final.graph() if stage.key not in known]  # of these words; all else is the cell's own
    supply([parent for stage in new for parent in stage.parents if parent.key in known], store, engine, tell)
    try:
        for stage in new:
            run_one(stage, store, engine, tell, cached=keep)
        return read_predictions(store.folder(final.key) / "predictions.jsonl")
    finally:
        for stage in [] if keep else new:
            store.forget(stage, words)


def supply(stages: Sequence[Stage], store: Store, engine: Engine, tell: Callable[[str], None]) -> None:
    """Build what the store lacks of some stages, and tell what that is. Raises StageFailed."""
    todo: dict[str, Stage] = {}
    for stage in stages:
        need(stage, store, todo)
    if todo:
        listed = ", ".join(f"{s.step.__name__} ({s.title})" for s in todo.values())
        tell(f"the store lacks what this cell's model is made of; building {len(todo)}: {listed}")
    for stage in todo.values():
        run_one(stage, store, engine, tell)


def run_one(
    stage: Stage, store: Store, engine: Engine, tell: Callable[[str], None],
    *, cached: bool = True, threads: int | None = None,
) -> Path:  # fmt: skip
    """Run one stage whose parents are in the store, and return its artefact's folder. Raises StageFailed.

    threads   None: all that there are
    Where another process or a cluster's job builds it, it is waited for, and who that is is told.
    """
    lease = store.lease(stage.key)
    told: str | None = None
    while not store.has(stage.key) and (owner := owner_of(stage, store, lease)) is not None:
        if owner != told:
            tell(f"{stage.step.__name__} ({stage.title}) is being built by {owner}; waiting for it")
            told = owner
        time.sleep(0.5)
    try:
        if not store.has(stage.key):
            build(stage, store, engine, cached=cached, threads=threads or engine.threads * engine.slots)
    finally:
        lease.release()
    return store.folder(stage.key)


def owner_of(stage: Stage, store: Store, lease: Lease) -> str | None:
    """Take the lease of a stage. Returns who builds it, where it is not for us to build."""
    if not lease.take():
        return lease.owner
    job = upkeep.living(store, stage.key)
    if job is None:
        return None
    lease.release()
    return job.called


def build(stage: Stage, store: Store, engine: Engine, *, cached: bool, threads: int) -> None:
    """Run one stage whose lease is ours. Raises StageFailed."""
    upkeep.reclaim(store, stage.key)
    scratch = store.prepare(stage, threads=threads, cached=cached)
    try:
        engine.start(scratch)
        endings = engine.wait(0.2)
        while not endings:
            endings = engine.wait(0.2)
        if not store.has(stage.key):
            raise StageFailed(f"{stage.step.__name__} ({stage.title}) failed: {failure(endings[0]).told}")
        store.settle(stage.key)
    finally:
        store.discard(scratch)


def shown(split: Split, predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Return sentences with their entities as JSON: words, and for each entity its text, type, start and end."""
    by_id = {p.id: p for p in predictions}
    return [
        {
            "words": list(s.words),
            "entities": [
                {"text": " ".join(s.words[a:b]), "type": t, "start": a, "end": b} for a, b, t in by_id[s.id].spans
            ],
        }
        for s in split.sentences
    ]
