"""A board's rows beside the published numbers of the same systems.

load      folder, cells -> AgainstRow  from its records and the papers' files
against   rows, papers -> AgainstRow   one a pair: ours, theirs, the difference, and what is not comparable
tables    AgainstRow   -> Table        one table a group that `benchmark.report.layout` would make

Which published system a variant is, the papers' files say (`same`): our method, and the settings that make it so. Of a
system's numbers those stand beside a row that differ from it least: in regime, then settings, then sources, then the
order of learning. A number of another regime stands there only where it is of the same kind (fraction, sentences), and
one that asks for an encoder of its own (`encoder`, `backbone`) only beside that.
A paper's accuracy of one entity type stands beside our recall of that type, where system and regime are the very same.
"""

import ast
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmark.errors import RecordError
from benchmark.report.disagreements import Finding, find
from benchmark.report.layout import DASH, SELECTED, TONES, Entry, Table
from benchmark.report.published import Number, Same, head_of, with_methods
from benchmark.report.published import load as load_papers
from benchmark.report.reading import LEVELS, Record
from benchmark.report.reading import load as load_records
from benchmark.report.render import render
from benchmark.report.rows import Row, Summary, TypeRow, grouped, rows, type_rows

UNKNOWN = "?"


@dataclass(frozen=True, kw_only=True)
class AgainstRow(Row):
    """A row of a board and one published number of the same system. `also` has where else it is printed."""

    metric: str
    ours: float | None
    paper: str
    table: str
    printed_row: str
    also: list[str]
    system: str | None
    theirs: float
    their_deviation: float | None
    difference: float | None  # ours - theirs
    their_backbone: str | None
    their_extras: list[str]
    their_regime: str | None
    their_protocol: str | None
    their_select: str | None
    not_comparable: dict[str, str]  # in what -> how: ours and theirs
    type: str | None = None  # of one entity type alone


def against(
    own_rows: Sequence[Row], records: Iterable[Record], published: Sequence[tuple[Number, Same]],
    findings: Sequence[Finding] = (), *, changed: Mapping[str, Mapping[str, Any]] | None = None,
    recalls: Sequence[TypeRow] = (),
) -> list[AgainstRow]:  # fmt: skip
    """Return each row with each published number that is nearest to it; none for a row of which nothing is published.

    records    of the board: settings as they were resolved
    recalls    of each entity type, for numbers of one type
    findings   where papers disagree with the data: sizes of a row's corpus are told in the row
    changed    variant -> its settings as the plan has them, where no record says
    """
    settings = {r["variant"]: r["settings"] for r in records if "settings" in r}
    of_type = {(_place(r), r.type): r.mean for r in recalls if r.mean is not None}
    found = []
    for row in own_rows:
        own = {**(changed or {}).get(row.variant, {}), **settings.get(row.variant, {})}
        regime = "in-domain" if own.get("target_only") else row.regime
        offered = [
            (n, _unlike(row, own, regime, n, same[row.method]), same[row.method])
            for n, same in published
            if row.method in same and n.target == row.target and n.types == row.types and n.type is None
            and n.metric in row.metrics and _kind(regime) == _kind(n.regime)
            and (n.protocol == "token") == (row.protocol == "token") and _encoded(own, same[row.method])
        ]  # fmt: skip
        least = min((rank for _, (rank, _), _ in offered), default=None)
        kept = [(n, told, same) for n, (rank, told), same in offered if rank == least]
        for copies in grouped(
            kept, lambda k: (k[0].system, k[0].printed, k[0].metric, k[0].backbone, k[0].extras != [])
        ):
            first = min(copies, key=lambda k: k[0].cite is not None)  # the paper whose number it is
            found.append(_pair(row, first[0], first[1], [k[0] for k in copies if k is not first], findings))
        for n, same in published:
            recall = of_type.get((_place(row), n.type))
            if recall is None or row.method not in same or n.metric != "accuracy" or n.target != row.target:
                continue
            rank, told = _unlike(row, own, regime, n, same[row.method])
            if not any(rank) and n.types == row.types and _encoded(own, same[row.method]):
                told["measure"] = "ours recall, theirs accuracy, whatever the paper means by that"
                found.append(_pair(row, n, told, [], findings, recall))
    return found


