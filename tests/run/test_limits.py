"""Limits of a run, and what one machine lends to each stage."""

import json
import os

import pytest

from benchmark.errors import StoreError
from benchmark.run.local import LocalEngine, gpus
from benchmark.run.runner import Limits

NEWS, FILM, SKY = "demo-news", "demo-cinema", "demo-astronomy"
BOTH = {"transfers": [{"sources": [NEWS], "targets": [FILM, SKY], "regime": "supervised"}]}
CORES = len(os.sched_getaffinity(0))


# ---- hours


def test_a_run_whose_hours_are_over_starts_nothing_more_and_the_next_goes_on(play):
    script = {NEWS: ["sleep 1"]}
    ran = play(BOTH, script=script, limits=Limits(hours=0.0001))

    assert ran.summary.stopped == "the run's 0.0001 hours are over"
    assert (ran.counts["ok"], ran.counts["failed"], ran.summary.left) == (0, 0, 2)
    assert ran.steps == [f"act {NEWS} seed 1"]
    assert ran.counts["stages"] == 1  # what ran was waited for
    assert "no further stage is started: the run's 0.0001 hours are over" in ran.printed
    assert not list((play.folder / "records").rglob("*.json"))
    assert all(not list((play.store / name).iterdir()) for name in ("scratch", "leases", "attempts", "partial"))

    again = play(BOTH, script=script)
    assert again.counts == {"ok": 2, "failed": 0, "skipped": 0, "stages": 4, "before": 2}
    assert play.runs(NEWS) == 1


def test_a_run_within_its_hours_is_not_stopped(play):
    ran = play(BOTH, limits=Limits(hours=1.0))

    assert (ran.summary.stopped, ran.summary.left, ran.counts["ok"]) == (None, 0, 2)


def test_the_command_that_stops_with_cells_left_says_which_way_on_and_ends_with_3(play, cdner):
    play.write(BOTH, {"script": {NEWS: ["sleep 0.5"]}})
    code, printed, _ = cdner("run", play.folder, "--max-hours", "0.0001", "--no-table")

    assert code == 3
    assert "stopped: the run's 0.0001 hours are over; cells left: 2. The same command goes on from here.\n" in printed


def test_a_command_whose_hours_end_with_its_last_stage_has_done_all(play, cdner):
    before = play()
    (play.store / "stages" / before.final().key).rename(play.root / "aside")
    before.path().unlink()
    code, printed, _ = cdner("run", play.folder, "--max-hours", "0.0000001", "--json")
    told = [json.loads(line) for line in printed.splitlines()]

    assert told[-1]["event"] == "finished"
    assert (told[-1]["left"], told[-1]["ok"]) == (0, 1)
    assert code == 0


# ---- money


def test_a_run_whose_money_is_spent_starts_nothing_more(play):
    ran = play(BOTH, script={NEWS: ["spend 0.5"], FILM: ["spend 0.25"], SKY: ["spend 0.25"]}, limits=Limits(usd=0.5))

    assert ran.summary.stopped == "the run's 0.5 USD are spent"
    assert ran.summary.usd == 0.5
    assert ran.summary.left == 2
    again = play(BOTH, script={NEWS: ["spend 0.5"], FILM: ["spend 0.25"], SKY: ["spend 0.25"]})
    assert again.counts["ok"] == 2
    assert play.runs(NEWS) == 1
    assert again.summary.usd == 0.5  # what the source cost was spent by the run before


def test_a_stage_is_not_offered_what_another_that_runs_has_spent(play):
    script = {FILM: ["spend 0.4 & sleep 2.5"], SKY: ["sleep 0.5 & die", "spend 0.7"]}
    ran = play(BOTH, script=script, limits=Limits(usd=1.0))

    assert ran.store.has(ran.stage(f"{FILM} seed 1").key)
    assert ran.record(SKY)["reason"].endswith("spent 0.7000 USD, and 0.6000 were left to this stage.")


def test_a_stage_may_spend_what_is_left_of_the_runs_money(play):
    ran = play(script={NEWS: ["spend 0.3"], FILM: ["spend 0.3"]}, limits=Limits(usd=0.5))
    reason = ran.record()["reason"]

    assert reason.endswith("LLM budget spent: LlmBudgetSpent: spent 0.3000 USD, and 0.2000 were left to this stage.")
    assert ran.summary.stopped == "the run's 0.5 USD are spent"


