"""What a step is given beside its inputs: a folder to write into, threads, and a way to tell how it goes."""

import json
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Work:
    """The surroundings of one running step.

    folder    the artefact's folder, empty at first; what stands in it when the step returns is the artefact
    cache     a folder that steps share, for what can be made again (tokenized splits)
    threads   how many threads this process may keep busy
    """

    folder: Path
    cache: Path | None = None
    threads: int = 1
    progress: Path | None = None

    def report(self, **figures: float | int | str | None) -> None:
        """Append figures (epoch, of, dev_f1, ...) to the progress file; whoever watches shows the last line."""
        if self.progress is not None:
            with self.progress.open("a", encoding="utf8") as stream:
                stream.write(json.dumps({"time": round(time.time(), 3), **figures}) + "\n")
