"""Reads the records of a board, and refuses one of which a table would be wrong, or could not be made.

load   folder -> records   JSON as it stands under `records/`, the counts of sentences as arrays

Checked is what tables read, and that alone: that it is there, of its kind, and that counts of sentences sum up to the
whole. `benchmark.run.check` holds a record against its plan, its stages and its predictions besides.
"""

import gc
import json
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark import RECORD_SCHEMA
from benchmark.errors import RecordError
from benchmark.score.slices import DIMENSIONS

Record = dict[str, Any]

STATUSES = ("ok", "failed", "skipped")
LEVELS = ("fine", "general")
KINDS = ("hit", "type", "boundary", "missed", "spurious")
MEND = "Mend or delete it and run the board again."
TRIPLE = "[hit, extra, missed], whole numbers of 0 or more"
NAMES = {str: "a text", int: "a whole number", float: "a number", dict: "an object", list: "a list", type(None): "null"}
ABSENT = object()


def load(folder: Path | str) -> list[Record]:
    """Return every record under `<folder>/records/`, in the order of their paths; none where there is no such folder.

    Raises RecordError, naming the file, for one that cannot be read or is none, and for a folder that cannot be read.
    """
    with _no_collection():
        paths = _paths(Path(folder) / "records")
        records = [_read(path) for path in paths]
        _same_tests(paths, records)
        return records


