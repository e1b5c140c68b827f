"""Protocols: named rules for counting hits, all computed from gold and one file of predictions.

strict             same start, end and type, over the spans of a prediction; equals seqeval's strict IOB2
conlleval          the same over chunks, read off the tags as emitted the way the CoNLL script reads them
conlleval-stream   the same over all sentences as one, as LANER and CrossNER count
gliner             spans as GLiNER counts them: types in lower case, none over 12 words predicted
topt, cpner        type and text, without positions, as these papers' code counts them: `texts.py`
uniner, b2ner      the same
token              equal word tags: macro-averages over labels, and accuracy

Every count is a `Counts(hit, extra, missed)`, summed over a corpus, never averaged over sentences. A sentence's gold
and predicted spans are sets: a span predicted twice counts once. The rules over texts take the pairs that a method has
generated, as often as it has; where there are none, the texts of its spans.

A new protocol is a function from gold and predictions to `Scores`, and one row in `PROTOCOLS`. Records that lack it
are scored again from their predictions with the next `cdner run`.
"""

import gzip
import io
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import RecordError, UnknownName, nearest
from benchmark.score import texts
from benchmark.score.spans import Span, chunks, relabel_tag, split_tag, to_tags

SCORER_VERSION = 1  # rises when any count could change

Labels = NDArray[np.intp]


# ---- what is counted


@dataclass(frozen=True, slots=True)
class Counts:
    """Hits, extra predictions (false positives) and missed gold (false negatives). Adds up over sentences.

    `topt` may count more hits than there is gold: then `missed` is below 0, and recall and F1 are over 100.

    >>> Counts(hit=3, extra=1, missed=1) + Counts(hit=0, extra=0, missed=2)
    Counts(hit=3, extra=1, missed=3)
    """

    hit: int = 0
    extra: int = 0
    missed: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.hit + other.hit, self.extra + other.extra, self.missed + other.missed)

    @property
    def precision(self) -> float:
        """Hits among the predicted, in percent; 0 where nothing was predicted."""
        return _percent(self.hit, self.hit + self.extra)

    @property
    def recall(self) -> float:
        """Hits among gold, in percent; 0 where gold has nothing."""
        return _percent(self.hit, self.hit + self.missed)

    @property
    def f1(self) -> float:
        """2 tp / (2 tp + fp + fn), in percent; 0 where there is neither gold nor prediction."""
        return _percent(2 * self.hit, 2 * self.hit + self.extra + self.missed)


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


@dataclass(frozen=True, slots=True)
class Scores:
    """What a protocol counted: over the corpus, per type, and per sentence in gold's order.

    `types` has those that occur in gold or in the predictions, sorted by name. A protocol over tags has tags there.
    """

    all: Counts
    types: dict[str, Counts]
    sentences: list[Counts]


