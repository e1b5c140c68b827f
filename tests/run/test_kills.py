"""A board that is killed again and again ends with the records of one that never was.

The harness, the fork server or a stage is ended with a random signal at a random moment of a random phase, until there
have been enough kills; a board that is finished meanwhile is compared and begun anew. CDNER_KILLS says how many kills
(default: a few), CDNER_KILLS_SEED which.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from tests.models.conftest import save_bert

KILLS = int(os.environ.get("CDNER_KILLS", "6"))
SEED = int(os.environ.get("CDNER_KILLS_SEED", "1"))
TRAINING = {
    "source_epochs": 2, "epochs": 3, "lr": 1e-3, "batch": 8, "precision": "32", "warmup": 0.1, "schedule": "linear",
}  # fmt: skip
TRANSFERS = [{"sources": ["demo-news"], "targets": ["demo-cinema", "demo-astronomy"], "regime": "supervised"}]
PHASES = {  # what the harness is waited for to have done, and the seconds after it within which it is hit
    "start": 6.0,
    "lease": 0.3,
    "scratch": 1.5,
    "checkpoint": 0.5,
    "artefact": 0.05,
    "record": 0.02,
}
WHO = ("harness", "harness", "server", "stage")
HOW = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Place:
    """A board with folders of its own, and the processes that run it."""

    def __init__(self, root: Path, encoder: Path):
        self.root, self.store = root, root / "store"
        self.board = root / "results" / "kills"
        self.board.mkdir(parents=True)
        plan = {
            "variants": {
                "tagger": {"method": "tagger", "set": {"encoder": str(encoder), **TRAINING}},
                "crf": {"method": "tagger", "set": {"encoder": str(encoder), "crf": True, **TRAINING}},
            },
            "transfers": TRANSFERS,
        }
        (self.board / "plan.yaml").write_text(yaml.safe_dump(plan))
        self.environment = {
            **os.environ, "CDNER_STORE": str(self.store), "CDNER_CHECKPOINT_SECONDS": "0.1",
            "CDNER_LEASE_SECONDS": "3", "HF_HUB_OFFLINE": "1",
        }  # fmt: skip

    def start(self) -> subprocess.Popen:
        command = [sys.executable, "-m", "benchmark.cli", "run", str(self.board), "--slots", "2", "--threads", "1"]
        with (self.root / "out.txt").open("a") as out:
            return subprocess.Popen(
                [*command, "--no-table"], stdout=out, stderr=out, env=self.environment, start_new_session=True
            )

    def finish(self) -> None:
        """Run the board to its end."""
        run = self.start()
        if run.wait(timeout=300):
            raise AssertionError(self.output())

    def output(self) -> str:
        return (self.root / "out.txt").read_text()[-6000:]

    def marks(self) -> dict[str, set[str]]:
        """Return what there is of everything that shows how far the harness is."""
        return {
            "start": set(),
            "lease": names(self.store / "leases", "*.lock"),
            "scratch": names(self.store / "scratch", "*/request.json"),
            "checkpoint": names(self.store / "partial", "*/*"),
            "artefact": names(self.store / "stages", "*"),
            "record": names(self.board / "records", "**/*.json"),
        }

    def outcome(self) -> dict[str, object]:
        """Return what must not hang on how often a board was ended."""
        found = {}
        for path in sorted((self.board / "records").rglob("*.json")):
            record = json.loads(path.read_text())
            packed = path.with_name(path.name.replace(".json", ".predictions.jsonl.gz")).read_bytes()
            assert hashlib.sha256(packed).hexdigest() == record["predictions"]["sha256"]
            keys = [stage["key"] for stage in record["stages"]]
            found[record["cell"]] = [record["status"], record["final"], keys, record["predictions"], record["scores"]]
        return found

    def counted_once(self) -> bool:
        """Return whether the cells together cost what the stages cost."""
        stages = [json.loads(path.read_text()) for path in (self.store / "stages").glob("*/manifest.json")]
        records = [json.loads(path.read_text()) for path in (self.board / "records").rglob("*.json")]
        spent = sum(record["cost"]["spent_seconds"] for record in records)
        return abs(spent - sum(stage["spent_seconds"] for stage in stages)) < 0.1 * len(records)

    def left_behind(self) -> list[str]:
        """Return what a finished board leaves that nobody needs."""
        folders = ("scratch", "partial", "attempts", "leases")
        return [str(p) for name in folders for p in (self.store / name).iterdir()] + [
            str(p) for p in (self.board / "records").rglob(".*")
        ]


def names(folder: Path, pattern: str) -> set[str]:
    return {str(path) for path in folder.glob(pattern)} if folder.is_dir() else set()


def family(run: subprocess.Popen) -> dict[str, list[psutil.Process]]:
    """Return the processes of a run: the harness, its fork server, the stages."""
    try:
        harness = psutil.Process(run.pid)
        servers = [p for p in harness.children() if "benchmark.run.worker" in p.cmdline()]
        stages = [child for server in servers for child in server.children()]
    except psutil.Error:
        return {"harness": [], "server": [], "stage": []}
    return {"harness": [harness], "server": servers, "stage": stages}


def wait_for_phase(place: Place, run: subprocess.Popen, phase: str, before: dict[str, set[str]]) -> bool:
    """Wait until something new of a phase is there. Returns whether the run still runs then."""
    deadline = time.monotonic() + 30
    while phase != "start" and run.poll() is None and not place.marks()[phase] - before[phase]:
        if time.monotonic() > deadline:
            return True
        time.sleep(0.002)
    return run.poll() is None


def strike(place: Place, chance: random.Random, told: list[str]) -> bool:
    """Start the board, and end a part of it in some phase. Returns whether anything was hit."""
    phase, who, how = chance.choice(list(PHASES)), chance.choice(WHO), chance.choice(HOW)
    before = place.marks()
    run = place.start()
    hit = False
    if wait_for_phase(place, run, phase, before):
        time.sleep(chance.uniform(0, PHASES[phase]))
        everyone = family(run)
        all_of_them = [p for group in everyone.values() for p in group]
        for victim in everyone[who][:1]:
            try:
                victim.send_signal(how)
                hit = True
            except psutil.Error:
                continue
        told.append(f"{place.root.name}, {phase}: {how.name} to the {who}" + ("" if hit else ", which was not there"))
        harness_too = who != "harness" and chance.random() < 0.7
        if harness_too:  # let it notice, or not, and end the harness too
            time.sleep(chance.uniform(0, 1.5))
            run.kill()
            told[-1] += ", then SIGKILL to the harness"
        print(told[-1], flush=True)
        if who == "harness" or harness_too:
            run.wait(timeout=60)
            _, alive = psutil.wait_procs(all_of_them, timeout=20)
            assert not alive, f"{told[-1]}: {alive} outlived it"
    run.wait(timeout=300)
    return hit


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


def test_random_kills_change_nothing(tmp_path, encoder):
    chance = random.Random(SEED)
    quiet = Place(tmp_path / "quiet", encoder)
    quiet.finish()
    expected = quiet.outcome()
    assert len(expected) == 4
    assert all(status == "ok" for status, *_ in expected.values())

    kills, rounds, told = 0, 0, []
    while kills < KILLS:
        rounds += 1
        place = Place(tmp_path / f"round{rounds}", encoder)
        while kills < KILLS and len(place.marks()["record"]) < len(expected):
            kills += strike(place, chance, told)
        place.finish()
        print(f"{kills} kills", flush=True)
        history = "\n".join([*told, place.output()])
        assert place.outcome() == expected, history
        assert place.left_behind() == [], history
        assert place.counted_once(), history
        shutil.rmtree(place.root)
