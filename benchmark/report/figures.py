"""Figures: PNG, SVG or PDF, by the name of the file. matplotlib is imported when one is drawn."""

from pathlib import Path
from typing import Any

from benchmark.errors import CdnerError

FILES = (".png", ".svg", ".pdf")


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
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)
