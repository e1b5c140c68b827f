"""Column files to words and tags, refusing whatever would have to be guessed.

What files in the wild have is survived: CRLF, a missing last line end, a byte-order mark, runs of blank lines, odd
blanks around a tag. What would change a score is refused, with its file and line. Nothing is repaired in silence.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from benchmark.errors import DataError, nearest

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # category Cc, but for the tab and the line end
_TAG = re.compile(r"O|[BI]-\S+")


def read(
    path: Path, *, columns: Sequence[str], separator: str, types: Collection[str]
) -> list[tuple[list[str], list[str]]]:
    """Return the sentences of a file, each as its words and its legal IOB2 tags.

    columns    what stands in each column; `word` and `tag` are read, the others are ignored
    separator  `tab`, or `blank` for any run of blanks and tabs
    types      the types that a tag may have

    Raises DataError: `{path}:{line}: ...`, or `{path}: ...` for a file with no sentences.
    """
    width, word_at, tag_at = len(columns), columns.index("word"), columns.index("tag")
    split = _at_tabs if separator == "tab" else _at_blanks
    checked: dict[str, tuple[str, str]] = {}  # a tag as it stands -> the tag, its type
    sentences: list[tuple[list[str], list[str]]] = []
    words: list[str] = []
    tags: list[str] = []
    before = ""  # the type of the mention that an I- could continue
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip(" \t"):
            if words:
                sentences.append((words, tags))
                words, tags = [], []
            before = ""
            continue
        parts = split(line)
        try:
            if len(parts) != width:
                parts = _of_width(parts, width, line)
            word, raw = parts[word_at], parts[tag_at]
            if not word.strip():
                raise ValueError(f"the word is empty: {line!r}. Mend the line.")
            if word[0] == " " or word[-1] == " ":
                raise ValueError(f"the word {word!r} begins or ends with a blank. Mend the line.")
            tag, type_ = checked.get(raw) or checked.setdefault(raw, _check_tag(raw.strip(" "), types))
            if type_ != before and tag[0] == "I":
                follows = f"a mention of type {before!r}" if before else "O" if words else "the start of a sentence"
                raise ValueError(f"the tag {tag!r} continues nothing: it follows {follows}. Mend the line.")
        except ValueError as error:
            raise DataError(f"{path}:{number}: {error}") from None
        words.append(word)
        tags.append(tag)
        before = type_
    if words:
        sentences.append((words, tags))
    if not sentences:
        raise DataError(f"{path}: the file has no sentences. Put the right file there.")
    return sentences


def _text(path: Path) -> str:
    """Return the text of a file, with `\\n` at the end of every line, no byte-order mark and no control character."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read ({error.strerror}).") from error
    try:
        text = content.decode().removeprefix("\ufeff").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found = f"0x{content[error.start]:02x}"
        raise DataError(f"{path}:{line}: the byte {found} is no UTF-8. Convert the file to UTF-8.") from error
    if control := _CONTROL.search(text):
        line = text.count("\n", 0, control.start()) + 1
        raise DataError(f"{path}:{line}: the control character U+{ord(control[0]):04X} stands in it. Mend the line.")
    return text


def _at_tabs(line: str) -> list[str]:
    return line.split("\t")


def _at_blanks(line: str) -> list[str]:
    # Not `line.split()`, which would also split at a no-break space or at U+2028.
    return [part for part in line.replace("\t", " ").split(" ") if part]


def _of_width(parts: list[str], width: int, line: str) -> list[str]:
    """Return `parts` without blank ends, if that makes them fit."""
    if len(parts) > width and not "".join(parts[width:]).strip(" "):
        return parts[:width]
    fault = "no tag" if len(parts) == 1 else f"{len(parts)} columns"
    raise ValueError(f"the line has {fault}, expected {width} columns: {line!r}. Mend it, or the card's `format`.")


def _check_tag(tag: str, types: Collection[str]) -> tuple[str, str]:
    if not tag:
        raise ValueError("the line has no tag. Mend it, or the card's `format`.")
    if not _TAG.fullmatch(tag):
        raise ValueError(f"{tag!r} is no IOB2 tag, expected O, B-<type> or I-<type>.")
    type_ = tag[2:]
    if type_ and type_ not in types:
        known = ", ".join(types)
        raise ValueError(f"the card has no type {type_!r}.{nearest(type_, types)} There are: {known}.")
    return tag, type_
