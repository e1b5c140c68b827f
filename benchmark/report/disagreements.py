"""Where the papers' numbers disagree: with themselves, with each other, with the corpora.

find      papers, cards -> Finding   everything that is recomputed and does not come out
tables    findings -> Table          one a kind
page      findings -> str            as the documentation has them, in Markdown

What a column, a row or a claim is recomputed from is a formula in the paper's own file. It is worked out on bounds: a
printed 71.65 is anything from 71.645 to 71.655, and a finding is what no number within the bounds explains. Counts of
a corpus are exact, and so are the cards'.

in formulas   the columns of the row by name; `target`, the row's corpus
              mean, total, dot; cell(table, row, column), column(table, name)
              sentences, words, mentions (corpus, split); types(corpus); labels(corpus, ...): B- and I- tags, and O
"""

import ast
import operator
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.corpus.card import Card, find_cards, load_card
from benchmark.errors import PublishedError
from benchmark.report.layout import Entry, Table
from benchmark.report.published import Claim, Line, Number, Paper, Papers, Printed, Value, of_table, said
from benchmark.report.render import render
from benchmark.report.rows import grouped

KINDS = {
    "itself": "A paper and itself",
    "text": "A paper's text and its tables",
    "papers": "Two papers on one system",
    "data": "A paper and the corpora",
    "repeated": "One number in two rows of a column",
}
_EPS = 1e-9


@dataclass(frozen=True)
class Finding:
    """A number that does not come out. `found` is what it should be, or what the other place has."""

    kind: str  # of KINDS
    paper: str
    table: str
    cell: str
    printed: str
    found: str
    why: str
    target: str | None = None
    counted: str | None = None  # of a corpus: `test sentences`, `types`


@dataclass(frozen=True)
class Bounds:
    """A number that is known to lie between two, and where it would be if nothing had been rounded."""

    low: float
    mid: float
    high: float

    @classmethod
    def exact(cls, number: float) -> "Bounds":
        """Return the bounds of what is known exactly."""
        return cls(number, number, number)

    @classmethod
    def of(cls, value: Value, exact: bool = False) -> "Bounds":
        """Return the bounds of what is printed so."""
        half = 0.0 if exact else value.half
        return cls(value.number - half, value.number, value.number + half)

    def meets(self, other: "Bounds") -> bool:
        """Tell whether one number may be both."""
        return self.low <= other.high + _EPS and other.low <= self.high + _EPS

    def with_(self, other: "Bounds", rule: Callable[[float, float], float]) -> "Bounds":
        """Return the bounds of two numbers taken together by a rule that rises or falls in each."""
        ends = [rule(a, b) for a in (self.low, self.high) for b in (other.low, other.high)]
        return Bounds(min(ends), rule(self.mid, other.mid), max(ends))


class _Unknown(Exception):
    """A formula needs a number that is not there."""


@dataclass(frozen=True)
class Formula:
    """A formula of a paper's file, and where it stands."""

    text: str
    where: str

    def work_out(self, names: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]) -> Bounds | None:
        """Return the bounds of its result; None where a number that it needs is not printed. Raises PublishedError."""
        try:
            found = self._value(ast.parse(self.text.strip(), mode="eval").body, names, functions)
        except (_Unknown, ZeroDivisionError):
            return None
        except SyntaxError as error:
            raise PublishedError(f"{self.where}: the formula {self.text!r} cannot be read ({error.msg}).") from None
        if not isinstance(found, Bounds):
            raise PublishedError(f"{self.where}: the formula {self.text!r} gives no number.")
        return found

    def _value(self, node: ast.AST, names: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]) -> Any:
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else Bounds.exact(float(node.value))  # type: ignore[arg-type]
        if isinstance(node, ast.Name) and node.id in names:
            if names[node.id] is None:
                raise _Unknown
            return names[node.id]
        if isinstance(node, ast.BinOp) and type(node.op) in _RULES:
            left, right = (self._value(side, names, functions) for side in (node.left, node.right))
            if isinstance(left, Bounds) and isinstance(right, Bounds):
                return left.with_(right, _RULES[type(node.op)])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions:
            return functions[node.func.id](*(self._value(one, names, functions) for one in node.args))
        known = ", ".join([*names, *functions])
        raise PublishedError(
            f"{self.where}: the formula {self.text!r} has {ast.unparse(node)!r}, expected numbers, + - * / and {known}."
        )


