"""The numbers that papers print: `results/published/<paper>.yaml`, read, checked and shown.

read     file    -> Paper     a paper's tables and what its text claims
load     folders -> Papers    every paper, by name
numbers  papers  -> Number    one printed number with all that is known of it
tables   numbers -> Table     as the paper has them, or a target's numbers in one list

A table's common facts stand once, its rows are systems, its columns targets; a row's `values` are what is printed
there, between blanks, so that digits and signs are the paper's. What a column says goes before what its row says, and
that before the table. The check that recomputes is `benchmark.report.disagreements`.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from benchmark import paths
from benchmark.corpus.card import OnceLoader
from benchmark.errors import PublishedError, UnknownName, nearest
from benchmark.report.layout import DASH, Entry, Table
from benchmark.report.rows import grouped

UNITS = {  # of a metric; what is not here has none
    "f1": "percent", "precision": "percent", "recall": "percent", "accuracy": "percent", "gain": "points",
    "weighted F1": "percent", "weighted precision": "percent", "weighted recall": "percent",
    "sentences": "count", "words": "count", "mentions": "count", "types": "count", "tokens": "count",
    "epochs": "count", "batch size": "count",
}  # fmt: skip
HEADS = {"f1": "F1"}
PROTOCOLS = (  # how papers count a hit; not all of them are counted here
    "strict", "conlleval", "conlleval-stream", "topt", "cpner", "uniner", "b2ner", "gliner", "token",
)  # fmt: skip
_PRINTED = re.compile(r"([+-]?\d+(?:,\d{3})*(?:\.\d+)?)(e-?\d+)?([kKM%]?)(?:±(\d+(?:\.\d+)?))?([^\w.,]?)")
_SCALES = {"k": 1e3, "K": 1e3, "M": 1e6}


# What is printed


@dataclass(frozen=True)
class Value:
    """A number as it is printed, and the bounds of what rounds to it.

    >>> Value.of("15.0k")
    Value(printed='15.0k', number=15000.0, half=50.0, deviation=None, mark='')
    >>> Value.of("14,987").number, Value.of("68.31*").mark, Value.of("nine")
    (14987.0, '*', None)
    """

    printed: str
    number: float
    half: float  # half a unit of its last digit
    deviation: float | None = None
    mark: str = ""

    @classmethod
    def of(cls, text: str) -> "Value | None":
        """Return what a text says, or None where it is no number."""
        found = _PRINTED.fullmatch(text)
        if found is None:
            return None
        digits, exponent, suffix, deviation, mark = found.groups()
        scale = _SCALES.get(suffix, 1.0) * float(f"1{exponent or ''}")
        number = float(digits.replace(",", ""))
        places = len(digits.partition(".")[2])
        printed = text.removesuffix(mark) if mark else text
        return cls(printed, number * scale, 0.5 * 10**-places * scale, float(deviation) if deviation else None, mark)

    @property
    def digits(self) -> int:
        """How many digits stand behind the point."""
        return len(self.printed.rstrip("kKM%").partition(".")[2])


# The files


class Facts(BaseModel):
    """What is known of a number. A table, a row and a column may each say some of it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    system: str | None = None  # one name over all papers: LANER, LANER w/o LC
    same: dict[str, dict[str, Any]] = Field(default_factory=dict)  # our method -> its settings; `any`: all but null
    cite: str | None = None  # whose number it is, where the paper took it over or ran another's system
    backbone: str | None = None
    extras: list[str] = Field(default_factory=list)  # DAPT, GTOK, EI, annotated, QLoRA
    llm: str | None = None
    regime: str | None = None  # as a board's: supervised, zero-shot, in-domain, fraction-0.01
    sources: list[str] | None = None
    order: str | None = None
    target: str | None = None  # a corpus, or `average`
    types: Literal["fine", "general"] = "fine"
    type: str | None = None  # of one entity type alone
    metric: str | None = None
    unit: Literal["percent", "share", "points", "count"] | None = None
    protocol: str | None = None
    select: str | None = None
    split: Literal["train", "dev", "test"] = "test"
    runs: int | None = None  # seeds or samples that it is the mean of
    corpus: str | None = None  # which version of it, where it is not the card's
    notes: str | None = None

    @field_validator("protocol")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in PROTOCOLS:
            raise ValueError(
                f"there is no protocol {value!r}.{nearest(value, PROTOCOLS)} There are: {_listed(PROTOCOLS)}"
            )
        return value


