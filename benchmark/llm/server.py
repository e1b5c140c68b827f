"""An OpenAI-compatible server, asked with patience: what can pass is tried again within a total wait, the rest is told.

passes     429 (as long as Retry-After says), 408, 409, 425, 5xx, time-outs, cut connections, answers that are no JSON
does not   401, 403, 404, other 4xx, a refusal, a context that is too long, an account without quota

Waits come from the environment: CDNER_LLM_WAIT_SECONDS for all tries at one question together, and
CDNER_LLM_TIMEOUT_SECONDS for one of them. No key is ever told: messages pass through `redact`.
"""

import asyncio
import json
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from benchmark import paths
from benchmark.errors import LlmBudgetSpent, LlmError, LlmRefused
from benchmark.llm.answers import Answer, Question
from benchmark.llm.model import OPENAI, Llm, api_key
from benchmark.redact import MASK, SHORTEST, redact

if TYPE_CHECKING:
    from openai import AsyncOpenAI

PASSING = (408, 409, 425, 429)
TORN = 3  # answers in a row that are no answers of this API, before it is said that the server speaks another

TOO_LONG = re.compile(
    r"context.?(length|window|size)|maximum context|too many tokens|prompt is too long", re.IGNORECASE
)


@dataclass(frozen=True)
class Patience:
    """How long a question may take, in seconds.

    wait      all tries at it, and what lies between them
    timeout   one try
    pause     the first pause, where the server names none; each next is twice as long
    longest   pause
    """

    wait: float = 300.0
    timeout: float = 120.0
    pause: float = 0.5
    longest: float = 30.0

    @classmethod
    def of_environment(cls) -> "Patience":
        """Return that of CDNER_LLM_WAIT_SECONDS and CDNER_LLM_TIMEOUT_SECONDS. Raises StoreError for no numbers."""
        return cls(
            wait=paths.positive_seconds("CDNER_LLM_WAIT_SECONDS", cls.wait),
            timeout=paths.positive_seconds("CDNER_LLM_TIMEOUT_SECONDS", cls.timeout),
        )


class Passing(Exception):
    """A fault that can pass.

    after   seconds that the server asks to wait; None: it does not say
    torn    whether the server did answer, but nothing that could be read
    short   whether the total wait left it less time than a try may take
    """

    def __init__(self, told: str, after: float | None = None, *, torn: bool = False, short: bool = False) -> None:
        super().__init__(told)
        self.after, self.torn, self.short = after, torn, short


