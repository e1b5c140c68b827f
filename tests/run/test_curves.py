"""`curves: true`: what every epoch that could be chosen predicts is kept, and nothing else changes."""

import gzip
import io
import json
from pathlib import Path

import pytest
import torch
import yaml
from models.conftest import save_bert, save_t5
from rich.console import Console
from run.conftest import Lasting
from safetensors.torch import load_file

from benchmark.corpus.corpus import Sentence, Split
from benchmark.errors import PlanError, StageFailed
from benchmark.models import backbones
from benchmark.models.tagging import Recipe, TaggerModel, tag, train_tagger
from benchmark.models.text2text import Prompting, Writing, train_text2text, write_text2text
from benchmark.report import watch
from benchmark.run import curves
from benchmark.run.cells import plan_cells
from benchmark.run.check import check
from benchmark.run.plan import read_board
from benchmark.run.runner import Runner
from benchmark.run.workload import workload
from benchmark.score.protocols import Gold, Prediction, read_predictions
from benchmark.score.spans import Span, from_tags
from benchmark.work import Work
from methods.laner import Network, tag_laner, train_laner

TYPES = ["vessel", "port"]
RECIPE = Recipe(epochs=5, lr=5e-3, batch=2, dev_every=2, precision="32")
OPTIONS = {"vessel": "ship", "port": "harbour"}
TYPED = Prompting("typed", instruction=False)


def split(name: str, *sentences: str) -> Split:
    """Return a split of sentences such as `Aurora/B-vessel sank`."""
    found = []
    for n, text in enumerate(sentences):
        words, tags = zip(*((w.partition("/")[0], w.partition("/")[2] or "O") for w in text.split()), strict=True)
        found.append(Sentence(f"harbour/{name}/{n}", words, tuple(from_tags(tags))))
    return Split("harbour", name, tuple(found))


TRAIN = split("train", "aurora/B-vessel left haven/B-port", "rain fell on haven/B-port", "fram/B-vessel sank", "at sea")
DEV = split("dev", "fram/B-vessel left haven/B-port", "rain fell", "aurora/B-vessel is at haven/B-port")
WORDS = {"test": split("test", "aurora met fram", "haven sleeps").words_only(), "target-dev": DEV.words_only()}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return save_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture(params=["tagger", "laner", "text2text"])
def given(request, bert, t5):
    """Return a training step, what is bound to it, the step that predicts, and what is bound to that."""
    common = {"init": None, "train": (TRAIN,), "dev": DEV, "recipe": RECIPE, "seed": 1}
    asking = {"names": {name: name for name in TYPES}, "precision": "32", "seed": 1}
    if request.param == "text2text":
        writing = Writing("grounded", 4)
        inputs = {"backbone": backbones.find(str(t5)), "options": (OPTIONS,), "prompting": TYPED, "writing": writing}
        asking = {"options": OPTIONS, "prompting": TYPED, "writing": writing, "precision": "32", "seed": 1}
        return train_text2text, {**common, **inputs}, write_text2text, asking
    inputs = {**common, "backbone": backbones.find(str(bert)), "types": TYPES}
    if request.param == "tagger":
        return train_tagger, {**inputs, "crf": True}, tag, asking
    return train_laner, {**inputs, "network": Network(label_dim=5)}, tag_laner, asking


def name_of(step) -> str:
    return f"{step.__module__}:{step.__qualname__}"


def keep(folder: Path, given, **options) -> Path:
    train, inputs, predict, asking = given
    folder.mkdir(parents=True, exist_ok=True)
    curves.train_keeping_epochs(
        Work(folder, **options), step=name_of(train), code={}, inputs=inputs, predict=name_of(predict), predict_code={},
        asking=asking, words=WORDS,
    )  # fmt: skip
    return folder


def of_epochs(folder: Path) -> dict[str, bytes]:
    return {path.name: gzip.decompress(path.read_bytes()) for path in sorted((folder / "epochs").iterdir())}


