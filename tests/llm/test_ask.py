"""Questions: kept answers go first, replay asks nobody, a budget ends the asking, an unread answer is asked for again."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from scripted import KEY, completion, says, sends, status
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from benchmark.errors import LlmBudgetSpent, LlmError, LlmRefused, PlanError
from benchmark.llm.answers import Answers, Message, Question, brief, key_of
from benchmark.llm.ask import ask, at_once
from benchmark.llm.model import LOCAL, OPENAI, Llm
from benchmark.llm.prices import Price, dated, price_of
from benchmark.work import Work


def question(number: int, sentence: str = "Oslo sank") -> Question:
    text = f"Number {number}\nOptions: port\nSentence: {sentence}"
    return Question(f"ai/test/{number}", (Message("user", text),), "p-1")


QUESTIONS = [question(n) for n in range(4)]


def fits(text: str) -> str | None:
    return None if text.startswith("(") else f"What is {text}?"


@pytest.fixture
def work(tmp_path, monkeypatch) -> Work:
    monkeypatch.setenv("CDNER_LLM_WAIT_SECONDS", "0.7")  # under the shortest first pause
    (tmp_path / "artefact").mkdir()
    return Work(tmp_path / "artefact", answers=tmp_path / "answers", progress=tmp_path / "progress.jsonl")


def asked(work: Work, llm: Llm, questions=QUESTIONS) -> list[str]:
    return [found.text for found in ask(work, llm, questions, [fits] * len(questions))]


@pytest.fixture
def llm(scripted) -> Llm:
    return Llm("quay-1", scripted.url)


@pytest.fixture
def priced(tmp_path, monkeypatch, scripted):
    """Let the server's model cost a dollar for 100 tokens of a question."""
    told = {"date": "2026-01-01", "servers": {scripted.url: {"quay-1": {"prompt": 10000.0, "completion": 0.0}}}}
    (tmp_path / "prices.yaml").write_text(yaml.safe_dump(told))
    monkeypatch.setenv("CDNER_LLM_PRICES", str(tmp_path / "prices.yaml"))


# ---------------------------------------------------------------------------------------------- kept answers


def test_a_kept_answer_is_not_asked_for_again(scripted, work, llm):
    first = asked(work, llm)

    assert first == ["(port, Oslo)"] * 4
    assert asked(work, llm) == first
    assert len(scripted.requests) == 4
    assert work.spent_tokens == 4 * 110


def test_equal_questions_are_asked_once(scripted, work, llm):
    assert len(asked(work, llm, [QUESTIONS[0], replace(QUESTIONS[0], id="ai/test/9")])) == 2
    assert len(scripted.requests) == 1


def test_without_a_folder_nothing_is_kept(scripted, work, llm):
    work.answers = None
    asked(work, llm)
    asked(work, llm)

    assert len(scripted.requests) == 8


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "quay-2"},
        {"base_url": "http://127.0.0.1:1/v1"},
        {"temperature": 0.5},
        {"temperature": None},
        {"top_p": 0.5},
        {"max_tokens": 7},
        {"seed": 1},
        {"weights": "abc"},
    ],
)
def test_all_that_shapes_an_answer_is_in_its_key(changed):
    llm = Llm("quay-1", "http://127.0.0.1:2/v1")

    assert key_of(replace(llm, **changed), QUESTIONS[0]) != key_of(llm, QUESTIONS[0])
    assert replace(llm, **changed).ingredient() != llm.ingredient()


def test_messages_and_prompt_are_in_the_key_and_the_sentences_id_and_the_folder_are_not():
    llm, one = Llm("quay-1"), QUESTIONS[0]

    assert key_of(llm, one) != key_of(llm, QUESTIONS[1])
    assert key_of(llm, one) != key_of(llm, replace(one, prompt="p-2"))
    assert key_of(llm, one) != key_of(llm, one.followed(Message("assistant", "x")))
    assert key_of(llm, one) == key_of(replace(llm, folder="/x"), replace(one, id="else"))


