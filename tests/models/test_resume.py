"""A training that was cut short, wherever that was, continues and ends as if nothing had happened."""

import json
import os
import pickle
import random
import resource
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.module import BucketBatches, NerModule
from benchmark.errors import LossNotANumber
from benchmark.models import backbones, checkpoints, training
from benchmark.models.checkpoints import Checkpoint, Keeper
from benchmark.models.tagging import Recipe, TaggerModel, train_tagger
from benchmark.models.training import Fitted, Selection
from benchmark.score.spans import from_tags
from benchmark.work import Work

TYPES = ["vessel", "port"]
RECIPE = Recipe(epochs=3, lr=5e-3, batch=2, warmup=0.2, schedule="linear", clip=1.0, precision="32")
BATCHES = 4  # an epoch


def split(name: str, *sentences: str) -> Split:
    """Return a split of sentences such as `Aurora/B-vessel sank`."""
    found = []
    for n, text in enumerate(sentences):
        words, tags = zip(*((w.partition("/")[0], w.partition("/")[2] or "O") for w in text.split()), strict=True)
        found.append(Sentence(f"harbour/{name}/{n}", words, tuple(from_tags(tags))))
    return Split("harbour", name, tuple(found))


TRAIN = split(
    "train",
    "Aurora/B-vessel left Haven/B-port",
    "rain fell on New/B-port Haven/I-port",
    "nothing moved",
    "Fram/B-vessel met Aurora/B-vessel",
    "the Fram/B-vessel is at sea",
    "at sea",
    "Haven/B-port sleeps",
)
DEV = split("dev", "Fram/B-vessel left New/B-port Haven/I-port", "rain fell", "Aurora/B-vessel is at Haven/B-port")


class Killed(BaseException):
    """Stands for the end of the process."""


def train(folder: Path, encoder: Path, **changed: Any) -> tuple[bytes, str, list[str]]:
    """Train a tiny tagger as a process of its own would, and return all that must not hang on kills.

    That is its weights, its description, and the random numbers that come next. `folder` keeps what outlives a process.
    """
    artefact = folder / "artefact"
    artefact.mkdir(parents=True, exist_ok=True)
    kept = {name: changed.pop(name) for name in ("checkpoints", "checkpoint_seconds") if name in changed}
    kept = {"checkpoints": folder / "partial", "checkpoint_seconds": 0.0, **kept}
    inputs = {"init": None, "train": (TRAIN,), "dev": DEV, "types": TYPES, "crf": False, "recipe": RECIPE, "seed": 1}
    work = Work(artefact, progress=folder / "progress.jsonl", **kept)
    train_tagger(work, backbone=backbones.find(str(encoder)), **{**inputs, **changed})
    about = json.loads((artefact / "model.json").read_text())
    following = [str(draw) for draw in (torch.rand(1).item(), np.random.rand(), random.random())]
    return (artefact / "model.safetensors").read_bytes(), json.dumps(about["fitted"]), following


@pytest.fixture(autouse=True)
def noise(monkeypatch):
    """Let all three sources of random numbers into every loss, beside dropout. Count training steps."""
    steps: list[int] = []

    def noisy(model, batch, number, inner=TaggerModel.training_step):
        steps.append(number)
        return inner(model, batch, number) * (1 + 0.1 * np.random.rand() + 0.1 * random.random())

    monkeypatch.setattr(TaggerModel, "training_step", noisy)
    return steps


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, bert) -> Callable[..., tuple[bytes, str, list[str]]]:
    """Return what a training without kills and without checkpoints ends with; each is run once."""
    ends: dict[str, tuple[bytes, str, list[str]]] = {}

    def end(**changed: Any) -> tuple[bytes, str, list[str]]:
        key = repr(sorted(changed.items()))
        if key not in ends:
            ends[key] = train(tmp_path_factory.mktemp("undisturbed"), bert, checkpoints=None, **changed)
        return ends[key]

    return end


