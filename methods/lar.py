"""LAR: source and target types are aligned, mentions are written with both, and a language model reassigns them.

Paper    Bao and Yang, "Label Alignment and Reassignment with Generalist Large Language Model for Enhanced Cross-Domain
         Named Entity Recognition", 2024
3.2      source training, `type : text`                benchmark.models.text2text.train_text2text
3.2      label alignment: counts, majority              align, tally, majority
3.2      target training, `source : text => target`     the same, format `lar`
3.2      direct inference                               benchmark.models.text2text.write_text2text
3.3      enhanced inference: multiple choice            reassign, question
4.4      zero-shot, LAR+                                labels by `llm_prompt` in the place of gold; `labelled`
4.5      in-domain                                      no alignment; any type may be reassigned (`ask`)
5.3      continual learning                             a transfer's `chain`; the source is asked as it was learned
5        "Ori" of table 5, direct transfer              `alignment: none`
Departs  The paper says nothing of epochs, of what happens to a mention for which the answer is none (`on_none`), of
         whether a type "predicted" wants the same bounds (`match`); its prompts stand in a picture alone. These are
         settings, or ours. Its figure 4 joins items by line breaks, of which T5's sub-words have none: ours is ` ; `.
         Where no target type is aligned with a source type that was written, the mention keeps the type it was given.
         A summary of the paper aligns type names by their embeddings, one to one: `alignment: embedding-hungarian`,
         types that are left over going to their nearest. `reassign_with: embedding` is ours: it puts the same question
         to a sentence encoder and needs no network.
Shapes   T target types, S source types, D hidden size
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tabulate import tabulate

from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.transfer import Domain, Transfer, once, sample, words_only
from benchmark.errors import Unsupported
from benchmark.llm import model as models
from benchmark.llm.answers import Message, Question
from benchmark.llm.ask import Asked, ask, tokens_of
from benchmark.llm.model import Llm
from benchmark.models import backbones, formats
from benchmark.models.backbones import Backbone
from benchmark.models.embedding import embed
from benchmark.models.tagging import Recipe
from benchmark.models.text2text import Prompting, Writing, check, train_text2text, write_text2text
from benchmark.run.method import Method
from benchmark.run.stage import Made, Stage
from benchmark.score.protocols import Prediction, read_predictions, write_predictions
from benchmark.score.spans import Span
from benchmark.work import Work
from methods.llm_prompt import LlmPrompt

REST = "miscellaneous"  # what unrecognised types become, where the source has no such type of its own
NONE = "none of these"
PROMPT = "lar-choice-1"


@dataclass(frozen=True)
class Settings:
    """The settings of LAR; the defaults are the paper's, where it tells them (section 4.1)."""

    backbone: str = "google/flan-t5-base"
    revision: str | None = None  # of a hub id; None: the one in the hub's cache, else the newest, written down
    instruction: bool = True  # whether an instruction stands before the options
    decoding: Literal["auto", "free", "grounded"] = "auto"  # auto: grounded for minilm-seq2seq, else free
    alignment: Literal["counts", "embedding-hungarian", "none"] = "counts"
    match: Literal["exact", "overlap"] = "exact"  # which pseudo label counts for a mention: of its bounds, or the first
    reassign_with: Literal["llm", "embedding", "none"] = "llm"  # none: direct inference
    ask: str | tuple[str, ...] | list[str] = "all"  # mentions of which types are reassigned: all, keys, or as dev says
    on_none: Literal["drop", "direct"] = "drop"
    meanings: bool = False  # whether a choice tells what its types mean
    model: str = ""  # "": that of CDNER_LLM_MODEL, else gpt-3.5-turbo, the paper's
    base_url: str = ""  # "": that of the environment, else OpenAI's
    embedder: str = "minilm"  # of type names, and of questions
    labelled: float = 0.0  # in zero-shot: the share of train that a language model labels, to train on (LAR+: 0.2)
    source_noise: float = 0.0  # the share of the source's mentions that get another type at random
    source_epochs: int = 3
    source_lr: float | None = None  # None: lr
    source_batch: int | None = None  # None: batch
    epochs: int = 10
    patience: int | None = None
    dev_every: int = 1  # epochs between two looks at dev
    lr: float = 5e-5
    batch: int = 8
    warmup: float = 0.0
    schedule: Literal["constant", "linear"] = "constant"
    weight_decay: float = 0.0
    clip: float | None = None
    precision: Literal["auto", "32", "bf16"] = "auto"
    write_batch: int = 32  # sentences that are written about at once

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        Recipe.check(self, counts=("write_batch",))
        for name in ("labelled", "source_noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share, from 0 to 1; found {getattr(self, name)}.")
        if isinstance(self.ask, str) and self.ask not in ("all", "dev"):
            raise ValueError(f"ask is {self.ask!r}, expected all, dev, or a list of types.")

    @property
    def writing(self) -> Writing:
        """How texts are written."""
        return Writing.of(self.decoding, self.backbone, self.write_batch)