_RULES: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


def _total(*parts: Any) -> Bounds:
    flat = _flat(parts)
    return Bounds(sum(p.low for p in flat), sum(p.mid for p in flat), sum(p.high for p in flat))


def _mean(*parts: Any) -> Bounds:
    flat = _flat(parts)
    return _total(*flat).with_(Bounds.exact(len(flat)), operator.truediv)


def _dot(first: Sequence[Bounds], second: Sequence[Bounds]) -> Bounds:
    return _total(*(a.with_(b, operator.mul) for a, b in zip(first, second, strict=True)))


def _flat(parts: Iterable[Any]) -> list[Bounds]:
    return [one for part in parts for one in (part if isinstance(part, list) else [part])]


# Where formulas look


class Desk:
    """A paper and the cards, as formulas see them."""

    def __init__(self, paper: Paper, cards: Mapping[str, Card]) -> None:
        self.paper, self.cards = paper, cards

    def cells(self, table: Printed, line: Line) -> dict[str, Bounds | None]:
        """Return the numbers of a row by column."""
        found: dict[str, Bounds | None] = {}
        for column, cell in zip(table.columns, line.values.split(), strict=True):
            value = Value.of(cell)
            exact = said(table, line, column)["unit"] == "count" or _is_count(said(table, line, column)["metric"], cell)
            found[column.name] = Bounds.of(value, exact) if value else None
        return found

    def functions(self, where: str) -> dict[str, Callable[..., Any]]:
        """Return what formulas may call."""
        return {
            "mean": _mean, "total": _total, "dot": _dot,
            "cell": lambda t, r, c: self._cell(t, r, c, where), "column": lambda t, c: self._column(t, c, where),
            "sentences": lambda corpus, split: self._size(corpus, split, 0),
            "words": lambda corpus, split: self._size(corpus, split, 1),
            "mentions": lambda corpus, split: self._size(corpus, split, 2),
            "types": lambda corpus: Bounds.exact(len(self._card(corpus).types)), "labels": self._labels,
        }  # fmt: skip

    def _table(self, name: str, where: str) -> Printed:
        try:
            return self.paper.find(name)
        except StopIteration:
            raise PublishedError(f"{where}: a formula asks for the table {name!r}, which is not there.") from None

    def _cell(self, table: str, row: str, column: str, where: str) -> Bounds:
        found = self._table(table, where)
        line = next((one for one in found.rows if one.row == row), None)
        if line is None or column not in [c.name for c in found.columns]:
            raise PublishedError(f"{where}: a formula asks for {table}, {row!r}, {column!r}, which is not there.")
        value = self.cells(found, line)[column]
        if value is None:
            raise _Unknown
        return value

    def _column(self, table: str, column: str, where: str) -> list[Bounds]:
        return [self._cell(table, line.row, column, where) for line in self._table(table, where).rows]

    def _card(self, corpus: str) -> Card:
        if corpus not in self.cards:
            raise _Unknown
        return self.cards[corpus]

    def _size(self, corpus: str, split: str, which: int) -> Bounds:
        sizes = self._card(corpus).sizes
        if split not in sizes:
            raise _Unknown
        return Bounds.exact(sizes[split][which])

    def _labels(self, *corpora: str) -> Bounds:
        types = {one.identity for corpus in corpora for one in self._card(corpus).types.values()}
        return Bounds.exact(2 * len(types) + 1)


