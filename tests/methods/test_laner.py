"""LANER computes what its paper says, however fast; each setting of the authors' code does what it says.

The oracle is the plain loop: one sentence at a time, no padding, torch's Bi-LSTM on every label history anew.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, BertTokenizer

from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.module import NerModule
from benchmark.corpus.transfer import Spec, Transfer, build
from benchmark.errors import PlanError, Unsupported
from benchmark.models import backbones
from benchmark.models.tagging import Recipe, TaggerModel, tags_of, train_tagger
from benchmark.score.protocols import read_predictions, strict_counts
from benchmark.score.spans import from_tags, to_tags
from benchmark.work import Work
from methods import laner
from methods.laner import Laner, LanerModel, Network, Settings, tag_laner, train_laner

TYPES = ["vessel", "port"]
WIDTH = 6
NETWORKS = {
    "whole": Network(label_dim=5),
    "without-LC": Network(label_dim=5, label_context=False),
    "without-LB": Network(label_dim=5, label_background=False),
    "without-both": Network(label_dim=5, label_background=False, label_context=False),
    "first-token-head": Network(label_dim=5, first_token_head=True),
    "zero-O": Network(label_dim=5, zero_o=True),
}


class Given(nn.Module):
    """An encoder whose word vectors stand in the batch."""

    width = WIDTH

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["vectors"]


def given_model(network: Network, types: list[str] = TYPES, seed: int = 5) -> LanerModel:
    torch.manual_seed(seed)
    model = LanerModel(Given(), types, network)
    with torch.no_grad():
        for value in model.labels.parameters() if model.labels is not None else ():
            value.mul_(2)  # histories weigh enough to be seen
    return model


def given_batch(*lengths: int, n_tags: int = 5, seed: int = 6) -> dict[str, Tensor]:
    """Return random vectors and classes, mostly O, for sentences of these lengths."""
    torch.manual_seed(seed)
    words = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    classes = torch.randint(n_tags, words.shape) * (torch.rand(words.shape) < 0.4)
    vectors = torch.randn(*words.shape, WIDTH, requires_grad=True)
    return {
        "vectors": vectors,
        "words": words,
        "classes": classes.masked_fill(~words, -100),
        "rows": torch.arange(len(lengths)),
    }


# ---------------------------------------------------------------------------------------------- the oracle


class Oracle:
    """The plain loop over a model's weights, with a Bi-LSTM of its own that holds copies of the model's two."""

    def __init__(self, model: LanerModel) -> None:
        self.model = model
        self.lstm = None
        if model.labels is not None:
            size = model.network.label_dim
            self.lstm = nn.LSTM(size, size, batch_first=True, bidirectional=True)
            ahead, back = model.labels.ahead.state_dict(), model.labels.back.state_dict()
            self.lstm.load_state_dict({**ahead, **{f"{name}_reverse": value for name, value in back.items()}})

    def score(self, words: Tensor, i: int, before: list[int], keys: Tensor | None = None) -> Tensor:
        """Return the scores of the tags of word i, given the labels of the words before it (and of [CLS], if so)."""
        m, keys = self.model, words if keys is None else keys
        fused = words[i]
        if m.labels is not None:
            history = torch.tensor([before or [m.labels.blank]], device=words.device)
            e = self.lstm(m.labels.table(history))[0][0]
        if m.network.label_background:
            fused = torch.cat([fused, (keys @ m.w2(e[-1])).softmax(0) @ keys])
        if m.network.label_context:
            fused = torch.cat([fused, (e @ m.w3(fused)).softmax(0) @ e])
        return m.head(fused)

    def gold(self, words: Tensor, labels: list[int]) -> Tensor:
        """Return the scores of a sentence whose earlier labels are gold."""
        start = [self.model.labels.blank] if self.model.network.first_token_head else []
        return torch.stack([self.score(words, i, start + labels[:i]) for i in range(len(words))])

    @torch.no_grad()
    def greedy(self, words: Tensor, start: list[int], keys: Tensor | None = None) -> list[int]:
        """Return the best tag of each word given those found before it."""
        found = list(start)
        for i in range(len(words)):
            found.append(int(self.score(words, i, found, keys).argmax()))
        return found[len(start) :]


def lengths_of(batch: dict[str, Tensor]) -> list[int]:
    return batch["words"].sum(1).tolist()


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_scores_and_gradients_are_those_of_the_plain_loop(network):
    model, batch = given_model(network), given_batch(9, 1, 4, 9, 2)
    oracle = Oracle(model)
    weigh = torch.randn(5)

    fast, gold = model(batch)
    fast = [scores[:n] for scores, n in zip(fast, lengths_of(batch), strict=True)]
    sum((scores.log_softmax(-1) @ weigh).sum() for scores in fast).backward()
    got = {name: value.grad for name, value in model.named_parameters()} | {"vectors": batch["vectors"].grad}
    model.zero_grad()
    batch["vectors"].grad = None
    plain = [
        oracle.gold(words[:n], classes[:n].tolist())
        for words, classes, n in zip(batch["vectors"], batch["classes"], lengths_of(batch), strict=True)
    ]
    sum((scores.log_softmax(-1) @ weigh).sum() for scores in plain).backward()
    wanted = {name: value.grad for name, value in model.named_parameters()} | {"vectors": batch["vectors"].grad}
    for name, value in oracle.lstm.named_parameters() if oracle.lstm is not None else ():
        side = "back" if name.endswith("_reverse") else "ahead"
        wanted[f"labels.{side}.{name.removesuffix('_reverse')}"] = value.grad

    assert torch.equal(gold, batch["classes"])
    for a, b in zip(fast, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert {name for name, value in wanted.items() if value is not None} == {n for n, v in got.items() if v is not None}
    for name, value in wanted.items():
        if value is not None:
            torch.testing.assert_close(got[name], value, rtol=1e-5, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def test_equal_label_strings_are_read_once():
    history = torch.tensor([[3, 0, 0, 1], [3, 0, 0, 1]])
    sizes = torch.tensor([[1, 1, 2, 3], [1, 1, 0, 0]])

    levels, number = laner.label_strings(history, sizes, 4)

    assert [label.tolist() for _, label in levels] == [[0, 1, 3], [0, 0], [0]]
    assert number[0, 1, 1] == number[0, 2, 2] == number[1, 1, 1]
    assert number[0].tolist() == [[2, 0, 0, 0], [0, 0, 0, 0], [0, 3, 0, 0], [0, 5, 4, 1]]


def test_without_both_what_is_left_is_the_tagger(tmp_path):
    recipe = Recipe(epochs=3, lr=5e-3, batch=2, precision="32")
    common = {"init": None, "train": (TRAIN,), "dev": DEV, "types": TYPES, "recipe": recipe, "seed": 1}
    common["backbone"] = backbones.find("rnn")
    for folder in ("tagger", "laner"):
        (tmp_path / folder).mkdir()
    train_tagger(Work(tmp_path / "tagger"), crf=False, **common)
    train_laner(Work(tmp_path / "laner"), network=NETWORKS["without-both"], **common)

    tagger, plain = TaggerModel.load(tmp_path / "tagger")[0], LanerModel.load(tmp_path / "laner")[0]
    assert tagger.state_dict().keys() == plain.state_dict().keys()
    for name, value in tagger.state_dict().items():
        assert torch.equal(plain.state_dict()[name], value)


# ---------------------------------------------------------------------------------------------- greedy decoding


def decoded(model: Any, *batches: dict[str, Tensor], allowed: list[str] | None = None) -> list[list[int]]:
    """Return the tags of some batches, as numbers."""

    def join(_part: str, answers: dict[int, list[str]], _empty: str) -> list[list[str]]:
        return [answers[row] for row in sorted(answers)]

    data = SimpleNamespace(loader=lambda part, seed: batches, join=join)
    found = model.decode(data, "predict", precision="32", allowed=allowed)
    return [[model.tags.index(name) for name in sentence] for sentence in found]


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_greedy_decoding_is_step_by_step_decoding(network):
    model, batch = given_model(network), given_batch(4, 12, 1, 12, 7)
    wanted = [Oracle(model).greedy(x[:n], []) for x, n in zip(batch["vectors"], lengths_of(batch), strict=True)]

    if network.first_token_head:  # these vectors have no [CLS]: the start label stands for it, and stays
        start = [model.labels.blank]
        wanted = [Oracle(model).greedy(x[:n], start) for x, n in zip(batch["vectors"], lengths_of(batch), strict=True)]

    assert decoded(model, batch) == wanted
    assert len({k for tags in wanted for k in tags}) > 2, "one tag everywhere shows nothing"


@pytest.mark.parametrize(("group", "tree"), [(1, 1 << 20), (1 << 20, 1), (20, 300)])
def test_what_is_decoded_together_and_how_much_is_kept_changes_nothing(monkeypatch, group, tree):
    model = given_model(NETWORKS["whole"])
    batches = [given_batch(12, 12, 9, seed=1), given_batch(7, 2, seed=2), given_batch(1, seed=3)]
    for n, batch in enumerate(batches):
        batch["rows"] = batch["rows"] + 10 * n
    wanted = decoded(model, *batches)

    monkeypatch.setattr(laner, "GROUP", group)
    monkeypatch.setattr(laner, "TREE_BYTES", tree)

    assert decoded(model, *batches) == wanted
    assert [tags for batch in batches for tags in decoded(model, batch)] == wanted


def test_a_tree_keeps_no_more_than_its_bytes_and_what_one_step_needs(monkeypatch):
    monkeypatch.setattr(laner, "TREE_BYTES", 100 * 4 * 2 * 5)
    torch.manual_seed(0)

    with torch.no_grad():
        reader = laner.Reader(given_model(NETWORKS["whole"]).labels)
        for width in range(1, 30):
            reader.nodes(torch.randint(6, (4, width)))

    assert reader.used <= len(reader.states) == 1 + max(100, 4 * 29)


def test_a_type_that_is_not_allowed_is_neither_predicted_nor_in_a_history():
    model, batch = given_model(NETWORKS["whole"]), given_batch(9, 4)
    with torch.no_grad():
        model.head.bias[1:3] += 100.0  # vessel wins everywhere
    without = given_model(NETWORKS["whole"])

    assert {k for tags in decoded(model, batch) for k in tags} <= {1, 2}
    assert decoded(model, batch, allowed=["port"]) == decoded(without, batch, allowed=["port"])
    assert not {k for tags in decoded(model, batch, allowed=["port"]) for k in tags} & {1, 2}


# ---------------------------------------------------------------------------------------------- the first word


@torch.no_grad()
@pytest.mark.parametrize("name", ["whole", "without-LC", "without-LB"])
def test_the_start_label_speaks_for_the_first_word_alone(name):
    model, batch = given_model(NETWORKS[name]), given_batch(5)
    before = model(batch)[0]

    model.labels.table.weight[model.labels.blank] += 1

    changed = (model(batch)[0] - before).abs().amax(-1)[0] > 1e-6
    assert changed.tolist() == [True, False, False, False, False]


def test_a_window_begins_a_history_of_its_own():
    features = backbones.features(backbones.find("rnn"))
    features.room = 8
    torch.manual_seed(2)
    model = LanerModel(backbones.encoder(backbones.find("rnn")), TYPES, NETWORKS["whole"])
    with torch.no_grad():
        model.head.weight.mul_(10)
    words = ["aurora", "left", "haven", "when", "rain", "fell", "on", "fram", "and", "new", "haven"]
    parts = [words[0:8], words[6:11]]

    [whole] = model.decode(NerModule(features, predict=split("test", " ".join(words))), "predict", precision="32")
    apart = [
        model.decode(NerModule(features, predict=split("test", " ".join(part))), "predict", precision="32")[0]
        for part in parts
    ]

    assert whole == apart[0][:7] + apart[1][1:]
    assert len(set(whole)) > 1


# ---------------------------------------------------------------------------------------------- source and target


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_a_shared_type_keeps_its_label_embeddings_and_its_rows(network):
    source = given_model(network, ["vessel", "port"], seed=1)
    target = given_model(network, ["star", "port"], seed=2)
    fresh = {name: value.clone() for name, value in target.state_dict().items()}

    assert target.take_over(source) == ["port"]

    for name, value in target.state_dict().items():
        other = source.state_dict()[name]
        if name.startswith(("head", "opening", "labels.table")):
            shared, new = [0, 3, 4], [1, 2]  # O and port's; star's
            assert torch.equal(value[shared], other[shared])
            assert torch.equal(value[new], fresh[name][new])
            assert not torch.equal(value[new], other[new])
            assert torch.equal(value[5:], other[5:])  # `blank`, in the table
        else:
            assert torch.equal(value, other)


def test_the_start_label_is_taken_over_where_the_target_has_another_number_of_types():
    source, target = given_model(NETWORKS["whole"], ["port"], 1), given_model(NETWORKS["whole"], ["a", "b", "port"], 2)

    target.take_over(source)

    assert torch.equal(target.labels.table.weight[-1], source.labels.table.weight[-1])
    assert torch.equal(target.head.weight[5:], source.head.weight[1:])


# ---------------------------------------------------------------------------------------------- training and tagging


def split(name: str, *sentences: str) -> Split:
    """Return a split of sentences such as `Aurora/B-vessel sank`."""
    found = []
    for n, text in enumerate(sentences):
        words, tags = zip(*((w.partition("/")[0], w.partition("/")[2] or "O") for w in text.split()), strict=True)
        found.append(Sentence(f"harbour/{name}/{n}", words, tuple(from_tags(tags))))
    return Split("harbour", name, tuple(found))


TRAIN = split(
    "train",
    "aurora/B-vessel left haven/B-port",
    "rain fell on new/B-port haven/I-port",
    "nothing moved",
    "fram/B-vessel met aurora/B-vessel",
)
DEV = split("dev", "fram/B-vessel left new/B-port haven/I-port", "rain fell")


def inputs(encoder: Path | str, network: Network, **changed: Any) -> dict[str, Any]:
    recipe = Recipe(epochs=40, lr=5e-3, batch=4, precision="32")
    bound = {"backbone": backbones.find(str(encoder)), "init": None, "train": (TRAIN,), "dev": None, "types": TYPES}
    return {**bound, "network": network, "recipe": recipe, "seed": 1, **changed}


def trained(folder: Path, encoder: Path | str, network: Network, **changed: Any) -> Path:
    folder.mkdir()
    train_laner(Work(folder), **inputs(encoder, network, **changed))
    return folder


AUTHORS = Network(label_dim=8, first_token_head=True, sub_word_labels=True, masks=False, zero_o=True)


@pytest.mark.parametrize(
    "network", [Network(label_dim=8), replace(AUTHORS, first_token_head=False)], ids=["paper", "authors"]
)
@pytest.mark.parametrize("encoder", ["rnn", "bert"])
def test_laner_learns_its_training_sentences_by_heart(tmp_path, request, encoder, network):
    encoder = request.getfixturevalue("bert") if encoder == "bert" else encoder
    model = trained(tmp_path / "model", encoder, network)

    (tmp_path / "found").mkdir()
    names = {"vessel": "ship", "port": "port"}
    tag_laner(Work(tmp_path / "found"), model=model, words=TRAIN.words_only(), names=names, precision="32", seed=1)

    gold = TRAIN.relabel(names).sentences
    assert [p.spans for p in read_predictions(tmp_path / "found" / "predictions.jsonl")] == [s.spans for s in gold]
    assert json.loads((model / "model.json").read_text())["network"] == asdict(network)


def test_a_span_of_another_type_is_refused(tmp_path):
    with pytest.raises(PlanError) as caught:
        trained(tmp_path / "model", "rnn", Network(), types=["vessel"])
    assert str(caught.value) == (
        "harbour train has spans of the types port, and the labels are vessel; the plan must bind a label for every "
        "type."
    )


# ---------------------------------------------------------------------------------------------- masks and sub-words


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    """Return a folder with a tiny BERT of random weights over letters: every word but `a` has several sub-words."""
    folder = tmp_path_factory.mktemp("bert")
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    BertTokenizer(vocab={piece: n for n, piece in enumerate(pieces)}).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(folder)
    return folder


def bert_model(bert: Path, network: Network) -> LanerModel:
    torch.manual_seed(3)
    model = LanerModel(backbones.encoder(backbones.find(str(bert))), TYPES, network).eval()
    with torch.no_grad():
        model.head.weight.mul_(10)
        for value in model.labels.parameters():
            value.mul_(3)
    return model


def batch_of(bert: Path, *sentences: str) -> dict[str, Tensor]:
    """Return the batch of sentences such as `aurora/B-vessel sank`."""
    number = {name: i for i, name in enumerate(tags_of(TYPES))}

    def classes(sentence: Sentence) -> list[int]:
        return [number[name] for name in to_tags(len(sentence.words), sentence.spans or ())]

    features = backbones.features(backbones.find(str(bert)))
    data = NerModule(features, train=split("train", *sentences), classes=classes, batch=len(sentences))
    [batch] = data.loader("train", seed=None)  # longest first
    return batch


SHORT, LONG = "ab/B-port c", "abcd/B-vessel efg/I-vessel a hij klm/B-port"


@torch.no_grad()
@pytest.mark.parametrize("sub_words", [False, True])
@pytest.mark.parametrize("masks", [True, False])
def test_padding_changes_no_score_unless_masks_are_left_out(bert, masks, sub_words):
    model = bert_model(bert, Network(label_dim=8, masks=masks, sub_word_labels=sub_words))

    alone, gold = model(batch_of(bert, SHORT))
    beside = model(batch_of(bert, LONG, SHORT))[0][1]

    at = gold[0] >= 0
    difference = (beside[: alone.size(1)][at] - alone[0][at]).abs().max()
    assert difference < 1e-5 if masks else difference > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("masks", [True, False])
def test_without_masks_label_background_sees_padding_too(masks):
    model, batch = given_model(Network(label_dim=5, masks=masks)), given_batch(3, 9)

    beside = model(batch)[0][0, :3]
    alone = model({name: value[:1, :3] if value.dim() > 1 else value[:1] for name, value in batch.items()})[0][0]

    assert torch.allclose(beside, alone, atol=1e-6) is masks


@torch.no_grad()
def test_with_sub_word_labels_every_sub_word_is_in_the_history(bert):
    model = bert_model(bert, Network(label_dim=8, sub_word_labels=True))
    blank = model.labels.blank
    batch = batch_of(bert, LONG, SHORT)
    tokens = model.tokens(batch)
    scores, gold = model(batch)

    # ab c: [CLS] a ##b c [SEP]. Labels: of `a` and of `c`; `##b` has none.
    assert tokens.present[1].tolist()[:4] == [True, True, True, False]
    assert tokens.places[1].tolist() == [0, 2, -1, -1, -1]
    assert gold[1].tolist()[:4] == [3, -100, 0, -100]
    hidden = tokens.keys[1, :5]
    oracle = Oracle(model)
    wanted = [oracle.score(tokens.vectors[1], i, [3, blank][:i], hidden) for i in range(3)]
    torch.testing.assert_close(scores[1, :3], torch.stack(wanted), rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("network", [Network(label_dim=8, sub_word_labels=True), replace(AUTHORS, masks=True)])
def test_at_test_sub_words_feed_what_is_predicted_there(bert, network):
    model = bert_model(bert, network)
    batch = batch_of(bert, LONG, SHORT)
    tokens = model.tokens(batch)
    found = []
    for row in range(2):
        n, m = int(tokens.present[row].sum()), int(tokens.mask[row].sum())
        start = [int(model.opening(tokens.opening[row]).argmax())] if network.first_token_head else []
        best = Oracle(model).greedy(tokens.vectors[row, :n], start, tokens.keys[row, :m])
        found.append([best[place] for place in tokens.places[row].tolist() if place >= 0])

    assert decoded(model, batch) == found
    assert len({k for tags in found for k in tags}) > 1


@torch.no_grad()
def test_the_first_token_head_opens_histories_at_test_and_learns_nothing(bert):
    model = bert_model(bert, Network(label_dim=8, first_token_head=True))
    batch = batch_of(bert, SHORT)
    tokens = model.tokens(batch)
    words, oracle = tokens.vectors[0], Oracle(model)

    scores, _ = model(batch)  # in training, with no label, and it stays in the history
    wanted = [oracle.score(words, i, [model.labels.blank, 3][: i + 1]) for i in range(2)]
    torch.testing.assert_close(scores[0], torch.stack(wanted), rtol=1e-5, atol=1e-5)

    for opening in range(5):
        model.opening.bias[:] = 1000.0 * (torch.arange(5) == opening)
        assert decoded(model, batch) == [oracle.greedy(words, [opening])]
    with torch.enable_grad():
        model.training_step(batch, 0).backward()
    assert model.opening.weight.grad is None
    assert model.head.weight.grad is not None


def test_with_zero_o_the_embedding_of_o_stays_zero(tmp_path):
    zero = LanerModel.load(trained(tmp_path / "zero", "rnn", Network(label_dim=4, zero_o=True)))[0]
    free = LanerModel.load(trained(tmp_path / "free", "rnn", Network(label_dim=4)))[0]

    assert not zero.labels.table.weight[0].any()
    assert zero.labels.table.weight[1:].abs().amin(1).all()
    assert free.labels.table.weight[0].any()


# ---------------------------------------------------------------------------------------------- the plan


def transfer(target: str, **changed: Any) -> Transfer:
    return build(replace(Spec(("demo-news",), target), **changed))


def plans(settings: Settings, **changed: Any) -> list[Any]:
    """Return the training stages of two targets, the source's before the target's."""
    found = [Laner().plan(transfer(t, **changed), settings, 1).graph() for t in ("demo-cinema", "demo-astronomy")]
    return [[stage for stage in graph if stage.step is train_laner] for graph in found]


SMALL = Settings(encoder="rnn")


def test_one_source_model_serves_every_target():
    (cinema_source, cinema), (astronomy_source, astronomy) = plans(SMALL)

    assert cinema_source.key == astronomy_source.key
    assert cinema.key != astronomy.key
    assert cinema.inputs["init"] is cinema_source
    assert cinema_source.inputs["types"] == ("person", "organisation", "location", "misc")


def test_with_the_targets_label_space_it_serves_one_target_alone():
    (cinema_source, cinema), (astronomy_source, _) = plans(replace(SMALL, label_space="target"))

    assert cinema_source.key != astronomy_source.key
    assert cinema_source.inputs["types"] == cinema.inputs["types"]
    assert "film" in cinema_source.inputs["types"]


def test_the_targets_label_space_has_a_source_type_too_but_dev_is_not_tagged_with_it():
    back = build(Spec(("demo-cinema",), "demo-news"))
    source, target, _ = Laner().plan(back, replace(SMALL, label_space="target"), 1).graph()
    own = ("person", "organisation", "location", "misc")

    assert source.inputs["types"] == target.inputs["types"]
    assert target.inputs["types"][:4] == target.inputs["allowed"] == own
    assert "film" in target.inputs["types"]


def test_target_only_trains_once_whatever_the_label_space():
    [[one], _] = plans(replace(SMALL, target_only=True))
    [[same], _] = plans(replace(SMALL, target_only=True, label_space="target"))

    assert one.inputs["init"] is None
    assert one.key == same.key


def test_every_setting_of_the_network_is_in_the_key():
    keys = {plans(SMALL)[0][0].key}
    changed = [{name: not value} for name, value in asdict(Network()).items() if isinstance(value, bool)]
    for change in [*changed, {"label_dim": 10}]:
        keys.add(plans(replace(SMALL, **change))[0][0].key)

    assert len(keys) == 2 + len(changed)


@pytest.mark.parametrize(
    ("settings", "spec", "message"),
    [
        ({}, {"order": "merge"}, "LANER does not merge models; say `order: sequence` or `order: joint`."),
        (
            {},
            {"select": "source-dev"},
            "in sequence the head ends as the target's, so source dev cannot select it; "
            "say `order: joint`, or select on target-dev or last.",
        ),
        (
            {"target_only": True},
            {"regime": "zero-shot", "select": "source-dev"},
            "with target_only there is nothing to learn from in zero-shot.",
        ),
        (
            {"target_only": True},
            {"select": "source-dev"},
            "with target_only there is no source to select on; say `select: target-dev` or `select: last`.",
        ),
    ],
)
def test_what_laner_cannot_do_it_refuses(settings, spec, message):
    with pytest.raises(Unsupported) as caught:
        Laner().plan(transfer("demo-cinema", **spec), replace(SMALL, **settings), 1)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label_dim": 0}, "set: label_dim must be at least 1; found 0."),
        ({"lr": 0.0}, "set: lr must be above 0; found 0.0."),
        ({"warmup": 1.0}, "set: warmup is a share of all steps, at least 0 and under 1; found 1.0."),
    ],
)
def test_a_setting_that_means_nothing_is_refused(changed, message):
    with pytest.raises(PlanError) as caught:
        Laner.settings(changed)
    assert str(caught.value) == message


# ---------------------------------------------------------------------------------------------- a planted dependency
#
# Every sentence has both names, in one order or the other, and after each an `x` of that name's type. Text tells the
# names' types. Nothing tells an x's but the label before it: both orders have the same words, so that no attention
# over word vectors without context tells them apart either.

NAMES, X, FILL = (0, 1), 2, range(3, 8)


class Frozen(nn.Module):
    """One fixed random vector a word form, whatever stands around it."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 16
        self.register_buffer("vectors", torch.randn(8, 16, generator=torch.Generator().manual_seed(4)))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.vectors[batch["ids"]]