# ------------------------------------------------------------------------------------------ label alignment (3.2)

Counts = dict[str, Counter[str]]  # target type -> source type -> mentions; "": recognised as nothing


def tally(gold: Mapping[str, Sequence[Span]], pseudo: Mapping[str, Sequence[Span]], match: str) -> Counts:
    """Return how often the source model calls mentions of each target type what.

    gold, pseudo   sentence id -> mentions
    match          `exact`, the pseudo label of the same bounds; `overlap`, of those that share most words the first
    """
    found: Counts = {}
    for id, mentions in gold.items():
        for mention in mentions:
            others = [p for p in pseudo.get(id, ()) if _shared(mention, p)]
            if match == "exact":
                others = [p for p in others if p[:2] == mention[:2]]
            best = max(others, key=lambda p, mention=mention: (_shared(mention, p), -p.start), default=None)
            found.setdefault(mention.type, Counter())[best.type if best is not None else ""] += 1
    return found


def _shared(one: Span, other: Span) -> int:
    return max(0, min(one.end, other.end) - max(one.start, other.start))


def majority(counts: Counts, target: Sequence[str], source: Sequence[str], rest: str) -> dict[str, str]:
    """Return the source type of each target type: the one that most of its recognised mentions are called.

    Of equals, the first of the source's. A type of which nothing is recognised becomes `rest`.
    """
    found = {}
    for kind in target:
        known = counts.get(kind, Counter())
        best = max(source, key=lambda name, known=known: known[name])
        found[kind] = best if known[best] else rest
    return found


def hungarian(target: Sequence[str], source: Sequence[str], backbone: Backbone) -> list[int]:
    """Return the source type of each target type, as positions: the best one-to-one matching of their names' vectors.

    Target types that are left over, where there are more, go to their nearest.
    """
    from scipy.optimize import linear_sum_assignment

    vectors = embed(backbone, [*target, *source])
    alike = (vectors[: len(target)] @ vectors[len(target) :].T).numpy()  # (T, S)
    matched = dict(zip(*(axis.tolist() for axis in linear_sum_assignment(-alike)), strict=True))
    return [matched.get(n, int(alike[n].argmax())) for n in range(len(target))]


