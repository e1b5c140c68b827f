"""TOPT: pre-training on explanations of the target's mentions, then text-to-text NER from the sources to the target.

Paper    Zhang et al., "Cross-domain NER with Generated Task-Oriented Knowledge", 2024; code: ZelateCalcite/TOPT_NER
3.1      explanations: an LLM tells why a mention has its type   question, explain; benchmark.corpus.knowledge
3.2      masked span language modelling, eq. 3-5                 benchmark.models.masked_spans.pretrain
3.3      text-to-text NER, eq. 6                                 benchmark.models.text2text
Eq. 7    several sources, `merge: init-mean`                     benchmark.models.masked_spans.merge
Alg. 1   several sources, `merge: alg1-sum`                      likewise
4.2      cleaning of what the LLM wrote                          benchmark.corpus.knowledge.cleaned
Order    the same weights for every target -> explanations -> sources -> target; no two targets share a stage
Departs  Algorithm 1 adds 2/3 of the target's parameters and 1/3 of the sum over the sources, which weigh 2.33 with five
         sources; `alg1-mean`, the default, takes 1/3 of their mean. The paper never lists its several sources: they are
         the transfer's. Its options come from the test file's gold; ours are the card's, in its order. The authors'
         masked-span script goes on from domain to domain; every domain starts from the same weights here, as in the
         paper. Their first mask hides the mention and its type (`first_mask: marked`), the paper draws all (`random`).
         Words are masked, those between blanks, as in their code. They tune to the last epoch; `select` is free here.
         Published explanations are taken as they are, though a few (ai 48, literature 7, music 4, science 5) have a
         phrase of their own list that says that they do not explain; those of a file or a model are cleaned.
"""

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

from benchmark.corpus import knowledge
from benchmark.corpus.card import load_card
from benchmark.corpus.corpus import Split
from benchmark.corpus.knowledge import BOILERPLATE, NEGATIVE, Explained, Learned
from benchmark.corpus.transfer import Domain, Transfer, shows_all
from benchmark.errors import PlanError, Unsupported
from benchmark.llm import model as models
from benchmark.llm.answers import Message, Question
from benchmark.llm.ask import ask, tokens_of
from benchmark.llm.model import Llm
from benchmark.models import backbones, formats
from benchmark.models.backbones import Backbone
from benchmark.models.masked_spans import Masks, merge, pretrain
from benchmark.models.masking import find_text
from benchmark.models.tagging import Recipe
from benchmark.models.text2text import Prompting, Writing, check, train_text2text, write_text2text
from benchmark.run.method import Method
from benchmark.run.stage import Made, Stage
from benchmark.work import Work
from methods.llm_prompt import Settings as AskedModel
from methods.llm_prompt import language_model

PROMPT = "topt-explain-1"
WORDS = ("published", "generate", "none")  # what `knowledge` may be beside a file or a dataset


