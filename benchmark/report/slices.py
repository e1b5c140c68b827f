"""Where variants differ: slices of a board's mentions, confusions, amounts of gold and costs, from records alone.

find     cells, records -> rows    what `--by` asks for; says what to do where the records do not tell
write    rows -> a file            .md, .tex, .csv, .json, or a figure, .png, .svg, .pdf

A figure has a panel for each table, and a colour and a marker for each variant; variants that predict the same are one.
"""

import math
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from benchmark.errors import CdnerError
from benchmark.files import write_whole
from benchmark.report import figures
from benchmark.report.layout import SELECTED, SLICED, bucket_name
from benchmark.report.reading import Record
from benchmark.report.render import render
from benchmark.report.rows import (
    AVERAGE,
    MISSED,
    SLICES,
    SPURIOUS,
    Cell,
    ConfusionRow,
    CostRow,
    SliceRow,
    amount_rows,
    confusion_rows,
    cost_rows,
    grouped,
    rows,
    slice_rows,
)
from benchmark.score.slices import DIMENSIONS

AnySlice = SliceRow | CostRow | ConfusionRow

BY = (*SLICES, "confusion", "amount", "cost")
TEXTS = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json"}
KINDS = (*TEXTS, *figures.FILES)
PANELS = 12  # at most in a figure
TALLEST, WIDEST = 10.0, 14.0  # inches that the panels of a figure take where they can be arranged so


def find(
    board: str,
    cells: Iterable[Cell],
    records: Iterable[Record],
    *,
    by: str | None = None,
    types: str = "fine",
    targets: Sequence[str] = (),
    variants: Sequence[str] = ("*",),
    regimes: Sequence[str] = ("*",),
) -> Sequence[AnySlice]:
    """Return the rows that `by` asks for; None: an overview.

    targets             those alone; none: all
    variants, regimes   what one of these, with wildcards, fits
    Raises CdnerError, which says what to do, where there is not one number.
    """
    every, records = list(cells), list(records)
    chosen = [
        cell for cell in every
        if (not targets or cell.target in targets)
        and any(fnmatch(cell.variant, glob) for glob in variants)
        and any(fnmatch(cell.regime, glob) for glob in regimes)
    ]  # fmt: skip
    lost = [f"--target {name}" for name in targets if all(name != cell.target for cell in every)]
    lost += [f"--variant {glob}" for glob in variants if not any(fnmatch(cell.variant, glob) for cell in every)]
    lost += [f"--regime {glob}" for glob in regimes if not any(fnmatch(cell.regime, glob) for cell in every)]
    if lost or not chosen:
        known = ", ".join(dict.fromkeys(f"{cell.target} ({cell.regime})" for cell in every))
        asked = {"target": targets or ["*"], "variant": variants, "regime": regimes}
        unfit = " ".join(lost or [f"--{option} {name}" for option, names in asked.items() for name in names])
        raise CdnerError(
            f"{board}: no cell fits {unfit}. There are the variants "
            f"{', '.join(dict.fromkeys(cell.variant for cell in every))} and the targets {known}."
        )
    found: Sequence[AnySlice]
    if by == "confusion":
        found = confusion_rows(chosen, records, types=types)
        told = any(row.count is not None for row in found)
    elif by == "cost":
        found = cost_rows(chosen, records, types=types)
        told = any(row.f1 is not None and row.seconds is not None for row in found)
    elif by == "amount":
        found = amount_rows(rows(chosen, records, types=types))
        if not found:
            raise CdnerError(
                f"{board}: no regime has an amount of target gold. `--by amount` needs transfers of the regimes "
                "fraction, sentences or shots."
            )
        told = any(row.f1 is not None for row in found)
    else:
        found = slice_rows(chosen, records, by=by or "overview", types=types)
        told = any(row.f1 is not None for row in found)
    if not told:
        raise CdnerError(f"{board}: {untold(board, chosen, records, by, types)}")
    return found


