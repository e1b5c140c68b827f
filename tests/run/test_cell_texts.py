"""The text that a cell is pre-trained on, as `cdner density --cell` measures it."""

import json

import pytest

from benchmark.cli import main
from benchmark.corpus.corpus import Sentence, Split
from benchmark.errors import CdnerError, PlanError, StoreError
from benchmark.run.cell_texts import cell_texts
from benchmark.run.cells import find_cell, plan_cells
from benchmark.run.plan import boards

CARD = """\
name: {name}
source: {{train: {{path: {name}/train.txt}}, test: {{path: {name}/train.txt}}}}
knowledge: {{path: {name}/gtok.json}}
types: {{person: {{general: person}}}}
"""
PLAN = """\
about: Explanations, alone and mixed.
variants:
  alone: {method: topt, set: &topt {backbone: minilm-seq2seq}}
  mixed: {method: topt, set: {<<: *topt, mixed: 2, mixed_from: [quay, pier]}}
  asked: {method: topt, set: {<<: *topt, knowledge: generate}}
  words: {method: tagger, set: {encoder: minilm, dapt: target}}
  other: {method: tagger, set: {encoder: minilm, dapt: OTHER}}
  plain: {method: tagger, set: {encoder: minilm}}
transfers:
  - {sources: [pier], targets: [quay], regime: supervised, select: last}
  - {sources: [pier], targets: [quay], regime: zero-shot, select: last, variants: [alone]}
seeds: [1, 2]
"""


def told(*entries):
    return json.dumps(
        [
            {"text": text, "explanations": [{"word": word, "label": "person", "explanation": why}]}
            for text, word, why in entries
        ]
    )


@pytest.fixture
def there(tmp_path, monkeypatch):
    """Write two corpora with their explanations, and a board; return the arguments that name them."""
    words = {"quay": "Ada\tB-person\nruns\tO\n\nEva\tB-person\n", "pier": "Ben\tB-person\n\nMax\tB-person\n"}
    why = {
        "quay": told(("Ada runs", "Ada", "Ada is one.\nShe runs."), ("Zoe ran", "Zoe", "hidden")),
        "pier": told(("Ben", "Ben", "Ben is one."), ("Max", "Max", "Max is another.")),
    }
    for name in words:
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.txt").write_text(words[name])
        (tmp_path / name / "gtok.json").write_text(why[name])
        (tmp_path / f"{name}.yaml").write_text(CARD.format(name=name))
    (tmp_path / "other.txt").write_text("some text\n\nof the domain\n")
    board = tmp_path / "results" / "tried"
    board.mkdir(parents=True)
    (board / "plan.yaml").write_text(PLAN.replace("OTHER", str(tmp_path / "other.txt")))
    monkeypatch.delenv("CDNER_KNOWLEDGE", raising=False)
    monkeypatch.setenv("CDNER_LLM_MODEL", "one")
    return {"data": tmp_path, "cards": (tmp_path,)}


def cell(variant, seed=1):
    return f"{variant}/pier--quay/supervised/seed{seed}"


def lines(variant, store, there):
    [(name, found)] = cell_texts([cell(variant)], store, **there).items()
    assert name == cell(variant)
    return list(found)


def test_it_is_what_the_plan_binds_and_nothing_that_train_does_not_show(store, there):
    assert lines("alone", store, there) == ["Ada is one. She runs."]
    assert lines("words", store, there) == ["Ada runs", "Eva"]
    assert lines("other", store, there) == ["some text\n", "of the domain\n"]


def test_what_is_mixed_in_is_part_of_it(store, there):
    own, *more = lines("mixed", store, there)

    assert own == "Ada is one. She runs."
    assert sorted(more) == ["Ben is one.", "Max is another."]


def test_explanations_that_a_stage_made_are_read_from_the_store(store, there):
    with pytest.raises(StoreError) as refused:
        lines("asked", store, there)
    assert str(refused.value) == (
        f"{cell('asked')}: its text is what the stage `explain` (quay train, explained by one, seed 1) writes, which is "
        f"not in the store {store.root}. Run it first: cdner run tried --only '{cell('asked')}'"
    )

    board, asked = find_cell(cell("asked"), boards(), there["cards"])
    [item] = plan_cells(board, [asked], **there)
    folder = store.folder(next(s for s in item.final.graph() if s.step.__name__ == "explain").key)
    folder.mkdir(parents=True)
    Split("quay", "knowledge", (Sentence("k/0", ("Ada", "is", "told"), ()),)).to_jsonl(folder / "split.jsonl")
    (folder / "manifest.json").write_text("{}")

    assert lines("asked", store, there) == ["Ada is told"]


def test_a_cell_without_a_text_or_skipped_is_told(store, there):
    with pytest.raises(CdnerError) as refused:
        cell_texts([cell("plain")], store, **there)
    assert str(refused.value) == (
        f"tried/{cell('plain')} reads no text: its stages are train_tagger, tag, and none goes on pre-training. "
        "Name a cell whose variant does (by its setting `knowledge` or `dapt`), or a file."
    )
    with pytest.raises(
        CdnerError, match=r"^alone/pier--quay/zero-shot/seed1 is skipped: no mention of quay that train"
    ):
        cell_texts(["alone/pier--quay/zero-shot/seed1"], store, **there)


def test_a_text_of_no_utf8_is_told(store, there, tmp_path):
    (tmp_path / "other.txt").write_bytes(b"caf\xe9\n")

    with pytest.raises(PlanError, match=r"other\.txt: the text is not UTF-8"):
        lines("other", store, there)


def test_the_command_measures_cells_beside_files(there, tmp_path, capsys):
    (tmp_path / "wiki.txt").write_text("a b c\n")
    given = ["--data", str(tmp_path), "--cards", str(tmp_path)]

    asked = ["--cell", cell("mixed"), "--cell", f"tried/{cell('mixed', 2)}"]
    assert main(["density", str(tmp_path / "wiki.txt"), *asked, *given, "--unit", "sentence"]) == 0

    rows = [line.split() for line in capsys.readouterr().out.splitlines()[4:7]]
    assert [row[:3] for row in rows] == [
        ["wiki.txt", "1", "3"],
        [cell("mixed"), "4", "11"],
        [cell("mixed", 2), "4", "11"],
    ]
