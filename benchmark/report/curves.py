"""Learning curves: F1 over the share of added data (Gravil et al., figure 2), from records alone.

curves   rows -> Curve     one a variant and way of choosing, its points by share; share 0 is the transfer without any
draw     curves -> a file  PNG, SVG or PDF, by its name
table    curves -> text    the same numbers
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from benchmark.corpus.transfer import Auxiliary
from benchmark.errors import CdnerError
from benchmark.report import figures
from benchmark.report.rows import Row

STYLES = {"random": "-", "similar": "--", "dissimilar": ":"}
MARKERS = {"random": "o", "similar": "s", "dissimilar": "^"}


class Point(NamedTuple):
    """F1 at a share. `std` is the sample deviation over `cells` draws and seeds; None for one."""

    share: float
    f1: float
    std: float | None
    cells: int


@dataclass(frozen=True)
class Curve:
    """What a variant makes of more and more added data.

    route   regime and sources, where they are not what the other curves have
    """

    variant: str
    route: str
    choose: str
    points: tuple[Point, ...]

    @property
    def added(self) -> str:
        """What is added, and to what."""
        return ", ".join(filter(None, [self.route, self.choose]))

    @property
    def best(self) -> Point:
        """The point of the highest F1."""
        return max(self.points, key=lambda point: point.f1)


def curves(rows: Iterable[Row], target: str) -> list[Curve]:
    """Return the curves of a target, variant by variant. Raises CdnerError where there is none."""
    rows = [row for row in rows if row.target == target and row.f1 is not None]
    read = [(row, *Auxiliary.read(row.regime)) for row in rows]
    base = {_route(row, regime): row for row, regime, choose, _ in read if not choose}
    found: dict[tuple[Route, str], list[Point]] = {}
    for row, regime, choose, share in read:
        if choose:
            route = _route(row, regime)
            start = [_point(0.0, base[route])] if route in base else []
            found.setdefault((route, choose), start).append(_point(share, row))
    if not found:
        raise CdnerError(f"there is no number with added data on {target}: a curve needs cells with `auxiliary`.")
    several = len({route.sources for route, _ in found}) > 1
    return [
        Curve(route.variant, route.told(several), choose, tuple(sorted(points)))
        for (route, choose), points in found.items()
    ]


class Route(NamedTuple):
    """What the points of one curve have in common."""

    variant: str
    regime: str
    sources: tuple[str, ...]
    order: str

    def told(self, several: bool) -> str:
        """Return what tells this route from others of its variant: nothing, where it is the usual one."""
        return ", ".join(["+".join(self.sources)] * several + [self.regime] * (self.regime != "supervised"))


def _route(row: Row, regime: str) -> Route:
    return Route(row.variant, regime, tuple(row.sources), row.order)


def _point(share: float, row: Row) -> Point:
    assert row.f1 is not None
    return Point(share, row.f1, row.std, row.cells)


def table(found: Sequence[Curve]) -> str:
    """Return the curves as a table: a line a curve, a column a share, and the share of the highest F1."""
    shares = sorted({point.share for curve in found for point in curve.points})
    lines = []
    for curve in found:
        at = {point.share: point for point in curve.points}
        cells = [_shown(at[share]) if share in at else "–" for share in shares]
        lines.append([curve.variant, curve.added, *cells, f"{curve.best.share:.0%}"])
    heads = ["variant", "added", *(f"{share:.0%}" for share in shares), "best at"]
    grid = tabulate(lines, heads, tablefmt="simple", disable_numparse=True, stralign="right")
    return f"{grid}\n\n{counted(found)}"


def counted(found: Sequence[Curve]) -> str:
    """Return what the numbers are: over which shares, of how many draws and seeds."""
    cells = sorted({point.cells for curve in found for point in curve.points})
    many = f"{cells[0]}" if len(cells) == 1 else f"{cells[0]} to {cells[-1]}"
    if cells == [1]:
        return "F1 over the share of the other domains' train that is added; one draw and seed"
    return f"mean F1 ± sample deviation over {many} draws and seeds, by the share of the other domains' train added"


def _shown(point: Point) -> str:
    return f"{point.f1:.2f}" + ("" if point.std is None else f" ± {point.std:.2f}")


def draw(found: Sequence[Curve], title: str, path: Path) -> None:
    """Draw curves into a file; bars are sample deviations. Raises CdnerError for a name of no known kind."""
    if path.suffix not in figures.FILES:
        raise CdnerError(f"{path}: a figure is one of {', '.join(figures.FILES)}, by the end of its name.")
    figure = figures.new(6.4, 4.0)
    axes = figure.subplots()
    variants = list(dict.fromkeys(curve.variant for curve in found))
    widest = 100 * max(point.share for curve in found for point in curve.points)
    for number, curve in enumerate(found):
        aside = 0.025 * widest * (number / max(1, len(found) - 1) - 0.5)  # so that deviations do not hide each other
        axes.errorbar(
            [100 * point.share + aside for point in curve.points],
            [point.f1 for point in curve.points],
            [point.std or 0.0 for point in curve.points],
            label=f"{curve.variant}, {curve.added}",
            color=figures.COLOURS[variants.index(curve.variant) % len(figures.COLOURS)],
            linestyle=STYLES.get(curve.choose, "-"),
            marker=MARKERS.get(curve.choose, "o"),
            markersize=4,
            capsize=2,
            elinewidth=0.8,
            linewidth=1.2,
        )
    axes.set(xlabel="added data (% of the other domains' train)", ylabel="F1", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    cells = {point.cells for curve in found for point in curve.points}
    if cells != {1}:
        axes.annotate(
            "bars: sample deviation over draws and seeds",
            (0.99, 0.01),
            xycoords="axes fraction",
            ha="right",
            fontsize=7,
        )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small", frameon=False)
    figures.save(figure, path)
