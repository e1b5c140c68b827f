"""A server that misbehaves by script: what passes is tried again, the rest is told, and no key shows."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from scripted import KEY, Scripted, cut, drip, hang_up, says, sends, status

from benchmark.errors import LlmBudgetSpent, LlmError, LlmRefused, PlanError, StoreError
from benchmark.llm.answers import Message, Question
from benchmark.llm.model import OPENAI, Llm, api_key, base_url, model_name
from benchmark.llm.server import Patience, Server, retry_after

QUICK = Patience(wait=5.0, timeout=1.0, pause=0.01, longest=0.02)
QUESTION = Question("ai/test/17", (Message("user", "Options: port\nSentence: Oslo sank"),))


def asked(server: Scripted, *faults, patience: Patience = QUICK, **llm):
    """Return the answer to the question, after these faults."""
    server.faults[:] = faults
    made = Llm("quay-1", server.url, **llm)

    async def once():
        async with Server(made, patience) as client:
            return await client.ask(QUESTION)

    return asyncio.run(once())


def complaint(server: Scripted, *faults, error=LlmError, **options) -> str:
    """Return what is said where the question fails, without the server's address."""
    with pytest.raises(error) as caught:
        asked(server, *faults, **options)
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    start = f"{server.url}, quay-1, ai/test/17: "
    assert str(caught.value).startswith(start)
    return str(caught.value).removeprefix(start)


# ---------------------------------------------------------------------------------------------- what is sent


def test_a_question_is_sent_with_what_shapes_its_answer_and_the_key(scripted):
    found = asked(scripted, temperature=0.5, top_p=0.9, seed=3, max_tokens=7)

    assert (found.text, found.finish, found.prompt_tokens, found.completion_tokens) == ("(port, Oslo)", "stop", 100, 10)
    assert scripted.requests == [
        {
            "model": "quay-1",
            "messages": [{"role": "user", "content": "Options: port\nSentence: Oslo sank"}],
            "max_tokens": 7,
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": 3,
        }
    ]
    assert scripted.keys == [f"Bearer {KEY}"]


def test_what_is_not_set_is_not_sent(scripted):
    asked(scripted, temperature=None)

    assert sorted(scripted.requests[0]) == ["max_tokens", "messages", "model"]


# ---------------------------------------------------------------------------------------------- what can pass


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(status(429, "slow down", Retry_After="0"), id="429"),
        pytest.param(status(500), id="500"),
        pytest.param(status(503, "overloaded"), id="503"),
        pytest.param(status(408), id="408"),
        pytest.param(cut, id="cut in the midst"),
        pytest.param(hang_up, id="hung up"),
        pytest.param(drip(1.5), id="a body that never ends"),
        pytest.param(sends(b'{"choices": [{"mess'), id="torn JSON"),
        pytest.param(sends(b"<html>", Content_Type="text/html"), id="HTML"),
    ],
)
def test_what_can_pass_is_tried_again(scripted, fault):
    assert asked(scripted, fault, patience=Patience(5.0, 0.3, 0.01, 0.02)).text == "(port, Oslo)"
    assert len(scripted.requests) == 2


def test_a_storm_of_429_is_waited_out_as_long_as_the_server_says(scripted):
    storm = [status(429, Retry_After="0.05")] * 4 + [status(429, retry_after_ms="60")]

    assert asked(scripted, *storm).text == "(port, Oslo)"
    pauses = [b - a for a, b in zip(scripted.times, scripted.times[1:], strict=False)]
    assert len(pauses) == 5
    assert min(pauses) >= 0.05


def test_a_date_to_wait_for_is_understood():
    soon = datetime.now(UTC) + timedelta(seconds=90)

    assert 80 < retry_after({"retry-after": format_datetime(soon, usegmt=True)}) <= 90
    assert retry_after({}) is None


def test_when_one_question_is_told_to_wait_all_wait(scripted):
    scripted.faults[:] = [status(429, Retry_After="0.3")]

    async def both():
        async with Server(Llm("quay-1", scripted.url), QUICK) as client:
            first = asyncio.create_task(client.ask(QUESTION))
            while client.resting == 0.0:
                await asyncio.sleep(0.005)
            await client.ask(QUESTION)
            await first

    asyncio.run(both())
    assert [moment - scripted.times[0] >= 0.29 for moment in scripted.times[1:]] == [True, True]


