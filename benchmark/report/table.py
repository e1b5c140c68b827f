"""A board's records as tables, for a terminal, Markdown, LaTeX, CSV or JSON.

load      folder         -> records    JSON as it stands under `records/`
rows      cells, records -> Row        one variant x transfer x regime, over its seeds and draws
error_rows, type_rows                  the same for kinds of errors and for single entity types
tables    rows           -> Table      laid out: nothing in one column that may not be compared
render    rows or tables -> str        one of FORMATS

What a column never mixes (protocol, type level, regime, selection rule, corpus and scorer versions) is part of the
group that a table is made of, so no renderer has to look at it. A cell that has no number says why: `failed`,
`skipped` and partial cells carry a letter, and the letter's reason stands under the table.
"""

import csv
import gc
import io
import json
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Protocol, TypeVar

from benchmark.errors import RecordError, UnknownName, nearest
from benchmark.score.protocols import PROTOCOLS, Counts

Record = dict[str, Any]
T = TypeVar("T")

_GAP = 3  # blanks between the columns of a terminal's table
DASH = "—"
NO_RECORD = "no record"
LEVELS = ("fine", "general")
SELECTED = {"last": "last model"}  # what is not here reads "selected on <rule>"
ERRORS = {"hit": "hits", "type": "wrong type", "boundary": "boundary", "missed": "missed", "spurious": "spurious"}
TONES = {"failed": "red", "skipped": "yellow", "missing": "dim", "general only": "dim"}


class Cell(Protocol):
    """What a table needs to know of a cell that the plan expects."""

    @property
    def name(self) -> str:
        """The cell as records name it: `tagger/conll2003--ai/supervised/seed1`."""

    @property
    def variant(self) -> str:
        """The row of the board."""

    @property
    def method(self) -> str:
        """The method behind the variant."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The corpora learned from."""

    @property
    def target(self) -> str:
        """The corpus predicted."""

    @property
    def regime(self) -> str:
        """The regime's label: `supervised`, `fraction-0.01`."""

    @property
    def select(self) -> str:
        """The selection rule: `target-dev`, `source-dev`, `last`."""

    @property
    def draw(self) -> int | None:
        """Which sample of the target's gold, where the regime draws one."""

    @property
    def seed(self) -> int:
        """The random seed."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What came of the cells that differ in seed and draw alone."""

    variant: str
    method: str
    backbone: str | None
    sources: list[str]
    target: str
    regime: str
    select: str
    types: str  # fine | general
    seeds: list[int]  # of the cells that are ok
    draws: list[int]
    planned_seeds: list[int]  # of all cells
    planned_draws: list[int]
    cells: int  # how many are ok
    expected: int  # how many there should be
    status: str  # ok | partial | failed | skipped | missing | general only
    reason: str | None
    precision_used: list[str]
    corpora: dict[str, int]  # name -> version
    scorer: int | None


@dataclass(frozen=True, kw_only=True)
class Row(Summary):
    """The scores of a variant on a transfer. Percent; None where nothing is ok."""

    protocol: str
    metrics: dict[str, float | None]
    f1: float | None
    std: float | None


@dataclass(frozen=True, kw_only=True)
class ErrorRow(Summary):
    """The mean counts of hits and of each kind of error (the keys of ERRORS)."""

    errors: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class TypeRow(Summary):
    """The F1 of a variant on one entity type. `type` is None where no record tells which types there are."""

    protocol: str
    type: str | None
    gold: float | None  # mentions, as the protocol counts them
    f1: float | None
    std: float | None


AnyRow = Row | ErrorRow | TypeRow


# Records


def load(folder: Path | str) -> list[Record]:
    """Return every record under `<folder>/records/`, in the order of their paths; none where there is no such folder.

    Raises RecordError, naming the file, for one that is not JSON or not a record.
    """
    with _no_collection():
        return [_read(path) for path in sorted((Path(folder) / "records").rglob("*.json"))]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Hold the garbage collector back: it goes over the million small lists of JSON again and again, in vain."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read(path: Path) -> Record:
    mend = "Mend or delete it and run the board again."
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: this record cannot be read ({error}). {mend}") from error
    if not isinstance(record, dict) or not {"cell", "status"} <= record.keys():
        raise RecordError(f"{path}: a record is an object with `cell` and `status`, and this is none. {mend}")
    return record


def _by_cell(records: Iterable[Record]) -> dict[str, Record]:
    """Map cells to their records. Of two for one cell an ok one stays, else the later."""
    found: dict[str, Record] = {}
    for record in records:
        kept = found.get(record["cell"])
        if kept is None or kept["status"] != "ok" or record["status"] == "ok":
            found[record["cell"]] = record
    return found


