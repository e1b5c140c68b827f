"""What is learned from and what is predicted.

A transfer shows a method exactly the gold that its regime allows, and test words without gold: gold of the test
split has no road into a method. Limited regimes draw nested samples: 1% is inside 5% of the same draw.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from benchmark.corpus import similarity
from benchmark.corpus.card import Card
from benchmark.corpus.corpus import Corpus, Sentence, Split, load
from benchmark.errors import PlanError

VERSION = 1  # rises when a change here could change a sample

ORDERS = ("sequence", "joint", "merge")
FULL = ("supervised", "in-domain", "zero-shot")
LIMITED = ("fraction", "sentences", "shots")
REGIMES = (*FULL, *LIMITED)
SELECTS = ("target-dev", "source-dev", "last")
DEVS = ("card", "none")
CHOICES = ("random", "similar", "dissimilar")
FOREIGN = ("own", "shared", "miscellaneous")
ANNOTATORS = ("oracle", "llm", "file", "nobody")
MEASURES = ("entropy", "surprisal")
STARTS = ("model", "gold")


@dataclass(frozen=True)
class Auxiliary:
    """Added data: sentences of other domains' train, learned together with the target's (Gravil et al., 3.1, 3.3).

    corpora    the pool is their train splits, merged
    share      of the pool's sentences
    choose     `random`; `similar`, `dissimilar`: the nearest, the farthest domain first, at random within one. A larger
               share holds a smaller one of the same draw
    features   what is near: a name of `similarity.FEATURES`
    types      what becomes of a mention whose type the target does not share: `own`, it stays a type of its own, which
               is never predicted for the target; `shared`, its words are outside; `miscellaneous`, it is that
    """

    corpora: tuple[str, ...]
    share: float
    choose: str = "random"
    features: str = "counts"
    types: str = "own"

    @property
    def label(self) -> str:
        """Return what cells and tables call it.

        >>> Auxiliary(("music", "science"), 0.3, "similar").label
        'similar-0.3'
        """
        return f"{self.choose}-{self.share:g}"

    @staticmethod
    def read(label: str) -> tuple[str, str, float]:
        """Return what a regime's label tells: regime, choice and share; "" and 0 where nothing is added.

        >>> Auxiliary.read("fraction-0.1+similar-0.3"), Auxiliary.read("supervised")
        (('fraction-0.1', 'similar', 0.3), ('supervised', '', 0.0))
        >>> Auxiliary.read("supervised+random-0.5+on-conll2003")
        ('supervised+on-conll2003', 'random', 0.5)
        """
        parts = label.split("+")
        for part in parts:
            choose, _, share = part.partition("-")
            if choose in CHOICES:
                return "+".join(other for other in parts if other is not part), choose, float(share)
        return label, "", 0.0

    def check(self, spec: "Spec") -> None:
        """Raise PlanError for what means nothing in a transfer."""
        for name in self.corpora:
            if name == spec.target or name in spec.sources:
                raise PlanError(f"auxiliary: {name} is the {'target' if name == spec.target else 'source'} already.")
        if not self.corpora or len(set(self.corpora)) < len(self.corpora):
            raise PlanError("auxiliary: name the corpora to add from, each once.")
        if not 0 < self.share <= 1:
            raise PlanError(f"auxiliary: share is above 0 and at most 1; found {self.share:g}. 30% is written 0.3.")
        if spec.regime == "zero-shot":
            raise PlanError("auxiliary: in zero-shot nothing is learned of the target to add to; name it in `sources`.")


@dataclass(frozen=True)
class Annotation:
    """Re-annotated train: words of which a model is unsure get the labels of an annotator (Gravil et al., 3.2).

    by          `oracle`, gold; `llm`, a language model; `file`, one that a person fills in; `nobody`, for comparison
    threshold   a word above it is unsure
    measure     of a word's doubt: `entropy` of its label, in bits; `surprisal`, the paper's "summing the negative
                logarithms" (natural) of the probabilities of all labels
    start       the labels of train that are re-annotated: those of the `model` that knows the sources alone, the model
                that doubts; or `gold`, doubted by the model that has learned them
    model, base_url   of the language model; "": those of the environment
    """

    by: str
    threshold: float = 2.0
    measure: str = "entropy"
    start: str = "model"
    model: str = ""
    base_url: str = ""

    @property
    def label(self) -> str:
        """Return what cells and tables call it: the annotator, with the threshold where there is one.

        >>> Annotation("oracle").label, Annotation("nobody").label
        ('oracle-2', 'nobody')
        """
        return self.by if self.by == "nobody" else f"{self.by}-{self.threshold:g}"

    def check(self, spec: "Spec") -> None:
        """Raise PlanError for what means nothing in a transfer."""
        if self.threshold < 0 or not math.isfinite(self.threshold):
            raise PlanError(f"annotate: threshold is 0 or more; found {self.threshold:g}.")
        if spec.regime == "zero-shot":
            raise PlanError("annotate: in zero-shot nothing is learned of the target, so there is nothing to annotate.")
        if self.start == "model" and not spec.sources:
            raise PlanError(
                f"annotate: {spec.regime} has no sources, so no model has labels to start from; say `start: gold`."
            )
        if self.start == "gold" and self.by in ("oracle", "nobody"):
            raise PlanError(
                f"annotate: where train starts with gold, by {self.by} changes nothing; say `start: model`, or leave "
                "`annotate` out."
            )
        if (self.model or self.base_url) and self.by != "llm":
            raise PlanError(f"annotate: model and base_url are for `by: llm`; found `by: {self.by}`.")
        if spec.auxiliary is not None:
            raise PlanError("a transfer has `auxiliary` or `annotate`, not both: say two transfers.")


@dataclass(frozen=True)
class Spec:
    """A transfer by names alone: what a plan says, and what a record keeps.

    chain      targets that are learned one after another before `target`, each under the regime, as continual learning
               has it
    evaluate   the corpus whose test words are predicted; None: the target's
    pool       corpora that a plan asks for as sources of each other (`others`)
    curves     whether training keeps what each of its epochs predicts
    """

    sources: tuple[str, ...]
    target: str
    regime: str = "supervised"
    amount: float | None = None
    order: str = "sequence"
    select: str = "target-dev"
    draw: int | None = None
    dev: str = "card"
    auxiliary: Auxiliary | None = None
    annotate: Annotation | None = None
    chain: tuple[str, ...] = ()
    evaluate: str | None = None
    pool: tuple[str, ...] = ()
    curves: bool = False

    @property
    def learned_from(self) -> tuple[str, ...]:
        """Return the sources as tables name them: those that each target has, then the pool of others.

        >>> Spec(("conll2003", "ai", "music"), "politics", pool=("ai", "music", "politics")).learned_from
        ('conll2003', 'others of ai, music, politics')
        """
        if not self.pool:
            return self.sources
        return (*(name for name in self.sources if name not in self.pool), f"others of {', '.join(self.pool)}")

    @property
    def tested(self) -> str:
        """Return the name of the corpus whose test words are predicted."""
        return self.evaluate or self.target

    @property
    def corpora(self) -> tuple[str, ...]:
        """Return the names of all corpora, each once."""
        added = () if self.auxiliary is None else self.auxiliary.corpora
        return tuple(dict.fromkeys((*self.sources, *self.chain, self.target, self.tested, *added)))

    @property
    def learned(self) -> str:
        """Return the targets in the order in which they are learned, as cells and tables name them.

        >>> Spec(("conll2003",), "music", chain=("politics", "science")).learned
        'politics+science+music'
        """
        return "+".join((*self.chain, self.target))

    @property
    def regime_label(self) -> str:
        """Return the regime with its amount, what is added or re-annotated, and what other corpus is predicted.

        >>> Spec(("conll2003",), "movie", "fraction", 0.01).regime_label
        'fraction-0.01'
        >>> Spec(("conll2003",), "ai", evaluate="conll2003").regime_label
        'supervised+on-conll2003'
        """
        label = self.regime if self.amount is None else f"{self.regime}-{self.amount:g}"
        more = [more.label for more in (self.auxiliary, self.annotate) if more is not None]
        return "+".join([label, *more, *([] if self.evaluate is None else [f"on-{self.evaluate}"])])

    @property
    def place(self) -> str:
        """Return the middle of a cell's name.

        >>> Spec(("conll2003", "ai"), "music").place
        'conll2003+ai--music/supervised'
        """
        return f"{'+'.join(self.sources)}--{self.learned}/{self.regime_label}"

    def check(self) -> None:
        """Raise PlanError for a combination that means nothing."""
        if self.regime == "in-domain" and self.sources:
            raise PlanError(
                "the regime in-domain learns from the target alone, but sources are given "
                f"({', '.join(self.sources)}); leave `sources` out, or say `regime: supervised`."
            )
        if self.regime != "in-domain" and not self.sources:
            raise PlanError(f"the regime {self.regime} needs `sources`; without any, say `regime: in-domain`.")
        if self.target in self.sources:
            raise PlanError(f"{self.target} is source and target at once; say `regime: in-domain` without sources.")
        if len(set(self.sources)) < len(self.sources):
            raise PlanError(f"a source stands twice in {', '.join(self.sources)}.")
        self._check_chain()
        if self.regime == "zero-shot" and self.select == "target-dev":
            raise PlanError(
                "zero-shot shows no target gold, so nothing can be selected on target dev; "
                "say `select: source-dev` or `select: last`."
            )
        if self.regime == "in-domain" and self.select == "source-dev":
            raise PlanError("in-domain has no source to select on; say `select: target-dev` or `select: last`.")
        if self.dev == "none" and self.select == "target-dev":
            raise PlanError("`dev: none` leaves no dev to select on; say `select: last`.")
        if (self.amount is None) == (self.regime in LIMITED):
            raise PlanError(f"the regime {self.regime} {'needs an' if self.amount is None else 'takes no'} amount.")
        if self.amount is not None and not math.isfinite(self.amount):
            raise PlanError(f"the amount of {self.regime} must be a number; found {self.amount}.")
        if self.amount is not None and self.amount <= 0:
            raise PlanError(f"the amount of {self.regime} must be above 0; found {self.amount:g}.")
        if self.regime == "fraction" and self.amount is not None and self.amount > 1:
            raise PlanError(f"a fraction is at most 1; found {self.amount:g}. 5% is written 0.05.")
        if self.auxiliary is not None:
            self.auxiliary.check(self)
        if self.annotate is not None:
            self.annotate.check(self)
        if self.regime in ("sentences", "shots") and self.amount is not None and self.amount != int(self.amount):
            raise PlanError(f"{self.regime} takes a whole number; found {self.amount:g}.")

    def _check_chain(self) -> None:
        """Raise PlanError for a chain, or a corpus to evaluate on, that means nothing."""
        if self.evaluate == self.target:
            raise PlanError(f"evaluate: {self.target} is the target, and predicted without it.")
        if self.evaluate is not None and self.annotate is not None:
            raise PlanError("a transfer has `evaluate` or `annotate`, not both: say two transfers.")
        if not self.chain:
            return
        for name in self.chain:
            if name in self.sources:
                raise PlanError(f"chain: {name} is a source already.")
        if len({*self.chain, self.target}) < len(self.chain) + 1:
            raise PlanError(f"chain: one corpus stands twice in {', '.join((*self.chain, self.target))}.")
        if self.regime == "zero-shot" or not self.sources:
            raise PlanError(
                f"chain: its targets are learned after `sources`, each from its gold; {self.regime} has not both."
            )
        if self.order != "sequence":
            raise PlanError(f"chain: targets are learned one after another; `order: {self.order}` is not that.")
        if self.auxiliary is not None or self.annotate is not None:
            raise PlanError("a transfer has a `chain`, or `auxiliary` or `annotate`: say two transfers.")


@dataclass(frozen=True)
class Domain:
    """One corpus as a method may see it: its card, and train and dev with the gold that the regime shows."""

    card: Card
    train: Split
    dev: Split | None

    @property
    def name(self) -> str:
        """Return the corpus' name."""
        return self.card.name

    @property
    def types(self) -> tuple[str, ...]:
        """Return the type keys in the card's order."""
        return tuple(self.card.types)

    @cached_property
    def identities(self) -> dict[str, str]:
        """Return key -> identity: two corpora share a type where identities are equal."""
        return {key: t.identity for key, t in self.card.types.items()}

    @cached_property
    def general(self) -> dict[str, str]:
        """Return key -> general type."""
        return {key: t.general for key, t in self.card.types.items()}

    @property
    def rest(self) -> str | None:
        """Return the key of the type that is named miscellaneous; None where there is none."""
        return next((key for key, t in self.card.types.items() if "miscellaneous" in (key, t.name, t.identity)), None)

    def relabel(self, mapping: Mapping[str, str | None]) -> "Domain":
        """Return the same domain with its gold renamed. A span whose type maps to None is dropped."""
        return replace(
            self, train=_renamed(self.train, mapping), dev=None if self.dev is None else _renamed(self.dev, mapping)
        )


