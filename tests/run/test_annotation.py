"""Words of train that a model is unsure of are given to an annotator."""

import json
import re

import pytest
import yaml
from scripted import says

import methods
from benchmark.corpus.corpus import Sentence, Split
from benchmark.corpus.transfer import Annotation, Spec, build
from benchmark.errors import PlanError, Unsupported
from benchmark.llm.model import Llm
from benchmark.run import annotation
from benchmark.run.annotation import Doubted, Filled, annotate, by_llm, question, read_file, write_file
from benchmark.run.stage import Made, Stage, pack, unpack
from benchmark.score.protocols import Prediction, write_predictions
from benchmark.score.spans import Span, to_tags
from benchmark.work import Work

NEWS, FILM = "demo-news", "demo-cinema"
TYPES = {"port": "a place for ships", "vessel": ""}
WORDS = Split(
    "harbour",
    "train",
    (
        Sentence("h/0", ("Aurora", "left", "New", "Haven"), None),
        Sentence("h/1", (), None),
        Sentence("h/2", ("#", "fog"), None),
    ),
)
GOLD = Split(
    "harbour", "train",
    (
        Sentence("h/0", WORDS.sentences[0].words, (Span(0, 1, "vessel"), Span(2, 4, "port"))),
        *(Sentence(s.id, s.words, ()) for s in WORDS.sentences[1:]),
    ),
)  # fmt: skip
UNSURE = Doubted(WORDS.sentences[0], ("O", "O", "O", "B-port"), (2.5, 0.1, 2.1, 0.3), (0, 2))
SURE = Doubted(WORDS.sentences[2], ("O", "O"), (0.1, 2.0), ())


