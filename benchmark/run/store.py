"""The store of artefacts: `stages/<key>/` with a manifest, made whole or not at all.

stages/<key>/                an artefact: the step's files, log.txt, metrics.csv and manifest.json
splits/<hash>.jsonl          splits that stages were bound to
encoded/                     tokenized splits, which can be made again
partial/<key>/               checkpoints of a stage that has not ended well
attempts/<key>.json          how earlier attempts at such a stage ended
failed/<key>.<attempt>.txt   their logs
leases/<key>.lock            who builds a stage now
scratch/<key>.<hex>/         a stage that runs now; a finished one is synced and renamed into place
boards/<hash>.json           what a board needs, as it was last planned
slurm/<hash>.json            what was submitted of a board to a cluster that runs it alone (`benchmark.run.detached`)
answers/                     what language models have answered (`benchmark.llm.answers`); never pruned
broken/                      torn or altered artefacts, moved aside

Whoever builds a stage holds its lease: no other process of this machine, or of another one that sees the same folder,
builds it meanwhile. The lease of a process that is gone is free at once; that of a machine that is gone, when its
heartbeat has not been seen for `lease_seconds`.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from benchmark import paths
from benchmark.corpus.corpus import Split
from benchmark.errors import StoreError
from benchmark.files import sync, write_whole
from benchmark.run.stage import Stage, pack, sources

MANIFEST = "manifest.json"
FOLDERS = ("stages", "splits", "encoded", "partial", "attempts", "failed", "leases", "scratch", "boards")


@dataclass(frozen=True)
class Store:
    """A folder of artefacts."""

    root: Path

    @classmethod
    def open(cls, root: Path) -> "Store":
        """Return the store at `root`, made if it is not there. Raises StoreError where it cannot be written."""
        try:
            for name in FOLDERS:
                (root / name).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=root / "scratch"):
                pass
        except OSError as error:
            raise StoreError(
                f"{root}: the store cannot be written ({error.strerror}). Set CDNER_STORE to a folder that can."
            ) from None
        return cls(root)

    def folder(self, key: str) -> Path:
        """Return where the artefact of a key lies, or would lie."""
        return self.root / "stages" / key

    def has(self, key: str) -> bool:
        """Return whether the artefact of a key is there, whole."""
        return (self.folder(key) / MANIFEST).is_file()

    def manifest(self, key: str) -> dict[str, Any]:
        """Return the manifest of an artefact. Raises StoreError where it cannot be read."""
        path = self.folder(key) / MANIFEST
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{path}: the manifest cannot be read ({error}). Remove that folder to rebuild it."
            ) from None
        return found

    def told(self, key: str) -> dict[str, Any] | None:
        """Return the manifest of an artefact; None where there is none that can be read."""
        try:
            return self.manifest(key)
        except StoreError:
            return None

    def problem(self, key: str) -> str | None:
        """Return what is wrong with an artefact: a file that is gone, torn or altered. None: it is as it was made."""
        folder = self.folder(key)
        try:
            files = json.loads((folder / MANIFEST).read_text(encoding="utf8"))["files"]
            for name, told in files.items():
                path = folder / name
                if not path.is_file():
                    return f"{name} is gone"
                if path.stat().st_size != told["size"]:
                    return f"{name} has {path.stat().st_size} bytes, its manifest says {told['size']}"
                if file_hash(path) != told["sha256"]:
                    return f"{name} is not what its manifest says (sha256)"
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"its manifest cannot be read ({type(error).__name__}: {error})"
        return None

    def set_aside(self, key: str) -> Path:
        """Move a broken artefact to `broken/`, so that it is built again. Returns where it lies now."""
        target = self.root / "broken" / f"{key}.{uuid.uuid4().hex[:8]}"
        target.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another harness was faster
            self.folder(key).rename(target)
        return target

    def lease(self, key: str, lost: Callable[[], None] | None = None) -> "Lease":
        """Return the lease of a stage, not taken yet.

        lost   called, from another thread, when a lease that was held is another's now
        """
        return Lease(self.root / "leases" / f"{key}.lock", lost)

    def partial(self, key: str) -> Path:
        """Return where the checkpoints of a stage lie, or would lie."""
        return self.root / "partial" / key

    def attempts(self, key: str) -> list[dict[str, Any]]:
        """Return how earlier attempts at a stage ended, oldest first; none where the stage has ended well."""
        try:
            found = json.loads((self.root / "attempts" / f"{key}.json").read_text(encoding="utf8"))
        except (OSError, ValueError):
            return []
        return [dict(told) for told in found] if isinstance(found, list) else []

    def tried(self) -> list[str]:
        """Return the keys of the stages that have been tried in vain."""
        return [path.stem for path in (self.root / "attempts").glob("*.json") if not path.name.startswith(".")]

    def note_attempt(self, key: str, told: Mapping[str, Any]) -> None:
        """Add how an attempt ended. Called by whoever holds the stage's lease."""
        write_whole(self.root / "attempts" / f"{key}.json", json.dumps([*self.attempts(key), dict(told)], indent=1))

    def scratches(self, key: str = "") -> list[Path]:
        """Return the scratch folders of a stage, or of all."""
        with os.scandir(self.root / "scratch") as found:
            return sorted(Path(f.path) for f in found if f.is_dir() and f.name.startswith(f"{key}." if key else ""))

    def put_split(self, split: Split) -> None:
        """Write a split where stages find it by its hash."""
        path = self.split_file(split.hash)
        if not path.is_file():
            scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
            try:
                split.to_jsonl(scratch)
                sync(scratch)
                scratch.replace(path)
            except BaseException:
                scratch.unlink(missing_ok=True)
                raise

    def split_file(self, hash_: str) -> Path:
        """Return where the split of a hash lies."""
        return self.root / "splits" / f"{hash_}.jsonl"

    def prepare(
        self,
        stage: Stage,
        *,
        threads: int,
        cached: bool = True,
        limits: Mapping[str, float | None] | None = None,
        llm: str = "live",
        about: Mapping[str, Any] | None = None,
    ) -> Path:
        """Make the scratch folder of a stage, with the request that a worker reads. Returns the folder.

        cached   whether the step may keep what can be made again, tokenized splits and checkpoints, for others
        limits   `minutes`, `gib` (memory of all its processes), `usd` and `tokens`; None or missing: no limit
        llm      `live`, or `replay` where language models may not be asked; not part of any key
        about    what the manifest shall say besides
        """
        for split in stage.splits:
            self.put_split(split)
        scratch = self.root / "scratch" / f"{stage.key}.{uuid.uuid4().hex[:12]}"
        (scratch / "artefact").mkdir(parents=True)
        request = {
            "store": str(self.root),
            "key": stage.key,
            "step": stage.name,
            "inputs": {name: pack(value) for name, value in stage.inputs.items()},
            "ingredients": stage.ingredients,
            "sources": sources(stage.step),
            "title": stage.title,
            "size": stage.size,
            "threads": threads,
            "needs": stage.needs,
            "cached": cached,
            "limits": dict(limits or {}),
            "llm": llm,
            "answers": str(paths.answers_folder(self.root)) if cached else None,
            "attempts": self.attempts(stage.key),
            "about": dict(about or {}),
        }
        (scratch / "request.json").write_text(json.dumps(request), encoding="utf8")
        return scratch

    def publish(self, scratch: Path, key: str, manifest: Mapping[str, Any]) -> None:
        """Sync the artefact in a scratch folder and rename it into place, with its manifest.

        Where another process was faster, its artefact stays and this one goes.
        """
        artefact = scratch / "artefact"
        if self.folder(key).is_dir() and not self.has(key):
            self.set_aside(key)  # without its manifest it would be in the way for ever
        files = {}
        for path in sorted(p for p in artefact.rglob("*") if p.is_file()):
            files[str(path.relative_to(artefact))] = {"size": path.stat().st_size, "sha256": file_hash(path)}
            sync(path)
        (artefact / MANIFEST).write_text(json.dumps({**manifest, "files": files}, indent=1), encoding="utf8")
        sync(artefact / MANIFEST)
        sync(artefact)
        try:
            artefact.rename(self.folder(key))
        except OSError:
            if not self.has(key):
                raise
        sync(self.root / "stages")

    def discard(self, scratch: Path) -> None:
        """Remove a scratch folder."""
        shutil.rmtree(scratch, ignore_errors=True)

    def settle(self, key: str) -> None:
        """Remove what a stage that has ended well no longer needs: checkpoints, and the notes on earlier attempts."""
        if self.partial(key).is_dir():
            shutil.rmtree(self.partial(key), ignore_errors=True)
        (self.root / "attempts" / f"{key}.json").unlink(missing_ok=True)

    def charge(self, key: str, cell: str) -> bool:
        """Return whether the cost of an artefact goes to this cell: to the first that asks, and to it alone."""
        path = self.folder(key) / "charged.txt"
        try:
            with path.open("x", encoding="utf8") as stream:
                stream.write(cell)
        except FileExistsError:
            charged = path.read_text(encoding="utf8")
            if not charged:  # a machine went down while it was written
                write_whole(path, cell)
            return charged in {cell, ""}
        except FileNotFoundError:
            return False  # it was set aside meanwhile
        return True

    def keep_log(self, scratch: Path, key: str, attempt: int) -> None:
        """Keep the log of an attempt that has failed, where it has said anything, without what is secret in it."""
        from benchmark.redact import redact_file

        log = scratch / "artefact" / "log.txt"
        if log.is_file() and log.stat().st_size:
            redact_file(log)  # a stage that was killed could not do so
            (self.root / "failed").mkdir(exist_ok=True)
            shutil.copyfile(log, self.root / "failed" / f"{key}.{attempt}.txt")

    def forget(self, stage: Stage, split: Split) -> None:
        """Remove all there is of a stage, and a split that it alone was bound to."""
        shutil.rmtree(self.folder(stage.key), ignore_errors=True)
        self.settle(stage.key)
        self.split_file(split.hash).unlink(missing_ok=True)


