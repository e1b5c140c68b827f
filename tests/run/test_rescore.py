"""Changed gold, cards or scorer, or a new protocol: stored predictions are scored again, and nothing is run."""

import gzip
import io
import json
import shutil
from dataclasses import replace

import pytest
from rich.console import Console

from benchmark.cli import main
from benchmark.report import watch
from benchmark.run import record as records
from benchmark.run.cells import plan_cells
from benchmark.run.engine import Engine
from benchmark.run.plan import read_board
from benchmark.run.runner import Runner
from benchmark.run.workload import workload
from benchmark.score.protocols import PROTOCOLS

CARD = """
name: harbour
version: {version}
source: {{train: {{path: harbour/train.txt}}, test: {{path: harbour/test.txt}}}}
types:
  vessel: {{general: {general}}}
"""
TRAIN = "Aurora\tB-vessel\nsails\tO\n"
TEST = "Aurora\tB-vessel\nmet\tO\nHaven\tO\n"
PLAN = "variants: {lookup: {method: lookup}}\ntransfers: [{targets: [harbour], select: last}]\n"
TWINS = PLAN.replace("{lookup: {method: lookup}}", "{lookup: {method: lookup}, same: {method: lookup}}")


class Lasting(Engine):
    """The session's engine, which no board closes."""

    def __init__(self, engine):
        self.engine, self.slots, self.threads = engine, engine.slots, engine.threads
        self.start, self.wait, self.stop = engine.start, engine.wait, engine.stop

    def start(self, scratch): ...
    def wait(self, seconds): ...
    def stop(self, scratch): ...
    def close(self): ...


@pytest.fixture
def harbour(tmp_path, store, warm_engine):
    """Return a function that writes corpus and plan, runs the board, and returns (stages run, cells rescored, record)."""
    cards, data, folder = tmp_path / "cards", tmp_path / "data", tmp_path / "results" / "small"
    for made in (cards, data / "harbour", folder):
        made.mkdir(parents=True)
    (folder / "plan.yaml").write_text(PLAN)

    def run(test=TEST, version=1, general="miscellaneous"):
        (cards / "harbour.yaml").write_text(CARD.format(version=version, general=general))
        (data / "harbour" / "train.txt").write_text(TRAIN)
        (data / "harbour" / "test.txt").write_text(test)
        board = read_board(str(folder), (cards,))
        planned = plan_cells(board, board.cells, data=data, cards=(cards,))
        work = workload(board, planned, store, 1)
        summary = Runner(
            board, work, store, Lasting(warm_engine), watch.Lines(Console(file=io.StringIO())), data=data
        ).run()
        record = json.loads((folder / "records" / "lookup" / "--harbour" / "in-domain" / "seed1.json").read_text())
        return summary.stages_run, len(work.rescore), record

    return run


def test_nothing_changed_is_nothing_to_do(harbour):
    harbour()
    ran, rescored, record = harbour()

    assert (ran, rescored) == (0, 0)
    assert record["scores"]["fine"]["strict"]["all"] == [1, 0, 0]


def test_changed_gold_is_scored_again_without_a_stage(harbour):
    harbour()
    ran, rescored, record = harbour(test=TEST.replace("Haven\tO", "Haven\tB-vessel"))

    assert (ran, rescored) == (0, 1)
    assert record["scores"]["fine"]["strict"]["all"] == [1, 0, 1]
    assert record["rescored"]["written"]
    assert harbour(test=TEST.replace("Haven\tO", "Haven\tB-vessel"))[:2] == (0, 0)


def test_a_raised_version_is_in_the_record_of_the_next_run(harbour):
    harbour()
    ran, rescored, record = harbour(version=2)

    assert (ran, rescored, record["corpora"]["harbour"]["version"]) == (0, 1, 2)


def test_another_general_type_is_scored_again(harbour):
    harbour()
    ran, rescored, record = harbour(general="location")

    assert (ran, rescored) == (0, 1)
    assert list(record["scores"]["general"]["strict"]["types"]) == ["location"]


# ---- a record that lacks a protocol

NEW = "loose"
CELL = "lookup/--harbour/in-domain/seed1"


@pytest.fixture
def newer(harbour, monkeypatch):
    """Run the board; then there is a protocol that the record has not been scored under."""
    harbour()
    monkeypatch.setitem(PROTOCOLS, NEW, replace(PROTOCOLS["strict"], name=NEW))


def test_a_record_that_lacks_a_protocol_is_scored_again_without_a_stage(harbour, newer, tmp_path):
    before = records.read(tmp_path / "results" / "small", CELL)
    ran, rescored, record = harbour()

    assert (ran, rescored) == (0, 1)
    assert record["scores"]["fine"][NEW] == record["scores"]["fine"]["strict"]
    assert list(record["scores"]["general"]) == list(PROTOCOLS)
    assert {n: v for n, v in record.items() if n not in ("scores", "rescored")} == {
        n: v for n, v in before.items() if n != "scores"
    }
    assert harbour()[:2] == (0, 0)


