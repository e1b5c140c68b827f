"""Linear formats: spans as a text that a model reads and writes, and that text back to pairs of type and text.

A format is an item's template and what stands between two items. A text is read by trying every way in which it can be
cut into items, for a mention may hold the very marks that the format is made of. Good is an item whose type is an
option and whose text stands in the sentence. Of all ways, that one is taken which leaves the fewest letters outside
good items; of those, the one with the fewest letters outside any item; of those, the one with the fewest good items,
which has the longest mentions. What no reading can tell apart `lost` finds; `survives` finds what a tokenizer does not
bring back.

    topt       (type, text) (type, text)          the authors' code of TOPT (ZelateCalcite/TOPT_NER)
    topt-text  (text, type) (text, type)          TOPT section 3.3
    sentence   text is a type. text is a type.    InstructionNER (Wang et al. 2022), which joins items by commas
    typed      type : text ; type : text          LAR's targets before reassignment. Its figure 4 joins them by line
                                                  breaks, of which T5's sub-words have none
    lar        source : text => type ; ...        LAR section 3.2: reassignment; figure 4 has -> for =>

A prompt has TOPT's three parts (section 3.3): instruction, options, sentence. The wording is ours: TOPT's text does not
print that of its figure 3.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from benchmark.corpus.card import Card
from benchmark.errors import UnknownName, nearest
from benchmark.score.grounding import Pair, Places, fold, squeeze
from benchmark.score.spans import Span

VERSION = 1  # rises when a change here could change a prompt, a target or what is read

INSTRUCTION = (
    "You are an annotator of named entities. Find every named entity in the sentence and give it one of the types in "
    "the options. Copy each entity word for word, in the order of the sentence. Answer in the format {format} and "
    "write nothing else. If there is no entity, answer {nothing}."
)
COMPLAINT = (
    "This part of the answer cannot be read: {piece}\nAnswer again, in the format {format} alone, for the whole "
    "sentence. If there is no entity, answer {nothing}."
)


class Item(NamedTuple):
    """A typed mention. `source` is its type in the source domain, for formats that have one."""

    type: str
    text: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of a text: items in their order, and the pieces that are no items."""

    items: tuple[Item, ...]
    unread: tuple[str, ...] = ()

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Type and text of each item."""
        return tuple((item.type, item.text) for item in self.items)


@dataclass(frozen=True)
class Format:
    """A linear format.

    template   of one item; it names {type} and {text}, and may name {source}
    separator  between two items
    nothing    what stands for no items at all
    """

    name: str
    template: str
    separator: str
    nothing: str = "none"

    # ---- writing

    def write(self, items: Iterable[Item]) -> str:
        """Return the target text of items."""
        written = [self.template.format(**item._asdict()) for item in items]
        return self.separator.join(written) or self.nothing

    def target(self, words: Sequence[str], spans: Iterable[Span], names: Mapping[str, str]) -> str:
        """Return the target text of a sentence, its mentions in their order.

        names   key of a type -> its name
        """
        return self.write(items_of(words, spans, names))

    def prompt(self, words: Sequence[str], options: Iterable[str]) -> str:
        """Return the three parts of a question: instruction, options, sentence."""
        return f"Instruction: {self.filled(INSTRUCTION)}\nOptions: {', '.join(options)}\nSentence: {' '.join(words)}"

    def complaint(self, reading: Reading) -> str | None:
        """Return what to answer to a text of which a piece cannot be read; None where all of it is read."""
        return self.filled(COMPLAINT, piece=reading.unread[0][:200] or '""') if reading.unread else None

    def filled(self, text: str, **more: str) -> str:
        """Return a text with this format's own shape in it."""
        names = {"type": "type", "text": "entity", "source": "source type"}
        shape = self.separator.join([self.template.format(**names)] * 2)
        return text.format(format=shape, nothing=self.nothing, **more)

    # ---- reading

    def read(self, text: str, words: Sequence[str], options: Iterable[str], sources: Iterable[str] = ()) -> Reading:
        """Return the items in a text that a model wrote about a sentence.

        Blanks between words and marks may differ from the template's, and so may case. Nothing is repaired: what fits
        no item is unread.

        options   names of the types that were offered
        sources   names of the source types, for a format that has them
        """
        if fold(text.strip().rstrip(" .")) == fold(self.nothing):
            return Reading(())
        if not text.strip():
            return Reading((), ("",))
        return _Reader(self, text, Places(words), options, sources).best()

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The template, cut: mark, field, mark, field, ..., mark. Marks may be empty."""
        return tuple(re.split(r"\{(\w+)\}", self.template))

    @cached_property
    def marks(self) -> tuple[re.Pattern[str], ...]:
        """The template's marks, with any blanks around them; those behind the last belong to what joins items."""
        patterns = [_lenient(mark) for mark in self.parts[::2]]
        patterns[-1] = patterns[-1].removesuffix(r"\s*")
        return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)

    @cached_property
    def joint(self) -> re.Pattern[str]:
        """What stands between two items: the separator or a line break; for a blank, nothing or a comma will do."""
        patterns = [_lenient(self.separator)] if self.separator.strip() else []
        between = r"\s*[,;]?\s*" if self.loose else "|".join([*patterns, r"\s*\n\s*"])
        return re.compile(between, re.IGNORECASE)

    @property
    def loose(self) -> bool:
        """Whether blanks alone stand between two items, and no line break."""
        return not self.separator.strip() and "\n" not in self.separator


