"""What a person sees while a board runs: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

STEP_NAMES = {"train_tagger": "train", "tag": "predict"}


def minutes(value: float | None) -> str:
    """Return a number of minutes as a person says it.

    >>> minutes(0.4), minutes(12.6), minutes(130), minutes(None)
    ('under a minute', '13 min', '2 h 10 min', '?')
    """
    if value is None:
        return "?"
    if value < 1:
        return "under a minute"
    if value < 90:
        return f"{value:.0f} min"
    return f"{int(value // 60)} h {value % 60:.0f} min"


def counted(number: int, what: str) -> str:
    """Return a number of things.

    >>> counted(1, "cell"), counted(2, "cell")
    ('1 cell', '2 cells')
    """
    return f"{number} {what}" + ("" if number == 1 else "s")


def name_of(stage: Any) -> str:
    """Return a stage as a person calls it."""
    step = stage.step.__name__
    return f"{STEP_NAMES.get(step, step)} {stage.title}"


def overview(work: Any) -> list[str]:
    """Return what is planned, shared, done and left, in lines."""
    cells = work.planned
    done = sum(p.done for p in cells)
    skipped = [p for p in cells if p.reason is not None]
    failed = sum(p.failed for p in cells) - sum(p.failed for p in work.todo_cells)
    stale = sum(p.stale for p in work.todo_cells)
    told = [f"{done} done"]
    if skipped:
        told.append(f"{len(skipped)} skipped")
    if failed:
        told.append(f"{failed} failed before (--retry-failed runs them again)")
    to_run = f"{len(work.todo_cells)} to run"
    told.append(to_run + (f", {stale} of them stale" if stale else ""))
    shared = work.references - len(work.stages)
    if work.rescore:
        told.append(f"{len(work.rescore)} to score again")
    lines = [
        f"{counted(len(cells), 'cell')}: {', '.join(told)}",
        f"{counted(len(work.stages), 'stage')}, sharing saves {shared}; "
        f"{work.stored} in the store, {len(work.todo)} to run",
    ]
    if work.todo:
        lines.append(f"estimate: {minutes(work.minutes)} on {counted(work.slots, 'slot')}")
    return lines


class Lines:
    """Tells what happens in plain lines."""

    def __init__(self, console: Console) -> None:
        self.console, self.total, self.ended_stages, self.told = console, 0, 0, time.monotonic()

    def planned(self, work: Any) -> None:
        """Print the overview."""
        self.total = len(work.todo)
        for line in overview(work):
            self.say(line)

    def say(self, line: str) -> None:
        """Print one line as it is."""
        self.console.print(Text(line), soft_wrap=True)

    def started(self, stage: Any) -> None:
        """Say nothing: a stage's end is told, and how far it is."""

    def ticked(self, running: Mapping[Any, dict[str, Any]], left: float | None) -> None:
        """Every half minute, print how far the running stages are."""
        if time.monotonic() - self.told > 30 and running:
            self.told = time.monotonic()
            parts = "; ".join(f"{name_of(s)} {figures(p)}".rstrip() for s, p in running.items())
            self.say(f"  ... {parts}" + (f" | left: {minutes(left)}" if left is not None else ""))

    def ended(self, stage: Any, reason: str | None, seconds: float) -> None:
        """Print how a stage ended."""
        self.ended_stages += 1
        how = f"{seconds:.0f} s" if reason is None else f"FAILED: {reason}"
        self.say(f"[{self.ended_stages}/{self.total}] {name_of(stage)}  {how}")

    def recorded(self, record: Mapping[str, Any]) -> None:
        """Print a cell's result."""
        self.say(f"  {record['cell']}  {result(record)}")

    def close(self) -> None:
        """Leave the terminal as it was."""


class Screen(Lines):
    """Keeps a live table of running stages under the lines."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.live = Live(console=console, refresh_per_second=4, transient=True)
        self.live.start()
        self.since: dict[Any, float] = {}

    def started(self, stage: Any) -> None:
        """Take note of when a stage began."""
        self.since[stage] = time.monotonic()

    def ticked(self, running: Mapping[Any, dict[str, Any]], left: float | None) -> None:
        """Draw the running stages, how many are done of all, and the time left."""
        table = Table(box=None, padding=(0, 2), show_header=False)
        for stage, progress in running.items():
            seconds = time.monotonic() - self.since.get(stage, time.monotonic())
            table.add_row(Text("•", style="green"), name_of(stage), figures(progress), f"{seconds:.0f} s")
        foot = f"{self.ended_stages} of {self.total} stages"
        if left is not None:
            foot += f" · {minutes(left)} left"
        self.live.update(Group(table, Text(foot, style="bold")))

    def close(self) -> None:
        """Take the live table away."""
        self.live.stop()


def figures(progress: Mapping[str, Any]) -> str:
    """Return what a stage reported last, in words.

    >>> figures({"epoch": 3.0, "of": 40, "loss": 0.31, "dev_f1": 51.2})
    'epoch 3/40, dev F1 51.2'
    """
    parts = []
    if "epoch" in progress:
        parts.append(f"epoch {progress['epoch']:g}/{progress.get('of', '?')}")
    if "dev_f1" in progress:
        parts.append(f"dev F1 {progress['dev_f1']:.1f}")
    elif "loss" in progress:
        parts.append(f"loss {progress['loss']:.3f}")
    return ", ".join(parts)


def result(record: Mapping[str, Any]) -> str:
    """Return what came of a cell, in a few words."""
    from benchmark.score.protocols import Counts

    if record["status"] != "ok":
        return f"{record['status']}: {record['reason']}"
    level = record["level"]
    f1 = Counts(*record["scores"][level]["strict"]["all"]).f1
    return f"strict F1 {f1:.2f}" + (" (general types)" if level == "general" else "")
