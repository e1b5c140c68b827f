"""The text that cells go on pre-training with, as their plans bind it: explanations, what is mixed in, DAPT's text."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmark.corpus.corpus import Split
from benchmark.corpus.texts import spoken
from benchmark.errors import CdnerError, DataError, StoreError
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
            lines = _lines(splits, stage.inputs["text"], cell.name)
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


def _lines(splits: Iterable[Split], text: Any, cell: str) -> Iterator[str]:
    for split in splits:
        yield from spoken(split)
    try:
        yield from (line for line in (text.lines() if text is not None else ()) if line.strip())
    except UnicodeDecodeError as error:
        raise DataError(f"{text.path or text.name}, the text of {cell}: this is no text in UTF-8 ({error}).") from None
