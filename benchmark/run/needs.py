"""What a stage needs of the machine that runs it: `gpu`, `llm` or `cpu`.

gpu   it, or a stage behind it, is bound to a backbone's weights: it trains, or predicts with what was trained
llm   it asks a language model on a server: many stages may wait for one at once, and a GPU would stand idle
cpu   all else
"""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmark.run.stage import Stage, plain

GPU, LLM, CPU = "gpu", "llm", "cpu"


def needs(stage: Stage) -> str:
    """Return what a stage needs."""
    own = [found for value in stage.inputs.values() for found in _named(plain(value))]
    for name, told in own:
        if name == "Llm":
            return GPU if told.get("weights") else LLM
    behind = (inner for known in stage.graph() for inner in known.inputs.values() if not isinstance(inner, Stage))
    return GPU if any(name == "Backbone" for value in behind for name, _ in _named(plain(value))) else CPU


def _named(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield every mapping within JSON that has a name, with it."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(inner, Mapping):
                yield name, inner
            yield from _named(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner)
