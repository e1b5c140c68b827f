"""The contract suite: what every method in the table does, on corpora typed by hand and encoders of random weights.

A new method is tested as soon as it stands in `methods.METHODS`. Settings of its own go into OPTIONS.
"""

import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import inprocess
import pytest
import torch
from models.conftest import save_t5
from scripted import Scripted
from transformers import BertConfig, BertModel, BertTokenizer

import methods
from benchmark.corpus.corpus import Corpus, Sentence, Split, load
from benchmark.corpus.transfer import Annotation, Auxiliary, Spec, Transfer, build
from benchmark.errors import Unsupported
from benchmark.run import annotation
from benchmark.run.method import Method
from benchmark.run.stage import Made, Stage
from benchmark.score.protocols import PROTOCOLS, Gold, Prediction, relabel, score

# What makes any method small, where it has such a setting.
SMALL = {"epochs": 12, "source_epochs": 3, "lr": 5e-3, "batch": 4, "precision": "32"}

# method -> what it needs beyond that to learn anything at all.
SHORT = {"epochs": 12, "dev_every": 6}
LEARNS: dict[str, dict[str, Any]] = {
    "text2text": {"epochs": 120, "dev_every": 60, "lr": 1e-2},
    "lar": {"decoding": "grounded", **SHORT, "lr": 1e-2},
    "topt": {"decoding": "grounded", **SHORT, "lr": 1e-2, "knowledge": "generate", "masks": 2, "mask_epochs": 2},
}

# method -> settings that are tested beside its own.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "tagger": [{"crf": True}, {"target_only": True}],
    "lookup": [{"fold_case": True}, {"target_only": True}],
    "text2text": [
        {"decoding": "grounded", **SHORT},
        {"decoding": "grounded", "format": "topt", **SHORT},
        {"decoding": "grounded", "adapter": "LORA"},
        {"target_only": True},
    ],
    "llm_prompt": [{"examples": 1}, {"format": "typed"}, {"temperature": 0.7}],
    "lar": [
        {"reassign_with": "none"},
        {"reassign_with": "embedding", "alignment": "embedding-hungarian"},
        {"reassign_with": "embedding", "alignment": "none", "on_none": "direct", "ask": "dev"},
        {"labelled": 0.5, "match": "overlap", "meanings": True},
    ],
    "topt": [{"knowledge": "none"}, {"first_mask": "marked", "format": "topt", "merge": "init-mean"}],
    "laner": [
        {"label_background": False},
        {"label_context": False},
        {"label_background": False, "label_context": False},
        # Not `masks`: without them a score depends on its batch.
        {"first_token_head": True, "sub_word_labels": True, "label_space": "target", "zero_o": True},
        {"target_only": True},
    ],
}


def encoders(name: str) -> tuple[str, ...]:
    """Return the encoders or backbones that a method is tested with: none where it has no such setting."""
    known = {field.name for field in fields(methods.find(name).Settings)}
    return ("rnn", "bert") if "encoder" in known else ("t5",) if "backbone" in known else ("",)


CASES = [
    pytest.param((name, encoder, changed), id="-".join(filter(None, [name, encoder, *changed])))
    for name in methods.METHODS
    for encoder in encoders(name)
    for changed in ({}, *OPTIONS.get(name, ()))
]
REGIMES = {
    "supervised": Spec(("quay",), "sky"),
    "supervised-last": Spec(("quay",), "sky", select="last"),
    "joint": Spec(("quay",), "sky", order="joint"),
    "joint-source-dev": Spec(("quay",), "sky", order="joint", select="source-dev"),
    "in-domain": Spec((), "sky", "in-domain"),
    "zero-shot": Spec(("quay",), "sky", "zero-shot", select="source-dev"),
    "added": Spec(("quay",), "sky", auxiliary=Auxiliary(("bay",), 0.7)),
    "chain": Spec(("quay",), "sky", chain=("bay",)),
    "annotated": Spec(("quay",), "sky", annotate=Annotation("oracle", 0.5)),
    "fraction": Spec(("quay",), "sky", "fraction", 0.5, draw=1),
    "sentences": Spec(("quay",), "sky", "sentences", 2.0, select="last", draw=1),
    "shots": Spec(("quay",), "sky", "shots", 1.0, select="last", draw=1),
}
UNSUPPORTED = {
    "merge": Spec(("quay",), "sky", order="merge"),
    "source-dev in sequence": Spec(("quay",), "sky", select="source-dev"),
}