def load(
    folder: Path, cells: Sequence[Any], *, protocol: str = "strict", types: Sequence[str] = LEVELS
) -> list[AgainstRow]:
    """Return a board's rows beside published numbers. Scores over word tags stand beside ours over word tags."""
    records = load_records(folder)
    papers = load_papers()
    published, findings = with_methods(papers), find(papers)
    changed = {cell.variant: {**defaults(cell.method), **cell.changed} for cell in cells}
    return [
        one
        for level in types
        for name in dict.fromkeys((protocol, "token"))
        for one in against(
            rows(cells, records, protocol=name, types=level), records, published, findings, changed=changed,
            recalls=type_rows(cells, records, protocol=name, types=level, metric="recall"),
        )
    ]  # fmt: skip


@cache
def defaults(method: str) -> dict[str, Any]:
    """Return a method's settings as its file declares them, read without importing it; none where there is no file.

    Only what is written as a plain value is known.
    """
    import methods

    module, _, _ = methods.names().get(method, "").partition(":")
    try:
        spec = find_spec(module) if module else None
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf8")) if spec and spec.origin else ast.Module([], [])
    except (ImportError, OSError, SyntaxError):
        return {}
    found: dict[str, Any] = {}
    for settings in (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings"):
        for line in settings.body:
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value is not None:
                with suppress(ValueError):
                    found[line.target.id] = ast.literal_eval(line.value)
    return found


def _place(row: Summary) -> tuple[Any, ...]:
    """Return what tells a row of a board from the others."""
    return row.variant, tuple(row.sources), row.target, row.regime, row.select, row.order, row.dev, row.types


def _pair(
    row: Row, n: Number, told: dict[str, str], copies: list[Number], findings: Sequence[Finding],
    recall: float | None = None,
) -> AgainstRow:  # fmt: skip
    ours = row.metrics.get(str(n.metric)) if n.type is None else recall
    whole = {**told, **_conditions(row, n, findings)}
    return AgainstRow(
        **{f.name: getattr(row, f.name) for f in fields(Row)}, metric=str(n.metric), ours=ours, paper=n.paper,
        table=n.table, printed_row=n.place, also=[f"{c.paper} {c.table}" for c in copies], system=n.system,
        theirs=n.percent, their_deviation=n.deviation, difference=None if ours is None else ours - n.percent,
        their_backbone=n.backbone, their_extras=n.extras, their_regime=n.regime, their_protocol=n.protocol,
        their_select=n.select, not_comparable=whole, type=n.type,
    )  # fmt: skip


def _identity(n: Number) -> tuple[Any, ...]:
    """Return what is equal where one number is printed twice."""
    return n.system, n.printed, n.metric, n.backbone, tuple(n.extras)


def _encoded(settings: Mapping[str, Any], same: Mapping[str, Any]) -> bool:
    """Tell whether the encoder is what a published system asks for, where it asks."""
    return all(settings.get(name) == same[name] for name in ("encoder", "backbone") if name in same)


def _kind(regime: str | None) -> str | None:
    """Return the kind of a regime: those of one kind may stand side by side where nothing is nearer."""
    return regime if regime is None or "+" in regime else regime.split("-0")[0].rstrip("-0123456789")


def _unlike(
    row: Row, settings: Mapping[str, Any], regime: str, n: Number, same: Mapping[str, Any]
) -> tuple[tuple[int, ...], dict[str, str]]:
    """Return how far a number is from a row, and in what."""
    told: dict[str, str] = {}
    if regime != n.regime:
        told["regime"] = f"ours {regime}, theirs {n.regime}"
    wrong = 0
    for name, wanted in same.items():
        if name not in settings and wanted != "any":
            continue  # a record of a time before that setting, or no record
        own = settings.get(name)
        if wanted == "any" and own is not None:
            told[name] = f"ours {own}, theirs {'+'.join(n.extras) or 'any'}"
        elif own != wanted:
            wrong += 1
            theirs = "+".join(n.extras) or "any" if wanted == "any" else _word(wanted)
            told[name] = f"ours {_word(own)}, theirs {theirs}"
    alone = regime == "in-domain"  # there is no source
    several = len(row.sources) > 1 or any("others" in name for name in row.sources)
    strange = not alone and n.sources is not None and (
        not several if n.sources == ["several"] else n.sources != row.sources
    )  # fmt: skip
    if strange:
        told["sources"] = f"ours {'+'.join(row.sources)}, theirs {'+'.join(n.sources or [])}"
    turned = not alone and n.order is not None and n.order != row.order
    if turned:
        told["order"] = f"ours {row.order}, theirs {n.order}"
    return (int(regime != n.regime), wrong, int(strange), int(turned)), told


def _word(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _conditions(row: Row, n: Number, findings: Sequence[Finding]) -> dict[str, str]:
    """Return under what other conditions a number was made: how it was counted, on what, with what."""
    told = {}
    pairs = (
        ("backbone", row.backbone, n.backbone),
        ("protocol", row.protocol, n.protocol),
        ("select", row.select, n.select),
    )
    for name, own, theirs in pairs:
        if own != theirs:
            told[name] = f"ours {own or 'not known'}, theirs {theirs or 'not known'}"
    if n.split != "test":
        told["split"] = f"ours test, theirs {n.split}"
    sizes = [f"{f.printed} {f.counted} in its {f.table}, {f.found} in the card" for f in findings
             if f.counted and f.paper == n.paper and f.target == row.target and n.cite is None]  # fmt: skip
    corpus = [*([n.corpus] if n.corpus else []), *sizes]
    if corpus:
        told["corpus"] = "; ".join(corpus)
    if row.cells and n.runs is not None and n.runs != row.cells:
        told["runs"] = f"ours {row.cells}, theirs {n.runs}"
    return told


# Laid out

COLUMNS = {"backbone": "backbone", "protocol": "counted", "select": "selected"}  # theirs, where it is not ours


def tables(rows: Sequence[AgainstRow]) -> list[Table]:
    """Return the rows laid out, one table per metric, level, sources, regime, rule of selection and order."""
    groups = grouped(
        rows, lambda r: (r.metric, r.protocol, r.types, tuple(r.sources), r.regime, r.select, r.order, r.dev)
    )
    return [_table(group) for group in groups]


def _table(rows: list[AgainstRow]) -> Table:
    letters = _letters(rows)
    lines, at = [], ("", "")
    for row in sorted(rows, key=lambda r: [x.target for x in rows].index(r.target)):
        head = (row.target if row.target != at[0] else "", row.variant if (row.target, row.variant) != at else "")
        at = (row.target, row.variant)
        ours = Entry("", row.ours, row.std if row.metric == "f1" else None) if row.ours is not None else Entry(
            DASH if row.status == "missing" else row.status, tone=TONES.get(row.status, "dim")
        )  # fmt: skip
        gap = Entry(DASH, tone="dim") if row.difference is None else Entry(f"{row.difference:+.2f}")
        theirs = {"backbone": row.their_backbone, "protocol": row.their_protocol, "select": row.their_select}
        words = [Entry((theirs[name] or UNKNOWN) if name in row.not_comparable else "") for name in COLUMNS]
        rest = ", ".join(f"{name}{_raise(letters.get((name, text), ''))}" for name, text in _rest(row).items())
        where = f"{row.paper}, {row.table}: {row.printed_row}"
        lines.append(
            [
                *map(Entry, head),
                ours,
                Entry("", row.theirs, row.their_deviation),
                gap,
                Entry(where),
                *words,
                Entry(rest),
            ]
        )
    heads = ["target", "variant", "ours", "theirs", "difference", "published", *COLUMNS.values(), "and not alike in"]
    told = [n for n in range(len(heads)) if n < 6 or any(line[n].word for line in lines)]
    lines = [[line[n] for n in told] for line in lines]
    return Table(_title(rows), [Entry(heads[n]) for n in told], lines, _notes(rows, letters), _footer(rows), [*rows], 2,
                 frozenset(range(5, len(told))))  # fmt: skip


def _rest(row: AgainstRow) -> dict[str, str]:
    return {name: text for name, text in row.not_comparable.items() if name not in COLUMNS}


def _letters(rows: Sequence[AgainstRow]) -> dict[tuple[str, str], str]:
    every = dict.fromkeys((name, text) for row in rows for name, text in _rest(row).items())
    return {one: _letter(i) for i, one in enumerate(every)}


def _letter(index: int) -> str:
    before = _letter(index // 26 - 1) if index >= 26 else ""
    return before + chr(ord("a") + index % 26)


def _raise(letters: str) -> str:
    return f" ({letters})" if letters else ""


def _notes(rows: Sequence[AgainstRow], letters: Mapping[tuple[str, str], str]) -> list[tuple[str, str]]:
    notes = [(f"({letter})", f"{name}: {text}") for (name, text), letter in letters.items()]
    if any(name in row.not_comparable and not value for row in rows for name, value in (
        ("backbone", row.their_backbone), ("protocol", row.their_protocol), ("select", row.their_select))):  # fmt: skip
        notes.append((UNKNOWN, "not known of theirs"))
    copies: dict[str, dict[str, None]] = {}
    for r in rows:
        copies.setdefault(f"{r.paper}, {r.table}: {r.printed_row}", {}).update(dict.fromkeys(r.also))
    notes += [("=", f"{one} stands in {', '.join(others)} too") for one, others in copies.items() if others]
    return notes


def _title(rows: Sequence[AgainstRow]) -> str:
    first = rows[0]
    targets = {row.target for row in rows}
    target = first.target if len(targets) == 1 else "…"
    route = f"{'+'.join(first.sources)} → {target}" if first.sources else f"{target} alone"
    aside = [first.order] * (first.order != "sequence") + ["no dev cut"] * (first.dev == "none")
    select = SELECTED.get(first.select, f"selected on {first.select}")
    what = f"{first.protocol} {head_of(first.metric)} beside published numbers"
    if first.type is not None:
        what = f"{first.protocol} recall of each type beside published {first.metric}"
    return " · ".join([what, f"{first.types} types", route, first.regime, *aside, select])


def _footer(rows: Sequence[AgainstRow]) -> str:
    backbones = dict.fromkeys(row.backbone for row in rows if row.backbone)
    ours = f"ours: backbone {', '.join(backbones)} · " if backbones else ""
    return f"{ours}difference: ours less theirs · an empty box is alike"


# Committed


def page(name: str, folder: Path, cells: Sequence[Any]) -> str:
    """Return a board's page of published numbers beside its own, in Markdown."""
    found = tables(load(folder, cells))
    shown = render(found, "markdown") if found else "Nothing is published that stands beside a row of this board.\n"
    head = f"# {name} beside published numbers\n\nWritten from records and `results/published` by "
    return f"{head}`cdner table {name} --against published --write`; do not edit.\n\n{shown}"


def write(name: str, folder: Path, cells: Sequence[Any]) -> Path:
    """Write a board's published.md; returns it."""
    path = folder / "published.md"
    path.write_text(page(name, folder, cells), encoding="utf8", newline="\n")
    return path


def check(name: str, folder: Path, cells: Sequence[Any]) -> None:
    """Raise RecordError where a board's published.md is not what its records and the papers say."""
    path = folder / "published.md"
    if not path.is_file() or path.read_text(encoding="utf8") != page(name, folder, cells):
        raise RecordError(
            f"{path}: not what the records of {name} and the papers say. "
            f"Write it anew: cdner table {name} --against published --write."
        )
