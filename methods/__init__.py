"""The one visible table of methods. Each is imported when it is asked for, and hurts nobody else if it cannot be.

Methods of other packages join by an entry point of group `cdner.methods`: `name = "package.module:Class"`.
"""

import sys
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from benchmark.errors import PlanError, UnknownName, nearest
from benchmark.run.method import Method

METHODS = {
    "lookup": "methods.lookup:Lookup",
    "tagger": "methods.tagger:Tagger",
    "label_norm": "methods.label_norm:LabelNorm",
    "laner": "methods.laner:Laner",
    "text2text": "methods.text2text:Text2Text",
    "llm_prompt": "methods.llm_prompt:LlmPrompt",
    "lar": "methods.lar:Lar",
    "topt": "methods.topt:Topt",
}


def names() -> dict[str, str]:
    """Return every method's name and where it stands: the table's, then those of other packages.

    Raises PlanError where another package claims a name of the table.
    """
    found = dict(METHODS)
    for entry in _entries(tuple(sys.path)):
        if entry.name in found and found[entry.name] != entry.value:
            raise PlanError(
                f"the entry point {entry.name!r} = {entry.value!r} claims a name that {found[entry.name]!r} has; "
                "rename it in its package."
            )
        found[entry.name] = entry.value
    return found


@lru_cache(maxsize=4)
def _entries(_search_path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return what other packages register. Kept for a search path: every installed package's metadata is read."""
    return tuple(entry_points(group="cdner.methods"))


def find(name: str) -> type[Method]:
    """Return the class registered as `name`, importing that file alone. Raises UnknownName or PlanError."""
    known = names()
    if name not in known:
        raise UnknownName(f"there is no method {name!r}.{nearest(name, known)} There are: {', '.join(known)}.")
    module, _, attribute = known[name].partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PlanError(f"the method {name!r} ({known[name]}) cannot be imported: {error}.") from error
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise PlanError(f"the method {name!r} ({known[name]}) is no benchmark.run.method.Method.")
    return found