def planted(n: int, seed: int) -> dict[str, Tensor]:
    """Return n pairs of sentences that differ in the order of their names alone."""
    chance = torch.Generator().manual_seed(seed)

    def fillers() -> list[int]:
        return (FILL[0] + torch.randint(len(FILL), (int(torch.randint(3, (), generator=chance)),))).tolist()

    rows = []
    for _ in range(n):
        gaps = [fillers() for _ in range(4)]
        for one, other in (NAMES, NAMES[::-1]):
            ids = [*gaps[0], one, *gaps[1], X, *gaps[2], other, *gaps[3], X]
            of = iter((one, one, other, other))
            rows.append((ids, [1 + 2 * next(of) if word in (*NAMES, X) else 0 for word in ids]))
    longest = max(len(ids) for ids, _ in rows)
    return {
        "ids": torch.tensor([ids + [FILL[0]] * (longest - len(ids)) for ids, _ in rows]),
        "words": torch.tensor([[i < len(ids) for i in range(longest)] for ids, _ in rows]),
        "classes": torch.tensor([classes + [-100] * (longest - len(ids)) for ids, classes in rows]),
        "rows": torch.arange(len(rows)),
    }


def f1_of_the_xs(model: Any) -> float:
    """Return strict F1 over the words x after training."""
    torch.manual_seed(1)
    train, test = planted(64, seed=1), planted(64, seed=2)
    model.train()
    adam = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    for _ in range(30):
        for rows in torch.randperm(128).split(16):
            adam.zero_grad()
            model.training_step({name: value[rows] for name, value in train.items()}, 0).backward()
            adam.step()
    found = decoded(model, test)

    def of_xs(sentences: list[list[int]]) -> list[list[str]]:
        return [
            [model.tags[k] if word == X else "O" for k, word in zip(tags, ids, strict=False)]
            for tags, ids in zip(sentences, test["ids"].tolist(), strict=True)
        ]

    gold = [classes[:n] for classes, n in zip(test["classes"].tolist(), lengths_of(test), strict=True)]
    return strict_counts(of_xs(gold), of_xs(found)).all.f1


