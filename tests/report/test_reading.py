"""Records are read, and refused where a table would be wrong."""

import json
import os
from copy import deepcopy
from pathlib import Path

import pytest
from fake_records import Planned, ended, whole
from test_slice import SLICES

from benchmark.cli import main
from benchmark.errors import RecordError
from benchmark.report.reading import load

MEND = "Mend or delete it and run the board again."
TRIPLE = "[hit, extra, missed], whole numbers of 0 or more"
CELL = Planned("tagger", "ai")


def put(folder: Path, record, name="seed1") -> Path:
    path = folder / "records" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record if isinstance(record, str) else json.dumps(record), encoding="utf8")
    return path


def refusal(folder: Path) -> str:
    with pytest.raises(RecordError) as refused:
        load(folder)
    return str(refused.value)


def test_every_record_is_read_in_the_order_of_paths(tmp_path):
    for name in ("b/seed1", "a/seed2", "a/seed1"):
        put(tmp_path, whole(CELL) | {"cell": name}, name)
    (tmp_path / "records" / "a" / "seed1.jsonl.gz").write_bytes(b"predictions")
    (tmp_path / "other.json").write_text("no record")

    assert [record["cell"] for record in load(tmp_path)] == ["a/seed1", "a/seed2", "b/seed1"]


def test_a_board_without_records_loads_as_nothing(tmp_path):
    assert load(tmp_path) == []


def test_failed_and_skipped_records_need_no_counts(tmp_path):
    put(tmp_path, ended(CELL, "failed", "out of memory"), "seed1")
    put(tmp_path, {"cell": "a", "variant": "a", "status": "skipped", "reason": "no dev"}, "seed2")

    assert [record["status"] for record in load(tmp_path)] == ["failed", "skipped"]


def test_what_a_record_need_not_have_may_be_null(tmp_path):
    put(tmp_path, whole(CELL, slices=None, audit=None, curves=None))

    [record] = load(tmp_path)
    assert not {"slices", "audit", "curves"} & record.keys()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"cell": ', "this record is no JSON (Expecting value: line 1 column 10 (char 9))."),
        ("[1]", "a record is an object with `cell` and `status`, and this is none."),
        ("\udcff", "this record is no JSON ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte)."),
    ],
)
def test_what_is_no_record_is_named(tmp_path, text, said):
    path = put(tmp_path, "")
    path.write_bytes(text.encode("utf8", "surrogateescape"))

    assert refusal(tmp_path) == f"{path}: {said} {MEND}"


def test_a_record_of_a_newer_cdner_is_told(tmp_path):
    path = put(tmp_path, whole(CELL, schema=99))

    assert refusal(tmp_path) == (
        f"{path}: the record has schema 99, this version reads up to 2. A newer cdner wrote it: use that one."
    )


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("corpora", ..., "`corpora` is missing, expected an object"),
        ("variant", ..., "`variant` is missing, expected a text"),
        ("provenance", ..., "`provenance` is missing, expected an object"),
        ("provenance.precision", 16, "`provenance.precision` is 16, expected a text or null"),
        ("scorer", ..., "`scorer` is missing, expected a whole number"),
        ("scorer", True, "`scorer` is true, expected a whole number"),
        ("schema", "2", '`schema` is "2", expected a whole number'),
        ("schema", 0, "`schema` is 0, expected 1 to 2"),
        ("status", "weird", '`status` is "weird", expected one of ok, failed, skipped'),
        ("level", None, "`level` is null, expected one of fine, general"),
        ("reason", 3, "`reason` is 3, expected a text or null"),
        ("cost", None, "`cost` is null, expected an object"),
        ("cost", {"alone_seconds": "9"}, '`cost.alone_seconds` is "9", expected a number or a whole number or null'),
        ("corpora.ai", {"version": 1.5}, "`corpora.ai.version` is 1.5, expected a whole number"),
        ("scores.general", ..., "`scores.general` is missing, expected an object"),
        ("scores.fine.strict.all", None, f"`scores.fine.strict.all` is null, expected {TRIPLE}"),
        ("scores.fine.strict.all", [-5, 1, 1], f"`scores.fine.strict.all` is [-5, 1, 1], expected {TRIPLE}"),
        ("scores.fine.strict.all", [1], f"`scores.fine.strict.all` is [1], expected {TRIPLE}"),
        ("scores.fine.strict.types.task", [1, 2, 3.0],
         f"`scores.fine.strict.types.task` is [1, 2, 3.0], expected {TRIPLE}"),
        ("errors.fine.hit", ..., "`errors.fine.hit` is missing, expected a whole number of 0 or more"),
        ("sentences", ..., "`sentences` is missing, expected an object"),
        ("sentences.fine", [[50, 50]], f"`sentences.fine` is no list of {TRIPLE}"),
        ("sentences.fine", [[60, 50, 50], [-10, 0, 0]], f"`sentences.fine` is no list of {TRIPLE}"),
        ("sentences.fine", [[49, 50, 50]],
         "`sentences.fine` sum up to [49, 50, 50], expected [50, 50, 50], which is `scores.fine.strict.all`"),
        ("sentences.general", [[50, 50, 50]],
         "`sentences` has 2 at the level of fine types and 1 at the level of general types, expected as many of both"),
        ("slices.fine.seen.target", [1, 2], f"`slices.fine.seen.target` is [1, 2], expected {TRIPLE}"),
        ("slices.fine.shared_types", ..., "`slices.fine.shared_types` is missing, expected a list"),
        ("slices.fine.confusion.counts", [[1]],
         "`slices.fine.confusion.counts` is [[1]], expected 3 lists of 3 counts"),
        ("audit", {}, "`audit.pairs` is missing, expected an object"),
        ("curves", {"epochs": None}, "`curves.epochs` is null, expected a list"),
        ("curves", {"epochs": [{"epoch": 1}]}, f"`curves.epochs.0.test` is missing, expected {TRIPLE}"),
    ],
)  # fmt: skip
def test_a_damaged_record_is_named_with_the_field(tmp_path, where, value, said):
    record = deepcopy(whole(CELL, slices={"fine": SLICES, "general": SLICES}))
    *inner, last = where.split(".")
    part = record
    for name in inner:
        part = part[name]
    if value is ...:
        del part[last]
    else:
        part[last] = value
    path = put(tmp_path, record)

    assert refusal(tmp_path) == f"{path}: {said}. {MEND}"