def _is_count(metric: str | None, cell: str) -> bool:
    """Tell whether a number is a count, written out."""
    counts = ("sentences", "words", "mentions", "types", "tokens", "epochs", "batch size")
    return metric in counts and cell.replace(",", "").isdigit()


# What is found


def find(papers: Papers, cards: Mapping[str, Card] | None = None) -> list[Finding]:
    """Return everything that does not come out, kind after kind, papers in their order."""
    cards = {name: load_card(name) for name in find_cards()} if cards is None else cards
    found: list[Finding] = []
    for paper in papers.values():
        desk = Desk(paper, cards)
        for table in paper.tables:
            found += _recomputed(desk, table)
            found += _repeated(desk, table)
        for claim in paper.claims:
            found += _claimed(desk, claim)
        found += _contradicted(paper)
    every = {paper: [n for t in papers[paper].tables for n, _ in of_table(papers[paper], t)] for paper in papers}
    for own in every.values():
        found += _twice(own)
    found += _across(every)
    order = list(KINDS)
    return sorted(found, key=lambda f: order.index(f.kind))


def _formulas(table: Printed) -> Iterable[tuple[Line, str, str]]:
    """Yield row, column and formula of every number that can be recomputed."""
    for line in table.rows:
        for column in table.columns:
            formula = line.formulas.get(column.name, column.formula)
            if formula is not None:
                yield line, column.name, formula


def _recomputed(desk: Desk, table: Printed) -> list[Finding]:
    found = []
    for line, column, formula in _formulas(table):
        printed = Value.of(dict(zip([c.name for c in table.columns], line.values.split(), strict=True))[column])
        if printed is None:
            continue
        cells = desk.cells(table, line)
        facts = said(table, line, next(c for c in table.columns if c.name == column))
        target = facts["target"]
        where = f"{desk.paper.paper}, {table.table}, {line.row}, {column}"
        names = {**cells, "target": target}
        worked = Formula(formula, where).work_out(names, desk.functions(where))
        own = cells[column]
        if worked is None or own is None or own.meets(worked):
            continue
        data = _is_data(formula)
        corpus = next((c for c in desk.cards if f"'{c}'" in formula), None) or target
        why = f"the card of {corpus}" if data else _short(formula)
        found.append(
            Finding(
                "data" if data else "itself",
                desk.paper.paper,
                table.table,
                f"{line.row}, {_head(table, column)}",
                printed.printed,
                _shown(worked, printed),
                why,
                target,
                _counted(facts) if data else None,
            )
        )
    return found


def _counted(facts: Mapping[str, Any]) -> str:
    return "types" if facts["metric"] == "types" else f"{facts['split']} {facts['metric']}"


def _claimed(desk: Desk, claim: Claim) -> list[Finding]:
    """Return what a claim says and the numbers do not."""
    where = f"{desk.paper.paper}, {claim.where}"
    functions = desk.functions(where)
    quoted = f"“{claim.says}”" + (f" ({claim.notes})" if claim.notes else "")
    if claim.more is not None and claim.table is not None:
        return _above(desk, claim, quoted)
    if claim.each is not None and claim.table is not None:
        return _each(desk, claim, quoted)
    value = Value.of(claim.printed or "")
    if value is None or claim.formula is None:
        return []
    worked = Formula(claim.formula, where).work_out({}, functions)
    if worked is None or Bounds.of(value, claim.unit == "count").meets(worked):
        return []
    kind = "data" if _is_data(claim.formula) else "text"
    return [Finding(kind, desk.paper.paper, claim.where, "text", value.printed, _shown(worked, value), quoted)]


def _contradicted(paper: Paper) -> list[Finding]:
    """Return what a paper says in one place, and otherwise in another."""
    found = []
    for group in grouped([c for c in paper.claims if c.of], lambda c: c.of):
        first = group[0]
        found += [
            Finding(
                "text",
                paper.paper,
                claim.where,
                str(claim.of),
                f"“{claim.says}”",
                f"“{first.says}” ({first.where})",
                f"{claim.stated}; {first.where}: {first.stated}",
            )
            for claim in group[1:]
            if claim.stated != first.stated
        ]
    return found