# Cells and records -> rows


@dataclass(frozen=True)
class Outcome:
    """How one expected cell ended. `part` is the part of its record that was asked for, where it is ok."""

    cell: Cell
    status: str
    reason: str | None = None
    record: Record | None = None
    part: Any = None

    @property
    def versions(self) -> dict[str, int]:
        """The versions of corpora and scorer behind the number; none where there is no number."""
        if self.status != "ok" or self.record is None:
            return {}
        return _corpora(self.record) | {"scorer": self.record["scorer"]}


def rows(
    cells: Iterable[Cell], records: Iterable[Record], *, protocol: str = "strict", types: str = "fine"
) -> list[Row]:
    """Return one row per variant, sources, target, regime and selection rule, in the order of `cells`.

    A metric is the mean over cells of each cell's metric. `std` is the sample deviation (n - 1) of F1 over all cells
    of a row, draws x seeds taken together; None for a single cell. Cells scored under differing versions of a corpus
    or of the scorer are never averaged: they make two rows. A method of level `general` has no number in `fine` rows.
    """
    _check("protocol", protocol, PROTOCOLS)
    find = partial(_scores, types=types, protocol=protocol)
    found = _gather(cells, records, types=types, find=find, lacks=f"not scored under {protocol}")
    return [_row(common, ok, protocol) for common, ok in found]


def error_rows(cells: Iterable[Cell], records: Iterable[Record], *, types: str = "fine") -> list[ErrorRow]:
    """Return the mean count of each kind of error, one row for each that `rows` has."""
    found = _gather(cells, records, types=types, find=partial(_errors, types=types), lacks="errors not counted")
    return [
        ErrorRow(**common, errors={kind: _mean([o.part.get(kind, 0) for o in ok]) for kind in ERRORS})
        for common, ok in found
    ]


def type_rows(
    cells: Iterable[Cell],
    records: Iterable[Record],
    *,
    target: str | None = None,
    protocol: str = "strict",
    types: str = "fine",
) -> list[TypeRow]:
    """Return the F1 of each entity type of `target` (default: of every target), type by type within a variant.

    A type that a record does not count had no gold and no prediction there: its counts are zero.
    """
    _check("protocol", protocol, PROTOCOLS)
    cells = [cell for cell in cells if target in (None, cell.target)]
    find = partial(_scores, types=types, protocol=protocol)
    found = list(_gather(cells, records, types=types, find=find, lacks=f"not scored under {protocol}"))
    names: dict[str, dict[str, None]] = {}
    for common, ok in found:
        names.setdefault(common["target"], {}).update(dict.fromkeys(t for o in ok for t in o.part.get("types", {})))
    return [
        _type_row(common, ok, protocol, name) for common, ok in found for name in (*names[common["target"]],) or (None,)
    ]


def _row(common: dict[str, Any], ok: list[Outcome], protocol: str) -> Row:
    each = [_metrics(protocol, o.part["all"], o.part.get("types", {})) for o in ok]
    names = ["f1", "precision", "recall", *each[0]] if each else ["f1", "precision", "recall"]
    means = {name: _mean([m[name] for m in each if name in m]) for name in dict.fromkeys(names)}
    return Row(**common, protocol=protocol, metrics=means, f1=means["f1"], std=_deviation([m["f1"] for m in each]))


def _type_row(common: dict[str, Any], ok: list[Outcome], protocol: str, name: str | None) -> TypeRow:
    counts = [o.part.get("types", {}).get(name, [0, 0, 0]) for o in ok] if name else []
    f1 = [_metrics(protocol, c, {str(name): c})["f1"] for c in counts]
    gold = _mean([hit + missed for hit, _, missed in counts])
    return TypeRow(**common, protocol=protocol, type=name, gold=gold, f1=_mean(f1), std=_deviation(f1))


def _gather(
    cells: Iterable[Cell], records: Iterable[Record], *, types: str, find: Callable[[Record], Any], lacks: str
) -> Iterator[tuple[dict[str, Any], list[Outcome]]]:
    """Yield, for every row to be, the fields of Summary and the outcomes that are ok."""
    _check("type level", types, LEVELS)
    records = list(records)
    known = _by_cell(records)
    general = {r["variant"] for r in records if r.get("level") == "general"} if types == "fine" else set()
    backbones = {r["variant"]: r.get("backbone") for r in records}
    outcomes = [_outcome(cell, known.get(cell.name), cell.variant in general, find, lacks) for cell in cells]
    for group in _grouped(outcomes, _line):
        for one in _apart(group, lambda o: o.versions):
            yield _summary(one, group, types, backbones), [o for o in one if o.status == "ok"]


