"""Published numbers: files read and refused, disagreements found, rows of a board beside them."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from fake_records import Planned, ok

from benchmark.cli import main
from benchmark.corpus.card import find_cards, load_card
from benchmark.errors import PublishedError, UnknownName
from benchmark.report import against, disagreements
from benchmark.report import published as papers
from benchmark.report.disagreements import Bounds, Formula
from benchmark.report.published import Value
from benchmark.report.render import render
from benchmark.report.rows import rows, type_rows
from benchmark.run.plan import boards, read_board

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = sorted((ROOT / "results" / "published").glob("*.yaml"))
TARGETS = {"politics", "science", "music", "literature", "ai"}

HARBOUR = """\
paper: harbour
title: "Spans at Rest"
cite: "A. Author, 2019"
code: null
tables:
  - table: table 1
    caption: Two targets.
    metric: f1
    regime: supervised
    sources: [conll2003]
    order: sequence
    marks: {"*": run by A. Author}
    columns: [ai, music, {name: average, target: average, is: "mean(ai, music)"}]
    rows:
      - {row: Tagger, system: Tagger, cite: "B. Author, 2018", backbone: bert-base-cased, values: "58.88 68.30* 63.59", same: {tagger: {crf: false}}}
      - {row: Ours, system: Harbour, backbone: bert-base-cased, extras: [DAPT], values: "60.1 - -"}
