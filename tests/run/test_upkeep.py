"""What is torn is built again, what the dead left is swept, and only what no board needs may go."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from rich.console import Console

from benchmark.errors import RecordError, StoreError
from benchmark.report.store import render_prunable
from benchmark.run import record as records
from benchmark.run import store as stores
from benchmark.run import upkeep
from benchmark.run.cells import plan_cells
from benchmark.run.plan import read_board
from benchmark.run.stage import Stage
from benchmark.run.store import Store
from benchmark.run.upkeep import Prunable

NEWS, FILM, SKY = "demo-news", "demo-cinema", "demo-astronomy"
DIRECT = {"sources": [NEWS], "targets": [FILM], "regime": "supervised"}
BOTH = {"transfers": [{**DIRECT, "targets": [FILM, SKY]}]}
OUTCOME = ("status", "final", "scores", "predictions")


def outcome(ran, *cell) -> dict:
    return {name: ran.record(*cell)[name] for name in OUTCOME}


def forget_records(play) -> None:
    (play.folder / "records").rename(play.root / f"records-{time.monotonic_ns()}")


def take_away(play, *stages: Stage) -> None:
    for stage in stages:
        play.store.joinpath("stages", stage.key).rename(play.root / f"{stage.key}-{time.monotonic_ns()}")


# ---- torn and altered artefacts


def flip(folder: Path) -> None:
    packed = bytearray((folder / "model.json").read_bytes())
    packed[5] ^= 1
    (folder / "model.json").write_bytes(packed)


def cut(folder: Path) -> None:
    (folder / "model.json").write_bytes((folder / "model.json").read_bytes()[:7])


def lose(folder: Path) -> None:
    (folder / "model.json").unlink()


def tear(folder: Path) -> None:
    (folder / "manifest.json").write_bytes((folder / "manifest.json").read_bytes()[:40])


def empty(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (flip, "model.json is not what its manifest says (sha256)"),
        (cut, "model.json has 7 bytes, its manifest says "),
        (lose, "model.json is gone"),
        (tear, "its manifest cannot be read (JSONDecodeError: "),
        (empty, "its manifest cannot be read (JSONDecodeError: "),
    ],
)
def test_a_broken_parent_is_set_aside_told_and_built_again(play, damage, told):
    first = play(BOTH)
    expected, source = outcome(first), first.stage(f"{NEWS} seed 1")
    damage(first.store.folder(source.key))
    take_away(play, first.stage(f"{FILM} seed 1"), first.final())
    first.path().unlink()
    ran = play(BOTH)
    [aside] = (play.store / "broken").iterdir()

    assert outcome(ran) == expected
    assert (play.runs(NEWS), play.runs(FILM), play.runs(SKY)) == (2, 2, 1)
    assert f"the artefact {source.key[:8]} is broken ({told}" in ran.printed
    assert f"it is built again, and kept in {aside}" in ran.printed
    assert aside.name.startswith(f"{source.key}.")
    assert ran.store.problem(source.key) is None
    assert (ran.counts["failed"], list((play.store / "attempts").iterdir())) == (0, [])


def test_what_no_stage_reads_is_not_read_through(play):
    first = play()
    flip(first.store.folder(first.stage(f"{NEWS} seed 1").key))

    assert play().steps == []


def garble(folder: Path) -> None:
    (folder / "predictions.jsonl").write_bytes((folder / "predictions.jsonl").read_bytes()[:-30])


@pytest.mark.parametrize("damage", [garble, tear, empty])
def test_a_broken_final_stage_is_built_again_where_its_record_is_missing(play, damage):
    first = play()
    expected = outcome(first)
    damage(first.store.folder(first.final().key))
    forget_records(play)
    ran = play()

    assert ran.steps == [f"spot {FILM} seed 1"]
    assert outcome(ran) == expected
    assert f"the artefact {first.final().key[:8]} is broken (" in ran.printed


def test_a_broken_final_stage_of_two_cells_is_built_again_once(play):
    """Two variants that are equal but in name end in one stage."""
    plan = {"variants": {n: {"method": "play", "set": {"notes": str(play.notes)}} for n in ("one", "two")}}
    first = play(plan)
    garble(first.store.folder(first.final().key))
    forget_records(play)
    ran = play(plan)

    assert ran.steps == [f"spot {FILM} seed 1"]
    assert ran.counts["ok"] == 2


def test_a_torn_manifest_of_a_parent_does_not_stop_a_record_that_needs_no_stage(play):
    first = play()
    tear(first.store.folder(first.stage(f"{NEWS} seed 1").key))
    forget_records(play)
    ran = play()

    assert ran.record()["status"] == "ok"


def test_a_folder_without_a_manifest_is_in_nobodys_way(play):
    first = play()
    key = first.stage(f"{NEWS} seed 1").key
    (first.store.folder(key) / "manifest.json").unlink()
    take_away(play, first.stage(f"{FILM} seed 1"), first.final())
    forget_records(play)
    ran = play()

    assert ran.record()["status"] == "ok"
    assert ran.store.problem(key) is None
    assert len(list((play.store / "broken").iterdir())) == 1


# ---- records that cannot be read


@pytest.mark.parametrize("content", [b"{", b"", b"[]", b'{"cell": "x"}', b"7", b"\xff\xfe"])
def test_a_torn_record_is_moved_away_and_made_again(play, cdner, content):
    first = play()
    expected = outcome(first)
    first.path().write_bytes(content)
    code, printed, _ = cdner("run", play.folder, "--no-table")
    name = f"play/{NEWS}--{FILM}/supervised/seed1"

    assert code == 0
    assert f"the record of {name} cannot be read; it is kept as seed1.json.unreadable, and made again\n" in printed
    assert first.path().with_name("seed1.json.unreadable").read_bytes() == content
    assert outcome(first) == expected


def test_a_torn_record_is_told_by_what_only_reads(play, cdner):
    first = play()
    first.path().write_text("{")
    mend = "Mend or delete it and run the board again."

    code, _, err = cdner("table", play.folder)
    assert (code, err) == (
        1, f"cdner: {first.path()}: this record is no JSON (Expecting property name enclosed in double quotes: "
        f"line 1 column 2 (char 1)). {mend}\n",
    )  # fmt: skip
    code, _, err = cdner("run", play.folder, "--dry-run")
    assert (code, err) == (
        1, f"cdner: {first.path()}: this is no record (Expecting property name enclosed in double quotes: line 1 "
        "column 2 (char 1)). Move it away, and run its board again.\n",
    )  # fmt: skip
    assert first.path().read_text() == "{"


def test_a_record_of_the_older_schema_is_read_and_stands(play):
    first = play()
    old = first.record()
    old["schema"] = 1
    del old["attempts"]
    first.path().write_text(json.dumps(old))
    ran = play()

    assert ran.steps == []
    assert ran.closing() == "nothing to do: 1 cell, 1 done."
    assert records.read(Path(play.folder), ran.planned[0].cell.name)["attempts"] is None


def test_a_record_of_a_newer_schema_is_refused_and_stays(play, cdner):
    first = play()
    first.path().write_text(json.dumps({**first.record(), "schema": 99}))
    before = first.path().read_bytes()

    with pytest.raises(RecordError) as refused:
        play()
    assert str(refused.value) == (
        f"{first.path()}: the record has schema 99, this version reads up to 2. A newer cdner wrote it: use that one, "
        "or move the record away and run its board again."
    )
    code, _, err = cdner("run", play.folder)
    assert (code, err) == (1, f"cdner: {refused.value}\n")
    assert first.path().read_bytes() == before


def test_a_table_does_not_read_a_record_of_a_newer_schema(play, cdner):
    first = play()
    first.path().write_text(json.dumps({**first.record(), "schema": 99}))
    code, _, err = cdner("table", play.folder)

    assert code == 1
    assert "schema 99" in err


# ---- a store that cannot be used


def test_a_store_whose_folder_is_a_file_is_told(play, cdner):
    play.write({}, {})
    play.store.write_text("")
    code, _, err = cdner("run", play.folder)

    assert (code, err) == (
        1, f"cdner: {play.store}: the store cannot be written (Not a directory). Set CDNER_STORE to a folder that can.\n"
    )  # fmt: skip


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_that_may_only_be_read_is_told(play, cdner):
    play()
    (play.store / "scratch").chmod(0o500)
    code, _, err = cdner("run", play.folder)
    (play.store / "scratch").chmod(0o700)

    assert (code, err) == (
        1, f"cdner: {play.store}: the store cannot be written (Permission denied). "
        "Set CDNER_STORE to a folder that can.\n",
    )  # fmt: skip


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["put_split", "note_attempt"])
def test_a_disk_that_is_full_for_the_harness_itself_is_told_as_such(play, monkeypatch, where):
    monkeypatch.setattr(Store, where, full)

    with pytest.raises(StoreError) as refused:
        play(script={NEWS: ["raise fog"]})
    assert str(refused.value) == (
        f"{play.store}: the disk is full. Make room (`cdner store` shows what takes it); the same command goes on "
        "from here."
    )
    assert list((play.store / "leases").iterdir()) == []
    assert not (play.folder / "records").exists()


def test_a_disk_that_is_full_ends_what_else_runs_and_is_told_as_such(play, monkeypatch):
    monkeypatch.setattr(Store, "note_attempt", full)

    with pytest.raises(StoreError) as refused:
        play(BOTH, script={FILM: [f"wait {SKY}-1.txt & raise fog"], SKY: ["sleep 40"]})
    assert "the disk is full." in str(refused.value)
    assert list((play.store / "leases").iterdir()) == []
    assert list((play.store / "scratch").iterdir()) == []


def test_a_split_that_could_not_be_written_leaves_nothing(play, monkeypatch):
    real = stores.sync
    monkeypatch.setattr(stores, "sync", lambda path: full() if path.parent.name == "splits" else real(path))
    with pytest.raises((StoreError, OSError)):
        play()

    assert list((play.store / "splits").iterdir()) == []


# ---- what the dead left


def sleeper(*, mark: Path) -> subprocess.Popen:
    """Start a process as a stage's child would be: it carries the stage's mark."""
    return subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(1000)"],
                            env={**os.environ, "CDNER_STAGE": str(mark)}, stdout=subprocess.PIPE, text=True,
                            start_new_session=True)  # fmt: skip


@pytest.fixture
def orphan():
    """Return a function that starts a process which a dead stage has left."""
    started = []

    def start(scratch: Path) -> subprocess.Popen:
        process = sleeper(mark=scratch)
        started.append(process)
        assert process.stdout.readline() == "up\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def left_by_the_dead(play, store: Store, fakes) -> Path:
    stage = Stage(fakes.act, train=[], init=None, seed=1, script=[], notes="", weight=1.0, title="long gone")
    scratch = store.prepare(stage, threads=1)
    (scratch / "artefact" / "log.txt").write_text("last words\n")
    (scratch / "process.json").write_text(json.dumps({"pid": 999_999, "start": 1.0}))
    (scratch / "progress.jsonl").write_text('{"usd": 0.1}\n{"usd": 0.25, "tokens": 90}\n{"usd": 0.3')  # cut off
    return scratch


def test_a_scratch_folder_of_a_dead_process_is_swept_and_its_child_ended(play, store, orphan, fakes_on_path):
    scratch = left_by_the_dead(play, store, fakes_on_path)
    child = orphan(scratch)
    play()

    child.wait(timeout=5)
    assert not scratch.exists()
    [told] = store.attempts(scratch.name.partition(".")[0])
    assert (told["attempt"], told["reason"], told["log"]) == (1, "interrupted", ["last words"])
    assert told["usd"] == 0.25


def test_a_scratch_folder_of_a_live_process_stays_and_so_does_its_child(play, store, orphan, fakes_on_path):
    scratch = left_by_the_dead(play, store, fakes_on_path)
    key = scratch.name.partition(".")[0]
    child = orphan(scratch)
    lease = store.lease(key)
    assert lease.take()
    play()
    lease.release()

    assert child.poll() is None
    assert scratch.is_dir()
    assert store.attempts(key) == []


def test_an_attempt_that_was_cut_short_has_its_seconds(play, store, fakes_on_path):
    scratch = left_by_the_dead(play, store, fakes_on_path)
    for path in scratch.rglob("*"):
        os.utime(path, (1_000_000_042, 1_000_000_042))
    os.utime(scratch / "request.json", (900_000_000, 900_000_000))  # it waited for its place
    os.utime(scratch / "process.json", (1_000_000_000, 1_000_000_000))
    play()
    [told] = store.attempts(scratch.name.partition(".")[0])

    assert (told["seconds"], told["ended"]) == (42.0, "2001-09-09T01:47:22+00:00")


def test_what_waited_for_its_place_when_its_harness_was_ended_was_no_attempt(play, store, fakes_on_path):
    scratch = left_by_the_dead(play, store, fakes_on_path)
    (scratch / "process.json").unlink()
    play()

    assert not scratch.exists()
    assert store.attempts(scratch.name.partition(".")[0]) == []


def test_half_a_scratch_folder_is_swept_without_a_word(play, store):
    scratch = store.root / "scratch" / f"{'a' * 32}.{'b' * 12}"
    (scratch / "artefact").mkdir(parents=True)
    play()

    assert not scratch.exists()
    assert store.attempts("a" * 32) == []


def test_unfinished_files_are_swept_when_they_are_old(play):
    first = play()
    old = first.path().with_name(".seed1.json.0123abcd")
    young = first.path().with_name(".seed2.json.0123abcd")
    for path in (old, young):
        path.write_text("{")
    os.utime(old, (time.time() - 7200,) * 2)
    play()

    assert (old.exists(), young.exists()) == (False, True)


def test_what_has_ended_well_keeps_no_attempts_and_no_checkpoints_when_the_harness_died_in_between(play, store):
    """The harness was killed after the artefact was published, and before it could tidy up."""
    first = play()
    stage = first.stage(f"{NEWS} seed 1")
    store.prepare(stage, threads=1)
    store.note_attempt(stage.key, {"attempt": 1, "reason": "killed"})
    store.partial(stage.key).mkdir()
    play()

    for name in ("scratch", "attempts", "partial"):
        assert list((play.store / name).iterdir()) == []


# ---- what a board needs


def snapshot(play) -> dict:
    return upkeep.read_snapshot(upkeep.snapshot_file(play.store, play.folder))


def test_a_run_writes_what_its_board_needs(play):
    ran = play({**BOTH, "seeds": [1, 2]})
    told = snapshot(play)
    cell = told["cells"][f"play/{NEWS}--{FILM}/supervised/seed1"]

    assert {name: told[name] for name in ("schema", "board", "folder")} == {
        "schema": 1, "board": "harbour", "folder": str(play.folder.resolve()),
    }  # fmt: skip
    assert len(told["cells"]) == 4
    assert (cell["final"], cell["reason"], cell["gold"]) == (ran.final().key, None, ran.planned[0].gold)
    assert cell["stages"] == [s.key for s in ran.final().graph()]
    assert set(told["stages"]) == {s.key for item in ran.planned for s in item.final.graph()}
    assert told["stages"][ran.final().key] == {
        "step": "fake_methods:spot", "title": f"{FILM} seed 1", "size": ran.final().size,
    }  # fmt: skip


def test_cells_left_out_by_only_stay_in_what_the_board_needs(play, cdner):
    whole = {**BOTH, "seeds": [1, 2]}
    play(whole)
    before = snapshot(play)
    code, printed, _ = cdner("run", play.folder, "--only", f"play/*{SKY}*/seed2", "--no-table")

    assert code == 0
    assert "nothing to do: 1 cell, 1 done." in printed
    assert {k: v for k, v in snapshot(play).items() if k != "written"} == {
        k: v for k, v in before.items() if k != "written"
    }


def test_cells_that_the_plan_no_longer_has_are_needed_no_more(play):
    play({**BOTH, "seeds": [1, 2]})
    ran = play({"transfers": [DIRECT]})

    assert list(snapshot(play)["cells"]) == [f"play/{NEWS}--{FILM}/supervised/seed1"]
    assert set(snapshot(play)["stages"]) == {s.key for s in ran.final().graph()}


def test_a_skipped_cell_says_why_in_what_the_board_needs(harbour):
    harbour({}, refuse=FILM)
    told = upkeep.read_snapshot(upkeep.snapshot_file(harbour.store, harbour.folder))

    assert told["cells"][f"echo/{NEWS}--{FILM}/supervised/seed1"]["final"] is None
    assert told["cells"][f"echo/{NEWS}--{FILM}/supervised/seed1"]["reason"] == f"{FILM} is too far away."


# ---- what takes how much, and what may go


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """Leave the boards out that come with cdner: their corpora are not here, and would be downloaded."""
    (tmp_path / "shipped").mkdir()
    monkeypatch.setattr("benchmark.paths.shipped_boards", lambda: tmp_path / "shipped")


def stored(play) -> set[str]:
    return {path.name for path in (play.store / "stages").iterdir()}


def keys(ran) -> set[str]:
    return {s.key for item in ran.planned if item.final for s in item.final.graph()}


def litter(play) -> list[Path]:
    """Put things into a store that no board needs. Returns them."""
    key = "0" * 32
    made = [play.store / "stages" / key, play.store / "partial" / key]
    for folder in made:
        folder.mkdir()
        (folder / "model.json").write_text("x" * 1000)
    files = [
        play.store / "attempts" / f"{key}.json", play.store / "failed" / f"{key}.1.txt",
        play.store / "splits" / f"{'1' * 64}.jsonl",
    ]  # fmt: skip
    for path in files:
        path.write_text("[]")
        os.utime(path, (time.time() - 7200,) * 2)
    broken = play.store / "broken" / f"{key}.abcd"
    broken.mkdir(parents=True)
    return [*made, *files, broken]


def test_store_shows_what_takes_how_much(play, cdner):
    play(BOTH)
    litter(play)
    code, printed, _ = cdner("store")

    assert code == 0
    lines = {" ".join(line.split()[:-3]): line.split()[-3:] for line in printed.splitlines()[1:]}
    assert printed.startswith(f"store  {play.store}\n")
    assert lines["artefacts: act"][0] == "3"
    assert lines["artefacts: spot"][0] == "2"
    assert lines["artefacts: without a manifest"] == ["1", "1.0", "kB"]
    for name in ("checkpoints of unfinished stages", "logs of failed attempts", "notes on failed attempts"):
        assert lines[name][0] == "1"
    assert printed.splitlines()[-1].startswith("free on its disk: ")


def test_a_store_that_is_not_there_is_told(play, cdner):
    assert cdner("store") == (1, "", f"cdner: {play.store}: there is no store yet; `cdner run` makes it.\n")
    assert not play.store.exists()


def test_prune_shows_first_and_removes_nothing(alone, play, cdner):
    ran = play(BOTH)
    made = litter(play)
    code, printed, _ = cdner("store", "prune", "--dry-run")

    assert code == 0
    assert printed.startswith("no board needs:\n")
    assert [line.split("  ")[0] for line in printed.splitlines()[1:]] == [
        "artefacts", "checkpoints", "notes on failed attempts", "logs of failed attempts", "splits",
        "broken artefacts, set aside",
    ]  # fmt: skip
    assert all(path.exists() for path in made)
    assert keys(ran) < stored(play)


def test_prune_asks_and_where_nobody_is_there_removes_nothing(alone, play, cdner, monkeypatch):
    play()
    made = litter(play)
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    code, _, err = cdner("store", "prune")
    sys.stdin.close()

    assert (code, err) == (
        1, "cdner: nobody can be asked here: say --yes to remove it, or --dry-run to see it only.\n"
    )  # fmt: skip
    assert all(path.exists() for path in made)


@pytest.mark.parametrize(("answer", "removed"), [("y", True), ("YES", True), ("", False), ("no", False)])
def test_prune_removes_what_a_person_agrees_to(alone, play, cdner, monkeypatch, answer, removed):
    ran = play()
    made = litter(play)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: {"Remove all this? [y/N] ": answer}[question])
    code, printed, _ = cdner("store", "prune")

    assert code == int(not removed)
    assert [path.exists() for path in made] == [not removed] * len(made)
    assert printed.splitlines()[-1].startswith("removed 2.0 kB" if removed else "nothing was removed")
    assert keys(ran) <= stored(play)


def test_prune_removes_what_no_board_needs_and_keeps_the_rest(alone, play, cdner):
    ran = play(BOTH, script={SKY: ["keep model & raise fog"]})
    kept = {p: p.read_bytes() for p in play.store.rglob("*") if p.is_file() and p.parent.name != "boards"}
    made = litter(play)
    code, _, _ = cdner("store", "prune", "--yes")

    assert code == 0
    assert [path.exists() for path in made] == [False] * len(made)
    assert {p: p.read_bytes() for p in kept if p.is_file()} == kept  # a failed stage's log and notes as well
    again = play(BOTH, script={SKY: ["keep model & raise fog"]})
    assert again.steps == []
    assert cdner("store", "prune", "--yes")[:2] == (0, "there is nothing that no board needs\n")
    assert keys(ran) > stored(play)


def test_prune_removes_what_a_changed_plan_needs_no_more(alone, play, cdner):
    first = play()
    ran = play(weight=2.0)
    cdner("store", "prune", "--yes")

    assert stored(play) == keys(ran)
    assert keys(first) - stored(play) == {first.stage(f"{FILM} seed 1").key, first.final().key}


def elsewhere(play, name: str, **settings) -> Path:
    """Write a board outside the folder of boards."""
    folder = play.root / "zone" / name  # behind the folder of boards, in the order of names
    folder.mkdir(parents=True)
    variants = {"play": {"method": "play", "set": {"notes": str(play.notes), **settings}}}
    (folder / "plan.yaml").write_text(yaml.safe_dump({"variants": variants, "transfers": [DIRECT]}))
    return folder


def test_prune_keeps_what_a_board_elsewhere_needs(alone, play, cdner):
    ran = play()
    far = elsewhere(play, "far", weight=3.0)
    assert cdner("run", far, "--no-table")[0] == 0
    both = stored(play)
    cdner("store", "prune", "--yes")

    assert len(both - keys(ran)) == 2
    assert stored(play) == both


def test_prune_keeps_what_a_board_needed_that_cannot_be_planned_now(alone, play, cdner):
    ran = play()
    far = elsewhere(play, "far", weight=3.0)
    cdner("run", far, "--no-table")
    both = stored(play)
    (far / "plan.yaml").write_text("variants: {")
    code, printed, _ = cdner("store", "prune", "--yes")

    assert code == 0
    assert f"cannot be planned now, so all that was needed when it last ran is kept: {far}: " in printed
    assert stored(play) == both > keys(ran)


def test_prune_tells_a_reason_once_with_all_boards_that_have_it(capsys):
    found = Prunable(unread=["/a/one: ai: it is not here", "/a/two: ai: it is not here", "/a/three: no plan"])
    render_prunable(found, Console(width=200))

    assert capsys.readouterr().out.splitlines() == [
        "cannot be planned now, so all that was needed when it last ran is kept: /a/one, /a/two: ai: it is not here",
        "cannot be planned now, so all that was needed when it last ran is kept: /a/three: no plan",
        "there is nothing that no board needs",
    ]


def test_prune_says_nothing_of_a_board_that_never_ran_on_this_store(alone, play, cdner):
    play()
    here = play.root / "results" / "new"
    here.mkdir(parents=True)
    (here / "plan.yaml").write_text("variants: {")
    code, printed, _ = cdner("store", "prune", "--dry-run")

    assert code == 0
    assert str(here) not in printed


def test_prune_keeps_what_one_board_needs_and_another_needed_once(alone, play, cdner):
    """The second board shared all with the first, and was changed since."""
    ran = play()
    far = elsewhere(play, "zebra")
    cdner("run", far, "--no-table")
    (far / "plan.yaml").write_text((far / "plan.yaml").read_text().replace("method: play", "method: echo").replace(
        f"notes: {play.notes}", "weight: 2.0"))  # fmt: skip
    cdner("store", "prune", "--yes")

    assert read_board(str(far)).cells[0].variant.method == "echo"
    assert stored(play) == keys(ran)


def test_prune_forgets_a_board_whose_folder_is_gone(alone, play, cdner):
    ran = play()
    far = elsewhere(play, "far", weight=3.0)
    cdner("run", far, "--no-table")
    far.rename(play.root / "gone")
    cdner("store", "prune", "--yes")

    assert stored(play) == keys(ran)


def test_prune_keeps_what_runs_now(alone, play, store, cdner, fakes_on_path):
    play()
    parent = Stage(fakes_on_path.act, train=[], init=None, seed=7, script=[], notes="", weight=1.0)
    child = Stage(fakes_on_path.act, train=[], init=parent, seed=7, script=[], notes="", weight=1.0)
    for stage in (parent, child):
        store.partial(stage.key).mkdir()
    scratch = store.prepare(child, threads=1)
    lease = store.lease(child.key)
    assert lease.take()
    cdner("store", "prune", "--yes")
    lease.release()

    assert scratch.is_dir()
    assert store.partial(child.key).is_dir()
    assert not store.partial(parent.key).exists()


def test_prune_keeps_what_a_running_stage_reads(alone, play, store, cdner):
    """The board's plan was changed while it runs: the stage that runs still needs its parent."""
    ran = play()
    final = ran.final()
    [parent] = final.parents
    take_away(play, final)
    store.prepare(final, threads=1)
    lease = store.lease(final.key)
    assert lease.take()
    play.write({}, {"weight": 2.0})
    cdner("store", "prune", "--yes")
    lease.release()

    assert store.has(parent.key)


