"""A record says what came of a cell: status, counts, cost, provenance. One JSON file a cell, predictions beside it.

records/<cell>.json                  the record
records/<cell>.predictions.jsonl.gz  its predictions; gold words are never written
"""

import gzip
import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmark import RECORD_SCHEMA, __version__, paths
from benchmark.errors import RecordError
from benchmark.files import write_whole
from benchmark.score import slices
from benchmark.score.protocols import PROTOCOLS, Gold, Prediction, Scores, errors, relabel, score

SCHEMA = RECORD_SCHEMA

Record = dict[str, Any]


def record_path(board: Path, cell: str) -> Path:
    """Return where the record of a cell lies."""
    return board / "records" / f"{cell}.json"


def predictions_path(board: Path, cell: str) -> Path:
    """Return where the predictions of a cell lie."""
    return board / "records" / f"{cell}.predictions.jsonl.gz"


def read(board: Path, cell: str) -> Record | None:
    """Return the record of a cell, or None; one of an older schema says null where it did not tell.

    Raises RecordError where it cannot be read.
    """
    path = record_path(board, cell)
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf8"))
        schema = found["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: this is no record ({error}). Move it away, and run its board again.") from None
    if schema not in range(1, SCHEMA + 1):
        raise RecordError(
            f"{path}: the record has schema {schema}, this version reads up to {SCHEMA}. A newer cdner wrote it: use "
            "that one, or move the record away and run its board again."
        )
    return {**found, "attempts": found.get("attempts")}


def read_or_none(board: Path, cell: str) -> Record | None:
    """Return the record of a cell; None where there is none that can be read."""
    try:
        return read(board, cell)
    except RecordError:
        return None


def brief(record: Record) -> Record:
    """Return what of a record tells whether its cell is done. A board has thousands, and whole ones fill the memory."""
    kept = ("cell", "status", "reason", "final", "scorer", "gold", "failure")
    return {**{name: record[name] for name in kept if name in record}, "lacks": lacks(record)}


def lacks(record: Mapping[str, Any]) -> list[str]:
    """Return what a record does not tell yet and scoring its predictions again would: what is newer than it.

    Its numbers hold without them. A record that is no good one lacks nothing. What else `scores` comes to count is to
    be looked for here, and is then scored again wherever it is missing.
    """
    if "lacks" in record:  # a brief one
        return list(record["lacks"])
    if record["status"] != "ok":
        return []
    levels = (record.get("scores") or {}).values()
    found = [protocol for protocol in PROTOCOLS if any(protocol not in counted for counted in levels)]
    return found if record.get("slices") else [*found, "slices"]


def torn(board: Path, cell: str) -> bool:
    """Return whether there is a record of a cell that is no JSON, or has no schema."""
    path = record_path(board, cell)
    if not path.is_file():
        return False
    try:
        return "schema" not in json.loads(path.read_text(encoding="utf8"))
    except (ValueError, TypeError):
        return True


def move_away(board: Path, cell: str) -> Path:
    """Rename a record that cannot be read, so that its cell is run again. Returns its new name."""
    path = record_path(board, cell)
    target = path.with_name(f"{path.name}.unreadable")
    path.replace(target)
    return target


def write(board: Path, record: Mapping[str, Any], predictions: Path | None = None) -> None:
    """Write a record, whole or not at all, and its predictions before it."""
    found = dict(record)
    if predictions is not None:
        packed = gzip.compress(predictions.read_bytes(), mtime=0)
        target = predictions_path(board, found["cell"])
        write_whole(target, packed)
        found["predictions"] = {"file": target.name, "sha256": hashlib.sha256(packed).hexdigest()}
    write_whole(record_path(board, found["cell"]), dumps(found))


def dumps(record: Mapping[str, Any]) -> str:
    """Return a record as JSON, one line a field, so that a diff of two records can be read."""
    lines = [f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in record.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def scores(
    gold: Sequence[Gold], predicted: Sequence[Prediction], *, level: str, general: Mapping[str, str]
) -> dict[str, Any]:
    """Return the fields of a record that hold counts: every protocol at every type level that there is.

    level     `fine`: predictions carry the target's types, and are scored as they are and mapped to general types.
              `general`: they carry general types, and are scored there alone
    general   the target's types -> general types
    """
    broad = relabel(gold, general)
    sides: dict[str, tuple[Sequence[Gold], Sequence[Prediction]]] = {}
    if level == "fine":
        sides["fine"] = (gold, predicted)
        sides["general"] = (broad, relabel(predicted, general))
    else:
        sides["general"] = (broad, predicted)
    found: dict[str, Any] = {"scores": {}, "errors": {}, "sentences": {}}
    for name, (truth, guess) in sides.items():
        counted = {protocol: score(protocol, truth, guess) for protocol in PROTOCOLS}
        found["scores"][name] = {protocol: as_counts(result) for protocol, result in counted.items()}
        found["errors"][name] = errors(truth, guess)
        found["sentences"][name] = [[c.hit, c.extra, c.missed] for c in counted["strict"].sentences]
    return found


def sliced(
    gold: Sequence[Gold],
    predicted: Sequence[Prediction],
    *,
    level: str,
    general: Mapping[str, str],
    shown: Mapping[str, slices.Shown],
) -> dict[str, Any]:
    """Return the field of a record that holds slices, at every type level that there is. Arguments as in `scores`.

    shown   type level -> what there was to learn
    """
    broad = slices.count(
        relabel(gold, general), relabel(predicted, general) if level == "fine" else predicted, shown["general"]
    )
    fine = {"fine": slices.count(gold, predicted, shown["fine"])} if level == "fine" else {}
    return {**fine, "general": broad}


def as_counts(result: Scores) -> dict[str, Any]:
    """Return counts as a record keeps them: [hit, extra, missed], over the corpus and per type."""
    return {
        "all": [result.all.hit, result.all.extra, result.all.missed],
        "types": {name: [c.hit, c.extra, c.missed] for name, c in result.types.items()},
    }


def provenance() -> dict[str, Any]:
    """Return what the record itself was made with; None where it cannot be told."""
    return {
        "cdner": __version__,
        **git_state(),
        "system": f"{platform.system()} {platform.machine()}",
        "written": now(),
    }


def now() -> str:
    """Return the time as records have it: ISO 8601, UTC, seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@lru_cache(maxsize=1)
def git_state() -> dict[str, Any]:
    """Return the checkout's commit and whether its code was changed since; nulls outside a checkout."""
    here = paths.CHECKOUT
    if not (here / ".git").exists():
        return {"commit": None, "dirty": None}
    try:
        commit = _git(here, "rev-parse", "HEAD").strip()
        dirty = bool(_git(here, "status", "--porcelain", "--", "benchmark", "methods", "datasets", "constraints.txt"))
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": dirty}


def _git(where: Path, *arguments: str) -> str:
    asked = ["git", "-C", str(where), *arguments]
    return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20).stdout


def copy_predictions(board: Path, old: Mapping[str, Any], new: Record) -> None:
    """Put the predictions of one record beside another, and their hash into it."""
    target = predictions_path(board, new["cell"])
    write_whole(target, predictions_path(board, old["cell"]).read_bytes())
    new["predictions"] = {**old["predictions"], "file": target.name}


def predictions_hold(board: Path, record: Mapping[str, Any]) -> bool:
    """Return whether the predictions of a record stand beside it, unaltered."""
    path = predictions_path(board, record["cell"])
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == record["predictions"]["sha256"]
