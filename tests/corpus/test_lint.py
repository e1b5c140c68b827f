"""The linter: each thing that would make a number lie, in corpora of a few sentences."""

import os
from pathlib import Path

import pytest

from benchmark import paths
from benchmark.corpus.lint import Finding, Report, lint, render
from benchmark.errors import DataError

TRAIN = ["Aurora:vessel left Haven:port", "Rain fell", "Rain fell", "The Borealis"]
DEV = ["Fog rose", "Rain fell"]
TEST = ["AURORA:vessel left Cove:port", "Mist rose"]


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Keep the shipped cards and the user's own data out of these tests, but for those that ask for them."""
    (tmp_path / "shipped").mkdir()
    monkeypatch.setattr(paths, "shipped_cards", lambda: tmp_path / "shipped")
    monkeypatch.setenv("CDNER_CARDS", "")
    monkeypatch.setenv("CDNER_CACHE", str(tmp_path / "cache"))


def write(file: Path, sentences: list[str]) -> None:
    """Write sentences such as `Aurora:vessel left`, one word a mention."""
    file.parent.mkdir(exist_ok=True)
    parts = [[word.partition(":") for word in sentence.split(" ")] for sentence in sentences]
    blocks = ["".join(f"{word}\t{'B-' + type_ if type_ else 'O'}\n" for word, _, type_ in part) for part in parts]
    file.write_text("\n".join(blocks))


def report(tmp_path, train=TRAIN, dev=DEV, test=TEST, card_dev="{path: harbour/dev.txt}", **asked) -> Report:
    for split, sentences in (("train", train), ("dev", dev), ("test", test)):
        write(tmp_path / "harbour" / f"{split}.txt", sentences)
    (tmp_path / "shipped" / "harbour.yaml").write_text(
        "name: harbour\n"
        f"source: {{train: {{path: harbour/train.txt}}, dev: {card_dev}, test: {{path: harbour/test.txt}}}}\n"
        "types: {vessel: {general: miscellaneous}, port: {general: location}}\n"
    )
    return lint("harbour", data=tmp_path, **asked)


def finding(found: Report, code: str) -> Finding | None:
    return next((finding for finding in found.findings if finding.code == code), None)


def test_a_sound_corpus_has_figures_and_no_findings(tmp_path):
    found = report(tmp_path, dev=["Fog rose"])

    assert found.findings == []
    assert found.figures == {
        "train": {"sentences": 4, "words": 9, "mentions": 2, "types": 2},
        "dev": {"sentences": 1, "words": 2, "mentions": 0, "types": 0},
        "test": {"sentences": 2, "words": 5, "mentions": 2, "types": 2, "seen in train": 0.5},
    }


def test_sentences_that_stand_in_two_splits_are_counted(tmp_path):
    found = report(tmp_path, test=[*TEST, "Rain fell", "Fog rose"])

    assert found.findings[:3] == [
        Finding("test-in-train", "warning", "1 sentence of 4 (25.0%) of test stands in train too."),
        Finding("test-in-dev", "warning", "2 sentences of 4 (50.0%) of test stand in dev too."),
        Finding("dev-in-train", "warning", "1 sentence of 2 (50.0%) of dev stands in train too."),
    ]


def test_a_dev_that_is_test_is_told_once(tmp_path):
    found = report(tmp_path, dev=TEST)

    assert found.findings == [
        Finding(
            "dev-is-test",
            "warning",
            "dev and test are the same sentences: whatever is selected on dev is selected on test.",
        )
    ]


@pytest.mark.parametrize("card_dev", ["none", "{cut: 0.5}"])
def test_a_dev_file_that_is_test_is_told_though_the_card_does_not_read_it(tmp_path, card_dev):
    found = report(tmp_path, dev=TEST, card_dev=card_dev)

    assert found.findings == [
        Finding(
            "dev-file-is-test",
            "note",
            f"{tmp_path / 'harbour' / 'dev.txt'} is test.txt to the byte. "
            "The card does not read it; work that selects on it selects on test.",
        )
    ]
    assert found.figures["train"]["sentences"] == 4


def test_sentences_that_only_repeat_are_counted(tmp_path):
    found = report(tmp_path, test=[*TEST, "Mist rose", "Mist rose"])

    assert finding(found, "repeats") == Finding(
        "repeats", "note", "2 sentences of 4 (50.0%) of test only repeat another."
    )


def test_types_of_one_split_only_are_told(tmp_path):
    found = report(tmp_path, dev=["Fog rose"], train=["The Haven:port"], test=["The Aurora:vessel"])

    assert found.findings == [
        Finding("unseen-type", "warning", "in test and never in train, with test mentions: vessel (1)."),
        Finding("untested-type", "note", "never in test, so no score speaks of them: port."),
    ]


