"""Masked span language modelling (MSLM): a text-to-text model goes on pre-training by filling in what is hidden.

Paper    Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", 2020,
         section 3.1.4: sentinels, one a span; TOPT section 3.2, eq. 3 and 4: `count` masks a text, each word hidden
         with the same probability, independently of the others
Input    the text, a sentinel in the place of each span of hidden words
Target   every sentinel, and behind it what it hides; then the sub-word that ends a text
`marked` the authors' code of TOPT: a text's first mask hides the words that its split marks, where it marks any
Merge    `merge`: the weighted sum of the parameters of models (TOPT eq. 7, algorithm 1)
Memory   text is tokenized once into an Arrow file that is mapped; a mask is drawn when its batch is
Shapes   T words of a text, L sub-words
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from datasets import Dataset, List, Value
from datasets import Features as HubFeatures
from datasets.utils.logging import disable_progress_bar

from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.module import Batches, BucketBatches
from benchmark.errors import PlanError
from benchmark.models import training
from benchmark.models.backbones import Backbone
from benchmark.models.masking import Text
from benchmark.models.tagging import Recipe
from benchmark.models.text2text import Prompting, Row, TextModel, Texts, bare, load, save
from benchmark.work import Work

VERSION = 1  # rises when a change here could change the weights

SENTINELS = ("<extra_id_{}>", "[unused{}]")  # T5's, and what BERT's vocabulary leaves free
MOST = 100  # sentinels


@dataclass(frozen=True)
class Masks:
    """How texts are hidden.

    count    masks a text
    share    probability that a word is hidden
    marked   whether a text's first mask hides the words that it marks
    """

    count: int
    share: float
    marked: bool

    def ingredient(self) -> dict[str, Any]:
        """Return what goes into a stage's key."""
        return dict(vars(self))

    def hidden(self, words: int, marks: Sequence[int], row: int, number: int, seed: int) -> np.ndarray:
        """Return which words of a text one of its masks hides (T,): at least one, and the same each time.

        marks   places of the words that the text marks
        """
        if self.marked and number == 0 and marks:
            return np.isin(np.arange(words), marks)
        dice = np.random.default_rng((seed, row, number))
        found = dice.random(words) < self.share
        if not found.any():
            found[dice.integers(words)] = True
        return found


def sentinels(tokenizer: Any) -> list[int]:
    """Return the sub-words that may stand for what is hidden, in their order. Raises PlanError where there are none."""
    for shape in SENTINELS:
        ids = (tokenizer.convert_tokens_to_ids(shape.format(n)) for n in range(MOST))
        found = list(takewhile(lambda id: id is not None and id != tokenizer.unk_token_id, ids))
        if found:
            return found
    raise PlanError("the tokenizer has no sentinels (<extra_id_0>, or [unused0]), so no span can be masked.")


