"""From a card to a file on this machine: the data folder, the cache, or a download of the pinned url."""

import hashlib
from pathlib import Path

from benchmark import paths
from benchmark.corpus.card import Card, SourceFile
from benchmark.errors import DataError, FetchError, NotHere

TIMEOUT = 10  # seconds without a sign of life; a download is tried once


def locate(card: Card, split: str, data: Path | None = None) -> Path:
    """Return the file of one split, its sha256 checked wherever the card states one.

    Looked for in the data folder (`data`, or CDNER_DATA), then in the cache, then at the card's url. An embedded
    file lies beside its card. Raises DataError for a file that is not the card's, FetchError where there is none.
    """
    source = card.source[split]
    if not isinstance(source, SourceFile):
        raise DataError(f"{card.path}: {card.name} has no {split} file. Ask for another split.")
    return _located(card, split, source, data)


def locate_knowledge(card: Card, data: Path | None = None) -> Path:
    """Return the file of explanations that a card names, found and checked like a split's.

    It is also looked for as `<corpus>.json` in the folder that CDNER_KNOWLEDGE names, before all else.
    """
    if card.knowledge is None:
        raise DataError(
            f"{card.path}: {card.name} names no explanations (`knowledge`); name a file of them: --file FILE."
        )
    folder = paths.knowledge_folder()
    if folder and not folder.is_dir():
        raise FetchError(f"{folder}: there is no such folder of explanations. Mend CDNER_KNOWLEDGE.")
    if folder and (given := folder / f"{card.name}.json").is_file():
        return _checked(given, card.knowledge, "Put the right file there.")
    return _located(card, "knowledge", card.knowledge, data)


def given_folder(data: Path | None) -> Path | None:
    """Return the folder of the user's corpora, if one is named. Raises FetchError where it is not there."""
    folder = paths.data_folder(data)
    if folder and not folder.is_dir():
        raise FetchError(f"{folder}: there is no such data folder. Mend --data or CDNER_DATA.")
    return folder


def _located(card: Card, split: str, source: SourceFile, data: Path | None) -> Path:
    if source.embedded:
        return _embedded(card, source, split)
    folder = given_folder(data)
    if folder and source.path and (given := folder / source.path).is_file():
        other = " Without --data and CDNER_DATA it is downloaded." if source.url else ""
        return _checked(given, source, f"Put the right file there.{other}")
    cached = _cached(card, split, source)
    if cached and cached.is_file():
        return _checked(cached, source, "Delete it, and it is downloaded again.")
    if not source.url or not cached:
        raise NotHere(_ways_out(card, split, source, cached, "and its card names no url"), card.name)
    _download(card, split, source, cached)
    return cached


def cache_path(card: Card, split: str) -> Path | None:
    """Return where the cache keeps the file of a split, or None for a file that no sha256 pins."""
    source = card.source[split]
    return _cached(card, split, source) if isinstance(source, SourceFile) else None


def _cached(card: Card, split: str, source: SourceFile) -> Path | None:
    if not source.sha256:
        return None
    suffix = Path(source.path or "").suffix or ".txt"
    return paths.cache_folder() / "data" / card.name / f"{split}-{source.sha256[:8]}{suffix}"


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _embedded(card: Card, source: SourceFile, split: str) -> Path:
    file = card.path.parent / str(source.embedded)
    if not file.is_file():
        raise FetchError(f"{card.path}: the embedded {split} file {file} does not exist. Put it there.")
    return _checked(file, source, "Put the right file there, or state its sha256 and raise `version`.")


def _checked(file: Path, source: SourceFile, remedy: str) -> Path:
    if not source.sha256:
        return file
    try:
        found = sha256(file)
    except OSError as error:
        raise DataError(f"{file}: the file cannot be read ({error.strerror}).") from error
    if found != source.sha256:
        raise DataError(f"{file}: its sha256 is {found}, the card says {source.sha256}. {remedy}")
    return file


def _download(card: Card, split: str, source: SourceFile, cached: Path) -> None:
    """Download to a temporary name beside `cached`, which pooch takes away unless the hash is right."""
    import pooch  # here, since it imports requests: slow, and rarely needed

    found = ""

    def get(url: str, output_file: str, mover: object) -> None:
        nonlocal found
        # The files are small: read whole, the connection is closed whatever happens.
        pooch.HTTPDownloader(timeout=TIMEOUT, stream=False)(url, output_file, mover)
        found = sha256(Path(output_file))

    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(source.url, source.sha256, cached.name, cached.parent, downloader=get)
    except (OSError, ValueError) as error:  # requests' exceptions are OSErrors; a wrong hash is a ValueError
        if found and isinstance(error, ValueError):
            raise FetchError(
                f"{source.url}: its sha256 is {found}, the card says {source.sha256}. Nothing was kept. "
                "If the source changed, ask for a new card; if the connection is at fault, try again."
            ) from error
        why = f"and the download failed ({_reason(error)})"
        raise NotHere(_ways_out(card, split, source, cached, why), card.name) from error


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    is_network = type(error).__module__.startswith("requests")  # their texts are long, and tell of Python objects
    return type(error).__name__ if is_network else str(error)


def _ways_out(card: Card, split: str, source: SourceFile, cached: Path | None, why: str) -> str:
    lines = [f"{card.name}: the {split} file is not on this machine, {why}. Any one of these helps:"]
    if source.path:
        lines.append(f"--data DIR, or CDNER_DATA, naming a folder that holds {source.path}")
    if split == "knowledge":
        lines.append(f"CDNER_KNOWLEDGE naming a folder that holds {card.name}.json")
    if cached:
        lines.append(f"the file copied to {cached}")
    if source.url:
        lines.append(f"a network connection to {source.url}")
    return "\n  ".join(lines)
