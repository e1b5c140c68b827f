"""What is seen while a board runs: a live table on a terminal, plain lines elsewhere, JSON for machines.

Lines    plain lines
Screen   the same lines, with a live table of the running stages under them
Json     one JSON object a line, each with `event` and `time` (ISO 8601, UTC)
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from benchmark.redact import redact

STEP_NAMES = {"train_tagger": "train", "tag": "predict"}
EVERY = {"line": 30.0, "event": 5.0}  # seconds between two reports of the running stages, at least
NARROW = 16  # columns of a stage's name, before what stands beside it gives way
BAR = 20  # columns


def minutes(value: float | None) -> str:
    """Return a number of minutes as a person says it.

    >>> minutes(0.4), minutes(12.6), minutes(130), minutes(None)
    ('under a minute', '13 min', '2 h 10 min', '?')
    >>> minutes(119.8)
    '2 h'
    """
    if value is None:
        return "?"
    if value < 1:
        return "under a minute"
    if value < 90:
        return f"{value:.0f} min"
    hours, rest = divmod(round(value), 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def clock(seconds: float) -> str:
    """Return a time that has passed as a clock shows it.

    >>> clock(5.4), clock(65), clock(3723), clock(-1)
    ('0:05', '1:05', '1:02:03', '0:00')
    """
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def counted(number: int, what: str) -> str:
    """Return a number of things.

    >>> counted(1, "cell"), counted(2, "cell")
    ('1 cell', '2 cells')
    """
    return f"{number} {what}" + ("" if number == 1 else "s")


def name_of(stage: Any) -> str:
    """Return a stage as a person calls it."""
    return called(stage.step.__name__, stage.title)


def called(step: str, title: str) -> str:
    """Return the stage of a step, the function's name, as a person calls it.

    >>> called("train_tagger", "ai seed 1"), called("count", "")
    ('train ai seed 1', 'count')
    """
    return f"{STEP_NAMES.get(step, step)} {title}".rstrip()


# --------------------------------------------------------------------------------------------------- fitting a width


def shortened(text: str, width: int, dots: str = "…") -> str:
    """Return text cut in its middle to at most `width` columns.

    >>> shortened("conll2003 to politics seed 3", 18), shortened("ai", 18), shortened("politics", 1)
    ('conll2003 to…eed 3', 'ai', '…')
    """
    if cell_len(text) <= width:
        return text
    room = width - cell_len(dots)
    if room < 0:
        return ""
    tail = room // 3
    end = set_cell_size(text[::-1], tail)[::-1] if tail else ""
    return set_cell_size(text, room - tail) + dots + end


def fitted(
    rows: Sequence[Sequence[str]], width: int, *, drop: Sequence[int] = (), right: Sequence[int] = (), dots: str = "…"
) -> list[str]:
    """Return rows as lines of at most `width` columns, their fields below one another.

    The first field gives way to the others; where it has become narrow, the others are dropped instead.

    drop    which fields to drop, first to last
    right   which fields stand at the right of their columns
    """
    if not rows:
        return []
    widths = [max(cell_len(row[n]) for row in rows) for n in range(len(rows[0]))]
    shown = [n for n in range(1, len(widths)) if widths[n]]

    def room() -> int:
        return width - sum(widths[n] + 2 for n in shown)

    for n in drop:
        if room() >= min(widths[0], NARROW):
            break
        if n in shown:
            shown.remove(n)
    first = max(0, min(widths[0], room()))
    lines = []
    for row in rows:
        line = set_cell_size(shortened(row[0], first, dots), first)
        for n in shown:
            line += "  " + (row[n].rjust(widths[n]) if n in right else set_cell_size(row[n], widths[n]))
        lines.append(shortened(line.rstrip(), width, dots))
    return lines


# ------------------------------------------------------------------------------------------------- what there is to do


def tally(work: Any) -> dict[str, Any]:
    """Return what of a workload is planned, shared, done and left, in numbers."""
    return {
        "cells": len(work.planned),
        "done": sum(p.done for p in work.planned) - sum(p.done for p in work.rescore),
        "skipped": sum(p.reason is not None for p in work.planned),
        "failed": sum(p.failed for p in work.planned) - sum(p.failed for p in work.todo_cells),
        "to_run": len(work.todo_cells),
        "stale": sum(p.stale for p in work.todo_cells),
        "to_score_again": len(work.rescore),
        "to_take_over": len(work.equal),
        "stages": len(work.stages),
        "shared": work.references - len(work.stages),
        "stored": work.stored,
        "stages_to_run": len(work.todo),
        "estimate_minutes": round(work.minutes, 1) if work.todo else 0.0,
        "slots": work.slots,
    }


def overview(work: Any) -> list[str]:
    """Return what is planned, shared, done and left, in lines."""
    n = tally(work)
    told = [f"{n['done']} done"]
    if n["skipped"]:
        told.append(f"{n['skipped']} skipped")
    if n["failed"]:
        told.append(f"{n['failed']} failed before (--retry-failed runs them again)")
    told.append(f"{n['to_run']} to run" + (f", {n['stale']} of them stale" if n["stale"] else ""))
    if n["to_score_again"]:
        told.append(f"{n['to_score_again']} to score again")
    if n["to_take_over"]:
        told.append(f"{n['to_take_over']} to take over from cells of the same stages")
    lines = [
        f"{counted(n['cells'], 'cell')}: {', '.join(told)}",
        f"{counted(n['stages'], 'stage')}, sharing saves {n['shared']}; "
        f"{n['stored']} in the store, {n['stages_to_run']} to run",
    ]
    if work.todo:
        lines.append(f"estimate: {minutes(work.minutes)} on {counted(work.slots, 'slot')}")
    return lines


# ------------------------------------------------------------------------------------------------------ who is told


class Lines:
    """Tells what happens in plain lines."""

    def __init__(self, console: Console) -> None:
        self.console, self.total, self.told = console, 0, time.monotonic()
        self.over: dict[str, str | None] = {}  # key of a stage that has ended -> why it failed
        self.attempts: dict[str, int] = {}
        self.waits: set[tuple[str, str]] = set()

    def planned(self, work: Any) -> None:
        """Print the overview."""
        self.total = len(work.todo)
        for line in overview(work):
            self.say(line)

    def say(self, line: str) -> None:
        """Print one line as it is, but for secrets."""
        self.console.print(Text(redact(line)), soft_wrap=True)

    def started(self, stage: Any, attempt: int | None = None) -> None:
        """Say nothing: a stage's end is told, and how far it is. Take note of which attempt it is."""
        if attempt is not None:
            self.attempts[stage.key] = attempt

    def ticked(self, running: Mapping[Any, dict[str, Any]], left: float | None) -> None:
        """Every half minute, print how far the running stages are."""
        if time.monotonic() - self.told > EVERY["line"] and running:
            self.told = time.monotonic()
            parts = "; ".join(f"{name_of(s)} {self.how_far(s, p)}".rstrip() for s, p in running.items())
            self.say(f"  ... {parts}" + (f" | left: {minutes(left)}" if left is not None else ""))

    def how_far(self, stage: Any, progress: Mapping[str, Any]) -> str:
        """Return which attempt a running stage is, unless it is the first, and what it reported last."""
        attempt = self.attempts.get(stage.key, 1)
        return ", ".join(filter(None, [f"attempt {attempt}" if attempt > 1 else "", figures(progress)]))

    def ended(self, stage: Any, reason: str | None, seconds: float) -> None:
        """Print how a stage ended."""
        self.over[stage.key] = reason
        took = f"{seconds:.0f} s" if seconds < 90 else minutes(seconds / 60)
        how = took if reason is None else f"FAILED: {reason}"
        self.say(f"[{len(self.over)}/{self.total}] {name_of(stage)}  {how}")

    def retried(self, stage: Any, reason: str, attempt: int) -> None:
        """Print why an attempt has failed; the next one starts."""
        self.over.pop(stage.key, None)
        self.attempts[stage.key] = attempt
        self.say(f"  {name_of(stage)}: {reason}; attempt {attempt} starts")

    def elsewhere(self, stage: Any, owner: str) -> None:
        """Print once that another process builds a stage."""
        if (stage.key, owner) not in self.waits:
            self.waits.add((stage.key, owner))
            self.say(f"  {name_of(stage)} is being built by {owner}; waiting for it")

    def stopping(self, why: str) -> None:
        """Print why no further stage is started."""
        self.say(f"no further stage is started: {why}")

    def recorded(self, record: Mapping[str, Any]) -> None:
        """Print a cell's result."""
        self.say(f"  {record['cell']}  {result(record)}")

    def finished(self, summary: Any) -> None:
        """Say nothing: whoever started the run has the last word."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Screen(Lines):
    """Keeps a live table of running stages under the lines."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.running: Mapping[Any, dict[str, Any]] = {}
        self.left: float | None = None
        self.since: dict[str, float] = {}
        self.dots = "..." if console.options.ascii_only else "…"
        self.live = Live(console=console, refresh_per_second=4, transient=True, get_renderable=self.view)

    def started(self, stage: Any, attempt: int | None = None) -> None:
        """Take note of when a stage began, and which attempt it is."""
        super().started(stage, attempt)
        self.since[stage.key] = time.monotonic()

    def ticked(self, running: Mapping[Any, dict[str, Any]], left: float | None) -> None:
        """Draw the running stages, how many are done of all, and the time left."""
        self.running = {stage: dict(progress) for stage, progress in running.items()}  # drawn by another thread
        self.left = left
        self.live.start()  # which does nothing but the first time

    def view(self) -> RenderableType:
        """Return what is drawn: a line a running stage, as many as the terminal can show, and the progress of all."""
        width, now, running = self.console.width, time.monotonic(), self.running
        rows = [
            (name_of(stage), self.how_far(stage, progress), clock(now - self.since.get(stage.key, now)))
            for stage, progress in running.items()
        ]
        most = max(1, self.console.height - 4)
        drawn = fitted(rows[:most], width - 3, drop=(1, 2), right=(2,), dots=self.dots)
        lines = [Text(f"  {line}"[:width], no_wrap=True) for line in drawn]
        if len(rows) > most:
            lines.append(Text(shortened(f"  and {len(rows) - most} more", width, self.dots), style="dim"))
        return Group(*lines, self.foot(width))

    def foot(self, width: int) -> Text:
        """Return how many stages are done of all, how many failed, and the time left, in one line."""
        plain = self.console.options.ascii_only
        total = max(self.total, len(self.over))
        told = [f"{len(self.over)} of {counted(total, 'stage')}"]
        failed = sum(reason is not None for reason in self.over.values())
        if failed:
            told.append(f"{failed} failed")
        if self.left is not None:
            told.append(f"{minutes(self.left)} left")
        words = (", " if plain else " · ").join(told)
        line = Text(no_wrap=True)
        if width > BAR + 2 + cell_len(words):
            full = BAR * len(self.over) // max(1, total)
            line.append(("#" if plain else "━") * full, "green").append(("." if plain else "─") * (BAR - full), "dim")
            line.append("  ")
        return line.append(shortened(words, width - 1 - line.cell_len, self.dots), "bold")

    def close(self) -> None:
        """Take the live table away."""
        self.live.stop()