def test_pauses_double_up_to_the_longest():
    class Clock:
        now, slept = 0.0, []

        async def sleep(self, seconds):
            self.slept.append(seconds)
            self.now += seconds

    clock = Clock()
    server = Server(
        Llm("quay-1", "http://127.0.0.1:9/v1"), Patience(100.0, 1.0, 1.0, 8.0), lambda: clock.now, clock.sleep
    )

    async def never(_, __):
        from benchmark.llm.server import Passing

        raise Passing("the server says 503.")

    server.once = never
    with pytest.raises(LlmError) as caught:
        asyncio.run(server.ask(QUESTION))

    assert [
        round(s / b, 6) >= 0.75 and s / b <= 1.25 for s, b in zip(clock.slept, [1, 2, 4, 8, 8, 8], strict=False)
    ] == ([True] * 6)
    assert 100 - 10 < clock.now <= 100
    assert "within the 100 s that a question may take" in str(caught.value)


# ---------------------------------------------------------------------------------------------- what does not pass


def test_a_wait_that_is_too_long_is_not_begun(scripted):
    began = time.monotonic()

    told = complaint(scripted, status(429, "rate limit", Retry_After="3600"))

    assert told == (
        "the server says 429: rate limit. It was tried 1 times within the 5 s that a question may take, and the next try "
        "is 3600 s away. Run again later, or set CDNER_LLM_WAIT_SECONDS."
    )
    assert time.monotonic() - began < 3


def test_a_server_that_stays_away_is_given_up_when_the_wait_is_over(scripted):
    told = complaint(scripted, *[status(503)] * 99, patience=Patience(0.2, 1.0, 0.05, 0.05))

    assert told.startswith("the server says 503: ")
    assert told.endswith("within the 0.2 s that a question may take. Run again later, or set CDNER_LLM_WAIT_SECONDS.")
    assert 2 <= len(scripted.requests) <= 7


def test_a_slow_answer_takes_no_more_than_the_wait(scripted):
    began = time.monotonic()

    told = complaint(scripted, drip(5.0), patience=Patience(0.3, 60.0, 0.05, 0.05))

    assert told.startswith("there was no answer within 0.3 s.")
    assert time.monotonic() - began < 3


def test_a_server_that_is_not_there_is_named(scripted):
    gone = Scripted()
    gone.http.server_close()

    told = complaint(gone, patience=Patience(0.1, 1.0, 0.05, 0.05))

    assert told.startswith("the server could not be reached (")


def test_a_wrong_key_is_not_tried_again_and_not_told(scripted):
    told = complaint(scripted, status(401, f"Incorrect API key provided: {KEY}", reason="invalid_api_key"))

    assert len(scripted.requests) == 1
    assert told.startswith("the server says 401: ")
    assert "Incorrect API key provided: ***" in told
    assert told.endswith("Is CDNER_LLM_API_KEY right, or for OpenAI itself OPENAI_API_KEY?")


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (403, "The key may not use this model."),
        (404, "Is the base URL right, /v1 at its end included, and is there such a model?"),
        (400, "the server says 400: no."),
    ],
)
def test_other_faults_of_ours_are_not_tried_again(scripted, code, advice):
    assert complaint(scripted, status(code, "no")).endswith(advice)
    assert len(scripted.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        status(400, "This model's maximum context length is 8192 tokens.", reason="context_length_exceeded"),
        status(400, "prompt is too long: 9000 tokens"),
        status(413, "payload"),
    ],
)
def test_a_question_that_is_too_long_is_not_tried_again(scripted, fault):
    told = complaint(scripted, fault)

    assert len(scripted.requests) == 1
    assert told.startswith("the question is too long for the model (4")
    assert told.endswith("Show fewer examples, ask for fewer max_tokens, or take a model with a longer context.")


@pytest.mark.parametrize(
    "fault",
    [
        says(None, refusal="I cannot help with that."),
        says("", finish="content_filter"),
        status(400, "filtered", reason="content_filter"),
    ],
)
def test_a_refusal_is_not_tried_again(scripted, fault):
    assert "would not answer" in complaint(scripted, fault, error=LlmRefused)
    assert len(scripted.requests) == 1


