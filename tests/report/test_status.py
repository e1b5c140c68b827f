"""How far a board is, read from files that other processes write."""

import hashlib
import io
import json
import os
import platform
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from fake_records import Planned
from filelock import SoftFileLease
from rich.console import Console

from benchmark.report.status import as_json, collect, field_of, render
from benchmark.score.protocols import SCORER_VERSION

PLAN = "about: A harbour.\n"


def key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Harbour:
    """A board, a store, and what the store knows of the board. Every cell has three stages: source, train, tag."""

    def __init__(self, root, cells):
        self.cells = cells
        self.board = SimpleNamespace(name="harbour", folder=root / "results" / "harbour")
        self.store = root / "store"
        self.board.folder.mkdir(parents=True)
        (self.board.folder / "plan.yaml").write_text(PLAN)
        self.snapshot: dict[str, Any] = {
            "schema": 1, "board": "harbour", "folder": str(self.board.folder), "written": "2026-11-20T10:54:06+00:00",
            "plan": hashlib.sha256(PLAN.encode()).hexdigest(), "cells": {}, "stages": {},
        }  # fmt: skip
        for cell in cells:
            stages = self.stages(cell)
            self.snapshot["cells"][cell.name] = {
                "final": stages[-1], "reason": None, "gold": "g1", "stages": stages,
            }  # fmt: skip
            for one, step in zip(stages, ("train_tagger", "train_tagger", "tag"), strict=True):
                title = f"{cell.target} seed {cell.seed}"
                self.snapshot["stages"][one] = {"step": f"benchmark.models.tagging:{step}", "title": title, "size": 1.0}

    @staticmethod
    def stages(cell):
        return [key(f"source {cell.seed}"), key(f"train {cell.name}"), key(f"tag {cell.name}")]

    def record(self, cell, status="ok", *, reason=None, text=None, **other):
        path = self.board.folder / "records" / f"{cell.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        found = {
            "schema": 1, "cell": cell.name, "status": status, "reason": reason, "scorer": SCORER_VERSION, "gold": "g1",
            "scores": {"fine": {}}, "final": self.stages(cell)[-1], "stages": [],
        } | other  # fmt: skip
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in found.items())
        path.write_text("{\n" + lines + "\n}\n" if text is None else text)

    def build(self, stage):
        (self.store / "stages" / stage).mkdir(parents=True)
        (self.store / "stages" / stage / "manifest.json").write_text("{}")

    def scratch(self, stage, *, progress=(), name="a1b2c3d4e5f6", **request):
        folder = self.store / "scratch" / f"{stage}.{name}"
        folder.mkdir(parents=True)
        (folder / "request.json").write_text(json.dumps({"key": stage, **request}))
        (folder / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in progress))
        return folder

    def lease(self, stage, *, host=None, pid=None, age=0.0):
        """Write the lease that a process of some machine would hold; of this process, where nothing is said."""
        path = self.store / "leases" / f"{stage}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lease = SoftFileLease(path, lease_duration=60)
        with lease:
            text = path.read_text()
        lines = [
            f"host={host}" if host and line.startswith("host=")
            else f"pid={pid}" if pid and line.startswith("pid=") else line
            for line in text.splitlines()
        ]  # fmt: skip
        path.write_text("\n".join(lines) + "\n")
        os.utime(path, (time.time() - age, time.time() - age))
        assert lease.owner is not None
        return path

    def status(self, snapshot=True):
        return collect(self.board, self.cells, self.snapshot if snapshot else None, self.store)

    def states(self, snapshot=True):
        return [cell.state for cell in self.status(snapshot).cells]


def shown(status, width=80):
    out = io.StringIO()
    render(status, Console(file=out, width=width, highlight=False))
    return out.getvalue()


def ago(seconds):
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds")


@pytest.fixture
def harbour(tmp_path):
    return Harbour(tmp_path, [Planned("tagger", "ai", seed) for seed in (1, 2)])


# ---- what a cell is


def test_a_cell_without_a_record_waits(harbour):
    assert harbour.states() == ["waiting", "waiting"]


def test_a_good_record_of_the_planned_stage_and_gold_is_done(harbour):
    harbour.record(harbour.cells[0])

    assert harbour.states() == ["done", "waiting"]


