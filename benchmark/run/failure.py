"""Why a stage ended without an artefact: one of a few words, and what is behind it.

out of memory         the process, its machine or its GPU; or over what a stage may use
time limit            over what a stage may take
loss is not a number  training has diverged
killed                by a signal that the harness did not send, or since the code has changed
bad input             something that a person can mend
LLM refused           a language model would not answer
LLM budget spent      the money that may be spent is spent
error                 all else, with the last lines of the log
disk full             nothing can be written: the run ends
broken input          an artefact that the stage reads is torn: it is built again
interrupted           the harness ended it, or was itself ended
"""

import json
from dataclasses import dataclass
from pathlib import Path

from benchmark.errors import CodeChanged
from benchmark.run.engine import Ending

PASSING = ("killed", "interrupted", "disk full", "LLM budget spent")  # not the method's doing: it is tried again
KEPT = (*PASSING, "time limit", "out of memory")  # a later attempt goes on from the checkpoints


@dataclass(frozen=True)
class Failure:
    """How an attempt at a stage failed.

    kind   one of the words above
    told   the same with its details, in one line
    log    the last lines that the stage printed
    key    of the broken artefact, where that is the kind
    again  whether another attempt of the same run may end otherwise
    """

    kind: str
    told: str
    log: tuple[str, ...] = ()
    key: str | None = None
    again: bool = True


def failure(ending: Ending) -> Failure:
    """Return why a stage failed: the limit it was over, what it said itself, or what its exit status tells."""
    log = last_lines(ending.scratch / "artefact" / "log.txt")
    if ending.over is not None:
        return Failure(ending.over.partition(":")[0], ending.over, log)
    try:
        told = json.loads((ending.scratch / "failure.json").read_text(encoding="utf8"))
    except (OSError, ValueError):
        return unspoken(ending.code, log)
    kind = told["reason"]
    line = ["", *told["message"].strip().splitlines()][-1]
    said = line if line.startswith(kind) else f"{kind}: {told['error']}: {line}"
    return Failure(kind, said[:500], log, told.get("key"), told.get("error") != CodeChanged.__name__)


def unspoken(code: int, log: tuple[str, ...]) -> Failure:
    """Return why a stage failed that said nothing itself."""
    if code < 0:
        more = " (for want of memory, or by a person)" if code == -9 else ""
        return Failure("killed", f"killed by signal {-code}{more}", log)
    return Failure("error", f"error: exit status {code}: {' / '.join(log[-3:])}"[:500], log)


def last_lines(log: Path, number: int = 20) -> tuple[str, ...]:
    """Return the last lines of a log, without what is secret in them; none where there is no log."""
    from benchmark.redact import redact

    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 8192))
            text = stream.read().decode("utf8", errors="replace")
    except OSError:
        return ()
    return tuple(redact(text).strip().splitlines()[-number:])