def test_a_record_that_lacks_a_protocol_is_left_alone_where_its_predictions_are_gone(harbour, newer, tmp_path, store):
    folder = tmp_path / "results" / "small"
    records.predictions_path(folder, CELL).unlink()
    shutil.rmtree(store.root / "stages")
    (store.root / "stages").mkdir()

    ran, rescored, record = harbour()

    assert (ran, rescored) == (0, 0)
    assert NEW not in record["scores"]["fine"]


def test_a_record_that_lacks_a_protocol_is_done_all_the_same(harbour, newer, tmp_path):
    cards, data, folder = tmp_path / "cards", tmp_path / "data", tmp_path / "results" / "small"
    board = read_board(str(folder), (cards,))
    [item] = plan_cells(board, board.cells, data=data, cards=(cards,))

    assert item.done
    assert item.lacks == [NEW]


def test_a_dry_run_and_why_say_what_a_record_lacks(harbour, newer, tmp_path, capsys):
    where = ["--data", str(tmp_path / "data"), "--cards", str(tmp_path / "cards")]

    assert main(["run", str(tmp_path / "results" / "small"), "--dry-run", *where]) == 0
    printed = capsys.readouterr().out
    assert f"{CELL}  to score again: its record lacks {NEW}\n" in printed
    assert "1 cell: 0 done, 0 to run, 1 to score again\n" in printed

    assert main(["why", f"small/{CELL}", *where]) == 0
    assert f"done: the record is of this very key; to be scored again for {NEW}\n" in capsys.readouterr().out


def test_a_brief_record_tells_what_the_whole_one_lacks(harbour, newer, tmp_path):
    record = records.read(tmp_path / "results" / "small", CELL)

    assert records.lacks(record) == [NEW]
    assert records.lacks(records.brief(record)) == [NEW]
    assert "scores" not in records.brief(record)


def test_a_protocol_that_one_level_lacks_is_lacking():
    whole = {name: {} for name in PROTOCOLS}
    part = {name: {} for name in PROTOCOLS if name != "topt"}
    good = {"status": "ok", "slices": {"fine": {}}}

    assert records.lacks({**good, "scores": {"fine": whole, "general": whole}}) == []
    assert records.lacks({**good, "scores": {"fine": whole, "general": part}}) == ["topt"]
    assert records.lacks({**good, "scores": {"general": whole}}) == []


def test_a_record_without_slices_lacks_them():
    assert records.lacks({"status": "ok", "scores": {"fine": {name: {} for name in PROTOCOLS}}}) == ["slices"]


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_a_record_without_scores_lacks_nothing(status):
    assert records.lacks({"status": status}) == []


@pytest.fixture
def older(harbour, tmp_path):
    """Return where the record of a board that has run lies, as it was written before slices were counted."""
    harbour()
    path = tmp_path / "results" / "small" / "records" / "lookup" / "--harbour" / "in-domain" / "seed1.json"
    record = json.loads(path.read_text())
    del record["slices"]
    path.write_text(json.dumps(record))
    return path


def test_a_record_without_slices_is_scored_again_without_a_stage(harbour, older):
    ran, rescored, record = harbour()

    assert (ran, rescored) == (0, 1)
    assert record["slices"]["fine"]["seen"] == {"target": [1, 0, 0], "other": [0, 0, 0], "unseen": [0, 0, 0]}
    assert harbour()[:2] == (0, 0)


def test_a_record_without_slices_stays_done_where_its_predictions_are_gone(harbour, older, store):
    shutil.rmtree(store.root / "stages")
    (store.root / "stages").mkdir()
    older.with_name("seed1.predictions.jsonl.gz").unlink()

    assert harbour()[:2] == (0, 0)


@pytest.fixture
def twins(harbour, store, tmp_path):
    """Return the folder of a board that has run, whose store was emptied since, and whose plan has a second variant."""
    harbour()
    folder = tmp_path / "results" / "small"
    shutil.rmtree(store.root / "stages")
    (store.root / "stages").mkdir()
    (folder / "plan.yaml").write_text(TWINS)
    return folder


def test_a_cell_of_the_stages_of_another_takes_over_what_was_predicted(harbour, twins):
    ran, rescored, record = harbour()

    twin = twins / "records" / "same" / "--harbour" / "in-domain"
    told = json.loads((twin / "seed1.json").read_text())
    assert (ran, rescored) == (0, 0)
    assert (told["equal"], told["variant"], told["cost"]["spent_seconds"]) == (record["cell"], "same", 0.0)
    same = ("final", "stages", "scores", "sentences", "slices", "gold", "predictions")
    assert {name: told[name] for name in same} == {name: record[name] for name in same}
    assert gzip.decompress((twin / "seed1.predictions.jsonl.gz").read_bytes()).count(b"\n") == 1
    assert harbour()[0] == 0


def test_a_cell_takes_over_nothing_from_predictions_that_were_altered(harbour, twins):
    predictions = twins / "records" / "lookup" / "--harbour" / "in-domain" / "seed1.predictions.jsonl.gz"
    predictions.write_bytes(predictions.read_bytes() + b"more")

    assert harbour()[0] == 2  # learning and looking up