"""


def write(folder: Path, text: str = HARBOUR, name: str = "harbour") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf8")
    return path


def known(folder: Path, text: str = HARBOUR, **others: str) -> papers.Papers:
    write(folder, text)
    for name, other in others.items():
        write(folder, other, name)
    return papers.load([folder])


def found(of: papers.Papers, **cards) -> list[tuple[str, str, str, str]]:
    return [(f.kind, f.cell, f.printed, f.found) for f in disagreements.find(of, cards)]


# ------------------------------------------------------------------------------------------------ what is printed


@pytest.mark.parametrize(
    ("printed", "number", "half"),
    [
        ("71.65", 71.65, 0.005), ("70.0", 70.0, 0.05), ("14,987", 14987, 0.5), ("15.0k", 15000, 50), ("3.1M", 3.1e6, 5e4),
        ("+5.77", 5.77, 0.005), ("-13.85", -13.85, 0.005), ("0.88%", 0.88, 0.005), ("5e-5", 5e-5, 5e-6),
    ],
)  # fmt: skip
def test_a_number_is_what_rounds_to_it(printed, number, half):
    value = Value.of(printed)

    assert value.printed == printed
    assert value.number == pytest.approx(number)
    assert value.half == pytest.approx(half)


def test_a_number_may_have_a_deviation_and_a_mark():
    assert Value.of("68.74±0.4").deviation == 0.4
    assert (Value.of("68.31*").printed, Value.of("68.31*").mark) == ("68.31", "*")
    assert [Value.of(text) for text in ("", "-", "n/a", "12.", "1.2.3", "14,98")] == [None] * 6


def test_a_column_goes_before_its_row_and_a_row_before_its_table(tmp_path):
    text = HARBOUR.replace(
        "columns: [ai, music,", "backbone: a\n    columns: [ai, {name: music, target: music, backbone: c},"
    )
    text = text.replace("backbone: bert-base-cased, values", "backbone: b, values")
    tagger = [n for n in papers.numbers(known(tmp_path, text)) if n.row == "Tagger"]

    assert [(n.column, n.backbone) for n in tagger] == [("ai", "b"), ("music", "c"), ("average", "b")]
    assert [n.mark for n in tagger] == [None, "run by A. Author", None]


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"60.1 - -"', '"60.1 -"', "table 1: table 1, row 'Ours' has 2 values, expected 3: ai, music, average."),
        (
            '"60.1 - -"',
            '"sixty - -"',
            "table 1: table 1, row 'Ours', ai is 'sixty', expected a number as it is printed, such as 71.65, 15.0k, 0.88% "
            "or +5.77, or - where there is none.",
        ),
        ('"60.1 - -"', '"60.1† - -"', "table 1: table 1, row 'Ours', ai has the mark '†', which `marks` does not explain."),
        ("row: Ours", "row: Tagger", "table 1: table 1: rows: 'Tagger' stands twice."),
        ("extras: [DAPT]", "extra: [DAPT]", "table 1, Ours, extra: there is no such field."),
        (
            "extras: [DAPT]",
            "protocol: conleval",
            "table 1, Ours, protocol: there is no protocol 'conleval'. Did you mean 'conlleval'? There are: strict, conlleval, "
            "conlleval-stream, topt, cpner, uniner, b2ner, gliner, token.",
        ),
        ("    caption: Two targets.\n", "", "table 1, caption: it is missing."),
        ("paper: harbour", "paper: haven", "paper is 'haven', expected the file's name, 'harbour'."),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_says_what_and_where(tmp_path, old, new, said):
    path = write(tmp_path, HARBOUR.replace(old, new))

    with pytest.raises(PublishedError) as caught:
        papers.read(path)
    assert str(caught.value) == f"{path}: {said}"


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = write(tmp_path, HARBOUR + "code: null\n")

    with pytest.raises(PublishedError) as caught:
        papers.read(path)
    assert str(caught.value) == f"{path}: line 17: this is no YAML: the key 'code' stands twice."


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ("{where: text, says: s}", "the claim of text needs one of `printed`, `each`, `more` and `of`."),
        ("{where: text, says: s, more: [Ours, Tagger]}", "the claim of text needs `table`."),
        (
            "{where: text, says: s, table: table 1, more: [Our, Tagger]}",
            "a claim of table 1 names 'Our', which is no row and no column there. Did you mean 'Ours'?.",
        ),
    ],
)
def test_a_claim_that_says_nothing_is_refused(tmp_path, claim, said):
    path = write(tmp_path, f"{HARBOUR}claims:\n  - {claim}\n")

    with pytest.raises(PublishedError) as caught:
        papers.read(path)
    assert str(caught.value).endswith(said)


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        (
            "mean(ai, musik)",
            "harbour, table 1, Tagger, average: the formula 'mean(ai, musik)' has 'musik', expected numbers, + - * / and ai, "
            "music, average, target, mean, total, dot, cell, column, sentences, words, mentions, types, labels.",
        ),
        (
            "mean(ai,",
            "harbour, table 1, Tagger, average: the formula 'mean(ai,' cannot be read ('(' was never closed).",
        ),
        (
            "cell('table 9', 'Ours', 'ai')",
            "harbour, table 1, Tagger, average: a formula asks for the table 'table 9', which is not there.",
        ),
        (
            "cell('table 1', 'Hers', 'ai')",
            "harbour, table 1, Tagger, average: a formula asks for table 1, 'Hers', 'ai', which is not there.",
        ),
        ("__import__('os')", None),
    ],
)
def test_a_formula_that_cannot_be_worked_out_says_why(tmp_path, formula, said):
    of = known(tmp_path, HARBOUR.replace("mean(ai, music)", formula))

    with pytest.raises(PublishedError) as caught:
        disagreements.find(of, {})
    assert said is None or str(caught.value) == said


# ------------------------------------------------------------------------------------------------ what disagrees


def work_out(formula: str, **names: str) -> Bounds:
    bounds = {name: Bounds.of(Value.of(printed)) for name, printed in names.items()}
    desk = disagreements.Desk(None, {})
    return Formula(formula, "here").work_out(bounds, desk.functions("here"))


def test_bounds_hold_what_any_digits_behind_the_printed_ones_would_give():
    assert work_out("a - b", a="85.36", b="79.59").low == pytest.approx(5.76)
    assert work_out("a - b", a="85.36", b="79.59").high == pytest.approx(5.78)
    mean = work_out("mean(a, b)", a="1.0", b="2.0")
    assert (mean.low, mean.mid, mean.high) == pytest.approx((1.45, 1.5, 1.55))
    f1 = work_out("2 / (1 / p + 1 / r)", p="0.64", r="0.05")
    assert f1.low < 0.0928 < f1.high
    assert f1.meets(Bounds.of(Value.of("0.10")))


def test_an_average_that_rounding_explains_is_no_finding(tmp_path):
    assert found(known(tmp_path)) == []
    assert found(known(tmp_path, HARBOUR.replace("63.59", "63.60"))) == []
    assert found(known(tmp_path, HARBOUR.replace("63.59", "63.61"))) == [
        ("itself", "Tagger, average", "63.61", "63.59")
    ]


def test_a_size_that_the_card_does_not_have_is_found(tmp_path):
    sizes = """\
  - table: table 2
    caption: Sizes.
    columns: [{name: test, metric: sentences, split: test, is: "sentences(target, 'test')"}]
    rows: [{row: AI, target: ai, values: "432"}, {row: Elsewhere, target: elsewhere, values: "1"}]
