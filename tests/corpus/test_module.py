"""Batches of like length, tokenized once, and windows that are put together again."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.module import BucketBatches, NerModule, encoded
from benchmark.models import training
from benchmark.models.backbones import HashedWords
from benchmark.score.spans import Span
from benchmark.work import Work

LENGTHS = st.lists(st.integers(1, 60), max_size=80)


def split(*lengths: int, name: str = "train") -> Split:
    """Return a split of sentences of these lengths; every word of it is another one."""
    return Split(
        "harbour",
        name,
        tuple(
            Sentence(f"harbour/{name}/{n}", tuple(f"w{n}.{i}" for i in range(length)), ())
            for n, length in enumerate(lengths)
        ),
    )


def features(room: int = 1024) -> HashedWords:
    found = HashedWords()
    found.room = room
    return found


# ---------------------------------------------------------------------------------------------- the order of batches


@given(LENGTHS, st.integers(1, 9), st.none() | st.integers(0, 3), st.integers(0, 3))
def test_every_row_stands_in_one_batch_of_an_epoch(lengths, size, seed, epoch):
    sampler = BucketBatches(lengths, size, seed)
    sampler.set_epoch(epoch)
    batches = list(sampler)

    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= size for batch in batches)
    assert len(batches) == len(sampler)


@given(LENGTHS, st.integers(1, 9), st.integers(0, 3), st.integers(0, 3))
def test_seed_and_epoch_fix_the_order(lengths, size, seed, epoch):
    one, other = BucketBatches(lengths, size, seed), BucketBatches(lengths, size, seed)
    for sampler in (one, other):
        sampler.set_epoch(epoch)
    list(one)

    assert list(one) == list(other)


def test_another_seed_or_epoch_is_another_order():
    lengths = [n % 7 + 1 for n in range(40)]
    orders = []
    for seed, epoch in ((1, 0), (2, 0), (1, 1), (2, 1)):
        sampler = BucketBatches(lengths, 4, seed)
        sampler.set_epoch(epoch)
        orders.append(list(sampler))

    assert all(one != other for i, one in enumerate(orders) for other in orders[:i])


@given(LENGTHS, st.integers(1, 9), st.none() | st.integers(0, 3))
def test_batches_of_one_pool_hold_sentences_of_like_length(lengths, size, seed):
    batches = [sorted(lengths[row] for row in batch) for batch in BucketBatches(lengths, size, seed)]
    batches.sort()

    assert all(one[-1] <= other[0] for one, other in itertools.pairwise(batches))


def test_without_a_seed_the_longest_come_first_and_equals_in_their_order():
    assert list(BucketBatches([2, 5, 2, 9], 2, None)) == [[3, 1], [0, 2]]


class Listener(pl.LightningModule):
    """Writes down the rows of every batch, by epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.heard: dict[int, list[list[int]]] = {}

    def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        self.heard.setdefault(self.current_epoch, []).append(batch["rows"].tolist())
        return self.weight * 1.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def heard(tmp_path: Path, seed: int) -> dict[int, list[list[int]]]:
    listener = Listener()
    data = NerModule(features(), train=split(*([3] * 24)), classes=lambda s: [0] * len(s.words), batch=4, seed=seed)
    training.prepare(seed, 1)
    training.fit(listener, data, Work(tmp_path), epochs=3, precision="32")
    return listener.heard


def test_every_epoch_of_a_training_has_an_order_of_its_own(tmp_path):
    first, second, third = heard(tmp_path, 1).values()

    assert first != second != third != first


def test_the_seed_of_the_module_fixes_the_order_of_a_training(tmp_path):
    assert heard(tmp_path, 1) == heard(tmp_path, 1) != heard(tmp_path, 2)


# ---------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("part", ["train", "dev", "predict"])
def test_a_batch_is_padded_to_its_longest_member(part):
    lengths = [3, 1, 7, 2, 5, 4, 6]
    data = NerModule(features(), **{part: split(*lengths)}, classes=lambda s: [0] * len(s.words), batch=2)

    for batch in data.loader(part, seed=1):
        own = [lengths[row] for row in batch["rows"].tolist()]
        assert batch["ids"].shape == (len(own), max(own), 4)
        assert batch["words"].sum(1).tolist() == own


