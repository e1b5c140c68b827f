"""Case studies: sentences of which two cells say different things, side by side, with the nearest explanations.

Nearest is by the cosine of TF-IDF vectors of words (scikit-learn's defaults) of sentence and explanation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmark.corpus.knowledge import Explained
from benchmark.score.protocols import Gold, Prediction, align
from benchmark.score.spans import Span


@dataclass(frozen=True)
class Case:
    """A sentence, its gold, and what each of two cells says.

    gain   hits of the first less those of the second
    """

    id: str
    words: Sequence[str]
    gold: Sequence[Span]
    said: tuple[Sequence[Span], Sequence[Span]]
    gain: int
    nearest: tuple[Explained, ...] = field(default=())


def cases(gold: Sequence[Gold], first: Sequence[Prediction], second: Sequence[Prediction]) -> list[Case]:
    """Return the sentences in which the cells differ, those in which they differ most in hits first.

    Raises RecordError where predictions are not of these very sentences.
    """
    found = []
    said = [{p.id: p.spans for p in align(gold, predicted)} for predicted in (first, second)]
    for truth in gold:
        a, b = (set(spans[truth.id]) for spans in said)
        if a != b:
            right = set(truth.spans)
            gain = len(a & right) - len(b & right)
            found.append(Case(truth.id, truth.words, sorted(right), (sorted(a), sorted(b)), gain))
    return sorted(found, key=lambda case: -abs(case.gain))


def explained(found: Sequence[Case], known: Sequence[Explained], number: int) -> list[Case]:
    """Return cases with the explanations that are nearest to their sentences."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not known or not found or not number:
        return list(found)
    vectors = TfidfVectorizer().fit([one.explanation for one in known])
    told = vectors.transform([one.explanation for one in known])
    alike = (vectors.transform([" ".join(case.words) for case in found]) @ told.T).toarray()
    return [
        Case(c.id, c.words, c.gold, c.said, c.gain, tuple(known[n] for n in row.argsort()[::-1][:number] if row[n] > 0))
        for c, row in zip(found, alike, strict=True)
    ]


def render(
    found: Sequence[Case], names: tuple[str, str], types: Mapping[str, str], total: int, readers: Sequence[str] = ()
) -> str:
    """Return cases as text.

    names     of the two cells
    types     key -> name
    total     cases that there are, shown or not
    readers   which of the two, `1` and `2`, have read the explanations
    """
    wins = sum(case.gain > 0 for case in found), sum(case.gain < 0 for case in found)
    lines = [
        f"1: {names[0]}\n2: {names[1]}",
        f"{total} sentences on which they differ; {len(found)} shown, 1 has more hits in {wins[0]} of them, 2 in "
        f"{wins[1]}. Right: *",
    ]
    if any(case.nearest for case in found):
        by = f"read by {' and '.join(readers)}" if readers else "published, read by neither"
        lines.append(f"why: the nearest explanations of train's mentions, {by}")
    for case in found:
        lines.append(f"\n{case.id}  {' '.join(case.words)}")
        right = set(case.gold)
        for head, spans in (("gold", case.gold), ("1", case.said[0]), ("2", case.said[1])):
            shown = [_shown(span, case.words, types, head != "gold" and span in right) for span in spans]
            lines.append(f"  {head:4} {'; '.join(shown) or '-'}")
        for one in case.nearest:
            head = f"{one.mention} is {types.get(one.type, one.type)}: " if one.mention else ""
            lines.append(f"  why  {head}{one.explanation}")
    return "\n".join(lines)


def _shown(span: Span, words: Sequence[str], types: Mapping[str, str], right: bool) -> str:
    return f"{' '.join(words[span.start : span.end])} ({types.get(span.type, span.type)}){'*' * right}"