def test_the_model_is_the_one_that_is_trained_without_keeping_and_predicts_as_its_epoch(tmp_path, given):
    train, inputs, predict, asking = given
    kept = keep(tmp_path / "kept", given)
    (tmp_path / "plain").mkdir()
    train(Work(tmp_path / "plain"), **inputs)

    both = [load_file(folder / "model.safetensors") for folder in (kept, tmp_path / "plain")]
    assert both[0].keys() == both[1].keys()
    assert all(torch.equal(weights, both[1][name]) for name, weights in both[0].items())
    for file in ("model.json", "about.json"):
        assert (kept / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()
    told = json.loads((kept / "epochs.json").read_text())
    assert told["epochs"] == [2, 4, 5]
    assert told["parts"] == ["test", "target-dev"]
    assert set(of_epochs(kept)) == {f"{epoch}-{place}.jsonl.gz" for epoch in (2, 4, 5) for place in (0, 1)}
    for place, words in enumerate(WORDS.values()):
        (folder := tmp_path / str(place)).mkdir()
        predict(Work(folder), model=kept, words=words, **asking)
        assert read_predictions(kept / "epochs" / f"{told['kept']}-{place}.jsonl.gz") == read_predictions(
            folder / "predictions.jsonl"
        )


def test_each_epoch_predicts_with_its_own_weights(tmp_path, bert):
    """What is kept of epoch 2 of 5 is what a training of constant rate gives that ends after 2."""
    recipe = Recipe(epochs=5, lr=5e-3, batch=2, precision="32")
    inputs = {"init": None, "train": (TRAIN,), "dev": None, "recipe": recipe, "seed": 1, "types": TYPES, "crf": False,
              "backbone": backbones.find(str(bert))}  # fmt: skip
    asking = {"names": {name: name for name in TYPES}, "precision": "32", "seed": 1}
    kept = keep(tmp_path / "kept", (train_tagger, inputs, tag, asking))
    assert json.loads((kept / "epochs.json").read_text())["epochs"] == [1, 2, 3, 4, 5]
    for epoch in (1, 3):
        short = {**inputs, "recipe": Recipe(epochs=epoch, lr=5e-3, batch=2, precision="32")}
        (folder := tmp_path / f"short-{epoch}").mkdir()
        train_tagger(Work(folder), **short)
        (out := tmp_path / f"out-{epoch}").mkdir()
        tag(Work(out), model=folder, words=WORDS["test"], **asking)
        assert of_epochs(kept)[f"{epoch}-0.jsonl.gz"] == (out / "predictions.jsonl").read_bytes()


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_training_that_was_killed_keeps_the_epochs_before(tmp_path, bert, monkeypatch):
    asking = {"names": {name: name for name in TYPES}, "precision": "32", "seed": 1}
    inputs = {"init": None, "train": (TRAIN,), "dev": DEV, "recipe": RECIPE, "seed": 1, "types": TYPES, "crf": False,
              "backbone": backbones.find(str(bert))}  # fmt: skip
    whole = (train_tagger, inputs, tag, asking)
    undisturbed = of_epochs(keep(tmp_path / "whole", whole))
    steps, inner = [], TaggerModel.training_step

    def counted(*arguments):
        steps.append(1)
        if len(steps) == 8:  # in epoch 4 of two batches each
            raise Killed
        return inner(*arguments)

    options = {"checkpoints": tmp_path / "partial", "checkpoint_seconds": 0.0}
    with monkeypatch.context() as patch:
        patch.setattr(TaggerModel, "training_step", counted)
        with pytest.raises(Killed):
            keep(tmp_path / "killed", whole, **options)
    assert [path.name for path in (tmp_path / "partial" / "snapshots").iterdir()] == ["2.pt"]

    steps.clear()
    assert of_epochs(keep(tmp_path / "again", whole, **options)) == undisturbed


def test_an_artefact_of_other_weights_is_refused(tmp_path, bert, monkeypatch):
    asking = {"names": {name: name for name in TYPES}, "precision": "32", "seed": 1}
    inputs = {"init": None, "train": (TRAIN,), "dev": DEV, "recipe": RECIPE, "seed": 1, "types": TYPES, "crf": False,
              "backbone": backbones.find(str(bert))}  # fmt: skip
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *of, **how: {f"x.{name}": w for name, w in load(*of, **how).items()})
    with pytest.raises(StageFailed) as caught:
        keep(tmp_path / "kept", (train_tagger, inputs, tag, asking))
    assert str(caught.value).startswith("the artefact has the weights ")
    assert str(caught.value).endswith(", and the module that was trained has none.")


# ---------------------------------------------------------------------------------------------------- on a board

CARD = """
name: {name}
version: 1
source: {{train: {{path: {name}/train.txt}}, dev: {{path: {name}/dev.txt}}, test: {{path: {name}/test.txt}}}}
types:
  vessel: {{general: miscellaneous}}
  {other}: {{general: location}}
"""


