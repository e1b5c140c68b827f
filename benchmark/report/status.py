"""How far a board is, read from files alone, also while another process runs it.

What a cell is, the first that holds:

skipped   its method cannot do its transfer
done      its record is of the stage, the gold and the scorer that it is planned with
running   one of its stages, not in the store yet, is being built
failed    its record says so, of the stage that it is planned with
stale     there is a good record, but of something else: the next run makes it again
waiting   all else

What is planned stands in the store's snapshot of the board, `boards/<hash>.json`. Where there is none, a record is
taken as it is. A stage is being built where it has both a scratch folder and a lease that somebody keeps alive, or
where a cluster's job runs it.
"""

import hashlib
import json
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from filelock import SoftFileLease
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark.redact import redact
from benchmark.report.watch import called, clock, counted, figures, fitted, shortened

if TYPE_CHECKING:
    from benchmark.report.rows import Cell
    from benchmark.run.plan import Board

STATES = {  # letter and colour, in the order in which a field tells them
    "done": ("", "green"),
    "failed": ("F", "bold red"),
    "running": ("R", "cyan"),
    "waiting": ("W", "default"),
    "skipped": ("S", "yellow"),
    "stale": ("A", "magenta"),
}
FIELDS = ("status", "reason", "final", "gold", "scorer")  # what is read of a record
HEARTBEAT = 180.0  # seconds that the lease of another machine may be old
FAILED = 10  # failed cells that are shown with their reasons
TAIL = 1 << 16  # bytes of a progress file that are read


@dataclass(frozen=True)
class CellStatus:
    """What a cell is, and why it failed or was skipped."""

    name: str
    variant: str
    sources: tuple[str, ...]
    target: str
    regime: str
    state: str
    reason: str | None = None


@dataclass(frozen=True)
class RunningStage:
    """A stage that is being built, and by whom."""

    key: str
    step: str
    title: str
    attempt: int
    started: str
    seconds: float
    host: str
    pid: int
    figures: dict[str, Any]
    cells: int  # how many wait for it


@dataclass(frozen=True)
class Status:
    """How far a board is.

    planned       when the board was last planned; None where that is not known
    plan_changed  whether plan.yaml is another one by now
    stored        how many of the board's stages are in the store, and how many there are
    notes         files that cannot be read, and the like
    """

    board: str
    folder: str
    planned: str | None
    plan_changed: bool
    cells: list[CellStatus]
    running: list[RunningStage] = field(default_factory=list)
    stored: tuple[int, int] = (0, 0)
    notes: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Return how many cells there are of each state."""
        found = Counter(cell.state for cell in self.cells)
        return {state: found[state] for state in STATES if found[state]}


# -------------------------------------------------------------------------------------------------------- reading it


def collect(
    board: "Board", expected: Sequence["Cell"], snapshot: Mapping[str, Any] | None, store: Path | None,
    jobs: Mapping[str, tuple[str, bool]] | None = None,
) -> Status:  # fmt: skip
    """Return how far a board is. Nothing is written, and what cannot be read counts as absent.

    snapshot  what the store knows of the board, or None
    store     the store's folder, which need not be there
    jobs      of a cluster, that are not over: scratch folder's name -> what to call it, whether it runs
    """
    from benchmark.score.protocols import SCORER_VERSION

    known = snapshot or {}
    plans, stages = _mapping(known.get("cells")), _mapping(known.get("stages"))
    torn: list[str] = []
    live: dict[str, RunningStage] = {}
    left: list[str] = []
    if store is not None and stages:
        live, left = _building(store, stages, torn, jobs or {})
    needed: Counter[str] = Counter()
    cells = []
    for cell in expected:
        plan = plans.get(cell.name)
        record = _record(board.folder, cell.name, torn)
        busy = [key for key in plan.get("stages", ()) if key in live] if live and isinstance(plan, Mapping) else []
        state, reason = _state(plan if isinstance(plan, Mapping) else None, record, bool(busy), SCORER_VERSION)
        if state == "running":
            needed.update(busy)
        cells.append(CellStatus(cell.name, cell.variant, cell.sources, cell.target, cell.regime, state, reason))
    running = [RunningStage(**{**asdict(stage), "cells": needed[key]}) for key, stage in live.items()]
    return Status(
        board.name,
        str(board.folder),
        known.get("written"),
        bool(known.get("plan")) and known.get("plan") != _sha256(board.folder / "plan.yaml"),
        cells,
        sorted(running, key=lambda stage: stage.started),
        (_stored(store, stages), len(stages)),
        _notes(snapshot, torn, left),
    )


def _state(
    plan: Mapping[str, Any] | None, record: Mapping[str, Any] | None, busy: bool, scorer: int
) -> tuple[str, str | None]:
    """Return what a cell is, and why."""
    status = record["status"] if record is not None else None
    reason = None if record is None or record.get("reason") is None else redact(str(record["reason"]))
    if plan is None:
        return {"ok": "done", "failed": "failed", "skipped": "skipped"}.get(str(status), "waiting"), reason
    if plan.get("final") is None:
        return "skipped", redact(str(plan.get("reason")))
    same = record is not None and record.get("final") == plan["final"]
    if record is not None and status == "ok" and same:
        if record.get("gold") == plan.get("gold") and record.get("scorer") == scorer:
            return "done", None
        reason = "to be scored again: gold, a card or the scorer has changed"
    if busy:
        return "running", None
    if status == "failed" and same:
        return "failed", reason
    if status == "ok":
        return "stale", reason
    return "waiting", None


def _record(board: Path, cell: str, torn: list[str]) -> dict[str, Any] | None:
    """Return the few fields of a cell's record that are needed; None where there is no record to be read."""
    name = f"records/{cell}.json"
    try:
        with open(f"{board}/{name}", "rb") as stream:
            content = stream.read()
    except FileNotFoundError:
        return None
    except OSError:
        torn.append(name)
        return None
    try:
        return _fields(content)
    except (ValueError, RecursionError):
        torn.append(name)
        return None


