"""Keeps a store in order: what dead processes left, what each board needs, what takes how much, what may go."""

import hashlib
import json
import platform
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmark.files import write_whole
from benchmark.redact import redact
from benchmark.run import processes, slurm_jobs
from benchmark.run import record as records
from benchmark.run.cells import Planned
from benchmark.run.failure import KEPT, failure, last_lines
from benchmark.run.plan import Board
from benchmark.run.store import MANIFEST, Lease, Store
from benchmark.work import reported

UNFINISHED = ".*.[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]"  # what `write_whole` left
OLD = 3600.0  # seconds after which an unfinished file is nobody's


# ------------------------------------------------------------------------------------------------ what the dead left


def sweep(store: Store, board: Path) -> dict[str, Lease]:
    """Remove what processes left behind that are gone: scratch folders, their children, unfinished files.

    Returns the leases of the scratch folders that stay, for `sweep_leases`: their owners live, or are on a machine of
    which that cannot be told yet.
    """
    scratches = store.scratches()
    keys = sorted({scratch.name.partition(".")[0] for scratch in scratches})
    slurm_jobs.ASKED.know(filter(None, map(slurm_jobs.job_in, scratches)))
    others = sweep_leases(store, {key: store.lease(key) for key in keys})
    for left in [*(store.root / "partial").iterdir(), *(store.root / "attempts").glob("*.json")]:
        key = left.name.removesuffix(".json")
        if store.has(key):  # its harness was gone before it could tidy up
            store.settle(key)
    for folder in (board / "records", store.root / "attempts", store.root / "boards", store.root / "splits"):
        for path in folder.rglob(UNFINISHED):
            if path.stat().st_mtime < time.time() - OLD:
                path.unlink(missing_ok=True)
    return others


def sweep_leases(store: Store, leases: Mapping[str, Lease]) -> dict[str, Lease]:
    """Remove the scratch folders of those stages whose leases are free. Returns the leases that are not.

    Asked again with what it returned, it finds the leases whose heartbeat has stopped.
    """
    others = {}
    for key, lease in leases.items():
        if not store.scratches(key):
            continue
        if not lease.take():
            others[key] = lease
            continue
        try:
            if living(store, key) is None:
                reclaim(store, key)
            else:
                others[key] = lease
        finally:
            lease.release()
    return others


def living(store: Store, key: str) -> slurm_jobs.Job | None:
    """Return the job of a cluster that builds a stage, or is queued to, whoever submitted it; None where none does."""
    jobs = filter(None, map(slurm_jobs.job_in, store.scratches(key)))
    return next((job for job in jobs if slurm_jobs.lives(job)), None)


def reclaim(store: Store, key: str) -> None:
    """Remove the scratch folders of a stage whose lease is ours: whoever made them is gone.

    What their processes had started is ended, and the attempt is noted; not that of one that never began. The folder
    of a job that lives stays as it is.
    """
    for scratch in store.scratches(key):
        job = slurm_jobs.job_in(scratch)
        if job is not None:
            if not slurm_jobs.lives(job):
                _reclaim_job(store, key, job)
            continue
        processes.end(scratch)
        began = processes.begun_at(scratch)
        if began is not None and not store.has(key):
            ended = last_written(scratch)
            store.note_attempt(key, {
                "attempt": len(store.attempts(key)) + 1, "reason": "interrupted",
                "message": "interrupted: the harness was ended", "seconds": round(ended - began, 3),
                "usd": reported(scratch / "progress.jsonl").get("usd"),
                "ended": datetime.fromtimestamp(ended, UTC).isoformat(timespec="seconds"), "host": platform.node(),
                "log": last_lines(scratch / "artefact" / "log.txt"),
            })  # fmt: skip
        store.discard(scratch)
    if store.has(key):
        store.settle(key)


def last_written(scratch: Path) -> float:
    """Return when anything was last written in a scratch folder, in seconds since 1970."""
    return max(p.stat().st_mtime for p in scratch.rglob("*"))


def _reclaim_job(store: Store, key: str, job: slurm_jobs.Job) -> None:
    """Remove the scratch folder of a job that is over, and note how it ended where it brought no artefact."""
    if not store.has(key) and processes.began(job.scratch):
        began = processes.begun_at(job.scratch)
        seconds = 0.0 if began is None else max(0.0, last_written(job.scratch) - began)
        ending = slurm_jobs.ending(job, slurm_jobs.ASKED.state(job))
        seconds = round(seconds, 3) if ending.seconds is None else ending.seconds
        told = failure(ending)
        attempt = len(store.attempts(key)) + 1
        store.note_attempt(key, {
            "attempt": attempt, "reason": told.kind, "message": redact(told.told), "seconds": seconds,
            "usd": reported(job.scratch / "progress.jsonl").get("usd"), "ended": records.now(),
            "host": platform.node(), "log": told.log,
        })  # fmt: skip
        if told.kind not in KEPT:
            shutil.rmtree(store.partial(key), ignore_errors=True)
        store.keep_log(job.scratch, key, attempt)
    processes.end(job.scratch)
    store.discard(job.scratch)


# ---------------------------------------------------------------------------------------------- what each board needs


def snapshot_file(store: Path, board: Path) -> Path:
    """Return where the store keeps what a board needs."""
    return store / "boards" / f"{hashlib.sha256(str(board.resolve()).encode()).hexdigest()[:16]}.json"


def read_snapshot(path: Path) -> dict[str, Any] | None:
    """Return what a board needed when it was last planned; None where that is not known."""
    try:
        found = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("schema") == 1 else None


