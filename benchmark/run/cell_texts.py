"""The text that cells go on pre-training with, as their plans bind it: explanations, what is mixed in, DAPT's text."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmark.corpus import knowledge
from benchmark.corpus.corpus import Split
from benchmark.corpus.knowledge import Explained
from benchmark.corpus.texts import spoken
from benchmark.errors import CdnerError, StoreError
from benchmark.run.cells import Planned, corpus_reader, find_cell, plan_cells
from benchmark.run.plan import Board, boards
from benchmark.run.stage import Made, Stage
from benchmark.run.store import Store

BOUND = {"texts", "text"}  # what a stage takes that trains on text: `masking.adapt`, `masked_spans.pretrain`


def cell_texts(
    names: Iterable[str], store: Store, *, data: Path | None = None, cards: tuple[Path, ...] = ()
) -> dict[str, Iterator[str]]:
    """Return the lines of each cell's text, by the cell's name: what its stages `pretrain` or `adapt` read, all of it.

    An explanation, or a sentence of a split, is a line. Two stages on different texts are told apart by their titles.
    Raises CdnerError for a cell that is skipped or that reads no text, StoreError where a stage has yet to write it.
    """
    corpora, known = corpus_reader(), boards()
    cells = {(b.folder, c.name): (b, c) for b, c in (find_cell(name, known, cards) for name in names)}
    found: dict[str, Iterator[str]] = {}
    for board, cell in cells.values():
        [item] = plan_cells(board, [cell], data=data, cards=cards, corpora=corpora)
        twins = sum(name == cell.name for _, name in cells) > 1
        name = f"{board.name}/{cell.name}" if twins else cell.name
        stages = _reading(board, item)
        for stage in stages:
            splits = [_whole(split, store, board, item) for split in stage.inputs["texts"] or ()]
            lines = _lines(splits, stage.inputs["text"])
            found[name if len(stages) == 1 else f"{name} ({stage.title})"] = lines
    return found


def _reading(board: Board, item: Planned) -> list[Stage]:
    """Return the stages of a cell that train on text, one of those that read the same."""
    if item.final is None:
        raise CdnerError(f"{item.cell.name} is skipped: {item.reason}")
    found: dict[Any, Stage] = {}
    for stage in item.final.graph():
        if set(stage.inputs) >= BOUND:
            text = stage.inputs["text"]
            read = (*(split.hash for split in stage.inputs["texts"] or ()), text and tuple(text.ingredient().items()))
            found.setdefault(read, stage)
    if not found:
        steps = ", ".join(dict.fromkeys(stage.step.__name__ for stage in item.final.graph()))
        raise CdnerError(
            f"{board.name}/{item.cell.name} reads no text: its stages are {steps}, and none goes on pre-training. "
            "Name a cell whose variant does (by its setting `knowledge` or `dapt`), or a file."
        )
    return list(found.values())


def _whole(split: Split, store: Store, board: Board, item: Planned) -> Split:
    """Return a split with its words, from the store where a stage has made it."""
    if not isinstance(split, Made):
        return split
    if not store.has(split.stage.key):
        raise StoreError(
            f"{item.cell.name}: its text is what the stage `{split.stage.step.__name__}` ({split.stage.title}) writes, "
            f"which is not in the store {store.root}. Run it first: cdner run {board.name} --only '{item.cell.name}'"
        )
    return Made.read(store.folder(split.stage.key), dict(split.names))


def _lines(splits: Iterable[Split], text: Any) -> Iterator[str]:
    for split in splits:
        yield from spoken(split)
    yield from (line for line in (text.lines() if text is not None else ()) if line.strip())


def read_by(item: Planned, published: Iterable[Explained], store: Store) -> list[Explained]:
    """Return the explanations that a cell's stages have read, mixed-in ones included; none where it reads none.

    published   of the target: what they are of is looked up there, in the file that a variant names, and in what the
                store has of generated ones. Of what is in none of them only the text is known

    Those that are generated are left out where the store has them no more.
    """
    texts, known = [], list(published)
    splits = [x for s in item.final.graph() for x in s.inputs.get("texts") or ()] if item.final is not None else []
    for split in (x for x in splits if x.name == knowledge.SPLIT):
        if not isinstance(split, Made):
            texts += spoken(split)
        elif store.has(split.stage.key):
            folder = store.folder(split.stage.key)
            texts += spoken(Made.read(folder, dict(split.names)))
            known += knowledge.read(folder / "explanations.json")
    target = item.cell.spec.target
    for setting in ("knowledge", "dapt"):
        name = str(getattr(item.settings, setting, "")).replace("{target}", target)
        if texts and name.endswith(".json"):
            known += knowledge.read(Path(name).expanduser())
    by_text = {" ".join(one.explanation.split()): one for one in known}
    by_text |= {one.explanation: one for one in knowledge.cleaned(known)[0]}
    return [by_text.get(text, Explained("", "", "", text)) for text in dict.fromkeys(texts)]
