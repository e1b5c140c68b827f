"""A board's cells, planned: each with its final stage and its record, or the reason why it is skipped."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import methods
from benchmark.corpus.card import find_cards
from benchmark.corpus.corpus import Corpus, Split, load
from benchmark.corpus.transfer import Spec, Transfer, build
from benchmark.errors import CdnerError, FetchError, RecordError, UnknownName, Unsupported, nearest
from benchmark.run import annotation, curves
from benchmark.run import record as records
from benchmark.run.failure import PASSING
from benchmark.run.method import Method
from benchmark.run.plan import Board, Cell, read_board
from benchmark.run.stage import Stage
from benchmark.score.protocols import SCORER_VERSION


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
        return self.record is not None and self.fits(self.record)

    def fits(self, record: records.Record) -> bool:
        """Return whether a record is a good one of this very stage, this gold and this scorer."""
        same = self.final is not None and record["status"] == "ok" and record["final"] == self.final.key
        return same and record["scorer"] == SCORER_VERSION and record.get("gold") == self.gold

    @property
    def lacks(self) -> list[str]:
        """Return what a done cell's record does not tell yet: protocols that are newer than it."""
        return records.lacks(self.record) if self.record is not None and self.done else []

    @property
    def failed(self) -> bool:
        """Return whether this very stage has failed before, and not by an accident that is tried again unasked."""
        found = self.record
        if found is None or self.final is None or found["status"] != "failed" or found["final"] != self.final.key:
            return False
        return (found.get("failure") or {}).get("kind") not in PASSING

    @property
    def stale(self) -> bool:
        """Return whether there is a good record, but of another stage."""
        return bool(self.record and self.record["status"] == "ok" and not self.predicted)


def plan_cells(
    board: Board,
    cells: Iterable[Cell],
    *,
    data: Path | None = None,
    cards: tuple[Path, ...] = (),
    read: Callable[[Path, str], records.Record | None] = records.read,
    corpora: Any = None,
) -> list[Planned]:
    """Return the cells with their final stages.

    A cell that a method cannot do carries the reason, as does one with a licensed corpus that has no card here.
    Each corpus is read once. Raises what reading a corpus raises, and PlanError.

    read      what finds the record of a cell
    corpora   a `corpus_reader` that others use too
    """
    corpora = corpora or corpus_reader()

    @cache
    def method_of(name: str) -> Method:
        return methods.find(name)()

    @cache
    def transfer_of(spec: Spec) -> tuple[Transfer, str]:
        transfer = build(spec, data=data, cards=cards, corpora=corpora)
        test = corpora(spec.tested, data=data, cards=cards, dev=spec.dev).test
        return transfer, gold_of(transfer, test)

    lacking = {
        name: f"{name} is not free to pass on ({why}); it runs with a card of your own (--cards)."
        for name, why in board.licensed.items()
        if name not in find_cards(cards)
    }

    settings_of: dict[tuple[str, str], Any] = {}  # cells of equal settings share them, and what hangs on them
    found = []
    for cell in cells:
        method = method_of(cell.variant.method)
        changed = (cell.variant.method, repr(cell.changed))
        if changed not in settings_of:
            settings_of[changed] = method.settings(cell.changed, cell.name)
        settings = settings_of[changed]
        reason = next((lacking[name] for name in cell.spec.corpora if name in lacking), None)
        transfer, gold = (None, "") if reason is not None else transfer_of(cell.spec)
        final = None
        if transfer is not None:
            try:
                file = annotation.file_of(board.folder, cell.name)
                final = annotation.planned(method, transfer, settings, cell.seed, file)
                final = curves.keeping(final, transfer) if cell.spec.curves else final
            except Unsupported as error:
                reason = str(error)
        known = read(board.folder, cell.name)
        found.append(Planned(cell, type(method), settings, transfer, final, reason, known, gold))
    return found


def gold_of(transfer: Transfer, test: Split) -> str:
    """Return a hash of what turns predictions into scores: gold, the types' general types, the cards' versions."""
    versions = {d.name: d.card.version for d in transfer.domains}
    text = json.dumps([test.hash, transfer.tested.general, versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def corpus_reader() -> Any:
    """Return a function like `corpus.load` that reads each corpus once, and looks once for one that is not here."""

    @cache
    def found(name: str, data: Path | None, cards: tuple[Path, ...], dev: str) -> Corpus | FetchError:
        try:
            return load(name, data=data, cards=cards, dev=dev)
        except FetchError as error:
            return error

    def read(name: str, data: Path | None = None, cards: tuple[Path, ...] = (), dev: str = "card") -> Corpus:
        corpus = found(name, data, cards, dev)
        if isinstance(corpus, FetchError):
            raise corpus.with_traceback(None)
        return corpus

    return read


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
