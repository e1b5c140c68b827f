"""Records and the cells that a plan expects, as rows: what came of a variant on a transfer.

rows        cells, records -> Row        one variant x transfer x regime, over its seeds and draws
error_rows  cells, records -> ErrorRow   the same for kinds of errors
audit_rows  cells, records -> AuditRow   the same for generated pairs and what became of them
type_rows   cells, records -> TypeRow    the same for single entity types
protocol_rows  cells, records -> ProtocolRow  the same under several protocols
slice_rows  cells, records -> SliceRow   the same for mentions that have something in common
amount_rows, cost_rows, confusion_rows   F1 by the amount of gold, cost beside F1, types taken for types

A row without a number says why: its `status` is the worst of its cells' and `reason` has theirs.
"""

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean, stdev
from typing import Any, Protocol, TypeVar

import numpy as np

from benchmark.errors import UnknownName, nearest
from benchmark.report.reading import LEVELS, Record
from benchmark.score.protocols import PROTOCOLS, Counts
from benchmark.score.slices import DIMENSIONS
from benchmark.score.statistics import Column, standings

Pair = tuple[str | None, str | None]  # a gold type and a predicted one
T = TypeVar("T")

NO_RECORD = "no record"
INTERVALS = ("seeds and sentences", "draws and sentences", "sentences only")
METRICS = {"f1": "F1", "precision": "precision", "recall": "recall"}  # of a type
ERRORS = {"hit": "hits", "type": "wrong type", "boundary": "boundary", "missed": "missed", "spurious": "spurious"}
AUDIT = {  # the fields of `benchmark.score.grounding.Audit`
    "exact": "exact", "ambiguous": "ambiguous", "taken": "taken", "absent": "not in sentence",
    "unknown": "type not offered", "unparsable": "unparsable", "folded": "of placed: folded",
}  # fmt: skip

SLICES = ("type", "detection", *DIMENSIONS)
OVERVIEW = {  # head -> dimension and bucket
    "strict": ("detection", "strict"),
    "detection": ("detection", "detection"),
    "typing": ("detection", "typing"),
    "seen": ("seen", "target"),
    "elsewhere": ("seen", "other"),
    "unseen": ("seen", "unseen"),
    "shared types": ("shared", "shared"),
    "new types": ("shared", "new"),
}
MISSED, SPURIOUS, AVERAGE = "(missed)", "(spurious)", "average"
NO_SLICES = "no slices: `cdner run` scores again where the corpora are (CDNER_DATA), and trains nothing"


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
    def order(self) -> str:
        """The order of learning: `sequence`, `joint`, `merge`."""

    @property
    def dev(self) -> str:
        """`card`, or `none` where the target's dev is left in train."""

    @property
    def changed(self) -> Mapping[str, Any]:
        """The settings that the plan changes."""

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
    order: str
    dev: str
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
    low: float | None = None  # the 95% interval of F1
    high: float | None = None
    interval: str | None = None  # what it holds: one of INTERVALS
    rank_low: int | None = None  # the best rank in its column that the tests leave open
    rank_high: int | None = None
    tied: bool | None = None  # the best of its column, or not told from it; None: no test
    detectable: float | None = None  # the smallest difference that its column would have shown


@dataclass(frozen=True, kw_only=True)
class ErrorRow(Summary):
    """The mean counts of hits and of each kind of error (the keys of ERRORS)."""

    errors: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class AuditRow(Summary):
    """The mean counts of what became of generated pairs (the keys of AUDIT), and how texts were decoded."""

    decoding: list[str]
    audit: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class TypeRow(Summary):
    """One metric of a variant on one entity type. `type` is None where no record tells which types there are."""

    protocol: str
    type: str | None
    gold: float | None  # mentions, as the protocol counts them
    metric: str  # a key of METRICS
    mean: float | None
    std: float | None


@dataclass(frozen=True, kw_only=True)
class ProtocolRow(Summary):
    """F1 of one set of predictions under several protocols. Percent; None where a protocol has counted nothing.

    scores   protocol -> mean F1
    stds     protocol -> sample deviation; None for a single cell
    scored   protocol -> how many of the cells that are ok are scored under it
    spread   the largest less the smallest of those that count mentions, in points; None where one of them lacks a cell
    """

    scores: dict[str, float | None]
    stds: dict[str, float | None]
    scored: dict[str, int]
    spread: float | None


