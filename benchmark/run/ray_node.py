"""What runs on the nodes of a Ray cluster: tasks that hold a stage's place, and hand it to a warm fork server.

Ray keeps the processes of its tasks, and each keeps a fork server of its own, so that only the first stage of a place
waits for imports. When the process goes (its node, its driver or its job is gone) the server's input closes, and the
stages that it has forked are killed.
"""

import contextlib
import os
import platform
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark.run import processes
from benchmark.run.local import LocalEngine

_engine: LocalEngine | None = None  # of this process


def run_stage(scratch: str, here: str, environment: Mapping[str, str], code: Mapping[str, str]) -> dict[str, Any]:
    """Run the stage in a scratch folder, and return how it ended: `code`, `over` and `host`.

    here         the folder in which the harness runs, for paths that start from it
    environment  variables of the stage's environment
    code         the code of the harness (`benchmark.run.stage.all_code`)

    Instead, `blind` says that the store cannot be seen from here, or `differs` which code here is another.
    """
    host = platform.node()
    folder = Path(scratch)
    if not folder.parent.is_dir():
        return {"host": host, "blind": True}
    if _engine is None:
        differs = differing(code)
        if differs:
            return {"host": host, "differs": differs}
    engine = warm(here, environment)
    engine.gpus = [granted()]
    with asked_to_stop() as asked:
        engine.start(folder)
        while True:
            for ending in engine.wait(0.1):
                if ending.code:
                    processes.end(folder)  # what it has put into sessions of its own
                return {"host": host, "code": ending.code, "over": ending.over}
            if asked:
                engine.stop(folder)
                asked.clear()


def warm(here: str, environment: Mapping[str, str]) -> LocalEngine:
    """Return this process' engine, with its fork server."""
    global _engine
    if _engine is None:
        with contextlib.suppress(OSError):
            os.chdir(here)
        os.environ.update(environment)
        _engine = LocalEngine(1, 1, lend=[])
        _engine.warm()
    return _engine


def differing(code: Mapping[str, str]) -> list[str]:
    """Return the modules that are not here what they are for the harness."""
    from benchmark.run.stage import all_code

    here = all_code()
    return sorted(name for name in {*here, *code} if here.get(name) != code.get(name))


def granted() -> str:
    """Return the GPUs that Ray has granted to this task, as CUDA_VISIBLE_DEVICES names them; empty: none."""
    import ray

    return ",".join(ray.get_runtime_context().get_accelerator_ids().get("GPU", []))


@contextlib.contextmanager
def asked_to_stop() -> Iterator[list[bool]]:
    """Give a list that is empty until Ray cancels this task: what it raises for that is a KeyboardInterrupt."""
    asked: list[bool] = []
    before = signal.signal(signal.SIGINT, lambda *_: asked.append(True))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
