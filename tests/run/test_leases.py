"""Two harnesses on one store: each stage is built once, a dead owner's lease is taken over, a live one's waited for."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from filelock import SoftFileLease

from benchmark.errors import StoreError
from benchmark.report import watch
from benchmark.run.runner import Runner
from tests.run.conftest import PlayBoard, Shell

NEWS, FILM, SKY = "demo-news", "demo-cinema", "demo-astronomy"
BOTH = {"transfers": [{"sources": [NEWS], "targets": [FILM, SKY], "regime": "supervised"}]}
HOLD = """
import sys
from filelock import SoftFileLease
lease = SoftFileLease(sys.argv[1], lease_duration=float(sys.argv[2]), thread_local=False)
lease.acquire(timeout=0)
print("held", flush=True)
sys.stdin.read()
lease.release()
"""


class Heard(watch.Lines):
    """A watcher that acts when the board is planned, and when a stage starts."""

    def __init__(self, *, planned=None, started=None):
        from io import StringIO

        from rich.console import Console

        super().__init__(Console(file=StringIO(), width=200))
        self.on_planned, self.on_started, self.owners, self.starts = planned, started, [], []

    def planned(self, work):
        super().planned(work)
        if self.on_planned:
            self.on_planned({s.title: s for s in reversed(list(work.todo.values()))})

    def started(self, stage, attempt=1):
        super().started(stage, attempt)
        self.starts.append((stage.title, attempt))
        if self.on_started:
            self.on_started(stage)

    def elsewhere(self, stage, owner):
        super().elsewhere(stage, owner)
        self.owners.append(owner)

    @property
    def text(self):
        return self.console.file.getvalue()


def marker(path: Path, *, host: str, duration: float, pid: int = 4711) -> None:
    """Write the marker of a lease that somebody else holds, whole at once."""
    text = f"filelock/2\npid={pid}\nhost={host}\nmode=lease\ntoken={os.urandom(16).hex()}\nduration={duration!r}\n"
    made = path.with_name(f"{path.name}.new")
    made.write_text(text)
    made.replace(path)


@pytest.fixture
def holder(tmp_path):
    """Return a function that starts a process that holds a lease."""
    started = []

    def hold(path: Path, seconds: float) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def quick(monkeypatch, seconds="1"):
    monkeypatch.setenv("CDNER_LEASE_SECONDS", seconds)


# ---- two command lines at once


class Twins:
    """What two runs of one board at once have left; one of its stages fails."""

    def __init__(self, root: Path):
        self.play, shell = PlayBoard(root, None), Shell(root)
        shell.environment.update(CDNER_STORE=str(self.play.store), CDNER_RESULTS=str(root / "results"))
        script = {f"{NEWS} 1": ["wait both"], NEWS: ["sleep 0.3"], FILM: ["sleep 0.3"], f"{SKY} 2": ["raise fog"]}
        self.play.write({**BOTH, "seeds": [1, 2]}, {"script": script})
        command = ("run", str(self.play.folder), "--slots", "1", "--threads", "1", "--no-table")
        runs = [shell.start(*command) for _ in range(2)]
        deadline = time.monotonic() + 90
        try:
            while not any("being built by" in Path(run.out.name).read_text() for run in runs):
                assert time.monotonic() < deadline, [Path(run.out.name).read_text() for run in runs]
                time.sleep(0.05)
            (self.play.notes / "both").touch()
            self.ended = [shell.end(run) for run in runs]
        finally:
            shell.close()
        self.records = {p.relative_to(self.play.folder / "records" / "play").as_posix(): json.loads(p.read_text())
                        for p in (self.play.folder / "records").rglob("*.json")}  # fmt: skip
        self.stages = [json.loads(p.read_text()) for p in (self.play.store / "stages").glob("*/manifest.json")]


@pytest.fixture(scope="module")
def twins(tmp_path_factory, fakes_on_path):
    return Twins(tmp_path_factory.mktemp("twins"))


FALLEN = f"{NEWS}--{SKY}/supervised/seed2.json"


def test_two_runs_at_once_build_every_stage_once(twins):
    assert [twins.play.runs(corpus, seed) for corpus in (NEWS, FILM, SKY) for seed in (1, 2)] == [1] * 6, twins.ended
    assert len(twins.stages) == 8
    assert {s["attempt"] for s in twins.stages} == {1}


def test_two_runs_at_once_both_end_with_the_whole_board(twins):
    statuses = {name: record["status"] for name, record in twins.records.items()}

    assert [code for code, _ in twins.ended] == [1, 1]  # one stage has failed
    assert statuses.pop(FALLEN) == "failed"
    assert list(statuses.values()) == ["ok"] * 3
    for _, printed in twins.ended:
        assert "Traceback" not in printed
        assert "cells left" not in printed


def test_a_stage_that_failed_in_one_run_is_not_run_again_by_the_other(twins):
    record = twins.records[FALLEN]

    assert twins.play.runs(SKY, 2) == 1
    assert record["reason"] == f"act ({SKY} seed 2): error: ValueError: fog"
    assert (record["failure"]["attempt"], record["failure"]["log"][-1]) == (1, "ValueError: fog")
    assert all(f"failed: act ({SKY} seed 2): error: ValueError: fog" in printed for _, printed in twins.ended)


def test_two_runs_at_once_count_the_seconds_of_a_stage_once(twins):
    spent = sum(record["cost"]["spent_seconds"] for record in twins.records.values())

    assert spent == pytest.approx(sum(s["spent_seconds"] for s in twins.stages), abs=0.05 * 4 + 0.01)


def test_two_runs_at_once_leave_nothing_behind(twins):
    for name in ("scratch", "leases", "partial", "broken"):
        assert not list((twins.play.store / name).glob("*")), name
    assert len(list((twins.play.store / "attempts").iterdir())) == 1
    assert not list(twins.play.folder.rglob(".*"))


# ---- a lease that another holds


def test_what_a_killed_process_was_building_is_taken_over_at_once(play, store, holder, monkeypatch):
    quick(monkeypatch, "600")
    seen = []

    def die(stages):
        stage = stages[f"{NEWS} seed 1"]
        dead = holder(store.root / "leases" / f"{stage.key}.lock", 600.0)
        scratch = store.prepare(stage, threads=1)
        (scratch / "process.json").write_text(json.dumps({"pid": dead.pid, "start": 1.0}))
        dead.kill()
        dead.wait()
        seen.append((time.monotonic(), scratch))

    taken = []
    heard = Heard(planned=die, started=lambda _: taken.append(time.monotonic()))
    ran = play(watcher=heard)
    [(began, scratch)] = seen

    assert taken[0] - began < 10
    assert heard.owners == []
    assert not scratch.exists()
    assert [(a["attempt"], a["reason"]) for a in ran.record()["attempts"]] == [(1, "interrupted")]
    assert (ran.record()["status"], ran.record()["stages"][0]["attempt"]) == ("ok", 2)
    assert list((store.root / "leases").iterdir()) == []


def test_a_lease_of_a_live_process_is_waited_for(play, store, holder, monkeypatch):
    quick(monkeypatch)
    play.write({}, {})
    held, seen = [], []

    def take(stages):
        held.append(holder(store.root / "leases" / f"{stages[f'{NEWS} seed 1'].key}.lock", 1.0))

    heard = Heard(planned=take)
    heard.ticked = lambda running, left: (seen.append(time.monotonic()), release(held, seen))
    ran = play(watcher=heard)

    assert ran.record()["status"] == "ok"
    assert heard.owners == [f"{socket.gethostname()}, process {held[0].pid}"]
    assert heard.text.count(f"is being built by {socket.gethostname()}, process {held[0].pid}; waiting for it") == 1
    assert seen[-1] - seen[0] > 2.5  # longer than a lease lives without a heartbeat


def release(held, seen) -> None:
    """Let the lease go when it has been waited for, for three seconds."""
    if seen[-1] - seen[0] > 3 and held[0].poll() is None:
        held[0].stdin.close()
        held[0].wait()


def test_a_lease_of_another_machine_expires_without_a_heartbeat(play, store, monkeypatch):
    quick(monkeypatch)
    began = []

    def take(stages):
        began.append(time.monotonic())
        marker(store.root / "leases" / f"{stages[f'{NEWS} seed 1'].key}.lock", host="far-away", duration=1.0)

    heard = Heard(planned=take)
    ran = play(watcher=heard)

    assert heard.owners == ["far-away, process 4711"]
    assert ran.record()["status"] == "ok"
    assert 1 < time.monotonic() - began[0] < 12
    assert list((store.root / "leases").iterdir()) == []


def test_a_lease_that_is_counted_otherwise_is_told(store, monkeypatch):
    path = store.root / "leases" / f"{'a' * 32}.lock"
    marker(path, host="far-away", duration=60.0)
    quick(monkeypatch)

    with pytest.raises(StoreError) as refused:
        store.lease("a" * 32).take()

    assert str(refused.value) == (
        f"{path} holds a lease of 60.0s but this contender configured 1.0s; every contender for a path must agree on "
        "lease_duration. Set CDNER_LEASE_SECONDS alike everywhere."
    )


def test_a_lease_says_who_holds_it(store):
    mine = store.lease("a" * 32)
    assert mine.take()

    assert store.lease("a" * 32).owner == f"{socket.gethostname()}, process {os.getpid()}"
    assert not store.lease("a" * 32).take()
    mine.release()
    mine.release()
    assert store.lease("a" * 32).owner == "another process"


def test_what_another_builds_meanwhile_is_not_built_again(play, store, holder, monkeypatch):
    """The other harness finishes the source's stage while this one waits for its lease."""
    quick(monkeypatch)
    first = play()
    key = first.stage(f"{NEWS} seed 1").key
    (store.folder(key)).rename(play.root / "aside")
    (store.folder(first.stage(f"{FILM} seed 1").key)).rename(play.root / "aside2")
    (store.folder(first.final().key)).rename(play.root / "aside3")
    first.path().unlink()
    held = []
    heard = Heard(planned=lambda stages: held.append(holder(store.root / "leases" / f"{key}.lock", 1.0)))
    heard.elsewhere = lambda stage, owner: (play.root / "aside").rename(store.folder(key))
    ran = play(watcher=heard)

    assert ran.steps == [f"act {FILM} seed 1", f"spot {FILM} seed 1"]
    assert (ran.counts["stages"], play.runs(NEWS)) == (2, 1)
    assert ran.record()["status"] == "ok"


