"""Two variants set side by side: who wins where, and whether it is more than noise.

compare   rows and columns -> Comparison   a line a transfer that both have, from records alone
words     Comparison -> two lines
lines     Comparison -> rows of text, for any layout
rank      rows -> average ranks over targets; draw: the critical-difference diagram (Demšar 2006, figure 1)
"""

import csv
import io
import json
import textwrap
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmark.errors import CdnerError, nearest
from benchmark.report import figures
from benchmark.report import render as rendering
from benchmark.report.layout import Entry, Table, average_ranks, ranked_how
from benchmark.report.rows import Row, columns, grouped
from benchmark.score.statistics import LEVEL, Column, Estimate, Ranks, combined, holm, p_values, standings

FORMATS = ("terminal", "markdown", "csv", "json")


@dataclass(frozen=True)
class Line:
    """Two variants on one transfer. F1 in percent, differences in points, the first less the second.

    first       F1 over the seeds or draws that both have, as `second`
    units       how many these are; left_out: how many only one of them has
    p           of the paired test, None with fewer than three seeds or draws in common
    corrected   p after Holm's correction for the transfers of the comparison
    of_column   p after the correction for all pairs of variants on this transfer, as in a table
    detectable  the smallest true difference that would have been found with 80% probability, corrected
    interval    what the interval holds: seeds (or draws) and sentences, or the sentences alone
    """

    name: str  # in a sentence
    target: str
    transfer: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    units: int
    left_out: int
    interval: str
    p: float | None
    corrected: float | None
    of_column: float | None
    detectable: float | None

    @property
    def sure(self) -> bool:
        """Whether the difference is more than noise."""
        return self.corrected is not None and self.corrected < LEVEL


@dataclass(frozen=True)
class Comparison:
    """Two variants over the transfers that both have.

    overall   the mean difference over those with a test that differ in the target alone (of several such groups the
              largest), each target counting once; None where there are fewer than two
    targets   of that mean
    """

    first: str
    second: str
    lines: tuple[Line, ...]
    overall: Estimate | None
    targets: tuple[str, ...]


def compare(
    first: str, second: str, cells: Sequence[Any], records: Sequence[dict[str, Any]], *, types: str = "fine",
    by: str = "variant",
) -> Comparison:  # fmt: skip
    """Return what two variants of the same plan differ by; with `by` regime, what two regimes do, variant by variant.

    Raises CdnerError where one of them is unknown, or the two have no transfer in common with numbers for both.
    """
    if by == "regime":  # it stands where a variant would, and the variant where it would
        cells = [replace(cell, variant=cell.regime, regime=cell.variant) for cell in cells]
    known = list(dict.fromkeys(cell.variant for cell in cells))
    for name in (first, second):
        if name not in known:
            raise CdnerError(f"there is no {by} {name!r} here.{nearest(name, known)} There are: {', '.join(known)}.")
    if first == second:
        raise CdnerError(f"{first} cannot be compared with itself: name two {by}s.")
    found: list[tuple[Row, Column, Estimate]] = []
    for rows, column in columns(cells, records, types=types):
        at = {row.variant: row for row in rows}
        estimate = column.pair(first, second) if {first, second} <= at.keys() else None
        if estimate is not None:
            found.append((at[first], column, estimate))
    if not found:
        raise CdnerError(
            f"{first} and {second} have no transfer in common on which both have numbers of {types} types, with the "
            "same seeds or draws and the counts of each sentence. `cdner status BOARD` says what is missing."
        )
    tested = [estimate for _, _, estimate in found if estimate.whole]
    corrected = iter(holm(p_values(tested)))
    lines = tuple(
        _line(row, column, (first, second), e, next(corrected) if e.whole else None, len(tested), by)
        for row, column, e in found
    )
    groups = grouped([item for item in found if item[2].whole], lambda item: _route(item[0]))
    most = max(groups, key=len, default=[])
    overall = None
    if len(most) > 1:
        each = [{u: a - b for u, (a, b) in column.by_unit(first, second).items()} for _, column, _ in most]
        overall = combined([e for _, _, e in most], each)
    return Comparison(first, second, lines, overall, tuple(row.target for row, _, _ in most))


def _route(row: Row) -> tuple[Hashable, ...]:
    return tuple(row.sources), row.regime, row.select, row.order, row.dev


