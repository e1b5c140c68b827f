"""Tagger: an encoder and a linear head, with a CRF if asked, trained on the source and then on the target.

Paper    Hu et al., "A Label-Aware Autoregressive Framework for Cross-Domain NER", 2022, table 3: BERT-TAGGER,
         BERT-CRF; table 4: target only. With `encoder: rnn`, the baseline of Gravil et al., "Cross-Domain Named
         Entity Recognition", section 3; its penalty on O is `class_weights` and `o_weight`.
DAPT     `dapt` goes on pre-training on text of the domain first (DAPT-TAGGER, DAPT-CRF); then no two targets share
Source   trained for a fixed number of epochs, the last one kept: one source model serves every target
Target   a type that the source shares keeps its rows of the head (and its CRF transitions); new ones start fresh
Departs  The papers' label space is the target's in both stages; ours is each corpus' own. Labels sit on first
         sub-words and no other sub-word is ever predicted. A transformer's padding is masked. Their Adam is AdamW
         with no decay; one optimizer a stage, where the authors carry Adam over to the target.
Joint    source and target at once, with the target's epochs and rates; the head knows the labels of both
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from benchmark.corpus.card import GENERAL
from benchmark.corpus.corpus import Split
from benchmark.corpus.transfer import Domain, Transfer, once
from benchmark.errors import Unsupported
from benchmark.models import backbones
from benchmark.models.tagging import Recipe, merge, tag, train_tagger
from benchmark.run.dapt import adapting
from benchmark.run.method import Method
from benchmark.run.stage import Stage

Find = Callable[[str, str | None], backbones.Backbone]


@dataclass(frozen=True)
class Settings:
    """The settings of a tagger; the defaults are LANER's (table 5, and its code where the paper is silent)."""

    encoder: str = "bert-base-cased"
    revision: str | None = None  # of a hub id; None: the one in the hub's cache, else the newest, written down
    crf: bool = False
    target_only: bool = False  # table 4: the source is not used
    source_epochs: int = 2  # the authors' code; the paper is silent
    source_lr: float | None = None  # None: lr
    source_batch: int | None = None  # None: batch
    epochs: int = 100
    patience: int | None = 16  # the authors' code
    dev_every: int = 1  # epochs between two looks at dev
    lr: float = 5e-5
    head_lr: float | None = None  # None: lr
    batch: int = 16
    warmup: float = 0.0
    schedule: Literal["constant", "linear"] = "constant"
    weight_decay: float = 0.0
    clip: float | None = None
    class_weights: Literal["none", "inverse"] = "none"
    o_weight: float = 1.0
    precision: Literal["auto", "32", "bf16"] = "auto"
    dapt: str | None = None  # text to go on with: `target` (words of train and dev), `published`, file, dataset
    dapt_epochs: int = 15  # CrossNER's; the paper is silent on all of it
    dapt_lr: float = 5e-5
    dapt_batch: int = 16
    dapt_share: float = 0.15  # of the words that are masked

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.crf and (self.class_weights != "none" or self.o_weight != 1.0):
            raise ValueError("a CRF is trained on whole sentences and takes no class_weights and no o_weight.")
        Recipe.check(self, counts=("dapt_epochs", "dapt_batch"), amounts=("head_lr", "o_weight", "dapt_lr"))
        if not 0 < self.dapt_share < 1:
            raise ValueError(f"dapt_share is a share of all words, above 0 and under 1; found {self.dapt_share}.")


class Tagger(Method):
    """Source training, then the target; or both at once; or the target alone."""

    Settings = Settings
    adds = True

    def __init__(self) -> None:
        """Look each encoder up once for all the cells that one Tagger plans."""
        self.find: Find = cache(backbones.find)

    def plan(self, transfer: Transfer, settings: Settings, seed: int) -> Stage:
        """Return the stage that tags the test words."""
        sources, target = transfer.sources, transfer.target
        renamed = [d.relabel(d.identities) for d in sources]
        own = target.relabel(target.identities)
        added = [d.relabel(d.identities) for d in transfer.added]
        model = plan_tagger(transfer, settings, seed, renamed, own, types_of(renamed, own, added), self.find, added)
        names = {identity: key for key, identity in target.identities.items()}
        return plan_tagging(transfer, settings, seed, model, names)

    def doubting(self, transfer: Transfer, settings: Any, seed: int) -> Stage:
        """Return the stage that tags the test words and tells how unsure each of them is."""
        final = self.plan(transfer, settings, seed)
        return Stage(final.step, title=f"{final.title}, with doubt", size=final.size, **final.inputs, doubt=True)


