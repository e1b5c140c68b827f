"""Text-to-text models: a prompt with options and a sentence is read, mentions are written as a linear text.

Two steps: `train_text2text` makes a model out of splits, from pre-trained weights or from another model;
`write_text2text` lets it write about words, and reads spans out of what it has written.
Decoding is greedy. `free`: any sub-word may follow any other. `grounded`: a mention is a run of the sentence's own
sub-words and a type one of the options (`benchmark.models.grammar`).

Backbones   `minilm-seq2seq` (`benchmark.models.copying`), T5's family by hub id or folder; causal language models, such
            as Llama's (`benchmark.models.causal`)
Prompt      [instruction] options, then the sentence, word by word, so that a copied word is made of the same sub-words
Shapes      B prompts, L sub-words of a prompt, M sub-words of a target, V vocabulary
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, DynamicCache, EncoderDecoderCache
from transformers.pytorch_utils import Conv1D

from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.module import Batches, BucketBatches
from benchmark.errors import PlanError
from benchmark.models import backbones, formats, grammar, training
from benchmark.models.backbones import Backbone, WordPieces, windows
from benchmark.models.causal import ANSWER, SHARE, Causal, is_causal
from benchmark.models.copying import CopyingTransformer
from benchmark.models.formats import Format, Reading
from benchmark.models.grammar import Nodes, Sentences, Standing
from benchmark.models.tagging import Recipe
from benchmark.score.grounding import Audit, Pair, Place, ground
from benchmark.score.protocols import Prediction, strict_counts, write_predictions
from benchmark.score.spans import Span, to_tags
from benchmark.work import Work

VERSION = 1  # rises when a change here could change a prediction

SPARE = 24  # sub-words of a text beyond three times its sentence's


# ---------------------------------------------------------------------------------------------- text to numbers


@dataclass(frozen=True)
class Prompting:
    """How a prompt and a target look.

    instruction   whether the instruction stands before the options
    """

    format: str
    instruction: bool

    def ingredient(self) -> dict[str, Any]:
        """Return what goes into a stage's key."""
        return dict(vars(self))

    @property
    def shape(self) -> Format:
        """The linear format."""
        return formats.find(self.format)


@dataclass(frozen=True)
class Writing:
    """How texts are written.

    decoding   free | grounded
    batch      sentences that are written about at once
    """

    decoding: str
    batch: int

    @classmethod
    def of(cls, decoding: str, backbone: str, batch: int) -> "Writing":
        """Return how a method's settings have texts written; `auto` is grounded for minilm-seq2seq, else free."""
        auto = "grounded" if backbone == "minilm-seq2seq" else "free"
        return cls(auto if decoding == "auto" else decoding, batch)

    def ingredient(self) -> dict[str, Any]:
        """Return what goes into a stage's key."""
        return dict(vars(self))


class Row(NamedTuple):
    """One window of a sentence: its prompt, and where its words stand there."""

    sentence: int
    start: int  # first word of the window
    own: tuple[int, int]  # the words that this window answers for
    pieces: list[list[int]]  # of the window's words
    ids: list[int]
    begin: int  # where the first word stands
    target: list[int]


