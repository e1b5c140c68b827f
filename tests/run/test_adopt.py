"""A refactoring keeps its records, where a rerun gives equal predictions; nothing else does."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import yaml

import methods
from benchmark.run import stage as stages
from tests.run.conftest import Lasting

NEWS, FILM = "demo-news", "demo-cinema"
TRANSFERS = [{"sources": [NEWS], "targets": [FILM], "regime": "supervised"}]

METHOD = """
import json
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.run.method import Method
from benchmark.run.stage import Stage


def remember(work, *, train, init, seed, value, notes{inputs}):
    with (Path(notes) / "runs.txt").open("a") as stream:
        stream.write(f"remember {{train[0].corpus}} {{seed}}\\n")
    known = json.loads((init / "model.json").read_text()) if init else {{}}
    for sentence in train[0].sentences:
        for start, end, type_ in sentence.spans:
            {body}
    (work.folder / "model.json").write_text(json.dumps(known))


def paint(work, *, model, words, types, seed):
    known = json.loads((model / "model.json").read_text())
    with (work.folder / "predictions.jsonl").open("w") as stream:
        for sentence in words.sentences:
            spans = [(n, n + 1, known[w]) for n, w in enumerate(sentence.words) if known.get(w) in types]
            {after}
            stream.write(json.dumps({{"id": sentence.id, "spans": spans}}) + "\\n")


@dataclass(frozen=True)
class Settings:
    notes: str = ""
    value: float = 1.0
    {settings}


class Painted(Method):
    Settings = Settings

    def plan(self, transfer, settings, seed):
        model = None
        for domain in {domains}:
            model = Stage(remember, title=f"{{domain.name}} seed {{seed}}", size=1.0, train=[domain.train], init=model,
                          seed=seed, value=settings.value, notes=settings.notes{bound})
        return Stage(paint, title=f"test seed {{seed}}", size=1.0, model=model, words=transfer.test,
                     types=list(transfer.target.types), seed=seed)
"""
PLAIN = {
    "inputs": "", "body": "known.update(dict.fromkeys(sentence.words[start:end], type_))", "after": "pass",
    "settings": "pass", "bound": "", "domains": "(*transfer.sources, transfer.target)",
}  # fmt: skip
OTHERWISE = {"body": "for word in sentence.words[start:end]: known[word] = type_"}  # the same, said otherwise
WRONG = {"after": "spans = spans[:1]"}
WRONG_LATER = {"after": "spans = spans[: 1 if seed == 2 else None]"}


class Painting:
    """A board whose method's file is written anew between two commands."""

    def __init__(self, root: Path, module: Path, cdner):
        self.root, self.module, self.cdner = root, module, cdner
        self.folder, self.notes = root / "results" / "gallery", root / "notes"
        self.folder.mkdir(parents=True)
        self.notes.mkdir()
        self.started = []

    def write(self, **parts: str) -> None:
        """Write the method's file, as another process would find it."""
        self.module.write_text(METHOD.format(**{**PLAIN, **parts}))
        sys.modules.pop("painted", None)
        importlib.invalidate_caches()
        for function in vars(stages).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()

    def plan(self, seeds=(1,), **settings) -> None:
        variants = {"painted": {"method": "painted", "set": {"notes": str(self.notes), **settings}}}
        (self.folder / "plan.yaml").write_text(
            yaml.safe_dump({"variants": variants, "transfers": TRANSFERS, "seeds": list(seeds)})
        )

    def run(self) -> str:
        code, printed, err = self.cdner("run", self.folder, "--no-table")
        assert (code, err) == (0, "")
        return printed

    def adopt(self, *options: str) -> tuple[int, str]:
        code, printed, err = self.cdner("adopt", self.folder, *options)
        assert err == ""
        return code, printed

    def record(self, seed: int = 1) -> dict:
        return json.loads(self.path(seed).read_text())

    def path(self, seed: int = 1) -> Path:
        return self.folder / "records" / "painted" / f"{NEWS}--{FILM}" / "supervised" / f"seed{seed}.json"

    def files(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in (self.folder / "records").rglob("*") if p.is_file()}

    def runs(self) -> int:
        return len((self.notes / "runs.txt").read_text().splitlines())