@pytest.mark.parametrize(
    ("reason", "ran_here"),
    [("error", 0), ("out of memory", 0), ("killed", 1), ("interrupted", 1), ("LLM budget spent", 1), ("disk full", 1)],
)
def test_what_failed_elsewhere_since_this_run_began_is_believed_where_it_would_fail_here(play, store, reason, ran_here):
    def note(stages):
        store.note_attempt(stages[f"{NEWS} seed 1"].key, {
            "attempt": 1, "reason": reason, "message": f"{reason}: far away", "seconds": 1.0, "ended": "2026-01-01T00:00:00",
            "host": "far-away", "log": ["fog"],
        })  # fmt: skip

    ran = play(watcher=Heard(planned=note))

    assert play.runs(NEWS) == ran_here
    assert ran.record()["status"] == ("ok" if ran_here else "failed")
    if not ran_here:
        assert ran.record()["reason"] == f"act ({NEWS} seed 1): {reason}: far away"
        assert ran.record()["attempts"][0]["reason"] == reason


def test_what_failed_before_this_run_began_is_tried_when_asked(play, store):
    play(script={NEWS: ["raise fog", ""]})
    ran = play(script={NEWS: ["raise fog", ""]}, retry_failed=True)

    assert (play.runs(NEWS), ran.record()["status"]) == (2, "ok")


