"""What an engine is: it runs a stage after its parents and says how it ended, knowing nothing of what it does."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ending:
    """A stage's process is gone. `code` is its exit status; a negative one is the signal that ended it."""

    scratch: Path
    code: int


class Engine(ABC):
    """Runs stages whose requests lie in scratch folders.

    `slots` is how many run at once, `threads` how many threads each may keep busy.
    """

    slots: int
    threads: int

    @abstractmethod
    def start(self, scratch: Path) -> None:
        """Begin to run the stage in `scratch`. Called with a free slot, after every parent has ended well."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Ending]:
        """Return the stages that have ended since last asked, waiting at most `seconds` for the first."""

    @abstractmethod
    def stop(self, scratch: Path) -> None:
        """End a stage: terminate, then kill, its whole process group. Its ending still comes from `wait`."""

    @abstractmethod
    def close(self) -> None:
        """End all that runs and let go of everything."""
