"""How long a table of 1,000 records takes, from files to text. Run as a script, or through `measure`."""

import json
import random
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.report.table import load, render, rows

TARGETS = ("ai", "literature", "movie", "music", "politics", "restaurant", "science", "conll")
VARIANTS, SEEDS, SENTENCES, TYPES = 25, 5, 450, 14


@dataclass(frozen=True)
class Planned:
    variant: str
    target: str
    seed: int
    method: str = "tagger"
    sources: tuple[str, ...] = ("conll2003",)
    regime: str = "supervised"
    select: str = "target-dev"
    order: str = "sequence"
    dev: str = "card"
    changed: Mapping[str, Any] = field(default_factory=dict)
    draw: int | None = None

    @property
    def name(self) -> str:
        return f"{self.variant}/conll2003--{self.target}/supervised/seed{self.seed}"


def planned() -> list[Planned]:
    """Return 1,000 cells: variants x targets x seeds."""
    seeds = range(1, SEEDS + 1)
    return [Planned(f"variant-{v}", t, s) for v in range(VARIANTS) for t in TARGETS for s in seeds]


def record(cell: Planned, chance: random.Random) -> dict[str, Any]:
    """Return a record of the size of a real one, all numbers random."""

    def counts(names: list[str]) -> dict[str, Any]:
        types = {name: [chance.randrange(200) for _ in range(3)] for name in names}
        return {"all": [sum(c[i] for c in types.values()) for i in range(3)], "types": types}

    names = [f"type-{i}" for i in range(TYPES)]
    tags = ["O", *(f"{p}-{name}" for name in names for p in "BI")]
    scores: dict[str, Any] = {"strict": counts(names), "conlleval": counts(names), "token": counts(tags)}
    sentences = [[chance.randrange(4) for _ in range(3)] for _ in range(SENTENCES)]
    scores["strict"]["all"] = [sum(c[i] for c in sentences) for i in range(3)]
    errors = {kind: chance.randrange(200) for kind in ("hit", "type", "boundary", "missed", "spurious")}
    return {
        "schema": 1, "cell": cell.name, "board": "speed", "status": "ok", "reason": None,
        "variant": cell.variant, "method": cell.method, "settings": {}, "backbone": "minilm",
        "regime": cell.regime, "draw": None, "seed": cell.seed, "level": "fine",
        "corpora": {"conll2003": {"version": 1}, cell.target: {"version": 1}}, "scorer": 1,
        "scores": {"fine": scores, "general": scores}, "errors": {"fine": errors, "general": errors},
        "sentences": {"fine": sentences, "general": sentences},
        "provenance": {"precision": "bf16", "device": ["cpu"], "commit": "0" * 40, "dirty": False},
    }  # fmt: skip


def measure() -> list[tuple[str, float, str]]:
    """Return (what, seconds, target): reading the records, and the whole way to a table in the terminal."""
    cells, chance = planned(), random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        for cell in cells:
            path = Path(folder, "records", f"{cell.name}.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record(cell, chance)))
        render(rows(cells[:5], []), "terminal")  # imports are another measure's
        start = time.perf_counter()
        records = load(folder)
        read = time.perf_counter()
        render(rows(cells, records), "terminal")
        end = time.perf_counter()
    return [
        ("reading 1,000 records", read - start, "part of the next"),
        ("a table from 1,000 records", end - start, "under 1 s"),
    ]


if __name__ == "__main__":
    for what, figure, target in measure():
        print(f"{what:<28} {figure:6.2f} s   {target}")