def _line(outcome: Outcome) -> Hashable:
    cell = outcome.cell
    return cell.variant, cell.sources, cell.target, cell.regime, cell.select


def _outcome(cell: Cell, record: Record | None, general: bool, find: Callable[[Record], Any], lacks: str) -> Outcome:
    if general:
        return Outcome(cell, "general only", "general types only")
    if record is None:
        return Outcome(cell, "missing", NO_RECORD)
    if record["status"] != "ok":
        return Outcome(cell, record["status"], record.get("reason") or "no reason recorded")
    part = find(record)
    return Outcome(cell, "ok", None, record, part) if part else Outcome(cell, "missing", lacks)


def _summary(
    one: list[Outcome], group: list[Outcome], types: str, backbones: Mapping[str, str | None]
) -> dict[str, Any]:
    """Return the fields of Summary for the cells of `one`, a part of `group` with the same versions throughout."""
    cell = group[0].cell
    ok = [o for o in one if o.status == "ok"]
    reasons = [o.reason for o in group if o.reason]
    reasons += ["scored under other versions"] * any(o.status == "ok" and o not in one for o in group)
    return {
        "variant": cell.variant,
        "method": cell.method,
        "backbone": backbones.get(cell.variant),
        "sources": list(cell.sources),
        "target": cell.target,
        "regime": cell.regime,
        "select": cell.select,
        "types": types,
        "seeds": sorted({o.cell.seed for o in ok}),
        "draws": sorted({o.cell.draw for o in ok if o.cell.draw is not None}),
        "planned_seeds": sorted({o.cell.seed for o in group}),
        "planned_draws": sorted({o.cell.draw for o in group if o.cell.draw is not None}),
        "cells": len(ok),
        "expected": len(group),
        "status": _status(len(ok), group),
        "reason": "; ".join(dict.fromkeys(reasons)) or None,
        "precision_used": sorted({str(o.record["provenance"]["precision"]) for o in ok if o.record}),
        "corpora": {name: version for o in ok if o.record for name, version in _corpora(o.record).items()},
        "scorer": next((o.record["scorer"] for o in ok if o.record), None),
    }


def _status(ok: int, group: list[Outcome]) -> str:
    """Return the status of a row: of cells that ended differently without a number, the worst."""
    if ok:
        return "ok" if ok == len(group) else "partial"
    found = {o.status for o in group}
    return next((s for s in ("failed", "skipped", "missing") if s in found), "general only")


def _scores(record: Record, *, types: str, protocol: str) -> Any:
    return (record.get("scores") or {}).get(types, {}).get(protocol)


def _errors(record: Record, *, types: str) -> Any:
    return (record.get("errors") or {}).get(types)


def _metrics(protocol: str, total: Sequence[int], types: Mapping[str, Sequence[int]]) -> dict[str, float]:
    return PROTOCOLS[protocol].metrics(Counts(*total), {name: Counts(*c) for name, c in types.items()})


def _corpora(record: Record) -> dict[str, int]:
    return {name: card["version"] for name, card in record["corpora"].items()}


def _mean(numbers: Sequence[float]) -> float | None:
    return fmean(numbers) if numbers else None


def _deviation(numbers: Sequence[float]) -> float | None:
    return stdev(numbers) if len(numbers) > 1 else None


def _check(what: str, name: str, known: Iterable[str]) -> None:
    options = list(known)
    if name not in options:
        raise UnknownName(f"there is no {what} {name!r}.{nearest(name, options)} There are: {', '.join(options)}.")