# ---- a lease that is lost


def stage_of(play, corpus: str) -> int:
    """Return the process of the stage that learns a corpus, once it runs."""
    deadline = time.monotonic() + 60
    while not play.runs(corpus):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int((play.notes / f"{corpus}-1.txt").read_text().split()[0])


@pytest.mark.parametrize("act", ["sleep 1000", "deaf"])
def test_a_stage_whose_lease_was_lost_is_ended_and_left_to_the_new_owner(play, store, monkeypatch, act):
    quick(monkeypatch)
    began, pids = [], []

    def lose(stage):
        if not began and stage.title == f"{NEWS} seed 1":
            began.append(time.monotonic())
            pids.append(stage_of(play, NEWS))
            marker(store.root / "leases" / f"{stage.key}.lock", host="far-away", duration=1.0)

    heard = Heard(started=lose)
    ran = play({"budget": {"minutes_per_stage": 0.5}}, script={NEWS: [act, ""]}, watcher=heard)

    assert time.monotonic() - began[0] < 20
    assert f"another harness took over {NEWS} seed 1: this one was away for too long" in heard.text
    assert heard.owners == ["far-away, process 4711"]
    assert not psutil.pid_exists(pids[0])
    assert heard.starts[:2] == [(f"{NEWS} seed 1", 1), (f"{NEWS} seed 1", 1)]  # losing a lease is no attempt
    assert ran.record()["status"] == "ok"
    assert (play.runs(NEWS), ran.record()["attempts"]) == (2, [])


