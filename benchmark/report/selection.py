"""What other rules of selection would have given, from the records of transfers that say `curves: true`.

rows    cells, records -> Row   one variant x transfer; means over the seeds and draws that kept epochs
render  rows -> text            terminal, Markdown, CSV, JSON

target-dev  the epoch with the best F1 on the target's dev
source-dev  that with the best F1 on the source's dev, over the types that source and target share
last        the last epoch that was run (patience may have ended training before the last of the plan)
test        the epoch with the best F1 on test: no result, since test has chosen it; it says what so choosing is worth

Of two epochs that are as good, the earlier one is taken, as training takes it. All F1 are strict, of test.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from tabulate import tabulate

from benchmark.report.reading import Record
from benchmark.report.rows import Cell, grouped
from benchmark.score.protocols import Counts

RULES = ("target-dev", "source-dev", "last")
TEST = "test"
NO_RESULT = "no result: selected on test"
DIM, PLAIN = "\033[2m", "\033[0m"
FORMATS = ("terminal", "markdown", "csv", "json")


@dataclass(frozen=True, kw_only=True)
class Row:
    """What each rule would have given (F1, percent, mean), or why nothing can be said.

    cells    how many kept epochs, of `expected`
    select   the rule that the plan has
    f1       rule -> mean; None where some cell has no dev that the rule asks for
    reason   why cells kept none
    """

    variant: str
    sources: list[str]
    target: str
    regime: str
    select: str
    level: str
    cells: int
    expected: int
    f1: dict[str, float | None]
    reason: str | None


def chosen(epochs: Sequence[dict[str, Any]], rule: str) -> float | None:
    """Return the F1 on test of the epoch that a rule chooses; None where an epoch lacks what the rule asks for.

    >>> epochs = [{"test": [1, 0, 1], "target-dev": 50.0}, {"test": [2, 0, 0], "target-dev": 50.0}]
    >>> round(chosen(epochs, "target-dev"), 1), chosen(epochs, "last"), chosen(epochs, "source-dev")
    (66.7, 100.0, None)
    """
    f1 = [Counts(*epoch["test"]).f1 for epoch in epochs]
    if not f1:
        return None
    if rule == "last":
        return f1[-1]
    if rule == TEST:
        return max(f1)
    found = [float(epoch[rule]) for epoch in epochs if rule in epoch]
    return f1[found.index(max(found))] if len(found) == len(epochs) else None


def rows(cells: Iterable[Cell], records: Iterable[Record]) -> list[Row]:
    """Return a row for each variant and transfer of which a record tells of epochs, or why it kept none."""
    known = {record["cell"]: record for record in records if record["status"] == "ok"}
    found = []
    for group in grouped(cells, lambda c: (c.variant, c.sources, c.target, c.regime, c.select, c.order, c.dev)):
        told = [known[cell.name] for cell in group if cell.name in known]
        asked = [record for record in told if "curves" in record]
        if not asked:
            continue
        kept = [record["curves"]["epochs"] for record in asked if "epochs" in record["curves"]]
        each = {rule: [chosen(epochs, rule) for epochs in kept] for rule in (*RULES, TEST)}
        f1 = {
            rule: fmean([v for v in values if v is not None]) if values and None not in values else None
            for rule, values in each.items()
        }
        reasons = dict.fromkeys(record["curves"]["reason"] for record in asked if "reason" in record["curves"])
        first = group[0]
        found.append(
            Row(
                variant=first.variant, sources=list(first.sources), target=first.target, regime=first.regime,
                select=first.select, level=asked[0]["level"], cells=len(kept), expected=len(group), f1=f1,
                reason="; ".join(reasons) or None,
            )
        )  # fmt: skip
    return found


def render(found: Sequence[Row], format: str = "terminal", *, colour: bool = False) -> str:
    """Return the rows as text; `colour`: grey for what is no result."""
    if format == "json":
        return json.dumps([asdict(row) for row in found], ensure_ascii=False, indent=1)
    if format == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        names = ["variant", "sources", "target", "regime", "plan", "level", "cells", "expected"]
        writer.writerow([*names, *RULES, f"test ({NO_RESULT})", "reason"])
        for row in found:
            numbers = ["" if v is None else f"{v:.4f}" for v in row.f1.values()]
            about = [row.variant, "+".join(row.sources), row.target, row.regime, row.select, row.level]
            writer.writerow([*about, row.cells, row.expected, *numbers, row.reason or ""])
        return out.getvalue()
    left, right = {"markdown": ("*", "*"), "terminal": (DIM, PLAIN) if colour else ("(", ")")}[format]
    lines = []
    for row in found:
        numbers = ["-" if row.f1[rule] is None else f"{row.f1[rule]:.2f}" for rule in RULES]
        test = "-" if row.f1[TEST] is None else f"{left}{row.f1[TEST]:.2f}{right}"
        where = f"{'+'.join(row.sources)} -> {row.target}" if row.sources else row.target
        lines.append([row.variant, where, row.regime, row.select, f"{row.cells}/{row.expected}", *numbers, test])
    head = ["variant", "transfer", "regime", "plan", "cells", *RULES, f"{left}{NO_RESULT}{right}"]
    shape = "github" if format == "markdown" else "simple"
    table = tabulate(lines, head, tablefmt=shape, disable_numparse=True, colalign=("left",) * 5 + ("right",) * 4)
    notes = dict.fromkeys(f"{row.variant} kept no epochs: {row.reason}." for row in found if row.reason)
    general = [row.variant for row in found if row.level == "general"]
    if general:
        notes[f"General types: {', '.join(dict.fromkeys(general))}."] = None
    return "\n".join([table, *([""] if notes else []), *notes])
