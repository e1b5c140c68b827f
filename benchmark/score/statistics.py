"""What a difference between scores is worth: intervals, paired tests, ranks, and what could have been detected.

A variant's F1 differs from what another test set of the same kind and other seeds would give. Seeds and sentences are
both samples, and every variant of a column meets the same ones: the layout of readers and cases in radiology, whose
analysis of variance is used here, with variances from a paired bootstrap over sentences.

units        R repetitions of a variant: its seeds; where samples of gold are drawn, its draws (the mean over seeds)
sentences    n of the test split, the same for all; (hit, extra, missed) of each
between      the variance of the units' F1 about their mean, over R: it has what units and sentences do together in it
within       the sentences' own variance, from bootstrap replicates of the mean over units and of each unit:
             (R Var(mean) - mean of Var(unit)) / (R - 1), not below 0
half-width   of an interval: (t^2 between + z^2 within)^(1/2), t of Student's distribution with R - 1 degrees, z of the
             normal one. A p-value is the level whose half-width is the value found
with R < 3   the bootstrap variance of the mean alone, for the units at hand: no test and no rank comes of it

Each part keeps its own distribution (as Cochran 1964 does for two means of unequal variance), rather than sharing the
effective degrees of Satterthwaite or of Hillis (2007): with three seeds these keep 5% for one pair, but tell pairs
apart on 13% of boards after Holm's correction of ten (docs/statistics.md).

Sources: Obuchowski and Rockette (1995) and Hillis, Statistics in Medicine 26 (2007), for the variances; Cochran,
Biometrics 20 (1964), 191; Berg-Kirkpatrick et al. (2012) for the paired bootstrap in NLP; Holm (1979); Demšar, JMLR 7
(2006), for average ranks and the critical difference.
Shapes: V variants, R units, n sentences, B replicates
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]
Unit = Hashable

REPLICATES = 1000
ENOUGH = 3  # units, for a test or a rank
LEVEL = 0.05  # chance of a false alarm
POWER = 0.8  # with which the smallest detectable difference would be found


# ---- the bootstrap over sentences


@lru_cache(maxsize=16)
def resamples(sentences: int, replicates: int = REPLICATES) -> Floats:
    """Return how often each sentence is drawn in each replicate (B, n). The same for all who ask: they are paired."""
    dice = np.random.RandomState(sentences)  # its streams never change, so that a table can be written again
    drawn = dice.multinomial(sentences, np.full(sentences, 1 / sentences), size=replicates)
    return np.ascontiguousarray(drawn, dtype=np.float64)


def f1(totals: NDArray[np.generic]) -> Floats:
    """Return F1 in percent of counts (..., 3) of hits, extra and missed; 0 where there is nothing.

    >>> f1(np.array([[1, 1, 1], [0, 0, 0]])).tolist()
    [50.0, 0.0]
    """
    counts = totals.astype(np.float64)
    below = 2 * counts[..., 0] + counts[..., 1] + counts[..., 2]
    return np.asarray(200 * counts[..., 0] / np.where(below == 0, 1, below))


def replicated(counts: NDArray[np.generic], replicates: int = REPLICATES) -> Floats:
    """Return the F1 of each run in each replicate (B, runs).

    counts   of each sentence of each run (runs, n, 3)
    """
    runs, sentences, _ = counts.shape
    columns = counts.transpose(1, 0, 2).reshape(sentences, runs * 3).astype(np.float64)
    return f1((resamples(sentences, replicates) @ columns).reshape(-1, runs, 3))


# ---- one variant, or a pair of them


@dataclass(frozen=True)
class Estimate:
    """An F1, or a difference of two, in points, with its variance in two parts.

    between   of units; Student's t with `degrees`
    within    of sentences; normal
    units     R
    """

    value: float
    between: float
    within: float
    degrees: float
    units: int

    @property
    def whole(self) -> bool:
        """Whether the variance holds seeds as well as sentences."""
        return self.units >= ENOUGH

    @property
    def error(self) -> float:
        """The standard error."""
        return float((self.between + self.within) ** 0.5)

    def half_width(self, level: float = LEVEL) -> float:
        """Return half the width of the interval that holds the true value with probability 1 - level."""
        t, z = stats.t.isf(level / 2, self.degrees) if self.between else 0.0, stats.norm.isf(level / 2)
        return float((t**2 * self.between + z**2 * self.within) ** 0.5)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return the interval that holds the true value with probability 1 - level."""
        half = self.half_width(level)
        return self.value - half, self.value + half

    @property
    def p(self) -> float:
        """The probability of a value this far from 0, either way, where the true one is 0."""
        return p_values([self])[0]

    def detectable(self, level: float = LEVEL, power: float = POWER) -> float:
        """Return about the smallest true value that would be told from 0 with probability `power`."""
        t = _reach(self.degrees, level, power) if self.between else 0.0
        z = _reach(float("inf"), level, power)
        return float((t**2 * self.between + z**2 * self.within) ** 0.5)


