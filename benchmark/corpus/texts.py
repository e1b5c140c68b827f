"""Text, a unit at a time: lines of a file, explanations of a file, or those that a corpus' card pins."""

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from benchmark.corpus import knowledge
from benchmark.corpus.card import load_card
from benchmark.errors import DataError


def units(
    name: str, *, unit: Literal["line", "sentence"] = "line", data: Path | None = None, cards: tuple[Path, ...] = ()
) -> Iterator[str]:
    """Yield the units of a text, one after another: nothing is held.

    name   a file, a unit a line (.gz too); a .json of explanations; or a corpus
    unit   `sentence`: each line, or explanation, is cut into its sentences

    Raises DataError for a file that is no text or no explanations, UnknownName for what is neither file nor corpus.
    """
    path = Path(name).expanduser()
    lines: Iterable[str]
    if path.suffix == ".json":
        lines = (one.explanation for one in knowledge.read(path))
    elif path.is_file():
        lines = _lines(path)
    else:
        lines = (one.explanation for one in knowledge.published(load_card(name, cards), data))
    for line in lines:
        yield from knowledge.sentences(line) if unit == "sentence" else (line,)


def _lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf8") if path.suffix == ".gz" else path.open(encoding="utf8") as stream:
        try:
            yield from stream
        except (UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path}: this is no text in UTF-8 ({error}).") from None


def prepared(lines: Iterator[str], *, tokens: Literal["blanks", "words"], lower: bool) -> Iterator[str]:
    """Return units whose tokens stand between blanks: as they do, or with every mark alone; folded, if asked."""
    if lower:
        lines = (line.lower() for line in lines)
    if tokens == "words":
        lines = (re.sub(r"([^\w\s])", r" \1 ", line) for line in lines)
    return lines