@dataclass(frozen=True, slots=True)
class Gold:
    """A sentence as annotated. Only the scorer sees those of a test split."""

    id: str
    words: Sequence[str]
    spans: Sequence[Span]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a method says of one sentence.

    spans    what is scored by position
    tags     one a word, as emitted, illegal ones too
    pairs    (type, text) as generated, also texts that stand nowhere in the sentence
    raw      the generated text
    scores   the method's confidence, one a span
    """

    id: str
    spans: tuple[Span, ...]
    tags: tuple[str, ...] | None = None
    pairs: tuple[tuple[str, str], ...] | None = None
    raw: str | None = None
    scores: tuple[float, ...] | None = None


# ---- the protocols


@dataclass(frozen=True, slots=True)
class Protocol:
    """A named rule. `count` takes gold and predictions of the same sentences in the same order: `score` sees to it.

    by   what is compared: spans by `position`, mentions by `text`, tags of a `word`
    """

    name: str
    by: str
    about: str
    count: Callable[[Sequence[Gold], Sequence[Prediction]], Scores]
    metrics: Callable[[Counts, Mapping[str, Counts]], dict[str, float]]


def count_strict(gold: Sequence[Gold], predicted: Sequence[Prediction]) -> Scores:
    """Count spans that agree in start, end and type."""
    return _count_sets([g.spans for g in gold], [p.spans for p in predicted])


def count_conlleval(gold: Sequence[Gold], predicted: Sequence[Prediction]) -> Scores:
    """Count chunks that agree. Where a prediction has no tags, its spans are the chunks that its tags would have."""
    read = [p.spans if p.tags is None else chunks(p.tags) for p in predicted]
    return _count_sets([g.spans for g in gold], read)


def count_conlleval_stream(gold: Sequence[Gold], predicted: Sequence[Prediction]) -> Scores:
    """Count chunks of all sentences in one stream: a predicted `I-` at a start goes on with the last chunk before it.

    A chunk is of the sentence in which it starts. Where there are no tags they are made of the spans, and nothing goes
    on; RecordError where these overlap. The order of the sentences matters, and is gold's.

    jinpeng01/LANER, src/trainer.py:80-115, src/conll2002_metrics.py:150-200.
    """
    return _count_tags(*_tag_rows(gold, predicted), opened_by="BI", stream=True)


def count_gliner(gold: Sequence[Gold], predicted: Sequence[Prediction]) -> Scores:
    """Count spans that agree, types in lower case, among those that GLiNER would predict.

    None is over 12 words wide, and none overlaps another: the better score stays, or the one named first. Gold is as
    it is: what is wider is missed.

    urchade/GLiNER, gliner/evaluation/, configs/ (max_width).
    """
    wanted = [[Span(start, end, type.lower()) for start, end, type in g.spans] for g in gold]
    return _count_sets(wanted, list(map(_flat, predicted)))


WIDEST = 12  # words; GLiNER's max_width


def _flat(predicted: Prediction) -> list[Span]:
    spans = [Span(start, end, type.lower()) for start, end, type in predicted.spans]
    scores = predicted.scores or [0.0] * len(spans)
    taken: set[int] = set()
    kept = []
    for _, span in sorted(zip(scores, spans, strict=True), key=lambda pair: -pair[0]):
        words = range(span.start, span.end)
        if len(words) <= WIDEST and taken.isdisjoint(words):
            kept.append(span)
            taken.update(words)
    return kept


def _by_text(rule: texts.Rule) -> Callable[[Sequence[Gold], Sequence[Prediction]], Scores]:
    """Return the protocol of a rule over texts.

    The types that it takes for offered are those of all this gold: TOPT reads them off the test file.
    """

    def count(gold: Sequence[Gold], predicted: Sequence[Prediction]) -> Scores:
        offered = {span[2] for g in gold for span in g.spans}
        total: dict[str, Counts] = defaultdict(Counts)
        sentences = []
        for g, p in zip(gold, predicted, strict=True):
            wanted = _mentions(g.words, g.spans)
            found = _mentions(g.words, p.spans) if p.pairs is None else p.pairs
            tally = {type: Counts(*counts) for type, counts in rule(" ".join(g.words), wanted, found, offered).items()}
            for type, counts in tally.items():
                total[type] += counts
            sentences.append(sum(tally.values(), Counts()))
        types = dict(sorted(total.items()))
        return Scores(sum(types.values(), Counts()), types, sentences)

    return count


def _mentions(words: Sequence[str], spans: Iterable[Span]) -> list[texts.Mention]:
    """Return type and text of each span, its words joined by blanks, in the order of the sentence."""
    return [(type, " ".join(words[start:end])) for start, end, type in sorted(set(spans))]


def count_token(gold: Sequence[Gold], predicted: Sequence[Prediction]) -> Scores:
    """Count words whose tags are equal, each tag against all others; `O` is a tag like any other.

    A wrong word is extra for the predicted tag and missed for gold's, so that the F1 over all words is accuracy. Where
    there are no tags they are made of the spans; RecordError where these overlap.
    """
    numbers = _Numbers()
    gold_labels, predicted_labels, sentence = _flatten(*_tag_rows(gold, predicted), numbers)
    hit = np.flatnonzero(gold_labels == predicted_labels)
    return _tally(list(numbers), len(gold), sentence, gold_labels, predicted_labels, hit)


def word_tags(gold: Sequence[Gold], predicted: Sequence[Prediction]) -> tuple[list[str], list[str]]:
    """Return the gold tag and the predicted tag of every word, in gold's order, as `token` counts them.

    Raises RecordError as `score` does.
    """
    wanted, found = _tag_rows(gold, align(gold, predicted))
    return list(chain.from_iterable(wanted)), list(chain.from_iterable(found))


def _tag_rows(gold: Sequence[Gold], predicted: Sequence[Prediction]) -> tuple[list[Sequence[str]], list[Sequence[str]]]:
    wanted: list[Sequence[str]] = [_tags(g.id, len(g.words), g.spans, of="gold") for g in gold]
    found: list[Sequence[str]] = [
        _tags(p.id, len(g.words), p.spans, of="predicted") if p.tags is None else p.tags
        for g, p in zip(gold, predicted, strict=True)
    ]
    return wanted, found


def micro(all: Counts, types: Mapping[str, Counts]) -> dict[str, float]:
    """Return F1, precision and recall over all spans, in percent."""
    return {"f1": all.f1, "precision": all.precision, "recall": all.recall}


def swapped(all: Counts, types: Mapping[str, Counts]) -> dict[str, float]:
    """Return F1, and precision and recall in each other's place, as in lines with the prediction before gold."""
    return {"f1": all.f1, "precision": all.recall, "recall": all.precision}