def untold(board: str, cells: Sequence[Cell], records: Iterable[Record], by: str | None, types: str) -> str:
    """Return why there is not one number, and what to do."""
    names = {cell.name for cell in cells}
    good = [record for record in records if record["cell"] in names and record["status"] == "ok"]
    if not good:
        return f"there is no good record of what was asked for. Run it first: cdner run {board}."
    if types == "fine" and all(record.get("level") == "general" for record in good):
        return "its methods predict general types alone: say --types general."
    if (by == "confusion" or by in DIMENSIONS) and not any(record.get("slices") for record in good):
        return (
            f"its records were written before slices were counted, so there is none by {by}. Run it once more where "
            f"its corpora are: cdner run {board} --data DIR (or CDNER_DATA). The stored predictions are scored again, "
            "and nothing is trained."
        )
    return f"its records have no number by {by or 'overview'} at the level of {types} types."


# ------------------------------------------------------------------------------------------------------------- files


def check(path: Path) -> None:
    """Raise CdnerError for a name of no known kind."""
    if path.suffix not in KINDS:
        raise CdnerError(f"{path}: expected a name that ends in {', '.join(KINDS)}.")


def write(found: Sequence[AnySlice], title: str, path: Path) -> None:
    """Write rows as a table or as data, or draw them. Raises CdnerError for a name of no known kind."""
    check(path)
    if path.suffix in TEXTS:
        write_whole(path, render(found, TEXTS[path.suffix]))
    else:
        draw(found, title, path)


def draw(found: Sequence[AnySlice], title: str, path: Path) -> None:
    """Draw rows into a file. Raises CdnerError where they would be too many panels to be read."""
    first = found[0]
    told: list[Any] = [row for row in found if (row.count if isinstance(row, ConfusionRow) else row.f1) is not None]
    told = [row for row in told if not isinstance(row, CostRow) or row.seconds is not None]
    names = _named(told)
    told = [row for row in told if row.variant in names]
    panels = grouped(told, lambda row: (*_place(row), row.variant if isinstance(row, ConfusionRow) else ""))
    if len(panels) > PANELS:
        raise CdnerError(
            f"{path}: {len(panels)} panels are too many for a figure, which has {PANELS} at most: say --target, "
            "--variant or --regime."
        )
    looks = {name: figures.look(n) for n, name in enumerate(names)}
    title = ", ".join([title, *_alike([panel[0] for panel in panels])])
    if isinstance(first, ConfusionRow):
        figure = _draw_confusions(panels, names)
    elif isinstance(first, CostRow):
        figure = _draw_costs(panels, looks)
    elif first.by == "amount":
        figure = _draw_amounts(panels, looks)
    elif first.by == "type":
        figure = _draw_types(panels, looks)
    else:
        figure = _draw_buckets(panels, looks)
    title = _wrapped(title, figure.get_figwidth())
    if isinstance(first, ConfusionRow):
        figure.suptitle(title, fontsize=9)
    else:
        joined = isinstance(first, SliceRow) and (first.by == "amount" or first.by.endswith("length"))
        _legend(figure, title, {names[name]: look for name, look in looks.items()}, joined=joined)
    figures.save(figure, path)


# ----------------------------------------------------------------------------------------------------------- drawing


def _named(told: Sequence[Any]) -> dict[str, str]:
    """Return the variants that are drawn -> their names, with those that are the same wherever they are.

    Two are the same where every number of one is the other's: what one stage predicts has one point.
    """
    numbers: dict[str, dict[tuple[Any, ...], dict[Any, Any]]] = {}
    for row in told:
        at: Any
        number: tuple[Any, ...]
        if isinstance(row, ConfusionRow):
            at, number = (row.gold, row.predicted), (row.count,)
        elif isinstance(row, CostRow):
            at, number = None, (row.seconds, row.f1, row.std)
        else:
            at, number = row.bucket, (row.gold, row.f1, row.std, row.precision, row.recall)
        numbers.setdefault(row.variant, {}).setdefault(_place(row), {})[at] = number
    equal: dict[str, list[str]] = {}
    for name in sorted(numbers, key=lambda n: -len(numbers[n])):  # whoever has the most panels first
        first = next((f for f in equal if all(numbers[f].get(p) == found for p, found in numbers[name].items())), name)
        equal.setdefault(first, []).append(name)
    found = {}
    for name in (name for name in numbers if name in equal):
        others = equal[name][1:]
        everywhere = all(len(numbers[other]) == len(numbers[name]) for other in others)
        more = f" (= {', '.join(others)}{'' if everywhere else ', where run'})" if others else ""
        found[name] = name + more
    return found


