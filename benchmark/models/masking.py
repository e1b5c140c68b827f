"""Domain-adaptive pre-training (DAPT): an encoder goes on as a masked language model on text of a domain.

Paper    Gururangan et al., "Don't Stop Pretraining", 2020; span-level masks as Liu et al., "CrossNER", 2020, sec. 3.2
Masks    spans of whole words, their lengths geometric (mean `SPAN`, at most `LONGEST`), over `share` of all words; of
         the spans 80% become the mask token, 10% random sub-words, 10% stay, and all are to be predicted
Head     the backbone's own where its weights have one, else a fresh one over the tied embeddings
Memory   text is tokenized once into an Arrow file that is mapped, not read: a corpus may be larger than memory
Shapes   B windows, T words, L sub-words, D hidden size
"""

import hashlib
import json
from codecs import getincrementaldecoder
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from datasets import Dataset, List, Value, load_dataset
from datasets import Features as HubFeatures
from datasets.utils.logging import disable_progress_bar
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmark.corpus.corpus import Split
from benchmark.corpus.module import Batches, BucketBatches
from benchmark.errors import PlanError, nearest
from benchmark.models import backbones, training
from benchmark.models.backbones import Backbone, WordPieces
from benchmark.models.encoders import TransformerWords
from benchmark.models.tagging import Recipe
from benchmark.work import Work

VERSION = 1  # rises when a change here could change the weights

BLOCK = 2**16  # bytes of a text that are looked at before it is learned from
SPAN = 3.0  # words, mean length of a masked span before it is cut
LONGEST = 10  # words
ACTIONS = (0.8, 0.1)  # shares of the spans that are masked, and that become random sub-words


@dataclass(frozen=True)
class Text:
    """Text of a domain, pinned: a file by its hash, a dataset of the hub by its revision."""

    name: str
    identity: str
    path: str | None = None  # of a file; None: a dataset of the hub

    def ingredient(self) -> dict[str, str]:
        """Return what of this goes into a stage's key: never the folder."""
        return {"name": self.name, "identity": self.identity}

    def lines(self) -> Iterator[str]:
        """Yield the text, a line or a row at a time."""
        if self.path is not None:
            try:
                with Path(self.path).open(encoding="utf8") as stream:
                    yield from stream
            except UnicodeDecodeError as error:
                raise PlanError(f"{self.path}: {not_text(error)}") from None
            return
        repository, _, more = self.name.partition(":")
        split, _, column = more.partition(":")
        rows = load_dataset(
            repository, split=split or "train", revision=self.identity, streaming=True, trust_remote_code=False
        )
        for row in rows:
            yield str(row[column or "text"])


def find_text(name: str, setting: str = "dapt", words: Sequence[str] = ("target", "published")) -> Text:
    """Return the text called `name`: a file, one sentence or paragraph a line; or `owner/dataset[:split[:column]]`.

    setting, words   who asks, and what else may stand there
    Raises PlanError where there is neither, or the file is empty or no text.
    """
    path = Path(name).expanduser()
    if path.is_file():
        _look(path, setting)
        with path.open("rb") as stream:
            return Text(path.name, hashlib.file_digest(stream, "sha256").hexdigest(), str(path.resolve()))
    repository = name.partition(":")[0]
    if path.suffix or repository.count("/") != 1 or repository.startswith((".", "/", "~")):
        raise PlanError(
            f"{setting}: there is no text file {name!r}, and it is no dataset of the hub (owner/name)."
            f"{nearest(name, words)} It may also be {' or '.join(words)}."
        )
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        revision = HfApi().dataset_info(repository, timeout=10).sha
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise PlanError(
            f"{setting}: {name!r} is no file, and the hub did not give it as a dataset ({type(error).__name__})."
        ) from None
    return Text(name, str(revision))