def _fields(content: bytes) -> dict[str, Any]:
    """Return some fields of a record. Raises ValueError where it is none.

    A record is written one field a line: reading the few lines takes a hundredth of the time that reading all does.
    """
    found: dict[str, Any] = {}
    if content.startswith(b'{\n"') and content.endswith(b"\n}\n"):
        for name in FIELDS:
            mark = b'\n"%s": ' % name.encode()
            start = content.find(mark)
            if start >= 0:
                line = content[start + len(mark) : content.index(b"\n", start + len(mark))]
                found[name] = json.loads(line.removesuffix(b","))
    if "status" not in found:
        whole = json.loads(content)
        if not isinstance(whole, dict) or "status" not in whole:
            raise ValueError("no record")
        found = {name: whole[name] for name in FIELDS if name in whole}
    return found


def _building(
    store: Path, stages: Mapping[str, Any], torn: list[str], jobs: Mapping[str, tuple[str, bool]]
) -> tuple[dict[str, RunningStage], list[str]]:
    """Return the board's stages that somebody builds now, and the keys of those that were left unfinished."""
    live: dict[str, RunningStage] = {}
    left = []
    newest: dict[str, tuple[float, Path]] = {}
    for name in _names(store / "scratch"):
        key = name.partition(".")[0]
        if key in stages:
            request = store / "scratch" / name / "request.json"
            newest[key] = max(newest.get(key, (-1.0, request)), (_modified(request), request))
    for key, (modified, request) in newest.items():
        if modified < 0 or (store / "stages" / key / "manifest.json").is_file():
            continue  # just made, or just done
        if request.parent.name in jobs:
            called, runs = jobs[request.parent.name]
            if runs:
                live[key] = _running(key, stages[key], request, modified, called, 0, torn)
            continue
        if request.with_name("slurm.json").is_file():
            continue  # a job that is over; those of a detached board are told by themselves
        lease = store / "leases" / f"{key}.lock"
        owner = SoftFileLease(lease).owner
        if owner is not None and _alive(owner.hostname, owner.pid, _modified(lease)):
            live[key] = _running(key, stages[key], request, modified, owner.hostname.partition("?")[0], owner.pid, torn)
        else:
            left.append(key)
    return live, left


def _running(
    key: str, stage: Any, request: Path, modified: float, host: str, pid: int, torn: list[str]
) -> RunningStage:
    """Return what is known of a stage that runs: from its request, or else from the snapshot and the file's date."""
    try:
        told = _mapping(json.loads(request.read_bytes()))
    except FileNotFoundError:  # it has ended since
        told = {}
    except (OSError, ValueError):
        torn.append(str(request.relative_to(request.parents[2])))
        told = {}
    about = {**_mapping(stage), **told}
    try:
        started = datetime.fromisoformat(about["started"])
        started = started if started.tzinfo else started.replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError):
        started = datetime.fromtimestamp(modified, UTC)
    earlier = about.get("attempts")
    attempt = about.get("attempt", len(earlier) + 1 if isinstance(earlier, list) else 1)
    return RunningStage(
        key=key,
        step=str(about.get("step", "")),
        title=str(about.get("title", "")),
        attempt=attempt if isinstance(attempt, int) else 1,
        started=started.isoformat(timespec="seconds"),
        seconds=max(0.0, round(time.time() - started.timestamp(), 1)),
        host=host,
        pid=pid,
        figures=_progress(request.with_name("progress.jsonl")),
        cells=0,
    )


