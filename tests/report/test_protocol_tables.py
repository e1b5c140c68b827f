"""One set of predictions under several protocols, and what the rule alone is worth."""

import csv
import io
import json

import pytest
from fake_records import Planned, counts, ended, ok

from benchmark.cli import PROTOCOLS as HELP
from benchmark.cli import main
from benchmark.errors import UnknownName
from benchmark.report.layout import DASH, tables
from benchmark.report.render import render
from benchmark.report.rows import protocol_rows
from benchmark.score.protocols import PROTOCOLS


def scored(cell, **f1):
    """Return a cell and a record whose F1 under each protocol is as given."""
    part = {name.replace("_", "-"): {"all": counts(value), "types": {"O": counts(value)}} for name, value in f1.items()}
    return cell, ok(cell, 0, scores={"fine": part, "general": part})


BOARD = [
    scored(Planned("tagger", "ai", 1), strict=50, conlleval=46, topt=60, token=90),
    scored(Planned("tagger", "ai", 2), strict=52, conlleval=48, topt=64, token=92),
    scored(Planned("laner", "ai", 1), strict=54, conlleval=54, topt=61, token=88),
    scored(Planned("laner", "ai", 2), strict=54, conlleval=54, topt=61, token=88),
]
NAMES = ["strict", "conlleval", "topt", "token"]


def made(board, names=NAMES, **more):
    return protocol_rows([cell for cell, _ in board], [r for _, r in board if r], protocols=names, **more)


def printed(board, names=NAMES, format="markdown", **more):
    return render(made(board, names), format, **more)


def test_a_row_has_the_mean_of_each_protocol_and_the_spread_of_those_over_mentions():
    tagger, laner = made(BOARD)

    assert tagger.scores == pytest.approx({"strict": 51, "conlleval": 47, "topt": 62, "token": 91})
    assert tagger.stds["topt"] == pytest.approx(8**0.5)
    assert tagger.scored == dict.fromkeys(NAMES, 2)
    assert (tagger.spread, laner.spread) == pytest.approx((62 - 47, 61 - 54))


def test_all_protocols_are_the_default():
    assert list(made(BOARD, [])[0].scores) == list(PROTOCOLS)


def test_a_protocol_that_is_named_twice_is_one_column():
    assert list(made(BOARD, ["topt", "strict", "topt"])[0].scores) == ["topt", "strict"]


def test_an_unknown_protocol_is_refused():
    with pytest.raises(UnknownName) as caught:
        made(BOARD, ["strict", "top"])

    assert str(caught.value) == (f"there is no protocol 'top'. Did you mean 'topt'? There are: {', '.join(PROTOCOLS)}.")


def test_there_is_no_spread_of_one_protocol_over_mentions():
    assert made(BOARD, ["strict", "token"])[0].spread is None
    assert [head.word for head in tables(made(BOARD, ["strict", "token"]))[0].heads] == ["variant", "strict", "token"]


def test_a_table_has_variants_as_rows_and_protocols_as_columns():
    assert printed(BOARD) == (
        "**F1 by protocol · fine types · conll2003 → ai · supervised · selected on target-dev**\n"
        "\n"
        "| variant   |    strict |   conlleval |      topt |     token |   spread |\n"
        "|:----------|----------:|------------:|----------:|----------:|---------:|\n"
        "| tagger    |     51.00 |       47.00 | **62.00** | **91.00** |    15.00 |\n"
        "| laner     | **54.00** |   **54.00** |     61.00 |     88.00 |     7.00 |\n"
        "\n"
        "- columns: strict, conlleval: spans by position; topt: texts, wherever they stand; token: tags of words. "
        "A column compares with published numbers of its own rule alone\n"
        "- spread: largest less smallest over strict, conlleval, topt; what the rule alone is worth, in points of F1\n"
        "- topt: no F1, for a hit counts its words and a miss is one; over 100 is possible\n"
        "- token: the mean F1 of tags, O among them; no part of the spread, for it counts words\n"
        "\n"
        "2 seeds · backbone minilm · corpora v1 · scorer v1\n"
    )


def test_each_target_is_a_table_of_its_own():
    films = [scored(Planned("tagger", "movie", n), strict=70, topt=80) for n in (1, 2)]

    titles = [table.title for table in tables(made([*BOARD, *films], ["strict", "topt"]))]

    assert [title.split(" · ")[2] for title in titles] == ["conll2003 → ai", "conll2003 → movie"]


