"""Logs a board to Weights & Biases: one run a stage while it runs, and one run a record.

Group     the board's name
Stage     job type: the step; config: what the stage is bound to; history: what it reports
Record    job type: cell; config: variant, settings, transfer, seed; summary: every score, the cost, the status

Online or offline is as WANDB_MODE says, the project as WANDB_PROJECT says, else `cdner`. What is logged stands under
`<folder>/wandb`; `wandb sync` sends what was logged offline. A thread of its own talks to wandb, so that a slow
network holds nothing up; where wandb fails, the board goes on without it.
"""

import hashlib
import math
import os
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmark.errors import PlanError
from benchmark.redact import redact
from benchmark.report.watch import figures_of, plain
from benchmark.score.protocols import Counts

PROJECT = "cdner"
PATIENCE = 60.0  # seconds to wait, at the end, for what is not sent yet
INIT_TIMEOUT = 30.0  # seconds to wait for wandb's server, unless WANDB_INIT_TIMEOUT says so
INTERRUPTED = 130  # exit code of a stage that the harness has ended

QUIET = {  # where this version of wandb knows them
    "console": "off",
    "silent": True,
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "label_disable": True,
    "stop_fn": lambda: None,  # a run stopped in the browser would else interrupt the whole board
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


class WandbLog:
    """Tells another watcher all that it is told, and logs it."""

    def __init__(self, watcher: Any, board: str, folder: Path) -> None:
        """Make ready to log. Raises PlanError where wandb is not installed, or not logged in and to be online.

        folder   what is logged lies in its folder `wandb`
        """
        self.watcher, self.board, self.folder = watcher, board, folder
        self.wandb = _imported()
        self.attempts: dict[str, int] = {}
        self.running: dict[str, Mapping[str, Any]] = {}  # key of a stage that runs -> what it has reported
        self.logged: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, Any] = {}  # the thread's: key of a stage -> its run
        self.trouble: str | None = None
        self.given_up = False
        self.over = False
        self.tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self.thread.start()

    # ---- what a watcher is told

    def planned(self, work: Any) -> None:
        """Pass it on."""
        self.watcher.planned(work)

    def say(self, line: str) -> None:
        """Pass it on."""
        self.watcher.say(line)

    def started(self, stage: Any, attempt: int | None = None) -> None:
        """Start the run of a stage."""
        self.watcher.started(stage, *([] if attempt is None else [attempt]))
        if attempt is not None:
            self.attempts[stage.key] = attempt
        number = self.attempts.get(stage.key, 1)
        key, step, title, inputs = stage.key, stage.step.__name__, stage.title, stage.ingredients["inputs"]
        about = {"stage": key, "step": stage.name, "attempt": number}
        self.running[key], self.logged[key] = {}, {}
        self._do(lambda: self._begin(key, f"{key}-{number}", title, step, {**inputs, "cdner": about}))

    def ticked(self, running: Mapping[Any, dict[str, Any]], left: float | None) -> None:
        """Log what running stages have reported, where it has changed."""
        self.watcher.ticked(running, left)
        for stage, progress in running.items():
            self.running[stage.key] = progress
            self._log(stage.key)
        self._tell()

    def ended(self, stage: Any, reason: str | None, seconds: float) -> None:
        """End the run of a stage."""
        self.watcher.ended(stage, reason, seconds)
        self._close(stage.key, reason, 0 if reason is None else 1, seconds)

    def retried(self, stage: Any, reason: str, attempt: int) -> None:
        """End the run of an attempt that has failed."""
        self.watcher.retried(stage, reason, attempt)
        self._close(stage.key, reason, 1)
        self.attempts[stage.key] = attempt

    def elsewhere(self, stage: Any, owner: str) -> None:
        """Pass it on."""
        self.watcher.elsewhere(stage, owner)

    def stopping(self, why: str) -> None:
        """Pass it on."""
        self.watcher.stopping(why)

    def recorded(self, record: Mapping[str, Any]) -> None:
        """Log a record."""
        self.watcher.recorded(record)
        self._do(lambda: self._record(record))

    def finished(self, summary: Any) -> None:
        """End the runs of stages that were interrupted, and wait until all is logged."""
        self._finish()
        self.watcher.finished(summary)

    def close(self) -> None:
        """Wait until all is logged, and close the other watcher."""
        self._finish()
        self.watcher.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.watcher, name)

    # ---- on the board's thread

    def _do(self, task: Callable[[], None]) -> None:
        """Let the thread do something, unless it has given up."""
        self._tell()
        if not (self.given_up or self.over):
            self.tasks.put(task)

    def _tell(self) -> None:
        """Say once that wandb has failed, here and not in the thread: watchers need not be thread-safe."""
        if self.trouble is not None:
            told, self.trouble = self.trouble, None
            self.watcher.say(f"wandb: {told}; the board goes on without it")

    def _log(self, key: str) -> None:
        """Log what a stage has reported, where it has changed."""
        found = figures_of(self.running.get(key, {}))
        if key in self.logged and found != self.logged[key]:
            self.logged[key] = found
            self._do(lambda: self._history(key, found))

    def _close(self, key: str, reason: str | None, code: int, seconds: float | None = None) -> None:
        """End the run of a stage, with what it reported at the very end: the mapping may have grown since."""
        if key in self.logged:
            self._log(key)
            del self.logged[key], self.running[key]
            self._do(lambda: self._end(key, code, {"reason": reason, "seconds": seconds}))

    def _finish(self) -> None:
        for key in list(self.logged):
            self._close(key, "interrupted", INTERRUPTED)
        if not self.over:
            self.over = True
            self.tasks.put(None)
            self.thread.join(PATIENCE)
            if self.thread.is_alive() and not self.given_up:
                self.given_up = True
                self.trouble = f"not all is sent after {PATIENCE:.0f} seconds"
        self._tell()

    # ---- on the thread

    def _work(self) -> None:
        """Do what is asked, in its order, until None is."""
        while (task := self.tasks.get()) is not None:
            if self.given_up:
                continue
            try:
                task()
            except Exception as error:  # noqa: BLE001 - whatever it is, the board must go on
                first = (str(error).strip().splitlines() or [""])[0]
                self.given_up = True
                self.trouble = redact(f"{type(error).__name__}: {first}"[:300])

    def _start(self, id_: str, name: str, job: str, config: Mapping[str, Any]) -> Any:
        """Return a new run; several are open at once."""
        wanted = QUIET if "WANDB_INIT_TIMEOUT" in os.environ else {**QUIET, "init_timeout": INIT_TIMEOUT}
        known = self.wandb.Settings.model_fields
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            group=self.board,
            job_type=job,
            id=id_,
            name=redact(name),
            dir=str(self.folder),
            config=plain(config),
            reinit="create_new",
            settings=self.wandb.Settings(**{n: value for n, value in wanted.items() if n in known}),
        )

    def _begin(self, key: str, id_: str, title: str, step: str, config: Mapping[str, Any]) -> None:
        self.runs[key] = self._start(id_, title, step, config)

    def _history(self, key: str, found: Mapping[str, Any]) -> None:
        self.runs[key].log({name: value for name, value in plain(found).items() if value is not None})

    def _end(self, key: str, code: int, summary: Mapping[str, Any]) -> None:
        run = self.runs.pop(key)
        run.summary.update(plain({name: value for name, value in summary.items() if value is not None}))
        run.finish(exit_code=code)

    def _record(self, record: Mapping[str, Any]) -> None:
        made_of = (self.board, record["cell"], record.get("final"), record["status"])
        id_ = "cell-" + hashlib.sha256(repr(made_of).encode()).hexdigest()[:24]
        run = self._start(id_, record["cell"], "cell", config_of(record))
        run.summary.update(plain(summary_of(record)))
        run.finish(exit_code=1 if record["status"] == "failed" else 0)


