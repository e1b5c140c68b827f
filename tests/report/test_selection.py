"""What other rules of selection would have given, from hand-made records."""

import csv
import io
import json

from fake_records import Planned

from benchmark.report import selection

EPOCHS = [
    {"epoch": 2, "test": [1, 0, 1], "target-dev": 50.0, "source-dev": 90.0},  # F1 66.67
    {"epoch": 4, "test": [2, 0, 0], "target-dev": 40.0, "source-dev": 80.0},  # F1 100
    {"epoch": 6, "test": [1, 1, 1], "target-dev": 60.0, "source-dev": 90.0},  # F1 50
]


def recorded(cell, **told):
    return {"cell": cell.name, "status": "ok", "level": "fine", **told}


def test_each_rule_chooses_its_epoch_and_of_two_as_good_the_earlier():
    cell = Planned("tagger", "ai")
    [row] = selection.rows([cell], [recorded(cell, curves={"kept": 6, "epochs": EPOCHS})])

    assert {rule: round(value, 2) for rule, value in row.f1.items()} == {
        "target-dev": 50.0, "source-dev": 66.67, "last": 50.0, "test": 100.0,
    }  # fmt: skip


def test_what_test_chose_is_grey_and_labelled_as_no_result():
    cell, other, silent = Planned("tagger", "ai"), Planned("lookup", "ai"), Planned("lar", "ai")
    records = [
        recorded(cell, curves={"kept": 6, "epochs": EPOCHS}),
        recorded(other, curves={"reason": "there is no epoch to choose"}),
        recorded(silent),
    ]
    found = selection.rows([cell, other, silent], records)

    grey = selection.render(found, colour=True)
    assert "\033[2m100.00\033[0m" in grey
    assert "\033[2mno result: selected on test\033[0m" in grey
    lines = selection.render(found).splitlines()
    assert lines[0].split("  ")[-1].strip() == "(no result: selected on test)"
    assert lines[2].split()[-4:] == ["50.00", "66.67", "50.00", "(100.00)"]
    assert lines[3].split()[-5:] == ["0/1", "-", "-", "-", "-"]
    assert lines[-1] == "lookup kept no epochs: there is no epoch to choose."
    assert len(found) == 2
    markdown = selection.render(found, "markdown")
    assert "*no result: selected on test*" in markdown
    assert "*100.00*" in markdown


def test_a_rule_without_its_dev_says_nothing():
    cell = Planned("tagger", "ai")
    epochs = [{"epoch": 1, "test": [1, 0, 0]}]
    [row] = selection.rows([cell], [recorded(cell, curves={"kept": 1, "epochs": epochs})])

    assert row.f1 == {"target-dev": None, "source-dev": None, "last": 100.0, "test": 100.0}


def test_csv_and_json_have_the_numbers():
    cell = Planned("tagger", "ai")
    found = selection.rows([cell], [recorded(cell, curves={"kept": 6, "epochs": EPOCHS})])

    [line] = csv.DictReader(io.StringIO(selection.render(found, "csv")))
    assert (line["last"], line["test (no result: selected on test)"]) == ("50.0000", "100.0000")
    [told] = json.loads(selection.render(found, "json"))
    assert (told["cells"], told["expected"], told["f1"]["last"]) == (1, 1, 50.0)
