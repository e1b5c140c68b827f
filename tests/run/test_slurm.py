"""The engine `slurm` on a real SLURM: two nodes on this host, started here (`slurm_host`), and no fake `sbatch`."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import yaml

from benchmark.errors import EngineError
from benchmark.run import slurm_jobs
from benchmark.run.slurm import SlurmEngine, SlurmOptions
from tests.run import slurm_host
from tests.run.conftest import DIRECT, FILM, NEWS, Board, PlayBoard, Shell

SKY = "demo-astronomy"
BOTH = {"transfers": [{"sources": [NEWS], "targets": [FILM, SKY], "regime": "supervised"}]}
QUICK = {"poll_seconds": 0.3, "max_jobs": 8, "mem_gib": 0.5}


@pytest.fixture(scope="module")
def cluster(fakes_on_path):
    """A SLURM of our own. Without its programs: skipped on a laptop, failed in CI."""
    missing = slurm_host.lacking()
    if missing is not None:
        told = f"the engine slurm cannot be tested: {missing}"
        if os.environ.get("CI") or os.environ.get("CDNER_CI"):
            pytest.fail(told)
        pytest.skip(told)
    made = slurm_host.Slurm()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(made.conf))
        patch.setattr(slurm_jobs, "FRESH", 0.3)
        slurm_jobs._cluster.cache_clear()
        try:
            made.start()
            yield made
        finally:
            made.stop()
            slurm_jobs._cluster.cache_clear()


@pytest.fixture
def engine(cluster):
    made = SlurmEngine(SlurmOptions(**QUICK))
    yield made
    made.close()


def test_a_board_of_25_stages_gives_the_predictions_of_the_local_engine(harbour, tmp_path, engine):
    plan = {**BOTH, "seeds": [1, 2, 3, 4, 5]}
    here = harbour(plan)
    there = Board(tmp_path / "cluster", None)(plan, engine=engine)
    cells = [cell.name for cell in here.board.cells]

    assert len(there.steps) == 25
    assert there.counts == here.counts == {"ok": 10, "failed": 0, "skipped": 0, "stages": 25, "before": 10}
    for name in cells:
        mine, its = here.record(name), there.record(name)
        assert (mine["final"], mine["predictions"], mine["scores"]) == (its["final"], its["predictions"], its["scores"])
    assert [*(there.store.root / "scratch").iterdir(), *(there.store.root / "leases").iterdir()] == []