def align(
    work: Work,
    *,
    strategy: str,
    match: str,
    pseudo: Path | None,
    gold: Split | None,
    labels: Path | None,
    target: Sequence[Sequence[str]],
    source: Sequence[Sequence[str]],
    rest: str,
    general: Mapping[str, Mapping[str, str]],
    backbone: Backbone | None,
) -> None:
    """Write alignment.json and alignment.md: the source type of each target type, and the counts behind it.

    pseudo    what the source model says of the target's train; None for a strategy that counts nothing
    gold      the same sentences with their gold; None: what a language model said of them, `labels`
    target, source   key and name of each type, in the order of their cards
    rest      key of the source type that unrecognised types become
    general   `target` and `source`: key -> general type, against which the alignment is scored
    backbone  of the names' vectors
    """
    kinds, sources = dict(map(tuple, target)), dict(map(tuple, source))
    counts: Counts = {}
    if pseudo is not None:
        if gold is not None:
            known = {s.id: s.spans or () for s in gold.sentences}
        else:
            assert labels is not None
            known = {p.id: p.spans for p in read_predictions(labels / "predictions.jsonl")}
        counts = tally(known, {p.id: p.spans for p in read_predictions(pseudo / "predictions.jsonl")}, match)
    if strategy == "counts":
        found = majority(counts, list(kinds), list(sources), rest)
    else:
        assert backbone is not None
        places = hungarian(list(kinds.values()), list(sources.values()), backbone)
        found = dict(zip(kinds, [list(sources)[n] for n in places], strict=True))

    def often(kind: str) -> tuple[int, int]:
        """Return how many of its mentions are called what it is aligned with, and how many it has."""
        return counts.get(kind, Counter())[found[kind]], counts.get(kind, Counter()).total()

    direct = {name: max((t for t in kinds if found[t] == name), key=often) for name in dict.fromkeys(found.values())}
    agree = [kind for kind, name in found.items() if general["target"][kind] == general["source"].get(name, REST)]
    told = {
        "strategy": strategy,
        "map": found,
        "names": {kind: sources.get(name, name) for kind, name in found.items()},
        "direct": direct,
        "counts": {kind: dict(counts.get(kind, {})) for kind in kinds},
        "agree": {"types": len(agree), "of": len(found)},
    }
    (work.folder / "alignment.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf8")
    (work.folder / "alignment.md").write_text(readable(told, sources, agree), encoding="utf8")


def readable(told: Mapping[str, Any], source: Mapping[str, str], agree: Sequence[str]) -> str:
    """Return an alignment as a table for people."""
    rows = []
    for kind, name in told["map"].items():
        counts = told["counts"][kind]
        numbers = [counts.get(s, 0) for s in (*source, "")]
        rows.append([kind, name, "yes" if kind in agree else "no", *(numbers if counts else [""] * len(numbers))])
    heads = ["target type", "source type", "same general type", *source, "unrecognised"]
    share = f"{told['agree']['types']} of {told['agree']['of']} types agree with the cards' general types."
    return f"Alignment by {told['strategy']}. {share}\n\n{tabulate(rows, heads, tablefmt='github')}\n"


# ------------------------------------------------------------------------------------------ enhanced inference (3.3)


class Choice(NamedTuple):
    """A question: which of some types a mention has.

    place     sentence and span of it, as numbers
    options   keys of types
    """

    place: tuple[int, int]
    sentence: Sentence
    span: Span
    options: tuple[str, ...]

    @property
    def text(self) -> str:
        """The words of the mention."""
        return " ".join(self.sentence.words[self.span.start : self.span.end])


Reassign = Callable[[Sequence[Choice]], list[str | None]]  # the type of each mention; None: none of them


def question(choice: Choice, names: Mapping[str, str], means: Mapping[str, str]) -> str:
    """Return what is asked about a mention.

    means   key of a type -> what it means; those without are told by name alone
    """
    told = [f"{names[key]} ({means[key]})" if means.get(key) else names[key] for key in choice.options]
    return _asked(told, choice.text, " ".join(choice.sentence.words))


