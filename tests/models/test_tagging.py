"""The tagger learns, decodes, is taken over, saved and selected as its docstrings say."""

import json
import math
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.module import NerModule
from benchmark.errors import PlanError, StageFailed
from benchmark.models import backbones, training
from benchmark.models.encoders import RecurrentWords
from benchmark.models.tagging import MASKED, Recipe, TaggerModel, class_weights, merge, tag, tags_of, train_tagger
from benchmark.models.training import Fitted, fit, optimizer, resolve_precision
from benchmark.score.protocols import read_predictions
from benchmark.score.spans import from_tags
from benchmark.work import Work

TYPES = ["vessel", "port"]
TINY = Recipe(epochs=25, lr=5e-3, batch=4, precision="32")


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
)
DEV = split("dev", "Fram/B-vessel left New/B-port Haven/I-port", "rain fell")


def work(folder: Path) -> Work:
    folder.mkdir(parents=True, exist_ok=True)
    return Work(folder=folder, progress=folder / "progress.jsonl")


def train(folder: Path, encoder: Path | str = "rnn", **changed: Any) -> Path:
    """Train a tiny tagger into `folder` and return it."""
    inputs = {
        "backbone": backbones.find(str(encoder)),
        "init": None,
        "train": (TRAIN,),
        "dev": None,
        "types": TYPES,
        "crf": False,
        "recipe": TINY,
        "seed": 1,
    }
    train_tagger(work(folder), **{**inputs, **changed})
    return folder


def predict(folder: Path, model: Path, words: Split, names: dict[str, str] | None = None) -> list[tuple[str, ...]]:
    """Return the tags that a trained model gives to words."""
    names = {name: name for name in TYPES} if names is None else names
    tag(work(folder), model=model, words=words.words_only(), names=names, precision="32", seed=1)
    return [p.tags or () for p in read_predictions(folder / "predictions.jsonl")]