@dataclass(frozen=True)
class Transfer:
    """Sources and a target as the regime shows them, and the words of a test split: the target's, unless told else.

    added       domains of which some sentences are learned together with the target's; they have no dev
    chain       targets that are learned before the target, in their order
    evaluated   the domain whose test words are predicted, where it is not the target
    data        the folder that the corpora are from, for what else a card names; None: as the environment says
    cards       folders of cards of the user's own
    """

    spec: Spec
    sources: tuple[Domain, ...]
    target: Domain
    test: Split  # words only
    added: tuple[Domain, ...] = ()
    chain: tuple[Domain, ...] = ()
    evaluated: Domain | None = None
    data: Path | None = None
    cards: tuple[Path, ...] = ()

    @property
    def tested(self) -> Domain:
        """Return the domain whose test words are predicted."""
        return self.evaluated or self.target

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Return all domains, in the order in which they are learned; that which is only predicted comes last."""
        known = (*self.sources, *self.chain, self.target, *self.added)
        return known if self.tested.name in {d.name for d in known} else (*known, self.tested)


def once(split: Split, how: Hashable, make: Callable[[], Split]) -> Split:
    """Return what `make` makes of a split: for one `how`, the same object each time.

    Every cell of a board asks for the same few splits, and each new one would be made and hashed anew. What is made
    is kept with the split that it is made of, and goes when that goes.
    """
    made: dict[Hashable, Split] = vars(split).setdefault("_made", {})
    if how not in made:
        made[how] = make()
    return made[how]


def _renamed(split: Split, mapping: Mapping[str, str | None]) -> Split:
    """Return the split with its types renamed: itself, where nothing has another name."""

    def rename() -> Split:
        renamed = split.relabel(mapping)
        return split if renamed == split else renamed

    return once(split, tuple(mapping.items()), rename)


def words_only(split: Split) -> Split:
    """Return the same sentences with their gold not shown: the same object each time."""
    return once(split, "words", split.words_only)


def shows_all(transfer: Transfer) -> bool:
    """Whether a transfer shows all of the target's train, labelled as its corpus has it."""
    return transfer.spec.regime in ("supervised", "in-domain") and transfer.spec.annotate is None


