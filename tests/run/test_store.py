"""The store: an artefact is there whole, or not at all."""

import hashlib
import json

import pytest

from benchmark.corpus.corpus import Sentence, Split
from benchmark.errors import StoreError
from benchmark.run import store as stores
from benchmark.run.stage import Stage, sources
from benchmark.run.store import Store, split_from
from benchmark.score.spans import Span

FOG = Split("harbour", "dev", (Sentence("harbour/dev/0", ("Fog", "in", "Öresund"), (Span(2, 3, "port"),)),))


def anchor(work, *, words=None, depth=1):
    pass


def artefact(store: Store, stage: Stage, **files: str):
    """Return a scratch folder in which the step has written files."""
    scratch = store.prepare(stage, threads=1)
    for name, text in files.items():
        path = scratch / "artefact" / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return scratch


def test_a_published_artefact_lists_sizes_and_hashes_of_its_files(store):
    stage = Stage(anchor)
    store.publish(artefact(store, stage, model="iron", log="", deep__part="é"), stage.key, {"seconds": 1.5})

    assert store.has(stage.key)
    assert store.manifest(stage.key) == {
        "seconds": 1.5,
        "files": {
            name: {"size": len(text.encode()), "sha256": hashlib.sha256(text.encode()).hexdigest()}
            for name, text in (("deep/part", "é"), ("log", ""), ("model", "iron"))
        },
    }
    assert (store.folder(stage.key) / "deep" / "part").read_text() == "é"


def test_an_artefact_is_not_there_until_the_last_rename(store, monkeypatch):
    stage = Stage(anchor)
    scratch = artefact(store, stage, model="iron")
    seen = []
    real = stores.sync

    def watching(path):
        seen.append((path.name, store.has(stage.key)))
        real(path)

    monkeypatch.setattr(stores, "sync", watching)
    store.publish(scratch, stage.key, {})

    assert seen == [("model", False), ("manifest.json", False), ("artefact", False), ("stages", True)]


def test_a_publisher_that_dies_halfway_leaves_no_artefact(store, monkeypatch):
    stage = Stage(anchor)
    scratch = artefact(store, stage, model="iron")

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stores, "sync", full)
    with pytest.raises(OSError, match="No space left"):
        store.publish(scratch, stage.key, {})

    assert not store.has(stage.key)
    assert not store.folder(stage.key).exists()


def test_a_folder_without_a_manifest_is_no_artefact(store):
    store.folder("a" * 32).mkdir()

    assert not store.has("a" * 32)


def test_the_second_publisher_loses_quietly(store):
    stage = Stage(anchor)
    first, second = artefact(store, stage, model="first"), artefact(store, stage, model="second")

    store.publish(first, stage.key, {"seconds": 1})
    store.publish(second, stage.key, {"seconds": 2})

    assert (store.folder(stage.key) / "model").read_text() == "first"
    assert store.manifest(stage.key)["seconds"] == 1


def test_a_rename_that_fails_for_another_reason_is_told(store):
    stage = Stage(anchor)
    scratch = artefact(store, stage, model="iron")
    (store.root / "stages").rmdir()

    with pytest.raises(FileNotFoundError):
        store.publish(scratch, stage.key, {})


def test_a_root_that_cannot_be_made_is_told_with_the_way_out(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError) as refused:
        Store.open(tmp_path / "file" / "store")

    assert str(refused.value) == (
        f"{tmp_path}/file/store: the store cannot be written (Not a directory). Set CDNER_STORE to a folder that can."
    )


def test_a_root_that_cannot_be_written_is_told_with_the_way_out(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(stores.tempfile, "TemporaryFile", refuse)
    with pytest.raises(StoreError) as refused:
        Store.open(tmp_path)

    assert str(refused.value) == (
        f"{tmp_path}: the store cannot be written (Permission denied). Set CDNER_STORE to a folder that can."
    )


def test_a_broken_manifest_is_told_with_the_way_out(store):
    store.folder("b" * 32).mkdir()
    path = store.folder("b" * 32) / "manifest.json"
    path.write_text("{")

    with pytest.raises(StoreError) as refused:
        store.manifest("b" * 32)

    assert str(refused.value) == (
        f"{path}: the manifest cannot be read (Expecting property name enclosed in double quotes: line 1 column 2 "
        "(char 1)). Remove that folder to rebuild it."
    )


def test_a_request_names_all_that_a_worker_needs(store):
    stage = Stage(anchor, words=[FOG], depth=3, title="fog", size=3.0)
    request = json.loads((store.prepare(stage, threads=2) / "request.json").read_text())

    assert request == {
        "store": str(store.root),
        "key": stage.key,
        "step": f"{__name__}:anchor",
        "inputs": {"words": [{"$split": FOG.hash}], "depth": 3},
        "ingredients": stage.ingredients,
        "sources": {file: list(stamp) for file, stamp in sources(stage.step).items()},
        "title": "fog",
        "size": 3.0,
        "threads": 2,
        "needs": "cpu",
        "cached": True,
        "limits": {},
        "llm": "live",
        "answers": str(store.root / "answers"),
        "attempts": [],
        "about": {},
    }


def test_a_bound_split_is_written_once_and_read_back(store):
    store.prepare(Stage(anchor, words=FOG), threads=1)
    path = store.split_file(FOG.hash)
    written = path.stat().st_mtime_ns
    store.prepare(Stage(anchor, words={"dev": FOG}, depth=2), threads=1)

    assert path.stat().st_mtime_ns == written
    assert split_from(path) == FOG
    assert split_from(path).hash == FOG.hash
    assert [p.name for p in (store.root / "splits").iterdir()] == [f"{FOG.hash}.jsonl"]


def test_two_runs_of_one_stage_have_scratch_folders_of_their_own(store):
    stage = Stage(anchor)
    first, second = store.prepare(stage, threads=1), store.prepare(stage, threads=1)

    assert first != second
    store.discard(first)
    store.discard(first)
    assert (not first.exists(), second.exists()) == (True, True)
