"""Which language model is asked, and how: all of it shapes an answer, and is part of a stage's key. Keys are not.

Settings of the environment:

    CDNER_LLM_MODEL      the model, where a variant names none
    CDNER_LLM_BASE_URL   the server, where a variant names none; else OPENAI_BASE_URL, else OpenAI's
    CDNER_LLM_API_KEY    its key; OPENAI_API_KEY is sent to OpenAI and to OPENAI_BASE_URL, and to no other server
"""

import os
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from benchmark.errors import PlanError

OPENAI = "https://api.openai.com/v1"
LOCAL = "local"  # in place of a server's address: the model runs in the stage's own process


@dataclass(frozen=True)
class Llm:
    """A language model, where it answers, and how its answers are drawn.

    base_url      address of the server, or `local`
    temperature   0: the likeliest word each time. None: the server's own, for models that take no other
    max_tokens    of an answer, at most
    seed          None where nothing is drawn
    weights       of a local model: hash or revision
    folder        of a local model: where it lies; not part of any key
    """

    model: str
    base_url: str = OPENAI
    temperature: float | None = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int | None = None
    weights: str = ""
    folder: str | None = None

    @property
    def needs(self) -> str:
        """Return what a stage keeps busy that asks it: a GPU, or a server elsewhere."""
        return "gpu" if self.base_url == LOCAL else "llm"

    def ingredient(self) -> dict[str, Any]:
        """Return what of this goes into keys, of stages and of answers: all but the folder."""
        return {name: value for name, value in asdict(self).items() if name != "folder"}


def model_name(named: str, default: str) -> str:
    """Return the model that a variant names, else that of CDNER_LLM_MODEL, else `default`."""
    return named or os.environ.get("CDNER_LLM_MODEL", "") or default


def base_url(named: str = "") -> str:
    """Return the address of the server that a variant names, else that of the environment, else OpenAI's.

    Raises PlanError for what is no plain address: it stands in keys and records, so no password may.
    """
    given = named or os.environ.get("CDNER_LLM_BASE_URL", "") or os.environ.get("OPENAI_BASE_URL", "") or OPENAI
    parts = urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PlanError(f"the base URL of a language model is {given!r}, expected one such as {OPENAI}.")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise PlanError(
            f"the base URL of a language model at {parts.hostname} has a password or a query in it; it stands in "
            "records, so leave them out. A key goes into CDNER_LLM_API_KEY."
        )
    return given.rstrip("/")


def api_key(url: str) -> str | None:
    """Return the key for a server; None where there is none for it."""
    own = os.environ.get("CDNER_LLM_API_KEY", "").strip()
    at_home = {OPENAI, os.environ.get("OPENAI_BASE_URL", "").rstrip("/")}
    return own or (os.environ.get("OPENAI_API_KEY", "").strip() if url in at_home else "") or None