def test_a_protocol_that_nothing_is_scored_under_is_a_dash_and_a_note():
    old = [scored(Planned("old", "ai", n), strict=40, conlleval=40, token=80) for n in (1, 2)]
    table = tables(made([*BOARD, *old]))[0]

    assert [entry.word or entry.number[0] for entry in table.lines[2]] == [
        "old", "40.00", "40.00", DASH, "80.00", DASH,
    ]  # fmt: skip
    assert table.notes[0] == (
        DASH,
        "not scored under topt: old (`cdner run` does it, where the corpora are); no spread without every protocol",
    )


def test_protocols_that_no_record_has_say_so_in_one_note():
    table = tables(made(BOARD, ["strict", "cpner", "b2ner"]))[0]

    assert table.notes[0] == (
        DASH,
        "not scored under cpner, b2ner: any variant (`cdner run` does it, where the corpora are); "
        "no spread without every protocol",
    )


def test_a_protocol_of_some_cells_says_of_how_many_and_is_in_no_spread():
    half = [*BOARD[:1], scored(Planned("tagger", "ai", 2), strict=52, conlleval=48, token=92), *BOARD[2:]]
    tagger = made(half)[0]
    table = tables(made(half))[0]

    assert (tagger.scores["topt"], tagger.scored["topt"], tagger.spread) == (60, 1, None)
    assert table.lines[0][3].part == "(1/2)"
    assert ("(n/m)", "n of m cells are scored under this protocol, and the number is theirs") in table.notes


def test_a_row_without_a_number_says_why_once():
    failed = [
        (cell, ended(cell, "failed", "out of memory")) for cell in (Planned("crf", "ai", 1), Planned("crf", "ai", 2))
    ]
    absent = [(Planned("late", "ai", n), None) for n in (1, 2)]
    table = tables(made([*BOARD, *failed, *absent]))[0]

    assert [entry.word for entry in table.lines[2]] == ["crf", "failed", "", "", "", ""]
    assert [entry.word for entry in table.lines[3]] == ["late", DASH, "", "", "", ""]
    assert table.notes[:2] == [("a", "out of memory: crf"), (DASH, "no record yet")]


def test_a_variant_whose_cells_are_not_all_ok_has_its_part_at_its_name():
    late = Planned("tagger", "ai", 3)
    table = tables(made([*BOARD[:2], (late, ended(late, "failed", "time limit"))]))[0]

    assert (table.lines[0][0].part, table.lines[0][0].note) == ("(2/3)", "a")


def test_general_types_are_scored_by_themselves():
    cell, record = scored(Planned("norm", "ai"), strict=70, topt=80)
    record["level"] = "general"
    del record["scores"]["fine"]

    assert made([(cell, record)], types="general")[0].scores["topt"] == pytest.approx(80)
    assert made([(cell, record)])[0].status == "general only"


def test_csv_has_a_column_for_each_protocol_and_json_has_them_nested():
    line = next(csv.DictReader(io.StringIO(printed(BOARD, format="csv"))))
    first = json.loads(printed(BOARD, format="json"))[0]

    assert (line["variant"], float(line["topt"]), float(line["spread"])) == ("tagger", 62, 15)
    assert float(line["topt std"]) == pytest.approx(8**0.5)
    assert line["topt scored"] == "2"
    assert first["scores"] == pytest.approx({"strict": 51, "conlleval": 47, "topt": 62, "token": 91})
    assert first["spread"] == pytest.approx(15)


def test_terminal_and_latex_have_the_same_numbers():
    lines = printed(BOARD, format="terminal", width=120).split("\n")
    assert lines[2].split() == ["variant", *NAMES, "spread"]
    assert lines[4].split() == ["tagger", "51.00", "47.00", "62.00", "91.00", "15.00"]

    latex = printed(BOARD, format="latex")
    assert r"tagger & 51.00 & 47.00 & \textbf{62.00} & \textbf{91.00} & 15.00 \\" in latex
    assert "topt: no F1" in latex


# ---- on the command line

CELL = "lookup/demo-news--demo-cinema/supervised/seed1"


