"""Boards in tests: a plan goes in, what it leaves is told. And the command line, in a process of its own."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from rich.console import Console

import methods
from benchmark.cli import closing_words, main
from benchmark.report import watch
from benchmark.run import upkeep
from benchmark.run.cells import plan_cells
from benchmark.run.engine import Engine
from benchmark.run.local import LocalEngine
from benchmark.run.plan import read_board
from benchmark.run.runner import Limits, Runner
from benchmark.run.store import Store
from benchmark.run.workload import workload

NEWS, FILM = "demo-news", "demo-cinema"
DIRECT = {"sources": [NEWS], "targets": [FILM], "regime": "supervised"}


class Lasting(Engine):
    """An engine that a board may close: what runs is ended, and the fork server stays warm for the next test."""

    def __init__(self, engine):
        self.engine, self.slots, self.threads, self.outlives = engine, engine.slots, engine.threads, engine.outlives
        self.started = []
        self.running = set()

    def warm(self):
        """Do nothing: the server is warm."""

    def start(self, scratch):
        self.started.append(json.loads((scratch / "request.json").read_text()))
        self.running.add(scratch)
        self.engine.start(scratch)

    def adopt(self, scratch):
        found = self.engine.adopt(scratch)
        self.running |= {scratch} if found else set()
        return found

    def wait(self, seconds):
        found = self.engine.wait(seconds)
        self.running -= {ending.scratch for ending in found}
        return found

    def stop(self, scratch):
        self.engine.stop(scratch)

    def forget(self, scratch):
        self.running.discard(scratch)
        self.engine.forget(scratch)

    def close(self):
        for scratch in self.running:
            self.engine.stop(scratch)
        deadline = time.monotonic() + 10
        while self.running and time.monotonic() < deadline:
            self.wait(0.1)


class Told:
    """What a run did."""

    def __init__(self, board, store, engine, planned, work, summary, printed):
        self.board, self.store, self.planned, self.work = board, store, planned, work
        self.summary, self.printed = summary, printed
        self.steps = sorted(f"{r['step'].partition(':')[2]} {r['title']}" for r in engine.started)

    @property
    def counts(self):
        s = self.summary
        return {"ok": s.ok, "failed": s.failed, "skipped": s.skipped, "stages": s.stages_run, "before": s.done}

    def path(self, target: str = FILM, seed: int = 1) -> Path:
        """Return where the record of the only variant's cell lies."""
        [variant] = {cell.variant.name for cell in self.board.cells}
        return self.board.folder / "records" / variant / f"{NEWS}--{target}" / "supervised" / f"seed{seed}.json"

    def record(self, *cell) -> dict:
        """Return a record, of a cell's name or of the target and the seed."""
        if cell and "/" in str(cell[0]):
            return json.loads((self.board.folder / "records" / f"{cell[0]}.json").read_text())
        return json.loads(self.path(*cell).read_text())

    def predictions(self, *cell) -> bytes:
        path = self.path(*cell)
        return path.with_name(path.name.replace(".json", ".predictions.jsonl.gz")).read_bytes()

    def stage(self, title: str):
        """Return a stage by its title; of the two of the target, the one that learns."""
        found = {s.title: s for item in self.planned if item.final for s in reversed(item.final.graph())}
        return found[title]

    def final(self, number: int = 0):
        return self.planned[number].final

    def closing(self) -> str:
        return closing_words(self.summary)


class Board:
    """A board in a folder of its own. Called with a plan and its method's settings, it runs."""

    method = "echo"

    def __init__(self, root: Path, engine):
        self.root, self.engine = root, engine
        self.folder, self.store, self.notes = root / "results" / "harbour", root / "store", root / "notes"

    def __call__(self, plan=None, *, retry_failed=False, watcher=None, limits=None, engine=None, **settings) -> Told:
        self.write(plan or {}, settings)
        board = read_board(str(self.folder))
        store = Store.open(self.store)
        engine = Lasting(engine or self.engine)
        planned = plan_cells(board, board.running_order())
        work = workload(board, planned, store, engine.slots, retry_failed=retry_failed)
        upkeep.write_snapshot(store, board, planned)
        out = io.StringIO()
        watcher = watcher or watch.Lines(Console(file=out, width=200))
        summary = Runner(board, work, store, engine, watcher, limits=limits or Limits()).run()
        return Told(board, store, engine, planned, work, summary, out.getvalue())

    def write(self, plan: dict, settings: dict) -> None:
        """Write the plan."""
        self.folder.mkdir(parents=True, exist_ok=True)
        variants = {self.method: {"method": self.method, "set": settings}}
        whole = {"variants": variants, "transfers": [DIRECT], **plan}
        (self.folder / "plan.yaml").write_text(yaml.safe_dump(whole))


