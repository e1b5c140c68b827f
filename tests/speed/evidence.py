"""A whole table with intervals from 10,000 records, in a process of its own; the bootstrap of a 20-variant board."""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmark.report.layout import tables, with_evidence
from benchmark.report.reading import load
from benchmark.report.render import render
from benchmark.report.rows import rows
from benchmark.score.statistics import Column, resamples, standings
from tests.speed.tables import TARGETS, Planned, record

VARIANTS, SEEDS = 250, 5  # x 8 targets: 10,000 records
MENTIONS = 100  # predicted, a record: a million in all
GIB = 2**20  # of ru_maxrss, which counts KiB


def cells() -> list[Planned]:
    return [Planned(f"variant-{v}", t, s) for v in range(VARIANTS) for t in TARGETS for s in range(1, SEEDS + 1)]


def thin(whole: dict, chance: random.Random) -> dict:
    """Return a record in which a hundred mentions are predicted."""
    counts = [[0, 0, 0] for _ in whole["sentences"]["fine"]]
    for n in range(MENTIONS):
        counts[chance.randrange(len(counts))][n % 2] += 1
    for at in counts:
        at[2] = chance.randrange(2)
    total = [sum(c[i] for c in counts) for i in range(3)]
    for level in ("fine", "general"):
        whole["sentences"][level] = counts
        whole["scores"][level]["strict"]["all"] = total
    return whole


def table(folder: str) -> None:
    """Read 10,000 records and lay out the table with its intervals; print seconds and the peak of memory."""
    start = time.process_time()
    found = render(with_evidence(tables(rows(cells(), load(folder)))), "markdown")
    seconds = time.process_time() - start
    assert "average rank" in found
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB]))


def measure() -> list[tuple[str, float, str]]:
    """Return (what, figure, target)."""
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        for cell in cells():
            path = Path(folder, "records", f"{cell.name}.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(thin(record(cell, chance), chance)))
        asked = [sys.executable, "-m", "tests.speed.evidence", folder]
        told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    seconds, gib = json.loads(told)
    dice = np.random.default_rng(1)
    whole = {f"v{v}": {s: dice.integers(0, 4, (1, 450, 3)) for s in range(5)} for v in range(20)}
    resamples.cache_clear()
    start = time.process_time()
    standings(Column(whole))
    boot = time.process_time() - start
    return [
        ("a table with intervals from 10,000 records, 1,000,000 predicted mentions (CPU s)", seconds, "under 20"),
        ("  its peak of memory (GiB)", gib, "under 2"),
        ("1,000 bootstrap replicates of a board of 20 variants, 5 seeds, with all tests (CPU s)", boot, "under 2"),
    ]


if __name__ == "__main__":
    table(sys.argv[1])
