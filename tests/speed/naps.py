"""A stage that sleeps, in a module that imports nothing: what a stage's own imports cost is not an engine's."""

import time

from benchmark.work import Work


def nap(work: Work, *, seconds: float, number: int) -> None:
    """Sleep."""
    time.sleep(seconds)
