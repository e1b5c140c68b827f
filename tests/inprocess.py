"""Stages run in this process, as a worker runs them: requests packed and unpacked, every stage in its folder."""

import json
from pathlib import Path

from benchmark.run.stage import Stage, pack, unpack
from benchmark.score.protocols import Prediction, read_predictions
from benchmark.work import Work


def run(final: Stage, store: Path) -> list[Prediction]:
    """Run a stage and what it needs, but for what `store` has already, and return its predictions."""
    build(final, store)
    return read_predictions(store / final.key / "predictions.jsonl")


def build(final: Stage, store: Path) -> Path:
    """Run a stage and what it needs, but for what `store` has already, and return the stage's folder."""
    for stage in final.graph():
        folder = store / stage.key
        if folder.is_dir():
            continue
        folder.mkdir(parents=True)
        splits = {split.hash: split for split in stage.splits}
        request = json.loads(json.dumps({name: pack(value) for name, value in stage.inputs.items()}))
        inputs = {n: unpack(v, split=splits.__getitem__, stage=store.joinpath) for n, v in request.items()}
        stage.step(Work(folder=folder, threads=1), **inputs)
    return store / final.key