def _grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Return the items in groups of equal keys, groups in the order of their first item."""
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def _apart(items: list[T], versions: Callable[[T], Mapping[str, int]]) -> list[list[T]]:
    """Return the items in as few groups as keep differing versions of one thing apart, the newest first.

    An item that names no versions (it has no number) goes to the newest.
    """
    bins: list[tuple[dict[str, int], list[int]]] = []
    for index in sorted(range(len(items)), key=lambda i: -sum(versions(items[i]).values())):
        own = versions(items[index])
        fits = (b for b in bins if all(b[0].get(name, version) == version for name, version in own.items()))
        known, members = next(fits, ({}, []))
        if not members:
            bins.append((known, members))
        known.update(own)
        members.append(index)
    return [[items[i] for i in sorted(members)] for _, members in bins]


# Rows -> tables


@dataclass(frozen=True)
class Entry:
    """One box of a table: a number or a word, and its marks."""

    word: str = ""
    mean: float | None = None
    std: float | None = None
    part: str = ""  # (2/3): two of three cells are ok
    dagger: bool = False  # another precision than the rest of the table
    note: str = ""  # the letter of its reason
    best: bool = False
    tone: str = ""  # a rich style
    digits: int = 2

    @property
    def number(self) -> tuple[str, str]:
        """The mean and the deviation as printed; an empty text for what is not there."""
        mean, std = ("" if n is None else f"{n:.{self.digits}f}" for n in (self.mean, self.std))
        return mean, std


@dataclass(frozen=True)
class Table:
    """A table laid out, for any renderer. The first `labels` entries of `heads` and of each line are names."""

    title: str
    heads: list[Entry]
    lines: list[list[Entry]]
    notes: list[tuple[str, str]]  # mark, text; a mark of one or two small letters stands raised
    footer: str
    rows: list[AnyRow]
    labels: int = 1


def tables(rows: Sequence[AnyRow]) -> list[Table]:
    """Return the rows laid out, one table per group whose numbers may be compared, in the order of the rows."""
    laid_out: list[Table] = []
    for group in _grouped(rows, lambda row: (type(row), *_comparable(row))):
        parts = _apart(group, _versions)
        several = {name for part in parts for name, version in _known(part).items() if _differs(name, version, parts)}
        for part in parts:
            present = {row.target for row in part}
            targets = [t for t in dict.fromkeys(row.target for row in group) if t in present]
            laid_out.append(
                _LAYOUTS[type(part[0])](part, targets, [f"{n} v{v}" for n, v in _known(part).items() if n in several])
            )
    return laid_out


def _comparable(row: AnyRow) -> tuple[Hashable, ...]:
    """Return all that must be equal within a table, but for versions."""
    alike = (tuple(row.sources), row.regime, row.select, row.types)
    if isinstance(row, TypeRow):
        return *alike, row.protocol, row.target
    return (*alike, row.protocol) if isinstance(row, Row) else alike


def _versions(row: Summary) -> dict[str, int]:
    return row.corpora | ({} if row.scorer is None else {"scorer": row.scorer})


def _known(rows: Sequence[Summary]) -> dict[str, int]:
    return {name: version for row in rows for name, version in _versions(row).items()}


def _differs(name: str, version: int, parts: Sequence[Sequence[Summary]]) -> bool:
    return any(_known(part).get(name, version) != version for part in parts)


def _score_table(rows: list[Row], targets: list[str], versions: list[str]) -> Table:
    """Lay out variants by targets, and the average where there are several."""
    marks = Marks.of(rows)
    backbones = len({row.backbone for row in rows if row.backbone}) > 1
    lines = []
    for own in _grouped(rows, lambda row: row.variant):
        at = {row.target: row for row in own}
        names = [Entry(own[0].variant), *([Entry(own[0].backbone or DASH)] if backbones else [])]
        values = [_value(at[t], marks) if t in at else Entry(DASH, tone="dim") for t in targets]
        lines.append([*names, *values, *([_average(at, targets)] if len(targets) > 1 else [])])
    labels = 1 + backbones
    heads = ["variant", *(["backbone"] if backbones else []), *targets, *(["average"] if len(targets) > 1 else [])]
    title = _title(f"{rows[0].protocol} F1", rows, versions)
    lines = _transposed([col if i < labels else _crowned(col) for i, col in enumerate(_transposed(lines))])
    notes = marks.notes + _dashes(rows, lines, averaged=len(targets) > 1)
    return Table(title, [Entry(h) for h in heads], lines, notes, _footer(rows, backbones), [*rows], labels)


def _error_table(rows: list[ErrorRow], targets: list[str], versions: list[str]) -> Table:
    """Lay out kinds of errors by variants, target after target. The marks of a row stand at its variant."""
    marks = Marks.of(rows)
    lines = []
    for block in ([row for row in rows if row.target == target] for target in targets):
        for i, row in enumerate(block):
            counts = [_number_or_word(row, row.errors[kind], None, digits=1) for kind in ERRORS]
            lines.append([Entry(row.target if i == 0 else ""), _marked(row, Entry(row.variant), marks), *counts])
    heads = [Entry(h) for h in ("target", "variant", *ERRORS.values())]
    title = _title("mean counts of errors", rows, versions)
    return Table(title, heads, lines, marks.notes + _dashes(rows, lines), _footer(rows, False), [*rows], 2)


def _type_table(rows: list[TypeRow], targets: list[str], versions: list[str]) -> Table:
    """Lay out variants by entity types. The marks of a variant stand in its head; the best of a line is bold."""
    marks = Marks.of(rows)
    columns = _grouped(rows, lambda row: row.variant)
    heads = [Entry("type"), Entry("gold"), *(_marked(col[0], Entry(col[0].variant), marks) for col in columns)]
    lines = []
    for name in dict.fromkeys(row.type for row in rows):
        found = [next((row for row in col if row.type == name), None) for col in columns]
        gold = next((row.gold for row in found if row and row.gold is not None), None)
        values = [_number_or_word(r, r.f1, r.std) if r else Entry(DASH, tone="dim") for r in found]
        lines.append([Entry(name or DASH), Entry("", gold, digits=0) if name else Entry(DASH), *_crowned(values)])
    title = _title(f"{rows[0].protocol} F1 by type", rows, versions)
    return Table(title, heads, lines, marks.notes + _dashes(rows, lines), _footer(rows, False), [*rows], 1)


_LAYOUTS: dict[type[Summary], Callable[[Any, list[str], list[str]], Table]] = {
    Row: _score_table,
    ErrorRow: _error_table,
    TypeRow: _type_table,
}


def _number_or_word(row: Summary, mean: float | None, std: float | None, digits: int = 2) -> Entry:
    """Return a row's number, or the word that says how it ended."""
    if mean is not None:
        return Entry("", mean, std, digits=digits)
    return Entry(DASH if row.status == "missing" else row.status, tone=TONES.get(row.status, "dim"))


