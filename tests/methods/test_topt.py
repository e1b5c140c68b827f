"""TOPT: what is planned after what, which explanations a regime shows, what an LLM is asked, how models are merged."""

import json

import inprocess
import pytest
from models.conftest import save_t5

import methods
from benchmark.corpus import knowledge
from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.knowledge import Explained
from benchmark.corpus.transfer import Spec, build
from benchmark.errors import PlanError, Unsupported
from benchmark.llm.model import LOCAL, Llm
from benchmark.run.stage import Made, Stage
from benchmark.score.spans import Span
from benchmark.work import Work
from methods import topt

SMALL = {"decoding": "grounded", "mask_epochs": 1, "epochs": 1, "source_epochs": 1, "masks": 2, "precision": "32"}


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    return save_t5(tmp_path_factory.mktemp("t5"), sentinels=20)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Return a file of explanations of every mention of demo-cinema's train."""
    transfer = build(Spec(("demo-news",), "demo-cinema"))
    found = [Explained(*one, f"{one[1]} is {one[2]} for all") for one in knowledge.mentions(transfer.target.train)]
    path = tmp_path_factory.mktemp("told") / "demo-cinema.json"
    knowledge.write(path, found)
    return path


@pytest.fixture
def planned(t5, told):
    """Return a function from a spec and changed settings to the final stage."""

    def plan(spec=None, seed=1, **changed) -> Stage:
        spec = spec or Spec(("demo-news",), "demo-cinema", select="last")
        settings = methods.find("topt").settings({"backbone": str(t5), "knowledge": str(told), **SMALL, **changed})
        return methods.find("topt")().plan(build(spec), settings, seed)

    return plan


def steps(final: Stage) -> list[tuple[str, list[str]]]:
    """Return each stage's step and the corpora that it learns from."""
    return [(s.step.__name__, [x.corpus for x in s.inputs.get("train", ())]) for s in final.graph()]


def test_explanations_come_first_then_the_source_then_the_target(planned):
    final = planned()

    assert steps(final) == [
        ("pretrain", []), ("train_text2text", ["demo-news"]), ("train_text2text", ["demo-cinema"]),
        ("write_text2text", []),
    ]  # fmt: skip
    stages = final.graph()
    assert [s.inputs.get("init") for s in stages[1:3]] == stages[:2]


def test_without_explanations_it_is_text2text(planned, t5):
    spec = Spec(("demo-news",), "demo-cinema", select="last")
    settings = {
        "backbone": str(t5),
        "decoding": "grounded",
        "epochs": 1,
        "source_epochs": 1,
        "precision": "32",
        "lr": 1e-4,
    }
    method = methods.find("text2text")
    other = method().plan(build(spec), method.settings(settings), 1)

    assert planned(knowledge="none", format="typed").key == other.key


@pytest.mark.parametrize(
    "spec",
    [
        Spec(("demo-news",), "demo-cinema", "fraction", 0.2, draw=1, select="last"),
        Spec(("demo-news",), "demo-cinema", "shots", 1.0, draw=2, select="last"),
        Spec(("demo-news",), "demo-cinema", "sentences", 3.0, select="last"),
    ],
)
def test_a_limited_regime_hides_the_explanations_of_what_it_hides(planned, spec):
    shown = knowledge.mentions(build(spec).target.train)
    [text] = planned(spec).graph()[0].inputs["texts"]

    assert [" ".join(s.words) for s in text.sentences] == [
        f"{one[1]} is {one[2]} for all" for one in dict.fromkeys(shown)
    ]
    [whole] = planned().graph()[0].inputs["texts"]
    assert len(text.sentences) < len(whole.sentences)


def test_what_shows_no_mention_is_refused_unless_it_needs_none(planned):
    spec = Spec(("demo-news",), "demo-cinema", "zero-shot", select="last")

    with pytest.raises(Unsupported) as refused:
        planned(spec)
    assert str(refused.value) == "no mention of demo-cinema that train shows here is explained."
    with pytest.raises(Unsupported) as refused:
        planned(spec, knowledge="generate")
    assert str(refused.value) == ("zero-shot shows no mention of demo-cinema to explain; say `knowledge: none`.")
    with pytest.raises(Unsupported) as refused:
        planned(knowledge="published")
    assert str(refused.value) == "no explanations of demo-cinema are published: its card names none."
    assert steps(planned(spec, knowledge="none")) == [("train_text2text", ["demo-news"]), ("write_text2text", [])]


