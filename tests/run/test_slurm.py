"""The engine `slurm` on a real SLURM: two nodes on this host, started here (`slurm_host`), and no fake `sbatch`.

A board whose stages end in every way takes its minute beside the other tests.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from benchmark.errors import EngineError
from benchmark.run import detached, slurm_jobs
from benchmark.run.failure import failure
from benchmark.run.slurm import Busy, SlurmEngine, SlurmOptions, parameters, submit
from tests.run import slurm_host
from tests.run.conftest import FILM, NEWS, Board, PlayBoard, Shell

SKY = "demo-astronomy"
BOTH = {"transfers": [{"sources": [NEWS], "targets": [FILM, SKY], "regime": "supervised"}]}
ALONE = {"transfers": [{"sources": [], "targets": [FILM], "regime": "in-domain"}]}  # two stages a seed
QUICK = {"poll_seconds": 0.3, "max_jobs": 4, "mem_gib": 0.5}


def needed(what: str, missing: str | None) -> None:
    """Skip where programs are missing, which say what; fail in CI."""
    if missing is not None:
        told = f"{what} cannot be tested: {missing}"
        if os.environ.get("CI") or os.environ.get("CDNER_CI"):
            pytest.fail(told)
        pytest.skip(told)


@pytest.fixture(scope="module")
def cluster(fakes_on_path):
    """A SLURM of our own. Without its programs: skipped on a laptop, failed in CI."""
    needed("the engine slurm", slurm_host.lacking())
    made = slurm_host.Slurm()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(made.conf))
        patch.setattr(slurm_jobs, "FRESH", 0.3)
        try:
            made.start()
            yield made
        finally:
            made.stop()


@pytest.fixture
def engine(cluster):
    made = SlurmEngine(SlurmOptions(**QUICK))
    yield made
    made.close()


# ---- how jobs end


def job_of(board: PlayBoard, title: str) -> slurm_jobs.Job:
    """Return the job of the stage of a title, once SLURM has its number."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        for job in slurm_jobs.in_store(board.store):
            told = json.loads((job.scratch / "request.json").read_text())
            if told["title"] == title and told["step"].endswith(":act") and job.id is not None:
                return job
        time.sleep(0.1)
    raise AssertionError(f"no job of {title}")