def test_a_torn_file_is_no_answer(scripted, work, llm):
    asked(work, llm, QUESTIONS[:1])
    [path] = work.answers.rglob("*.json")
    path.write_text(path.read_text()[:40])

    assert asked(work, llm, QUESTIONS[:1]) == ["(port, Oslo)"]
    assert len(scripted.requests) == 2


def test_a_kept_answer_tells_question_answer_and_cost_and_no_key(scripted, work, llm, priced):
    scripted.faults[:] = [says(f"(port, {KEY})")]
    asked(work, llm, QUESTIONS[:1])
    [path] = work.answers.rglob("*.json")
    told = json.loads(path.read_text())

    assert path.name == f"{key_of(llm, QUESTIONS[0])}.json"
    assert told["question"]["base_url"] == scripted.url
    assert told["question"]["messages"] == [["user", QUESTIONS[0].messages[0].text]]
    assert told["answer"] == {"text": "(port, ***)", "finish": "stop", "prompt_tokens": 100, "completion_tokens": 10}
    assert told["usd"] == 1.0
    assert KEY not in path.read_text()


# ---------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("fault", "error"),
    [(status(401), LlmError), (says(None, refusal="no"), LlmRefused), (status(400, "context length"), LlmError)],
)
def test_a_failing_answer_is_not_kept_and_the_others_are(scripted, work, llm, monkeypatch, fault, error):
    monkeypatch.setenv("CDNER_LLM_AT_ONCE", "1")
    scripted.faults[:] = [None, None, fault]

    with pytest.raises(error):
        asked(work, llm)

    assert len(scripted.requests) == 3, "no further question is begun"
    assert len(list(work.answers.rglob("*.json"))) == 2
    assert asked(work, llm) == ["(port, Oslo)"] * 4
    assert len(scripted.requests) == 5


def test_what_was_under_way_when_one_fails_is_kept(scripted, work, llm):
    def slow(handler, body):
        import time

        from scripted import completion, send

        time.sleep(0.2)
        send(handler, 200, completion("(port, Oslo)"))

    scripted.faults[:] = [slow, slow, slow, status(401)]
    with pytest.raises(LlmError):
        asked(work, llm)
    assert len(list(work.answers.rglob("*.json"))) == 3


def test_questions_are_asked_a_few_at_once(scripted, work, llm, monkeypatch):
    import time

    monkeypatch.setenv("CDNER_LLM_AT_ONCE", "3")
    scripted.answer = lambda _: time.sleep(0.05) or "(port, Oslo)"

    asked(work, llm, [question(n) for n in range(12)])

    assert scripted.most_at_once == 3


def test_a_wrong_number_at_once_is_refused(monkeypatch):
    monkeypatch.setenv("CDNER_LLM_AT_ONCE", "many")
    with pytest.raises(LlmError) as caught:
        at_once()
    assert str(caught.value) == "CDNER_LLM_AT_ONCE is 'many', expected a whole number above 0, such as 8."


# ---------------------------------------------------------------------------------------------- asked again


def test_an_answer_that_cannot_be_read_is_asked_for_again_with_the_complaint(scripted, work, llm):
    scripted.faults[:] = [says("Oslo!")]
    [found] = ask(work, llm, QUESTIONS[:1], [fits])

    assert [answer.text for answer in found.answers] == ["Oslo!", "(port, Oslo)"]
    assert scripted.requests[1]["messages"][1:] == [
        {"role": "assistant", "content": "Oslo!"},
        {"role": "user", "content": "What is Oslo!?"},
    ]


def test_it_is_asked_for_again_once_and_then_taken_as_it_is(scripted, work, llm):
    scripted.answer = lambda _: "Oslo!"

    assert asked(work, llm, QUESTIONS[:1]) == ["Oslo!"]
    assert len(scripted.requests) == 2
    work.llm = "replay"
    assert asked(work, llm, QUESTIONS[:1]) == ["Oslo!"]
    assert len(scripted.requests) == 2


# ---------------------------------------------------------------------------------------------- replay


def test_replay_needs_no_server_and_gives_the_same(scripted, work, llm):
    first = asked(work, llm)
    scripted.close()
    scripted.close = lambda: None
    work.llm = "replay"

    assert asked(work, llm) == first


