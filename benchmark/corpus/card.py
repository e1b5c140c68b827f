"""Cards: what a corpus is, where its files lie and which types it has.

A card is data, no code: one `<name>.yaml` a corpus. Everything checkable is checked on load, and a card that
cannot be believed is refused whole, with the field that is wrong.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import yaml

from benchmark import paths
from benchmark.errors import CardError, UnknownName, nearest

GENERAL = ("person", "organization", "location", "miscellaneous")
SPLITS = ("train", "dev", "test")

_FIELDS = ("name", "version", "about", "licence", "cite", "source", "format", "sizes", "types", "oddities", "knowledge")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class TypeCard:
    """An entity type: its key in the tags, its name in prose, and the general type that it belongs to."""

    key: str
    name: str
    general: str
    means: str = ""
    shares: str | None = None

    @property
    def identity(self) -> str:
        """What this type is across corpora: two corpora share a type when the identities are equal, case included."""
        return self.shares or self.key


@dataclass(frozen=True)
class SourceFile:
    """Where one file comes from: the user's data folder (`path`), a download (`url`), or beside the card."""

    url: str | None = None
    path: str | None = None
    embedded: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Cut:
    """A dev split that is cut off train: this share of its sentences."""

    share: float


@dataclass(frozen=True)
class Format:
    """How a file is laid out: its columns, what stands between them, and the tag scheme."""

    columns: tuple[str, ...] = ("word", "tag")
    separator: Literal["tab", "blank"] = "tab"
    scheme: str = "iob2"


@dataclass(frozen=True)
class Card:
    """A corpus on paper. `sizes` are sentences, words and mentions of the file as it is, before any cut.

    knowledge   a file of explanations of train's mentions (`corpus.knowledge`), where one is published
    """

    name: str
    version: int
    about: str
    licence: str
    cite: str
    source: dict[str, SourceFile | Cut | None]
    format: Format
    sizes: dict[str, tuple[int, int, int]]
    types: dict[str, TypeCard]
    oddities: tuple[str, ...]
    path: Path
    knowledge: SourceFile | None = None


def find_cards(extra: tuple[Path, ...] = ()) -> dict[str, Path]:
    """Return every card by name: the shipped ones, then those in the user's own folders (`paths.own_cards`).

    Raises CardError for a folder that does not exist, and for two cards of one name.
    """
    found: dict[str, Path] = {}
    for folder in (paths.shipped_cards(), *paths.own_cards(extra)):
        if not folder.is_dir():
            raise CardError(f"{folder}: there is no such folder of cards. Mend --cards or CDNER_CARDS.")
        for path in sorted(folder.glob("*.yaml")):
            first = found.setdefault(path.stem, path)
            if not first.samefile(path):
                raise CardError(f"{path}: the name {path.stem!r} is taken by {first}. Rename your card and its file.")
    return found


def load_card(name: str, extra: tuple[Path, ...] = ()) -> Card:
    """Return the checked card of the corpus `name`. Raises UnknownName or CardError."""
    cards = find_cards(extra)
    if name not in cards:
        known = ", ".join(cards) or "none"
        raise UnknownName(f"there is no corpus {name!r}.{nearest(name, cards)} There are: {known}.")
    return read_card(cards[name])


def read_card(path: Path) -> Card:
    """Return the checked card in the file `path`. Raises CardError, naming the file and the field or line."""
    top = _Part(path, "", _parse(path)).mapping(_FIELDS, required=("name", "source", "types"))
    name = _name(top["name"])
    types = _types(top["types"])
    source = _source(top["source"], name)
    return Card(
        name=name,
        version=top["version"].integer(1) if "version" in top else 1,
        about=_optional_text(top, "about"),
        licence=_optional_text(top, "licence"),
        cite=_optional_text(top, "cite"),
        source=source,
        format=_format(top["format"]) if "format" in top else Format(),
        sizes=_sizes(top["sizes"], source) if "sizes" in top else {},
        types=types,
        oddities=tuple(part.text() for part in top["oddities"].items()) if "oddities" in top else (),
        path=path,
        knowledge=_file(top["knowledge"], f"{name}/gtok.json") if "knowledge" in top else None,
    )


