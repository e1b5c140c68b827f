"""The tagger that several methods train: a word encoder, a linear head, a CRF if asked.

Two steps: `train_tagger` makes a model out of splits, from pre-trained weights or from another tagger;
`tag` predicts words. Labels are type identities: a label that both models know keeps its rows of the head.
Shapes: B sentences, T words, D hidden size, K tags (O, and B- and I- of every type).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchcrf import CRF

from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.module import NerModule
from benchmark.errors import PlanError
from benchmark.models import backbones, training
from benchmark.models.backbones import Backbone
from benchmark.score.protocols import Prediction, strict_counts, write_predictions
from benchmark.score.spans import from_tags, to_tags
from benchmark.work import Work

VERSION = 1  # rises when a change here could change a prediction

MASKED = -1e4  # the score of a tag that may not be predicted


@dataclass(frozen=True)
class Recipe:
    """How to train one stage of a tagger."""

    epochs: int
    lr: float = 5e-5
    head_lr: float | None = None  # None: lr
    batch: int = 16
    warmup: float = 0.0  # share of all steps
    schedule: str = "constant"  # or linear
    weight_decay: float = 0.01
    clip: float | None = None
    patience: int | None = None  # epochs without a better dev F1
    dev_every: int = 1  # epochs between two looks at dev
    class_weights: str = "none"  # or inverse: a class weighs by its inverse frequency in train
    o_weight: float = 1.0  # times the weight of O
    precision: str = "auto"

    def ingredient(self) -> dict[str, Any]:
        """Return what goes into a stage's key."""
        return dict(vars(self))

    @staticmethod
    def check(settings: Any, *, counts: Sequence[str] = (), amounts: Sequence[str] = ()) -> None:
        """Raise ValueError for settings of training that mean nothing.

        counts    names of more settings that are at least 1
        amounts   names of more settings that are above 0, or None
        """
        for name in ("source_epochs", "epochs", "batch", "dev_every", *counts):
            if getattr(settings, name) < 1:
                raise ValueError(f"{name} must be at least 1; found {getattr(settings, name)}.")
        for name in ("lr", "source_lr", "source_batch", "patience", "clip", *amounts):
            value = getattr(settings, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0; found {value}.")
        if not 0 <= settings.warmup < 1:
            raise ValueError(f"warmup is a share of all steps, at least 0 and under 1; found {settings.warmup}.")

    @classmethod
    def of(cls, settings: Any, *, source: bool, selects: bool) -> "Recipe":
        """Return how one stage is trained, by a method's settings; without a dev split to select on, no patience.

        Settings and recipe go by the same names. What the settings lack has its default here; a source stage has
        `source_epochs`, and `source_lr` and `source_batch` where they are set.
        """
        told = {f.name: getattr(settings, f.name) for f in fields(cls) if hasattr(settings, f.name)}
        if source:
            told |= {"epochs": settings.source_epochs, "lr": settings.source_lr or settings.lr}
            told |= {"batch": settings.source_batch or settings.batch}
        if not selects:
            told |= {"patience": None, "dev_every": 1}
        return cls(**told)


def tags_of(types: Sequence[str]) -> list[str]:
    """Return the tags of a list of types, O first.

    >>> tags_of(["task"])
    ['O', 'B-task', 'I-task']
    """
    return ["O", *(f"{prefix}-{name}" for name in types for prefix in "BI")]


class TaggerModel(training.Learner):
    """A word encoder, a linear head over K tags, and a CRF if asked (BERT-TAGGER and BERT-CRF of laner.md, table 3)."""

    def __init__(self, encoder: nn.Module, types: Sequence[str], *, crf: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.types = list(types)
        self.tags = tags_of(types)
        self.head = nn.Linear(int(encoder.width), len(self.tags))  # type: ignore[arg-type]
        self.crf = CRF(len(self.tags), batch_first=True) if crf else None
        self.recipe = Recipe(epochs=1)
        self.weights: Tensor | None = None
        self.steps = 1

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the scores of every tag (B, T, K)."""
        scores: Tensor = self.head(self.encoder(batch))
        return scores.float()

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """Return the mean loss of a word; with a CRF, the negative log-likelihood of a sentence a word."""
        scores, classes = self(batch), batch["classes"]
        if self.crf is None:
            return cross_entropy(scores.flatten(0, 1), classes.flatten(), weight=self.weights, ignore_index=-100)
        with torch.autocast(scores.device.type, enabled=False):
            likelihood: Tensor = self.crf(scores, classes.clamp(min=0), mask=batch["words"], reduction="token_mean")
        return -likelihood

    @torch.inference_mode()
    def decode(
        self, data: NerModule, part: str, *, precision: str, allowed: Sequence[str] | None = None
    ) -> list[list[str]]:
        """Return one tag a word for every sentence of a part of `data`.

        allowed   the types that may be predicted; None: all that the head knows
        """
        answers: dict[int, list[str]] = {}
        for batch, scores, _ in self.scored(data, part, precision, allowed):
            best = scores.argmax(-1).tolist() if self.crf is None else self.crf.decode(scores, mask=batch["words"])
            for row, numbers, length in zip(batch["rows"].tolist(), best, batch["words"].sum(1).tolist(), strict=True):
                answers[row] = [self.tags[number] for number in numbers[:length]]
        return data.join(part, answers, "O")

    def doubts(
        self, data: NerModule, part: str, *, precision: str, allowed: Sequence[str] | None = None
    ) -> list[list[tuple[float, float]]]:
        """Return how unsure the model is of every word: entropy (bits) and summed surprisal (nats) of its tag.

        Both are of the probabilities of the tags that may be predicted, which add up to 1; with a CRF, its marginals.
        Gravil et al., section 3.2. K tags have an entropy of at most log2 K, and a surprisal of at least K ln K.
        """
        answers: dict[int, list[tuple[float, float]]] = {}
        for batch, scores, usable in self.scored(data, part, precision, allowed):
            shares = self.marginals(scores, batch["words"])[..., usable].double().clamp(min=1e-12)  # (B, T, K)
            entropy = (-shares * shares.log2()).sum(-1).clamp(min=0.0)
            surprisal = -shares.log().sum(-1)
            lengths = batch["words"].sum(1).tolist()
            for row, *both, length in zip(batch["rows"].tolist(), entropy.tolist(), surprisal.tolist(), lengths,
                                          strict=True):  # fmt: skip
                answers[row] = list(zip(*(values[:length] for values in both), strict=True))
        return data.join(part, answers, (0.0, 0.0))

    def marginals(self, scores: Tensor, words: Tensor) -> Tensor:
        """Return the probability of each tag at each word (B, T, K), from scores (B, T, K) and what is a word (B, T).

        Those of a CRF are the gradient of its log-partition by the scores, so one tagging's score minus log-likelihood.
        """
        if self.crf is None:
            return scores.softmax(-1)
        with torch.enable_grad():
            leaves = scores.detach().clone().requires_grad_()
            tags = torch.zeros(scores.shape[:2], dtype=torch.long, device=scores.device)
            likelihood = self.crf(leaves, tags, mask=words, reduction="sum")
            [slope] = torch.autograd.grad(likelihood, leaves)
        return nn.functional.one_hot(tags, scores.size(-1)) * words[..., None] - slope

    def scored(
        self, data: NerModule, part: str, precision: str, allowed: Sequence[str] | None
    ) -> Iterator[tuple[dict[str, Tensor], Tensor, Tensor]]:
        """Yield the batches of a part, the scores of every tag (B, T, K), and which tags may be predicted (K)."""
        self.eval()
        device = backbones.device()
        self.to(device)
        known = set(self.types if allowed is None else allowed)
        usable = torch.tensor([tag == "O" or tag[2:] in known for tag in self.tags], device=device)
        for batch in data.loader(part, seed=None):
            batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
            with torch.no_grad(), training.autocast(precision):
                scores = self(batch)
            yield batch, scores.masked_fill(~usable, MASKED), usable

    def take_over(self, other: "TaggerModel") -> list[str]:
        """Copy the encoder of `other`, and the rows of every tag that both know. Returns the types taken over."""
        self.encoder.load_state_dict(other.encoder.state_dict())
        shared = [(i, other.tags.index(tag)) for i, tag in enumerate(self.tags) if tag in other.tags]
        here, there = torch.tensor(shared).T
        with torch.no_grad():
            self.head.weight[here] = other.head.weight[there]
            self.head.bias[here] = other.head.bias[there]
            if self.crf is not None and other.crf is not None:
                self.crf.start_transitions[here] = other.crf.start_transitions[there]
                self.crf.end_transitions[here] = other.crf.end_transitions[there]
                self.crf.transitions[here[:, None], here] = other.crf.transitions[there[:, None], there]
        return [name for name in self.types if name in other.types]

    def save(self, folder: Path, backbone: Backbone, extra: Mapping[str, Any]) -> None:
        """Write weights and description into a folder."""
        save_file(
            {name: value.contiguous().cpu() for name, value in self.state_dict().items()}, folder / "model.safetensors"
        )
        about = {"backbone": asdict(backbone), "types": self.types, "crf": self.crf is not None, **extra}
        (folder / "model.json").write_text(json.dumps(about, indent=1), encoding="utf8")

    @classmethod
    def load(cls, folder: Path) -> tuple["TaggerModel", Backbone]:
        """Read what `save` wrote. The weights of the backbone are read from `folder`, its tokenizer from its home."""
        about = json.loads((folder / "model.json").read_text(encoding="utf8"))
        backbone = Backbone(**about["backbone"])
        model = cls(backbones.encoder(backbone), about["types"], crf=about["crf"])
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model, backbone


def class_weights(recipe: Recipe, tags: Sequence[str], gold: Sequence[Sequence[int]]) -> Tensor | None:
    """Return the weight of every tag in the loss, or None where all weigh alike.

    `inverse`: n / (k * n_tag), capped at 20, for the k tags that train has. O is multiplied by `o_weight`.
    """
    if recipe.class_weights == "none" and recipe.o_weight == 1.0:
        return None
    weights = torch.ones(len(tags))
    if recipe.class_weights == "inverse":
        counts = torch.bincount(torch.tensor([n for row in gold for n in row]), minlength=len(tags)).float()
        weights = (counts.sum() / ((counts > 0).sum() * counts.clamp(min=1))).clamp(max=20.0)
    weights[0] *= recipe.o_weight
    return weights


def train_tagger(
    work: Work,
    *,
    backbone: Backbone,
    init: Path | None,
    train: Sequence[Split],
    dev: Split | None,
    types: Sequence[str],
    crf: bool,
    recipe: Recipe,
    seed: int,
    allowed: Sequence[str] | None = None,
    adapted: Path | None = None,
) -> None:
    """Train a tagger and write it as an artefact.

    init    another tagger to start from; None: the backbone's pre-trained weights and a fresh head
    train   splits, trained jointly; their span types are labels
    dev     chooses the epoch by strict F1; None: the last epoch is kept
    types   the labels of the head; a span of another type is refused
    allowed the labels that dev may be tagged with; None: all
    adapted the artefact of `masking.adapt`, whose encoder stands for the backbone's; None: the backbone's own
    """
    training.prepare(seed, work.threads)
    merged = merge(train)
    strange = {span.type for s in merged.sentences for span in s.spans or ()} - set(types)
    if strange:
        raise PlanError(
            f"{merged.corpus} {merged.name} has spans of the types {', '.join(sorted(strange))}, and the labels are "
            f"{', '.join(types)}; the plan must bind a label for every type."
        )
    model = TaggerModel(backbones.encoder(backbone, adapted), types, crf=crf)
    taken = model.take_over(TaggerModel.load(init)[0]) if init is not None else []
    number = {tag: i for i, tag in enumerate(model.tags)}

    def classes(sentence: Sentence) -> list[int]:
        return [number[tag] for tag in to_tags(len(sentence.words), sentence.spans or ())]

    data = NerModule(
        backbones.features(backbone),
        train=merged,
        dev=dev,
        classes=classes,
        batch=recipe.batch,
        seed=seed,
        cache=work.cache,
    )
    weights = class_weights(recipe, model.tags, [classes(s) for s in merged.sentences])
    model.weights = None if weights is None else weights.to(backbones.device())
    used = training.resolve_precision(recipe.precision)
    gold = [] if dev is None else [to_tags(len(s.words), s.spans or ()) for s in dev.sentences]

    def dev_f1() -> float:
        found = model.decode(data, "dev", precision=used, allowed=allowed)
        model.train()
        return strict_counts(gold, found).all.f1

    fitted = model.learn(data, work, recipe, None if dev is None else dev_f1)
    model.save(work.folder, backbone, {"taken_over": taken, "fitted": asdict(fitted)})
    (work.folder / "about.json").write_text(json.dumps({"precision": fitted.precision}), encoding="utf8")


def tag(
    work: Work,
    *,
    model: Path,
    words: Split,
    names: Mapping[str, str],
    precision: str,
    seed: int,
    doubt: bool = False,
) -> None:
    """Tag words with a trained tagger and write predictions.jsonl: tags as emitted, and the spans that are legal.

    names   label -> the name that the prediction carries; a label without one is never predicted
    doubt   write doubt.jsonl too: for each sentence its id, and entropy and surprisal of each word (`doubts`)
    """
    training.prepare(seed, work.threads)
    tagger, backbone = TaggerModel.load(model)
    used = training.resolve_precision(precision)
    data = NerModule(backbones.features(backbone), predict=words, batch=32, cache=work.cache)
    found = tagger.decode(data, "predict", precision=used, allowed=list(names))
    rename = {f"{p}-{label}": f"{p}-{name}" for label, name in names.items() for p in "BI"} | {"O": "O"}
    predictions = []
    for sentence, tags in zip(words.sentences, found, strict=True):
        emitted = tuple(rename[t] for t in tags)
        predictions.append(Prediction(sentence.id, tuple(from_tags(emitted)), tags=emitted))
    write_predictions(work.folder / "predictions.jsonl", predictions)
    if doubt:
        unsure = tagger.doubts(data, "predict", precision=used, allowed=list(names))
        lines = [
            json.dumps([s.id, [entropy for entropy, _ in of_words], [surprisal for _, surprisal in of_words]])
            for s, of_words in zip(words.sentences, unsure, strict=True)
        ]
        (work.folder / "doubt.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf8")
    (work.folder / "about.json").write_text(json.dumps({"precision": used}), encoding="utf8")


def merge(splits: Sequence[Split]) -> Split:
    """Return one split of all sentences; one split alone is returned as it is."""
    if len(splits) == 1:
        return splits[0]
    return Split(
        "+".join(s.corpus for s in splits),
        "+".join(s.name for s in splits),
        tuple(x for s in splits for x in s.sentences),
    )
