"""Case studies: sentences on which two cells differ."""

import pytest
from models.conftest import save_t5

from benchmark.cli import main
from benchmark.corpus import knowledge
from benchmark.corpus.corpus import load
from benchmark.corpus.knowledge import Explained
from benchmark.errors import RecordError
from benchmark.report.cases import cases, explained, render
from benchmark.score.protocols import Gold, Prediction
from benchmark.score.spans import Span

ADA, OSLO = Span(0, 1, "person"), Span(3, 4, "location")
GOLD = [
    Gold("s/0", ("Ada", "lives", "in", "Oslo"), (ADA, OSLO)),
    Gold("s/1", ("Ada", "sang"), (ADA,)),
    Gold("s/2", ("it", "rained"), ()),
]
FIRST = [Prediction("s/0", (ADA, OSLO)), Prediction("s/1", ()), Prediction("s/2", ())]
SECOND = [Prediction("s/0", ()), Prediction("s/1", (ADA,)), Prediction("s/2", ())]
TOLD = [
    Explained("Ben sang", "Ben", "person", "he sang and so is a person"),
    Explained("x", "Rome", "location", "people lives there in it"),
]


def test_sentences_that_differ_most_come_first():
    assert [(case.id, case.gain) for case in cases(GOLD, FIRST, SECOND)] == [("s/0", 2), ("s/1", -1)]


def test_a_sentence_has_its_nearest_explanations():
    found = explained(cases(GOLD, FIRST, SECOND), TOLD, 1)

    assert [case.nearest for case in found] == [(TOLD[1],), (TOLD[0],)]
    assert all(case.nearest == () for case in explained(cases(GOLD, FIRST, SECOND), TOLD, 0))


def test_they_are_set_side_by_side():
    found = explained(cases(GOLD, FIRST, SECOND)[:1], TOLD, 1)

    assert render(found, ("a", "b"), {"person": "human"}, 2).splitlines() == [
        "1: a",
        "2: b",
        "2 sentences on which they differ; 1 shown, 1 has more hits in 1 of them, 2 in 0. Right: *",
        "why: the nearest explanations of train's mentions, published, read by neither",
        "",
        "s/0  Ada lives in Oslo",
        "  gold Ada (human); Oslo (location)",
        "  1    Ada (human)*; Oslo (location)*",
        "  2    -",
        "  why  Rome is location: people lives there in it",
    ]


def test_who_has_read_the_explanations_is_told():
    found = explained(cases(GOLD, FIRST, SECOND)[:1], [Explained("", "", "", "people lives there")], 1)

    assert render(found, ("a", "b"), {}, 1).splitlines()[3] == (
        "why: the nearest explanations of train's mentions, published, read by neither"
    )
    lines = render(found, ("a", "b"), {}, 1, ["1", "2"]).splitlines()
    assert lines[3] == "why: the nearest explanations of train's mentions, read by 1 and 2"
    assert lines[-1] == "  why  people lives there"


def test_predictions_of_other_sentences_are_refused():
    with pytest.raises(RecordError, match="there is no prediction for 's/2'"):
        cases(GOLD, FIRST, SECOND[:2])


BOARD = """
variants:
  lookup: {method: lookup}
  topt: {method: topt, set: &small {backbone: BERT, decoding: grounded, knowledge: OWN, masks: 1, mask_epochs: 1, epochs: 1, source_epochs: 1, format: sentence, precision: "32"}}
transfers: [{sources: [demo-news], targets: [demo-cinema], select: last}]
"""


def test_the_command_sets_two_cells_of_a_board_side_by_side(tmp_path, monkeypatch, capsys):
    train = load("demo-cinema").train
    told = [Explained(*one, f"{one[1]} is so") for one in dict.fromkeys(knowledge.mentions(train))]
    told[0] = told[0]._replace(explanation="However , no")
    knowledge.write(tmp_path / "own.json", told)
    folder = tmp_path / "results" / "small"
    folder.mkdir(parents=True)
    backbone = save_t5(tmp_path / "t5", sentinels=20)
    (folder / "plan.yaml").write_text(BOARD.replace("BERT", str(backbone)).replace("OWN", str(tmp_path / "own.json")))
    assert main(["run", "small", "--no-table"]) == 0
    capsys.readouterr()

    topt, lookup = (f"small/{name}/demo-news--demo-cinema/supervised/seed1" for name in ("topt", "lookup"))
    assert main(["show", topt, "cases", "--against", lookup]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[:2] == [f"1: {topt.removeprefix('small/')}", f"2: {lookup.removeprefix('small/')}"]
    assert shown[3] == "why: the nearest explanations of train's mentions, read by 1"
    why = [line for line in shown if line.startswith("  why  ")]
    assert why
    assert all(line.endswith(" is so") and " is " in line.partition(": ")[0] for line in why)

    assert main(["show", lookup, "cases", "--against", lookup]) == 0
    assert "why" not in capsys.readouterr().out


def test_cases_are_of_two_cells(capsys):
    assert main(["show", "demo/tagger/demo-news--demo-cinema/supervised/seed1", "cases"]) == 1
    assert capsys.readouterr().err == "cdner: cases are of two cells: cdner show CELL cases --against CELL.\n"


def test_a_cell_without_a_record_is_told(tmp_path, capsys):
    folder = tmp_path / "results" / "small"
    folder.mkdir(parents=True)
    (folder / "plan.yaml").write_text("variants: {lookup: {method: lookup}}\ntransfers: [{targets: [demo-cinema]}]\n")
    cell = "small/lookup/--demo-cinema/in-domain/seed1"

    assert main(["show", cell, "cases", "--against", cell]) == 1
    assert capsys.readouterr().err == (
        "cdner: lookup/--demo-cinema/in-domain/seed1 has no good record of what its plan says now; run it first: "
        "cdner run small --only 'lookup/--demo-cinema/in-domain/seed1'\n"
    )
