"""Failures are data: each has a word, an attempt's number and a log, and hurts only the cells that need the stage."""

import gzip
import json
import os
import re
import time
from pathlib import Path

import psutil
import pytest

from benchmark.run.engine import Ending
from tests.run.conftest import Lasting

NEWS, FILM, SKY = "demo-news", "demo-cinema", "demo-astronomy"
BOTH = {"transfers": [{"sources": [NEWS], "targets": [FILM, SKY], "regime": "supervised"}]}
ALONE = f"act ({FILM} seed 1): "


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(*pids: int, seconds: float = 2) -> bool:
    """Return whether all processes are gone within a time; what is not is ended."""
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    left = [pid for pid in pids if alive(pid)]
    for pid in left:
        psutil.Process(pid).kill()
    return not left


# ---- a word for each


@pytest.mark.parametrize(
    ("act", "kind", "told"),
    [
        ("memory", "out of memory", "out of memory: MemoryError: no room"),
        ("no memory", "out of memory", "out of memory: OSError: [Errno 12] Cannot allocate memory"),
        ("nan", "loss is not a number", "loss is not a number in epoch 2."),
        ("data", "bad input", "bad input: DataError: train.txt, line 3: this is no tag."),
        ("llm", "LLM refused", "LLM refused: LlmRefused: the model would not answer."),
        ("raise the mast broke", "error", "error: ValueError: the mast broke"),
    ],
)
def test_a_failure_has_a_word_in_the_record_of_its_cell(play, act, kind, told):
    ran = play(script={FILM: [act]})
    record = ran.record()

    assert ran.counts == {"ok": 0, "failed": 1, "skipped": 0, "stages": 1, "before": 0}
    assert (record["status"], record["reason"]) == ("failed", ALONE + told)
    assert {k: v for k, v in record["failure"].items() if k != "log"} == {
        "kind": kind, "stage": ran.stage(f"{FILM} seed 1").key, "title": f"{FILM} seed 1", "attempt": 1,
    }  # fmt: skip
    assert [(a["stage"], a["attempt"], a["reason"]) for a in record["attempts"]] == [
        (ran.stage(f"{FILM} seed 1").key, 1, kind)
    ]
    assert play.runs(FILM) == 1


def test_a_stage_over_its_memory_is_ended_with_the_child_that_holds_it(play):
    began = time.monotonic()
    ran = play({"budget": {"gib_per_stage": 1.5}}, script={FILM: ["hoard 1300"]})
    record = ran.record()

    assert record["failure"]["kind"] == "out of memory"
    assert re.fullmatch(
        re.escape(ALONE) + r"out of memory: \d\.\d\d GiB, over the 1\.5 GiB that a stage may use", record["reason"]
    )
    assert time.monotonic() - began < 15


def test_a_stage_within_its_memory_is_left_alone(play):
    ran = play({"budget": {"gib_per_stage": 20}}, script={FILM: ["sleep 0.6"]})

    assert ran.record()["status"] == "ok"


def test_a_deaf_stage_over_its_time_is_killed_with_its_deaf_child(play):
    began = time.monotonic()
    ran = play({"budget": {"minutes_per_stage": 0.03}}, script={FILM: ["deaf"]})
    took = time.monotonic() - began

    assert ran.record()["reason"] == ALONE + "time limit: over 0.03 minutes"
    assert ran.record()["failure"]["kind"] == "time limit"
    assert 3 < took < 15  # it was asked first
    assert gone(*play.pids())


def test_what_a_stage_has_put_into_another_session_ends_with_it(play):
    play({"budget": {"minutes_per_stage": 0.01}}, script={FILM: ["runaway"]})

    assert gone(*play.pids("runaway"), seconds=1)


def test_a_stage_that_is_asked_to_end_again_and_again_is_killed_all_the_same(play, store, fakes_on_path, tmp_path):
    from benchmark.run.stage import Stage

    engine, pids = play.engine, tmp_path / "pids"
    stage = Stage(
        fakes_on_path.act, train=[named(NEWS)], init=None, seed=1, script=["deaf"], notes=str(tmp_path), weight=1
    )
    scratch = store.prepare(stage, threads=1)
    engine.start(scratch)
    while not pids.exists():
        time.sleep(0.02)
    deadline, codes = time.monotonic() + 8, []
    while not codes and time.monotonic() < deadline:
        engine.stop(scratch)
        codes = [ending.code for ending in engine.wait(0.25)]
    leader, child = map(int, pids.read_text().split())

    assert gone(leader, child, seconds=0)
    assert codes == [-9]


def named(corpus: str):
    from benchmark.corpus.corpus import load

    return load(corpus).train


