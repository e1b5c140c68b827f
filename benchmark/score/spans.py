"""Spans, and the two ways to read them off word tags.

A span is `(start, end, type)`: word positions of one sentence, end exclusive. A tag is `O`, `B-type` or `I-type`; a
type may hold hyphens. Whatever else stands in a tag's place (`E-port`, `B.port`, a bare `B`) is read as `O`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """A typed run of words: `words[start:end]` is an entity of type `type`."""

    start: int
    end: int
    type: str


def split_tag(tag: str) -> tuple[str, str]:
    """Return a tag's prefix and type; `("O", "")` for `O` and for whatever is no tag.

    >>> split_tag("B-sea-port"), split_tag("O"), split_tag("B.port")
    (('B', 'sea-port'), ('O', ''), ('O', ''))
    """
    prefix, _, type = tag.partition("-")
    return (prefix, type) if type and prefix in ("B", "I") else ("O", "")


def from_tags(tags: Sequence[str]) -> list[Span]:
    """Return the entities of legal IOB2: a `B-` and the `I-` of its type that follow it. Other `I-` are dropped.

    Equals seqeval in `mode="strict", scheme=IOB2`.

    >>> from_tags(["B-port", "I-vessel", "O", "I-port"])
    [Span(start=0, end=1, type='port')]
    """
    return _runs(tags, opened_by="B")


def chunks(tags: Sequence[str]) -> list[Span]:
    """Return the chunks that the CoNLL-2000/2002/2003 script reads: an `I-` after `O` or another type starts one.

    >>> chunks(["B-port", "I-vessel", "O", "I-port"])
    [Span(start=0, end=1, type='port'), Span(start=1, end=2, type='vessel'), Span(start=3, end=4, type='port')]
    """
    return _runs(tags, opened_by="BI")


def _runs(tags: Sequence[str], *, opened_by: str) -> list[Span]:
    """Return the runs of one type whose first tag has a prefix in `opened_by`."""
    found = []
    start, head, kind = 0, "O", ""
    for position, tag in enumerate([*tags, "O"]):
        prefix, type = split_tag(tag)
        if prefix == "I" and type == kind:
            continue
        if head in opened_by:
            found.append(Span(start, position, kind))
        start, head, kind = position, prefix, type
    return found


def to_tags(length: int, spans: Iterable[Span]) -> list[str]:
    """Return the IOB2 tags of a sentence of `length` words. Spans may come in any order.

    Raises ValueError where a span does not fit the sentence, has no type, or overlaps another.

    >>> to_tags(4, [Span(2, 3, "port"), Span(0, 2, "vessel")])
    ['B-vessel', 'I-vessel', 'B-port', 'O']
    """
    tags = ["O"] * length
    owner: Span | None = None
    for span in sorted(spans):
        start, end, type = span
        if not 0 <= start < end <= length:
            raise ValueError(f"the span {tuple(span)} does not fit a sentence of {length} words.")
        if not type:
            raise ValueError(f"the span {tuple(span)} has no type.")
        if owner is not None and start < owner.end:
            raise ValueError(f"the spans {tuple(owner)} and {tuple(span)} overlap, and a word has one tag only.")
        tags[start:end] = [f"B-{type}"] + [f"I-{type}"] * (end - start - 1)
        owner = span
    return tags


def relabel_tag(tag: str, mapping: Mapping[str, str]) -> str:
    """Return the tag with its type replaced; `O` and whatever is no tag stay. KeyError for a type without a mapping.

    >>> relabel_tag("I-harbour", {"harbour": "location"})
    'I-location'
    """
    prefix, type = split_tag(tag)
    return f"{prefix}-{mapping[type]}" if type else tag