class Given(nn.Module):
    """An encoder whose word vectors stand in the batch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["vectors"]


def given_model(types: list[str], *, crf: bool, width: int = 3) -> TaggerModel:
    """Return a tagger with random weights over given word vectors."""
    torch.manual_seed(5)
    model = TaggerModel(Given(width), types, crf=crf)
    if model.crf is not None:
        for table in (model.crf.transitions, model.crf.start_transitions, model.crf.end_transitions):
            nn.init.normal_(table)
    return model


def given_batch(lengths: list[int], n_tags: int, width: int = 3) -> dict[str, Tensor]:
    """Return a batch of random vectors and classes for sentences of these lengths."""
    torch.manual_seed(6)
    words = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    classes = torch.randint(n_tags, words.shape).masked_fill(~words, -100)
    vectors = torch.randn(*words.shape, width)
    return {"vectors": vectors, "words": words, "classes": classes, "rows": torch.arange(len(lengths))}


def decoded(model: TaggerModel, batch: dict[str, Tensor], allowed: list[str] | None = None) -> list[list[str]]:
    """Return the tags of one batch."""
    data = SimpleNamespace(
        loader=lambda part, seed: [batch], join=lambda part, answers, empty: [answers[row] for row in sorted(answers)]
    )
    return model.decode(data, "predict", precision="32", allowed=allowed)


# ---------------------------------------------------------------------------------------------- it learns


@pytest.mark.parametrize("crf", [False, True])
@pytest.mark.parametrize("encoder", ["rnn", "bert"])
def test_a_tagger_learns_its_training_sentences_by_heart(tmp_path, request, encoder, crf):
    encoder = request.getfixturevalue("bert") if encoder == "bert" else encoder
    recipe = replace(TINY, epochs=40, warmup=0.1)
    model = train(tmp_path / "model", encoder, crf=crf, recipe=recipe)

    found = predict(tmp_path / "found", model, TRAIN)

    assert [tuple(from_tags(tags)) for tags in found] == [sentence.spans for sentence in TRAIN.sentences]


def test_training_lowers_the_loss(tmp_path, monkeypatch):
    losses = []

    def told(model, batch, number, inner=TaggerModel.training_step):
        loss = inner(model, batch, number)
        losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(TaggerModel, "training_step", told)
    train(tmp_path)

    assert losses[-1] < losses[0] / 4


def test_training_switches_dropout_on_also_after_a_look_at_dev(tmp_path, bert, monkeypatch):
    modes = []

    def told(model, batch, number, inner=TaggerModel.training_step):
        modes.append(all(module.training for module in model.modules()))
        return inner(model, batch, number)

    monkeypatch.setattr(TaggerModel, "training_step", told)
    train(tmp_path, bert, dev=DEV, recipe=replace(TINY, epochs=3))

    assert modes == [True, True, True]


@torch.no_grad()
def test_the_loss_of_a_word_weighs_by_its_class():
    model = given_model(["port"], crf=False)
    batch = given_batch([3, 1], 3)
    model.weights = torch.tensor([0.5, 2.0, 1.0])
    scores = model(batch).log_softmax(-1)
    words = [(s, t) for s in range(2) for t in range(3) if batch["words"][s, t]]

    weights = [float(model.weights[batch["classes"][s, t]]) for s, t in words]
    naive = -sum(w * float(scores[s, t, batch["classes"][s, t]]) for w, (s, t) in zip(weights, words, strict=True))

    assert float(model.training_step(batch, 0)) == pytest.approx(naive / sum(weights), rel=1e-5)


def test_several_splits_are_trained_as_one():
    other = replace(DEV, corpus="quay")

    both = merge([TRAIN, other])

    assert (both.corpus, both.name) == ("harbour+quay", "train+dev")
    assert both.sentences == TRAIN.sentences + other.sentences
    assert merge([TRAIN]) is TRAIN


def test_a_span_of_another_type_is_refused(tmp_path):
    with pytest.raises(PlanError):
        train(tmp_path, types=["vessel"])


# ---------------------------------------------------------------------------------------------- the CRF


@torch.no_grad()
def path_score(model: TaggerModel, scores: Tensor, path: tuple[int, ...]) -> float:
    """Return the score of one tag sequence, added up by hand."""
    crf = model.crf
    assert crf is not None
    total = float(crf.start_transitions[path[0]] + crf.end_transitions[path[-1]])
    total += sum(float(scores[t, k]) for t, k in enumerate(path))
    return total + sum(float(crf.transitions[a, b]) for a, b in pairwise(path))


@torch.no_grad()
def test_the_crf_loss_is_the_likelihood_over_all_paths():
    model = given_model(["port"], crf=True)
    batch = given_batch([4, 2, 1], 3)
    scores = model(batch)
    total = 0.0
    for s, length in enumerate((4, 2, 1)):
        every = [path_score(model, scores[s], path) for path in product(range(3), repeat=length)]
        gold = path_score(model, scores[s], tuple(batch["classes"][s, :length].tolist()))
        total += math.log(sum(math.exp(score) for score in every)) - gold

    assert float(model.training_step(batch, 0)) == pytest.approx(total / 7, rel=1e-4)


@pytest.mark.parametrize("allowed", [None, ["port"], []])
def test_viterbi_finds_the_best_of_all_paths(allowed):
    model = given_model(["vessel", "port"], crf=True)
    batch = given_batch([4, 3, 1], 5)
    scores = model(batch)
    may = [k for k, t in enumerate(model.tags) if t == "O" or allowed is None or t[2:] in allowed]
    best = [
        max(product(may, repeat=length), key=lambda path, s=s: path_score(model, scores[s], path))
        for s, length in enumerate((4, 3, 1))
    ]

    assert decoded(model, batch, allowed) == [[model.tags[k] for k in path] for path in best]


# ---------------------------------------------------------------------------------------------- what may be predicted


def test_marginals_of_a_crf_are_those_of_all_paths():
    model = given_model(["port"], crf=True)
    scores = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(1))
    words = torch.tensor([[True, True, True], [True, True, False]])

    found = model.marginals(scores, words)

    for row, length in enumerate((3, 2)):
        paths = list(product(range(3), repeat=length))
        weights = torch.tensor([path_score(model, scores[row], path) for path in paths]).softmax(0)
        for place, tag_number in product(range(length), range(3)):
            wanted = sum(w for w, path in zip(weights, paths, strict=True) if path[place] == tag_number)
            assert float(found[row, place, tag_number]) == pytest.approx(float(wanted), abs=1e-5)


@pytest.mark.parametrize("crf", [False, True])
def test_doubt_is_highest_where_all_tags_are_alike_and_none_where_one_is_certain(tmp_path, crf):
    model = TaggerModel(backbones.encoder(backbones.find("rnn")), TYPES, crf=crf)
    for weights in (model.head.weight, model.head.bias, *(model.crf.parameters() if model.crf is not None else ())):
        nn.init.zeros_(weights)
    data = NerModule(backbones.features(backbones.find("rnn")), predict=split("test", "rain fell", "fog"))

    alike = model.doubts(data, "predict", precision="32")
    some = model.doubts(data, "predict", precision="32", allowed=["port"])
    with torch.no_grad():
        model.head.bias[0] = 60.0
    certain = model.doubts(data, "predict", precision="32")

    assert [len(of_words) for of_words in alike] == [2, 1]
    assert alike[0][0] == pytest.approx((math.log2(5), 5 * math.log(5)), rel=1e-4)  # O, and B- and I- of two types
    assert some[1][0] == pytest.approx((math.log2(3), 3 * math.log(3)), rel=1e-4)
    assert certain[0][0][0] == pytest.approx(0.0, abs=1e-6)
    assert certain[0][0][1] > 100


def test_tagging_with_doubt_predicts_the_same(tmp_path):
    model = train(tmp_path / "model", recipe=replace(TINY, epochs=2))
    named = split("test", "Aurora left Haven")
    words = replace(named, sentences=(*named.sentences, Sentence("harbour/test/1", (), None)))
    common = {"model": model, "words": words, "names": {"vessel": "vessel", "port": "port"}, "precision": "32"}
    for name, more in (("plain", {}), ("doubt", {"doubt": True})):
        tag(work(tmp_path / name), **common, seed=1, **more)

    assert (tmp_path / "plain" / "predictions.jsonl").read_bytes() == (
        tmp_path / "doubt" / "predictions.jsonl"
    ).read_bytes()
    assert not (tmp_path / "plain" / "doubt.jsonl").exists()
    first, empty = [json.loads(line) for line in (tmp_path / "doubt" / "doubt.jsonl").read_text().splitlines()]
    assert first[0] == "harbour/test/0"
    assert [len(column) for column in first[1:]] == [3, 3]
    assert empty == ["harbour/test/1", [], []]


@pytest.mark.parametrize("crf", [False, True])
def test_a_type_that_is_not_allowed_is_never_predicted(crf):
    model = given_model(["vessel", "port"], crf=crf)
    with torch.no_grad():
        model.head.bias[1:3] += 100.0  # vessel wins everywhere
    batch = given_batch([5, 2], 5)

    assert {t[2:] for tags in decoded(model, batch) for t in tags} == {"vessel"}
    assert not {t for tags in decoded(model, batch, ["port"]) for t in tags} & {"B-vessel", "I-vessel"}
    assert MASKED < -1000


def test_a_prediction_carries_the_name_that_its_label_has(tmp_path):
    model = train(tmp_path / "model")

    found = predict(tmp_path / "found", model, TRAIN, {"vessel": "ship"})

    assert {t[2:] for tags in found for t in tags if t != "O"} == {"ship"}


# ---------------------------------------------------------------------------------------------- class weights


def test_inverse_class_weights_are_n_over_k_times_the_count():
    recipe = replace(TINY, class_weights="inverse", o_weight=0.5)

    weights = class_weights(recipe, tags_of(["port"]), [[0, 0, 0, 1], [0, 0, 1, 2]])

    assert weights is not None
    assert weights.tolist() == pytest.approx([0.5 * 8 / (3 * 5), 8 / (3 * 2), 8 / (3 * 1)])


def test_inverse_class_weights_stop_at_twenty():
    weights = class_weights(replace(TINY, class_weights="inverse"), tags_of(["port"]), [[0] * 99 + [1]])

    assert weights is not None
    assert weights.tolist() == pytest.approx([100 / (2 * 99), 20.0, 20.0])


def test_o_weight_alone_weighs_o_alone():
    weights = class_weights(replace(TINY, o_weight=0.1), tags_of(["port"]), [[0, 1]])

    assert weights is not None
    assert weights.tolist() == pytest.approx([0.1, 1.0, 1.0])


def test_without_weights_all_classes_weigh_alike():
    assert class_weights(TINY, tags_of(["port"]), [[0, 1]]) is None


# ---------------------------------------------------------------------------------------------- taking over


def recurrent_model(types: list[str], seed: int, *, crf: bool) -> TaggerModel:
    torch.manual_seed(seed)
    return TaggerModel(RecurrentWords(50, 4, 3), types, crf=crf)


def test_a_tagger_takes_over_the_encoder_and_the_rows_of_shared_types():
    old, new = recurrent_model(["a", "b", "c"], 1, crf=True), recurrent_model(["d", "c", "a"], 2, crf=True)
    fresh = {name: value.clone() for name, value in new.state_dict().items()}

    taken = new.take_over(old)

    assert taken == ["c", "a"]
    for name, value in old.encoder.state_dict().items():
        assert torch.equal(new.encoder.state_dict()[name], value)
    # tags of old: O Ba Ia Bb Ib Bc Ic; of new: O Bd Id Bc Ic Ba Ia
    origin = {0: 0, 3: 5, 4: 6, 5: 1, 6: 2}
    state, was = new.state_dict(), old.state_dict()
    for k in range(7):
        for name in ("head.weight", "head.bias", "crf.start_transitions", "crf.end_transitions"):
            expected = was[name][origin[k]] if k in origin else fresh[name][k]
            assert torch.equal(state[name][k], expected), (name, k)
    for j, k in product(range(7), repeat=2):
        shared = j in origin and k in origin
        expected = was["crf.transitions"][origin[j], origin[k]] if shared else fresh["crf.transitions"][j, k]
        assert state["crf.transitions"][j, k] == expected, (j, k)


def test_taggers_without_a_shared_type_still_share_o():
    old, new = recurrent_model(["a"], 1, crf=False), recurrent_model(["b"], 2, crf=False)
    fresh = new.head.weight.detach().clone()

    assert new.take_over(old) == []
    assert torch.equal(new.head.weight[0], old.head.weight[0])
    assert torch.equal(new.head.weight[1:], fresh[1:])


@pytest.mark.parametrize(("old_has", "new_has"), [(True, False), (False, True)])
def test_a_crf_on_one_side_alone_is_not_taken_over(old_has, new_has):
    old, new = recurrent_model(["a"], 1, crf=old_has), recurrent_model(["a"], 2, crf=new_has)

    assert new.take_over(old) == ["a"]
    assert torch.equal(new.head.weight, old.head.weight)


def test_training_from_another_tagger_writes_down_what_was_taken_over(tmp_path):
    source = train(tmp_path / "source")
    quay = split("train", "Ann/B-person left Haven/B-port")

    target = train(tmp_path / "target", init=source, train=(quay,), types=["person", "port"])

    assert json.loads((target / "model.json").read_text())["taken_over"] == ["port"]


# ---------------------------------------------------------------------------------------------- saving


@pytest.mark.parametrize("crf", [False, True])
@pytest.mark.parametrize("encoder", ["rnn", "bert"])
def test_a_saved_tagger_scores_as_before(tmp_path, request, encoder, crf):
    backbone = backbones.find(str(request.getfixturevalue("bert")) if encoder == "bert" else encoder)
    torch.manual_seed(3)
    model = TaggerModel(backbones.encoder(backbone), TYPES, crf=crf).eval()
    features = backbones.features(backbone)
    batch = features.collate([row for s in TRAIN.sentences for row in features.encode(s.words)])

    model.save(tmp_path, backbone, {"note": "kept"})
    again, its_backbone = TaggerModel.load(tmp_path)

    assert its_backbone == backbone
    assert (again.tags, again.crf is not None) == (model.tags, crf)
    assert json.loads((tmp_path / "model.json").read_text())["note"] == "kept"
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    with torch.no_grad():
        assert torch.equal(again.eval()(batch), model(batch))


# ---------------------------------------------------------------------------------------------- padding


@pytest.mark.parametrize("encoder", ["rnn", "bert", "roberta"])
def test_padding_does_not_change_word_vectors(request, encoder):
    backbone = backbones.find(encoder if encoder == "rnn" else str(request.getfixturevalue(encoder)))
    torch.manual_seed(4)
    model, features = backbones.encoder(backbone).eval(), backbones.features(backbone)
    rows = [features.encode(text.split())[0] for text in ("a", "rain at sea", "the old ship is in the bay")]

    with torch.no_grad():
        together = model(features.collate(rows))
        alone = [model(features.collate([row]))[0] for row in rows]

    for vectors, single in zip(together, alone, strict=True):
        torch.testing.assert_close(vectors[: len(single)], single, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------------------------------------- selection


class Countdown(pl.LightningModule):
    """One weight, 0 at first, that falls by 1 a step: an epoch of two steps takes 2 off it."""

    def __init__(self, nan_from: int | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.nan_from, self.taken = nan_from, 0

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        self.taken += 1
        poisoned = self.nan_from is not None and self.taken > self.nan_from
        return self.weight * (math.nan if poisoned else 1.0)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


class TwoSteps(pl.LightningDataModule):
    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader([0, 1])  # type: ignore[arg-type]


def fitted(tmp_path: Path, scores: list[float] | None, module: Countdown | None = None, **options: Any):
    """Fit the countdown with a dev F1 that is read off a list; return how it went and the weight that is left."""
    training.prepare(1, 1)
    module = module or Countdown()
    asked = iter(scores or ())
    score = None if scores is None else lambda: next(asked)
    found = fit(module, TwoSteps(), work(tmp_path), precision="32", score=score, **options)
    return found, float(module.weight.detach())


def test_the_best_dev_epoch_is_kept(tmp_path):
    assert fitted(tmp_path, [10.0, 30.0, 20.0], epochs=3) == (Fitted(3, 2, (10.0, 30.0, 20.0), "32"), -4.0)


def test_of_equal_dev_epochs_the_first_is_kept(tmp_path):
    assert fitted(tmp_path, [30.0, 30.0], epochs=2) == (Fitted(2, 1, (30.0, 30.0), "32"), -2.0)


def test_the_last_epoch_is_kept_without_dev(tmp_path):
    assert fitted(tmp_path, None, epochs=3) == (Fitted(3, 3, (), "32"), -6.0)


def test_patience_stops_training(tmp_path):
    found = fitted(tmp_path, [10.0, 30.0, 20.0, 30.0, 99.0], epochs=5, patience=2)

    assert found == (Fitted(4, 2, (10.0, 30.0, 20.0, 30.0), "32"), -4.0)


def test_dev_is_asked_every_few_epochs_and_at_the_end(tmp_path):
    assert fitted(tmp_path, [10.0, 20.0, 30.0], epochs=5, every=2) == (Fitted(5, 5, (10.0, 20.0, 30.0), "32"), -10.0)


def test_patience_counts_epochs_and_not_looks_at_dev(tmp_path):
    found, _ = fitted(tmp_path, [30.0, 20.0, 99.0], epochs=6, every=2, patience=2)

    assert found == Fitted(4, 2, (30.0, 20.0), "32")


def test_progress_is_told_after_every_epoch(tmp_path):
    fitted(tmp_path, [10.0, 20.0], epochs=2)
    told = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]

    assert [(t["epoch"], t["of"], t["dev_f1"]) for t in told if "dev_f1" in t] == [(1.0, 2, 10.0), (2.0, 2, 20.0)]


def test_a_loss_that_is_no_number_fails_the_training_at_the_end_of_its_epoch(tmp_path):
    with pytest.raises(StageFailed) as caught:
        fitted(tmp_path, None, Countdown(nan_from=3), epochs=20)
    assert str(caught.value) == "loss is not a number: nan at step 4"


def test_a_loss_that_is_no_number_fails_a_short_training_that_keeps_an_earlier_epoch(tmp_path):
    with pytest.raises(StageFailed):
        fitted(tmp_path, [90.0, 0.0, 0.0], Countdown(nan_from=3), epochs=3)


# ---------------------------------------------------------------------------------------------- precision, schedule


@pytest.mark.parametrize(
    ("cuda", "gpu_bf16", "cpu", "expected"),
    [
        (True, True, {}, "bf16"),
        (True, False, {"amx_bf16": True}, "32"),
        (False, False, {"avx512_bf16": True}, "bf16"),
        (False, False, {"amx_bf16": True, "avx512_bf16": False}, "bf16"),
        (False, False, {"avx2": True}, "32"),
    ],
)
def test_auto_precision_is_bf16_where_the_hardware_has_it(monkeypatch, cuda, gpu_bf16, cpu, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: gpu_bf16)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)

    assert resolve_precision("auto") == expected


@pytest.mark.parametrize("asked", ["32", "bf16"])
def test_a_precision_that_is_asked_for_is_used(asked):
    assert resolve_precision(asked) == asked


def rates(steps: int, warmup: float, schedule: str) -> list[float]:
    model = recurrent_model(["a"], 1, crf=False)
    plan = optimizer(model, lr=1.0, head_lr=None, weight_decay=0.0, steps=steps, warmup=warmup, schedule=schedule)
    assert plan["lr_scheduler"]["interval"] == "step"
    [rate, same] = plan["lr_scheduler"]["scheduler"].lr_lambdas
    assert [rate(step) for step in range(steps)] == [same(step) for step in range(steps)]
    return [rate(step) for step in range(steps)]


def test_a_constant_schedule_stays_at_one():
    assert rates(4, 0.0, "constant") == [1.0, 1.0, 1.0, 1.0]


def test_a_warm_up_rises_to_one_and_stays():
    assert rates(8, 0.5, "constant") == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_a_linear_schedule_falls_to_nothing_at_the_last_step():
    assert rates(8, 0.5, "linear") == [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]


def test_a_linear_schedule_without_warm_up_starts_at_one():
    assert rates(4, 0.0, "linear") == [1.0, 0.75, 0.5, 0.25]


@pytest.mark.parametrize(("head_lr", "expected"), [(None, [1e-3, 1e-3]), (0.1, [1e-3, 0.1])])
def test_all_that_is_not_the_encoder_learns_at_the_heads_rate(head_lr, expected):
    model = recurrent_model(["a"], 1, crf=True)
    plan = optimizer(model, lr=1e-3, head_lr=head_lr, weight_decay=0.2, steps=9, warmup=0.0, schedule="constant")
    groups = plan["optimizer"].param_groups

    assert [group["initial_lr"] for group in groups] == expected
    assert [group["weight_decay"] for group in groups] == [0.2, 0.2]
    assert [len(group["params"]) for group in groups] == [len(list(model.encoder.parameters())), 5]


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_gradients_are_clipped_in_any_precision(tmp_path, monkeypatch, precision):
    norms = []
    step = torch.optim.AdamW.step

    def watched(self, closure):
        def then_look():
            loss = closure()
            norms.append(norm_of(self))
            return loss

        return step(self, then_look)

    def norm_of(optimizer) -> float:
        grads = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        return torch.linalg.vector_norm(torch.cat(grads)).item()

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    train(tmp_path / "free", recipe=replace(TINY, epochs=1, precision=precision))
    free, norms[:] = max(norms), []
    train(tmp_path / "clipped", recipe=replace(TINY, epochs=1, clip=free / 10, precision=precision))

    assert max(norms) == pytest.approx(free / 10, rel=1e-3)