def _above(desk: Desk, claim: Claim, quoted: str) -> list[Finding]:
    """Return where, of two columns or two rows, the first is not above the second as printed."""
    assert claim.more is not None
    table = desk.paper.find(str(claim.table))
    high, low = claim.more
    names = [c.name for c in table.columns]
    by_row = {line.row: dict(zip(names, line.values.split(), strict=True)) for line in table.rows}
    if high in names:
        pairs = [(row, cells[high], cells[low]) for row, cells in by_row.items()]
    else:
        pairs = [(_head(table, c), by_row[high][c], by_row[low][c]) for c in claim.columns or names]
    found = []
    for at, one, other in pairs:
        first, second = Value.of(one), Value.of(other)
        if first and second and first.number <= second.number:
            own = f"{high}, {at}" if high not in names else f"{at}, {_head(table, high)}"
            beside = low if low not in names else _head(table, low)
            found.append(
                Finding(
                    "text",
                    desk.paper.paper,
                    table.table,
                    own,
                    first.printed,
                    f"{second.printed} ({beside})",
                    f"{claim.where}: {quoted}",
                )
            )
    return found


def _each(desk: Desk, claim: Claim, quoted: str) -> list[Finding]:
    """Return the numbers of a row that a formula does not give."""
    table = desk.paper.find(str(claim.table))
    line = next(one for one in table.rows if one.row == claim.row)
    found = []
    for column, own in desk.cells(table, line).items():
        target = said(table, line, next(c for c in table.columns if c.name == column))["target"]
        where = f"{desk.paper.paper}, {claim.where}"
        # `target` names the column of the same name in cell(...)
        worked = Formula(str(claim.each), where).work_out({"target": target}, desk.functions(where))
        printed = Value.of(dict(zip([c.name for c in table.columns], line.values.split(), strict=True))[column])
        if worked is not None and own is not None and printed is not None and not own.meets(worked):
            found.append(
                Finding(
                    "data",
                    desk.paper.paper,
                    table.table,
                    f"{line.row}, {_head(table, column)}",
                    printed.printed,
                    _shown(worked, printed),
                    quoted,
                    target,
                )
            )
    return found


def _repeated(desk: Desk, table: Printed) -> list[Finding]:
    """Return numbers of four digits or more that stand in two rows of one target's column, and nothing explains."""
    found = []
    for column in table.columns:
        if column.formula is not None:
            found += _same_means(desk, table, column.name, column.formula)
            continue
        at: dict[tuple[str, Any, Any], str] = {}
        for line in table.rows:
            cell = line.values.split()[[c.name for c in table.columns].index(column.name)]
            facts = said(table, line, column)
            value = Value.of(cell)
            if value is None or sum(c.isdigit() for c in cell) < 4 or facts["metric"] in ("batch size", "epochs"):
                continue
            key = (cell, facts["target"], facts["metric"])
            if key in at:
                found.append(
                    Finding(
                        "repeated",
                        desk.paper.paper,
                        table.table,
                        f"{line.row}, {_head(table, column.name)}",
                        value.printed,
                        f"{value.printed} ({at[key]})",
                        "the same to the last digit",
                        facts["target"],
                    )
                )
            at.setdefault(key, line.row)
    return found


def _same_means(desk: Desk, table: Printed, column: str, formula: str) -> list[Finding]:
    """Return rows whose numbers differ and yet give the same mean, to the last digit."""
    at: dict[tuple[float, Any], Line] = {}
    found = []
    for line in table.rows if formula.startswith("mean(") else ():
        names = desk.cells(table, line)
        worked = Formula(formula, f"{desk.paper.paper}, {table.table}").work_out(names, desk.functions(""))
        if worked is None:
            continue
        facts = said(table, line)
        other = at.setdefault((round(worked.mid, 6), (facts["target"], facts["metric"])), line)
        if other.values.split() != line.values.split():
            values = (dict(zip(names, one.values.split(), strict=True))[column] for one in (line, other))
            printed, beside = values
            found.append(
                Finding(
                    "repeated",
                    desk.paper.paper,
                    table.table,
                    f"{line.row}, {_head(table, column)}",
                    printed,
                    f"{beside} ({other.row})",
                    f"other numbers, and the same mean: {worked.mid:.3f}",
                )
            )
    return found


