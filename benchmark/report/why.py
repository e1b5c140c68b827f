"""What a cell's key is made of and, where its record is of another key, what is new."""

import json
from collections.abc import Iterator, Mapping
from typing import Any


def render(board: str, item: Any, store: Any) -> str:
    """Return the ingredients of every stage of a planned cell, parents first, and how its record differs.

    `item` is a `benchmark.run.cells.Planned`, `store` the store of artefacts.
    """
    lines = [f"{board}/{item.cell.name}"]
    if item.final is None:
        return "\n".join([*lines, f"skipped: {item.reason}"])
    lines.append(state(item))
    old = {(s["step"], n): s for n, s in _numbered((item.record or {}).get("stages", []))}
    for n, stage in _numbered_stages(item.final.graph()):
        stored = "in the store" if store.has(stage.key) else "not in the store"
        lines += ["", f"{stage.name}  {stage.title}", f"  key {stage.key}, {stored}"]
        lines += [f"  {line}" for line in _flat(stage.ingredients["code"], "code")]
        lines += [f"  {line}" for line in _flat(stage.ingredients["inputs"], "")]
        before = old.get((stage.name, n))
        if before is not None and before["key"] != stage.key:
            lines += ["  new since the record:", *(f"    {line}" for line in changes(before, stage.ingredients))]
        elif before is None and old:
            lines.append("  new since the record: this stage was not there")
    return "\n".join(lines)


def state(item: Any) -> str:
    """Return how the record stands to the cell's key, in one line."""
    if item.record is None:
        return "there is no record; the cell is to run"
    if item.lacks:
        return f"done: the record is of this very key; to be scored again for {', '.join(item.lacks)}"
    if item.done:
        return "done: the record is of this very key"
    if item.record["status"] != "ok":
        return f"{item.record['status']}: {item.record['reason']} (logs of failed stages: `failed/` in the store)"
    if item.predicted:
        return "its predictions stand, and are to be scored again: gold, a card or the scorer has changed"
    return "stale: the record is of another key"


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs between two stages' ingredients, a line each: `recipe.Recipe.lr: 5e-05 -> 0.0001`."""
    was = {k: v for part in ("code", "inputs") for k, v in _leaves(before[part], part if part == "code" else "")}
    new = {k: v for part in ("code", "inputs") for k, v in _leaves(now[part], part if part == "code" else "")}
    names = [name for name in {**was, **new} if was.get(name) != new.get(name)]
    return [f"{name}: {_shown(was.get(name))} -> {_shown(new.get(name))}" for name in names] or [
        "(the order of inputs)"
    ]


def _numbered(stages: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    seen: dict[str, int] = {}
    for stage in stages:
        seen[stage["step"]] = seen.get(stage["step"], -1) + 1
        yield seen[stage["step"]], stage


def _numbered_stages(stages: list[Any]) -> Iterator[tuple[int, Any]]:
    seen: dict[str, int] = {}
    for stage in stages:
        seen[stage.name] = seen.get(stage.name, -1) + 1
        yield seen[stage.name], stage


def _leaves(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, f"{where}.{name}" if where else str(name))
    else:
        yield where, value


def _flat(value: Any, where: str) -> list[str]:
    return [f"{name} = {_shown(item)}" for name, item in _leaves(value, where)]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:97]}..."
