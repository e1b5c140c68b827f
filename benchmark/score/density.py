"""Information density of text: bigram surprisal of its units, and their joint entropy (TOPT section 3.4).

surprisal   UID(u) = - sum over i of log2 P(u_i | u_i-1), in bits; `mean` is that by the number of bigrams, and
            `variance`, of the means over all units, is what the paper's table 5 has
entropy     H(u) = - sum over i of P(u_i-1, u_i) log2 P(u_i | u_i-1), in bits
P           from the counts of the same text. In P(u_i | u_i-1) `smoothing` is added to the count of every pair that the
            vocabulary allows (0: maximum likelihood); the joint P(u_i-1, u_i) is a pair's share of all, never smoothed
Unit        a line; its tokens are what stands between blanks, as `str.split` has it
Memory      text is read once, in blocks, a unit whole. What is kept is the vocabulary, 16 bytes a different pair, and
            for a unit with a bigram 32 bytes, 40 once its `mean` is asked for; on top comes what a block takes while
            it is counted. What stands where goes into a temporary file, at most 28 bytes a token
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

BLOCK = 32 << 20  # bytes of text that are counted at once, about
LINE = 64  # bytes that a line takes beside its letters
MOST_BITS = 63  # of a number that is sorted
START = " "  # stands before the first token of a unit, where one is asked for; no token has a blank

Array = NDArray[Any]


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
        found: Array = self.surprisal / self.bigrams
        return found

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
    """Yield lines in blocks of about `BLOCK` bytes."""
    block: list[str] = []
    size = 0
    for line in lines:
        block.append(line)
        size += len(line) + LINE
        if size >= BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


class _Block(NamedTuple):
    """What stands where in a block: its different pairs in their order, how often each, and in which unit each time."""

    codes: Array
    counts: Array
    owners: Array
    bigrams: Array  # of each of its units


@dataclass
class _Counted:
    """Pairs of tokens, counted block by block. A pair's code is its tokens' numbers, 32 bits each."""

    start: bool
    spilled: IO[bytes]
    ids: dict[str, int] = field(default_factory=dict)
    runs: list[tuple[Array, Array]] = field(default_factory=list)  # sorted codes and their counts
    blocks: int = 0
    units: int = 0
    tokens: int = 0
    kept: int = 0  # units that have a bigram

    def add(self, lines: list[str]) -> None:
        """Count a block of units."""
        words, lengths = self.numbered(lines)
        self.units += len(lengths)
        self.tokens += len(words)
        if self.start:
            sign = self.ids.setdefault(START, len(self.ids))
            words = np.insert(words, np.cumsum(lengths) - lengths, sign)
            lengths = lengths + 1
        lengths = lengths[lengths > 0]
        block = _counted(words, lengths, len(self.ids))
        for part in block:
            np.save(self.spilled, part)
        self.blocks += 1
        self.kept += len(block.bigrams)
        self.runs.append(block[:2])
        while len(self.runs) > 1 and len(self.runs[-1][0]) * 2 > len(self.runs[-2][0]):
            self.runs[-2:] = [_merged(self.runs[-2:])]

    def numbered(self, lines: list[str]) -> tuple[Array, Array]:
        """Return the number of every token, and how many each unit has."""
        text = pa.array(lines, pa.large_string())
        split = pc.ascii_split_whitespace(text) if _plain(text) else pc.utf8_split_whitespace(text)
        lengths = pc.list_value_length(split).to_numpy(zero_copy_only=False).astype(np.int64)
        encoded = pc.list_flatten(split).dictionary_encode()
        known = [self.ids.setdefault(word, len(self.ids)) for word in encoded.dictionary.to_pylist()]
        words = np.asarray(known, np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]
        empty = self.ids.get("")  # before and behind the blanks at the ends of a unit
        if empty is None:
            return words, lengths
        gone = words == empty
        owners = np.repeat(np.arange(len(lengths)), lengths)
        return words[~gone], lengths - np.bincount(owners[gone], minlength=len(lengths))

    def density(self, smoothing: float) -> Density:
        """Return what was counted."""
        codes, counts = _merged(self.runs)
        firsts = np.bincount(codes >> 32, weights=counts, minlength=len(self.ids))
        seen = len(self.ids) - ("" in self.ids) - (START in self.ids)  # the start sign follows nothing
        bits = np.log2(firsts[codes >> 32] + smoothing * seen) - np.log2(counts + smoothing)
        weighed = bits * (counts / max(1, counts.sum()))
        bigrams, sums, entropies = np.empty(self.kept, np.int64), np.empty(self.kept), np.empty(self.kept)
        self.spilled.seek(0)
        begin = 0
        for _ in range(self.blocks):
            block = _Block(*(np.load(self.spilled) for _ in _Block._fields))
            places = np.arange(len(codes)) if self.blocks == 1 else np.searchsorted(codes, block.codes)
            end = begin + len(block.bigrams)
            bigrams[begin:end] = block.bigrams
            for values, found in ((bits, sums), (weighed, entropies)):
                each = np.repeat(values[places], block.counts)
                found[begin:end] = np.bincount(block.owners, weights=each, minlength=end - begin)
            begin = end
        return Density(
            units=self.units,
            tokens=self.tokens,
            vocabulary=seen,
            pairs=len(codes),
            lengths=bigrams + (0 if self.start else 1),
            bigrams=bigrams,
            surprisal=sums,
            entropy=entropies,
        )


def _plain(text: pa.Array) -> bool:
    """Return whether what parts tokens is found by bytes: all letters are ASCII, and none is U+001C to U+001F.

    Those part tokens in Python and Unicode, and to Arrow in letters alone that need not be ASCII.
    """
    letters = np.frombuffer(text.buffers()[2] or b"", np.uint8)
    return not ((letters > 0x7F) | (letters - np.uint8(0x1C) < 4)).any()


def _counted(words: Array, lengths: Array, vocabulary: int) -> _Block:
    """Return the pairs of a block.

    Where the numbers of two tokens and of a unit fit into 63 bits, they are sorted as one number; else places are.

    words     numbers of its tokens
    lengths   tokens of each unit, none of them empty
    """
    bigrams = lengths[lengths > 1] - 1
    owners = np.repeat(np.arange(len(bigrams)), bigrams)
    word, unit = max(1, vocabulary - 1).bit_length(), max(1, len(bigrams) - 1).bit_length()
    packs = 2 * word + unit <= MOST_BITS
    word = word if packs else 32
    pairs = np.delete(words[:-1] << word | words[1:], np.cumsum(lengths)[:-1] - 1)  # none goes over a unit's bounds
    if packs:
        packed = np.sort(pairs << unit | owners)
        pairs, owners = packed >> unit, packed & ((1 << unit) - 1)
    else:
        order = np.argsort(pairs, kind="stable")
        pairs, owners = pairs[order], owners[order]
    begins = _begins(pairs)
    different = pairs[begins]
    codes = (different >> word) << 32 | different & ((1 << word) - 1)
    return _Block(codes, np.diff(np.r_[begins, len(pairs)]), owners.astype(np.int32), bigrams)


def _begins(codes: Array) -> Array:
    """Return where each different one of sorted codes begins.

    >>> _begins(np.array([3, 3, 5])).tolist()
    [0, 2]
    """
    return np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]]) if len(codes) else np.empty(0, np.int64)


def _merged(runs: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Return sorted codes and their counts, of runs of such."""
    if len(runs) == 1:
        return runs[0]
    codes = np.sort(np.concatenate([np.empty(0, np.int64), *(run[0] for run in runs)]))
    codes = codes[_begins(codes)]  # np.unique hashes, which is slow where most are different
    counts = np.zeros(len(codes), np.int64)
    for own, often in runs:
        counts[np.searchsorted(codes, own)] += often
    return codes, counts
