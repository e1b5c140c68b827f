"""Cards: what they hold, and the sentence in which each kind of wrong card is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import paths
from benchmark.corpus.card import Card, Cut, Format, SourceFile, TypeCard, find_cards, load_card, read_card
from benchmark.errors import CardError, UnknownName

SHA = "9c1f" * 16

HARBOUR = f"""\
name: harbour
version: 2
about: Port news with two maritime entity types.
licence: CC-BY-4.0
cite: "A. Author, Ships at Rest, 2019"
source:
  train: {{url: "https://example.org/harbour/train.txt", sha256: {SHA}}}
  dev: {{cut: 0.1}}
  test: {{path: ports/test.txt}}
format: {{columns: [word, pos, tag], separator: blank, scheme: iob2}}
sizes:
  train: [120, 3120, 341]
types:
  vessel: {{name: ship, general: miscellaneous, means: A named ship; not a class of ship.}}
  port: {{general: location, shares: harbour-town}}
oddities:
  - Dev sentence 88 repeats train sentence 12. Kept, as published work keeps it.
"""

SMALL = """\
name: harbour
source:
  train: {path: train.txt}
  test: {path: test.txt}
types:
  vessel: {general: miscellaneous}
"""


@pytest.fixture(autouse=True)
def no_shipped_cards(tmp_path, monkeypatch):
    """Keep the shipped cards and the user's own out of these tests."""
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    monkeypatch.setattr(paths, "shipped_cards", lambda: shipped)
    monkeypatch.delenv("CDNER_CARDS", raising=False)
    return shipped