def _letter(number: int) -> str:
    """Return the letter of an option: A, B, ..., Z, AA, AB.

    >>> _letter(1), _letter(26)
    ('B', 'AA')
    """
    return ("" if number < 26 else chr(64 + number // 26)) + chr(65 + number % 26)


def _asked(options: Sequence[str], mention: str, sentence: str) -> str:
    letters = "; ".join(f"{_letter(n)}. {name}" for n, name in enumerate([*options, NONE]))
    return (
        "Choose the type of a named entity from the options, as it is used in the sentence. Answer with the letter of "
        f"the option and nothing else.\nOptions: {letters}\nEntity: {mention}\nSentence: {sentence}"
    )


DEMONSTRATION = (
    Message("user", _asked(["river", "mountain"], "Ben Alder", "They climbed Ben Alder in the snow .")),
    Message("assistant", "B"),
)


def chosen(text: str, choice: Choice, names: Mapping[str, str]) -> int | None:
    """Return the number of the option that an answer names, by letter or by name; None where it names none of them.

    A letter is one that stands alone, or before a mark or its option's name, for A and I are words too.
    """
    told = [names[key] for key in choice.options] + [NONE]
    plain = re.sub(r"^\W*(?:(?:the )?answer(?: is)?\W*)?", "", text.strip().casefold()).strip(" \n.\"'`*()")
    for number, name in enumerate(map(str.casefold, told)):
        letter = _letter(number).casefold()
        if plain in (letter, name) or re.match(rf"{letter}(?:[.):*\n]|\W*{re.escape(name)}\b)", plain):
            return number
    return None


def by_llm(work: Work, llm: Llm, names: Mapping[str, str], means: Mapping[str, str], came: list[Asked]) -> Reassign:
    """Return who asks a language model, one demonstration before each question; what came of it is added to `came`."""

    def complaint(text: str, *, choice: Choice) -> str | None:
        return None if chosen(text, choice, names) is not None else "Answer with the letter of one option alone."

    def answer(choices: Sequence[Choice]) -> list[str | None]:
        questions = [
            Question(c.sentence.id, (*DEMONSTRATION, Message("user", question(c, names, means))), PROMPT)
            for c in choices
        ]
        found = ask(work, llm, questions, [partial(complaint, choice=c) for c in choices])
        came.extend(found)
        return [_taken(chosen(a.text, c, names), c) for a, c in zip(found, choices, strict=True)]

    return answer


def _taken(number: int | None, choice: Choice) -> str | None:
    return None if number is None or number == len(choice.options) else choice.options[number]


def by_embedding(backbone: Backbone, names: Mapping[str, str], means: Mapping[str, str]) -> Reassign:
    """Return who takes the option whose vector is nearest to that of the mention in its sentence, and never none."""

    def answer(choices: Sequence[Choice]) -> list[str | None]:
        if not choices:
            return []
        told = [f"{name}: {means[key]}" if means.get(key) else name for key, name in names.items()]
        options = dict(zip(names, embed(backbone, told), strict=True))
        texts = [f"{c.text}: {' '.join(c.sentence.words)}" for c in choices]
        mentions = embed(backbone, texts)
        return [
            max(c.options, key=lambda key, mention=mention: float(mention @ options[key]))
            for c, mention in zip(choices, mentions, strict=True)
        ]

    return answer


def reassign(
    work: Work,
    *,
    written: Path,
    words: Split,
    alignment: Path | None,
    by_source: bool,
    names: Sequence[Sequence[str]],
    means: Mapping[str, str],
    asked: Sequence[str] | None,
    llm: Llm | None,
    backbone: Backbone | None,
    on_none: str,
    dev: Path | None,
    dev_gold: Split | None,
) -> None:
    """Write predictions.jsonl with reassigned types, and audit.json: how many mentions were asked about and changed.

    written     what the model wrote about words
    alignment   None: every type is an option
    by_source   whether the types written are the source's (zero-shot); directly, each is its commonest target type
    names       key and name of each target type, in the order of the options; means: key -> what it means
    asked       keys of types whose mentions are asked about; None: all, or those that `dev` shows to gain
    llm, backbone   who answers; both None: nobody, mentions keep their direct type
    dev         what the model wrote about dev, and its gold: a type is asked about where that helped more than it hurt
    """
    came: list[Asked] = []
    named = dict(map(tuple, names))
    answer: Reassign | None = None
    if llm is not None:
        answer = by_llm(work, llm, named, means, came)
    elif backbone is not None:
        answer = by_embedding(backbone, named, means)
    told = None if alignment is None else json.loads((alignment / "alignment.json").read_text(encoding="utf8"))
    learned: list[str] | None = None
    if dev is not None and dev_gold is not None and answer is not None:
        before = direct_of(dev, dev_gold, told, by_source)
        asked_all, _ = enhanced(before, dev_gold, told, named, None, answer)
        learned = gaining(before, resolved(asked_all, on_none), dev_gold)
    before = direct_of(written, words, told, by_source)
    limits = asked if learned is None else learned
    after, counts = before, Counter[str]()
    if answer is not None:
        after, counts = enhanced(before, words, told, named, limits, answer)
    counts["none"] = sum(m.kind is None for row in after for m in row)
    after = resolved(after, on_none)
    found = []
    for old, of_sentence in zip(read_predictions(written / "predictions.jsonl"), after, strict=True):
        spans = tuple(m.span._replace(type=m.kind) for m in of_sentence if m.kind is not None)
        found.append(Prediction(old.id, spans, raw=old.raw))
    write_predictions(work.folder / "predictions.jsonl", found)
    counts["changed"] = sum(m.kind not in (None, m.direct) for row in after for m in row)
    audit = json.loads((written / "audit.json").read_text(encoding="utf8"))
    audit["reassigned"] = {name: counts[name] for name in ("mentions", "single", "asked", "none", "changed")}
    if learned is not None:
        audit["reassigned"]["types"] = learned
    if came:
        audit["tokens"] = tokens_of(came)
    (work.folder / "audit.json").write_text(json.dumps(audit, indent=1) + "\n", encoding="utf8")


class Mention(NamedTuple):
    """A mention as it was written.

    source   name of its source type; "" where none was written
    direct   its type by direct inference
    kind     its type now; None: none of those that it might have
    """

    span: Span
    source: str
    direct: str
    kind: str | None


def direct_of(written: Path, words: Split, told: Mapping[str, Any] | None, by_source: bool) -> list[list[Mention]]:
    """Return the mentions of every sentence with their types by direct inference.

    In zero-shot (`by_source`) a mention is left out with whose source type no target type is aligned.
    """
    by_id = {p.id: p for p in read_predictions(written / "predictions.jsonl")}
    sources: dict[str, list[str]] = {}
    if (written / "sources.jsonl").is_file():
        lines = map(json.loads, (written / "sources.jsonl").read_text(encoding="utf8").splitlines())
        sources = {line["id"]: line["sources"] for line in lines}
    found = []
    for sentence in words.sentences:
        row = []
        for number, span in enumerate(by_id[sentence.id].spans):
            if by_source:
                assert told is not None
                kind = told["direct"].get(span.type)
                if kind is not None:
                    row.append(Mention(span, told["names"][kind], kind, kind))
            else:
                source = sources[sentence.id][number] if sources else ""
                row.append(Mention(span, source, span.type, span.type))
        found.append(row)
    return found


def enhanced(
    mentions: Sequence[Sequence[Mention]],
    words: Split,
    told: Mapping[str, Any] | None,
    names: Mapping[str, str],
    asked: Sequence[str] | None,
    answer: Reassign,
) -> tuple[list[list[Mention]], Counter[str]]:
    """Return the mentions with their types by enhanced inference, and what was done about how many."""
    found = [list(row) for row in mentions]
    counts: Counter[str] = Counter()
    choices = []
    for n, (row, sentence) in enumerate(zip(found, words.sentences, strict=True)):
        for m, mention in enumerate(row):
            counts["mentions"] += 1
            if asked is not None and mention.direct not in asked:
                continue
            options = tuple(key for key in names if told is None or told["names"][key] == mention.source)
            if len(options) == 1:
                counts["single"] += 1
                row[m] = mention._replace(kind=options[0])
            elif options:
                choices.append(Choice((n, m), sentence, mention.span, options))
    counts["asked"] = len(choices)
    for choice, kind in zip(choices, answer(choices), strict=True):
        n, m = choice.place
        found[n][m] = found[n][m]._replace(kind=kind)
    return found, counts


def gaining(before: Sequence[Sequence[Mention]], after: Sequence[Sequence[Mention]], gold: Split) -> list[str]:
    """Return the types, by direct inference, of whose mentions reassignment makes more right than wrong.

    A hit that is lost weighs as much as one that is won, and twice a wrong mention that goes.
    """
    gain: Counter[str] = Counter()
    for row, others, sentence in zip(before, after, gold.sentences, strict=True):
        right = set(sentence.spans or ())
        for mention, other in zip(row, others, strict=True):
            was = mention.span._replace(type=mention.direct) in right
            now = other.kind is not None and mention.span._replace(type=other.kind) in right
            dropped = other.kind is None
            gain[mention.direct] += 2 * (now - was) + (dropped and not was)
    return sorted(kind for kind, points in gain.items() if points > 0)


def resolved(mentions: Sequence[Sequence[Mention]], on_none: str) -> list[list[Mention]]:
    """Return the mentions with what becomes of those that are none: nothing, or their direct type."""
    if on_none == "drop":
        return [list(row) for row in mentions]
    return [[m._replace(kind=m.direct if m.kind is None else m.kind) for m in row] for row in mentions]


# ------------------------------------------------------------------------------------------ zero-shot (4.4), noise


def label(work: Work, *, labels: Path, words: Split) -> None:
    """Write split.jsonl: words with the labels that a language model gave them."""
    spans = {p.id: p.spans for p in read_predictions(labels / "predictions.jsonl")}
    sentences = tuple(replace(s, spans=spans[s.id]) for s in words.sentences)
    replace(words, sentences=sentences).to_jsonl(work.folder / "split.jsonl")


def noisy(split: Split, types: Sequence[str], share: float, seed: int) -> Split:
    """Return a split in which a share of all mentions has another type. Less noise is inside more, for a seed."""

    def drawn(sentence: Sentence, span: Span) -> Span:
        digest = hashlib.sha256(f"{seed}\t{sentence.id}\t{span.start}\t{span.end}".encode()).digest()
        if int.from_bytes(digest[:8], "big") >= share * 2**64:
            return span
        others = [name for name in types if name != span.type] or [span.type]
        return span._replace(type=others[digest[8] % len(others)])

    sentences = tuple(replace(s, spans=tuple(drawn(s, x) for x in s.spans or ())) for s in split.sentences)
    return replace(split, sentences=sentences)


# ------------------------------------------------------------------------------------------ the plan


class Lar(Method):
    """Source training, alignment, target training, writing, reassignment."""

    Settings = Settings
    chains = evaluates = True

    def __init__(self) -> None:
        """Look each backbone up once for all the cells that one Lar plans."""
        self.find: Callable[[str, str | None], Backbone] = cache(backbones.find)
        self.check = cache(check)

    def plan(self, transfer: Transfer, settings: Settings, seed: int) -> Stage:
        """Return the stage that ends in the types of the test words' mentions.

        Raises Unsupported for an order or a selection that LAR cannot do, PlanError for a model that is not there.
        """
        s, spec = settings, transfer.spec
        if spec.order != "sequence":
            raise Unsupported("LAR learns the source before it aligns the target; say `order: sequence`.")
        if spec.select == "source-dev":
            raise Unsupported("LAR does not select on source dev; say `select: target-dev` or `select: last`.")
        tested = transfer.tested
        strange = [kind for kind in ([] if isinstance(s.ask, str) else s.ask) if kind not in tested.types]
        if strange:
            raise Unsupported(f"ask names {', '.join(strange)}, and {tested.name} has {', '.join(tested.types)}.")
        if s.ask == "dev" and spec.select != "target-dev":
            raise Unsupported("`ask: dev` learns from target dev which types gain; say `select: target-dev`.")
        for shape in ("typed", "lar"):
            if s.writing.decoding == "free":
                self.check(self.find(s.backbone, s.revision), Prompting(shape, s.instruction))
        made = _Stages(self, transfer, s, seed)
        if spec.regime == "zero-shot":
            return made.zero_shot()
        return made.in_domain() if spec.regime == "in-domain" else made.supervised()


class _Stages:
    """The stages of one cell."""

    def __init__(self, method: Lar, transfer: Transfer, s: Settings, seed: int) -> None:
        self.transfer, self.s, self.seed = transfer, s, seed
        self.target, self.tested = transfer.target, transfer.tested
        self.backbone = method.find(s.backbone, s.revision)
        self.embedder = partial(method.find, s.embedder, None)
        self.names = formats.names_of(self.tested.card)
        self.source_names = {k: n for d in transfer.sources for k, n in formats.names_of(d.card).items()}

    def in_domain(self) -> Stage:
        model = self.train("typed", [self.target], self.dev_of(self.target))
        return self.inferred(model, {self.target.name: None})

    def supervised(self) -> Stage:
        """Return direct or enhanced inference by a model that has learned the source, then each target (section 5.3).

        Every target is aligned by the source's own model, so that its types are those of the source throughout.
        """
        source = model = self.source()
        aligned: dict[str, Stage | None] = {}
        for domain in (*self.transfer.chain, self.target):
            found = None if self.s.alignment == "none" else self.alignment(source, domain, gold=domain.train)
            shape = "typed" if found is None else "lar"
            model = self.train(shape, [domain], self.dev_of(domain), init=model, alignment=found)
            aligned[domain.name] = found
        return self.inferred(model, aligned)

    def inferred(self, model: Stage, aligned: Mapping[str, Stage | None]) -> Stage:
        """Return what a model says of the test words.

        A corpus that was not aligned, such as the source, is asked in the format of the source, by direct inference.

        aligned   target -> its alignment, where it has one
        """
        found = aligned.get(self.tested.name)
        shape = "typed" if found is None else "lar"
        written = self.wrote(model, shape, self.transfer.test, found)
        if self.tested.name not in aligned:
            return written
        return self.reassigned(written, self._dev_wrote(model, shape, found), found)

    def dev_of(self, domain: Domain) -> Split | None:
        """Return the dev that chooses an epoch of a target's training."""
        return domain.dev if self.transfer.spec.select == "target-dev" else None

    def zero_shot(self) -> Stage:
        if self.s.alignment == "none":
            raise Unsupported("in zero-shot nothing but the alignment tells target types; say `alignment: counts`.")
        if self.tested is not self.target:
            raise Unsupported("in zero-shot nothing of the target is learned that another corpus could tell of.")
        source, labels = self.source(), self.labels()
        found = self.alignment(source, self.target, labels=labels)
        if not self.s.labelled:
            written = self.wrote(source, "typed", self.transfer.test, names=self.source_names)
            return self.reassigned(written, None, found, by_source=True)
        words = once(
            words_only(self.target.train), ("sampled", self.s.labelled, self.seed),
            lambda: sample(words_only(self.target.train), "fraction", self.s.labelled, self.seed),
        )  # fmt: skip
        stage = Stage(label, title=f"{self.target.name} train, by a language model", labels=labels, words=words)
        train = Made(words.corpus, words.name, words.sentences, stage)
        model = self.train("lar", [replace(self.target, train=train)], None, init=source, alignment=found)
        return self.reassigned(self.wrote(model, "lar", self.transfer.test, found), None, found)

    def source(self) -> Stage:
        """Return the model of the sources: section 3.2, first step."""
        domains = list(self.transfer.sources)
        if self.s.source_noise:
            domains = [
                replace(d, train=once(
                    d.train, ("noise", self.s.source_noise, self.seed),
                    partial(noisy, d.train, d.types, self.s.source_noise, self.seed),
                ))
                for d in domains
            ]  # fmt: skip
        return self.train("typed", domains, None, source=True)

    def labels(self) -> Stage:
        """Return what a language model says of the words of the target's train."""
        settings = LlmPrompt.Settings(model=self.llm().model, base_url=self.s.base_url)
        words = words_only(self.target.train)
        spec = replace(self.transfer.spec, regime="zero-shot")
        stage = LlmPrompt().plan(replace(self.transfer, spec=spec, test=words), settings, self.seed)
        stage.title = f"{self.target.name} train"
        return stage

    def alignment(
        self, source: Stage, target: Domain, *, gold: Split | None = None, labels: Stage | None = None
    ) -> Stage:
        """Return the alignment of types: section 3.2, second step."""
        counts = self.s.alignment == "counts" or labels is not None
        words = words_only(target.train)
        return Stage(
            align,
            title=f"{'+'.join(d.name for d in self.transfer.sources)} and {target.name}, {self.s.alignment}, "
            f"seed {self.seed}",
            strategy=self.s.alignment,
            match=self.s.match,
            pseudo=self.wrote(source, "typed", words, names=self.source_names) if counts else None,
            gold=gold if counts else None,
            labels=labels,
            target=list(map(list, formats.names_of(target.card).items())),
            source=list(map(list, self.source_names.items())),
            rest=next((d.rest for d in self.transfer.sources if d.rest is not None), REST),
            general={
                "target": target.general,
                "source": {k: g for d in self.transfer.sources for k, g in d.general.items()},
            },
            backbone=self.embedder() if self.s.alignment == "embedding-hungarian" else None,
        )

    def train(
        self, shape: str, domains: Sequence[Domain], dev: Split | None, *, source: bool = False,
        init: Stage | None = None, alignment: Stage | None = None,
    ) -> Stage:  # fmt: skip
        """Return a training stage; that of the sources is the one of `text2text` with `format: typed`."""
        s, recipe = self.s, Recipe.of(self.s, source=source, selects=dev is not None)
        told = [s.backbone, shape, *(["after the source"] if init is not None else [])]
        return Stage(
            train_text2text,
            title=f"{'+'.join(d.name for d in domains)} ({', '.join(told)}) seed {self.seed}",
            size=float(recipe.epochs * sum(d.train.n_words for d in domains)),
            backbone=self.backbone,
            init=init,
            train=tuple(d.train for d in domains),
            options=tuple(formats.names_of(d.card) for d in domains),
            dev=dev,
            prompting=Prompting(shape, s.instruction),
            writing=None if dev is None else s.writing,
            recipe=recipe,
            seed=self.seed,
            adapter=None,
            **_bound(alignment),
        )

    def wrote(
        self, model: Stage, shape: str, words: Split, alignment: Stage | None = None,
        names: Mapping[str, str] | None = None,
    ) -> Stage:  # fmt: skip
        """Return what a model writes about words: direct inference, and pseudo labels."""
        return Stage(
            write_text2text,
            title=f"{words.corpus} {words.name} seed {self.seed}",
            size=float(words.n_words),
            model=model,
            words=words,
            options=self.names if names is None else names,
            prompting=Prompting(shape, self.s.instruction),
            writing=self.s.writing,
            precision=self.s.precision,
            seed=self.seed,
            **_bound(alignment),
        )

    def _dev_wrote(self, model: Stage, shape: str, alignment: Stage | None) -> Stage | None:
        dev = self.dev_of(self.tested)
        if self.s.ask != "dev" or self.s.reassign_with == "none" or dev is None:
            return None
        return self.wrote(model, shape, words_only(dev), alignment)

    def reassigned(
        self, written: Stage, dev: Stage | None, alignment: Stage | None, *, by_source: bool = False
    ) -> Stage:
        """Return enhanced inference over what was written; what was written, where nothing is to be reassigned."""
        s = self.s
        if s.reassign_with == "none" and not by_source:
            return written
        means = {key: kind.means for key, kind in self.tested.card.types.items()} if s.meanings else {}
        return Stage(
            reassign,
            title=f"{self.tested.name} test, with {s.reassign_with}, seed {self.seed}",
            size=float(self.transfer.test.n_words),
            written=written,
            words=self.transfer.test,
            alignment=alignment,
            by_source=by_source,
            names=list(map(list, self.names.items())),
            means=means,
            asked=None if isinstance(s.ask, str) else list(s.ask),
            llm=self.llm() if s.reassign_with == "llm" else None,
            backbone=self.embedder() if s.reassign_with == "embedding" else None,
            on_none=s.on_none,
            dev=dev,
            dev_gold=self.dev_of(self.tested) if dev is not None else None,
        )

    def llm(self) -> Llm:
        """Return the language model that is asked."""
        return Llm(models.model_name(self.s.model, "gpt-3.5-turbo"), models.base_url(self.s.base_url), max_tokens=16)


def _bound(alignment: Stage | None) -> dict[str, Stage]:
    """Return an alignment as it is bound; None is not, so that stages without one are `text2text`'s, to their keys."""
    return {} if alignment is None else {"alignment": alignment}
