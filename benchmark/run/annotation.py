"""Re-annotation: words of the target's train of which a model is unsure get the labels of an annotator.

Paper    Gravil et al., "Cross-Domain Named Entity Recognition", section 3.2
Plan     the method's own model tags the words of train and tells its doubt (`Method.doubting`); `annotate` puts the
         annotator's tags in the place of those above the threshold, and the method learns what comes of it
Departs  The paper re-annotates train's gold by hand. With gold there is nothing that an oracle could change, so the
         default is to start from the labels of the model that doubts, which has learned the sources alone.

An annotator is a function from doubted sentences to tags: `by_oracle`, `by_llm`, `by_file`, or none. What is annotated
is the train that the regime shows, and no word of dev or test. With `start: gold` the model that doubts is selected on
dev, as the transfer says.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.corpus.card import GENERAL
from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.transfer import Transfer, words_only
from benchmark.errors import PlanError, Unsupported, nearest
from benchmark.files import write_whole
from benchmark.llm import model as models
from benchmark.llm.answers import Message, Question
from benchmark.llm.ask import ask
from benchmark.llm.model import Llm
from benchmark.run.method import Method
from benchmark.run.stage import Made, Stage
from benchmark.score.protocols import read_predictions
from benchmark.score.spans import chunks, to_tags
from benchmark.work import Work

VERSION = 1  # rises when a change here could change a label

OPEN = "?"  # in a file, in the place of a tag that a person is to give
PROMPT = "annotate-1"


@dataclass(frozen=True)
class Doubted:
    """A sentence of which some words are unsure.

    tags     one a word, as they are so far
    doubts   one a word
    unsure   positions of the words above the threshold
    """

    sentence: Sentence
    tags: tuple[str, ...]
    doubts: tuple[float, ...]
    unsure: tuple[int, ...]


Tags = dict[str, dict[int, str]]  # sentence id -> position -> tag
Annotator = Callable[[Sequence[Doubted]], Tags]


# ---------------------------------------------------------------------------------------------------- the plan


def planned(method: Method, transfer: Transfer, settings: Any, seed: int, file: Path) -> Stage:
    """Return the stage that predicts the test words, after a re-annotation of train where the transfer asks for one.

    file   what a person fills in, for `by: file`
    Raises Unsupported where the method cannot do it, or the file is not there or not filled in yet.
    """
    if transfer.spec.annotate is None:
        return method.planned(transfer, settings, seed)
    known = transfer.target.train
    train = Made(
        known.corpus, known.name, words_only(known).sentences, _annotating(method, transfer, settings, seed, file)
    )
    return method.planned(replace(transfer, target=replace(transfer.target, train=train)), settings, seed)


def doubting(method: Method, transfer: Transfer, settings: Any, seed: int) -> Stage:
    """Return the stage that tags the words of the target's train, and tells how unsure each of them is."""
    assert transfer.spec.annotate is not None
    spec, target = replace(transfer.spec, annotate=None), transfer.target
    if transfer.spec.annotate.start == "model":
        spec = replace(spec, regime="zero-shot", amount=None, select="last")
        target = replace(
            target, train=words_only(target.train), dev=None if target.dev is None else words_only(target.dev)
        )
    try:
        first = method.doubting(replace(transfer, spec=spec, target=target), settings, seed)
    except Unsupported as error:
        if transfer.spec.annotate.start == "gold" or type(method).doubting is Method.doubting:
            raise
        raise Unsupported(f"the labels to start from are those of a model of the sources alone: {error}") from None
    stage = first.rebind(transfer.test, words_only(transfer.target.train))
    stage.title = f"{target.name} train, with doubt, seed {seed}"
    return stage


def labels_of(method: Method, transfer: Transfer) -> dict[str, str]:
    """Return the types that an annotator may give, and what each means: the target's, or the general ones."""
    if method.level == "general":
        return dict.fromkeys(GENERAL, "")
    return {key: kind.means for key, kind in transfer.target.card.types.items()}


