"""LAR where it should pay: the target has other names for what the source calls persons and organisations."""

import random
from pathlib import Path
from statistics import fmean

import inprocess
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

from benchmark.corpus.card import Card, Format, TypeCard
from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.transfer import Domain, Spec, Transfer
from benchmark.score.protocols import strict_counts
from benchmark.score.spans import Span, to_tags
from methods.lar import Lar, Settings

PEOPLE = ["Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hal", "Ida", "Jon", "Kit", "Lea"]
FIRMS = ["Orbit", "Vertex", "Nova", "Quartz", "Zenith", "Atlas", "Helix", "Pulse", "Onyx", "Comet", "Delta", "Rune"]
FORMS = ["{p} joined {f}", "{f} thanked {p}", "yesterday {p} left", "{f} grew", "{p} met {p}", "{f} sued {f}"]
SOURCE = {"person": "person", "organisation": "organization"}
TARGET = {**SOURCE, "politician": "person", "party": "organization"}


def written(name: str, split: str, count: int, kinds: dict[str, str], people: list[str], firms: list[str]) -> Split:
    """Return sentences about people and firms, their types named by `kinds`."""
    dice, found = random.Random(f"{name}/{split}"), []
    for n in range(count):
        words, spans = [], []
        for word in FORMS[n % len(FORMS)].split():
            if word in ("{p}", "{f}"):
                spans.append(Span(len(words), len(words) + 1, kinds[word]))
                word = dice.choice(people if word == "{p}" else firms)
            words.append(word)
        found.append(Sentence(f"{name}/{split}/{n}", tuple(words), tuple(spans)))
    return Split(name, split, tuple(found))


def domain(name: str, types: dict[str, str], train: Split) -> Domain:
    kinds = {key: TypeCard(key, key, general) for key, general in types.items()}
    return Domain(Card(name, 1, "", "", "", {}, Format(), {}, kinds, (), Path(name)), train, None)


def save_words(folder: Path) -> Path:
    """Save a T5 of two layers whose sub-words are the words of these corpora, and return its folder."""
    plain = " ".join(FORMS).replace("{p}", "").replace("{f}", "").split()
    words = [*PEOPLE, *FIRMS, *plain, *TARGET, "miscellaneous", "Options:", "Sentence:", "none", ":", ";", "=>"]
    letters = sorted(set("".join(words)) | {","})
    pieces = list(dict.fromkeys(["<pad>", "</s>", "<unk>", "▁", *letters, *(f"▁{word}" for word in words)]))
    scores = [(piece, 0.0 if n < 3 else -1.0 if len(piece) > 2 else -20.0) for n, piece in enumerate(pieces)]
    T5Tokenizer(vocab=scores, extra_ids=0).save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(pieces), d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, decoder_start_token_id=0,
        dropout_rate=0.0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def score(tmp_path_factory):
    """Return a function from settings to strict F1 on people and firms that train never has: the mean of three seeds."""
    folder = tmp_path_factory.mktemp("conflict")
    backbone = str(save_words(folder / "words"))
    news = written("news", "train", 240, {"{p}": "person", "{f}": "organisation"}, PEOPLE, FIRMS)
    renamed = {"{p}": "politician", "{f}": "party"}
    polls = written("polls", "train", 8, renamed, PEOPLE[:4], FIRMS[:4])
    test = written("polls", "test", 60, renamed, PEOPLE[4:], FIRMS[4:])
    spec = Spec(("news",), "polls", select="last")
    transfer = Transfer(spec, (domain("news", SOURCE, news),), domain("polls", TARGET, polls), test.words_only())
    gold = [to_tags(len(s.words), s.spans or ()) for s in test.sentences]

    def of(**changed) -> float:
        small = {"decoding": "grounded", "instruction": False, "lr": 3e-3, "batch": 8, "precision": "32"}
        budget = {"source_epochs": 20, "source_batch": 16, "epochs": 5}
        settings = Settings(backbone=backbone, **{**small, **budget, **changed})
        return fmean(of_seed(settings, seed) for seed in (1, 2, 3))

    def of_seed(settings: Settings, seed: int) -> float:
        found = inprocess.run(Lar().plan(transfer, settings, seed), folder / "store")
        tags = [to_tags(len(s.words), p.spans) for s, p in zip(test.sentences, found, strict=True)]
        return strict_counts(gold, tags).all.f1

    return of


def test_reassignment_is_above_direct_transfer(score):
    """Five epochs of eight sentences: direct transfer still writes the source's names, and knows no new ones for most.

    Each source type has one target type here, so that enhanced inference needs nobody to choose. When this was written
    the seeds had 74, 85 and 79 F1 with it, 37, 7 and 66 by direct transfer, and 35, 47 and 51 by LAR's own direct
    inference.
    """
    assert score(reassign_with="embedding") > score(alignment="none", reassign_with="none") + 20