def _progress(path: Path) -> dict[str, Any]:
    """Return what a running stage reported last, newest over oldest."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - TAIL))
            lines = stream.read().split(b"\n")
    except OSError:
        return {}
    found: dict[str, Any] = {}
    for line in lines:
        try:
            found.update(json.loads(line))
        except (ValueError, TypeError):
            continue  # half a line: the first, cut off, or the last, being written
    found.pop("time", None)
    return found


def _alive(host: str, pid: int, heartbeat: float) -> bool:
    """Return whether the owner of a lease keeps it alive: as a process of this machine, else by its heartbeat."""
    name, _, namespace = host.partition("?pidns-")
    if name != socket.gethostname() or namespace not in {"", _namespace()}:
        return time.time() - heartbeat < HEARTBEAT
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.create_time() < heartbeat + 60  # else it is another process, of the same number
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True


def _namespace() -> str:
    """Return what filelock adds to a machine's name: in a container, numbers of processes are its own."""
    try:
        return f"{os.stat('/proc/self/ns/pid').st_ino:x}"
    except OSError:
        return ""


def _stored(store: Path | None, stages: Mapping[str, Any]) -> int:
    """Return how many of some stages are in the store. A folder there is whole: it was renamed into place."""
    return 0 if store is None else sum(name in stages for name in _names(store / "stages"))


def _names(folder: Path) -> Iterator[str]:
    try:
        with os.scandir(folder) as found:
            yield from (entry.name for entry in found)
    except OSError:
        return


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return -1.0


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _notes(snapshot: Mapping[str, Any] | None, torn: Sequence[str], left: Sequence[str]) -> list[str]:
    notes = []
    if snapshot is None:
        notes.append("not planned on this store yet: every record is taken as it is (`cdner run` plans the board)")
    if torn:
        shown = ", ".join(torn[:3]) + (f" and {len(torn) - 3} more" if len(torn) > 3 else "")
        notes.append(
            f"{counted(len(torn), 'file')} cannot be read, and count{'s' * (len(torn) == 1)} as absent: {shown}"
        )
    if left:
        were = "stage was" if len(left) == 1 else "stages were"
        notes.append(f"{len(left)} {were} left unfinished by a process that is gone; the next run goes on from there")
    return notes


# -------------------------------------------------------------------------------------------------------- showing it


def as_json(status: Status) -> dict[str, Any]:
    """Return a status as JSON."""
    stored, stages = status.stored
    return {
        "board": status.board,
        "folder": status.folder,
        "planned": status.planned,
        "plan_changed": status.plan_changed,
        "cells": len(status.cells),
        "counts": {state: status.counts.get(state, 0) for state in STATES},
        "stages": {"all": stages, "stored": stored},
        "states": {cell.name: {"state": cell.state, "reason": cell.reason} for cell in status.cells},
        "running": [asdict(stage) for stage in status.running],
        "notes": status.notes,
    }


def render(status: Status, console: Console) -> None:
    """Print a status: a table of variants by targets, what runs, what failed and why, and how many there are."""
    console.print(Text(heading(status), style="bold"))
    for table in grids(status, console.width):
        console.print()
        console.print(table)
    words = legend(status)
    if words:
        console.print(Text(words, style="dim"))
    if status.running:
        console.print()
        console.print(Text("running", style="bold"))
        rows = [_row(stage) for stage in status.running]
        for line in fitted(rows, console.width - 2, drop=(3, 1, 2), right=(2,)):
            console.print(Text(f"  {line}"), no_wrap=True, overflow="crop")
    failed = [cell for cell in status.cells if cell.state == "failed"]
    if failed:
        console.print()
        console.print(Text("failed", style="bold red"))
        for cell in failed[:FAILED]:
            console.print(Text(f"  {cell.name}"), soft_wrap=True)
            for line in _wrapped(cell.reason or "for no known reason", console.width - 4):
                console.print(Text(f"    {line}", style="dim"), no_wrap=True, overflow="crop")
        if len(failed) > FAILED:
            console.print(Text(f"  and {len(failed) - FAILED} more"))
    console.print()
    console.print(Text(totals(status)))
    for note in status.notes:
        console.print(Text(note, style="yellow"))


def heading(status: Status) -> str:
    """Return the board's name, when it was planned, and whether that plan still stands."""
    if status.planned is None:
        return status.board
    changed = "; plan.yaml has changed since" if status.plan_changed else ""
    return f"{status.board}, planned at {_moment(status.planned)}{changed}"


def _moment(told: str) -> str:
    try:
        return datetime.fromisoformat(told).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return told