@pytest.mark.parametrize("other", [{"final": "0" * 32}, {"gold": "g0"}, {"scorer": SCORER_VERSION + 1}])
def test_a_good_record_of_something_else_is_stale(harbour, other):
    harbour.record(harbour.cells[0], **other)

    assert harbour.states() == ["stale", "waiting"]


def test_a_failure_of_the_planned_stage_is_failed_with_its_reason(harbour):
    harbour.record(harbour.cells[0], "failed", reason="out of memory")
    harbour.record(harbour.cells[1], "failed", reason="out of memory", final="0" * 32)
    first, second = harbour.status().cells

    assert (first.state, first.reason) == ("failed", "out of memory")
    assert (second.state, second.reason) == ("waiting", None)


def test_a_cell_that_its_method_cannot_do_is_skipped_with_the_reason(harbour):
    plan = harbour.snapshot["cells"][harbour.cells[0].name]
    plan.update(final=None, reason="needs a dev split", stages=[])
    found = harbour.status().cells[0]

    assert (found.state, found.reason) == ("skipped", "needs a dev split")


def test_without_a_snapshot_records_are_taken_as_they_are(tmp_path):
    harbour = Harbour(tmp_path, [Planned("tagger", "ai", seed) for seed in (1, 2, 3, 4)])
    harbour.record(harbour.cells[0], final="0" * 32)
    harbour.record(harbour.cells[1], "failed", reason="x")
    harbour.record(harbour.cells[2], "skipped", reason="y", final=None)

    assert harbour.states(snapshot=False) == ["done", "failed", "skipped", "waiting"]
    assert "not planned on this store yet" in shown(harbour.status(snapshot=False))


def test_a_cell_that_the_snapshot_does_not_know_is_as_its_record_says(harbour):
    del harbour.snapshot["cells"][harbour.cells[0].name]
    harbour.record(harbour.cells[0])

    assert harbour.states() == ["done", "waiting"]


# ---- what runs


def test_cells_run_whose_missing_stage_has_a_scratch_folder_and_a_live_lease(harbour):
    source, train, _ = harbour.stages(harbour.cells[0])
    harbour.build(source)
    harbour.scratch(
        train, title="ai seed 1", step="benchmark.models.tagging:train_tagger", attempt=2, started=ago(65),
        progress=[{"time": 1.0, "epoch": 1, "of": 10}, {"time": 2.0, "dev_f1": 51.25}],
    )  # fmt: skip
    harbour.lease(train)
    status = harbour.status()
    [stage] = status.running

    assert [cell.state for cell in status.cells] == ["running", "waiting"]
    assert (stage.key, stage.title, stage.attempt, stage.cells) == (train, "ai seed 1", 2, 1)
    assert (stage.host, stage.pid) == (platform.node(), os.getpid())
    assert 65 <= stage.seconds < 75
    assert stage.figures == {"epoch": 1, "of": 10, "dev_f1": 51.25}
    assert status.stored == (1, 6)


def test_a_stage_that_cells_share_makes_all_of_them_run(tmp_path):
    harbour = Harbour(tmp_path, [Planned("tagger", target, 1) for target in ("ai", "movie")])
    source = harbour.stages(harbour.cells[0])[0]
    harbour.scratch(source)
    harbour.lease(source)
    status = harbour.status()

    assert [cell.state for cell in status.cells] == ["running", "running"]
    assert status.running[0].cells == 2


def test_what_the_request_does_not_say_is_taken_from_the_snapshot_and_the_file(harbour):
    train = harbour.stages(harbour.cells[0])[1]
    request = harbour.scratch(train, attempts=[{"attempt": 1}]) / "request.json"
    harbour.lease(train)
    os.utime(request, (time.time() - 100, time.time() - 100))
    [stage] = harbour.status().running

    assert (stage.title, stage.attempt) == ("ai seed 1", 2)
    assert 100 <= stage.seconds < 110


def test_a_failed_cell_that_is_tried_again_runs(harbour):
    harbour.record(harbour.cells[0], "failed", reason="killed")
    train = harbour.stages(harbour.cells[0])[1]
    harbour.scratch(train)
    harbour.lease(train)

    assert harbour.states() == ["running", "waiting"]