def micro_and_mean_of_types(all: Counts, types: Mapping[str, Counts]) -> dict[str, float]:
    """Return F1, precision and recall over all mentions, and the plain mean of the types' F1, in percent."""
    return {**micro(all, types), "macro_f1": sum(c.f1 for c in types.values()) / max(len(types), 1)}


def macro_with_accuracy(all: Counts, types: Mapping[str, Counts]) -> dict[str, float]:
    """Return the plain means over tags, those that gold never has included, and accuracy, in percent."""
    size = max(len(types), 1)
    return {
        "f1": sum(c.f1 for c in types.values()) / size,
        "precision": sum(c.precision for c in types.values()) / size,
        "recall": sum(c.recall for c in types.values()) / size,
        "accuracy": all.f1,
    }


_ROWS = (
    Protocol("strict", "position", "Spans with the same start, end and type; micro-F1.", count_strict, micro),
    Protocol("conlleval", "position", "Chunks as the CoNLL script reads them off tags.", count_conlleval, micro),
    Protocol(
        "conlleval-stream", "position", "The same without sentence bounds; precision and recall swapped.",
        count_conlleval_stream, swapped,
    ),
    Protocol("gliner", "position", "Spans of at most 12 words, types in lower case.", count_gliner, micro),
    Protocol("topt", "text", "Texts, a hit counts its words; no F1, may be over 100.", _by_text(texts.topt), micro),
    Protocol("cpner", "text", "Texts as multisets.", _by_text(texts.cpner), micro),
    Protocol(
        "uniner", "text", "Normalised texts as sets, without misc.", _by_text(texts.uniner), micro_and_mean_of_types
    ),
    Protocol("b2ner", "text", "Lower-cased texts as sets.", _by_text(texts.b2ner), micro),
    Protocol("token", "word", "Equal word tags; macro-F1 over tags, O included.", count_token, macro_with_accuracy),
)  # fmt: skip
PROTOCOLS = {protocol.name: protocol for protocol in _ROWS}


def score(protocol: str, gold: Sequence[Gold], predicted: Sequence[Prediction]) -> Scores:
    """Return what `protocol` counts. Predictions may come in any order; `Scores.sentences` has gold's.

    Raises UnknownName for a protocol that is not there, and RecordError where gold and predictions are not of the
    same sentences, or a span or the tags do not fit their sentence.
    """
    if protocol not in PROTOCOLS:
        raise UnknownName(
            f"there is no protocol {protocol!r}.{nearest(protocol, PROTOCOLS)} There are: {', '.join(PROTOCOLS)}."
        )
    return PROTOCOLS[protocol].count(gold, align(gold, predicted))


