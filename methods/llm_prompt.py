"""Prompted language model: it is asked for the entities of each sentence, shown no example or k of them.

Paper    Zhang et al., "Cross-domain NER with Generated Task-Oriented Knowledge", 2024 (TOPT): the GPT-4 row of table 2,
         "obtained by directly instructing" it "with the same prompt in Figure 3"
3.3      instruction, options, sentence   benchmark.models.formats.Format.prompt
Departs  The wording is ours: the paper's text does not print that of figure 3. Options are the card's type names, in
         the card's order; the authors' code takes them from the gold of test, in the order of a Python set. Targets are
         "(type, span)" as in their code; the paper prints "(span, type)". Both are formats, and a setting.
         An answer of which a piece cannot be read is asked for again once; then what can be read counts.
         Examples are not in the paper: turns of the conversation before the question, from the target's train, or in
         zero-shot from the first source's, with that source's types.

The model, its server and its key come from the environment where a variant names none (docs/running.md). What becomes
of each generated pair is counted in audit.json, and spans come from `benchmark.score.grounding` alone.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.transfer import Domain, Transfer
from benchmark.errors import Unsupported
from benchmark.llm import model as models
from benchmark.llm.answers import Message, Question
from benchmark.llm.ask import Asked, ask, tokens_of
from benchmark.llm.model import LOCAL, Llm
from benchmark.models import backbones, formats
from benchmark.run.method import Method
from benchmark.run.stage import Stage
from benchmark.score.grounding import Audit, ground
from benchmark.score.protocols import Prediction, write_predictions
from benchmark.work import Work


@dataclass(frozen=True)
class Settings:
    """The settings of a prompted language model; the defaults are the paper's, where it says anything."""

    model: str = ""  # "": that of CDNER_LLM_MODEL, else gpt-4, the paper's
    base_url: str = ""  # "": that of CDNER_LLM_BASE_URL or OPENAI_BASE_URL, else OpenAI's
    local: bool = False  # the model is a folder or a hub id of transformers, and runs here
    examples: int = 0  # shown before the question; drawn by the cell's seed
    format: Literal["topt", "topt-text", "sentence", "typed"] = "topt"
    temperature: float | None = 0.0  # the paper is silent; None: the server's own
    top_p: float = 1.0
    max_tokens: int = 512  # of an answer

    def __post_init__(self) -> None:
        if self.examples < 0:
            raise ValueError(f"examples is {self.examples}, expected 0 or more.")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}, expected 1 or more.")
        if self.local and self.base_url:
            raise ValueError("a local model has no base_url; leave one of the two out.")
        if self.local and not self.model:
            raise ValueError("a local model needs `model`: a folder or a hub id.")


def questions_of(
    words: Sequence[Sentence], shape: formats.Format, options: Sequence[str], shown: Sequence[Message]
) -> list[Question]:
    """Return the question about each sentence, with the examples as the turns before it."""
    prompt = f"{shape.name}-{formats.VERSION}"
    return [Question(s.id, (*shown, Message("user", shape.prompt(s.words, options))), prompt) for s in words]


def turns(examples: Sequence[Sentence], shape: formats.Format, names: Mapping[str, str]) -> list[Message]:
    """Return examples as turns: each question as it would be asked, and gold as its answer.

    names   key of a type -> its name, of the domain that the examples are from
    """
    found = []
    for sentence in examples:
        found.append(Message("user", shape.prompt(sentence.words, list(names.values()))))
        found.append(Message("assistant", shape.target(sentence.words, sentence.spans or (), names)))
    return found


def drawn(domain: Domain, count: int, shape: formats.Format, seed: int) -> Split:
    """Return so many sentences of a domain's train, in drawing order: nested, those of fewer within those of more.

    Drawn are sentences that have mentions, all of which the format carries. Raises Unsupported where there are fewer.
    """
    train, names = domain.train, formats.names_of(domain.card)
    order = sorted(
        train.sentences, key=lambda s: hashlib.sha256(f"{seed}\t{s.id}\t{' '.join(s.words)}".encode()).digest()
    )
    found: list[Sentence] = []
    for sentence in order:
        items = formats.items_of(sentence.words, sentence.spans or (), names)
        if items and not formats.lost(shape, items, sentence.words, list(names.values())):
            found.append(sentence)
        if len(found) == count:
            break
    if len(found) < count:
        raise Unsupported(f"{count} examples are asked for, and {train.corpus} train shows {len(found)} with mentions.")
    return Split(train.corpus, train.name, tuple(found))


