"""How much faster than dictionaries text's bigram surprisal is measured. Run: `python -m tests.speed.density`."""

import math
from itertools import pairwise

import numpy as np

from benchmark.score.density import measure as measured
from tests.speed.scoring import seconds

WORDS = 3_000_000


def made_up_text(words: int, seed: int) -> list[str]:
    """Return units of 20 to 200 tokens whose frequencies fall as those of a language (Zipf), over 50,000 words."""
    dice = np.random.default_rng(seed)
    vocabulary = np.array([f"word{n:x}" for n in range(50_000)], dtype=object)
    chance = 1 / np.arange(1, len(vocabulary) + 1)
    tokens = vocabulary[dice.choice(len(vocabulary), words, p=chance / chance.sum())]
    cuts = np.cumsum(dice.integers(20, 200, words // 20))
    bounds = [0, *cuts[cuts < words].tolist(), words]
    return [" ".join(tokens[a:b]) for a, b in pairwise(bounds)]


def by_dictionaries(lines: list[str]) -> list[float]:
    """Return the surprisal of every unit that has a bigram, in bits, in the plainest way."""
    pairs: dict[tuple[str, str], int] = {}
    firsts: dict[str, int] = {}
    for line in lines:
        for a, b in pairwise(line.split()):
            pairs[a, b] = pairs.get((a, b), 0) + 1
            firsts[a] = firsts.get(a, 0) + 1
    found = []
    for line in lines:
        words = line.split()
        if len(words) > 1:
            found.append(sum(-math.log2(pairs[a, b] / firsts[a]) for a, b in pairwise(words)))
    return found


def measure(words: int = WORDS) -> list[tuple[str, float, str]]:
    """Return what was measured, how many times as fast as dictionaries we are, and the target.

    Both get the same lines in memory, and must find the same surprisal of every unit.
    """
    lines = made_up_text(words, seed=1)
    if not np.allclose(measured(lines).surprisal, by_dictionaries(lines), rtol=1e-12):
        raise AssertionError("information density: we and the dictionaries differ.")
    ratio = seconds(lambda: by_dictionaries(lines), times=2) / seconds(lambda: measured(lines), times=3)
    return [(f"information density of {words:,} tokens, times a loop over dictionaries", ratio, "at least 10")]


if __name__ == "__main__":
    for what, ratio, target in measure():
        print(f"{what:40} {ratio:6.1f}   target: {target}")