@dataclass(frozen=True, kw_only=True)
class SliceRow(Summary):
    """Strict scores of a variant on the mentions of one bucket. Percent; None where there is neither gold nor extra.

    by      a key of SLICES, `overview` or `amount`
    bucket  None where no record tells which there are
    kind    of a type: `shared` with something else that is learned from, or `new`; None where that is not known
    gold    mentions; None for `typing`, where it is those whose bounds are right
    """

    by: str
    bucket: str | None
    kind: str | None = None
    gold: float | None
    f1: float | None
    std: float | None
    precision: float | None
    recall: float | None


@dataclass(frozen=True, kw_only=True)
class CostRow(Summary):
    """What a variant costs and what it scores (strict F1).

    target   `average` where it is the mean over all targets of a table
    seconds  of all stages of a cell, as if it had been run alone; the mean over cells
    front    whether no other variant is as good for less, or better for as much; None without both numbers
    devices  that the stages ran on
    """

    seconds: float | None
    f1: float | None
    std: float | None
    front: bool | None
    devices: list[str]


@dataclass(frozen=True, kw_only=True)
class ConfusionRow(Summary):
    """How often a predicted span has a type where gold has one in the same bounds, the mean over cells.

    gold       SPURIOUS where gold has nothing in its bounds
    predicted  MISSED where nothing is predicted in its bounds
    """

    gold: str | None
    predicted: str | None
    count: float | None


AnyRow = Row | ErrorRow | AuditRow | TypeRow | ProtocolRow | SliceRow | CostRow | ConfusionRow


