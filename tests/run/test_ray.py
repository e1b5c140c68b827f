"""Boards on a real Ray with several nodes, each a raylet of its own on 127.0.0.1, some of which are killed.

Whatever is told of a stage that runs here is what `local` tells of it.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from benchmark.corpus.corpus import load
from benchmark.errors import EngineError
from benchmark.run.engines import make
from benchmark.run.stage import Stage
from benchmark.run.store import Store
from tests.models.conftest import save_bert
from tests.raynodes import VARIABLES, Nodes
from tests.run.test_kills import Place

NEWS, FILM, SKY = "demo-news", "demo-cinema", "demo-astronomy"
BOTH = [{"sources": [NEWS], "targets": [FILM, SKY], "regime": "supervised"}]
LONG = 300  # seconds after which a test gives up
NODES = 3
ROUNDS = int(os.environ.get("CDNER_RAY_ROUNDS", "1"))
SEED = int(os.environ.get("CDNER_KILLS_SEED", "1"))

# Ray leaves the pipes and log files of the processes that it starts to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def nodes(fakes_on_path):
    """Return a cluster; this process, and those that it starts, may join it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in VARIABLES.items():
            patch.setenv(name, value)
        made = Nodes(NODES, gpus=1)
        yield made
        made.close()


@pytest.fixture(scope="module")
def engine(nodes, fakes_on_path, tmp_path_factory):
    """Return an engine on the cluster, whose fork servers are warm, and stay so."""
    made = make("ray", {"address": nodes.address, "gpus_per_stage": 0, "worker_env": {"CDNER_FOG": "thick"}})
    made.warm()
    folder = tmp_path_factory.mktemp("warm")
    store = Store.open(folder / "store")
    marks = [folder / str(n) for n in range(NODES)]
    scratches = []
    for mine, other in zip(marks, [*marks[1:], marks[0]], strict=True):
        scratches.append(store.prepare(Stage(fakes_on_path.await_mark, mine=str(mine), other=str(other)), threads=1))
        made.start(scratches[-1])
    assert ended(made, *scratches) == [(0, None)] * NODES
    yield made
    made.close()


def ended(engine, *scratches, seconds=LONG):
    """Return how each stage ended, once all have."""
    found = {}
    deadline = time.monotonic() + seconds
    while len(found) < len(scratches):
        assert time.monotonic() < deadline, f"{len(scratches) - len(found)} stages still run"
        found.update((e.scratch, (e.code, e.over)) for e in engine.wait(0.2))
    return [found[s] for s in scratches]


def hanging(engine, store, fakes, pids: Path):
    """Start a stage that never ends. Returns its scratch folder, its process and its child's."""
    scratch = store.prepare(Stage(fakes.hang, pids=str(pids)), threads=1)
    engine.start(scratch)
    wait_for(pids)
    return scratch, *map(int, pids.read_text().split())


def wait_for(*paths: Path) -> None:
    deadline = time.monotonic() + LONG
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, f"{paths} never came"
        time.sleep(0.02)