def _line(
    row: Row, column: Column, pair: tuple[str, str], estimate: Estimate, corrected: float | None, tests: int, by: str
) -> Line:
    low, high = estimate.interval()
    both = list(column.by_unit(*pair).values())
    ones, others = zip(*both, strict=True)
    parts = "draws" if len(row.planned_draws) > 1 else "seeds"
    of_column = None
    if estimate.whole:
        told = standings(column).corrected
        of_column = (told.get(pair) or told[pair[1], pair[0]])[1]
    return Line(
        row.target if by == "variant" else f"{row.regime} on {row.target}",
        row.target,
        _transfer(row),
        sum(ones) / len(both),
        sum(others) / len(both),
        estimate.value,
        low,
        high,
        estimate.units,
        len({*column.at[pair[0]]} ^ {*column.at[pair[1]]}),
        f"{parts} and sentences" if estimate.whole else "sentences only",
        estimate.p if estimate.whole else None,
        corrected,
        of_column,
        estimate.detectable(LEVEL / tests) if estimate.whole else None,
    )


def _transfer(row: Row) -> str:
    route = f"{'+'.join(row.sources)} → {row.target}" if row.sources else f"{row.target} alone"
    return ", ".join([route, row.regime, *[row.order] * (row.order != "sequence"), row.select])


def words(found: Comparison) -> str:
    """Return two lines: who is ahead where, and whether that is more than noise."""
    one, other = found.first, found.second
    ahead = [line for line in found.lines if line.difference > 0]
    behind = [line for line in found.lines if line.difference < 0]
    level = len(found.lines) - len(ahead) - len(behind)
    total = len(found.lines)
    parts = [f"{one} is ahead of {other} on {len(ahead)} of {total}{_told(ahead)}"]
    if behind:
        parts.append(f"behind on {len(behind)}{_told(behind)}")
    if level:
        parts.append(f"level on {level}")
    return f"{', '.join(parts)}.\n{_verdict(found)}"


def _told(lines: Sequence[Line]) -> str:
    most = sorted(lines, key=lambda line: -abs(line.difference))
    shown = ", ".join(f"{line.name} {line.difference:+.2f}" for line in most[:4])
    return f" ({shown}{', …' if len(most) > 4 else ''})" if lines else ""


def _verdict(found: Comparison) -> str:
    """Return whether the differences are more than noise, in one line."""
    tested = [line for line in found.lines if line.p is not None]
    if not tested:
        return (
            "Whether that is more than noise cannot be told: it takes three seeds (or draws) that both have, and the "
            "intervals here are of the sentences only."
        )
    sure = [line for line in tested if line.sure]
    parts = []
    if sure:
        shown = ", ".join(f"{x.name} {x.difference:+.2f} (p = {x.corrected:.2g})" for x in sure)
        parts.append(f"More than noise: {shown}.")
    rest = [line for line in tested if not line.sure]
    if rest:
        low, high = (f(line.detectable or 0.0 for line in rest) for f in (min, max))
        span = f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f}"
        where = ", ".join(line.name for line in rest)
        parts.append(
            f"{'Not told from' if sure else 'On no target alone more than'} noise: {where}; four times of five, a true "
            f"difference of {span} would have been found."
        )
    untested = len(found.lines) - len(tested)
    if untested:
        parts.append(f"Not tested, with fewer than three seeds: {untested}.")
    if found.overall is not None:
        low, high = found.overall.interval()
        kind = "more than noise" if found.overall.p < LEVEL else "no more than noise"
        parts.append(
            f"Mean over {', '.join(found.targets)}: {found.overall.value:+.2f} ({low:+.2f} to {high:+.2f}), {kind}."
        )
    return " ".join(parts)