@pytest.fixture
def board(tmp_path, store, warm_engine, bert):
    """Return a function that writes a plan of two small corpora, plans it and, if asked, runs it."""
    cards, data, folder = tmp_path / "cards", tmp_path / "data", tmp_path / "results" / "small"
    for made in (cards, folder):
        made.mkdir(parents=True)
    for name, other in (("quay", "pier"), ("harbour", "port")):
        (cards / f"{name}.yaml").write_text(CARD.format(name=name, other=other))
        (data / name).mkdir(parents=True)
        for part, parts in (("train", TRAIN), ("dev", DEV), ("test", DEV)):
            lines = []
            for sentence in parts.sentences:
                tags = ["O"] * len(sentence.words)
                for start, _, kind in sentence.spans:
                    tags[start] = f"B-{kind}".replace("port", other)
                lines.append("".join(f"{w}\t{t}\n" for w, t in zip(sentence.words, tags, strict=True)))
            (data / name / f"{part}.txt").write_text("\n".join(lines))
    settings = {"encoder": str(bert), "source_epochs": 1, "epochs": 4, "dev_every": 2, "lr": 5e-3, "batch": 2,
                "precision": "32"}  # fmt: skip

    def call(run=False, method="tagger", **transfer):
        plan = {
            "variants": {"mine": {"method": method, "set": settings if method == "tagger" else {}}},
            "transfers": [{"sources": ["quay"], "targets": ["harbour"], **transfer}],
        }
        (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
        found = read_board(str(folder), (cards,))
        planned = plan_cells(found, found.cells, data=data, cards=(cards,))
        if not run:
            return planned[0]
        work = workload(found, planned, store, 1)
        Runner(found, work, store, Lasting(warm_engine), watch.Lines(Console(file=io.StringIO())), data=data).run()
        record = json.loads((folder / "records" / f"{found.cells[0].name}.json").read_text())
        return planned[0], record, lambda: check(found, data=data, cards=(cards,))

    return call


def test_a_transfer_that_does_not_ask_has_the_stages_that_it_had(board):
    assert board().final.key == board(curves=False).final.key
    assert board(curves=True).final.key != board().final.key
    assert board(curves=True).final.step is board().final.step


def test_words_alone_are_bound_to_what_keeps_epochs(board):
    stage = curves.kept_by(board(curves=True).final)

    assert list(stage.inputs["words"]) == ["test", "target-dev", "source-dev quay"]
    for words in stage.inputs["words"].values():
        assert all(sentence.spans is None for sentence in words.sentences)


def test_in_zero_shot_the_targets_dev_tells_nothing(board):
    stage = curves.kept_by(board(curves=True, regime="zero-shot").final)

    assert list(stage.inputs["words"]) == ["test", "source-dev quay"]


def test_to_predict_other_words_nothing_is_trained_anew(board):
    item = board(curves=True)
    other = split("test", "fram sank").words_only()
    bound = item.final.rebind(item.transfer.test, other)

    assert bound.key != item.final.key
    assert bound.inputs["model"].key == item.final.inputs["model"].key


def test_a_record_tells_what_every_epoch_would_have_given(board):
    item, record, checked = board(run=True, curves=True)
    told = record["curves"]

    assert [row["epoch"] for row in told["epochs"]] == [2, 4]
    assert all(set(row) == {"epoch", "test", "target-dev", "source-dev"} for row in told["epochs"])
    [kept] = [row for row in told["epochs"] if row["epoch"] == told["kept"]]
    assert kept["test"] == record["scores"]["fine"]["strict"]["all"]
    best = max(row["target-dev"] for row in told["epochs"])
    assert kept["target-dev"] == best
    assert record["transfer"]["curves"] is True
    assert item.final.key == record["final"]
    assert [f.line for f in checked().findings] == []


def test_epochs_that_do_not_fit_the_record_are_refused(board, tmp_path):
    _, record, checked = board(run=True, curves=True)
    path = tmp_path / "results" / "small" / "records" / f"{record['cell']}.json"
    [kept] = [row for row in record["curves"]["epochs"] if row["epoch"] == record["curves"]["kept"]]
    was, kept["test"] = kept["test"], [1, 0, 3]
    path.write_text(json.dumps(record))

    assert [f.line for f in checked().findings] == [
        f"refused   {record['cell']}  curves: the epoch {record['curves']['kept']} was kept, whose counts on test are "
        f"[[1, 0, 3]], and the record's are {was}. Ask for the original, or run the cell again."
    ]


def test_a_method_without_epochs_says_so(board):
    _, record, _ = board(run=True, curves=True, method="lookup")

    assert record["curves"] == {
        "reason": "look_up does not predict words with one model, so that there is no epoch to choose"
    }


def test_curves_that_are_no_yes_or_no_are_refused(board, tmp_path):
    with pytest.raises(PlanError) as caught:
        board(curves="all")
    assert str(caught.value) == (
        f"{tmp_path / 'results' / 'small' / 'plan.yaml'}: transfer 1, curves is 'all', expected true or false."
    )


def test_source_dev_is_counted_over_shared_types(board):
    """Quay and harbour share vessels; a pier is no port, whatever is predicted of it."""
    transfer = board(curves=True).transfer
    gold = [Gold("quay/dev/0", ("fram", "at", "pier"), (Span(0, 1, "vessel"), Span(2, 3, "pier")))]
    predicted = [Prediction("quay/dev/0", (Span(0, 1, "vessel"), Span(2, 3, "port")))]

    wanted, found = curves.sharing(gold, predicted, transfer.sources[0], transfer.target, "fine")
    assert [g.spans for g in wanted] == [p.spans for p in found] == [(Span(0, 1, "vessel"),)]
    wanted, found = curves.sharing(gold, predicted, transfer.sources[0], transfer.target, "general")
    assert [g.spans for g in wanted] == [(Span(0, 1, "miscellaneous"), Span(2, 3, "location"))]