def _key(n: Number) -> tuple[Any, ...]:
    sources = None if n.sources is None else tuple(n.sources)
    return n.system, n.target, n.types, n.type, n.metric, n.regime, sources, n.split


def _twice(own: Sequence[Number]) -> list[Finding]:
    """Return what one paper prints twice of the same system, differently."""
    found = []
    sizes = ("types", "sentences", "words", "mentions")
    for group in grouped([n for n in own if n.metric and (n.system or n.metric in sizes)], _key):
        first = group[0]
        for n in group[1:]:
            if n.table == first.table or not _alike(first, n) or n.extras != first.extras:
                continue
            if not _same(first, n):
                other = [m for m in own if m is not n and m.target == n.target and m.metric == n.metric
                         and m.printed == n.printed and m.system != n.system]  # fmt: skip
                what = n.system or f"{n.metric} of {n.target}"
                hint = f"; it is what {other[0].table} has for {other[0].row!r}" if other else ""
                found.append(
                    Finding(
                        "itself",
                        n.paper,
                        n.table,
                        f"{n.row}, {n.column}",
                        n.printed,
                        f"{first.printed} ({first.table}, {first.row})",
                        f"both are {what}{hint}",
                        n.target,
                    )
                )
    return found


def _across(every: Mapping[str, Sequence[Number]]) -> list[Finding]:
    """Return where two papers give a system different numbers, or one number under different conditions."""
    whole = [n for own in every.values() for n in own if n.system and n.metric and n.unit in ("percent", "share")]
    found = []
    for group in grouped(whole, _key):
        ways = {tuple(n.extras) for n in group}
        papers = list(dict.fromkeys(n.paper for n in group))
        both = any({tuple(n.extras) for n in group if n.paper == paper} == ways for paper in papers)
        firsts = [n for paper in papers for n in _firsts(n for n in group if n.paper == paper)]
        for i, n in enumerate(firsts):
            told: dict[str, list[str]] = {}
            for m in firsts[:i]:
                if n.paper == m.paper or not _alike(n, m):
                    continue
                same, alike = _same(n, m), n.extras == m.extras
                if (alike and same) or (not alike and (both or (not same and len(ways) < 2))):
                    continue
                if alike:
                    why = f"both say {n.system}" + (f" with {'+'.join(n.extras)}" if n.extras else "")
                elif same:
                    why = f"one number, {_with(m)} in {m.paper} and {_with(n)} in {n.paper}"
                else:
                    why = f"{n.system} {_with(n)} in {n.paper}, {_with(m)} in {m.paper}: no paper here has both"
                told.setdefault(why, []).append(f"{m.printed} ({m.paper}, {m.table}, {m.row})")
            found += [
                Finding("papers", n.paper, n.table, f"{n.row}, {n.column}", n.printed, "; ".join(others), why, n.target)
                for why, others in told.items()
            ]
    return found


def _firsts(own: Iterable[Number]) -> list[Number]:
    """Return a paper's numbers without those that repeat another."""
    kept: list[Number] = []
    for n in own:
        if not any(n.extras == m.extras and n.backbone == m.backbone and n.llm == m.llm and _same(n, m) for m in kept):
            kept.append(n)
    return kept


def _with(n: Number) -> str:
    return f"with {'+'.join(n.extras)}" if n.extras else "without extras"


def _alike(n: Number, m: Number) -> bool:
    """Tell whether two numbers may be of one model, as far as the papers say."""
    return all(a == b or a is None or b is None for a, b in ((n.backbone, m.backbone), (n.llm, m.llm)))