class Json:
    """Tells what happens in JSON, one object a line."""

    def __init__(self, stream: Console | TextIO) -> None:
        self.stream = stream.file if isinstance(stream, Console) else stream
        self.told = -math.inf
        self.since: dict[str, float] = {}
        self.attempts: dict[str, int] = {}
        self.waits: set[tuple[str, str]] = set()

    def tell(self, event: str, **fields: Any) -> None:
        """Write one event."""
        time_ = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.stream.write(json.dumps(plain({"event": event, "time": time_, **fields}), allow_nan=False) + "\n")
        self.stream.flush()

    def planned(self, work: Any) -> None:
        """Tell how much is planned, shared, done and left."""
        self.tell("planned", **tally(work))

    def say(self, line: str) -> None:
        """Tell what a person would read."""
        self.tell("note", text=line)

    def started(self, stage: Any, attempt: int | None = None) -> None:
        """Tell that a stage has started."""
        if attempt is not None:
            self.attempts[stage.key] = attempt
        self.since[stage.key] = time.monotonic()
        self.tell("started", **self.about(stage))

    def about(self, stage: Any) -> dict[str, Any]:
        """Return what a stage is: its key, step, title and attempt, null where that is not known."""
        return {
            "key": stage.key,
            "step": stage.name,
            "title": stage.title,
            "attempt": self.attempts.get(stage.key),
        }

    def ticked(self, running: Mapping[Any, dict[str, Any]], left: float | None) -> None:
        """Every five seconds, tell how far the running stages are."""
        now = time.monotonic()
        if now - self.told < EVERY["event"]:
            return
        self.told = now
        stages = [
            {
                **self.about(stage),
                "seconds": round(now - self.since.get(stage.key, now), 1),
                "figures": figures_of(progress),
            }
            for stage, progress in running.items()
        ]
        self.tell("progress", running=stages, minutes_left=None if left is None else round(left, 1))

    def ended(self, stage: Any, reason: str | None, seconds: float) -> None:
        """Tell how a stage ended; its reason is null where it ended well."""
        self.tell("ended", **self.about(stage), reason=reason, seconds=round(seconds, 3))

    def retried(self, stage: Any, reason: str, attempt: int) -> None:
        """Tell why an attempt has failed, and which one starts."""
        self.attempts[stage.key] = attempt
        self.tell("retried", **self.about(stage), reason=reason)

    def elsewhere(self, stage: Any, owner: str) -> None:
        """Tell once that another process builds a stage."""
        if (stage.key, owner) not in self.waits:
            self.waits.add((stage.key, owner))
            self.tell("elsewhere", **self.about(stage), owner=owner)

    def stopping(self, why: str) -> None:
        """Tell why no further stage is started."""
        self.tell("stopping", why=why)

    def recorded(self, record: Mapping[str, Any]) -> None:
        """Tell a cell's status, and its strict F1 at the level of its method."""
        told = {name: record.get(name) for name in ("cell", "status", "reason", "level")}
        self.tell("recorded", **told, f1=strict_f1(record))

    def finished(self, summary: Any) -> None:
        """Tell what the run did, and what it left."""
        self.tell("finished", **asdict(summary))

    def close(self) -> None:
        """There is nothing to close: the stream is the caller's."""


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it, without secrets: null for what is no number.

    >>> plain({"loss": float("nan"), "of": (1, 2)})
    {'loss': None, 'of': [1, 2]}
    """
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float)) else redact(str(value))


# ------------------------------------------------------------------------------------------------------- in few words


def figures_of(progress: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a stage reported last, without when it was."""
    return {name: value for name, value in progress.items() if name != "time" and value is not None}