def _marked(row: Summary, entry: Entry, marks: "Marks") -> Entry:
    part = f"({row.cells}/{row.expected})" if row.status == "partial" else ""
    return replace(entry, part=part, dagger=marks.odd(row), note=marks.letters.get(row.reason or "", ""))


def _value(row: Row, marks: "Marks") -> Entry:
    return _marked(row, _number_or_word(row, row.f1, row.std), marks)


def _average(at: Mapping[str, Row], targets: list[str]) -> Entry:
    """Return the mean over the targets, where each has a number."""
    found = [at[t] for t in targets if t in at]
    means = [row.f1 for row in found if row.f1 is not None]
    if len(means) < len(targets):
        return Entry(DASH, tone="dim")
    ok, expected = sum(row.cells for row in found), sum(row.expected for row in found)
    return Entry("", fmean(means), part=f"({ok}/{expected})" if ok < expected else "")


def _crowned(entries: list[Entry]) -> list[Entry]:
    """Mark the best as printed, where at least two entries have numbers."""
    printed = [round(e.mean, e.digits) for e in entries if e.mean is not None]
    if len(printed) < 2:
        return entries
    return [replace(e, best=e.mean is not None and round(e.mean, e.digits) == max(printed)) for e in entries]


def _transposed(lines: list[list[Entry]]) -> list[list[Entry]]:
    return [list(column) for column in zip(*lines, strict=True)]


@dataclass(frozen=True)
class Marks:
    """The letters and daggers of a table, and the notes that explain them."""

    letters: dict[str, str]  # reason -> letter
    precision: str  # the table's usual one
    notes: list[tuple[str, str]]

    @classmethod
    def of(cls, rows: Sequence[Summary]) -> "Marks":
        """Return the marks that these rows need. Rows with the same reason share a letter."""
        lettered = [row for row in rows if row.reason and row.reason != NO_RECORD]
        letters = {reason: _letter(i) for i, reason in enumerate(dict.fromkeys(str(r.reason) for r in lettered))}
        usual = Counter(p for row in rows for p in row.precision_used).most_common(1)
        marks = cls(letters, usual[0][0] if usual else "", [])
        for group in _grouped(lettered, lambda row: row.reason):
            hint = "; see the table of general types" if group[0].status == "general only" else ""
            reason = " ".join(str(group[0].reason).split())  # a line, whatever line breaks it came with
            marks.notes.append((letters[str(group[0].reason)], f"{reason}: {_places(group, rows)}{hint}"))
        odd = _grouped([row for row in rows if marks.odd(row)], lambda row: tuple(row.precision_used))
        if odd:
            each = "; ".join(f"{' and '.join(group[0].precision_used)} ({_places(group, rows)})" for group in odd)
            marks.notes.append(("†", f"not in {marks.precision} like the rest: {each}"))
        if any(row.status == "partial" for row in rows):
            marks.notes.append(("(n/m)", "n of m cells are ok, and the number is theirs"))
        return marks

    def odd(self, row: Summary) -> bool:
        """Tell whether a number was computed in another precision than most of its table."""
        return bool(row.precision_used) and row.precision_used != [self.precision]