def _lenient(mark: str) -> str:
    """Return a pattern for a mark: blanks are free, but between letters there must be some.

    >>> _lenient(" is a "), _lenient(", ")
    ('\\\\s+is\\\\s+an?\\\\s+', '\\\\s*,\\\\s*')
    """
    words = mark.split()
    inner = r"\s+".join("an?" if word == "a" else re.escape(word) for word in words)
    left, right = (r"\s+" if edge.isspace() and inner[:1].isalpha() else r"\s*" for edge in (mark[:1], mark[-1:]))
    return f"{left}{inner}{right}" if words else r"\s*"


FORMATS = {
    made.name: made
    for made in (
        Format("topt", "({type}, {text})", " "),
        Format("topt-text", "({text}, {type})", " "),
        Format("sentence", "{text} is a {type}.", " "),
        Format("typed", "{type} : {text}", " ; "),
        Format("lar", "{source} : {text} => {type}", " ; "),
    )
}


def find(name: str) -> Format:
    """Return the format called `name`. Raises UnknownName."""
    if name not in FORMATS:
        raise UnknownName(f"there is no format {name!r}.{nearest(name, FORMATS)} There are: {', '.join(FORMATS)}.")
    return FORMATS[name]


def names_of(card: Card) -> dict[str, str]:
    """Return key -> name of a card's types, in its order; key -> key, where two names read alike."""
    names = {key: kind.name for key, kind in card.types.items()}
    return names if len(set(map(fold, names.values()))) == len(names) else {key: key for key in names}


def items_of(words: Sequence[str], spans: Iterable[Span], names: Mapping[str, str]) -> list[Item]:
    """Return the mentions of a sentence in their order, with the names of their types.

    >>> items_of(["Ada", "Lund", "swam"], [Span(0, 2, "PER")], {"PER": "person"})
    [Item(type='person', text='Ada Lund', source='')]
    """
    return [Item(names[type], " ".join(words[start:end])) for start, end, type in sorted(spans)]


# ------------------------------------------------------------------------------------------ how a text is cut

BLANKS = re.compile(r"\s*")
BREAK = re.compile(r"[,;.:\n]\s*")  # behind such a mark an item may begin, whatever stood before

Cost = tuple[int, int, int, int]  # letters in no good item; letters in no item; good items; other items, below 0
Step = tuple[Cost, Item | None, int, int]  # with all behind it; the item, or None; its end; where the next begins


