"""Steps that do nothing. Every stage's process imports this file, so it imports next to nothing itself."""

from pathlib import Path

from benchmark.corpus.corpus import Split
from benchmark.work import Work


def link(work: Work, *, before: Path | None, number: int, seed: int) -> None:
    """Write one small file."""
    (work.folder / "number.txt").write_text(str(number))


def nothing_found(work: Work, *, before: Path, words: Split) -> None:
    """Predict no span in any sentence."""
    with (work.folder / "predictions.jsonl").open("w", encoding="utf8") as stream:
        stream.writelines(f'{{"id": "{s.id}", "spans": []}}\n' for s in words.sentences)
