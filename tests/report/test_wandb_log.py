"""What is logged to Weights & Biases: with a fake of it, and offline with the package itself."""

import os
import subprocess
import sys
import textwrap
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark.errors import PlanError
from benchmark.report import wandb_log
from benchmark.report.wandb_log import WandbLog, config_of, summary_of

REPOSITORY = Path(__file__).resolve().parents[2]
KEY = "d69804e4c4ff27665f3436b868aaa305"


def train_tagger(work): ...


class Stage:
    key, title, step, name = KEY, "ai seed 1", staticmethod(train_tagger), "fake:train_tagger"

    def __init__(self, **inputs):
        self.ingredients = {"inputs": inputs}


def record(status="ok", **other):
    return {
        "cell": "tagger/conll2003--ai/supervised/seed1", "board": "harbour", "status": status, "reason": None,
        "variant": "tagger", "method": "tagger", "level": "fine", "settings": {"lr": 0.1}, "transfer": {"target": "ai"},
        "seed": 1, "final": KEY, "scores": {"fine": {"strict": {"all": [3, 1, 2], "types": {}}}},
        "cost": {"alone_seconds": 12.5, "spent_seconds": None},
    } | other  # fmt: skip


class FakeRun:
    def __init__(self, told):
        self.told, self.history, self.summary, self.code = told, [], {}, None

    def log(self, figures):
        self.history.append(figures)

    def finish(self, *, exit_code):
        self.code = exit_code


