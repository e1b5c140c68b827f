"""A step with all its inputs bound: the unit that is cached, scheduled and retried.

A step is a function `step(work, *, ...)` that reads bound inputs and writes one artefact folder. It never receives
`Settings`: the plan binds every value that it uses. A stage's key is a hash of those values and of the step's code:

    values   splits by content hash, backbones by their weights, parents by key, all else as JSON
    code     a step of a method's file: its syntax tree and the definitions of that file that it reaches, so that
             comments, docstrings and other steps do not count; and the files beside it that it imports. Shared
             code in `benchmark/`: the number that each module declares as VERSION, for every module that the step's
             file imports, directly or not
"""

import ast
import hashlib
import inspect
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeGuard, TypeVar

from benchmark.corpus.corpus import Split
from benchmark.errors import PlanError

T = TypeVar("T")
NEEDS = ("gpu", "llm", "cpu")  # what a stage may need; of two, the first


class Ingredient(Protocol):
    """A dataclass that may be bound to a step: it says what of it goes into the key."""

    def ingredient(self) -> Mapping[str, Any]:
        """Return JSON."""


class Stage:
    """A step with its inputs bound.

    title   what to call it in front of a person; not in the key
    size    words times epochs, or the like: what time is estimated from; not in the key
    needs   `gpu`, `cpu`, or `llm` for one that waits for a language model's server: what an engine keeps free for it.
            None: as its inputs tell; not in the key
    """

    def __init__(
        self, step: Callable[..., None], /, *, title: str = "", size: float = 0.0, needs: str | None = None,
        **inputs: Any,
    ) -> None:  # fmt: skip
        _check_inputs(step, tuple(inputs))
        self.step = step
        self.inputs = inputs
        self.title = title
        self.size = size
        self._needs = needs

    @cached_property
    def needs(self) -> str:
        """Return what the stage keeps busy: `gpu`, `llm` or `cpu`.

        It is bound to weights, or to what a stage made that was, or to a language model that is asked; else to neither.
        """
        if self._needs is not None:
            return self._needs
        found = set(_needs(self.inputs))
        return next((word for word in NEEDS if word in found), "cpu")

    @property
    def name(self) -> str:
        """Return the step's import name, `module:function`."""
        return f"{self.step.__module__}:{self.step.__qualname__}"

    @cached_property
    def parents(self) -> list["Stage"]:
        """Return the stages among the inputs, each once."""
        return list({s.key: s for s in _found(Stage, self.inputs)}.values())

    @cached_property
    def splits(self) -> list[Split]:
        """Return the splits among the inputs, but for those that a stage makes."""
        return [split for split in _found(Split, self.inputs) if not isinstance(split, Made)]

    @property
    def ingredients(self) -> dict[str, Any]:
        """Return all that the key is made of, as JSON. It is made anew each time: a board has thousands of stages."""
        return {
            "step": self.name,
            "code": code(self.step),
            "inputs": {name: plain(value) for name, value in self.inputs.items()},
        }

    @cached_property
    def key(self) -> str:
        """Return the stage's key, 32 hexadecimal digits."""
        return key_of(self.ingredients)

    def graph(self) -> list["Stage"]:
        """Return this stage and all behind it, parents first, each key once."""
        found: dict[str, Stage] = {}

        def visit(stage: Stage) -> None:
            if stage.key not in found:
                for parent in stage.parents:
                    visit(parent)
                found[stage.key] = stage

        visit(self)
        return list(found.values())

    def rebind(self, old: Split, new: Split) -> "Stage":
        """Return the same stage with one split in another's place (to predict other words), also in those behind it.

        Raises PlanError where neither the stage nor one behind it is bound to that split.
        """
        if not self.reads(old):
            raise PlanError(
                f"{self.name} is not bound to {old.corpus} {old.name}, so it cannot be bound to other words."
            )
        inputs = {name: _swapped(value, old, new) for name, value in self.inputs.items()}
        return Stage(self.step, title=self.title, size=self.size, needs=self._needs, **inputs)

    def reads(self, split: Split) -> bool:
        """Return whether the stage, or one behind it, is bound to a split."""
        return any(known.hash == split.hash for stage in self.graph() for known in stage.splits)

    def __repr__(self) -> str:
        return f"<Stage {self.step.__name__} {self.title} {self.key[:8]}>"