class _Reader:
    """Finds the cheapest way to cut a text into items. Positions are letters of the text."""

    def __init__(
        self, shape: Format, text: str, places: Places, options: Iterable[str], sources: Iterable[str]
    ) -> None:
        self.shape, self.text, self.places = shape, text.strip(), places
        self.names = {
            kind: [(n, _spelled(n)) for n in names] for kind, names in (("type", options), ("source", sources))
        }
        head = shape.marks[0] if shape.parts[0].strip() else None
        heads = set() if head is None else {found.start() for found in head.finditer(self.text)}
        self.beginnings = sorted(heads | {found.end() for found in BREAK.finditer(self.text)} | {len(self.text)})

    def best(self) -> Reading:
        """Return the cheapest reading: what can be reached from the beginning, decided from the end."""
        size = len(self.text)
        found: dict[int, list[tuple[Item, bool, int, int]]] = {size: []}
        waiting = [0]
        while waiting:
            at = waiting.pop()
            if at not in found:
                found[at] = list(self.items(at))
                waiting.extend([self.next_beginning(at), *(after for *_, after in found[at])])
        steps: dict[int, Step] = {size: ((0, 0, 0, 0), None, size, size)}
        for at in sorted(found.keys() - {size}, reverse=True):
            after = self.next_beginning(at)
            letters = len(squeeze(self.text[at:after]))
            ways: list[Step] = [(_plus((letters, letters, 0, 0), steps[after][0]), None, after, after)]
            for item, good, end, after in found[at]:
                needed = after < size and not self.shape.loose
                idle = 0 if needed else len(squeeze(self.text[end:after]))  # rather of a mention than between two
                cost = (idle, 0, 1, 0) if good else (idle + len(squeeze(self.text[at:end])), 0, 0, -1)
                ways.append((_plus(cost, steps[after][0]), item, end, after))
            steps[at] = min(ways, key=lambda way: way[0])
        return self.followed(steps)

    def followed(self, steps: Mapping[int, Step]) -> Reading:
        """Return what the cheapest steps from the beginning give; unread pieces in a row are one."""
        items: list[Item] = []
        unread: list[str] = []
        at = begun = 0
        while at < len(self.text):
            _, item, _, after = steps[at]
            if item is not None:
                unread.append(self.text[begun:at])
                items.append(item)
                begun = after
            at = after
        pieces = (piece.strip() for piece in (*unread, self.text[begun:]))
        return Reading(tuple(items), tuple(piece for piece in pieces if piece))

    def next_beginning(self, at: int) -> int:
        """Return where, behind a place, an item may begin again."""
        return self.beginnings[bisect_right(self.beginnings, at)]

    def items(self, at: int) -> Iterator[tuple[Item, bool, int, int]]:
        """Yield every item that may stand at a place: whether it is good, its end, and where the next begins.

        Good is an item whose types are options, and whose text stands in the sentence.
        """
        opened = self.shape.marks[0].match(self.text, at)
        for values, end, after in self.fields(1, opened.end()) if opened else ():
            item = Item(**{kind: value for kind, (value, _) in values.items()})
            yield item, all(good for _, good in values.values()), end, after

    def fields(self, number: int, at: int) -> Iterator[tuple[dict[str, tuple[str, bool]], int, int]]:
        """Yield the values that the template's fields, from one on, may have from a place on; and where they end."""
        kind, last = self.shape.parts[number], number + 2 == len(self.shape.parts)
        mark = self.shape.marks[number // 2 + 1]
        for value, good, end in self.values(kind, at, self.ends(at, mark, last=last)):
            closed = mark.match(self.text, end)
            assert closed is not None
            if last:
                yield from (({kind: (value, good)}, closed.end(), after) for after in self.behind(closed.end()))
            else:
                for values, close, after in self.fields(number + 2, closed.end()):
                    yield {kind: (value, good), **values}, close, after

    def ends(self, at: int, mark: re.Pattern[str], *, last: bool) -> Iterator[int]:
        """Yield where a field may end: before the mark, and for the last field, only where the item may end too."""
        for found in _all(mark if mark.pattern else self.shape.joint, self.text, at):
            if not (last and mark.pattern) or self.is_end(found.end()):
                yield found.start()
        if not mark.pattern:
            yield len(self.text)

    def is_end(self, at: int) -> bool:
        """Return whether an item may end at a place."""
        return at == len(self.text) or self.shape.joint.match(self.text, at) is not None

    def behind(self, at: int) -> set[int]:
        """Return where the next item may begin behind an item's end: a comma may belong to either."""
        patterns = (self.shape.joint, BLANKS) if self.shape.loose else (self.shape.joint,)
        joints = [pattern.match(self.text, at) for pattern in patterns]
        return {joint.end() for joint in joints if joint} or {len(self.text)}

    def values(self, kind: str, at: int, ends: Iterator[int]) -> Iterator[tuple[str, bool, int]]:
        """Yield what a field may hold from a place on, whether that is good, and where it ends.

        A type is an option, or all up to the first end. A text is all up to any end, as long as it may stand in the
        sentence; the first that is too long for that is the last.
        """
        if kind != "text":
            first = True
            for end in ends:
                value = self.text[at:end].strip()
                name = next((n for n, spelled in self.names[kind] if spelled.fullmatch(value)), None)
                if value and (name is not None or first):
                    yield name or value, name is not None, end
                first = False
                if end - at > self.longest_name(kind):
                    return
        else:
            for end in ends:
                value = self.text[at:end].strip()
                if value:
                    yield value, self.places.has(value), end
                if len(fold(value)) > self.places.longest:
                    return

    def longest_name(self, kind: str) -> int:
        """Return how many letters a type may take, blanks between any two included."""
        return 2 * max((len(name) for name, _ in self.names[kind]), default=0)


def _all(pattern: re.Pattern[str], text: str, at: int) -> Iterator[re.Match[str]]:
    """Yield every match from a place on: of two marks that share a blank, both."""
    while at <= len(text) and (found := pattern.search(text, at)):
        yield found
        at = found.start() + 1
        while at < len(text) and text[at - 1].isspace():
            at += 1


def _spelled(name: str) -> re.Pattern[str]:
    """Return a pattern for the name of a type, whatever its case and blanks."""
    return re.compile(r"\s*".join(map(re.escape, squeeze(name))), re.IGNORECASE)


def _plus(one: Cost, other: Cost) -> Cost:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]