def align(gold: Sequence[Gold], predicted: Sequence[Prediction]) -> list[Prediction]:
    """Return the predictions in gold's order. Raises RecordError where they are not of these very sentences."""
    gold_ids, predicted_ids = [g.id for g in gold], [p.id for p in predicted]
    if again := [id for id, times in Counter(gold_ids).items() if times > 1]:
        raise RecordError(f"gold has more than one sentence {_some(again)}. An id names one sentence.")
    if again := [id for id, times in Counter(predicted_ids).items() if times > 1]:
        raise RecordError(f"there is more than one prediction for {_some(again)}. A sentence is predicted once.")
    by_id = {p.id: p for p in predicted}
    if missing := [id for id in gold_ids if id not in by_id]:
        raise RecordError(
            f"there is no prediction for {_some(missing)}. "
            "A sentence in which nothing is found needs one too, with no spans."
        )
    known = set(gold_ids)
    if extra := [id for id in predicted_ids if id not in known]:
        raise RecordError(
            f"there is a prediction for {_some(extra)}, and gold has no such sentence. Is this its split?"
        )
    aligned = [by_id[id] for id in gold_ids]
    for g, p in zip(gold, aligned, strict=True):
        _check_fit(g, p)
    return aligned


def _check_fit(gold: Gold, predicted: Prediction) -> None:
    length = len(gold.words)
    for of, spans in (("gold", gold.spans), ("predicted", predicted.spans)):
        for span in spans:
            if not 0 <= span[0] < span[1] <= length:
                raise RecordError(
                    f"{gold.id}: the {of} span {tuple(span)} does not fit the sentence, which has {length} words."
                )
    if predicted.tags is not None and len(predicted.tags) != length:
        raise RecordError(
            f"{gold.id}: there are {len(predicted.tags)} predicted tags, and the sentence has {length} words."
        )


def _some(ids: Sequence[str]) -> str:
    """Return the first ids, and how many more there are.

    >>> _some(["a/1", "a/2", "a/3", "a/4", "a/5"])
    "'a/1', 'a/2', 'a/3' and 2 more"
    """
    shown = ", ".join(repr(id) for id in ids[:3])
    return f"{shown} and {len(ids) - 3} more" if len(ids) > 3 else shown


def _tags(id: str, length: int, spans: Sequence[Span], *, of: str) -> list[str]:
    try:
        return to_tags(length, set(spans))
    except ValueError as error:
        raise RecordError(f"{id}: the {of} spans cannot be written as tags: {error}") from error


# ---- counting sets of spans


def _count_sets(gold: Sequence[Iterable[Span]], predicted: Sequence[Iterable[Span]]) -> Scores:
    """Count spans that are equal, sentence by sentence."""
    hits: dict[str, int] = defaultdict(int)
    extras: dict[str, int] = defaultdict(int)
    misses: dict[str, int] = defaultdict(int)
    sentences = []
    for gold_spans, predicted_spans in zip(gold, predicted, strict=True):
        wanted, found = set(gold_spans), set(predicted_spans)
        hit, extra, missed = wanted & found, found - wanted, wanted - found
        for spans, total in ((hit, hits), (extra, extras), (missed, misses)):
            for span in spans:
                total[span[2]] += 1
        sentences.append(Counts(len(hit), len(extra), len(missed)))
    names = sorted(hits.keys() | extras.keys() | misses.keys())
    types = {name: Counts(hits.get(name, 0), extras.get(name, 0), misses.get(name, 0)) for name in names}
    return Scores(sum(types.values(), Counts()), types, sentences)


# ---- counting over tags, vectorised
#
# The tags of all sentences lie in one array of small numbers, N words long; the steps look at the M words that are not
# O. Of these a word is *inside* when it is an I- of the type of the word before it, in the same sentence. Every other
# opens a run that lasts up to the next that is not inside. A run is an entity when it opens with B- (strict) or with B-
# or I- (conlleval): that is the whole difference between the two. In a stream the sentence does not matter.


