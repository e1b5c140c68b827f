"""A board that somebody else made is checked: what does not add up is refused, each thing with its whole message."""

import gzip
import hashlib
import io
import json
import os
import shutil

import pytest
import yaml
from run.conftest import DIRECT, FILM, NEWS, Board

import methods
from benchmark.cli import main
from benchmark.errors import RecordError
from benchmark.redact import MASK
from benchmark.run import untrusted
from benchmark.run.check import check
from benchmark.run.plan import read_board

CELL = f"echo/{NEWS}--{FILM}/supervised/seed1"
HOME = f"echo/--{NEWS}/in-domain/seed1"
PLAN = {"transfers": [DIRECT, {"targets": [NEWS], "select": "last"}]}
ASK = "Ask for the original, or run the cell again."
SUM = "harbour: 2 records of 2 cells, 2 sound, 0 refused, 0 in doubt, 2 scored again"


@pytest.fixture(scope="module")
def made(tmp_path_factory, warm_engine):
    """Return the folder of a board that has run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(methods.METHODS, "echo", "fake_methods:Echo")
        return Board(tmp_path_factory.mktemp("made"), warm_engine)(PLAN).board.folder


class Theirs:
    """A copy of that board, which a test tampers with."""

    def __init__(self, folder):
        self.folder = folder

    def record(self, cell=CELL):
        return self.folder / "records" / f"{cell}.json"

    def predictions(self, cell=CELL):
        return self.folder / "records" / f"{cell}.predictions.jsonl.gz"

    def edit(self, change, cell=CELL):
        """Change a record; `change` is a function that alters it."""
        record = json.loads(self.record(cell).read_text())
        change(record)
        self.record(cell).write_text(json.dumps(record))

    def predict(self, change, cell=CELL):
        """Change the lines of predictions, and tell their new hash."""
        lines = [json.loads(line) for line in gzip.decompress(self.predictions(cell).read_bytes()).splitlines()]
        change(lines)
        self.put("".join(json.dumps(line) + "\n" for line in lines).encode(), cell)

    def put(self, content: bytes, cell=CELL):
        self.put_packed(gzip.compress(content, mtime=0), cell)

    def put_packed(self, packed: bytes, cell=CELL):
        self.predictions(cell).write_bytes(packed)
        self.edit(lambda r: r["predictions"].update(sha256=hashlib.sha256(packed).hexdigest()), cell)

    def said(self, **options):
        """Return the lines of a check."""
        return [f.line for f in check(read_board(str(self.folder)), **options).findings]


@pytest.fixture
def theirs(made, tmp_path, monkeypatch):
    monkeypatch.setitem(methods.METHODS, "echo", "fake_methods:Echo")
    shutil.copytree(made, tmp_path / "harbour")
    return Theirs(tmp_path / "harbour")


def refused(told, cell=CELL):
    return [f"refused   {cell}  {told}"]


def in_doubt(told, cell=CELL):
    return [f"in doubt  {cell}  {told}"]


# ---------------------------------------------------------------------------------------------------- the whole


def test_what_cdner_wrote_is_sound(theirs):
    found = check(read_board(str(theirs.folder)))

    assert found.findings == []
    assert found.summary == SUM
    assert not found.failed(strict=True)


def test_the_command_tells_one_line_a_problem_and_a_summary(theirs, cdner):
    assert cdner("check", theirs.folder) == (0, f"{SUM}\n", "")
    theirs.edit(lambda r: r["cost"].update(alone_seconds=9999.0))

    status, printed, complained = cdner("check", theirs.folder)
    assert (status, complained) == (1, "")
    took = sum(s["seconds"] for s in json.loads(theirs.record().read_text())["stages"])
    assert printed.splitlines() == [
        f"refused   {CELL}  cost: alone_seconds is 9999, and its stages took {took:.1f}. {ASK}",
        "harbour: 2 records of 2 cells, 1 sound, 1 refused, 0 in doubt, 2 scored again",
    ]


def test_json_says_the_same(theirs, cdner):
    theirs.edit(lambda r: r.update(scorer=99))
    status, printed, _ = cdner("check", theirs.folder, "--json")
    told = json.loads(printed)

    assert (status, told["ok"], told["refused"], told["in_doubt"], told["records"], told["rescored"]) == (
        1, False, [CELL], [], 2, 2,
    )  # fmt: skip
    assert told["findings"] == [
        {
            "verdict": "refused",
            "part": "versions",
            "told": "the scorer was 99, it is 1 here. Check it with the cdner that wrote it.",
            "where": [CELL],
        }
    ]


def test_in_doubt_is_no_refusal_unless_strict(theirs, cdner):
    theirs.edit(lambda r: r.update(tide="high"))

    assert cdner("check", theirs.folder)[:2] == (
        0,
        f"in doubt  {CELL}  schema: this version knows no field 'tide', and leaves it unchecked.\n"
        "harbour: 2 records of 2 cells, 1 sound, 0 refused, 1 in doubt, 2 scored again\n",
    )
    assert cdner("check", theirs.folder, "--strict")[0] == 1


def test_records_without_a_plan_are_checked_against_that_of_a_board(theirs, made, cdner):
    (theirs.folder / "plan.yaml").unlink()
    theirs.record(HOME).write_text("{}")

    status, printed, _ = cdner("check", theirs.folder, "--plan", made)
    assert status == 1
    assert printed.splitlines()[0].startswith(f"refused   {HOME}  schema: schema is missing, cell is missing,")
    assert cdner("check", theirs.folder.parent / "nowhere", "--plan", made) == (
        1, "", f"cdner: {theirs.folder.parent / 'nowhere'}: there is no such folder of records.\n",
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------- what is told


def test_a_record_of_another_name_is_refused(theirs):
    theirs.edit(lambda r: r.update(cell="../../etc/passwd"))

    assert theirs.said() == refused("cell: it says it is of '../../etc/passwd'. Put it where its cell's name says.")


def test_a_cell_that_the_plan_has_not_is_said(theirs):
    theirs.record(HOME).with_name("seed2.json").write_bytes(theirs.record(HOME).read_bytes())
    theirs.predictions(HOME).with_name("seed2.predictions.jsonl.gz").write_bytes(theirs.predictions(HOME).read_bytes())
    other = HOME.replace("seed1", "seed2")
    theirs.edit(lambda r: r.update(cell=other, seed=2), other)
    theirs.edit(lambda r: r["predictions"].update(file="seed2.predictions.jsonl.gz"), other)

    assert theirs.said() == in_doubt(
        f"cell: the plan has no such cell, and tables leave it out. Did you mean '{HOME}'?", other
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r["settings"].update(weight=2.0), "settings.weight is 2.0, the plan says 1.0"),
        (lambda r: r["transfer"].update(select="last"), "transfer.select is 'last', the plan says 'target-dev'"),
        (lambda r: r.update(method="tagger"), "method is 'tagger', the plan says 'echo'"),
        (lambda r: r.update(seed=7), "seed is 7, the plan says 1"),
        (lambda r: r.update(draw=7), "draw is 7, the plan says None"),
    ],
)
def test_what_the_plan_says_otherwise_is_refused(theirs, change, told):
    theirs.edit(change)

    assert theirs.said() == refused(f"plan: {told}. It is of another plan: ask for that one.")


def test_a_setting_that_the_plan_changes_and_the_record_lacks_is_refused(theirs):
    plan = yaml.safe_load((theirs.folder / "plan.yaml").read_text())
    plan["variants"]["echo"]["set"] = {"source_weight": 1.0}
    (theirs.folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    theirs.edit(lambda r: r["settings"].pop("source_weight"))

    assert theirs.said() == refused(
        "plan: settings.source_weight is 'missing', the plan says 1.0. It is of another plan: ask for that one."
    )


def test_a_setting_that_nobody_knows_is_in_doubt(theirs):
    theirs.edit(lambda r: r["settings"].update(tide=1))

    assert theirs.said() == in_doubt("plan: it has settings.tide, which this version does not know.")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r.pop("scores"), "it is ok, and has no scores."),
        (lambda r: r.update(reason="so"), "it is ok, and has a reason why it is not."),
        (
            lambda r: r.update(status="failed", reason="", failure={"kind": "error"}),
            "it is failed, and gives no reason.",
        ),
    ],
)
def test_a_status_that_does_not_fit_is_refused(theirs, change, told):
    theirs.edit(change)

    assert theirs.said()[0] == refused(f"status: {told} {ASK}")[0]


def test_a_failed_cell_tells_how(theirs):
    def fail(record):
        for part in ("scores", "errors", "sentences", "predictions"):
            del record[part]
        record.update(status="failed", reason="learn (x): out of memory")

    theirs.edit(fail)
    assert theirs.said() == refused(f"status: it is failed, and does not tell how (`failure.kind`). {ASK}")

    theirs.edit(lambda r: r.update(failure={"kind": "out of memory"}))
    assert theirs.said() == []


def test_a_skipped_cell_that_can_be_run_here_is_in_doubt(theirs):
    def skip(record):
        for part in ("scores", "errors", "sentences", "predictions"):
            del record[part]
        record.update(status="skipped", reason="too far", final=None, stages=[])
        record["cost"].update(alone_seconds=None)

    theirs.edit(skip)
    assert theirs.said() == in_doubt(
        "status: it is skipped, and this version can run it. `cdner run` on that board makes it anew."
    )


# ---------------------------------------------------------------------------------------------------- stages


def test_ingredients_that_were_altered_are_refused(theirs):
    theirs.edit(lambda r: r["stages"][0]["inputs"].update(weight=9.0))
    stage = json.loads(theirs.record().read_text())["stages"][0]

    [first, *_] = theirs.said()
    found = first.partition("made of has ")[2][:32]
    assert (
        first
        == refused(
            f"stages: the stage '{NEWS} seed 1' has the key {stage['key']}, and what it is made of has {found}: one of the "
            f"two was altered. {ASK}"
        )[0]
    )
    assert found != stage["key"]


def test_a_stage_without_its_parent_is_refused(theirs):
    parent = json.loads(theirs.record().read_text())["stages"][0]["key"]
    theirs.edit(lambda r: r["stages"].pop(0))

    assert (
        refused(f"stages: the stage '{FILM} seed 1' needs '{parent}', which is not before it. {ASK}")[0]
        in theirs.said()
    )


def test_a_final_stage_that_is_not_the_last_is_refused(theirs):
    last = json.loads(theirs.record().read_text())["final"]
    theirs.edit(lambda r: r.update(final="0" * 32))

    assert (
        theirs.said()[0]
        == refused(f"stages: its final stage is {'0' * 32}, and the last of its stages is {last}. {ASK}")[0]
    )


def rekeyed(record):
    """Give stages the keys of their ingredients, as a forger would."""
    from benchmark.run.stage import key_of

    new = {}
    for stage in record["stages"]:
        text = json.dumps({part: stage[part] for part in ("step", "code", "inputs")})
        for old, key in new.items():
            text = text.replace(old, key)
        stage.update(json.loads(text))
        new[stage["key"]] = stage["key"] = key_of(json.loads(text))
    record["final"] = record["stages"][-1]["key"]


def test_another_value_in_a_stage_is_refused_though_its_keys_fit(theirs):
    theirs.edit(lambda r: (r["stages"][1]["inputs"].update(weight=9.0), rekeyed(r)))

    assert theirs.said() == refused(
        "ingredients: other ingredients than the plan gives here: learn: .weight: 9.0 -> 1.0. Another value is another "
        "experiment: ask for the plan that it is of."
    )


def test_other_code_is_said_and_no_refusal(theirs):
    theirs.edit(lambda r: (r["stages"][2]["code"].update(tree="1" * 32), rekeyed(r)))

    assert theirs.said() == in_doubt(
        "ingredients: other ingredients than the plan gives here: spot: code (tree). It was made with other code; "
        "`cdner run` would make it anew."
    )


# ---------------------------------------------------------------------------------------------------- versions


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r.update(scorer=0), "the scorer was 0, it is 1 here. `cdner run` on that board scores it again."),
        (
            lambda r: r["corpora"][FILM].update(version=9),
            f"the card of {FILM} had version 9, it has 1 here. `cdner run` on that board makes or scores it again.",
        ),
    ],
)
def test_versions_of_another_day_are_refused(theirs, change, told):
    theirs.edit(change)

    assert theirs.said() == refused(f"versions: {told}")


def test_gold_and_train_of_another_day_are_refused(theirs):
    record = json.loads(theirs.record().read_text())
    train, gold = record["corpora"][FILM]["train"], record["gold"]
    theirs.edit(lambda r: (r.update(gold="0" * 16), r["corpora"][FILM].update(train="1" * 16)))

    assert theirs.said() == [
        *refused(
            f"versions: train of {FILM} is {'1' * 16}, the plan shows {train} here. It learned from other sentences: "
            "ask which."
        ),
        *refused(
            f"versions: it was scored against '{'0' * 16}', gold and cards are {gold} here. `cdner run` on that board "
            "scores it again."
        ),
    ]


# ---------------------------------------------------------------------------------------------------- counts


def test_sentences_that_do_not_sum_up_are_refused(theirs):
    record = json.loads(theirs.record().read_text())
    all_ = record["scores"]["fine"]["strict"]["all"]
    theirs.edit(lambda r: r["sentences"]["fine"].__setitem__(0, [40, *r["sentences"]["fine"][0][1:]]))
    was = record["sentences"]["fine"][0][0]

    assert theirs.said() == [
        *refused(
            f"counts: sentences.fine sum up to {[all_[0] - was + 40, *all_[1:]]}, scores.fine.strict.all is {all_}. {ASK}"
        ),
        *refused(f"scores: sentences.fine.0.0 is 40, and its predictions give {was}. {ASK}"),
    ]


def test_types_that_do_not_sum_up_are_refused(theirs):
    record = json.loads(theirs.record().read_text())
    [(name, was), *_] = record["scores"]["fine"]["conlleval"]["types"].items()
    all_ = record["scores"]["fine"]["conlleval"]["all"]
    theirs.edit(lambda r: r["scores"]["fine"]["conlleval"]["types"].update({name: [was[0], was[1] + 5, was[2]]}))

    assert theirs.said() == [
        *refused(
            f"counts: scores.fine.conlleval.types sum up to {[all_[0], all_[1] + 5, all_[2]]}, and all is {all_}. {ASK}"
        ),
        *refused(
            f"scores: scores.fine.conlleval.types.{name}.1 is {was[1] + 5}, and its predictions give {was[1]}. {ASK}"
        ),
    ]


def test_errors_that_do_not_come_to_the_counts_are_refused(theirs):
    record = json.loads(theirs.record().read_text())
    hit, extra, missed = record["scores"]["general"]["strict"]["all"]
    was = record["errors"]["general"]["missed"]
    theirs.edit(lambda r: r["errors"]["general"].update(missed=was + 1))

    assert theirs.said() == [
        *refused(
            f"counts: errors.general come to {[hit, extra, missed + 1]}, scores.general.strict.all is "
            f"{[hit, extra, missed]}. {ASK}"
        ),
        *refused(f"scores: errors.general.missed is {was + 1}, and its predictions give {was}. {ASK}"),
    ]


def test_scores_that_add_up_and_are_not_those_of_the_predictions_are_refused(theirs):
    """Every hit is moved from one type to none: all sums hold."""

    def boast(record):
        for level in ("fine", "general"):
            for counts in record["scores"][level].values():
                for each in (counts, *({"all": c} for c in counts["types"].values())):
                    each["all"][:] = [each["all"][0], 0, each["all"][2]]
            record["sentences"][level] = [[hit, 0, missed] for hit, _, missed in record["sentences"][level]]
            kinds = record["errors"][level]
            kinds.update(missed=kinds["missed"] + kinds["type"] + kinds["boundary"], type=0, boundary=0, spurious=0)

    strict = json.loads(theirs.record().read_text())["scores"]["fine"]["strict"]["all"]
    assert strict[1] > 0
    theirs.edit(boast)

    assert (
        theirs.said()[0]
        == refused(f"scores: scores.fine.strict.all.1 is 0, and its predictions give {strict[1]}. {ASK}")[0]
    )
    assert all("  scores: " in line for line in theirs.said())


def test_a_protocol_that_is_not_scored_is_in_doubt(theirs):
    theirs.edit(lambda r: [r["scores"][level].pop("token") for level in ("fine", "general")])

    assert theirs.said() == in_doubt("scores: it is not scored under token. `cdner run` on that board does that.")


def test_slices_that_are_not_those_of_the_predictions_are_refused(theirs):
    was = json.loads(theirs.record().read_text())["slices"]["fine"]["span-length"]["1"]
    theirs.edit(lambda r: r["slices"]["fine"]["span-length"].update({"1": [was[0] + 1, *was[1:]]}))

    assert theirs.said() == refused(
        f"scores: slices.fine.span-length.1.0 is {was[0] + 1}, and its predictions give {was[0]}. {ASK}"
    )


def test_a_record_without_slices_is_in_doubt(theirs):
    theirs.edit(lambda r: r.pop("slices"))

    assert theirs.said() == in_doubt("scores: it has no slices. `cdner run` on that board counts them.")


def test_negative_and_endless_costs_are_refused(theirs):
    theirs.edit(lambda r: r["cost"].update(spent_seconds=-3.0))

    assert theirs.said() == refused(
        f"schema: cost.spent_seconds is -3.0: input should be greater than or equal to 0. {ASK}"
    )


# ---------------------------------------------------------------------------------------------------- predictions


def test_predictions_that_were_altered_are_refused(theirs):
    was = hashlib.sha256(theirs.predictions().read_bytes()).hexdigest()
    theirs.predictions().write_bytes(theirs.predictions().read_bytes() + b"more")
    now = hashlib.sha256(theirs.predictions().read_bytes()).hexdigest()

    assert theirs.said() == refused(
        f"predictions: their sha256 is {now}, the record says {was}. They were altered, or torn. {ASK}"
    )


def test_predictions_that_are_gone_are_refused(theirs):
    theirs.predictions().unlink()

    assert theirs.said() == refused(f"predictions: there is no seed1.predictions.jsonl.gz beside the record. {ASK}")


def test_predictions_elsewhere_are_not_read(theirs):
    theirs.edit(lambda r: r["predictions"].update(file="../../../../etc/passwd"))

    assert theirs.said() == refused(
        "predictions: they are said to lie in '../../../../etc/passwd', expected seed1.predictions.jsonl.gz. " + ASK
    )


def test_predictions_of_another_split_are_refused(theirs):
    theirs.predict(lambda lines: lines[0].update(id=f"{FILM}/train/0"))
    number = len(gzip.decompress(theirs.predictions().read_bytes()).splitlines())

    assert theirs.said() == refused(
        f"predictions: there is one of '{FILM}/train/0', expected ids {FILM}/test/0 to {number - 1}. {ASK}"
    )


def test_too_few_predictions_are_refused(theirs):
    number = len(gzip.decompress(theirs.predictions().read_bytes()).splitlines())
    theirs.predict(lambda lines: lines.pop())

    assert theirs.said() == refused(
        f"predictions: there are {number - 1} predictions and counts of {number}, {number} sentences, test of {FILM} "
        f"has {number}. {ASK}"
    )


def test_a_type_that_the_corpus_has_not_is_refused(theirs):
    theirs.predict(lambda lines: lines[0].update(spans=[[0, 1, "vessel"]]))

    [line] = theirs.said()
    assert line.startswith(
        refused(
            f"predictions: '{FILM}/test/0' has the span [0, 1, 'vessel'], expected positions and a type of {FILM}: "
        )[0]
    )


def test_a_span_that_does_not_fit_its_sentence_is_refused(theirs):
    theirs.predict(lambda lines: lines[0].update(spans=[[0, 10**30, "film"]]))

    [line] = theirs.said()
    assert line.startswith(
        refused(f"predictions: they cannot be scored: {FILM}/test/0: the predicted span (0, {10**30}, 'film')")[0]
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"no gzip", "it cannot be unpacked (Not a gzipped file (b'no'))."),
        (gzip.compress(b"\xff\xfe", mtime=0), "it is no UTF-8 text (invalid start byte at byte 0)."),
        (
            gzip.compress(b"[1]\n", mtime=0),
            "seed1.predictions.jsonl.gz, line 1: found [1], expected an object with `id` and `spans`.",
        ),
    ],
)
def test_predictions_that_cannot_be_read_are_refused(theirs, content, told):
    theirs.put_packed(content)

    assert theirs.said() == refused(f"predictions: {told} {ASK}")


@pytest.mark.parametrize(
    "line", [b'{"id": ' + b"9" * 5000 + b"}", b"[" * 100_000, b'{"id":"a","spans":[],"scores":[1e999]}']
)
def test_lines_made_to_break_a_reader_do_not(theirs, line):
    theirs.put(line)

    [told] = theirs.said()
    assert told.startswith(f"refused   {CELL}  predictions: ")


def test_what_unpacks_without_end_is_not_unpacked(theirs, monkeypatch):
    monkeypatch.setattr(untrusted, "PREDICTIONS_BYTES", 1 << 20)
    monkeypatch.setattr(untrusted.unpacked, "__defaults__", (1 << 20,))
    theirs.put(b"\0" * (8 << 20))

    assert theirs.said() == refused("predictions: it unpacks to more than 1 MiB, which no such file has. " + ASK)


def test_gold_that_is_not_to_be_had_is_said(theirs, tmp_path, monkeypatch, cdner):
    cards = tmp_path / "cards"
    cards.mkdir()
    (cards / "reef.yaml").write_text(
        "name: reef\nversion: 1\nsource: {train: {path: reef/train.txt}, test: {path: reef/test.txt}}\n"
        "types: {vessel: {general: miscellaneous}}\n"
    )
    plan = {"variants": {"echo": {"method": "echo"}}, "transfers": [{"targets": ["reef"], "select": "last"}]}
    (theirs.folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    shutil.move(theirs.folder / "records/echo" / f"--{NEWS}", theirs.folder / "records/echo/--reef")
    shutil.rmtree(theirs.folder / "records/echo" / f"{NEWS}--{FILM}")
    cell = "echo/--reef/in-domain/seed1"
    theirs.edit(
        lambda r: (r.update(cell=cell, corpora={"reef": r["corpora"][NEWS]}), r["transfer"].update(target="reef")), cell
    )
    theirs.predict(lambda lines: [line.update(spans=[]) for line in lines], cell)

    status, printed, _ = cdner("check", theirs.folder, "--cards", cards)
    assert printed.splitlines()[0] == (
        f"in doubt  {cell}  data: ingredients are not compared and predictions not scored again where a file of these "
        "corpora is wanted and not on this machine: reef. Name the folder that holds them, --data DIR or CDNER_DATA; "
        "`cdner lint` says what it is to hold."
    )
    assert not any("not on this machine" in line for line in printed.splitlines()[1:])
    assert status == 0
    assert cdner("check", theirs.folder, "--cards", cards, "--strict")[0] == 1


# ---------------------------------------------------------------------------------------------------- copies, secrets


def test_two_seeds_that_agree_to_the_letter_are_in_doubt(harbour):
    found = check(harbour({"seeds": [1, 2]}).board)

    assert [f.line for f in found.findings] == [
        f"in doubt  {CELL} and 1 more  seeds: seed1, seed2 predict the same to the letter, and their stages differ. That "
        "is so where a method draws nothing; else one is a copy: run one of them again."
    ]


def test_what_is_said_to_be_equal_must_be(theirs):
    theirs.edit(lambda r: (r.update(equal=HOME), r["cost"].update(spent_seconds=0.0)))

    assert theirs.said() == refused(f"equal: its predictions are said to be those of '{HOME}', and are not. {ASK}")
    theirs.edit(lambda r: r.update(equal="lookup/gone"))
    assert theirs.said() == in_doubt("equal: its predictions are said to be those of 'lookup/gone', which is not here.")


def test_a_key_in_a_record_is_refused_and_not_shown(theirs):
    secret = "sk-ab12cd34ef56gh78ij90"
    theirs.edit(lambda r: r.update(backbone=secret))

    lines = theirs.said()
    assert lines[0] == refused("secrets: it holds what looks like a key of an API. Take it out, and renew that key.")[0]
    assert (
        lines[1]
        == refused(f"plan: backbone is '{MASK}', the plan says 'none'. It is of another plan: ask for that one.")[0]
    )
    assert not any(secret in line for line in lines)


def test_words_of_a_corpus_in_a_record_are_refused(theirs):
    from benchmark.corpus.corpus import load

    words = next(s.words for s in load(FILM).test.sentences if sum(w.isalpha() and len(w) > 1 for w in s.words[:6]) > 2)
    assert len(words) > 6
    theirs.edit(lambda r: r["provenance"].update(note=" ".join(words[:6])))

    assert theirs.said() == refused(
        f"words: it holds 1 run of 6 words of {FILM}. Take them out: it is not ours to pass on."
    )


# ---------------------------------------------------------------------------------------------------- hostile files


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"\xff", "it is no UTF-8 text (invalid start byte at byte 0)."),
        (b"{", "it is no JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))."),
        (b'{"cell": 1, "cell": 2}', "it is no JSON (the key 'cell' stands twice)."),
        (b'{"seed": NaN}', "it is no JSON (NaN is no finite number)."),
        (b'{"seed": 1e999}', "it is no JSON (1e999 is no finite number)."),
        (b"[" * 100_000, "it is nested without end."),
        (b"[" * 80 + b"]" * 80, "it is nested without end."),
        (
            b'{"seed": ' + b"9" * 5000 + b"}",
            "it is no JSON (Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits; use "
            "sys.set_int_max_str_digits() to increase the limit).",
        ),
    ],
)  # fmt: skip
def test_a_record_that_is_no_json_is_refused(theirs, text, told):
    theirs.record().write_bytes(text)

    assert theirs.said() == refused(f"json: {told} {ASK}")


def test_a_record_of_the_wrong_kind_is_refused(theirs):
    theirs.record().write_text("[1]")

    assert theirs.said() == refused(f"schema: it is [1], expected an object with the fields of a record. {ASK}")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r.update(seed="one"), "seed is 'one': input should be a valid integer."),
        (lambda r: r.update(seed=10**40), f"seed is {10**40}: input should be less than or equal to 1000000000000."),
        (lambda r: r.update(stages=[3]), "stages.0 is 3: input should be a valid dictionary or instance of _stage."),
        (lambda r: r.pop("cost"), "cost is missing."),
        (lambda r: r["scores"]["fine"]["strict"].update(all=[1, 2]),
         "scores.fine.strict.all is [1, 2]: list should have at least 3 items after validation, not 2."),
    ],
)  # fmt: skip
def test_fields_of_the_wrong_kind_are_refused(theirs, change, told):
    theirs.edit(change)

    assert theirs.said() == refused(f"schema: {told} {ASK}")


def test_a_record_of_a_newer_cdner_is_refused(theirs):
    theirs.edit(lambda r: r.update(schema=77))

    assert theirs.said() == refused(
        "schema: it has schema 77, this version reads up to 2. A newer cdner wrote it: check it with that one."
    )


def test_links_are_not_followed(theirs, tmp_path):
    secret = tmp_path / "secret.json"
    theirs.record().rename(secret)
    theirs.record().symlink_to(secret)
    (theirs.folder / "records" / "more").symlink_to(tmp_path)

    assert theirs.said() == [
        f"refused   records/more  file: it is a link, to {str(tmp_path)!r}. Put the folder itself there.",
        f"refused   records/{CELL}.json  file: it is a link, to {str(secret)!r}. Put the file itself there.",
        f"in doubt  records/{CELL}.predictions.jsonl.gz  file: there is no record beside these predictions. Remove them.",
    ]


def test_a_pipe_in_the_place_of_a_record_is_not_waited_for(theirs):
    theirs.record().unlink()
    os.mkfifo(theirs.record())

    assert theirs.said()[0] == (f"refused   records/{CELL}.json  file: it is no regular file. Remove it.")


def test_names_that_are_no_text_are_shown_without_harm(theirs):
    odd = os.fsencode(theirs.folder / "records") + b"/od\xff\x1b[2J"
    with open(odd, "wb"):
        pass

    assert theirs.said() == [
        "in doubt  records/od\\udcff\\x1b[2J  file: it is no record, nor predictions of one. Remove it."
    ]


def test_a_file_that_is_too_large_is_not_read(theirs, monkeypatch):
    monkeypatch.setattr(untrusted, "RECORD_BYTES", 1 << 20)
    theirs.record().write_bytes(b" " * (3 << 20))

    assert theirs.said() == refused("file: it has more than 1 MiB, which no such file has. " + ASK)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &a [1, 1]\n" + "".join(f"b{n}: &b{n} [{'*a' if n == 0 else f'*b{n - 1}'}" + f", *{'a' if n == 0 else f'b{n - 1}'}" * 9 + "]\n" for n in range(9)),
         "its aliases, written out, make more than 100000 values."),
        (yaml.safe_dump({"variants": {"a": {}}, "seeds": list(range(3000)), "transfers": [{"targets": list("x" * 400)}]}),
         "it asks for 1200000 cells, and 1000000 are the most that is read."),
    ],
)  # fmt: skip
def test_a_plan_without_end_is_refused(theirs, cdner, text, told):
    (theirs.folder / "plan.yaml").write_text(text)

    assert cdner("check", theirs.folder) == (1, "", f"cdner: {theirs.folder / 'plan.yaml'}: {told}\n")


def test_a_plan_that_is_a_link_is_refused(theirs, tmp_path):
    (theirs.folder / "plan.yaml").rename(tmp_path / "plan.yaml")
    (theirs.folder / "plan.yaml").symlink_to(tmp_path / "plan.yaml")

    with pytest.raises(RecordError) as caught:
        untrusted.check_plan(theirs.folder)
    assert str(caught.value) == (
        f"{theirs.folder / 'plan.yaml'}: it is a link, to {str(tmp_path / 'plan.yaml')!r}. Put the file itself there."
    )


# ---------------------------------------------------------------------------------------------------- tables


def test_committed_tables_are_compared_whatever_the_board_is_called(theirs, cdner):
    main(["table", str(theirs.folder), "--write"])
    moved = theirs.folder.rename(theirs.folder.with_name("other"))
    assert cdner("check", moved)[:2] == (0, SUM.replace("harbour", "other") + "\n")

    (moved / "table.csv").write_text("tagger,99.9\n")
    assert cdner("check", moved)[:2] == (
        1,
        "refused   table.csv  tables: it is not what the records say. `cdner table other --write` writes it.\n"
        + SUM.replace("harbour", "other")
        + "; 1 other file refused\n",
    )


def test_unpacking_takes_no_more_than_it_is_told():
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as stream:
        stream.write(b"0" * 100)

    assert untrusted.unpacked(packed.getvalue(), 100) == b"0" * 100
    with pytest.raises(RecordError):
        untrusted.unpacked(packed.getvalue(), 99)