@dataclass(frozen=True)
class Settings:
    """The settings of TOPT; the defaults are the paper's, or its authors' code where the paper is silent."""

    backbone: str = "google/flan-t5-base"
    revision: str | None = None  # of a hub id; None: the one in the hub's cache, else the newest, written down
    format: Literal["topt-text", "topt", "typed", "sentence"] = "topt-text"  # (text, type); the code has (type, text)
    instruction: bool = True  # whether an instruction stands before the options
    decoding: Literal["auto", "free", "grounded"] = "auto"  # auto: grounded for minilm-seq2seq, else free
    knowledge: str = "published"  # published; generate: by a language model; none; a file of explanations (.json); or
    #                               other text, as `dapt` takes it. {target} stands for the target's name
    mixed: int = 0  # explanations of other domains that are added (table 7)
    mixed_from: tuple[str, ...] | list[str] = ()  # those domains; the target is left out
    negative: tuple[str, ...] | list[str] = NEGATIVE  # an explanation with one of these phrases does not explain
    boilerplate: tuple[str, ...] | list[str] = BOILERPLATE  # regular expressions of what is cut from explanations;
    #                                                         both of generated ones and a file's, not of published ones
    model: str = ""  # who explains; "": that of CDNER_LLM_MODEL, else Llama-2, the paper's
    base_url: str = ""  # "": that of the environment
    local: bool = False  # the model is a folder or a hub id of transformers, and runs here
    temperature: float | None = 0.1  # None: the server's own
    top_p: float = 0.95
    max_tokens: int = 1024
    masks: int = 10  # lambda in eq. 3: masks a text
    mask_share: float = 0.15  # p in eq. 4
    first_mask: Literal["random", "marked"] = "random"
    mask_epochs: int = 25
    mask_lr: float = 1e-4
    mask_batch: int = 4
    merge: Literal["alg1-mean", "alg1-sum", "init-mean"] = "alg1-mean"  # in transfers of `order: merge`
    source_epochs: int = 25
    source_lr: float | None = None  # None: lr
    source_batch: int | None = None  # None: batch
    epochs: int = 25
    patience: int | None = None
    dev_every: int = 1  # epochs between two looks at dev
    lr: float = 1e-4
    batch: int = 8
    warmup: float = 0.0
    schedule: Literal["constant", "linear"] = "constant"
    weight_decay: float = 0.0
    clip: float | None = None
    precision: Literal["auto", "32", "bf16"] = "auto"
    write_batch: int = 32  # sentences that are written about at once

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        Recipe.check(self, counts=("write_batch", "masks", "mask_epochs", "mask_batch"), amounts=("mask_lr",))
        if not 0 < self.mask_share < 1:
            raise ValueError(f"mask_share is a probability, above 0 and under 1; found {self.mask_share}.")
        if self.mixed < 0 or bool(self.mixed) != bool(self.mixed_from):
            raise ValueError("mixed is a number of explanations, and mixed_from names the domains that they are of.")
        if self.mixed and not self.of_mentions:
            raise ValueError(
                f"explanations of other domains are mixed into explanations; knowledge is {self.knowledge!r}, expected "
                "published, generate or a file of them (.json)."
            )
        if self.temperature is not None and not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature}, expected 0 or more, or null for the server's own.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}, expected a probability above 0.")
        self.asking()
        self._check_cleaning()

    def _check_cleaning(self) -> None:
        """Refuse, before anything is asked, lists by which nothing can be cleaned."""
        given = (tuple(self.negative), tuple(self.boilerplate)) != (NEGATIVE, BOILERPLATE)
        if given and self.knowledge == "published":
            raise ValueError(
                "published explanations are taken as they are; negative and boilerplate clean generated ones and a "
                "file's. Name the published file (`knowledge: .../{target}.json`), and it is cleaned."
            )
        if not all(phrase.strip() for phrase in self.negative):
            raise ValueError("negative has an empty phrase, which every explanation has; drop it.")
        for pattern in self.boilerplate:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"boilerplate has {pattern!r}, which is no regular expression: {error}.") from None

    def asking(self) -> AskedModel:
        """Return how the language model is asked. Raises ValueError for what means nothing."""
        name = self.model if self.local else models.model_name(self.model, "meta-llama/Llama-2-7b-chat-hf")
        return AskedModel(
            name, self.base_url, self.local, temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens
        )

    @property
    def of_mentions(self) -> bool:
        """Whether what is known is explanations of mentions, and not other text or nothing."""
        return self.knowledge in WORDS[:2] or self.knowledge.endswith(".json")

    @property
    def writing(self) -> Writing:
        """How texts are written."""
        return Writing.of(self.decoding, self.backbone, self.write_batch)


# ------------------------------------------------------------------------------------------ explanations (3.1, 4.2)


def question(text: str, mention: str, type: str, domain: str) -> str:
    """Return the instruction of section 3.1."""
    return (
        f"Take the text < {text} > and give an explanation of why the text span < {mention} > can be labeled as "
        f"< {type} > in the domain < {domain} >."
    )


def explain(
    work: Work,
    *,
    train: Split,
    domain: str,
    names: Sequence[Sequence[str]],
    llm: Llm,
    negative: Sequence[str],
    boilerplate: Sequence[str],
    rules: int,
) -> None:
    """Ask a language model about every mention of train, and write what it says.

    names   key and name of each type
    rules   `knowledge.RULES`: what is cleaned and marked, and how, is shared code

    explanations.json   all answers, in the form of the published ones
    split.jsonl         those that explain, as text
    knowledge.md, .json   figures as in tables 1 and 3

    Raises PlanError where none explains.
    """
    named = dict(map(tuple, names))
    about = list(dict.fromkeys(knowledge.mentions(train)))
    questions = [
        Question(f"{domain}: {mention}", (Message("user", question(text, mention, named[kind], domain)),), PROMPT)
        for text, mention, kind in about
    ]
    came = ask(work, llm, questions, [_anything] * len(questions))
    found = [Explained(*one, asked.text) for one, asked in zip(about, came, strict=True)]
    kept, failed = knowledge.cleaned(found, negative, boilerplate)
    if not kept:
        raise PlanError(
            f"none of {len(found)} answers of {llm.model} explains: each is empty, or has a phrase of `negative`. The "
            "answers are kept, so that other phrases cost nothing."
        )
    knowledge.write(work.folder / "explanations.json", found)
    knowledge.as_split(train.corpus, kept, named).to_jsonl(work.folder / "split.jsonl")
    told = knowledge.statistics(kept, 0, train, failed)
    figures = {**asdict(told), **told.rates, "llm tokens": tokens_of(came)}
    (work.folder / "knowledge.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf8")
    lines = [f"{name}: {value}\n" for name, value in figures.items()]
    (work.folder / "knowledge.md").write_text("".join(lines), encoding="utf8")


