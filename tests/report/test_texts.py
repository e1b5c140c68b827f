"""Information density and the figures of explanations, as they are shown."""

import csv
import gzip
import json

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.corpus import knowledge, texts
from benchmark.corpus.corpus import Sentence, Split
from benchmark.errors import CdnerError, DataError, UnknownName
from benchmark.report import density, figures
from benchmark.report.density import settings, short, table, units, write
from benchmark.score.density import measure
from benchmark.score.spans import Span

TWO = {"one": measure(["a b", "a c"]), "two": measure(["a b a b", "b"])}


def test_a_line_a_text_under_how_it_was_counted():
    lines = table(TWO, "tokens between blanks").splitlines()

    assert lines[0] == "tokens between blanks"
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


def test_how_it_is_counted_is_told_in_words():
    assert settings("blanks", "line") == "tokens between blanks · no smoothing · no start sign · a unit a line"
    assert settings("words", "sentence", lower=True, smoothing=0.5, start=True) == (
        "words and marks as tokens, lower-cased · add-0.5 smoothing · a start sign · a unit a sentence"
    )


@pytest.mark.parametrize("rows", [1, 100_000])
def test_csv_is_written_whole(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(density, "ROWS", rows)

    write(TWO, "bigrams", tmp_path / "figures" / "density.csv")

    found = list(csv.DictReader((tmp_path / "figures" / "density.csv").read_text().splitlines()))
    assert [(row["text"], row["tokens"], row["uid"]) for row in found] == [
        ("one", "2", "1"),
        ("one", "2", "1"),
        ("two", "4", "0"),
    ]


# ---- the figure


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Return what draws texts and gives the figure, laid out. A warning of matplotlib's is an error here."""
    kept = []
    monkeypatch.setattr(figures, "save", lambda figure, path: kept.append(figure))

    def draw(found):
        write(found, "tokens between blanks", tmp_path / "density.png")
        kept[-1].canvas.draw()
        return kept[-1]

    return draw


def many(names):
    dice = np.random.default_rng(1)
    return {name: measure(" ".join(dice.choice(list("abcde"), n)) for n in range(2, 12)) for name in names}


def panels_and_boxes(figure):
    upper, lower = figure.subfigs
    return upper.axes, lower.axes


@pytest.mark.parametrize(("kind", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_a_figure_is_of_the_kind_that_its_name_says(tmp_path, kind, begins):
    write(many("xy"), "tokens between blanks", tmp_path / "figures" / f"density{kind}")

    assert (tmp_path / "figures" / f"density{kind}").read_bytes().startswith(begins)


@pytest.mark.parametrize("number", [1, 2, 5, 10, 11])
def test_every_text_has_a_panel_and_two_boxes_of_one_colour(drawn, number):
    names = [f"D-domain{n}" for n in range(number)]
    panels, boxes = panels_and_boxes(drawn(many(names)))

    assert [own.get_title().splitlines()[0] for own in panels] == names
    assert [len(own.collections[0].get_offsets()) for own in panels] == [10] * number
    assert len({own.get_xlim() for own in panels}) == len({own.get_ylim() for own in panels}) == 1
    looks = [(tuple(own.collections[0].get_facecolor()[0][:3]), own.collections[0].get_paths()[0]) for own in panels]
    assert len({(colour, path.vertices.tobytes()) for colour, path in looks}) == number
    for own in boxes:
        assert [label.get_text() for label in own.get_xticklabels()] == names
        assert [patch.get_facecolor()[:3] for patch in own.patches] == [colour for colour, _ in looks]
        assert len({(patch.get_facecolor(), patch.get_hatch()) for patch in own.patches}) == number
        assert own.get_legend() is None


@pytest.mark.parametrize("number", [2, 10, 11])
def test_names_of_boxes_stand_apart_and_end_under_their_boxes(drawn, number):
    figure = drawn(many([f"domain-adaptive-pretraining-corpus-{n}.sentences.txt.gz" for n in range(number)]))

    for own in panels_and_boxes(figure)[1]:
        labels = own.get_xticklabels()
        for label in labels:
            assert len(label.get_text()) <= density.LETTERS
            assert label.get_rotation() == 0 or (label.get_ha(), label.get_rotation_mode()) == ("right", "anchor")
        ends = [own.transData.transform((n, 0))[0] for n in range(1, number + 1)]
        line = labels[0].get_fontsize() * figure.dpi / 72
        assert min(np.diff(ends)) * (np.sin(np.pi / 4) if labels[0].get_rotation() else 1) > line
        assert own.get_window_extent().height > 100


def test_names_in_a_figure_are_different_and_as_long_as_is_allowed():
    long = [f"a-very-long-name-{n}-of-a-text-that-goes-on.txt" for n in range(12)]
    assert len({*short(long, 24)}) == 12
    assert max(map(len, short(long, 24))) == 24
    assert short(["topt/a--b/supervised/seed1", "topt/a--c/supervised/seed1"], 24) == ["a--b", "a--c"]
    assert short(["x/one.txt"], 24) == ["x/one.txt"]


def test_what_is_not_drawn_is_told(drawn, monkeypatch):
    monkeypatch.setattr(density, "DRAWN", 5)
    figure = drawn({**many(["x$1$"]), "single.txt": measure(["one", "two"])})
    panels, boxes = panels_and_boxes(figure)

    assert figure.get_suptitle().replace("\n", " ") == (
        "tokens between blanks · outliers of boxes not drawn · 5 units a text drawn, at random · not drawn, without a "
        "unit of two tokens: single.txt"
    )
    assert [len(own.collections[0].get_offsets()) for own in panels] == [5]
    assert [len(own.patches) for own in boxes] == [1, 1]


def test_one_long_unit_does_not_press_the_others_to_the_left(drawn):
    usual, long = many(["x"]), {"long": measure(["a b " * 10_000, "a b", "b a b"])}

    assert panels_and_boxes(drawn(usual))[0][0].get_xscale() == "linear"
    figure = drawn({**usual, **long})
    assert {own.get_xscale() for own in panels_and_boxes(figure)[0]} == {"log"}
    assert figure.subfigs[0].get_supxlabel() == "length (tokens, logarithmic)"


def test_nothing_is_drawn_of_nothing(tmp_path):
    with pytest.raises(CdnerError) as refused:
        write({"single.txt": measure(["one"])}, "", tmp_path / "density.png")
    assert str(refused.value) == (
        f"{tmp_path}/density.png: there is nothing to draw, since no text has a unit of two tokens. Leave --out away."
    )


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


def test_a_split_that_cdner_wrote_is_read_by_its_words(folder):
    spans = (Span(0, 1, "named"),)
    sentences = (
        Sentence("k/0", ("Ada", "is", "one."), spans),
        Sentence("k/1", (), ()),
        Sentence("k/2", ("So.",), None),
    )
    Split("quay", "knowledge", sentences).to_jsonl(folder / "split.jsonl")

    assert list(texts.units(str(folder / "split.jsonl"))) == ["Ada is one.", "So."]


def test_a_mark_of_the_byte_order_is_no_part_of_a_token(folder):
    (folder / "bom.txt").write_bytes(b"\xef\xbb\xbfa b\n")
    (folder / "bom.txt.gz").write_bytes(gzip.compress(b"\xef\xbb\xbfa b\n"))

    assert list(texts.units(str(folder / "bom.txt"))) == ["a b\n"]
    assert list(texts.units(str(folder / "bom.txt.gz"))) == ["a b\n"]


NO_FILE = "there is no such file, and no corpus of that name."
EXPECTED = "expected text in UTF-8, a unit a line."
NO_SPLIT = (
    "this is no line of a split. Of .jsonl those alone are read that cdner wrote, such as split.jsonl; write other text to "
    "a .txt, a unit a line."
)
WRONG = {
    "latin.txt": (b"caf\xe9\n", f"latin.txt: this is no text in UTF-8 ('utf-8' codec can't decode byte 0xe9 in position "
                  f"3: invalid continuation byte); {EXPECTED} Convert it first."),
    "binary.txt": (b"a\0b c\n", f"binary.txt: there are NUL bytes in it, so this is binary; {EXPECTED} Convert it first."),
    "empty.txt": (b"", f"empty.txt: this is empty, {EXPECTED} Name another file."),
    "plain.gz": (b"a b\n", "plain.gz: this cannot be unpacked (Not a gzipped file (b'a ')); expected text packed by gzip. "
                 "Pack it anew."),
    "empty.txt.gz": (gzip.compress(b""), f"empty.txt.gz: this is empty, {EXPECTED} Name another file."),
    "none.json": (b"[]", "none.json: this is empty, expected explanations of mentions. Name another file."),
    "other.jsonl": (b'{"text": "a b"}\n', f"other.jsonl:1: {NO_SPLIT}"),
    "torn.jsonl": (b'{"corpus": "a", "name": "b"}\n["a/0", ["x"', f"torn.jsonl:2: {NO_SPLIT}"),
    "none.jsonl": (b'{"corpus": "a", "name": "b"}\n', "none.jsonl: this is empty, expected the sentences of a split. "
                   "Name another file."),
    "told.jsonl.gz": (gzip.compress(b"{}"), "told.jsonl.gz: a packed .jsonl is not read. Unpack it first: gunzip --keep "
                      "{}/told.jsonl.gz"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_text_is_refused_before_a_line_is_read(folder, name):
    content, message = WRONG[name]
    (folder / name).write_bytes(content)

    with pytest.raises(DataError) as refused:
        texts.units(str(folder / name))
    assert str(refused.value) == f"{folder}/{message.replace('{}/', f'{folder}/')}"


def test_what_is_no_explanation_is_refused(folder):
    (folder / "other.json").write_text('{"text": 1}')

    with pytest.raises(
        DataError, match=r"other\.json: these are no explanations \(TypeError: .*\); expected a JSON list"
    ):
        texts.units(str(folder / "other.json"))


@pytest.mark.parametrize("bad", [b"a\0b\n", b"caf\xe9\n"])
def test_what_turns_out_to_be_no_text_is_refused_later(folder, monkeypatch, bad):
    monkeypatch.setattr(texts, "HEAD", 4)
    (folder / "late.txt").write_bytes(b"a b\n" + bad)

    lines = texts.units(str(folder / "late.txt"))
    with pytest.raises(DataError, match=r"late\.txt:2: there are NUL bytes|late\.txt: this is no text in UTF-8"):
        list(lines)


@pytest.mark.parametrize(
    ("name", "kind", "begins"),
    [
        ("nowhere.txt", UnknownName, f"nowhere.txt: {NO_FILE} Name a file of text, or a corpus: ai, "),
        ("missing.json", UnknownName, f"missing.json: {NO_FILE} Name a file of text, or a corpus: ai, "),
        ("musci", UnknownName, f"musci: {NO_FILE} Did you mean 'music'? Name a file of text, or a corpus: ai, "),
        (".", DataError, ".: this is a folder, expected a file or a corpus. Name the files that are in it."),
        ("-", DataError, "-: expected the name of a file or a corpus. Standard input is called /dev/stdin."),
    ],
)
def test_what_names_no_text_is_told(name, kind, begins):
    with pytest.raises(kind) as refused:
        texts.units(name)
    assert str(refused.value).startswith(begins)


def test_a_corpus_is_found_beside_a_folder_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "quay").mkdir()
    (tmp_path / "quay.yaml").write_text(CARD)
    (tmp_path / "quay" / "gtok.json").write_text(json.dumps(EXPLAINED))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CDNER_KNOWLEDGE", raising=False)

    assert list(texts.units("quay", data=tmp_path, cards=(tmp_path,))) == ["She is one. So."]


# ---- the command


def test_the_command_prints_and_writes(folder, capsys):
    out = folder / "density.csv"

    assert main(["density", str(folder / "plain.txt"), "--start", "--smoothing", "0.5", "--out", str(out)]) == 0

    printed = capsys.readouterr().out
    assert printed.startswith("tokens between blanks · add-0.5 smoothing · a start sign · a unit a line\n")
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [(row["text"], row["tokens"], row["bigrams"]) for row in rows] == [
        ("plain.txt", "2", "2"),
        ("plain.txt", "1", "1"),
    ]


def test_every_text_and_every_target_is_looked_at_before_one_is_measured(folder, monkeypatch, capsys):
    def never(*_, **__):
        raise AssertionError("something was measured")

    monkeypatch.setattr("benchmark.score.density.measure", never)
    monkeypatch.chdir(folder)
    (folder / "dir.csv").mkdir()

    def told(*given):
        assert main(["density", *given]) == 1
        return capsys.readouterr().err.removeprefix("cdner: ").rstrip()

    kinds = ".csv, .png, .svg, .pdf"
    assert told() == "density is of texts: name a file or a corpus, or a cell (--cell CELL)."
    assert told("plain.txt", "typo.txt").startswith(f"typo.txt: {NO_FILE}")
    assert told("plain.txt", "--out", "a.doc") == f"a.doc: expected a name that ends in {kinds}."
    assert told("plain.txt", "--out", "dir.csv") == (
        "dir.csv: this is a folder, expected the name of a file to write. Name one in it."
    )
    assert told("plain.txt", "--out", "plain.txt/a.csv") == (
        f"plain.txt/a.csv: {folder}/plain.txt is a file, so nothing can be written below it. Name another place."
    )
    assert told("plain.txt", "--out", "a.csv", "--out", "./a.csv") == (
        "a.csv: this is named twice to write to. Name every file once."
    )
    (folder / "text.csv").write_text("a b\n")
    assert told("text.csv", "--out", "text.csv") == (
        "text.csv: this is a text that is measured. Name another file to write to."
    )
    monkeypatch.setattr("os.access", lambda *_: False)
    assert told("plain.txt", "--out", "a.csv") == (
        f"a.csv: {folder} cannot be written to. Name another place, or mend its permissions."
    )
    assert not list(folder.glob("a.*"))


def test_a_text_of_blanks_is_refused(folder, capsys):
    (folder / "blank.txt").write_text(" \n\n")

    assert main(["density", str(folder / "blank.txt")]) == 1
    assert capsys.readouterr().err == (
        f"cdner: {folder}/blank.txt: there is no token in it, expected text, a unit a line. Name another text.\n"
    )


@pytest.mark.parametrize("given", ["0", "0.00", "0e0", "1e-3"])
def test_smoothing_may_be_nothing_however_it_is_written(folder, given, capsys):
    assert main(["density", str(folder / "plain.txt"), "--smoothing", given]) == 0
    assert ("no smoothing" in capsys.readouterr().out) == (float(given) == 0)


@pytest.mark.parametrize("given", ["-1", "nan", "inf", "some"])
def test_smoothing_below_nothing_is_refused(folder, given, capsys):
    with pytest.raises(SystemExit):
        main(["density", str(folder / "plain.txt"), "--smoothing", given])
    assert f"argument --smoothing: {given!r} is no number, 0 or more\n" in capsys.readouterr().err


# ---- explanations

CARD = """\
name: quay
source: {train: {path: quay/train.txt}, test: {path: quay/train.txt}}
knowledge: {path: quay/gtok.json}
types: {person: {general: person}}
"""


def test_explanations_that_are_published_are_counted_and_written_as_they_are(tmp_path, capsys):
    told = [*EXPLAINED, {"text": "Ben ran", "explanations": [{"word": "Ben", "label": "person", "explanation": "No"}]}]
    (tmp_path / "quay").mkdir()
    (tmp_path / "quay.yaml").write_text(CARD)
    (tmp_path / "quay" / "train.txt").write_text("Ada\tB-person\nruns\tO\n\nEva\tB-person\n")
    (tmp_path / "quay" / "gtok.json").write_text(json.dumps(told))
    given = ["--cards", str(tmp_path), "--data", str(tmp_path)]

    assert main(["knowledge", "quay", *given, "--out", str(tmp_path / "out")]) == 0

    printed = capsys.readouterr().out
    [row] = [line.split() for line in printed.splitlines() if line.startswith("quay")]
    assert row == ["quay", "1", "1", "1", "0", "2", "4", "1.00", "2.00", "0.50"]
    assert json.loads((tmp_path / "out" / "quay.json").read_text()) == EXPLAINED


def test_what_is_written_is_read_again(tmp_path):
    found = [knowledge.Explained("Ada ran", "Ada", "person", 'she "is"'), knowledge.Explained("x", "x", "y", "z")]

    knowledge.write(tmp_path / "told.json", found)

    assert knowledge.read(tmp_path / "told.json") == found