@pytest.mark.parametrize("ends", ["after it was told", "before"])
def test_a_stage_that_outlives_its_harness_is_left_to_the_new_owner_as_it_is(
    play, store, monkeypatch, warm_engine, ends
):
    """As a cluster's job: it is not ended, its folder is not cleared away, and what it makes is taken."""
    quick(monkeypatch, "60")
    monkeypatch.setattr(warm_engine, "outlives", True, raising=False)
    lost = []

    def lose(stage):
        if not lost and stage.title == f"{NEWS} seed 1":
            stage_of(play, NEWS)
            marker(store.root / "leases" / f"{stage.key}.lock", host="far-away", duration=60.0)
            [scratch] = store.scratches(stage.key)
            lost.append(scratch)
            if ends == "before":  # it is seen to have ended before the heartbeat has told of the loss
                (play.notes / "go").touch()
            else:
                runners[0].lost.add(stage.key)

    def elsewhere(stage, owner):
        assert owner == "far-away, process 4711"
        (play.notes / "go").touch()

    runners = []
    real = Runner.run
    monkeypatch.setattr(Runner, "run", lambda self: runners.append(self) or real(self))
    heard = Heard(started=lose)
    heard.elsewhere = elsewhere
    ran = play(script={NEWS: ["wait go"]}, watcher=heard)

    assert f"another harness took over {NEWS} seed 1: this one was away for too long" in heard.text
    assert (play.runs(NEWS), ran.record()["status"], ran.record()["attempts"]) == (1, "ok", [])
    assert lost[0].is_dir()


def test_a_lost_lease_is_told_by_its_heartbeat(store, monkeypatch):
    quick(monkeypatch, "0.5")
    lost = []
    lease = store.lease("a" * 32, lost=lambda: lost.append(1))
    assert lease.take()
    marker(store.root / "leases" / f"{'a' * 32}.lock", host="far-away", duration=0.5)
    deadline = time.monotonic() + 5
    while not lost and time.monotonic() < deadline:
        time.sleep(0.02)
    lease.release()

    assert lost == [1]
    owner = SoftFileLease(store.root / "leases" / f"{'a' * 32}.lock").owner
    assert owner.hostname == "far-away"  # giving back what is another's leaves it alone


# ---- what the cells together cost


def test_a_shared_stage_is_charged_to_one_cell(play):
    ran = play(BOTH, script={NEWS: ["sleep 1"]})
    spent = [ran.record(t)["cost"]["spent_seconds"] for t in (FILM, SKY)]

    assert sorted(s >= 1 for s in spent) == [False, True]
    assert all(ran.record(t)["cost"]["alone_seconds"] >= 1 for t in (FILM, SKY))


def test_a_charge_that_was_cut_short_falls_to_one_cell_alone(play, store):
    first = play()
    key = first.stage(f"{NEWS} seed 1").key
    (store.folder(key) / "charged.txt").write_text("")

    assert [store.charge(key, "harbour/one"), store.charge(key, "harbour/two"), store.charge(key, "harbour/one")] == [
        True, False, True,
    ]  # fmt: skip