def test_rows_that_are_asked_for_twice_are_the_same():
    data = NerModule(features(), predict=split(3, 1, 7, 2, 5), batch=2)
    one, other = ([b["rows"].tolist() for b in data.predict_dataloader()] for _ in range(2))

    assert one == other == [[2, 4], [0, 3], [1]]


def test_without_dev_there_are_no_dev_batches():
    assert NerModule(features(), predict=split(1)).val_dataloader() == []


def test_only_training_batches_carry_classes():
    data = NerModule(features(), train=split(2, 1), dev=split(2), classes=lambda s: list(range(len(s.words))))

    [train], [dev] = data.loader("train", seed=None), data.loader("dev", seed=None)

    assert train["classes"].tolist() == [[0, 1], [0, -100]]
    assert "classes" not in dev


def test_classes_stand_at_their_words_in_every_window_of_a_long_sentence():
    long = Sentence("harbour/train/0", tuple(f"w{i}" for i in range(23)), (Span(4, 6, "port"),))
    data = NerModule(
        features(room=8),
        train=Split("harbour", "train", (Sentence("harbour/train/1", ("rain",), ()), long)),
        classes=lambda s: [len(s.words) * 100 + i for i in range(len(s.words))],
        batch=3,
    )
    windows = data.windows("train")
    seen = set()
    for batch in data.loader("train", seed=4):
        for row, classes, mask in zip(batch["rows"].tolist(), batch["classes"], batch["words"], strict=True):
            start, length = windows[row]["start"], len(windows[row]["first"])
            base = 2300 if windows[row]["sentence"] == 1 else 100
            assert classes[:length].tolist() == [base + start + i for i in range(length)]
            assert set(classes[length:].tolist()) <= {-100}
            assert mask.sum() == length
            seen.update(classes[:length].tolist())

    assert seen == {100, *range(2300, 2323)}


# ---------------------------------------------------------------------------------------------- tokenized once


class Counting(HashedWords):
    """Hashed words that can be told to do no more."""

    done = False

    def encode(self, words: Any) -> list[dict[str, Any]]:
        assert not self.done, "these words were encoded already"
        return super().encode(words)


def test_a_split_is_encoded_once_for_all_who_share_a_cache(tmp_path):
    first, second = Counting(), Counting()
    second.done = True

    rows = encoded(split(3, 1), first, tmp_path / "cache").to_list()

    assert encoded(split(3, 1), second, tmp_path / "cache").to_list() == rows
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".arrow"]


@pytest.mark.parametrize("change", ["words", "identity"])
def test_other_words_or_another_tokenizer_are_encoded_anew(tmp_path, change):
    encoded(split(3, 1), Counting(), tmp_path)
    other = Counting()
    other.done = True
    if change == "identity":
        other.identity = "hashed/other"

    with pytest.raises(AssertionError, match="these words were encoded already"):
        encoded(split(3, 1) if change == "identity" else split(3, 2), other, tmp_path)


def test_a_module_encodes_a_part_once_without_a_cache():
    counting = Counting()
    data = NerModule(counting, predict=split(3, 1), batch=1)
    before = [b["rows"].tolist() for b in data.predict_dataloader()]
    counting.done = True

    assert [b["rows"].tolist() for b in data.predict_dataloader()] == before


# ---------------------------------------------------------------------------------------------- joining


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 30), max_size=6), st.integers(1, 9))
def test_windows_join_to_one_answer_a_word(lengths, room):
    words = split(*lengths, name="test")
    data = NerModule(features(room), predict=words)
    answers = {
        row: list(words.sentences[w["sentence"]].words[w["start"] : w["start"] + len(w["first"])])
        for row, w in enumerate(data.windows("predict"))
    }

    assert data.join("predict", answers, empty=None) == [list(s.words) for s in words.sentences]


def test_a_word_in_two_windows_is_answered_where_it_stands_nearer_the_middle():
    data = NerModule(features(room=4), predict=split(8))
    answers = {row: [row] * len(w["first"]) for row, w in enumerate(data.windows("predict"))}

    assert data.join("predict", answers, empty=None) == [[0, 0, 0, 0, 1, 1, 1, 2]]


@pytest.mark.parametrize("lengths", [(), (0,), (0, 0)])
def test_a_split_without_words_has_no_windows(tmp_path, lengths):
    data = NerModule(features(), predict=split(*lengths), cache=tmp_path)

    assert list(data.predict_dataloader()) == []
    assert data.join("predict", {}, empty="O") == [[] for _ in lengths]