def strict_counts(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Scores:
    """Count the entities of legal IOB2 tags, as `strict` counts those of `from_tags`; made for millions of words.

    Raises ValueError where a sentence has more gold tags than predicted ones, or fewer.

    >>> strict_counts([["B-port", "I-port", "O"]], [["B-port", "O", "I-port"]]).all
    Counts(hit=0, extra=1, missed=1)
    """
    return _count_tags(gold, predicted, opened_by="B")


def conlleval_counts(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Scores:
    """Count the chunks of tags, as `conlleval` counts those of `chunks`; made for millions of words.

    Raises ValueError where a sentence has more gold tags than predicted ones, or fewer.

    >>> conlleval_counts([["B-port", "I-port", "O"]], [["B-port", "O", "I-port"]]).all
    Counts(hit=0, extra=2, missed=1)
    """
    return _count_tags(gold, predicted, opened_by="BI")


class _Numbers(dict[str, int]):
    """Numbers strings in the order in which they are first asked for."""

    def __missing__(self, name: str) -> int:
        return self.setdefault(name, len(self))


def _count_tags(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], *, opened_by: str, stream: bool = False
) -> Scores:
    tags, types = _Numbers(), _Numbers()
    gold_tags, predicted_tags, sentence = _flatten(gold, predicted, tags)
    parts = [split_tag(tag) for tag in tags]
    outside = types[""]
    type_of = np.array([types[type] for _, type in parts], dtype=np.intp)
    is_inner = np.array([prefix == "I" for prefix, _ in parts], dtype=np.bool_)
    opens = np.array([prefix in opened_by for prefix, _ in parts], dtype=np.bool_)

    def read(numbers: Labels) -> tuple[Labels, Labels]:
        """Return the type of the entity that starts at each word, else `outside`, and where it ends: (N,) both."""
        at = np.flatnonzero(type_of[numbers] != outside)  # (M,)
        tag, type, home = numbers[at], type_of[numbers[at]], sentence[at]
        inside = is_inner[tag]
        inside[1:] &= (np.diff(at) == 1) & (type[1:] == type[:-1])
        if not stream:
            inside[1:] &= home[1:] == home[:-1]
        inside[:1] = False
        heads = np.flatnonzero(~inside)  # the runs' first words, in `at`
        lasts = np.append(heads[1:], len(at))[: len(heads)] - 1
        kept = opens[tag[heads]]
        heads, lasts = heads[kept], lasts[kept]
        start_types, ends = np.full(len(numbers), outside), np.zeros(len(numbers), dtype=np.intp)
        start_types[at[heads]] = type[heads]
        ends[at[heads]] = at[lasts] + 1
        return start_types, ends

    gold_types, gold_ends = read(gold_tags)
    predicted_types, predicted_ends = read(predicted_tags)
    hit = np.flatnonzero((gold_types != outside) & (gold_types == predicted_types) & (gold_ends == predicted_ends))
    return _tally(list(types), len(gold), sentence, gold_types, predicted_types, hit, nothing=outside)


def _flatten(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], numbers: _Numbers
) -> tuple[Labels, Labels, Labels]:
    """Return the numbers of all gold tags, of all predicted tags, and the sentence of each word: (N,) each."""
    if len(gold) != len(predicted):
        raise ValueError(f"there are {len(gold)} gold sentences and {len(predicted)} predicted ones.")
    lengths = list(map(len, gold))
    if (found := list(map(len, predicted))) != lengths:
        place = next(i for i, pair in enumerate(zip(lengths, found, strict=True)) if pair[0] != pair[1])
        raise ValueError(f"sentence {place} has {lengths[place]} gold tags and {found[place]} predicted ones.")
    size = sum(lengths)
    gold_numbers, predicted_numbers = (
        np.fromiter(map(numbers.__getitem__, chain.from_iterable(tags)), dtype=np.intp, count=size)
        for tags in (gold, predicted)
    )
    return gold_numbers, predicted_numbers, np.repeat(np.arange(len(gold)), lengths)