def build(
    spec: Spec, *, data: Path | None = None, cards: tuple[Path, ...] = (), corpora: Callable[..., Corpus] = load
) -> Transfer:
    """Return the transfer that a spec names.

    Raises PlanError for a spec that means nothing, or that asks for a dev split that is not there.
    """
    spec.check()
    sources = []
    for name in spec.sources:
        corpus = corpora(name, data=data, cards=cards, dev="card" if spec.select == "source-dev" else spec.dev)
        sources.append(Domain(corpus.card, corpus.train, corpus.dev))
    learned = []
    for name in (*spec.chain, spec.target):
        corpus = corpora(name, data=data, cards=cards, dev=spec.dev)
        train, dev = shown(spec, corpus.train, corpus.dev)
        if spec.select == "target-dev" and dev is None:
            raise PlanError(f"{name} has no dev split to select on; say `select: last`.")
        learned.append(Domain(corpus.card, train, dev))
    *chain, target = learned
    if spec.select == "source-dev" and any(s.dev is None for s in sources):
        raise PlanError(f"a source among {', '.join(spec.sources)} has no dev split to select on; say `select: last`.")
    added: tuple[Domain, ...] = ()
    if spec.auxiliary is not None:
        pool = [corpora(name, data=data, cards=cards) for name in spec.auxiliary.corpora]
        added = chosen(spec.auxiliary, target, [Domain(c.card, c.train, None) for c in pool], spec.draw or 1)
    evaluated = None
    if spec.evaluate is not None:
        corpus = corpora(spec.evaluate, data=data, cards=cards)
        unseen = Domain(corpus.card, words_only(corpus.train), None)
        evaluated = next((d for d in (*sources, *chain) if d.name == spec.evaluate), unseen)
    return Transfer(spec, tuple(sources), target, words_only(corpus.test), added, tuple(chain), evaluated, data, cards)


