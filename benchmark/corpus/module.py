"""Lightning data modules over Hugging Face `datasets`: words in, batches out.

A split is tokenized once and kept as an Arrow file. Batches hold sentences of like length and are padded to their
longest member; the same seed gives the same order. A sentence longer than the encoder takes becomes several
overlapping windows, which `join` puts together again.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from benchmark.corpus.corpus import Split

VERSION = 2  # rises when a change here could change a batch

POOL = 50  # batches that are sorted by length together


class Features(Protocol):
    """Turns the words of a sentence into windows of numbers, and windows into a batch (`benchmark.models`)."""

    identity: str

    def encode(self, words: Sequence[str]) -> list[dict[str, Any]]:
        """Return the windows of one sentence."""

    def collate(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return a batch padded to its longest member."""


def encoded(split: Split, features: Features, cache: Path | None = None) -> Dataset:
    """Return the windows of a split as a dataset, one row a window, tokenized once.

    Columns: `sentence` (its position in the split), `start` (its first word), `own` (the words that this window
    answers for), `ids` and `first` (numbers of the backbone). With `cache`, kept there as an Arrow file.
    """
    disable_progress_bar()
    words = {"sentence": range(len(split.sentences)), "words": [list(s.words) for s in split.sentences]}
    key = hashlib.sha256(f"{split.hash} {features.identity} {VERSION}".encode()).hexdigest()[:32]
    file = None
    if cache is not None:
        cache.mkdir(parents=True, exist_ok=True)
        file = str(cache / f"{key}.arrow")

    def rows(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {"sentence": [], "start": [], "own": [], "ids": [], "first": []}
        for number, sentence in zip(batch["sentence"], batch["words"], strict=True):
            for window in features.encode(sentence):
                found["sentence"].append(number)
                for column in ("start", "own", "ids", "first"):
                    found[column].append(window[column])
        return found

    if not split.sentences or not any(s.words for s in split.sentences):
        return Dataset.from_dict({"sentence": [], "start": [], "own": [], "ids": [], "first": []})
    return Dataset.from_dict(words).map(
        rows, batched=True, remove_columns=["words"], cache_file_name=file, new_fingerprint=key
    )


class BucketBatches(Sampler[list[int]]):
    """Batches of like length: shuffled, sorted within pools of `POOL` batches, cut, and the batches shuffled.

    Without a seed: longest first, in a fixed order. The order is a function of seed and epoch alone.

    given   batches of the present pass that were handed out
    skip    batches that the next pass leaves out at its start
    """

    def __init__(self, lengths: Sequence[int], size: int, seed: int | None) -> None:
        self.lengths, self.size, self.seed, self.epoch = list(lengths), size, seed, 0
        self.given = self.skip = 0

    @property
    def sampler(self) -> "BucketBatches":
        """Return this: Lightning tells the epoch to the sampler of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.size)

    def __iter__(self) -> Iterator[list[int]]:
        skip, self.skip = self.skip, 0
        for number, batch in enumerate(self._order(), start=1):
            self.given = number
            if number > skip:
                yield batch

    def _order(self) -> Iterator[list[int]]:
        if self.seed is None:
            order = sorted(range(len(self.lengths)), key=lambda i: -self.lengths[i])
            yield from (order[i : i + self.size] for i in range(0, len(order), self.size))
            return
        chance = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        shuffled = torch.randperm(len(self.lengths), generator=chance).tolist()
        pool = self.size * POOL
        order = [
            i
            for at in range(0, len(shuffled), pool)
            for i in sorted(shuffled[at : at + pool], key=lambda i: self.lengths[i])
        ]
        batches = [order[i : i + self.size] for i in range(0, len(order), self.size)]
        for i in torch.randperm(len(batches), generator=chance).tolist():
            yield batches[i]


class Batches(DataLoader[dict[str, Tensor]]):
    """A loader whose pass Lightning can take up in the middle; batches that were handed out are not loaded again."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], order: BucketBatches, **options: Any) -> None:
        super().__init__(rows, batch_sampler=order, **options)  # type: ignore[arg-type]
        self.order = order

    def state_dict(self) -> dict[str, int]:
        """Return how far the present pass is."""
        return {"given": self.order.given}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next pass begin where another was when it gave `state`."""
        self.order.skip = state["given"]


class NerModule(pl.LightningDataModule):
    """Train, dev and words to predict, for any model that reads `features`.

    train, dev, predict   splits, or None
    classes               maps a sentence to one class number a word; given with `train`
    batch                 windows a batch; `seed` fixes the order of training batches

    A batch is what `features.collate` returns, with `classes` (B, T), -100 at padding, and `rows`, the windows'
    positions in `windows(part)`.
    """

    def __init__(
        self,
        features: Features,
        *,
        train: Split | None = None,
        dev: Split | None = None,
        predict: Split | None = None,
        classes: Any = None,
        batch: int = 16,
        seed: int = 0,
        cache: Path | None = None,
    ) -> None:
        super().__init__()
        self.features, self.classes, self.batch, self.seed, self.cache = features, classes, batch, seed, cache
        self.splits = {"train": train, "dev": dev, "predict": predict}
        self._windows: dict[str, Dataset] = {}
        self._in_memory: dict[str, list[dict[str, Any]]] = {}
        self._classes: dict[str, list[list[int]]] = {}

    def windows(self, part: str) -> Dataset:
        """Return the windows of `train`, `dev` or `predict`."""
        split = self.splits[part]
        assert split is not None, part
        if part not in self._windows:
            self._windows[part] = encoded(split, self.features, self.cache)
            if part == "train":
                self._classes[part] = [self.classes(sentence) for sentence in split.sentences]
        return self._windows[part]

    def _rows(self, part: str) -> list[dict[str, Any]]:
        """Return the windows of a part in memory, numbered."""
        if part not in self._in_memory:
            self._in_memory[part] = [{**window, "row": row} for row, window in enumerate(self.windows(part))]
        return self._in_memory[part]

    def _collate(self, part: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        batch = self.features.collate(rows)
        batch["rows"] = torch.tensor([row["row"] for row in rows])
        if part == "train":
            longest = batch["words"].size(1)
            classes = torch.full((len(rows), longest), -100)
            for i, row in enumerate(rows):
                span = self._classes[part][row["sentence"]][row["start"] : row["start"] + len(row["first"])]
                classes[i, : len(span)] = torch.tensor(span)
            batch["classes"] = classes
        return batch

    def loader(self, part: str, *, seed: int | None) -> Batches:
        """Return batches of a part, shuffled by `seed`, or longest first."""
        rows = self._rows(part)
        return Batches(
            rows,
            BucketBatches([len(row["ids"]) for row in rows], self.batch, seed),
            collate_fn=lambda items: self._collate(part, items),
            pin_memory=torch.cuda.is_available(),
        )

    def train_dataloader(self) -> Batches:
        """Return training batches in the order that seed and epoch fix."""
        return self.loader("train", seed=self.seed)

    def val_dataloader(self) -> Batches | list[Any]:
        """Return dev batches, longest first; none where there is no dev."""
        return self.loader("dev", seed=None) if self.splits["dev"] is not None else []

    def predict_dataloader(self) -> Batches:
        """Return batches of the words to predict, longest first."""
        return self.loader("predict", seed=None)

    def join(self, part: str, answers: Mapping[int, Sequence[Any]], empty: Any) -> list[list[Any]]:
        """Put the answers of windows together, one list a sentence, one item a word.

        answers   window row -> one item a word of that window
        empty     stands for a word that no window answers for; there is none unless the sentence is empty
        """
        split = self.splits[part]
        assert split is not None, part
        joined: list[list[Any]] = [[empty] * len(s.words) for s in split.sentences]
        for row, window in enumerate(self._rows(part)):
            start, (own_start, own_end) = window["start"], window["own"]
            joined[window["sentence"]][own_start:own_end] = answers[row][own_start - start : own_end - start]
        return joined
