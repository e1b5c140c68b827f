"""What takes how much of a store, and what of it no board needs."""

import shutil
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text


def size(bytes_: int) -> str:
    """Return a number of bytes as a person says it.

    >>> size(0), size(90_700_000)
    ('0 bytes', '90.7 MB')
    """
    return decimal(bytes_)


def render_usage(root: Path, shares: dict[str, Any], console: Console) -> None:
    """Print what takes how much, and what is free. `shares` are `benchmark.run.upkeep.Share`s by name."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    for name, share in shares.items():
        table.add_row(name, f"{share.number:,}", size(share.size))
    table.add_row(Text("all", style="bold"), "", Text(size(sum(s.size for s in shares.values())), style="bold"))
    console.print(Text(f"store  {root}"), soft_wrap=True)
    console.print(table)
    console.print(f"free on its disk: {size(shutil.disk_usage(root).free)}")


def render_prunable(found: Any, console: Console) -> None:
    """Print what no board needs (`benchmark.run.upkeep.Prunable`)."""
    from benchmark.run.upkeep import size_of

    by_reason: dict[str, list[str]] = {}
    for line in found.unread:
        board, _, reason = line.partition(": ")
        by_reason.setdefault(reason, []).append(board)
    for reason, boards in by_reason.items():
        told = f"cannot be planned now, so all that was needed when it last ran is kept: {', '.join(boards)}: {reason}"
        console.print(Text(told), soft_wrap=True)
    if not found.paths:
        console.print("there is nothing that no board needs")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    for what, paths in found.paths.items():
        table.add_row(what, f"{len(paths):,}", size(sum(size_of(path) for path in paths)))
    console.print("no board needs:")
    console.print(table)
