"""Boards whose truth is known: how often statistics raise a false alarm, find what is planted, and cover the truth.

    python -m tests.simulation --boards 2000

A sentence has an easiness of its own and a number of mentions; a seed of a variant shifts every sentence; each mention
is hit or missed by chance, so that sentences, seeds and the two together all vary. The true F1 of a variant is what
boards without end would give on average; the variants of a board without a planted difference have the same one.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from benchmark.score.statistics import ENOUGH, LEVEL, Column, combined, f1, pooled, standings


@dataclass(frozen=True)
class World:
    """What boards are made of.

    spread    deviation of a seed's shift, as a share of mentions (0.02: about two points of F1)
    common    share of its variance that is the same on all targets, where there are several
    planted   what is added to the first variant's chance of a hit
    """

    variants: int = 2
    seeds: int = 3
    sentences: int = 431
    spread: float = 0.01
    planted: float = 0.0
    common: float = 0.0


def drawn(
    world: World, dice: np.random.Generator, shared: np.ndarray | None = None
) -> dict[str, dict[int, np.ndarray]]:
    """Return the counts of a board's column: variant -> seed -> (1, sentences, 3).

    shared   (variants, seeds): the part of each shift that all columns have
    """
    easy, mentions = dice.beta(2.0, 2.0, world.sentences), dice.poisson(4.0, world.sentences)
    found: dict[str, dict[int, np.ndarray]] = {}
    for v in range(world.variants):
        found[f"v{v}"] = {}
        for seed in range(world.seeds):
            shift = dice.normal(0.0, world.spread * (1 - world.common) ** 0.5) + world.planted * (v == 0)
            shift += 0.0 if shared is None else shared[v, seed]
            hit = dice.binomial(mentions, np.clip(0.1 + 0.8 * easy + shift, 0.0, 1.0))
            extra = dice.poisson(0.9 * (mentions - hit))
            found[f"v{v}"][seed] = np.stack([hit, extra, mentions - hit], axis=-1)[None]
    return found


def boards(world: World, number: int, seed: int = 1) -> Iterator[dict[str, dict[int, np.ndarray]]]:
    """Yield the columns of a number of boards."""
    dice = np.random.default_rng(seed)
    for _ in range(number):
        yield drawn(world, dice)


def truth(world: World) -> dict[str, float]:
    """Return the true F1 of each variant: of a board of two hundred thousand sentences, without a seed's shift."""
    large = World(world.variants, 1, 200_000, 0.0, world.planted)
    return {name: float(f1(runs[0][0].sum(axis=0))) for name, runs in drawn(large, np.random.default_rng(0)).items()}


def alarms(world: World, number: int) -> float:
    """Return on which share of boards two variants are told apart."""
    return float(np.mean([Column(counts).pair("v0", "v1").p < LEVEL for counts in boards(world, number)]))


def family_alarms(world: World, number: int) -> float:
    """Return on which share of boards any two variants are told apart, after Holm's correction."""
    found = [standings(Column(counts)).corrected.values() for counts in boards(world, number)]
    return float(np.mean([any(p < LEVEL for _, p in one) for one in found]))


def mean_alarms(world: World, number: int, targets: int = 5) -> float:
    """Return on which share of boards the mean over several targets tells two variants apart."""
    dice, found = np.random.default_rng(3), []
    for _ in range(number):
        shared = dice.normal(0.0, world.spread * world.common**0.5, (world.variants, world.seeds))
        columns = [Column(drawn(world, dice, shared), 200) for _ in range(targets)]
        each = [{unit: a - b for unit, (a, b) in column.by_unit("v0", "v1").items()} for column in columns]
        found.append(combined([column.pair("v0", "v1") for column in columns], each).p < LEVEL)
    return float(np.mean(found))


def found_among(world: World, number: int) -> float:
    """Return on which share of boards the first variant is told from the second, corrected for all pairs."""
    return float(np.mean([standings(Column(c)).corrected["v0", "v1"][1] < LEVEL for c in boards(world, number)]))


def coverage(world: World, number: int) -> float:
    """Return on which share of boards the interval of a variant's mean holds its true F1."""
    true = truth(world)["v1"]
    inside = []
    for counts in boards(world, number):
        low, high = Column(counts).single("v1").interval()
        inside.append(low <= true <= high)
    return float(np.mean(inside))


def detectable(world: World, number: int = 100) -> float:
    """Return the smallest difference that such boards detect with 80% probability after correction, in points of F1."""
    pairs = world.variants * (world.variants - 1) // 2
    return pooled([Column(c).pair("v0", "v1") for c in boards(world, number, seed=2)]).detectable(LEVEL / pairs)


def planted_for(difference: float, world: World) -> float:
    """Return what to plant so that the first variant's true F1 is higher by a difference in points."""
    low, high = 0.0, 0.5
    for _ in range(14):
        middle = (low + high) / 2
        true = truth(World(2, 1, world.sentences, 0.0, middle))
        low, high = (middle, high) if true["v0"] - true["v1"] < difference else (low, middle)
    return (low + high) / 2


def main() -> None:
    """Print the figures of docs/statistics.md."""
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--boards", type=int, default=2000)
    number = reader.parse_args().boards
    print(f"{number} boards a line, 431 sentences; shares in percent\n")
    print("seeds  spread   false alarms   any of 10 pairs   covered   detectable   found   of 6 pairs   found")
    for seeds in (ENOUGH, 5, 10):
        for spread in (0.0, 0.01, 0.03):
            world, many = (World(variants=v, seeds=seeds, spread=spread) for v in (2, 4))
            least, most = detectable(world), detectable(many)
            found = alarms(replace(world, planted=planted_for(least, world)), number)
            among = found_among(replace(many, planted=planted_for(most, many)), number // 4)
            family = family_alarms(World(variants=5, seeds=seeds, spread=spread), number // 4)
            print(
                f"{seeds:5}  {spread:6}   {100 * alarms(world, number):12.1f}   {100 * family:15.1f}   "
                f"{100 * coverage(world, number):7.1f}   {least:10.2f}   {100 * found:5.1f}   {most:10.2f}   "
                f"{100 * among:5.1f}",
                flush=True,
            )
    print("\nmean over 5 targets\n\nseeds  spread   common   false alarms")
    for seeds in (ENOUGH, 5):
        for common in (0.0, 0.5, 1.0):
            rare = mean_alarms(World(seeds=seeds, spread=0.02, common=common), 3 * number)
            print(f"{seeds:5}  {0.02:6}   {common:6}   {100 * rare:12.1f}", flush=True)


if __name__ == "__main__":
    main()