def _anything(text: str) -> None:
    """Complain of nothing: what an explanation looks like is free."""


# ------------------------------------------------------------------------------------------ the plan


class Topt(Method):
    """Masked spans of the target's explanations, the sources, the target, writing."""

    Settings = Settings

    def __init__(self) -> None:
        """Look each backbone up once for all the cells that one Topt plans."""
        self.find: Callable[[str, str | None], Backbone] = cache(backbones.find)
        self.check = cache(check)

    def plan(self, transfer: Transfer, settings: Settings, seed: int) -> Stage:
        """Return the stage that writes about the test words.

        Raises Unsupported for a selection that TOPT cannot do, or for a regime that shows no mention to explain.
        """
        s, spec, target = settings, transfer.spec, transfer.target
        if spec.select == "source-dev":
            raise Unsupported("TOPT does not select on source dev; say `select: target-dev` or `select: last`.")
        if spec.order == "merge" and not transfer.sources:
            raise Unsupported(f"in {spec.regime} there are no sources whose models could be merged; say another order.")
        if spec.order == "merge" and spec.regime == "zero-shot":
            raise Unsupported("in zero-shot there is no target's model to merge sources into; say another order.")
        if s.writing.decoding == "free":
            self.check(self.find(s.backbone, s.revision), Prompting(s.format, s.instruction))
        made = _Stages(self, transfer, s, seed)
        start = made.pretrained()
        own, dev = [target], target.dev if spec.select == "target-dev" else None
        if spec.regime == "in-domain":
            model = made.train(own, dev, init=start)
        elif spec.regime == "zero-shot":
            model = made.train(transfer.sources, None, source=True, init=start)
        elif spec.order == "joint":
            model = made.train([*transfer.sources, target], dev, init=start)
        elif spec.order == "sequence":
            model = made.train(own, dev, init=made.train(transfer.sources, None, source=True, init=start))
        else:
            model = made.merged(start, dev)
        return Stage(
            write_text2text,
            title=f"{transfer.test.corpus} seed {seed}",
            size=float(transfer.test.n_words),
            model=model,
            words=transfer.test,
            options=formats.names_of(target.card),
            prompting=Prompting(s.format, s.instruction),
            writing=s.writing,
            precision=s.precision,
            seed=seed,
        )


