"""llm_prompt: what is asked, what examples are shown, and what becomes of an answer."""

import json
import subprocess
import sys

import pytest
from scripted import says

from benchmark.corpus.transfer import Spec, build
from benchmark.errors import PlanError, Unsupported
from benchmark.models.formats import names_of
from benchmark.run.stage import pack, unpack
from benchmark.score.protocols import read_predictions
from benchmark.work import Work
from methods.llm_prompt import LlmPrompt, drawn, turns

NEWS, FILM = "demo-news", "demo-cinema"
SUPERVISED = Spec((NEWS,), FILM)
ZERO = Spec((NEWS,), FILM, "zero-shot", select="source-dev")


def plan(spec=SUPERVISED, seed=1, **changed):
    return LlmPrompt().plan(build(spec), LlmPrompt.settings(changed), seed)


def run(stage, folder, sentences: int = 2):
    """Run the stage over the first test sentences, and return the folder of its artefact."""
    from dataclasses import replace

    test = stage.inputs["words"]
    few = replace(test, sentences=test.sentences[:sentences])
    stage = stage.rebind(test, few)
    splits = {split.hash: split for split in stage.splits}
    packed = json.loads(json.dumps({name: pack(value) for name, value in stage.inputs.items()}))
    inputs = {name: unpack(value, split=splits.__getitem__, stage=None) for name, value in packed.items()}
    folder.mkdir()
    stage.step(Work(folder), **inputs)
    return folder


# ---------------------------------------------------------------------------------------------- what is asked


def test_zero_shot_asks_one_question_a_sentence_with_the_targets_types(scripted, tmp_path):
    run(plan(ZERO), tmp_path / "a")

    assert [len(asked["messages"]) for asked in scripted.requests] == [1, 1]
    lines = scripted.requests[0]["messages"][0]["content"].split("\n")
    assert lines[1] == (
        "Options: director, actor, studio, film, genre, award, festival, country, person, organization, location, "
        "miscellaneous"
    )
    assert scripted.requests[0]["model"] == "gpt-4"
    assert scripted.requests[0]["temperature"] == 0.0


def test_examples_are_turns_of_the_targets_train_with_its_gold(scripted, tmp_path):
    run(plan(examples=2), tmp_path / "a")
    target = build(SUPERVISED).target
    turn = scripted.requests[0]["messages"]

    assert [m["role"] for m in turn] == ["user", "assistant", "user", "assistant", "user"]
    trained = {" ".join(s.words): s for s in target.train.sentences}
    for question, gold in zip(turn[0:4:2], turn[1:4:2], strict=True):
        sentence = trained[question["content"].split("\nSentence: ")[1]]
        start, end, type = sentence.spans[0]
        assert gold["content"].startswith(f"({names_of(target.card)[type]}, {' '.join(sentence.words[start:end])})")


def test_in_zero_shot_examples_are_the_sources_with_its_types(scripted, tmp_path):
    run(plan(ZERO, examples=1), tmp_path / "a")
    question = scripted.requests[0]["messages"][0]["content"]
    source = build(ZERO).sources[0]

    assert f"Options: {', '.join(names_of(source.card).values())}\n" in question
    assert question.split("\nSentence: ")[1] in {" ".join(s.words) for s in source.train.sentences}


def test_examples_are_drawn_by_the_seed_and_fewer_are_among_more():
    from benchmark.models.formats import find

    target, shape = build(SUPERVISED).target, find("topt")
    ids = {n: [s.id for s in drawn(target, n, shape, 1).sentences] for n in (1, 3)}

    assert ids[3][:1] == ids[1]
    assert [s.id for s in drawn(target, 3, shape, 2).sentences] != ids[3]
    assert all(s.spans for s in drawn(target, 3, shape, 1).sentences)


def test_more_examples_than_there_are_is_refused():
    with pytest.raises(Unsupported) as caught:
        plan(Spec((NEWS,), FILM, "sentences", 2.0, select="last", draw=1), examples=9)
    assert str(caught.value) == "9 examples are asked for, and demo-cinema train shows 2 with mentions."


def test_a_turn_without_mentions_would_say_none():
    from dataclasses import replace

    from benchmark.models.formats import find

    [sentence] = drawn(build(SUPERVISED).target, 1, find("topt"), 1).sentences
    assert turns([replace(sentence, spans=())], find("topt"), {"film": "film"})[1].text == "none"


# ---------------------------------------------------------------------------------------------- keys and settings


