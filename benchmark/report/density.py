"""Information density of several texts: a table, the figures of TOPT's section 4.4 and appendix E, and every unit."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tabulate import tabulate

from benchmark.errors import CdnerError
from benchmark.files import write_whole
from benchmark.report import figures
from benchmark.report.figures import COLOURS
from benchmark.score.density import Array, Density

KINDS = (".csv", *figures.FILES)
DRAWN = 5000  # units of a text in a scatter, at most


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
        for length, bigrams, *bits in zip(*(column.tolist() for column in columns), strict=True):
            writer.writerow([name, length, bigrams, *(f"{value:.6g}" for value in bits)])
    return out.getvalue()


def draw(found: Mapping[str, Density], settings: str, path: Path) -> None:
    """Draw each unit's UID over its length, and the distributions of UID and of joint entropy."""
    figure = figures.new(10.5, 3.6)
    scatter, uid, entropy = figure.subplots(1, 3, width_ratios=[2, 1, 1])
    dice = np.random.default_rng(0)
    some = False
    for number, (name, d) in enumerate(found.items()):
        shown = np.arange(len(d.lengths))
        if len(shown) > DRAWN:
            some, shown = True, np.sort(dice.choice(shown, DRAWN, replace=False))
        colour = COLOURS[number % len(COLOURS)]
        scatter.scatter(d.lengths[shown], d.mean[shown], s=5, alpha=0.5, color=colour, linewidths=0, label=name)
    for axes, values in ((uid, [d.mean for d in found.values()]), (entropy, [d.entropy for d in found.values()])):
        boxes = axes.boxplot(
            values, tick_labels=list(found), showfliers=False, patch_artist=True, medianprops={"color": "black"}
        )
        for number, box in enumerate(boxes["boxes"]):
            box.set_facecolor(COLOURS[number % len(COLOURS)])
            box.set_alpha(0.6)
        axes.tick_params(axis="x", rotation=60)
        axes.grid(axis="y", alpha=0.3)
    drawn = f", {DRAWN} units of a text drawn" if some else ""
    scatter.set(xlabel=f"length (tokens){drawn}", ylabel="UID (bits a bigram)")
    scatter.grid(alpha=0.3)
    scatter.legend(fontsize="small", frameon=False, markerscale=2.5)
    uid.set_title("UID", fontsize=10)
    entropy.set_title("joint entropy (bits)", fontsize=10)
    figure.suptitle(settings, fontsize=9)
    figures.save(figure, path)
