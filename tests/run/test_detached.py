"""Boards that are left to SLURM, where it answers as a test says: two commands at once, and a SLURM that is silent."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.errors import EngineError
from benchmark.run import detached, slurm, slurm_jobs
from benchmark.run.cells import plan_cells
from benchmark.run.plan import read_board
from benchmark.run.runner import Runner
from benchmark.run.store import Store
from benchmark.run.workload import workload
from tests.run.conftest import FILM

ALONE = {"transfers": [{"sources": [], "targets": [FILM], "regime": "in-domain"}]}  # two stages


class Left:
    """A board that is left to what stands for SLURM.

    states   of jobs, by their numbers
    silent   whether SLURM does not answer
    """

    def __init__(self, play):
        play.write(ALONE, {})
        self.folder, self.states, self.silent = play.folder, {}, False
        self.board = read_board(str(play.folder))
        self.store = Store.open(play.store)
        self.planned = plan_cells(self.board, self.board.running_order())
        self.work = workload(self.board, self.planned, self.store, 1)

    def submit(self, options, scratch, cluster, *, after=(), detached=False):
        number = str(len(self.states) + 1)
        job = slurm_jobs.Job(scratch, scratch.name, number, cluster, detached, 0.0)
        job.write()
        self.states[number] = "PENDING"
        return job

    def told(self, ids):
        return None if self.silent else {i: slurm_jobs.State(i, self.states.get(i, "GONE")) for i in ids}

    def detach(self) -> detached.Detached:
        return detached.detach(self.board, self.work, self.store, slurm.SlurmOptions())

    def written(self) -> list[detached.Submitted]:
        return detached.read(self.store.root, self.folder)


@pytest.fixture
def left(play, monkeypatch):
    made = Left(play)
    monkeypatch.setattr(slurm, "check", lambda: "cdner")
    monkeypatch.setattr(slurm, "submit", made.submit)
    monkeypatch.setattr(slurm_jobs, "states", made.told)
    monkeypatch.setattr(slurm_jobs, "cluster", lambda: None if made.silent else "cdner")
    monkeypatch.setattr(slurm_jobs, "ASKED", slurm_jobs.Asked())
    return made


def test_what_another_command_submits_meanwhile_is_not_submitted_twice(left, monkeypatch):
    real, looks = detached._living, []

    def living(store, key):
        looks.append(key)
        if len(looks) == 1:
            left.submit(None, store.prepare(left.work.todo[key], threads=1), "cdner")  # right after this look
            return None
        return real(store, key)

    monkeypatch.setattr(detached, "_living", living)
    found = left.detach()

    assert [len(found.queued), len(found.submitted)] == [1, 1]
    assert list(left.states) == ["1", "2"]
    assert found.submitted[0].after == ("1",)


def test_a_stage_that_another_job_builds_now_is_told_with_that_job(left):
    first = left.detach().submitted[0]
    Path(first.scratch, "slurm.json").unlink()
    left.states["1"] = "CANCELLED"
    again = left.submit(None, left.store.prepare(left.work.todo[first.key], threads=1), "cdner")
    found = next(s for s in left.detach().queued if s.key == first.key)

    assert (found.job, found.scratch) == (again.id, str(again.scratch))


def test_a_limit_of_submissions_is_told_at_once_and_what_was_submitted_is_written_down(left, monkeypatch):
    def full(options, scratch, cluster, **more):
        if left.states:
            raise slurm.Full("QOSMaxSubmitJobPerUserLimit")
        return left.submit(options, scratch, cluster, **more)

    monkeypatch.setattr(slurm, "submit", full)
    with pytest.raises(EngineError) as caught:
        left.detach()

    assert str(caught.value) == (
        "SLURM takes no more jobs (QOSMaxSubmitJobPerUserLimit). What was submitted stays; the same command goes on "
        "from here."
    )
    assert [stage.job for stage in left.written()] == ["1"]


def test_what_is_submitted_while_records_are_collected_stays_written_down(left, monkeypatch):
    left.detach()
    known = left.written()
    other = replace(known[0], key="f" * 32, scratch="elsewhere", job="77")
    real = Runner.gather

    def gather(self, tried):
        detached.write(left.store.root, left.board, [*known, other])
        return real(self, tried)

    monkeypatch.setattr(Runner, "gather", gather)
    left.states["1"] = "CANCELLED"
    detached.collect(left.board, left.work, left.store, Quiet())

    assert [(stage.job, stage.ended) for stage in left.written()] == [
        ("1", "cancelled: by a person, before it began"), ("2", None), ("77", None),
    ]  # fmt: skip


class Quiet:
    """A watcher that says nothing."""

    def __getattr__(self, name):
        return lambda *_, **__: None


def test_a_silent_slurm_leaves_what_it_has_to_come(left, cdner):
    left.detach()
    left.silent = True
    code, printed, complained = cdner("collect", left.folder)

    assert (code, complained) == (3, "")
    assert "2 unknown" in printed
    assert "SLURM cannot be asked from here" in printed
    assert "--detach" not in printed
    assert json.loads(cdner("collect", left.folder, "--json")[1])["left"] == 1


def test_a_job_that_nobody_has_asked_for_yet_is_asked_for_at_once(left):
    first, second = (left.submit(None, left.store.prepare(s, threads=1), "cdner") for s in left.work.todo.values())
    left.states = {first.id: "RUNNING", second.id: "RUNNING"}

    assert slurm_jobs.ASKED.state(first).state == "RUNNING"
    slurm_jobs.ASKED.know([second])
    assert slurm_jobs.ASKED.state(second).state == "RUNNING"