# Records


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
    Intervals, ranks and ties are those of `benchmark.score.statistics`; records have the counts of each sentence for
    `strict` alone, so other protocols have none.
    """
    check("protocol", protocol, PROTOCOLS)
    find = partial(_scores, types=types, protocol=protocol)
    found = _gather(cells, records, types=types, find=find, lacks=f"not scored under {protocol}")
    listed = [(_row(common, ok, protocol), ok) for common, ok in found]
    return _weighed(listed, types) if protocol == "strict" else [row for row, _ in listed]


def error_rows(cells: Iterable[Cell], records: Iterable[Record], *, types: str = "fine") -> list[ErrorRow]:
    """Return the mean count of each kind of error, one row for each that `rows` has."""
    found = _gather(cells, records, types=types, find=partial(_errors, types=types), lacks="errors not counted")
    return [
        ErrorRow(**common, errors={kind: _mean([o.part.get(kind, 0) for o in ok]) for kind in ERRORS})
        for common, ok in found
    ]


def audit_rows(cells: Iterable[Cell], records: Iterable[Record], *, types: str = "fine") -> list[AuditRow]:
    """Return the mean count of what became of generated pairs; rows of methods that write no text are left out."""
    records = list(records)
    told = {r["variant"] for r in records if "audit" in r}
    silent = {r["variant"] for r in records if r["status"] == "ok"} - told
    spoken = [cell for cell in cells if cell.variant not in silent]
    found = _gather(spoken, records, types=types, find=lambda record: record.get("audit"), lacks="no audit")
    return [
        AuditRow(
            **common,
            decoding=sorted({o.part.get("decoding", "free") for o in ok}),
            audit={kind: _mean([o.part["pairs"].get(kind, 0) for o in ok]) for kind in AUDIT},
        )
        for common, ok in found
    ]


def type_rows(
    cells: Iterable[Cell],
    records: Iterable[Record],
    *,
    target: str | None = None,
    protocol: str = "strict",
    types: str = "fine",
    metric: str = "f1",
) -> list[TypeRow]:
    """Return a metric of each entity type of `target` (default: of every target), type by type within a variant.

    Recall is the share of a type's mentions that are right: what papers call its accuracy. A type that a record does
    not count had no gold and no prediction there: its counts are zero.
    """
    check("protocol", protocol, PROTOCOLS)
    check("metric", metric, METRICS)
    cells = [cell for cell in cells if target in (None, cell.target)]
    find = partial(_scores, types=types, protocol=protocol)
    found = list(_gather(cells, records, types=types, find=find, lacks=f"not scored under {protocol}"))
    names: dict[tuple[str, str], dict[str, None]] = {}  # of what is predicted: a regime may name another corpus
    for common, ok in found:
        known = names.setdefault((common["target"], common["regime"]), {})
        known.update(dict.fromkeys(t for o in ok for t in o.part.get("types", {})))
    return [
        _type_row(common, ok, protocol, name, metric)
        for common, ok in found
        for name in (*names[common["target"], common["regime"]],) or (None,)
    ]


def protocol_rows(
    cells: Iterable[Cell], records: Iterable[Record], *, protocols: Sequence[str] = (), types: str = "fine"
) -> list[ProtocolRow]:
    """Return F1 under each of some protocols (default: all), one row for each that `rows` has."""
    for name in protocols:
        check("protocol", name, PROTOCOLS)
    names = list(dict.fromkeys(protocols)) or list(PROTOCOLS)
    find = partial(_level, types=types)
    return [_protocol_row(common, ok, names) for common, ok in _gather(cells, records, types=types, find=find,
                                                                       lacks="not scored")]  # fmt: skip


def spread_over(protocols: Iterable[str]) -> list[str]:
    """Return those of some protocols whose F1 counts mentions: the others count something else."""
    return [name for name in protocols if PROTOCOLS[name].by != "word"]


def _protocol_row(common: dict[str, Any], ok: list[Outcome], names: list[str]) -> ProtocolRow:
    each = {
        p: [_metrics(p, o.part[p]["all"], o.part[p].get("types", {}))["f1"] for o in ok if p in o.part] for p in names
    }
    scores = {p: _mean(found) for p, found in each.items()}
    compared = [f1 for p in spread_over(names) if len(each[p]) == len(ok) and (f1 := scores[p]) is not None]
    whole = len(compared) == len(spread_over(names)) > 1
    return ProtocolRow(
        **common,
        scores=scores,
        stds={p: _deviation(found) for p, found in each.items()},
        scored={p: len(found) for p, found in each.items()},
        spread=max(compared) - min(compared) if whole else None,
    )


def slice_rows(cells: Iterable[Cell], records: Iterable[Record], *, by: str, types: str = "fine") -> list[SliceRow]:
    """Return the scores on each bucket, bucket by bucket within a variant; buckets that are empty are left out.

    by   of SLICES; or `overview`, some buckets of several of them
    """
    check("slice", by, (*SLICES, "overview"))
    found = list(_gather(cells, records, types=types, find=partial(_slice, types=types, by=by), lacks=NO_SLICES))
    names: dict[tuple[str, str], dict[str, None]] = {}
    for common, ok in found:
        filled = {name for o in ok for name, counts in o.part.items() if any(counts) or by == "overview"}
        names.setdefault((common["target"], common["regime"]), {}).update(dict.fromkeys(filled))
    return [
        _slice_row(common, ok, by, name)
        for common, ok in found
        for name in _ordered(by, names[common["target"], common["regime"]]) or (None,)
    ]


def _ordered(by: str, names: Iterable[str]) -> list[str]:
    """Return buckets in the order of their dimension; types by name."""
    known = {"detection": ("strict", "detection", "typing"), "overview": tuple(OVERVIEW), **DIMENSIONS}.get(by)
    return sorted(names) if known is None else [name for name in known if name in names]


def _slice(record: Record, *, types: str, by: str) -> dict[str, list[int]]:
    """Return the counts of each bucket; none where the record does not tell."""
    if by == "type":
        return (_scores(record, types=types, protocol="strict") or {}).get("types") or {}
    if by == "detection":
        kinds = _errors(record, types=types)
        if not kinds:
            return {}
        hit, type, boundary = kinds["hit"], kinds["type"], kinds["boundary"]
        extra, missed = boundary + kinds["spurious"], boundary + kinds["missed"]
        return {
            "strict": [hit, type + extra, type + missed],
            "detection": [hit + type, extra, missed],
            "typing": [hit, type, type],
        }
    if by == "overview":
        known = {part: _slice(record, types=types, by=part) for part, _ in OVERVIEW.values()}
        return {head: known[part][name] for head, (part, name) in OVERVIEW.items() if name in known[part]}
    return (record.get("slices") or {}).get(types, {}).get(by) or {}


def _slice_row(common: dict[str, Any], ok: list[Outcome], by: str, name: str | None) -> SliceRow:
    counts = [Counts(*o.part.get(name, (0, 0, 0))) for o in ok if by == "type" or name in o.part]
    some = [c for c in counts if c != Counts() or by == "type"]
    kind = None
    if by == "type" and name is not None and common["sources"]:
        shared = [o.record["slices"][common["types"]]["shared_types"] for o in ok if o.record and "slices" in o.record]
        kind = None if not shared else "shared" if any(name in types for types in shared) else "new"
    return SliceRow(
        **common,
        by=by,
        bucket=name,
        kind=kind,
        gold=None if name == "typing" and by != "type" else _mean([c.hit + c.missed for c in counts]),
        f1=_mean([c.f1 for c in some]),
        std=_deviation([c.f1 for c in some]),
        precision=_mean([c.precision for c in some]),
        recall=_mean([c.recall for c in some]),
    )


def amount_rows(rows: Iterable[Row]) -> list[SliceRow]:
    """Return F1 by the amount of target gold, of the rows whose regime has one; `bucket` is the amount.

    `regime` names what is counted: `fraction`, `sentences`, `shots`. Where all else is the same, `supervised` ends a
    line of fractions, and `zero-shot` begins any.
    """
    rows = list(rows)
    found: list[tuple[Row, str, float]] = []
    for row in rows:
        told = re.fullmatch(r"(fraction|sentences|shots)-([^+]+)(\+.*)?", row.regime)
        if told:
            found.append((row, told[1] + (told[3] or ""), float(told[2])))
    for kind, route in dict.fromkeys((kind, _route(row)) for row, kind, _ in found):
        name, _, more = kind.partition("+")
        ends = {"supervised": 1.0, "zero-shot": 0.0} if name == "fraction" else {"zero-shot": 0.0}
        for end, amount in ends.items():
            regime = "+".join(filter(None, [end, more]))
            found += [(row, kind, amount) for row in rows if row.regime == regime and _route(row) == route]
    order = {variant: n for n, variant in enumerate(dict.fromkeys(row.variant for row in rows))}
    return [
        SliceRow(
            **{**_common(row), "regime": kind},
            by="amount",
            bucket=f"{amount:g}",
            gold=None,
            f1=row.f1,
            std=row.std,
            precision=row.metrics["precision"],
            recall=row.metrics["recall"],
        )
        for row, kind, amount in sorted(found, key=lambda one: (order[one[0].variant], one[2]))
    ]


def _route(row: Summary) -> tuple[Hashable, ...]:
    """Return what two rows have in common that differ in regime alone."""
    return row.variant, row.target, *_column(row)


def _column(row: Summary) -> tuple[Hashable, ...]:
    return tuple(row.sources), row.select, row.order, row.dev


def _common(row: Summary) -> dict[str, Any]:
    """Return the fields of Summary of a row."""
    return {name: getattr(row, name) for name in Summary.__dataclass_fields__}


def cost_rows(cells: Iterable[Cell], records: Iterable[Record], *, types: str = "fine") -> list[CostRow]:
    """Return cost beside strict F1, and which variants nothing beats in both.

    The averages over targets follow, of the variants that have both numbers on every target of their table.
    """
    find = partial(_scores, types=types, protocol="strict")
    found = []
    for common, ok in _gather(cells, records, types=types, find=find, lacks="not scored under strict"):
        told = [o.record for o in ok if o.record]
        spent = [s for r in told if (s := r.get("cost", {}).get("alone_seconds")) is not None]
        devices = {device for r in told for device in r["provenance"].get("device") or ()}
        f1 = [Counts(*o.part["all"]).f1 for o in ok]
        row = CostRow(
            **common, seconds=_mean(spent), f1=_mean(f1), std=_deviation(f1), front=None, devices=sorted(devices)
        )
        found.append(row)
    tables = grouped(found, lambda row: (*_column(row), row.regime))
    averaged = [*found, *(row for table in tables for row in _averages(table))]
    lines = grouped(averaged, lambda row: (*_column(row), row.regime, row.target))
    return [row for line in lines for row in _fronted(line)]


def _averages(table: list[CostRow]) -> Iterator[CostRow]:
    targets = {row.target for row in table}
    if len(targets) < 2 or any("+" in target for target in targets):  # those of a chain build on each other
        return
    for own in grouped(table, lambda row: row.variant):
        known = {r.target: (r.seconds, r.f1) for r in own if r.seconds is not None and r.f1 is not None}
        if known.keys() == targets:
            seconds, f1 = (fmean(column) for column in zip(*known.values(), strict=True))
            devices = sorted({d for row in own for d in row.devices})
            yield replace(own[0], target=AVERAGE, seconds=seconds, f1=f1, std=None, devices=devices)


def _fronted(line: list[CostRow]) -> Iterator[CostRow]:
    """Yield the rows of one target with `front` told."""
    known = [(r.seconds, r.f1) for r in line if r.seconds is not None and r.f1 is not None]
    for row in line:
        if row.seconds is None or row.f1 is None:
            yield row
        else:
            beaten = any(s <= row.seconds and f >= row.f1 and (s, f) != (row.seconds, row.f1) for s, f in known)
            yield replace(row, front=not beaten)


def confusion_rows(cells: Iterable[Cell], records: Iterable[Record], *, types: str = "fine") -> list[ConfusionRow]:
    """Return how often each type is predicted where gold has each type in the same bounds, pair by pair."""

    def find(record: Record) -> Any:
        return (record.get("slices") or {}).get(types, {}).get("confusion")

    found = []
    for common, ok in _gather(cells, records, types=types, find=find, lacks=NO_SLICES):
        each = [dict(_pairs(o.part)) for o in ok]
        names = sorted({name for o in ok for name in o.part["types"]})
        pairs: list[Pair] = [(gold, predicted) for gold in (*names, SPURIOUS) for predicted in (*names, MISSED)]
        for gold, predicted in pairs[:-1] if ok else [(None, None)]:
            count = _mean([own.get((gold, predicted), 0) for own in each])
            found.append(ConfusionRow(**common, gold=gold, predicted=predicted, count=count))
    return found


def _pairs(confusion: Mapping[str, Any]) -> Iterator[tuple[Pair, int]]:
    names = confusion["types"]
    for gold, row in zip((*names, SPURIOUS), confusion["counts"], strict=True):
        for predicted, count in zip((*names, MISSED), row, strict=True):
            yield (gold, predicted), count


def _row(common: dict[str, Any], ok: list[Outcome], protocol: str) -> Row:
    each = [_metrics(protocol, o.part["all"], o.part.get("types", {})) for o in ok]
    names = ["f1", "precision", "recall", *each[0]] if each else ["f1", "precision", "recall"]
    means = {name: _mean([m[name] for m in each if name in m]) for name in dict.fromkeys(names)}
    return Row(**common, protocol=protocol, metrics=means, f1=means["f1"], std=_deviation([m["f1"] for m in each]))


def columns(cells: Iterable[Cell], records: Iterable[Record], *, types: str = "fine") -> list[tuple[list[Row], Column]]:
    """Return the rows of `rows` with numbers, column by column of their tables, each with the statistics behind it."""
    find = partial(_scores, types=types, protocol="strict")
    found = _gather(cells, records, types=types, find=find, lacks="not scored under strict")
    return [
        (rows, column)
        for group in _alike([(_row(common, ok, "strict"), ok) for common, ok in found], types)
        for rows, column in [([row for row, _ in group], _weigh(group, types))]
    ]


def _alike(listed: list[tuple[Row, list[Outcome]]], types: str) -> list[list[tuple[Row, list[Outcome]]]]:
    """Return the rows that have counts of sentences, in groups that stand in one column of a table."""
    counted = [(row, ok) for row, ok in listed if ok and all(len(_sentences(o, types)) for o in ok)]

    def column(item: tuple[Row, list[Outcome]]) -> Hashable:
        row, ok = item
        alike = (tuple(row.sources), row.target, row.regime, row.select, row.order, row.dev, row.scorer)
        return *alike, row.corpora.get(row.target), tuple(sorted({len(_sentences(o, types)) for o in ok}))

    return grouped(counted, column)


def _sentences(outcome: Outcome, types: str) -> Any:
    return ((outcome.record or {}).get("sentences") or {}).get(types, ())


def _weigh(group: list[tuple[Row, list[Outcome]]], types: str) -> Column:
    """Return the statistics of a column: each row's units are its draws, where there are several, else its seeds."""
    counts: dict[str, dict[Hashable, Any]] = {}
    for row, ok in group:
        by_draw = len(row.planned_draws) > 1
        units = grouped(ok, lambda o: o.cell.draw if by_draw else o.cell.seed)  # noqa: B023 - called at once
        counts[row.variant] = {
            (by_draw, unit[0].cell.draw if by_draw else unit[0].cell.seed): np.array(
                [_sentences(o, types) for o in unit]
            )
            for unit in units
        }
    return Column(counts)