def chosen(auxiliary: Auxiliary, target: Domain, pool: Sequence[Domain], draw: int) -> tuple[Domain, ...]:
    """Return the domains of a pool with the sentences that are added to a target's; none of which nothing is added.

    Raises PlanError where mentions are to be miscellaneous and a corpus has no such type.
    """
    order = dict.fromkeys(auxiliary.corpora, 0)
    if auxiliary.choose != "random":
        near = list(similarity.distances(target.train, tuple(d.train for d in pool), auxiliary.features))
        order = {name: n for n, name in enumerate(near if auxiliary.choose == "similar" else near[::-1])}
    sentences = [(order[d.name], _drawn(draw, s), d.name, s.id) for d in pool for s in d.train.sentences]
    count = max(1, round(auxiliary.share * len(sentences)))
    taken = {(name, id) for _, _, name, id in sorted(sentences)[:count]}
    found = []
    for domain in pool:
        ids = frozenset(id for name, id in taken if name == domain.name)
        if ids:
            part = once(domain.train, ("added", ids), partial(_part, domain.train, ids))
            found.append(replace(domain, train=part).relabel(_foreign(auxiliary.types, domain, target)))
    return tuple(found)


def _part(split: Split, ids: Collection[str]) -> Split:
    return Split(split.corpus, split.name, tuple(s for s in split.sentences if s.id in ids))