def _tally(
    names: Sequence[str],
    size: int,
    sentence: Labels,
    gold: Labels,
    predicted: Labels,
    hit: Labels,
    *,
    nothing: int | None = None,
) -> Scores:
    """Count by label and by sentence.

    names            the name of each label
    size             how many sentences there are
    sentence         (N,)   the sentence of each word
    gold, predicted  (N,)   what stands at each word; `nothing` is not counted
    hit              (H,)   the words at which the two agree
    """
    wanted = np.flatnonzero(gold != nothing)
    found = np.flatnonzero(predicted != nothing)

    def by(of_gold: Labels, of_predicted: Labels, length: int) -> list[Counts]:
        hits = np.bincount(of_gold[hit], minlength=length)
        extras = np.bincount(of_predicted[found], minlength=length) - hits
        misses = np.bincount(of_gold[wanted], minlength=length) - hits
        return list(map(made.__getitem__, zip(hits.tolist(), extras.tolist(), misses.tolist(), strict=True)))

    made = _CountsOnce()  # most sentences have one of a few counts
    counted = dict(zip(names, by(gold, predicted, len(names)), strict=True))
    types = {name: counted[name] for name in sorted(counted) if counted[name] != Counts()}
    return Scores(sum(types.values(), Counts()), types, by(sentence, sentence, size))


class _CountsOnce(dict[tuple[int, int, int], Counts]):
    """Makes equal counts one object."""

    def __missing__(self, row: tuple[int, int, int]) -> Counts:
        return self.setdefault(row, Counts(*row))


# ---- general types, and kinds of errors

Item = TypeVar("Item", Gold, Prediction)


def relabel(items: Iterable[Item], mapping: Mapping[str, str]) -> list[Item]:
    """Return gold or predictions with every type replaced: fine types by general ones.

    Neighbours that come to share a type stay two spans. Tags are relabelled word by word, so that an illegal
    `B-port I-vessel` may become a legal run. A generated pair whose type is not in the mapping keeps it.

    Raises RecordError for a span or a tag whose type is not in the mapping.
    """
    return [_relabelled(item, mapping) for item in items]


def _relabelled(item: Item, mapping: Mapping[str, str]) -> Item:
    try:
        spans = tuple(Span(start, end, mapping[type]) for start, end, type in item.spans)
        if isinstance(item, Gold):
            return replace(item, spans=spans)
        tags = None if item.tags is None else tuple(relabel_tag(tag, mapping) for tag in item.tags)
    except KeyError as error:
        [type] = error.args
        raise RecordError(
            f"{item.id}: the type {type!r} has no general type.{nearest(type, mapping)} "
            f"Mapped are: {', '.join(mapping)}."
        ) from None
    pairs = None if item.pairs is None else tuple((mapping.get(type, type), text) for type, text in item.pairs)
    return replace(item, spans=spans, tags=tags, pairs=pairs)


def errors(gold: Sequence[Gold], predicted: Sequence[Prediction]) -> dict[str, int]:
    """Count each gold and each predicted span exactly once, as one of five kinds.

    hit        same bounds, same type
    type       same bounds, wrong type
    boundary   the two overlap, with other bounds; of the same type or not
    missed     a gold span that is left over
    spurious   a predicted span that is left over

    The kinds are dealt out in this order, and a span that has found its partner is gone. Within a kind, predicted
    spans choose in the order of their positions, each the first gold span that is still free. So one long prediction
    over two gold spans is one `boundary` and one `missed`, and always

        gold spans      = hit + type + boundary + missed
        predicted spans = hit + type + boundary + spurious

    Raises RecordError as `score` does.
    """
    total = dict.fromkeys(("hit", "type", "boundary", "missed", "spurious"), 0)
    for g, p in zip(gold, align(gold, predicted), strict=True):
        wanted, found = set(g.spans), set(p.spans)
        total["hit"] += len(wanted & found)
        left, loose = sorted(wanted - found), sorted(found - wanted)
        for kind, agree in (("type", _same_bounds), ("boundary", _overlap)):
            alone = []
            for span in loose:
                partner = next((other for other in left if agree(span, other)), None)
                if partner is None:
                    alone.append(span)
                else:
                    left.remove(partner)
                    total[kind] += 1
            loose = alone
        total["missed"] += len(left)
        total["spurious"] += len(loose)
    return total


def _same_bounds(one: Span, other: Span) -> bool:
    return one[:2] == other[:2]


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


# ---- the file of predictions