"""
    cards = {name: load_card(name) for name in ("ai",)}

    assert found(known(tmp_path, HARBOUR + sizes), **cards) == [("data", "AI, test", "432", "431")]
    assert found(known(tmp_path, HARBOUR + sizes.replace("432", "0.4k")), **cards) == []


def test_what_the_text_says_is_worked_out_from_its_tables(tmp_path):
    gain = "cell('table 1', 'Ours', 'ai') - cell('table 1', 'Tagger', 'ai')"
    claims = f"""\
claims:
  - {{where: section 1, says: much better, printed: "1.2", is: "{gain}"}}
  - {{where: section 2, says: even better, printed: "2.2", is: "{gain}"}}
  - {{where: section 3, says: ours is best, table: table 1, more: [Tagger, Ours]}}
  - {{where: section 4, of: what helps, says: X helps, stated: X}}
  - {{where: section 5, of: what helps, says: Y helps, stated: Y}}
"""
    assert found(known(tmp_path, HARBOUR + claims)) == [
        ("text", "text", "2.2", "1.2"),
        ("text", "Tagger, ai", "58.88", "60.1 (Ours)"),
        ("text", "what helps", "“Y helps”", "“X helps” (section 4)"),
    ]


def test_one_system_that_two_tables_or_two_papers_print_differently_is_found(tmp_path):
    table = "  - table: table 2\n" + HARBOUR.split("  - table: table 1\n")[1]
    again = HARBOUR + table.replace("58.88 68.30* 63.59", "58.89 68.3 63.6")
    other = HARBOUR.replace("paper: harbour", "paper: haven").replace("60.1 - -", "60.12 - -")
    lines = found(known(tmp_path, again, haven=other.replace("68.30*", "68.40").replace("63.59", "63.64")))

    assert lines == [
        ("itself", "Tagger, ai", "58.89", "58.88 (table 1, Tagger)"),
        ("papers", "Tagger, ai", "58.88", "58.89 (harbour, table 2, Tagger)"),
        ("papers", "Tagger, music", "68.40", "68.30 (harbour, table 1, Tagger)"),
        ("papers", "Tagger, average", "63.64", "63.59 (harbour, table 1, Tagger)"),
    ]


def test_one_number_under_two_conditions_is_found(tmp_path):
    other = HARBOUR.replace("paper: harbour", "paper: haven").replace(
        "system: Tagger,", "system: Tagger, extras: [DAPT],"
    )
    lines = disagreements.find(known(tmp_path, haven=other), {})

    assert {(f.kind, f.why) for f in lines} == {
        ("papers", "one number, without extras in harbour and with DAPT in haven")
    }


# ------------------------------------------------------------------------------------------------ the four papers


def test_every_committed_paper_is_read_and_every_formula_of_it_works():
    of = papers.load([ROOT / "results" / "published"])

    assert [path.stem for path in FILES] == ["label-normalization", "laner", "lar", "topt"] == list(of)
    assert disagreements.find(of)


@pytest.mark.parametrize(
    ("paper", "tables"),
    [
        ("lar", [f"table {n}" for n in range(1, 7)] + ["figure 3"]),
        ("laner", [f"table {n}" for n in range(1, 6)] + ["section 5.3"]),
        ("topt", [f"table {n}" for n in range(1, 11)] + ["section F"]),
        ("label-normalization", ["figure 1", "section 4.4", "section 4.5", "section 4.6", "figure 4"]),
    ],
)
def test_every_table_of_a_paper_is_there(paper, tables):
    assert set(tables) <= {table.table for table in papers.load()[paper].tables}


def test_a_score_says_of_what_it_is_and_how_it_was_made():
    known_cards = {*find_cards(), "average", "ace05", "genia"}
    scores = [n for n in papers.numbers(papers.load()) if n.metric == "f1" and n.unit == "percent"]

    assert len(scores) > 400
    for n in scores:
        assert n.system, n
        assert n.regime, n
        assert n.target in known_cards, n
        assert 0 < n.percent < 100, n


def test_every_table_of_five_targets_recomputes_its_average():
    for paper in papers.load().values():
        for table in paper.tables:
            names = {column.name for column in table.columns}
            for column in table.columns:
                if column.name == "average":
                    assert names >= TARGETS
                    assert set(column.formula.removeprefix("mean(").removesuffix(")").split(", ")) == TARGETS


def test_a_copied_system_says_whose_it_is():
    own = {"lar": "LAR", "laner": "LANER", "topt": "TOPT"}
    for n in papers.numbers(papers.load()):
        if n.metric == "f1" and n.paper in own and n.cite is not None:
            assert not n.system.startswith(own[n.paper]), n


@pytest.mark.parametrize(
    ("paper", "table", "cell", "printed", "right"),
    [
        ("topt", "table 2", "DAPTN, average", "69.63", "68.72"),
        ("topt", "table 6", "Llama-2-7b, AI F1-Score", "70.89", "72.34 (table 2, TOPT)"),
        ("topt", "table 2", "CP-NER, average", "73.86", "72.30 (lar, table 2, Cp-NER)"),
        ("lar", "table 6", "Politics person, gain", "+4.78", "+6.78"),
        ("lar", "table 6", "Politics event, Direct Inference", "79.59", "79.59 (Politics politician)"),
        ("lar", "table 1", "CoNLL03, Train", "14,987", "14,041"),
        ("lar", "table 1", "Music, Test", "456", "465"),
        ("lar", "table 1", "Movie, Type Num", "14", "12"),
        ("laner", "table 3", "BERT, w/o LC, average", "67.93", "68.01"),
        ("laner", "section 4.1", "text", "3.71", "3.57"),
        ("label-normalization", "figure 4", "text", "10919", "12991"),
        ("label-normalization", "figure 1", "Artificial Intelligence (AI), categories listed", "12", "14"),
    ],
)
def test_what_is_known_to_disagree_is_found(paper, table, cell, printed, right):
    lines = {(f.paper, f.table, f.cell, f.printed, f.found) for f in disagreements.find(papers.load())}

    assert (paper, table, cell, printed, right) in lines


def test_the_right_number_in_the_file_makes_the_finding_go(tmp_path):
    text = (ROOT / "results" / "published" / "lar.yaml").read_text(encoding="utf8")
    assert text.count("+4.78") == 1
    write(tmp_path, text.replace("+4.78", "+6.78"), "lar")

    cells = {f.cell for f in disagreements.find(papers.load([tmp_path]))}

    assert "Politics person, gain" not in cells
    assert "Politics event, Direct Inference" in cells


def test_topt_counts_of_words_are_the_cards():
    assert not [f for f in disagreements.find(papers.load()) if f.paper == "topt" and f.table == "table 8"]


def test_the_page_lists_what_the_check_finds():
    disagreements.check(disagreements.find(papers.load()), ROOT / "docs" / "published.md")


def test_a_page_that_lists_something_else_is_refused(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- cdner published -->\nnothing\n<!-- end -->\n")

    assert main(["published", "--check", str(page)]) == 1
    assert capsys.readouterr().err == (
        f"cdner: {page}: its list of disagreements is not what the papers' files say. "
        f"Write it anew: cdner published --write {page}.\n"
    )
    assert main(["published", "--write", str(page), "--check", str(page)]) == 0

    page.write_bytes(b"\xf9\x00")
    assert main(["published", "--check", str(page)]) == 1
    assert f"cdner: {page}: this is no page of text (" in capsys.readouterr().err

    page.write_text("no marks\n")
    assert main(["published", "--check", str(page)]) == 1
    assert "there is no `<!-- cdner published -->` ... `<!-- end -->` in it; add the marks." in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ chosen and shown


def test_a_system_stands_for_its_ablations_and_case_is_all_one():
    every = papers.numbers(papers.load())
    chosen = papers.chosen(every, systems=["laner"], targets=["AI"])

    assert {n.system for n in chosen} == {"LANER", "LANER w/o LC", "LANER w/o LB"}
    assert {n.target for n in chosen} == {"ai"}
    assert {n.paper for n in chosen} == {"laner", "lar", "topt"}
    assert {n.system for n in papers.chosen(every, systems=["LST"])} == {"LST"}
    assert {n.target for n in papers.chosen(every, targets=["ai", "Music"])} == {"ai", "music"}
    assert {n.paper for n in papers.chosen(every, papers=["lar", "topt"])} == {"lar", "topt"}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"systems": ["LANNER"]}, "there is no published system 'LANNER'. Did you mean 'LANER'? There are: BARTNER, "),
        (
            {"targets": ["moovie"]},
            "there is no published target 'moovie'. Did you mean 'movie'? There are: ace05, ai, ",
        ),
        (
            {"papers": ["larr"]},
            "there is no published paper 'larr'. Did you mean 'lar'? There are: label-normalization, laner, lar, topt.",
        ),
        (
            {"papers": ["topt"], "targets": ["movie", "restaurant"]},
            "nothing is published of paper topt, target movie or restaurant together; ask for less.",
        ),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(asked, said):
    with pytest.raises(UnknownName) as caught:
        papers.chosen(papers.numbers(papers.load()), **asked)
    assert str(caught.value).startswith(said)


def test_the_command_prints_a_papers_table_as_the_paper_has_it(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["published", "--paper", "laner", "--system", "LANER", "--format", "markdown"]) == 0

    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("| BERT, w/o LC"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["BERT, w/o LC", "bert-base-cased", "—", "70.94", "71.11", "71.51", "67.24", "59.23", "67.93",
                     "72.26", "80.35"]  # fmt: skip


def test_csv_and_json_have_all_that_is_known_of_a_number(capsys):
    assert main(["published", "--system", "TOPT", "--target", "ai", "--paper", "topt", "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert main(["published", "--system", "TOPT", "--target", "ai", "--paper", "topt", "--format", "csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))

    assert len(told) == len(lines)
    first = next(n for n in told if n["table"] == "table 2" and n["row"] == "TOPT")
    assert (first["printed"], first["protocol"], first["select"], first["extras"]) == (
        "72.34",
        "topt",
        "last",
        ["GTOK"],
    )


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("asked", [["--target", "ai"], ["--paper", "lar"], ["--check"]])
def test_nothing_is_wider_than_the_terminal(asked, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["published", *asked]) == 0

    assert max(map(len, capsys.readouterr().out.splitlines())) <= width


def test_numbers_of_ones_own_go_before_those_that_come_along(tmp_path, monkeypatch):
    folder = tmp_path / "mine" / "published"
    folder.mkdir(parents=True)
    write(folder)
    monkeypatch.setenv("CDNER_RESULTS", str(tmp_path / "mine"))

    assert list(papers.load()) == ["harbour", "label-normalization", "laner", "lar", "topt"]


# ------------------------------------------------------------------------------------------------ beside a board


def beside(folder: Path, planned: list[tuple[Planned, int]], text: str = HARBOUR, **record) -> list[against.AgainstRow]:
    cells = [cell for cell, _ in planned]
    records = [ok(cell, f1, **{"settings": {"crf": False, **cell.changed}, **record}) for cell, f1 in planned]
    published = papers.with_methods(known(folder, text))
    return against.against(rows(cells, records), records, published)


def test_a_row_stands_beside_the_number_of_its_system(tmp_path):
    [row] = beside(tmp_path, [(Planned("plain", "ai", 1), 50), (Planned("plain", "ai", 2), 54)])

    assert (row.ours, row.theirs, row.paper, row.table, row.printed_row) == (52, 58.88, "harbour", "table 1", "Tagger")
    assert row.difference == pytest.approx(52 - 58.88)
    assert row.not_comparable == {
        "backbone": "ours minilm, theirs bert-base-cased", "protocol": "ours strict, theirs not known",
        "select": "ours target-dev, theirs not known",
    }  # fmt: skip


def test_a_method_of_which_nothing_is_published_has_no_line(tmp_path):
    assert beside(tmp_path, [(Planned("look", "ai", method="lookup"), 50)]) == []
    assert beside(tmp_path, [(Planned("plain", "science"), 50)]) == []


def test_what_differs_stands_in_the_row(tmp_path):
    text = HARBOUR.replace(
        'cite: "B. Author',
        'protocol: conlleval-stream, select: test, split: dev, runs: 3, corpus: an older one, cite: "B. Author',
    )
    joint = Planned("joined", "ai", order="joint", select="last", changed={"crf": True})
    [row] = beside(tmp_path, [(joint, 50)], text)

    assert row.not_comparable == {
        "crf": "ours true, theirs false", "order": "ours joint, theirs sequence",
        "backbone": "ours minilm, theirs bert-base-cased", "protocol": "ours strict, theirs conlleval-stream",
        "select": "ours last, theirs test", "split": "ours test, theirs dev", "corpus": "an older one",
        "runs": "ours 1, theirs 3",
    }  # fmt: skip


def test_of_several_numbers_the_nearest_stand_there(tmp_path):
    more = '      - {row: CRF, system: CRF, values: "59.00 - -", same: {tagger: {crf: true}}}\n'
    crf = Planned("crf", "ai", changed={"crf": True})

    [row] = beside(tmp_path, [(crf, 50)], HARBOUR + more)
    assert (row.printed_row, row.theirs) == ("CRF", 59.0)


def test_another_regime_stands_there_only_where_it_is_of_the_same_kind(tmp_path):
    few = HARBOUR.replace("regime: supervised", "regime: fraction-0.05")

    [row] = beside(tmp_path, [(Planned("few", "ai", draw=1, regime="fraction-0.01"), 30)], few)
    assert row.not_comparable["regime"] == "ours fraction-0.01, theirs fraction-0.05"
    assert beside(tmp_path, [(Planned("all", "ai"), 30)], few) == []


def test_target_only_is_in_domain(tmp_path):
    alone = HARBOUR.replace("regime: supervised", "regime: in-domain").replace("sources: [conll2003]", "sources: []")

    [row] = beside(tmp_path, [(Planned("alone", "ai", changed={"target_only": True}), 40)], alone)
    assert not {"regime", "sources", "order"} & set(row.not_comparable)


def test_a_papers_accuracy_of_a_type_stands_beside_our_recall_of_it(tmp_path):
    by_type = (
        HARBOUR
        + """\
  - table: table 2
    caption: Types of ai.
    metric: accuracy
    regime: supervised
    sources: [conll2003]
    order: sequence
    columns: [{name: plain, same: {tagger: {crf: false}}}, {name: crf, same: {tagger: {crf: true}}}]
    rows:
      - {row: task, target: ai, type: task, system: Tagger, values: "80.5 81.5"}
      - {row: field, target: ai, type: field, system: Tagger, values: "70.5 71.5"}