def _place(row: Any) -> tuple[Any, ...]:
    """Return what panels of one variant, or of all, differ in: target, sources, regime, and how it is learned."""
    return row.target, "+".join(row.sources), row.regime, row.select, row.order, row.dev


def _alike(firsts: Sequence[Any]) -> list[str]:
    """Return what all panels have in common beside the target."""
    _, *places = zip(*map(_place, firsts), strict=True)
    sources, regime, select = places[:3]
    found = [f"from {sources[0]}"] if len(set(sources)) == 1 and sources[0] else []
    found += [regime[0]] if len(set(regime)) == 1 else []
    return found + ([SELECTED.get(select[0], f"selected on {select[0]}")] if len(set(select)) == 1 else [])


def _headings(panels: Sequence[Sequence[Any]], width: float) -> list[str]:
    """Return the target of each panel and, where several have it, what tells them apart."""
    found = []
    for panel in panels:
        row = panel[0]
        twins = [_place(other[0]) for other in panels if other[0].target == row.target]
        differ = [n for n, column in enumerate(zip(*twins, strict=True)) if len(set(column)) > 1]
        more = [f"{'from ' * (n == 1)}{_short(str(_place(row)[n]))}" for n in differ if _place(row)[n]]
        if row.target == AVERAGE:
            more = ["all targets", *more]
        found.append(_wrapped(": ".join([row.target, ", ".join(more)] if more else [row.target]), width))
    return found


def _short(sources: str) -> str:
    """Return sources as a heading has room for: the other targets of a plan are not named.

    >>> _short("conll2003+others of ai, politics, science")
    'conll2003 + others'
    """
    return re.sub(r"\bothers of [^+]*", "others", sources).replace("+", " + ")


def _wrapped(text: str, width: float) -> str:
    """Return a text of size 9 on lines that fit so many inches."""
    return textwrap.fill(text, max(12, int(width * 13)))


def _grid(panels: Sequence[Any], width: float, height: float, most: int, across: str) -> tuple[Any, list[Any]]:
    """Return a figure and its panels, each of a width and a height in inches, with their headings and labels."""
    columns = min(len(panels), most)
    lines = math.ceil(len(panels) / columns)
    figure = figures.new(max(3.4, 0.3 + width * columns), 0.8 + height * lines)
    axes = figure.subplots(lines, columns, squeeze=False).flatten().tolist()
    for spare in axes[len(panels) :]:
        spare.remove()
    axes = axes[: len(panels)]
    _dress(axes, panels, width)
    for own in axes[-columns:]:
        own.set_xlabel(_wrapped(across, width), fontsize=8)
    return figure, axes


def _dress(axes: Sequence[Any], panels: Sequence[Any], width: float) -> None:
    """Give panels their headings, and what all of them look like."""
    for own, heading in zip(axes, _headings(panels, width), strict=True):
        own.spines[["top", "right"]].set_visible(False)
        own.grid(alpha=0.3, linewidth=0.6)
        own.set_axisbelow(True)
        own.tick_params(labelsize=8)
        own.set_title(heading, fontsize=9)


def _stacked(panels: Sequence[Any], width: float, heights: Sequence[float], across: str) -> tuple[Any, list[Any]]:
    """Return a figure and its panels, in columns of about equal height, each panel of a height in inches of its own."""
    widest = min(len(panels), int(WIDEST / width))
    options = [_columns(heights, n) for n in range(1, widest + 1)]
    columns = next((c for c in options if _tallest(c) <= TALLEST), options[-1])
    tall = _tallest(columns)
    figure = figures.new(max(3.4, 0.3 + width * len(columns)), 0.9 + tall)
    axes: list[Any] = []
    for part, stack in zip(figure.add_gridspec(1, len(columns)), columns, strict=True):
        rest = tall - sum(stack)
        grid = part.subgridspec(len(stack) + (rest > 0.01), 1, height_ratios=[*stack, rest] if rest > 0.01 else stack)
        axes += [figure.add_subplot(grid[n, 0]) for n in range(len(stack))]
        axes[-1].set_xlabel(_wrapped(across, width), fontsize=8)
    _dress(axes, panels, 0.65 * width)  # the names of types take the rest
    return figure, axes


