"""Text-to-text NER: a prompt with options and a sentence is read, mentions are written; source, then target.

Paper    "Ori" of LAR (`format: typed`); TOPT (section 3.3) without GTOK (`format: topt`, `instruction`)
Source   trained for a fixed number of epochs, the last one kept: one source model serves every target
Target   the same network goes on: types are words, and no head has rows for them
Chain    several targets one after another; any corpus may be predicted, under its own options
Joint    source and target at once, each sentence under its own corpus' options
Decoding greedy; `free` is the papers'. `grounded` writes only words of the sentence and types of the options
4 bits   `quantize: nf4`: QLoRA of a causal language model, as in TOPT's appendix F (`benchmark.models.quantized`)
Departs  A prompt's wording is ours (`benchmark.models.formats`). Adam is AdamW with no decay, a new one a stage.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

from benchmark.corpus.corpus import Split
from benchmark.corpus.transfer import Domain, Transfer
from benchmark.errors import Unsupported
from benchmark.models import backbones, formats, quantized
from benchmark.models.tagging import Recipe
from benchmark.models.text2text import Adapter, Prompting, Writing, check, train_text2text, write_text2text
from benchmark.run.method import Method
from benchmark.run.stage import Stage

Find = Callable[[str, str | None], backbones.Backbone]


@dataclass(frozen=True)
class Settings:
    """The settings of a text-to-text model; the defaults are LAR's where it tells them."""

    backbone: str = "google/flan-t5-base"
    revision: str | None = None  # of a hub id; None: the one in the hub's cache, else the newest, written down
    format: Literal["typed", "topt", "topt-text", "sentence"] = "typed"
    instruction: bool = True  # whether an instruction stands before the options
    decoding: Literal["auto", "free", "grounded"] = "auto"  # auto: grounded for minilm-seq2seq, else free
    target_only: bool = False
    source_epochs: int = 3
    source_lr: float | None = None  # None: lr
    source_batch: int | None = None  # None: batch
    epochs: int = 10
    patience: int | None = None
    dev_every: int = 1  # epochs between two looks at dev
    lr: float = 5e-5
    batch: int = 8
    warmup: float = 0.0
    schedule: Literal["constant", "linear"] = "constant"
    weight_decay: float = 0.0
    clip: float | None = None
    precision: Literal["auto", "32", "bf16"] = "auto"
    write_batch: int = 32  # sentences that are written about at once
    adapter: Literal["LORA", "LOHA", "LOKR", "IA3"] | None = None  # of `peft`: all else stays as it is
    adapter_options: Mapping[str, Any] = field(default_factory=dict)  # of its configuration
    adapter_in: Literal["all", "target"] = "all"  # the stages of which it is all that is trained
    quantize: Literal["nf4"] | None = None  # weights of a causal language model under a LoRA adapter, in 4 bits: QLoRA

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        Recipe.check(self, counts=("write_batch",))
        if self.adapter_options and self.adapter is None:
            raise ValueError("adapter_options belong to an adapter; say `adapter: LORA`, or another.")
        if self.adapter is not None and find_spec("peft") is None:
            raise ValueError("adapters need the package peft, which is not installed: pip install 'cdner[adapters]'.")
        if self.quantize is not None and (self.adapter, self.adapter_in) != ("LORA", "all"):
            raise ValueError(
                "weights in 4 bits cannot be trained; say `adapter: LORA`, in all stages, beside `quantize`."
            )
        if self.quantize is not None and find_spec("bitsandbytes") is None:
            raise ValueError(
                "4-bit weights need the package bitsandbytes, which is not installed: pip install 'cdner[quantized]'."
            )

    @property
    def writing(self) -> Writing:
        """How texts are written."""
        return Writing.of(self.decoding, self.backbone, self.write_batch)


class Text2Text(Method):
    """Source training, then the target; or both at once; or the target alone."""

    Settings = Settings
    adds = chains = evaluates = True

    def __init__(self) -> None:
        """Look each backbone up once for all the cells that one Text2Text plans."""
        self.find: Find = cache(backbones.find)
        self.check = cache(check)

    def plan(self, transfer: Transfer, settings: Settings, seed: int) -> Stage:
        """Return the stage that writes about the test words.

        Raises Unsupported for an order or a selection that a text-to-text model cannot do.
        """
        s, spec, target = settings, transfer.spec, transfer.target
        if spec.order == "merge":
            raise Unsupported("text2text does not merge models; say `order: sequence` or `order: joint`.")
        if s.target_only and spec.regime == "zero-shot":
            raise Unsupported("with target_only there is nothing to learn from in zero-shot.")
        if s.target_only and transfer.chain:
            raise Unsupported("with target_only nothing is learned before the target, so there is no chain.")
        if spec.select == "source-dev":
            raise Unsupported("text2text does not select on source dev; say `select: target-dev` or `select: last`.")
        if s.writing.decoding == "free":
            self.check(self.find(s.backbone, s.revision), Prompting(s.format, s.instruction))
        if s.quantize is not None:
            quantized.check(self.find(s.backbone, s.revision))
        train = self._trainer(s, seed)
        own = [*transfer.added, target]  # options of the last are dev's
        selects = spec.select == "target-dev"
        dev = target.dev if selects else None
        if s.target_only or spec.regime == "in-domain":
            model = train(own, dev, source=False)
        elif spec.regime == "zero-shot":
            model = train(transfer.sources, None, source=True)
        elif spec.order == "joint":
            model = train([*transfer.sources, *own], dev, source=False)
        else:
            model = train(transfer.sources, None, source=True)
            for domain in transfer.chain:
                model = train([domain], domain.dev if selects else None, source=False, init=model)
            model = train(own, dev, source=False, init=model)
        return Stage(
            write_text2text if s.quantize is None else quantized.write_quantized,
            title=f"{transfer.test.corpus} seed {seed}",
            size=float(transfer.test.n_words),
            model=model,
            words=transfer.test,
            options=formats.names_of(transfer.tested.card),
            prompting=Prompting(s.format, s.instruction),
            writing=s.writing,
            precision=s.precision,
            seed=seed,
        )

    def _trainer(self, s: Settings, seed: int) -> Callable[..., Stage]:
        """Return what makes the training stages of one cell."""
        backbone = self.find(s.backbone, s.revision)

        def train(domains: Sequence[Domain], dev: Split | None, *, source: bool, init: Stage | None = None) -> Stage:
            recipe = Recipe.of(s, source=source, selects=dev is not None)
            adapter = None
            if s.adapter is not None and (s.adapter_in == "all" or not source):
                adapter = Adapter(s.adapter, dict(s.adapter_options))
            told = [s.backbone, s.format]
            told += [] if adapter is None else [adapter.kind if s.quantize is None else f"{adapter.kind}, {s.quantize}"]
            told += [] if init is None else ["after the source"]
            return Stage(
                train_text2text if s.quantize is None else quantized.train_quantized,
                title=f"{'+'.join(d.name for d in domains)} ({', '.join(told)}) seed {seed}",
                size=float(recipe.epochs * sum(d.train.n_words for d in domains)),
                backbone=backbone,
                init=init,
                train=tuple(d.train for d in domains),
                options=tuple(formats.names_of(d.card) for d in domains),
                dev=dev,
                prompting=Prompting(s.format, s.instruction),
                writing=None if dev is None else s.writing,
                recipe=recipe,
                seed=seed,
                adapter=adapter,
            )

        return train