def _weighed(listed: list[tuple[Row, list[Outcome]]], types: str) -> list[Row]:
    """Return the rows with their intervals, ranks and ties."""
    known: dict[int, Row] = {}
    for group in _alike(listed, types):
        column = _weigh(group, types)
        found = standings(column)
        for row, _ in group:
            estimate = column.single(row.variant)
            low, high = estimate.interval()
            kind = INTERVALS[2 if not estimate.whole else int(len(row.planned_draws) > 1)]
            told = replace(row, low=low, high=high, interval=kind, detectable=found.detectable)
            if standing := found.of.get(row.variant):
                told = replace(told, rank_low=standing.rank[0], rank_high=standing.rank[1], tied=standing.tied)
            known[id(row)] = told
    return [known.get(id(row), row) for row, _ in listed]


def _type_row(common: dict[str, Any], ok: list[Outcome], protocol: str, name: str | None, metric: str) -> TypeRow:
    counts = [o.part.get("types", {}).get(name, [0, 0, 0]) for o in ok] if name else []
    found = [_metrics(protocol, c, {str(name): c})[metric] for c in counts]
    gold = _mean([hit + missed for hit, _, missed in counts])
    return TypeRow(
        **common, protocol=protocol, type=name, gold=gold, metric=metric, mean=_mean(found), std=_deviation(found)
    )