def render(found: Comparison, format: str, width: int = 80) -> str:
    """Return a comparison as text in one of FORMATS; `width` is the terminal's."""
    if format == "json":
        overall = None
        if found.overall is not None:
            low, high = found.overall.interval()
            overall = {"difference": found.overall.value, "low": low, "high": high, "p": found.overall.p}
        told = {"first": found.first, "second": found.second, "lines": [asdict(x) for x in found.lines]}
        return json.dumps({**told, "overall": overall}, indent=1, ensure_ascii=False) + "\n"
    if format == "csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, list(asdict(found.lines[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(line) for line in found.lines)
        return out.getvalue()
    tested = any(line.p is not None for line in found.lines)
    heads = ["transfer", found.first, found.second, "difference", "95% interval"]
    heads += ["p", "Holm", "all pairs", "detectable"] if tested else []
    body = [[Entry(cell) for cell in _cells(line)[: len(heads)]] for line in found.lines]
    notes = []
    if any(line.p is None for line in found.lines):
        notes.append(("(s)", "of the sentences only: fewer than three seeds or draws that both have"))
    if any(line.left_out for line in found.lines):
        notes.append(("(c)", "over the seeds or draws that both have alone; a table has the means over all"))
    if tested:
        notes += [
            ("95% interval", "of this difference alone; p is its own, too, and the two behind it are corrected"),
            ("Holm", "p corrected for these transfers: for two variants that were chosen before the table was seen"),
            ("all pairs", "p corrected for all pairs of the column, as in a table: for any two that stand out there"),
            ("detectable", "the smallest true difference that is found with 80% probability, after Holm's correction"),
        ]
    title = f"{found.first} less {found.second}: strict F1 over the same sentences"
    grid = Table(title, [Entry(head) for head in heads], body, notes, "", [])
    first, second = words(found).split("\n")
    if format == "markdown":
        return f"{first}\n\n{second}\n\n{rendering.render([grid], format)}"
    filled = "\n\n".join(textwrap.fill(text, width) for text in (first, second))
    return f"{filled}\n\n{rendering.render([grid], format, width=width).rstrip()}\n"


def _cells(line: Line) -> list[str]:
    """Return what stands in a line of the terminal's table."""
    return [
        f"{line.transfer}{' (c)' if line.left_out else ''}",
        f"{line.first:.2f}",
        f"{line.second:.2f}",
        f"{line.difference:+.2f}",
        f"{line.low:+.2f} to {line.high:+.2f}{'' if line.p is not None else ' (s)'}",
        *("–" if p is None else f"{p:.2g}" for p in (line.p, line.corrected, line.of_column)),
        "–" if line.detectable is None else f"{line.detectable:.1f}",
    ]


# ---- average ranks


def rank(rows: Sequence[Row]) -> Ranks:
    """Return the average ranks of the variants that have three seeds or draws on every target of these rows.

    Raises CdnerError where fewer than two variants or two targets are left.
    """
    found = average_ranks([row for row in rows if row.f1 is not None])
    if found is None:
        raise CdnerError(
            "average ranks want two variants that have three seeds (or draws) on each of two targets at least; name "
            "other targets (--target) or other variants (--variant)."
        )
    return found


def told(found: Ranks, layout: str = "simple") -> str:
    """Return average ranks as a table, and what they are worth."""
    body = [[name, f"{mean:.2f}"] for name, mean in sorted(found.average.items(), key=lambda item: item[1])]
    heads = ["variant", "average rank"]
    grid = tabulate(body, heads, tablefmt=layout, disable_numparse=True, colalign=("left", "right"))
    return f"{grid}\n\n{ranked_how(found)}"


def draw(found: Ranks, title: str, path: Path) -> None:
    """Draw the critical-difference diagram: a bar joins variants whose ranks are less than it apart.

    Raises CdnerError for a name of no known kind, or where scikit-posthocs is not installed.
    """
    if path.suffix not in figures.FILES:
        raise CdnerError(f"{path}: a figure is one of {', '.join(figures.FILES)}, by the end of its name.")
    figure = figures.new(6.4, 1.2 + 0.22 * len(found.average))
    try:
        import pandas as pd
        from scikit_posthocs import critical_difference_diagram
    except ImportError:
        raise CdnerError(
            "critical-difference diagrams need the package scikit-posthocs, which is not installed: pip install "
            "'cdner[figures]'."
        ) from None
    names = list(found.average)
    alike = [[1.0 if abs(found.average[a] - found.average[b]) < found.critical else 0.0 for b in names] for a in names]
    axes = figure.subplots()
    critical_difference_diagram(
        pd.Series(found.average),
        pd.DataFrame(alike, index=names, columns=names),
        ax=axes,
        label_fmt_left="{label} ({rank:.2f})  ",
        label_fmt_right="  ({rank:.2f}) {label}",
        color_palette=dict.fromkeys(names, "black"),
        label_props={"size": 9},
        marker_props={"s": 12},
        elbow_props={"linewidth": 0.8},
        crossbar_props={"linewidth": 2.5, "marker": ""},
        text_h_margin=0.01,
    )
    axes.set_title(f"{title}\naverage rank; critical difference {found.critical:.2f}", fontsize=9)
    figures.save(figure, path)