"""
    )
    cell = Planned("plain", "ai")
    record = ok(cell, 50, settings={"crf": False})
    record["scores"]["fine"]["strict"]["types"] = {"task": [3, 5, 1]}
    recalls = type_rows([cell], [record], metric="recall")
    published = papers.with_methods(known(tmp_path, by_type))

    whole, task = against.against(rows([cell], [record]), [record], published, recalls=recalls)
    assert (whole.type, whole.theirs) == (None, 58.88)
    assert (task.type, task.metric, task.ours, task.theirs, task.printed_row) == (
        "task",
        "accuracy",
        75,
        80.5,
        "task, plain",
    )
    assert task.not_comparable["measure"] == "ours recall, theirs accuracy, whatever the paper means by that"
    titles = [table.title for table in against.tables([whole, task])]
    assert titles[1].startswith("strict recall of each type beside published accuracy · fine types · conll2003 → ai")


def test_a_number_that_two_papers_print_stands_once(tmp_path):
    cell = Planned("plain", "ai")
    record = ok(cell, 50, settings={"crf": False})
    own = HARBOUR.replace("paper: harbour", "paper: haven").replace(', cite: "B. Author, 2018"', "")
    published = papers.with_methods(known(tmp_path, haven=own))

    [row] = against.against(rows([cell], [record]), [record], published)
    assert (row.paper, row.also) == ("haven", ["harbour table 1"])  # the paper whose number it is goes first


def test_a_cell_without_a_number_has_no_difference(tmp_path):
    cell = Planned("plain", "ai", changed={"crf": False})
    published = papers.with_methods(known(tmp_path))
    [row] = against.against(rows([cell], []), [], published, changed={"plain": {"crf": False}})

    assert (row.ours, row.theirs, row.difference) == (None, 58.88, None)
    [line] = [line for line in render(against.tables([row]), "markdown").splitlines() if "plain" in line]
    assert [cell.strip() for cell in line.split("|")][3:6] == ["—", "58.88", "—"]


def test_a_papers_wrong_size_of_the_target_stands_in_the_row():
    found_rows = against.load(
        ROOT / "results" / "minilm", read_board(str(ROOT / "results" / "minilm"), settings=False).expected()
    )
    music = next(r for r in found_rows if r.variant == "lar" and r.target == "music")

    assert music.not_comparable["corpus"] == "456 test sentences in its table 1, 465 in the card"


def test_every_row_names_a_backbone_that_is_not_ours():
    board = read_board(str(ROOT / "results" / "laner-ablations"), settings=False)
    lines = {r.variant: r for r in against.load(board.folder, board.expected()) if r.target == "ai"}

    assert {v: (r.printed_row, r.theirs) for v, r in lines.items()} == {
        "laner": ("OURS", 61.72), "laner-without-lc": ("BERT, w/o LC", 59.23), "laner-without-lb": ("BERT, w/o LB", 59.41),
        "laner-without-both": ("BERT-TAGGER†, w/o LB+LC", 58.88), "tagger-crf": ("BERT+CRF, w/o LB+LC", 58.03),
    }  # fmt: skip
    assert {r.not_comparable["backbone"] for r in lines.values()} == {"ours minilm, theirs bert-base-cased"}
    assert {r.not_comparable["protocol"] for r in lines.values()} == {"ours strict, theirs conlleval-stream"}


def test_defaults_are_read_off_a_methods_file():
    assert against.defaults("laner")["label_background"] is True
    assert against.defaults("lar")["reassign_with"] == "llm"
    assert against.defaults("no such method") == {}


@pytest.mark.parametrize(
    "name", ["minilm", "laner-ablations", "laner-budget", "label-normalization", "lar-low-resource"]
)
def test_the_comparison_of_a_board_is_what_records_and_papers_say(name):
    board = read_board(str(ROOT / "results" / name), settings=False)

    against.check(name, board.folder, board.expected())


def test_a_comparison_that_was_edited_is_refused(tmp_path):
    against.write("small", tmp_path, [])
    (tmp_path / "published.md").write_text("better than all\n")

    with pytest.raises(Exception, match="Write it anew: cdner table small --against published --write") as caught:
        against.check("small", tmp_path, [])
    assert str(caught.value).startswith(
        f"{tmp_path / 'published.md'}: not what the records of small and the papers say."
    )


@pytest.mark.parametrize("width", [80, 120])
def test_a_comparison_fits_the_terminal(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["table", str(ROOT / "results" / "minilm"), "--against", "published"]) == 0

    out = capsys.readouterr().out
    assert "laner, table 2: OURS" in out
    assert max(map(len, out.splitlines())) <= width


@pytest.mark.parametrize("format", ["latex", "csv", "json", "markdown"])
def test_a_comparison_has_every_format(format, capsys):
    assert main(["table", str(ROOT / "results" / "laner-budget"), "--against", "published", "--format", format]) == 0

    out = capsys.readouterr().out
    assert "61.72" in out
    if format == "json":
        assert json.loads(out)[0]["not_comparable"]["backbone"] == "ours minilm, theirs bert-base-cased"
    if format == "csv":
        [first, *_] = csv.DictReader(io.StringIO(out))
        assert first["not_comparable"].startswith("backbone: ours minilm, theirs bert-base-cased; protocol: ")


def test_published_numbers_are_no_board_and_need_no_torch(tmp_path):
    code = (
        "import sys\nfrom benchmark.cli import main\n"
        "assert main(['published', '--target', 'ai']) == 0\nassert main(['published', '--check']) == 0\n"
        f"assert main(['table', {str(ROOT / 'results' / 'laner-budget')!r}, '--against', 'published']) == 0\n"
        "assert 'torch' not in sys.modules, 'torch'\nprint('boards')\nassert main(['list', 'boards']) == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    listed = done.stdout.splitlines()
    listed = [line.split()[0] for line in listed[listed.index("boards") + 1 :]]
    assert "minilm" in listed
    assert "published" not in listed
    assert "published" not in boards()
