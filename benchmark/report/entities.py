"""Entities of new text, for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.text import Text

TONES = ("cyan", "magenta", "green", "yellow", "blue", "red")


def render(sentence: Mapping[str, Any]) -> Text:
    """Return one sentence with its entities marked: `[Ada Lovelace | person] was born in [London | location]`."""
    words = list(sentence["words"])
    entities = {e["start"]: e for e in sentence["entities"]}
    found, at = Text(), 0
    while at < len(words):
        if at:
            found.append(" ")
        entity = entities.get(at)
        if entity is None:
            found.append(words[at])
            at += 1
            continue
        tone = TONES[sum(map(ord, entity["type"])) % len(TONES)]
        found.append("[").append(entity["text"], style=f"bold {tone}").append(f" | {entity['type']}]")
        at = entity["end"]
    return found
