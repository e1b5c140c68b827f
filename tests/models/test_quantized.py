"""QLoRA: weights in 4 bits under an adapter, which alone is trained, kept, and gone on from."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from models.conftest import save_causal
from models.test_text2text import OPTIONS, SENTENCES, TYPED, split, work
from safetensors.torch import load_file

from benchmark.corpus.transfer import Spec, build
from benchmark.errors import PlanError
from benchmark.models import backbones, quantized, text2text
from benchmark.models.tagging import Recipe
from benchmark.models.text2text import Adapter, Texts, Writing, adapted, answers
from benchmark.score.protocols import read_predictions
from benchmark.score.spans import Span
from methods.text2text import Settings, Text2Text

RECIPE = Recipe(epochs=150, lr=1e-2, batch=5, weight_decay=0.0, precision="32")
LORA = Adapter("LORA", {"r": 16, "lora_alpha": 16})


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    return save_causal(tmp_path_factory.mktemp("llama"), "llama")


def train(folder: Path, backbone: Path, *, prepared=None, **changed) -> Path:
    asked = {
        "backbone": backbones.find(str(backbone)), "init": None, "train": [split()], "options": [OPTIONS], "dev": None,
        "prompting": TYPED, "writing": None, "recipe": RECIPE, "seed": 1, "adapter": LORA,
    }  # fmt: skip
    quantized.train_quantized(prepared or work(folder), **{**asked, **changed})
    return folder


def write(folder: Path, model: Path, **changed):
    asked = {
        "model": model, "words": split().words_only(), "options": OPTIONS, "prompting": TYPED,
        "writing": Writing("grounded", 4), "precision": "32", "seed": 1,
    }  # fmt: skip
    quantized.write_quantized(work(folder), **{**asked, **changed})
    return list(read_predictions(folder / "predictions.jsonl"))


@pytest.fixture(scope="module")
def learned(llama, tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("learned") / "model", llama)


def test_linear_layers_lie_in_4_bits_and_answer_nearly_as_before(llama):
    backbone = backbones.find(str(llama))
    small, whole = quantized.bare(backbone, "32").model, text2text.bare(backbone).model
    ids = torch.arange(3, 23)[None]

    stored = {name: p for name, p in small.named_parameters() if p.dtype == torch.uint8}
    assert len(stored) == 14
    assert all(2 * p.numel() == whole.get_parameter(name).numel() for name, p in stored.items())
    with torch.inference_mode():
        told, expected = small(input_ids=ids).logits, whole(input_ids=ids).logits
    assert 0 < (told - expected).abs().max() < 0.5 * expected.abs().max()
    assert torch.corrcoef(torch.stack([told.flatten(), expected.flatten()]))[0, 1] > 0.95


@pytest.mark.parametrize("decoding", ["grounded", "free"])
def test_it_reproduces_what_it_was_trained_on(llama, learned, tmp_path, decoding):
    found = write(tmp_path / "written", learned, writing=Writing(decoding, 4))

    assert [p.spans for p in found] == [tuple(sorted(Span(*s) for s in s.spans)) for s in split().sentences]


def test_gpt2_whose_weights_stand_the_other_way_round_learns_too(tmp_path):
    gpt2 = save_causal(tmp_path / "gpt2", "gpt2")
    found = write(tmp_path / "written", train(tmp_path / "model", gpt2, recipe=replace(RECIPE, epochs=300)))

    assert [p.spans for p in found] == [tuple(sorted(Span(*s) for s in s.spans)) for s in split().sentences]


def test_the_adapter_is_all_that_is_kept(learned):
    kept = load_file(learned / "adapter.safetensors")

    assert len(kept) == 28  # two matrices for each of seven layers of each block
    assert all("lora_" in name for name in kept)
    about = json.loads((learned / "model.json").read_text())
    assert about["adapter"] == {"kind": "LORA", "options": {"r": 16, "lora_alpha": 16}}


def test_the_weights_in_4_bits_stay_as_they_are(llama, learned):
    before, after = quantized.bare(backbones.find(str(llama)), "32"), quantized.load(learned, "32")[0].net
    stored = {name: p for name, p in before.named_parameters() if p.dtype == torch.uint8}
    found = {
        name.replace("base_model.model.", "").replace(".base_layer", ""): p for name, p in after.named_parameters()
    }

    assert stored
    assert all(torch.equal(found[name], p) for name, p in stored.items())


def test_a_training_goes_on_with_the_adapter_of_the_one_before(llama, learned, tmp_path):
    nothing = replace(RECIPE, epochs=1, lr=1e-9)
    again = train(tmp_path / "again", llama, init=learned, recipe=nothing)

    before, after = load_file(learned / "adapter.safetensors"), load_file(again / "adapter.safetensors")
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    assert [p.spans for p in write(tmp_path / "b", again)] == [p.spans for p in write(tmp_path / "a", learned)]


def test_dev_chooses_the_epoch(llama, tmp_path, monkeypatch):
    scores = iter([1.0, 3.0, 2.0])
    monkeypatch.setattr(
        quantized, "strict_counts", lambda *_: type("C", (), {"all": type("F", (), {"f1": next(scores)})})
    )
    recipe = replace(RECIPE, epochs=3, lr=1e-3)
    chosen = train(tmp_path / "three", llama, dev=split(), writing=Writing("grounded", 4), recipe=recipe)
    last = train(tmp_path / "two", llama, recipe=replace(recipe, epochs=2))

    assert json.loads((chosen / "model.json").read_text())["fitted"]["kept"] == 2
    kept, expected = load_file(chosen / "adapter.safetensors"), load_file(last / "adapter.safetensors")
    assert all(torch.equal(kept[name], expected[name]) for name in expected)


def test_a_killed_training_goes_on_where_it_was(llama, tmp_path, monkeypatch):
    recipe = replace(RECIPE, epochs=4, lr=1e-3)
    whole = train(tmp_path / "whole", llama, recipe=recipe)

    class Killed(Exception):
        pass

    def kill(model, batch, number, inner=quantized.QuantizedModel.training_step):
        steps.append(number)
        if len(steps) == 4:
            raise Killed
        return inner(model, batch, number)

    def kept_in(folder: Path):
        return replace(work(folder), checkpoints=tmp_path / "checkpoints", checkpoint_seconds=0.0)

    steps: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(quantized.QuantizedModel, "training_step", kill)
        with pytest.raises(Killed):
            train(tmp_path / "x", llama, recipe=recipe, prepared=kept_in(tmp_path / "x"))
    [checkpoint] = (tmp_path / "checkpoints").glob("*.ckpt")
    assert checkpoint.stat().st_size < 500_000  # an adapter and its moments
    train(tmp_path / "y", llama, recipe=recipe, prepared=kept_in(tmp_path / "y"))

    kept, expected = (load_file(f / "adapter.safetensors") for f in (tmp_path / "y", whole))
    assert all(torch.equal(kept[name], expected[name]) for name in expected)


def test_batches_change_nothing(learned, tmp_path):
    sentences = [*SENTENCES, ("Ada saw Fram and Aurora and Ada Lund sank", []), ("", []), ("rain", [])]
    words = split(sentences).words_only()
    one, many = (write(tmp_path / str(n), learned, words=words, writing=Writing("grounded", n)) for n in (1, 32))

    assert [p.spans for p in one] == [p.spans for p in many]


@pytest.mark.parametrize("refused", [lambda found: quantized.bare(found, "32"), quantized.check])
def test_other_backbones_are_refused(t5, refused):
    with pytest.raises(PlanError) as error:
        refused(backbones.find(str(t5)))
    assert str(error.value) == (
        f"the backbone {str(t5)!r} is no causal language model, and only those are quantized: drop `quantize`, or name "
        "one of Llama's kind."
    )


def test_without_bitsandbytes_the_message_says_what_to_install(llama, monkeypatch):
    monkeypatch.setattr(quantized, "find_spec", lambda name: None)
    with pytest.raises(PlanError) as error:
        quantized.bare(backbones.find(str(llama)), "32")
    assert str(error.value) == (
        "4-bit weights need the package bitsandbytes, which is not installed: pip install 'cdner[quantized]'."
    )


@pytest.mark.parametrize("changed", [{}, {"adapter": "LOHA"}, {"adapter": "LORA", "adapter_in": "target"}])
def test_4_bits_want_an_adapter_in_every_stage(changed):
    with pytest.raises(ValueError, match="weights in 4 bits cannot be trained; say `adapter: LORA`, in all stages"):
        Settings(quantize="nf4", **changed)


def test_an_adapter_of_another_shape_is_refused(llama, learned):
    model = quantized.QuantizedModel(
        adapted(
            quantized.bare(backbones.find(str(llama)), "32"),
            Adapter("LORA", {"target_modules": ["q_proj"]}),
            fresh=False,
        )
    )
    with pytest.raises(KeyError, match="these are no weights of this adapter"):
        model.load_state_dict(load_file(learned / "adapter.safetensors"))


def test_what_is_asked_of_it_hangs_on_no_other_sentence(llama, learned):
    model, backbone = quantized.load(learned, "32")
    texts = Texts(backbone, TYPED)
    asked = {"writing": Writing("grounded", 8), "precision": "32"}
    alone = [answers(model, texts, split([s]).words_only(), OPTIONS, **asked)[0][0].spans for s in SENTENCES]
    together = [p.spans for p in answers(model, texts, split().words_only(), OPTIONS, **asked)[0]]

    assert alone == together


def test_every_stage_of_a_cell_is_in_4_bits_where_that_is_asked_for(llama):
    settings = Settings(backbone=str(llama), decoding="grounded", adapter="LORA", quantize="nf4")
    final = Text2Text().plan(build(Spec(("demo-news",), "demo-cinema")), settings, 1)
    target = final.inputs["model"]
    source = target.inputs["init"]

    assert [s.step for s in (final, target, source)] == [
        quantized.write_quantized, quantized.train_quantized, quantized.train_quantized,
    ]  # fmt: skip
    assert source.inputs["init"] is None
    assert source.inputs["adapter"] == target.inputs["adapter"] == Adapter("LORA", {})
    whole = Text2Text().plan(build(Spec(("demo-news",), "demo-cinema")), replace(settings, quantize=None), 1)
    assert {s.key for s in whole.graph()}.isdisjoint({s.key for s in final.graph()})
