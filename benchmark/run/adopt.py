"""Carries records over a refactoring: keys have changed, and a rerun shows that predictions have not.

Stale records are put together by what has changed in their stages' ingredients. Of each kind of change a sample is
run again under its new keys. Where every prediction is equal, all records of that kind get the new keys, and say so in
`adopted`. A changed value (another learning rate, other words) is no refactoring: such a record stays stale.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmark.errors import StageFailed
from benchmark.run import record as records
from benchmark.run.cells import Planned
from benchmark.run.engine import Engine
from benchmark.run.outcome import stage_entry
from benchmark.run.plan import Board
from benchmark.run.predict import run_one
from benchmark.run.stage import Stage
from benchmark.run.store import Store
from benchmark.run.workload import Estimator, need
from benchmark.score.protocols import read_predictions

ABSENT = "absent"  # stands for an input, or a dataclass' field, that is not there


@dataclass
class Group:
    """Stale cells whose stages have changed alike.

    changes   what has changed, a line each
    refused   the changes that are no refactoring
    """

    changes: tuple[str, ...]
    refused: tuple[str, ...]
    cells: list[Planned] = field(default_factory=list)


def adopt(
    board: Board, planned: Sequence[Planned], store: Store, engine: Engine,
    *, sample: int, dry_run: bool, tell: Callable[[str], None],
) -> int:  # fmt: skip
    """Adopt the stale records of a board that can be. Returns the exit status: 1 where some stay stale."""
    stale = [p for p in planned if p.stale and records.predictions_hold(board.folder, p.record or {})]
    lost = [p for p in planned if p.stale and p not in stale]
    for item in lost:
        tell(f"{item.cell.name}: its predictions are gone or altered, so there is nothing to compare; run it again")
    if not stale and not lost:
        tell(f"no record of {board.name} is stale")
        return 0
    left = len(lost)
    for group in grouped(stale):
        tell(f"\n{len(group.cells)} stale, first {group.cells[0].cell.name}; changed:")
        for line in group.changes:
            tell(f"  {line}")
        if group.refused:
            tell("not adopted: another value is another experiment. Run these cells again")
            left += len(group.cells)
        elif not dry_run and not adopt_group(board, group, store, engine, sample, tell):
            left += len(group.cells)
    return int(left > 0)


def grouped(stale: Sequence[Planned]) -> list[Group]:
    """Return stale cells put together by what has changed in their stages."""
    found: dict[tuple[str, ...], Group] = {}
    for item in stale:
        assert item.final is not None
        assert item.record is not None
        changed, refused = compare(item.record["stages"], item.final.graph())
        found.setdefault(changed, Group(changed, refused)).cells.append(item)
    return list(found.values())


def compare(before: Sequence[Mapping[str, Any]], now: Sequence[Stage]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what has changed between the stages of a record and those of today, and what of it is no refactoring."""
    if len(before) != len(now):
        line = f"the cell had {len(before)} stages, and has {len(now)}"
        return (line,), (line,)
    changed: dict[str, None] = {}
    refused: dict[str, None] = {}
    for old, stage in zip(before, now, strict=True):
        new = stage.ingredients
        if old["step"] != new["step"]:
            changed[f"{old['step']} is {new['step']}"] = None
        for name in {**old["inputs"], **new["inputs"]}:
            was, is_ = old["inputs"].get(name, ABSENT), new["inputs"].get(name, ABSENT)
            for where, before_, now_ in different(was, is_, f".{name}"):
                line = f"{stage.step.__name__}: {where}: {before_} -> {now_}"
                changed[line] = None
                if ABSENT not in (before_, now_):
                    refused[line] = None
        if old["code"] != new["code"]:
            parts = [part for part in {**old["code"], **new["code"]} if old["code"].get(part) != new["code"].get(part)]
            changed[f"{stage.step.__name__}: code ({', '.join(parts)})"] = None
    return tuple(changed), tuple(refused)


