"""A corpus' card, for a terminal."""

import textwrap

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmark.corpus.card import Card, Cut, SourceFile


def render(card: Card) -> RenderableType:
    """Return the card as something that rich prints: what it is, where from, how large, its types, its oddities."""
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    told = "" if card.knowledge is None else card.knowledge.url or _origin(card.knowledge)
    for name, value in (
        ("licence", card.licence), ("cite", card.cite), ("explanations", told), ("card", str(card.path))
    ):  # fmt: skip
        if value:
            facts.add_row(name, Text(value))
    sizes = Table(box=None, padding=(0, 2, 0, 0))
    sizes.add_column("split")
    for name in ("sentences", "words", "mentions"):
        sizes.add_column(name, justify="right")
    sizes.add_column("file", overflow="fold")
    for split, source in card.source.items():
        size = [f"{n:,}" for n in card.sizes.get(split, ())] or ["", "", ""]
        sizes.add_row(split, *size, Text(_origin(source)))
    types = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("type", "name", "general", "means"):
        types.add_column(name, overflow="fold")
    for t in card.types.values():
        types.add_row(t.key, t.name, t.general, Text(t.means + (f" (shares {t.shares})" if t.shares else "")))
    parts: list[RenderableType] = [
        Text(f"{card.name}, version {card.version}", style="bold"), Text(card.about), "", facts, "", sizes, "", types,
    ]  # fmt: skip
    if card.oddities:
        lines = (textwrap.fill(o, 96, initial_indent="- ", subsequent_indent="  ") for o in card.oddities)
        parts += ["", Text("oddities"), Text("\n".join(lines))]
    return Group(*parts)


def _origin(source: SourceFile | Cut | None) -> str:
    if source is None:
        return "none"
    if isinstance(source, Cut):
        return f"{source.share:.0%} cut from train by a hash of the words"
    return source.embedded or source.path or source.url or ""
