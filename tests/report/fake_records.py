"""Planned cells and their records, made by hand, for the tests of tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmark.report.render import render
from benchmark.report.rows import rows


@dataclass(frozen=True)
class Planned:
    variant: str
    target: str
    seed: int = 1
    draw: int | None = None
    sources: tuple[str, ...] = ("conll2003",)
    regime: str = "supervised"
    select: str = "target-dev"
    order: str = "sequence"
    dev: str = "card"
    changed: Mapping[str, Any] = field(default_factory=dict)
    method: str = "tagger"

    @property
    def name(self) -> str:
        draw = "" if self.draw is None else f"draw{self.draw}-"
        return f"{self.variant}/{'+'.join(self.sources)}--{self.target}/{self.regime}/{draw}seed{self.seed}"


def counts(f1: int) -> list[int]:
    """Return counts whose precision, recall and F1 are all `f1`."""
    return [f1, 100 - f1, 100 - f1]


def ok(cell: Planned, f1: int, *, version: int = 1, **other: Any) -> dict[str, Any]:
    part = {"strict": {"all": counts(f1), "types": {"field": counts(f1), "task": counts(f1 - 10)}}}
    errors = {"hit": f1, "type": 20, "boundary": 10, "missed": 5, "spurious": 4}
    return {
        "cell": cell.name,
        "variant": cell.variant,
        "status": "ok",
        "reason": None,
        "backbone": "minilm",
        "level": "fine",
        "corpora": {name: {"version": version if name == cell.target else 1} for name in (*cell.sources, cell.target)},
        "scorer": 1,
        "scores": {"fine": part, "general": part},
        "errors": {"fine": errors, "general": errors},
        "provenance": {"precision": "bf16"},
    } | other


def whole(cell: Planned, f1: int = 50, **other: Any) -> dict[str, Any]:
    """Return a record as it may lie in a file: with the counts of two sentences, which sum up to the whole."""
    sentences = [counts(f1), [0, 0, 0]]
    return ok(cell, f1, sentences={"fine": sentences, "general": sentences}, **other)


def ended(cell: Planned, status: str, reason: str) -> dict[str, Any]:
    found = ok(cell, 0, status=status, reason=reason)
    return {name: value for name, value in found.items() if name not in ("scores", "errors")}


def text(plan: list[tuple[Planned, dict[str, Any] | None]], format: str = "terminal", **settings: Any) -> str:
    return render(rows([cell for cell, _ in plan], [r for _, r in plan if r]), format, **settings)


def scored(cell: Planned, f1: int, **other: Any) -> tuple[Planned, dict[str, Any]]:
    return cell, ok(cell, f1, **other)


def board() -> list[tuple[Planned, dict[str, Any] | None]]:
    """Return a board in which everything that can happen to a cell happens once.

    tagger: ai 50, 52, 54 -> 52 ± 2; movie 61. crf: ai 40, 41 of three -> 40.5 ± 0.71; movie failed.
    proto: ai skipped; movie not there. norm: general types only.
    """
    tagger = [scored(Planned("tagger", "ai", s), f1) for s, f1 in ((1, 50), (2, 52), (3, 54))]
    crf = [scored(Planned("crf_big", "ai", s), f1) for s, f1 in ((1, 40), (2, 41))]
    norm = [
        scored(Planned("norm", t, s), 70, level="general") for t, s in (("ai", 1), ("ai", 2), ("ai", 3), ("movie", 1))
    ]
    for _, record in norm:
        del record["scores"]["fine"], record["errors"]["fine"]
    late, film = Planned("crf_big", "ai", 3), Planned("crf_big", "movie")
    skipped = [Planned("proto", "ai", s) for s in (1, 2, 3)]
    return [
        *tagger,
        scored(Planned("tagger", "movie"), 61),
        *crf,
        (late, ended(late, "failed", "time limit")),
        (film, ended(film, "failed", "out of memory")),
        *((cell, ended(cell, "skipped", "needs a dev split")) for cell in skipped),
        (Planned("proto", "movie"), None),
        *norm,
    ]