def hide(pieces: Sequence[Sequence[int]], hidden: Sequence[bool], marks: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return a text with its hidden spans as sentinels, and the spans behind their sentinels.

    pieces   sub-words of each word
    marks    sentinels; hidden spans that are more than these stay as they are

    >>> hide([[5], [6, 7], [8], [9]], [False, True, True, False], [100, 101])
    ([5, 100, 9], [100, 6, 7, 8])
    """
    text: list[int] = []
    target: list[int] = []
    used, before = 0, False
    for piece, is_hidden in zip(pieces, hidden, strict=True):
        now = bool(is_hidden) and (before or used < len(marks))
        if now and not before:
            text.append(marks[used])
            target.append(marks[used])
            used += 1
        (target if now else text).extend(piece)
        before = now
    return text, target


def filled(text: Sequence[int], target: Sequence[int], marks: Sequence[int]) -> list[int]:
    """Return the text that `hide` has hidden.

    >>> filled([5, 100, 9], [100, 6, 7, 8], [100, 101])
    [5, 6, 7, 8, 9]
    """
    known = set(marks)
    spans: dict[int, list[int]] = {}
    here: list[int] = []
    for id in target:
        if id in known:
            spans[id] = here = []
        else:
            here.append(id)
    return [one for id in text for one in spans.get(id, [id])]


# ------------------------------------------------------------------------------------------------------ the data


class MaskedTexts:
    """Every mask of every window of some text, a row each, drawn when it is asked for."""

    def __init__(self, windows: Dataset, texts: Texts, masks: Masks, seed: int) -> None:
        self.windows, self.texts, self.masks, self.seed = windows, texts, masks, seed
        self.sentinels = sentinels(texts.tokenizer)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.windows) * self.masks.count

    def __getitem__(self, at: int) -> Row:
        """Return a row."""
        number, mask = divmod(at, self.masks.count)
        window = self.windows[number]
        prefix, suffix = self.texts.features.prefix, self.texts.features.suffix
        bounds = [*window["first"], len(window["ids"]) - len(suffix)]
        pieces = [window["ids"][a:b] for a, b in pairwise(bounds)]
        hidden = self.masks.hidden(len(pieces), window["marks"], number, mask, self.seed).tolist()
        ids, target = hide(pieces, hidden, self.sentinels)
        return Row(number, 0, (0, 0), [], [*prefix, *ids, *suffix], 0, [*target, self.texts.end][: self.texts.whole])

    @property
    def lengths(self) -> list[int]:
        """The sub-words of each row, before anything is hidden."""
        return [length for length in self.windows["length"] for _ in range(self.masks.count)]


def windowed(splits: Sequence[Split], text: Text | None, texts: Texts, cache: Path | None) -> Dataset:
    """Return the windows of some text, a row each: `ids`, `first` (where each word starts), `marks`, `length`."""
    disable_progress_bar()
    about = [texts.features.identity, VERSION, [s.hash for s in splits], text and text.ingredient()]

    def rows() -> Iterator[dict[str, Any]]:
        for words, marks in _marked(splits, text):
            for window in texts.features.encode(words):
                inside = range(window["start"], window["start"] + len(window["first"]))
                yield {
                    "ids": window["ids"],
                    "first": window["first"],
                    "marks": [place - window["start"] for place in marks if place in inside],
                    "length": len(window["ids"]),
                }

    numbers = List(Value("int64"))
    shape = HubFeatures({"ids": numbers, "first": numbers, "marks": numbers, "length": Value("int64")})
    if cache is None:
        return Dataset.from_list(list(rows()), features=shape)
    key = sha256(json.dumps(about).encode()).hexdigest()[:32]
    found: Dataset = Dataset.from_generator(rows, features=shape, cache_dir=str(cache / "spans"), fingerprint=key)
    return found


def _marked(splits: Iterable[Split], text: Text | None) -> Iterator[tuple[list[str], list[int]]]:
    """Yield the words of every text and the places of those that it marks; empty ones are left out."""
    sentences: Iterator[Sentence] = (s for split in splits for s in split.sentences)
    for sentence in sentences:
        if sentence.words:
            marks = [place for span in sentence.spans or () for place in range(span.start, span.end)]
            yield list(sentence.words), marks
    for line in text.lines() if text is not None else ():
        if words := line.split():
            yield words, []


class MaskedModule(pl.LightningDataModule):
    """Masked texts in training batches of like length, in an order that seed and epoch fix."""

    def __init__(self, rows: MaskedTexts, *, batch: int, seed: int) -> None:
        super().__init__()
        self.rows, self.batch, self.seed = rows, batch, seed

    def train_dataloader(self) -> Batches:
        """Return the batches."""
        return Batches(
            self.rows,  # type: ignore[arg-type]
            BucketBatches(self.rows.lengths, self.batch, self.seed),
            collate_fn=self.rows.texts.collate,
            pin_memory=torch.cuda.is_available(),
        )


# ------------------------------------------------------------------------------------------------------ the steps


def pretrain(
    work: Work,
    *,
    backbone: Backbone,
    texts: Sequence[Split],
    text: Text | None,
    masks: Masks,
    recipe: Recipe,
    seed: int,
) -> None:
    """Train a text-to-text model on as a masked span language model, and write it as `train_text2text` does.

    texts   splits whose words are text, and whose spans mark words
    text    other text; None: there is none
    Raises PlanError where there is no text, or the backbone has no sentinels.
    """
    training.prepare(seed, work.threads)
    read = Texts(backbone, Prompting("topt", instruction=False))
    if next(_marked(texts, text), None) is None:
        raise PlanError("masked spans: the text is empty.")
    rows = MaskedTexts(windowed(texts, text, read, work.cache), read, masks, seed)
    model = TextModel(bare(backbone))
    fitted = model.learn(MaskedModule(rows, batch=recipe.batch, seed=seed), work, recipe)
    save(model.net, work.folder, backbone, {"masks": masks.ingredient()})
    (work.folder / "about.json").write_text(json.dumps({"precision": fitted.precision}), encoding="utf8")


def merge(work: Work, *, models: Sequence[Path], weights: Sequence[float]) -> None:
    """Write the text-to-text model whose parameters are the weighted sum of those of some models.

    weights   one a model; they need not sum to 1
    """
    nets, backbone = [], None
    for folder in models:
        net, backbone = load(folder)
        nets.append(net)
    assert backbone is not None
    merged = dict(nets[0].named_parameters())
    parts: list[Mapping[str, torch.Tensor]] = [dict(net.named_parameters()) for net in nets]
    with torch.no_grad():
        for name, parameter in merged.items():
            total = sum(part[name].double() * weight for part, weight in zip(parts, weights, strict=True))
            assert isinstance(total, torch.Tensor)
            parameter.copy_(total.to(parameter.dtype))
    save(nets[0], work.folder, backbone, {"weights": list(weights)})