def test_a_killed_stage_is_tried_three_times_and_by_the_next_run_again(play):
    ran = play(script={FILM: ["die"]})
    first = ran.record()
    again = play(script={FILM: ["die"]})
    second = again.record()

    assert (play.runs(FILM), play.runs(NEWS)) == (6, 1)
    assert (first["failure"]["kind"], first["failure"]["attempt"]) == ("killed", 3)
    assert first["reason"] == ALONE + "killed by signal 9 (for want of memory, or by a person)"
    assert [a["attempt"] for a in first["attempts"]] == [1, 2, 3]
    assert second["failure"]["attempt"] == 6
    assert [a["attempt"] for a in second["attempts"]] == [1, 2, 3, 4, 5, 6]
    assert ran.printed.count("attempt 2 starts") == ran.printed.count("attempt 3 starts") == 1
    assert "attempt 4 starts" not in ran.printed


def test_a_stage_that_is_killed_once_ends_well(play):
    ran = play(script={FILM: ["die", ""]})
    record = ran.record()

    assert ran.counts == {"ok": 1, "failed": 0, "skipped": 0, "stages": 3, "before": 1}
    assert "failure" not in record
    assert [(a["attempt"], a["reason"]) for a in record["attempts"]] == [(1, "killed")]
    assert [s["attempt"] for s in record["stages"]] == [1, 2, 1]
    assert list((ran.store.root / "attempts").iterdir()) == []


def test_a_budget_that_is_spent_is_tried_again_by_the_next_run(play, limits):
    ran = play(script={FILM: ["spend 0.6", ""]}, limits=limits(usd=0.5))
    record = ran.record()
    again = play(script={FILM: ["spend 0.6", ""]})

    assert (record["status"], record["failure"]["kind"]) == ("failed", "LLM budget spent")
    assert record["reason"] == (
        ALONE + "LLM budget spent: LlmBudgetSpent: spent 0.6000 USD, and 0.5000 were left to this stage."
    )
    assert ran.summary.usd == 0.6
    assert again.counts == {"ok": 1, "failed": 0, "skipped": 0, "stages": 2, "before": 1}


@pytest.fixture
def limits():
    from benchmark.run.runner import Limits

    return Limits


def test_an_error_has_the_last_lines_of_its_log(play):
    ran = play(script={FILM: ["lines 50"]})
    log = ran.record()["failure"]["log"]
    kept = ran.store.root / "failed" / f"{ran.stage(f'{FILM} seed 1').key}.1.txt"

    assert (len(log), log[-1]) == (20, "ValueError: the mast broke")
    assert "line 50" in log
    assert "line 1" not in log
    assert kept.read_text().startswith("line 1\nline 2\n")
    assert kept.read_text().endswith("ValueError: the mast broke\n")


# ---- attempts


def test_attempts_are_counted_over_runs_and_every_log_is_kept(play):
    script = {FILM: ["raise first", "raise second", ""]}
    play(script=script)
    idle = play(script=script)
    second = play(script=script, retry_failed=True)
    failed = second.record()
    third = play(script=script, retry_failed=True)
    key = third.stage(f"{FILM} seed 1").key

    assert idle.steps == []
    assert failed["failure"]["attempt"] == 2
    assert failed["reason"] == ALONE + "error: ValueError: second"
    assert [(a["attempt"], a["reason"]) for a in third.record()["attempts"]] == [(1, "error"), (2, "error")]
    assert sorted(p.name for p in (third.store.root / "failed").iterdir()) == [f"{key}.1.txt", f"{key}.2.txt"]
    assert (third.record()["status"], play.runs(FILM)) == ("ok", 3)


def test_a_cell_that_succeeds_at_last_has_spent_the_seconds_of_its_failures_too(play):
    script = {FILM: ["sleep 1 & raise fog", ""]}
    play(script=script)
    ran = play(script=script, retry_failed=True)
    cost, [attempt] = ran.record()["cost"], ran.record()["attempts"]

    assert attempt["seconds"] >= 1
    assert cost["spent_seconds"] >= 1
    assert cost["spent_seconds"] == pytest.approx(cost["alone_seconds"] + attempt["seconds"], abs=0.11)


def test_a_cell_that_succeeds_at_last_has_spent_the_money_of_its_failures_too(play):
    script = {FILM: ["spend 0.25 & raise fog", "spend 0.5"]}
    play(script=script)
    ran = play(script=script, retry_failed=True)

    assert ran.record()["cost"]["usd"] == 0.75


def test_a_failed_retry_never_hides_a_better_record(play):
    good = play(script={FILM: [""]}).path().read_bytes()
    ran = play(script={FILM: ["raise fog"]}, weight=2.0)
    again = play(script={FILM: ["raise fog"]}, weight=2.0, retry_failed=True)

    assert (ran.counts["failed"], again.counts["failed"]) == (1, 1)
    assert again.path().read_bytes() == good