def test_other_text_may_stand_in_their_place(planned, tmp_path):
    (tmp_path / "demo-cinema.txt").write_text("a film\n")

    first = planned(knowledge=str(tmp_path / "{target}.txt")).graph()[0]

    assert (first.inputs["text"].name, first.inputs["texts"]) == ("demo-cinema.txt", ())
    with pytest.raises(PlanError) as refused:
        planned(knowledge="generated")
    assert str(refused.value) == (
        "knowledge: there is no text file 'generated', and it is no dataset of the hub (owner/name). Did you mean "
        "'generate'? It may also be published or generate or none."
    )


def test_a_files_explanations_are_cleaned_and_what_is_left_is_told(planned, told, tmp_path):
    found = knowledge.read(told)
    some = [one._replace(explanation="I cannot tell") if n % 4 == 0 else one for n, one in enumerate(found)]
    strange = [one._replace(text="of dev") for one in found[:3]]
    knowledge.write(tmp_path / "own.json", [*some, *strange])

    first = planned(knowledge=str(tmp_path / "own.json")).graph()[0]
    [text] = first.inputs["texts"]

    assert not any("cannot" in s.words for s in text.sentences)
    left = len(some) - len(some[::4])
    assert f"masked spans of {left} of {len(some) + 3} in {tmp_path}/own.json" in first.title
    other = planned(knowledge=str(tmp_path / "own.json"), negative=["for all"]).graph()[0]
    assert {s.words for s in other.inputs["texts"][0].sentences} == {("I", "cannot", "tell")}
    assert f"masked spans of {told}" in planned().graph()[0].title


def test_a_full_train_and_a_file_of_another_are_not_for_each_other(planned, told, tmp_path):
    found = knowledge.read(told)
    knowledge.write(tmp_path / "dev.json", [found[0], *(one._replace(text="of dev") for one in found)])

    with pytest.raises(Unsupported, match=f"of {len(found) + 1:,} explanations {len(found):,} are of no mention"):
        planned(knowledge=str(tmp_path / "dev.json"))


@pytest.mark.parametrize(
    ("spec", "after"),
    [
        (Spec(("demo-news",), "demo-cinema", order="joint", select="target-dev"), [["demo-news", "demo-cinema"]]),
        (Spec((), "demo-cinema", "in-domain", select="target-dev"), [["demo-cinema"]]),
        (Spec(("demo-news",), "demo-cinema", select="target-dev"), [["demo-news"], ["demo-cinema"]]),
    ],
)
def test_in_every_order_what_is_learned_begins_with_the_explanations(planned, spec, after):
    first, *trained, _ = planned(spec).graph()

    assert first.step.__name__ == "pretrain"
    assert [[x.corpus for x in s.inputs["train"]] for s in trained] == after
    assert [s.inputs["init"] for s in trained] == [first, *trained[:-1]]
    assert [s.inputs["dev"] and s.inputs["dev"].corpus for s in trained] == [None] * (len(after) - 1) + ["demo-cinema"]
    assert trained[-1].inputs["writing"] is not None


def test_every_target_starts_from_the_same_weights(planned, tmp_path):
    (tmp_path / "text.txt").write_text("a film\n")
    first, other = (
        planned(Spec(("demo-news",), target, select="last"), knowledge=str(tmp_path / "text.txt")).graph()[0]
        for target in ("demo-cinema", "demo-astronomy")
    )

    assert "init" not in first.inputs  # nothing is before it
    assert first.inputs["backbone"] == other.inputs["backbone"]
    assert first.key == other.key


def test_what_a_stage_begins_with_is_told(planned):
    trained = [s.title for s in planned().graph() if s.step.__name__ == "train_text2text"]
    assert [title.split(", ")[2].partition(")")[0] for title in trained] == ["pre-trained", "after the sources"]
    trained = [s.title for s in planned(knowledge="none").graph() if s.step.__name__ == "train_text2text"]
    assert ["after" in title for title in trained] == [False, True]


# ---- several sources

SEVERAL = Spec(("demo-news", "demo-astronomy"), "demo-cinema", order="merge", select="last")


