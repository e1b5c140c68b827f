"""A corpus in memory: ids, spans, cuts, hashes and the sizes that a card states."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.corpus.card import Card, Cut, Format, SourceFile, TypeCard, load_card
from benchmark.corpus.corpus import Sentence, Split, falls_in_cut, load, load_split
from benchmark.errors import DataError, PlanError
from benchmark.score.spans import Span

TRAIN = """\
Aurora	B-vessel
reached	O
New	B-port
Haven	I-port

Aurora	B-vessel
Borealis	B-vessel

Rain	O
"""
DEV = "Fog\tO\n"
TEST = "Haven\tB-port\nslept	O\n"


@pytest.fixture
def harbour(tmp_path, monkeypatch) -> Card:
    """Return a card whose three files lie in the data folder `tmp_path`."""
    monkeypatch.setenv("CDNER_DATA", str(tmp_path))
    for split, text in (("train", TRAIN), ("dev", DEV), ("test", TEST)):
        (tmp_path / f"{split}.txt").write_text(text)
    return Card(
        name="harbour",
        version=1,
        about="",
        licence="",
        cite="",
        source={split: SourceFile(path=f"{split}.txt") for split in ("train", "dev", "test")},
        format=Format(),
        sizes={"train": (3, 7, 4)},
        types={key: TypeCard(key, key, "miscellaneous") for key in ("vessel", "port")},
        oddities=(),
        path=tmp_path / "harbour.yaml",
    )


def cut(card: Card, share: float) -> Card:
    return replace(card, source={**card.source, "dev": Cut(share)})


def test_a_corpus_has_the_spans_of_its_tags(harbour):
    corpus = load(harbour)

    assert corpus.train == Split(
        "harbour",
        "train",
        (
            Sentence(
                "harbour/train/0", ("Aurora", "reached", "New", "Haven"), (Span(0, 1, "vessel"), Span(2, 4, "port"))
            ),
            Sentence("harbour/train/1", ("Aurora", "Borealis"), (Span(0, 1, "vessel"), Span(1, 2, "vessel"))),
            Sentence("harbour/train/2", ("Rain",), ()),
        ),
    )
    assert (corpus.train.mentions, corpus.train.n_words) == (4, 7)
    assert corpus.dev == Split("harbour", "dev", (Sentence("harbour/dev/0", ("Fog",), ()),))
    assert corpus.test.sentences[0].spans == (Span(0, 1, "port"),)


def test_a_corpus_is_loaded_by_name_from_the_users_cards(harbour, tmp_path):
    types = "types: {vessel: {general: miscellaneous}, port: {general: location}}"
    harbour.path.write_text(
        f"name: harbour\nsource: {{train: {{path: train.txt}}, test: {{path: test.txt}}}}\n{types}\n"
    )
    corpus = load("harbour", tmp_path, (tmp_path,))

    assert corpus.dev is None
    assert corpus.train == load(harbour).train


def test_dev_none_leaves_an_official_dev_unread(harbour, tmp_path):
    (tmp_path / "dev.txt").write_text("not a column file")

    assert load(harbour, dev="none").dev is None


def test_test_is_loaded_on_its_own(harbour, tmp_path):
    (tmp_path / "train.txt").unlink()

    assert load_split(harbour, "test", tmp_path).hash == load_split(harbour, "test").hash


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((4, 7, 4), "train has 3 sentences, the card says 4."),
        ((3, 8, 4), "train has 7 words, the card says 8."),
        ((3, 7, 5), "train has 4 mentions, the card says 5."),
    ],
)
def test_sizes_that_are_not_the_files_are_refused(harbour, tmp_path, sizes, message):
    with pytest.raises(DataError) as caught:
        load(replace(harbour, sizes={"train": sizes}))
    assert str(caught.value) == (
        f"{tmp_path / 'train.txt'}: {message} If the source changed, raise `version` and rerun its records."
    )


def test_another_dev_is_refused(harbour):
    with pytest.raises(PlanError) as caught:
        load(harbour, dev="half")
    assert str(caught.value) == "dev is 'half', expected card or none."


def test_a_cut_divides_train_by_the_words_alone(harbour, tmp_path):
    ships = [f"ship{n % 30}\tB-vessel\n" for n in range(60)]  # every sentence stands twice
    (tmp_path / "train.txt").write_text("\n".join(ships))
    (tmp_path / "dev.txt").unlink()
    card = replace(cut(harbour, 0.3), sizes={})
    corpus, whole = load(card), load(card, dev="none")

    assert corpus.dev is not None
    assert whole.dev is None
    assert sorted(corpus.train.sentences + corpus.dev.sentences, key=lambda s: int(s.id.split("/")[2])) == list(
        whole.train.sentences
    )
    assert not {s.words for s in corpus.train.sentences} & {s.words for s in corpus.dev.sentences}
    assert all(sentence.id.startswith("harbour/train/") for sentence in corpus.dev.sentences)
    assert corpus.dev.name == "dev"
    assert load_split(card, "dev").hash == corpus.dev.hash


def test_the_cut_never_moves():
    words = ["Aurora", "Borealis", "Rain", "Fog", "Haven", "Quay", "Tide", "Mole", "Bollard", "Capstan"]

    assert [word for word in words if falls_in_cut([word], 0.3)] == ["Borealis", "Fog", "Quay", "Capstan"]


def test_a_cut_that_leaves_a_side_empty_is_refused(harbour):
    with pytest.raises(DataError) as caught:
        load(cut(harbour, 1e-9))
    assert str(caught.value) == (
        f"{harbour.path}: a cut of 1e-09 leaves dev empty: train has 3 sentences. "
        "Change the share, or take `dev: none`."
    )


def test_words_only_hides_gold_and_changes_the_hash(harbour):
    split = load(harbour).train
    hidden = split.words_only()

    assert [sentence.spans for sentence in hidden.sentences] == [None, None, None]
    assert [sentence.words for sentence in hidden.sentences] == [sentence.words for sentence in split.sentences]
    assert hidden.mentions == 0
    assert hidden.hash != split.hash


def test_relabel_renames_and_drops(harbour):
    split = load(harbour).train

    renamed = split.relabel({"vessel": "miscellaneous", "port": None})

    assert [sentence.spans for sentence in renamed.sentences] == [
        (Span(0, 1, "miscellaneous"),),
        (Span(0, 1, "miscellaneous"), Span(1, 2, "miscellaneous")),
        (),
    ]
    assert split.words_only().relabel({}) == split.words_only()


def test_relabel_refuses_a_type_that_has_no_new_name(harbour):
    with pytest.raises(DataError) as caught:
        load(harbour).train.relabel({"vessel": "ship"})
    assert str(caught.value) == "harbour/train/0: type 'port' has no new name. The mapping has vessel."


WORDS = st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=4).map(tuple)
SPANS = st.none() | st.lists(
    st.builds(Span, st.integers(0, 9), st.integers(0, 9), st.text(max_size=3)), max_size=3
).map(tuple)
SPLITS = st.builds(
    Split, st.text(), st.text(), st.lists(st.builds(Sentence, st.text(), WORDS, SPANS), max_size=3).map(tuple)
)


@given(SPLITS)
def test_a_split_is_written_and_read_back_the_same_to_its_hash(tmp_path_factory, split):
    path = tmp_path_factory.getbasetemp() / "split.jsonl"
    split.to_jsonl(path)

    again = Split.from_jsonl(path)

    assert again == split
    assert again.hash == split.hash


@given(SPLITS, SPLITS)
def test_only_equal_sentences_have_equal_hashes(one, other):
    def content(split):
        return [(s.id, s.words, s.spans if s.spans is None else sorted(s.spans)) for s in split.sentences]

    assert (one.hash == other.hash) == (content(one) == content(other))


def test_the_hash_does_not_depend_on_the_order_of_spans_nor_on_the_run():
    here, there = Span(0, 1, "vessel"), Span(2, 4, "port")
    one, other = (
        Split("harbour", "test", (Sentence("harbour/test/0", ("Aurora", "left", "New", "Haven"), spans),))
        for spans in ((here, there), (there, here))
    )

    assert one.hash == other.hash == "8088a3e97f26586741f16f6a8f138c04b66bb965b365e57b1ea7a275f82dce5e"


@pytest.mark.parametrize(
    "text", ["", "{}\n", '{"corpus": "a", "name": "b"}\nnonsense\n', '{"corpus": "a", "name": "b"}\n[1]\n']
)
def test_a_file_that_is_no_split_is_refused_with_its_line(tmp_path, text):
    path = tmp_path / "split.jsonl"
    path.write_text(text)

    with pytest.raises(DataError) as caught:
        Split.from_jsonl(path)
    line = 2 if "corpus" in text else 1
    assert str(caught.value) == f"{path}:{line}: this is no line of a split that cdner wrote. Write it anew."


@pytest.mark.skipif("CDNER_DATA" not in os.environ, reason="CDNER_DATA names no folder of corpora")
def test_the_real_politics_has_its_published_sizes():
    found = Path(os.environ["CDNER_DATA"]) / "politics" / "test.txt"
    if not found.is_file():
        pytest.skip("CDNER_DATA holds no politics")
    test = load_split(load_card("politics"), "test")

    assert (len(test.sentences), test.mentions) == (651, 4209)