def gone(*found: int | psutil.Process, seconds: float = 20) -> list[psutil.Process]:
    """Return which of some processes still live after a while; they are killed."""
    living = []
    for one in found:
        try:
            process = psutil.Process(one) if isinstance(one, int) else one
            living += [process] if process.is_running() and process.status() != psutil.STATUS_ZOMBIE else []
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(living, timeout=seconds)
    alive = [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    for process in alive:
        process.kill()
    return alive


# ---- the same as on one machine


def test_a_board_of_25_stages_gives_what_local_gives(harbour, engine, warm_engine):
    plan = {"transfers": BOTH, "seeds": [1, 2, 3, 4, 5]}
    ran = harbour(plan, engine=engine)
    there = {cell.name: outcome(harbour, cell.name) for cell in ran.board.cells}
    shutil.rmtree(harbour.folder)
    shutil.rmtree(harbour.store)
    here = harbour(plan, engine=warm_engine)

    assert engine.slots == NODES
    assert ran.counts == here.counts == {"ok": 10, "failed": 0, "skipped": 0, "stages": 25, "before": 10}
    assert there == {cell.name: outcome(harbour, cell.name) for cell in here.board.cells}


def outcome(board, cell: str) -> list[object]:
    path = board.folder / "records" / f"{cell}.json"
    record = json.loads(path.read_text())
    packed = path.with_name(path.name.replace(".json", ".predictions.jsonl.gz")).read_bytes()
    return [record[n] for n in ("status", "final", "predictions", "scores")] + [packed]


ACTS = {
    1: ("memory", "out of memory: MemoryError: no room"),
    2: ("nan", "loss is not a number in epoch 2."),
    3: ("data", "bad input: DataError: train.txt, line 3: this is no tag."),
    4: ("llm", "LLM refused: LlmRefused: the model would not answer."),
    5: ("raise the mast broke", "error: ValueError: the mast broke"),
    6: ("die", "killed by signal 9 (for want of memory, or by a person)"),
    7: ("hoard 1300", "out of memory: ? GiB, over the 1.5 GiB that a stage may use"),
    8: ("runaway", "time limit: over 0.25 minutes"),
    9: ("deaf", "time limit: over 0.25 minutes"),
}


def test_failures_have_the_words_that_local_has_and_end_only_the_cells_that_need_them(play, engine, warm_engine):
    plan = {
        "transfers": BOTH, "seeds": list(ACTS), "budget": {"gib_per_stage": 1.5, "minutes_per_stage": 0.25},
    }  # fmt: skip
    script = {f"{FILM} {seed}": [act] for seed, (act, _) in ACTS.items()}
    ran = play(plan, script=script, engine=engine)
    there = told(ran)
    left = gone(*play.pids(), *play.pids("runaway"), seconds=1)
    shutil.rmtree(play.folder)
    shutil.rmtree(play.store)
    shutil.rmtree(play.notes)
    here = play(plan, script=script, engine=warm_engine)

    assert ran.counts == here.counts
    assert (ran.counts["ok"], ran.counts["failed"]) == (9, 9)
    assert [record["status"] for record in (ran.record(SKY, seed) for seed in ACTS)] == ["ok"] * 9
    assert [t["reason"] for t in there] == [f"act ({FILM} seed {seed}): {word}" for seed, (_, word) in ACTS.items()]
    assert there == told(here)
    assert left == []


def told(ran) -> list[dict[str, object]]:
    """Return what the records of a board say of their failures, but for numbers that are never the same."""
    found = []
    for seed in ACTS:
        record = ran.record(FILM, seed)
        failure = {name: value for name, value in record["failure"].items() if name not in ("stage", "log")}
        reason = " ".join(
            "?" if seed == 7 and word.startswith(("1.", "2.")) else word for word in record["reason"].split()
        )
        reason = reason.replace("over the ? GiB", "over the 1.5 GiB")
        found.append({"reason": reason, "attempts": [a["reason"] for a in record["attempts"]], **failure})
    return found


def test_stages_at_once_are_on_different_nodes_and_see_the_harness_variables(play, nodes, engine):
    marks = [f"{FILM}-1.txt", f"{SKY}-1.txt"]
    meet = {FILM: [f"see CDNER_FOG & wait {marks[1]}"], SKY: [f"see CDNER_FOG & wait {marks[0]}"]}
    ran = play({"transfers": BOTH}, script=meet, engine=engine)

    assert ran.counts["ok"] == 2
    assert [path.read_text() for path in play.notes.glob("seen-*")] == ["thick"] * 2


# ---- stages that are ended, or lost


def test_a_stage_that_is_stopped_is_killed_with_its_child_where_both_are_deaf(engine, store, tmp_path, fakes_on_path):
    bound = {"train": [load(NEWS).train], "init": None, "seed": 1, "weight": 1, "notes": str(tmp_path)}
    scratch = store.prepare(Stage(fakes_on_path.act, script=["deaf"], **bound), threads=1)
    engine.start(scratch)
    wait_for(tmp_path / "pids")
    leader, child = map(int, (tmp_path / "pids").read_text().split())
    began = time.monotonic()
    engine.stop(scratch)
    engine.stop(scratch)

    assert ended(engine, scratch) == [(-9, None)]
    assert time.monotonic() - began > 2.5  # it was asked first
    assert gone(leader, child, seconds=1) == []


def test_a_stage_that_waits_for_room_can_be_stopped(nodes, engine, store, tmp_path, fakes_on_path):
    places = len(nodes.nodes)
    running = [hanging(engine, store, fakes_on_path, tmp_path / f"pids{n}")[0] for n in range(places)]
    waits = store.prepare(Stage(fakes_on_path.write_word, word="fog"), threads=1)
    engine.start(waits)
    engine.stop(waits)

    assert ended(engine, waits) == [(-15, None)]
    for scratch in running:
        engine.stop(scratch)
    assert ended(engine, *running) == [(-15, None)] * places


@pytest.mark.parametrize(
    ("generations", "word"), [(1, None), (2, "killed: its Ray process, or the node, was lost")], ids=["server", "task"]
)
def test_a_stage_whose_server_or_task_is_killed_ends_with_its_child(
    engine, store, tmp_path, fakes_on_path, generations, word
):
    scratch, leader, child = hanging(engine, store, fakes_on_path, tmp_path / "pids")
    psutil.Process(leader).parents()[generations - 1].kill()

    assert ended(engine, scratch) == [(-9, word)]
    assert gone(leader, child) == []


def test_stages_of_a_node_that_is_lost_are_run_again_elsewhere(play, nodes, engine, capsys):
    script = {FILM: ["wait gate", ""], SKY: ["wait gate", ""]}
    killed: list[list[psutil.Process]] = []

    def kill_a_node():
        marks = [play.notes / f"{FILM}-1.txt", play.notes / f"{SKY}-1.txt"]
        wait_for(*marks)
        pid = int(marks[0].read_text().split()[0])
        killed.append(nodes.kill(nodes.node_of(pid)))
        killed.append(gone(pid))
        (play.notes / "gate").touch()

    play.notes.mkdir()
    killer = threading.Thread(target=kill_a_node)
    killer.start()
    ran = play({"transfers": BOTH}, script=script, engine=engine)
    killer.join()
    lost = [a for target in (FILM, SKY) for a in ran.record(target)["attempts"]]

    assert ran.counts == {"ok": 2, "failed": 0, "skipped": 0, "stages": 5, "before": 2}
    assert [a["reason"] for a in lost] == ["killed"]
    assert "killed: its Ray process, or the node, was lost" in ran.printed
    assert (play.runs(FILM), play.runs(SKY), play.runs(NEWS)) == (2, 1, 1)
    assert killed[1] == gone(*killed[0]) == []
    assert "raylet" not in capsys.readouterr().out  # Ray says nothing between the lines of the harness


# ---- nothing lost


class RayPlace(Place):
    """A board that runs on the cluster."""

    def __init__(self, root: Path, encoder: Path, address: str):
        super().__init__(root, encoder)
        self.options = root / "engine.yaml"
        self.options.write_text(f"engine: ray\nray: {{address: '{address}', gpus_per_stage: 0}}\n")

    def start(self) -> subprocess.Popen:
        command = [sys.executable, "-m", "benchmark.cli", "run", str(self.board), "--engine-config", str(self.options)]
        with (self.root / "out.txt").open("a") as out:
            return subprocess.Popen(
                [*command, "--no-table"], stdout=out, stderr=out, env=self.environment, start_new_session=True
            )


def running(store: Path) -> dict[int, str]:
    """Return the processes that the scratch folders of a store name, with the keys of their stages."""
    found = {}
    for path in (store / "scratch").glob("*/process.json"):
        with contextlib.suppress(OSError, ValueError):
            found[json.loads(path.read_text())["pid"]] = path.parent.name.partition(".")[0]
    return found


def strike(who: str, pid: int, run: subprocess.Popen, nodes: Nodes) -> None:
    """Kill the harness, or what runs the stage of a process: its node, its Ray process, its fork server."""
    if who == "harness":
        run.kill()
        run.wait(timeout=20)
    elif who == "node":
        nodes.kill(nodes.node_of(pid))
    else:
        psutil.Process(pid).parents()[0 if who == "server" else 1].kill()


def test_a_board_whose_parts_are_killed_ends_with_the_records_of_local(tmp_path, nodes):
    chance = random.Random(SEED)
    encoder = save_bert(tmp_path / "bert")
    quiet = Place(tmp_path / "quiet", encoder)
    quiet.finish()
    expected = quiet.outcome()
    assert len(expected) == 4

    for number in range(ROUNDS):
        place = RayPlace(tmp_path / f"round{number}", encoder, nodes.address)
        run, victims, struck = place.start(), ["task", "server", "harness"], Counter[str]()
        if len(nodes.nodes) > 1:
            victims.insert(0, "node")
        deadline = time.monotonic() + 2 * LONG
        while victims and run.poll() is None:
            assert time.monotonic() < deadline, place.output()
            time.sleep(0.02)
            pids = running(place.store)
            pid = min(pids, key=lambda pid: struck[pids[pid]], default=None)
            if pid is None or struck[pids[pid]] > 1:
                continue  # a stage that is killed three times has failed
            time.sleep(chance.uniform(0, 1))
            with contextlib.suppress(psutil.Error, StopIteration):  # it has ended meanwhile
                strike(victims[0], pid, run, nodes)
                struck[pids[pid]] += 1
                who = victims.pop(0)
                print(f"round {number}: {who} of stage {pids[pid]}", flush=True)
                assert gone(*(running(place.store) if who == "harness" else [pid])) == [], f"outlived the {who}"
        assert victims == [], f"the board has ended before: {place.output()}"
        place.finish()
        assert place.outcome() == expected, place.output()
        assert place.left_behind() == [], place.output()
        assert place.counted_once(), place.output()


def test_a_ray_that_a_run_has_started_ends_with_it_also_where_it_is_killed(shell, play, tmp_path, nodes):
    environment = {"TMPDIR": tempfile.mkdtemp(dir="/tmp", prefix="own-"), "RAY_AUTH_TOKEN": "", "RAY_TMPDIR": ""}
    play.write({"transfers": BOTH}, {"script": {NEWS: ["sleep 1000", "sleep 1000", ""]}})
    mark = play.notes / f"{NEWS}-1.txt"
    for number, signum in enumerate((signal.SIGKILL, signal.SIGINT), start=1):
        run = shell.start("run", str(play.folder), "--engine", "ray", "--slots", "1", "--no-table", **environment)
        deadline = time.monotonic() + LONG
        while not mark.exists() or len(mark.read_text().splitlines()) < number:
            assert run.poll() is None, shell.end(run)
            assert time.monotonic() < deadline
            time.sleep(0.05)
        family = psutil.Process(run.pid).children(recursive=True)
        stages = [p for p in family if started_as(p, "benchmark.run.worker")]
        assert {"raylet", "gcs_server"} <= {p.name() for p in family}
        assert [c for p in family for c in listening(p) if c not in ("127.0.0.1", "::ffff:127.0.0.1", "::1")] == []
        run.send_signal(signum)
        code, printed = shell.end(run)
        assert len(stages) == 2  # and the server that it was forked from
        assert gone(*stages) == [], printed
        assert gone(*family, seconds=90) == [], printed  # Ray's agents look after their raylets every few seconds
        assert code == (-9 if signum == signal.SIGKILL else 130), printed
    assert list(Path(environment["TMPDIR"]).glob("cdner-ray-*"))[1:] == []  # but for the one of the run that was killed
    shutil.rmtree(environment["TMPDIR"])
    third = shell.run("run", str(play.folder), "--no-table")

    assert third[0] == 0, third[1]
    assert play.runs(NEWS) == 3


def started_as(process: psutil.Process, name: str) -> bool:
    try:
        return name in process.cmdline()
    except psutil.Error:
        return False


def listening(process: psutil.Process) -> list[str]:
    """Return the addresses on which a process listens."""
    try:
        return [c.laddr.ip for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    except psutil.Error:
        return []


# ---- what is asked for


def test_a_stage_that_needs_a_gpu_sees_the_one_that_ray_grants_and_no_other_sees_any(
    nodes, engine, store, tmp_path, fakes_on_path
):
    second = make("ray", {"address": nodes.address})
    second.warm()
    for number, needs in enumerate(["gpu", "cpu"]):
        stage = Stage(fakes_on_path.see_gpus, needs=needs, path=str(tmp_path / needs), number=number)
        scratch = store.prepare(stage, threads=1)
        second.start(scratch)
        assert ended(second, scratch) == [(0, None)]
    second.close()

    assert (second.slots, second.gpus) == (len(nodes.nodes), 1.0)
    assert [(tmp_path / needs).read_text() for needs in ("gpu", "cpu")] == ["0", ""]


# ---- what is told


def test_nodes_without_room_are_told(nodes, engine):
    small = make("ray", {"address": nodes.address, "cpus_per_stage": 2, "gpus_per_stage": 3})
    with pytest.raises(EngineError) as refused:
        small.warm()
    small.close()
    start, _, rest = str(refused.value).partition("; the nodes have: ")

    assert start == "no node of the Ray cluster has room for a stage, which asks for 2 CPU, 3 GPU"
    assert "1 CPU, 1 GPU, " in rest
    assert rest.endswith(
        "Ask for less in the options of the engine, or say `slots` there, and stages wait for nodes that are still to "
        "come."
    )


def test_with_slots_stages_wait_for_nodes_that_are_not_there(nodes, engine):
    patient = make("ray", {"address": nodes.address, "cpus_per_stage": 2, "slots": 7})
    patient.warm()
    patient.close()

    assert patient.slots == 7


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            {"host": "n1", "blind": True},
            "{store}: n1, a node of the Ray cluster, does not see the store. Set CDNER_STORE to a folder of a file "
            "system that all nodes share.",
        ),
        (
            {"host": "n1", "differs": ["methods.lar", "methods.tagger"]},
            "n1, a node of the Ray cluster, has another cdner: methods.lar, methods.tagger differ. Install the same "
            "version, with the same methods, on every node, and start Ray there again.",
        ),
    ],
)
def test_a_node_that_cannot_run_stages_is_told(engine, store, answer, told):
    import ray

    from benchmark.run.ray_engine import ended as ending

    with pytest.raises(EngineError) as refused:
        ending(ray.put(answer), store.root / "scratch" / "fog")

    assert str(refused.value) == told.format(store=store.root)


def test_a_node_says_that_it_does_not_see_the_store_and_which_code_is_another(tmp_path, monkeypatch):
    from benchmark.run import ray_node
    from benchmark.run.stage import all_code

    monkeypatch.setattr(ray_node, "_engine", None)
    code = all_code()
    (tmp_path / "scratch").mkdir()
    blind = ray_node.run_stage(str(tmp_path / "none" / "fog"), "/", {}, code)
    other = ray_node.run_stage(str(tmp_path / "scratch" / "fog"), "/", {}, {**code, "methods.tagger": "other"})

    assert blind["blind"] is True
    assert other["differs"] == ["methods.tagger"]
