"""Information density and the figures of explanations, as they are shown."""

import csv
import gzip
import json

import pytest

from benchmark.cli import main
from benchmark.corpus import knowledge, texts
from benchmark.errors import CdnerError, DataError
from benchmark.report.density import table, units, write
from benchmark.score.density import measure

TWO = {"one": measure(["a b", "a c"]), "two": measure(["a b a b", "b"])}


def test_a_line_a_text_under_how_it_was_counted():
    lines = table(TWO, "bigrams of blanks").splitlines()

    assert lines[0] == "bigrams of blanks"
    assert lines[4].split() == ["one", "2", "4", "3", "2", "2.0", "1.000", "0.0000", "0.5000"]
    assert lines[5].split()[:5] == ["two", "2", "5", "2", "2"]


def test_a_text_without_a_bigram_has_no_variance():
    assert table({"none": measure([])}, "").splitlines()[4].split() == ["none", "0", "0", "0", "0", "nan"]


def test_every_unit_is_a_line_of_csv():
    rows = list(csv.DictReader(units(TWO).splitlines()))

    assert [row["text"] for row in rows] == ["one", "one", "two"]
    assert rows[0] == {
        "text": "one", "tokens": "2", "bigrams": "1", "surprisal": "1", "uid": "1", "entropy": "0.5"
    }  # fmt: skip


@pytest.mark.parametrize("kind", [".png", ".svg", ".pdf", ".csv"])
def test_it_is_drawn_and_written(tmp_path, kind):
    write(TWO, "bigrams", tmp_path / "figures" / f"density{kind}")

    assert (tmp_path / "figures" / f"density{kind}").stat().st_size > 100 or kind == ".csv"


def test_another_kind_is_refused(tmp_path):
    with pytest.raises(CdnerError) as refused:
        write(TWO, "", tmp_path / "density.doc")
    assert str(refused.value) == f"{tmp_path}/density.doc: expected a name that ends in .csv, .png, .svg, .pdf."


# ---- the texts


EXPLAINED = [
    {"text": "Ada runs", "explanations": [{"word": "Ada", "label": "person", "explanation": "She is one. So."}]}
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "plain.txt").write_text("a b\nc\n")
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(b"a b\nc\n"))
    (tmp_path / "told.json").write_text(json.dumps(EXPLAINED))
    return tmp_path


def test_a_unit_is_a_line_or_an_explanation_or_a_sentence_of_it(folder):
    assert [line.strip() for line in texts.units(str(folder / "plain.txt"))] == ["a b", "c"]
    assert [line.strip() for line in texts.units(str(folder / "packed.txt.gz"))] == ["a b", "c"]
    assert list(texts.units(str(folder / "told.json"))) == ["She is one. So."]
    assert list(texts.units(str(folder / "told.json"), unit="sentence")) == ["She is one.", "So."]


def test_tokens_are_prepared():
    assert [line.split() for line in texts.prepared(iter(["It's A."]), tokens="words", lower=True)] == [
        ["it", "'", "s", "a", "."]
    ]
    assert list(texts.prepared(iter(["It's A."]), tokens="blanks", lower=False)) == ["It's A."]


def test_what_is_no_text_is_refused(folder):
    (folder / "latin.txt").write_bytes(b"caf\xe9\n")
    (folder / "other.json").write_text('{"text": 1}')

    with pytest.raises(DataError, match=r"latin\.txt: this is no text in UTF-8"):
        list(texts.units(str(folder / "latin.txt")))
    with pytest.raises(
        DataError, match=r"other\.json: these are no explanations \(TypeError: .*\); expected a JSON list"
    ):
        list(texts.units(str(folder / "other.json")))


def test_the_command_prints_and_writes(folder, capsys):
    out = folder / "density.csv"

    assert main(["density", str(folder / "plain.txt"), "--start", "--smoothing", "0.5", "--out", str(out)]) == 0

    printed = capsys.readouterr().out
    assert printed.startswith("bigrams of blanks, add-0.5, with start sign, unit: line\n")
    assert out.read_text().splitlines()[0] == "text,tokens,bigrams,surprisal,uid,entropy"


def test_a_text_that_is_nowhere_is_told(capsys):
    assert main(["density", "nowhere.txt"]) == 1
    assert "there is no corpus 'nowhere.txt'" in capsys.readouterr().err


# ---- explanations

CARD = """\
name: quay
source: {train: {path: quay/train.txt}, test: {path: quay/train.txt}}
knowledge: {path: quay/gtok.json}
types: {person: {general: person}}
"""


def test_explanations_are_counted_and_written_as_text(tmp_path, capsys):
    told = [*EXPLAINED, {"text": "Ben ran", "explanations": [{"word": "Ben", "label": "person", "explanation": "No"}]}]
    (tmp_path / "quay").mkdir()
    (tmp_path / "quay.yaml").write_text(CARD)
    (tmp_path / "quay" / "train.txt").write_text("Ada\tB-person\nruns\tO\n\nEva\tB-person\n")
    (tmp_path / "quay" / "gtok.json").write_text(json.dumps(told))
    given = ["--cards", str(tmp_path), "--data", str(tmp_path)]

    assert main(["knowledge", "quay", *given, "--out", str(tmp_path / "out")]) == 0

    printed = capsys.readouterr().out
    assert printed.splitlines()[-1].split() == ["quay", "1", "1", "1", "2", "4", "1.00", "2.00", "0.50"]
    assert (tmp_path / "out" / "quay.txt").read_text() == "She is one. So.\n"


def test_what_is_written_is_read_again(tmp_path):
    found = [knowledge.Explained("Ada ran", "Ada", "person", 'she "is"'), knowledge.Explained("x", "x", "y", "z")]

    knowledge.write(tmp_path / "told.json", found)

    assert knowledge.read(tmp_path / "told.json") == found