def key_of(ingredients: Mapping[str, Any]) -> str:
    """Return the key of a stage that is made of these: its step, its code, its inputs."""
    text = json.dumps(ingredients, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Made(Split):
    """A split that a stage makes, `split.jsonl` of its artefact: a plan sees its words, a step gets all of it.

    names   what its types are called, or None where a mention of that type is dropped; one without keeps its own
    """

    stage: Stage
    names: tuple[tuple[str, str | None], ...] = ()

    @cached_property
    def hash(self) -> str:
        """What tells it from other splits, before it is made."""
        return hashlib.sha256(json.dumps([self.stage.key, self.names]).encode()).hexdigest()

    def words_only(self) -> Split:
        """Return the sentences, which are known without the stage."""
        return Split(self.corpus, self.name, self.sentences)

    def relabel(self, mapping: Mapping[str, str | None]) -> "Made":
        """Return the split with its types renamed, when it is made."""
        named = {old: new if new is None else mapping.get(new, new) for old, new in self.names}
        return replace(self, names=tuple({**mapping, **named}.items()))

    @staticmethod
    def read(folder: Path, names: Mapping[str, str | None]) -> Split:
        """Return the split of an artefact, its types renamed."""
        split = Split.from_jsonl(folder / "split.jsonl")
        own = {span.type: span.type for s in split.sentences for span in s.spans or ()}
        return split.relabel({**own, **names})


@lru_cache(maxsize=256)
def _check_inputs(step: Callable[..., None], names: tuple[str, ...]) -> None:
    """Raise TypeError where a step cannot be called with inputs of these names."""
    inspect.signature(step).bind(None, **dict.fromkeys(names))


def _swapped(value: Any, old: Split, new: Split) -> Any:
    if isinstance(value, Split):
        return new if value.hash == old.hash else value
    if isinstance(value, Stage):
        return value.rebind(old, new) if value.reads(old) else value
    if isinstance(value, (list, tuple)):
        return type(value)(_swapped(item, old, new) for item in value)
    if isinstance(value, Mapping):
        return {name: _swapped(item, old, new) for name, item in value.items()}
    return value


def _found(kind: type[T], value: Any) -> Iterator[T]:
    """Yield what of a kind a bound value holds, in its order."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, Made):
        yield from _found(kind, value.stage)
    elif isinstance(value, (list, tuple, Mapping)):
        for item in value.values() if isinstance(value, Mapping) else value:
            if not isinstance(item, str):  # most items, as a list of types has them
                yield from _found(kind, item)


def _needs(value: Any) -> Iterator[str]:
    """Yield what the parts of a bound value keep busy."""
    if isinstance(value, Stage):
        if value.needs == "gpu":  # it reads a model; what a language model has answered is only a file
            yield "gpu"
    elif isinstance(value, (list, tuple, Mapping)):
        for item in value.values() if isinstance(value, Mapping) else value:
            if not isinstance(item, str):
                yield from _needs(item)
    elif _is_ingredient(value):
        yield from [value.needs] if hasattr(value, "needs") else []


def _is_ingredient(value: Any) -> TypeGuard[Ingredient]:
    # isinstance() of a protocol takes longer than all else in a key
    return getattr(value, "ingredient", None) is not None


def plain(value: Any) -> Any:
    """Return what of a bound value goes into the key. Raises PlanError for a value that has no key."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Made):
        return {"made": plain(value.stage), "names": plain(value.names)}
    if isinstance(value, Split):
        return {"split": f"{value.corpus}/{value.name}", "hash": value.hash}
    if isinstance(value, Stage):
        return {"stage": value.key, "step": value.name}
    if _is_ingredient(value):
        return {type(value).__name__: plain(value.ingredient())}
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: plain(item) for name, item in value.items()}
    raise PlanError(
        f"a step was bound to {value!r}, which has no key; bind numbers, text, lists, mappings, splits, stages, "
        "or a dataclass with a method `ingredient`."
    )


# ------------------------------------------------------------------------------------------ requests to a worker


def pack(value: Any) -> Any:
    """Return a bound value as JSON that `unpack` turns back in another process."""
    if isinstance(value, Made):
        return {"$made": value.stage.key, "names": dict(value.names)}
    if isinstance(value, Split):
        return {"$split": value.hash}
    if isinstance(value, Stage):
        return {"$stage": value.key}
    if _is_ingredient(value):
        made_by = type(value)
        inner = {f.name: pack(getattr(value, f.name)) for f in fields(made_by)}  # type: ignore[arg-type]
        return {"$object": f"{made_by.__module__}:{made_by.__qualname__}", "fields": inner}
    if isinstance(value, (list, tuple)):
        return [pack(item) for item in value]
    if isinstance(value, Mapping):
        return {"$map": [[name, pack(item)] for name, item in value.items()]}
    return value