def test_an_account_without_quota_is_a_budget_that_is_spent(scripted):
    told = complaint(scripted, status(429, "no quota", reason="insufficient_quota"), error=LlmBudgetSpent)

    assert told.startswith("the account's quota is spent (429: ")
    assert len(scripted.requests) == 1


def test_a_server_that_speaks_another_language_is_found_out(scripted):
    told = complaint(scripted, *[sends(b'{"text": "hello"}')] * 9)

    assert told == "the answer is no chat completion (KeyError). Is this an OpenAI-compatible server?"
    assert len(scripted.requests) == 3


def test_a_key_that_a_model_repeats_is_taken_out_of_its_answer(scripted):
    assert asked(scripted, says(f"(port, {KEY})")).text == "(port, ***)"


def test_an_answer_that_was_cut_says_so(scripted):
    assert asked(scripted, says("(port, Os", finish="length")).finish == "length"


# ---------------------------------------------------------------------------------------------- the environment


def test_without_openai_the_way_to_it_is_told(scripted, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(LlmError) as caught:
        asked(scripted)
    assert str(caught.value) == (
        "language models are asked with the package openai, which is not installed: pip install 'cdner[llm]'."
    )


def test_openai_without_a_key_is_not_asked(monkeypatch):
    for name in ("CDNER_LLM_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    async def enter():
        async with Server(Llm("gpt-4"), QUICK):
            raise AssertionError("it was asked")

    with pytest.raises(LlmError) as caught:
        asyncio.run(enter())
    assert str(caught.value) == (
        f"{OPENAI}: there is no key for it. Set OPENAI_API_KEY, or CDNER_LLM_BASE_URL to another."
    )


def test_the_key_of_openai_goes_to_openai_alone(monkeypatch):
    monkeypatch.delenv("CDNER_LLM_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://own.example/v1/")

    assert [api_key(url) for url in (OPENAI, "https://own.example/v1", "https://other.example/v1")] == [KEY, KEY, None]
    monkeypatch.setenv("CDNER_LLM_API_KEY", "mine-0123456789")
    assert api_key("https://other.example/v1") == "mine-0123456789"


def test_the_address_and_the_model_come_from_the_variant_then_from_the_environment(monkeypatch):
    for name in ("CDNER_LLM_BASE_URL", "OPENAI_BASE_URL", "CDNER_LLM_MODEL"):
        monkeypatch.delenv(name, raising=False)
    assert (base_url(), model_name("", "gpt-4")) == (OPENAI, "gpt-4")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://b.example/v1/")
    assert base_url() == "https://b.example/v1"
    monkeypatch.setenv("CDNER_LLM_BASE_URL", "http://a.example/v1")
    monkeypatch.setenv("CDNER_LLM_MODEL", "quay-1")
    assert (base_url(), model_name("", "gpt-4")) == ("http://a.example/v1", "quay-1")
    assert (base_url("http://c.example"), model_name("mine", "gpt-4")) == ("http://c.example", "mine")


@pytest.mark.parametrize("url", ["http://me:pass@a.example/v1", "http://a.example/v1?key=abc"])
def test_an_address_with_a_secret_in_it_is_refused(url):
    with pytest.raises(PlanError) as caught:
        base_url(url)
    assert str(caught.value) == (
        "the base URL of a language model at a.example has a password or a query in it; it stands in records, so leave "
        "them out. A key goes into CDNER_LLM_API_KEY."
    )


def test_what_is_no_address_is_refused():
    with pytest.raises(PlanError) as caught:
        base_url("localhost:8000")
    assert str(caught.value) == (
        f"the base URL of a language model is 'localhost:8000', expected one such as {OPENAI}."
    )


def test_patience_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("CDNER_LLM_WAIT_SECONDS", "7")
    monkeypatch.setenv("CDNER_LLM_TIMEOUT_SECONDS", "soon")
    with pytest.raises(StoreError) as caught:
        Patience.of_environment()
    assert str(caught.value) == "CDNER_LLM_TIMEOUT_SECONDS is 'soon', expected a number of seconds, such as 120."
    monkeypatch.setenv("CDNER_LLM_TIMEOUT_SECONDS", "3")
    assert (Patience.of_environment().wait, Patience.of_environment().timeout) == (7.0, 3.0)