class Texts:
    """Prompts and targets as sub-words.

    cased     whether the tokenizer keeps case
    longest   sub-words of a text, where the decoder has places for no more; None: as many as are wanted
    sources   key of a type -> name of the source type that it is aligned with, for a format that names it
    """

    def __init__(self, backbone: Backbone, prompting: Prompting, sources: Mapping[str, str] | None = None) -> None:
        self.sources = dict(sources or {})
        self.shape, self.prompting = prompting.shape, prompting
        self.causal = backbone.name != "minilm-seq2seq" and is_causal(backbones.config_of(backbone))
        self.features = _pieces(backbone, ends=not self.causal)
        self.tokenizer = self.features.tokenizer
        self.tail = self.encode(ANSWER) if self.causal else self.features.suffix
        self.end = int(self.tokenizer.eos_token_id) if self.causal else self.features.suffix[-1]
        self.pad = self.end if self.tokenizer.pad_token_id is None else int(self.tokenizer.pad_token_id)
        self.start = self.features.prefix[0] if self.features.prefix else self.pad  # T5's decoder begins with padding
        self.longest = self.whole if backbone.name == "minilm-seq2seq" else None
        if self.causal:
            self.longest = len(self.features.prefix) + self.features.room - self.whole
        self.cased = "A" in self.tokenizer.decode(self.encode("Aa"))

    def encode(self, text: str) -> list[int]:
        """Return the sub-words of a mark or a name."""
        return [piece for pieces in self.pieces(text.split()) for piece in pieces] if text.strip() else []

    def pieces(self, words: Sequence[str]) -> list[list[int]]:
        """Return the sub-words of each word."""
        return self.features.pieces(words)

    @property
    def whole(self) -> int:
        """The sub-words of the longest prompt."""
        if self.causal:
            return int(SHARE * (len(self.features.prefix) + self.features.room))
        return len(self.features.prefix) + self.features.room + len(self.features.suffix)

    def lacking(self) -> list[str]:
        """Return the marks of a target that the tokenizer does not bring back. A prompt's line breaks are blanks."""
        marks = {*self.shape.parts[::2], self.shape.separator}
        return [mark for mark in formats.survives(self.shape, self.tokenizer) if mark.strip() or mark in marks]

    def opened(self, options: Sequence[str]) -> list[int]:
        """Return the part of a prompt before the sentence."""
        text = self.shape.prompt([], options).removesuffix("Sentence: ")
        if not self.prompting.instruction:
            text = text[text.index("Options:") :]
        return [*self.features.prefix, *self.encode(text), *self.encode("Sentence:")]

    def rows(self, number: int, sentence: Sentence, options: Mapping[str, str]) -> Iterator[Row]:
        """Yield the windows of a sentence.

        options   key of a type -> its name
        """
        opened = self.opened(list(options.values()))
        room = self.whole - len(opened) - len(self.tail)
        if room < self.whole // 8:
            raise PlanError(
                f"the options take {len(opened)} of the {self.whole} sub-words of a prompt, and leave too few for a "
                "sentence; shorter names of types, or `instruction: false`, leave more."
            )
        found = list(self._windows(number, sentence, options, opened, room))
        while self.longest is not None and room > 1 and max(len(row.target) for row in found) > self.longest:
            room //= 2
            found = list(self._windows(number, sentence, options, opened, room))
        yield from found

    def _windows(
        self, number: int, sentence: Sentence, options: Mapping[str, str], opened: Sequence[int], room: int
    ) -> Iterator[Row]:
        """Yield the windows of a sentence of which so many sub-words stand in a prompt."""
        pieces = [piece[:room] for piece in self.pieces(sentence.words)]
        for start, stop, own_start, own_stop in windows([len(piece) for piece in pieces], room):
            shown = pieces[start:stop]
            spans = [s for s in sorted(sentence.spans or ()) if start <= s.start and s.end <= stop]
            ids = [*opened, *(i for piece in shown for i in piece), *self.tail]
            moved = [Span(s.start - start, s.end - start, s.type) for s in spans]
            yield Row(number, start, (own_start, own_stop), shown, ids, len(opened), self.target(shown, moved, options))

    def target(self, pieces: Sequence[Sequence[int]], spans: Sequence[Span], options: Mapping[str, str]) -> list[int]:
        """Return the sub-words of a target, mentions being made of the sentence's own."""
        found: list[int] = []
        for number, (start, end, kind) in enumerate(spans):
            found.extend(self.encode(self.shape.separator) if number else ())
            for place, part in enumerate(self.shape.parts):
                if place % 2 == 0:
                    found.extend(self.encode(part))
                elif part in ("type", "source"):
                    found.extend(self.encode((options if part == "type" else self.sources)[kind]))
                else:
                    found.extend(i for piece in pieces[start:end] for i in piece)
        return [*(found or self.encode(self.shape.nothing)), self.end]

    def collate(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Return prompts, what of them may be copied, and targets, padded to the longest."""
        longest = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), longest), self.pad)
        begins, ends, inside, mask = (torch.zeros(len(rows), longest, dtype=torch.bool) for _ in range(4))
        width = max(len(row.target) for row in rows)
        target = torch.full((len(rows), width), -100)
        for n, row in enumerate(rows):
            ids[n, : len(row.ids)], mask[n, : len(row.ids)] = torch.tensor(row.ids), True
            target[n, : len(row.target)] = torch.tensor(row.target)
            at = row.begin
            for piece in row.pieces:
                begins[n, at], ends[n, at + len(piece) - 1], inside[n, at : at + len(piece)] = True, True, True
                at += len(piece)
        before = torch.cat(
            [torch.full((len(rows), 1), self.start), target[:, :-1].masked_fill(target[:, :-1] < 0, self.pad)], 1
        )
        return {
            "ids": ids,
            "mask": mask,
            "begins": begins,
            "ends": ends,
            "inside": inside,
            "target": target,
            "before": before,
        }


def _pieces(backbone: Backbone, ends: bool = True) -> WordPieces:
    """Return the sub-words of a backbone, one of which ends a text where that is asked for."""
    found = backbones.features(backbone)
    if not isinstance(found, WordPieces) or (ends and not found.suffix):
        raise PlanError(f"the backbone {backbone.name!r} has no sub-word that ends a text; flan-t5-base's has one.")
    return found


def check(backbone: Backbone, prompting: Prompting) -> None:
    """Raise PlanError for a format whose marks the tokenizer does not bring back, so that no text can be read."""
    if lacking := Texts(backbone, prompting).lacking():
        raise PlanError(
            f"the tokenizer of {backbone.name!r} does not bring back {', '.join(map(repr, lacking))} of the format "
            f"{prompting.format!r}; choose another format, or `decoding: grounded`, which reads sub-words."
        )


class TextPairs(pl.LightningDataModule):
    """Prompts and targets in training batches of like length, in an order that seed and epoch fix."""

    def __init__(self, texts: Texts, rows: Sequence[Row], *, batch: int, seed: int) -> None:
        super().__init__()
        self.texts, self.rows, self.batch, self.seed = texts, list(rows), batch, seed

    def train_dataloader(self) -> Batches:
        """Return the batches."""
        return Batches(
            self.rows,  # type: ignore[arg-type]
            BucketBatches([len(row.ids) + len(row.target) for row in self.rows], self.batch, self.seed),
            collate_fn=self.texts.collate,
            pin_memory=torch.cuda.is_available(),
        )


# ---------------------------------------------------------------------------------------------- the models


class Hub(nn.Module):
    """An encoder-decoder of transformers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the encoder's states of prompts (B, L) -> (B, L, D)."""
        found: Tensor = self.model.get_encoder()(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return found

    def loss(self, ids: Tensor, mask: Tensor, before: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy of the target's sub-words (B, M); -100 is padding."""
        scores = self.model(input_ids=ids, attention_mask=mask.long(), decoder_input_ids=before, use_cache=False).logits
        return cross_entropy(scores.float().flatten(0, 1), target.flatten())

    def step(self, last: Tensor, states: Tensor, mask: Tensor, ids: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Return the scores of the next sub-word behind (B, 1) -> (B, V), and the cache."""
        found = self.model(
            encoder_outputs=(states,), attention_mask=mask.long(), decoder_input_ids=last, past_key_values=cache,
            use_cache=True,
        )  # fmt: skip
        return found.logits[:, -1].float(), found.past_key_values


Net = Hub | CopyingTransformer | Causal


def bare(backbone: Backbone) -> Net:
    """Return the pre-trained model of a backbone. What has no weights is random: seed torch before."""
    where, options = backbones.where_of(backbone)
    if backbone.name == "minilm-seq2seq":
        return CopyingTransformer(
            AutoModel.from_pretrained(where, use_safetensors=True, dtype=torch.float32, **options)
        )
    if is_causal(backbones.config_of(backbone)):
        return Causal(AutoModelForCausalLM.from_pretrained(where, use_safetensors=True, dtype=torch.float32, **options))
    try:
        model = AutoModelForSeq2SeqLM.from_pretrained(where, use_safetensors=True, dtype=torch.float32, **options)
    except ValueError as error:
        raise PlanError(
            f"the backbone {backbone.name!r} is no text-to-text model ({str(error).splitlines()[0][:120]}); "
            "flan-t5-base and minilm-seq2seq are."
        ) from None
    return Hub(model)


class TextModel(training.Learner):
    """A text-to-text model while it is trained, and while it writes."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """Return the loss of a batch."""
        return self.net.loss(batch["ids"], batch["mask"], batch["before"], batch["target"])

    @torch.inference_mode()
    def write(
        self, texts: Texts, rows: Sequence[Row], made: Nodes | None, *, batch: int, precision: str
    ) -> list[list[int]]:
        """Return what is written about each row, greedily, without the sub-word that ends it.

        Rows of like length go together, the longest first; a text that has ended leaves its batch.

        made   nodes of the grammar that grounds what is written; None: free
        """
        self.eval()
        self.to(backbones.device())
        order = sorted(range(len(rows)), key=lambda n: -len(rows[n].ids))
        found: list[list[int]] = [[] for _ in rows]
        for at in range(0, len(order), batch):
            chosen = order[at : at + batch]
            given = {name: x.to(self.device) for name, x in texts.collate([rows[n] for n in chosen]).items()}
            with training.autocast(precision):
                for n, written in zip(chosen, self._greedy(texts, given, made), strict=True):
                    found[n] = written
        return found

    def _greedy(self, texts: Texts, given: Mapping[str, Tensor], made: Nodes | None) -> list[list[int]]:
        ids, mask = given["ids"], given["mask"]
        states = self.net.read(ids, mask)
        cache: Any = EncoderDecoderCache(DynamicCache(), DynamicCache())
        standing = None
        if made is not None:
            sentences = Sentences(ids, given["begins"], given["ends"], given["inside"])
            standing = Standing.start(made.to(ids.device), sentences)
        last = torch.full_like(ids[:, :1], texts.start)
        going = torch.arange(len(ids), device=ids.device)
        limits = 3 * given["inside"].sum(1) + SPARE  # of each text, whatever it shares a batch with
        limits = limits if texts.longest is None else limits.clamp(max=texts.longest)
        room, on = limits, torch.ones_like(limits, dtype=torch.bool)
        written = torch.full((len(ids), int(limits.max())), texts.end, device=ids.device)
        for step in range(written.size(1)):
            scores, cache = self.net.step(last, states, mask, ids, cache)
            if standing is not None:
                scores = scores.masked_fill(~standing.allowed(scores.size(1)), -torch.inf)
            best = scores.argmax(-1)
            if standing is not None:
                standing.move(best)
            written[going, step] = best
            on = on & (best != texts.end) & (step + 1 < room)
            left = int(on.sum())
            if left == 0:
                break
            last = best[:, None]
            if left <= 0.75 * len(on):
                rows = on.nonzero().flatten()
                going, last, states, mask, ids = going[rows], last[rows], states[rows], mask[rows], ids[rows]
                room, on = room[rows], on[rows]
                cache.batch_select_indices(rows)
                if standing is not None:
                    standing.keep(rows)
        cut = [row[:limit] for row, limit in zip(written.tolist(), limits.tolist(), strict=True)]
        return [row[: row.index(texts.end)] if texts.end in row else row for row in cut]


# ---------------------------------------------------------------------------------------------- adapters


@dataclass(frozen=True)
class Adapter:
    """A `peft` adapter: its type (`LORA`, ..) and what its configuration is given."""

    kind: str
    options: Mapping[str, Any]

    def ingredient(self) -> dict[str, Any]:
        """Return what goes into a stage's key."""
        return {"kind": self.kind, "options": dict(self.options)}


def adapted(net: Net, adapter: Adapter | None, *, fresh: bool) -> Any:
    """Return a network of which only an adapter is trained; and with `fresh`, what no pre-training has seen.

    Raises PlanError for an adapter that peft does not know, or that does not fit.
    """
    if adapter is None:
        return net
    try:
        from peft import get_peft_config, get_peft_model
    except ImportError:
        raise PlanError(
            "adapters need the package peft, which is not installed: pip install 'cdner[adapters]'."
        ) from None

    where: Any = ["q", "v"] if isinstance(net, Hub) else r".*\.attention\.self\.(query|value)"
    if isinstance(net, Causal):
        where = r".*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj|c_attn|query_key_value)"
    more: dict[str, Any] = {"feedforward_modules": []} if adapter.kind == "IA3" else {}  # peft wants them named
    if adapter.kind == "LORA" and any(isinstance(module, Conv1D) for module in net.modules()):
        more["fan_in_fan_out"] = True  # GPT-2 keeps its weights the other way round
    new = ["crossattention", "words", "copies"] if fresh and isinstance(net, CopyingTransformer) else None
    try:
        config = get_peft_config(
            {"peft_type": adapter.kind, "target_modules": where, "modules_to_save": new, **more, **adapter.options}
        )
        return get_peft_model(net, config)
    except (KeyError, TypeError, ValueError) as error:
        raise PlanError(f"adapter {adapter.kind}: peft refuses it ({error}).") from None


# ---------------------------------------------------------------------------------------------- the steps


def save(net: Net, folder: Path, backbone: Backbone, extra: Mapping[str, Any]) -> None:
    """Write weights and description into a folder."""
    save_model(net, str(folder / "model.safetensors"))
    about = {"backbone": asdict(backbone), **extra}
    (folder / "model.json").write_text(json.dumps(about, indent=1), encoding="utf8")


def load(folder: Path) -> tuple[Net, Backbone]:
    """Read what `save` wrote."""
    about = json.loads((folder / "model.json").read_text(encoding="utf8"))
    backbone = Backbone(**about["backbone"])
    net = bare(backbone)
    load_model(net, folder / "model.safetensors")
    return net, backbone


def train_text2text(
    work: Work,
    *,
    backbone: Backbone,
    init: Path | None,
    train: Sequence[Split],
    options: Sequence[Mapping[str, str]],
    dev: Split | None,
    prompting: Prompting,
    writing: Writing | None,
    recipe: Recipe,
    seed: int,
    adapter: Adapter | None = None,
    alignment: Path | None = None,
) -> None:
    """Train a text-to-text model and write it as an artefact.

    init      another one to start from; None: the backbone's pre-trained weights
    train     splits, trained jointly
    options   of each of them, and of dev (the last's): key of a type -> its name
    dev       chooses the epoch by strict F1 of what is written; None: the last epoch is kept
    writing   how dev is written about; None where there is no dev
    alignment an artefact with the source type of each type, for a format that names it (`aligned`)
    """
    training.prepare(seed, work.threads)
    texts = Texts(backbone, prompting, aligned(alignment))
    net = bare(backbone) if init is None else load(init)[0]
    rows = [
        row
        for split, names in zip(train, options, strict=True)
        for number, sentence in enumerate(split.sentences)
        if sentence.words
        for row in texts.rows(number, sentence, names)
    ]
    model = TextModel(adapted(net, adapter, fresh=init is None))
    data = TextPairs(texts, rows, batch=recipe.batch, seed=seed)
    used = training.resolve_precision(recipe.precision)
    gold = [] if dev is None else [to_tags(len(s.words), s.spans or ()) for s in dev.sentences]

    def dev_f1() -> float:
        assert dev is not None
        assert writing is not None
        found, *_ = answers(model, texts, dev, options[-1], writing=writing, precision=used)
        model.train()
        return strict_counts(
            gold, [to_tags(len(s.words), p.spans) for s, p in zip(dev.sentences, found, strict=True)]
        ).all.f1

    fitted = model.learn(data, work, recipe, None if dev is None else dev_f1)
    whole = model.net.merge_and_unload() if adapter is not None else model.net  # type: ignore[operator]
    save(whole, work.folder, backbone, {"prompting": asdict(prompting), "fitted": asdict(fitted)})
    (work.folder / "about.json").write_text(json.dumps({"precision": fitted.precision}), encoding="utf8")


def write_text2text(
    work: Work,
    *,
    model: Path,
    words: Split,
    options: Mapping[str, str],
    prompting: Prompting,
    writing: Writing,
    precision: str,
    seed: int,
    alignment: Path | None = None,
) -> None:
    """Write about words with a trained model, and write predictions.jsonl: spans, pairs and raw texts; audit.json.

    options     key of a type -> its name
    alignment   as in training; then sources.jsonl has the source type that was written of each span
    """
    training.prepare(seed, work.threads)
    net, backbone = load(model)
    texts = Texts(backbone, prompting, aligned(alignment))
    used = training.resolve_precision(precision)
    found, sources, audit = answers(TextModel(net), texts, words, options, writing=writing, precision=used)
    write_predictions(work.folder / "predictions.jsonl", found)
    if texts.sources:
        lines = [json.dumps({"id": p.id, "sources": of}) for p, of in zip(found, sources, strict=True)]
        (work.folder / "sources.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf8")
    (work.folder / "audit.json").write_text(
        json.dumps({"decoding": writing.decoding, "pairs": asdict(audit)}), encoding="utf8"
    )
    (work.folder / "about.json").write_text(json.dumps({"precision": used}), encoding="utf8")


def aligned(folder: Path | None) -> dict[str, str]:
    """Return key of a type -> name of its source type, of an artefact's alignment.json; nothing without one."""
    if folder is None:
        return {}
    told: dict[str, str] = json.loads((folder / "alignment.json").read_text(encoding="utf8"))["names"]
    return told


def answers(
    model: TextModel,
    texts: Texts,
    words: Split,
    options: Mapping[str, str],
    *,
    writing: Writing,
    precision: str,
) -> tuple[list[Prediction], list[list[str]], Audit]:
    """Return what a model says of every sentence, the source type of each span ("": none), and the pieces' fate."""
    grounded = None
    if writing.decoding == "grounded":
        sources = list(dict.fromkeys(texts.sources.values()))
        grounded = grammar.nodes(texts.shape, list(options.values()), texts.encode, texts.end, sources)
    rows = [
        row
        for number, sentence in enumerate(words.sentences)
        if sentence.words
        for row in texts.rows(number, Sentence(sentence.id, sentence.words, None), options)
    ]
    written = model.write(texts, rows, grounded, batch=writing.batch, precision=precision)
    parts: list[list[tuple[Row, list[int]]]] = [[] for _ in words.sentences]
    for row, ids in zip(rows, written, strict=True):
        parts[row.sentence].append((row, ids))
    found, sources_of, audit = [], [], Audit()
    for sentence, windows_of in zip(words.sentences, parts, strict=True):
        prediction, told_sources, told = _joined(texts, sentence, windows_of, grounded, options)
        found.append(prediction)
        sources_of.append(told_sources)
        audit += told
    return found, sources_of, audit


def _joined(
    texts: Texts, sentence: Sentence, parts: Sequence[tuple[Row, list[int]]], grounded: Nodes | None,
    options: Mapping[str, str],
) -> tuple[Prediction, list[str], Audit]:  # fmt: skip
    """Return a sentence's prediction from what was written about its windows, and the source type of each span.

    A window answers for the mentions that begin among its own words, and for what it wrote that stands nowhere.
    """
    keys = {name: key for key, name in options.items()}
    pairs: list[Pair] = []
    sources: list[str] = []
    places: list[Place | None] = []
    raws: list[str] = []
    unread = 0
    for row, ids in parts:
        words = sentence.words[row.start : row.start + len(row.pieces)]
        raws.append(texts.tokenizer.decode(ids, skip_special_tokens=True))
        stand: Sequence[Place | None]
        if grounded is not None:
            written = grammar.read(grounded, ids, row.pieces, words)
            reading, stand = Reading(tuple(written.items), () if written.whole else (raws[-1],)), written.places
        else:
            reading = texts.shape.read(raws[-1], words, list(options.values()), texts.sources.values())
            stand = ground(words, reading.pairs, keys, cased=texts.cased).places
        unread += len(reading.unread)
        for item, pair, place in zip(reading.items, reading.pairs, stand, strict=True):
            if place is None or row.start + place[0] in range(*row.own):
                pairs.append(pair)
                sources.append(item.source)
                places.append(place and (row.start + place[0], row.start + place[1]))
    placed = ground(sentence.words, pairs, keys, cased=texts.cased, unparsable=unread, known=places)
    of_place = dict(zip(placed.places, sources, strict=True))
    told = [of_place[start, end] for start, end, _ in placed.spans]
    return Prediction(sentence.id, placed.spans, pairs=placed.pairs, raw=" | ".join(raws)), told, placed.audit