def test_a_prior_that_moves_by_points_is_told(tmp_path):
    train = ["a:vessel b:vessel c:vessel d:port"]
    test = ["e:vessel f:port g:port h:port"]

    assert finding(report(tmp_path, train=train, test=test), "prior-shift") == Finding(
        "prior-shift",
        "note",
        "a type's share of all mentions differs from train to test: vessel 75.0% to 25.0%; port 25.0% to 75.0%.",
    )


@pytest.mark.parametrize(("ports", "told"), [(20, True), (19, False)])
def test_a_prior_that_moves_by_a_factor_needs_enough_mentions(tmp_path, ports, told):
    def mentions(vessels, of_port):
        return [f"The x{n}:vessel" for n in range(vessels)] + [f"At y{n}:port" for n in range(of_port)]

    found = report(tmp_path, train=mentions(199, 1), test=mentions(400, ports))

    assert bool(finding(found, "prior-shift")) == told


def test_one_text_with_two_types_is_shown(tmp_path):
    found = report(tmp_path, test=["Haven:port", "old Haven:port", "The Haven:vessel", "Cove:port"])

    assert finding(found, "two-types") == Finding(
        "two-types",
        "note",
        "1 text of 2 (50.0%) in test with more than one type. They are: 'Haven' port 2, vessel 1.",
    )


def test_a_source_tells_what_the_transfer_leaks(tmp_path):
    write(tmp_path / "canal" / "train.txt", ["Mist rose", "The cove:lock", "Fog rose"])
    write(tmp_path / "canal" / "test.txt", ["Rain fell"])
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "canal.yaml").write_text(
        "name: canal\nsource: {train: {path: canal/train.txt}, test: {path: canal/test.txt}}\n"
        "types: {lock: {general: location}}\n"
    )
    found = report(tmp_path, dev=["Fog rose"], cards=(tmp_path / "own",), source="canal")

    assert found.findings == [
        Finding("dev-in-source", "note", "1 sentence of 1 (100.0%) of dev stands in the train split of canal."),
        Finding("test-in-source", "warning", "1 sentence of 2 (50.0%) of test stands in the train split of canal."),
        Finding(
            "mentions-in-source", "note", "1 test mention of 2 (50.0%) has a text that is a mention in train of canal."
        ),
    ]


def test_a_corpus_that_cannot_be_read_raises(tmp_path):
    with pytest.raises(DataError, match="the card has no type 'lock'"):
        report(tmp_path, test=["Cove:lock"])


def test_a_report_is_plain_text_with_warnings_first():
    found = Report("harbour")
    found.figures["train"] = {"sentences": 14_041, "mentions": 23_429}
    found.figures["test"] = {"sentences": 3_453, "mentions": 5_628, "seen in train": 0.554}
    found.note("repeats", "2 sentences of 4 (50.0%) of test only repeat another.")
    found.warn("test-in-train", "1 sentence of 4 (25.0%) of test stands in train too. " + "It is a long story. " * 3)

    assert render(found) == (
        "harbour\n"
        "\n"
        "       sentences  mentions  seen in train\n"
        "train     14,041    23,429              -\n"
        "test       3,453     5,628            55%\n"
        "\n"
        "warning  test-in-train: 1 sentence of 4 (25.0%) of test stands in train too. It is a long story. It\n"
        "         is a long story. It is a long story.\n"
        "note     repeats: 2 sentences of 4 (50.0%) of test only repeat another.\n"
        "\n"
        "1 warning, 1 note\n"
    )


def test_a_report_without_findings_says_so():
    assert render(Report("harbour")).endswith("Nothing to report.\n")


REAL = {  # sentences of test, mentions of test, per cent of them seen in train, test sentences in train and in dev
    "conll2003": (3453, 5628, 55, 126, 50),
    "politics": (651, 4209, 18, 0, 1),
    "science": (543, 3089, 17, 1, 15),
    "music": (465, 3336, 16, 6, 17),
    "literature": (416, 2266, 14, 0, 0),
    "ai": (431, 1809, 26, 0, 4),
    "movie": (1953, 5686, 56, 0, 0),
    "restaurant": (1521, 3151, 75, 0, 0),
}


@pytest.mark.skipif(not os.environ.get("CDNER_DATA"), reason="CDNER_DATA names no folder of corpora")
@pytest.mark.parametrize("name", REAL)
def test_the_real_corpora_are_as_they_were_counted(name, monkeypatch):
    monkeypatch.setattr(paths, "shipped_cards", lambda: paths.CHECKOUT / "datasets")
    if not (Path(os.environ["CDNER_DATA"]) / name / "test.txt").is_file():
        pytest.skip(f"CDNER_DATA holds no {name}")
    found = lint(name)
    test = found.figures["test"]

    def leaked(code):
        told = finding(found, code)
        return int(told.text.split()[0]) if told else 0

    assert (
        test["sentences"],
        test["mentions"],
        round(100 * test["seen in train"]),
        leaked("test-in-train"),
        leaked("test-in-dev"),
    ) == REAL[name]
    assert bool(finding(found, "dev-file-is-test")) == (name in ("movie", "restaurant"))
