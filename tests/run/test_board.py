"""Boards, end to end: a plan goes in, stages run in real processes, records come out."""

import gzip
import hashlib
import io
import json
import time
from dataclasses import fields

import pytest
from rich.console import Console

import methods
from benchmark.corpus.corpus import load
from benchmark.corpus.transfer import Spec, build
from benchmark.errors import RecordError, UnknownName, Unsupported
from benchmark.report import watch
from benchmark.run.cells import find_cell
from benchmark.run.plan import boards

NEWS, FILM, SKY = "demo-news", "demo-cinema", "demo-astronomy"
DIRECT = {"sources": [NEWS], "targets": [FILM], "regime": "supervised"}
CELL = f"echo/{NEWS}--{FILM}/supervised/seed1"

FIELDS = [
    "schema", "cell", "board", "status", "reason", "variant", "method", "level", "backbone", "settings", "transfer",
    "regime", "draw", "seed", "corpora", "scorer", "gold", "scores", "errors", "sentences", "slices", "final",
    "stages", "attempts", "cost",
    "provenance", "predictions",
]  # fmt: skip


# ---- what a board leaves


def test_a_record_has_the_fields_of_the_design(harbour):
    told = harbour({})
    record = told.record()

    assert list(record) == FIELDS
    assert {name: record[name] for name in FIELDS[:9]} == {
        "schema": 2, "cell": CELL, "board": "harbour", "status": "ok", "reason": None, "variant": "echo",
        "method": "echo", "level": "fine", "backbone": "none",
    }  # fmt: skip
    assert record["transfer"] == {
        "sources": [NEWS], "order": "sequence", "target": FILM, "regime": "supervised", "amount": None,
        "select": "target-dev", "dev": "card",
    }  # fmt: skip
    assert (record["regime"], record["draw"], record["seed"]) == ("supervised", None, 1)
    assert record["corpora"][FILM] == {"version": 1, "train": load(FILM).train.hash[:16]}
    assert set(record["scores"]) == set(record["errors"]) == set(record["sentences"]) == {"fine", "general"}
    assert list(record["scores"]["fine"]) == [
        "strict", "conlleval", "conlleval-stream", "gliner", "topt", "cpner", "uniner", "b2ner", "token",
    ]  # fmt: skip
    assert len(record["sentences"]["fine"]) == len(load(FILM).test.sentences)
    assert record["final"] == record["stages"][-1]["key"] == told.planned[0].final.key
    assert [s["title"] for s in record["stages"]] == [f"{NEWS} seed 1", f"{FILM} seed 1", f"{FILM} seed 1"]
    assert all(s["seconds"] >= 0 and s["code"]["tree"] for s in record["stages"])
    assert set(record["cost"]) == {
        "alone_seconds", "spent_seconds", "usd", "peak_memory_mib", "gpu_peak_memory_mib",
    }  # fmt: skip
    assert record["provenance"]["precision"] == "32"
    assert record["provenance"]["threads"] == [1]
    assert len(record["provenance"]["commit"]) == 40
    assert {"torch", "transformers", "pytorch-lightning"} <= set(record["provenance"]["packages"])


def test_a_record_names_its_predictions_by_their_hash(harbour):
    told = harbour({})
    packed = told.predictions()

    assert told.record()["predictions"] == {
        "file": "seed1.predictions.jsonl.gz",
        "sha256": hashlib.sha256(packed).hexdigest(),
    }


def test_scores_equal_a_recount_of_the_stored_predictions(harbour):
    told = harbour({})
    predicted = {
        line["id"]: {tuple(span) for span in line["spans"]}
        for line in map(json.loads, gzip.decompress(told.predictions()).decode().splitlines())
    }
    hit = extra = missed = 0
    by_sentence = []
    for sentence in load(FILM).test.sentences:
        gold, guess = {tuple(s) for s in sentence.spans}, predicted[sentence.id]
        by_sentence.append([len(gold & guess), len(guess - gold), len(gold - guess)])
        hit, extra, missed = hit + len(gold & guess), extra + len(guess - gold), missed + len(gold - guess)

    assert hit > 0
    assert told.record()["scores"]["fine"]["strict"]["all"] == [hit, extra, missed]
    assert told.record()["sentences"]["fine"] == by_sentence


def test_predictions_hold_no_words_of_the_test_split(harbour):
    lines = [json.loads(line) for line in gzip.decompress(harbour({}).predictions()).decode().splitlines()]

    assert all(set(line) == {"id", "spans"} for line in lines)