# ------------------------------------------------------------------------------------------ what a format loses


def lost(
    shape: Format, items: Sequence[Item], words: Sequence[str], options: Iterable[str], sources: Iterable[str] = ()
) -> list[Item]:
    """Return the items of a sentence that are not read again from their own target text.

    >>> lost(find("typed"), [Item("port", "a"), Item("port", "b")], ["a", "or", "b"], ["port"])
    []
    """
    left = Counter(shape.read(shape.write(items), words, options, sources).items)
    found = []
    for item in items:
        carried = item if "source" in shape.parts else item._replace(source="")
        if left[carried]:
            left[carried] -= 1
        else:
            found.append(item)
    return found


def survives(shape: Format, tokenizer: Any) -> list[str]:
    """Return the marks of a format, and of its prompt, that a tokenizer does not bring back.

    Blanks and case do not count, as reading does not hang on them; but a line break that comes back as a blank is lost.

    tokenizer   one of transformers: `encode(text)` and `decode(numbers, skip_special_tokens=True)`
    """
    marks = [*shape.parts[::2], shape.separator, shape.nothing, *re.findall(r"\s", shape.prompt(["x"], ["x"]))]
    missing = []
    for mark in dict.fromkeys(mark for mark in marks if mark):
        back = tokenizer.decode(tokenizer.encode(f"x{mark}x"), skip_special_tokens=True)
        kept = squeeze(f"x{mark}x").casefold() in squeeze(back).casefold() and mark.count("\n") <= back.count("\n")
        if not kept:
            missing.append(mark)
    return missing