OPTIONAL = ("tags", "pairs", "raw", "scores")


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write one JSON object a line, compressed when the name ends in `.gz`. Equal predictions give equal bytes."""
    data = "".join(json.dumps(_to_json(p), allow_nan=False) + "\n" for p in predictions).encode()
    if path.name.endswith(".gz"):
        buffer = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
            file.write(data)
        data = buffer.getvalue()
    path.write_bytes(data)


def read_predictions(path: Path) -> list[Prediction]:
    """Return the predictions that `write_predictions` wrote.

    Raises RecordError, with the file and where there is one the line, for whatever cannot be read.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.name.endswith(".gz") else data).decode()
    except FileNotFoundError:
        raise RecordError(f"{path}: there is no such file of predictions.") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: the predictions cannot be read ({error}). Predict again.") from error
    return parse_predictions(text, path)


def parse_predictions(text: str, where: Path | str) -> list[Prediction]:
    """Return the predictions in a text, one JSON object a line. Raises RecordError with `where` and the line."""
    predictions = []
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        try:
            predictions.append(_from_json(json.loads(line)))
        except _LineError as error:
            raise RecordError(f"{where}, line {number}: {error}") from None
        except (
            ValueError,
            OverflowError,
            RecursionError,
        ) as error:  # a number of too many digits is no JSONDecodeError
            raise RecordError(f"{where}, line {number}: this is no JSON ({error}).") from error
    return predictions


class _LineError(ValueError):
    """A line of JSON that is no prediction."""


def _to_json(prediction: Prediction) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "id": prediction.id,
        "spans": [[int(start), int(end), type] for start, end, type in prediction.spans],
    }
    if prediction.scores is not None:
        plain["scores"] = [float(number) for number in prediction.scores]
    for key in ("tags", "pairs", "raw"):
        value = getattr(prediction, key)
        if value is not None:
            plain[key] = value
    return {key: plain[key] for key in ("id", "spans", *OPTIONAL) if key in plain}


def _from_json(plain: object) -> Prediction:
    if not isinstance(plain, dict):
        raise _LineError(f"found {_short(plain)}, expected an object with `id` and `spans`.")
    if unknown := [key for key in plain if key not in ("id", "spans", *OPTIONAL)]:
        raise _LineError(
            f"there is no key {unknown[0]!r} in a prediction. There are: {', '.join(('id', 'spans', *OPTIONAL))}."
        )
    for key in ("id", "spans"):
        if key not in plain:
            raise _LineError(f"the key `{key}` is missing.")
    spans = _entries(plain, "spans", _is_span, "a span is [start, end, type]")
    tags = _entries(plain, "tags", _is_text, "a tag is a string")
    pairs = _entries(plain, "pairs", _is_pair, "a pair is [type, text]")
    scores = _entries(plain, "scores", _is_number, "a score is a number")
    for key in ("id", "raw"):
        if key in plain and not isinstance(plain[key], str):
            raise _LineError(f"`{key}` is {_short(plain[key])}, expected a string.")
    return Prediction(
        id=plain["id"],
        spans=tuple(Span(start, end, type) for start, end, type in spans or ()),
        tags=None if tags is None else tuple(tags),
        pairs=None if pairs is None else tuple((type, text) for type, text in pairs),
        raw=plain.get("raw"),
        scores=None if scores is None else tuple(float(number) for number in scores),
    )


def _entries(plain: dict[str, Any], key: str, fits: Callable[[Any], bool], expected: str) -> Collection[Any] | None:
    """Return the list under `key`, each entry checked, or None where there is no such key."""
    if key not in plain:
        return None
    if not isinstance(plain[key], list):
        raise _LineError(f"`{key}` is {_short(plain[key])}, expected a list.")
    for entry in plain[key]:
        if not fits(entry):
            raise _LineError(f"`{key}` has {_short(entry)}; {expected}.")
    entries: list[Any] = plain[key]
    return entries


def _is_span(entry: object) -> bool:
    return (
        isinstance(entry, list)
        and len(entry) == 3
        and all(isinstance(bound, int) and not isinstance(bound, bool) for bound in entry[:2])
        and isinstance(entry[2], str)
    )


def _is_pair(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry)


def _is_text(entry: object) -> bool:
    return isinstance(entry, str)


def _is_number(entry: object) -> bool:
    return isinstance(entry, int | float) and not isinstance(entry, bool)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