def test_a_rerun_in_another_store_gives_the_same_bytes(harbour, tmp_path):
    before = harbour({}).predictions()
    (tmp_path / "store").rename(tmp_path / "old-store")
    (tmp_path / "results" / "harbour" / "records").rename(tmp_path / "old-records")

    assert harbour({}).predictions() == before


# ---- what is run, and what is not


def test_the_source_is_learned_once_for_all_targets(harbour):
    told = harbour({"transfers": [{**DIRECT, "targets": [FILM, SKY]}]})

    assert told.steps == [
        f"learn {SKY} seed 1", f"learn {FILM} seed 1", f"learn {NEWS} seed 1", f"spot {SKY} seed 1", f"spot {FILM} seed 1",
    ]  # fmt: skip
    assert told.counts == {"ok": 2, "failed": 0, "skipped": 0, "stages": 5, "before": 2}
    assert told.closing().startswith("2 cells done; 5 stages run in ")
    assert told.printed.startswith(
        "2 cells: 0 done, 2 to run\n5 stages, sharing saves 1; 0 in the store, 5 to run\nestimate: under a minute on 2 slots\n"
    )
    costs = [told.record(f"echo/{NEWS}--{t}/supervised/seed1")["cost"] for t in (FILM, SKY)]
    assert all(cost["alone_seconds"] is not None for cost in costs)


def test_a_second_run_does_nothing_and_says_so(harbour):
    harbour({})
    before = (harbour({}).board.folder / "records" / f"{CELL}.json").read_bytes()
    told = harbour({})

    assert told.steps == []
    assert told.closing() == "nothing to do: 1 cell, 1 done."
    assert (told.board.folder / "records" / f"{CELL}.json").read_bytes() == before


def test_a_record_is_enough_where_the_artefacts_are_gone(harbour, tmp_path):
    harbour({})
    (tmp_path / "store").rename(tmp_path / "gone")

    assert harbour({}).steps == []


def test_a_store_is_enough_where_the_record_is_gone(harbour, tmp_path):
    before = harbour({}).record()
    (tmp_path / "results" / "harbour" / "records").rename(tmp_path / "gone")
    told = harbour({})

    assert told.steps == []
    assert told.record()["scores"] == before["scores"]
    assert told.record()["cost"]["alone_seconds"] == before["cost"]["alone_seconds"]
    assert told.record()["cost"]["spent_seconds"] == before["cost"]["spent_seconds"]


def test_a_changed_setting_reruns_what_it_reaches_and_no_more(harbour):
    harbour({})
    told = harbour({}, weight=2.0)

    assert told.steps == [f"learn {FILM} seed 1", f"spot {FILM} seed 1"]
    assert told.record()["settings"]["weight"] == 2.0
    assert "1 to run, 1 of them stale" in told.printed


def test_two_variants_share_what_is_equal(harbour):
    variants = {"echo": {"method": "echo"}, "heavy": {"method": "echo", "set": {"weight": 2.0}}}
    told = harbour({"variants": variants})

    assert told.steps.count(f"learn {NEWS} seed 1") == 1
    assert len(told.steps) == 5


def test_seed_one_of_every_cell_is_run_before_seed_two(harbour):
    told = harbour({"seeds": [1, 2]})

    assert told.summary.ok == 2
    assert told.board.running_order()[0].seed == 1
    assert next(iter(told.work.todo.values())).title.endswith("seed 1")
    assert list(told.work.todo.values())[-1].title.endswith("seed 2")


# ---- what goes wrong


def test_a_failed_stage_fails_the_cells_that_need_it_and_no_other(harbour):
    plan = {"transfers": [{**DIRECT, "targets": [FILM, SKY]}]}
    told = harbour(plan, fail_on=[FILM])
    record = told.record()

    assert told.counts == {"ok": 1, "failed": 1, "skipped": 0, "stages": 3, "before": 1}
    assert (record["status"], record["reason"]) == (
        "failed", f"learn ({FILM} seed 1): error: ValueError: {FILM} cannot be learned",
    )  # fmt: skip
    assert "scores" not in record
    assert "predictions" not in record
    assert told.record(f"echo/{NEWS}--{SKY}/supervised/seed1")["status"] == "ok"
    assert f"learn {FILM} seed 1  FAILED: error: ValueError: {FILM} cannot be learned" in told.printed


def test_a_failed_source_fails_every_cell_on_it(harbour):
    told = harbour({"transfers": [{**DIRECT, "targets": [FILM, SKY]}]}, fail_on=[NEWS])

    assert told.counts == {"ok": 0, "failed": 2, "skipped": 0, "stages": 0, "before": 0}
    assert told.steps == [f"learn {NEWS} seed 1"]