def test_a_done_cell_does_not_run_though_its_source_is_built_anew(harbour):
    harbour.record(harbour.cells[0])
    source = harbour.stages(harbour.cells[0])[0]
    harbour.scratch(source)
    harbour.lease(source)

    assert harbour.states()[0] == "done"


def test_nothing_runs_without_a_scratch_folder_or_without_a_lease(harbour):
    one, two = (harbour.stages(cell)[1] for cell in harbour.cells)
    harbour.scratch(one)
    harbour.lease(two)

    assert harbour.states() == ["waiting", "waiting"]
    assert "1 stage was left unfinished by a process that is gone" in shown(harbour.status())


def test_nothing_runs_whose_artefact_is_there(harbour):
    train = harbour.stages(harbour.cells[0])[1]
    harbour.build(train)
    harbour.scratch(train)
    harbour.lease(train)

    assert harbour.states() == ["waiting", "waiting"]
    assert harbour.status().notes == []


def test_the_lease_of_a_dead_process_of_this_machine_is_not_alive(harbour):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    train = harbour.stages(harbour.cells[0])[1]
    harbour.scratch(train)
    harbour.lease(train, pid=dead.pid)

    assert harbour.states() == ["waiting", "waiting"]


def test_the_lease_of_a_process_whose_number_another_has_now_is_not_alive(harbour):
    train = harbour.stages(harbour.cells[0])[1]
    harbour.scratch(train)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as later:
        harbour.lease(train, pid=later.pid, age=3600)
        states = harbour.states()

    assert states == ["waiting", "waiting"]


@pytest.mark.parametrize(("age", "state"), [(10, "running"), (170, "running"), (190, "waiting")])
def test_the_lease_of_another_machine_lives_three_minutes_without_a_heartbeat(harbour, age, state):
    train = harbour.stages(harbour.cells[0])[1]
    harbour.scratch(train)
    harbour.lease(train, host="node17", pid=1, age=age)
    status = harbour.status()

    assert status.cells[0].state == state
    assert [stage.host for stage in status.running] == (["node17"] if state == "running" else [])


def test_another_container_of_this_machine_counts_as_another_machine(harbour):
    train = harbour.stages(harbour.cells[0])[1]
    harbour.scratch(train)
    harbour.lease(train, host=f"{platform.node()}?pidns-f1234567", pid=99999999)

    assert harbour.states()[0] == "running"


def test_to_look_changes_nothing(harbour):
    train = harbour.stages(harbour.cells[0])[1]
    harbour.record(harbour.cells[1])
    harbour.scratch(train)
    lease = harbour.lease(train, host="node17", age=500)
    root = harbour.store.parent

    def files():
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in root.rglob("*")}

    before = files()
    shown(harbour.status())
    as_json(harbour.status())

    assert files() == before
    assert lease.is_file()


# ---- what cannot be read


