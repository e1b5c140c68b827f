"""Slices: strict counts of the mentions that have something in common, and which type is taken for which.

A gold span counts in the slice that it is in, a predicted span in its own: an extra span of three words is extra among
spans of three words, whatever gold has there. So each dimension deals out every hit, extra and missed span exactly
once, and its slices add up to the strict counts.

span-length      words of the span
sentence-length  words of its sentence
seen             its text is a mention in the `target`'s train as the regime shows it; only in that of an `other`
                 corpus that is learned from; or `unseen`
shared           its type is one that another corpus has that is learned from (`shared`), or `new`
consistency      its text is, in the target's train, a mention of `this` type alone; of `several`, this one among them;
                 of `others` alone; or `unseen`

The lengths and the label consistency are attributes of Fu, Liu and Neubig, "Interpretable Multi-dataset Evaluation for
Named Entity Recognition" (EMNLP 2020, section 3.1), which buckets predicted spans by their own attributes too. Bounds
of buckets are ours, and the same for every corpus; their consistency is a share, cut into ours.

Texts are compared with their case folded, words joined by blanks.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from benchmark.score.protocols import Gold, Prediction
from benchmark.score.spans import Span

DIMENSIONS = {
    "span-length": ("1", "2", "3", "4", "5+"),
    "sentence-length": ("1-10", "11-20", "21-30", "31-40", "41+"),
    "seen": ("target", "other", "unseen"),
    "shared": ("shared", "new"),
    "consistency": ("this", "several", "others", "unseen"),
}

Mentions = Iterable[tuple[Sequence[str], Sequence[Span]]]  # words of a sentence, and its spans


@dataclass(frozen=True)
class Shown:
    """What there was to learn of names and types, for one type level.

    own      the folded text of a mention in the target's train, as it was shown -> the types that it has there
    others   folded texts of mentions in all else that was learned from
    shared   types of the target that something else has that was learned from
    """

    own: Mapping[str, frozenset[str]]
    others: frozenset[str]
    shared: frozenset[str]

    def relabel(self, mapping: Mapping[str, str], shared: Iterable[str]) -> "Shown":
        """Return the same with every type of a mention replaced, and with other shared types."""
        own = {text: frozenset(mapping[type] for type in types) for text, types in self.own.items()}
        return Shown(own, self.others, frozenset(shared))


def folded(words: Sequence[str], span: Span) -> str:
    """Return the text of a span as texts are compared.

    >>> folded(["the", "Salt", "Road"], Span(1, 3, "street"))
    'salt road'
    """
    return " ".join(words[span[0] : span[1]]).casefold()


def types_of(mentions: Mentions) -> dict[str, frozenset[str]]:
    """Return the folded text of each mention -> its types."""
    found: dict[str, set[str]] = {}
    for words, spans in mentions:
        for span in spans:
            found.setdefault(folded(words, span), set()).add(span[2])
    return {text: frozenset(types) for text, types in found.items()}


def count(gold: Sequence[Gold], predicted: Iterable[Prediction], shown: Shown) -> dict[str, Any]:
    """Return the counts of every slice, and of types taken for types, as a record keeps them.

    predicted   of the same sentences, in any order: `protocols.score` says where they are not

    Each of DIMENSIONS -> bucket -> [hit, extra, missed]; `confusion` as `confused` has it; `shared_types`, those of
    gold and predictions that are shared.
    """
    by_id = {p.id: p.spans for p in predicted}
    buckets = {name: {bucket: [0, 0, 0] for bucket in names} for name, names in DIMENSIONS.items()}
    pairs: Counter[tuple[str | None, str | None]] = Counter()
    for g in gold:
        wanted, found = set(g.spans), set(by_id[g.id])
        pairs.update(_paired(wanted, found))
        for place, spans in enumerate((wanted & found, found - wanted, wanted - found)):
            for span in spans:
                for name, bucket in _buckets(g.words, span, shown).items():
                    buckets[name][bucket][place] += 1
    types = {type for pair in pairs for type in pair if type is not None}
    return {**buckets, "confusion": confused(pairs), "shared_types": sorted(types & shown.shared)}


def _buckets(words: Sequence[str], span: Span, shown: Shown) -> dict[str, str]:
    """Return the bucket of a span in each dimension."""
    start, end, type = span
    text = folded(words, span)
    own = shown.own.get(text, frozenset())
    return {
        "span-length": DIMENSIONS["span-length"][min(end - start, 5) - 1],
        "sentence-length": DIMENSIONS["sentence-length"][min((len(words) - 1) // 10, 4)],
        "seen": "target" if own else "other" if text in shown.others else "unseen",
        "shared": "shared" if type in shown.shared else "new",
        "consistency": ("this" if len(own) == 1 else "several") if type in own else "others" if own else "unseen",
    }


def _paired(wanted: set[Span], found: set[Span]) -> Iterable[tuple[str | None, str | None]]:
    """Yield the types of gold and predicted spans of the same bounds; None beside a span that has no partner.

    Spans of the same bounds and the same type are partners first; what else has the same bounds, in the order of types.
    """
    for span in wanted & found:
        yield span[2], span[2]
    left: dict[tuple[int, int], tuple[list[str], list[str]]] = {}
    for side, spans in enumerate((wanted - found, found - wanted)):
        for start, end, type in sorted(spans):
            left.setdefault((start, end), ([], []))[side].append(type)
    for gold, predicted in left.values():
        yield from zip_longest(gold, predicted)


def confused(pairs: Mapping[tuple[str | None, str | None], int]) -> dict[str, Any]:
    """Return how often each gold type (rows) has each predicted type (columns) within the same bounds.

    types    of gold and predictions, sorted
    counts   a row a gold type, then that of predicted spans with no gold in their bounds (spurious); a column a
             predicted type, then that of gold spans with no prediction in their bounds (missed)

    >>> confused({("port", "port"): 3, ("port", "vessel"): 1, ("port", None): 2, (None, "vessel"): 4})
    {'types': ['port', 'vessel'], 'counts': [[3, 1, 2], [0, 0, 0], [0, 4, 0]]}
    """
    types = sorted({type for pair in pairs for type in pair if type is not None})
    ends = [*types, None]
    return {"types": types, "counts": [[pairs.get((gold, predicted), 0) for predicted in ends] for gold in ends]}
