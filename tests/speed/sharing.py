"""What sharing stages saves over the board `minilm`, from its committed records."""

import json
from pathlib import Path

RECORDS = Path(__file__).resolve().parents[2] / "results" / "minilm" / "records"


def measure() -> list[tuple[str, float, str]]:
    """Return how many stages the cells refer to for each that was built, and the same in time."""
    seconds: dict[str, float] = {}
    references, alone = 0, 0.0
    for path in RECORDS.rglob("*.json"):
        for stage in json.loads(path.read_text(encoding="utf8"))["stages"]:
            seconds[stage["key"]] = stage["seconds"]
            references += 1
            alone += stage["seconds"]
    return [
        ("board minilm: stages, each cell alone against shared", references / len(seconds), ""),
        ("board minilm: time, each cell alone against shared", alone / sum(seconds.values()), ""),
    ]
