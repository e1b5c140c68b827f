"""What Ray costs: nodes that sleep side by side, and a stage that does nothing beside the same on `local`.

Every node is a raylet of its own on 127.0.0.1 with room for one stage.
"""

import os
import tempfile
import time
from pathlib import Path

from benchmark.run.engine import Engine
from benchmark.run.engines import make
from benchmark.run.local import LocalEngine
from benchmark.run.stage import Stage
from benchmark.run.store import Store
from tests.raynodes import VARIABLES, Nodes
from tests.speed.naps import nap
from tests.speed.stages import a_stage


def run_all(engine: Engine, store: Store, stages: list[Stage], at_once: int) -> float:
    """Run stages, so many at once, and return the seconds that it took."""
    began, running, waiting = time.perf_counter(), 0, list(stages)
    while waiting or running:
        while waiting and running < at_once:
            engine.start(store.prepare(waiting.pop(0), threads=1))
            running += 1
        running -= len(engine.wait(1.0))
    took = time.perf_counter() - began
    if not all(store.has(stage.key) for stage in stages):
        raise AssertionError("a stage has failed")
    return took


def measure(nodes: tuple[int, ...] = (2, 4, 8), each: int = 50, seconds: float = 2.0) -> list[tuple[str, float, str]]:
    """Return the ideal time over the measured one for each number of nodes, and milliseconds a no-op stage.

    The first stage of every node, which waits for imports, is not in them.
    """
    found: list[tuple[str, float, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder))
        local = LocalEngine(slots=1, threads=1)
        try:
            here = a_stage(local, store)
        finally:
            local.close()
        os.environ.update(VARIABLES)
        cluster, number = Nodes(0), 1000
        try:
            for count in nodes:
                while len(cluster.nodes) < count:
                    cluster.add()
                engine = make("ray", {"address": cluster.address, "gpus_per_stage": 0})
                engine.warm()
                try:
                    warm = [Stage(nap, seconds=10.0, number=number + n) for n in range(count)]
                    run_all(engine, store, warm, count)
                    number += count
                    stages = [Stage(nap, seconds=seconds, number=number + n) for n in range(each * count)]
                    number += len(stages)
                    took = run_all(engine, store, stages, count)
                    words = f"Ray, {count} nodes, {len(stages)} stages of {seconds:g} s: ideal time over measured"
                    found.append((words, each * seconds / took, "at least 0.9"))
                    if count == nodes[0]:
                        beside = a_stage(engine, store, first=10_000)
                finally:
                    engine.close()
        finally:
            cluster.close()
    return [
        *found,
        ("a no-op stage on local, ms", 1000 * here, ""),
        ("a no-op stage on Ray, ms", 1000 * beside, ""),
        ("what Ray adds to a no-op stage, ms", 1000 * (beside - here), ""),
    ]
