"""A causal language model of transformers in the stage's own process, asked like a server, one question at a time."""

import asyncio
from types import TracebackType
from typing import Any

from benchmark.errors import LlmError
from benchmark.llm.answers import Answer, Question
from benchmark.llm.model import Llm

VERSION = 1  # rises when a change here could change an answer


class Local:
    """A local model, safetensors only, no remote code: `async with Local(llm, threads) as model`, then `model.ask`."""

    def __init__(self, llm: Llm, threads: int) -> None:
        self.llm, self.threads = llm, threads
        self.model: Any = None
        self.tokenizer: Any = None

    async def __aenter__(self) -> "Local":
        self.load()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.model = self.tokenizer = None

    def load(self) -> None:
        """Read weights and tokenizer. Raises LlmError where they cannot be."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        where = self.llm.folder or self.llm.model
        pinned: dict[str, Any] = {} if self.llm.folder else {"revision": self.llm.weights.partition("+")[0]}
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False, **pinned)
            self.model = AutoModelForCausalLM.from_pretrained(
                where, trust_remote_code=False, use_safetensors=True, **pinned
            )
        except (OSError, ValueError, KeyError) as error:
            line = str(error).strip().partition("\n")[0]
            raise LlmError(f"{where}: this is no causal language model that can be read ({line}).") from None
        torch.set_num_threads(self.threads)
        self.model.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    async def ask(self, question: Question) -> Answer:
        """Return the answer to a question. Raises LlmError where question and answer do not fit the model."""
        await asyncio.sleep(0)
        return self.generate(question)

    def generate(self, question: Question) -> Answer:
        """Return the answer to a question, the likeliest word each time, or drawn by the model's seed."""
        import torch

        llm = self.llm
        encoded = self.tokenizer(self.text(question), return_tensors="pt", add_special_tokens=not self.templated)
        numbers = encoded["input_ids"].to(self.model.device)
        size, room = numbers.shape[1], getattr(self.model.config, "max_position_embeddings", None)
        if room is not None and size + llm.max_tokens > room:
            raise LlmError(
                f"{llm.model}, {question.id}: the question has {size} tokens, its answer may have {llm.max_tokens}, "
                f"and the model takes {room}. Show fewer examples, or ask for fewer max_tokens."
            )
        drawn = bool(llm.temperature)
        torch.manual_seed(llm.seed or 0)
        with torch.inference_mode():
            found = self.model.generate(
                input_ids=numbers,
                attention_mask=torch.ones_like(numbers),
                max_new_tokens=llm.max_tokens,
                do_sample=drawn,
                pad_token_id=self.padding,
                **({"temperature": llm.temperature, "top_p": llm.top_p} if drawn else {}),
            )[0, size:]
        text = self.tokenizer.decode(found, skip_special_tokens=True)
        finish = "length" if len(found) >= llm.max_tokens else "stop"
        return Answer(text.strip(), finish, size, len(found))

    @property
    def padding(self) -> int:
        """The token that stands behind an answer: the padding token, else the first that ends a text, else 0."""
        ends = self.model.config.eos_token_id
        named = (self.tokenizer.pad_token_id, *(ends if isinstance(ends, list) else [ends]))
        return next((int(number) for number in named if number is not None), 0)

    @property
    def templated(self) -> bool:
        """Whether the tokenizer has a template for conversations."""
        return getattr(self.tokenizer, "chat_template", None) is not None

    def text(self, question: Question) -> str:
        """Return a conversation as the model reads it: by its own template, else turn by turn with blank lines."""
        if not self.templated:
            return "\n\n".join(text for _, text in question.messages) + "\n\n"
        turns = [{"role": role, "content": text} for role, text in question.messages]
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
