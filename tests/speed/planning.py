"""How long a large board is planned, from its YAML to the keys of all stages, and what a planned cell holds."""

import json
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import methods
from benchmark.run.cells import plan_cells
from benchmark.run.plan import read_board

VARIANTS, DRAWS, SEEDS = 20, 25, 10
TRAINING = {"encoder": "minilm", "source_lr": 0.001, "batch": 8, "epochs": 8, "warmup": 0.1, "schedule": "linear"}
TRANSFER = {"sources": ["demo-news"], "targets": ["demo-astronomy", "demo-cinema"], "regime": {"fraction": 0.5}}


def fake(number: int) -> dict[str, Any]:
    """Return a variant of a method that takes no time to plan: source, target, predictions."""
    return {"method": "echo", "set": {"weight": number + 1.0}}


def tagger(number: int) -> dict[str, Any]:
    """Return a variant of a real method."""
    return {"method": "tagger", "set": {**TRAINING, "lr": (number + 1) / 1000}}


def plan(folder: Path, variant: Callable[[int], dict[str, Any]], *, seeds: int) -> tuple[int, int]:
    """Read a board of 20 variants, 2 targets, 25 draws and some seeds, and plan it. Return its cells and stages."""
    told = {
        "variants": {f"v{number}": variant(number) for number in range(VARIANTS)},
        "transfers": [{**TRANSFER, "draws": list(range(1, DRAWS + 1))}],
        "seeds": list(range(1, seeds + 1)),
    }
    (folder / "plan.yaml").write_text(json.dumps(told), encoding="utf8")  # JSON is YAML
    board = read_board(str(folder))
    planned = plan_cells(board, board.running_order())
    keys = {stage.key for item in planned if item.final is not None for stage in item.final.graph()}
    return len(planned), len(keys)


def seconds(folder: Path, variant: Callable[[int], dict[str, Any]]) -> float:
    """Return how long a board of 10,000 cells is planned."""
    start = perf_counter()
    cells, stages = plan(folder, variant, seeds=SEEDS)
    taken = perf_counter() - start
    if (cells, stages) != (10_000, 20_000 + SEEDS):  # source stages are shared: one a seed
        raise AssertionError(f"{cells:,} cells and {stages:,} stages were planned.")
    return taken


def growth(folder: Path, variant: Callable[[int], dict[str, Any]]) -> float:
    """Return the KiB by which the peak of Python's memory rises for each cell, from 1,000 to 10,000 cells."""
    peaks = []
    for seeds in (1, SEEDS):
        tracemalloc.start()
        plan(folder, variant, seeds=seeds)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return (peaks[1] - peaks[0]) / (VARIANTS * 2 * DRAWS * (SEEDS - 1)) / 1024


def measure() -> list[tuple[str, float, str]]:
    """Return (what, figure, target): a board of a fake method, and one of `tagger`, read, planned and keyed."""
    methods.METHODS["echo"] = "tests.run.fake_methods:Echo"
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for variant in (fake, tagger):
                plan(folder, variant, seeds=1)  # imports, and the hash of the weights, are another measure's
            return [
                ("planning and keys of 10,000 cells, s", seconds(folder, fake), "under 3"),
                ("  of `tagger` with MiniLM, s", seconds(folder, tagger), "under 3"),
                ("  memory that each further cell takes, KiB", growth(folder, fake), "under 8"),
            ]
    finally:
        del methods.METHODS["echo"]


if __name__ == "__main__":
    for what, figure, target in measure():
        print(f"{what:<50} {figure:6.2f}   target: {target}")