@dataclass
class Server:
    """A server that is asked: `async with Server(llm) as server: await server.ask(question)`."""

    llm: Llm
    patience: Patience = field(default_factory=Patience.of_environment)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def __post_init__(self) -> None:
        self.key = api_key(self.llm.base_url)
        self.resting = 0.0  # until then the server wants to be left alone
        self.client: AsyncOpenAI | None = None

    async def __aenter__(self) -> "Server":
        try:
            from openai import AsyncOpenAI
        except ImportError:
            raise LlmError(
                "language models are asked with the package openai, which is not installed: pip install 'cdner[llm]'."
            ) from None
        if self.key is None and self.llm.base_url == OPENAI:
            raise LlmError(f"{OPENAI}: there is no key for it. Set OPENAI_API_KEY, or CDNER_LLM_BASE_URL to another.")
        self.client = AsyncOpenAI(
            base_url=self.llm.base_url, api_key=self.key or "none", max_retries=0, timeout=self.patience.timeout
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.client is not None:
            await self.client.close()

    async def ask(self, question: Question) -> Answer:
        """Return the answer to a question.

        Raises LlmRefused where the model would not answer, LlmBudgetSpent where the account has no quota, LlmError for
        all else that does not pass, or has not passed when the total wait was over.
        """
        began, tries, torn = self.clock(), 0, 0
        before: Passing | None = None
        while True:
            if (rest := self.resting - self.clock()) > 0:
                await self.sleep(min(rest, max(0.0, began + self.patience.wait - self.clock())))
            try:
                return await self.once(question, began + self.patience.wait - self.clock())
            except Passing as fault:
                tries += 1
                torn = torn + 1 if fault.torn else 0
                left = began + self.patience.wait - self.clock()
                pause = self.pause(fault, tries)
                if torn >= TORN:
                    raise LlmError(self.told(question, f"{fault} Is this an OpenAI-compatible server?")) from None
                if pause > left:
                    said = before if fault.short and before is not None else fault
                    raise LlmError(self.told(question, self.given_up(said, tries, pause))) from None
                before = fault
                if fault.after is not None:
                    self.resting = max(self.resting, self.clock() + fault.after)
                await self.sleep(pause)

    def pause(self, fault: Passing, tries: int) -> float:
        """Return how long to wait after so many tries, in seconds: not all at once, where many wait."""
        if fault.after is not None:
            return fault.after
        return min(self.patience.longest, self.patience.pause * 2.0 ** (tries - 1)) * random.uniform(0.75, 1.25)

    def given_up(self, fault: Passing, tries: int, pause: float) -> str:
        """Return what is said when the total wait is over."""
        more = f", and the next try is {pause:.0f} s away" if fault.after is not None else ""
        return (
            f"{fault} It was tried {tries} times within the {self.patience.wait:g} s that a question may take{more}. "
            "Run again later, or set CDNER_LLM_WAIT_SECONDS."
        )

    def told(self, question: Question, what: str) -> str:
        """Return a message to a person, without what is secret in it."""
        return redact(self.clean(f"{self.llm.base_url}, {self.llm.model}, {question.id}: {what}"))

    def clean(self, text: str) -> str:
        """Return a text that the server has sent, without the key."""
        return text.replace(self.key, MASK) if self.key and len(self.key) >= SHORTEST else text

    async def once(self, question: Question, left: float) -> Answer:
        """Return the answer of one try. Raises Passing for what can pass, and what `ask` raises for the rest.

        left   seconds of the total wait; a try takes no more
        """
        import openai

        assert self.client is not None
        limit = min(self.patience.timeout, max(left, 0.0))
        try:
            async with asyncio.timeout(limit):
                raw = await self.client.chat.completions.with_raw_response.create(**self.request(question))
                body = raw.http_response.content
        except (openai.APITimeoutError, TimeoutError):
            short = limit < self.patience.timeout
            raise Passing(f"there was no answer within {limit:.3g} s.", short=short) from None
        except openai.APIConnectionError as error:
            raise Passing(f"the server could not be reached ({_root(error)}).") from None
        except openai.APIStatusError as error:
            raise self.fault(question, error.status_code, error.response.headers, error.body, error.message) from None
        except openai.OpenAIError as error:
            raise Passing(f"the answer cannot be read ({type(error).__name__}).", torn=True) from None
        return self.read(question, body)

    def request(self, question: Question) -> dict[str, Any]:
        """Return what is sent, but for the key."""
        llm = self.llm
        limit = "max_completion_tokens" if llm.base_url == OPENAI else "max_tokens"
        chosen: dict[str, Any] = {"temperature": llm.temperature, "seed": llm.seed}
        return {
            "model": llm.model,
            "messages": [{"role": role, "content": text} for role, text in question.messages],
            limit: llm.max_tokens,
            **({"top_p": llm.top_p} if llm.top_p != 1.0 else {}),
            **{name: value for name, value in chosen.items() if value is not None},
        }

    def fault(
        self, question: Question, status: int, headers: Mapping[str, str], body: object, message: str
    ) -> Exception:
        """Return what a status of 4xx or 5xx is raised as."""
        code = str(body.get("code") or "") if isinstance(body, dict) else ""
        words = body.get("message") if isinstance(body, dict) else None
        said = f"{status}: {' '.join(str(words or message).split())[:300]}"
        if code == "insufficient_quota":
            return LlmBudgetSpent(self.told(question, f"the account's quota is spent ({said})."))
        if status in PASSING or status >= 500:
            return Passing(f"the server says {self.clean(said)}.", retry_after(headers))
        if code in ("content_filter", "content_policy_violation"):
            return LlmRefused(self.told(question, f"the server would not answer ({said})."))
        if status == 413 or code == "context_length_exceeded" or TOO_LONG.search(str(message)):
            return LlmError(
                self.told(question, f"the question is too long for the model ({said}). Show fewer examples, ask "
                          "for fewer max_tokens, or take a model with a longer context.")
            )  # fmt: skip
        advice = {
            401: " Is CDNER_LLM_API_KEY right, or for OpenAI itself OPENAI_API_KEY?",
            403: " The key may not use this model.",
            404: " Is the base URL right, /v1 at its end included, and is there such a model?",
        }.get(status, "")
        return LlmError(self.told(question, f"the server says {said}.{advice}"))

    def read(self, question: Question, body: bytes) -> Answer:
        """Return the answer in the body of a response. Raises Passing for what is none, LlmRefused for a refusal."""
        try:
            told = json.loads(body)
            choice = told["choices"][0]
            text, refusal = choice["message"].get("content"), choice["message"].get("refusal")
            finish = str(choice.get("finish_reason") or "stop")
            usage = told.get("usage") or {}
            prompt, completion = (int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
            if not isinstance(text, str | None):
                raise TypeError("content is no text")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            told_off = f"the answer is no chat completion ({type(error).__name__})."
            raise Passing(told_off, torn=True) from None
        if refusal or finish == "content_filter":
            why = str(refusal or "content filter")[:200]
            raise LlmRefused(self.told(question, f"the model would not answer: {why}"))
        return Answer(self.clean(text or ""), finish, prompt, completion)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a response asks to wait; None where it does not say.

    >>> retry_after({"retry-after": "2"}), retry_after({"retry-after-ms": "150"}), retry_after({"retry-after": "soon"})
    (2.0, 0.15, None)
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name) or "") * unit
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        until = parsedate_to_datetime(headers.get("retry-after") or "")
    except ValueError:
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _root(error: BaseException) -> str:
    """Return what lies at the bottom of a chain of exceptions, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"[:200]