def figures(progress: Mapping[str, Any]) -> str:
    """Return what a stage reported last, in words.

    >>> figures({"epoch": 3.0, "of": 40, "loss": 0.31, "dev_f1": 51.2})
    'epoch 3/40, dev F1 51.2'
    >>> figures({"epoch": None, "usd": 0.125})
    '0.12 USD'
    >>> figures({"answered": 7, "of": 431, "usd": 0.125, "tokens": 1200})
    '7/431 answered, 0.12 USD'
    """
    number = {name: value for name, value in progress.items() if isinstance(value, (int, float))}
    parts = []
    if "epoch" in number:
        parts.append(f"epoch {number['epoch']:g}" + (f"/{number['of']:g}" if "of" in number else ""))
    if "answered" in number:
        parts.append(f"{number['answered']:g}/{number['of']:g} answered")
    if "dev_f1" in number:
        parts.append(f"dev F1 {number['dev_f1']:.1f}")
    elif "loss" in number:
        parts.append(f"loss {number['loss']:.3f}")
    if "usd" in number:
        parts.append(f"{number['usd']:.2f} USD")
    return ", ".join(parts)


def strict_f1(record: Mapping[str, Any]) -> float | None:
    """Return the strict F1 of a record at the level of its method, None where it has no scores."""
    from benchmark.score.protocols import Counts

    if record["status"] != "ok":
        return None
    return Counts(*record["scores"][record["level"]]["strict"]["all"]).f1


def result(record: Mapping[str, Any]) -> str:
    """Return what came of a cell, in a few words."""
    f1 = strict_f1(record)
    if f1 is None:
        return f"{record['status']}: {record['reason']}"
    return f"strict F1 {f1:.2f}" + (" (general types)" if record["level"] == "general" else "")