def until(what, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Fates:
    """A board whose stages end in every way at once, and what became of it."""

    SCRIPTS: ClassVar = {  # seed -> what the stage of the target does, run by run
        1: [""],
        2: ["raise the mast broke"],
        3: ["memory"],
        4: ["hoard 800"],  # over what SLURM lends
        5: ["die", ""],
        6: ["wait never", ""],  # cancelled
        7: ["sleep 60"],  # over its own time
        8: ["wait never"],  # over SLURM's time
    }

    def __init__(self, root: Path, cluster: slurm_host.Slurm):
        self.cluster, self.board, self.shell = cluster, PlayBoard(root, None), Shell(root)
        self.store = self.board.store
        plan = {**ALONE, "seeds": list(self.SCRIPTS), "budget": {"minutes_per_stage": 0.9}}
        self.board.write(plan, {"script": {f"{FILM} {seed}": does for seed, does in self.SCRIPTS.items()}})
        self.run = self.shell.start(*slurm_command(root, "run", self.board), CDNER_STORE=str(self.store))

    def interfere(self) -> None:
        """When they run, cancel one job, and let SLURM give less time to another."""
        cluster = self.cluster
        until(lambda: self.board.runs(FILM, 8) and self.board.runs(FILM, 6))
        cluster.command("scontrol", "update", f"JobId={job_of(self.board, f'{FILM} seed 8').id}", "TimeLimit=1")
        self.cancelled = job_of(self.board, f"{FILM} seed 6").id
        cluster.command("scancel", self.cancelled)

    @cached_property
    def ended_with(self) -> tuple[int, str]:
        """Return the command's exit status and what it printed, when it has ended."""
        return self.shell.end(self.run, 300)

    def record(self, seed: int) -> dict:
        assert self.ended_with
        return json.loads(next((self.board.folder / "records").rglob(f"seed{seed}.json")).read_text())

    def ended(self, seed: int) -> tuple:
        """Return how a cell ended, and its earlier attempts."""
        record = self.record(seed)
        tried = [a["reason"] for a in record["attempts"]]
        return record["status"], (record["reason"] or "").partition(": ")[2], tried


def slurm_command(root: Path, verb: str, board: PlayBoard, *more: str, **options) -> list[str]:
    """Return a command line for a board on the cluster."""
    file = root / "engine.yaml"
    file.write_text(yaml.safe_dump({"slurm": {**QUICK, **options}}))
    if verb != "run":
        return [verb, str(board.folder), *more]
    return ["run", str(board.folder), "--engine", "slurm", "--engine-config", str(file), "--no-table", *more]


@pytest.fixture(scope="module")
def fates(cluster, tmp_path_factory):
    made = Fates(tmp_path_factory.mktemp("fates"), cluster)
    try:
        made.interfere()
        yield made
    finally:
        made.shell.close()


# ---- what runs beside that board, which takes its time


def test_a_board_of_20_stages_gives_the_predictions_of_the_local_engine(harbour, tmp_path, engine, fates):
    plan = {**BOTH, "seeds": [1, 2, 3, 4]}
    here = harbour(plan)
    there = Board(tmp_path / "cluster", None)(plan, engine=engine)
    cells = [cell.name for cell in here.board.cells]

    assert len(there.steps) == 20
    assert there.counts == here.counts == {"ok": 8, "failed": 0, "skipped": 0, "stages": 20, "before": 8}
    for name in cells:
        mine, its = here.record(name), there.record(name)
        assert (mine["final"], mine["predictions"], mine["scores"]) == (its["final"], its["predictions"], its["scores"])
    assert [*(there.store.root / "scratch").iterdir(), *(there.store.root / "leases").iterdir()] == []


# ---- detached


class Submitted:
    """A board that is submitted, asked for and collected: by commands in this process, and by other shells."""

    def __init__(self, root: Path, cdner):
        self.root, self.board, self.shell, self.cdner = root, PlayBoard(root, None), Shell(root), cdner
        self.notes = self.board.notes

    def __call__(self, verb: str, *more: str) -> tuple[int, str]:
        code, printed, complained = self.cdner(*slurm_command(self.root, verb, self.board, *more))
        return code, printed + complained

    def detach(self, *more: str) -> str:
        code, printed = self("run", "--detach", *more)
        assert code == 0, printed
        return printed

    def jobs(self) -> dict[str, str]:
        return {s.key: s.job for s in detached.read(self.board.store, self.board.folder)}

    def key_of(self, step: str, corpus: str) -> str:
        found = detached.read(self.board.store, self.board.folder)
        return next(s.key for s in found if (s.step, s.title) == (step, f"{corpus} seed 1"))

    def stages(self) -> dict[str, tuple[str, str]]:
        """Return how the submitted stages stand."""
        found = detached.standing(self.board.store, detached.read(self.board.store, self.board.folder))
        return {f"{s.stage.step} {s.stage.title}": (s.state, s.why) for s in found}

    def over(self) -> bool:
        return not {state for state, _ in self.stages().values()} & {"queued", "running"}

    def go(self) -> None:
        (self.notes / "go").touch()

    def record(self, target: str, seed: int = 1) -> dict | None:
        found = list((self.board.folder / "records").rglob(f"*{target}/*/seed{seed}.json"))
        return json.loads(found[0].read_text()) if found else None


@pytest.fixture
def submitted(cluster, tmp_path, cdner):
    made = Submitted(tmp_path, cdner)
    yield made
    made.shell.close()


def test_a_detached_board_runs_by_itself_and_is_collected_from_another_shell(submitted):
    submitted.board.write(BOTH, {"script": {NEWS: ["wait go"], SKY: ["raise fog"]}})
    first, jobs = submitted.detach(), submitted.jobs()
    second = submitted.detach()
    until(lambda: submitted.board.runs(NEWS))
    code, shown = submitted.shell.run("status", str(submitted.board.folder))
    waiting, printed = submitted("collect")

    assert first.startswith("5 stages submitted, jobs ")
    assert second.startswith("0 stages submitted; 5 were with SLURM already.")
    assert submitted.jobs() == jobs
    assert submitted.stages()[f"act {FILM} seed 1"] == ("queued", "Dependency")
    assert code == 0
    assert "2 cells: 2 running; 0 of 5 stages in the store" in shown
    assert "5 stages submitted to SLURM: 1 running, 4 queued" in shown
    assert "left unfinished" not in shown
    assert waiting == 3  # all of it is still to come
    assert "5 stages submitted to SLURM: 1 running, 4 queued" in printed

    submitted.go()
    until(submitted.over)
    stages = submitted.stages()
    assert stages[f"act {SKY} seed 1"] == ("failed", "error: ValueError: fog")
    assert stages[f"spot {SKY} seed 1"] == ("cancelled", "cancelled: a stage that it needs has failed")
    assert stages[f"spot {FILM} seed 1"] == ("ok", "")
    code, printed = submitted("collect")
    record, failed = submitted.record(FILM), submitted.record(SKY)
    assert (code, record["status"]) == (1, "ok")
    assert (failed["status"], failed["reason"]) == ("failed", f"act ({SKY} seed 1): error: ValueError: fog")
    assert failed["failure"]["log"][-1] == "ValueError: fog"
    assert f"cancelled  spot {SKY} seed 1 (job {jobs[submitted.key_of('spot', SKY)]}): a stage that it needs" in printed
    assert submitted("collect")[0] == 1  # again, and nothing changes
    assert submitted.record(FILM) == record
    assert submitted.detach() == "0 stages submitted; 0 were with SLURM already.\nThere is nothing to submit.\n"
    assert [submitted.board.runs(corpus) for corpus in (NEWS, FILM, SKY)] == [1, 1, 1]
    assert list((submitted.board.store / "scratch").iterdir()) == []


def test_a_queued_stage_is_built_by_no_other_harness(submitted):
    submitted.board.write(ALONE, {"script": {FILM: ["wait go"]}})
    submitted.detach()
    local = submitted.shell.start("run", str(submitted.board.folder), "--slots", "1", "--no-table")
    until(lambda: "is being built by SLURM job" in Path(local.out.name).read_text())
    submitted.go()
    code, printed = submitted.shell.end(local)

    assert code == 0, printed
    assert submitted.record(FILM)["status"] == "ok"
    assert submitted.board.runs(FILM) == 1


def test_a_detached_job_that_is_cancelled_fails_no_cell_and_is_submitted_again(submitted, cluster):
    submitted.board.write(ALONE, {"script": {FILM: ["wait never", ""]}})
    submitted.detach()
    until(lambda: submitted.board.runs(FILM))
    number = job_of(submitted.board, f"{FILM} seed 1").id
    cluster.command("scancel", number)
    until(submitted.over)
    code, printed = submitted("collect")

    assert code == 1
    assert f"killed  act {FILM} seed 1 (job {number}): SLURM job {number} was cancelled" in printed
    assert "1 cell is left" in printed
    assert submitted.record(FILM) is None
    assert submitted.detach().startswith("2 stages submitted")
    until(submitted.over)
    assert submitted("collect")[0] == 0
    assert [a["reason"] for a in submitted.record(FILM)["attempts"]] == ["killed"]


def test_a_detached_job_whose_node_is_lost_starts_again_by_itself(submitted, cluster):
    submitted.board.write(ALONE, {"script": {FILM: ["wait never", ""]}})
    submitted.detach()
    until(lambda: submitted.board.runs(FILM))
    number = job_of(submitted.board, f"{FILM} seed 1").id
    cluster.command("scontrol", "requeue", number)  # what SLURM does when a node is lost, and at once
    until(lambda: cluster.jobs()[number] == "PENDING")
    cluster.command("scontrol", "update", f"JobId={number}", "StartTime=now+4")  # not in two minutes
    until(submitted.over)
    code, printed = submitted("collect")

    assert code == 0, printed + cluster.logs()
    record = submitted.record(FILM)
    assert (record["status"], [a["reason"] for a in record["attempts"]]) == ("ok", ["killed"])
    assert submitted.board.runs(FILM) == 2


# ---- how jobs end, once more


@pytest.mark.parametrize(
    ("seed", "ended"),
    [
        (1, ("ok", "", [])),
        (2, ("failed", "error: ValueError: the mast broke", ["error"])),
        (3, ("failed", "out of memory: MemoryError: no room", ["out of memory"])),
        (5, ("ok", "", ["killed"])),
        (6, ("ok", "", ["killed"])),
        (7, ("failed", "time limit: over 0.9 minutes", ["time limit"])),
        (8, ("failed", "time limit: the cluster's own is near", ["time limit"])),
    ],
)
def test_a_job_ends_with_the_word_that_fits(fates, seed, ended):
    assert fates.ended(seed) == ended, fates.ended_with[1]


def test_a_job_over_the_memory_that_slurm_lends_is_out_of_memory(fates):
    status, reason, tried = fates.ended(4)

    assert (status, tried) == ("failed", ["out of memory"])
    assert reason.startswith("out of memory: over what SLURM lends to SLURM job ")


def test_a_cancelled_job_is_said_and_tried_again(fates):
    assert f"killed: SLURM job {fates.cancelled} was cancelled; attempt 2 starts" in fates.ended_with[1]


def test_what_failed_ends_only_the_cells_that_need_it(fates):
    assert fates.ended_with[0] == 1
    assert [fates.record(seed)["status"] for seed in Fates.SCRIPTS].count("ok") == 3
    assert [p for name in ("scratch", "leases") for p in (fates.store / name).iterdir()] == []


# ---- what is killed


class Watched:
    """A board with one stage that waits, run in a process of its own."""

    def __init__(self, root: Path, script: dict, environment: dict):
        self.root, self.board, self.shell = root, PlayBoard(root, None), Shell(root)
        self.board.write(ALONE, {"script": script})
        self.shell.environment["CDNER_STORE"] = str(self.board.store)
        self.command = slurm_command(root, "run", self.board)
        self.run = self.shell.start(*self.command, **environment)

    def begun(self) -> slurm_jobs.Job:
        """Wait until the stage of the target runs."""
        until(lambda: self.board.runs(FILM))
        return job_of(self.board, f"{FILM} seed 1")

    def go(self) -> None:
        (self.board.notes / "go").touch()

    def ended(self, run=None) -> tuple[int, str]:
        return self.shell.end(run or self.run, 240)

    def record(self) -> dict:
        return json.loads(next((self.board.folder / "records").rglob("seed1.json")).read_text())

    def left(self) -> list[str]:
        return [p.name for name in ("scratch", "leases") for p in (self.board.store / name).iterdir()]


@pytest.fixture
def watched(cluster, tmp_path):
    made = []

    def start(film: list[str], **environment: str) -> Watched:
        made.append(Watched(tmp_path, {FILM: film}, environment))
        return made[-1]

    yield start
    for one in made:
        one.shell.close()


def test_ctrl_c_cancels_the_jobs(watched, cluster):
    board = watched(film=["wait go"])
    job = board.begun()
    board.run.send_signal(signal.SIGINT)
    code, printed = board.ended()

    assert (code, board.left()) == (130, []), printed
    until(lambda: cluster.jobs()[job.id] == "CANCELLED", 20)
    board.go()
    assert board.ended(board.shell.start(*board.command))[0] == 0
    assert [a["reason"] for a in board.record()["attempts"]] == ["interrupted"]


def test_a_job_that_cannot_be_cancelled_is_left_to_the_next_run(watched, cluster, tmp_path):
    deaf = tmp_path / "bin" / "scancel"
    deaf.parent.mkdir()
    deaf.write_text("#!/bin/sh\nexit 1\n")
    deaf.chmod(0o755)
    board = watched(film=["wait go"], PATH=f"{deaf.parent}{os.pathsep}{os.environ['PATH']}")
    job = board.begun()
    board.run.send_signal(signal.SIGINT)
    code, printed = board.ended()

    assert code == 130
    assert f"SLURM job {job.id} was cancelled and has not ended yet; the next run on this store finds it" in printed
    assert board.left() == [job.scratch.name]
    board.go()
    code, printed = board.ended(board.shell.start(*board.command))
    assert (code, board.left()) == (0, []), printed
    assert (board.board.runs(FILM), board.record()["attempts"]) == (1, [])


def test_a_killed_harness_leaves_its_jobs_running_and_the_next_finds_them(watched):
    board = watched(film=["wait go"])
    job = board.begun()
    board.run.kill()
    board.ended()
    again = board.shell.start(*board.command)
    until(lambda: f"SLURM job {job.id} was found again" in Path(again.out.name).read_text())
    board.go()
    code, printed = board.ended(again)

    assert (code, board.left()) == (0, []), printed
    assert board.board.runs(FILM) == 1
    assert board.record()["attempts"] == []


def test_a_job_that_ends_while_no_harness_lives_is_not_run_again(watched, cluster):
    board = watched(film=["wait go"])
    job = board.begun()
    board.run.kill()
    board.ended()
    board.go()
    until(lambda: cluster.jobs()[job.id] == "COMPLETED")
    code, printed = board.ended(board.shell.start(*board.command))

    assert (code, board.left()) == (0, []), printed
    assert board.board.runs(FILM) == 1


def test_jobs_outlive_the_controller_and_the_daemon_of_their_node(watched, cluster):
    board = watched(film=["wait go"])
    job = board.begun()
    [node] = [s.nodes for s in slurm_jobs.states([job.id]).values()]
    began, saved = (job.scratch / "process.json").stat().st_mtime, cluster.root / "state" / "job_state"
    until(lambda: saved.stat().st_mtime > began)  # else it does not know after its fall that the job runs
    cluster.kill("slurmctld")
    until(lambda: "SLURM does not answer" in Path(board.run.out.name).read_text())
    cluster.kill(node)
    board.go()
    until(lambda: not job.scratch.exists() or slurm_jobs.ended(job.scratch) is not None)
    cluster.start_controller()
    cluster.start_node(node)
    code, printed = board.ended()

    assert (code, board.left()) == (0, []), printed
    assert board.board.runs(FILM) == 1
    assert board.record()["attempts"] == []
    cluster.wait_for(cluster.idle, "the nodes do not come back")


def test_a_stage_whose_node_is_lost_is_tried_again(watched, cluster):
    board = watched(film=["wait never", ""])
    job = board.begun()
    [node] = [s.nodes for s in slurm_jobs.states([job.id]).values()]
    cluster.command("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    code, printed = board.ended()

    assert code == 0, printed
    assert f"killed: the node of SLURM job {job.id} was lost on {node}; attempt 2 starts" in printed
    assert [a["reason"] for a in board.record()["attempts"]] == ["killed"]
    assert board.board.runs(FILM) == 2
    cluster.wait_for(cluster.idle, "the node does not come back")


# ---- what SLURM forgets, and what a job tells by itself


def handed(root: Path, told: dict | None = None, failed: dict | None = None, log: str = "") -> slurm_jobs.Job:
    """Return a job in a scratch folder, with what its stage has left there."""
    scratch = root / "scratch" / "key.0123456789ab"
    (scratch / "artefact").mkdir(parents=True)
    (scratch / "slurm").mkdir()
    (scratch / "process.json").touch()
    for name, value in (("ended.json", told), ("failure.json", failed)):
        if value is not None:
            (scratch / name).write_text(json.dumps(value))
    (scratch / "slurm" / "17_0_log.err").write_text(log)
    job = slurm_jobs.Job(scratch, "cdner-key.0123456789ab", "17", "cdner", False, 0.0)
    job.write()
    return job


def told(code: int, over: str | None = None, signal: str | None = None) -> dict:
    return {"code": code, "over": over, "seconds": 2.5, "signal": signal}


TERMINATED = "killed: by SIGTERM, which the harness did not send"
KILLED = {"reason": "killed", "error": "SIGTERMException", "message": "killed by signal 15"}
FAILED = {"reason": "error", "error": "ValueError", "message": "the mast broke"}


@pytest.mark.parametrize(
    ("left", "state", "kind", "line"),
    [
        ((told(-15, signal=TERMINATED),), "GONE", "killed", TERMINATED),
        ((told(-15, signal=TERMINATED), KILLED), "TIMEOUT", "time limit", "time limit: SLURM's own for SLURM job 17, 1:00"),
        ((told(-9),), "OUT_OF_MEMORY", "out of memory", "out of memory: over what SLURM lends to SLURM job 17"),
        ((told(1), FAILED), "FAILED", "error", "error: ValueError: the mast broke"),
        ((told(1), FAILED), "CANCELLED", "error", "error: ValueError: the mast broke"),
        ((told(-9, "time limit: over 3 minutes"),), "GONE", "time limit", "time limit: over 3 minutes"),
        ((), "GONE", "killed", "killed: SLURM job 17 is gone, and nobody says how it ended"),
        ((), "NODE_FAIL", "killed", "killed: the node of SLURM job 17 was lost on n7"),
        ((), "PREEMPTED", "killed", "killed: SLURM job 17 had to give way to another"),
        ((), "TIMEOUT", "time limit", "time limit: SLURM's own for SLURM job 17, 1:00"),
        ((), "FAILED", "error", "error: SLURM job 17 has ended and told nothing (FAILED)"),
        ((None, None, "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=17.0"), "FAILED", "out of memory",
         "out of memory: over what SLURM lends to SLURM job 17"),
        ((None, None, "ModuleNotFoundError: No module named 'benchmark'"), "FAILED", "error",
         "error: exit status 1: ModuleNotFoundError: No module named 'benchmark'"),
    ],
)  # fmt: skip
def test_what_a_job_told_and_what_slurm_says_make_one_word(tmp_path, left, state, kind, line):
    job = handed(tmp_path, *left)
    found = failure(slurm_jobs.ending(job, slurm_jobs.State("17", state, "", "n7", "1:00")))

    assert (found.kind, found.told) == (kind, line)


def test_a_fate_is_learned_when_slurm_has_forgotten_the_job_and_there_is_no_accounting(submitted, cluster):
    assert "disabled" in subprocess.run(["sacct"], capture_output=True, text=True, check=False).stderr
    submitted.board.write({**ALONE, "budget": {"minutes_per_stage": 0.05}}, {"script": {FILM: ["sleep 60"]}})
    conf = cluster.conf.read_text()
    cluster.conf.write_text(conf.replace("MinJobAge=300", "MinJobAge=2"))
    cluster.command("scontrol", "reconfigure")
    try:
        submitted.detach()
        numbers = set(submitted.jobs().values())
        until(lambda: not numbers & set(cluster.jobs()))
    finally:
        cluster.conf.write_text(conf)
        cluster.command("scontrol", "reconfigure")
    code, printed = submitted("collect")

    assert code == 1
    assert submitted.record(FILM)["reason"] == f"act ({FILM} seed 1): time limit: over 0.05 minutes"
    assert "): it is gone, and never began" in printed


def test_a_submission_that_was_cut_off_is_found_by_its_name_and_not_made_twice(store, cluster, fakes_on_path):
    from benchmark.run.stage import Stage

    scratch = store.prepare(Stage(fakes_on_path.write_word, word="ahoy"), threads=1)
    made = submit(SlurmOptions(**QUICK), scratch, "cdner")
    replace(made, id=None).write()  # as if the harness had been killed before it knew the number

    assert submit(SlurmOptions(**QUICK), scratch, "cdner") == made
    assert [number for number in cluster.jobs() if int(number) >= int(made.id)] == [made.id]
    until(lambda: slurm_jobs.ended(scratch) is not None)
    assert (store.folder(made.scratch.name.partition(".")[0]) / "word.txt").read_text() == "ahoy"


@pytest.fixture
def deaf_sbatch(cluster, tmp_path, monkeypatch):
    """Let sbatch submit its job, and its answer be lost."""
    real, folder = shutil.which("sbatch"), tmp_path / "bin"
    folder.mkdir()
    shim = folder / "sbatch"
    shim.write_text(f'#!/bin/sh\n{real} "$@" > {folder}/heard\necho "sbatch: error: Socket timed out" >&2\nexit 1\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder / "heard"


def test_a_job_whose_submission_was_never_answered_runs_and_is_found_by_its_name(store, deaf_sbatch, fakes_on_path):
    from benchmark.run.stage import Stage

    stage = Stage(fakes_on_path.write_word, word="ahoy")
    scratch = store.prepare(stage, threads=1)
    with pytest.raises(Busy) as caught:
        submit(SlurmOptions(**QUICK), scratch, "cdner")
    found = submit(SlurmOptions(**QUICK), scratch, "cdner")
    until(lambda: slurm_jobs.ended(scratch) is not None)

    assert str(caught.value) == "sbatch: error: Socket timed out"
    assert deaf_sbatch.read_text().split()[-1] == found.id == slurm_jobs.job_in(scratch).id
    assert (store.folder(stage.key) / "word.txt").read_text() == "ahoy"


def test_a_job_is_given_what_stages_need_and_nothing_of_the_allocation_that_it_was_submitted_from(
    store, cluster, fakes_on_path, monkeypatch
):
    from benchmark.run.stage import Stage

    there = {
        "SLURM_JOB_ID": "1", "SLURM_MEM_PER_CPU": "100", "SLURM_MEM_PER_NODE": "500", "SLURM_CPUS_PER_TASK": "7",
        "SBATCH_PARTITION": "nowhere", "SQUEUE_STATES": "suspended", "SQUEUE_PARTITION": "nowhere",
    }  # fmt: skip
    given = {"OPENAI_API_KEY": "key-of-the-server", "HF_TOKEN": "hub", "HARBOUR_TOKEN": "secret", "TIDE": "high"}
    for name, value in {**there, **given, "BANK_PASSWORD": "sesame"}.items():
        monkeypatch.setenv(name, value)
    stage = Stage(fakes_on_path.tell_environment, names=[*given, "BANK_PASSWORD", "SLURM_CPUS_PER_TASK", "SLURM_CONF"])
    scratch = store.prepare(stage, threads=2)
    job = submit(SlurmOptions(**QUICK, env=["TIDE", "HARBOUR_*"]), scratch, "cdner")
    waits = slurm_jobs.states([job.id])
    until(lambda: slurm_jobs.ended(scratch) is not None)

    assert waits[job.id].state != "GONE"  # what filters squeue's list does not hide it
    assert json.loads((store.folder(stage.key) / "told.json").read_text()) == {
        **given, "BANK_PASSWORD": None, "SLURM_CPUS_PER_TASK": "2", "SLURM_CONF": str(cluster.conf),
    }  # fmt: skip


OTHERS = 4242  # a user


@pytest.mark.parametrize(
    ("uid", "private", "lives"),
    [(None, "jobs", False), (os.getuid(), "jobs,usage", False), (OTHERS, "none", False), (OTHERS, "jobs,usage", True)],
)
def test_a_job_of_another_user_that_is_not_listed_is_alive_where_such_jobs_are_hidden(
    tmp_path, monkeypatch, uid, private, lives
):
    told = {"ClusterName": "cdner", "PrivateData": private}
    monkeypatch.setattr(slurm_jobs, "_configured", told.get)
    monkeypatch.setattr(slurm_jobs, "states", lambda ids: {i: slurm_jobs.State(i, "GONE") for i in ids})
    monkeypatch.setattr(slurm_jobs, "ASKED", slurm_jobs.Asked())
    job = replace(handed(tmp_path), uid=uid)
    job.write()

    assert slurm_jobs.lives(job) is lives
    (job.scratch / "ended.json").write_text(json.dumps({"code": 1, "over": None, "seconds": 2.5, "signal": None}))
    assert not slurm_jobs.lives(slurm_jobs.job_in(job.scratch))


def test_an_accounting_database_remembers_what_slurm_forgets(store, monkeypatch, fakes_on_path, tmp_path):
    from benchmark.run.stage import Stage

    needed("the accounting of slurm", slurm_host.lacking(slurm_host.ACCOUNTING, slurm_host.PACKAGES))
    needed("the engine slurm", slurm_host.lacking())
    accounted = slurm_host.Slurm(min_job_age=2, accounting=True)
    monkeypatch.setenv("SLURM_CONF", str(accounted.conf))
    try:
        accounted.start()
        scratch = store.prepare(Stage(fakes_on_path.hang, pids=str(tmp_path / "pids")), threads=1)
        job = submit(SlurmOptions(**QUICK), scratch, "cdner")
        until((tmp_path / "pids").exists)
        accounted.command("scancel", job.id)
        until(lambda: not accounted.jobs())
        found = slurm_jobs.states([job.id, "999"])

        assert (found[job.id].state, found["999"].state) == ("CANCELLED", "GONE")
        ending = slurm_jobs.ending(job, found[job.id])
        assert (ending.code, ending.over) == (-15, f"killed: SLURM job {job.id} was cancelled")
    finally:
        accounted.stop()


# ---- without a job


def test_the_entry_point_runs_one_stage_by_itself(store, fakes_on_path):
    from benchmark.run.stage import Stage

    stage = Stage(fakes_on_path.write_word, word="ahoy")
    scratch = store.prepare(stage, threads=1)
    done = subprocess.run(
        [sys.executable, "-m", "benchmark.run.worker", str(scratch)], capture_output=True, text=True, check=False
    )
    found = slurm_jobs.ended(scratch)

    assert (done.returncode, done.stdout, found["code"], found["over"]) == (0, "", 0, None)
    assert (store.folder(stage.key) / "word.txt").read_text() == "ahoy"


def test_what_is_asked_of_slurm_follows_the_plan_and_the_options(store, fakes_on_path):
    from benchmark.run.stage import Stage

    stage = Stage(fakes_on_path.write_word, title="a word", needs="gpu", word="ahoy")
    scratch = store.prepare(stage, threads=4, limits={"minutes": 30, "gib": 7.5})
    options = SlurmOptions(partition="gpu", gpus_per_stage=1, cpus_per_task=2, time_minutes=20, setup=["module load x"])
    found = parameters(options, scratch, after=["3", "4"], requeue=True)

    assert found.pop("job_name") == f"cdner-{scratch.name}"
    assert found == {
        "comment": "cdner: write_word (a word)", "partition": "gpu", "mem": "8704M", "cpus_per_task": 4, "time": 23,
        "gpus_per_node": 1, "setup": ["module load x"], "signal_delay_s": 30, "dependency": "afterok:3:4",
        "srun_args": ["--cpus-per-task=4"], "additional_parameters": {"requeue": True, "kill-on-invalid-dep": "yes"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"partiton": "gpu"}, "slurm has no option 'partiton'. Did you mean 'partition'? Its options are partition, "
         "account, qos, constraint, time_minutes, mem_gib, cpus_per_task, gpus_per_stage, max_jobs, setup, "
         "poll_seconds, python, env, sbatch."),
        ({"max_jobs": 0}, "the option max_jobs of slurm is 0, expected a whole number, 1 or more."),
        ({"mem_gib": "8G"}, "the option mem_gib of slurm is '8G', expected a number above 0."),
        ({"partition": 3}, "the option partition of slurm is 3, expected a text."),
        ({"setup": [1]}, "the option setup of slurm is [1], expected lines of shell."),
        ({"setup": 3}, "the option setup of slurm is 3, expected lines of shell."),
        ({"env": {"A": 1}}, "the option env of slurm is {'A': 1}, expected names of variables."),
        ({1: "gpu"}, "slurm has no option 1. Its options are partition, account, qos, constraint, time_minutes, "
         "mem_gib, cpus_per_task, gpus_per_stage, max_jobs, setup, poll_seconds, python, env, sbatch."),
        ([], "the options of slurm are [], expected a mapping, such as {partition: gpu}."),
    ],
)  # fmt: skip
def test_options_that_are_none_are_refused(given, complaint):
    with pytest.raises(EngineError) as caught:
        SlurmOptions.read(given)
    assert str(caught.value) == complaint


def test_an_option_that_says_nothing_is_none():
    assert SlurmOptions.read({"setup": None, "env": None, "sbatch": None}) == SlurmOptions()
    assert SlurmOptions.read({"setup": "module load x"}).setup == ("module load x",)


def test_a_machine_without_slurm_says_what_it_lacks(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError) as caught:
        SlurmEngine(SlurmOptions()).warm()
    assert str(caught.value) == (
        "sbatch, squeue, scancel, srun: no such command here. The engine slurm runs where jobs are submitted, on a "
        "login node; `--engine local` needs no cluster."
    )


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ((), "--detach leaves a board to a cluster, and needs --engine slurm."),
        (("--engine", "slurm", "--max-hours", "1"),
         "--detach leaves a board to a cluster, and needs no --max-hours: nobody watches."),
    ],
)  # fmt: skip
def test_detach_is_refused_where_it_cannot_be(cdner, play, more, complaint):
    play.write({}, {})
    assert cdner("run", play.folder, "--detach", *more) == (1, "", f"cdner: {complaint}\n")


def test_collecting_what_was_never_submitted_is_refused(cdner, play):
    play.write({}, {})
    code, printed, complained = cdner("collect", play.folder)

    assert (code, printed) == (1, "")
    assert complained == (
        f"cdner: nothing of harbour was submitted on the store {play.store}; `cdner run {play.folder} --engine slurm "
        "--detach` submits it.\n"
    )


def test_a_job_that_sbatch_refuses_is_told_in_its_words(store, cluster, fakes_on_path):
    from benchmark.run.stage import Stage

    scratch = store.prepare(Stage(fakes_on_path.write_word, title="a word", word="ahoy"), threads=1)
    with pytest.raises(EngineError) as caught:
        submit(SlurmOptions(partition="nowhere"), scratch, "cdner")
    assert str(caught.value) == (
        "sbatch refuses the stage write_word (a word): sbatch: error: invalid partition specified: nowhere sbatch: "
        "error: Batch job submission failed: Invalid partition name specified"
    )