def unpack(value: Any, *, split: Callable[[str], Split], stage: Callable[[str], Path]) -> Any:
    """Return the value that `pack` packed; a stage becomes the folder of its artefact."""
    if isinstance(value, list):
        return [unpack(item, split=split, stage=stage) for item in value]
    if not isinstance(value, dict):
        return value
    if "$split" in value:
        return split(value["$split"])
    if "$made" in value:
        return Made.read(stage(value["$made"]), value["names"])
    if "$stage" in value:
        return stage(value["$stage"])
    if "$map" in value:
        return {name: unpack(item, split=split, stage=stage) for name, item in value["$map"]}
    inner = {name: unpack(item, split=split, stage=stage) for name, item in value["fields"].items()}
    return resolve(value["$object"])(**inner)


def resolve(name: str) -> Any:
    """Return what `module:name` names."""
    module, _, attribute = name.partition(":")
    found: Any = import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


# ------------------------------------------------------------------------------------------ what the code counts as


def code(step: Callable[..., None]) -> dict[str, Any]:
    """Return what of a step's code goes into its key."""
    file = _file(step)
    shared = step.__module__.split(".")[0] == "benchmark"
    found: dict[str, Any] = {"versions": dict(versions(file))}
    if not shared:
        beside = {name: _file_hash(path) for name, path in _beside(file, step.__module__).items()}
        if beside:
            found["beside"] = beside
        found["tree"] = tree_hash(file, step.__name__)
    return found


def sources(step: Callable[..., None]) -> dict[str, tuple[int, int]]:
    """Return the files that stand for a step's code, each with what `stamp` said when it was first read.

    While all of them are as they were, so is the code: to ask for that takes less than to read them again.
    """
    code(step)
    file = _file(step)
    files = set(_reached(file))
    if step.__module__.split(".")[0] != "benchmark":
        files |= {file, *_beside(file, step.__module__).values()}
    return {str(path): _STAMPS[path] for path in sorted(files)}


def stamp(file: Path) -> tuple[int, int]:
    """Return what tells a file that was written anew: the time of that, and its size. (0, 0): there is none."""
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


_STAMPS: dict[Path, tuple[int, int]] = {}


def _text(file: Path) -> str:
    """Return a file's text, and keep what it was stamped with before it was read."""
    _STAMPS.setdefault(file, stamp(file))
    return file.read_text(encoding="utf8")


@lru_cache(maxsize=256)
def _file(step: Callable[..., None]) -> Path:
    return Path(inspect.getfile(step))


@lru_cache(maxsize=256)
def _beside(file: Path, module: str) -> dict[str, Path]:
    """Return the modules of the same package, or of the same folder, that a file reaches by imports, by name."""
    found: dict[str, Path] = {}
    waiting = [(file, module)]
    while waiting:
        current, its_name = waiting.pop()
        for name in _imported(ast.parse(_text(current)), its_name):
            path = _source_of(name)
            if path is None or path == file or path.name == "__init__.py" or name in found:
                continue
            same_package = "." in module and name.split(".")[0] == module.split(".")[0]
            if same_package or path.resolve().is_relative_to(file.resolve().parent):
                found[name] = path
                waiting.append((path, name))
    return dict(sorted(found.items()))


def _source_of(name: str) -> Path | None:
    """Return the Python file of a module, or None for what has none."""
    try:
        spec = find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
    is_file = spec is not None and spec.has_location and str(spec.origin).endswith(".py")
    return Path(str(spec.origin)) if spec is not None and is_file else None


@lru_cache(maxsize=256)
def _file_hash(file: Path) -> str:
    """Return a hash of all that a file defines, without comments and docstrings."""
    nodes = [ast.unparse(_bare(node)) for node in ast.parse(_text(file)).body]
    return hashlib.sha256("\n".join(nodes).encode()).hexdigest()[:32]


def _imported(tree: ast.Module, module: str = "") -> list[str]:
    """Return the names that a file imports, anywhere in it; of `from a import b`, both `a` and `a.b`.

    module   the file's own name, which `from . import b` starts from
    """
    names: set[str] = set()
    for inner in ast.walk(tree):
        if isinstance(inner, ast.Import):
            names.update(alias.name for alias in inner.names)
        elif isinstance(inner, ast.ImportFrom):
            home = module.split(".")[: -inner.level] if inner.level else []
            base = ".".join([*home, *([inner.module] if inner.module else [])])
            names.update([base, *(f"{base}.{alias.name}" for alias in inner.names)] if base else [])
    return sorted(names)