class PlayBoard(Board):
    """A board whose stages do as their script says: `board(script={corpus: [what the first run does, ...]})`."""

    method = "play"

    def write(self, plan: dict, settings: dict) -> None:
        self.notes.mkdir(exist_ok=True)
        super().write(plan, {"notes": str(self.notes), **settings})

    def runs(self, corpus: str, seed: int = 1) -> int:
        """Return how often the stage that learns a corpus was run."""
        path = self.notes / f"{corpus}-{seed}.txt"
        return len(path.read_text().splitlines()) if path.is_file() else 0

    def pids(self, name: str = "pids") -> list[int]:
        return [int(pid) for pid in (self.notes / name).read_text().split()]


@pytest.fixture
def harbour(tmp_path, monkeypatch, warm_engine):
    """Return a function that writes a plan and runs its board; what it returns tells all that happened."""
    monkeypatch.setitem(methods.METHODS, "echo", "fake_methods:Echo")
    return Board(tmp_path, warm_engine)


@pytest.fixture
def play(tmp_path, monkeypatch, warm_engine):
    """Return a board whose stages do as their script says."""
    monkeypatch.setitem(methods.METHODS, "play", "fake_methods:Play")
    return PlayBoard(tmp_path, warm_engine)


SECRETS = {"OPENAI_API_KEY": "sk-ab12cd34ef56gh78ij90", "HARBOUR_TOKEN": "correct-horse-battery-staple"}


class Machine:
    """A machine that says it has two GPUs, with secrets in its environment and a folder of modules."""

    def __init__(self, modules: Path):
        self.modules, self.secrets = modules, SECRETS
        path = os.pathsep.join([str(modules), os.environ["PYTHONPATH"]])
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {
                **SECRETS, "CUDA_VISIBLE_DEVICES": "0,1", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1",
            }.items():  # fmt: skip
                patch.setenv(name, value)
            self.engine = LocalEngine()
            self.engine.warm()


@pytest.fixture(scope="session")
def machine(tmp_path_factory, fakes_on_path):
    made = Machine(tmp_path_factory.mktemp("modules"))
    yield made
    made.engine.close()


@pytest.fixture
def cdner(monkeypatch, capsys, warm_engine):
    """Return the command line in this process, on the warm engine: arguments -> exit status, printed, complained."""
    monkeypatch.setitem(methods.METHODS, "echo", "fake_methods:Echo")
    monkeypatch.setitem(methods.METHODS, "play", "fake_methods:Play")
    monkeypatch.setattr("benchmark.run.local.LocalEngine", lambda *_: Lasting(warm_engine))

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return call


class Shell:
    """The command line in processes of their own, which know the fake methods."""

    def __init__(self, root: Path):
        self.root = root
        known = root / "known" / "fakes-1.dist-info"
        known.mkdir(parents=True)
        (known / "METADATA").write_text("Metadata-Version: 2.1\nName: fakes\nVersion: 1\n")
        (known / "entry_points.txt").write_text("[cdner.methods]\necho = fake_methods:Echo\nplay = fake_methods:Play\n")
        path = [str(known.parent), os.environ["PYTHONPATH"]]
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "CDNER_LEASE_SECONDS": "2"}
        self.started = []

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        """Start a command. Its output goes to a file, so that no pipe fills."""
        out = (self.root / f"out-{len(self.started)}.txt").open("w+")
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmark.cli", *arguments], stdout=out, stderr=out, stdin=subprocess.DEVNULL,
            env={**self.environment, **environment}, start_new_session=True,
        )  # fmt: skip
        process.out = out
        self.started.append(process)
        return process

    def end(self, process: subprocess.Popen, seconds: float = 120) -> tuple[int, str]:
        """Wait for a command. Returns its exit status and what it printed."""
        code = process.wait(timeout=seconds)
        process.out.seek(0)
        return code, process.out.read()

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        return self.end(self.start(*arguments, **environment))

    def close(self) -> None:
        """End what still runs."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.out.close()


@pytest.fixture
def shell(tmp_path, fakes_on_path):
    """Return the command line in processes of their own; what a test has left running is ended."""
    made = Shell(tmp_path)
    yield made
    made.close()