def test_replay_says_which_question_has_no_answer(scripted, work, llm):
    asked(work, llm, QUESTIONS[:2])
    work.llm = "replay"
    with pytest.raises(LlmError) as caught:
        asked(work, llm)

    assert str(caught.value) == (
        f"--llm replay: there is no kept answer of quay-1 ({scripted.url}) for ai/test/2, in {work.answers}: "
        '"Number 2 Options: port Sentence: Oslo sank". Run it once with --llm live.'
    )
    assert len(scripted.requests) == 2


def test_a_long_question_is_told_by_its_end():
    assert brief([Message("user", "x" * 200 + "\nSentence: Oslo")], 20) == "...xxxxx Sentence: Oslo"


# ---------------------------------------------------------------------------------------------- budgets


def test_dollars_end_the_asking_and_what_was_paid_for_is_kept(scripted, work, llm, priced, monkeypatch):
    monkeypatch.setenv("CDNER_LLM_AT_ONCE", "1")
    work.usd = 2.0
    with pytest.raises(LlmBudgetSpent) as caught:
        asked(work, llm)

    assert str(caught.value) == "spent 2.0000 USD, and 2.0000 were left to this stage."
    assert len(scripted.requests) == len(list(work.answers.rglob("*.json"))) == 2
    again = Work(work.folder, answers=work.answers, usd=2.0)
    assert asked(again, llm) == ["(port, Oslo)"] * 4
    assert again.spent == 2.0


def test_an_answer_over_the_budget_is_kept_before_it_is_said(scripted, work, llm, priced):
    work.usd = 0.5
    with pytest.raises(LlmBudgetSpent) as caught:
        asked(work, llm, QUESTIONS[:1])

    assert str(caught.value) == "spent 1.0000 USD, and 0.5000 were left to this stage."
    assert len(list(work.answers.rglob("*.json"))) == 1


def test_tokens_end_the_asking(scripted, work, llm, monkeypatch):
    monkeypatch.setenv("CDNER_LLM_AT_ONCE", "1")
    work.tokens = 220
    with pytest.raises(LlmBudgetSpent) as caught:
        asked(work, llm)

    assert str(caught.value) == "spent 220 tokens, and 220 were left to this stage."
    last = json.loads(work.progress.read_text().splitlines()[-1])
    assert [json.loads(line).get("tokens") for line in work.progress.read_text().splitlines() if "tokens" in line] == [
        110,
        220,
    ]
    assert last["answered"] == 3


@pytest.mark.parametrize("limit", ["usd", "tokens"])
def test_a_server_that_counts_no_tokens_is_found_out_under_a_limit(scripted, work, llm, priced, limit):
    told = completion("(port, Oslo)")
    del told["usage"]
    scripted.faults = [sends(json.dumps(told).encode())]
    setattr(work, limit, 1000)
    with pytest.raises(LlmError) as caught:
        asked(work, llm, QUESTIONS[:1])

    assert "the server does not tell how many tokens an answer took, so neither --max-usd nor" in str(caught.value)
    assert len(list(work.answers.rglob("*.json"))) == 1


def test_kept_answers_need_no_budget(scripted, work, llm, priced):
    asked(work, llm)

    assert asked(Work(work.folder, answers=work.answers, usd=0.0, tokens=0), llm) == ["(port, Oslo)"] * 4


def test_a_model_without_a_price_is_not_asked_under_a_limit(scripted, work, llm, tmp_path, priced):
    work.usd = 1.0
    with pytest.raises(LlmError) as caught:
        asked(work, replace(llm, model="quay-2"))

    assert str(caught.value) == (
        f"there is no price of quay-2 at {scripted.url} in {tmp_path / 'prices.yaml'} (of 2026-01-01), and a run under "
        "--max-usd must know what it spends. Add it to a file of your own, and name that in CDNER_LLM_PRICES."
    )
    assert scripted.requests == []