def doubt(folder):
    """Write what a doubting tagger writes, and return its folder."""
    folder.mkdir(parents=True)
    found = [Prediction("h/0", (Span(3, 4, "port"),)), Prediction("h/1", ()), Prediction("h/2", ())]
    write_predictions(folder / "predictions.jsonl", found)
    lines = [["h/0", [2.5, 0.1, 2.1, 0.3], [9.0, 1.0, 1.0, 1.0]], ["h/1", [], []], ["h/2", [0.1, 2.0], [1.0, 1.0]]]
    (folder / "doubt.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def annotated(tmp_path, **changed):
    """Run the step; return the tags of each sentence, and what it tells."""
    inputs = {
        "doubt": doubt(tmp_path / "doubt"), "words": WORDS, "measure": "entropy", "threshold": 2.0, "start": None,
        "oracle": None, "llm": None, "types": None, "filled": None,
    }  # fmt: skip
    (tmp_path / "out").mkdir()
    annotate(Work(folder=tmp_path / "out"), **{**inputs, **changed})
    made = Split.from_jsonl(tmp_path / "out" / "split.jsonl")
    told = json.loads((tmp_path / "out" / "annotation.json").read_text())
    assert [s.words for s in made.sentences] == [s.words for s in WORDS.sentences]
    return [to_tags(len(s.words), s.spans) for s in made.sentences], told


# ---------------------------------------------------------------------------------------------- the step


def test_the_oracle_labels_the_words_above_the_threshold_and_no_other(tmp_path):
    tags, told = annotated(tmp_path, oracle=GOLD)

    assert tags == [["B-vessel", "O", "B-port", "B-port"], [], ["O", "O"]]  # the last word was sure, and is wrong
    assert told == {
        "words": 6, "unsure": 2, "annotated": 2, "changed": 2, "right_before": 3, "right_after": 5
    }  # fmt: skip


def test_by_nobody_the_labels_of_the_model_stay(tmp_path):
    tags, told = annotated(tmp_path)

    assert tags == [["O", "O", "O", "B-port"], [], ["O", "O"]]
    assert told == {"words": 6, "unsure": 2, "annotated": 0, "changed": 0}


def test_a_threshold_of_0_gives_every_doubted_word_to_the_annotator(tmp_path):
    tags, told = annotated(tmp_path, oracle=GOLD, threshold=0.0)

    assert tags == [to_tags(len(s.words), s.spans) for s in GOLD.sentences]
    assert told["unsure"] == told["words"] == told["right_after"]


def test_doubt_is_measured_as_asked(tmp_path):
    tags, told = annotated(tmp_path, oracle=GOLD, measure="surprisal", threshold=2.0)

    assert told["unsure"] == 1
    assert tags[0] == ["B-vessel", "O", "O", "B-port"]


def test_labels_may_start_with_gold_and_an_inner_tag_that_stands_alone_begins_a_mention(tmp_path):
    tags, told = annotated(tmp_path, start=GOLD, filled={"h/0": {"2": "O"}})

    assert tags[0] == ["B-vessel", "O", "O", "B-port"]
    assert told["changed"] == 1


# ---------------------------------------------------------------------------------------------- a language model


def test_a_language_model_is_asked_about_the_sentences_with_unsure_words(scripted, tmp_path):
    scripted.faults += [says("0: B-vessel\n2: `B-port`")]

    given = by_llm(Work(folder=tmp_path), Llm("m", scripted.url), TYPES)([UNSURE, SURE])

    assert given == {"h/0": {0: "B-vessel", 2: "B-port"}}
    [asked] = scripted.requests
    assert asked["messages"][0]["content"] == question(UNSURE, TYPES)
    assert "Aurora[0] left New[2] Haven\n" in question(UNSURE, TYPES)
    assert "- port: a place for ships\n- vessel\n" in question(UNSURE, TYPES)
    assert "B-port" not in question(UNSURE, TYPES)  # the tag so far would lead it


def test_an_answer_that_lacks_a_word_is_asked_for_again_once(scripted, tmp_path):
    scripted.faults += [says("0: B-vessel\n2: B-harbour"), says("0: O\n2: perhaps a port")]

    given = by_llm(Work(folder=tmp_path), Llm("m", scripted.url), TYPES)([UNSURE])

    assert given == {"h/0": {0: "O"}}
    assert scripted.requests[1]["messages"][-1]["content"] == (
        "No tag could be read for 2. Answer again, one line for each numbered word, such as `2: B-port` or `2: O`."
    )


# ---------------------------------------------------------------------------------------------- a person's file


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "deep" / "seed1.conll"
    write_file(path, "a/cell", [UNSURE, Doubted(WORDS.sentences[1], (), (), ()), SURE], TYPES, "entropy", "k1")
    return path


def test_a_file_marks_the_unsure_words(file):
    head, _, body = file.read_text().partition("\n\n")

    assert all(line.startswith("# ") for line in head.splitlines())
    assert "#   port: a place for ships" in head
    assert body == "Aurora\t?\tO\t2.50\nleft\tO\nNew\t?\tO\t2.10\nHaven\tB-port\n\n#\tO\nfog\tO\n"
    assert read_file(file, WORDS, TYPES, "k1") == Filled({}, 2, 0, first=8)


def test_a_file_is_read_back(file):
    file.write_text(file.read_text().replace("Aurora\t?", "Aurora\tB-vessel").replace("left\tO", "left\tB-port"))

    found = read_file(file, WORDS, TYPES, "k1")

    assert found == Filled({"h/0": {0: "B-vessel"}}, 1, 1, first=10)
    assert found.marked == 2


def test_a_file_saved_with_other_line_ends_is_read(file):
    file.write_bytes(file.read_text().replace("?", "O").replace("\n", "\r\n").encode())

    assert read_file(file, WORDS, TYPES, "k1") == Filled({"h/0": {0: "O", 2: "O"}}, 0, 0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Aurora\t?", "Aurora\tB-vesel", r":8: the tag 'B-vesel' is none. Did you mean 'B-vessel'\? Tags are O, and B- or I- with port, vessel."),
        ("New\t?", "Old\t?", r":10: found 'Old', expected 'New' \(word 3 of h/0\) and a tag behind a tab. Only tags may be changed; move the file away, and `cdner annotate` writes it anew."),
        ("\nfog\tO", "", r":14: found '', expected 'fog' \(word 2 of h/2\)"),
        ("\t?\tO\t2.10", "\tB-port", r": 2 words were marked, and 1 are. Leave the columns behind a tag as they are: they tell which words were marked."),
        ("by k1", "by k2", r":1: the words were marked by another model than this cell has now. Move the file away, and `cdner annotate` writes it anew."),
        ("fog\tO\n", "fog\tO\n\nmist\tO\n", r":16: harbour train has no more sentences, and the file goes on."),
    ],
)  # fmt: skip
def test_a_file_that_is_not_of_these_words_is_refused_with_its_line(file, old, new, message):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))

    with pytest.raises(PlanError, match=message):
        read_file(file, WORDS, TYPES, "k1")


def test_no_file_is_none(tmp_path):
    assert read_file(tmp_path / "none.conll", WORDS, TYPES, "k1") is None


# ---------------------------------------------------------------------------------------------- the plan


def planned(by, tmp_path, name="tagger", **changed):
    method = methods.find(name)()
    transfer = build(Spec((NEWS,), FILM, annotate=Annotation(by, **changed)))
    return annotation.planned(method, transfer, method.settings({"encoder": "rnn"}), 1, tmp_path / "seed1.conll")