def _columns(heights: Sequence[float], n: int) -> list[list[float]]:
    """Return heights in n columns, in their order, the tallest as low as can be.

    >>> _columns([3, 1, 1, 2], 2)
    [[3], [1, 1, 2]]
    """
    cuts = ([0, *inner, len(heights)] for inner in combinations(range(1, len(heights)), n - 1))
    options = ([list(heights[a:b]) for a, b in pairwise(bounds)] for bounds in cuts)
    return min(options, key=_tallest)


def _tallest(columns: Sequence[Sequence[float]]) -> float:
    return max(map(sum, columns))


def _legend(figure: Any, title: str, looks: Mapping[str, Any], *, joined: bool) -> None:
    """Put a title and the variants above the panels, in room of their own, with their lines where points are joined."""
    from matplotlib.lines import Line2D

    plain = {"markeredgecolor": "black", "markeredgewidth": 0.5, "markersize": 5, "linewidth": 1.2}
    lines = {} if joined else {"linestyle": "none"}
    handles = [Line2D([], [], label=name, **{**plain, **look, **lines}) for name, look in looks.items()]
    columns = int(figure.get_figwidth() / (0.55 + 0.075 * max(map(len, looks))))
    columns = max(1, min(len(looks), columns))
    tall = 0.17 * math.ceil(len(looks) / columns)
    figure.set_figheight(figure.get_figheight() + tall + 0.16 * title.count("\n"))
    figure.legend(
        handles=handles, loc="outside upper center", ncols=columns, fontsize=8, frameon=False, title=title,
        title_fontsize=9,
    )  # fmt: skip


def _points(axes: Any, across: Sequence[float], up: Sequence[float], look: Mapping[str, Any], **more: Any) -> None:
    """Draw the points of a variant, with their deviations where there are any."""
    style: dict[str, Any] = {
        "markersize": 5, "markeredgecolor": "black", "markeredgewidth": 0.5, "elinewidth": 0.9, "linewidth": 1.2,
        "capsize": 2,
    }  # fmt: skip
    axes.errorbar(across, up, **{**style, **look, **more})


def _deviations(rows: Iterable[Any]) -> list[float]:
    return [math.nan if row.std is None else row.std for row in rows]


def _top(panels: Sequence[Sequence[Any]]) -> float:
    """Return where an axis of F1 ends: the same for all panels, above every point and its deviation."""
    highest = max((row.f1 or 0.0) + (row.std or 0.0) for panel in panels for row in panel)
    return min(101.5, max(10.0, 1.04 * highest))


def _shift(number: int, of: int) -> float:
    """Return how far the n-th of several variants stands beside the middle of a bucket, which is 1 wide."""
    return 0.7 * ((number + 0.5) / of - 0.5)


def _draw_buckets(panels: list[list[SliceRow]], looks: Mapping[str, Any]) -> Any:
    """Draw F1 over buckets: those of a length are joined by lines, for they have an order."""
    by = panels[0][0].by
    most = max(len({row.bucket for row in panel}) for panel in panels)
    width = max(2.1, 0.5 + most * max(0.5, 0.075 * len(looks)))
    columns = max(1, min(4, int(10.5 / width)))
    if 2.4 * math.ceil(len(panels) / columns) > TALLEST:
        columns = max(columns, int(WIDEST / width))
    height = max(1.6, min(2.4, TALLEST / math.ceil(len(panels) / columns)))
    figure, axes = _grid(panels, width, height, columns, SLICED[by][0] if by in SLICED else "")
    top = _top(panels)
    for own, panel in zip(axes, panels, strict=True):
        names = [name for name in dict.fromkeys(row.bucket for row in panel) if name is not None]
        gold = {row.bucket: row.gold for row in panel if row.gold is not None}
        variants = [name for name in looks if any(row.variant == name for row in panel)]
        for number, variant in enumerate(variants):
            line = [row for row in panel if row.variant == variant and row.bucket is not None]
            across = [names.index(row.bucket or "") + _shift(number, len(variants)) for row in line]
            style = {} if by.endswith("length") else {"linestyle": "none"}
            _points(own, across, [row.f1 or 0.0 for row in line], looks[variant], yerr=_deviations(line), **style)
        for n in range(1, len(names)):
            own.axvline(n - 0.5, color="0.85", linewidth=0.6, zorder=0)
        own.grid(False, axis="x")
        own.set_xticks(range(len(names)), [_tick(bucket_name(by, name), gold.get(name)) for name in names], fontsize=7)
        own.set(xlim=(-0.5, len(names) - 0.5), ylim=(0, top))
        own.set_ylabel("F1" if by in ("detection", "overview") else "strict F1", fontsize=8)
    return figure