def at_call(count: int, inner: Callable[..., Any], *, after: bool = False) -> Callable[..., Any]:
    """Return `inner`, which kills at its call number `count`: before it does anything, or after it has done all."""
    calls = []

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == count and not after:
            raise Killed
        found = inner(*args, **options)
        if len(calls) == count:
            raise Killed
        return found

    return counted


def killed(monkeypatch, owner: Any, name: str, count: int, run: Callable[[], Any], *, after: bool = False) -> None:
    """Run until call number `count` of a function, which must come."""
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, at_call(count, getattr(owner, name), after=after))
        with pytest.raises(Killed):
            run()


def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]


# ---------------------------------------------------------------------------------------------- killed anywhere


@pytest.mark.parametrize(("crf", "dev"), [(False, None), (True, DEV)])
def test_a_training_killed_in_any_step_ends_as_undisturbed(tmp_path, bert, monkeypatch, undisturbed, crf, dev):
    for step in range(1, 3 * BATCHES + 1):
        here = tmp_path / str(step)
        killed(monkeypatch, TaggerModel, "training_step", step, lambda h=here: train(h, bert, crf=crf, dev=dev))

        assert train(here, bert, crf=crf, dev=dev) == undisturbed(crf=crf, dev=dev), step


def test_no_step_but_the_one_it_was_killed_in_is_taken_twice(tmp_path, bert, monkeypatch, noise):
    killed(monkeypatch, TaggerModel, "training_step", 7, lambda: train(tmp_path, bert))
    train(tmp_path, bert)

    assert noise == [0, 1, 2, 3, 0, 1, *(2, 3), *(0, 1, 2, 3)]


@pytest.mark.parametrize("look", [1, 2, 3])
@pytest.mark.parametrize("after", [False, True])
def test_a_training_killed_in_a_look_at_dev_ends_as_undisturbed(tmp_path, bert, monkeypatch, undisturbed, look, after):
    killed(monkeypatch, TaggerModel, "decode", look, lambda: train(tmp_path, bert), after=after)

    assert train(tmp_path, bert) == undisturbed()


@pytest.mark.parametrize(
    ("hook", "count"),
    [("on_train_epoch_end", 1), ("on_train_epoch_end", 3)] + [("on_train_batch_end", step) for step in (1, 4, 12)],
)
def test_a_training_killed_after_a_checkpoint_ends_as_undisturbed(
    tmp_path, bert, monkeypatch, undisturbed, hook, count
):
    killed(monkeypatch, Keeper, hook, count, lambda: train(tmp_path, bert), after=True)

    assert train(tmp_path, bert) == undisturbed()


@pytest.mark.parametrize(("name", "count"), [("fsync", 1), ("fsync", 6), ("replace", 8), ("replace", 12)])
def test_a_training_killed_while_a_checkpoint_is_written_ends_as_undisturbed(
    tmp_path, bert, monkeypatch, undisturbed, name, count
):
    killed(monkeypatch, os, name, count, lambda: train(tmp_path, bert))

    assert train(tmp_path, bert) == undisturbed()


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [(pl.Trainer, "fit", True), (training, "Fitted", False), (TaggerModel, "save", False), (TaggerModel, "save", True)],
)
def test_a_training_killed_after_its_last_step_ends_as_undisturbed(
    tmp_path, bert, monkeypatch, undisturbed, owner, name, after
):
    killed(monkeypatch, owner, name, 1, lambda: train(tmp_path, bert), after=after)

    assert train(tmp_path, bert) == undisturbed()


def test_a_training_killed_long_after_its_checkpoint_ends_as_undisturbed(tmp_path, bert, monkeypatch, undisturbed):
    keep = Keeper._keep
    for kept, dead in [(1, 4), (2, 8), (3, 5), (4, 6), (4, 12), (8, 11)]:
        here, calls = tmp_path / f"{kept}-{dead}", []

        def once(keeper, trainer, kept=kept, calls=calls):
            calls.append(1)
            if len(calls) == kept:
                keep(keeper, trainer)

        with monkeypatch.context() as patch:
            patch.setattr(Keeper, "_keep", once)
            killed(monkeypatch, TaggerModel, "training_step", dead, lambda h=here: train(h, bert))

        assert train(here, bert) == undisturbed(), (kept, dead)


