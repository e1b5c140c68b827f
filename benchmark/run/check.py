"""Checks a board that somebody else made: whether what its records say adds up, and with what they stand beside.

A record is refused where it cannot be what cdner wrote of this plan, and in doubt where that cannot be told here:

file          no link, no device, of sensible size; what stands in `records/` is a record or its predictions
json, schema  it can be read, and its fields are of the kind that a record has
cell          it names the cell that its path names; that is a cell of the plan
plan          method, settings, transfer, seed, draw are the plan's
status        scores where it is ok, a reason where it is not
stages        each key is the hash of the ingredients beside it; parents come before; the last is the final stage
ingredients   the final stage's key is what the plan gives here, with this code and these weights
versions      scorer, cards, gold, train are today's
counts        sentences and types sum up to the whole; errors too
curves        the counts of the epoch that was kept are the record's
predictions   they stand beside, unaltered, of the test split's sentences, of its types
data          the files of corpora that this asks for are here
scores        predictions are scored again, and cut into slices, where the gold can be read
cost          nothing is below 0
equal, seeds  what is said to be equal is; two seeds do not agree to the letter
secrets       no key of an API
words         no run of six words of a corpus
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import methods
from benchmark.corpus.card import Card, load_card
from benchmark.corpus.corpus import Corpus, Split, load, load_split
from benchmark.corpus.transfer import Spec, describe
from benchmark.errors import CdnerError, NotHere, RecordError, nearest
from benchmark.redact import redact
from benchmark.run import record as records
from benchmark.run import untrusted
from benchmark.run.adopt import compare, different
from benchmark.run.cells import Planned, plan_cells
from benchmark.run.outcome import shown_by
from benchmark.run.plan import Board, Cell, short
from benchmark.run.stage import key_of, plain
from benchmark.run.untrusted import shown
from benchmark.score.protocols import SCORER_VERSION, Gold, Prediction, parse_predictions
from benchmark.score.slices import Shown

REFUSED, DOUBTFUL = "refused", "in doubt"
RECORD, PREDICTIONS = ".json", ".predictions.jsonl.gz"
STRANGE = (  # what planning, or scoring, may raise on values that nobody thought of
    CdnerError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError, AssertionError,
    ImportError, MemoryError, OSError,
)  # fmt: skip
RUN = 6  # words in a row that a record may not share with a corpus, three of letters among them
ASK = "Ask for the original, or run the cell again."
AGAIN = "`cdner run` on that board makes it anew."
WHOLE = ("strict", "conlleval", "token")  # protocols whose types sum up to the whole


# ------------------------------------------------------------------------------------------------- what a check says


@dataclass(frozen=True)
class Finding:
    """Something that does not add up, or cannot be told, and of which records (or files) that is so."""

    verdict: str
    part: str
    told: str
    where: tuple[str, ...]

    @property
    def line(self) -> str:
        """Return the finding in one line."""
        more = f" and {len(self.where) - 1} more" if len(self.where) > 1 else ""
        return f"{self.verdict:<8}  {shown(self.where[0])}{more}  {self.part}: {self.told}"


@dataclass(frozen=True)
class Seen:
    """What is kept of a record that was read.

    record, predictions   sha256 of the files as they were checked; None: there are no predictions
    content               sha256 of the predictions, unpacked
    """

    cell: str
    status: str
    final: str | None
    record: str
    predictions: str | None = None
    content: str | None = None
    equal: str | None = None


@dataclass
class Report:
    """What a check found in a folder."""

    board: str
    folder: Path
    cells: int
    files: list[str] = field(default_factory=list)  # records, by the names of their paths
    seen: dict[str, Seen] = field(default_factory=dict)
    rescored: int = 0
    _found: dict[tuple[str, str, str], dict[str, None]] = field(default_factory=dict)

    @property
    def findings(self) -> list[Finding]:
        """Return what was found, refusals first."""
        every = [Finding(*told, tuple(where)) for told, where in self._found.items()]
        return sorted(every, key=lambda f: f.verdict != REFUSED)

    def add(self, verdict: str, part: str, where: str | Sequence[str], told: str) -> None:
        """Note a finding; the same of several records is one."""
        places = (where,) if isinstance(where, str) else where
        self._found.setdefault((verdict, part, shown(told)), {}).update(dict.fromkeys(places))

    def where(self, verdict: str) -> set[str]:
        """Return the records and files of which some finding has this verdict."""
        return {name for f in self.findings if f.verdict == verdict for name in f.where}

    def reasons(self, cell: str) -> list[str]:
        """Return what is found of a record, refusals first."""
        return [f"{f.part}: {f.told}" for f in self.findings if cell in f.where]

    def failed(self, *, strict: bool) -> bool:
        """Return whether something is refused; `strict`: or in doubt."""
        return any(strict or f.verdict == REFUSED for f in self.findings)

    @property
    def summary(self) -> str:
        """Return the numbers in one line."""
        refused = self.where(REFUSED)
        doubtful = self.where(DOUBTFUL) - refused
        names = set(self.files)
        sound = len(names - refused - doubtful)
        told = [f"{len(names)} record{'s' * (len(names) != 1)} of {self.cells} cells", f"{sound} sound"]
        told += [
            f"{len(refused & names)} refused",
            f"{len(doubtful & names)} in doubt",
            f"{self.rescored} scored again",
        ]
        counts = {REFUSED: len(refused - names), DOUBTFUL: len(doubtful - names)}
        other = [f"{n} other file{'s' * (n != 1)} {verdict}" for verdict, n in counts.items() if n]
        return "; ".join([f"{self.board}: {', '.join(told)}", *other])

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        return {
            "board": self.board,
            "folder": str(self.folder),
            "cells": self.cells,
            "records": len(self.files),
            "rescored": self.rescored,
            "refused": sorted(self.where(REFUSED) & set(self.files)),
            "in_doubt": sorted((self.where(DOUBTFUL) - self.where(REFUSED)) & set(self.files)),
            "findings": [asdict(f) for f in self.findings],
        }


# --------------------------------------------------------------------------------------------- what a record may hold

Count = Annotated[int, Field(ge=0, le=10**12)]
Triple = Annotated[list[Count], Field(min_length=3, max_length=3)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Key = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Field(max_length=1000)]
Level = Literal["fine", "general"]
Kind = Literal["hit", "type", "boundary", "missed", "spurious"]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True)


class _Counted(_Shape):
    all: Triple
    types: dict[str, Triple]


class _Stage(_Shape):
    key: Key
    title: str
    step: Name
    code: dict[str, Any]
    inputs: dict[str, Any]
    size: Amount | None = None
    seconds: Amount | None = None
    attempt: Count | None = None
    commit: Name | None = None
    dirty: bool | None = None


class _Attempt(_Shape):
    stage: Key
    attempt: Count | None = None
    reason: str | None = None
    seconds: Amount | None = None
    ended: str | None = None


class _Corpus(_Shape):
    version: Count
    train: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]


class _Cost(_Shape):
    alone_seconds: Amount | None
    spent_seconds: Amount
    usd: Amount | None = None
    peak_memory_mib: Amount | None = None
    gpu_peak_memory_mib: Amount | None = None


class _File(_Shape):
    file: Name
    sha256: Hash


class _Epoch(BaseModel):
    model_config = ConfigDict(strict=True, populate_by_name=True)

    epoch: Count
    test: Triple
    target: Annotated[float | None, Field(alias="target-dev", ge=0, le=100)] = None
    source: Annotated[float | None, Field(alias="source-dev", ge=0, le=100)] = None


class _Curves(_Shape):
    kept: Count | None = None
    epochs: list[_Epoch] | None = None
    reason: str | None = None


class _Record(_Shape):
    schema_: Annotated[int, Field(ge=1, le=records.SCHEMA, alias="schema")]
    cell: Name
    board: Name
    status: Literal["ok", "failed", "skipped"]
    reason: str | None
    variant: Name
    method: Name
    level: Level
    backbone: Name | None
    settings: dict[str, Any]
    transfer: dict[str, Any]
    regime: Name
    draw: Count | None
    seed: Count
    corpora: dict[str, _Corpus]
    scorer: Count
    gold: Name
    final: Key | None
    stages: list[_Stage]
    cost: _Cost
    provenance: dict[str, Any]
    attempts: list[_Attempt] | None = None
    failure: dict[str, Any] | None = None
    scores: dict[Level, dict[str, _Counted]] | None = None
    errors: dict[Level, dict[Kind, Count]] | None = None
    sentences: dict[Level, list[Triple]] | None = None
    audit: dict[str, Any] | None = None
    annotation: dict[str, Any] | None = None
    curves: _Curves | None = None
    slices: dict[Level, dict[str, Any]] | None = None
    predictions: _File | None = None
    equal: Name | None = None
    adopted: dict[str, Any] | None = None
    rescored: dict[str, Any] | None = None


FIELDS = {f.alias or name for name, f in _Record.model_fields.items()}
SCORED = ("scores", "errors", "sentences", "predictions")


# --------------------------------------------------------------------------------------------------------- the check


def check(
    board: Board, folder: Path | None = None, *, data: Path | None = None, cards: tuple[Path, ...] = ()
) -> Report:
    """Return what is found of the records in a folder (default: the board's own), against the board's plan."""
    return Checker(board, folder or board.folder, data, cards).run()


class Corpora:
    """Reads each corpus once, and fails once for each that cannot be read."""

    def __init__(self) -> None:
        self._known: dict[Any, Corpus | CdnerError] = {}

    def __call__(self, name: str, data: Path | None = None, cards: tuple[Path, ...] = (), dev: str = "card") -> Corpus:
        """Return a corpus, as `corpus.load` does."""
        key = name, data, cards, dev
        if key not in self._known:
            try:
                self._known[key] = load(name, data=data, cards=cards, dev=dev)
            except CdnerError as error:
                self._known[key] = error
        found = self._known[key]
        if isinstance(found, CdnerError):
            raise copy(found)
        return found


class Checker:
    """Checks the records in one folder against one plan."""

    def __init__(self, board: Board, folder: Path, data: Path | None, cards: tuple[Path, ...]) -> None:
        self.board, self.folder, self.data, self.cards = board, folder, data, cards
        self.cells = {cell.name: cell for cell in board.cells}
        self.report = Report(board.name, folder, len(self.cells))
        self.corpora = Corpora()
        self.planned: dict[str, Planned] = {}
        self.unplanned: dict[str, str] = {}
        self._cards: dict[str, Card | CdnerError] = {}
        self._gold: dict[str, list[Gold] | str | None] = {}
        self._absent: dict[str, str] = {}  # cells that cannot be planned here -> the corpus that is not here
        self._wanted: dict[str, dict[str, None]] = {}  # corpora that are not here -> the records that want them
        self._runs: dict[str, frozenset[str]] = {}
        self._shown: dict[Spec, dict[str, Shown]] = {}

    def run(self) -> Report:
        """Check every record, one after another, then what several say together."""
        found = self.files()
        known = [self.cells[name] for name in found if name in self.cells]
        self.plan([cell for cell in known if self.annotation_is_sound(cell)])
        for name, path in found.items():
            self.report.files.append(name)
            self.one(name, path)
        self.equals()
        self.copies()
        self.absent()
        return self.report

    def refuse(self, cell: str, part: str, told: str) -> None:
        """Refuse a record."""
        self.report.add(REFUSED, part, cell, told)

    def doubt(self, cell: str, part: str, told: str) -> None:
        """Say what cannot be told of a record."""
        self.report.add(DOUBTFUL, part, cell, told)

    def card(self, name: str) -> Card:
        """Return a card, which is read once, or fails once."""
        if name not in self._cards:
            try:
                self._cards[name] = load_card(name, self.cards)
            except CdnerError as error:
                self._cards[name] = error
        found = self._cards[name]
        if isinstance(found, CdnerError):
            raise copy(found)
        return found

    # ---- files

    def files(self) -> dict[str, Path]:
        """Return the records by the cells that their paths name."""
        root = self.folder / "records"
        found: dict[str, Path] = {}
        predictions: dict[str, str] = {}
        for path, problem in untrusted.walk(root):
            name = path.relative_to(self.folder).as_posix()
            if problem is not None:
                self.report.add(REFUSED, "file", name, problem)
            elif path.name.endswith(PREDICTIONS):
                predictions[path.relative_to(root).as_posix().removesuffix(PREDICTIONS)] = name
            elif path.name.endswith(RECORD):
                found[path.relative_to(root).as_posix().removesuffix(RECORD)] = path
            else:
                self.report.add(DOUBTFUL, "file", name, "it is no record, nor predictions of one. Remove it.")
        for cell, name in predictions.items():
            if cell not in found:
                self.report.add(DOUBTFUL, "file", name, "there is no record beside these predictions. Remove them.")
        return found

    def annotation_is_sound(self, cell: Cell) -> bool:
        """Return whether a person's annotations for a cell can be read without harm, where there are any."""
        path = self.board.folder / "annotations" / f"{cell.name}.conll"
        if cell.spec.annotate is None or not os.path.lexists(path):
            return True
        try:
            untrusted.contents(path, untrusted.RECORD_BYTES)
        except RecordError as error:
            self.refuse(cell.name, "file", f"of its annotations: {error}")
            return False
        return True

    # ---- plan

    def plan(self, cells: Sequence[Cell]) -> None:
        """Plan cells; of those that cannot be planned here, keep the reason."""
        if not cells:
            return
        try:
            planned = plan_cells(
                self.board, cells, data=self.data, cards=self.cards, read=lambda *_: None, corpora=self.corpora
            )
        except STRANGE as error:
            if len(cells) == 1 and isinstance(error, NotHere):
                self._absent[cells[0].name] = error.corpus
            elif len(cells) == 1:
                told = str(error) if isinstance(error, CdnerError) else f"{type(error).__name__}: {error}"
                self.unplanned[cells[0].name] = " ".join(told.split())
            else:
                half = len(cells) // 2
                self.plan(cells[:half])
                self.plan(cells[half:])
        else:
            self.planned.update({item.cell.name: item for item in planned})

    # ---- one record

    def one(self, name: str, path: Path) -> None:
        """Check a record by itself."""
        try:
            data = untrusted.contents(path, untrusted.RECORD_BYTES)
        except RecordError as error:
            return self.refuse(name, "file", f"{error} {ASK}")
        try:
            text = untrusted.decoded(data)
            record = untrusted.parsed(text)
        except RecordError as error:
            return self.refuse(name, "json", f"{error} {ASK}")
        if redact(text) != text:
            self.refuse(name, "secrets", "it holds what looks like a key of an API. Take it out, and renew that key.")
        if not self.shape(name, record):
            return None
        self.report.seen[name] = Seen(
            name, record["status"], record["final"], hashlib.sha256(data).hexdigest(), equal=record.get("equal")
        )
        if record["cell"] != name:
            self.refuse(name, "cell", f"it says it is of {short(record['cell'])}. Put it where its cell's name says.")
        self.status(name, record)
        self.stages(name, record)
        self.cost(name, record)
        if name not in self.cells:
            hint = nearest(name, self.cells)
            self.doubt(name, "cell", f"the plan has no such cell, and tables leave it out.{hint}")
        else:
            self.same_plan(name, record, self.cells[name])
            self.ingredients(name, record)
            self.versions(name, record)
        if record["status"] == "ok" and all(record.get(part) is not None for part in SCORED):
            self.counts(name, record)
            self.curves(name, record)
            predicted = self.predictions(name, record, path)
            if predicted is not None and name in self.cells:
                self.scored(name, record, predicted)
        self.words(name, record)
        return None

    def shape(self, name: str, record: Any) -> bool:
        """Return whether a record has the fields of one, each of its kind."""
        if not isinstance(record, dict):
            self.refuse(name, "schema", f"it is {short(record)}, expected an object with the fields of a record. {ASK}")
            return False
        version = record.get("schema")
        if type(version) is int and version > records.SCHEMA:
            self.refuse(
                name, "schema",
                f"it has schema {short(version)}, this version reads up to {records.SCHEMA}. A newer cdner wrote it: "
                "check it with that one.",
            )  # fmt: skip
            return False
        try:
            _Record.model_validate(record)
        except ValidationError as error:
            every = error.errors(include_url=False, include_context=False)
            told = []
            for problem in every[:3]:
                where = ".".join(map(str, problem["loc"]))
                is_missing = problem["type"] == "missing"
                said = "is missing" if is_missing else f"is {short(problem['input'])}: {problem['msg'].lower()}"
                told.append(f"{where} {said}")
            more = f", and {len(every) - 3} more" if len(every) > 3 else ""
            self.refuse(name, "schema", f"{', '.join(told)}{more}. {ASK}")
            return False
        if unknown := sorted(set(record) - FIELDS):
            self.doubt(name, "schema", f"this version knows no field {short(unknown[0])}, and leaves it unchecked.")
        return True

    def status(self, name: str, record: Mapping[str, Any]) -> None:
        """Check that a record tells what its status asks for."""
        status, has = record["status"], [part for part in SCORED if record.get(part) is not None]
        if status == "ok":
            lacking = [part for part in (*SCORED, "final", "stages") if not record.get(part)]
            if lacking:
                self.refuse(name, "status", f"it is ok, and has no {lacking[0]}. {ASK}")
            if record["reason"] is not None or record.get("failure") is not None:
                self.refuse(name, "status", f"it is ok, and has a reason why it is not. {ASK}")
            return
        if not record["reason"]:
            self.refuse(name, "status", f"it is {status}, and gives no reason. {ASK}")
        if has:
            self.refuse(name, "status", f"it is {status}, and has {has[0]}. {ASK}")
        if status == "failed" and not (record.get("failure") or {}).get("kind"):
            self.refuse(name, "status", f"it is failed, and does not tell how (`failure.kind`). {ASK}")
        item = self.planned.get(name)
        if status == "skipped" and item is not None and item.reason is None:
            self.doubt(name, "status", f"it is skipped, and this version can run it. {AGAIN}")

    def stages(self, name: str, record: Mapping[str, Any]) -> None:
        """Check that the keys of stages are the hashes of their ingredients, and hang together."""
        before: set[str] = set()
        for stage in record["stages"]:
            found = key_of({part: stage[part] for part in ("step", "code", "inputs")})
            if found != stage["key"]:
                self.refuse(
                    name, "stages",
                    f"the stage {short(stage['title'])} has the key {stage['key']}, and what it is made of has "
                    f"{found}: one of the two was altered. {ASK}",
                )  # fmt: skip
            if loose := [key for key in parents_of(stage["inputs"]) if key not in before]:
                self.refuse(
                    name, "stages",
                    f"the stage {short(stage['title'])} needs {short(loose[0])}, which is not before it. {ASK}",
                )  # fmt: skip
            before.add(stage["key"])
        if record["stages"] and record["final"] != record["stages"][-1]["key"]:
            self.refuse(
                name, "stages",
                f"its final stage is {record['final']}, and the last of its stages is {record['stages'][-1]['key']}. "
                f"{ASK}",
            )  # fmt: skip

    def cost(self, name: str, record: Mapping[str, Any]) -> None:
        """Check costs against those of the stages; that none is below 0 is the schema's."""
        told, seconds = record["cost"]["alone_seconds"], [stage.get("seconds") for stage in record["stages"]]
        if told is None or None in seconds:
            return
        found = sum(s for s in seconds if s is not None)
        if abs(found - told) > 0.1 + 1e-6 * found:
            self.refuse(name, "cost", f"alone_seconds is {told:g}, and its stages took {found:.1f}. {ASK}")
        if record.get("equal") is not None and record["cost"]["spent_seconds"]:
            self.refuse(name, "cost", f"nothing was run for it (`equal`), and spent_seconds is not 0. {ASK}")

    def same_plan(self, name: str, record: Mapping[str, Any], cell: Cell) -> None:
        """Check that what a record says of its cell is what the plan says."""
        spec, method = cell.spec, methods.find(cell.variant.method)
        settings = method.settings(cell.changed, cell.name)
        transfer = describe(spec)
        wanted = {
            "variant": cell.variant.name,
            "method": cell.variant.method,
            "level": method.level,
            "backbone": getattr(settings, "backbone", getattr(settings, "encoder", None)),
            "regime": spec.regime_label,
            "draw": spec.draw,
            "seed": cell.seed,
        }
        was: dict[str, Any] = {key: record[key] for key in wanted}
        known = plain(asdict(settings))
        found = [*different(was, wanted, "")]
        for part, here, there in (("settings", record["settings"], known), ("transfer", record["transfer"], transfer)):
            for key in {**here, **there}:
                if key in here and key in there:
                    found.extend(different(here[key], there[key], f".{part}.{key}"))
                elif key in here:
                    self.doubt(name, "plan", f"it has {part}.{shown(key)}, which this version does not know.")
                elif part == "transfer" or key in cell.changed:
                    found.append((f".{part}.{key}", "missing", there[key]))
        for where, here, there in found[:3]:
            self.refuse(
                name, "plan",
                f"{where[1:]} is {short(here)}, the plan says {short(there)}. It is of another plan: ask for that one.",
            )  # fmt: skip

    def ingredients(self, name: str, record: Mapping[str, Any]) -> None:
        """Check that the final stage is the one that the plan gives here."""
        if name in self._absent:
            self._wanted.setdefault(self._absent[name], {})[name] = None
        if name in self.unplanned:
            self.doubt(
                name,
                "ingredients",
                f"the cell cannot be planned here, so they are not compared: {self.unplanned[name]}",
            )
        item = self.planned.get(name)
        if item is None or record["status"] == "skipped":
            return
        if item.final is None:
            self.doubt(name, "ingredients", f"the cell is skipped here: {item.reason}")
            return
        if record["final"] == item.final.key:
            return
        changed, values = compare(record["stages"], item.final.graph())
        lines = [line for line in changed if line in values] or list(changed) or ["what they are made of"]
        more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
        counted = len(record["stages"]) != len(item.final.graph())
        told = f"other ingredients than the plan gives here: {'; '.join(lines[:3])}{more}."
        if values and not counted:
            self.refuse(
                name, "ingredients", f"{told} Another value is another experiment: ask for the plan that it is of."
            )
        else:
            self.doubt(name, "ingredients", f"{told} It was made with other code; `cdner run` would make it anew.")

    def versions(self, name: str, record: Mapping[str, Any]) -> None:
        """Check that scorer, cards, gold and train are those of today."""
        if record["status"] != "ok":
            return
        if record["scorer"] != SCORER_VERSION:
            newer = record["scorer"] > SCORER_VERSION
            mend = "Check it with the cdner that wrote it." if newer else "`cdner run` on that board scores it again."
            self.refuse(
                name, "versions", f"the scorer was {short(record['scorer'])}, it is {SCORER_VERSION} here. {mend}"
            )
        for corpus, told in record["corpora"].items():
            try:
                here = self.card(corpus).version
            except CdnerError as error:
                self.doubt(name, "versions", f"the card of {shown(corpus)} cannot be read here: {error}")
                continue
            if told["version"] != here:
                self.refuse(
                    name, "versions",
                    f"the card of {shown(corpus)} had version {short(told['version'])}, it has {here} here. "
                    "`cdner run` on that board makes or scores it again.",
                )  # fmt: skip
        item = self.planned.get(name)
        if item is None or item.transfer is None:
            return
        here_ = {d.name: d.train.hash[:16] for d in item.transfer.domains}
        told_ = {corpus: entry["train"] for corpus, entry in record["corpora"].items()}
        for corpus in {**told_, **here_}:
            if told_.get(corpus) != here_.get(corpus):
                self.refuse(
                    name, "versions",
                    f"train of {shown(corpus)} is {told_.get(corpus, 'not told')}, the plan shows "
                    f"{here_.get(corpus, 'none of it')} here. It learned from other sentences: ask which.",
                )  # fmt: skip
        if record["gold"] != item.gold:
            self.refuse(
                name, "versions",
                f"it was scored against {short(record['gold'])}, gold and cards are {item.gold} here. "
                "`cdner run` on that board scores it again.",
            )  # fmt: skip

    # ---- counts and predictions

    def counts(self, name: str, record: Mapping[str, Any]) -> None:
        """Check that counts sum up: sentences and types to the whole, errors to gold and to what was predicted."""
        levels = ("fine", "general") if record["level"] == "fine" else ("general",)
        for part in ("scores", "errors", "sentences"):
            if set(record[part]) != set(levels):
                self.refuse(
                    name,
                    "counts",
                    f"{part} are of {', '.join(record[part]) or 'nothing'}, expected {', '.join(levels)}. {ASK}",
                )
                return
        for level in levels:
            scores = record["scores"][level]
            if "strict" not in scores:
                self.refuse(name, "counts", f"scores.{level} has no strict counts. {ASK}")
                return
            strict = scores["strict"]["all"]
            total = added(record["sentences"][level])
            if total != strict:
                self.refuse(
                    name,
                    "counts",
                    f"sentences.{level} sum up to {short(total)}, scores.{level}.strict.all is {short(strict)}. {ASK}",
                )
            for protocol in WHOLE:
                if protocol not in scores:
                    continue
                total, whole = added(scores[protocol]["types"].values()), scores[protocol]["all"]
                if total != whole:
                    self.refuse(
                        name, "counts",
                        f"scores.{level}.{protocol}.types sum up to {short(total)}, and all is {short(whole)}. {ASK}",
                    )  # fmt: skip
            kinds = dict.fromkeys(("hit", "type", "boundary", "missed", "spurious"), 0) | record["errors"][level]
            shared = kinds["hit"] + kinds["type"] + kinds["boundary"]
            total = [kinds["hit"], shared - kinds["hit"] + kinds["spurious"], shared - kinds["hit"] + kinds["missed"]]
            if total != strict:
                self.refuse(
                    name,
                    "counts",
                    f"errors.{level} come to {short(total)}, scores.{level}.strict.all is {short(strict)}. {ASK}",
                )

    def curves(self, name: str, record: Mapping[str, Any]) -> None:
        """Check that the epoch that was kept is that of the record's counts, and the same mentions in every epoch."""
        told = record.get("curves") or {}
        if "epochs" not in told:
            return
        whole = record["scores"].get(record["level"], {}).get("strict", {}).get("all")
        kept = [epoch["test"] for epoch in told["epochs"] if epoch["epoch"] == told.get("kept")]
        if kept != [whole]:
            self.refuse(
                name, "curves",
                f"the epoch {short(told.get('kept'))} was kept, whose counts on test are {short(kept)}, and the "
                f"record's are {short(whole)}. {ASK}",
            )  # fmt: skip
        mentions = {hit + missed for hit, _, missed in (epoch["test"] for epoch in told["epochs"])}
        if len(mentions) > 1:
            self.refuse(name, "curves", f"its epochs are of {', '.join(map(str, sorted(mentions)))} mentions. {ASK}")

    def predictions(self, name: str, record: Mapping[str, Any], path: Path) -> list[Prediction] | None:
        """Return the predictions beside a record, once they are what it says."""
        beside = path.with_name(path.name.removesuffix(RECORD) + PREDICTIONS)
        told = record["predictions"]
        if told["file"] != beside.name:
            self.refuse(
                name, "predictions", f"they are said to lie in {short(told['file'])}, expected {beside.name}. {ASK}"
            )
            return None
        if not os.path.lexists(beside):
            self.refuse(name, "predictions", f"there is no {beside.name} beside the record. {ASK}")
            return None
        try:
            packed = untrusted.contents(beside, untrusted.PACKED_BYTES)
            found = hashlib.sha256(packed).hexdigest()
            if found != told["sha256"]:
                self.refuse(
                    name, "predictions",
                    f"their sha256 is {found}, the record says {told['sha256']}. They were altered, or torn. {ASK}",
                )  # fmt: skip
                return None
            content = untrusted.unpacked(packed)
            text = untrusted.decoded(content)
            if redact(text) != text:
                self.refuse(name, "secrets", "its predictions hold what looks like a key of an API. Renew that key.")
            predicted = parse_predictions(text, beside.name)
        except RecordError as error:
            self.refuse(name, "predictions", f"{error} {ASK}")
            return None
        digest = hashlib.sha256(content).hexdigest()
        self.report.seen[name] = replace(self.report.seen[name], predictions=found, content=digest)
        return predicted

    def scored(self, name: str, record: Mapping[str, Any], predicted: list[Prediction]) -> None:
        """Check predictions against the card, and score them again where the gold can be read."""
        cell = self.cells[name]
        try:
            card = self.card(cell.spec.tested)
        except CdnerError as error:
            self.doubt(name, "scores", f"not scored again, for want of the card: {error}")
            return
        if not self.possible(name, record, predicted, card):
            return
        gold = self.gold(card)
        if gold is None:
            self._wanted.setdefault(card.name, {})[name] = None
            return
        if isinstance(gold, str):
            self.doubt(name, "scores", f"not scored again, for want of the gold: {gold}")
            return
        general = {key: t.general for key, t in card.types.items()}
        try:
            counted = records.scores(gold, predicted, level=record["level"], general=general)
        except STRANGE as error:
            self.refuse(name, "predictions", f"they cannot be scored: {error} {ASK}")
            return
        self.report.rescored += 1
        found: list[tuple[str, Any, Any]] = []
        for level, protocols in counted["scores"].items():
            for protocol, now in protocols.items():
                was = record["scores"][level].get(protocol)
                if was is None:
                    self.doubt(
                        name, "scores", f"it is not scored under {protocol}. `cdner run` on that board does that."
                    )
                else:
                    found.extend(different(was, now, f"scores.{level}.{protocol}"))
            if unknown := sorted(set(record["scores"][level]) - set(protocols)):
                self.doubt(name, "scores", f"this version does not know the protocol {short(unknown[0])}.")
            found.extend(different(record["errors"][level], counted["errors"][level], f"errors.{level}"))
            found.extend(different(record["sentences"][level], counted["sentences"][level], f"sentences.{level}"))
        found.extend(self.sliced(name, record, gold, predicted, general))
        for where, was, now in found[:3]:
            more = f" ({len(found) - 3} more differ)" if len(found) > 3 and where == found[2][0] else ""
            self.refuse(name, "scores", f"{where} is {short(was)}, and its predictions give {short(now)}{more}. {ASK}")

    def sliced(
        self, name: str, record: Mapping[str, Any], gold: list[Gold], predicted: list[Prediction],
        general: Mapping[str, str],
    ) -> list[tuple[str, Any, Any]]:  # fmt: skip
        """Return where slices part from those of the predictions; none, where the cell cannot be planned here."""
        item = self.planned.get(name)
        if record.get("slices") is None:
            self.doubt(name, "scores", "it has no slices. `cdner run` on that board counts them.")
            return []
        if item is None or item.transfer is None:
            return []
        spec = item.transfer.spec
        if spec not in self._shown:
            self._shown[spec] = shown_by(item.transfer)
        now = records.sliced(gold, predicted, level=record["level"], general=general, shown=self._shown[spec])
        return [*different(record["slices"], json.loads(json.dumps(now)), "slices")]

    def possible(self, name: str, record: Mapping[str, Any], predicted: list[Prediction], card: Card) -> bool:
        """Return whether predictions are of the test split that a card describes, and of its types."""
        known = set(card.types) if record["level"] == "fine" else {t.general for t in card.types.values()}
        for prediction in predicted:
            for start, end, type_ in prediction.spans:
                if not 0 <= start < end or type_ not in known:
                    self.refuse(
                        name, "predictions",
                        f"{short(prediction.id)} has the span {short([start, end, type_])}, expected positions and "
                        f"a type of {card.name}: {', '.join(sorted(known))}. {ASK}",
                    )  # fmt: skip
                    return False
        if "test" in card.sizes:
            sentences, _, mentions = card.sizes["test"]
            counted = {level: len(found) for level, found in record["sentences"].items()}
            if len(predicted) != sentences or any(number != sentences for number in counted.values()):
                self.refuse(
                    name, "predictions",
                    f"there are {len(predicted)} predictions and counts of {', '.join(map(str, counted.values()))} "
                    f"sentences, test of {card.name} has {sentences}. {ASK}",
                )  # fmt: skip
                return False
            for level in record["scores"]:
                hit, _, missed = record["scores"][level].get("strict", {"all": [mentions, 0, 0]})["all"]
                if hit + missed != mentions:
                    self.refuse(
                        name, "counts",
                        f"scores.{level}.strict.all is of {hit + missed} mentions, test of {card.name} has "
                        f"{mentions}. {ASK}",
                    )  # fmt: skip
            ids = {f"{card.name}/test/{n}" for n in range(sentences)}
            if strange := [p.id for p in predicted if p.id not in ids]:
                self.refuse(
                    name, "predictions",
                    f"there is one of {short(strange[0])}, expected ids {card.name}/test/0 to {sentences - 1}. {ASK}",
                )  # fmt: skip
                return False
        return True

    def gold(self, card: Card) -> list[Gold] | str | None:
        """Return the gold of a card's test split, or why there is none here; None: its file is not on this machine."""
        if card.name not in self._gold:
            try:
                split = load_split(card, "test", self.data)
                self._gold[card.name] = [Gold(s.id, s.words, s.spans or ()) for s in split.sentences]
            except NotHere:
                self._gold[card.name] = None
            except CdnerError as error:
                self._gold[card.name] = " ".join(str(error).split())
        return self._gold[card.name]

    # ---- what may not stand in a record

    def words(self, name: str, record: Mapping[str, Any]) -> None:
        """Check that a record holds no run of words of its corpora: gold is not ours to pass on."""
        runs: set[str] = set()
        for text in texts(record):
            runs.update(word_runs(text))
        if not runs:
            return
        for corpus in record["corpora"]:
            if shared := runs & self.runs(corpus):
                many = f"{len(shared)} run{'s' * (len(shared) != 1)}"
                self.refuse(
                    name,
                    "words",
                    f"it holds {many} of {RUN} words of {shown(corpus)}. Take them out: it is not ours to pass on.",
                )

    def runs(self, name: str) -> frozenset[str]:
        """Return the runs of words of a corpus; none, where it cannot be read here."""
        if name not in self._runs:
            try:
                corpus = self.corpora(name, data=self.data, cards=self.cards)
            except CdnerError:
                self._runs[name] = frozenset()
            else:
                splits: Iterable[Split] = filter(None, (corpus.train, corpus.dev, corpus.test))
                sentences = chain.from_iterable(split.sentences for split in splits)
                self._runs[name] = frozenset(chain.from_iterable(word_runs(s.words) for s in sentences))
        return self._runs[name]

    # ---- what several records say together

    def absent(self) -> None:
        """Say in one line which corpora are not here, and what was not checked for want of them."""
        if self._wanted:
            names = dict.fromkeys(name for wanting in self._wanted.values() for name in wanting)
            self.report.add(
                DOUBTFUL, "data", [*names],
                "ingredients are not compared and predictions not scored again where a file of these corpora is wanted "
                f"and not on this machine: {', '.join(sorted(self._wanted))}. Name the folder that holds them, --data "
                "DIR or CDNER_DATA; `cdner lint` says what it is to hold.",
            )  # fmt: skip

    def equals(self) -> None:
        """Check that what is said to be equal to another record is."""
        for name, seen in self.report.seen.items():
            if seen.equal is None:
                continue
            other = self.report.seen.get(seen.equal)
            if other is None:
                self.doubt(
                    name, "equal", f"its predictions are said to be those of {short(seen.equal)}, which is not here."
                )
            elif (seen.final, seen.content) != (other.final, other.content):
                self.refuse(
                    name, "equal", f"its predictions are said to be those of {short(seen.equal)}, and are not. {ASK}"
                )

    def copies(self) -> None:
        """Check that two seeds of a variant do not agree to the letter, and that one stage predicts one thing."""
        finals: dict[str, list[Seen]] = defaultdict(list)
        for seen in self.report.seen.values():
            if seen.content is not None and seen.final is not None and seen.equal is None:
                finals[seen.final].append(seen)
        for names in alike(self.report.seen.values()):
            self.report.add(DOUBTFUL, "seeds", names, told_alike(names))
        for group in finals.values():
            if len({seen.content for seen in group}) > 1:
                names = sorted(seen.cell for seen in group)
                self.report.add(
                    DOUBTFUL, "seeds", names,
                    f"{', '.join(names[:3])} end in one stage, and predict differently. Run one of them again.",
                )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- helpers


def alike(seen: Iterable[Seen]) -> list[list[str]]:
    """Return the cells that differ in seed alone, and predict the same to the letter from different stages."""
    seeds: dict[tuple[str, str], dict[str | None, str]] = defaultdict(dict)
    for one in seen:
        if one.content is not None and one.equal is None:
            seeds[one.cell.rpartition("seed")[0], one.content].setdefault(one.final, one.cell)
    return [sorted(finals.values()) for finals in seeds.values() if len(finals) > 1]


def told_alike(names: Sequence[str]) -> str:
    """Return what is said of such cells."""
    told = ", ".join(name.rpartition("/")[2] for name in names)
    return (
        f"{told} predict the same to the letter, and their stages differ. That is so where a method draws nothing; "
        "else one is a copy: run one of them again."
    )


def added(triples: Iterable[Sequence[int]]) -> list[int]:
    """Return the sums of [hit, extra, missed].

    >>> added([[1, 2, 3], [1, 0, 0]]), added([])
    ([2, 2, 3], [0, 0, 0])
    """
    return [sum(column) for column in zip([0, 0, 0], *triples, strict=True)]


def parents_of(value: Any) -> Iterator[str]:
    """Yield the keys of the stages among a stage's ingredients."""
    if isinstance(value, dict):
        if set(value) == {"stage", "step"}:
            yield str(value["stage"])
        else:
            for inner in value.values():
                yield from parents_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from parents_of(inner)


def texts(value: Any) -> Iterator[list[str]]:
    """Yield the texts in JSON, each as its words; a list of texts is one more.

    >>> list(texts({"log": ["Aurora sails", "at dawn"]}))
    [['log'], ['Aurora', 'sails'], ['at', 'dawn'], ['Aurora', 'sails', 'at', 'dawn']]
    """
    if isinstance(value, str):
        yield value.split()
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name.split()
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
        if value and all(isinstance(inner, str) for inner in value):
            yield " ".join(value).split()


def word_runs(words: Sequence[str]) -> Iterator[str]:
    """Yield every run of six words, three of letters among them.

    >>> list(word_runs("1 2 Aurora met Haven . At".split()))
    ['1 2 Aurora met Haven .', '2 Aurora met Haven . At']
    """
    for start in range(len(words) - RUN + 1):
        run = words[start : start + RUN]
        if sum(word.isalpha() and len(word) > 1 for word in run) >= RUN // 2:
            yield " ".join(run)