def _imported() -> Any:
    """Return wandb, logged in where it is to be online. Raises PlanError."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # of wandb's own errors, to its makers
    try:
        import wandb
    except ImportError:
        raise PlanError("--log wandb needs the package wandb: pip install 'cdner[wandb]'") from None
    if wandb.setup().settings.mode not in {"offline", "dryrun", "disabled"}:
        try:
            wandb.login(verify=False)  # asks for a key where there is none and somebody to be asked
        except wandb.Error as error:
            raise PlanError(
                f"--log wandb: {redact(str(error))} To log without a network, set WANDB_MODE=offline."
            ) from None
    return wandb


def config_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record's cell was asked to do."""
    wanted = ("board", "variant", "method", "level", "backbone", "settings", "transfer", "regime", "draw", "seed")
    return {name: record.get(name) for name in (*wanted, "corpora")}


def summary_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what came of a cell: every score in percent, as `fine/strict/f1`, the cost, the status."""
    found: dict[str, Any] = {"status": record["status"]}
    if record.get("reason"):
        found["reason"] = record["reason"]
    for level, protocols in (record.get("scores") or {}).items():
        for protocol, scores in protocols.items():
            counts = Counts(*scores["all"])
            for name in ("f1", "precision", "recall"):
                found[f"{level}/{protocol}/{name}"] = round(getattr(counts, name), 4)
    for name, value in (record.get("cost") or {}).items():
        if isinstance(value, (int, float)) and math.isfinite(value):
            found[f"cost/{name}"] = value
    return found