def test_a_training_killed_again_and_again_ends_as_undisturbed(tmp_path, bert, monkeypatch, undisturbed):
    for _ in range(3 * BATCHES - 1):
        killed(monkeypatch, TaggerModel, "training_step", 2, lambda: train(tmp_path, bert))

    assert train(tmp_path, bert) == undisturbed()


@pytest.mark.parametrize(
    ("owner", "name", "count"),
    [(TaggerModel, "training_step", step) for step in (5, 6, 9, 12)]
    + [(TaggerModel, "decode", 2), (Selection, "on_train_epoch_end", 3), (pl.Trainer, "fit", 1)],
)
def test_a_training_that_stops_early_stops_there_after_any_kill(
    tmp_path, bert, monkeypatch, undisturbed, owner, name, count
):
    recipe = replace(RECIPE, epochs=6, lr=1e-7, patience=2)  # dev F1 stays what it is after the first look
    assert json.loads(undisturbed(recipe=recipe)[1])["epochs"] == 3

    killed(monkeypatch, owner, name, count, lambda: train(tmp_path, bert, recipe=recipe), after=True)
    assert train(tmp_path, bert, recipe=recipe) == undisturbed(recipe=recipe)


def test_a_training_that_looks_at_dev_now_and_then_ends_as_undisturbed(tmp_path, bert, monkeypatch, undisturbed):
    recipe = replace(RECIPE, dev_every=2)
    for step in (5, 9, 10):
        here = tmp_path / str(step)
        killed(monkeypatch, TaggerModel, "training_step", step, lambda h=here: train(h, bert, recipe=recipe))

        assert train(here, bert, recipe=recipe) == undisturbed(recipe=recipe)


def test_an_epoch_of_one_batch_is_continued(tmp_path, bert, monkeypatch, undisturbed):
    recipe = replace(RECIPE, batch=16, epochs=4)
    for step in (1, 2, 4):
        here = tmp_path / str(step)
        killed(monkeypatch, TaggerModel, "training_step", step, lambda h=here: train(h, bert, recipe=recipe))

        assert train(here, bert, recipe=recipe) == undisturbed(recipe=recipe)


def test_a_training_that_is_asked_to_end_keeps_a_checkpoint_first(tmp_path, bert, monkeypatch, undisturbed, noise):
    noisy = TaggerModel.training_step

    def asked(*args):
        if len(noise) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return noisy(*args)

    with monkeypatch.context() as patch:
        patch.setattr(TaggerModel, "training_step", asked)
        with pytest.raises(SystemExit):
            train(tmp_path, bert, checkpoint_seconds=3600.0)

    ended = train(tmp_path, bert, checkpoint_seconds=3600.0)
    assert len(noise) == 3 * BATCHES
    assert ended == undisturbed()