class Column(Facts):
    """A column: its name in formulas, its head as printed, and how it is recomputed from the others of its row."""

    name: str
    head: str | None = None
    formula: str | None = Field(default=None, alias="is")


class Line(Facts):
    """A row: its label as printed, its numbers as printed, and how single columns of it are recomputed."""

    row: str
    values: str
    formulas: dict[str, str] = Field(default_factory=dict, alias="is")


class Printed(Facts):
    """A table, a figure, or the numbers of a section."""

    table: str
    caption: str
    columns: list[Column]
    rows: list[Line]
    marks: dict[str, str] = Field(default_factory=dict)

    @field_validator("columns", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """Let a column be a target's name."""
        if not isinstance(value, list):
            return value
        return [{"name": one, "target": one} if isinstance(one, str) else one for one in value]

    @model_validator(mode="after")
    def _whole(self) -> "Printed":
        heads = [column.name for column in self.columns]
        _once(heads, f"{self.table}: columns")
        _once([line.row for line in self.rows], f"{self.table}: rows")
        for line in self.rows:
            where = f"{self.table}, row {line.row!r}"
            cells = line.values.split()
            if len(cells) != len(heads):
                raise ValueError(f"{where} has {len(cells)} values, expected {len(heads)}: {', '.join(heads)}")
            for head, cell in zip(heads, cells, strict=True):
                value = Value.of(cell)
                if value is None and cell != "-":
                    raise ValueError(
                        f"{where}, {head} is {cell!r}, expected a number as it is printed, such as 71.65, 15.0k, 0.88% "
                        "or +5.77, or - where there is none"
                    )
                if value is not None and value.mark and value.mark not in self.marks:
                    raise ValueError(f"{where}, {head} has the mark {value.mark!r}, which `marks` does not explain")
            for name in line.formulas:
                if name not in heads:
                    raise ValueError(f"{where}, is: there is no column {name!r}.{nearest(name, heads)}")
        return self


class Claim(BaseModel):
    """What the text says of its tables: a number that they give, or that one of two is above the other.

    printed, formula    a number, and how it is recomputed; without a formula nothing here can tell
    table, row, each    every number of a row, and one formula for all
    table, more         in each row the first column is above the second, or in each column the first row is
    of, stated          what is said of something; another place may say it otherwise
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    where: str
    says: str
    printed: str | None = None
    unit: Literal["count"] | None = None
    formula: str | None = Field(default=None, alias="is")
    table: str | None = None
    row: str | None = None
    each: str | None = None
    more: tuple[str, str] | None = None
    columns: list[str] | None = None
    of: str | None = None
    stated: str | None = None
    notes: str | None = None

    @field_validator("more", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _one(self) -> "Claim":
        kinds = (self.printed, self.each, self.more, self.of)
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError(f"the claim of {self.where} needs one of `printed`, `each`, `more` and `of`")
        for needed in ("row", "table") if self.each else ("table",) if self.more else ("stated",) if self.of else ():
            if getattr(self, needed) is None:
                raise ValueError(f"the claim of {self.where} needs `{needed}`")
        if self.printed is not None and Value.of(self.printed) is None:
            raise ValueError(f"the claim of {self.where}: printed is {self.printed!r}, expected a number as printed")
        return self


class Paper(BaseModel):
    """A file: one paper, its tables, its claims."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    paper: str
    title: str
    cite: str
    code: str | None
    notes: list[str] = Field(default_factory=list)
    tables: list[Printed]
    claims: list[Claim] = Field(default_factory=list)

    @model_validator(mode="after")
    def _whole(self) -> "Paper":
        known = {table.table: table for table in self.tables}
        _once([table.table for table in self.tables], "tables")
        for claim in self.claims:
            if claim.table is None:
                continue
            if claim.table not in known:
                raise ValueError(f"a claim names the table {claim.table!r}.{nearest(claim.table, known)} "
                                 f"There are: {_listed(known)}")  # fmt: skip
            names = {line.row for line in known[claim.table].rows} | {c.name for c in known[claim.table].columns}
            for name in (*(claim.more or ()), *filter(None, [claim.row]), *(claim.columns or ())):
                if name not in names:
                    raise ValueError(f"a claim of {claim.table} names {name!r}, which is no row and no column there."
                                     f"{nearest(name, names)}")  # fmt: skip
        return self

    def find(self, table: str) -> Printed:
        """Return a table by its name."""
        return next(one for one in self.tables if one.table == table)


Papers = dict[str, Paper]
Same = dict[str, dict[str, Any]]  # our method -> settings that make it the printed system


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _once(names: Sequence[str], what: str) -> None:
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ValueError(f"{what}: {twice[0]!r} stands twice")


def read(path: Path) -> Paper:
    """Return a paper's numbers. Raises PublishedError, naming the file, the place, and what was expected."""
    try:
        found = yaml.load(path.read_text(encoding="utf8"), OnceLoader)
    except OSError as error:
        raise PublishedError(f"{path}: the file cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}: line {mark.line + 1}" if mark else str(path)
        raise PublishedError(f"{where}: this is no YAML: {getattr(error, 'problem', None) or error}.") from None
    if not isinstance(found, dict):
        raise PublishedError(f"{path}: expected a mapping with paper, title, cite, code and tables.")
    try:
        paper = Paper.model_validate(found)
    except ValidationError as error:
        raise PublishedError(f"{path}: {_told(error, found)}") from None
    if paper.paper != path.stem:
        raise PublishedError(f"{path}: paper is {paper.paper!r}, expected the file's name, {path.stem!r}.")
    return paper


def _told(error: ValidationError, found: Any) -> str:
    """Return the first thing that is wrong, with the place by the names that stand there."""
    first = error.errors(include_url=False)[0]
    at: Any = found
    parts = []
    for step in first["loc"]:
        there = isinstance(at, list) or (isinstance(at, dict) and step in at)
        at = at[step] if there else None
        names = [at[key] for key in ("table", "row", "name", "where") if key in at] if isinstance(at, dict) else []
        parts.append(str(names[0] if names else step))
    where = ", ".join(part for part in parts if part not in ("tables", "rows"))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "there is no such field"
    elif first["type"] == "missing":
        message = "it is missing"
    elif not message.startswith(("there is", "it is")) and first["type"] != "value_error":
        message = f"found {first['input']!r}; {message[0].lower()}{message[1:]}"
    return f"{where + ': ' if where else ''}{message}."


def load(folders: Collection[Path] | None = None) -> Papers:
    """Return every paper by name: the user's (`published` in the results folder), then those that come with cdner."""
    found: Papers = {}
    for folder in paths.published_folders() if folders is None else folders:
        for path in sorted(folder.glob("*.yaml")):
            if path.stem not in found:
                found[path.stem] = read(path)
    return found


# Numbers


@dataclass(frozen=True, kw_only=True)
class Number:
    """A printed number with all that is known of it."""

    paper: str
    table: str
    row: str  # as printed
    column: str
    system: str | None
    cite: str | None
    backbone: str | None
    extras: list[str]
    llm: str | None
    regime: str | None
    sources: list[str] | None
    order: str | None
    target: str | None
    types: str
    type: str | None
    metric: str | None
    unit: str | None
    protocol: str | None
    select: str | None
    split: str
    runs: int | None
    corpus: str | None
    printed: str
    value: float
    deviation: float | None
    mark: str | None  # what the mark at it means
    notes: str | None

    @property
    def place(self) -> str:
        """The row as printed, and the column where that is no target's."""
        named = (self.target or "", "average")
        return self.row if self.column.lower() in named else f"{self.row}, {self.column}"

    @property
    def percent(self) -> float:
        """The value in percent, where it is a score."""
        return self.value * 100 if self.unit == "share" else self.value


def numbers(papers: Papers) -> list[Number]:
    """Return every number of the papers' tables, in the order that they are printed."""
    return [number for number, _ in with_methods(papers)]


def with_methods(papers: Papers) -> list[tuple[Number, Same]]:
    """Return every number, each with our methods that are the same."""
    return [one for paper in papers.values() for table in paper.tables for one in of_table(paper, table)]


def of_table(paper: Paper, table: Printed) -> list[tuple[Number, Same]]:
    """Return the numbers of a table, each with our methods that are the same."""
    found = []
    for line in table.rows:
        for column, cell in zip(table.columns, line.values.split(), strict=True):
            value = Value.of(cell)
            if value is None:
                continue
            facts = said(table, line, column)
            notes = "; ".join(dict.fromkeys(p.notes for p in (table, line, column) if p.notes)) or None
            same = facts.pop("same")
            unit = facts.pop("unit") or UNITS.get(facts["metric"] or "")
            number = Number(
                paper=paper.paper, table=table.table, row=line.row, column=column.head or column.name, unit=unit,
                printed=value.printed, value=value.number, deviation=value.deviation,
                mark=table.marks.get(value.mark), **{**facts, "notes": notes},
            )  # fmt: skip
            found.append((number, same))
    return found


def said(*parts: Facts) -> dict[str, Any]:
    """Return the facts that table, row and column say; of two the later."""
    found: dict[str, Any] = {name: getattr(_NOTHING, name) for name in Facts.model_fields}
    for part in parts:
        found |= {name: getattr(part, name) for name in part.model_fields_set if name in found}
    return found


_NOTHING = Facts()


# Chosen and shown


def chosen(
    found: Sequence[Number], *, systems: Sequence[str] = (), targets: Sequence[str] = (), papers: Sequence[str] = ()
) -> list[Number]:
    """Return the numbers of some systems, at some targets, of some papers; case is all one. Raises UnknownName.

    A system's name stands for its ablations too: LANER for `LANER w/o LC`.
    """
    kept = list(found)
    if papers:
        ones = [_named("published paper", paper, [n.paper for n in found]) for paper in papers]
        kept = [n for n in kept if n.paper in ones]
    if systems:
        names = [n.system for n in found if n.system]
        shown = {name for system in systems for name in _with_ablations(system, names)}
        kept = [n for n in kept if n.system in shown]
    if targets:
        ones = [_named("published target", target, [n.target for n in found if n.target]) for target in targets]
        kept = [n for n in kept if n.target in ones]
    if not kept:
        asked = {"paper": papers, "system": systems, "target": targets}
        told = ", ".join(f"{what} {' or '.join(names)}" for what, names in asked.items() if names)
        raise UnknownName(f"nothing is published of {told} together; ask for less.")
    return kept


def _with_ablations(system: str, names: Sequence[str]) -> list[str]:
    """Return the names of a system and its ablations. Raises UnknownName with the nearest."""
    shown = [name for name in names if re.fullmatch(rf"{re.escape(system)}([ ,+-].*)?", name, re.IGNORECASE)]
    return shown or [_named("published system", system, names)]


def _named(what: str, name: str, known: Iterable[str]) -> str:
    """Return the known name that is `name` but for case. Raises UnknownName with the nearest."""
    options = {option.lower(): option for option in sorted(dict.fromkeys(known), key=str.lower)}
    if name.lower() not in options:
        near = nearest(name.lower(), options)
        for low, option in options.items():
            near = near.replace(f"{low!r}", f"{option!r}")
        raise UnknownName(f"there is no {what} {name!r}.{near} There are: {_listed(options.values())}.")
    return options[name.lower()]


def tables(papers: Papers, found: Sequence[Number], *, listed: bool = False) -> list[Table]:
    """Return numbers laid out: as the papers have them; or `listed`, one a line, scores first and then all else."""
    if not listed:
        return [_as_printed(papers[group[0].paper], group) for group in grouped(found, lambda n: (n.paper, n.table))]
    scores = [n for n in found if n.regime and n.unit in ("percent", "share")]
    rest = [n for n in found if n not in scores]
    return [_scores(group) for group in grouped(scores, lambda n: (n.target, n.types, n.metric))] + (
        [_others(rest)] if rest else []
    )


def _scores(found: list[Number]) -> Table:
    first = found[0]
    heads = ["paper", "table", "row", "backbone", "extras", "regime", head_of(first.metric)]
    lines = []
    for n, paper in zip(found, _once_each([n.paper for n in found]), strict=True):
        words = [paper, n.table, _short(n.place), n.backbone or DASH, _extras(n), n.regime or DASH]
        lines.append([*map(Entry, words), Entry(n.printed)])
    title = " · ".join([f"published {head_of(first.metric)}", f"{first.types} types", first.target or DASH])
    return Table(
        title, [Entry(h) for h in heads], lines, _protocols(found), _many(found), [*found], 3, frozenset((3, 4, 5))
    )


def _others(found: list[Number]) -> Table:
    """List what is no score: sizes, settings, times."""
    lines = []
    for n, paper in zip(found, _once_each([n.paper for n in found]), strict=True):
        split = f"{n.split} " if n.metric in ("sentences", "words", "mentions") else ""
        words = (paper, n.table, _short(n.place), f"{split}{head_of(n.metric)}", n.printed)
        lines.append([Entry(word) for word in words])
    heads = [Entry(h) for h in ("paper", "table", "row", "of what", "number")]
    title = f"other published numbers · {', '.join(dict.fromkeys(n.target or DASH for n in found))}"
    return Table(title, heads, lines, [], _many(found), [*found], 4)


def _once_each(names: Sequence[str]) -> list[str]:
    """Return names, those that repeat the one before left empty."""
    return [name if i == 0 or name != names[i - 1] else "" for i, name in enumerate(names)]


def _many(found: Sequence[Number]) -> str:
    papers = len({n.paper for n in found})
    return f"{len(found)} number{'s' * (len(found) != 1)} in {papers} paper{'s' * (papers != 1)}"


def _backbone(number: Number) -> str:
    return number.backbone or DASH


def _extras(number: Number) -> str:
    return "+".join(number.extras) or DASH


_LABELS: dict[str, Callable[[Number], str]] = {"backbone": _backbone, "extras": _extras}


def _as_printed(paper: Paper, found: list[Number]) -> Table:
    """Lay a table out as the paper has it: only rows and columns of which something is asked for."""
    table = paper.find(found[0].table)
    at = {(n.row, n.column): n for n in found}
    columns = [c for c in table.columns if any(n.column == (c.head or c.name) for n in found)]
    rows = [line for line in table.rows if any(n.row == line.row for n in found)]
    shown = [name for name, tell in _LABELS.items() if any(tell(n) != DASH for n in found)]
    by_row = all(len({_LABELS[name](n) for n in found if n.row == line.row}) == 1 for line in rows for name in shown)
    shown = shown if by_row else []
    lines = []
    for line in rows:
        own = next(n for n in found if n.row == line.row)
        cells = [at.get((line.row, c.head or c.name)) for c in columns]
        values = [Entry(n.printed + ("*" if n.mark else "")) if n else Entry(DASH, tone="dim") for n in cells]
        lines.append([Entry(line.row), *(Entry(_LABELS[name](own)) for name in shown), *values])
    marks = [(mark, text) for mark, text in table.marks.items()]
    notes = marks + ([("note:", " ".join(table.notes.split()))] if table.notes else []) + _protocols(found)
    facts = [paper.paper, table.table, "+".join(dict.fromkeys(head_of(n.metric) for n in found))]
    sources = list(dict.fromkeys("+".join(n.sources) for n in found if n.sources))
    facts += [f"{sources[0]} → …"] if len(sources) == 1 else []
    facts += list(dict.fromkeys(n.regime for n in found if n.regime)) if len({n.regime for n in found}) == 1 else []
    heads = ["row", *shown, *(c.head or c.name for c in columns)]
    return Table(" · ".join(facts), [Entry(h) for h in heads], lines, notes, paper.cite, [*found], 1 + len(shown))


def head_of(metric: str | None) -> str:
    """Return what a metric is called above a column."""
    return HEADS.get(metric or "", metric or "number")


def _short(row: str) -> str:
    return row if len(row) <= 32 else f"{row[:31]}…"


def _protocols(found: Sequence[Number]) -> list[tuple[str, str]]:
    """Say how hits were counted, where that is known."""
    scores = [n for n in found if n.unit in ("percent", "share") and n.metric != "accuracy"]
    told = grouped([n for n in scores if n.protocol], lambda n: n.protocol)
    parts = [f"{group[0].protocol}: {_listed(dict.fromkeys(n.system or n.row for n in group))}" for group in told]
    silent = [n for n in scores if not n.protocol]
    parts += [f"not known: {_listed(dict.fromkeys(n.system or n.row for n in silent))}"] if silent and parts else []
    parts = parts or (["how hits are counted is not known"] if silent else [])
    return [("counted:", "; ".join(parts))] if parts else []