def written(folder: Path, text: str, name: str = "harbour") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str) -> str:
    """Return the message about a card, without its path."""
    path = written(folder, text)
    with pytest.raises(CardError) as caught:
        read_card(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def test_a_full_card_is_read_whole(tmp_path):
    path = written(tmp_path, HARBOUR)

    assert read_card(path) == Card(
        name="harbour",
        version=2,
        about="Port news with two maritime entity types.",
        licence="CC-BY-4.0",
        cite="A. Author, Ships at Rest, 2019",
        source={
            "train": SourceFile(
                url="https://example.org/harbour/train.txt", path="harbour/train.txt", embedded=None, sha256=SHA
            ),
            "dev": Cut(0.1),
            "test": SourceFile(path="ports/test.txt"),
        },
        format=Format(columns=("word", "pos", "tag"), separator="blank", scheme="iob2"),
        sizes={"train": (120, 3120, 341)},
        types={
            "vessel": TypeCard("vessel", "ship", "miscellaneous", "A named ship; not a class of ship."),
            "port": TypeCard("port", "port", "location", "", "harbour-town"),
        },
        oddities=("Dev sentence 88 repeats train sentence 12. Kept, as published work keeps it.",),
        path=path,
    )


def test_a_small_card_takes_the_defaults(tmp_path):
    card = read_card(written(tmp_path, SMALL))

    assert (card.version, card.about, card.sizes, card.oddities) == (1, "", {}, ())
    assert card.format == Format(("word", "tag"), "tab", "iob2")
    assert card.source["dev"] is None
    assert card.types["vessel"] == TypeCard("vessel", "vessel", "miscellaneous", "", None)


@pytest.mark.parametrize("dev", ["none", "null", ""])
def test_dev_may_be_none(tmp_path, dev):
    card = read_card(written(tmp_path, SMALL.replace("  test:", f"  dev: {dev}\n  test:")))

    assert card.source["dev"] is None


def test_an_embedded_file_is_pinned_and_lies_beside_its_card(tmp_path):
    text = SMALL.replace("{path: train.txt}", f"{{embedded: demo/train.txt, sha256: {SHA}}}")

    assert read_card(written(tmp_path, text)).source["train"] == SourceFile(embedded="demo/train.txt", sha256=SHA)


def test_identity_is_the_key_unless_the_type_shares_one():
    assert TypeCard("port", "port", "location").identity == "port"
    assert TypeCard("Port", "port", "location").identity == "Port"
    assert TypeCard("port", "port", "location", shares="harbour-town").identity == "harbour-town"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "version: 2",
            "verson: 2",
            ": verson is no field of a card. Did you mean 'version'? "
            "There are: name, version, about, licence, cite, source, format, sizes, types, oddities, knowledge.",
        ),
        ("version: 2", "version: true", ": version is True, expected a whole number, 1 or more."),
        ("version: 2", "version: 0", ": version is 0, expected a whole number, 1 or more."),
        ("version: 2", "version: '2'", ": version is '2', expected a whole number, 1 or more."),
        (
            "name: harbour",
            "zzz: 1",
            ": zzz is no field of a card. There are: name, version, about, licence, cite, "
            "source, format, sizes, types, oddities, knowledge.",
        ),
        ("name: harbour\n", "", ": name is missing. Add it."),
        (
            "name: harbour",
            "name: haven",
            ": name is 'haven', expected the file's own name, 'harbour'. Rename the one or the other.",
        ),
        (
            "name: harbour",
            "name: Harbour",
            ": name is 'Harbour', expected lower-case letters, digits, - and _, beginning with a letter or digit.",
        ),
        (
            "licence: CC-BY-4.0",
            "licence: 4.0",
            ": licence is 4.0, expected text. Put it in quotes if it looks like something else.",
        ),
        (
            "  dev: {cut: 0.1}",
            "  dev: {cut: 1}",
            ": source.dev.cut is 1, expected a share of train between 0 and 1, such as 0.1.",
        ),
        (
            "  dev: {cut: 0.1}",
            "  dev: {cut: 1.5}",
            ": source.dev.cut is 1.5, expected a share of train between 0 and 1, such as 0.1.",
        ),
        (
            "  dev: {cut: 0.1}",
            "  dev: {cut: 0.1, path: dev.txt}",
            ": source.dev.path is no field of a card. There are: cut.",
        ),
        ("  test: {path: ports/test.txt}\n", "", ": source.test is missing. Add it."),
        (
            "  test: {path: ports/test.txt}",
            "  test: none",
            ": source.test is 'none', expected a mapping with the keys url, path, embedded, sha256.",
        ),
        (
            "  test: {path: ports/test.txt}",
            "  test: {}",
            ": source.test is {}, expected a url, a path or an embedded file.",
        ),
        (
            "  test: {path: ports/test.txt}",
            "  test: {path: /etc/test.txt}",
            ": source.test.path is '/etc/test.txt', expected a relative path to a file, with no `..` in it.",
        ),
        (
            "  test: {path: ports/test.txt}",
            "  test: {path: ../test.txt}",
            ": source.test.path is '../test.txt', expected a relative path to a file, with no `..` in it.",
        ),
        (
            "  test: {path: ports/test.txt}",
            "  test: {path: a.txt, embedded: a.txt}",
            ": source.test is {'path': 'a.txt', 'embedded': 'a.txt'}, "
            "expected either an embedded file, or a url and a path.",
        ),
        (
            "  test: {path: ports/test.txt}",
            "  test: {embedded: test.txt}",
            ": source.test.sha256 is missing. A file that is fetched or embedded is pinned.",
        ),
        (f", sha256: {SHA}", "", ": source.train.sha256 is missing. A file that is fetched or embedded is pinned."),
        (SHA, "9C1F", ": source.train.sha256 is '9C1F', expected 64 hexadecimal digits in lower case."),
        (
            '"https://example.org/harbour/train.txt"',
            "ftp://example.org/train.txt",
            ": source.train.url is 'ftp://example.org/train.txt', expected an address that begins with https:// or http://.",
        ),
        ("separator: blank", "separator: comma", ": format.separator is 'comma', expected one of tab, blank."),
        ("scheme: iob2", "scheme: iob1", ": format.scheme is 'iob1', expected one of iob2. Did you mean 'iob2'?"),
        (
            "[word, pos, tag]",
            "[word, tag, tag]",
            ": format.columns is ['word', 'tag', 'tag'], expected a list with word and tag in it, once each.",
        ),
        (
            "[120, 3120, 341]",
            "[120, 3120]",
            ": sizes.train is [120, 3120], expected three numbers: sentences, words, mentions.",
        ),
        ("[120, 3120, 341]", "[120, 3120, x]", ": sizes.train[2] is 'x', expected a whole number, 0 or more."),
        (
            "[120, 3120, 341]",
            "[120, 341, 3120]",
            ": sizes.train is [120, 341, 3120], "
            "expected no more sentences nor mentions than words: sentences, words, mentions.",
        ),
        (
            "  train: [120, 3120, 341]",
            "  dev: [12, 312, 34]",
            ": sizes.dev is given, but the corpus has no dev file. Remove it.",
        ),
        ("general: location, ", "", ": types.port.general is missing. Add it."),
        (
            "general: location",
            "general: locaton",
            ": types.port.general is 'locaton', "
            "expected one of person, organization, location, miscellaneous. Did you mean 'location'?",
        ),
        ("shares: harbour-town", "shares: ''", ": types.port.shares is '', expected the identity that it shares."),
        (
            "shares: harbour-town",
            "shares: vessel",
            ": types.vessel and types.port have the same identity, 'vessel'. "
            "Make them differ, or a prediction could mean either.",
        ),
        (
            "shares: harbour-town",
            "name: ship",
            ": types.vessel and types.port have the same name, 'ship'. "
            "Make them differ, or a prediction could mean either.",
        ),
        ("  port:", "  sea port:", ": types has the key 'sea port', expected a type without blanks."),
        ("  port:", "  no:", ": types.False has a key that is no text. Put it in quotes."),
        (
            "- Dev sentence 88 repeats",
            "- Dev: 88 repeats",
            ": oddities[0] is {'Dev': '88 repeats train sentence 12. Kept, as published work keeps it.'}, "
            "expected text. Put it in quotes if it looks like something else.",
        ),
    ],
)
def test_a_wrong_field_is_refused_with_what_was_expected(tmp_path, old, new, message):
    assert old in HARBOUR

    assert refusal(tmp_path, HARBOUR.replace(old, new, 1)) == message


