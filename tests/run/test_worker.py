"""Stages in real processes: forked from a warm server, ended with all that they started."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.corpus.corpus import Sentence, Split
from benchmark.run.engine import Ending
from benchmark.run.failure import failure
from benchmark.run.local import LocalEngine
from benchmark.run.stage import Stage

LONG = 120  # seconds after which a test gives up: the first stage waits for the server's imports


def ended(engine, *scratches, seconds=LONG):
    """Return the exit code of each stage, once all have ended."""
    codes = {}
    deadline = time.monotonic() + seconds
    while len(codes) < len(scratches) and time.monotonic() < deadline:
        codes.update((e.scratch, e.code) for e in engine.wait(0.2))
    return [codes.get(s, "still running") for s in scratches]


def run(engine, store, stage):
    """Run one stage. Returns its scratch folder and its exit code."""
    scratch = store.prepare(stage, threads=1)
    engine.start(scratch)
    return scratch, ended(engine, scratch)[0]


def alive(pid: int) -> bool:
    """Return whether a process runs; one that is dead and not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(*pids: int, seconds: float = 8) -> bool:
    """Return whether all processes are gone, waiting a while for it."""
    deadline = time.monotonic() + seconds
    while any(alive(p) for p in pids):
        if time.monotonic() > deadline:
            for p in filter(alive, pids):
                os.kill(p, signal.SIGKILL)
            return False
        time.sleep(0.02)
    return True


def wait_for(path: Path) -> str:
    """Return the text of a file, once it is there."""
    deadline = time.monotonic() + LONG
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)
    return path.read_text()


def hanging(engine, store, fakes, pids: Path, *, deaf: bool = False):
    """Start a stage that never ends. Returns its scratch folder, its process and its child's."""
    scratch = store.prepare(Stage(fakes.hang, pids=str(pids), deaf=deaf), threads=1)
    engine.start(scratch)
    leader, child = map(int, wait_for(pids).split())
    return scratch, leader, child


@pytest.fixture
def fakes(fakes_on_path):
    return fakes_on_path


@pytest.fixture
def engine(warm_engine):
    return warm_engine


def test_a_step_publishes_what_it_wrote(engine, store, fakes):
    stage = Stage(fakes.write_word, word="fog", title="harbour", size=2.0)
    scratch, code = run(engine, store, stage)

    assert (code, (scratch / "failure.json").exists()) == (0, False)
    assert (store.folder(stage.key) / "word.txt").read_text() == "fog"
    found = store.manifest(stage.key)
    assert {name: found[name] for name in ("schema", "key", "step", "title", "size", "threads", "ingredients")} == {
        "schema": 2,
        "key": stage.key,
        "step": "fake_methods:write_word",
        "title": "harbour",
        "size": 2.0,
        "threads": 1,
        "ingredients": stage.ingredients,
    }
    assert set(found["files"]) == {"word.txt", "log.txt"}
    assert found["seconds"] >= 0
    assert found["peak_memory_mib"] > 0
    assert found["device"]


@pytest.fixture
def cove(tmp_path, fakes, monkeypatch):
    """Return a stage of a method in a file of its own, which lies beside a file that it imports, and the two files."""
    folder = Path(fakes.__file__).parent
    step, beside = folder / f"cove_{tmp_path.name}.py", folder / f"inlet_{tmp_path.name}.py"
    beside.write_text("WORD = 'fog'\n")
    step.write_text(
        f"from {beside.stem} import WORD\n\n\ndef write(work, *, times):\n"
        "    (work.folder / 'word.txt').write_text(WORD * times)\n"
    )
    try:
        yield Stage(importlib.import_module(step.stem).write, times=2, title="a cove"), step, beside
    finally:
        step.unlink()
        beside.unlink()


def test_a_step_whose_file_was_written_anew_runs_where_its_code_is_the_same(engine, store, cove):
    stage, step, _ = cove
    scratch = store.prepare(stage, threads=1)
    step.write_text("# of no weight\n" + step.read_text())
    engine.start(scratch)

    assert ended(engine, scratch) == [0]
    assert store.manifest(stage.key)["ingredients"] == stage.ingredients


