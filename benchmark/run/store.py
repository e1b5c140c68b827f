"""The store of artefacts: `stages/<key>/` with a manifest, made whole or not at all.

stages/<key>/          an artefact: the step's files, log.txt and manifest.json
splits/<hash>.jsonl    splits that stages were bound to
encoded/               tokenized splits, which can be made again
failed/<key>.txt       logs of stages that failed
scratch/               stages that run now; a finished one is synced and renamed into place
"""

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmark.corpus.corpus import Split
from benchmark.errors import StoreError
from benchmark.run.stage import Stage, pack

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Store:
    """A folder of artefacts."""

    root: Path

    @classmethod
    def open(cls, root: Path) -> "Store":
        """Return the store at `root`, made if it is not there. Raises StoreError where it cannot be written."""
        try:
            for name in ("stages", "splits", "encoded", "scratch"):
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

    def put_split(self, split: Split) -> None:
        """Write a split where stages find it by its hash."""
        path = self.split_file(split.hash)
        if not path.is_file():
            scratch = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
            split.to_jsonl(scratch)
            sync(scratch)
            scratch.replace(path)

    def split_file(self, hash_: str) -> Path:
        """Return where the split of a hash lies."""
        return self.root / "splits" / f"{hash_}.jsonl"

    def prepare(self, stage: Stage, *, threads: int, cached: bool = True) -> Path:
        """Make the scratch folder of a stage, with the request that a worker reads. Returns the folder.

        cached   whether the step may keep what can be made again, tokenized splits, for others
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
            "title": stage.title,
            "size": stage.size,
            "threads": threads,
            "cached": cached,
        }
        (scratch / "request.json").write_text(json.dumps(request), encoding="utf8")
        return scratch

    def publish(self, scratch: Path, key: str, manifest: Mapping[str, Any]) -> None:
        """Sync the artefact in a scratch folder and rename it into place, with its manifest.

        Where another process was faster, its artefact stays and this one goes.
        """
        artefact = scratch / "artefact"
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

    def keep_log(self, scratch: Path, key: str) -> None:
        """Keep the log of a stage that has failed, as `failed/<key>.txt`, where it has said anything."""
        log = scratch / "artefact" / "log.txt"
        if log.is_file() and log.stat().st_size:
            (self.root / "failed").mkdir(exist_ok=True)
            shutil.copyfile(log, self.root / "failed" / f"{key}.txt")

    def forget(self, stage: Stage, split: Split) -> None:
        """Remove the artefact of a stage, and a split that it alone was bound to."""
        shutil.rmtree(self.folder(stage.key), ignore_errors=True)
        self.split_file(split.hash).unlink(missing_ok=True)


def file_hash(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Force a file or a folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, text: str | bytes) -> None:
    """Write a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    scratch.write_bytes(text.encode() if isinstance(text, str) else text)
    sync(scratch)
    scratch.replace(path)


@lru_cache(maxsize=512)
def split_from(file: Path) -> Split:
    """Return the split in a file, read once a process."""
    return Split.from_jsonl(file)
