"""Causal language models in the place of an encoder-decoder: what they learn, and that batches change nothing."""

from pathlib import Path

import pytest
import torch
from models.conftest import save_causal
from models.test_text2text import OPTIONS, SENTENCES, TYPED, split, train

from benchmark.models import backbones
from benchmark.models.tagging import Recipe
from benchmark.models.text2text import Adapter, TextModel, Texts, Writing, answers, load
from benchmark.score.protocols import strict_counts
from benchmark.score.spans import to_tags


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def causal(request, tmp_path_factory) -> Path:
    return save_causal(tmp_path_factory.mktemp(request.param), request.param)


def read(folder: Path, backbone: Path, *, batch: int = 32, decoding: str = "grounded", sentences=SENTENCES):
    net, _ = load(folder)
    texts = Texts(backbones.find(str(backbone)), TYPED)
    return answers(
        TextModel(net), texts, split(sentences).words_only(), OPTIONS, writing=Writing(decoding, batch), precision="32"
    )[0]


def f1(found) -> float:
    truth = split()
    gold = [to_tags(len(s.words), s.spans) for s in truth.sentences]
    return strict_counts(
        gold, [to_tags(len(s.words), p.spans) for s, p in zip(truth.sentences, found, strict=True)]
    ).all.f1


@pytest.fixture(scope="module")
def learned(causal, tmp_path_factory) -> Path:
    recipe = Recipe(epochs=120, lr=3e-3, batch=5, weight_decay=0.0, precision="32")
    return train(tmp_path_factory.mktemp("learned") / "model", str(causal), recipe=recipe)


@pytest.mark.parametrize("decoding", ["grounded", "free"])
def test_it_learns_to_write(causal, learned, decoding):
    assert f1(read(learned, causal, decoding=decoding)) == 100.0


def test_batches_change_nothing(causal, learned):
    sentences = [*SENTENCES, ("Ada saw Fram and Aurora and Ada Lund sank", []), ("", []), ("rain", [])]
    whole, single = (read(learned, causal, batch=batch, sentences=sentences) for batch in (32, 1))

    assert [p.spans for p in whole] == [p.spans for p in single]
    assert [p.raw for p in whole] == [p.raw for p in single]


def test_only_the_target_is_learned(causal):
    net, texts = load_bare(causal)
    rows = [row for n, s in enumerate(split().sentences) for row in texts.rows(n, s, OPTIONS)]
    batch = texts.collate(rows)
    loss = net.loss(batch["ids"], batch["mask"], batch["before"], batch["target"])

    by_hand = []
    for row in rows:
        whole = torch.tensor([[*row.ids, *row.target]])
        scores = net.model(input_ids=whole).logits[0, len(row.ids) - 1 : -1]
        by_hand.append(torch.nn.functional.cross_entropy(scores, torch.tensor(row.target), reduction="none"))
    assert loss.item() == pytest.approx(torch.cat(by_hand).mean().item(), rel=1e-4)


def load_bare(causal):
    from benchmark.models.text2text import bare

    net = bare(backbones.find(str(causal)))
    net.eval()
    return net, Texts(backbones.find(str(causal)), TYPED)


def test_a_prompt_ends_with_the_sign_to_answer_and_leaves_room_for_the_answer(causal):
    _, texts = load_bare(causal)
    [row] = texts.rows(0, split().sentences[0], OPTIONS)

    assert texts.tokenizer.decode(row.ids).endswith("Answer:")
    assert row.target[-1] == texts.end == texts.tokenizer.eos_token_id
    assert texts.whole + texts.longest == 256


def test_an_adapter_is_all_that_is_trained(causal, tmp_path):
    recipe = Recipe(epochs=2, lr=1e-2, batch=5, weight_decay=0.0, precision="32")
    adapter = Adapter("LORA", {"r": 4, "lora_alpha": 2})
    folder = train(tmp_path / "model", str(causal), recipe=recipe, adapter=adapter)

    before, after = dict(load_bare(causal)[0].named_parameters()), dict(load(folder)[0].named_parameters())
    changed = {name for name in before if not torch.allclose(before[name], after[name], atol=1e-6)}
    assert changed
    assert all("proj" in name or "c_attn" in name for name in changed)