@contextmanager
def _no_collection() -> Iterator[None]:
    """Hold the garbage collector back: it goes over the million small lists of JSON again and again, in vain."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _paths(root: Path) -> list[Path]:
    """Return the files of records, in order. A folder that cannot be read is no empty one."""

    def stop(error: OSError) -> None:
        if isinstance(error, FileNotFoundError):  # no run yet, or one beside us has just moved it
            return
        raise RecordError(
            f"{error.filename}: this folder of records cannot be read ({error.strerror}). Let yourself read it; "
            "without it a table would say that nothing was run."
        ) from error

    found = os.walk(root, onerror=stop)
    return sorted(Path(here, name) for here, _, names in found for name in names if name.endswith(".json"))


def _read(path: Path) -> Record:
    try:
        record = json.loads(path.read_bytes())
    except OSError as error:
        raise RecordError(
            f"{path}: this record cannot be read ({error.strerror}). That is no fault of the record: let yourself "
            "read the file, and leave it as it is."
        ) from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: this record is no JSON ({error}). {MEND}") from error
    if not isinstance(record, dict) or not {"cell", "status"} <= record.keys():
        raise RecordError(f"{path}: a record is an object with `cell` and `status`, and this is none. {MEND}")
    schema = record.get("schema", RECORD_SCHEMA)
    if type(schema) is int and schema > RECORD_SCHEMA:
        raise RecordError(
            f"{path}: the record has schema {schema}, this version reads up to {RECORD_SCHEMA}. "
            "A newer cdner wrote it: use that one."
        )
    _Check(path, record).run()
    return record


class _Check:
    """Checks one record, and packs the counts of its sentences."""

    def __init__(self, path: Path, record: Record) -> None:
        self.path, self.record = path, record

    def run(self) -> None:
        """Raise RecordError, with the field, at the first that is not as expected."""
        record = self.record
        self.kind(record, "", "schema", int, default=RECORD_SCHEMA)
        if record.get("schema", RECORD_SCHEMA) < 1:
            raise self.refused("schema", record["schema"], f"1 to {RECORD_SCHEMA}")
        for name in ("cell", "variant"):
            self.kind(record, "", name, str)
        self.among("status", STATUSES)
        for name in ("reason", "backbone"):
            self.kind(record, "", name, str, type(None), default=None)
        for name in ("settings", "transfer", "cost"):
            self.kind(record, "", name, dict, default={})
        if record["status"] != "ok":
            return
        self.among("level", LEVELS)
        self.kind(record, "", "scorer", int)
        corpora = self.kind(record, "", "corpora", dict)
        for name in corpora:
            self.kind(self.kind(corpora, "corpora", name, dict), f"corpora.{name}", "version", int)
        provenance = self.kind(record, "", "provenance", dict)
        # A language model that is asked has no precision.
        self.kind(provenance, "provenance", "precision", str, type(None))
        self.kind(provenance, "provenance", "device", list, type(None), default=None)
        self.kind(record.get("cost", {}), "cost", "alone_seconds", float, int, type(None), default=None)
        self.counts()
        self.told()

    def counts(self) -> None:
        """Check scores, errors and sentences, and that they are of the same mentions."""
        record = self.record
        levels = LEVELS if record["level"] == "fine" else ("general",)
        triples: list[tuple[str, Any]] = []
        for part in ("scores", "errors", "sentences"):
            self.kind(record, "", part, dict)
            for level in levels:
                self.kind(record[part], part, level, list if part == "sentences" else dict)
        for level in levels:
            for protocol in record["scores"][level]:
                where = f"scores.{level}.{protocol}"
                counted = self.kind(record["scores"][level], f"scores.{level}", protocol, dict)
                triples.append((f"{where}.all", counted.get("all", ABSENT)))
                triples.extend((f"{where}.types.{t}", c) for t, c in self.kind(counted, where, "types", dict).items())
            for kind in KINDS:
                count = record["errors"][level].get(kind, ABSENT)
                if type(count) is not int or count < 0:
                    raise self.refused(f"errors.{level}.{kind}", count, "a whole number of 0 or more")
        self.triples(triples)
        lengths = {}
        for level in levels:
            found = record["sentences"][level] = self.packed(level, record["sentences"][level])
            lengths[level] = len(found)
            strict = record["scores"][level].get("strict")
            if strict is not None and (total := found.sum(axis=0).tolist()) != strict["all"]:
                raise RecordError(
                    f"{self.path}: `sentences.{level}` sum up to {total}, expected {strict['all']}, which is "
                    f"`scores.{level}.strict.all`. {MEND}"
                )
        if len({*lengths.values()}) > 1:
            told = " and ".join(f"{n} at the level of {level} types" for level, n in lengths.items())
            raise RecordError(f"{self.path}: `sentences` has {told}, expected as many of both. {MEND}")

    def told(self) -> None:
        """Check what a record need not have: slices, audits, epochs."""
        record = self.record
        triples: list[tuple[str, Any]] = []
        for part in ("slices", "audit", "curves"):
            if record.get(part, ABSENT) is None:
                del record[part]
        for level, found in self.kind(record, "", "slices", dict, default={}).items():
            where = f"slices.{level}"
            self.kind(record["slices"], "slices", level, dict)
            for by in DIMENSIONS:
                buckets = self.kind(found, where, by, dict, default={})
                triples.extend((f"{where}.{by}.{bucket}", counts) for bucket, counts in buckets.items())
            self.kind(found, where, "shared_types", list)
            confusion = self.kind(found, where, "confusion", dict, default={"types": [], "counts": [[0]]})
            size = len(self.kind(confusion, f"{where}.confusion", "types", list)) + 1
            rows = self.kind(confusion, f"{where}.confusion", "counts", list)
            if [len(row) if isinstance(row, list) else 0 for row in rows] != [size] * size:
                raise self.refused(f"{where}.confusion.counts", rows, f"{size} lists of {size} counts")
        if "audit" in record:
            pairs = self.kind(self.kind(record, "", "audit", dict), "audit", "pairs", dict)
            for name in pairs:
                self.kind(pairs, "audit.pairs", name, int)
        curves = self.kind(record, "", "curves", dict, default={})
        for n, epoch in enumerate(self.kind(curves, "curves", "epochs", list, default=[])):
            where = f"curves.epochs.{n}"
            if type(epoch) is not dict:
                raise self.refused(where, epoch, NAMES[dict])
            triples.append((f"{where}.test", epoch.get("test", ABSENT)))
            for rule in ("target-dev", "source-dev"):
                self.kind(epoch, where, rule, float, int, default=0.0)
        self.triples(triples)

    def kind(self, among: Any, where: str, name: str, *kinds: type, default: Any = ABSENT) -> Any:
        """Return a value of some kinds, or the default where there is none and it may lack."""
        value = among.get(name, default)
        if type(value) not in kinds and not (value is default and default is not ABSENT):
            expected = " or ".join(NAMES[kind] for kind in kinds)
            raise self.refused(f"{where}.{name}" if where else name, value, expected)
        return value

    def among(self, name: str, options: Collection[str]) -> None:
        """Check a text that is one of some."""
        value = self.record.get(name, ABSENT)
        if not isinstance(value, str) or value not in options:
            raise self.refused(name, value, f"one of {', '.join(options)}")

    def triples(self, found: Sequence[tuple[str, Any]]) -> None:
        """Check [hit, extra, missed]: all at once, and one by one where that fails."""
        try:
            flat = [*chain.from_iterable(counts for _, counts in found)]
            if (
                {len(counts) for _, counts in found} <= {3}
                and {*map(type, flat)} <= {int}
                and min(flat, default=0) >= 0
            ):
                return
        except TypeError:
            pass
        for where, counts in found:
            whole = type(counts) is list and len(counts) == 3 and all(type(n) is int and n >= 0 for n in counts)
            if not whole:
                raise self.refused(where, counts, TRIPLE)

    def packed(self, level: str, counts: Any) -> NDArray[np.int32]:
        """Return the counts of each sentence as an array (n, 3): as lists, those of 10,000 records fill a laptop."""
        try:
            flat = np.fromiter(chain.from_iterable(counts), dtype=np.int32)
            found = flat.reshape(len(counts), 3)
        except (TypeError, ValueError, OverflowError):
            found = None
        if found is None or (found.size and found.min() < 0):
            raise RecordError(f"{self.path}: `sentences.{level}` is no list of {TRIPLE}. {MEND}")
        return found

    def refused(self, where: str, value: Any, expected: str) -> RecordError:
        """Return what is wrong with a field."""
        if value is ABSENT:
            return RecordError(f"{self.path}: `{where}` is missing, expected {expected}. {MEND}")
        text = json.dumps(value, ensure_ascii=False)
        text = text if len(text) <= 80 else f"{text[:77]}..."
        return RecordError(f"{self.path}: `{where}` is {text}, expected {expected}. {MEND}")


def _same_tests(paths: Iterable[Path], records: Iterable[Record]) -> None:
    """Raise RecordError where records of one test count different numbers of sentences; the fewest stand alone."""
    tests: dict[Hashable, dict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path, record in zip(paths, records, strict=True):
        if record["status"] == "ok":
            versions = tuple(sorted((name, card["version"]) for name, card in record["corpora"].items()))
            test = (*record["cell"].split("/")[1:3], record.get("gold"), versions)
            tests[test][len(record["sentences"]["general"])].append(path)
    for lengths in tests.values():
        if len(lengths) > 1:
            [(usual, _)] = Counter({n: len(found) for n, found in lengths.items()}).most_common(1)
            odd, found = next((n, found) for n, found in lengths.items() if n != usual)
            raise RecordError(
                f"{found[0]}: `sentences` counts {odd} sentences, expected {usual}, which {len(lengths[usual])} other "
                f"record{'s' * (len(lengths[usual]) != 1)} of the same test count{'s' * (len(lengths[usual]) == 1)}. "
                f"{MEND}"
            )
