"""Masked spans: what is hidden and filled in again, what is learned from, and models that are added up."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models.conftest import save_t5

from benchmark.corpus.corpus import Sentence, Split
from benchmark.errors import PlanError
from benchmark.models import backbones
from benchmark.models.masked_spans import MaskedTexts, Masks, filled, hide, merge, pretrain, sentinels, windowed
from benchmark.models.masking import Text
from benchmark.models.tagging import Recipe
from benchmark.models.text2text import Prompting, Texts, load, train_text2text
from benchmark.score.spans import Span
from benchmark.work import Work

SENTINELS = [1000, 1001, 1002]
LINES = ("aurora sails to haven", "the haven is far", "fog")
TEXT = Split("quay", "knowledge", tuple(
    Sentence(f"quay/knowledge/{n}", tuple(line.split()), (Span(0, 1, "named"),) if n == 0 else None)
    for n, line in enumerate(LINES)
))  # fmt: skip


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return save_t5(tmp_path_factory.mktemp("t5"), sentinels=20)


def rows(t5, masks, *, text=None, splits=(TEXT,), cache=None, seed=1) -> MaskedTexts:
    texts = Texts(backbones.find(str(t5)), Prompting("topt", instruction=False))
    return MaskedTexts(windowed(splits, text, texts, cache), texts, masks, seed)


# ---- hiding

WORDS = st.lists(st.tuples(st.lists(st.integers(0, 99), min_size=1, max_size=3), st.booleans()), max_size=12)


@given(WORDS)
def test_what_is_hidden_can_be_filled_in_again(words):
    pieces, hidden = [piece for piece, _ in words], [is_hidden for _, is_hidden in words]

    text, target = hide(pieces, hidden, SENTINELS)

    assert filled(text, target, SENTINELS) == [id for piece in pieces for id in piece]


@given(WORDS)
def test_a_span_has_a_sentinel_of_its_own_as_long_as_there_are_any(words):
    hidden = [is_hidden for _, is_hidden in words]
    spans = sum(now and not before for before, now in pairwise([False, *hidden]))

    text, target = hide([piece for piece, _ in words], hidden, SENTINELS)

    used = [id for id in text if id in SENTINELS]
    assert used == SENTINELS[: min(spans, 3)] == [id for id in target if id in SENTINELS]


def test_neighbours_are_one_span():
    assert hide([[1], [2], [3]], [True, True, False], SENTINELS) == ([1000, 3], [1000, 1, 2])


# ---- masks


def test_words_are_hidden_with_the_probability_that_is_asked_for():
    masks = Masks(10, 0.15, False)
    hidden = np.mean([masks.hidden(100, [], row, n, 1).mean() for row in range(40) for n in range(10)])

    assert hidden == pytest.approx(0.15, abs=0.005)


def test_every_mask_is_another_and_the_same_again():
    masks = Masks(10, 0.3, False)
    found = {masks.hidden(40, [], row, n, seed).tobytes() for row in (0, 1) for n in range(10) for seed in (1, 2)}

    assert len(found) == 40
    assert (masks.hidden(40, [], 0, 3, 1) == masks.hidden(40, [], 0, 3, 1)).all()


def test_something_is_always_hidden():
    assert all(Masks(10, 1e-6, False).hidden(3, [], row, 0, 1).sum() == 1 for row in range(50))


def test_the_first_mask_may_hide_what_is_marked():
    masks = Masks(10, 0.15, True)

    assert masks.hidden(4, [0, 2], 0, 0, 1).tolist() == [True, False, True, False]
    assert masks.hidden(4, [0, 2], 0, 1, 1).tolist() == Masks(10, 0.15, False).hidden(4, [], 0, 1, 1).tolist()
    assert masks.hidden(4, [], 0, 0, 1).tolist() == Masks(10, 0.15, False).hidden(4, [], 0, 0, 1).tolist()


# ---- rows


def test_a_text_has_a_row_for_each_mask(t5):
    found = rows(t5, Masks(4, 0.3, True))
    whole = [found.texts.pieces(line.split()) for line in LINES]

    assert len(found) == len(found.lengths) == 12
    for n in range(12):
        row = found[n]
        assert row.ids[-1] == found.texts.end == row.target[-1]
        text = filled(row.ids[:-1], row.target[:-1], found.sentinels)
        assert text == [id for piece in whole[n // 4] for id in piece]
    assert found[0].ids[0] == found.sentinels[0]  # `aurora`, which is marked, is hidden first


def test_other_text_is_read_from_its_file(t5, tmp_path):
    (tmp_path / "text.txt").write_text("fog and haven\n\nthe sea\n")
    text = Text("text.txt", "0" * 64, str(tmp_path / "text.txt"))

    found = rows(t5, Masks(2, 0.3, False), text=text, splits=(), cache=tmp_path / "cache")

    assert len(found) == 4


def test_a_long_text_is_cut_into_windows_with_their_marks(t5):
    long = Sentence("quay/knowledge/0", ("fog",) * 600, (Span(599, 600, "named"),))
    found = rows(t5, Masks(1, 0.1, True), splits=(Split("quay", "knowledge", (long,)),))

    assert len(found) > 1
    assert found[len(found) - 1].target[0] == found.sentinels[0]
    assert all(len(found[n].ids) <= found.texts.whole for n in range(len(found)))


def test_a_tokenizer_without_sentinels_is_refused(tmp_path):
    with pytest.raises(PlanError) as refused:
        rows(save_t5(tmp_path / "t5"), Masks(1, 0.1, False))
    assert str(refused.value) == (
        "the tokenizer has no sentinels (<extra_id_0>, or [unused0]), so no span can be masked."
    )


def test_minilm_has_a_hundred_sentinels():
    texts = Texts(backbones.find("minilm-seq2seq"), Prompting("topt", instruction=False))

    assert len(set(sentinels(texts.tokenizer))) == 100


# ---- learning


def pretrained(folder, t5, *, splits=(TEXT,), epochs=30, seed=1):
    folder.mkdir(parents=True)
    pretrain(
        Work(folder, progress=folder / "progress.jsonl"), backbone=backbones.find(str(t5)), texts=splits, text=None,
        masks=Masks(4, 0.3, False), recipe=Recipe(epochs=epochs, lr=1e-2, batch=4, precision="32"), seed=seed,
    )  # fmt: skip
    return folder


def test_a_model_learns_to_fill_in(t5, tmp_path):
    folder = pretrained(tmp_path / "model", t5)
    lines = map(json.loads, (folder / "progress.jsonl").read_text().splitlines())
    losses = [line["loss"] for line in lines if "loss" in line]

    assert losses[-1] < losses[0] / 2


def test_what_is_learned_is_the_same_each_time_and_another_for_another_seed(t5, tmp_path):
    one, same, other = (pretrained(tmp_path / n, t5, epochs=2, seed=s) for n, s in (("a", 1), ("b", 1), ("c", 2)))

    weights = [dict(load(folder)[0].named_parameters()) for folder in (one, same, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(not torch.equal(weights[0][name], weights[2][name]) for name in weights[0])


def test_text_to_text_goes_on_from_it(t5, tmp_path):
    start = pretrained(tmp_path / "start", t5, epochs=1)
    (tmp_path / "model").mkdir()
    train = Split("quay", "train", (Sentence("quay/train/0", ("Fram", "sank"), (Span(0, 1, "ship"),)),))
    train_text2text(
        Work(tmp_path / "model"), backbone=backbones.find(str(t5)), init=start, train=(train,), options=({"ship": "ship"},),
        dev=None, prompting=Prompting("topt", False), writing=None, recipe=Recipe(epochs=1, lr=1e-9, precision="32"), seed=1,
    )  # fmt: skip

    before, after = (dict(load(folder)[0].named_parameters()) for folder in (start, tmp_path / "model"))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_no_text_is_refused(t5, tmp_path):
    with pytest.raises(PlanError) as refused:
        pretrained(tmp_path / "model", t5, splits=(Split("quay", "knowledge", ()),))
    assert str(refused.value) == "masked spans: the text is empty."


# ---- merging


@pytest.mark.parametrize("weights", [(0.5, 0.5), (2 / 3, 1 / 3), (2 / 3, 1 / 3, 1 / 3)])
def test_models_are_added_up_parameter_by_parameter(t5, tmp_path, weights):
    folders = [pretrained(tmp_path / str(n), t5, epochs=1, seed=n) for n in range(len(weights))]
    (tmp_path / "sum").mkdir()

    merge(Work(tmp_path / "sum"), models=folders, weights=weights)

    parts = [dict(load(folder)[0].named_parameters()) for folder in folders]
    found = dict(load(tmp_path / "sum")[0].named_parameters())
    for name, parameter in found.items():
        by_hand = sum(w * part[name].double() for w, part in zip(weights, parts, strict=True))
        assert torch.allclose(parameter.double(), by_hand, atol=1e-7)
    assert any(not torch.equal(found[name], parts[0][name]) for name in found)