@lru_cache(maxsize=256)
def tree_hash(file: Path, name: str) -> str:
    """Return a hash of a top-level definition of a file and of the same file's definitions that it reaches."""
    tree = ast.parse(_text(file))
    defined = _definitions(tree)
    if name not in defined:
        raise PlanError(f"{file}: the step {name!r} is no top-level function of this file; move it there.")
    reached: dict[str, str] = {}
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in reached:
            continue
        nodes = [_bare(node) for node in defined[current]]
        reached[current] = "\n".join(ast.unparse(node) for node in nodes)
        names = {n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name)}
        waiting.extend(n for n in names if n in defined)
    text = json.dumps(sorted(reached.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _definitions(tree: ast.Module) -> dict[str, list[ast.stmt]]:
    found: dict[str, list[ast.stmt]] = {}
    for node in _statements(tree.body):
        names: list[str] = []
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names = [node.name]
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [(alias.asname or alias.name).split(".")[0] for alias in node.names]
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
        for name in names:
            found.setdefault(name, []).append(node)
    return found


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, those under `if`, `try` and `with` too."""
    for node in body:
        yield node
        if isinstance(node, (ast.If, ast.Try, ast.With)):
            yield from _statements(node.body)
            for name in ("orelse", "finalbody"):
                yield from _statements(getattr(node, name, []))
            for handler in getattr(node, "handlers", []):
                yield from _statements(handler.body)


def _bare(node: ast.stmt) -> ast.stmt:
    """Return a copy of a definition without its docstrings."""
    copy = ast.parse(ast.unparse(node)).body[0]
    for inner in ast.walk(copy):
        if (
            isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            and ast.get_docstring(inner) is not None
        ):
            inner.body = inner.body[1:] or [ast.Pass()]
    return copy


@lru_cache(maxsize=256)
def versions(file: Path) -> tuple[tuple[str, int], ...]:
    """Return the declared VERSION of every module of `benchmark` that a file reaches by imports, itself included."""
    declared = (_module_facts(path)[0] for path in _reached(file))
    return tuple(sorted(dict(found for found in declared if found is not None).items()))


@lru_cache(maxsize=256)
def _reached(file: Path) -> tuple[Path, ...]:
    """Return the files of `benchmark` that a file reaches by imports, itself included."""
    seen: dict[Path, None] = {}
    waiting = [file]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen[current] = None
            waiting.extend(_module_facts(current)[1])
    return tuple(seen)


@lru_cache(maxsize=256)
def _module_facts(file: Path) -> tuple[tuple[str, int] | None, tuple[Path, ...]]:
    tree = ast.parse(_text(file))
    declared = None
    root = Path(__file__).resolve().parent.parent
    for node in tree.body:
        is_version = isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["VERSION"]
        if is_version and file.resolve().is_relative_to(root):
            name = ".".join(["benchmark", *file.resolve().relative_to(root).with_suffix("").parts])
            declared = (name, int(ast.literal_eval(node.value)))  # type: ignore[attr-defined]
    return declared, tuple(path for path in map(_module_file, _imported(tree)) if path is not None)


@lru_cache(maxsize=1024)
def _module_file(name: str) -> Path | None:
    if name.split(".")[0] != "benchmark":
        return None
    try:
        spec = find_spec(name)
    except (ImportError, AttributeError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None


def all_code() -> dict[str, str]:
    """Return what stands for code in the keys of all methods that come with cdner: a hash a method, a VERSION a module.

    Two machines on which it is the same run the same stages under the same keys.
    """
    root = Path(__file__).resolve().parent.parent
    found = {}
    for path in sorted(root.rglob("*.py")):
        told = re.search(r"^VERSION = (\d+)\b", path.read_text(encoding="utf8"), re.MULTILINE)
        if told:
            found[".".join(["benchmark", *path.relative_to(root).with_suffix("").parts])] = f"VERSION {told[1]}"
    methods = find_spec("methods")
    for folder in (methods.submodule_search_locations if methods is not None else None) or ():
        found.update({f"methods.{path.stem}": _file_hash(path) for path in sorted(Path(folder).glob("*.py"))})
    return found
