"""QLoRA: a causal language model whose weights lie in 4 bits, and an adapter, which alone is trained and kept.

Source   Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", 2023, sections 2 and 3
NF4      weights of the linear layers, quantized by bitsandbytes where they are loaded; their scales are quantized again
Adapter  LoRA on every linear layer of a block, in 32 bits. A stage that goes on from another goes on with its adapter:
         nothing is merged, since to quantize a merged model anew would lose what is smaller than a step of 4 bits
Departs  No paged optimizer: an adapter's moments are small
Otherwise all is as in `benchmark.models.text2text`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from benchmark.corpus.corpus import Split
from benchmark.errors import PlanError
from benchmark.models import backbones, training
from benchmark.models.backbones import Backbone
from benchmark.models.causal import Causal, is_causal
from benchmark.models.tagging import Recipe
from benchmark.models.text2text import Adapter, Prompting, TextModel, TextPairs, Texts, Writing, adapted, answers
from benchmark.score.protocols import strict_counts, write_predictions
from benchmark.score.spans import to_tags
from benchmark.work import Work


def check(backbone: Backbone) -> None:
    """Raise PlanError for a backbone that is no causal language model."""
    if backbone.name in ("minilm-seq2seq", "rnn") or not is_causal(backbones.config_of(backbone)):
        raise PlanError(
            f"the backbone {backbone.name!r} is no causal language model, and only those are quantized: drop "
            "`quantize`, or name one of Llama's kind."
        )


def bare(backbone: Backbone, precision: str) -> Causal:
    """Return a backbone's pre-trained model in 4 bits, on the device of this process.

    precision   of what is computed: bf16 | 32

    Raises PlanError for a backbone that is no causal language model, or without the package bitsandbytes.
    """
    if find_spec("bitsandbytes") is None:
        raise PlanError(
            "4-bit weights need the package bitsandbytes, which is not installed: pip install 'cdner[quantized]'."
        )
    check(backbone)
    where, options = backbones.where_of(backbone)
    how = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
    )
    net = Causal(
        AutoModelForCausalLM.from_pretrained(
            where, use_safetensors=True, dtype=torch.float32, quantization_config=how,
            device_map={"": backbones.device()}, **options,
        )
    )  # fmt: skip
    for module in net.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # packed for a CPU when dev is read, weights would have no gradients afterwards
            module.__dict__["support_avx512bf16_for_cpu"] = False
    net.__dict__["is_loaded_in_4bit"] = True  # tells peft which of its layers to take
    return net


class QuantizedModel(TextModel):
    """A model of which the adapter alone has a state: what is trained, selected, kept and gone on from."""

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the adapter's weights."""
        return {name: p.detach() for name, p in self._trained()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> None:
        """Take the adapter's weights; all of them, and no others.

        Raises KeyError where they are not.
        """
        trained = dict(self._trained())
        if strict and trained.keys() != state_dict.keys():
            raise KeyError(f"these are no weights of this adapter: {sorted(trained.keys() ^ state_dict.keys())[:4]}")
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(state_dict[name])

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.named_parameters() if p.requires_grad]

    def configure_optimizers(self) -> Any:
        """Return AdamW over the adapter alone: weights in 4 bits are no numbers that it could take."""
        r = self.recipe
        return training.optimizer(
            nn.ParameterList([p for _, p in self._trained()]), lr=r.lr, head_lr=None, weight_decay=r.weight_decay,
            steps=self.steps, warmup=r.warmup, schedule=r.schedule,
        )  # fmt: skip


def load(folder: Path, precision: str) -> tuple[QuantizedModel, Backbone]:
    """Return the model of an artefact of `train_quantized`."""
    about = json.loads((folder / "model.json").read_text(encoding="utf8"))
    backbone, adapter = Backbone(**about["backbone"]), Adapter(**about["adapter"])
    model = QuantizedModel(adapted(bare(backbone, precision), adapter, fresh=False))
    model.load_state_dict(load_file(folder / "adapter.safetensors"))
    return model, backbone


def train_quantized(
    work: Work,
    *,
    backbone: Backbone,
    init: Path | None,
    train: Sequence[Split],
    options: Sequence[Mapping[str, str]],
    dev: Split | None,
    prompting: Prompting,
    writing: Writing | None,
    recipe: Recipe,
    seed: int,
    adapter: Adapter,
) -> None:
    """Train an adapter on a backbone in 4 bits, and write the adapter as an artefact.

    The arguments are those of `train_text2text`; `init` is another artefact of this step, with the same adapter.
    """
    training.prepare(seed, work.threads)
    used = training.resolve_precision(recipe.precision)
    texts = Texts(backbone, prompting)
    model = QuantizedModel(adapted(bare(backbone, used), adapter, fresh=False)) if init is None else load(init, used)[0]
    rows = [
        row
        for split, names in zip(train, options, strict=True)
        for number, sentence in enumerate(split.sentences)
        if sentence.words
        for row in texts.rows(number, sentence, names)
    ]
    data = TextPairs(texts, rows, batch=recipe.batch, seed=seed)
    gold = [] if dev is None else [to_tags(len(s.words), s.spans or ()) for s in dev.sentences]

    def dev_f1() -> float:
        assert dev is not None
        assert writing is not None
        found, *_ = answers(model, texts, dev, options[-1], writing=writing, precision=used)
        model.train()
        return strict_counts(
            gold, [to_tags(len(s.words), p.spans) for s, p in zip(dev.sentences, found, strict=True)]
        ).all.f1

    fitted = model.learn(data, work, recipe, None if dev is None else dev_f1)
    kept: dict[str, Tensor] = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(kept, work.folder / "adapter.safetensors")
    about = {"backbone": asdict(backbone), "adapter": adapter.ingredient()}
    about |= {"prompting": asdict(prompting), "fitted": asdict(fitted)}
    (work.folder / "model.json").write_text(json.dumps(about, indent=1), encoding="utf8")
    (work.folder / "about.json").write_text(json.dumps({"precision": fitted.precision}), encoding="utf8")


def write_quantized(
    work: Work,
    *,
    model: Path,
    words: Split,
    options: Mapping[str, str],
    prompting: Prompting,
    writing: Writing,
    precision: str,
    seed: int,
) -> None:
    """Write about words with an adapter and its backbone in 4 bits: predictions.jsonl and audit.json."""
    training.prepare(seed, work.threads)
    used = training.resolve_precision(precision)
    net, backbone = load(model, used)
    found, _, audit = answers(net, Texts(backbone, prompting), words, options, writing=writing, precision=used)
    write_predictions(work.folder / "predictions.jsonl", found)
    told = {"decoding": writing.decoding, "pairs": asdict(audit)}
    (work.folder / "audit.json").write_text(json.dumps(told), encoding="utf8")
    (work.folder / "about.json").write_text(json.dumps({"precision": used}), encoding="utf8")