CARDS = {
    "quay": """\
name: quay
source: {train: {path: quay/train.txt}, dev: {path: quay/dev.txt}, test: {path: quay/test.txt}}
types:
  vessel: {general: miscellaneous}
  person: {general: person}
""",
    "bay": """\
name: bay
source: {train: {path: bay/train.txt}, dev: {path: bay/dev.txt}, test: {path: bay/test.txt}}
types:
  boat: {general: miscellaneous}
  person: {general: person}
""",
    "sky": """\
name: sky
source: {train: {path: sky/train.txt}, dev: {path: sky/dev.txt}, test: {path: sky/test.txt}}
types:
  star: {general: location}
  astronomer: {name: person, general: person, shares: person}
  comet: {general: miscellaneous}
""",
}
# Train and dev of the sky never have a comet.
TEXTS = {
    "quay": {
        "train": ["Aurora/B-vessel sank", "Ada/B-person Lund/I-person swam", "rain", "Fram/B-vessel met Ada/B-person"],
        "dev": ["Fram/B-vessel sank", "Ada/B-person"],
        "test": ["Aurora/B-vessel met Ada/B-person"],
    },
    "bay": {
        "train": ["Sula/B-boat rocked", "Ada/B-person slept", "Sula/B-boat met Lund/B-person"],
        "dev": ["Sula/B-boat"],
        "test": ["Sula/B-boat"],
    },
    "sky": {
        "train": ["Vega/B-star shines", "Tycho/B-astronomer Brahe/I-astronomer slept", "night", "Vega/B-star set"],
        "dev": ["Tycho/B-astronomer saw Vega/B-star", "fog"],
        "test": ["Halley/B-comet passed", "Kepler/B-astronomer saw Deneb/B-star", "dawn"],
    },
}


