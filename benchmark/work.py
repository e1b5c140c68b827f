"""What a step is given beside its inputs: a folder to write into, threads, and a way to tell how it goes."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.errors import LlmBudgetSpent


@dataclass
class Work:
    """The surroundings of one running step.

    folder              the artefact's folder, empty at first; what stands in it when the step returns is the artefact
    cache               a folder that steps share, for what can be made again (tokenized splits)
    threads             how many threads this process may keep busy
    checkpoints         a folder that outlives this process: the next attempt at the same stage finds what was kept in
                        it, and the harness removes it when the stage has ended well. None: keep nothing
    checkpoint_seconds  time between two checkpoints, at least
    usd                 US dollars that this step may spend; None: there is no limit
    spent               US dollars that it has spent
    tokens              tokens of language models that it may spend; None: there is no limit
    spent_tokens        tokens that it has spent
    llm                 `live`: language models are asked; `replay`: their kept answers are all there is
    answers             a folder of kept answers that all stages share; None: none are kept
    carried             seconds of work, done by earlier attempts, that the checkpoints hold
    epochs              a folder in which a training keeps the weights of every epoch that could be chosen, or None
    """

    folder: Path
    cache: Path | None = None
    threads: int = 1
    progress: Path | None = None
    checkpoints: Path | None = None
    checkpoint_seconds: float = 60.0
    usd: float | None = None
    spent: float = 0.0
    tokens: int | None = None
    spent_tokens: int = 0
    llm: str = "live"
    answers: Path | None = None
    carried: float = 0.0
    epochs: Path | None = None
    began: float = field(default_factory=time.perf_counter)

    def seconds(self) -> float:
        """Return the seconds of work that stand behind the step as it is now, those of earlier attempts included."""
        return self.carried + time.perf_counter() - self.began

    def checkpointed(self) -> None:
        """Say that a checkpoint was written: what was done until now is not lost with this process."""
        if self.checkpoints is not None and self.checkpoints.is_dir():
            (self.checkpoints / "seconds.txt").write_text(f"{self.seconds():.3f}", encoding="utf8")

    def report(self, **figures: float | int | str | None) -> None:
        """Append figures (epoch, of, dev_f1, ...) to the progress file; whoever watches shows the last line."""
        if self.progress is not None:
            with self.progress.open("a", encoding="utf8") as stream:
                stream.write(json.dumps({"time": round(time.time(), 3), **figures}) + "\n")

    def spend(self, usd: float, *, tokens: int = 0) -> None:
        """Report what this step has spent: US dollars, and tokens of language models.

        Raises LlmBudgetSpent where that is more than the step may spend; what was spent is reported first.
        """
        self.spent += usd
        self.spent_tokens += tokens
        self.report(usd=round(self.spent, 6), **({"tokens": self.spent_tokens} if tokens else {}))
        self.check_budget(over=True)

    def check_budget(self, *, over: bool = False) -> None:
        """Raise LlmBudgetSpent where nothing is left to spend; `over`: where more was spent than there was."""
        if self.usd is not None and (self.spent > self.usd if over else self.spent >= self.usd):
            raise LlmBudgetSpent(f"spent {self.spent:.4f} USD, and {self.usd:.4f} were left to this stage.")
        if self.tokens is not None and (self.spent_tokens > self.tokens if over else self.spent_tokens >= self.tokens):
            raise LlmBudgetSpent(f"spent {self.spent_tokens} tokens, and {self.tokens} were left to this stage.")


def reported(progress: Path) -> dict[str, Any]:
    """Return all that a step has reported in its progress file, newest over oldest; nothing where there is none."""
    try:
        whole, _, _ = progress.read_bytes().rpartition(b"\n")  # the last line may have been cut off
    except OSError:
        return {}
    found: dict[str, Any] = {}
    for line in whole.splitlines():
        found.update(json.loads(line))
    return found