def write_snapshot(store: Store, board: Board, planned: Iterable[Planned]) -> None:
    """Write what the cells of a board need, for `cdner status` and `cdner store prune`.

    Cells of the board that were not planned now stay as they were.
    """
    path = snapshot_file(store.root, board.folder)
    before = read_snapshot(path) or {"cells": {}, "stages": {}}
    cells: dict[str, Any] = {}
    stages: dict[str, Any] = {}
    for item in planned:
        graph = [] if item.final is None else item.final.graph()
        for stage in graph:
            if stage.key not in stages:
                stages[stage.key] = {"step": stage.name, "title": stage.title, "size": stage.size}
        cells[item.cell.name] = {
            "final": None if item.final is None else item.final.key, "reason": item.reason, "gold": item.gold,
            "stages": [s.key for s in graph],
        }  # fmt: skip
    for cell in board.cells:
        if cell.name not in cells and cell.name in before["cells"]:
            cells[cell.name] = before["cells"][cell.name]
            stages.update({k: before["stages"][k] for k in cells[cell.name]["stages"] if k in before["stages"]})
    told = {
        "schema": 1, "board": board.name, "folder": str(board.folder.resolve()), "written": records.now(),
        "plan": hashlib.sha256((board.folder / "plan.yaml").read_bytes()).hexdigest(), "cells": cells,
        "stages": stages,
    }  # fmt: skip
    write_whole(path, json.dumps(told))


# ------------------------------------------------------------------------------------------- what takes how much


@dataclass
class Share:
    """Some of a store: how many things, how many bytes."""

    number: int = 0
    size: int = 0

    def add(self, path: Path) -> None:
        """Count a file or a folder."""
        self.number += 1
        self.size += size_of(path)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; what vanishes meanwhile counts nothing."""
    try:
        if path.is_dir():
            return sum(size_of(inner) for inner in path.iterdir())
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def usage(store: Path) -> dict[str, Share]:
    """Return what takes how much: artefacts by step, checkpoints, splits and the rest."""
    found: dict[str, Share] = {}
    for folder in sorted((store / "stages").glob("*")):
        try:
            step = json.loads((folder / MANIFEST).read_text(encoding="utf8"))["step"].partition(":")[2]
        except (OSError, ValueError, KeyError):
            step = "without a manifest"
        found.setdefault(f"artefacts: {step}", Share()).add(folder)
    names = {
        "partial": "checkpoints of unfinished stages", "splits": "splits", "encoded": "tokenized splits",
        "failed": "logs of failed attempts", "attempts": "notes on failed attempts",
        "scratch": "stages that run, or were left", "broken": "broken artefacts, set aside",
        "answers": "answers of language models",
    }  # fmt: skip
    for folder_name, name in names.items():
        for path in sorted((store / folder_name).glob("*")):
            found.setdefault(name, Share()).add(path)
    return found


# ---------------------------------------------------------------------------------------------------- what may go


@dataclass
class Prunable:
    """What no board needs.

    unread   boards that could not be planned: what they needed when they last were is kept
    """

    paths: dict[str, list[Path]] = field(default_factory=dict)  # by what it is
    unread: list[str] = field(default_factory=list)

    def add(self, what: str, path: Path) -> None:
        """Count a file or a folder among what may go."""
        self.paths.setdefault(what, []).append(path)


def prunable(store: Store, needed: set[str], splits: set[str]) -> Prunable:
    """Return what is in a store beside the stages and splits that boards need. What runs now is never among it."""
    found = Prunable()
    busy = {scratch.name.partition(".")[0] for scratch in store.scratches()}
    keep = needed | busy
    read = {key for scratch in store.scratches() for key in read_by(scratch)}
    kept_splits = set(splits)
    for folder in sorted((store.root / "stages").glob("*")):
        if folder.name in keep | read:
            kept_splits |= splits_of(folder)
        else:
            found.add("artefacts", folder)
    for name, what in (("partial", "checkpoints"), ("attempts", "notes on failed attempts")):
        for path in sorted((store.root / name).glob("*")):
            if path.name.removesuffix(".json") not in keep:
                found.add(what, path)
    for path in sorted((store.root / "failed").glob("*")):
        if path.name.partition(".")[0] not in keep:
            found.add("logs of failed attempts", path)
    for path in sorted((store.root / "splits").glob("*")):
        old = path.stat().st_mtime < time.time() - OLD
        if path.name.partition(".")[0] not in kept_splits and old:
            found.add("splits", path)
    for path in sorted((store.root / "encoded").glob("*")):
        if path.stat().st_atime < time.time() - 30 * 24 * OLD:
            found.add("tokenized splits that nothing has read for a month", path)
    for path in sorted((store.root / "broken").glob("*")):
        found.add("broken artefacts, set aside", path)
    return found


def read_by(scratch: Path) -> set[str]:
    """Return the keys of the artefacts that a stage which runs now reads."""
    try:
        inputs = json.loads((scratch / "request.json").read_text(encoding="utf8"))["inputs"]
    except (OSError, ValueError, KeyError):
        return set()
    return set(_found(inputs, "$stage"))


def splits_of(artefact: Path) -> set[str]:
    """Return the hashes of the splits that an artefact was made from."""
    try:
        told = json.loads((artefact / MANIFEST).read_text(encoding="utf8"))["ingredients"]["inputs"]
    except (OSError, ValueError, KeyError):
        return set()
    return set(_found(told, "hash"))


def _found(value: Any, name: str) -> Iterable[str]:
    """Yield every text of that name in nested JSON."""
    if isinstance(value, Mapping):
        if isinstance(value.get(name), str):
            yield value[name]
        for inner in value.values():
            yield from _found(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _found(inner, name)


def remove(found: Prunable) -> int:
    """Remove what may go. Returns how many bytes that were."""
    size = 0
    for path in (p for paths in found.paths.values() for p in paths):
        size += size_of(path)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return size