@pytest.mark.parametrize(("which", "before", "after"), [
    (1, "WORD * times", "WORD"), (2, "fog", "mist"), (1, "def write", "def written"),
])  # fmt: skip
def test_code_that_has_changed_since_it_was_planned_is_not_run_under_the_old_key(
    engine, store, cove, which, before, after
):
    stage = cove[0]
    scratch = store.prepare(stage, threads=1)
    cove[which].write_text(cove[which].read_text().replace(before, after))
    engine.start(scratch)

    assert ended(engine, scratch) == [1]
    assert not store.has(stage.key)
    told = failure(Ending(scratch, 1))
    assert (told.kind, told.again) == ("killed", False)
    assert told.told == f"killed: the code of {stage.name} has changed since it was planned; run the command again"


def test_a_module_that_was_loaded_before_its_version_rose_runs_nothing(engine, store, fakes):
    scratch = store.prepare(Stage(fakes.write_word, word="fog"), threads=1)
    request = json.loads((scratch / "request.json").read_text())
    request["ingredients"]["code"]["versions"]["benchmark.models.tagging"] = 10**6
    (scratch / "request.json").write_text(json.dumps(request))
    engine.start(scratch)

    assert ended(engine, scratch) == [1]
    assert "has changed since it was planned" in failure(Ending(scratch, 1)).told


def test_a_step_is_given_its_parents_folder(engine, store, fakes):
    parent = Stage(fakes.write_word, word="fog")
    child = Stage(fakes.copy_word, parent=parent)
    run(engine, store, parent)

    assert run(engine, store, child)[1] == 0
    assert (store.folder(child.key) / "word.txt").read_text() == "FOG"


def test_a_step_is_given_the_split_that_it_was_bound_to(engine, store, fakes):
    fog = Split("harbour", "dev", (Sentence("harbour/dev/0", ("Fog", "in", "Öresund"), None),))
    stage = Stage(fakes.count_words, split=fog, limits={"b": 1, "a": [2, None]})
    run(engine, store, stage)

    assert json.loads((store.folder(stage.key) / "count.json").read_text()) == {
        "words": 3,
        "limits": {"b": 1, "a": [2, None]},
    }


def test_a_step_runs_in_a_process_group_of_its_own(engine, store, fakes):
    stage = Stage(fakes.tell_surroundings, number=7)
    run(engine, store, stage)

    assert json.loads((store.folder(stage.key) / "told.json").read_text()) == {
        "threads": 1,
        "number": 7,
        "group": True,
    }


def test_what_a_step_and_its_children_print_is_in_the_log(engine, store, fakes):
    stage = Stage(fakes.speak)
    run(engine, store, stage)

    assert (store.folder(stage.key) / "log.txt").read_text() == "said aloud\nsaid beside\nsaid by a child\n"


def test_a_step_that_raises_tells_why_and_leaves_no_artefact(engine, store, fakes):
    stage = Stage(fakes.fail, message="the mast broke")
    scratch, code = run(engine, store, stage)

    assert (code, store.has(stage.key)) == (1, False)
    assert json.loads((scratch / "failure.json").read_text()) == {
        "reason": "error",
        "error": "ValueError",
        "message": "the mast broke",
    }
    assert failure(Ending(scratch, code)).told == "error: ValueError: the mast broke"
    log = (scratch / "artefact" / "log.txt").read_text()
    assert log.startswith("before the fall\nTraceback (most recent call last):\n")
    assert log.endswith("ValueError: the mast broke\n")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("CUDA out of memory. Tried to allocate 2 GiB", "out of memory: ValueError: CUDA out of memory. Tried to allocate 2 GiB"),
        ("loss is not a number", "loss is not a number"),
        ("", "error: ValueError: "),
    ],
)  # fmt: skip
def test_a_failure_has_a_reason_of_few_words(engine, store, fakes, message, reason):
    scratch, code = run(engine, store, Stage(fakes.fail, message=message))

    assert failure(Ending(scratch, code)).told == reason


def test_a_memory_error_is_out_of_memory(engine, store, fakes):
    scratch, code = run(engine, store, Stage(fakes.run_out_of_memory))

    assert failure(Ending(scratch, code)).told == "out of memory: MemoryError: "


def test_a_step_that_exits_has_failed(engine, store, fakes):
    stage = Stage(fakes.exit_quietly)
    scratch, code = run(engine, store, stage)

    assert (code, store.has(stage.key)) == (1, False)
    assert failure(Ending(scratch, code)).told == "error: SystemExit: 0"


def test_a_step_that_kills_itself_ends_with_the_signal(engine, store, fakes):
    stage = Stage(fakes.kill_itself)
    scratch, code = run(engine, store, stage)

    assert (code, store.has(stage.key)) == (-9, False)
    assert failure(Ending(scratch, code)).told == "killed by signal 9 (for want of memory, or by a person)"