def test_a_stage_that_fails_again_stays_failed_with_the_later_reason(play):
    script = {FILM: ["raise first", "nan"]}
    play(script=script)
    ran = play(script=script, retry_failed=True)

    assert ran.record()["failure"]["kind"] == "loss is not a number"
    assert [a["reason"] for a in ran.record()["attempts"]] == ["error", "loss is not a number"]


@pytest.mark.parametrize(("act", "kept"), [("die", True), ("memory", True), ("raise fog", False), ("nan", False)])
def test_checkpoints_of_a_failure_are_kept_where_another_attempt_may_use_them(play, act, kept):
    ran = play(script={FILM: [f"keep model & {act}"]})

    assert (ran.store.partial(ran.stage(f"{FILM} seed 1").key) / "model").is_file() is kept


def test_checkpoints_of_a_stage_that_ended_well_are_gone(play):
    ran = play(script={FILM: ["keep model & die", "keep model"]})

    assert ran.record()["status"] == "ok"
    assert list((ran.store.root / "partial").iterdir()) == []


# ---- who is hurt


def test_a_failed_stage_ends_only_the_cells_that_need_it(play):
    ran = play({**BOTH, "seeds": [1, 2]}, script={FILM: ["raise fog"]})

    assert (ran.counts["ok"], ran.counts["failed"]) == (2, 2)
    assert [ran.record(t, s)["status"] for t in (FILM, SKY) for s in (1, 2)] == ["failed", "failed", "ok", "ok"]
    assert ran.record(FILM, 2)["failure"]["title"] == f"{FILM} seed 2"
    assert ran.summary.stopped is None


def test_fail_fast_ends_the_run_and_what_else_runs(play, limits):
    began = time.monotonic()
    ran = play(
        {**BOTH, "seeds": [1, 2]}, script={FILM: [f"wait {NEWS}-2.txt & raise fog"], f"{NEWS} 2": ["sleep 100"]},
        limits=limits(fail_fast=True),
    )  # fmt: skip

    assert time.monotonic() - began < 20
    assert ran.summary.stopped == f"--fail-fast: {ALONE}error: ValueError: fog"
    assert f"no further stage is started: --fail-fast: {ALONE}error: ValueError: fog" in ran.printed
    assert (play.runs(FILM), play.runs(NEWS, 2), play.runs(SKY)) == (1, 1, 0)
    assert ran.record()["status"] == "failed"
    assert list((ran.store.root / "scratch").iterdir()) == []


def test_a_stage_that_fail_fast_has_ended_has_not_failed(play, limits):
    ran = play(
        BOTH, script={FILM: [f"wait {SKY}-1.txt & raise fog"], SKY: ["sleep 100", ""]}, limits=limits(fail_fast=True)
    )

    assert (ran.summary.failed, ran.summary.left) == (1, 1)
    assert not ran.path(SKY).exists()
    [told] = ran.store.attempts(ran.stage(f"{SKY} seed 1").key)
    assert told["reason"] == "interrupted"


def test_without_fail_fast_the_rest_goes_on(play):
    ran = play(BOTH, script={FILM: ["raise fog"], SKY: ["sleep 0.5"]})

    assert ran.record(SKY)["status"] == "ok"


def test_a_full_disk_ends_the_run_and_fails_no_cell(play):
    from benchmark.errors import StoreError

    with pytest.raises(StoreError) as refused:
        play(script={FILM: ["full"]})

    assert str(refused.value) == (
        f"{play.store}: the disk is full. Make room (`cdner store` shows what takes it); the same command goes on "
        "from here."
    )
    assert not list((play.folder / "records").rglob("*.json"))
    assert list((play.store / "scratch").iterdir()) == []
    assert list((play.store / "leases").iterdir()) == []


def test_a_run_goes_on_where_a_full_disk_ended_the_one_before(play):
    from benchmark.errors import StoreError

    with pytest.raises(StoreError):
        play(script={FILM: ["keep model & full", ""]})
    ran = play(script={FILM: ["keep model & full", ""]})

    assert ran.counts == {"ok": 1, "failed": 0, "skipped": 0, "stages": 2, "before": 1}
    assert [a["reason"] for a in ran.record()["attempts"]] == ["disk full"]


# ---- what a record says


