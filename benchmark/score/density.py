"""Information density of text: bigram surprisal of its units, and their joint entropy (TOPT section 3.4).

surprisal   UID(u) = - sum over i of log2 P(u_i | u_i-1), in bits; `mean` is that by the number of bigrams, and
            `variance`, of the means over all units, is what the paper's table 5 has
entropy     H(u) = - sum over i of P(u_i-1, u_i) log2 P(u_i | u_i-1), in bits
P           from the counts of the same text; `smoothing` is added to every count of a pair (0: maximum likelihood)
Unit        a line; its tokens are what stands between blanks
Memory      text is read once, in blocks. What is kept is the vocabulary, 16 bytes a different pair and 24 a unit; what
            each token is stands in a temporary file, 4 bytes a token
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BLOCK = 8 << 20  # bytes of text that are counted at once
START = "\x02"  # stands before the first token of a unit, where one is asked for

Array = np.ndarray


@dataclass(frozen=True)
class Density:
    """What was measured of some text.

    lengths     tokens of each unit that has a bigram
    surprisal   its bits
    entropy     likewise
    units, tokens   of the whole text, with those that have no bigram
    """

    units: int
    tokens: int
    vocabulary: int
    pairs: int
    lengths: Array
    bigrams: Array
    surprisal: Array
    entropy: Array

    @cached_property
    def mean(self) -> Array:
        """The bits of a bigram, of each unit."""
        return self.surprisal / self.bigrams

    @property
    def variance(self) -> float:
        """The variance of the units' means; not a number where there is no unit."""
        return float(self.mean.var()) if len(self.mean) else float("nan")


def measure(lines: Iterable[str], *, smoothing: float = 0.0, start: bool = False) -> Density:
    """Return the density of units, a line each. What surrounds a line, line ends too, does not count.

    smoothing   added to every count of a pair
    start       whether a unit's first token counts, behind a sign that begins every unit
    """
    with tempfile.TemporaryFile() as spilled:
        counted = _Counted(start, spilled)
        for block in _blocks(lines):
            counted.add(block)
        return counted.density(smoothing)


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    """Yield lines in blocks of about `BLOCK` letters."""
    block: list[str] = []
    size = 0
    for line in lines:
        block.append(line)
        size += len(line)
        if size >= BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


@dataclass
class _Part:
    """A block as it was counted: its pairs' codes, how many tokens are one of them, and its units."""

    codes: Array
    tokens: int
    lengths: Array


@dataclass
class _Counted:
    """Pairs of tokens, counted block by block."""

    start: bool
    spilled: IO[bytes]
    ids: dict[str, int] = field(default_factory=dict)
    parts: list[_Part] = field(default_factory=list)
    runs: list[tuple[Array, Array]] = field(default_factory=list)  # sorted codes and their counts
    units: int = 0
    tokens: int = 0

    def add(self, lines: list[str]) -> None:
        """Count a block of units."""
        split = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(pa.array(lines, pa.large_string())))
        lengths = pc.list_value_length(split).to_numpy(zero_copy_only=False).astype(np.int64)
        encoded = pc.list_flatten(split).dictionary_encode()
        known = [self.ids.setdefault(word, len(self.ids)) for word in encoded.dictionary.to_pylist()]
        words = np.asarray(known, np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]
        if "" in self.ids:  # a unit without a token is one empty token to arrow
            words, lengths = _without(words, lengths, self.ids[""])
        self.units += len(lengths)
        self.tokens += len(words)
        if self.start:
            sign = self.ids.setdefault(START, len(self.ids))
            words = np.insert(words, np.cumsum(lengths) - lengths, sign)
            lengths = lengths + 1
        lengths = lengths[lengths > 0]
        codes = words[:-1] << 32 | words[1:]
        codes = np.delete(codes, np.cumsum(lengths)[:-1] - 1)
        pairs = pa.array(codes).dictionary_encode()
        own, places = pairs.dictionary.to_numpy(), pairs.indices.to_numpy(zero_copy_only=False)
        places.astype(np.int32).tofile(self.spilled)
        self.parts.append(_Part(own, len(places), lengths[lengths > 1] - 1))
        order = np.argsort(own)
        self.runs.append((own[order], np.bincount(places, minlength=len(own))[order]))
        while len(self.runs) > 1 and len(self.runs[-1][0]) * 2 > len(self.runs[-2][0]):
            self.runs[-2:] = [_merged(self.runs[-2:])]

    def density(self, smoothing: float) -> Density:
        """Return what was counted."""
        codes, counts = _merged(self.runs)
        firsts = np.bincount(codes >> 32, weights=counts, minlength=len(self.ids))
        seen = len(self.ids) - ("" in self.ids)
        bits = np.log2(firsts[codes >> 32] + smoothing * seen) - np.log2(counts + smoothing)
        weighed = bits * (counts / max(1, counts.sum()))
        lengths, sums, entropies = [], [], []
        self.spilled.seek(0)
        for part in self.parts:
            places = np.fromfile(self.spilled, np.int32, part.tokens)
            own = np.searchsorted(codes, part.codes)
            if len(part.lengths):
                begins = np.cumsum(part.lengths) - part.lengths
                lengths.append(part.lengths)
                sums.append(np.add.reduceat(bits[own][places], begins))
                entropies.append(np.add.reduceat(weighed[own][places], begins))
        bigrams = np.concatenate([np.empty(0, np.int64), *lengths])
        return Density(
            units=self.units,
            tokens=self.tokens,
            vocabulary=seen - self.start,
            pairs=len(codes),
            lengths=bigrams + (0 if self.start else 1),
            bigrams=bigrams,
            surprisal=np.concatenate([np.empty(0), *sums]),
            entropy=np.concatenate([np.empty(0), *entropies]),
        )


def _without(words: Array, lengths: Array, empty: int) -> tuple[Array, Array]:
    """Return tokens and the lengths of units without the tokens that are empty."""
    gone = words == empty
    owners = np.repeat(np.arange(len(lengths)), lengths)
    return words[~gone], lengths - np.bincount(owners[gone], minlength=len(lengths))


def _merged(runs: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Return sorted codes and their counts, of runs of such."""
    if not runs:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    codes, counts = (np.concatenate(column) for column in zip(*runs, strict=True))
    order = np.argsort(codes, kind="stable")
    codes, counts = codes[order], counts[order]
    begins = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]]) if len(codes) else np.empty(0, np.int64)
    return codes[begins], np.add.reduceat(counts, begins) if len(codes) else counts
