"""LAR: alignment, reassignment, and what of them pays on corpora made for it."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from scripted import Scripted, says

import methods
from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.transfer import Spec, build
from benchmark.errors import PlanError, Unsupported
from benchmark.llm.model import Llm
from benchmark.models import backbones
from benchmark.models.embedding import embed
from benchmark.run.stage import Made, Stage
from benchmark.score.protocols import Prediction, read_predictions, write_predictions
from benchmark.score.spans import Span
from benchmark.work import Work
from methods import lar
from methods.lar import Choice, Settings, align, chosen, gaining, hungarian, majority, noisy, question, reassign, tally

NAMES = {"singer": "singer", "band": "band", "city": "city", "genre": "music genre"}
SOURCE = {"person": "person", "place": "place", "misc": "miscellaneous"}
GENERAL = {
    "target": {"singer": "person", "band": "organization", "city": "location", "genre": "miscellaneous"},
    "source": {"person": "person", "place": "location", "misc": "miscellaneous"},
}
WORDS = Split(
    "songs",
    "train",
    (
        Sentence("s/0", ("Ada", "sang", "in", "Oslo"), (Span(0, 1, "singer"), Span(3, 4, "city"))),
        Sentence("s/1", ("The", "Owls", "met", "Ada"), (Span(0, 2, "band"), Span(3, 4, "singer"))),
        Sentence("s/2", ("jazz",), (Span(0, 1, "genre"),)),
        Sentence("s/3", (), ()),
    ),
)


def gold(split=WORDS):
    return {s.id: s.spans for s in split.sentences}


# ---------------------------------------------------------------------------------------------- alignment

PSEUDO = {"s/0": [Span(0, 1, "person"), Span(3, 4, "place")], "s/1": [Span(1, 2, "place"), Span(3, 4, "person")]}


def test_mentions_are_counted_by_the_pseudo_label_of_the_same_bounds():
    assert tally(gold(), PSEUDO, "exact") == {
        "singer": Counter({"person": 2}), "city": Counter({"place": 1}), "band": Counter({"": 1}),
        "genre": Counter({"": 1}),
    }  # fmt: skip


def test_or_by_the_one_that_shares_most_words():
    pseudo = {"s/1": [Span(1, 2, "place"), Span(0, 2, "person")]}

    assert tally(gold(), PSEUDO, "overlap")["band"] == Counter({"place": 1})
    assert tally(gold(), pseudo, "overlap")["band"] == Counter({"person": 1})


def test_every_target_type_has_one_source_type():
    counts = {"singer": Counter({"person": 2, "place": 2, "": 9}), "band": Counter({"": 3})}

    assert majority(counts, ["singer", "band", "city"], list(SOURCE), "misc") == {
        "singer": "person", "band": "misc", "city": "misc"
    }  # fmt: skip


def aligned(folder, strategy="counts", source=SOURCE, general=GENERAL, pseudo=PSEUDO, **changed):
    """Run the step and return what it wrote."""
    (folder / "pseudo").mkdir(parents=True)
    (folder / "out").mkdir()
    found = [Prediction(s.id, tuple(pseudo.get(s.id, ()))) for s in WORDS.sentences]
    write_predictions(folder / "pseudo" / "predictions.jsonl", found)
    inputs = {
        "strategy": strategy, "match": "exact", "pseudo": folder / "pseudo", "gold": WORDS, "labels": None,
        "target": list(NAMES.items()), "source": list(source.items()), "rest": "misc", "general": general,
        "backbone": backbones.find("minilm") if strategy != "counts" else None,
    }  # fmt: skip
    align(Work(folder=folder / "out"), **{**inputs, **changed})
    return json.loads((folder / "out" / "alignment.json").read_text())


def test_alignment_recovers_a_planted_map(tmp_path):
    told = aligned(tmp_path)

    assert told["map"] == {"singer": "person", "band": "misc", "city": "place", "genre": "misc"}
    assert told["names"]["genre"] == "miscellaneous"
    assert told["direct"] == {"person": "singer", "misc": "band", "place": "city"}  # of equals the card's first
    assert told["counts"]["singer"] == {"person": 2}
    assert told["agree"] == {"types": 3, "of": 4}  # a band is an organization, and the source knows none


def test_alignment_can_be_read(tmp_path):
    aligned(tmp_path)

    page = (tmp_path / "out" / "alignment.md").read_text()
    assert page.startswith("Alignment by counts. 3 of 4 types agree with the cards' general types.\n\n| target type")
    assert (
        "| singer        | person        | yes                 |        2 |       0 |      0 |              0 |" in page
    )


def test_without_a_miscellaneous_type_the_unrecognised_get_one(tmp_path):
    source = {"person": "person", "place": "place"}
    told = aligned(
        tmp_path, source=source, general={**GENERAL, "source": {"person": "person", "place": "location"}}, rest=lar.REST
    )

    assert told["map"]["genre"] == told["names"]["genre"] == "miscellaneous"
    assert told["agree"]["types"] == 3  # miscellaneous is what a genre is


def test_names_are_matched_one_to_one_and_those_left_over_go_to_their_nearest(tmp_path):
    backbone = backbones.find("minilm")
    target, source = ["singer", "town", "musician"], ["person who sings", "place"]

    assert hungarian(target, source, backbone) == [0, 1, 0]
    assert hungarian(["town"], source, backbone) == [1]


def test_counts_are_right_where_names_mislead(tmp_path):
    """What the source calls `song` are people, as a corpus may: their names know nothing of it."""
    source = {"song": "song", "person": "person"}
    general = {**GENERAL, "source": {"song": "person", "person": "location"}}
    pseudo = {"s/0": [Span(0, 1, "song"), Span(3, 4, "person")], "s/1": [Span(3, 4, "song")]}

    by_counts = aligned(tmp_path / "a", source=source, general=general, pseudo=pseudo)
    by_names = aligned(tmp_path / "b", "embedding-hungarian", source=source, general=general, pseudo=pseudo)

    assert (by_counts["map"]["singer"], by_counts["map"]["city"]) == ("song", "person")
    assert by_names["agree"]["types"] < by_counts["agree"]["types"]


def test_names_are_right_where_the_source_model_recognises_nothing(tmp_path):
    source = {"location": "location", "musician": "musician", "misc": "miscellaneous"}
    general = {
        **GENERAL, "source": {"location": "location", "musician": "person", "misc": "miscellaneous"}
    }  # fmt: skip

    by_counts = aligned(tmp_path / "a", source=source, general=general, pseudo={})
    by_names = aligned(tmp_path / "b", "embedding-hungarian", source=source, general=general, pseudo={})

    assert set(by_counts["map"].values()) == {"misc"}
    assert (by_names["map"]["singer"], by_names["map"]["city"]) == ("musician", "location")
    assert by_names["agree"]["types"] > by_counts["agree"]["types"]


def test_vectors_have_length_1_and_do_not_hang_on_their_batch():
    backbone = backbones.find("minilm")
    texts = ["a town", "a far longer text about a town by the sea", "jazz"]

    found = embed(backbone, texts)

    assert found.norm(dim=-1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    alone = embed(backbone, texts[::-1], batch=1).flip(0)
    assert float((found - alone).abs().max()) < 1e-5
    assert float(found[0] @ found[1]) > float(found[0] @ found[2])


def test_vectors_want_sub_words():
    with pytest.raises(PlanError, match="the backbone 'rnn' has no sub-words, so texts have no vectors; say `minilm`"):
        embed(backbones.find("rnn"), ["a"])


# ---------------------------------------------------------------------------------------------- a choice

CHOICE = Choice((0, 0), WORDS.sentences[1], Span(0, 2, "band"), ("singer", "band"))


def test_a_question_has_the_types_that_are_possible_and_none():
    assert question(CHOICE, NAMES, {"band": "a group"}).splitlines()[1:] == [
        "Options: A. singer; B. band (a group); C. none of these", "Entity: The Owls", "Sentence: The Owls met Ada"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("B", 1), ("B. band", 1), ("(a)", 0), ("A.", 0), ("**C**", 2), ("Band", 1), ("none of these.", 2), ("b", 1),
        ("B band", 1), ("Answer: B", 1), ("The answer is (B).", 1), ("C: none of these", 2),
        ("D", None), ("A band it is", None), ("", None), ("Both", None), ("A mention of type q: B", None),
    ],
)  # fmt: skip
def test_an_answer_is_a_letter_or_a_name(text, number):
    assert chosen(text, CHOICE, NAMES) == number


def test_i_is_a_word_before_it_is_an_option():
    many = CHOICE._replace(options=tuple("qrstuvwxyz"))
    names = {key: f"type {key}" for key in many.options}

    assert chosen("I would say B", many, names) is None
    assert [chosen(text, many, names) for text in ("I", "I. type y", "J: type z", "K")] == [8, 8, 9, 10]


def test_none_may_be_the_answer_and_an_unreadable_one_is_asked_again(scripted, tmp_path):
    scripted.faults += [says("C"), says("I think"), says("B")]
    came = []

    answer = lar.by_llm(Work(folder=tmp_path), Llm("m", scripted.url), NAMES, {}, came)
    other = CHOICE._replace(place=(0, 1), span=Span(3, 4, "singer"))
    found = [answer([CHOICE]), answer([other])]

    assert found == [[None], ["band"]]
    first, _, third = scripted.requests
    assert [m["role"] for m in first["messages"]] == ["user", "assistant", "user"]  # one demonstration
    assert third["messages"][-1]["content"] == "Answer with the letter of one option alone."
    assert len(came) == 2


# ---------------------------------------------------------------------------------------------- enhanced inference

WRITTEN = {
    "s/0": [(Span(0, 1, "band"), "person"), (Span(3, 4, "city"), "place")],
    "s/1": [(Span(0, 2, "singer"), "misc"), (Span(3, 4, "genre"), "miscellaneous")],
}


def reassigned(folder, *faults, alignment=True, **changed):
    """Run the step with a scripted server; return spans by sentence, the audit, and what was asked."""
    for name in ("written", "alignment", "out"):
        (folder / name).mkdir(parents=True)
    found = [Prediction(s.id, tuple(span for span, _ in WRITTEN.get(s.id, ()))) for s in WORDS.sentences]
    write_predictions(folder / "written" / "predictions.jsonl", found)
    lines = [{"id": s.id, "sources": [source for _, source in WRITTEN.get(s.id, ())]} for s in WORDS.sentences]
    (folder / "written" / "sources.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (folder / "written" / "audit.json").write_text('{"pairs": {"exact": 4}}')
    names = {"singer": "person", "band": "person", "city": "place", "genre": "miscellaneous"}
    told = {"names": names, "direct": {"person": "singer", "place": "city"}}
    (folder / "alignment" / "alignment.json").write_text(json.dumps(told))
    with Scripted(*faults) as server:
        inputs = {
            "written": folder / "written", "words": WORDS.words_only(), "by_source": False, "names": list(NAMES.items()), "means": {},
            "alignment": folder / "alignment" if alignment else None, "asked": None, "llm": Llm("m", server.url),
            "backbone": None, "on_none": "drop", "dev": None, "dev_gold": None,
        }  # fmt: skip
        reassign(Work(folder=folder / "out"), **{**inputs, **changed})
        asked = [r["messages"][-1]["content"].splitlines()[1:3] for r in server.requests]
    spans = {p.id: p.spans for p in read_predictions(folder / "out" / "predictions.jsonl")}
    return spans, json.loads((folder / "out" / "audit.json").read_text()), asked


@pytest.fixture(autouse=True)
def a_key(monkeypatch):
    monkeypatch.setenv("CDNER_LLM_API_KEY", "sk-scripted")


def test_a_mention_is_asked_about_among_the_types_of_its_source_type(tmp_path):
    spans, audit, asked = reassigned(tmp_path, says("A"))

    assert asked == [["Options: A. singer; B. band; C. none of these", "Entity: Ada"]]
    assert spans["s/0"] == (Span(0, 1, "singer"), Span(3, 4, "city"))
    assert spans["s/1"] == (Span(0, 2, "singer"), Span(3, 4, "genre"))  # `misc` is no source name: it keeps its type
    assert audit["reassigned"] == {"mentions": 4, "single": 2, "asked": 1, "none": 0, "changed": 1}
    assert audit["pairs"] == {"exact": 4}
    assert audit["tokens"] == {"prompt": 100, "completion": 10}


@pytest.mark.parametrize(("on_none", "left"), [("drop", []), ("direct", [Span(0, 1, "band")])])
def test_what_is_none_of_them_is_dropped_or_keeps_its_type(tmp_path, on_none, left):
    spans, audit, _ = reassigned(tmp_path, says("C"), on_none=on_none)

    assert list(spans["s/0"]) == [*left, Span(3, 4, "city")]
    assert audit["reassigned"]["none"] == 1


def test_types_that_are_not_named_are_not_reassigned(tmp_path):
    spans, _audit, asked = reassigned(tmp_path, asked=["city"])

    assert asked == []
    assert spans["s/0"][0].type == "band"


def test_without_an_alignment_every_type_is_an_option(tmp_path):
    _, _audit, asked = reassigned(tmp_path, *[says("A")] * 2, alignment=False, asked=["singer", "city"])

    assert sorted(entity for _, entity in asked) == ["Entity: Oslo", "Entity: The Owls"]
    assert asked[0][0] == "Options: A. singer; B. band; C. city; D. music genre; E. none of these"


def test_the_encoder_answers_without_a_server(tmp_path):
    spans, audit, asked = reassigned(
        tmp_path, llm=None, backbone=backbones.find("minilm"), means={"band": "two trumpets", "singer": "who sang"}
    )

    assert asked == []
    assert audit["reassigned"]["asked"] == 1
    assert spans["s/0"][0].type == "singer"
    assert "tokens" not in audit


def test_a_source_model_alone_gives_the_commonest_type_of_each_source_type(tmp_path):
    for name in ("written", "alignment", "out"):
        (tmp_path / name).mkdir()
    rows = {"s/0": (Span(0, 1, "person"), Span(3, 4, "animal"))}
    found = [Prediction(s.id, rows.get(s.id, ())) for s in WORDS.sentences]
    write_predictions(tmp_path / "written" / "predictions.jsonl", found)
    (tmp_path / "written" / "audit.json").write_text("{}")
    told = {"names": {"singer": "person", "city": "place"}, "direct": {"person": "singer", "place": "city"}}
    (tmp_path / "alignment" / "alignment.json").write_text(json.dumps(told))

    reassign(
        Work(folder=tmp_path / "out"), written=tmp_path / "written", words=WORDS.words_only(),
        alignment=tmp_path / "alignment", by_source=True, names=list(NAMES.items()), means={}, asked=None, llm=None, backbone=None,
        on_none="drop", dev=None, dev_gold=None,
    )  # fmt: skip

    assert read_predictions(tmp_path / "out" / "predictions.jsonl")[0].spans == (Span(0, 1, "singer"),)


def test_where_none_changes_nothing_asking_costs_nothing():
    split = Split("s", "dev", (Sentence("s/0", ("a", "b"), (Span(0, 1, "singer"),)),))
    before = [[lar.Mention(Span(n, n + 1, "singer"), "person", "singer", "singer") for n in range(2)]]
    after = [[before[0][0]._replace(kind=None), before[0][1]]]

    assert gaining(before, lar.resolved(after, "direct"), split) == []
    wrong = [[before[0][0], before[0][1]._replace(kind=None)]]
    assert gaining(before, lar.resolved(wrong, "direct"), split) == []
    assert gaining(before, lar.resolved(wrong, "drop"), split) == ["singer"]


def test_dev_tells_for_which_types_asking_pays():
    def mention(n, kind, now):
        return lar.Mention(Span(n, n + 1, kind), "person", kind, now)

    split = Split("s", "dev", (Sentence("s/0", tuple("abcdef"), tuple(Span(n, n + 1, "singer") for n in range(3))),))
    before = [[mention(0, "band", "band"), mention(1, "singer", "singer"), mention(2, "singer", "singer"),
               mention(4, "city", "city")]]  # fmt: skip
    after = [[mention(0, "band", "singer"), mention(1, "singer", "band"), mention(2, "singer", "singer"),
              mention(4, "city", None)]]  # fmt: skip

    assert gaining(before, after, split) == ["band", "city"]  # one more right, one less wrong; `singer` loses


def test_the_commonest_type_is_that_of_what_the_source_model_recognises(tmp_path):
    split = Split("songs", "train", tuple(
        Sentence(f"s/{n}", ("a",), (Span(0, 1, kind),)) for n, kind in enumerate(["singer"] * 6 + ["band"] * 2)
    ))  # fmt: skip
    pseudo = {f"s/{n}": [Span(0, 1, "person")] for n in (0, 6, 7)}  # one singer of six, both bands
    (tmp_path / "pseudo").mkdir()
    (tmp_path / "out").mkdir()
    found = [Prediction(s.id, tuple(pseudo.get(s.id, ()))) for s in split.sentences]
    write_predictions(tmp_path / "pseudo" / "predictions.jsonl", found)

    align(
        Work(folder=tmp_path / "out"), strategy="counts", match="exact", pseudo=tmp_path / "pseudo", gold=split,
        labels=None, target=[["singer", "singer"], ["band", "band"]], source=list(SOURCE.items()), rest="misc",
        general=GENERAL, backbone=None,
    )  # fmt: skip

    assert json.loads((tmp_path / "out" / "alignment.json").read_text())["direct"] == {"person": "band"}


# ---------------------------------------------------------------------------------------------- noise, and the plan


def test_noise_is_a_share_of_mentions_and_less_is_inside_more():
    split = Split("s", "train", tuple(Sentence(f"s/{n}", ("a", "b"), (Span(0, 1, "x"),)) for n in range(400)))

    some, more = (noisy(split, ["x", "y", "z"], share, 1) for share in (0.2, 0.5))
    changed = [{s.id for s in other.sentences if s.spans != (Span(0, 1, "x"),)} for other in (some, more)]

    assert 50 < len(changed[0]) < 110
    assert 160 < len(changed[1]) < 240
    assert changed[0] < changed[1]
    assert noisy(split, ["x", "y"], 0.0, 1) == split
    assert all(s.spans[0].type in "yz" for s in more.sentences if s.id in changed[1])


NEWS, FILM = "demo-news", "demo-cinema"
DIRECT = Spec((NEWS,), FILM)
ZERO = Spec((NEWS,), FILM, "zero-shot", select="last")


@pytest.fixture
def planned(monkeypatch):
    for name in ("CDNER_LLM_MODEL", "CDNER_LLM_BASE_URL", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)

    def plan(spec, **changed):
        method = methods.find("lar")()
        settings = method.settings({"backbone": "minilm-seq2seq", **changed})
        return method.planned(build(spec), settings, 1)

    return plan


def steps(final) -> list[str]:
    return [stage.step.__name__ for stage in final.graph()]


def test_the_source_model_is_that_of_text2text(planned):
    method = methods.find("text2text")()
    other = method.planned(build(DIRECT), method.settings({"backbone": "minilm-seq2seq"}), 1)

    assert planned(DIRECT).graph()[0].key == other.graph()[0].key
    assert planned(DIRECT, alignment="none", reassign_with="none").key == other.key  # direct transfer, "Ori" of table 5


def test_source_alignment_target_and_inference_follow_each_other(planned):
    assert steps(planned(DIRECT)) == [
        "train_text2text", "write_text2text", "align", "train_text2text", "write_text2text", "reassign"
    ]  # fmt: skip
    assert steps(planned(DIRECT, reassign_with="none"))[-1] == "write_text2text"
    assert steps(planned(Spec((), FILM, "in-domain"))) == ["train_text2text", "write_text2text", "reassign"]
    assert steps(planned(DIRECT, ask="dev")).count("write_text2text") == 3


def test_in_zero_shot_a_language_model_labels_train_and_no_gold_is_seen(planned):
    for changed in ({}, {"labelled": 0.2}):
        final = planned(ZERO, **changed)
        gold = [x for s in final.graph() for x in s.splits if x.corpus == FILM and any(y.spans for y in x.sentences)]
        assert gold == []
        assert "answer" in steps(final)
    learned = [x for s in final.graph() for x in s.inputs.get("train", ()) if isinstance(x, Made)]
    assert [len(x.sentences) for x in learned] == [round(0.2 * len(build(ZERO).target.train.sentences))]


def test_what_is_unrecognised_becomes_what_is_named_miscellaneous(planned):
    """Of demo-cinema's types of that general type it is the last; `film` and others come before it."""
    final = planned(Spec((FILM,), NEWS))

    [stage] = [s for s in final.graph() if s.step is align]
    assert stage.inputs["rest"] == "misc"
    assert next(k for k, kind in stage.inputs["general"]["source"].items() if kind == "miscellaneous") != "misc"


