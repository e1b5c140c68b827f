"""Information density of several texts: a table, the figures of TOPT's section 4.4 and appendix E, and every unit."""

import csv
import io
import math
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from benchmark.errors import CdnerError, DataError
from benchmark.files import check_target, write_whole
from benchmark.report import figures
from benchmark.score.density import Array, Density

KINDS = (".csv", *figures.FILES)
DRAWN = 5000  # units of a text in a scatter, at most
ROWS = 100_000  # units that are turned into lines of CSV at once
COLUMNS = 5  # panels beside each other, at most
LETTERS = 24  # of a text's name in a figure, at most
HATCHES = ("", "////", "....", "xxxx", "++++")  # of boxes: no two of the first 40 look the same
TOKENS = {"blanks": "tokens between blanks", "words": "words and marks as tokens"}


def settings(tokens: str, unit: str, *, lower: bool = False, smoothing: float = 0.0, start: bool = False) -> str:
    """Return how texts are counted, in words.

    >>> settings("blanks", "line")
    'tokens between blanks · no smoothing · no start sign · a unit a line'
    """
    told = [
        f"{TOKENS[tokens]}{', lower-cased' * lower}",
        f"add-{smoothing:g} smoothing" if smoothing else "no smoothing",
        f"{'a' if start else 'no'} start sign",
        f"a unit a {unit}",
    ]
    return " · ".join(told)


def check(targets: Iterable[Path], texts: Collection[str]) -> None:
    """Raise CdnerError where there is no text, or where what is measured could not be written."""
    if not texts:
        raise CdnerError("density is of texts: name a file or a corpus, or a cell (--cell CELL).")
    targets = list(targets)
    for number, path in enumerate(targets):
        if path.suffix not in KINDS:
            raise CdnerError(f"{path}: expected a name that ends in {', '.join(KINDS)}.")
        check_target(path)
        if path.resolve() in [other.resolve() for other in targets[:number]]:
            raise CdnerError(f"{path}: this is named twice to write to. Name every file once.")
        if any(path.exists() and Path(name).exists() and path.samefile(name) for name in texts):
            raise CdnerError(f"{path}: this is a text that is measured. Name another file to write to.")
        if path.suffix in figures.FILES:
            figures.new(1, 1)  # says where matplotlib is not installed


def labels(texts: Iterable[str], files: Collection[str]) -> dict[str, str]:
    """Return what each text is called in tables: a file by its name without folders, where no other is called so."""
    short = {name: Path(name).name if name in files else name for name in texts}
    called = list(short.values())
    return {name: label if called.count(label) == 1 else name for name, label in short.items()}


def some(name: str, found: Density) -> Density:
    """Return what was measured. Raises DataError where there was no token."""
    if not found.tokens:
        raise DataError(f"{name}: there is no token in it, expected text, a unit a line. Name another text.")
    return found


def table(found: Mapping[str, Density], settings: str) -> str:
    """Return the figures of each text, under a line that says how they were counted."""
    rows = [
        [name, d.units, d.tokens, d.vocabulary, d.pairs, *(_mean(x) for x in (d.lengths, d.mean)), d.variance,
         _mean(d.entropy)]
        for name, d in found.items()
    ]  # fmt: skip
    heads = ["text", "units", "tokens", "vocabulary", "pairs", "tokens a unit", "UID", "variance", "entropy"]
    body = tabulate(rows, heads, tablefmt="simple", floatfmt=("", "", "", "", "", ".1f", ".3f", ".4f", ".4f"))
    return (
        f"{settings}\n\n{body}\n\n"
        "UID: bits of a bigram, the mean over units of each unit's mean; variance: of the units' means\n"
        "entropy: joint, in bits, the mean over units"
    )


def _mean(values: Array) -> float | None:
    return float(values.mean()) if len(values) else None


def write(found: Mapping[str, Density], settings: str, path: Path) -> None:
    """Write every unit as CSV, or draw. Raises CdnerError for a name of no known kind."""
    if path.suffix not in KINDS:
        raise CdnerError(f"{path}: expected a name that ends in {', '.join(KINDS)}.")
    if path.suffix == ".csv":
        write_whole(path, units(found))
    else:
        draw(found, settings, path)


