"""The engines by name, and the file of a user's in which their options stand.

    engine: ray                                   # what `cdner run` takes without --engine
    local: {slots: 2, threads: 4}
    ray: {address: auto, cpus_per_stage: 4, gpus_per_stage: 1}
    slurm: {partition: gpu, time_minutes: 240}

Each engine's file is imported when it is asked for, so that a missing package hurts only its own engine.
"""

import re
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from benchmark.corpus.card import OnceLoader
from benchmark.errors import EngineError, UnknownName, nearest
from benchmark.run.engine import Engine

ENGINES = {
    "local": "benchmark.run.local:LocalEngine",
    "ray": "benchmark.run.ray_engine:RayEngine",
    "slurm": "benchmark.run.slurm:SlurmEngine",
}
PACKAGES = {"ray": "ray", "slurm": "submitit"}  # what an engine needs beside cdner's own packages


class LocalOptions(BaseModel):
    """What a user may say of the engine of one machine."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    slots: int | None = Field(None, ge=1)
    threads: int | None = Field(None, ge=1)


class RayOptions(BaseModel):
    """What a user may say of the engine that runs on Ray.

    address         `auto`, or `host:port` of a cluster; None: cdner starts a Ray on this machine, and ends it
    slots           stages at once; None: as many as the nodes have room for
    cpus_per_stage  CPUs that Ray keeps for a stage, and its threads; None: one on a cluster, else the cores divided
    gpus_per_stage  GPUs for a stage that needs one, parts of one too; None: one where there are any
    memory_gib      memory that Ray keeps for a stage; None: it does not count
    worker_env      variables of the environment of stages, beside those that go along anyway
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    address: str | None = None
    slots: int | None = Field(None, ge=1)
    cpus_per_stage: int | None = Field(None, ge=1)
    gpus_per_stage: float | None = Field(None, ge=0)
    memory_gib: float | None = Field(None, gt=0)
    worker_env: dict[str, str] = Field(default_factory=dict)

    @field_validator("address")
    @classmethod
    def known_form(cls, found: str | None) -> str | None:
        """Refuse what is no address of a cluster's head: `ray://` leads to another service of Ray's."""
        if found is not None and found != "auto" and not re.fullmatch(r"[^/]+:\d{1,5}", found):
            raise ValueError("expected `auto`, or `host:port`")
        return found

    @field_validator("gpus_per_stage")
    @classmethod
    def whole_above_one(cls, found: float | None) -> float | None:
        """Refuse one GPU and a half, as Ray does."""
        if found is not None and found > 1 and found != int(found):
            raise ValueError("more than one GPU must be a whole number")
        return found


OPTIONS: dict[str, type[BaseModel]] = {"local": LocalOptions, "ray": RayOptions}  # `slurm` reads its own


def read_options(path: Path | None) -> dict[str, Any]:
    """Return what a file says: `engine`, and the options of each engine under its name. None: nothing.

    Raises EngineError where the file cannot be read, or says what no engine knows.
    """
    if path is None:
        return {}
    try:
        with path.open(encoding="utf8") as stream:
            found = yaml.load(stream, OnceLoader)
    except OSError as error:
        raise EngineError(f"{path}: the options of engines cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}: line {mark.line + 1}" if mark else str(path)
        raise EngineError(f"{place}: this is no YAML: {getattr(error, 'problem', None) or error}.") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise EngineError(f"{path}: expected names with options, such as `ray: {{address: auto}}`.")
    known = ["engine", *ENGINES]
    for name, value in found.items():
        if name not in known:
            raise EngineError(f"{path}: there is no {name!r}.{nearest(name, known)} There are: {', '.join(known)}.")
        if name == "engine":
            check_name(value, str(path))
        elif value is not None and not isinstance(value, dict):
            raise EngineError(f"{path}: {name} is {value!r}, expected options, such as `{name}: {{slots: 2}}`.")
        elif name in OPTIONS:
            checked(name, value or {}, str(path))
    return {name: value if name == "engine" else value or {} for name, value in found.items()}


def check_name(name: object, where: str) -> None:
    """Raise UnknownName for what is no engine."""
    if name not in ENGINES:
        raise UnknownName(
            f"{where}: there is no engine {name!r}.{nearest(name, ENGINES)} There are: {', '.join(ENGINES)}."
        )


def checked(name: str, options: Mapping[str, Any], where: str) -> Any:
    """Return an engine's options. Raises EngineError for an unknown one, or a value of the wrong kind."""
    kind = OPTIONS[name]
    for option in options:
        if not isinstance(option, str):
            known = ", ".join(kind.model_fields)
            raise EngineError(f"{where}: {name}: there is no option {option!r}. There are: {known}.")
    try:
        return kind(**options)
    except ValidationError as error:
        problem = error.errors()[0]
        said = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            known = list(kind.model_fields)
            told = f"there is no option {said!r}.{nearest(said, known)} There are: {', '.join(known)}."
        else:
            message = problem["msg"].removeprefix("Value error, ")
            told = f"{said} is {problem['input']!r}: {message[0].lower()}{message[1:]}."
        raise EngineError(f"{where}: {name}: {told}") from None


def make(
    name: str, options: Mapping[str, Any], slots: int | None = None, threads: int | None = None,
    *, where: str = "the engine's options",
) -> Engine:  # fmt: skip
    """Return an engine, not started yet.

    options         of this engine, as `read_options` gives them under its name
    slots, threads  what the command line says: they go before the options
    where           the file that the options come from, for messages

    Raises UnknownName for a name that none has, EngineError where its options are refused or its package is missing.
    """
    check_name(name, where)
    module, _, engine = ENGINES[name].partition(":")
    package = PACKAGES.get(name)
    if package is not None and find_spec(package) is None:
        raise EngineError(
            f"the engine {name!r} needs the package {package!r}, which is not installed: pip install 'cdner[{name}]'."
        )
    kind = getattr(import_module(module), engine)
    if name == "local":
        said = checked(name, options, where)
        return kind(slots or said.slots, threads or said.threads)  # type: ignore[no-any-return]
    if name in OPTIONS:
        return kind(checked(name, options, where), slots, threads)  # type: ignore[no-any-return]
    return kind(checked_slurm(options, where), slots, threads)  # type: ignore[no-any-return]


def checked_slurm(options: Mapping[str, Any], where: str) -> Any:
    """Return the options of SLURM. Raises EngineError, naming where they come from, for what is none."""
    from benchmark.run.slurm import SlurmOptions

    try:
        return SlurmOptions.read(options)
    except EngineError as error:
        raise EngineError(f"{where}: {error}") from None
