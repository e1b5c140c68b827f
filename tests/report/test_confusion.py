"""What word tags are taken for."""

import csv
import json

import pytest

from benchmark.errors import CdnerError, RecordError
from benchmark.report.confusion import KINDS, of, table, write
from benchmark.score.protocols import PROTOCOLS, Gold, Prediction, score
from benchmark.score.spans import Span

GOLD = [
    Gold("s/1", ["New", "Haven", "slept"], [Span(0, 2, "port")]),
    Gold("s/2", ["Aurora", "met", "Fram"], [Span(0, 1, "vessel"), Span(2, 3, "vessel")]),
]
FOUND = [
    Prediction("s/2", (Span(0, 1, "port"),), tags=("B-port", "O", "I-vessel")),
    Prediction("s/1", (Span(0, 2, "port"),)),
]


def test_words_are_counted_by_gold_and_predicted_tag():
    found = of(GOLD, FOUND, "harbour")

    assert found.tags == ("B-port", "B-vessel", "I-port", "I-vessel", "O")
    assert found.matrix == ((1, 0, 0, 0, 0), (1, 0, 0, 1, 0), (0, 0, 1, 0, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 2))
    assert [line.support for line in found.lines] == [1, 2, 1, 0, 2]
    assert found.words == 6


def test_accuracy_and_macro_average_are_those_of_the_protocol():
    found = of(GOLD, FOUND, "harbour")

    counted = score("token", GOLD, FOUND)
    metrics = PROTOCOLS["token"].metrics(counted.all, counted.types)
    macro = found.averages[0]
    assert found.accuracy == pytest.approx(metrics["accuracy"])
    assert (macro.f1, macro.precision, macro.recall) == pytest.approx(
        (metrics["f1"], metrics["precision"], metrics["recall"])
    )
    for line in found.lines:
        assert line.f1 == pytest.approx(counted.types[line.name].f1)


def test_the_report_is_a_table():
    assert (
        table(of(GOLD, FOUND, "harbour"))
        == """\
tag             precision    recall      F1    words
------------  -----------  --------  ------  -------
B-port              50.00    100.00   66.67        1
B-vessel             0.00      0.00    0.00        2
I-port             100.00    100.00  100.00        1
I-vessel             0.00      0.00    0.00        0
O                  100.00    100.00  100.00        2
accuracy                              66.67        6
macro avg           50.00     60.00   53.33        6
weighted avg        58.33     66.67   61.11        6"""
    )


def test_files_hold_the_report(tmp_path):
    found = of(GOLD, FOUND, "harbour")
    for end in KINDS:
        write(found, tmp_path / "deep" / f"report{end}")

    told = json.loads((tmp_path / "deep" / "report.json").read_text())
    rows = list(csv.reader((tmp_path / "deep" / "report.csv").read_text().splitlines()))
    page = (tmp_path / "deep" / "report.md").read_text()
    assert told["accuracy"] == pytest.approx(66.6667, abs=1e-4)
    assert rows[0] == ["gold \\ predicted", *found.tags]
    assert rows[2] == ["B-vessel", "1", "0", "0", "1", "0"]
    assert page.startswith("harbour\n\n| tag")
    assert "| B-vessel           | 1 " in page
    for end, begins in {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}.items():
        assert (tmp_path / "deep" / f"report{end}").read_bytes().startswith(begins)


def test_a_file_of_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(
        CdnerError, match=r"report.txt: expected a name that ends in .md, .csv, .json, .png, .svg, .pdf"
    ):
        write(of(GOLD, FOUND, "harbour"), tmp_path / "report.txt")


def test_without_words_there_is_no_report():
    with pytest.raises(CdnerError, match="harbour: there is no word to report on"):
        of([], [], "harbour")


def test_predictions_of_other_sentences_are_refused():
    with pytest.raises(RecordError, match="there is no prediction for 's/1'"):
        of(GOLD, FOUND[:1], "harbour")
