"""The engine `slurm` where SLURM answers as a test says: it is full, silent, slow, or hears nothing of a cancellation."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from benchmark.errors import EngineError
from benchmark.run import slurm, slurm_jobs
from benchmark.run.slurm import Busy, Full, SlurmEngine, SlurmOptions

READY = subprocess.CompletedProcess([], 0, "", "")


class Cluster:
    """What stands for SLURM.

    refuses   what sbatch raises, as long as it stands there
    deaf      whether scancel is not heard
    """

    def __init__(self, root: Path):
        self.root, self.states, self.asked, self.cancelled = root, {}, [], []
        self.refuses: Exception | None = None
        self.deaf = self.silent = False

    def submit(self, options, scratch, cluster):
        self.asked.append(scratch.name)
        if self.refuses is not None:
            raise self.refuses
        job = slurm_jobs.Job(scratch, scratch.name, str(len(self.states) + 1), cluster, detached=False, submitted=0.0)
        job.write()
        self.states[job.id] = "RUNNING"
        return job

    def told(self, ids):
        return None if self.silent else {i: slurm_jobs.State(i, self.states.get(i, "GONE")) for i in ids}

    def call(self, *command, **_):
        assert command[0] == "scancel"
        self.cancelled.append(command[1:])
        if not self.deaf:
            self.states.update(dict.fromkeys(command[1:], "CANCELLED"))
        return READY

    def scratch(self, name: str) -> Path:
        folder = self.root / "scratch" / f"{name}.0123456789ab"
        (folder / "artefact").mkdir(parents=True)
        (folder / "slurm").mkdir()
        return folder


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    made = Cluster(tmp_path)
    monkeypatch.setattr(slurm, "submit", made.submit)
    monkeypatch.setattr(slurm, "check", lambda: "cdner")
    monkeypatch.setattr(slurm_jobs, "states", made.told)
    monkeypatch.setattr(slurm_jobs, "call", made.call)
    monkeypatch.setattr(slurm, "GRACE", 1.0)
    monkeypatch.setattr(slurm, "CANCEL_PAUSE", 0.1)
    return made


@pytest.fixture
def engine(cluster):
    said = []
    made = SlurmEngine(SlurmOptions(poll_seconds=0.01), tell=said.append)
    made.said = said
    yield made
    cluster.deaf = False
    made.close()


def ended(engine, seconds: float = 3.0) -> list:
    return engine.wait(seconds)


def test_a_full_cluster_is_not_asked_for_each_stage_and_takes_the_next_when_a_job_has_ended(
    engine, cluster, monkeypatch
):
    monkeypatch.setattr(slurm, "PATIENCE", 0.0)
    first, *others = [cluster.scratch(name) for name in "abcd"]
    engine.start(first)
    cluster.refuses = Full("QOSMaxSubmitJobPerUserLimit")
    for scratch in others:
        engine.start(scratch)
    assert engine.wait(0.2) == []  # however long that takes
    assert len(cluster.asked) == 2
    assert engine.said == ["SLURM takes no jobs now (QOSMaxSubmitJobPerUserLimit); tried again when one has ended"]

    cluster.refuses = None
    cluster.states["1"] = "CANCELLED"
    monkeypatch.setattr(slurm, "SETTLE_SHORT", 0.0)
    assert [e.scratch for e in ended(engine)] == [first]
    assert engine.wait(0.1) == []
    assert cluster.asked[2:] == [scratch.name for scratch in others]


def test_patience_begins_anew_with_each_job_that_is_taken(engine, cluster, monkeypatch):
    monkeypatch.setattr(slurm, "PATIENCE", 0.3)
    engine.start(cluster.scratch("a"))
    cluster.refuses = Busy("Socket timed out")
    engine.start(cluster.scratch("b"))
    engine.wait(0.2)
    cluster.refuses = None
    engine.wait(0.05)
    cluster.refuses = Busy("Socket timed out")
    engine.start(cluster.scratch("c"))
    engine.wait(0.2)

    with pytest.raises(EngineError) as caught:
        engine.wait(1.0)
    assert str(caught.value) == "SLURM has taken no jobs for 0 minutes: Socket timed out"


def test_a_cancellation_that_is_not_heard_is_repeated(engine, cluster, monkeypatch):
    monkeypatch.setattr(slurm, "SETTLE_SHORT", 0.0)
    scratch = cluster.scratch("a")
    engine.start(scratch)
    cluster.deaf = True
    engine.stop(scratch)
    engine.wait(0.1)
    cluster.deaf = False

    assert [e.over for e in ended(engine)] == ["killed: SLURM job 1 was cancelled"]
    assert len(cluster.cancelled) > 2


def test_what_was_cancelled_and_runs_on_is_told_when_the_engine_is_closed(engine, cluster):
    one, other = cluster.scratch("a"), cluster.scratch("b")
    engine.start(one)
    engine.start(other)
    (other / "ended.json").write_text(json.dumps({"code": 1, "over": None, "seconds": 1.0, "signal": None}))
    cluster.deaf = True
    engine.close()

    assert (engine.runs_on(one), engine.runs_on(other)) == ("SLURM job 1", None)
    assert len(cluster.cancelled) > 2
    engine.close()  # as the command line does once more
    assert engine.runs_on(one) == "SLURM job 1"


def test_a_submission_that_ctrl_c_cuts_off_is_not_lost(engine, cluster, monkeypatch):
    scratch = cluster.scratch("a")

    def cut_off(options, scratch, cluster_):
        slurm_jobs.Job(scratch, scratch.name, None, cluster_, detached=False, submitted=0.0).write()
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm, "submit", cut_off)
    monkeypatch.setattr(slurm_jobs, "find", lambda name: slurm_jobs.State("7", "RUNNING"))
    cluster.deaf, cluster.states["7"] = True, "RUNNING"
    with pytest.raises(KeyboardInterrupt):
        engine.start(scratch)
    engine.close()

    assert cluster.cancelled[0] == (f"--name={scratch.name}",)
    assert ("7",) in cluster.cancelled
    assert engine.runs_on(scratch) == "SLURM job 7"


def test_a_job_that_another_harness_waits_for_is_not_cancelled(engine, cluster):
    scratch = cluster.scratch("a")
    engine.start(scratch)
    engine.forget(scratch)
    engine.close()

    assert (cluster.cancelled, cluster.states, engine.runs_on(scratch)) == ([], {"1": "RUNNING"}, None)


@pytest.mark.parametrize(
    ("state", "printed", "waits"),
    [("COMPLETED", "", True), ("FAILED", "", True), ("GONE", "", True), ("CANCELLED", "", False),
     ("FAILED", "slurmstepd: error: Exceeded job memory limit", False)],
)  # fmt: skip
def test_a_job_that_told_nothing_is_given_time_where_nobody_says_why_it_ended(
    engine, cluster, monkeypatch, state, printed, waits
):
    monkeypatch.setattr(slurm, "SETTLE_SHORT", 0.0)
    scratch = cluster.scratch("a")
    engine.start(scratch)
    (scratch / "slurm" / "1_0_log.err").write_text(printed)
    cluster.states["1"] = state
    assert bool(engine.wait(0.2)) != waits

    if waits:
        monkeypatch.setattr(slurm_jobs, "SETTLE", 0.0)
        assert [e.scratch for e in ended(engine)] == [scratch]


def test_an_artefact_that_is_told_of_is_waited_for(engine, cluster):
    scratch = cluster.scratch("a")
    engine.start(scratch)
    (scratch / "ended.json").write_text(json.dumps({"code": 0, "over": None, "seconds": 1.0, "signal": None}))
    assert engine.wait(0.1) == []

    manifest = cluster.root / "stages" / "a" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    assert [(e.code, e.seconds) for e in ended(engine)] == [(0, 1.0)]


def test_a_job_lives_until_what_it_has_told_of_can_be_seen(cluster):
    scratch = cluster.scratch("a")
    job = cluster.submit(None, scratch, "cdner")
    told = {"code": 0, "over": None, "seconds": 1.0, "signal": None}
    (scratch / "ended.json").write_text(json.dumps(told))
    assert slurm_jobs.lives(job)

    os.utime(scratch / "ended.json", (time.time() - 61, time.time() - 61))
    assert not slurm_jobs.lives(job)  # it will not come any more