def test_a_failed_cell_is_left_alone_until_asked_for(harbour):
    harbour({}, fail_on=[FILM])
    again = harbour({}, fail_on=[FILM])
    retried = harbour({}, fail_on=[FILM], retry_failed=True)

    assert again.steps == []
    assert "1 failed before (--retry-failed runs them again)" in again.printed
    assert retried.steps == [f"learn {FILM} seed 1"]


def test_a_run_that_leaves_a_failure_behind_does_not_say_that_all_is_done(harbour):
    harbour({}, fail_on=[FILM])

    assert "failed" in harbour({}, fail_on=[FILM]).closing()


def test_a_failure_never_hides_a_good_record(harbour):
    good = harbour({}).record()
    told = harbour({}, fail_on=[FILM])

    assert told.summary.failed == 1
    assert told.record() == good


def test_a_skipped_cell_has_its_reason(harbour):
    told = harbour({"transfers": [{**DIRECT, "targets": [FILM, SKY]}]}, refuse=FILM)
    record = told.record()

    assert told.counts == {"ok": 1, "failed": 0, "skipped": 1, "stages": 3, "before": 1}
    assert (record["status"], record["reason"], record["final"], record["stages"]) == (
        "skipped", f"{FILM} is too far away.", None, [],
    )  # fmt: skip
    assert told.closing().startswith("1 cell done, 1 skipped; 3 stages run in ")


def test_a_record_of_a_skipped_cell_is_not_written_again(harbour, tmp_path):
    path = tmp_path / "results" / "harbour" / "records" / f"{CELL}.json"
    harbour({}, refuse=FILM)
    before = path.stat().st_mtime_ns
    harbour({}, refuse=FILM)

    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("broken", ["one line", "no file"])
def test_predictions_that_cannot_be_scored_fail_the_cell(harbour, broken):
    told = harbour({}, broken=broken)

    assert told.counts == {"ok": 0, "failed": 1, "skipped": 0, "stages": 3, "before": 0}
    assert told.record()["status"] == "failed"
    assert told.record()["reason"].startswith("the predictions cannot be scored: ")
    assert str(told.store.root) not in told.record()["reason"]


def test_a_stage_over_its_time_fails_with_that_reason(harbour):
    began = time.monotonic()
    told = harbour({"budget": {"minutes_per_stage": 0.02}}, sleep=100.0)

    assert told.record()["reason"] == f"learn ({FILM} seed 1): time limit: over 0.02 minutes"
    assert time.monotonic() - began < 20
    assert list((told.store.root / "scratch").iterdir()) == []


class Impatient(watch.Lines):
    """A watcher that presses Ctrl-C when the first record is written."""

    def __init__(self):
        super().__init__(Console(file=io.StringIO()))

    def recorded(self, record):
        raise KeyboardInterrupt


def test_ctrl_c_keeps_finished_records_and_the_next_run_goes_on(harbour):
    plan = {"transfers": [{**DIRECT, "targets": [FILM, SKY]}], "seeds": [1, 2]}
    told = harbour(plan, watcher=Impatient())
    written = list((told.board.folder / "records").rglob("*.json"))

    assert told.summary.interrupted
    assert len(written) == 1
    assert json.loads(written[0].read_text())["status"] == "ok"
    assert list((told.store.root / "scratch").iterdir()) == []
    again = harbour(plan)
    assert (again.summary.done, again.summary.ok) == (4, 3)


def test_a_run_leaves_no_scratch_behind(harbour):
    told = harbour({}, fail_on=[FILM])

    assert list((told.store.root / "scratch").iterdir()) == []


# ---- gold, regimes and draws


def splits_of(final):
    return [split for stage in final.graph() for split in stage.splits]


@pytest.mark.parametrize("regime", ["supervised", "zero-shot", "fraction"])
def test_no_stage_is_bound_to_the_test_splits_gold(regime):
    amount = 0.5 if regime == "fraction" else None
    spec = Spec((NEWS,), FILM, regime, amount, select="last")
    for name in methods.METHODS:
        method = methods.find(name)
        transfer = build(spec)
        known = {f.name for f in fields(method.Settings)}
        at_hand = {"encoder": "rnn", "backbone": "minilm-seq2seq"}
        try:
            settings = method.settings({name: value for name, value in at_hand.items() if name in known})
            final = method().plan(transfer, settings, 1)
        except Unsupported:
            continue
        bound = splits_of(final)

        assert all(s.spans is None for s in transfer.test.sentences)
        assert any(split.name == "test" for split in bound)
        assert all(s.spans is None for split in bound if split.name == "test" for s in split.sentences)
        assert not [s for split in bound for s in split.sentences if s.spans and s.id.startswith(f"{FILM}/test")]


