"""Explanations of mentions (GTOK, TOPT section 3.1): why a mention of train has its type, as a language model tells it.

File      JSON, a list of {"text": sentence, "explanations": [{"word": mention, "label": type, "explanation": ...}]},
          as ZelateCalcite/TOPT_NER publishes them; a card's `knowledge` pins one
As text   one sentence of a split an explanation, its words those between blanks: what is known before anything runs
Marks     of an explanation's words, the first occurrence of each word of the mention and of its type's key are its
          spans: what the authors' first mask hides
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmark.corpus.card import Card
from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.fetch import locate_knowledge
from benchmark.corpus.transfer import Domain
from benchmark.errors import DataError, Unsupported
from benchmark.score.spans import Span

RULES = 1  # rises when a change here could change what is asked, kept or marked
SPLIT = "knowledge"  # the name of every split of explanations
MARK = "named"  # the type of the spans of an explanation's words
NEGATIVE = ("however", "However", "not appropriate", "not accurate", "I cannot")  # the authors' code
BOILERPLATE = (r"Thank you for.*?\.", r"I'm here to .*?\.")


class Explained(NamedTuple):
    """Why a mention has its type.

    text      the sentence, its words joined by blanks
    mention   likewise
    type      a key of the card
    """

    text: str
    mention: str
    type: str
    explanation: str


def read(path: Path) -> list[Explained]:
    """Return the explanations of a file, in its order. Raises DataError for what is no such file."""
    if not path.exists():
        raise DataError(f"{path}: there is no such file of explanations.")
    try:
        entries = json.loads(path.read_text(encoding="utf8"))
        return [
            Explained(_text(entry["text"]), _text(one["word"]), _text(one["label"]), _text(one["explanation"]))
            for entry in entries
            for one in entry["explanations"]
        ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: these are no explanations ({type(error).__name__}: {error}); expected a JSON list of "
            '{"text": ..., "explanations": [{"word": ..., "label": ..., "explanation": ...}]}.'
        ) from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def write(path: Path, found: Iterable[Explained]) -> None:
    """Write explanations as `read` reads them."""
    path.write_text(in_json(found), encoding="utf8")


def in_json(found: Iterable[Explained]) -> str:
    """Return what a file of explanations holds, those of one sentence together."""
    texts: dict[str, list[dict[str, str]]] = {}
    for one in found:
        told = {"word": one.mention, "label": one.type, "explanation": one.explanation}
        texts.setdefault(one.text, []).append(told)
    entries = [{"text": text, "explanations": told} for text, told in texts.items()]
    return json.dumps(entries, ensure_ascii=False, indent=1) + "\n"


def published(card: Card, data: Path | None = None) -> list[Explained]:
    """Return the explanations that a card's `knowledge` pins. Raises what `locate_knowledge` and `read` raise."""
    return read(locate_knowledge(card, data))


def mentions(train: Split) -> list[tuple[str, str, str]]:
    """Return sentence, text and type of every mention that a split shows."""
    return [
        (" ".join(s.words), " ".join(s.words[x.start : x.end]), x.type) for s in train.sentences for x in s.spans or ()
    ]


def shown(found: Iterable[Explained], train: Split) -> tuple[list[Explained], int]:
    """Return the explanations of mentions that train shows, and how many are of none of them.

    So nothing is learned of gold that a regime hides.
    """
    known = set(mentions(train))
    found = list(found)
    kept = [one for one in found if one[:3] in known]
    return kept, len(found) - len(kept)


def cleaned(
    found: Iterable[Explained], negative: Sequence[str] = NEGATIVE, boilerplate: Sequence[str] = BOILERPLATE
) -> tuple[list[Explained], int]:
    """Return the explanations that explain, their boilerplate cut, and how many did not (TOPT section 4.2).

    negative      phrases, case included; an explanation with one of them is left out
    boilerplate   regular expressions of what is cut; `!` becomes `.` before, as the authors have it, and double
                  quotes go
    """
    kept, dropped = [], 0
    for one in found:
        text = one.explanation.replace("!", ".").replace('"', "")
        for pattern in boilerplate:
            text = re.sub(pattern, "", text)
        text = " ".join(text.replace("\n", " ").split())
        if not text or any(phrase in text for phrase in negative):
            dropped += 1
        else:
            kept.append(one._replace(explanation=text))
    return kept, dropped


def as_split(corpus: str, found: Iterable[Explained], names: Mapping[str, str] | None = None) -> Split:
    """Return explanations as sentences of words, with their marks.

    names   key of a type -> its name, where explanations tell types by names; else their keys are marked

    >>> told = Explained("Ada runs", "Ada Lund", "person", "Ada is a person , for Ada runs")
    >>> [(x.start, x.end) for x in as_split("quay", [told]).sentences[0].spans]
    [(0, 1), (3, 4)]
    """
    named = names or {}
    return Split(
        corpus,
        SPLIT,
        tuple(_sentence(corpus, n, one, named.get(one.type, one.type)) for n, one in enumerate(found)),
    )