@pytest.mark.parametrize(
    ("merge", "weights"), [("alg1-mean", [2 / 3, 1 / 6, 1 / 6]), ("alg1-sum", [2 / 3, 1 / 3, 1 / 3])]
)
def test_the_targets_model_takes_two_thirds(planned, merge, weights):
    final = planned(SEVERAL, merge=merge)
    [merged] = [s for s in final.graph() if s.step.__name__ == "merge"]

    assert merged.inputs["weights"] == pytest.approx(weights)
    assert [[x.corpus for x in s.inputs["train"]] for s in merged.inputs["models"]] == [
        ["demo-cinema"], ["demo-news"], ["demo-astronomy"]
    ]  # fmt: skip
    start = final.graph()[0]
    assert all(
        model.inputs["init"] is not None and model.inputs["init"].key == start.key for model in merged.inputs["models"]
    )
    assert final.inputs["model"] is merged


def test_or_goes_on_from_the_mean_of_the_sources(planned):
    final = planned(SEVERAL, merge="init-mean")
    [merged] = [s for s in final.graph() if s.step.__name__ == "merge"]

    assert merged.inputs["weights"] == [0.5, 0.5]
    assert final.inputs["model"].inputs["init"] is merged
    assert [x.corpus for x in final.inputs["model"].inputs["train"]] == ["demo-cinema"]


def test_a_source_alone_is_the_same_stage_in_sequence(planned):
    merged, plain = ({s.key for s in planned(spec).graph()} for spec in (SEVERAL, None))

    assert len(merged & plain) == 2  # explanations, demo-news


def test_without_sources_or_a_targets_model_nothing_is_merged(planned):
    with pytest.raises(Unsupported) as refused:
        planned(Spec(("demo-news",), "demo-cinema", "zero-shot", order="merge", select="last"), knowledge="none")
    assert str(refused.value) == ("in zero-shot there is no target's model to merge sources into; say another order.")
    with pytest.raises(Unsupported) as refused:
        planned(Spec((), "demo-cinema", "in-domain", order="merge", select="last"), knowledge="none")
    assert str(refused.value) == "in in-domain there are no sources whose models could be merged; say another order."


def test_merged_models_predict(planned, tmp_path):
    found = inprocess.run(planned(SEVERAL), tmp_path)

    assert len(found) == len(build(SEVERAL).test.sentences)


# ---- mixed in


def test_explanations_of_other_domains_are_mixed_in_and_fewer_are_inside_more(planned, monkeypatch):
    pool = [Explained(f"s{n}", f"m{n}", "x", f"explained {n}") for n in range(9)]
    monkeypatch.setattr(topt._Stages, "published", lambda self, name: pool)

    few, more = (
        {
            s.words
            for s in planned(mixed=n, mixed_from=["demo-news", "demo-cinema"]).graph()[0].inputs["texts"][1].sentences
        }
        for n in (3, 6)
    )
    assert (len(few), len(more)) == (3, 6)
    assert few < more
    with pytest.raises(Unsupported, match="10 explanations are to be mixed in, and demo-news have 9"):
        planned(mixed=10, mixed_from=["demo-news"])
    with pytest.raises(Unsupported, match="mixed_from names no domain beside the target, demo-cinema; name another"):
        planned(mixed=3, mixed_from=["demo-cinema"])