@dataclass(frozen=True)
class Labels:
    """The labels of the head: of the sources, of the target, and of what is added to the target."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    added: tuple[str, ...] = ()

    @property
    def last(self) -> tuple[str, ...]:
        """Return those of the target stage: the target's, then what is added."""
        return tuple(dict.fromkeys((*self.target, *self.added)))

    @property
    def joint(self) -> tuple[str, ...]:
        """Return the union, the target's first."""
        return tuple(dict.fromkeys((*self.last, *self.source)))


def types_of(sources: Sequence[Domain], target: Domain, added: Sequence[Domain] = ()) -> Labels:
    """Return the type identities of the sources, in order, of the target, and of mentions that are added to it."""
    return Labels(
        tuple(dict.fromkeys(i for d in sources for i in d.identities.values())),
        tuple(target.identities.values()),
        tuple(dict.fromkeys(span.type for d in added for s in d.train.sentences for span in s.spans or ())),
    )


def plan_tagger(
    transfer: Transfer,
    s: Settings,
    seed: int,
    sources: Sequence[Domain],
    target: Domain,
    labels: Labels,
    find: Find = backbones.find,
    added: Sequence[Domain] = (),
) -> Stage:
    """Return the stage that trains the tagger for a transfer, on domains whose gold is labels already.

    Raises Unsupported for an order or a selection that a tagger cannot do.
    """
    spec = transfer.spec
    if spec.order == "merge":
        raise Unsupported("a tagger does not merge models; say `order: sequence` or `order: joint`.")
    if s.target_only and spec.regime == "zero-shot":
        raise Unsupported("with target_only there is nothing to learn from in zero-shot.")
    backbone = find(s.encoder, s.revision)
    adapted = adapting(
        transfer, seed, backbone, s.dapt, epochs=s.dapt_epochs, lr=s.dapt_lr, batch=s.dapt_batch, share=s.dapt_share,
        precision=s.precision,
    )  # fmt: skip
    traits = [
        s.encoder,
        *(["DAPT"] if adapted is not None else []),
        *(["CRF"] if s.crf else []),
        *(["general types"] if labels.target == GENERAL else []),
    ]

    def train(
        splits: Sequence[Split],
        dev: Split | None,
        types: Sequence[str],
        *,
        source: bool,
        init: Stage | None = None,
        **more: Any,
    ) -> Stage:
        recipe = Recipe.of(s, source=source, selects=dev is not None)
        if adapted is not None and init is None:
            more["adapted"] = adapted
        told = [*traits, *(["after the source"] if init is not None else [])]
        return Stage(
            train_tagger,
            title=f"{'+'.join(x.corpus for x in splits)} ({', '.join(told)}) seed {seed}",
            size=float(recipe.epochs * sum(x.n_words for x in splits)),
            backbone=backbone,
            init=init,
            train=tuple(splits),
            dev=dev,
            types=tuple(types),
            crf=s.crf,
            recipe=recipe,
            seed=seed,
            **more,
        )

    own_dev = target.dev if spec.select == "target-dev" else None
    own = [target.train, *(d.train for d in added)]
    foreign = {} if own_dev is None or labels.last == labels.target else {"allowed": labels.target}
    if s.target_only and spec.select == "source-dev":
        raise Unsupported(
            "with target_only there is no source to select on; say `select: target-dev` or `select: last`."
        )
    if s.target_only or spec.regime == "in-domain":
        return train(own, own_dev, labels.last, source=False, **foreign)
    source_dev = _merged([d.dev for d in sources if d.dev is not None]) if spec.select == "source-dev" else None
    gold = [d.train for d in sources]
    if spec.regime == "zero-shot":
        return train(gold, source_dev, labels.source, source=True)
    if spec.order == "joint":
        allowed = {} if own_dev is None else {"allowed": labels.target}  # dev is read as test will be
        return train([*gold, *own], own_dev or source_dev, labels.joint, source=False, **allowed)
    if spec.select == "source-dev":
        raise Unsupported(
            "in sequence the head ends as the target's, so source dev cannot select it; "
            "say `order: joint`, or select on target-dev or last."
        )
    source = train(gold, None, labels.source, source=True)
    return train(own, own_dev, labels.last, source=False, init=source, **foreign)


def _merged(splits: Sequence[Split]) -> Split:
    return once(splits[0], ("merged", *(split.hash for split in splits)), lambda: merge(splits))


def plan_tagging(transfer: Transfer, s: Settings, seed: int, model: Stage, names: dict[str, str]) -> Stage:
    """Return the stage that predicts the test words. `names`: label -> type of the prediction.

    A label that the model never learned is not predicted (a target's own types, in zero-shot).
    """
    return Stage(
        tag,
        title=f"{transfer.test.corpus} seed {seed}",
        size=float(transfer.test.n_words),
        model=model,
        words=transfer.test,
        names=names,
        precision=s.precision,
        seed=seed,
    )