class OnceLoader(yaml.SafeLoader):
    """The safe loader, which refuses a key that stands twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        """Return the mapping, or raise ConstructorError at the second of two equal keys."""
        seen: set[object] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"the key {key.value!r} stands twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _parse(path: Path) -> object:
    try:
        return yaml.load(path.read_bytes(), OnceLoader)
    except OSError as error:
        raise CardError(f"{path}: the card cannot be read ({error.strerror}).") from error
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise CardError(f"{path}{line}: this is no YAML that a card may hold: {error.problem}.") from error
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise CardError(f"{path}: this is no YAML that a card may hold: {' '.join(str(error).split())}.") from error


@dataclass(frozen=True)
class _Part:
    """A value in a card and where it stands, so that every refusal names both."""

    card: Path
    where: str  # `types.port.general`; empty for the whole card
    value: object

    def refused(self, expected: str, hint: str = "") -> CardError:
        shown = repr(self.value)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        return CardError(f"{self.card}: {self.where or 'the card'} is {shown}, expected {expected}.{hint}")

    def mapping(self, known: Collection[str] = (), *, required: Collection[str] = ()) -> dict[str, "_Part"]:
        if not isinstance(self.value, dict):
            raise self.refused(f"a mapping with the keys {', '.join(known)}" if known else "a mapping")
        prefix = f"{self.where}." if self.where else ""
        for key in self.value:
            if not isinstance(key, str):
                raise CardError(f"{self.card}: {prefix}{key} has a key that is no text. Put it in quotes.")
            if known and key not in known:
                hint = nearest(key, known)
                raise CardError(
                    f"{self.card}: {prefix}{key} is no field of a card.{hint} There are: {', '.join(known)}."
                )
        for key in required:
            if key not in self.value:
                raise CardError(f"{self.card}: {prefix}{key} is missing. Add it.")
        return {key: _Part(self.card, f"{prefix}{key}", value) for key, value in self.value.items()}

    def items(self) -> list["_Part"]:
        if not isinstance(self.value, list):
            raise self.refused("a list")
        return [_Part(self.card, f"{self.where}[{i}]", value) for i, value in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.refused("text", " Put it in quotes if it looks like something else.")
        return self.value

    def word(self, expected: str) -> str:
        if not isinstance(self.value, str) or not self.value.strip():
            raise self.refused(expected)
        return self.value

    def one_of(self, options: tuple[str, ...]) -> str:
        if self.value not in options:
            raise self.refused(f"one of {', '.join(options)}", nearest(self.value, options))
        return str(self.value)

    def integer(self, least: int) -> int:
        if type(self.value) is not int or self.value < least:
            raise self.refused(f"a whole number, {least} or more")
        return self.value


def _optional_text(top: dict[str, _Part], key: str) -> str:
    return top[key].text() if key in top else ""


def _name(part: _Part) -> str:
    if not isinstance(part.value, str) or not _NAME.fullmatch(part.value):
        raise part.refused("lower-case letters, digits, - and _, beginning with a letter or digit")
    if part.value != part.card.stem:
        raise part.refused(f"the file's own name, {part.card.stem!r}", " Rename the one or the other.")
    return part.value


def _source(part: _Part, corpus: str) -> dict[str, SourceFile | Cut | None]:
    splits = part.mapping(SPLITS, required=("train", "test"))
    return {split: _origin(splits[split], corpus, split) if split in splits else None for split in SPLITS}


def _origin(part: _Part, corpus: str, split: str) -> SourceFile | Cut | None:
    if split == "dev":
        if part.value in ("none", None):
            return None
        if isinstance(part.value, dict) and "cut" in part.value:
            share = part.mapping(("cut",))["cut"]
            if not isinstance(share.value, float) or not 0 < share.value < 1:
                raise share.refused("a share of train between 0 and 1, such as 0.1")
            return Cut(share.value)
    return _file(part, f"{corpus}/{split}.txt")


def _file(part: _Part, usual: str) -> SourceFile:
    """Return where a file comes from; one with an address is looked for in the data folder as `usual`."""
    fields = part.mapping(("url", "path", "embedded", "sha256"))
    url, path, embedded = (fields.get(key) for key in ("url", "path", "embedded"))
    if not fields.keys() - {"sha256"}:
        raise part.refused("a url, a path or an embedded file")
    if embedded and (url or path):
        raise part.refused("either an embedded file, or a url and a path")
    if "sha256" not in fields and (url or embedded):
        raise CardError(f"{part.card}: {part.where}.sha256 is missing. A file that is fetched or embedded is pinned.")
    if url and (not isinstance(url.value, str) or not re.fullmatch(r"https?://[^\s/]+/\S+", url.value)):
        raise url.refused("an address that begins with https:// or http://")
    sha256 = fields.get("sha256")
    if sha256 and (not isinstance(sha256.value, str) or not _SHA256.fullmatch(sha256.value)):
        raise sha256.refused("64 hexadecimal digits in lower case")
    return SourceFile(
        url=url.text() if url else None,
        path=_relative(path) if path else usual if url else None,
        embedded=_relative(embedded) if embedded else None,
        sha256=sha256.text() if sha256 else None,
    )


def _relative(part: _Part) -> str:
    text = part.word("a relative path to a file")
    pure = PurePosixPath(text)
    if pure.is_absolute() or ".." in pure.parts or "\0" in text or not pure.name:
        raise part.refused("a relative path to a file, with no `..` in it")
    return text


def _format(part: _Part) -> Format:
    fields = part.mapping(("columns", "separator", "scheme"))
    given = Format()
    columns = given.columns
    if "columns" in fields:
        columns = tuple(column.word("the name of a column") for column in fields["columns"].items())
        if columns.count("word") != 1 or columns.count("tag") != 1:
            raise fields["columns"].refused("a list with word and tag in it, once each")
    separator = fields["separator"].one_of(("tab", "blank")) if "separator" in fields else given.separator
    if "scheme" in fields:
        fields["scheme"].one_of((given.scheme,))
    return Format(columns, "blank" if separator == "blank" else "tab")


def _sizes(part: _Part, source: dict[str, SourceFile | Cut | None]) -> dict[str, tuple[int, int, int]]:
    sizes = {}
    for split, size in part.mapping(SPLITS).items():
        if not isinstance(source[split], SourceFile):
            raise CardError(f"{size.card}: {size.where} is given, but the corpus has no {split} file. Remove it.")
        if not isinstance(size.value, list) or len(size.value) != 3:
            raise size.refused("three numbers: sentences, words, mentions")
        sentences, words, mentions = (item.integer(least) for item, least in zip(size.items(), (1, 1, 0), strict=True))
        if not sentences <= words >= mentions:
            raise size.refused("no more sentences nor mentions than words: sentences, words, mentions")
        sizes[split] = (sentences, words, mentions)
    return sizes


def _types(part: _Part) -> dict[str, TypeCard]:
    types: dict[str, TypeCard] = {}
    first: dict[tuple[str, str], str] = {}
    for key, entry in part.mapping().items():
        if not key or re.search(r"\s", key):
            raise CardError(f"{part.card}: {part.where} has the key {key!r}, expected a type without blanks.")
        fields = entry.mapping(("name", "general", "means", "shares"), required=("general",))
        types[key] = TypeCard(
            key=key,
            name=fields["name"].word("the type's name in words") if "name" in fields else key,
            general=fields["general"].one_of(GENERAL),
            means=_optional_text(fields, "means"),
            shares=fields["shares"].word("the identity that it shares") if "shares" in fields else None,
        )
        for what, value in (("name", types[key].name), ("identity", types[key].identity)):
            other = first.setdefault((what, value), key)
            if other != key:
                raise CardError(
                    f"{part.card}: {part.where}.{other} and {part.where}.{key} have the same {what}, {value!r}. "
                    "Make them differ, or a prediction could mean either."
                )
    if not types:
        raise part.refused("at least one type")
    return types