@lru_cache(maxsize=256)
def _reach(degrees: float, level: float, power: float) -> float:
    """Return how many standard errors from 0 a true value has to be, to be told from it with probability `power`."""
    bound = float(stats.t.isf(level / 2, degrees))
    if np.isinf(degrees):
        return bound + float(stats.norm.ppf(power))
    return float(optimize.brentq(lambda far: stats.nct.sf(bound, degrees, far) - power, 0.0, 20 * bound))


def combined(estimates: Sequence[Estimate], by_unit: Sequence[Mapping[Unit, float]]) -> Estimate | None:
    """Return the mean of estimates on different test sets; None with fewer than ENOUGH units in common.

    by_unit   the value of each unit of each estimate. A seed's model may have been made once for all test sets, so that
              its luck is the same on all: the units' means over test sets are what varies between units. Sentences are
              each test set's own.
    """
    common = [unit for unit in by_unit[0] if all(unit in one for one in by_unit)]
    if len(common) < ENOUGH:
        return None
    means = np.array([[one[unit] for unit in common] for one in by_unit]).mean(axis=0)
    return Estimate(
        float(means.mean()),
        float(means.var(ddof=1) / len(common)),
        sum(e.within for e in estimates) / len(estimates) ** 2,
        len(common) - 1,
        len(common),
    )


def pooled(estimates: Sequence[Estimate]) -> Estimate:
    """Return an estimate with the mean value, variances and degrees of several: what one of their kind is like."""
    value, between, within, degrees = (
        float(np.mean([getattr(e, name) for e in estimates])) for name in ("value", "between", "within", "degrees")
    )
    return Estimate(value, between, within, degrees, min(e.units for e in estimates))


_LEVELS = np.logspace(0, -12, 2401)  # at which half-widths are tabled, 200 a power of ten


@lru_cache(maxsize=64)
def _quantiles(degrees: float) -> Floats:
    """Return the squared quantile of Student's t, two-sided, at each of _LEVELS."""
    return np.asarray(stats.t.isf(_LEVELS / 2, degrees) ** 2)


def _p_values(values: Floats, between: Floats, within: Floats, degrees: float) -> Floats:
    """Return p-values of values with their variances, one an entry; a difference of nothing has 1.

    They lie between 1 and 1e-12, and are found by halving a table of levels, interpolated in the logarithm.
    """
    t, z = _quantiles(degrees), _quantiles(float("inf"))
    far = values**2
    low, high = np.zeros(len(far), dtype=np.intp), np.full(len(far), len(_LEVELS) - 1)
    while (high - low > 1).any():
        middle = (low + high) // 2
        inside = t[middle] * between + z[middle] * within <= far
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    below, above = (t[i] * between + z[i] * within for i in (low, high))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.clip(np.nan_to_num((far - below) / (above - below), nan=0.0, posinf=1.0), 0, 1)
    found = np.exp((1 - share) * np.log(_LEVELS[low]) + share * np.log(_LEVELS[high]))
    return np.asarray(np.where(far == 0, 1.0, found))


def _parts(between: Floats, of_mean: Floats, of_units: Floats, units: int) -> tuple[Floats, Floats]:
    """Return the variances between units and within, any shape.

    between    variance of the units about their mean, over R
    of_mean    bootstrap variance of the mean over units
    of_units   mean of the units' bootstrap variances
    """
    if units < ENOUGH:
        return np.zeros(of_mean.shape), np.maximum(of_mean, 0)
    return np.maximum(between, 0), np.maximum(0, (units * of_mean - of_units) / (units - 1))


# ---- the variants of a column