def _gather(
    cells: Iterable[Cell], records: Iterable[Record], *, types: str, find: Callable[[Record], Any], lacks: str
) -> Iterator[tuple[dict[str, Any], list[Outcome]]]:
    """Yield, for every row to be, the fields of Summary and the outcomes that are ok."""
    check("type level", types, LEVELS)
    records = list(records)
    known = _by_cell(records)
    general = {r["variant"] for r in records if r.get("level") == "general"} if types == "fine" else set()
    backbones = {r["variant"]: r.get("backbone") for r in records}
    outcomes = [_outcome(cell, known.get(cell.name), cell.variant in general, find, lacks) for cell in cells]
    for group in grouped(outcomes, _line):
        for one in apart(group, lambda o: o.versions):
            yield _summary(one, group, types, backbones), [o for o in one if o.status == "ok"]


def _line(outcome: Outcome) -> Hashable:
    cell = outcome.cell
    return cell.variant, cell.sources, cell.target, cell.regime, cell.select, cell.order, cell.dev


def _outcome(cell: Cell, record: Record | None, general: bool, find: Callable[[Record], Any], lacks: str) -> Outcome:
    if general:
        return Outcome(cell, "general only", "general types only")
    if record is None:
        return Outcome(cell, "missing", NO_RECORD)
    if record["status"] != "ok":
        return Outcome(cell, record["status"], record.get("reason") or "no reason recorded")
    strange = _unlike(cell, record)
    if strange:
        return Outcome(cell, "missing", f"the record is not of this plan: {strange}")
    part = find(record)
    return Outcome(cell, "ok", None, record, part) if part else Outcome(cell, "missing", lacks)


def _unlike(cell: Cell, record: Record) -> str:
    """Return where a record parts from what the plan says now, or nothing."""
    settings, transfer = record.get("settings", {}), record.get("transfer", {})
    pairs = [(name, settings[name], value) for name, value in cell.changed.items() if name in settings]
    pairs += [(n, transfer[n], getattr(cell, n)) for n in ("order", "select", "dev") if n in transfer]
    return ", ".join(f"{name} {was} there, {now} here" for name, was, now in pairs if was != now)


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
        "order": cell.order,
        "dev": cell.dev,
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


def _level(record: Record, *, types: str) -> Any:
    return (record.get("scores") or {}).get(types)


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


def check(what: str, name: str, known: Iterable[str]) -> None:
    """Raise UnknownName, with the nearest of the known names, where `name` is none of them."""
    options = list(known)
    if name not in options:
        raise UnknownName(f"there is no {what} {name!r}.{nearest(name, options)} There are: {', '.join(options)}.")


def grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Return the items in groups of equal keys, groups in the order of their first item."""
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def apart(items: list[T], versions: Callable[[T], Mapping[str, int]]) -> list[list[T]]:
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
