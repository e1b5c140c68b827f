"""A corpus in memory: sentences with the spans of their mentions, in three splits.

A sentence keeps the id that its place in the file gives it, `<corpus>/<split>/<n>`, wherever it ends up.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from benchmark.corpus.card import Card, Cut, load_card
from benchmark.corpus.fetch import locate
from benchmark.corpus.read import read
from benchmark.errors import DataError, PlanError
from benchmark.score.spans import Span


@dataclass(frozen=True)
class Sentence:
    """Words and the spans of their mentions; `spans` is None where gold is not shown."""

    id: str
    words: tuple[str, ...]
    spans: tuple[Span, ...] | None


@dataclass(frozen=True)
class Split:
    """The sentences of one split, in the order of their file."""

    corpus: str
    name: str
    sentences: tuple[Sentence, ...]

    @cached_property
    def hash(self) -> str:
        """The sha256 of ids, words and spans. The order of sentences counts; that of a sentence's spans does not."""
        digest = hashlib.sha256()
        for s in self.sentences:
            digest.update(f"{_as_json([s.id, s.words, s.spans if s.spans is None else sorted(s.spans)])}\n".encode())
        return digest.hexdigest()

    @property
    def mentions(self) -> int:
        """The number of mentions; 0 where gold is not shown."""
        return sum(len(sentence.spans or ()) for sentence in self.sentences)

    @cached_property
    def n_words(self) -> int:
        """The number of words."""
        return sum(len(sentence.words) for sentence in self.sentences)

    def words_only(self) -> "Split":
        """Return the same sentences with their gold not shown."""
        return replace(self, sentences=tuple(replace(sentence, spans=None) for sentence in self.sentences))

    def relabel(self, mapping: Mapping[str, str | None]) -> "Split":
        """Return the split with its types renamed. A span whose type maps to None is dropped.

        Raises DataError for a type that the mapping lacks.
        """
        return replace(
            self,
            sentences=tuple(
                replace(sentence, spans=None if sentence.spans is None else tuple(_renamed(sentence, mapping)))
                for sentence in self.sentences
            ),
        )

    def to_jsonl(self, path: Path) -> None:
        """Write a header line with corpus and name, then `[id, words, spans]` for each sentence."""
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.write(f"{_as_json({'corpus': self.corpus, 'name': self.name})}\n")
            file.writelines(f"{_as_json([s.id, s.words, s.spans])}\n" for s in self.sentences)

    @classmethod
    def from_jsonl(cls, path: Path) -> "Split":
        """Return the split that `to_jsonl` wrote, the same to its hash. Raises DataError, naming the line."""
        number, sentences = 1, []
        try:
            with path.open(encoding="utf-8", newline="\n") as file:
                header = json.loads(file.readline())
                corpus, name = str(header["corpus"]), str(header["name"])
                for number, line in enumerate(file, start=2):  # noqa: B007 - the handler tells it
                    id_, words, spans = json.loads(line)
                    gold = None if spans is None else tuple(Span(start, end, type_) for start, end, type_ in spans)
                    sentences.append(Sentence(id_, tuple(words), gold))
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}:{number}: this is no line of a split that cdner wrote. Write it anew.") from error
        except OSError as error:
            raise DataError(f"{path}: the file cannot be read ({error.strerror}).") from error
        return cls(corpus, name, tuple(sentences))


@dataclass(frozen=True)
class Corpus:
    """A card and its three splits; `dev` is None where there is none, or none is wanted."""

    card: Card
    train: Split
    dev: Split | None
    test: Split


def load(name_or_card: str | Card, data: Path | None = None, cards: tuple[Path, ...] = (), dev: str = "card") -> Corpus:
    """Return a corpus, every file of it checked against its card.

    data   the user's data folder; None takes CDNER_DATA, the cache and the network in turn
    cards  the user's own folders of cards
    dev    `card` does what the card says; `none` leaves dev out, and keeps in train what a cut would take
    """
    card = load_card(name_or_card, cards) if isinstance(name_or_card, str) else name_or_card
    train = load_split(card, "train", data, dev=dev)
    test = load_split(card, "test", data)
    wanted = dev == "card" and card.source["dev"] is not None
    return Corpus(card, train, load_split(card, "dev", data) if wanted else None, test)


def load_split(card: Card, split: str, data: Path | None = None, *, dev: str = "card") -> Split:
    """Return one split of a corpus, reading no file but its own (train's, for a dev that is cut off it).

    With `dev="none"` train is the whole file, whatever the card would cut off it.
    """
    if dev not in ("card", "none"):
        raise PlanError(f"dev is {dev!r}, expected card or none.")
    cut = card.source["dev"]
    if not isinstance(cut, Cut) or split == "test" or dev == "none":
        return _whole(card, split, data)
    whole = _whole(card, "train", data)
    part = tuple(s for s in whole.sentences if falls_in_cut(s.words, cut.share) == (split == "dev"))
    if not part:
        raise DataError(
            f"{card.path}: a cut of {cut.share} leaves {split} empty: train has {len(whole.sentences)} sentences. "
            "Change the share, or take `dev: none`."
        )
    return Split(card.name, split, part)


def falls_in_cut(words: Sequence[str], share: float) -> bool:
    """Return whether a sentence belongs to a dev cut off train: by its words alone, so that repeats stay together."""
    digest = hashlib.sha256("\t".join(words).encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def _whole(card: Card, split: str, data: Path | None) -> Split:
    """Return a split as its file has it."""
    path = locate(card, split, data)
    rows = read(path, columns=card.format.columns, separator=card.format.separator, types=card.types)
    sentences = tuple(
        Sentence(f"{card.name}/{split}/{n}", tuple(words), tuple(_spans(tags))) for n, (words, tags) in enumerate(rows)
    )
    loaded = Split(card.name, split, sentences)
    if split in card.sizes:
        counted = (len(sentences), loaded.n_words, loaded.mentions)
        for what, found, stated in zip(("sentences", "words", "mentions"), counted, card.sizes[split], strict=True):
            if found != stated:
                raise DataError(
                    f"{path}: {split} has {found} {what}, the card says {stated}. "
                    "If the source changed, raise `version` and rerun its records."
                )
    return loaded


def _spans(tags: Iterable[str]) -> Iterator[Span]:
    """Yield the spans of tags that `read` has found to be legal IOB2."""
    start, type_, end = 0, "", 0
    for end, tag in enumerate(tags):
        if tag[0] == "I":
            continue
        if type_:
            yield Span(start, end, type_)
        start, type_ = end, tag[2:]
    if type_:
        yield Span(start, end + 1, type_)


def _renamed(sentence: Sentence, mapping: Mapping[str, str | None]) -> Iterator[Span]:
    for span in sentence.spans or ():
        try:
            type_ = mapping[span.type]
        except KeyError:
            known = ", ".join(mapping) or "nothing"
            raise DataError(f"{sentence.id}: type {span.type!r} has no new name. The mapping has {known}.") from None
        if type_ is not None:
            yield span._replace(type=type_)


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
