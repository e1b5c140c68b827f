"""Answers kept on disk, one JSON file each, under a hash of everything that shapes them.

    <folder>/<first two digits>/<key>.json      {"question": ..., "answer": ..., "usd": ..., "asked": ...}

A file is whole or not there. Only what a model has answered is kept: no refusal, no error, no torn answer.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.files import write_whole
from benchmark.llm.model import Llm

VERSION = 1  # rises when kept answers may not be taken for new ones


class Message(NamedTuple):
    """One turn of a conversation. `role` is `user`, `assistant` or `system`."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is asked.

    id        of the sentence that it is about, for messages to people; an answer does not hang on it
    prompt    version of the prompt's making, such as `topt-1`
    """

    id: str
    messages: tuple[Message, ...]
    prompt: str = ""

    def followed(self, *messages: Message) -> "Question":
        """Return the question that goes on from here."""
        return Question(self.id, (*self.messages, *messages), self.prompt)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model has answered.

    finish   why it ended: `stop`, or `length` where it was cut
    usd      what it cost when it was asked; None where there is no price
    kept     whether it was found on disk, and so cost nothing now
    """

    text: str
    finish: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float | None = None
    kept: bool = False

    @property
    def tokens(self) -> int:
        """All tokens, of question and answer."""
        return self.prompt_tokens + self.completion_tokens


def shaping(llm: Llm, question: Question) -> dict[str, Any]:
    """Return everything that shapes an answer, as JSON."""
    return {
        "version": VERSION,
        **llm.ingredient(),
        "messages": [[role, text] for role, text in question.messages],
        "prompt": question.prompt,
    }


def key_of(llm: Llm, question: Question) -> str:
    """Return the key of an answer, 32 hexadecimal digits."""
    text = json.dumps(shaping(llm, question), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Answers:
    """A folder of answers; with None for a folder, nothing is kept and nothing found."""

    folder: Path | None

    def path(self, key: str) -> Path | None:
        """Return where the answer of a key lies, or would lie."""
        return None if self.folder is None else self.folder / key[:2] / f"{key}.json"

    def find(self, llm: Llm, question: Question) -> Answer | None:
        """Return the kept answer to a question; None where there is none that can be read."""
        path = self.path(key_of(llm, question))
        try:
            told = json.loads(path.read_text(encoding="utf8")) if path is not None else None
            if told is None or told["question"] != shaping(llm, question):
                return None
            return Answer(**told["answer"], usd=told["usd"], kept=True)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, llm: Llm, question: Question, answer: Answer) -> None:
        """Write an answer, whole or not at all."""
        path = self.path(key_of(llm, question))
        if path is None:
            return
        named = {name: value for name, value in asdict(answer).items() if name not in ("usd", "kept")}
        told = {
            "question": shaping(llm, question),
            "answer": named,
            "usd": answer.usd,
            "asked": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_whole(path, json.dumps(told, ensure_ascii=False, indent=1))


def brief(messages: Sequence[Message], length: int = 160) -> str:
    """Return the end of a conversation in one line, for a message to a person."""
    line = " ".join(messages[-1].text.split()) if messages else ""
    return line if len(line) <= length else f"...{line[-length:]}"