def different(was: Any, is_: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield what differs between two values of an input: where, what it was, what it is.

    A parent's key is new where the parent is, and its own ingredients tell why. A field that only one of two
    dataclasses has is ABSENT in the other; any other value that only one has is a difference of the whole.

    >>> list(different({"Recipe": {"lr": 0.1}}, {"Recipe": {"lr": 0.2, "clip": None}}, ".recipe"))
    [('.recipe.Recipe.lr', 0.1, 0.2), ('.recipe.Recipe.clip', 'absent', None)]
    >>> list(different([1], [1, 2], ".layers"))
    [('.layers', [1], [1, 2])]
    """
    if was == is_ or (is_stage(was) and is_stage(is_)):
        return
    if is_dataclass(was) and is_dataclass(is_) and was.keys() == is_.keys():
        [name] = was
        for part in {**was[name], **is_[name]}:
            found = was[name].get(part, ABSENT), is_[name].get(part, ABSENT)
            yield from different(*found, f"{where}.{name}.{part}")
    elif isinstance(was, dict) and isinstance(is_, dict) and was.keys() == is_.keys():
        for name in was:
            yield from different(was[name], is_[name], f"{where}.{name}")
    elif isinstance(was, list) and isinstance(is_, list) and len(was) == len(is_):
        for number, (one, other) in enumerate(zip(was, is_, strict=True)):
            yield from different(one, other, f"{where}.{number}")
    else:
        yield where, was, is_


def is_stage(value: Any) -> bool:
    """Return whether a value of a key's ingredients stands for a parent."""
    return isinstance(value, dict) and set(value) == {"stage", "step"}


def is_dataclass(value: Any) -> bool:
    """Return whether a value of a key's ingredients stands for a dataclass, `{"Recipe": {...}}`."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    [(name, inner)] = value.items()
    return name[:1].isupper() and isinstance(inner, dict)


def adopt_group(
    board: Board, group: Group, store: Store, engine: Engine, sample: int, tell: Callable[[str], None]
) -> bool:
    """Run a sample of a group again and, where every prediction is equal, adopt it. Returns whether it was."""
    estimator = Estimator(store, (p.record for p in group.cells))

    def cost(item: Planned) -> float:
        lacking: dict[str, Stage] = {}
        assert item.final is not None
        need(item.final, store, lacking)
        return estimator.seconds(lacking.values())

    chosen = sorted(group.cells, key=cost)[:sample]
    for item in chosen:
        tell(f"running again: {item.cell.name}")
        try:
            differ, of = differing(board, item, store, engine, tell)
        except StageFailed as error:
            tell(f"not adopted: {error}")
            return False
        if differ:
            tell(f"not adopted: {differ} of {of} predictions of {item.cell.name} differ from its record's")
            return False
    names = [item.cell.name for item in chosen]
    for item in group.cells:
        item.record = carried(item, names, group.changes)
        records.write(board.folder, item.record)
    number = len(group.cells)
    tell(f"adopted: {number} record{'s'[: number - 1]}; every prediction of {', '.join(names)} is equal")
    return True


def differing(
    board: Board, item: Planned, store: Store, engine: Engine, tell: Callable[[str], None]
) -> tuple[int, int]:
    """Run a cell under its new keys, on as many threads as before. Returns how many predictions differ, of how many."""
    assert item.final is not None
    assert item.record is not None
    threads = (item.record["provenance"].get("threads") or [engine.threads])[0]
    lacking: dict[str, Stage] = {}
    need(item.final, store, lacking)
    for stage in lacking.values():
        run_one(stage, store, engine, tell, threads=threads)
    before = read_predictions(records.predictions_path(board.folder, item.cell.name))
    now = read_predictions(store.folder(item.final.key) / "predictions.jsonl")
    differ = sum(a != b for a, b in zip(before, now, strict=False)) + abs(len(before) - len(now))
    return differ, len(now)


def carried(item: Planned, sample: Sequence[str], changes: Sequence[str]) -> records.Record:
    """Return the record of a cell under its new keys; what it cost and measured stays as it was."""
    assert item.final is not None
    assert item.record is not None
    stages = [stage_entry(stage, old) for stage, old in zip(item.final.graph(), item.record["stages"], strict=True)]
    about = {"from": item.record["final"], "sample": list(sample), "changes": list(changes)}
    return {
        **item.record,
        "final": item.final.key,
        "stages": stages,
        "adopted": {**about, **records.git_state(), "written": records.now()},
    }