def units(found: Mapping[str, Density]) -> str:
    """Return every unit that has a bigram, a line each."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["text", "tokens", "bigrams", "surprisal", "uid", "entropy"])
    for name, d in found.items():
        columns = (d.lengths, d.bigrams, d.surprisal, d.mean, d.entropy)
        for begin in range(0, len(d.lengths), ROWS):
            rows = (column[begin : begin + ROWS].tolist() for column in columns)
            for length, bigrams, *bits in zip(*rows, strict=True):
                writer.writerow([name, length, bigrams, *(f"{value:.6g}" for value in bits)])
    return out.getvalue()


def draw(found: Mapping[str, Density], settings: str, path: Path) -> None:
    """Draw each unit's UID over its length, a panel a text, and below the distributions of UID and of joint entropy.

    A text without a bigram is named and not drawn. Raises CdnerError where no text has one.
    """
    shown = [d for d in found.values() if len(d.lengths)]
    if not shown:
        raise CdnerError(f"{path}: there is nothing to draw, since no text has a unit of two tokens. Leave --out away.")
    names = dict(zip(found, short(list(found), LETTERS), strict=True))
    drawn = [names[name] for name, d in found.items() if len(d.lengths)]
    empty = [names[name] for name, d in found.items() if not len(d.lengths)]
    rows = math.ceil(len(shown) / COLUMNS)
    columns = math.ceil(len(shown) / rows)
    width = max(6.4, 2.1 * columns, 0.5 * len(shown))
    slanted = sum(map(len, drawn)) * 0.08 > 0.4 * width
    heights = [(2.6 if columns < 3 else 1.9) * rows, 2.6 + slanted * 0.05 * max(map(len, drawn))]
    figure = figures.new(width, 0.4 + sum(heights))
    upper, lower = figure.subfigures(2, 1, height_ratios=heights)
    some = _scatter(upper, shown, drawn, rows, columns)
    _boxes(lower, shown, drawn, slanted=slanted)
    told = [settings, "outliers of boxes not drawn"]
    told += [f"{DRAWN:,} units a text drawn, at random"] * some
    told += [f"not drawn, without a unit of two tokens: {', '.join(empty)}"] * bool(empty)
    figure.suptitle(textwrap.fill(" · ".join(told), int(width * 15.5)), fontsize=9, parse_math=False)
    figures.save(figure, path)


def _scatter(figure: Any, shown: Sequence[Density], names: Sequence[str], rows: int, columns: int) -> bool:
    """Draw a panel a text, and return whether units are left out of one."""
    dice = np.random.default_rng(0)
    some = False
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for number, (own, d, name) in enumerate(zip(axes, shown, names, strict=False)):
        units = np.arange(len(d.lengths))
        if len(units) > DRAWN:
            some, units = True, np.sort(dice.choice(units, DRAWN, replace=False))
        look = figures.look(number)
        own.scatter(
            d.lengths[units], d.mean[units], s=6, alpha=0.5, color=look["color"], marker=look["marker"],
            edgecolors="black", linewidths=0.15, rasterized=True,
        )  # fmt: skip
        own.set_title(f"{name}\nvariance {d.variance:.3f}", fontsize=8, parse_math=False)
        _dress(own)
        own.grid(alpha=0.3, linewidth=0.6)
    logarithmic = max(d.lengths.max() for d in shown) > 20 * max(np.median(d.lengths) for d in shown)
    if logarithmic:  # a few long units would press all others to the left
        axes[0].set_xscale("log")
        axes[0].xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    for number, spare in enumerate(axes[len(shown) :], start=len(shown)):
        spare.remove()
        axes[number - columns].tick_params(labelbottom=True)
    figure.supxlabel(f"length (tokens{', logarithmic' * bool(logarithmic)})", fontsize=8)
    figure.supylabel("UID (bits a bigram)", fontsize=8)
    return some


def _boxes(figure: Any, shown: Sequence[Density], names: Sequence[str], *, slanted: bool) -> None:
    """Draw a box a text of its units' UID, and one of their joint entropy."""
    bits = {"UID (bits a bigram)": [d.mean for d in shown], "joint entropy (bits)": [d.entropy for d in shown]}
    for own, (title, values) in zip(figure.subplots(1, 2), bits.items(), strict=True):
        boxes = own.boxplot(
            values, tick_labels=names, showfliers=False, patch_artist=True, widths=0.6 if len(names) > 2 else 0.3,
            medianprops={"color": "black"},
        )  # fmt: skip
        for number, box in enumerate(boxes["boxes"]):
            box.set(facecolor=figures.look(number)["color"], alpha=0.6)
            box.set_hatch(HATCHES[number // len(figures.COLOURS) % len(HATCHES)])
        for label in own.get_xticklabels():
            label.set_parse_math(False)
            if slanted:
                label.set(rotation=45, ha="right", rotation_mode="anchor")
        own.set_title(title, fontsize=9)
        _dress(own)
        own.grid(axis="y", alpha=0.3, linewidth=0.6)


def _dress(axes: Any) -> None:
    """Make axes look like those of all figures."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def short(names: Sequence[str], letters: int) -> list[str]:
    """Return names of so many letters at most, all different: without the parts that all have in common, or cut.

    >>> short(["topt/news--ai/supervised/seed1", "topt-50/news--ai/supervised/seed1", "wiki.txt"], 24)
    ['topt', 'topt-50', 'wiki.txt']
    >>> short(["a-very-long-name.txt", "a-very-wrong-name.txt"], 9)
    ['1 a-v…txt', '2 a-v…txt']
    """
    parts = [name.split("/") for name in names]
    found = []
    for own in parts:
        alike = [other for other in parts if len(other) == len(own)]
        kept = [part for n, part in enumerate(own) if len({other[n] for other in alike}) > 1]
        found.append("/".join(kept or own))
    cuts = [_cut(name, letters) for name in found]
    room = letters - len(f"{len(cuts)} ")
    return [
        f"{n} {_cut(name, room)}" if cuts.count(cut) > 1 else cut
        for n, (name, cut) in enumerate(zip(found, cuts, strict=True), start=1)
    ]


def _cut(name: str, letters: int) -> str:
    if len(name) <= letters:
        return name
    behind = letters // 2
    return f"{name[: letters - behind - 1]}…{name[-behind:]}"
