"""Keys, tokens and passwords become `***` wherever text leaves cdner: logs, records, messages.

Two things count as secret: the value of an environment variable that is named like one, wherever it stands; and what
looks like a key by itself. Hashes, stage keys and commits are neither.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

MASK = "***"
SHORTEST = 8  # characters; a shorter value is likelier a word that the text needs

NAMED = re.compile(r"(?:^|_)(?:KEY|KEY_ID|TOKEN|SECRET|PAT|CREDENTIALS?)$|(?:PASSWORD|PASSWD|PASSPHRASE)$")

# pattern, what stands in its place, and pieces of which one stands, case folded, in all that it matches: most texts
# have none, and to look for a piece is a hundred times faster
LOOKS: tuple[tuple[re.Pattern[str], str, tuple[str, ...]], ...] = tuple(
    (re.compile(pattern), replacement, pieces)
    for pattern, replacement, pieces in (
        (r"(?<![A-Za-z0-9])sk-(?=[\w-]{0,200}\d)[\w-]{12,}", MASK, ("sk-",)),  # OpenAI, Anthropic and who follows them
        (r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{16,}", MASK, ("hf_",)),
        (r"(?<![A-Za-z0-9])wandb_v\d_\w{16,}", MASK, ("wandb_v",)),
        (
            r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{20,})",
            MASK,
            ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-"),
        ),
        (r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])", MASK, ("akia", "asia")),
        (r"(?<![A-Za-z0-9])AIza[\w-]{35}", MASK, ("aiza",)),
        (r"(?<![A-Za-z0-9])xox[abeoprs]-[A-Za-z0-9-]{10,}", MASK, ("xox",)),
        (r"(?<![\w-])eyJ[\w-]{10,}\.eyJ[\w-]{10,}(?:\.[\w-]*)?", MASK, (".eyj",)),  # a JSON web token
        (
            r"(?i)\b(authorization[\"']?[ \t]*[:=][ \t]*[\"']?(?:(?:bearer|basic|token)[ \t]+)?+)[\w.~+/=-]{4,}",
            rf"\g<1>{MASK}",
            ("authorization",),
        ),
        (
            r"\b([Bb]earer[ \t]+)(?:(?=[\w.~+/=-]{0,200}\d)[\w.~+/=-]{8,}|[\w.~+/=-]{20,})",
            rf"\g<1>{MASK}",
            ("bearer",),
        ),
        (
            r"(?i)((?:api[_ -]?key|wandb)(?:[_ -](?:key|login|token))?[\"']?[ \t]*(?:[:=]|is\b)?[ \t]*[\"']?)"
            r"[0-9a-f]{40}(?![0-9a-z])",
            rf"\g<1>{MASK}",
            ("apikey", "api_key", "api key", "api-key", "wandb"),
        ),
        (r"(://)[^\s/:@\"'<>]*:[^\s/@\"'<>]+@", rf"\g<1>{MASK}@", ("://",)),
        (
            r"(?i)([?&](?:api_?key|(?:access_?|auth_?)?token|secret|password|X-Amz-(?:Signature|Security-Token))=)"
            r"(?!\*)[^&\s\"'#<>]{4,}",
            rf"\g<1>{MASK}",
            ("key=", "token=", "secret=", "password=", "signature="),
        ),
    )
)


def secrets() -> tuple[str, ...]:
    """Return the values of the environment variables that are named like secrets, the longest first.

    Of a value of several lines (a private key), each line is one more. Left out: what has fewer than 8 characters,
    numbers, and paths (of the file that a key lies in).
    """
    found: set[str] = set()
    for name, value in os.environ.items():
        if not NAMED.search(name.upper()):
            continue
        value = value.strip()
        found.update(v for v in (value, *map(str.strip, value.splitlines())) if _is_secret(v))
    return tuple(sorted(found, key=lambda v: (-len(v), v)))


def redact(text: str) -> str:
    """Return the text with `***` in place of every secret and of everything that looks like a key.

    >>> redact("GET https://me:pass@example.org with Bearer abcdef0123456789")
    'GET https://***@example.org with Bearer ***'
    >>> redact("commit 8b63d888c66b069ec5edad64a7da9c5104dd94e0")
    'commit 8b63d888c66b069ec5edad64a7da9c5104dd94e0'
    """
    return _redactor(secrets())(text)


def redact_file(path: Path) -> bool:
    """Rewrite a file without its secrets. Returns whether there were any; where there were none, it stays untouched.

    The file is read line by line, and replaced whole or not at all. Bytes that are no UTF-8 are kept.
    """
    clean, target = _redactor(secrets()), path.resolve()
    with _opened(target) as lines:
        if all(clean(line) == line for line in lines):
            return False
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
    try:
        with open(handle, "w", encoding="utf8", errors="surrogateescape", newline="") as stream:
            with _opened(target) as lines:
                stream.writelines(map(clean, lines))
            stream.flush()
            os.fsync(stream.fileno())
        shutil.copymode(target, name)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return True


def _opened(path: Path) -> TextIO:
    return path.open(encoding="utf8", errors="surrogateescape", newline="")  # a carriage return ends a line too


def _is_secret(value: str) -> bool:
    if len(value) < SHORTEST or not value.strip("*"):
        return False
    return not (_is_number(value) or _is_path(value))


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _is_path(value: str) -> bool:
    """Return whether a value is a path rather than a secret that begins with a slash, as base64 may."""
    if value.startswith(("~/", "./", "../", "file:")) or re.match(r"[A-Za-z]:[\\/]", value):
        return True
    first = value[1:].partition("/")[0]
    return value.startswith("/") and bool(first) and os.path.isdir(f"/{first}")


@lru_cache(maxsize=8)
def _redactor(values: tuple[str, ...]) -> Callable[[str], str]:
    """Return the function that redacts these values, and what looks like a key."""
    forms = {form for value in values for form in _forms(value)}
    longest_first = sorted(forms, key=lambda v: (-len(v), v))  # of two that begin alike, all of the longer one goes
    known = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def once(text: str) -> str:
        if known is not None:
            text = known.sub(MASK, text)
        folded = text.casefold().replace("\u0131", "i").replace("i\u0307", "i")  # (?i) takes every kind of i for one
        for pattern, replacement, pieces in LOOKS:
            if any(piece in folded for piece in pieces):
                text = pattern.sub(replacement, text)
        return text

    def clean(text: str) -> str:
        while (cleaner := once(text)) != text:  # what stood around a secret may now be one
            text = cleaner
        return text

    return clean


def _forms(value: str) -> set[str]:
    """Return how a value may stand in a text: as it is, in JSON, in a URL."""
    in_json = {json.dumps(value, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    written = {value, *in_json, quote(value, safe="", errors="surrogateescape")}
    return {form for form in written if len(form) >= SHORTEST}
