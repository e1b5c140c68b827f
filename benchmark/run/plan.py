"""A board's plan becomes cells. Everything in it is checked before anything runs."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from benchmark import paths
from benchmark.corpus.card import OnceLoader, find_cards
from benchmark.corpus.similarity import FEATURES
from benchmark.corpus.transfer import (
    ANNOTATORS,
    CHOICES,
    DEVS,
    FOREIGN,
    LIMITED,
    MEASURES,
    ORDERS,
    REGIMES,
    SELECTS,
    STARTS,
    Annotation,
    Auxiliary,
    Spec,
)
from benchmark.errors import PlanError, UnknownName, nearest

BOARD_KEYS = ("about", "variants", "transfers", "seeds", "budget", "licensed")
VARIANT_KEYS = ("method", "set")
TRANSFER_KEYS = (
    "sources", "target", "targets", "order", "regime", "draws", "select", "dev", "seeds", "set", "variants",
    "auxiliary", "annotate", "chain", "evaluate", "others", "curves",
)  # fmt: skip
EXAMPLES = {"fraction": 0.05, "sentences": 40, "shots": 5}
BUDGET_KEYS = ("minutes_per_stage", "gib_per_stage")


@dataclass(frozen=True)
class Variant:
    """A method with some settings changed: one row of a board."""

    name: str
    method: str
    set: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """Variant x transfer x draw x seed."""

    variant: Variant
    spec: Spec
    seed: int
    changed: Mapping[str, Any]  # settings: the variant's, then the transfer's

    @property
    def name(self) -> str:
        """Return the cell's name: `tagger/conll2003--ai/supervised/seed1`."""
        draw = "" if self.spec.draw is None else f"draw{self.spec.draw}-"
        return f"{self.variant.name}/{self.spec.place}/{draw}seed{self.seed}"


@dataclass(frozen=True)
class TableCell:
    """A cell as tables expect it."""

    name: str
    variant: str
    method: str
    sources: tuple[str, ...]
    target: str
    regime: str
    select: str
    order: str
    dev: str
    changed: Mapping[str, Any]
    draw: int | None
    seed: int


@dataclass(frozen=True)
class Board:
    """A folder under `results/`: its plan, and the cells that the plan asks for."""

    name: str
    folder: Path
    about: str
    cells: tuple[Cell, ...]
    minutes_per_stage: float | None
    gib_per_stage: float | None = None  # memory of all processes of a stage
    licensed: Mapping[str, str] = field(default_factory=dict)  # corpora that may have no card here, and why

    def expected(self) -> list[TableCell]:
        """Return the cells as tables expect them, in the plan's order."""
        return [
            TableCell(
                c.name, c.variant.name, c.variant.method, c.spec.learned_from, c.spec.learned, c.spec.regime_label,
                c.spec.select, c.spec.order, c.spec.dev, c.changed, c.spec.draw, c.seed,
            )
            for c in self.cells
        ]  # fmt: skip

    def running_order(self) -> list[Cell]:
        """Return the cells in the order that they are run: seed 1 of everything first, then seed 2."""
        turn = {seed: n for n, seed in enumerate(dict.fromkeys(c.seed for c in self.cells))}
        return sorted(self.cells, key=lambda c: turn[c.seed])


def boards() -> dict[str, Path]:
    """Return every board by name: the user's (`paths.results_folder`), then those that come with cdner.

    A board may lie in a folder of boards: `laner-paper/tables`.
    """
    found: dict[str, Path] = {}
    for root in (paths.results_folder(), paths.shipped_boards()):
        for plan in sorted([*root.glob("*/plan.yaml"), *root.glob("*/*/plan.yaml")]):
            found.setdefault(plan.parent.relative_to(root).as_posix(), plan.parent)
    return found


def board_name(folder: Path) -> str:
    """Return the name of the board in a folder: as it stands among all boards, else the folder's own."""
    for name, known in boards().items():
        if known.resolve() == folder.resolve():
            return name
    return folder.name


def find_board(name: str) -> Path:
    """Return the folder of a board, by path or by name. Raises UnknownName."""
    given = Path(name).expanduser()
    if given.name == "plan.yaml" and given.is_file():
        return given.parent.resolve()
    if (given / "plan.yaml").is_file():
        return given.resolve()
    known = boards()
    if name not in known:
        listed = ", ".join(known) or "none"
        raise UnknownName(
            f"there is no board {name!r}: no folder of that path with a plan.yaml in it, and none of that name in "
            f"{paths.results_folder()}.{nearest(name, known)} There are: {listed}."
        )
    return known[name]