def _look(path: Path, setting: str) -> None:
    """Raise PlanError where a file's first block is nothing to learn from."""
    if path.suffix.lower() in (".json", ".jsonl", ".gz", ".zip", ".bz2", ".xz"):
        raise PlanError(f"{setting}: {path} is a {path.suffix} file; expected plain text, one sentence a line.")
    with path.open("rb") as stream:
        block = stream.read(BLOCK)
    try:
        found = getincrementaldecoder("utf8")().decode(block, final=len(block) < BLOCK)
    except UnicodeDecodeError as error:
        raise PlanError(f"{setting}: {path}: {not_text(error)}") from None
    if "\0" in found:
        raise PlanError(f"{setting}: {path} is a binary file; expected plain text, one sentence a line.")
    if not found.strip() and len(block) < BLOCK:
        raise PlanError(f"{setting}: {path} is empty; expected plain text, one sentence a line.")


def not_text(error: UnicodeDecodeError) -> str:
    """Return what to say of a file that is no UTF-8."""
    return f"the text is not UTF-8 (it has the byte 0x{error.object[error.start]:02x}); convert it, say with iconv."


def windows(texts: Sequence[Split], text: Text | None, features: WordPieces, cache: Path | None = None) -> Dataset:
    """Return the windows of some text, a row each: `ids` (sub-words), `first` (where each word starts), `length`."""
    disable_progress_bar()
    about = [features.identity, VERSION, [s.hash for s in texts], text and text.ingredient()]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]

    def rows() -> Iterator[dict[str, Any]]:
        for words in sentences(texts, text):
            for window in features.encode(words):
                yield {"ids": window["ids"], "first": window["first"], "length": len(window["ids"])}

    shape = {"ids": List(Value("int64")), "first": List(Value("int64")), "length": Value("int64")}
    if cache is None:
        return Dataset.from_list(list(rows()), features=HubFeatures(shape))
    found: Dataset = Dataset.from_generator(
        rows, features=HubFeatures(shape), cache_dir=str(cache / "text"), fingerprint=key
    )
    return found


def sentences(texts: Sequence[Split], text: Text | None) -> Iterator[list[str]]:
    """Yield the words of every sentence, of text those between blanks; empty ones are left out."""
    for split in texts:
        yield from (list(s.words) for s in split.sentences if s.words)
    for line in text.lines() if text is not None else ():
        words = line.split()
        if words:
            yield words


# ---------------------------------------------------------------------------------------------------------- masks