class _Stages:
    """The stages of one cell."""

    def __init__(self, method: Topt, transfer: Transfer, s: Settings, seed: int) -> None:
        self.transfer, self.s, self.seed = transfer, s, seed
        self.target, self.backbone = transfer.target, method.find(s.backbone, s.revision)

    def pretrained(self) -> Stage | None:
        """Return the model that has filled in masked spans of the target's knowledge; None without any."""
        s, name = self.s, self.s.knowledge.replace("{target}", self.target.name)
        if name == "none":
            return None
        text, told = None, name
        splits: list[Split] = []
        if s.of_mentions:
            own, told = self.explanations(name)
            splits = [own, *self.mixed()]
        else:
            text = find_text(name, "knowledge", WORDS)
        recipe = Recipe(
            epochs=s.mask_epochs, lr=s.mask_lr, batch=s.mask_batch, warmup=s.warmup, schedule=s.schedule,
            weight_decay=s.weight_decay, clip=s.clip, precision=s.precision,
        )  # fmt: skip
        words = sum(split.n_words for split in splits) or 100_000
        return Stage(
            pretrain,
            title=f"{self.target.name} ({s.backbone}, masked spans of {told}) seed {self.seed}",
            size=float(s.mask_epochs * s.masks * words),
            backbone=self.backbone,
            texts=tuple(splits),
            text=text,
            masks=Masks(s.masks, s.mask_share, s.first_mask == "marked"),
            recipe=recipe,
            seed=self.seed,
        )

    def explanations(self, name: str) -> Learned:
        """Return the explanations of the mentions that the target's train shows, as text.

        Raises Unsupported where it shows none.
        """
        target, s, spec = self.target, self.s, self.transfer.spec
        if name == "generate":
            if target.train.mentions:
                return Learned(Made(target.name, knowledge.SPLIT, (), self.explaining()), name)
            raise Unsupported(f"{spec.regime} shows no mention of {target.name} to explain; say `knowledge: none`.")
        return knowledge.learned(
            target, name, data=self.transfer.data, full=shows_all(self.transfer), negative=s.negative,
            boilerplate=s.boilerplate,
        )  # fmt: skip

    def explaining(self) -> Stage:
        """Return the stage that asks a language model for explanations."""
        s = self.s
        llm = language_model(s.asking(), self.seed)
        return Stage(
            explain,
            title=f"{self.target.name} train, explained by {llm.model}, seed {self.seed}",
            train=self.target.train,
            domain=self.target.name,
            names=list(map(list, formats.names_of(self.target.card).items())),
            llm=llm,
            negative=list(s.negative),
            boilerplate=list(s.boilerplate),
            rules=knowledge.RULES,
        )

    def mixed(self) -> list[Split]:
        """Return explanations of other domains, drawn from all of theirs (table 7)."""
        s = self.s
        if not s.mixed:
            return []
        others = [name for name in s.mixed_from if name != self.target.name]
        if not others:
            raise Unsupported(f"mixed_from names no domain beside the target, {self.target.name}; name another.")
        pool = [one for name in others for one in self.published(name)]
        if len(pool) < s.mixed:
            raise Unsupported(f"{s.mixed} explanations are to be mixed in, and {', '.join(others)} have {len(pool)}.")
        random.Random(self.seed).shuffle(pool)
        return [knowledge.as_split(f"mixed into {self.target.name}", pool[: s.mixed])]

    def published(self, name: str) -> list[Explained]:
        """Return the explanations that are published of a corpus. Raises Unsupported where none are."""
        card = load_card(name, self.transfer.cards)
        if card.knowledge is None:
            raise Unsupported(f"mixed_from has {name}, of which no explanations are published: its card names none.")
        return knowledge.published(card, self.transfer.data)

    def train(self, domains: Sequence[Domain], dev: Split | None, *, init: Stage | None, source: bool = False) -> Stage:
        """Return a stage of text-to-text NER."""
        s, recipe = self.s, Recipe.of(self.s, source=source, selects=dev is not None)
        after = "" if init is None else f", {'pre-trained' if init.step is pretrain else 'after the sources'}"
        return Stage(
            train_text2text,
            title=f"{'+'.join(d.name for d in domains)} ({s.backbone}, {s.format}{after}) for {self.target.name} "
            f"seed {self.seed}",
            size=float(recipe.epochs * sum(d.train.n_words for d in domains)),
            backbone=self.backbone,
            init=init,
            train=tuple(d.train for d in domains),
            options=tuple(formats.names_of(d.card) for d in domains),
            dev=dev,
            prompting=Prompting(s.format, s.instruction),
            writing=None if dev is None else s.writing,
            recipe=recipe,
            seed=self.seed,
            adapter=None,
        )

    def merged(self, start: Stage | None, dev: Split | None) -> Stage:
        """Return the target's model with those of the sources merged in, each of which began with `start`."""
        sources = [self.train([d], None, source=True, init=start) for d in self.transfer.sources]
        share = 1 / len(sources)
        if self.s.merge == "init-mean":  # eq. 7
            return self.train([self.target], dev, init=self.summed(dict.fromkeys(sources, share)))
        own = self.train([self.target], dev, init=start)
        each = share / 3 if self.s.merge == "alg1-mean" else 1 / 3  # algorithm 1, line 9
        return self.summed({own: 2 / 3, **dict.fromkeys(sources, each)})

    def summed(self, models: Mapping[Any, float]) -> Stage:
        """Return the stage that adds models up."""
        return Stage(
            merge,
            title=f"{len(models)} models for {self.target.name} seed {self.seed}",
            models=list(models),
            weights=list(models.values()),
        )