def _foreign(types: str, domain: Domain, target: Domain) -> dict[str, str | None]:
    """Return what becomes of each type of an added domain: a key of its own, or None where its words are outside."""
    known = set(target.identities.values())
    if types == "own":
        return {key: key for key in domain.types}
    if types == "shared":
        return {key: key if identity in known else None for key, identity in domain.identities.items()}
    rest = domain.rest
    if rest is None or domain.identities[rest] not in known:
        raise PlanError(
            f"auxiliary: {domain.name} and {target.name} share no type named miscellaneous that other types could "
            "become; say `types: own` or `types: shared`."
        )
    return {key: key if identity in known else rest for key, identity in domain.identities.items()}


def _drawn(draw: int, sentence: Sentence) -> bytes:
    """Return what puts sentences into the order of a draw."""
    return hashlib.sha256(f"{draw}\t{sentence.id}\t{' '.join(sentence.words)}".encode()).digest()


def shown(spec: Spec, train: Split, dev: Split | None) -> tuple[Split, Split | None]:
    """Return the target's train and dev as the regime shows them.

    With limited gold, dev is subsampled at the same rate: a full dev beside 1% of train is no low-resource result.
    """
    if spec.regime == "zero-shot":
        return words_only(train), None if dev is None else words_only(dev)
    if spec.regime not in LIMITED:
        return train, dev
    assert spec.amount is not None
    draw = spec.draw or 1
    some = _sampled(train, spec.regime, spec.amount, draw)
    if spec.select != "target-dev" or dev is None:
        return some, None
    rate = len(some.sentences) / len(train.sentences)
    return some, _sampled(dev, "fraction", rate, draw)


def _sampled(split: Split, regime: str, amount: float, draw: int) -> Split:
    return once(split, (regime, amount, draw), lambda: sample(split, regime, amount, draw))


def sample(split: Split, regime: str, amount: float, draw: int) -> Split:
    """Return a nested sample of a split, in the split's order.

    fraction    that share of the sentences, at least one
    sentences   that many
    shots       sentences in drawing order, each taken while it holds a type seen fewer than `amount` times: at least
                `amount` mentions of every type that has as many (greedy)
    Raises PlanError when more is asked than there is.
    """
    order = sorted(split.sentences, key=lambda s: _drawn(draw, s))
    if regime == "shots":
        taken = _shots(order, int(amount))
    else:
        count = max(1, round(amount * len(order))) if regime == "fraction" else int(amount)
        if count > len(order):
            raise PlanError(f"{split.corpus} {split.name} has {len(order)} sentences, and {count} are asked for.")
        taken = {s.id for s in order[:count]}
    return Split(split.corpus, split.name, tuple(s for s in split.sentences if s.id in taken))


def _shots(order: list[Sentence], amount: int) -> set[str]:
    seen: Counter[str] = Counter()
    taken = set()
    for sentence in order:
        types = [span.type for span in sentence.spans or ()]
        if any(seen[t] < amount for t in types):
            taken.add(sentence.id)
            seen.update(types)
    return taken


def describe(spec: Spec) -> dict[str, Any]:
    """Return the spec as a record keeps it."""
    more = {"auxiliary": spec.auxiliary, "annotate": spec.annotate}
    return {
        **{name: asdict(value) for name, value in more.items() if value is not None},
        **({"chain": list(spec.chain)} if spec.chain else {}),
        **({"evaluate": spec.evaluate} if spec.evaluate is not None else {}),
        **({"curves": True} if spec.curves else {}),
        "sources": list(spec.sources),
        "order": spec.order,
        "target": spec.target,
        "regime": spec.regime,
        "amount": spec.amount,
        "select": spec.select,
        "dev": spec.dev,
    }