def fork(run: Callable[[], Any]) -> int:
    """Run in a process of its own and return its number; it ends with 0 if all went well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which sleep here
        process = os.fork()
    if process:
        return process
    try:
        run()
        os._exit(0)
    finally:
        os._exit(1)


def test_a_process_killed_at_random_moments_ends_as_undisturbed(tmp_path, bert, undisturbed):
    recipe = replace(RECIPE, epochs=12)
    end = undisturbed(recipe=recipe)
    chance = random.Random(os.getpid())
    kills = 0
    while (process := fork(lambda: train(tmp_path, bert, recipe=recipe))) and kills < 6:
        time.sleep(chance.uniform(0.05, 0.25))
        os.kill(process, signal.SIGKILL)
        if os.waitpid(process, 0)[1] == 0:
            break
        kills += 1
    else:
        assert os.waitpid(process, 0)[1] == 0

    assert ((tmp_path / "artefact/model.safetensors").read_bytes(), kills > 0) == (end[0], True)
    assert json.dumps(json.loads((tmp_path / "artefact/model.json").read_text())["fitted"]) == end[1]


# ---------------------------------------------------------------------------------------------- what is kept


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_checkpoints_do_not_change_what_a_training_ends_with(tmp_path, bert, undisturbed, seconds):
    assert train(tmp_path, bert, checkpoint_seconds=seconds) == undisturbed()


def kept_files(folder: Path) -> list[str]:
    """Return the names of the checkpoints, whole and half ones."""
    return [path.name for path in (folder / "partial").glob("fit*")]


def test_one_file_is_kept(tmp_path, bert, monkeypatch):
    killed(monkeypatch, TaggerModel, "training_step", 7, lambda: train(tmp_path, bert))
    assert kept_files(tmp_path) == ["fit.ckpt"]
    (tmp_path / "partial/fit.ckpt.part").write_bytes(b"half a checkpoint")

    train(tmp_path, bert)
    assert kept_files(tmp_path) == ["fit.ckpt"]


def test_nothing_is_kept_where_there_is_no_folder_for_it(tmp_path, bert, monkeypatch, noise):
    killed(monkeypatch, TaggerModel, "training_step", 7, lambda: train(tmp_path, bert, checkpoints=None))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["artefact", "progress.jsonl"]

    train(tmp_path, bert, checkpoints=None)
    assert len(noise) == 6 + 3 * BATCHES


def test_log_and_report_say_once_where_training_continues(tmp_path, bert, monkeypatch, capsys):
    killed(monkeypatch, TaggerModel, "training_step", 7, lambda: train(tmp_path, bert))
    before = len(told(tmp_path))
    assert "continues" not in capsys.readouterr().out
    train(tmp_path, bert)

    assert capsys.readouterr().out.count("continues from epoch 1.5\n") == 1
    first, *others = told(tmp_path)[before:]
    assert (first["epoch"], first["of"], first["resumed"]) == (1.5, 3, 1.5)
    assert [line["epoch"] for line in others if "dev_f1" in line] == [2.0, 3.0]
    assert not [line for line in others if "resumed" in line]


def test_a_training_that_has_ended_is_not_repeated(tmp_path, bert, capsys, noise):
    end = train(tmp_path, bert)
    steps = len(noise)

    assert train(tmp_path, bert) == end
    assert len(noise) == steps
    assert capsys.readouterr().out.endswith("continues from epoch 3\n")
    assert told(tmp_path)[-1]["resumed"] == 3.0


def kept_at(tmp_path: Path, bert: Path, monkeypatch, *, seconds: float, step: float, cost: float) -> list[float]:
    """Return when checkpoints were begun in a training whose steps and checkpoints take this many seconds."""
    clock, begun = [0.0], []
    noisy = TaggerModel.training_step

    def slow_step(*args):
        clock[0] += step
        return noisy(*args)

    def slow_write(file, state):
        if "fitted" not in state:
            begun.append(clock[0])
            clock[0] += cost

    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(TaggerModel, "training_step", slow_step)
    monkeypatch.setattr(Checkpoint, "write", slow_write)
    train(tmp_path, bert, checkpoint_seconds=seconds, dev=None)
    return begun


def test_a_checkpoint_is_kept_whenever_its_seconds_have_passed(tmp_path, bert, monkeypatch):
    assert kept_at(tmp_path, bert, monkeypatch, seconds=25.0, step=10.0, cost=0.0) == [30.0, 60.0, 90.0]


def test_checkpoints_take_a_twentieth_of_the_time_at_most(tmp_path, bert, monkeypatch):
    assert kept_at(tmp_path, bert, monkeypatch, seconds=5.0, step=10.0, cost=2.0) == [10.0, 52.0, 94.0]


def test_a_checkpoint_a_batch_is_kept_where_no_seconds_need_to_pass(tmp_path, bert, monkeypatch):
    begun = kept_at(tmp_path, bert, monkeypatch, seconds=0.0, step=1.0, cost=0.0)

    assert begun == [float(step) for step in range(1, 3 * BATCHES)]


def test_a_full_disk_ends_no_training(tmp_path, bert, undisturbed, capsys):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    save = TaggerModel.save

    def unlimited(*args):
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        save(*args)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TaggerModel, "save", unlimited)
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
            assert train(tmp_path, bert) == undisturbed()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)

    assert "no checkpoint could be written: " in capsys.readouterr().out
    assert kept_files(tmp_path) == []


# ---------------------------------------------------------------------------------------------- of no use


def half_trained(tmp_path: Path, bert: Path, monkeypatch) -> Path:
    """Return the checkpoint of a training that was killed in its seventh step."""
    killed(monkeypatch, TaggerModel, "training_step", 7, lambda: train(tmp_path, bert))
    return tmp_path / "partial/fit.ckpt"


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def cut(good: bytes) -> bytes:
    return good[: len(good) // 2]


def altered(good: bytes) -> bytes:
    at = len(good) // 2
    return good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [cut, altered, lambda good: b"", lambda good: good[:-1], lambda good: bytes(1000), lambda good: pickle.dumps({})],
)
def test_a_torn_checkpoint_is_deleted_and_training_starts_again(
    tmp_path, bert, monkeypatch, undisturbed, capsys, noise, spoil
):
    file = half_trained(tmp_path, bert, monkeypatch)
    file.write_bytes(spoil(file.read_bytes()))
    noise.clear()

    assert train(tmp_path, bert) == undisturbed()
    assert "checkpoint fit.ckpt deleted, training starts from the beginning (" in capsys.readouterr().out
    assert len(noise) == 3 * BATCHES


def test_no_code_is_run_from_a_checkpoint(tmp_path, bert, monkeypatch, undisturbed):
    file = half_trained(tmp_path, bert, monkeypatch)
    torch.save({**torch.load(file, weights_only=True), "more": Evil()}, file)
    monkeypatch.chdir(tmp_path)

    assert train(tmp_path, bert) == undisturbed()
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"crf": True}, "weights and random numbers at the start"),
        ({"types": ["port", "vessel"], "seed": 2}, "weights and random numbers at the start"),
        ({"train": (replace(TRAIN, sentences=TRAIN.sentences[:6]),)}, "batches"),
        ({"dev": None}, "arguments"),
    ],
)
def test_the_checkpoint_of_another_training_is_deleted(tmp_path, bert, monkeypatch, undisturbed, capsys, changed, why):
    half_trained(tmp_path, bert, monkeypatch)
    expected = f"checkpoint fit.ckpt deleted, training starts from the beginning (not the same: {why})\n"

    assert train(tmp_path, bert, **changed) == undisturbed(**changed)
    assert expected in capsys.readouterr().out


def test_the_checkpoint_of_another_lightning_is_deleted(tmp_path, bert, monkeypatch, undisturbed, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(training, "version", lambda package: "1.0")
        half_trained(tmp_path, bert, monkeypatch)

    assert train(tmp_path, bert) == undisturbed()
    assert "(not the same: software)\n" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------- several trainings


def two_fits(folder: Path, bert: Path, names: tuple[str, str]) -> tuple[list[Fitted], bytes, float]:
    """Train one model twice from one seed, as a step may: on sentences, then on the same in another order."""
    training.prepare(1, 1)
    backbone = backbones.find(str(bert))
    model = TaggerModel(backbones.encoder(backbone), TYPES, crf=False)
    fitted = []
    for name, sentences in zip(names, (TRAIN.sentences, TRAIN.sentences[::-1]), strict=True):
        training.prepare(1, 1)
        some = replace(TRAIN, sentences=sentences)
        data = NerModule(
            backbones.features(backbone), train=some, classes=lambda s: [1] * len(s.words), batch=2, seed=1
        )
        model.recipe = replace(RECIPE, epochs=2)
        work = Work(folder, checkpoints=folder / "partial", checkpoint_seconds=0.0)
        fitted.append(training.fit(model, data, work, epochs=2, precision="32", name=name))
    weights = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
    return fitted, weights, torch.rand(1).item()


@pytest.mark.parametrize(
    ("names", "left"),
    [(("source", "target"), 2 * BATCHES - 1), (("fit", "fit"), 4 * BATCHES)],
    ids=["names of their own", "one name"],
)
def test_a_step_may_train_twice(tmp_path, bert, monkeypatch, noise, names, left):
    end = two_fits(tmp_path / "undisturbed", bert, names)
    assert len(noise) == 4 * BATCHES
    killed(
        monkeypatch, TaggerModel, "training_step", 2 * BATCHES + 2, lambda: two_fits(tmp_path / "killed", bert, names)
    )
    noise.clear()

    assert two_fits(tmp_path / "killed", bert, names) == end
    assert len(noise) == left


# ---------------------------------------------------------------------------------------------- other modules


class Walk(pl.LightningModule):
    """One weight that takes random steps: the batch decides where to, chance how far."""

    def __init__(self, nan_at: int | None = None, kill_at: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.taken, self.nan_at, self.kill_at = 0, nan_at, kill_at

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        self.taken += 1
        if self.taken == self.kill_at:
            raise Killed
        if self.taken == self.nan_at:
            return self.weight * float("nan")
        return self.weight * batch.float().mean() * torch.rand(())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1.0)


class Shuffled(pl.LightningDataModule):
    """A loader as torch has it, which cannot be taken up within an epoch and draws its order from torch's numbers."""

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader([1, -2, 3, -4, 5], shuffle=True)  # type: ignore[arg-type]