def _annotating(method: Method, transfer: Transfer, settings: Any, seed: int, file: Path) -> Stage:
    asked, target = transfer.spec.annotate, transfer.target
    assert asked is not None
    types = labels_of(method, transfer)
    doubt, filled = doubting(method, transfer, settings, seed), None
    if asked.by == "file":
        try:
            read = read_file(file, target.train, types, doubt.key)
        except PlanError as error:  # one person's slip is no reason to stop a board
            raise Unsupported(str(error).replace(str(file), file.name)) from None
        if read is None or read.open:
            raise Unsupported(
                "no person has labelled its unsure words; `cdner annotate CELL` writes the file to fill in."
                if read is None
                else f"{read.open} of its unsure words are {OPEN} still; `cdner annotate CELL` tells where."
            )
        filled = {id: {str(position): tag for position, tag in tags.items()} for id, tags in read.tags.items()}
    return Stage(
        annotate,
        title=f"{target.name} train, {asked.label}, seed {seed}",
        size=float(target.train.n_words),
        doubt=doubt,
        words=words_only(target.train),
        measure=asked.measure,
        threshold=asked.threshold,
        start=start_of(method, transfer),
        oracle=_gold(method, transfer) if asked.by == "oracle" else None,
        llm=_language_model(asked.model, asked.base_url) if asked.by == "llm" else None,
        types=list(map(list, types.items())) if asked.by == "llm" else None,
        filled=filled,
    )


def start_of(method: Method, transfer: Transfer) -> Split | None:
    """Return the labels of train that are re-annotated, where they are gold; None: those of the model that doubts."""
    asked = transfer.spec.annotate
    return _gold(method, transfer) if asked is not None and asked.start == "gold" else None


def _gold(method: Method, transfer: Transfer) -> Split:
    target = transfer.target
    return target.train if method.level == "fine" else target.relabel(target.general).train


def _language_model(model: str, base_url: str) -> Llm:
    name = models.model_name(model, "")
    if not name:
        raise Unsupported("annotate: by llm names no model; say `model`, or set CDNER_LLM_MODEL.")
    return Llm(name, models.base_url(base_url))


# ---------------------------------------------------------------------------------------------------- the step


def annotate(
    work: Work,
    *,
    doubt: Path,
    words: Split,
    measure: str,
    threshold: float,
    start: Split | None,
    oracle: Split | None,
    llm: Llm | None,
    types: Sequence[Sequence[str]] | None,
    filled: Mapping[str, Mapping[str, str]] | None,
) -> None:
    """Write split.jsonl, the train that is learned from, and annotation.json: how many words were unsure and changed.

    doubt    the artefact of `doubting`
    start    labels to start from; None: those of the model that doubts
    oracle, llm, filled   the annotator; all None: nobody
    types    what a language model may choose from, in this order, and what each means
    An `I-` that follows no word of its type begins a mention, as in the CoNLL script. A word that the annotator says
    nothing of keeps its tag.
    """
    found = doubted(doubt, words, measure, threshold, start)
    given: Tags = {}
    if oracle is not None:
        given = by_oracle(oracle)(found)
    elif llm is not None:
        given = by_llm(work, llm, {row[0]: row[1] for row in types or ()})(found)
    elif filled is not None:
        given = by_file(filled)(found)
    sentences, changed = [], 0
    for item in found:
        tags = [given.get(item.sentence.id, {}).get(n, tag) for n, tag in enumerate(item.tags)]
        changed += sum(a != b for a, b in zip(tags, item.tags, strict=True))
        sentences.append(replace(item.sentence, spans=tuple(chunks(tags))))
    Split(words.corpus, words.name, tuple(sentences)).to_jsonl(work.folder / "split.jsonl")
    told: dict[str, Any] = {
        "words": words.n_words,
        "unsure": sum(len(item.unsure) for item in found),
        "annotated": sum(map(len, given.values())),
        "changed": changed,
    }
    if oracle is not None:
        gold = [to_tags(len(s.words), s.spans or ()) for s in oracle.sentences]
        told["right_before"] = _equal([item.tags for item in found], gold)
        told["right_after"] = _equal([to_tags(len(s.words), s.spans or ()) for s in sentences], gold)
    (work.folder / "annotation.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf8")