def planted_model(network: Network) -> LanerModel:
    torch.manual_seed(0)
    return LanerModel(Frozen(), TYPES, network)


@pytest.mark.parametrize("name", ["whole", "without-LC", "without-LB"])
def test_a_label_that_only_an_earlier_label_tells_is_found(name):
    assert f1_of_the_xs(planted_model(replace(NETWORKS[name], label_dim=16))) > 95


def test_without_label_history_it_is_a_matter_of_chance():
    torch.manual_seed(0)
    tagger = TaggerModel(Frozen(), TYPES, crf=False)
    zeroed = planted_model(Network(label_dim=16))
    zeroed.labels.table.weight.requires_grad_(False).zero_()

    assert f1_of_the_xs(tagger) <= 50
    assert f1_of_the_xs(zeroed) <= 50


@pytest.mark.parametrize(("size", "share"), [(100, 0.6042), (150, 1.0065)])
def test_its_parameters_are_those_that_the_published_shares_are_checked_against(size, share):
    """`results/published/laner.yaml`, section 5.3, with BERT-base-cased and ai's 14 types."""
    with torch.device("meta"):
        bert = BertModel(BertConfig(vocab_size=28996))
        encoder = Given()
        encoder.width = 768
        with_labels, without = (
            LanerModel(encoder, [f"type {n}" for n in range(14)], network)
            for network in (Network(label_dim=size), Network(label_background=False, label_context=False))
        )
    extra = sum(p.numel() for p in with_labels.parameters()) - sum(p.numel() for p in without.parameters())

    assert sum(p.numel() for p in bert.parameters()) == 108_310_272
    assert extra == 16 * size**2 + 4714 * size + 23040
    assert 100 * extra / 108_310_272 == pytest.approx(share, abs=1e-4)