def test_the_model_that_doubts_knows_the_sources_alone(tmp_path):
    final = planned("oracle", tmp_path)

    [step] = [s for s in final.graph() if s.step is annotate]
    learned = {x.corpus for s in step.inputs["doubt"].graph() for x in s.splits if x.mentions}
    assert learned == {NEWS}
    assert step.inputs["doubt"].inputs["words"].name == "train"


def test_where_train_starts_with_gold_the_model_that_doubts_has_learned_it(tmp_path, monkeypatch):
    monkeypatch.setenv("CDNER_LLM_MODEL", "m")
    final = planned("llm", tmp_path, start="gold")

    [step] = [s for s in final.graph() if s.step is annotate]
    assert {x.corpus for s in step.inputs["doubt"].graph() for x in s.splits if x.mentions} == {NEWS, FILM}
    assert step.inputs["start"].mentions > 0
    assert step.inputs["oracle"] is None


def test_the_threshold_and_the_annotator_are_part_of_the_key(tmp_path):
    assert len({planned(by, tmp_path, threshold=t).key for by in ("oracle", "nobody") for t in (1.0, 2.0)}) == 4


def test_general_types_are_annotated_with_general_types(tmp_path):
    final = planned("oracle", tmp_path, name="label_norm")

    [step] = [s for s in final.graph() if s.step is annotate]
    assert {span.type for s in step.inputs["oracle"].sentences for span in s.spans} == {
        "person", "organization", "location", "miscellaneous"
    }  # fmt: skip


def test_a_language_model_must_be_named(tmp_path, monkeypatch):
    monkeypatch.delenv("CDNER_LLM_MODEL", raising=False)
    with pytest.raises(Unsupported, match="annotate: by llm names no model; say `model`, or set CDNER_LLM_MODEL"):
        planned("llm", tmp_path)


def test_a_person_who_has_not_begun_is_waited_for(tmp_path):
    with pytest.raises(Unsupported, match="no person has labelled its unsure words; `cdner annotate CELL` writes"):
        planned("file", tmp_path)


def test_a_slip_in_a_file_is_told_without_the_folder_it_is_in(tmp_path):
    (tmp_path / "seed1.conll").write_text("# nothing\n")
    with pytest.raises(Unsupported, match=r"^seed1.conll:1: the words were marked by another model"):
        planned("file", tmp_path)


def test_without_a_model_of_the_sources_there_are_no_labels_to_start_from(tmp_path):
    method = methods.find("tagger")()
    settings = method.settings({"encoder": "rnn", "target_only": True})
    transfer = build(Spec((NEWS,), FILM, annotate=Annotation("oracle")))
    with pytest.raises(Unsupported, match="the labels to start from are those of a model of the sources alone: with"):
        annotation.planned(method, transfer, settings, 1, tmp_path / "none.conll")


def test_a_method_that_cannot_tell_its_doubt_says_so(tmp_path):
    method = methods.find("lookup")()
    transfer = build(Spec((NEWS,), FILM, annotate=Annotation("file")))
    with pytest.raises(Unsupported, match="Lookup does not tell how unsure it is of a word"):
        annotation.planned(method, transfer, method.settings({}), 1, tmp_path / "none.conll")


# ---------------------------------------------------------------------------------------------- a split that is made


def nothing(work, **inputs):
    """Do nothing: a step."""


def test_a_made_split_reaches_a_step_whole_and_renamed(tmp_path):
    made = Made("harbour", "train", WORDS.sentences, Stage(nothing, seed=1))
    named = made.relabel({"vessel": "ship", "port": "port"}).relabel({"ship": "thing", "port": None})
    (tmp_path / made.stage.key).mkdir()
    GOLD.to_jsonl(tmp_path / made.stage.key / "split.jsonl")

    request = json.loads(json.dumps(pack([named])))
    [got] = unpack(request, split=None, stage=tmp_path.joinpath)

    assert type(got) is Split
    assert [s.spans for s in got.sentences] == [(Span(0, 1, "thing"),), (), ()]
    assert type(named.words_only()) is Split


def test_the_key_of_a_stage_has_the_stage_that_makes_its_split_and_the_names():
    made = Made("harbour", "train", WORDS.sentences, Stage(nothing, seed=1))
    other = Made("harbour", "train", WORDS.sentences, Stage(nothing, seed=2))
    stages = [Stage(nothing, train=(split,)) for split in (made, other, made.relabel({"vessel": "ship"}))]

    assert len({stage.key for stage in stages}) == 3
    assert [parent.key for parent in stages[0].parents] == [made.stage.key]
    assert stages[0].splits == []
    assert stages[0].key == Stage(nothing, train=(made,)).key


# ---------------------------------------------------------------------------------------------- the command line