def _dashes(rows: Sequence[Summary], lines: list[list[Entry]], averaged: bool = False) -> list[tuple[str, str]]:
    """Return the note that says what a dash means in this table, where it has one."""
    absent = any(row.reason == NO_RECORD and not row.cells for row in rows)
    gaps = averaged and any(line[-1].mean is None for line in lines)
    means = ["no record yet"] * absent + ["no average without every target"] * gaps
    return [(DASH, "; ".join(means))] if means else []


def _letter(index: int) -> str:
    """Return a, b, ... z, aa, ab, ...

    >>> [_letter(i) for i in (0, 25, 26)]
    ['a', 'z', 'aa']
    """
    before = _letter(index // 26 - 1) if index >= 26 else ""
    return before + chr(ord("a") + index % 26)


def _places(chosen: Sequence[Summary], rows: Sequence[Summary]) -> str:
    """Say where the chosen rows stand in a table: whole variants, whole targets, then `crf on ai, movie`."""
    grid = dict.fromkeys((row.variant, row.target) for row in rows)
    wanted = dict.fromkeys((row.variant, row.target) for row in chosen)
    left, parts = [*wanted], []
    for axis in (0, 1):
        for name in dict.fromkeys(pair[axis] for pair in left):
            own = [pair for pair in grid if pair[axis] == name]
            if all(pair in wanted for pair in own) and any(pair in left for pair in own):
                parts.append(name)
                left = [pair for pair in left if pair not in own]
    for variant in dict.fromkeys(pair[0] for pair in left):
        parts.append(f"{variant} on {', '.join(pair[1] for pair in left if pair[0] == variant)}")
    return "; ".join(parts) if left else ", ".join(parts)


def _title(what: str, rows: Sequence[Summary], versions: list[str]) -> str:
    first = rows[0]
    targets = {row.target for row in rows}
    target = first.target if len(targets) == 1 else ("…" if first.sources else "each target")
    route = f"{'+'.join(first.sources)} → {target}" if first.sources else f"{target} alone"
    select = SELECTED.get(first.select, f"selected on {first.select}")
    return " · ".join([what, f"{first.types} types", route, first.regime, select, *versions])


def _footer(rows: Sequence[Summary], backbones_shown: bool) -> str:
    backbones = [] if backbones_shown else list(dict.fromkeys(row.backbone for row in rows if row.backbone))
    parts = [_repeats(rows), f"backbone {', '.join(backbones)}" if backbones else "", _versions_used(rows)]
    return " · ".join(part for part in parts if part)


def _repeats(rows: Sequence[Summary]) -> str:
    """Say how many seeds and draws the plan has, and where it has other numbers of them."""
    plans: dict[tuple[int, int], list[Summary]] = {}
    for row in rows:
        plans.setdefault((len(row.planned_seeds), len(row.planned_draws)), []).append(row)
    usual = max(plans, key=lambda plan: (max(plan) > 1, len(plans[plan])))
    others = [f"; {_plan(plan)} for {_places(plans[plan], rows)}" for plan in plans if plan != usual]
    plain = max(usual) <= 1 or not any(getattr(row, "std", None) is not None for row in rows)
    return ("" if plain else "mean ± sample deviation over ") + _plan(usual) + "".join(others)


def _plan(plan: tuple[int, int]) -> str:
    seeds, draws = (f"{n} {name}{'s' * (n != 1)}" for n, name in zip(plan, ("seed", "draw"), strict=True))
    return f"{draws} × {seeds}" if plan[1] else seeds


def _versions_used(rows: Sequence[Summary]) -> str:
    known = _known(rows)
    scorer = f"scorer v{known.pop('scorer')}" if "scorer" in known else ""
    same = f"corpora v{next(iter(known.values()))}" if len(set(known.values())) == 1 else ""
    return " · ".join(p for p in (same or ", ".join(f"{n} v{v}" for n, v in known.items()), scorer) if p)


# Tables -> text


def render(things: Sequence[AnyRow | Table], format: str, *, width: int = 80, colour: bool = False) -> str:
    """Return rows or tables as text in one of FORMATS, ending in a line break.

    `width` and `colour` are the terminal's: a table too wide for it goes on below, with its names repeated. Without
    colour there are no escapes, so that the best of a column is not shown there.
    """
    _check("format", format, FORMATS)
    if FORMATS[format] in (_csv, _json):
        return FORMATS[format]([row for t in things for row in (t.rows if isinstance(t, Table) else [t])])
    laid_out = [t for t in things if isinstance(t, Table)] + tables([t for t in things if not isinstance(t, Table)])
    if not laid_out:
        return "No cells, so no table.\n"
    if format == "terminal":
        return _terminal(laid_out, width=width, colour=colour)
    return "\n".join(FORMATS[format](table) for table in laid_out)


def _terminal(tables: list[Table], *, width: int, colour: bool) -> str:
    from rich.console import Console

    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=colour, color_system="standard" if colour else None, highlight=False
    )
    for i, table in enumerate(tables):
        if i:
            console.print()
        for text, style in _terminal_parts(table, width):
            console.print(text, style=style, soft_wrap=isinstance(text, str), markup=False, emoji=False)
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


