"""Text, a unit at a time: lines of a file, words of a split, explanations of a file, or those that a card pins."""

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from benchmark.corpus import knowledge
from benchmark.corpus.card import find_cards, load_card
from benchmark.corpus.corpus import Split
from benchmark.errors import DataError, UnknownName, nearest

Unit = Literal["line", "sentence"]
EXPECTED = "expected text in UTF-8, a unit a line"
HEAD = 1 << 16  # bytes of a file that are looked at before any text is read


def units(name: str, *, unit: Unit = "line", data: Path | None = None, cards: tuple[Path, ...] = ()) -> Iterator[str]:
    """Return the units of a text, one after another: no line is held.

    name   a file, a unit a line (.gz too); a .jsonl split that cdner wrote; a .json of explanations; or a corpus
    unit   `sentence`: each line, explanation, or sentence of a split, is cut into its sentences

    What the text is, is looked at now, and a file's first bytes; all else when it is read. Raises DataError for what
    is no text, is empty or a folder, UnknownName for what is neither file nor corpus.
    """
    return cut(_found(name, data, cards), unit)


def cut(lines: Iterable[str], unit: Unit) -> Iterator[str]:
    """Yield lines, or their sentences."""
    for line in lines:
        yield from knowledge.sentences(line) if unit == "sentence" else (line,)


def _found(name: str, data: Path | None, cards: tuple[Path, ...]) -> Iterable[str]:
    """Return the lines of what a name stands for: a file before a corpus, a corpus before a folder."""
    if name == "-":
        raise DataError("-: expected the name of a file or a corpus. Standard input is called /dev/stdin.")
    path = Path(name).expanduser()
    if path.is_dir() or not path.exists():
        known = find_cards(cards)
        if name in known:
            return [one.explanation for one in knowledge.published(load_card(name, cards), data)]
        if path.is_dir():
            raise DataError(f"{name}: this is a folder, expected a file or a corpus. Name the files that are in it.")
        raise UnknownName(
            f"{name}: there is no such file, and no corpus of that name.{nearest(name, known)} Name a file of text, "
            f"or a corpus: {', '.join(known)}."
        )
    kind = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if kind in (".json", ".jsonl") and path.suffix == ".gz":
        raise DataError(f"{path}: a packed {kind} is not read. Unpack it first: gunzip --keep {path}")
    if kind == ".json":
        return _some(path, [one.explanation for one in knowledge.read(path)], "expected explanations of mentions")
    if kind == ".jsonl":
        return _some(path, spoken(_split(path)), "expected the sentences of a split")
    if path.is_file():  # what is piped can be read once
        _look(path)
    return _lines(path)


def _some(path: Path, lines: list[str], expected: str) -> list[str]:
    if not any(map(str.strip, lines)):
        raise DataError(f"{path}: this is empty, {expected}. Name another file.")
    return lines


def spoken(split: Split) -> list[str]:
    """Return the sentences of a split, blanks between their words. Those without a word are left out."""
    return [" ".join(sentence.words) for sentence in split.sentences if sentence.words]


def _split(path: Path) -> Split:
    try:
        return Split.from_jsonl(path)
    except DataError as error:
        where = str(error).partition(": this is no line")[0]
        raise DataError(
            f"{where}: this is no line of a split. Of .jsonl those alone are read that cdner wrote, such as "
            "split.jsonl; write other text to a .txt, a unit a line."
        ) from error


def _opened(path: Path) -> io.BufferedReader | gzip.GzipFile:
    return gzip.GzipFile(path) if path.suffix == ".gz" else path.open("rb")


def _look(path: Path) -> None:
    """Raise DataError where the beginning of a file tells that it is no text."""
    try:
        with _opened(path) as stream:
            head = stream.read(HEAD)
        if not head:
            raise DataError(f"{path}: this is empty, {EXPECTED}. Name another file.")
        codecs.getincrementaldecoder("utf8")().decode(head)
        if b"\0" in head:
            raise _binary(str(path))
    except (UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        raise _unreadable(path, error) from None


def _lines(path: Path) -> Iterator[str]:
    try:
        with _opened(path) as packed, io.TextIOWrapper(packed, encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if "\0" in line:
                    raise _binary(f"{path}:{number}")
                yield line
    except (UnicodeDecodeError, EOFError, OSError, zlib.error) as error:
        raise _unreadable(path, error) from None


def _binary(where: str) -> DataError:
    return DataError(f"{where}: there are NUL bytes in it, so this is binary; {EXPECTED}. Convert it first.")


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, UnicodeDecodeError):
        return DataError(f"{path}: this is no text in UTF-8 ({error}); {EXPECTED}. Convert it first.")
    why = (error.strerror if isinstance(error, OSError) else None) or error
    if path.suffix == ".gz":
        return DataError(f"{path}: this cannot be unpacked ({why}); expected text packed by gzip. Pack it anew.")
    return DataError(f"{path}: this cannot be read ({why}); {EXPECTED}. Mend its permissions, or name another file.")


def prepared(lines: Iterator[str], *, tokens: Literal["blanks", "words"], lower: bool) -> Iterator[str]:
    """Return units whose tokens stand between blanks: as they do, or with every mark alone; folded, if asked."""
    if lower:
        lines = (line.lower() for line in lines)
    if tokens == "words":
        lines = (re.sub(r"([^\w\s])", r" \1 ", line) for line in lines)
    return lines