def test_a_record_that_lacks_a_sentence_of_its_test_is_named(tmp_path):
    short = whole(Planned("tagger", "ai", 2))
    for counts in short["sentences"].values():
        del counts[1:]
    put(tmp_path, whole(CELL), "seed1")
    path = put(tmp_path, short, "seed2")
    put(tmp_path, whole(Planned("crf", "ai")), "seed3")

    assert refusal(tmp_path) == (
        f"{path}: `sentences` counts 1 sentences, expected 2, which 2 other records of the same test count. {MEND}"
    )


def test_another_target_or_version_may_have_other_sentences(tmp_path):
    for n, record in enumerate((whole(CELL), whole(Planned("tagger", "music")), whole(CELL, version=2))):
        if n:
            for counts in record["sentences"].values():
                counts.append([0, 0, 0])
        put(tmp_path, record, f"seed{n}")

    assert len(load(tmp_path)) == 3


@pytest.mark.parametrize("command", [["table"], ["slice"], ["slice", "--by", "cost"], ["ranks"], ["table", "--errors"]])
def test_a_damaged_record_ends_a_command_without_a_traceback(tmp_path, capsys, command):
    (tmp_path / "plan.yaml").write_text(
        "variants: {lookup: {method: lookup}}\n"
        "transfers: [{sources: [demo-news], targets: [demo-cinema, demo-astronomy], regime: supervised}]\nseeds: [1]\n"
    )
    path = put(tmp_path, whole(CELL, cost=None))

    assert main([command[0], str(tmp_path), *command[1:]]) == 1
    assert capsys.readouterr().err == f"cdner: {path}: `cost` is null, expected an object. {MEND}\n"


# ---- what the system does not let us read


def denied(*_: object, **__: object) -> bytes:
    raise PermissionError(13, "Permission denied")


def test_a_record_that_may_not_be_read_is_no_broken_one(tmp_path, monkeypatch):
    path = put(tmp_path, whole(CELL))
    monkeypatch.setattr(Path, "read_bytes", denied)

    assert refusal(tmp_path) == (
        f"{path}: this record cannot be read (Permission denied). That is no fault of the record: let yourself read the "
        "file, and leave it as it is."
    )


@pytest.mark.parametrize("closed", ["records", "records/laner"])
def test_a_folder_that_may_not_be_read_is_no_empty_one(tmp_path, monkeypatch, closed):
    put(tmp_path, whole(CELL), "laner/seed1")
    scandir = os.scandir

    def scanned(path):
        if Path(path) == tmp_path / closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scanned)

    assert refusal(tmp_path) == (
        f"{tmp_path / closed}: this folder of records cannot be read (Permission denied). Let yourself read it; without "
        "it a table would say that nothing was run."
    )


def test_records_that_are_a_file_are_told(tmp_path):
    (tmp_path / "records").write_text("")

    assert refusal(tmp_path) == (
        f"{tmp_path / 'records'}: this folder of records cannot be read (Not a directory). Let yourself read it; without "
        "it a table would say that nothing was run."
    )