def walk(folder: Path, module: Walk, epochs: int = 3) -> tuple[float, int]:
    """Return where a walk ends, and the steps that it took."""
    training.prepare(1, 1)
    work = Work(folder, checkpoints=folder / "partial", checkpoint_seconds=0.0)
    training.fit(module, Shuffled(), work, epochs=epochs, precision="32")
    return float(module.weight.detach()), module.taken


def test_a_loader_that_cannot_be_taken_up_starts_its_epoch_again(tmp_path):
    end, _ = walk(tmp_path / "undisturbed", Walk())
    for step, left in ((3, 15), (8, 10), (15, 5)):
        with pytest.raises(Killed):
            walk(tmp_path / str(step), Walk(kill_at=step))

        assert walk(tmp_path / str(step), Walk()) == (end, left)


def test_a_loss_that_is_no_number_leaves_no_checkpoint(tmp_path):
    with pytest.raises(LossNotANumber):
        walk(tmp_path, Walk(nan_at=9))

    assert kept_files(tmp_path) == []


# ---------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("given", [0, 1, 3, 4])
def test_a_loader_goes_on_where_another_was_and_loads_nothing_twice(given, seed):
    def batches(loaded: list[int]) -> NerModule:
        data = NerModule(
            backbones.features(backbones.find("rnn")), train=TRAIN, classes=lambda s: [0] * len(s.words), batch=2
        )
        collate = data.features.collate
        data.features.collate = lambda rows: (loaded.append(len(rows)), collate(rows))[1]
        return data.loader("train", seed=seed)

    whole = [batch["rows"].tolist() for batch in batches([])]
    first, loaded = batches([]), []
    for _ in zip(range(given), first, strict=False):
        pass
    second = batches(loaded)
    second.load_state_dict(first.state_dict())

    assert [batch["rows"].tolist() for batch in second] == whole[given:]
    assert (len(loaded), len(second)) == (len(whole) - given, len(whole))
    assert [batch["rows"].tolist() for batch in second] == whole


def test_order_is_told_how_far_it_is():
    order = BucketBatches([1, 2, 3], 1, 0)
    passing = iter(order)

    assert [order.given, *(order.given for _ in passing)] == [0, 1, 2, 3]