def doubted(doubt: Path, words: Split, measure: str, threshold: float, start: Split | None) -> list[Doubted]:
    """Return every sentence with its tags so far, the doubt of each word, and which words are above the threshold.

    Arguments as of `annotate`.
    """
    tagged = {p.id: p.spans for p in read_predictions(doubt / "predictions.jsonl")}
    spans = tagged if start is None else {s.id: s.spans or () for s in start.sentences}
    column = {"entropy": 1, "surprisal": 2}[measure]
    lines = map(json.loads, (doubt / "doubt.jsonl").read_text(encoding="utf8").splitlines())
    doubts = {line[0]: tuple(line[column]) for line in lines}
    return [
        Doubted(
            s, tuple(to_tags(len(s.words), spans[s.id])), doubts[s.id],
            tuple(n for n, value in enumerate(doubts[s.id]) if value > threshold),
        )
        for s in words.sentences
    ]  # fmt: skip


def _equal(some: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> int:
    return sum(a == b for one, other in zip(some, others, strict=True) for a, b in zip(one, other, strict=True))


# ---------------------------------------------------------------------------------------------------- annotators


def by_oracle(gold: Split) -> Annotator:
    """Return an annotator that knows gold."""
    tags = {s.id: to_tags(len(s.words), s.spans or ()) for s in gold.sentences}
    return lambda found: {item.sentence.id: {n: tags[item.sentence.id][n] for n in item.unsure} for item in found}


def by_file(filled: Mapping[str, Mapping[str, str]]) -> Annotator:
    """Return an annotator that gives what a person has filled in, for every word that was marked."""
    return lambda _: {id: {int(position): tag for position, tag in tags.items()} for id, tags in filled.items()}


def by_llm(work: Work, llm: Llm, types: Mapping[str, str]) -> Annotator:
    """Return an annotator that asks a language model about each sentence that has unsure words.

    An answer of which a line is missing or cannot be read is asked for again once; then what can be read counts.
    """

    def annotator(found: Sequence[Doubted]) -> Tags:
        asked = [item for item in found if item.unsure]
        questions = [Question(item.sentence.id, (Message("user", question(item, types)),), PROMPT) for item in asked]
        complaints = [partial(_complaint, item=item, types=types) for item in asked]
        came = ask(work, llm, questions, complaints)
        return {item.sentence.id: _answered(a.text, item, types) for item, a in zip(asked, came, strict=True)}

    return annotator


def question(item: Doubted, types: Mapping[str, str]) -> str:
    """Return what a language model is asked about a sentence."""
    meanings = "\n".join(f"- {name}{f': {means}' if means else ''}" for name, means in types.items())
    words = " ".join(f"{word}[{n}]" if n in item.unsure else word for n, word in enumerate(item.sentence.words))
    numbers = "\n".join(f"{n}: (tag of {item.sentence.words[n]!r})" for n in item.unsure)
    return (
        "You label named entities, word by word, in the IOB2 scheme: B-type for the first word of a mention, I-type "
        f"for each further word of it, O for a word outside all mentions. The types are:\n{meanings}\n\n"
        f"Sentence, with the words to label numbered:\n{words}\n\n"
        f"Answer with one line for each numbered word and nothing else, in this form:\n{numbers}"
    )


def _answered(text: str, item: Doubted, types: Mapping[str, str]) -> dict[int, str]:
    """Return the tags that can be read from an answer, by position."""
    lines = re.findall(r"^[\s\-*`]*\[?(\d+)\]?\s*[:.)=]\s*`?([^\s`]+)", text, re.MULTILINE)
    read = {int(number): tag for number, tag in lines}
    return {n: read[n] for n in item.unsure if n in read and _is_tag(read[n], types)}


def _complaint(text: str, *, item: Doubted, types: Mapping[str, str]) -> str | None:
    read = _answered(text, item, types)
    missing = [str(n) for n in item.unsure if n not in read]
    if not missing:
        return None
    return (
        f"No tag could be read for {', '.join(missing)}. Answer again, one line for each numbered word, such as "
        f"`{missing[0]}: B-{next(iter(types))}` or `{missing[0]}: O`."
    )


def _is_tag(tag: str, types: Mapping[str, str]) -> bool:
    return tag == "O" or (tag[:2] in ("B-", "I-") and tag[2:] in types)


# ---------------------------------------------------------------------------------------------------- the file


@dataclass(frozen=True)
class Filled:
    """What a person's file says.

    tags     of the marked words that are filled in
    open     marked words that are not
    changed  marked words whose tag is not the one that stands beside it
    first    line of the first word that is open; 0: none is
    """

    tags: Tags
    open: int
    changed: int
    first: int = 0

    @property
    def marked(self) -> int:
        """Return the number of words that a person is asked about."""
        return sum(map(len, self.tags.values())) + self.open


def file_of(board: Path, cell: str) -> Path:
    """Return where the file of a cell lies, or would lie."""
    return board / "annotations" / f"{cell}.conll"


def write_file(
    path: Path, cell: str, found: Sequence[Doubted], types: Mapping[str, str], measure: str, key: str
) -> None:
    """Write the file that a person fills in: CoNLL-style, a word a line, its tag behind a tab.

    key   of the stage that doubts
    """
    blocks = []
    for item in found:
        rows = [
            f"{word}\t{OPEN}\t{tag}\t{item.doubts[n]:.2f}" if n in item.unsure else f"{word}\t{tag}"
            for n, (word, tag) in enumerate(zip(item.sentence.words, item.tags, strict=True))
        ]
        if rows:
            blocks.append("\n".join(rows))
    head = [
        f"{cell}, {sum(len(item.unsure) for item in found)} words to label, doubted by {key}",
        f"Each word with {OPEN} is one to label: put its tag in the place of {OPEN}. The columns behind it are the tag",
        f"that it had, and its {measure}. Other words show their tags, and are not read.",
        "Tags are O, and B- (first word of a mention) or I- (the others) with one of these types:",
        *(f"  {name}{f': {means}' if means else ''}" for name, means in types.items()),
    ]
    write_whole(path, "\n".join(f"# {line}" for line in head) + "\n\n" + "\n\n".join(blocks) + "\n")


def read_file(path: Path, train: Split, types: Mapping[str, str], key: str) -> Filled | None:
    """Return what a person has filled in; None where there is no file.

    Raises PlanError, with the line, for a tag that is none, and for a file that is not of these sentences, not of the
    model that doubts now, or lacks a word that was marked.
    """
    try:
        lines = path.read_text(encoding="utf8").split("\n")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: the file cannot be read ({error}).") from None
    told = re.search(r", (\d+) words to label, doubted by (\w+)$", lines[0].rstrip("\r"))
    if told is None or told[2] != key:
        raise PlanError(
            f"{path}:1: the words were marked by another model than this cell has now. Move the file away, and "
            "`cdner annotate` writes it anew."
        )
    tags: Tags = {}
    left = changed = first = 0
    number = next((n for n, line in enumerate(lines) if not line.startswith("# ")), len(lines))
    for sentence in (s for s in train.sentences if s.words):
        while number < len(lines) and not lines[number].strip():
            number += 1
        for position, word in enumerate(sentence.words):
            row = lines[number].rstrip("\r").split("\t") if number < len(lines) else [""]
            number += 1
            if row[0] != word or len(row) < 2:
                raise PlanError(
                    f"{path}:{number}: found {row[0]!r}, expected {word!r} (word {position + 1} of {sentence.id}) and "
                    "a tag behind a tab. Only tags may be changed; move the file away, and `cdner annotate` writes it "
                    "anew."
                )
            if len(row) < 3:
                continue
            tag = row[1].strip()
            if tag in (OPEN, ""):
                left += 1
                first = first or number
                continue
            if not _is_tag(tag, types):
                near = nearest(tag, [f"{prefix}-{name}" for name in types for prefix in "BI"])
                raise PlanError(
                    f"{path}:{number}: the tag {tag!r} is none.{near} Tags are O, and B- or I- with {', '.join(types)}."
                )
            changed += tag != row[2]
            tags.setdefault(sentence.id, {})[position] = tag
    rest = next((n for n, line in enumerate(lines[number:], number + 1) if line.strip()), None)
    if rest is not None:
        raise PlanError(f"{path}:{rest}: {train.corpus} train has no more sentences, and the file goes on.")
    found = Filled(tags, left, changed, first)
    if found.marked != int(told[1]):
        raise PlanError(
            f"{path}: {told[1]} words were marked, and {found.marked} are. Leave the columns behind a tag as they are: "
            "they tell which words were marked."
        )
    return found