class Column:
    """Variants on one test set.

    counts    variant -> unit -> the counts of each sentence, one or more runs (runs, n, 3); a unit's F1 is their mean
    Raises ValueError where two runs have not the same number of sentences.
    """

    def __init__(self, counts: Mapping[str, Mapping[Unit, NDArray[np.generic]]], replicates: int = REPLICATES) -> None:
        self.names = list(counts)
        runs = [run for units in counts.values() for many in units.values() for run in many]
        if len({len(run) for run in runs}) > 1:
            raise ValueError("the runs of a column have not the same sentences.")
        self.at: dict[str, dict[Unit, int]] = {}
        seen: list[float] = []
        drawn: list[Floats] = []
        whole = np.stack(runs) if runs else np.zeros((0, 1, 3))
        scores, copies = f1(whole.sum(axis=1)), replicated(whole, replicates)
        start = 0
        for name, units in counts.items():
            self.at[name] = {}
            for unit, many in units.items():
                end = start + len(many)
                self.at[name][unit] = len(seen)
                seen.append(scores[start:end].mean())
                drawn.append(copies[:, start:end].mean(axis=1))
                start = end
        self.scores: Floats = np.array(seen)  # of each unit
        self.covariance: Floats = np.atleast_2d(np.cov(np.stack(drawn), ddof=1)) if drawn else np.zeros((0, 0))

    def single(self, name: str) -> Estimate:
        """Return a variant's mean F1."""
        places = list(self.at[name].values())
        own, cov, units = self.scores[places], self.covariance[np.ix_(places, places)], len(places)
        between = np.array(own.var(ddof=1) / units if units > 1 else 0.0)
        parts = _parts(between, np.array(cov.mean()), np.array(np.diag(cov).mean()), units)
        return Estimate(float(own.mean()), float(parts[0]), float(parts[1]), max(1, units - 1), units)

    def by_unit(self, one: str, other: str) -> dict[Unit, tuple[float, float]]:
        """Return the F1 of two variants in each unit that both have."""
        mine, theirs = self.at[one], self.at[other]
        return {u: (float(self.scores[mine[u]]), float(self.scores[theirs[u]])) for u in mine if u in theirs}

    def pair(self, one: str, other: str) -> Estimate | None:
        """Return the mean difference, one less the other, over the units that both have; None where they have none."""
        return self.pairs([(one, other)]).get((one, other))

    def pairs(self, wanted: Sequence[tuple[str, str]] | None = None) -> dict[tuple[str, str], Estimate]:
        """Return the differences of pairs (default: all) that have units in common."""
        wanted = list(combinations(self.names, 2)) if wanted is None else wanted
        alike: dict[tuple[Unit, ...], list[tuple[str, str]]] = {}
        for one, other in wanted:
            common = tuple(unit for unit in self.at[one] if unit in self.at[other])
            if common:
                alike.setdefault(common, []).append((one, other))
        found: dict[tuple[str, str], Estimate] = {}
        for common, group in alike.items():
            found |= self._pairs(common, group)
        return {pair: found[pair] for pair in wanted if pair in found}

    def _pairs(self, common: Sequence[Unit], wanted: list[tuple[str, str]]) -> dict[tuple[str, str], Estimate]:
        """Return the differences of pairs over the same units."""
        units = len(common)
        names = list(dict.fromkeys(name for pair in wanted for name in pair))
        places = np.array([[self.at[name][unit] for unit in common] for name in names])  # (V, R)
        scores = self.scores[places]
        place = {name: i for i, name in enumerate(names)}
        one, other = (np.array([place[pair[side]] for pair in wanted]) for side in (0, 1))
        differences = scores[one] - scores[other]  # (pairs, R)
        between = differences.var(axis=1, ddof=1) / units if units > 1 else np.zeros(len(wanted))
        flat = places.ravel()
        block = self.covariance[np.ix_(flat, flat)].reshape(len(names), units, len(names), units)
        of_mean, of_units = block.mean(axis=(1, 3)), np.einsum("iaja->ij", block) / units  # (V, V) each

        def difference(cov: Floats) -> Floats:
            return np.asarray(cov[one, one] + cov[other, other] - 2 * cov[one, other])

        same = np.all(differences == 0, axis=1) & (np.abs(difference(of_units)) < 1e-9)
        parts = [
            np.where(same, 0.0, part) for part in _parts(between, difference(of_mean), difference(of_units), units)
        ]
        values = differences.mean(axis=1)
        return {
            pair: Estimate(float(values[i]), float(parts[0][i]), float(parts[1][i]), max(1, units - 1), units)
            for i, pair in enumerate(wanted)
        }


