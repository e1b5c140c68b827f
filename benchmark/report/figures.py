"""Figures: PNG, SVG or PDF, by the name of the file. matplotlib is imported when one is drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.errors import CdnerError

FILES = (".png", ".svg", ".pdf")
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")  # Okabe and Ito's
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
STYLES = ("-", "--", "-.", ":")
LEGIBLE: Any = {"pdf.fonttype": 42, "svg.fonttype": "none"}  # text stays text: publishers refuse fonts of type 3


def new(width: float, height: float) -> Any:
    """Return an empty figure, its size in inches. Raises CdnerError where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CdnerError(
            "figures need the package matplotlib, which is not installed: pip install 'cdner[figures]'."
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, path: Path) -> None:
    """Write a figure, and the folder that it is in."""
    from matplotlib import rc_context

    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context(LEGIBLE):
        figure.savefig(path, dpi=200)


def look(number: int) -> dict[str, Any]:
    """Return colour, marker and line of the n-th of several things: no two of the first 72 have both in common."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": STYLES[number // len(COLOURS) % len(STYLES)],
    }


def heat(axes: Any, shares: Sequence[Sequence[float]], texts: Sequence[Sequence[str]], size: float) -> None:
    """Draw a matrix, shaded by shares in percent, with a text of some size in each box."""
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for y, row in enumerate(texts):
        for x, text in enumerate(row):
            colour = "white" if shares[y][x] > 60 else "black"
            axes.text(x, y, text, ha="center", va="center", fontsize=size, color=colour)
    axes.tick_params(length=0, labelsize=size + 1)