def columns(sentences: list[str]) -> str:
    """Return the column file of sentences such as `Vega/B-star shines`."""
    lines = [[w.partition("/")[0] + "\t" + (w.partition("/")[2] or "O") for w in text.split()] for text in sentences]
    return "\n".join("\n".join(words) + "\n" for words in lines)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Return a folder of cards and their files."""
    folder = tmp_path_factory.mktemp("data")
    for name, card in CARDS.items():
        (folder / f"{name}.yaml").write_text(card)
        (folder / name).mkdir()
        for split, sentences in TEXTS[name].items():
            (folder / name / f"{split}.txt").write_text(columns(sentences))
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    """Return a folder with a tiny BERT of random weights that takes 32 sub-words."""
    folder = tmp_path_factory.mktemp("bert")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    BertTokenizer(vocab={piece: n for n, piece in enumerate(pieces)}).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> Path:
    """Return a folder with a tiny T5 of random weights."""
    return save_t5(tmp_path_factory.mktemp("t5"), sentinels=20)


class House:
    """One method under settings, over the two corpora, with the artefacts of what ran."""

    def __init__(self, name: str, encoder: str, changed: dict[str, Any], data: Path, store: Path) -> None:
        self.method = methods.find(name)()
        known = {field.name for field in fields(self.method.Settings)}
        given = {**SMALL, **LEARNS.get(name, {}), "encoder": encoder, "backbone": encoder}
        small = {setting: value for setting, value in given.items() if setting in known}
        self.settings = self.method.settings({**small, **changed})
        self.data, self.store = data, store

    def corpus(self, name: str, **options: Any) -> Corpus:
        return load(name, **{"data": self.data, "cards": (self.data,), **options})

    def transfer(self, spec: Spec) -> Transfer:
        return build(spec, data=self.data, cards=(self.data,))

    def plan(self, spec: Spec, *, seed: int = 1) -> Stage:
        return self.planned(self.transfer(spec), seed)

    def planned(self, transfer: Transfer, seed: int = 1) -> Stage:
        return annotation.planned(self.method, transfer, self.settings, seed, Path("nobody.conll"))

    def plan_for(self, words: Split) -> Stage:
        """Return the first supported plan, with other words to predict."""
        for spec in REGIMES.values():
            try:
                transfer = self.transfer(spec)
                return self.method.plan(transfer, self.settings, 1).rebind(transfer.test, words)
            except Unsupported:
                continue
        raise AssertionError("the method supports no regime")

    def run(self, final: Stage, store: Path | None = None) -> list[Prediction]:
        """Run a stage and what it needs in this process, as a worker does, and return its predictions."""
        return inprocess.run(final, store or self.store)

    def gold(self) -> list[Gold]:
        corpus = self.corpus("sky")
        found = [Gold(s.id, s.words, s.spans or ()) for s in corpus.test.sentences]
        general = {key: kind.general for key, kind in corpus.card.types.items()}
        return relabel(found, general) if self.method.level == "general" else found


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    """Return a server that answers as a language model might: every capitalised word is of the first type."""
    with Scripted() as made:
        yield made


@pytest.fixture(autouse=True)
def model_at_hand(server, monkeypatch):
    """Let methods that ask a language model find one on this machine, and no other."""
    for name in ("CDNER_LLM_MODEL", "CDNER_LLM_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CDNER_LLM_BASE_URL", server.url)


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(params=CASES)
def house(request, data, stores, bert, t5) -> House:
    name, encoder, changed = request.param
    return House(name, str({"bert": bert, "t5": t5}.get(encoder, encoder)), changed, data, stores)


def words(*sentences: str) -> Split:
    """Return words to predict."""
    return Split(
        "sky", "test", tuple(Sentence(f"sky/test/{n}", tuple(s.split()), None) for n, s in enumerate(sentences))
    )


# ---------------------------------------------------------------------------------------------- every regime


def test_added_data_is_learned_from_or_refused(house):
    if not house.method.adds:
        with pytest.raises(Unsupported, match="does not learn from added data"):
            house.plan(REGIMES["added"])
        return
    added = house.plan(REGIMES["added"])

    assert "bay" in {split.corpus for stage in added.graph() for split in stage.splits}
    assert added.key != house.plan(REGIMES["supervised"]).key


def test_train_that_is_annotated_anew_is_learned_from_or_refused(house):
    if type(house.method).doubting is Method.doubting or getattr(house.settings, "target_only", False):
        with pytest.raises(Unsupported, match=r"does not tell how unsure it is of a word|nothing to learn from"):
            house.plan(REGIMES["annotated"])
        return
    final = house.plan(REGIMES["annotated"])

    house.run(final)
    [learns] = [s for s in final.graph() if any(isinstance(x, Made) for x in s.inputs.get("train", ()))]
    [made] = [x for x in learns.inputs["train"] if isinstance(x, Made)]
    assert (house.store / made.stage.key / "split.jsonl").is_file()
    gold = house.transfer(REGIMES["supervised"]).target.train
    assert [s.words for s in made.sentences] == [s.words for s in gold.sentences]
    assert all(s.spans is None for s in made.sentences)
    shown = [s for s in final.graph() for x in s.splits if x.corpus == "sky" and x.name == "train" and x.mentions]
    assert shown == [made.stage]  # the oracle alone reads gold


@pytest.mark.parametrize("regime", REGIMES)
def test_a_supported_regime_ends_in_predictions_that_every_protocol_takes(house, regime):
    try:
        final = house.plan(REGIMES[regime])
    except Unsupported as refusal:
        pytest.skip(str(refusal))

    found = house.run(final)

    assert [p.id for p in found] == ["sky/test/0", "sky/test/1", "sky/test/2"]
    for protocol in PROTOCOLS:
        assert len(score(protocol, house.gold(), found).sentences) == 3


def test_the_types_predicted_are_those_of_the_level(house):
    card = house.corpus("sky").card
    known = {kind.general if house.method.level == "general" else key for key, kind in card.types.items()}

    for spec in REGIMES.values():
        try:
            found = house.run(house.plan(spec))
        except Unsupported:
            continue
        assert {span.type for p in found for span in p.spans} <= known


@pytest.mark.parametrize("transfer", UNSUPPORTED)
def test_an_unsupported_transfer_is_refused_with_a_reason(house, transfer):
    reason = None
    try:
        final = house.plan(UNSUPPORTED[transfer])
    except Unsupported as refusal:
        reason = str(refusal)

    if reason is None:
        assert len(house.run(final)) == 3  # the method can do it after all
    else:
        assert len(reason.split()) > 3
        assert reason.endswith(".")


def test_a_tagger_does_not_merge_and_says_so(data, stores):
    with pytest.raises(Unsupported) as caught:
        House("tagger", "rnn", {}, data, stores).plan(UNSUPPORTED["merge"])
    assert str(caught.value) == "a tagger does not merge models; say `order: sequence` or `order: joint`."


def test_a_tagger_does_not_select_its_target_stage_on_source_dev_and_says_so(data, stores):
    with pytest.raises(Unsupported) as caught:
        House("tagger", "rnn", {}, data, stores).plan(UNSUPPORTED["source-dev in sequence"])
    assert str(caught.value) == (
        "in sequence the head ends as the target's, so source dev cannot select it; "
        "say `order: joint`, or select on target-dev or last."
    )


def test_a_tagger_on_the_target_alone_has_nothing_to_learn_in_zero_shot_and_says_so(data, stores):
    with pytest.raises(Unsupported) as caught:
        House("tagger", "rnn", {"target_only": True}, data, stores).plan(REGIMES["zero-shot"])
    assert str(caught.value) == "with target_only there is nothing to learn from in zero-shot."


def test_a_type_that_train_never_has_still_gives_predictions(house):
    assert not any(s.type == "comet" for x in house.corpus("sky").train.sentences for s in x.spans or ())

    assert house.run(house.plan_for(words("Halley passed")))[0].id == "sky/test/0"


@pytest.mark.parametrize("chain", [(), ("bay",)])
@pytest.mark.parametrize("other", ["quay", "bay"])
def test_another_corpus_is_predicted_under_its_own_types_or_refused(house, other, chain):
    spec = Spec(("quay",), "sky", chain=chain, evaluate=other)
    if not house.method.evaluates or (chain and getattr(house.settings, "target_only", False)):
        with pytest.raises(Unsupported, match=r"\(`evaluate`\)|\(`chain`\)|there is no chain"):
            house.plan(spec)
        return
    final = house.plan(spec)
    read = [s for stage in final.graph() for split in stage.splits for s in split.sentences if "/test/" in s.id]

    found = house.run(final)

    assert [p.id for p in found] == [f"{other}/test/0"]
    assert {span.type for p in found for span in p.spans} <= {*house.corpus(other).card.types}
    assert {s.id for s in read} == {f"{other}/test/0"}
    assert all(s.spans is None for s in read)


def test_targets_are_learned_one_after_another(house):
    spec = Spec(("quay",), "sky", chain=("bay",), select="last")
    try:
        stages = house.plan(spec).graph()
    except Unsupported as refusal:
        pytest.skip(str(refusal))
    learned = [[x.corpus for x in s.inputs["train"]] for s in stages if "train" in s.inputs]
    models = [s for s in stages if "train" in s.inputs]

    assert learned == [["quay"], ["bay"], ["sky"]]
    assert [m.inputs["init"] for m in models] == [None, *models[:-1]]


# ---------------------------------------------------------------------------------------------- no gold of test


@pytest.mark.parametrize("regime", REGIMES)
def test_the_plan_reads_no_gold_of_test(house, regime):
    try:
        final = house.plan(REGIMES[regime])
    except Unsupported as refusal:
        pytest.skip(str(refusal))
    test = {s.id for s in house.corpus("sky").test.sentences}
    read = [sentence for stage in final.graph() for split in stage.splits for sentence in split.sentences]

    assert {s.id for s in read} >= test
    assert all(s.spans is None for s in read if s.id in test)
    if regime == "zero-shot":
        assert all(s.spans is None for s in read if s.id.startswith("sky/"))


@pytest.mark.parametrize("regime", REGIMES)
def test_the_plan_does_not_hang_on_the_gold_of_test(house, regime):
    def bare(name: str, **options: Any) -> Corpus:
        corpus = house.corpus(name, **options)
        sentences = tuple(replace(s, spans=()) for s in corpus.test.sentences)
        return replace(corpus, test=replace(corpus.test, sentences=sentences))

    try:
        final = house.plan(REGIMES[regime])
    except Unsupported as refusal:
        pytest.skip(str(refusal))
    without = build(REGIMES[regime], data=house.data, cards=(house.data,), corpora=bare)

    assert house.planned(without).key == final.key


# ---------------------------------------------------------------------------------------------- odd sentences


def test_an_empty_sentence_has_a_prediction_without_spans(house):
    found = house.run(house.plan_for(words("Vega shines", "", "dawn")))

    assert [p.id for p in found] == ["sky/test/0", "sky/test/1", "sky/test/2"]
    assert found[1].spans == ()
    assert found[1].tags in (None, ())


def test_nothing_but_empty_sentences_can_be_predicted(house):
    assert [p.spans for p in house.run(house.plan_for(words("", "")))] == [(), ()]


def test_one_word_can_be_predicted(house):
    [found] = house.run(house.plan_for(words("Vega")))

    assert all((span.start, span.end) == (0, 1) for span in found.spans)
    assert found.tags is None or len(found.tags) == 1


def test_a_sentence_longer_than_the_encoder_takes_is_predicted_whole(house):
    long = words("Vega shines over the old quay " * 20 + "x" * 80)

    [found] = house.run(house.plan_for(long))

    assert all(0 <= span.start < span.end <= 121 for span in found.spans)
    assert found.tags is None or len(found.tags) == 121


def test_a_word_that_a_tokenizer_drops_can_be_predicted(house):
    [found] = house.run(house.plan_for(words("Vega \u200b \ufeff shines")))

    assert found.tags is None or len(found.tags) == 4


# ---------------------------------------------------------------------------------------------- the same again

MANY = (
    "Vega shines",
    "Kepler saw Deneb and Vega",
    "",
    "Tycho Brahe slept",
    "dawn",
    "Ada Lund met Halley over the old quay " * 5,
    "Deneb",
)


def test_batches_in_another_order_or_size_give_the_same_predictions(house):
    together = words(*MANY)
    found = {p.id: p for p in house.run(house.plan_for(together))}

    turned = house.run(house.plan_for(replace(together, sentences=together.sentences[::-1])))
    alone = [house.run(house.plan_for(replace(together, sentences=(s,))))[0] for s in together.sentences]

    assert any(p.spans for p in found.values()), "nothing is found, so nothing is compared"
    assert {p.id: (p.spans, p.tags) for p in turned} == {p.id: (p.spans, p.tags) for p in found.values()}
    assert [(p.spans, p.tags) for p in alone] == [(found[p.id].spans, found[p.id].tags) for p in alone]


def test_the_same_seed_gives_the_same_answer(house, tmp_path):
    final = house.plan_for(words(*MANY))

    assert house.run(final, tmp_path / "again") == house.run(final)


def test_a_saved_model_predicts_as_before(house, tmp_path):
    final = house.plan_for(words(*MANY))
    before = house.run(final)
    for parent in final.graph()[:-1]:
        (tmp_path / parent.key).symlink_to(house.store / parent.key)

    assert house.run(final, tmp_path) == before


def test_a_plan_is_not_made_by_chance(house):
    for spec in REGIMES.values():
        try:
            one = house.plan(spec)
        except Unsupported:
            continue
        assert house.plan(spec).key == one.key


# ---------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("name", methods.METHODS)
def test_the_defaults_of_a_method_are_accepted_by_its_settings(name):
    method = methods.find(name)

    assert method.settings({}) == method.Settings()
    assert sys.modules[method.__module__].__doc__.split("\n", 1)[0].endswith(".")


def test_every_setting_that_a_plan_uses_is_in_its_key(house):
    """A step never receives settings: what a plan binds is what the key knows."""
    stages = house.plan(REGIMES["supervised"]).graph()

    assert not any(isinstance(value, house.method.Settings) for stage in stages for value in stage.inputs.values())