def test_a_card_without_types_is_refused(tmp_path):
    text = SMALL[: SMALL.index("  vessel")].replace("types:", "types: {}")

    assert refusal(tmp_path, text) == ": types is {}, expected at least one type."


def test_an_empty_card_is_refused(tmp_path):
    assert refusal(tmp_path, "") == (
        ": the card is None, expected a mapping with the keys "
        "name, version, about, licence, cite, source, format, sizes, types, oddities, knowledge."
    )


def test_bad_yaml_is_refused_with_its_line(tmp_path):
    assert refusal(tmp_path, "name: harbour\nabout: ships: at rest\n") == (
        ":2: this is no YAML that a card may hold: mapping values are not allowed here."
    )


def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path):
    assert refusal(tmp_path, f"{SMALL}  vessel: {{general: person}}\n") == (
        ":7: this is no YAML that a card may hold: the key 'vessel' stands twice."
    )


@pytest.mark.parametrize(
    "text",
    [
        "version: 2020-13-45",
        "version: !!int ''",
        "!!map [1]",
        "!!timestamp x",
        "name: !!python/object:os.system x",
        "\0",
    ],
)
def test_yaml_that_trips_its_parser_is_a_card_error(tmp_path, text):
    assert "this is no YAML that a card may hold" in refusal(tmp_path, text)


def test_bytes_that_are_no_utf8_are_a_card_error(tmp_path):
    path = tmp_path / "harbour.yaml"
    path.write_bytes(b"name: \xff\n")

    with pytest.raises(CardError, match="this is no YAML that a card may hold"):
        read_card(path)


def test_cards_are_found_in_the_shipped_and_the_users_folders(tmp_path, no_shipped_cards, monkeypatch):
    shipped = written(no_shipped_cards, SMALL.replace("harbour", "canal"), "canal")
    named = written(tmp_path / "named", SMALL)
    listed = written(tmp_path / "listed", SMALL.replace("harbour", "lake"), "lake")
    monkeypatch.setenv("CDNER_CARDS", str(tmp_path / "listed"))

    assert find_cards((tmp_path / "named",)) == {"canal": shipped, "harbour": named, "lake": listed}
    assert load_card("lake").path == listed


def test_a_folder_named_twice_is_no_clash(tmp_path):
    path = written(tmp_path / "own", SMALL)

    assert find_cards((tmp_path / "own", tmp_path / "own")) == {"harbour": path}


def test_an_own_card_of_a_shipped_name_is_refused(tmp_path, no_shipped_cards):
    shipped = written(no_shipped_cards, SMALL)
    own = written(tmp_path / "own", SMALL)

    with pytest.raises(CardError) as caught:
        load_card("harbour", (tmp_path / "own",))
    assert str(caught.value) == f"{own}: the name 'harbour' is taken by {shipped}. Rename your card and its file."


def test_a_folder_of_cards_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(CardError) as caught:
        find_cards((tmp_path / "nowhere",))
    assert (
        str(caught.value) == f"{tmp_path / 'nowhere'}: there is no such folder of cards. Mend --cards or CDNER_CARDS."
    )


def test_an_unknown_corpus_is_refused_with_the_nearest_and_the_list(tmp_path, no_shipped_cards):
    written(no_shipped_cards, SMALL)
    written(no_shipped_cards, SMALL.replace("harbour", "canal"), "canal")

    with pytest.raises(UnknownName) as caught:
        load_card("harbor")
    assert str(caught.value) == "there is no corpus 'harbor'. Did you mean 'harbour'? There are: canal, harbour."


def test_cards_load_without_the_heavy_packages():
    heavy = "{'torch', 'datasets', 'pooch', 'requests', 'transformers'}"
    code = f"import sys, benchmark.corpus.card, benchmark.corpus.lint; print(sorted({heavy} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], cwd=paths.CHECKOUT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