def _tick(name: str, gold: float | None) -> str:
    """Return what stands beneath a bucket: its name, on short lines, and how many mentions it has.

    >>> _tick("this type only", 448.0)
    'this type\\nonly\\n(448)'
    """
    lines = textwrap.wrap(name, 10)
    return "\n".join(lines if gold is None else [*lines, f"({gold:.0f})"])


def _draw_types(panels: list[list[SliceRow]], looks: Mapping[str, Any]) -> Any:
    """Draw each type's F1, a line a type, the most frequent one at the top; a star is a type that is new."""
    starred = any(row.kind == "new" for panel in panels for row in panel)
    across = "strict F1" + " (*: new type)" * starred
    drawn = [[name for name in looks if any(row.variant == name for row in panel)] for panel in panels]
    sizes = [
        len({row.bucket for row in panel}) * max(0.2, 0.035 * len(own))
        for panel, own in zip(panels, drawn, strict=True)
    ]
    spare = [0.4 + 0.15 * (heading.count("\n") + 1) for heading in _headings(panels, 0.65 * 3.0)]
    figure, axes = _stacked(panels, 3.0, [a + b for a, b in zip(sizes, spare, strict=True)], across)
    top = _top(panels)
    for own, panel, variants in zip(axes, panels, drawn, strict=True):
        gold = {row.bucket: row.gold or 0.0 for row in panel}
        new = {row.bucket for row in panel if row.kind == "new"}
        names = sorted(gold, key=lambda name: -gold[name])
        for number, variant in enumerate(variants):
            line = [row for row in panel if row.variant == variant]
            up = [names.index(row.bucket) + _shift(number, len(variants)) for row in line]
            small = {"markersize": 4, "capsize": 1.5, "linestyle": "none"}
            _points(own, [row.f1 or 0.0 for row in line], up, looks[variant], xerr=_deviations(line), **small)
        for n in range(1, len(names)):
            own.axhline(n - 0.5, color="0.85", linewidth=0.6, zorder=0)
        own.grid(False, axis="y")
        own.set_yticks(range(len(names)), [f"{name}{'*' * (name in new)} ({gold[name]:.0f})" for name in names])
        own.set(xlim=(-0.02 * top, top), ylim=(len(names) - 0.5, -0.5))
    return figure


def _draw_amounts(panels: list[list[SliceRow]], looks: Mapping[str, Any]) -> Any:
    """Draw F1 over the amount of target gold; amounts that span a power of ten on a logarithmic axis."""
    figure, axes = _grid(panels, 3.2, 2.5, 3, "target train")
    for own, panel in zip(axes, panels, strict=True):
        amounts = sorted({float(row.bucket or 0) for row in panel})
        least = min((amount for amount in amounts if amount > 0), default=1.0)
        if amounts[-1] >= 10 * least:
            own.set_xscale("symlog", linthresh=least) if amounts[0] == 0 else own.set_xscale("log")
        for number, (variant, look) in enumerate(looks.items()):
            line = sorted((row for row in panel if row.variant == variant), key=lambda row: float(row.bucket or 0))
            if line:
                across = [
                    _beside(float(row.bucket or 0), _shift(number, len(looks)), least, amounts[-1]) for row in line
                ]
                _points(own, across, [row.f1 or 0.0 for row in line], look, yerr=_deviations(line))
        own.set_xticks(amounts, [bucket_name("amount", f"{a:g}", panel[0].regime) for a in amounts])
        own.minorticks_off()
        if len(amounts) == 1:
            own.set_xlim(0.9 * least, 1.1 * least)
        own.set_ylabel("strict F1", fontsize=8)
        if not panel[0].regime.startswith("fraction"):
            own.set_xlabel(f"target train ({panel[0].regime.partition('+')[0]})", fontsize=8)
    return figure