class Lease:
    """The right to build one stage, kept alive by a heartbeat while it is held."""

    def __init__(self, path: Path, lost: Callable[[], None] | None) -> None:
        self._lock: SoftFileLease = SoftFileLease(
            path,
            lease_duration=paths.lease_seconds(),
            on_compromise=None if lost is None else lambda _: lost(),
            thread_local=False,
        )

    def take(self) -> bool:
        """Try to take the lease, without waiting. Asked again and again, it falls to us when its owner is gone.

        Raises StoreError where another process on this store counts with another duration.
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        except LeaseSettingsMismatch as error:
            raise StoreError(f"{error}. Set CDNER_LEASE_SECONDS alike everywhere.") from None
        return True

    def release(self) -> None:
        """Give the lease back; one that is not held stays as it is."""
        self._lock.release()

    @property
    def passed(self) -> bool:
        """Return whether a lease that was held is another's now: this process was away for too long."""
        owner = self._lock.owner
        return owner is not None and owner.token != self._lock.token

    @property
    def owner(self) -> str:
        """Return who holds the lease, as `host, process 123`."""
        owner = self._lock.owner
        return "another process" if owner is None else f"{owner.hostname.partition('?')[0]}, process {owner.pid}"


def file_hash(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@lru_cache(maxsize=512)
def split_from(file: Path) -> Split:
    """Return the split in a file, read once a process."""
    return Split.from_jsonl(file)