def test_a_board_runs_on_after_a_prune_took_a_parent(play):
    """Where parents are pruned and the child is wanted again, all that is lacking is built."""
    first = play(BOTH)
    take_away(play, first.stage(f"{NEWS} seed 1"), first.stage(f"{FILM} seed 1"), first.final())
    first.path().unlink()
    ran = play(BOTH)

    assert ran.steps == [f"act {FILM} seed 1", f"act {NEWS} seed 1", f"spot {FILM} seed 1"]
    assert ran.counts["ok"] == 1


def test_a_parent_that_goes_while_the_board_runs_is_built_again(play):
    from benchmark.report.watch import Lines

    class Sweeper(Lines):
        def __init__(self):
            from io import StringIO

            from rich.console import Console

            super().__init__(Console(file=StringIO()))
            self.gone = []

        def ended(self, stage, reason, seconds):
            super().ended(stage, reason, seconds)
            if stage.title == f"{NEWS} seed 1" and not self.gone:
                self.gone.append(stage)
                take_away(play, stage)

    ran = play(watcher=Sweeper())

    assert (play.runs(NEWS), ran.record()["status"]) == (2, "ok")


# ---- who is alive


def test_only_the_marked_processes_of_a_stage_are_its_own(tmp_path, orphan):
    from benchmark.run import processes

    mine, other = tmp_path / "mine", tmp_path / "mine-too"
    for folder in (mine, other):
        folder.mkdir()
    first, second = orphan(mine), orphan(other)

    assert [p.pid for p in processes.alive(mine)] == [first.pid]
    processes.end(mine)
    first.wait(timeout=5)
    assert processes.alive(mine) == []
    assert second.poll() is None
    assert psutil.pid_exists(second.pid)


def test_a_number_that_another_process_has_now_is_not_the_stage(tmp_path):
    from benchmark.run import processes

    (tmp_path / "process.json").write_text(json.dumps({"pid": os.getpid(), "start": 1.0}))

    assert processes.alive(tmp_path) == []


def test_the_memory_of_a_process_counts_its_children(orphan, tmp_path):
    from benchmark.run import processes

    before = processes.memory(os.getpid())
    child = orphan(tmp_path)

    assert processes.memory(os.getpid()) > before + 1_000_000
    assert processes.memory(child.pid) > 1_000_000
    child.kill()
    child.wait()
    assert processes.memory(child.pid) == 0


def test_planning_needs_no_store(play):
    play.write({}, {})
    board = read_board(str(play.folder))
    plan_cells(board, board.cells)

    assert not play.store.exists()
