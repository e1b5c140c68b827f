"""TOPT where explanations should pay: they tell the type of names, of which the target's train shows one a type."""

from functools import cache
from pathlib import Path
from statistics import fmean

import inprocess
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

from benchmark.corpus import knowledge
from benchmark.corpus.card import Card, Format, TypeCard
from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.knowledge import Explained
from benchmark.corpus.transfer import Domain, Spec, Transfer
from benchmark.score.protocols import strict_counts
from benchmark.score.spans import Span, to_tags
from methods.topt import Settings, Topt

NAMES = {
    "singer": ["Ada", "Ben", "Cleo", "Dan", "Eva"],
    "drummer": ["Gus", "Hal", "Ida", "Jon", "Kit"],
    "painter": ["Max", "Nia", "Oto", "Pia", "Ray"],
    "sailor": ["Tom", "Una", "Vic", "Wes", "Xan"],
}
PEOPLE = [name for names in NAMES.values() for name in names]
FORMS = ["{} arrived", "they met {}", "yesterday {} left", "{} slept", "we saw {} again"]
SEEDS = (1, 2, 3)
GUESSED = 100 / len(NAMES)  # F1 of all bounds right and types guessed, for each type has as many mentions


def written(name: str, split: str, people: list[tuple[str, str]], forms: list[str]) -> Split:
    """Return a sentence a person, with the person's type."""
    found = []
    for n, (who, kind) in enumerate(people):
        words = forms[n % len(forms)].format(who).split()
        at = words.index(who)
        found.append(Sentence(f"{name}/{split}/{n}", tuple(words), (Span(at, at + 1, kind),)))
    return Split(name, split, tuple(found))


def domain(name: str, types: list[str], train: Split) -> Domain:
    kinds = {key: TypeCard(key, key, "person") for key in types}
    return Domain(Card(name, 1, "", "", "", {}, Format(), {}, kinds, (), Path(name)), train, None)


def told(train: Split, members: dict[str, list[str]]) -> list[Explained]:
    """Return what is told of each mention of train: who else is of its type, a name an explanation."""
    return [
        Explained(*mention, f"{name} is a {mention[2]} .")
        for mention in knowledge.mentions(train)
        for name in members[mention[2]]
    ]


def dealt() -> dict[str, list[str]]:
    """Return the names with all but each type's first dealt out over the types: each gets one that is of it."""
    others = [name for names in NAMES.values() for name in names[1:]]
    return {kind: [names[0], *others[n :: len(NAMES)]] for n, (kind, names) in enumerate(NAMES.items())}


def save_words(folder: Path) -> Path:
    """Save a T5 of two layers whose sub-words are the words of these corpora, and return its folder."""
    words = [*PEOPLE, *" ".join(FORMS).replace("{}", "").split(), *NAMES, "person", "is", "a", "."]
    words += ["none", "Options:", "Sentence:"]
    letters = sorted(set("".join(words)) | {","})
    pieces = list(dict.fromkeys(["<pad>", "</s>", "<unk>", "▁", *letters, *(f"▁{word}" for word in words)]))
    scores = [(piece, 0.0 if n < 3 else -1.0 if len(piece) > 2 else -20.0) for n, piece in enumerate(pieces)]
    T5Tokenizer(vocab=scores, extra_ids=100).save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(pieces) + 100, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4,
        decoder_start_token_id=0, dropout_rate=0.0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def score(tmp_path_factory):
    """Return a function from `knowledge` to strict F1 on names that train never has: the mean of three seeds."""
    folder = tmp_path_factory.mktemp("planted")
    backbone = str(save_words(folder / "words"))
    news = written("news", "train", [(name, "person") for name in PEOPLE * 5], FORMS)
    stage = written("stage", "train", [(names[0], kind) for kind, names in NAMES.items()], FORMS[:1])
    asked = [(name, kind) for kind, names in NAMES.items() for name in names[1:] for _ in range(2)]
    test = written("stage", "test", asked, FORMS)
    sources = (domain("news", ["person"], news),)
    transfer = Transfer(
        Spec(("news",), "stage", select="last"), sources, domain("stage", list(NAMES), stage), test.words_only()
    )
    knowledge.write(folder / "true.json", told(stage, NAMES))
    knowledge.write(folder / "shuffled.json", told(stage, dealt()))
    gold = [to_tags(len(s.words), s.spans or ()) for s in test.sentences]

    @cache
    def of(name: str) -> float:
        settings = Settings(
            backbone=backbone, knowledge=name if name == "none" else str(folder / f"{name}.json"), format="sentence",
            instruction=False, decoding="grounded", masks=30, mask_share=0.7, mask_epochs=12, mask_lr=4e-3,
            mask_batch=16, source_epochs=10, source_lr=3e-4, epochs=20, lr=1e-3, batch=8, warmup=0.1,
            schedule="linear", precision="32",
        )  # fmt: skip
        return fmean(of_seed(settings, seed) for seed in SEEDS)

    def of_seed(settings: Settings, seed: int) -> float:
        found = inprocess.run(Topt().plan(transfer, settings, seed), folder / "store")
        tags = [to_tags(len(s.words), p.spans) for s, p in zip(test.sentences, found, strict=True)]
        return strict_counts(gold, tags).all.f1

    return of


def test_explanations_help(score):
    """Train has one singer, drummer, painter and sailor; explanations tell four more of each; test asks about those.

    The source has all of them, as persons. When this was written the seeds had 88, 97 and 83 F1 after explanations, and
    8, 9 and 13 without, where bounds are mostly wrong; so the types alone have to be better than a guess, too.
    """
    assert score("true") > max(score("none"), GUESSED) + 30


def test_shuffled_explanations_do_not(score):
    """The same texts, the four more of each type dealt out over the types: all bounds are right, the types a guess.

    The seeds had 9, 22 and 25 F1. One in four is still told its own type, so that none of this is by luck.
    """
    assert score("true") > max(score("shuffled"), GUESSED) + 30
    assert score("shuffled") < GUESSED + 10