def test_the_request_of_a_stage_holds_no_test_gold(harbour):
    told = harbour({})
    gold = load(FILM).test

    assert not told.store.split_file(gold.hash).exists()
    assert told.store.split_file(gold.words_only().hash).is_file()
    for path in (told.store.root / "splits").iterdir():
        header, *lines = path.read_text().splitlines()
        if json.loads(header)["name"] == "test":
            assert all(json.loads(line)[2] is None for line in lines)


def test_zero_shot_shows_target_words_and_no_spans():
    transfer = build(Spec((NEWS,), FILM, "zero-shot", select="last"))

    for split in (transfer.target.train, transfer.target.dev, transfer.test):
        assert split.sentences
        assert all(s.spans is None for s in split.sentences)
    assert transfer.sources[0].train.mentions > 0


@pytest.mark.parametrize("regime", ["fraction", "sentences", "shots"])
def test_draws_are_nested(regime):
    amounts = {"fraction": (0.05, 0.2, 0.5), "sentences": (5, 20, 60), "shots": (1, 3, 5)}[regime]
    taken = [
        {s.id for s in build(Spec((NEWS,), FILM, regime, float(a), select="last", draw=3)).target.train.sentences}
        for a in amounts
    ]

    assert taken[0] < taken[1] < taken[2]


def test_another_draw_is_another_sample():
    one, two = (build(Spec((NEWS,), FILM, "fraction", 0.1, draw=d)).target.train for d in (1, 2))

    assert len(one.sentences) == len(two.sentences) == 12
    assert one.hash != two.hash


def test_dev_is_subsampled_at_the_rate_of_train():
    spec = Spec((NEWS,), FILM, "fraction", 0.1, draw=1)
    whole, shown = load(FILM), build(spec).target

    assert len(whole.train.sentences) == 120
    assert len(shown.train.sentences) == 12
    assert len(shown.dev.sentences) == len(whole.dev.sentences) // 10
    assert {s.id for s in shown.dev.sentences} < {s.id for s in whole.dev.sentences}


def test_shots_have_as_many_mentions_of_every_type_as_there_are():
    whole = load(FILM)
    shown = build(Spec((NEWS,), FILM, "shots", 5.0, select="last", draw=1)).target.train
    for type_ in whole.card.types:
        there, seen = (sum(s.type == type_ for x in split.sentences for s in x.spans) for split in (whole.train, shown))

        assert seen >= min(5, there)


def test_limited_gold_without_selection_shows_no_dev():
    assert build(Spec((NEWS,), FILM, "shots", 5.0, select="last", draw=1)).target.dev is None


def test_draws_are_cells_of_their_own(harbour):
    told = harbour({"transfers": [{**DIRECT, "regime": {"fraction": 0.1}, "draws": [1, 2], "select": "last"}]})
    first, second = (told.record(f"echo/{NEWS}--{FILM}/fraction-0.1/draw{d}-seed1") for d in (1, 2))

    assert (first["draw"], second["draw"]) == (1, 2)
    assert first["corpora"][FILM]["train"] != second["corpora"][FILM]["train"]
    assert told.steps.count(f"learn {NEWS} seed 1") == 1


# ---- finding a cell


def test_a_cell_is_found_with_and_without_its_board(harbour):
    harbour({})

    for name in (CELL, f"harbour/{CELL}"):
        board, cell = find_cell(name, boards())
        assert (board.name, cell.name) == ("harbour", CELL)


def test_an_unknown_cell_is_told_with_the_nearest(harbour):
    harbour({})

    with pytest.raises(UnknownName) as refused:
        find_cell(f"harbour/echo/{NEWS}--{FILM}/supervised/seed2", boards())

    assert str(refused.value) == (
        f"there is no cell 'harbour/echo/{NEWS}--{FILM}/supervised/seed2' in harbour. Did you mean '{CELL}'? "
        "A cell is named <variant>/<sources>--<target>/<regime>/seed<n>; `cdner run BOARD --dry-run` lists them."
    )


def test_a_cell_of_two_boards_needs_its_boards_name(harbour, tmp_path):
    harbour({})
    twin = tmp_path / "results" / "twin"
    twin.mkdir()
    (twin / "plan.yaml").write_text((tmp_path / "results" / "harbour" / "plan.yaml").read_text())

    with pytest.raises(RecordError) as refused:
        find_cell(CELL, boards())

    assert str(refused.value) == (
        f"the cell '{CELL}' stands in several boards (harbour, twin); put the board's name before it."
    )