def masked_words(words: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Choose spans of words, and what becomes of each.

    words     (B, T)   where there is a word
    share     of the words that are covered, about
    returns   (B, T) whether a word is covered; (B, T) its span's lot, a number from 0 to 1. At least one word a row is
    """
    shape, device = words.shape, words.device
    lengths = torch.empty(shape, device=device).geometric_(1 / SPAN).clamp(max=LONGEST)
    starts = (torch.rand(shape, device=device) < share / SPAN) & words
    lot = torch.rand(shape, device=device)
    covered, chosen = torch.zeros_like(words), torch.zeros(shape, device=device)
    for back in range(min(LONGEST, shape[1])):  # a span that began `back` words ago
        reaches = (starts & (lengths > back))[:, : shape[1] - back]
        covered[:, back:] |= reaches
        chosen[:, back:] = torch.where(reaches, lot[:, : shape[1] - back], chosen[:, back:])
    covered &= words
    lonely = ~covered.any(1)
    any_word = (torch.rand(shape, device=device) * words).argmax(1)
    covered[lonely, any_word[lonely]] = True
    chosen[lonely, any_word[lonely]] = lot[lonely, any_word[lonely]]
    return covered & words, chosen


def owners(first: Tensor, words: Tensor, ids: Tensor, mask: Tensor, suffix: int) -> Tensor:
    """Return which word each sub-word belongs to (B, L); -1 for what the tokenizer adds, and for padding.

    suffix   sub-words that the tokenizer puts behind a sequence
    """
    marks = torch.zeros_like(ids)
    marks.scatter_add_(1, first, words.long())
    owner = marks.cumsum(1) - 1
    length = mask.sum(1, keepdim=True) - suffix
    return owner.masked_fill(torch.arange(ids.size(1), device=ids.device) >= length, -1)


class MaskedLanguageModel(training.Learner):
    """An encoder and a head over the vocabulary, trained to predict masked words."""

    def __init__(self, model: Any, features: WordPieces, *, share: float) -> None:
        super().__init__()
        self.encoder = TransformerWords(model.base_model)
        self.head = head_of(model)
        self.features, self.share = features, share

    def masked(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return sub-words with some hidden (B, L), and where those stand that are to be predicted (B, L)."""
        ids, tokenizer = batch["ids"], self.features.tokenizer
        covered, lot = masked_words(batch["words"], self.share)
        owner = owners(batch["first"], batch["words"], ids, batch["mask"], len(self.features.suffix))
        hidden = covered.gather(1, owner.clamp(min=0)) & (owner >= 0)
        fate = lot.gather(1, owner.clamp(min=0))
        noise = torch.randint(len(tokenizer), ids.shape, device=ids.device)
        put = torch.where(fate < ACTIONS[0], tokenizer.mask_token_id, noise)
        return torch.where(hidden & (fate < sum(ACTIONS)), put, ids), hidden

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """Return the mean loss of a masked sub-word."""
        ids, hidden = self.masked(batch)
        states = self.encoder.model(input_ids=ids, attention_mask=batch["mask"].long()).last_hidden_state
        return cross_entropy(self.head(states[hidden]).float(), batch["ids"][hidden])


def head_of(model: Any) -> nn.Module:
    """Return the part of a masked language model that turns a state into scores of the vocabulary."""
    for name in ("cls", "lm_head"):
        if hasattr(model, name):
            head: nn.Module = getattr(model, name)
            return head
    raise PlanError(f"{type(model).__name__} has no head that cdner knows; DAPT works with BERT's and RoBERTa's kind.")


class TextModule(pl.LightningDataModule):
    """Windows of text in training batches, in an order that seed and epoch fix."""

    def __init__(self, rows: Dataset, features: WordPieces, *, batch: int, seed: int) -> None:
        super().__init__()
        self.rows, self.features, self.batch, self.seed = rows, features, batch, seed

    def train_dataloader(self) -> Batches:
        """Return the batches."""
        return Batches(
            self.rows,
            BucketBatches(list(self.rows["length"]), self.batch, self.seed),
            collate_fn=self.features.collate,
            pin_memory=torch.cuda.is_available(),
        )


def adapt(
    work: Work,
    *,
    backbone: Backbone,
    texts: Sequence[Split],
    text: Text | None,
    recipe: Recipe,
    share: float,
    seed: int,
) -> None:
    """Train an encoder on as a masked language model, and write it as `encoder.safetensors`.

    texts   splits whose words are text
    text    other text; None: there is none
    share   of the words that are masked
    Raises PlanError where there is no text, or the backbone has no sub-words to mask.
    """
    from transformers import AutoModelForMaskedLM
    from transformers.utils import logging

    training.prepare(seed, work.threads)
    features = backbones.features(backbone)
    if not isinstance(features, WordPieces) or features.tokenizer.mask_token_id is None:
        raise PlanError(f"the backbone {backbone.name!r} has no mask token, so it cannot be pre-trained on text.")
    if next(sentences(texts, text), None) is None:
        raise PlanError("dapt: the text is empty.")
    rows = windows(texts, text, features, work.cache)
    where, options = backbones.where_of(backbone)
    logging.set_verbosity_error()  # type: ignore[no-untyped-call] # that a head is fresh is no news
    model = AutoModelForMaskedLM.from_pretrained(where, use_safetensors=True, dtype=torch.float32, **options)
    module = MaskedLanguageModel(model, features, share=share)
    data = TextModule(rows, features, batch=recipe.batch, seed=seed)
    fitted = module.learn(data, work, recipe)
    weights = {name: value.contiguous().cpu() for name, value in module.encoder.state_dict().items()}
    save_file(weights, work.folder / "encoder.safetensors")
    (work.folder / "about.json").write_text(json.dumps({"precision": fitted.precision}), encoding="utf8")
