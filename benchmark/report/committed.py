"""Tables that are committed beside their records: written from them, and checked against them.

<board>/table.md   strict F1 at both type levels, with intervals and ranks
<board>/table.csv  every protocol at both type levels, one line a row
any Markdown file  between `<!-- cdner table BOARD -->` and `<!-- end -->`: strict F1 over fine types
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmark.errors import RecordError
from benchmark.report import table
from benchmark.run.untrusted import RECORD_BYTES, contents
from benchmark.score.protocols import PROTOCOLS


def expected_files(name: str, folder: Path, cells: Sequence[Any]) -> dict[Path, str]:
    """Return the text that the board's committed tables must have."""
    records = table.load(folder)
    levels = [table.rows(cells, records, types=level) for level in table.LEVELS]
    laid_out = [table.with_evidence(table.tables(rows)) for rows in levels]
    shown = "\n".join(table.render(one, "markdown").rstrip("\n") + "\n" for one in laid_out)
    head = f"# {name}\n\nWritten from the records by `cdner table {name} --write`; do not edit.\n\n"
    every = [
        r for p in PROTOCOLS for level in table.LEVELS for r in table.rows(cells, records, protocol=p, types=level)
    ]
    return {folder / "table.md": head + shown, folder / "table.csv": table.render(every, "csv")}


def block(name: str, folder: Path, cells: Sequence[Any]) -> str:
    """Return the table that stands in a Markdown file between the board's marks."""
    return table.render(table.rows(cells, table.load(folder)), "markdown").strip("\n")


def _marks(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- cdner table {re.escape(name)} -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def write(name: str, folder: Path, cells: Sequence[Any], pages: Iterable[Path] = ()) -> list[Path]:
    """Write the board's tables, and the blocks in some Markdown pages. Returns the files written."""
    found = expected_files(name, folder, cells)
    for page in pages:
        found[page] = _replaced(page, name, block(name, folder, cells))
    for path, text in found.items():
        path.write_text(text, encoding="utf8", newline="\n")
    return list(found)


def check(name: str, folder: Path, cells: Sequence[Any], pages: Iterable[Path] = ()) -> None:
    """Raise RecordError, naming the files, where a committed table is not what its records say."""
    found = expected_files(name, folder, cells)
    for page in pages:
        found[page] = _replaced(page, name, block(name, folder, cells))
    wrong = [p for p, text in found.items() if not p.is_file() or p.read_bytes().decode("utf8", "replace") != text]
    if wrong:
        raise RecordError(
            f"{', '.join(str(p) for p in wrong)}: not what the records of {name} say. "
            f"Write it anew: cdner table {name} --write."
        )


def unfit(folder: Path, cells: Sequence[Any]) -> list[str]:
    """Return which of the committed tables in a folder are not what its records say; one that is not there is none.

    Whoever wrote them may have called the board something else: the name stands in the first line of table.md.
    """
    found: dict[str, str] = {}
    for name in ("table.md", "table.csv"):
        if os.path.lexists(folder / name):
            found[name] = contents(folder / name, RECORD_BYTES).decode("utf8", "replace")
    name = found.get("table.md", "").partition("\n")[0].removeprefix("# ") or folder.name
    wanted = expected_files(name, folder, cells) if found else {}
    return [path.name for path, text in wanted.items() if found.get(path.name, text) != text]


def _replaced(page: Path, name: str, text: str) -> str:
    try:
        old = page.read_text(encoding="utf8")
    except OSError as error:
        raise RecordError(f"{page}: the page cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise RecordError(f"{page}: this is no page of text ({error}); name a Markdown page in UTF-8.") from None
    if not _marks(name).search(old):
        raise RecordError(f"{page}: there is no `<!-- cdner table {name} -->` ... `<!-- end -->` in it; add the marks.")
    return _marks(name).sub(lambda m: m[1] + text + "\n" + m[3], old)