def test_there_may_be_no_store(harbour):
    harbour.record(harbour.cells[0])
    for store in (None, harbour.store / "nowhere"):
        status = collect(harbour.board, harbour.cells, harbour.snapshot, store)

        assert status.counts == {"done": 1, "waiting": 1}
        assert status.notes == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_the_store_may_be_read_only(harbour):
    train = harbour.stages(harbour.cells[0])[1]
    harbour.scratch(train)
    harbour.lease(train)
    folders = [harbour.store, *(p for p in harbour.store.rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert harbour.states()[0] == "running"
    finally:
        for folder in folders:
            folder.chmod(0o755)


@pytest.mark.parametrize("text", ["", "{", '{\n"schema": 1,\n"status": "ok",\n"fi', "[]", '{"cell": "x"}', "\0" * 99])
def test_a_torn_record_counts_as_absent_and_is_named(harbour, text):
    harbour.record(harbour.cells[0], text=text)

    assert harbour.states() == ["waiting", "waiting"]
    assert harbour.status().notes == [
        f"1 file cannot be read, and counts as absent: records/{harbour.cells[0].name}.json"
    ]


def test_of_many_torn_records_three_are_named(tmp_path):
    harbour = Harbour(tmp_path, [Planned("tagger", "ai", seed) for seed in range(5)])
    for cell in harbour.cells:
        harbour.record(cell, text="{")
    [note] = harbour.status().notes

    assert note.startswith("5 files cannot be read, and count as absent: records/tagger/")
    assert note.endswith("seed2.json and 2 more")


def test_a_record_that_is_not_one_field_a_line_is_read_too(harbour):
    record = {"status": "ok", "final": harbour.stages(harbour.cells[0])[-1], "gold": "g1", "scorer": SCORER_VERSION}
    harbour.record(harbour.cells[0], text=json.dumps(record, indent=2))
    harbour.record(harbour.cells[1], text=json.dumps(record | {"final": harbour.stages(harbour.cells[1])[-1]}))

    assert harbour.states() == ["done", "done"]


def test_a_torn_request_and_a_torn_line_of_progress_do_no_harm(harbour):
    train = harbour.stages(harbour.cells[0])[1]
    folder = harbour.scratch(train, progress=[{"epoch": 1}])
    (folder / "request.json").write_text('{"key": "')
    with (folder / "progress.jsonl").open("a") as stream:
        stream.write('{"epoch": 2')
    harbour.lease(train)
    [stage] = harbour.status().running

    assert (stage.title, stage.figures) == ("ai seed 1", {"epoch": 1})
    assert f"scratch/{folder.name}/request.json" in harbour.status().notes[0]


@pytest.mark.parametrize("broken", [{"cells": []}, {"stages": None}, {"cells": {"x": 1}}, {"plan": None}])
def test_a_snapshot_that_is_none_does_no_harm(harbour, broken):
    harbour.snapshot.update(broken)

    assert set(harbour.states()) == {"waiting"}


# ---- what is shown


def test_a_plan_that_has_changed_since_is_told(harbour):
    assert shown(harbour.status()).startswith("harbour, planned at 2026-11-20 10:54 UTC\n")
    (harbour.board.folder / "plan.yaml").write_text(PLAN + "seeds: [1]\n")

    assert shown(harbour.status()).startswith("harbour, planned at 2026-11-20 10:54 UTC; plan.yaml has changed since\n")


def fleet(tmp_path):
    """Return a board in which everything happens once."""
    cells = [
        *(Planned("tagger", t, s) for t in ("ai", "movie") for s in (1, 2, 3)),
        *(Planned("crf", t, s) for t in ("ai", "movie") for s in (1, 2, 3)),
    ]
    harbour = Harbour(tmp_path, cells)
    for cell in cells[:3]:
        harbour.record(cell)
    harbour.record(cells[3], "failed", reason="train_tagger (movie seed 1): out of memory: tried to allocate 3 GiB")
    harbour.record(cells[4], final="0" * 32)
    for cell in cells[9:]:
        plan = harbour.snapshot["cells"][cell.name]
        plan.update(final=None, reason="needs a dev split", stages=[])
    train = harbour.stages(cells[6])[1]
    harbour.scratch(train, started=ago(3725), progress=[{"epoch": 3, "of": 10, "dev_f1": 51.2}], attempt=2)
    harbour.lease(train, host="node17", pid=1)
    return harbour


def test_all_of_it(tmp_path):
    harbour = fleet(tmp_path)
    page = re.sub(r"1:02:0[5-9]", "1:02:05", shown(harbour.status(), 120))  # a busy machine takes a second
    lines = [line.rstrip() for line in page.splitlines()]

    assert lines == [
        "harbour, planned at 2026-11-20 10:54 UTC",
        "",
        "variant  ai         movie",
        "────────────────────────────────",
        "tagger   3 done     0/3 1F 1W 1A",
        "crf      0/3 1R 2W  3 skipped",
        "n/m: n of m cells done; F failed, R running, W waiting, A stale",
        "",
        "running",
        "  train ai seed 1  attempt 2, epoch 3/10, dev F1 51.2  1:02:05  node17",
        "",
        "failed",
        "  tagger/conll2003--movie/supervised/seed1",
        "    train_tagger (movie seed 1): out of memory: tried to allocate 3 GiB",
        "",
        "12 cells: 3 done, 1 failed, 1 running, 3 waiting, 3 skipped, 1 stale; 0 of 27 stages in the store",
    ]


def test_as_json_says_the_same(tmp_path):
    harbour = fleet(tmp_path)
    found = json.loads(json.dumps(as_json(harbour.status())))

    assert found["counts"] == {"done": 3, "failed": 1, "running": 1, "waiting": 3, "skipped": 3, "stale": 1}
    assert found["states"][harbour.cells[3].name] == {
        "state": "failed", "reason": "train_tagger (movie seed 1): out of memory: tried to allocate 3 GiB",
    }  # fmt: skip
    assert found["running"][0]["attempt"] == 2
    assert (found["planned"], found["plan_changed"]) == ("2026-11-20T10:54:06+00:00", False)


def test_of_many_failures_ten_are_shown(tmp_path):
    harbour = Harbour(tmp_path, [Planned("tagger", "ai", seed) for seed in range(13)])
    for cell in harbour.cells:
        harbour.record(cell, "failed", reason="out of memory")
    text = shown(harbour.status())

    assert text.count("    out of memory\n") == 10
    assert "  and 3 more\n" in text


def test_a_reason_is_shown_without_secrets_and_at_most_four_lines_long(harbour, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "Tr0ub4dor&3")
    harbour.record(harbour.cells[0], "failed", reason="Tr0ub4dor&3 was refused " + "again and " * 100)
    text = shown(harbour.status())

    assert "    *** was refused again" in text
    assert sum(line.startswith("    ") for line in text.splitlines()) == 4


def test_transfers_of_one_target_have_columns_of_their_own(tmp_path):
    cells = [
        Planned("tagger", "ai"), Planned("tagger", "ai", sources=()), Planned("tagger", "ai", regime="shots-5"),
        Planned("tagger", "movie"),
    ]  # fmt: skip
    lines = [line.rstrip() for line in shown(Harbour(tmp_path, cells).status(), 120).splitlines()]

    assert lines[2:8] == [
        "         ai              ai          ai",
        "         from conll2003  no source   from conll2003",
        "variant  supervised      supervised  shots-5         movie",
        "──────────────────────────────────────────────────────────────",
        "tagger   1 waiting       1 waiting   1 waiting       1 waiting",
        "",
    ]


def test_columns_of_other_variants_are_a_table_of_their_own_without_empty_rows(tmp_path):
    cells = [Planned("tagger", "ai"), Planned("merged", "ai", sources=("conll2003", "music")), Planned("crf", "ai")]
    lines = [line.rstrip() for line in shown(Harbour(tmp_path, cells).status(), 120).splitlines()]

    assert lines[2:13] == [
        "         ai",
        "variant  from conll2003",
        "───────────────────────",
        "tagger   1 waiting",
        "crf      1 waiting",
        "",
        "         ai",
        "variant  from conll2003+music",
        "─────────────────────────────",
        "merged   1 waiting",
        "",
    ]


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_a_wide_board_is_shown_in_parts_that_fit(tmp_path, width):
    cells = [Planned(v, f"target{t}") for v in ("tagger", "a-variant-of-a-very-long-name-indeed") for t in range(12)]
    text = shown(Harbour(tmp_path, cells).status(), width)
    tables = text.split("n/m")[0].split("\n\n")[1:-1]

    assert all(len(line.rstrip()) <= width for table in tables for line in table.splitlines())
    assert [f"target{t}" in text for t in range(12)] == [True] * 12
    assert text.count("1 waiting") == 24


@pytest.mark.parametrize("width", [1, 5, 10, 30])
def test_the_narrowest_terminal_breaks_nothing(tmp_path, width):
    shown(fleet(tmp_path).status(), width)


def test_a_board_may_have_no_cells(tmp_path):
    assert "0 cells: none" in shown(Harbour(tmp_path, []).status())


def test_a_field_says_how_many_of_each():
    assert str(field_of({"failed": 1})) == "1 failed"
    assert str(field_of({"done": 4, "stale": 1, "running": 2})) == "4/7 2R 1A"


def test_torch_is_not_imported():
    code = "import sys; import benchmark.report.status; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