class Told:
    """A watcher that takes note of what it is told."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *given: self.calls.append((name, *given))

    @property
    def said(self):
        return [call[1] for call in self.calls if call[0] == "say"]


@pytest.fixture
def runs(monkeypatch):
    """Put a fake in the place of wandb; return the runs that are made."""
    made: list[FakeRun] = []

    def init(**told):
        made.append(FakeRun(told))
        return made[-1]

    fake = SimpleNamespace(
        init=init,
        setup=lambda: SimpleNamespace(settings=SimpleNamespace(mode="offline")),
        Settings=type("Settings", (), {"model_fields": {"console": None}, "__init__": lambda self, console: None}),
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return made


def test_everything_is_passed_on_in_the_same_words(runs, tmp_path):
    told, one = Told(), Stage()
    log = WandbLog(told, "harbour", tmp_path)
    log.planned("work")
    log.started(one)
    log.ticked({one: {}}, 1.0)
    log.retried(one, "killed", 2)
    log.started(one, 2)
    log.ended(one, None, 3.0)
    log.recorded(record())
    log.elsewhere(one, "node17, process 3")
    log.stopping("the hour is over")
    log.say("so it is")
    log.finished("summary")
    log.close()

    assert told.calls == [
        ("planned", "work"), ("started", one), ("ticked", {one: {}}, 1.0), ("retried", one, "killed", 2),
        ("started", one, 2), ("ended", one, None, 3.0), ("recorded", record()),
        ("elsewhere", one, "node17, process 3"), ("stopping", "the hour is over"), ("say", "so it is"),
        ("finished", "summary"), ("close",),
    ]  # fmt: skip


def test_a_stage_is_a_run_with_its_figures_as_history(runs, tmp_path):
    one, reported = Stage(seed=1, recipe={"lr": 0.1}), {}
    log = WandbLog(Told(), "harbour", tmp_path)
    log.started(one, 1)
    log.ticked({one: reported}, None)
    reported.update(time=1.0, epoch=1, loss=0.5)
    log.ticked({one: reported}, None)
    reported.update(time=2.0)
    log.ticked({one: reported}, None)
    reported.update(time=3.0, epoch=2, loss=float("nan"), dev_f1=51.2)
    log.ended(one, None, 12.0)
    log.close()
    [run] = runs

    assert {name: run.told[name] for name in ("group", "job_type", "name", "id", "project")} == {
        "group": "harbour", "job_type": "train_tagger", "name": "ai seed 1", "id": f"{KEY}-1", "project": "cdner",
    }  # fmt: skip
    assert run.told["config"] == {
        "seed": 1, "recipe": {"lr": 0.1}, "cdner": {"stage": KEY, "step": "fake:train_tagger", "attempt": 1},
    }  # fmt: skip
    assert run.history == [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "dev_f1": 51.2}]
    assert (run.code, run.summary) == (0, {"seconds": 12.0})


def test_each_attempt_is_a_run_and_a_failed_one_says_why(runs, tmp_path):
    log = WandbLog(Told(), "harbour", tmp_path)
    log.started(Stage(), 1)
    log.retried(Stage(), "killed by signal 9", 2)
    log.started(Stage(), 2)
    log.ended(Stage(), "out of memory", 1.0)
    log.close()

    assert [run.told["id"] for run in runs] == [f"{KEY}-1", f"{KEY}-2"]
    assert [(run.code, run.summary["reason"]) for run in runs] == [(1, "killed by signal 9"), (1, "out of memory")]


def test_a_stage_that_was_interrupted_is_ended_so(runs, tmp_path):
    log = WandbLog(Told(), "harbour", tmp_path)
    log.started(Stage(), 1)
    log.finished("summary")
    log.close()

    assert [(run.code, run.summary) for run in runs] == [(130, {"reason": "interrupted"})]


def test_a_record_is_a_run_with_its_scores_as_summary(runs, tmp_path):
    log = WandbLog(Told(), "harbour", tmp_path)
    log.recorded(record())
    log.recorded(record("failed", reason="out of memory", scores=None))
    log.close()
    good, bad = runs

    assert (good.told["job_type"], good.told["name"]) == ("cell", record()["cell"])
    assert good.told["id"] != bad.told["id"]
    assert (good.code, bad.code) == (0, 1)
    assert good.summary == {
        "status": "ok", "fine/strict/f1": 66.6667, "fine/strict/precision": 75.0, "fine/strict/recall": 60.0,
        "cost/alone_seconds": 12.5,
    }  # fmt: skip
    assert bad.summary == {"status": "failed", "reason": "out of memory", "cost/alone_seconds": 12.5}
    assert good.told["config"]["settings"] == {"lr": 0.1}
    assert config_of(record())["transfer"] == {"target": "ai"}
    assert summary_of(record("skipped", scores=None, cost=None)) == {"status": "skipped"}


def test_the_project_is_what_wandb_project_says(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    log = WandbLog(Told(), "harbour", tmp_path)
    log.recorded(record())
    log.close()

    assert runs[0].told["project"] == "mine"


def test_a_failure_is_told_once_and_the_board_goes_on(runs, tmp_path, monkeypatch):
    def init(**_):
        raise RuntimeError("no network: Bearer abcdef0123456789\nmore")

    monkeypatch.setattr(sys.modules["wandb"], "init", init)
    told = Told()
    log = WandbLog(told, "harbour", tmp_path)
    for _ in range(3):
        log.started(Stage(), 1)
        log.ticked({Stage(): {"loss": 1.0}}, None)
        log.ended(Stage(), None, 1.0)
        log.recorded(record())
    log.finished("summary")
    log.close()

    assert told.said == ["wandb: RuntimeError: no network: Bearer ***; the board goes on without it"]
    assert [name for name, *_ in told.calls].count("recorded") == 3


def test_a_folder_that_cannot_be_made_is_such_a_failure(runs, tmp_path):
    (tmp_path / "file").write_text("")
    told = Told()
    log = WandbLog(told, "harbour", tmp_path / "file")
    log.recorded(record())
    log.close()

    assert len(told.said) == 1
    assert told.said[0].startswith("wandb: FileExistsError: ")


def test_a_slow_wandb_holds_nothing_up(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["wandb"], "init", lambda **_: time.sleep(5))
    monkeypatch.setattr(wandb_log, "PATIENCE", 0.2)
    told = Told()
    log = WandbLog(told, "harbour", tmp_path)
    began = time.monotonic()
    log.recorded(record())
    log.finished("summary")
    log.close()

    assert time.monotonic() - began < 3
    assert told.said == ["wandb: not all is sent after 0 seconds; the board goes on without it"]


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(PlanError) as refused:
        WandbLog(Told(), "harbour", tmp_path)

    assert str(refused.value) == "--log wandb needs the package wandb: pip install 'cdner[wandb]'"


# ---- with wandb itself

installed = pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")


def python(code, tmp_path, **variables):
    """Run code in a process of its own: wandb reads its variables once."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment = bare | {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(REPOSITORY)} | variables
    (tmp_path / "home").mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=100,
        cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip


