"""Every exception that cdner raises on purpose.

CdnerError
├── UnknownName      a name that nothing is registered under (carries the nearest right one)
├── CardError        a card that cannot be believed
├── DataError        a corpus file that cannot be read, or is not what its card says
├── FetchError       a corpus file that cannot be found or downloaded
│   └── NotHere          it is nowhere on this machine, and was not to be downloaded (carries its corpus)
├── PlanError        a board's plan, a transfer or a setting that is refused
├── Unsupported      a method cannot do what a transfer asks: the cell is skipped, with the reason
├── StoreError       the store cannot be used
├── EngineError      an engine's options are refused, or what it runs on cannot be used
├── BrokenArtefact   an artefact is not what its manifest says: the harness builds it again
├── RecordError      a record that cannot be read
├── PublishedError   a file of published numbers that cannot be believed
├── LlmError         a language model cannot be asked, or has no kept answer in replay
└── StageFailed      a stage that ended without an artefact: the cell is failed, with the reason
    ├── LossNotANumber   training has diverged
    ├── LlmRefused       a language model would not answer
    ├── LlmBudgetSpent   the money that a stage may spend is spent
    └── CodeChanged      the code of a step is not the one that its stage was planned with

A message says what was found, where, what was expected and what to do next. Inner code stays brief; the
public edge adds the file and the line.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class CdnerError(Exception):
    """What a user can mend; the command line prints its text and no traceback."""


class UnknownName(CdnerError):
    """A name that nothing is registered under."""


class CardError(CdnerError):
    """A card that cannot be believed."""


class DataError(CdnerError):
    """A corpus file that cannot be read, or is not what its card says."""


class FetchError(CdnerError):
    """A corpus file that cannot be found or downloaded."""


class NotHere(FetchError):
    """A file of a corpus is nowhere on this machine, and was not to be downloaded. `corpus` names the corpus."""

    def __init__(self, told: str, corpus: str = "") -> None:
        super().__init__(told)
        self.corpus = corpus


class PlanError(CdnerError):
    """A board's plan, a transfer or a setting that is refused."""


class Unsupported(CdnerError):
    """A method cannot do what a transfer asks. The reason stands in the record of the skipped cell."""


class StoreError(CdnerError):
    """The store cannot be used."""


class EngineError(CdnerError):
    """An engine's options are refused, or what it runs on cannot be used."""


class BrokenArtefact(CdnerError):
    """An artefact is not what its manifest says. `key` names it; the harness builds it again."""

    def __init__(self, key: str, told: str) -> None:
        super().__init__(told)
        self.key = key


class RecordError(CdnerError):
    """A record that cannot be read."""


class PublishedError(CdnerError):
    """A file of published numbers that cannot be believed."""


class LlmError(CdnerError):
    """A language model cannot be asked: its server, its key, the question; or replay has no kept answer."""


class StageFailed(CdnerError):
    """A stage ended without an artefact. `reason` stands in the record of the failed cell."""

    reason = "error"


class LossNotANumber(StageFailed):
    """Training has diverged."""

    reason = "loss is not a number"


class LlmRefused(StageFailed):
    """A language model would not answer."""

    reason = "LLM refused"


class LlmBudgetSpent(StageFailed):
    """The money that a stage may spend is spent."""

    reason = "LLM budget spent"


class CodeChanged(StageFailed):
    """The code of a step is not the one that its stage was planned with: the next run plans it anew."""

    reason = "killed"


def nearest(name: object, known: Iterable[str]) -> str:
    """Return a hint at the known name that `name` may have meant, or an empty string.

    >>> nearest("fractoin", ["fraction", "shots"])
    " Did you mean 'fraction'?"
    >>> nearest("zebra", ["fraction", "shots"])
    ''
    """
    options = list(known)
    text = str(name)
    close = get_close_matches(text, options, n=1) or [o for o in options if o.lower() == text.lower()][:1]
    return f" Did you mean {close[0]!r}?" if close else ""
