"""Generated text back to word spans, and an audit of what became of every piece of it.

Texts are compared without blanks, so that a backbone may split or join sub-words as it likes, and match whole words
only. `cased` says whether case was kept: then equal letters go before folded ones; else folded ones are all there is.
Folded text has no case, no accents, no compatibility forms and no invisible characters.

Where a text stands in several places, the pair takes the first free place behind that of the pair before it, else the
first free place at all. A place is free where no word of it is taken: word tags know no overlap.
"""

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

from benchmark.score.spans import Span

VERSION = 1  # rises when a change here could change a span

Pair = tuple[str, str]  # type and text, as generated
Place = tuple[int, int]  # start and end in words, end exclusive


@dataclass(frozen=True, slots=True)
class Audit:
    """What became of generated pieces. Adds up over sentences. Each piece is one of the first six.

    exact       placed, and the text stands in one place
    ambiguous   placed, and the text stands in several
    taken       its words belong to earlier pairs
    absent      the text stands nowhere in the sentence
    unknown     the type is none of the options; where the text stands does not matter
    unparsable  it is no pair
    folded      of those placed: the letters were equal only when folded

    >>> Audit(exact=2, folded=1) + Audit(exact=1, absent=1)
    Audit(exact=3, ambiguous=0, taken=0, absent=1, unknown=0, unparsable=0, folded=1)
    """

    exact: int = 0
    ambiguous: int = 0
    taken: int = 0
    absent: int = 0
    unknown: int = 0
    unparsable: int = 0
    folded: int = 0

    def __add__(self, other: "Audit") -> "Audit":
        return Audit(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def placed(self) -> int:
        """The pairs that became spans."""
        return self.exact + self.ambiguous


@dataclass(frozen=True, slots=True)
class Grounded:
    """Generated pairs on the words of their sentence.

    spans   of the pairs that were placed, in the order of their words; none overlap
    pairs   all of them as generated, with the key of the type where it is an option
    places  where each of them was placed, as (start, end) in words; None where it was not
    """

    spans: tuple[Span, ...]
    pairs: tuple[Pair, ...]
    places: tuple[Place | None, ...]
    audit: Audit


def ground(
    words: Sequence[str],
    pairs: Iterable[Pair],
    options: Mapping[str, str],
    *,
    cased: bool = True,
    unparsable: int = 0,
    known: Sequence[Place | None] | None = None,
) -> Grounded:
    """Return generated (type, text) pairs as spans of a sentence, with an audit.

    options      name of a type, as it was offered -> its key
    unparsable   pieces of the same text that are no pairs, to be counted with the rest
    known        where each pair is known to stand, whatever the rules say; None for one that has to be looked for

    >>> found = ground(["Paris", "met", "PARIS", "Hilton"], [("place", "Paris"), ("person", "paris hilton")],
    ...                {"place": "place", "person": "person"})
    >>> found.spans
    (Span(start=0, end=1, type='place'), Span(start=2, end=4, type='person'))
    >>> found.audit
    Audit(exact=2, ambiguous=0, taken=0, absent=0, unknown=0, unparsable=0, folded=1)
    """
    text_places = Places(words)
    spans: list[Span] = []
    kept: list[Pair] = []
    places: list[Place | None] = []
    audit = Audit(unparsable=unparsable)
    taken: set[int] = set()
    behind = 0
    for number, (name, text) in enumerate(pairs):
        key = option(name, options)
        places.append(None)
        kept.append((key if key is not None else name, text))
        if key is None:
            audit += Audit(unknown=1)
            continue
        exact = text_places.exact(text) if cased else []
        folded = [place for place in text_places.folded(text) if place not in exact]
        if not exact and not folded:
            audit += Audit(absent=1)
            continue
        stands = None if known is None else known[number]
        place = _chosen([stands] if stands else exact, [] if stands else folded, taken, behind)
        if place is None:
            audit += Audit(taken=1)
            continue
        several = len(exact or folded) > 1
        audit += Audit(exact=int(not several), ambiguous=int(several), folded=int(place in folded and cased))
        spans.append(Span(*place, key))
        places[-1] = place
        taken.update(range(*place))
        behind = place[1]
    return Grounded(tuple(sorted(spans)), tuple(kept), tuple(places), audit)


def _chosen(exact: Sequence[Place], folded: Sequence[Place], taken: Collection[int], behind: int) -> Place | None:
    """Return the place that a pair takes; None where no place is free."""
    for places in (exact, folded):
        free = [place for place in places if not any(word in taken for word in range(*place))]
        if free:
            return next((place for place in free if place[0] >= behind), free[0])
    return None


def option(name: str, options: Mapping[str, str]) -> str | None:
    """Return the key of a type by the name that was offered: the same letters, else the only one of the same folded.

    >>> options = {"political party": "politicalparty", "person": "person"}
    >>> option("Political Party", options), option("politician", options)
    ('politicalparty', None)
    """
    if name in options:
        return options[name]
    alike = {key for known, key in options.items() if fold(known) == fold(name)}
    return alike.pop() if len(alike) == 1 else None


class Places:
    """Where texts stand in a sentence, as (start, end) in words, end exclusive, left to right."""

    def __init__(self, words: Sequence[str]) -> None:
        self._exact = _Line([squeeze(word) for word in words])
        self._folded = _Line([fold(word) for word in words])
        self.longest = len(self._folded.letters)  # folded letters of the whole sentence

    def exact(self, text: str) -> list[Place]:
        """Return the places where all letters are equal."""
        return self._exact.find(squeeze(text))

    def folded(self, text: str) -> list[Place]:
        """Return the places where the folded letters are equal."""
        return self._folded.find(fold(text))

    def has(self, text: str) -> bool:
        """Return whether the text stands in the sentence."""
        return bool(self.folded(text))


class _Line:
    """The letters of a sentence, and where its words begin and end in them."""

    def __init__(self, words: Sequence[str]) -> None:
        self.letters = "".join(words)
        self.starts: dict[int, int] = {}
        self.ends: dict[int, int] = {}
        offset = 0
        for number, word in enumerate(words):
            if word:  # a word without letters belongs to no place
                self.starts[offset] = number
                offset += len(word)
                self.ends[offset] = number + 1

    def find(self, text: str) -> list[Place]:
        found = []
        at = self.letters.find(text) if text else -1
        while at >= 0:
            start, end = self.starts.get(at), self.ends.get(at + len(text))
            if start is not None and end is not None:
                found.append((start, end))
            at = self.letters.find(text, at + 1)
        return found


def squeeze(text: str) -> str:
    """Return the text without blanks.

    >>> squeeze("St . John 's")
    "St.John's"
    """
    return "".join(text.split())


@lru_cache(maxsize=1 << 16)
def fold(text: str) -> str:
    """Return the text without blanks, case, accents, compatibility forms and invisible characters.

    >>> fold("Café  Ｂａｒ"), fold("STRASSE") == fold("Straße")
    ('cafebar', True)
    """
    before, folded = "", text
    while folded != before:  # folding can bring out what must be folded again
        before = folded
        parts = unicodedata.normalize("NFKD", folded.casefold())
        folded = "".join(c for c in parts if not _is_dropped(c))
    return folded


def _is_dropped(letter: str) -> bool:
    """Return whether a letter is a blank, an accent or invisible: uncased BERT drops the same."""
    category = unicodedata.category(letter)
    return letter.isspace() or bool(unicodedata.combining(letter)) or category == "Mn" or category[0] == "C"