def _sentence(corpus: str, number: int, one: Explained, name: str) -> Sentence:
    words = tuple(one.explanation.split())
    wanted = [*one.mention.split(), *name.split()]
    places = sorted({words.index(word) for word in wanted if word in words})
    return Sentence(f"{corpus}/knowledge/{number}", words, tuple(Span(n, n + 1, MARK) for n in places))


@dataclass(frozen=True)
class Statistics:
    """What TOPT's tables 1 and 3 tell of a corpus of explanations.

    texts          sentences of which a mention is explained
    explanations   of mentions that train shows
    strange        explanations of what is no mention of train, left out
    tokens         words of the explanations, between blanks
    sentences      of the explanations, by the marks that end them
    mentions       of train, each sentence's mention of a type once
    explained      of those, the ones with an explanation
    negative       explanations that do not explain, by a phrase of a list (`cleaned`)
    """

    texts: int
    explanations: int
    strange: int
    tokens: int
    sentences: int
    mentions: int
    explained: int
    negative: int = 0

    @property
    def fail_rate(self) -> float:
        """The share of train's mentions that are not explained."""
        return 1 - self.explained / self.mentions if self.mentions else 0.0

    @property
    def rates(self) -> Mapping[str, float]:
        """Explanations and their sentences a text, and the share of mentions without one."""
        texts = max(1, self.texts)
        return {
            "explanations a text": self.explanations / texts,
            "sentences a text": self.sentences / texts,
            "fail rate": self.fail_rate,
        }


def statistics(found: Sequence[Explained], strange: int, train: Split, negative: int = 0) -> Statistics:
    """Return the figures of explanations, of which so many more were of no mention of train, and so many negative."""
    return Statistics(
        texts=len({one.text for one in found}),
        explanations=len(found),
        strange=strange,
        tokens=sum(len(one.explanation.split()) for one in found),
        sentences=sum(len(sentences(one.explanation)) for one in found),
        mentions=len(set(mentions(train))),
        explained=len({one[:3] for one in found}),
        negative=negative,
    )


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, cut behind `.`, `!` or `?` and a blank.

    >>> sentences("It is one. So is e.g. this! ")
    ['It is one.', 'So is e.g.', 'this!']
    """
    return [part for part in re.split(r"(?<=[.!?])\s+", text.strip()) if part]


class Learned(NamedTuple):
    """Explanations as text to learn from, and what to call them: with how many of all are in it, where not all are."""

    split: Split
    title: str


def learned(
    target: Domain,
    name: str,
    *,
    data: Path | None = None,
    full: bool,
    negative: Sequence[str] = NEGATIVE,
    boilerplate: Sequence[str] = BOILERPLATE,
) -> Learned:
    """Return the explanations of what a target's train shows: `published` ones, or those of a file (`of_file`)."""
    if name == "published":
        return of_target(target, data)
    return of_file(target, name, full=full, negative=negative, boilerplate=boilerplate)


def of_target(target: Domain, data: Path | None = None) -> Learned:
    """Return the published explanations of what a target's train shows, as they are published.

    Raises Unsupported where there are none.
    """
    if target.card.knowledge is None:
        raise Unsupported(f"no explanations of {target.name} are published: its card names none.")
    return _learned(target, published(target.card, data), "published")


def of_file(
    target: Domain,
    name: str,
    *,
    full: bool,
    negative: Sequence[str] = NEGATIVE,
    boilerplate: Sequence[str] = BOILERPLATE,
) -> Learned:
    """Return the explanations of a file of what a target's train shows, cleaned.

    full                    whether train shows all that it has
    negative, boilerplate   of `cleaned`

    Raises DataError for no such file, Unsupported where none is of what train shows, or, of a full train, fewer than
    half are: the file is of another corpus, another split or another version then.
    """
    found = read(Path(name).expanduser())
    kept, _ = cleaned(found, negative, boilerplate)
    fits, strange = shown(found, target.train)
    if full and strange > len(fits):
        raise Unsupported(
            f"{name}: of {len(found):,} explanations {strange:,} are of no mention of {target.name}'s train; expected "
            f"`text`, `word` and `label` as train has them, `label` being one of {', '.join(target.card.types)}. "
            f"`cdner knowledge {target.name} --file {name}` counts them."
        )
    if found and not kept:
        raise Unsupported(f"{name}: each of {len(found):,} explanations has a phrase of `negative`: none explains.")
    return _learned(target, kept, name, len(found))


def _learned(target: Domain, found: Sequence[Explained], name: str, of: int | None = None) -> Learned:
    """Return the explanations of what a target's train shows, as text; they are left of so many, by default all."""
    kept, _ = shown(found, target.train)
    if not kept:
        raise Unsupported(f"no mention of {target.name} that train shows here is explained.")
    every = len(found) if of is None else of
    share = f"{len(kept):,} of {every:,} in " if len(kept) < every else ""
    return Learned(as_split(target.name, kept), f"{share}{name}")