def test_shipped_prices_have_a_date_and_the_papers_model(monkeypatch):
    from benchmark.llm.prices import SHIPPED

    monkeypatch.delenv("CDNER_LLM_PRICES", raising=False)
    assert dated(SHIPPED).startswith("20")
    assert price_of(OPENAI, "gpt-4") == Price(30.0, 60.0)
    assert price_of(OPENAI, "quay-1") is None
    assert price_of("http://127.0.0.1:1/v1", "gpt-4") is None
    assert price_of(LOCAL, "anything") == Price(0.0, 0.0)


@pytest.mark.parametrize("text", ["date: 2026-01-01", "[", "date: 2026-01-01\nservers: {a: {b: 1}}"])
def test_prices_that_cannot_be_read_are_named(tmp_path, monkeypatch, text):
    (tmp_path / "p.yaml").write_text(text)
    monkeypatch.setenv("CDNER_LLM_PRICES", str(tmp_path / "p.yaml"))
    with pytest.raises(PlanError) as caught:
        price_of(OPENAI, "gpt-4")

    assert str(caught.value).startswith(f"{tmp_path / 'p.yaml'}: the prices cannot be read (")
    assert str(caught.value).endswith(
        "Expected `date:`, and `servers:` -> base URL -> model -> {prompt: USD, completion: USD} for a million tokens."
    )


# ---------------------------------------------------------------------------------------------- a local model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a tiny GPT-2 of random weights."""
    folder = tmp_path_factory.mktemp("gpt2")
    words = [
        "<unk>",
        "<eos>",
        "Number",
        "Options",
        "Sentence",
        "port",
        "Oslo",
        "sank",
        "0",
        "1",
        "2",
        "3",
        ":",
        "(",
        ")",
    ]
    made = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token="<eos>").save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(words), n_embd=16, n_layer=1, n_head=2, n_positions=40, bos_token_id=1, eos_token_id=1
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_a_local_model_answers_the_same_each_time_and_costs_nothing(work, folder):
    llm = Llm(str(folder), LOCAL, max_tokens=5, folder=str(folder))
    work.usd = 0.5
    first = ask(work, llm, QUESTIONS, [lambda _: None] * 4)
    work.answers = None
    again = ask(work, llm, QUESTIONS[::-1], [lambda _: None] * 4)[::-1]

    assert [found.text for found in first] == [found.text for found in again]
    assert all(found.text for found in first)
    assert torch.get_num_threads() == work.threads
    assert first[0].answers[0].prompt_tokens == 9
    assert 0 < first[0].answers[0].completion_tokens <= 5
    assert work.spent == 0.0


def test_a_local_model_draws_by_its_seed(work, folder):
    work.answers = None
    warm = Llm(str(folder), LOCAL, temperature=5.0, max_tokens=9, seed=1, folder=str(folder))

    def texts(llm):
        return [found.text for found in ask(work, llm, QUESTIONS, [lambda _: None] * 4)]

    assert texts(warm) == texts(warm)
    assert texts(warm) != texts(replace(warm, seed=2))


def test_a_local_model_may_have_several_tokens_that_end_a_text(work, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "several")
    config = tmp_path / "several" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "eos_token_id": [1, 3]}))
    llm = Llm("tiny", LOCAL, max_tokens=5, folder=str(tmp_path / "several"))

    assert len(asked(work, llm, QUESTIONS[:2])) == 2


def test_a_local_model_says_that_a_question_is_too_long(work, folder):
    llm = Llm("tiny", LOCAL, max_tokens=39, folder=str(folder))
    with pytest.raises(LlmError) as caught:
        asked(work, llm, QUESTIONS[:1])
    assert str(caught.value) == (
        "tiny, ai/test/0: the question has 9 tokens, its answer may have 39, and the model takes 40. Show fewer "
        "examples, or ask for fewer max_tokens."
    )


def test_a_folder_without_a_model_is_named(work, tmp_path):
    with pytest.raises(LlmError) as caught:
        asked(work, Llm("none", LOCAL, folder=str(tmp_path)))
    assert str(caught.value).startswith(f"{tmp_path}: this is no causal language model that can be read (")


def test_answers_of_no_folder_are_none(llm):
    assert Answers(None).find(llm, QUESTIONS[0]) is None
