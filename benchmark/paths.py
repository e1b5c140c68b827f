"""Where things lie: cards, boards, results, the cache and the store.

In a checkout, cards stand in `datasets/` and boards in `results/`, beside this package. In an installed wheel
both travel inside the package, as `_cards` and `_boards`, and the papers' numbers as `_published`.
"""

import os
from pathlib import Path

import platformdirs

from benchmark.errors import StoreError

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent


def shipped_cards() -> Path:
    """Return the folder of the cards that come with cdner."""
    packed = PACKAGE / "_cards"
    return packed if packed.is_dir() else CHECKOUT / "datasets"


def shipped_boards() -> Path:
    """Return the folder of the boards that come with cdner."""
    packed = PACKAGE / "_boards"
    return packed if packed.is_dir() else CHECKOUT / "results"


def published_folders() -> tuple[Path, ...]:
    """Return the folders of published numbers: `published` in the folder of boards, then those that come with cdner."""
    packed = PACKAGE / "_published"
    return results_folder() / "published", packed if packed.is_dir() else CHECKOUT / "results" / "published"


def own_cards(extra: tuple[Path, ...] = ()) -> tuple[Path, ...]:
    """Return the user's own card folders: those named by `--cards`, then those in CDNER_CARDS (`:` between them)."""
    named = os.environ.get("CDNER_CARDS", "")
    return (*extra, *(Path(part).expanduser() for part in named.split(os.pathsep) if part))


def data_folder(given: Path | None = None) -> Path | None:
    """Return the folder named by `--data` or CDNER_DATA, or None."""
    named = os.environ.get("CDNER_DATA", "")
    return given or (Path(named).expanduser() if named else None)


def knowledge_folder() -> Path | None:
    """Return the folder of files of explanations, `<corpus>.json`, that CDNER_KNOWLEDGE names, or None."""
    named = os.environ.get("CDNER_KNOWLEDGE", "")
    return Path(named).expanduser() if named else None


def cache_folder() -> Path:
    """Return the folder of downloads: CDNER_CACHE, or the user's cache folder."""
    named = os.environ.get("CDNER_CACHE", "")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("cdner"))


def store_folder() -> Path:
    """Return the folder of artefacts: CDNER_STORE, or `store` in the cache folder."""
    named = os.environ.get("CDNER_STORE", "")
    return Path(named).expanduser() if named else cache_folder() / "store"


def engine_file(given: Path | None = None) -> Path | None:
    """Return the file of engines' options: the given one, CDNER_ENGINE, or `engine.yaml` in the user's config folder.

    None where nothing names one and the last is not there.
    """
    named = os.environ.get("CDNER_ENGINE", "")
    if given or named:
        return (given or Path(named)).expanduser()
    usual = Path(platformdirs.user_config_dir("cdner")) / "engine.yaml"
    return usual if usual.is_file() else None


def answers_folder(store: Path) -> Path:
    """Return the folder of language models' kept answers: CDNER_ANSWERS, or `answers` in the store."""
    named = os.environ.get("CDNER_ANSWERS", "")
    return Path(named).expanduser() if named else store / "answers"


def lease_seconds() -> float:
    """Return how long a lease lives without a heartbeat: CDNER_LEASE_SECONDS, or a minute.

    Every process on one store must count alike. Raises StoreError for what is no such number.
    """
    return positive_seconds("CDNER_LEASE_SECONDS", 60.0, least=0.1)


def checkpoint_seconds() -> float:
    """Return the least time between two checkpoints of a stage: CDNER_CHECKPOINT_SECONDS, or a minute."""
    return positive_seconds("CDNER_CHECKPOINT_SECONDS", 60.0)


def positive_seconds(name: str, default: float, least: float = 0.0) -> float:
    """Return the seconds that an environment variable names. Raises StoreError for what is no such number."""
    named = os.environ.get(name, "")
    try:
        found = float(named) if named else default
    except ValueError:
        found = -1.0
    if not least <= found < 1e9:
        raise StoreError(f"{name} is {named!r}, expected a number of seconds, such as {default:g}.")
    return found


def results_folder() -> Path:
    """Return the folder of boards: CDNER_RESULTS, `results` in the current folder, or the checkout's."""
    named = os.environ.get("CDNER_RESULTS", "")
    if named:
        return Path(named).expanduser()
    here = Path.cwd() / "results"
    checkout = CHECKOUT / "results"
    return checkout if not here.is_dir() and checkout.is_dir() else here