SMALL = {"encoder": "rnn", "source_epochs": 3, "epochs": 2, "lr": 3e-3, "batch": 8, "patience": None, "precision": "32"}
PLAN = {
    "variants": {"tagger": {"method": "tagger", "set": SMALL}},
    "transfers": [{"sources": [NEWS], "targets": [FILM], "select": "last",
                   "annotate": {"by": ["nobody", "oracle", "file"], "threshold": [1]}}],
}  # fmt: skip
CELL = f"tagger/{NEWS}--{FILM}/supervised+"


def test_a_board_is_run_with_every_annotator_and_a_person_is_asked(tmp_path, cdner):
    """The whole way: run, write the file, see what is wrong in it, fill it in, run again, report."""
    folder = tmp_path / "results" / "doubts"
    folder.mkdir(parents=True)
    (folder / "plan.yaml").write_text(yaml.safe_dump(PLAN))

    assert cdner("run", folder, "--no-table")[0] == 0
    records = {
        name: json.loads((folder / "records" / f"{CELL}{name}" / "seed1.json").read_text())
        for name in ("nobody", "oracle-1", "file-1")
    }
    assert {name: r["status"] for name, r in records.items()} == {"nobody": "ok", "oracle-1": "ok", "file-1": "skipped"}
    told = records["oracle-1"]["annotation"]
    assert 0 < told["unsure"] == told["annotated"] < told["words"]
    assert told["right_after"] > told["right_before"]
    assert records["oracle-1"]["transfer"]["annotate"]["by"] == "oracle"
    assert records["oracle-1"]["final"] != records["nobody"]["final"]
    status, out, _ = cdner("table", folder)
    assert (status, "supervised+oracle-1" in out) == (0, True)

    status, out, _ = cdner("annotate", f"{folder}/{CELL}file-1/seed1")
    file = folder / "annotations" / f"{CELL}file-1" / "seed1.conll"
    text = file.read_text()
    first = text[: text.index("\t?\t")].count("\n") + 1
    assert status == 0
    assert out.splitlines() == [
        str(file),
        f"{told['unsure']} words to label, 0 labelled, 0 of them not as they were",
        f"to go on: put a tag in the place of each ?, the first in line {first}",
    ]
    file.write_text(re.sub(r"\t\?\t", "\tB-filn\t", text, count=1))
    status, _, err = cdner("annotate", f"{folder}/{CELL}file-1/seed1")
    assert status == 1
    assert "the tag 'B-filn' is none. Did you mean 'B-film'?" in err
    file.write_text(re.sub(r"\t\?\t", "\tB-film\t", text))
    status, out, _ = cdner("annotate", f"{folder}/{CELL}file-1/seed1")
    assert out.splitlines()[2] == f"to go on: cdner run doubts --only '{CELL}file-1/seed1'"

    assert cdner("run", folder, "--no-table")[0] == 0
    record = json.loads((folder / "records" / f"{CELL}file-1" / "seed1.json").read_text())
    assert record["status"] == "ok"
    assert record["annotation"]["annotated"] == told["unsure"]

    status, out, _ = cdner("report", f"{folder}/{CELL}file-1/seed1", "--split", "dev", "--out", tmp_path / "dev.json")
    assert status == 0
    assert "demo-cinema dev, fine types" in out
    assert "note: this dev has chosen" not in out  # select: last
    status, out, _ = cdner("report", f"{folder}/{CELL}oracle-1/seed1", "--types", "general")
    assert (status, "demo-cinema test, general types" in out, "B-organization" in out) == (0, True, True)


def test_a_cell_that_asks_no_person_has_no_file(tmp_path, cdner):
    folder = tmp_path / "results" / "doubts"
    folder.mkdir(parents=True)
    (folder / "plan.yaml").write_text(yaml.safe_dump(PLAN))

    status, _, err = cdner("annotate", f"{folder}/{CELL}oracle-1/seed1")

    assert status == 1
    assert f"{CELL}oracle-1/seed1 asks no person: its transfer needs `annotate: {{by: file}}`." in err
    status, _, err = cdner("report", f"{folder}/{CELL}file-1/seed1")
    assert "is skipped: no person has labelled its unsure words" in err
    status, _, err = cdner("report", f"{folder}/{CELL}oracle-1/seed1", "--out", tmp_path / "x.doc")
    assert "x.doc: expected a name that ends in .md, .csv, .json, .png, .svg, .pdf." in err
    status, _, err = cdner("report", f"{folder}/{CELL}oracle-1/seed1")
    assert status == 1
    assert f"has no good record of what its plan says now; run it first: cdner run doubts --only '{CELL}oracle-1" in err
