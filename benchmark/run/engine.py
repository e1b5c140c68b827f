"""What an engine is: it runs a stage and says how it ended, knowing nothing of what the stage does.

A stage is a scratch folder with `request.json` in it. Whoever runs it there, `benchmark.run.worker.Server` on this
machine or on another, grants it what `limits` of the request says, and publishes its artefact in the store. `needs` of
the request says what it keeps busy: `gpu`, `cpu` or `llm`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ending:
    """A stage's process is gone.

    code      its exit status; a negative one is the signal that ended it
    over      why, as a reason, where it is not the stage itself that tells: the limit for which the engine has ended it
              (`time limit: over 90 minutes`), or what became of its machine (`killed: its node was lost`)
    seconds   that it ran; None: since it was started
    """

    scratch: Path
    code: int
    over: str | None = None
    seconds: float | None = None


class Engine(ABC):
    """Runs stages whose requests lie in scratch folders.

    `slots` is how many run at once, `threads` how many threads each may keep busy; `tell` is called with a line that a
    person should know, where somebody listens. `outlives` is whether stages run on when their harness is gone, so that
    another may take them over.
    """

    slots: int
    threads: int
    tell: Callable[[str], None]
    outlives: bool = False

    def warm(self) -> None:  # noqa: B027 - there may be nothing to do
        """Get ready to run stages, without waiting longer than must be. Called once, when there will be some."""

    @abstractmethod
    def start(self, scratch: Path) -> None:
        """Begin to run the stage in `scratch`. Called with a free slot, after every parent has ended well."""

    def adopt(self, scratch: Path) -> bool:
        """Take over a stage that runs on in `scratch` although whoever started it is gone. False: there is none.

        Called with a free slot and the stage's lease.
        """
        return False

    @abstractmethod
    def wait(self, seconds: float) -> list[Ending]:
        """Return the stages that have ended since last asked, waiting at most `seconds` for the first."""

    @abstractmethod
    def stop(self, scratch: Path) -> None:
        """End a stage: terminate, then kill, its whole process group. Its ending still comes from `wait`."""

    def forget(self, scratch: Path) -> None:  # noqa: B027 - where stages end with the harness, nobody takes one over
        """Let go of a stage that another harness has taken over. It runs on, and nothing more is heard of it here."""

    def runs_on(self, scratch: Path) -> str | None:
        """Return what to call a stage's place that may run on although `close` was called; None: it has ended."""
        return None

    @abstractmethod
    def close(self) -> None:
        """End all that runs and let go of everything."""
