"""Explanations of mentions: read, filtered by what a regime shows, cleaned, marked, counted."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.cli import main
from benchmark.corpus import knowledge
from benchmark.corpus.card import Card, Format, SourceFile, TypeCard, read_card
from benchmark.corpus.corpus import Sentence, Split, load
from benchmark.corpus.fetch import locate_knowledge
from benchmark.corpus.knowledge import Explained, as_split, cleaned, of_target, shown, statistics
from benchmark.corpus.transfer import Domain
from benchmark.errors import DataError, FetchError, Unsupported
from benchmark.score.spans import Span

TRAIN = Split(
    "quay",
    "train",
    (
        Sentence("quay/train/0", ("Ada", "met", "Ada"), (Span(0, 1, "person"), Span(2, 3, "person"))),
        Sentence("quay/train/1", ("Oslo",), (Span(0, 1, "place"),)),
    ),
)
ADA = Explained("Ada met Ada", "Ada", "person", "Ada is a person . She met someone .")
OSLO = Explained("Oslo", "Oslo", "place", "Oslo is a place .")
FOUND = [ADA, OSLO, OSLO._replace(type="person"), ADA._replace(text="Ada slept")]


def domain(train: Split, knowledge: SourceFile | None = None, path: Path = Path("quay.yaml")) -> Domain:
    types = {name: TypeCard(name, name, "person") for name in ("person", "place")}
    return Domain(Card("quay", 1, "", "", "", {}, Format(), {}, types, (), path, knowledge), train, None)


def test_an_explanation_of_no_mention_that_train_shows_is_left_out():
    assert shown(FOUND, TRAIN) == ([ADA, OSLO], 2)
    assert shown(FOUND, replace(TRAIN, sentences=TRAIN.sentences[1:])) == ([OSLO], 3)
    assert shown(FOUND, TRAIN.words_only()) == ([], 4)


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ('It is "one"!\nSo there.', "It is one. So there."),
        ("It is one. Thank you for asking. Bye.", "It is one. Bye."),
        ("I'm here to help . It is one.", "It is one."),
        ("It is one. However, it may be none.", None),
        ("That label is not accurate.", None),
        ("I cannot tell.", None),
        ("  ", None),
    ],
)
def test_what_does_not_explain_goes_and_boilerplate_is_cut(said, left):
    kept, dropped = cleaned([ADA._replace(explanation=said)])

    assert [one.explanation for one in kept] == ([] if left is None else [left])
    assert dropped == (left is None)


def test_phrases_and_patterns_are_those_that_are_given():
    assert cleaned([ADA], negative=("someone",)) == ([], 1)
    assert cleaned([ADA], negative=(), boilerplate=(r"She .*",))[0][0].explanation == "Ada is a person ."


def test_the_mention_and_its_type_are_marked_where_they_stand_first():
    [sentence] = as_split("quay", [ADA]).sentences

    assert sentence.words == tuple(ADA.explanation.split())
    assert [(x.start, x.end) for x in sentence.spans] == [(0, 1), (3, 4)]
    [named] = as_split("quay", [ADA], {"person": "someone she"}).sentences
    assert [x.start for x in named.spans] == [0, 7]


def test_figures_count_each_mention_of_a_sentence_once():
    told = statistics([ADA, OSLO, OSLO], 2, TRAIN)

    assert (told.texts, told.explanations, told.strange, told.mentions, told.explained) == (2, 3, 2, 2, 2)
    assert (told.tokens, told.sentences, told.fail_rate) == (9 + 5 + 5, 2 + 1 + 1, 0.0)
    assert statistics([ADA], 0, TRAIN).fail_rate == 0.5


def test_a_file_is_read_or_refused(tmp_path):
    knowledge.write(tmp_path / "told.json", [ADA, OSLO])
    assert knowledge.read(tmp_path / "told.json") == [ADA, OSLO]

    (tmp_path / "other.json").write_text('[{"text": "x"}]')
    with pytest.raises(DataError) as refused:
        knowledge.read(tmp_path / "other.json")
    assert str(refused.value) == (
        f"{tmp_path}/other.json: these are no explanations (KeyError: 'explanations'); expected a JSON list of "
        '{"text": ..., "explanations": [{"word": ..., "label": ..., "explanation": ...}]}.'
    )


# ---- where they lie


@pytest.fixture
def pinned(tmp_path, monkeypatch) -> tuple[Path, SourceFile]:
    """Return a file of explanations, and how a card pins it."""
    monkeypatch.delenv("CDNER_DATA", raising=False)
    monkeypatch.delenv("CDNER_KNOWLEDGE", raising=False)
    path = tmp_path / "data" / "quay" / "gtok.json"
    path.parent.mkdir(parents=True)
    knowledge.write(path, FOUND)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path, SourceFile(path="quay/gtok.json", sha256=digest)


def test_they_are_found_in_the_data_folder_or_in_one_of_their_own(pinned, tmp_path, monkeypatch):
    path, source = pinned
    card = domain(TRAIN, source).card

    assert locate_knowledge(card, tmp_path / "data") == path
    own = tmp_path / "own" / "quay.json"
    own.parent.mkdir()
    own.write_bytes(path.read_bytes())
    monkeypatch.setenv("CDNER_KNOWLEDGE", str(own.parent))
    assert locate_knowledge(card, tmp_path / "data") == own


def test_another_file_of_that_name_is_refused(pinned, tmp_path):
    path, source = pinned
    path.write_text("[]")

    with pytest.raises(DataError, match=r"its sha256 is .*, the card says"):
        locate_knowledge(domain(TRAIN, source).card, tmp_path / "data")


def test_where_there_is_none_the_ways_out_are_told(pinned, tmp_path):
    _, source = pinned
    with pytest.raises(FetchError) as refused:
        locate_knowledge(domain(TRAIN, source).card, tmp_path)
    assert "CDNER_KNOWLEDGE naming a folder that holds quay.json" in str(refused.value)
    with pytest.raises(DataError) as refused:
        locate_knowledge(domain(TRAIN).card, tmp_path)
    assert (
        str(refused.value) == "quay.yaml: quay names no explanations (`knowledge`); name a file of them: --file FILE."
    )


def test_a_target_has_the_explanations_of_what_it_shows(pinned, tmp_path):
    _, source = pinned

    learned = of_target(domain(TRAIN, source), tmp_path / "data")
    assert said(learned) == [ADA.explanation, OSLO.explanation]
    assert learned.title == "2 of 4 in published"
    with pytest.raises(Unsupported) as refused:
        of_target(domain(TRAIN.words_only(), source), tmp_path / "data")
    assert str(refused.value) == "no mention of quay that train shows here is explained."
    with pytest.raises(Unsupported) as refused:
        of_target(domain(TRAIN), tmp_path / "data")
    assert str(refused.value) == "no explanations of quay are published: its card names none."


def said(learned: knowledge.Learned) -> list[str]:
    return [" ".join(s.words) for s in learned.split.sentences]


def test_those_of_a_file_are_cleaned_and_counted(tmp_path):
    path = tmp_path / "told.json"
    knowledge.write(path, [ADA, OSLO._replace(explanation="However , it may be none ."), OSLO._replace(type="person")])

    learned = knowledge.of_file(domain(TRAIN), str(path), full=True)
    assert (said(learned), learned.title) == ([ADA.explanation], f"1 of 3 in {path}")
    learned = knowledge.of_file(domain(TRAIN), str(path), full=True, negative=("someone",))
    assert said(learned) == ["However , it may be none ."]
    with pytest.raises(Unsupported) as refused:
        knowledge.of_file(domain(TRAIN), str(path), full=True, negative=("a", "e"))
    assert str(refused.value) == f"{path}: each of 3 explanations has a phrase of `negative`: none explains."


def test_a_file_that_is_of_another_corpus_is_refused_where_train_shows_all(tmp_path):
    path = tmp_path / "told.json"
    knowledge.write(path, [ADA, *(ADA._replace(text=f"dev {n}") for n in range(1200))])

    with pytest.raises(Unsupported) as refused:
        knowledge.of_file(domain(TRAIN), str(path), full=True)
    assert str(refused.value) == (
        f"{path}: of 1,201 explanations 1,200 are of no mention of quay's train; expected `text`, `word` and `label` as "
        f"train has them, `label` being one of person, place. `cdner knowledge quay --file {path}` counts them."
    )
    assert knowledge.of_file(domain(TRAIN), str(path), full=False).title == f"1 of 1,201 in {path}"


def test_files_that_are_not_there_are_told(tmp_path, pinned, monkeypatch):
    with pytest.raises(DataError) as refused:
        knowledge.of_file(domain(TRAIN), str(tmp_path / "none.json"), full=True)
    assert str(refused.value) == f"{tmp_path}/none.json: there is no such file of explanations."
    monkeypatch.setenv("CDNER_KNOWLEDGE", str(tmp_path / "nowhere"))
    with pytest.raises(FetchError) as absent:
        locate_knowledge(domain(TRAIN, pinned[1]).card, tmp_path / "data")
    assert str(absent.value) == f"{tmp_path}/nowhere: there is no such folder of explanations. Mend CDNER_KNOWLEDGE."


def test_the_command_counts_a_files_and_writes_those_of_train(tmp_path, capsys):
    train = load("demo-cinema").train
    every = [Explained(*one, "it is so") for one in dict.fromkeys(knowledge.mentions(train))]
    strange, silent = every[0]._replace(text="not there"), every[1]._replace(explanation="I cannot tell")
    knowledge.write(tmp_path / "told.json", [every[0], silent, *every[2:], strange])

    assert (
        main(["knowledge", "demo-cinema", "--file", str(tmp_path / "told.json"), "--out", str(tmp_path / "out")]) == 0
    )
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"written: {tmp_path}/out/demo-cinema.json"
    [row] = [line.split() for line in told if line.startswith("demo-cinema")]
    assert row[2:5] == [str(len(every) - 1), "1", "1"]
    assert told[-1] == "negative: a phrase says that it does not explain; left out"
    assert knowledge.read(tmp_path / "out" / "demo-cinema.json") == [every[0], *every[2:]]


def test_a_card_pins_its_file(tmp_path):
    text = "name: quay\nsource: {{train: {{path: a}}, test: {{path: b}}}}\ntypes: {{x: {{general: person}}}}\n{}"
    path = tmp_path / "quay.yaml"
    path.write_text(text.format(f'knowledge: {{url: "https://a.b/c.json", sha256: "{"0" * 64}"}}'))
    assert read_card(path).knowledge == SourceFile("https://a.b/c.json", "quay/gtok.json", None, "0" * 64)

    path.write_text(text.format(""))
    assert read_card(path).knowledge is None


def test_what_cards_pin_is_what_the_paper_counts():
    if not os.environ.get("CDNER_DATA") or not os.environ.get("CDNER_KNOWLEDGE"):
        pytest.skip("the corpora or their explanations are not here: set CDNER_DATA and CDNER_KNOWLEDGE")
    found = {}
    for name in ("ai", "literature", "music", "politics", "science"):
        corpus = load(name)
        every = knowledge.published(corpus.card)
        kept, strange = shown(every, corpus.train)
        told = statistics(kept, strange, corpus.train)
        found[name] = (told.explanations, told.strange, round(told.tokens / 1000, 1))
    assert found == {  # TOPT, table 1
        "ai": (446, 0, 66.9), "literature": (356, 0, 48.3), "music": (434, 0, 57.1), "politics": (602, 0, 72.1),
        "science": (611, 0, 83.6),
    }  # fmt: skip