def _same(n: Number, m: Number) -> bool:
    """Tell whether two numbers may be one, printed twice: equal, or one is the other rounded."""
    a, b = Value.of(n.printed), Value.of(m.printed)
    assert a is not None
    assert b is not None
    return a.number == b.number if a.digits == b.digits else Bounds.of(a).meets(Bounds.of(b))


def _is_data(formula: str) -> bool:
    return any(f"{name}(" in formula for name in ("sentences", "words", "mentions", "types", "labels"))


def _head(table: Printed, column: str) -> str:
    found = next(c for c in table.columns if c.name == column)
    return found.head or found.name


def _short(formula: str) -> str:
    return " ".join(formula.split())


def _shown(worked: Bounds, like: Value) -> str:
    """Return a number with as many digits as what is printed, and its suffix; a whole one that is exact, in full."""
    number = worked.mid
    if worked.low == worked.high and number == round(number):
        return f"{number:,.0f}" if "," in like.printed else f"{number:.0f}"
    suffix = like.printed[-1] if like.printed[-1] in "kKM" else ""
    scaled = number / {"k": 1e3, "K": 1e3, "M": 1e6}.get(suffix, 1.0)
    sign = "+" if like.printed.startswith("+") and number >= 0 else ""
    return f"{sign}{scaled:.{like.digits}f}{suffix}"


# Shown and committed


def tables(found: Sequence[Finding]) -> list[Table]:
    """Return findings laid out, one table a kind."""
    laid_out = []
    for kind, title in KINDS.items():
        own = [f for f in found if f.kind == kind]
        if own:
            heads = ["paper", "where", "cell", "printed", "recomputed, or the other", "why"]
            lines = [[Entry(t) for t in (f.paper, f.table, f.cell, f.printed, f.found, f.why)] for f in own]
            laid_out.append(
                Table(f"{title} ({len(own)})", [Entry(h) for h in heads], lines, [], "", [*own], len(heads))
            )
    return laid_out


def told(found: Sequence[Finding], width: int) -> str:
    """Return findings as text for a terminal, three lines or so each."""
    parts = []
    for kind, title in KINDS.items():
        own = [f for f in found if f.kind == kind]
        if own:
            parts.append(f"{title} ({len(own)})")
        for f in own:
            what = f"{f.printed}; {f.found}" if kind == "repeated" else f"printed {f.printed}; found {f.found}"
            lines = [f"{f.paper}, {f.table}: {f.cell}", f"  {what}", f"  {f.why}"]
            parts.append("\n".join(textwrap.fill(x, width, subsequent_indent="    ") for x in lines))
    return "\n\n".join(parts) + "\n"


def page(found: Sequence[Finding]) -> str:
    """Return findings as Markdown."""
    return render(tables(found), "markdown").strip("\n")


_MARKS = re.compile(r"(<!-- cdner published -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def write(found: Sequence[Finding], path: Path) -> None:
    """Write findings between the marks of a page."""
    path.write_text(_marked(found, path), encoding="utf8", newline="\n")


def check(found: Sequence[Finding], path: Path) -> None:
    """Raise PublishedError where a page has other findings than these."""
    marked = _marked(found, path)
    if path.read_text(encoding="utf8") != marked:
        raise PublishedError(
            f"{path}: its list of disagreements is not what the papers' files say. "
            f"Write it anew: cdner published --write {path}."
        )


def _marked(found: Sequence[Finding], path: Path) -> str:
    try:
        old = path.read_text(encoding="utf8")
    except OSError as error:
        raise PublishedError(f"{path}: the page cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise PublishedError(f"{path}: this is no page of text ({error}); name a Markdown page in UTF-8.") from None
    if not _MARKS.search(old):
        raise PublishedError(f"{path}: there is no `<!-- cdner published -->` ... `<!-- end -->` in it; add the marks.")
    return _MARKS.sub(lambda m: f"{m[1]}{page(found)}\n{m[3]}", old)
