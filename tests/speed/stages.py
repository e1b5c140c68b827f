"""What a stage costs beside its own work: fork, inputs, a synced artefact."""

import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmark.run.engine import Engine
from benchmark.run.local import LocalEngine
from benchmark.run.stage import Stage
from benchmark.run.store import Store
from benchmark.work import Work


def nothing(work: Work, *, number: int) -> None:
    """Write one small file."""
    (work.folder / "number.txt").write_text(str(number))


def a_stage(engine: Engine, store: Store, times: int = 40, first: int = 0) -> float:
    """Return the median seconds from asking for a no-op stage to its artefact, once the engine is warm."""
    took = []
    for number in range(first, first + times + 3):
        stage = Stage(nothing, number=number)
        start = perf_counter()
        engine.start(store.prepare(stage, threads=1))
        while not engine.wait(1.0):
            pass
        took.append(perf_counter() - start)
        if not store.has(stage.key):
            raise AssertionError("a no-op stage has failed")
    return median(took[3:])


def measure() -> list[tuple[str, float, str]]:
    """Return the milliseconds from asking for a no-op stage to its artefact, from the warm fork server."""
    engine = LocalEngine(slots=1, threads=1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            took = a_stage(engine, Store.open(Path(folder)))
    finally:
        engine.close()
    return [("a no-op stage from the warm fork server, artefact synced, ms", 1000 * took, "under 60")]