def test_planning_needs_neither_torch_nor_openai():
    code = (
        "import sys, methods.llm_prompt as m; from benchmark.corpus.transfer import Spec, build; "
        "m.LlmPrompt().plan(build(Spec(('demo-news',), 'demo-cinema')), m.Settings(examples=1), 1); "
        "print([name for name in ('torch', 'openai', 'transformers') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_model_server_sampling_examples_and_format_are_in_the_key(monkeypatch):
    monkeypatch.setenv("CDNER_LLM_BASE_URL", "http://a.example/v1")
    monkeypatch.delenv("CDNER_LLM_MODEL", raising=False)
    changed = [
        {}, {"model": "quay-1"}, {"base_url": "http://b.example/v1"}, {"temperature": 0.5}, {"temperature": None},
        {"top_p": 0.5}, {"max_tokens": 7}, {"examples": 1}, {"examples": 2}, {"format": "typed"},
    ]  # fmt: skip
    keys = [plan(**settings).key for settings in changed]

    assert len(set(keys)) == len(changed)
    monkeypatch.setenv("CDNER_LLM_MODEL", "quay-1")
    assert plan().key == keys[1]
    monkeypatch.setenv("CDNER_LLM_API_KEY", "sk-other-0123456789")
    assert plan().key == keys[1]
    assert "sk-other" not in json.dumps(plan().ingredients)


def test_a_seed_that_draws_nothing_is_not_in_the_key(monkeypatch):
    monkeypatch.setenv("CDNER_LLM_BASE_URL", "http://a.example/v1")

    assert plan(seed=1).key == plan(seed=2).key
    assert plan(seed=1, examples=1).key != plan(seed=2, examples=1).key
    assert plan(seed=1, temperature=0.5).key != plan(seed=2, temperature=0.5).key


def test_a_local_model_is_known_by_its_weights_and_its_template(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    llm = plan(local=True, model=str(tmp_path)).inputs["llm"]
    assert (llm.base_url, llm.folder) == ("local", str(tmp_path))
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    templated = plan(local=True, model=str(tmp_path))

    assert templated.inputs["llm"].weights.startswith(f"{llm.weights}+")
    (tmp_path / "model.safetensors").write_bytes(b"other weights")
    assert plan(local=True, model=str(tmp_path)).key != templated.key


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"examples": -1}, "set: examples is -1, expected 0 or more."),
        ({"max_tokens": 0}, "set: max_tokens is 0, expected 1 or more."),
        ({"local": True}, "set: a local model needs `model`: a folder or a hub id."),
        (
            {"local": True, "model": "x", "base_url": "http://a/v1"},
            "set: a local model has no base_url; leave one of the two out.",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(changed, told):
    with pytest.raises(PlanError) as caught:
        LlmPrompt.settings(changed)
    assert str(caught.value) == told


# ---------------------------------------------------------------------------------------------- what becomes of answers


def test_pairs_raw_and_audit_are_kept(scripted, tmp_path):
    words = build(ZERO).test.sentences[0].words
    first = " ".join(words[:2])
    answers = f"(film, {first}) (film, {first}) (boat, {words[0]}) (film, Nowhere At All)"
    scripted.faults[:] = [says(answers), says("Sorry?"), says("I cannot say.")]

    folder = run(plan(ZERO, examples=0), tmp_path / "a", 1)
    [found] = read_predictions(folder / "predictions.jsonl")
    audit = json.loads((folder / "audit.json").read_text())

    assert [tuple(span) for span in found.spans] == [(0, 2, "film")]
    assert found.raw == answers
    assert found.pairs == (("film", first), ("film", first), ("boat", words[0]), ("film", "Nowhere At All"))
    assert audit == {
        "questions": 1, "asked_again": 0, "cut": 0,
        "pairs": {"exact": 1, "ambiguous": 0, "taken": 1, "absent": 1, "unknown": 1, "unparsable": 0, "folded": 0},
        "tokens": {"prompt": 100, "completion": 10},
    }  # fmt: skip


def test_an_answer_that_cannot_be_read_twice_is_counted_and_not_guessed(scripted, tmp_path):
    word = build(ZERO).test.sentences[0].words[0]
    scripted.faults[:] = [says("Sorry?"), says(f"Here: (film, {word})", finish="length")]

    folder = run(plan(ZERO), tmp_path / "a", 1)
    [found] = read_predictions(folder / "predictions.jsonl")
    audit = json.loads((folder / "audit.json").read_text())

    assert found.raw == f"Here: (film, {word})"
    assert [tuple(span) for span in found.spans] == [(0, 1, "film")]
    assert (audit["asked_again"], audit["cut"], audit["pairs"]["unparsable"]) == (1, 1, 1)
    assert audit["tokens"] == {"prompt": 200, "completion": 20}
    assert "This part of the answer cannot be read: Sorry?" in scripted.requests[1]["messages"][-1]["content"]