def test_what_a_cell_cost_in_money_is_in_its_record(play):
    ran = play(BOTH, script={NEWS: ["spend 0.5"], FILM: ["spend 0.25 & spend 0.125"]})

    assert [ran.record(t)["cost"]["usd"] for t in (FILM, SKY)] == [0.875, 0.5]
    assert ran.summary.usd == 0.875
    assert ran.store.manifest(ran.stage(f"{SKY} seed 1").key)["usd"] is None


# ---- slots


def test_slots_are_the_gpus_that_are_named(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-1f,")
    engine = LocalEngine()
    engine.close()

    assert [g.strip() for g in engine.gpus] == ["3", "GPU-1f"]
    assert (engine.slots, engine.threads) == (2, max(1, CORES // 2))


@pytest.mark.parametrize("named", ["", "-1"])
def test_without_gpus_slots_are_cores_four_at_most(monkeypatch, named):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    engine = LocalEngine()
    engine.close()

    assert (engine.gpus, engine.slots) == ([], min(4, CORES))


@pytest.mark.parametrize(("slots", "threads", "expected"), [(1, None, CORES), (64, None, 1), (2, 3, 3)])
def test_threads_are_the_cores_divided_among_the_slots(monkeypatch, slots, threads, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    engine = LocalEngine(slots, threads)
    engine.close()

    assert (engine.slots, engine.threads) == (slots, expected)


def test_a_machine_without_nvidia_smi_has_no_gpus(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert gpus() == []


def test_each_stage_sees_one_gpu_and_those_at_once_another(play, machine):
    meet = {
        FILM: [f"see CUDA_VISIBLE_DEVICES & wait {SKY}-1.txt"],
        SKY: [f"see CUDA_VISIBLE_DEVICES & wait {FILM}-1.txt"],
    }
    ran = play(BOTH, script=meet, engine=machine.engine)
    seen = [path.read_text() for path in play.notes.glob("seen-*")]

    assert machine.engine.slots == 2
    assert ran.counts["ok"] == 2
    assert sorted(seen) == ["0", "1"]
    assert ran.store.manifest(ran.stage(f"{FILM} seed 1").key)["threads"] == max(1, CORES // 2)


def test_a_gpu_is_free_again_when_its_stage_has_failed_or_was_killed(play, machine):
    acts = ["see CUDA_VISIBLE_DEVICES & die", "see CUDA_VISIBLE_DEVICES & die", "see CUDA_VISIBLE_DEVICES & raise fog"]
    play(script={FILM: acts}, engine=machine.engine)
    seen = [path.read_text() for path in play.notes.glob("seen-*")]

    assert len(seen) == 3
    assert set(seen) <= {"0", "1"}


# ---- the ways to say them


@pytest.mark.parametrize("name", ["CDNER_LEASE_SECONDS", "CDNER_CHECKPOINT_SECONDS"])
@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf"])
def test_seconds_that_are_none_are_told(monkeypatch, name, value):
    from benchmark import paths

    monkeypatch.setenv(name, value)
    with pytest.raises(StoreError) as refused:
        {"CDNER_LEASE_SECONDS": paths.lease_seconds, "CDNER_CHECKPOINT_SECONDS": paths.checkpoint_seconds}[name]()

    assert str(refused.value) == f"{name} is {value!r}, expected a number of seconds, such as 60."


def test_a_lease_of_no_seconds_is_told(store, monkeypatch):
    monkeypatch.setenv("CDNER_LEASE_SECONDS", "0")

    with pytest.raises(StoreError) as refused:
        store.lease("a" * 32)

    assert str(refused.value) == "CDNER_LEASE_SECONDS is '0', expected a number of seconds, such as 60."


def test_json_tells_the_whole_run_in_objects_alone(play, cdner):
    play.write({}, {"script": {FILM: ["raise fog"]}})
    code, printed, _ = cdner("run", play.folder, "--json")
    told = [json.loads(line) for line in printed.splitlines()]

    assert code == 1
    assert [t["event"] for t in told if t["event"] not in ("progress", "note")] == [
        "planned", "started", "ended", "started", "ended", "recorded", "finished",
    ]  # fmt: skip
    assert all(t["time"] for t in told)
    assert told[-1]["failed"] == 1
    assert told[-1]["stopped"] is None