def _terminal_parts(table: Table, width: int) -> Iterator[tuple[Any, str]]:
    """Yield what a table prints, top to bottom, each with its style: text already wrapped, or a rich table."""
    yield textwrap.fill(table.title, width), "bold"
    raw = _transposed([table.heads, *table.lines])
    columns = [_aligned(column, left=i < table.labels) for i, column in enumerate(raw)]
    for block in _blocks(columns, table.labels, width):
        yield "", ""
        yield _grid(block), ""
    if table.notes:
        yield "", ""
    for mark, text in table.notes:
        raised = _raised(mark) if _is_letter(mark) else mark
        yield textwrap.fill(f"{raised} {text}", width, subsequent_indent=" " * (len(raised) + 1)), "dim"
    yield "", ""
    yield textwrap.fill(table.footer, width), "dim"


def _blocks(columns: list[list[Any]], labels: int, width: int) -> list[list[list[Any]]]:
    """Return the columns in as few blocks as fit, of about equal numbers, each led by the label columns."""
    names, values = columns[:labels], columns[labels:]
    room = width - sum(column[0].cell_len + _GAP for column in names) + _GAP
    widths = [column[0].cell_len + _GAP for column in values]
    options = (_cuts(len(values), n) for n in range(1, len(values) + 1))
    return [names + values[start:end] for start, end in next(cuts for cuts in options if _fits(widths, cuts, room))]


def _cuts(length: int, n: int) -> list[tuple[int, int]]:
    """Return the bounds of `n` parts of about equal size, the larger ones first.

    >>> _cuts(5, 2)
    [(0, 3), (3, 5)]
    """
    ends = [-(-length * i // n) for i in range(n + 1)]
    return list(pairwise(ends))


def _fits(widths: list[int], cuts: list[tuple[int, int]], room: int) -> bool:
    return all(sum(widths[start:end]) <= room or end - start == 1 for start, end in cuts)


def _grid(columns: list[list[Any]]) -> Any:
    from rich import box
    from rich.table import Table as Grid

    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0), header_style="bold")
    for column in columns:
        grid.add_column(column[0], overflow="fold")  # already aligned: rich would cut the blanks that do it
    for line in zip(*(column[1:] for column in columns), strict=True):
        grid.add_row(*line)
    return grid


def _aligned(column: list[Entry], *, left: bool) -> list[Any]:
    """Return a column as rich texts of one width: names to the left, points and ± under each other, marks after."""
    from rich.text import Text

    stds = max(len(e.number[1]) for e in column)
    words = [e.word if left else _core(e, stds) for e in column]
    core = max(map(len, words))
    words = words if left else [word.rjust(core) for word in words]
    tails = [_tail(e) for e in column]
    words = [word.rstrip() if tail else word for word, tail in zip(words, tails, strict=True)]  # marks stand close
    width = max(len(w) + len(t) for w, t in zip(words, tails, strict=True))
    return [
        Text.assemble((word, "bold" if e.best else e.tone), (tail, "dim"), " " * (width - len(word) - len(tail)))
        for e, word, tail in zip(column, words, tails, strict=True)
    ]


def _core(entry: Entry, stds: int) -> str:
    """Return a number, with room for the widest deviation of its column; or a word."""
    mean, std = entry.number
    if not mean or not stds:
        return mean or entry.word
    return f"{mean} ± {std:>{stds}}" if std else mean + " " * (stds + 3)


def _tail(entry: Entry) -> str:
    return f"{' ' * bool(entry.part)}{entry.part}{'†' * entry.dagger}{_raised(entry.note)}"


def _raised(letters: str) -> str:
    return "".join(_RAISED[letter] for letter in letters)


def _is_letter(mark: str) -> bool:
    return mark.isascii() and mark.isalpha()


_RAISED = dict(zip("abcdefghijklmnopqrstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖ𐞥ʳˢᵗᵘᵛʷˣʸᶻ", strict=True))


