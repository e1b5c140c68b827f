"""Rows or tables as text.

render             rows or tables, format -> str
terminal           wraps to a width, in colour if asked to
markdown, latex    laid out as in the terminal, whatever the width
csv, json          the rows as they are, without any layout
"""

import csv
import io
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

from benchmark.report.layout import Entry, Table, tables, transposed
from benchmark.report.rows import AnyRow, Row, check

_GAP = 3  # blanks between the columns of a terminal's table


def render(things: Sequence[AnyRow | Table], format: str, *, width: int = 80, colour: bool = False) -> str:
    """Return rows or tables as text in one of FORMATS, ending in a line break.

    `width` and `colour` are the terminal's: a table too wide for it goes on below, with its names repeated. Without
    colour there are no escapes, so that the best of a column is not shown there.
    """
    check("format", format, FORMATS)
    if FORMATS[format] in (_csv, _json):
        return FORMATS[format]([row for t in things for row in (t.rows if isinstance(t, Table) else [t])])
    laid_out = [t for t in things if isinstance(t, Table)] + tables([t for t in things if not isinstance(t, Table)])
    if not laid_out:
        return "No cells, so no table.\n"
    if format == "terminal":
        return _terminal(laid_out, width=width, colour=colour)
    return "\n".join(FORMATS[format](table) for table in laid_out)


# Terminal


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
    raw = transposed([table.heads, *table.lines])
    columns = [_aligned(column, left=table.is_left(i)) for i, column in enumerate(raw)]
    for block in _blocks(columns, table.labels, width, packed=bool(table.words)):
        yield "", ""
        yield _grid(block), ""
    if table.notes:
        yield "", ""
    for mark, text in table.notes:
        raised = _raised(mark) if _is_letter(mark) else mark
        yield textwrap.fill(f"{raised} {text}", width, subsequent_indent=" " * (len(raised) + 1)), "dim"
    yield "", ""
    yield textwrap.fill(table.footer, width), "dim"


def _blocks(columns: list[list[Any]], labels: int, width: int, *, packed: bool = False) -> list[list[list[Any]]]:
    """Return the columns in as few blocks as fit, of about equal numbers, each led by the label columns.

    packed   a block has as many columns as fit, for columns of very different widths
    Where there are label columns alone, they are the one block.
    """
    names, values = columns[:labels], columns[labels:]
    if not values:
        return [names]
    room = width - sum(column[0].cell_len + _GAP for column in names) + _GAP
    widths = [column[0].cell_len + _GAP for column in values]
    if packed:
        return [names + values[start:end] for start, end in _packed(widths, room)]
    options = (_cuts(len(values), n) for n in range(1, len(values) + 1))
    return [names + values[start:end] for start, end in next(cuts for cuts in options if _fits(widths, cuts, room))]


def _cuts(length: int, n: int) -> list[tuple[int, int]]:
    """Return the bounds of `n` parts of about equal size, the larger ones first.

    >>> _cuts(5, 2)
    [(0, 3), (3, 5)]
    """
    ends = [-(-length * i // n) for i in range(n + 1)]
    return list(pairwise(ends))


def _packed(widths: list[int], room: int) -> list[tuple[int, int]]:
    """Return the bounds of parts that hold as much as fits, and one column at least.

    >>> _packed([5, 5, 9, 20, 2], 12)
    [(0, 2), (2, 3), (3, 4), (4, 5)]
    """
    bounds, start = [], 0
    for end in range(1, len(widths) + 1):
        if end == len(widths) or sum(widths[start : end + 1]) > room:
            bounds.append((start, end))
            start = end
    return bounds


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
    return mark.isascii() and mark.isalpha() and len(mark) < 3


_RAISED = dict(zip("abcdefghijklmnopqrstuvwxyz", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖ𐞥ʳˢᵗᵘᵛʷˣʸᶻ", strict=True))


# Markdown, LaTeX


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
    align = ["left" if table.is_left(i) else "right" for i in range(len(heads))]
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
            rf"\begin{{tabular}}{{{''.join('l' if table.is_left(i) else 'r' for i in range(len(table.heads)))}}}",
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


# CSV, JSON


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
        if name in ("metrics", "errors", "audit", "scores"):
            flat |= value
        elif name in ("stds", "scored"):
            flat |= {f"{protocol} {name.removesuffix('s')}": one for protocol, one in value.items()}
        elif name == "corpora":
            flat[name] = "+".join(f"{corpus}={version}" for corpus, version in value.items())
        elif isinstance(value, dict):
            flat[name] = "; ".join(f"{key}: {text}" for key, text in value.items())
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