def read_board(name: str, cards: tuple[Path, ...] = (), *, settings: bool = True) -> Board:
    """Return the board called `name`, its plan checked. Raises PlanError, UnknownName or CardError.

    Methods are looked up and their settings checked, unless `settings` is False: that imports them, and torch with
    them. No corpus is read.
    """
    folder = find_board(name)
    path = folder / "plan.yaml"
    try:
        plan = yaml.load(path.read_text(encoding="utf8"), OnceLoader)
    except OSError as error:
        raise PlanError(f"{path}: the plan cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}: line {mark.line + 1}" if mark else str(path)
        raise PlanError(f"{where}: this is no YAML: {getattr(error, 'problem', None) or error}.") from None
    try:
        return _board(folder, plan, cards, settings)
    except (PlanError, UnknownName) as error:
        raise type(error)(f"{path}: {error}") from None


def _board(folder: Path, plan: Any, cards: tuple[Path, ...], check: bool) -> Board:
    top = mapping(plan, "the plan", BOARD_KEYS)
    for key in ("variants", "transfers"):
        if not top.get(key):
            raise PlanError(f"the plan has no {key}; it needs variants, transfers and seeds.")
    variants = _variants(top["variants"], check)
    seeds = whole_numbers(top.get("seeds", [1]), "seeds")
    licensed = mapping(top.get("licensed") or {}, "licensed")
    licensed = {name: text(why, f"licensed.{name}") for name, why in licensed.items()}
    known = [*find_cards(cards), *licensed]
    if not isinstance(top["transfers"], list):
        raise PlanError(f"transfers is {short(top['transfers'])}, expected a list, one transfer an item.")
    asked = [(f"transfer {n}", entry) for n, entry in enumerate(top["transfers"], 1)]
    transfers = [
        (where, *_transfers(entry, where, seeds, known), _asked_of(entry, where, variants)) for where, entry in asked
    ]
    left = [variant.name for variant in variants if not any(variant.name in named for *_, named in transfers)]
    if left:
        raise PlanError(
            f"no transfer asks for the variant {left[0]}; name it in the `variants` of one, or take it out."
        )
    cells: list[Cell] = []
    for variant in variants:
        for where, specs, own_seeds, changed, named in transfers:
            if variant.name not in named:
                continue
            settings = {**variant.set, **changed}
            if check:
                check_settings(variant.method, settings, f"{where}, variant {variant.name}")
            cells.extend(Cell(variant, spec, seed, settings) for spec in specs for seed in own_seeds)
    twice = sorted(name for name, times in Counter(c.name for c in cells).items() if times > 1)
    if twice:
        raise PlanError(
            f"the cell {twice[0]} stands in two transfers; a cell's name must mean one thing. What a name does not say "
            "(order, select, dev, set) is compared across boards: put one of the two into a board of its own."
        )
    budget = mapping(top.get("budget") or {}, "budget", BUDGET_KEYS)
    limits = {key: amount(budget, key) for key in BUDGET_KEYS}
    about = text(top.get("about", ""), "about")
    return Board(board_name(folder), folder, about, tuple(cells), **limits, licensed=licensed)


def amount(budget: Mapping[str, Any], key: str) -> float | None:
    """Return a limit of a board's budget. Raises PlanError for what is no number above 0."""
    found = budget.get(key)
    if found is not None and (isinstance(found, bool) or not isinstance(found, (int, float)) or not found > 0):
        raise PlanError(f"budget.{key} is {short(found)}, expected a number above 0.")
    return found


def check_settings(method: str, changed: Mapping[str, Any], where: str) -> Any:
    """Return the settings of a method with some changed. Raises PlanError or UnknownName."""
    import methods

    return methods.find(method).settings(changed, where)


def _variants(entry: Any, check: bool) -> list[Variant]:
    found = []
    for name, value in mapping(entry, "variants").items():
        if not name or any(c in name for c in "/\\ \t\n") or name.startswith((".", "-")):
            raise PlanError(f"the variant's name {name!r} must be a word that can name a folder.")
        inner = mapping(value, f"variants.{name}", VARIANT_KEYS)
        if "method" not in inner:
            raise PlanError(f"variants.{name} names no method; say `method: tagger`, or another.")
        method = text(inner["method"], f"variants.{name}.method")
        changed = mapping(inner.get("set") or {}, f"variants.{name}.set")
        if check:
            check_settings(method, changed, f"variants.{name}.set")
        found.append(Variant(name, method, changed))
    return found


def _transfers(
    entry: Any, where: str, seeds: list[int], known: Collection[str]
) -> tuple[list[Spec], list[int], dict[str, Any]]:
    """Return what an item of `transfers` asks for: every target in every draw, the seeds, the settings.

    A chain asks for each of its targets, learned after those before it.
    """
    top = mapping(entry, where, TRANSFER_KEYS)
    if sum(key in top for key in ("target", "targets", "chain")) != 1:
        raise PlanError(
            f"{where} needs one of `targets`, a list of corpora; `target`, one; `chain`, several that are learned one "
            "after another."
        )
    if "target" in top:
        if isinstance(top["target"], list):
            raise PlanError(f"{where}, target is {short(top['target'])}, expected text; of several, say `targets`.")
        targets = [text(top["target"], f"{where}, target")]
    else:
        key = "targets" if "targets" in top else "chain"
        targets = names(top[key], f"{where}, {key}")
    chains = [tuple(targets[:n]) if "chain" in top else () for n in range(len(targets))]
    sources = names(top.get("sources") or [], f"{where}, sources", empty=True)
    evaluated = names(top["evaluate"], f"{where}, evaluate") if "evaluate" in top else [None]
    pool = names(top["others"], f"{where}, others") if "others" in top else []
    _known((*sources, *targets, *pool, *filter(None, evaluated)), where, known)
    regime, amount = _regime(top.get("regime", "supervised" if sources or pool else "in-domain"), where)
    own_seeds = whole_numbers(top["seeds"], f"{where}, seeds") if "seeds" in top else seeds
    added = _auxiliary(top["auxiliary"], f"{where}, auxiliary", known) if "auxiliary" in top else [None]
    annotated = _annotation(top["annotate"], f"{where}, annotate") if "annotate" in top else [None]
    draws: list[int | None] = [None]
    if "draws" in top:
        if amount is None and None in added:
            raise PlanError(f"{where}: draws belong to the regimes {', '.join(LIMITED)}; {regime} shows all there is.")
        draws = list(whole_numbers(top["draws"], f"{where}, draws"))
        if 0 in draws:
            raise PlanError(f"{where}: draws are counted from 1; found 0.")
    select = choice(top.get("select", "last" if regime == "zero-shot" else "target-dev"), f"{where}, select", SELECTS)
    order = choice(top.get("order", "sequence"), f"{where}, order", ORDERS)
    dev = choice(top.get("dev", "card"), f"{where}, dev", DEVS)
    changed = mapping(top.get("set") or {}, f"{where}, set")
    curves = top.get("curves", False)
    if not isinstance(curves, bool):
        raise PlanError(f"{where}, curves is {short(curves)}, expected true or false.")
    specs = []
    routes = zip(targets, chains, strict=True)
    for (target, chain), other, extra, annotation, draw in product(routes, evaluated, added, annotated, draws):
        more = extra and replace(extra, corpora=tuple(name for name in extra.corpora if name != target))
        tested = other if other != target else None
        taught = (*sources, *(name for name in pool if name != target))
        spec = Spec(
            taught,
            target,
            regime,
            amount,
            order,
            select,
            draw,
            dev,
            more,
            annotation,
            chain,
            tested,
            tuple(pool),
            curves,
        )
        try:
            spec.check()
        except PlanError as error:
            raise PlanError(f"{where}: {error}") from None
        specs.append(spec)
    return specs, own_seeds, changed


def _known(corpora: Iterable[str], where: str, known: Collection[str]) -> None:
    """Raise UnknownName where there is no corpus of a name."""
    for name in corpora:
        if name not in known:
            raise UnknownName(
                f"{where}: there is no corpus {name!r}.{nearest(name, known)} There are: {', '.join(known)}."
            )


def _asked_of(entry: Mapping[str, Any], where: str, variants: list[Variant]) -> list[str]:
    """Return the names of the variants that an item of `transfers` is for: all, where it names none."""
    known = [variant.name for variant in variants]
    asked = names(entry["variants"], f"{where}, variants") if "variants" in entry else known
    for name in asked:
        if name not in known:
            raise UnknownName(
                f"{where}: there is no variant {name!r}.{nearest(name, known)} There are: {', '.join(known)}."
            )
    return asked


def _auxiliary(entry: Any, where: str, known: Collection[str]) -> list[Auxiliary | None]:
    """Return the kinds of added data that a transfer asks for: every share, every choice. A share of 0 adds nothing."""
    top = mapping(entry, where, tuple(f.name for f in fields(Auxiliary)))
    corpora = names(top.get("corpora"), f"{where}, corpora")
    _known(corpora, where, known)
    shares = top.get("share")
    shares = shares if isinstance(shares, list) else [shares]
    for share in shares:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise PlanError(f"{where}, share is {short(share)}, expected a number from 0 to 1, or a list of them.")
    chosen = top.get("choose", CHOICES[0])
    chosen = [choice(one, f"{where}, choose", CHOICES) for one in (chosen if isinstance(chosen, list) else [chosen])]
    features = choice(top.get("features", FEATURES[0]), f"{where}, features", FEATURES)
    types = choice(top.get("types", FOREIGN[0]), f"{where}, types", FOREIGN)
    some = [Auxiliary(tuple(corpora), float(x), how, features, types) for how in chosen for x in shares if x]
    return [*([None] if 0 in shares else []), *some]


def _annotation(entry: Any, where: str) -> list[Annotation | None]:
    """Return the re-annotations that a transfer asks for: every annotator, at every threshold; nobody needs none."""
    top = mapping(entry, where, tuple(f.name for f in fields(Annotation)))
    if "by" not in top:
        raise PlanError(f"{where} needs `by`. There are: {', '.join(ANNOTATORS)}.")
    annotators = top["by"] if isinstance(top["by"], list) else [top["by"]]
    annotators = [choice(one, f"{where}, by", ANNOTATORS) for one in annotators]
    given = top.get("threshold", Annotation.threshold)
    thresholds = given if isinstance(given, list) else [given]
    for value in thresholds:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise PlanError(f"{where}, threshold is {short(value)}, expected a number, or a list of them.")
    measure = choice(top.get("measure", MEASURES[0]), f"{where}, measure", MEASURES)
    start = choice(top.get("start", STARTS[0]), f"{where}, start", STARTS)
    asked = {name: text(top.get(name, ""), f"{where}, {name}") for name in ("model", "base_url")}
    if "llm" not in annotators and any(asked.values()):
        raise PlanError(f"{where}: model and base_url are for `by: llm`; found `by: {', '.join(annotators)}`.")
    return [
        Annotation(by, float(value), measure, start, **(asked if by == "llm" else {}))
        for by in annotators
        for value in (thresholds[:1] if by == "nobody" else thresholds)
    ]


def _regime(value: Any, where: str) -> tuple[str, float | None]:
    """Return the regime's word and its amount: `supervised`, or `{fraction: 0.05}`."""
    if isinstance(value, dict) and len(value) == 1:
        [(word, amount)] = value.items()
        choice(word, f"{where}, regime", REGIMES)
        if word not in LIMITED:
            raise PlanError(f"{where}: the regime {word} takes no amount; write `regime: {word}`.")
        if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not math.isfinite(amount):
            raise PlanError(f"{where}: the amount of {word} is {short(amount)}, expected a number.")
        return word, float(amount)
    if label := _limited(value):
        raise PlanError(f"{where}, regime is {short(value)}; write `regime: {{{label}}}`.")
    word = choice(value, f"{where}, regime", REGIMES)
    if word in LIMITED:
        raise PlanError(f"{where}: the regime {word} needs an amount; write `regime: {{{word}: {EXAMPLES[word]}}}`.")
    return word, None


# ------------------------------------------------------------------------------------------------ values of a plan


def mapping(value: Any, where: str, known: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Return `value` if it is a mapping from text, with known keys alone. Raises PlanError."""
    if not isinstance(value, dict):
        raise PlanError(
            f"{where} is {short(value)}, expected a mapping" + (f" with {', '.join(known)}." if known else ".")
        )
    for key in value:
        if not isinstance(key, str):
            raise PlanError(f"{where} has the key {key!r}, which is no text; put it in quotes.")
        if known is not None and key not in known:
            raise PlanError(f"{where} has no key {key!r}.{nearest(key, known)} There are: {', '.join(known)}.")
    return value


def choice(value: Any, where: str, options: tuple[str, ...]) -> str:
    """Return `value` if it is one of some words. Raises PlanError."""
    if value not in options:
        raise PlanError(f"{where} is {short(value)}.{nearest(value, options)} There are: {', '.join(options)}.")
    return str(value)


def _limited(value: Any) -> str | None:
    """Return what a plan says for a regime's label, as tables have it: `fraction: 0.01` for `fraction-0.01`."""
    word, _, amount = str(value).partition("-")
    return f"{word}: {amount}" if word in LIMITED and amount.replace(".", "", 1).isdecimal() else None


def text(value: Any, where: str) -> str:
    """Return `value` if it is text. Raises PlanError."""
    if not isinstance(value, str):
        raise PlanError(f"{where} is {short(value)}, expected text.")
    return value


def names(value: Any, where: str, *, empty: bool = False) -> list[str]:
    """Return `value` if it is a list of different names. Raises PlanError."""
    if not isinstance(value, list) or (not value and not empty) or not all(isinstance(v, str) for v in value):
        raise PlanError(f"{where} is {short(value)}, expected a list of names, such as [ai, politics].")
    if len(set(value)) < len(value):
        raise PlanError(f"{where} names one twice: {', '.join(value)}.")
    return value


def whole_numbers(value: Any, where: str) -> list[int]:
    """Return `value` if it is a list of different whole numbers, at least 0. Raises PlanError."""
    fits = isinstance(value, list) and value and all(type(v) is int and v >= 0 for v in value)
    if not fits or len(set(value)) < len(value):
        raise PlanError(f"{where} is {short(value)}, expected a list of different whole numbers, such as [1, 2, 3].")
    return list(value)


def short(value: Any) -> str:
    """Return a value as an error shows it."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