@dataclass(frozen=True)
class Markup:
    """How a format writes what it has no plain text for."""

    escape: Callable[[str], str]
    bold: str
    raised: str
    dagger: str

    def entry(self, entry: Entry) -> str:
        """Return an entry with its marks."""
        mean, std = entry.number
        text = self.escape(f"{mean} ± {std}" if std else mean or entry.word)
        text = self.bold.format(text) if entry.best else text
        part = f" {entry.part}" if entry.part else ""
        note = self.raised.format(entry.note) if entry.note else ""
        return f"{text}{part}{self.dagger if entry.dagger else ''}{note}"

    def note(self, mark: str, text: str) -> str:
        """Return a note: letters are raised, other marks stand as they are."""
        shown = self.raised.format(mark) if _is_letter(mark) else self.escape(mark)
        return f"{shown} {self.escape(text)}"


def _markdown_escape(text: str) -> str:
    r"""Return the text with what Markdown would read as markup escaped.

    >>> print(_markdown_escape("a|b *c* d_e <f>"))
    a\|b \*c\* d_e \<f\>
    """
    return re.sub(r"([\\|*<>`\[\]~]|\b_(?!\w)|(?<!\w)_)", r"\\\1", text)


def _latex_escape(text: str) -> str:
    r"""Return the text as LaTeX prints it.

    >>> print(_latex_escape("a_b & 5% → c"))
    a\_b \& 5\% $\rightarrow$ c
    """
    return "".join(_LATEX.get(letter, letter) for letter in text)


_LATEX = {letter: f"\\{letter}" for letter in "_&%#${}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "[": "{[}",  # after \\ a bare one would open an option
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "·": r"$\cdot$",
    "…": r"\ldots{}",
    "—": "---",
    "†": r"$^{\dagger}$",
}
_MARKDOWN = Markup(_markdown_escape, "**{}**", "<sup>{}</sup>", "†")
_TEX = Markup(_latex_escape, r"\textbf{{{}}}", "$^{{{}}}$", _LATEX["†"])


def _markdown(table: Table) -> str:
    from tabulate import tabulate

    body = [[_MARKDOWN.entry(entry) for entry in line] for line in table.lines]
    heads = [_MARKDOWN.entry(entry) for entry in table.heads]
    align = ["left" if i < table.labels else "right" for i in range(len(heads))]
    grid = tabulate(body, heads, tablefmt="pipe", colalign=align, disable_numparse=True)
    notes = [f"- {_MARKDOWN.note(mark, text)}" for mark, text in table.notes]
    parts = [f"**{_markdown_escape(table.title)}**", grid, "\n".join(notes), _markdown_escape(table.footer)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _latex(table: Table) -> str:
    r"""Return a whole `table` environment; it needs \usepackage{booktabs} and nothing else."""
    lines = [" & ".join(_TEX.entry(entry) for entry in line) + r" \\" for line in table.lines]
    notes = [_TEX.note(mark, text) for mark, text in table.notes]
    label = re.sub(r"[^a-z0-9]+", "-", table.title.lower()).strip("-")
    return "\n".join(
        [
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{_latex_escape(table.title)}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{{'l' * table.labels}{'r' * (len(table.heads) - table.labels)}}}",
            r"\toprule",
            " & ".join(_TEX.entry(entry) for entry in table.heads) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip",
            r"\begin{minipage}{\linewidth}\footnotesize\raggedright",
            " \\\\\n".join([*notes, _latex_escape(table.footer)]),
            r"\end{minipage}",
            r"\end{table}",
            "",
        ]
    )


def _csv(rows: Sequence[AnyRow]) -> str:
    flat = [_flat(row) for row in rows]
    heads = list(dict.fromkeys(name for line in flat for name in line)) or [f.name for f in fields(Row)]
    out = io.StringIO()
    writer = csv.DictWriter(out, heads, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def _flat(row: AnyRow) -> dict[str, Any]:
    """Return a row without nesting: lists joined by +, each metric and kind of error a column of its own."""
    flat: dict[str, Any] = {}
    for name, value in asdict(row).items():
        if name in ("metrics", "errors"):
            flat |= value
        elif name == "corpora":
            flat[name] = "+".join(f"{corpus}={version}" for corpus, version in value.items())
        else:
            flat[name] = "+".join(map(str, value)) if isinstance(value, list) else value
    return flat


def _json(rows: Sequence[AnyRow]) -> str:
    return json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[..., str]] = {
    "terminal": _terminal,
    "markdown": _markdown,
    "latex": _latex,
    "csv": _csv,
    "json": _json,
}