@pytest.fixture
def gallery(tmp_path, monkeypatch, machine, cdner):
    monkeypatch.setitem(methods.METHODS, "painted", "painted:Painted")
    monkeypatch.syspath_prepend(str(machine.modules))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Painting(tmp_path, machine.modules / "painted.py", cdner)

    def lend(*_):
        lent = Lasting(machine.engine)
        made.started.append(lent.started)
        return lent

    monkeypatch.setattr("benchmark.run.local.LocalEngine", lend)
    made.write()
    made.plan()
    yield made
    sys.modules.pop("painted", None)


CELL = f"painted/{NEWS}--{FILM}/supervised/seed1"


def test_a_refactoring_is_adopted_and_its_records_are_done_again(gallery):
    gallery.run()
    before, files = gallery.record(), gallery.files()
    gallery.write(**OTHERWISE)
    code, printed = gallery.adopt()
    after = gallery.record()

    assert code == 0
    assert printed == (
        f"\n1 stale, first {CELL}; changed:\n  remember: code (tree)\nrunning again: {CELL}\n"
        f"adopted: 1 record; every prediction of {CELL} is equal\n"
    )
    assert after["final"] != before["final"] == after["adopted"]["from"]
    assert after["adopted"] == {
        "from": before["final"], "sample": [CELL], "changes": ["remember: code (tree)"],
        "commit": after["adopted"]["commit"], "dirty": after["adopted"]["dirty"], "written": after["adopted"]["written"],
    }  # fmt: skip
    assert [s["key"] for s in after["stages"]] != [s["key"] for s in before["stages"]]
    assert after["stages"][-1]["key"] == after["final"]
    unchanged = set(before) - {"final", "stages"}
    assert {k: after[k] for k in unchanged} == {k: before[k] for k in unchanged}
    assert [s["seconds"] for s in after["stages"]] == [s["seconds"] for s in before["stages"]]
    assert {k: v for k, v in gallery.files().items() if "predictions" in k} == {
        k: v for k, v in files.items() if "predictions" in k
    }
    assert "nothing to do: 1 cell, 1 done." in gallery.run()
    assert gallery.adopt() == (0, "no record of gallery is stale\n")


def test_a_sample_stands_for_all_that_changed_alike(gallery):
    gallery.plan(seeds=(1, 2, 3))
    gallery.run()
    before = gallery.runs()
    gallery.write(**OTHERWISE)
    code, printed = gallery.adopt()

    assert code == 0
    assert printed.count("running again: ") == 1
    assert gallery.runs() - before == 2  # the source and the target of one seed
    assert [gallery.record(seed)["adopted"]["sample"] for seed in (1, 2, 3)] == [[CELL]] * 3
    assert "nothing to do: 3 cells, 3 done." in gallery.run()


def test_a_refactoring_that_changes_a_prediction_is_refused_and_nothing_is_written(gallery):
    gallery.run()
    files = gallery.files()
    gallery.write(**WRONG)
    code, printed = gallery.adopt()

    assert code == 1
    assert "not adopted: " in printed
    assert f" predictions of {CELL} differ from its record's\n" in printed
    assert gallery.files() == files


def test_every_cell_of_the_sample_must_be_equal(gallery):
    gallery.plan(seeds=(1, 2))
    gallery.run()
    files = gallery.files()
    gallery.write(**WRONG_LATER)
    code, printed = gallery.adopt("--sample", "2")

    assert code == 1
    assert f" predictions of {CELL.replace('seed1', 'seed2')} differ from its record's\n" in printed
    assert gallery.files() == files


def test_another_value_is_refused_and_nothing_is_run(gallery):
    gallery.run()
    files, ran = gallery.files(), gallery.runs()
    gallery.plan(value=2.0)
    code, printed = gallery.adopt()

    assert code == 1
    assert printed == (
        f"\n1 stale, first {CELL}; changed:\n  remember: .value: 1.0 -> 2.0\n"
        "not adopted: another value is another experiment. Run these cells again\n"
    )
    assert (gallery.files(), gallery.runs()) == (files, ran)


def test_another_value_beside_a_refactoring_is_refused(gallery):
    gallery.run()
    files, ran = gallery.files(), gallery.runs()
    gallery.write(**OTHERWISE)
    gallery.plan(value=2.0)
    code, printed = gallery.adopt()

    assert code == 1
    assert "  remember: .value: 1.0 -> 2.0\n  remember: code (tree)\n" in printed
    assert (gallery.files(), gallery.runs()) == (files, ran)


GROWN = [
    ("a list that grows", "more: list[int] = field(default_factory=lambda: [1])", {"more": [1, 2]}),
    ("a list that shrinks", "more: list[int] = field(default_factory=lambda: [1])", {"more": []}),
    ("something for nothing", "more: dict[str, int] | None = None", {"more": {"depth": 2}}),
    ("an input called step", "more: int = 1", {"more": 2}),
]


