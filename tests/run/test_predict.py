"""Entities of new text, by the model of a cell."""

from dataclasses import replace

import pytest

from benchmark.errors import PlanError
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