def _beside(amount: float, shift: float, least: float, most: float) -> float:
    """Return an amount moved a little aside, so that deviations of several variants do not hide each other."""
    if most < 10 * least:
        return amount + 0.03 * shift * most
    return amount * (most / least) ** (0.03 * shift) if amount > 0 else 0.1 * shift * least


def _draw_costs(panels: list[list[CostRow]], looks: Mapping[str, Any]) -> Any:
    """Draw F1 over cost, the front as steps: what is beneath them is beaten. Equal points lie in each other."""
    figure, axes = _grid(panels, 2.7, 2.5, 4, "seconds, as if run alone; large: front")
    for own, panel in zip(axes, panels, strict=True):
        seconds = [row.seconds or 0.0 for row in panel]
        least, most = min(seconds) / 1.5, max(seconds) * 1.5
        front = sorted((row.seconds or 0.0, row.f1 or 0.0) for row in panel if row.front)
        across, up = zip(*front, strict=True)
        own.step([*across, most], [*up, up[-1]], where="post", color="0.55", linewidth=1.0, zorder=1)
        equal: Counter[tuple[float | None, float | None]] = Counter()
        for row in panel:
            size = (8.0 if row.front else 5.5) * 0.6 ** equal[row.seconds, row.f1]
            equal[row.seconds, row.f1] += 1
            look = {**looks[row.variant], "linestyle": "none", "markersize": size, "zorder": 2 + equal.total()}
            _points(own, [row.seconds or 0.0], [row.f1 or 0.0], look, yerr=_deviations([row]))
        own.set_xscale("log")
        ticks = [a * 10**e for e in range(-2, 8) for a in (1, 2, 5) if least <= a * 10**e <= most]
        own.set_xticks(ticks, [f"{n / 1000:g}k" if n >= 1000 else f"{n:g}" for n in ticks], fontsize=7)
        own.minorticks_off()
        own.set_xlim(least, most)
        own.margins(y=0.1)
        own.set_ylabel("strict F1", fontsize=8)
    return figure


def _draw_confusions(panels: list[list[ConfusionRow]], names: Mapping[str, str]) -> Any:
    """Draw a matrix a panel, shaded by the share of a gold type's mentions."""
    most = max(len({row.gold for row in panel}) for panel in panels)
    side = 1.3 + 0.27 * most
    figure, axes = _grid(panels, side, side, max(1, min(3, int(14 / side))), "predicted")
    for own, panel in zip(axes, panels, strict=True):
        counts = {(row.gold, row.predicted): row.count or 0.0 for row in panel}
        types = [name for name in dict.fromkeys(row.gold for row in panel) if name != SPURIOUS]
        matrix = [[counts.get((g, p), 0.0) for p in (*types, MISSED)] for g in (*types, SPURIOUS)]
        shares = [[100 * n / (sum(row) or 1) for n in row] for row in matrix]
        figures.heat(own, shares, [[f"{n:.0f}" if n >= 0.5 else "" for n in row] for row in matrix], 6)
        own.grid(False)
        own.axhline(len(types) - 0.5, color="black", linewidth=0.8)
        own.axvline(len(types) - 0.5, color="black", linewidth=0.8)
        own.set_xticks(range(len(types) + 1), [*types, MISSED], rotation=90)
        own.set_yticks(range(len(types) + 1), [*types, SPURIOUS])
        own.set_ylabel("gold", fontsize=8)
        mean = f" (mean of {panel[0].cells})" if panel[0].cells > 1 else ""
        own.set_title(_wrapped(f"{names[panel[0].variant]}{mean}, {own.get_title()}", side), fontsize=9)
    return figure