DRIVE = """
    from pathlib import Path
    from rich.console import Console
    from benchmark.report.wandb_log import WandbLog
    from benchmark.report.watch import Lines

    def train_tagger(work): ...

    class Stage:
        step, name = staticmethod(train_tagger), "fake:train_tagger"

        def __init__(self, n):
            self.key, self.title = f"{n:032x}", f"ai seed {n}"
            self.ingredients = {"inputs": {"seed": n, "note": "Tr0ub4dor&3"}}

    log = WandbLog(Lines(Console(width=200)), "harbour", Path("logged"))
    log.say("begun")
    stages = [Stage(n) for n in range(4)]
    for one in stages:
        log.started(one, 1)
    for epoch in (1, 2):
        log.ticked({one: {"time": 1.0, "epoch": epoch, "loss": 1 / epoch} for one in stages}, 1.0)
    for n, one in enumerate(stages):
        log.ended(one, None if n else "out of memory: Tr0ub4dor&3", 1.5)
    log.recorded({
        "cell": "tagger/conll2003--ai/supervised/seed1", "status": "ok", "reason": None, "level": "fine",
        "scores": {"fine": {"strict": {"all": [3, 1, 2]}}}, "final": "0" * 32,
    })
    log.finished(None)
    log.close()
"""


@installed
def test_offline_several_runs_at_once_are_written_without_a_network_and_without_secrets(tmp_path):
    secrets = {"HF_TOKEN": "Tr0ub4dor&3", "WANDB_API_KEY": "0123456789" * 4}
    nowhere = {"WANDB_BASE_URL": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    done = python(DRIVE, tmp_path, WANDB_MODE="offline", **secrets, **nowhere)
    files = {path.name: path.read_bytes() for path in (tmp_path / "logged").rglob("run-*.wandb")}
    train = files[f"run-{1:032x}-1.wandb"]
    [cell] = [content for name, content in files.items() if name.startswith("run-cell-")]

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "begun", "[1/0] train ai seed 0  FAILED: out of memory: ***", "[2/0] train ai seed 1  2 s",
        "[3/0] train ai seed 2  2 s", "[4/0] train ai seed 3  2 s",
        "  tagger/conll2003--ai/supervised/seed1  strict F1 66.67",
    ]  # fmt: skip
    assert len(files) == 5
    assert all(word in train for word in (b"harbour", b"train_tagger", b"ai seed 1", b"epoch", b"loss", b"0.5"))
    assert b"fine/strict/f1" in cell
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not any(secret.encode() in everything for secret in secrets.values())


@installed
def test_online_without_a_key_is_refused_before_the_board_starts(tmp_path):
    code = """
        from pathlib import Path
        from benchmark.errors import PlanError
        from benchmark.report.wandb_log import WandbLog
        try:
            WandbLog(None, "harbour", Path("logged"))
        except PlanError as error:
            print(error)
    """
    done = python(code, tmp_path, WANDB_BASE_URL="http://127.0.0.1:9")

    assert done.stdout == (
        "--log wandb: No API key configured. Use `wandb login` to log in. "
        "To log without a network, set WANDB_MODE=offline.\n"
    )


@installed
def test_online_without_a_network_the_board_goes_on(tmp_path):
    done = python(
        DRIVE, tmp_path, WANDB_BASE_URL="http://127.0.0.1:9", WANDB_API_KEY="0123456789" * 4, WANDB_INIT_TIMEOUT="2"
    )

    assert done.returncode == 0
    assert "strict F1 66.67" in done.stdout
    assert done.stdout.count("the board goes on without it") == 1
    assert "Traceback" not in done.stderr
    assert "0123456789" not in done.stdout + done.stderr
