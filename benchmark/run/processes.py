"""The processes of a stage: the one that runs the step, and whatever that has started.

A stage's process writes `process.json` into its scratch folder, and names that folder in the environment that its
children inherit: so whoever comes later can tell what is still alive, and end it.
"""

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil

MARK = "CDNER_STAGE"


def mark(scratch: Path) -> None:
    """In a stage's process: say who it is."""
    os.environ[MARK] = str(scratch)
    told = {"pid": os.getpid(), "start": psutil.Process().create_time()}
    (scratch / "process.json").write_text(json.dumps(told), encoding="utf8")


def began(scratch: Path) -> bool:
    """Return whether the stage in `scratch` has begun to run: it may have waited for its place, and be gone."""
    return (scratch / "process.json").is_file() or (scratch / "ended.json").is_file()


def begun_at(scratch: Path) -> float | None:
    """Return when the process of the stage in `scratch` began, in seconds since 1970; None where there was none."""
    try:
        return (scratch / "process.json").stat().st_mtime
    except OSError:
        return None


def alive(scratch: Path) -> list[psutil.Process]:
    """Return the processes of the stage in `scratch` that still live on this machine."""
    found = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().get(MARK) == str(scratch)
        except (psutil.Error, OSError):
            continue  # another user's, or gone
        if marked and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    leader = _leader(scratch)
    return found if leader is None or leader in found else [leader, *found]


def _leader(scratch: Path) -> psutil.Process | None:
    try:
        told: dict[str, Any] = json.loads((scratch / "process.json").read_text(encoding="utf8"))
        process = psutil.Process(told["pid"])
        same = process.create_time() == told["start"] and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, KeyError, psutil.Error):
        return None
    return process if same else None


def end(scratch: Path, grace: float = 3.0) -> None:
    """End what still lives of the stage in `scratch`: terminate, and kill what is there `grace` seconds later."""
    left = alive(scratch)
    for process in left:
        _send(process, signal.SIGTERM)
    _, deaf = psutil.wait_procs(left, timeout=grace)
    for process in deaf:
        _send(process, signal.SIGKILL)
    psutil.wait_procs(deaf, timeout=grace)


def _send(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:
        return  # it has just ended


def memory(pid: int) -> int:
    """Return the resident memory of a process and all its children, in bytes; 0 when it is gone."""
    try:
        leader = psutil.Process(pid)
        return sum(_resident(p) for p in [leader, *leader.children(recursive=True)])
    except psutil.Error:
        return 0


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
