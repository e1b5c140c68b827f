"""Takes records of the same plan that were made elsewhere into a board: checked, whole, never over a better one.

taken     there was none, or a worse one (failed, skipped, unreadable)
known     the one that is there says the same, or is as good
refused   it does not add up, or another good record of the cell predicts something else
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import methods
from benchmark.corpus.transfer import describe
from benchmark.errors import PlanError, RecordError
from benchmark.files import write_whole
from benchmark.run import record as records
from benchmark.run import untrusted
from benchmark.run.adopt import different
from benchmark.run.check import DOUBTFUL, REFUSED, Report, Seen, alike, check, told_alike
from benchmark.run.plan import Board, Cell, short
from benchmark.run.stage import plain
from benchmark.run.untrusted import shown


@dataclass
class Merged:
    """What came of one folder.

    taken, known   cells
    refused        cells, with the reason
    outside        cells of the folder's plan that the board's plan has not
    doubts         what is in doubt of those that were taken
    """

    folder: Path
    taken: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)
    doubts: dict[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """Return what came of each record, a line each, and the numbers."""
        where = shown(str(self.folder))
        told = [f"not of this plan  {shown(cell)}  {where} has it; its record is left" for cell in self.outside]
        told += [
            f"taken    {cell}" + (f"  in doubt: {self.doubts[cell]}" if cell in self.doubts else "")
            for cell in self.taken
        ]
        told += [f"refused  {shown(cell)}  {why}" for cell, why in self.refused.items()]
        numbers = f"{len(self.taken)} taken, {len(self.known)} there already, {len(self.refused)} refused"
        return [*told, f"{where}: {numbers}"]


def merge(
    into: Board, others: Sequence[tuple[Path, Board | None]], *, replace: bool = False, strict: bool = False,
    dry_run: bool = False, data: Path | None = None, cards: tuple[Path, ...] = (),
) -> list[Merged]:  # fmt: skip
    """Take records of other folders into a board. Returns what came of each folder.

    others   folders, each with the board of the plan that lies in it, if one does
    replace  take a good record in the place of another good one that predicts something else
    strict   leave records of which something is in doubt
    Raises PlanError, before anything is written, where a cell means something else in another plan.
    """
    for folder, theirs in others:
        if theirs is not None:
            same_plan(into, theirs, folder)
    there = {seen.cell: seen for seen in map(seen_of, [into] * len(into.cells), into.cells) if seen is not None}
    found = []
    for folder, theirs in others:
        report = check(into, folder, data=data, cards=cards)
        found.append(merge_one(into, folder, theirs, report, there, replace=replace, strict=strict, dry_run=dry_run))
    return found


def merge_one(
    into: Board, folder: Path, theirs: Board | None, report: Report, there: dict[str, Seen],
    *, replace: bool, strict: bool, dry_run: bool,
) -> Merged:  # fmt: skip
    """Take the records of one folder, in the order of the plan; `there` is what the board has, and is brought up."""
    names = {cell.name for cell in into.cells}
    known = {cell.name for cell in theirs.cells} if theirs is not None else set()
    found = Merged(folder, outside=sorted((known & set(report.files)) - names))
    wrong = report.where(REFUSED)
    for name in report.files:
        if name in wrong or (strict and name in report.where(DOUBTFUL)):
            found.refused[name] = report.reasons(name)[0]
        elif name not in names and name not in found.outside:
            found.refused[name] = f"cell: the plan of {into.name} has no such cell."
    for name in wrong - set(report.files):
        found.refused[name] = report.reasons(name)[0]
    for cell in into.cells:
        new, old = report.seen.get(cell.name), there.get(cell.name)
        if new is None or cell.name in found.refused:
            continue
        try:
            if not is_better(new, old, replace):
                found.known.append(cell.name)
                continue
            if not dry_run:
                copy(folder, into.folder, new)
        except RecordError as error:
            found.refused[cell.name] = str(error)
            continue
        there[cell.name] = new
        found.taken.append(cell.name)
        if reasons := report.reasons(cell.name):
            found.doubts[cell.name] = reasons[0]
    for copies in alike(there.values()):
        for name in set(copies) & set(found.taken):
            found.doubts.setdefault(name, f"seeds: {told_alike(copies)}")
    return found


def is_better(new: Seen, old: Seen | None, replace: bool) -> bool:
    """Return whether a record is to be taken in the place of that which is there.

    Raises RecordError where both are good, and predict something else.
    """
    if old is None or (new.status == "ok" and old.status != "ok"):
        return True
    if new.status != "ok" or new.content == old.content:
        return False
    if replace:
        return True
    told = [f"{(one.content or '-')[:8]} of stage {(one.final or '-')[:8]}" for one in (old, new)]
    raise RecordError(
        f"predictions: another good record of this cell is there, and predicts something else ({told[0]} there, "
        f"{told[1]} here). See which is right; --replace takes this one."
    )


def seen_of(board: Board, cell: Cell) -> Seen | None:
    """Return what a board has of a cell; None, where that cannot be read, or its predictions are not what it says."""
    record = records.read_or_none(board.folder, cell.name)
    if record is None:
        return None
    seen = Seen(cell.name, str(record.get("status")), record.get("final"), "")
    if seen.status != "ok":
        return seen
    try:
        if not records.predictions_hold(board.folder, record):
            return None
        content = untrusted.unpacked(records.predictions_path(board.folder, cell.name).read_bytes())
    except (OSError, RecordError, LookupError, TypeError):
        return None
    return Seen(cell.name, "ok", record.get("final"), "", content=hashlib.sha256(content).hexdigest())


def copy(source: Path, target: Path, seen: Seen) -> None:
    """Copy a record and its predictions as they were checked: predictions first, each whole or not at all.

    Raises RecordError where a file has changed since.
    """
    files = [(records.record_path, untrusted.RECORD_BYTES, seen.record)]
    if seen.predictions is not None:
        files.insert(0, (records.predictions_path, untrusted.PACKED_BYTES, seen.predictions))
    read = []
    for path_of, most, sha256 in files:
        data = untrusted.contents(path_of(source, seen.cell), most)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise RecordError("the file was altered while it was checked. Merge again.")
        read.append((path_of(target, seen.cell), data))
    for path, data in read:
        write_whole(path, data)


def same_plan(into: Board, theirs: Board, folder: Path) -> None:
    """Raise PlanError where a cell of both plans does not mean the same in both."""
    own = {cell.name: cell for cell in into.cells}
    for cell in theirs.cells:
        if cell.name not in own:
            continue
        here, there = meaning(own[cell.name]), meaning(cell)
        for where, was, now in different(here, there, ""):
            raise PlanError(
                f"{folder / 'plan.yaml'}: it is not the plan of {into.name}: {cell.name} has {where[1:]} {short(now)}, "
                f"and {short(was)} in {into.folder / 'plan.yaml'}. Records of one plan alone can be merged."
            )
    if not any(cell.name in own for cell in theirs.cells):
        raise PlanError(
            f"{folder / 'plan.yaml'}: none of its cells is in the plan of {into.name}; its first is "
            f"{theirs.cells[0].name}. Records of one plan alone can be merged."
        )


def meaning(cell: Cell) -> dict[str, Any]:
    """Return what a cell is: method, settings, transfer, as JSON."""
    method = cell.variant.method
    settings = methods.find(method).settings(cell.changed, cell.name)
    return {"method": method, "settings": plain(asdict(settings)), "transfer": plain(describe(cell.spec))}