@pytest.mark.parametrize(("what", "declared", "changed"), GROWN, ids=[g[0] for g in GROWN])
def test_another_value_of_any_shape_is_refused(gallery, what, declared, changed):
    name = "step" if "step" in what else "more"
    parts = {"settings": declared, "inputs": f", {name}", "bound": f", {name}=settings.more"}
    gallery.write(**parts)
    gallery.run()
    ran = gallery.runs()
    gallery.plan(**changed)
    code, printed = gallery.adopt()

    assert (code, gallery.runs()) == (1, ran), printed
    assert "not adopted: another value is another experiment" in printed


def test_an_input_that_is_new_may_be_part_of_a_refactoring(gallery):
    gallery.run()
    gallery.write(settings="depth: int = 1", inputs=", depth", bound=", depth=settings.depth")
    code, printed = gallery.adopt()

    assert (code, gallery.record()["adopted"]["changes"]) == (
        0, ["remember: .depth: absent -> 1", "remember: code (tree)"]
    ), printed  # fmt: skip


def test_another_number_of_stages_is_refused(gallery):
    gallery.run()
    files = gallery.files()
    gallery.write(domains="(transfer.target,)")
    code, printed = gallery.adopt()

    assert code == 1
    assert "  the cell had 3 stages, and has 2\nnot adopted: " in printed
    assert gallery.files() == files


def test_a_refactoring_that_fails_is_refused(gallery):
    gallery.run()
    files = gallery.files()
    gallery.write(body="raise ValueError('fog')")
    code, printed = gallery.adopt()

    assert code == 1
    assert f"not adopted: remember ({NEWS} seed 1) failed: error: ValueError: fog\n" in printed
    assert gallery.files() == files


@pytest.mark.parametrize("damage", ["gone", "altered"])
def test_predictions_that_are_gone_or_altered_are_told_and_the_rest_is_adopted(gallery, damage):
    gallery.plan(seeds=(1, 2))
    gallery.run()
    path = gallery.path().with_name("seed1.predictions.jsonl.gz")
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"x")
    lost = gallery.path().read_bytes()
    gallery.write(**OTHERWISE)
    code, printed = gallery.adopt()

    assert code == 1
    assert printed.startswith(
        f"{CELL}: its predictions are gone or altered, so there is nothing to compare; run it again\n"
    )
    assert gallery.path().read_bytes() == lost
    assert gallery.record(2)["adopted"]["sample"] == [CELL.replace("seed1", "seed2")]


def test_a_dry_run_shows_what_changed_and_runs_nothing(gallery):
    gallery.run()
    files, ran = gallery.files(), gallery.runs()
    gallery.write(**OTHERWISE)
    code, printed = gallery.adopt("--dry-run")

    assert (code, printed) == (0, f"\n1 stale, first {CELL}; changed:\n  remember: code (tree)\n")
    assert (gallery.files(), gallery.runs()) == (files, ran)


def test_only_the_cells_that_are_named_are_adopted(gallery):
    gallery.plan(seeds=(1, 2))
    gallery.run()
    gallery.write(**OTHERWISE)
    code, _ = gallery.adopt("--only", "*/seed2")

    assert code == 0
    assert "adopted" not in gallery.record(1)
    assert gallery.record(2)["adopted"]["sample"] == [CELL.replace("seed1", "seed2")]


def test_a_rerun_has_the_threads_of_the_record(gallery):
    gallery.run()
    record = gallery.record()
    record["provenance"]["threads"] = [3]
    gallery.path().write_text(json.dumps(record))
    gallery.write(**OTHERWISE)
    code, _ = gallery.adopt()

    assert code == 0
    assert {request["threads"] for request in gallery.started[-1]} == {3}


def test_what_was_adopted_can_be_adopted_again(gallery):
    gallery.run()
    gallery.write(**OTHERWISE)
    gallery.adopt()
    first = gallery.record()["final"]
    gallery.write(
        body="""for word in sentence.words[start:end]:
                known[word] = str(type_)"""
    )
    code, _ = gallery.adopt()

    assert code == 0
    assert gallery.record()["adopted"]["from"] == first


def test_a_comment_makes_nothing_stale(gallery):
    gallery.run()
    gallery.write(after="pass  # said twice")

    assert gallery.adopt() == (0, "no record of gallery is stale\n")
