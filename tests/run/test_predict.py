"""Entities of new text, by the model of a cell."""

from dataclasses import replace

import pytest

from benchmark.errors import PlanError
from benchmark.run import slurm_jobs, upkeep
from benchmark.run.cells import plan_cells
from benchmark.run.plan import read_board
from benchmark.run.predict import predict, sentences_of, shown, words_of
from benchmark.run.stage import Stage

PLAN = """
variants: {lookup: {method: lookup}}
transfers:
  - {sources: [demo-news], targets: [demo-astronomy], regime: supervised, select: last}
  - {sources: [demo-news], targets: [demo-astronomy], regime: zero-shot, order: merge}
"""


@pytest.fixture
def cells(tmp_path):
    folder = tmp_path / "results" / "look"
    folder.mkdir(parents=True)
    (folder / "plan.yaml").write_text(PLAN)
    board = read_board(str(folder))
    return plan_cells(board, board.cells)


def test_words_are_told_from_marks():
    assert words_of("Dr. O'Neill's 3.5-metre mirror (1998), at last!") == (
        "Dr", ".", "O'Neill's", "3.5-metre", "mirror", "(", "1998", ")", ",", "at", "last", "!",
    )  # fmt: skip


def test_blank_lines_are_no_sentences():
    assert [s.words for s in sentences_of(["", "Mars rose .", "   "]).sentences] == [("Mars", "rose", ".")]


def test_new_text_is_predicted_and_not_kept(cells, store, warm_engine):
    told = []
    words = sentences_of(["The probe passed Mars and Jupiter ."])

    found = predict(cells[0], words, store, warm_engine, told.append)

    entities = shown(words, found)[0]["entities"]
    assert {"text": "Mars", "type": "celestialobject", "start": 3, "end": 4} in entities
    assert told == ["the store lacks what this cell's model is made of; building 1: collect (demo-news+demo-astronomy)"]
    assert not (store.root / "splits" / f"{words.hash}.jsonl").exists()
    assert len(list((store.root / "stages").iterdir())) == 1  # the model alone
    assert list((store.root / "scratch").iterdir()) == []


@pytest.fixture
def job(store, cells):
    """Return a job of a cluster that builds the model of the first cell, as far as its folder tells."""
    [model] = cells[0].final.parents
    scratch = store.prepare(model, threads=1)
    found = slurm_jobs.Job(scratch, f"cdner-{scratch.name}", "17", "cdner", detached=True, submitted=0.0)
    found.write()
    return found


def test_a_model_that_a_job_builds_is_waited_for(cells, store, warm_engine, job, monkeypatch):
    looks = iter([True] * 3)
    monkeypatch.setattr(slurm_jobs, "lives", lambda asked: next(looks, False))
    told = []
    predict(cells[0], sentences_of(["Mars ."]), store, warm_engine, told.append)

    assert told[1:] == ["collect (demo-news+demo-astronomy) is being built by SLURM job 17; waiting for it"]
    assert next(looks, None) is None
    assert list((store.root / "scratch").iterdir()) == []  # the job's too, when it was over


def test_the_folder_of_a_job_that_lives_is_not_taken_away(store, job, monkeypatch):
    monkeypatch.setattr(slurm_jobs, "lives", lambda asked: True)
    upkeep.reclaim(store, job.scratch.name.partition(".")[0])

    assert job.scratch.is_dir()


def test_a_model_that_has_read_the_same_words_stays(cells, store, warm_engine):
    """As one with DAPT has read the words of dev, which `cdner report --split dev` predicts."""
    item = cells[0]
    words = item.transfer.target.dev.words_only()
    model = item.final.inputs["phrase_folder"]
    both = Stage(model.step, **{**model.inputs, "splits": (*model.inputs["splits"], words)})
    item = replace(item, final=Stage(item.final.step, **{**item.final.inputs, "phrase_folder": both}))

    found = predict(item, words, store, warm_engine, print, keep=True)

    again = predict(item, words, store, warm_engine, print)
    assert [p.id for p in found] == [p.id for p in again] == [s.id for s in words.sentences]
    assert store.has(both.key)
    assert len(list((store.root / "stages").iterdir())) == 1  # what was kept is forgotten by the second


def test_nothing_is_run_for_no_text(cells, store, warm_engine):
    assert predict(cells[0], sentences_of([]), store, warm_engine, print) == []


def test_a_skipped_cell_predicts_nothing(cells, store, warm_engine):
    with pytest.raises(PlanError) as caught:
        predict(cells[1], sentences_of(["Mars ."]), store, warm_engine, print)
    assert str(caught.value) == (
        "lookup/demo-news--demo-astronomy/zero-shot/seed1 is skipped: there is nothing to merge in a lookup; "
        "say `order: sequence` or `order: joint`."
    )
