"""Information density, against a plain loop over dictionaries."""

import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.score import density
from benchmark.score.density import measure


def plainly(lines, smoothing=0.0, start=False):
    """Return surprisal and joint entropy of every unit that has a bigram, by dictionaries."""
    units = [[*(["<s>"] if start else []), *line.split()] for line in lines if line.split()]
    pairs, firsts = {}, {}
    for words in units:
        for a, b in pairwise(words):
            pairs[a, b] = pairs.get((a, b), 0) + 1
            firsts[a] = firsts.get(a, 0) + 1
    vocabulary, total = len({word for words in units for word in words} - {"<s>"}), sum(pairs.values())
    found = []
    for words in units:
        each = [
            (-math.log2((pairs[a, b] + smoothing) / (firsts[a] + smoothing * vocabulary)), pairs[a, b] / total)
            for a, b in pairwise(words)
        ]
        if each:
            found.append((sum(bits for bits, _ in each), sum(bits * p for bits, p in each)))
    return found


BLANKS = [" ", "\t", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\xa0", "\u2028", "\u3000"]
WORDS = ["a", "b", "c", "ä b", " ", "", "\x02", "\u200b"]  # U+200B parts nothing
LINES = st.lists(
    st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(BLANKS)).map("".join), max_size=6).map("".join),
    max_size=12,
)


@given(
    LINES, st.sampled_from([0.0, 0.5, 1.0]), st.booleans(), st.sampled_from([1, 7, 1 << 20]), st.sampled_from([5, 63])
)
def test_it_is_what_dictionaries_count(lines, smoothing, start, block, bits):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(density, "BLOCK", block)
        patch.setattr(density, "MOST_BITS", bits)
        found = measure(lines, smoothing=smoothing, start=start)

    plain = plainly(lines, smoothing, start)
    assert np.allclose(found.surprisal, [bits for bits, _ in plain])
    assert np.allclose(found.entropy, [entropy for _, entropy in plain])
    assert found.tokens == sum(len(line.split()) for line in lines)
    assert found.units == len(lines)
    assert found.vocabulary == len({word for line in lines for word in line.split()})


def test_equally_likely_words_carry_a_bit():
    found = measure(["a b", "a c"])

    assert found.surprisal.tolist() == [1.0, 1.0]
    assert found.entropy.tolist() == [0.5, 0.5]
    assert found.variance == 0.0


def test_a_mean_is_by_the_bigram():
    found = measure(["a b a b", "a c"])

    assert found.lengths.tolist() == [4, 2]
    assert found.mean.tolist() == pytest.approx([2 * math.log2(1.5) / 3, math.log2(3)])


@pytest.mark.parametrize("lines", [[], ["", "  "], ["one", "two"]])
def test_without_a_bigram_there_is_no_variance(lines):
    assert math.isnan(measure(lines).variance)


@pytest.mark.parametrize("block", [1, 1 << 20])
def test_what_parts_tokens_does_not_hang_on_the_lines_beside(monkeypatch, block):
    monkeypatch.setattr(density, "BLOCK", block)

    assert measure(["a\x1cb c", "é"]).tokens == measure(["a\x1cb c", "e"]).tokens == 4


def test_every_blank_of_unicode_parts_tokens_and_no_other_letter():
    letters = [chr(n) for n in range(0x3100)]  # the last blank is U+3000

    assert measure(f"a{letter}b" for letter in letters).tokens == sum(len(f"a{x}b".split()) for x in letters)


def test_smoothing_is_of_the_conditional_alone():
    found = measure(["a b", "a c"], smoothing=1)

    assert found.surprisal.tolist() == pytest.approx([math.log2((2 + 3) / (1 + 1))] * 2)  # three words
    assert found.entropy.tolist() == pytest.approx([0.5 * math.log2(5 / 2)] * 2)  # each pair is half of all, as counted


def test_a_unit_is_kept_in_32_bytes(monkeypatch):
    monkeypatch.setattr(density, "BLOCK", 1 << 16)

    def peak(units):
        tracemalloc.start()
        measure("a b c" for _ in range(units))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)  # what is imported on the way
    few, more = peak(50_000), peak(150_000)
    assert (more - few) / 100_000 < 34
    assert few < 50_000 * 32 + (4 << 20)