def test_a_record_says_what_its_stages_ran_on_and_null_where_that_is_unknown(play):
    ran = play(script={FILM: ["raise fog"]})
    failed, ok = ran.record(), play(script={FILM: [""]}).record()
    known = ok["provenance"]

    assert known["cores"] == [os.cpu_count()]
    assert known["python"] == [".".join(map(str, __import__("sys").version_info[:3]))]
    assert known["packages"]["torch"] == __import__("importlib.metadata").metadata.version("torch")
    assert all(isinstance(version, str) and version for version in known["packages"].values())
    assert known["device"]
    assert all(known["device"])
    assert known["threads"] == [1]
    assert isinstance(known["dirty"], bool)
    assert ok["cost"]["peak_memory_mib"] > 0
    for record in (failed, ok):
        for name in ("gpu_peak_memory_mib", "usd"):
            assert record["cost"][name] is None
    assert failed["cost"]["alone_seconds"] is None
    assert [s["seconds"] for s in failed["stages"]][1:] == [None, None]
    assert [s["attempt"] for s in failed["stages"]] == [1, None, None]


def test_a_failed_cell_of_which_nothing_was_built_knows_nothing_of_a_machine(play):
    record = play(script={NEWS: ["raise fog"]}).record()

    assert record["provenance"]["packages"] is None
    assert [record["provenance"][n] for n in ("python", "device", "cuda", "cores", "threads")] == [None] * 5
    assert [record["cost"][n] for n in ("alone_seconds", "usd", "peak_memory_mib", "gpu_peak_memory_mib")] == [None] * 4


def test_what_a_stage_reports_is_its_metrics(play):
    ran = play(script={FILM: ['report {"epoch": 1, "loss": 0.5} & report {"epoch": 2, "dev_f1": 60.25}']})
    text = (ran.store.folder(ran.stage(f"{FILM} seed 1").key) / "metrics.csv").read_text()
    header, *rows = [line.split(",") for line in text.splitlines()]

    assert header == ["time", "epoch", "loss", "dev_f1"]
    assert [row[1:] for row in rows] == [["1", "0.5", ""], ["2", "", "60.25"]]
    assert not (ran.store.folder(ran.final().key) / "metrics.csv").exists()


# ---- nothing secret


@pytest.fixture
def secrets(machine, monkeypatch):
    """Put the secrets of the machine into the harness' environment too, and return them."""
    for name, value in machine.secrets.items():
        monkeypatch.setenv(name, value)
    return list(machine.secrets.values())


@pytest.mark.parametrize(
    "act", ["raise bad key $HARBOUR_TOKEN, $OPENAI_API_KEY", "die", "sleep 100", "", "full"],
    ids=["raised", "killed", "over its time", "well", "disk full"],
)  # fmt: skip
def test_no_secret_is_left_anywhere(play, machine, secrets, act):
    from benchmark.errors import StoreError

    script = {FILM: [f"tell it is $HARBOUR_TOKEN and $OPENAI_API_KEY & {act}"]}
    printed = ""
    try:
        printed = play({"budget": {"minutes_per_stage": 0.03}}, script=script, engine=machine.engine).printed
    except StoreError as error:
        printed = str(error)
    files = [p for root in (play.folder, play.store) for p in root.rglob("*") if p.is_file()]
    leaks = {str(p.relative_to(play.root)) for p in files for v in secrets if v in read(p)}
    said = {p.name for p in files if "it is *** and ***" in read(p)}

    assert leaks == set()
    assert said  # what was around it is kept
    assert not [v for v in secrets if v in printed]


def read(path: Path) -> str:
    packed = path.read_bytes()
    return (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode(errors="replace")


def test_no_secret_is_in_what_is_told_of_a_failure(play, machine, secrets):
    ran = play(script={FILM: ["raise bad key $HARBOUR_TOKEN, $OPENAI_API_KEY"]}, engine=machine.engine)

    assert ran.record()["reason"] == ALONE + "error: ValueError: bad key ***, ***"
    assert "error: ValueError: bad key ***, ***" in ran.printed
    assert json.loads(json.dumps(ran.record()["failure"]["log"]))[-1] == "ValueError: bad key ***, ***"


# ---- a queue before the stage


class Queue(Lasting):
    """An engine whose stages wait for their places, and of which the first of the target loses its place."""

    def __init__(self, engine):
        super().__init__(engine)
        self.lost = []

    def start(self, scratch):
        time.sleep(0.7)
        told = json.loads((scratch / "request.json").read_text())
        if not self.lost and told["title"] == f"{FILM} seed 1":
            self.lost.append(Ending(scratch, -15, "killed: its place was given to another"))
        else:
            super().start(scratch)

    def wait(self, seconds):
        found = [ending for ending in self.lost if ending is not None]
        self.lost = [None for _ in self.lost]
        return found or super().wait(seconds)


def test_what_a_stage_waits_for_its_place_is_neither_time_nor_an_attempt(play, warm_engine):
    ran = play(script={FILM: ["raise fog"]}, engine=Queue(warm_engine))
    [attempt] = ran.record()["attempts"]

    assert "killed: its place was given to another; attempt 1 starts" in ran.printed
    assert (attempt["attempt"], attempt["reason"]) == (1, "error")
    assert attempt["seconds"] < 0.7
