"""Reads files that somebody else made: bounded, without following links, and shown without harm.

Every function raises RecordError with what is wrong and no path: the caller knows the file.
"""

import gzip
import io
import json
import os
import stat
import zlib
from collections.abc import Iterator
from math import isfinite, prod
from pathlib import Path
from typing import Any

import yaml

from benchmark.errors import RecordError
from benchmark.redact import redact

MIB = 1 << 20
RECORD_BYTES = 32 * MIB  # the largest committed one has 0.1 MiB
PACKED_BYTES = 64 * MIB  # of predictions
PREDICTIONS_BYTES = 256 * MIB  # unpacked
PLAN_BYTES = MIB
PLAN_NODES = 100_000  # with every alias written out
PLAN_CELLS = 1_000_000
DEPTH = 64  # of lists and objects within each other
SHOWN = 400  # characters of one message


def contents(path: Path, most: int) -> bytes:
    """Return the bytes of a regular file, `most` of them at most. A link is not followed."""
    try:
        if path.is_symlink():
            raise RecordError(f"it is a link, to {os.readlink(path)!r}. Put the file itself there.")
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with open(handle, "rb") as stream:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise RecordError("it is no regular file. Remove it.")
            found = stream.read(most + 1)
    except OSError as error:
        raise RecordError(f"it cannot be read ({error.strerror}).") from None
    if len(found) > most:
        raise RecordError(f"it has more than {most // MIB} MiB, which no such file has.")
    return found


def unpacked(packed: bytes, most: int = PREDICTIONS_BYTES) -> bytes:
    """Return what was compressed with gzip, unless it has more than `most` bytes: no more are ever unpacked."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
            found = stream.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise RecordError(f"it cannot be unpacked ({error}).") from None
    if len(found) > most:
        raise RecordError(f"it unpacks to more than {most // MIB} MiB, which no such file has.")
    return found


def decoded(data: bytes) -> str:
    """Return UTF-8 text."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise RecordError(f"it is no UTF-8 text ({error.reason} at byte {error.start}).") from None


def parsed(text: str) -> Any:
    """Return JSON. Refused: a key that stands twice, numbers that are none, what is nested without end."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the key {twice!r} stands twice")
        return found

    def finite(number: str) -> float:
        if not isfinite(found := float(number)):
            raise ValueError(f"{number[:40]} is no finite number")
        return found

    try:
        found = json.loads(text, object_pairs_hook=once, parse_float=finite, parse_constant=finite)
    except RecursionError:
        raise RecordError("it is nested without end.") from None
    except ValueError as error:
        raise RecordError(f"it is no JSON ({error}).") from None
    if not _flat(found):
        raise RecordError("it is nested without end.")
    return found


def _flat(value: Any) -> bool:
    """Return whether no more than DEPTH lists and objects stand within each other."""
    level = [value]
    for _ in range(DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return True
    return False


def walk(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Yield what stands under a folder, in order, with what is wrong with it; folders that are links stay closed."""
    if folder.is_symlink():
        yield folder, f"it is a link, to {os.readlink(folder)!r}. Put the folder itself there."
        return
    for here, folders, files in os.walk(folder, onerror=None, followlinks=False):
        for name in sorted(folders):
            path = Path(here, name)
            if path.is_symlink():
                yield path, f"it is a link, to {os.readlink(path)!r}. Put the folder itself there."
            elif not os.access(path, os.R_OK | os.X_OK):
                yield path, "it is a folder that cannot be read."
        folders.sort()
        for name in sorted(files):
            path = Path(here, name)
            if path.is_symlink():
                yield path, f"it is a link, to {os.readlink(path)!r}. Put the file itself there."
            elif not stat.S_ISREG(path.lstat().st_mode):
                yield path, "it is no regular file. Remove it."
            else:
                yield path, None


def check_plan(folder: Path) -> None:
    """Refuse a plan.yaml that could not be read in reasonable time: a link, too large, or of too many cells."""
    path = folder / "plan.yaml"
    try:
        text = decoded(contents(path, PLAN_BYTES))
        root = yaml.compose(text, yaml.SafeLoader)
        if root is not None and _nodes(root, {}, 0) > PLAN_NODES:
            raise RecordError(f"its aliases, written out, make more than {PLAN_NODES} values.")
        plan = yaml.safe_load(text)
        if isinstance(plan, dict) and (cells := _cells(plan)) > PLAN_CELLS:
            raise RecordError(f"it asks for {cells} cells, and {PLAN_CELLS} are the most that is read.")
    except RecordError as error:
        raise RecordError(f"{shown(str(path))}: {error}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, AttributeError, LookupError):
        return  # whoever reads the plan tells the line


def _nodes(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Return how many values a document has where every alias is written out."""
    if depth > DEPTH:
        raise RecordError("it is nested without end.")
    if id(node) not in known:
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        known[id(node)] = PLAN_NODES + 1  # while it is open, an alias of it has no end
        known[id(node)] = 1 + sum(_nodes(part, known, depth + 1) for part in inner)
    return known[id(node)]


def _cells(plan: dict[str, Any]) -> int:
    """Return how many cells a plan asks for, at most: lists in an item of `transfers` are multiplied."""

    def length(value: Any) -> int:
        if isinstance(value, dict):
            return prod(length(inner) for inner in value.values())
        return max(1, len(value)) if isinstance(value, list) else 1

    variants, transfers = plan.get("variants"), plan.get("transfers")
    if not isinstance(variants, dict) or not isinstance(transfers, list):
        return 0
    many = ("target", "targets", "chain", "draws", "evaluate", "auxiliary", "annotate", "seeds")
    return sum(
        len(variants) * prod(length(item.get(name, plan.get(name) if name == "seeds" else None)) for name in many)
        for item in transfers
        if isinstance(item, dict)
    )


def shown(text: str) -> str:
    """Return text as it may be printed: one line, no control characters, no keys, not too long.

    >>> shown("a\\x1b[2J\\nb")
    'a\\\\x1b[2J\\\\nb'
    """
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in redact(text[: 4 * SHOWN]))
    return plain if len(plain) <= SHOWN else f"{plain[: SHOWN - 3]}..."
