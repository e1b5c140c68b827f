"""How much faster than seqeval tags are scored. Run: `python -m tests.speed.scoring`."""

from collections.abc import Callable
from itertools import pairwise
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2

from benchmark.score.protocols import Scores, conlleval_counts, strict_counts

Tags = list[list[str]]

WORDS = 1_000_000
TYPES = ["person", "location", "organisation", "miscellaneous"]


def made_up_tags(words: int, seed: int) -> tuple[Tags, Tags]:
    """Return gold with some 15% of its words in entities, and gold with one tag in fifty replaced by any other."""
    rng = np.random.default_rng(seed)
    labels = ["O", *(f"B-{type}" for type in TYPES), *(f"I-{type}" for type in TYPES)]
    types, widths = len(TYPES), 3  # entities are one to three words wide, two on average
    gold = np.zeros(words, dtype=np.intp)
    starts = np.flatnonzero(rng.random(words // widths) < 0.15 * widths / 2) * widths
    type, width = rng.integers(1, types + 1, len(starts)), rng.integers(1, widths + 1, len(starts))
    gold[starts] = type
    for further in range(1, widths):
        gold[starts[width > further] + further] = type[width > further] + types
    predicted = np.where(rng.random(words) < 0.02, rng.integers(0, len(labels), words), gold)
    cuts = np.cumsum(rng.integers(5, 40, words // 20))
    bounds = [0, *cuts[cuts < words].tolist(), words]

    def sentences(numbers: NDArray[np.intp]) -> Tags:
        flat = [labels[number] for number in numbers.tolist()]
        return [flat[start:end] for start, end in pairwise(bounds)]

    return sentences(gold), sentences(predicted)


def seconds(call: Callable[[], object], *, times: int) -> float:
    """Return the shortest of `times` calls."""
    taken = []
    for _ in range(times):
        start = perf_counter()
        call()
        taken.append(perf_counter() - start)
    return min(taken)


def measure(words: int = WORDS) -> list[tuple[str, float, str]]:
    """Return what was measured, how many times as fast as seqeval we are, and the target.

    Both sides get the same lists of tags and are timed alone; both must give the same F1 to the last digit.
    """
    gold, predicted = made_up_tags(words, seed=1)

    def seqeval_strict() -> float:
        return float(f1_score(gold, predicted, mode="strict", scheme=IOB2, zero_division=0))

    def seqeval_default() -> float:
        return float(f1_score(gold, predicted, zero_division=0))

    rows = []
    for name, ours, theirs, target in (
        ("strict", strict_counts, seqeval_strict, "at least 20"),
        ("conlleval", conlleval_counts, seqeval_default, "no target"),
    ):
        check_equal(name, ours(gold, predicted), theirs())
        fast = seconds(lambda ours=ours: ours(gold, predicted), times=3)  # type: ignore[misc]
        rows.append((f"{name} scoring of {words:,} words", seconds(theirs, times=1) / fast, target))
    return rows


def check_equal(name: str, ours: Scores, theirs: float) -> None:
    """Compare with seqeval's own formula over our counts: from whole numbers, the same floating-point steps."""
    found, wanted = ours.all.hit + ours.all.extra, ours.all.hit + ours.all.missed
    precision, recall = ours.all.hit / found, ours.all.hit / wanted
    f1 = 2 * precision * recall / (precision + recall)
    if f1 != theirs:
        raise AssertionError(f"{name}: we have an F1 of {f1!r}, seqeval has {theirs!r}.")


if __name__ == "__main__":
    for what, ratio, target in measure():
        print(f"{what:40} {ratio:6.1f} times seqeval   target: {target}")