def test_a_training_that_is_terminated_was_killed(engine, store, fakes):
    scratch, code = run(engine, store, Stage(fakes.be_terminated_while_training))

    told = failure(Ending(scratch, code))
    assert (told.kind, told.told) == ("killed", "killed by signal 15")


def test_a_step_that_vanishes_is_told_by_its_last_words(engine, store, fakes):
    scratch, code = run(engine, store, Stage(fakes.vanish))

    assert failure(Ending(scratch, code)).told == "error: exit status 3: last words"


def test_stop_ends_a_stuck_step_and_its_child(engine, store, fakes, tmp_path):
    scratch, leader, child = hanging(engine, store, fakes, tmp_path / "pids")
    engine.stop(scratch)

    assert ended(engine, scratch) == [-15]
    assert gone(leader, child)


def test_stop_kills_a_child_that_hears_no_sigterm(engine, store, fakes, tmp_path):
    scratch, leader, child = hanging(engine, store, fakes, tmp_path / "pids", deaf=True)
    engine.stop(scratch)

    assert ended(engine, scratch) == [-15]
    assert gone(leader, child)


def test_the_engine_goes_on_after_a_stop(engine, store, fakes):
    assert run(engine, store, Stage(fakes.write_word, word="after"))[1] == 0


def test_two_slots_run_at_once(engine, store, fakes, tmp_path):
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    first = store.prepare(Stage(fakes.meet, mine=one, other=other), threads=1)
    second = store.prepare(Stage(fakes.meet, mine=other, other=one), threads=1)
    engine.start(first)
    engine.start(second)

    assert ended(engine, first, second) == [0, 0]


def test_a_step_cannot_eat_the_servers_requests(engine, store, fakes):
    stage = Stage(fakes.read_input)
    scratch = store.prepare(stage, threads=1)
    engine.start(scratch)
    [code] = ended(engine, scratch, seconds=6)
    if code == "still running":
        engine.stop(scratch)
        ended(engine, scratch)

    assert code == 0
    assert (store.folder(stage.key) / "input.txt").read_text() == ""


# ---- the end of the server. These two have an engine of their own, and run in this order


@pytest.fixture(scope="module")
def mortal(fakes_on_path):
    engine = LocalEngine(slots=2, threads=1)
    engine.warm()
    yield engine
    engine.close()


def test_the_servers_death_ends_running_stages_and_the_next_start_works(mortal, store, fakes, tmp_path):
    finished = Stage(fakes.write_word, word="finished")
    done = store.prepare(finished, threads=1)
    mortal.start(done)
    scratch, leader, child = hanging(mortal, store, fakes, tmp_path / "pids")
    while not store.has(finished.key):
        time.sleep(0.05)
    time.sleep(0.5)  # its end is told by now, and nobody has asked yet
    os.kill(mortal._server.pid, signal.SIGKILL)
    time.sleep(0.5)

    told = [(e.scratch, e.code) for _ in range(5) for e in mortal.wait(0.2)]
    clean = gone(leader, seconds=1)
    gone(child, seconds=0)  # its parent is gone, and nobody is left to end it

    assert told == [(done, 0), (scratch, -9)]
    assert clean
    assert run(mortal, store, Stage(fakes.write_word, word="next"))[1] == 0


def test_closing_the_engine_leaves_no_process(mortal, store, fakes, tmp_path):
    _, leader, child = hanging(mortal, store, fakes, tmp_path / "pids", deaf=True)
    server = mortal._server.pid
    mortal.close()
    mortal.close()

    assert gone(leader, child, seconds=1)
    assert not alive(server)


def test_an_engine_that_was_never_warmed_closes(recwarn):
    import gc

    engine = LocalEngine(slots=1, threads=1)
    engine.close()
    del engine
    gc.collect()

    assert [str(w.message) for w in recwarn] == []


def test_a_server_whose_asker_dies_while_it_imports_does_not_go_on(tmp_path):
    (tmp_path / "slow.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(300)\n")
    code = "from benchmark.run import worker; worker.WARM = ('slow',); worker.serve()"
    server = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, text=True,
    )  # fmt: skip
    try:
        assert server.stderr.readline() == "importing\n"
        server.stdin.write("a question that nobody reads yet\n")
        server.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            server.wait(timeout=0.5)
        server.stdin.close()
        assert server.wait(timeout=60) == 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        server.stderr.close()