@pytest.fixture
def board(tmp_path):
    folder = tmp_path / "results" / "small"
    (folder / "records" / CELL).parent.mkdir(parents=True)
    transfer = {"sources": ["demo-news"], "targets": ["demo-cinema"], "regime": "supervised"}
    plan = {"variants": {"lookup": {"method": "lookup"}}, "transfers": [transfer], "seeds": [1]}
    (folder / "plan.yaml").write_text(json.dumps(plan))
    cell = Planned("lookup", "demo-cinema", sources=("demo-news",))
    _, record = scored(cell, strict=50, conlleval=48, topt=60)
    sentences = [record["scores"]["fine"]["strict"]["all"]]
    record["sentences"] = {"fine": sentences, "general": sentences}
    (folder / "records" / f"{CELL}.json").write_text(json.dumps(record))
    return str(folder)


def test_table_protocols_prints_all_of_them_or_those_that_are_named(board, capsys):
    assert main(["table", board, "--protocols", "all", "--format", "csv"]) == 0
    heads = capsys.readouterr().out.split("\n")[0].split(",")
    assert [head for head in heads if head in PROTOCOLS] == list(PROTOCOLS)

    assert main(["table", board, "--protocols", "topt, strict", "--format", "markdown"]) == 0
    assert "| lookup    |  60.00 |    50.00 |    10.00 |".replace(" ", "") in capsys.readouterr().out.replace(" ", "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--protocols all --errors", "--errors takes no --protocols"),
        ("--protocols all --audit", "--audit takes no --protocols"),
        ("--protocols all --per-type demo-cinema", "--per-type takes no --protocols"),
        ("--protocols all --worst", "--protocols takes no --worst"),
        ("--protocols all --protocol gliner", "--protocols takes no --protocol"),
        ("--errors --audit", "--errors takes no --audit"),
        ("--errors --per-type demo-cinema --worst", "--errors takes no --per-type and no --worst"),
        ("--audit --per-type demo-cinema", "--audit takes no --per-type"),
        ("--audit --protocol topt", "--audit takes no --protocol"),
        ("--per-type demo-cinema --worst", "--per-type takes no --worst"),
        ("--selection --errors", "--selection takes no --errors"),
        ("--selection --types general", "--selection takes no --types"),
        ("--against published --errors", "--against takes no --errors"),
        ("--against published --per-type demo-cinema --metric recall", "--against takes no --per-type and no --metric"),
        ("--against published --selection --worst", "--against takes no --selection and no --worst"),
        ("--against published --check --types general", "--against --check takes no --types"),
        ("--against published --write --check --protocol topt", "--against --write --check takes no --protocol"),
        ("--check --errors", "--check takes no --errors"),
        ("--write --format latex", "--write takes no --format"),
    ],
)
def test_options_that_a_table_does_not_heed_are_refused(board, options, said, capsys):
    assert main(["table", board, *options.split()]) == 1

    assert capsys.readouterr() == ("", f"cdner: {said}: leave that out.\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--metric recall", "--metric recall is of types: say --per-type TARGET too."),
        ("--worst --format csv", "--worst marks lines of a table, and csv has numbers alone: leave one of them out."),
        ("--per-type berlin", "there is no target 'berlin'. There are: demo-cinema."),
        (
            "--per-type demo-cinem",
            "there is no target 'demo-cinem'. Did you mean 'demo-cinema'? There are: demo-cinema.",
        ),
    ],
)
def test_what_else_a_table_cannot_show_is_told(board, options, said, capsys):
    assert main(["table", board, *options.split()]) == 1

    assert capsys.readouterr() == ("", f"cdner: {said}\n")


@pytest.mark.parametrize(
    "options",
    [
        "--errors --types general --format csv", "--per-type demo-cinema --protocol conlleval --format json",
        "--per-type demo-cinema --metric recall", "--protocol topt --format latex", "--worst --types general",
        "--against published --protocol strict --format csv", "--protocols strict,topt --types general",
    ],
)  # fmt: skip
def test_options_that_a_table_heeds_are_taken(board, options):
    assert main(["table", board, *options.split()]) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--target demo-cinema --target berlin", "there is no target 'berlin'. There are: demo-cinema."),
        ("--variant look* --variant tagger", "no variant of small fits --variant tagger. There are: lookup."),
    ],
)
def test_ranks_of_what_is_not_there_are_refused(board, options, said, capsys):
    assert main(["ranks", board, *options.split()]) == 1

    assert capsys.readouterr() == ("", f"cdner: {said}\n")


def test_help_names_every_protocol():
    first, *rest = HELP.replace(" or ", ", ").split(", ")

    assert [first.removesuffix(" (default)"), *rest] == list(PROTOCOLS)