def p_values(estimates: Sequence[Estimate]) -> list[float]:
    """Return the p-value of each estimate, many at once."""
    found = np.ones(len(estimates))
    for degrees in {e.degrees for e in estimates}:
        places = [i for i, e in enumerate(estimates) if e.degrees == degrees]
        own = [estimates[i] for i in places]
        value, between, within = (np.array([getattr(e, name) for e in own]) for name in ("value", "between", "within"))
        found[places] = _p_values(value, between, within, degrees)
    return [float(p) for p in found]


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm 1979), in the order given.

    >>> [round(x, 3) for x in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    if not p:
        return []
    given = np.asarray(p, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    raised = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    found = np.empty(len(given))
    found[order] = np.minimum(raised, 1)
    return [float(x) for x in found]


@dataclass(frozen=True)
class Standing:
    """Where a variant stands among those of its column that have enough units.

    rank   the best and the worst rank that the tests leave open
    tied   whether it is the best, or cannot be told from it
    """

    rank: tuple[int, int]
    tied: bool


@dataclass(frozen=True)
class Standings:
    """What the tests of a column say.

    of           variant -> where it stands
    corrected    pair -> the difference, and its p-value after Holm's correction for all pairs of the column
    detectable   the smallest true difference of two variants that would be found with probability POWER, from the mean
                 variances of all pairs, at the level that the correction leaves to the first of them; None where there
                 is no pair
    """

    of: dict[str, Standing]
    corrected: dict[tuple[str, str], tuple[Estimate, float]]
    detectable: float | None


def standings(column: Column, level: float = LEVEL) -> Standings:
    """Return ranks and tie groups of the variants that have enough units, by paired tests, corrected by Holm."""
    able = [name for name in column.names if len(column.at[name]) >= ENOUGH]
    tested = {pair: e for pair, e in column.pairs(list(combinations(able, 2))).items() if e.whole}
    corrected = dict(zip(tested, holm(p_values([*tested.values()])), strict=True))
    better: dict[str, set[str]] = {name: set() for name in able}  # those that are surely above it
    worse: dict[str, set[str]] = {name: set() for name in able}
    for (one, other), p in corrected.items():
        if p < level:
            above, below = (one, other) if tested[one, other].value > 0 else (other, one)
            better[below].add(above)
            worse[above].add(below)
    means = {name: float(np.mean([column.scores[i] for i in column.at[name].values()])) for name in able}
    first = max(means, key=means.__getitem__, default=None)
    found = {
        name: Standing((1 + len(better[name]), len(able) - len(worse[name])), first not in better[name])
        for name in able
    }
    smallest = [e for e in tested.values() if e.error]
    return Standings(
        found if len(able) > 1 else {},
        {pair: (tested[pair], p) for pair, p in corrected.items()},
        pooled(smallest).detectable(level / len(tested)) if smallest else None,
    )


# ---- across test sets


@dataclass(frozen=True)
class Ranks:
    """Average ranks of k variants over N test sets (Demšar 2006).

    average    variant -> its mean rank, 1 the best; ties share theirs
    p          of Friedman's test: the chance of ranks this uneven where all are alike; None with fewer than 3 variants
    critical   Nemenyi's critical difference at LEVEL: two average ranks less apart cannot be told apart
    sets       N
    """

    average: dict[str, float]
    p: float | None
    critical: float
    sets: int


def ranks(scores: Mapping[str, Sequence[float]], level: float = LEVEL) -> Ranks:
    """Return the average ranks of variants. Raises ValueError with fewer than two variants or two test sets.

    scores   variant -> F1 on each test set, in one order
    """
    table = np.array([list(row) for row in scores.values()], dtype=np.float64)  # (k, N)
    if table.ndim != 2 or min(table.shape) < 2:
        raise ValueError("average ranks want two variants and two test sets at least.")
    k, sets = table.shape
    ranked = np.apply_along_axis(lambda column: stats.rankdata(-column), 0, table)
    p = None
    if k > 2:
        even = bool((table == table[0]).all())
        p = 1.0 if even else float(stats.friedmanchisquare(*table).pvalue)
    q = float(stats.studentized_range.ppf(1 - level, k, np.inf)) / 2**0.5
    average = dict(zip(scores, ranked.mean(axis=1).tolist(), strict=True))
    return Ranks(average, p, q * (k * (k + 1) / (6 * sets)) ** 0.5, sets)