def test_a_domain_without_explanations_costs_its_cell_and_not_the_board(planned):
    with pytest.raises(Unsupported) as refused:
        planned(mixed=3, mixed_from=["demo-news"])
    assert str(refused.value) == (
        "mixed_from has demo-news, of which no explanations are published: its card names none."
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mixed": 3}, "mixed is a number of explanations, and mixed_from names the domains that they are of."),
        ({"mask_share": 1.0}, "mask_share is a probability, above 0 and under 1; found 1.0."),
        ({"masks": 0}, "masks must be at least 1; found 0."),
        (
            {"knowledge": "none", "mixed": 3, "mixed_from": ["ai"]},
            "explanations of other domains are mixed into explanations; knowledge is 'none', expected published, "
            "generate or a file of them (.json).",
        ),
        ({"temperature": -3.0}, "temperature is -3.0, expected 0 or more, or null for the server's own."),
        ({"top_p": 7.0}, "top_p is 7.0, expected a probability above 0."),
        ({"max_tokens": 0}, "max_tokens is 0, expected 1 or more."),
        ({"local": True}, "a local model needs `model`: a folder or a hub id."),
        (
            {"knowledge": "generate", "boilerplate": ["("]},
            "boilerplate has '(', which is no regular expression: missing ), unterminated subpattern at position 0.",
        ),
        (
            {"knowledge": "generate", "negative": [""]},
            "negative has an empty phrase, which every explanation has; drop it.",
        ),
        (
            {"negative": ["However"]},
            "published explanations are taken as they are; negative and boilerplate clean generated ones and a file's. "
            "Name the published file (`knowledge: .../{target}.json`), and it is cleaned.",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(changed, message):
    with pytest.raises(PlanError) as refused:
        methods.find("topt").settings(changed)
    assert str(refused.value) == f"set: {message}"


# ---- generated


TRAIN = Split(
    "songs",
    "train",
    (
        Sentence("s/0", ("Ada", "sang", "in", "Oslo"), (Span(0, 1, "singer"), Span(3, 4, "city"))),
        Sentence("s/1", ("rain",), ()),
    ),
)


def test_a_language_model_is_asked_about_every_mention(scripted, tmp_path):
    def answer(asked: dict) -> str:
        said = asked["messages"][-1]["content"]
        return (
            "However , I cannot tell ."
            if "Oslo > can" in said
            else "Ada is a song artist , for Ada sang !\nThank you for asking ."
        )

    scripted.answer = answer
    topt.explain(
        Work(tmp_path), train=TRAIN, domain="songs", names=[["singer", "song artist"], ["city", "city"]],
        llm=Llm("m", scripted.url), negative=knowledge.NEGATIVE, boilerplate=knowledge.BOILERPLATE, rules=1,
    )  # fmt: skip

    asked = [request["messages"] for request in scripted.requests]
    assert {m[-1]["content"] for m in asked} == {
        "Take the text < Ada sang in Oslo > and give an explanation of why the text span < Ada > can be labeled as "
        "< song artist > in the domain < songs >.",
        "Take the text < Ada sang in Oslo > and give an explanation of why the text span < Oslo > can be labeled as "
        "< city > in the domain < songs >.",
    }
    [one] = Split.from_jsonl(tmp_path / "split.jsonl").sentences
    assert one.words == ("Ada", "is", "a", "song", "artist", ",", "for", "Ada", "sang", ".")
    assert [x.start for x in one.spans] == [0, 3, 4]
    figures = json.loads((tmp_path / "knowledge.json").read_text())
    assert (figures["explanations"], figures["mentions"], figures["negative"], figures["fail rate"]) == (
        1,
        2,
        1,
        0.5,
    )
    assert len(knowledge.read(tmp_path / "explanations.json")) == 2
    assert "fail rate: 0.5" in (tmp_path / "knowledge.md").read_text()


def test_where_no_answer_explains_it_is_said_of_how_many(scripted, tmp_path):
    scripted.answer = lambda asked: "I cannot tell ."

    with pytest.raises(PlanError) as refused:
        topt.explain(
            Work(tmp_path), train=TRAIN, domain="songs", names=[["singer", "singer"], ["city", "city"]],
            llm=Llm("m", scripted.url), negative=knowledge.NEGATIVE, boilerplate=knowledge.BOILERPLATE, rules=1,
        )  # fmt: skip
    assert str(refused.value) == (
        "none of 2 answers of m explains: each is empty, or has a phrase of `negative`. The answers are kept, so that "
        "other phrases cost nothing."
    )


def test_who_explains_may_run_here_or_choose_its_own_temperature(planned, scripted, t5):
    local = planned(knowledge="generate", local=True, model=str(t5)).graph()[0].inputs["llm"]
    assert (local.base_url, local.folder, bool(local.weights), local.seed) == (LOCAL, str(t5), True, 1)
    asked = planned(knowledge="generate", temperature=None, base_url=scripted.url).graph()[0].inputs["llm"]
    assert (asked.temperature, asked.base_url, asked.top_p, asked.max_tokens) == (None, scripted.url, 0.95, 1024)


def test_generated_explanations_are_learned_from(planned, scripted, tmp_path):
    final = planned(knowledge="generate")
    first = final.graph()[0]

    assert first.step.__name__ == "explain"
    assert isinstance(final.graph()[1].inputs["texts"][0], Made)
    assert len(inprocess.run(final, tmp_path)) > 0