def totals(status: Status) -> str:
    """Return how many cells there are of each state, and how many stages are in the store."""
    told = [f"{number} {state}" for state, number in status.counts.items()]
    line = f"{counted(len(status.cells), 'cell')}: {', '.join(told) or 'none'}"
    stored, stages = status.stored
    return line + (f"; {stored} of {counted(stages, 'stage')} in the store" if stages else "")


def legend(status: Status) -> str:
    """Return what the letters of the table mean, of those that stand in it; nothing where there are none."""
    mixed = [states for states in _groups(status).values() if len(states) > 1]
    letters = [f"{STATES[s][0]} {s}" for s in STATES if STATES[s][0] and any(s in states for states in mixed)]
    return "n/m: n of m cells done; " + ", ".join(letters) if letters else ""


Place = tuple[tuple[str, ...], str, str]  # sources, target, regime: what a column stands for


def _groups(status: Status) -> dict[tuple[str, Place], Counter[str]]:
    found: dict[tuple[str, Place], Counter[str]] = {}
    for cell in status.cells:
        place = (cell.sources, cell.target, cell.regime)
        found.setdefault((cell.variant, place), Counter())[cell.state] += 1
    return found


def grids(status: Status, width: int) -> list[Table]:
    """Return variants by transfers, as many tables as `width` asks for; a table has no row without a field."""
    groups = _groups(status)
    variants = list(dict.fromkeys(variant for variant, _ in groups))
    places = list(dict.fromkeys(place for _, place in groups))
    heads = headings(places)
    first = max((cell_len(v) for v in ("variant", *variants)), default=0)
    first = min(first, max(8, width // 3))
    widths = {
        place: max(
            *(cell_len(line) for line in heads[place].split("\n")),
            *(field_of(groups[v, place]).cell_len for v in variants if (v, place) in groups),
        )
        for place in places
    }
    tables = []
    asked = {place: {v for v in variants if (v, place) in groups} for place in places}
    for block in _blocks(places, widths, asked, width - first - 2):
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        table.add_column("variant", no_wrap=True)
        for place in block:
            table.add_column(Text(heads[place]), no_wrap=True, vertical="bottom")
        for variant in (v for v in variants if any(v in asked[place] for place in block)):
            fields = [field_of(groups.get((variant, place), Counter())) for place in block]
            table.add_row(Text(shortened(variant, first)), *fields)
        tables.append(table)
    return tables


def headings(places: Sequence[Place]) -> dict[Place, str]:
    """Return the heads of columns: the target, and under it what tells it from another column of that target."""
    found = {}
    for sources, target, regime in places:
        alike = [place for place in places if place[1] == target]
        lines = [target]
        if len({place[0] for place in alike}) > 1:
            lines.append(f"from {'+'.join(sources)}" if sources else "no source")
        if len({place[2] for place in alike}) > 1:
            lines.append(regime)
        found[sources, target, regime] = "\n".join(lines)
    return found


def field_of(states: Mapping[str, int]) -> Text:
    """Return what came of the cells of a field: `3 done` where all are alike, else `2/5 1F 2W`.

    >>> str(field_of({"done": 3})), str(field_of({"done": 2, "waiting": 2, "failed": 1})), str(field_of({}))
    ('3 done', '2/5 1F 2W', '')
    """
    if not states:
        return Text()
    if len(states) == 1:
        [(state, number)] = states.items()
        return Text(f"{number} {state}", style=STATES[state][1])
    line = Text(f"{states.get('done', 0)}/{sum(states.values())}")
    for state, (letter, colour) in STATES.items():
        if letter and states.get(state):
            line.append(" ").append(f"{states[state]}{letter}", colour)
    return line


def _blocks(
    places: Sequence[Place], widths: Mapping[Place, int], asked: Mapping[Place, set[str]], room: int
) -> Iterator[list[Place]]:
    """Yield columns in their order, as many at a time as there is room for, at least one.

    asked   the variants of each column: columns that have none in common are not of one block
    """
    block: list[Place] = []
    taken = 0
    for place in places:
        apart = block and not any(asked[place] & asked[other] for other in block)
        if block and (apart or taken + widths[place] + 2 > room):
            yield block
            block, taken = [], 0
        block.append(place)
        taken += widths[place] + 2
    if block:
        yield block


def _row(stage: RunningStage) -> tuple[str, ...]:
    attempt = f"attempt {stage.attempt}" if stage.attempt > 1 else ""
    told = ", ".join(filter(None, [attempt, figures(stage.figures)]))
    return called(stage.step.rpartition(":")[2], stage.title), told, clock(stage.seconds), stage.host


def _wrapped(text: str, width: int) -> Iterable[str]:
    """Return the first lines of a text, wrapped."""
    import textwrap

    return textwrap.wrap(" ".join(text.split()), max(20, width), max_lines=4, placeholder=" …")