def answer(
    work: Work,
    *,
    words: Split,
    llm: Llm,
    format: str,
    names: Sequence[Sequence[str]],
    examples: Split | None,
    example_names: Sequence[Sequence[str]],
) -> None:
    """Write predictions.jsonl, with pairs and raw answers, and audit.json: what became of questions and pairs.

    names           key and name of each type, in the order of the options
    example_names   the same of the domain that the examples are from
    """
    shape = formats.find(format)
    options = {name: key for key, name in names}
    shown = [] if examples is None else turns(examples.sentences, shape, dict(example_names))
    asked_about = [s for s in words.sentences if s.words]
    complaints = [partial(complaint, shape=shape, words=s.words, options=list(options)) for s in asked_about]
    came = ask(work, llm, questions_of(asked_about, shape, list(options), shown), complaints)
    texts = {s.id: asked.text for s, asked in zip(asked_about, came, strict=True)}
    predictions, audit = [], Audit()
    for sentence in words.sentences:
        if sentence.id not in texts:
            predictions.append(Prediction(sentence.id, ()))
            continue
        text = texts[sentence.id]
        reading = shape.read(text, sentence.words, options)
        found = ground(sentence.words, reading.pairs, options, unparsable=len(reading.unread))
        audit += found.audit
        predictions.append(Prediction(sentence.id, found.spans, pairs=found.pairs, raw=text))
    write_predictions(work.folder / "predictions.jsonl", predictions)
    write_audit(work.folder / "audit.json", audit, came)


def complaint(text: str, *, shape: formats.Format, words: Sequence[str], options: Sequence[str]) -> str | None:
    """Return what to say of an answer of which a piece cannot be read; None where all of it is read."""
    return shape.complaint(shape.read(text, words, options))


def write_audit(path: Path, audit: Audit, came: Sequence[Asked]) -> None:
    """Write what became of questions and pairs, and how many tokens the answers have taken, kept ones included."""
    told = {
        "questions": len(came),
        "asked_again": sum(len(asked.answers) > 1 for asked in came),
        "cut": sum(asked.answers[-1].finish == "length" for asked in came),
        "pairs": asdict(audit),
        "tokens": tokens_of(came),
    }
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf8")


class LlmPrompt(Method):
    """A language model that is asked."""

    Settings = Settings

    def plan(self, transfer: Transfer, settings: Settings, seed: int) -> Stage:
        """Return the stage that asks about the test words. The seed draws examples, and words where they are drawn."""
        spec = transfer.spec
        if spec.order == "merge":
            raise Unsupported("there is nothing to merge in a prompt; say `order: sequence` or `order: joint`.")
        shape = formats.find(settings.format)
        teacher = transfer.sources[0] if spec.regime == "zero-shot" else transfer.target
        examples = drawn(teacher, settings.examples, shape, seed) if settings.examples else None
        return Stage(
            answer,
            title=transfer.test.corpus,
            size=float(transfer.test.n_words),
            words=transfer.test,
            llm=language_model(settings, seed),
            format=settings.format,
            names=list(map(list, formats.names_of(transfer.target.card).items())),
            examples=examples,
            example_names=[] if examples is None else list(map(list, formats.names_of(teacher.card).items())),
        )


def language_model(settings: Settings, seed: int) -> Llm:
    """Return the model that a variant and the environment name. Raises PlanError where there is no such."""
    sampling = {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "max_tokens": settings.max_tokens,
        "seed": None if settings.temperature == 0.0 else seed,
    }
    if not settings.local:
        name = models.model_name(settings.model, "gpt-4")
        return Llm(name, models.base_url(settings.base_url), **sampling)
    found = backbones.find(settings.model)
    weights = "+".join([found.identity, *templates(Path(found.folder))]) if found.folder else found.identity
    return Llm(found.name, LOCAL, weights=weights, folder=found.folder, **sampling)


def templates(folder: Path) -> list[str]:
    """Return a hash of a model's templates for conversations, which a backbone's identity leaves out; none: no hash."""
    files = sorted(folder.rglob("*.jinja"))
    return [hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()] if files else []