def test_the_order_of_the_options_is_part_of_the_key(planned):
    final = planned(DIRECT)

    other = {**final.inputs, "names": final.inputs["names"][::-1]}
    assert Stage(final.step, **other).key != final.key


def test_only_reassignment_differs_between_direct_and_enhanced(planned):
    direct = planned(DIRECT, reassign_with="none")

    for way in ("llm", "embedding"):
        assert planned(DIRECT, reassign_with=way).inputs["written"].key == direct.key


@pytest.mark.parametrize(
    ("spec", "changed", "message"),
    [
        (replace(DIRECT, order="joint"), {}, "LAR learns the source before it aligns the target"),
        (replace(ZERO, select="source-dev"), {}, "LAR does not select on source dev"),
        (DIRECT, {"ask": ["pirate"]}, "ask names pirate, and demo-cinema has director"),
        (replace(DIRECT, select="last"), {"ask": "dev"}, "`ask: dev` learns from target dev which types gain"),
        (ZERO, {"alignment": "none"}, "in zero-shot nothing but the alignment tells target types"),
    ],
)
def test_what_it_cannot_do_it_says(planned, spec, changed, message):
    with pytest.raises(Unsupported, match=message):
        planned(spec, **changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labelled": 1.5}, "labelled is a share, from 0 to 1; found 1.5."),
        ({"source_noise": -0.1}, "source_noise is a share, from 0 to 1; found -0.1."),
        ({"ask": "some"}, "ask is 'some', expected all, dev, or a list of types."),
    ],
)
def test_settings_that_mean_nothing_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        Settings(**changed)
