"""What a method is: settings with the paper's defaults, and a plan that ends in predictions."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any, ClassVar, Literal, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from benchmark.corpus.transfer import Transfer
from benchmark.errors import PlanError, Unsupported, nearest
from benchmark.run.stage import Stage


class Method(ABC):
    """One paper's algorithm.

    `level` says which types its predictions carry: the target's own (`fine`) or the general ones (`general`). A method
    that does not say `adds` is skipped in transfers with added data, likewise `chains` and `evaluates`.
    One instance plans all the cells of a board: what it looks up once, it may keep.
    """

    Settings: ClassVar[type]  # a frozen dataclass; its defaults are the paper's
    level: ClassVar[Literal["fine", "general"]] = "fine"
    adds: ClassVar[bool] = False  # whether it learns from a transfer's added data
    chains: ClassVar[bool] = False  # whether it learns several targets one after another
    evaluates: ClassVar[bool] = False  # whether it predicts the types of another corpus than its target

    @abstractmethod
    def plan(self, transfer: Transfer, settings: Any, seed: int) -> Stage:
        """Return the stage that predicts `transfer.test`, with all that it needs behind it.

        The stage's artefact holds `predictions.jsonl`. Raises Unsupported, with a reason, for a transfer that
        the method cannot do.
        """

    def doubting(self, transfer: Transfer, settings: Any, seed: int) -> Stage:
        """Return the stage of `plan`, whose artefact also tells how unsure each word is (`doubt.jsonl`, tagging.tag).

        Raises Unsupported where a method cannot tell.
        """
        raise Unsupported(
            f"{type(self).__name__} does not tell how unsure it is of a word, so that none can be re-annotated "
            "(`annotate`)."
        )

    def planned(self, transfer: Transfer, settings: Any, seed: int) -> Stage:
        """Return what `plan` returns. Raises Unsupported where it would leave out what the transfer asks for."""
        if transfer.added and not self.adds:
            raise Unsupported(f"{type(self).__name__} does not learn from added data (`auxiliary`).")
        if transfer.chain and not self.chains:
            raise Unsupported(f"{type(self).__name__} does not learn targets one after another (`chain`).")
        if transfer.evaluated is not None and not self.evaluates:
            raise Unsupported(f"{type(self).__name__} predicts its target's types alone, no other corpus (`evaluate`).")
        return self.plan(transfer, settings, seed)

    @classmethod
    def settings(cls, changed: Mapping[str, Any], where: str = "set") -> Any:
        """Return the settings with some changed. Raises PlanError for an unknown one or a value of the wrong kind."""
        known = [f.name for f in fields(cls.Settings)]
        for name in changed:
            if name not in known:
                raise PlanError(
                    f"{where}: {cls.__name__} has no setting {name!r}.{nearest(name, known)} "
                    f"There are: {', '.join(known)}."
                )
        for name, value in changed.items():
            try:
                _validator(cls.Settings, name).validate_python(value)
            except ValidationError as error:
                problem = error.errors()[0]
                options = problem.get("ctx", {}).get("expected", "")
                hint = nearest(value, [o.strip(" '") for o in str(options).replace(" or ", ",").split(",")])
                if isinstance(value, str) and re.fullmatch(r"[-+]?\d+e[-+]?\d+", value):
                    hint = f" YAML reads {value} as text; write {value.replace('e', '.0e')}."
                said = problem["msg"][:1].lower() + problem["msg"][1:]
                raise PlanError(f"{where}: {name} is {value!r}: {said}.{hint}") from None
        try:
            return cls.Settings(**changed)
        except ValueError as error:
            raise PlanError(f"{where}: {error}") from None


@lru_cache(maxsize=1024)
def _validator(settings: type, name: str) -> TypeAdapter[Any]:
    """Return what checks the values of one setting. Kept: pydantic compiles each."""
    return TypeAdapter(get_type_hints(settings)[name], config=ConfigDict(strict=True))
