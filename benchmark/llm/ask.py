"""Questions to a language model: kept answers first, then the model, a few at once, within what may be spent.

An answer that cannot be read is asked for again once, with the complaint; what comes then is what counts. `replay`
asks nobody: a question without a kept answer is an error that says which.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmark.errors import LlmError
from benchmark.llm.answers import Answer, Answers, Message, Question, brief, key_of
from benchmark.llm.local import Local
from benchmark.llm.model import LOCAL, Llm
from benchmark.llm.prices import Price, dated, price_of, prices_file
from benchmark.llm.server import Server
from benchmark.work import Work

VERSION = 1  # rises when a change here could change which answer counts

AT_ONCE = 8

Complaint = Callable[[str], str | None]


class Answerer(Protocol):
    """Who answers questions: a server, or a local model."""

    async def ask(self, question: Question) -> Answer:
        """Return the answer to a question."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of a question: the answer that counts last."""

    answers: tuple[Answer, ...]

    @property
    def text(self) -> str:
        """The text of the answer that counts."""
        return self.answers[-1].text


def ask(work: Work, llm: Llm, questions: Sequence[Question], complaints: Sequence[Complaint]) -> list[Asked]:
    """Return what came of each question, in their order.

    complaints   one a question: a text -> what to say where it cannot be read, or None

    What has been answered when one question fails is kept. Raises LlmError for a question that has no kept answer in
    replay, or cannot be asked; LlmRefused; LlmBudgetSpent. A model without a price cannot be asked under a limit.
    """
    asking = Asking(work, llm)
    found = asking.kept(questions, complaints)
    if any(asked is None for asked in found):
        asking.check()
        found = asyncio.run(asking.all(questions, complaints))
    return [asked for asked in found if asked is not None]


def tokens_of(came: Sequence[Asked]) -> dict[str, int]:
    """Return how many tokens the answers have taken, kept ones included."""
    answers = [answer for asked in came for answer in asked.answers]
    return {
        "prompt": sum(answer.prompt_tokens for answer in answers),
        "completion": sum(answer.completion_tokens for answer in answers),
    }


@dataclass
class Asking:
    """The questions of one stage, on their way."""

    work: Work
    llm: Llm
    answers: Answers = field(init=False)
    price: Price | None = field(init=False)

    def __post_init__(self) -> None:
        self.answers = Answers(self.work.answers)
        self.price = price_of(self.llm.base_url, self.llm.model)
        self.under_way: dict[str, asyncio.Task[Answer]] = {}  # by key: equal questions are asked once
        self.done = 0
        self.failed: Exception | None = None

    def check(self) -> None:
        """Raise LlmError where money must be counted and cannot be."""
        if self.work.llm != "replay" and self.work.usd is not None and self.price is None:
            file = prices_file()
            raise LlmError(
                f"there is no price of {self.llm.model} at {self.llm.base_url} in {file} (of {dated(file)}), and a run "
                "under --max-usd must know what it spends. Add it to a file of your own, and name that in "
                "CDNER_LLM_PRICES."
            )

    def kept(self, questions: Sequence[Question], complaints: Sequence[Complaint]) -> list[Asked | None]:
        """Return what the kept answers alone give; None for a question that they do not settle."""
        found: list[Asked | None] = []
        for question, complaint in zip(questions, complaints, strict=True):
            first = self.answers.find(self.llm, question)
            told = complaint(first.text) if first is not None else None
            if first is None or told is None:
                found.append(None if first is None else Asked((first,)))
                continue
            second = self.answers.find(self.llm, again(question, first, told))
            found.append(None if second is None else Asked((first, second)))
        return found

    async def all(self, questions: Sequence[Question], complaints: Sequence[Complaint]) -> list[Asked | None]:
        """Return what came of each question. The first failure lets no further question begin, and is then raised."""
        if self.work.llm == "replay":
            return [await self.one(None, q, c) for q, c in zip(questions, complaints, strict=True)]
        found: list[Asked | None] = [None] * len(questions)
        waiting = iter(enumerate(zip(questions, complaints, strict=True)))
        many = at_once()
        local = self.llm.base_url == LOCAL
        async with Local(self.llm, self.work.threads) if local else Server(self.llm) as answerer:

            async def work_off() -> None:
                for number, (question, complaint) in waiting:
                    if self.failed is not None:
                        return
                    try:
                        found[number] = await self.one(answerer, question, complaint)
                    except Exception as error:  # noqa: BLE001 - raised below, when what is under way has ended
                        self.failed = self.failed or error
                    self.done += 1
                    self.work.report(answered=self.done, of=len(questions))

            await asyncio.gather(*(work_off() for _ in range(many)))
        if self.failed is not None:
            raise self.failed
        return found

    async def one(self, answerer: Answerer | None, question: Question, complaint: Complaint) -> Asked:
        """Return what came of one question, asked again once where the answer cannot be read."""
        first = await self.answered(answerer, question)
        told = complaint(first.text)
        if told is None:
            return Asked((first,))
        return Asked((first, await self.answered(answerer, again(question, first, told))))

    async def answered(self, answerer: Answerer | None, question: Question) -> Answer:
        """Return the kept answer to a question, or the model's, which is kept before it is paid for."""
        kept = self.answers.find(self.llm, question)
        if kept is not None:
            return kept
        if answerer is None:
            raise LlmError(
                f"--llm replay: there is no kept answer of {self.llm.model} ({self.llm.base_url}) for {question.id}, "
                f'in {self.work.answers}: "{brief(question.messages)}". Run it once with --llm live.'
            )
        key = key_of(self.llm, question)
        if key not in self.under_way:
            self.under_way[key] = asyncio.ensure_future(self.bought(answerer, question))
        return await asyncio.shield(self.under_way[key])

    async def bought(self, answerer: Answerer, question: Question) -> Answer:
        """Return the model's answer. Raises LlmBudgetSpent where nothing may be spent any more."""
        self.work.check_budget()
        answer = await answerer.ask(question)
        usd = None if self.price is None else self.price.usd(answer.prompt_tokens, answer.completion_tokens)
        answer = Answer(answer.text, answer.finish, answer.prompt_tokens, answer.completion_tokens, usd)
        self.answers.keep(self.llm, question, answer)
        limited = self.work.usd is not None or self.work.tokens is not None
        if limited and not answer.prompt_tokens and self.llm.base_url != LOCAL:
            raise LlmError(
                f"{self.llm.base_url}, {self.llm.model}, {question.id}: the server does not tell how many tokens an "
                "answer took, so neither --max-usd nor --max-tokens can hold. The answer is kept; run without a limit."
            )
        self.work.spend(usd or 0.0, tokens=answer.tokens)
        return answer


def again(question: Question, first: Answer, told: str) -> Question:
    """Return the question after an answer that could not be read."""
    return question.followed(Message("assistant", first.text), Message("user", told))


def at_once() -> int:
    """Return how many questions may be under way: CDNER_LLM_AT_ONCE, or 8. Raises LlmError for no such number."""
    named = os.environ.get("CDNER_LLM_AT_ONCE", "")
    if named and not (named.isdecimal() and int(named) > 0):
        raise LlmError(f"CDNER_LLM_AT_ONCE is {named!r}, expected a whole number above 0, such as {AT_ONCE}.")
    return int(named) if named else AT_ONCE
