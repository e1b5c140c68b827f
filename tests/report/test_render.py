"""Whole tables as text, in every format."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_records import Planned, board, ended, scored, text

from benchmark.errors import UnknownName
from benchmark.report.layout import tables, with_worst
from benchmark.report.render import render
from benchmark.report.rows import audit_rows, error_rows, rows, type_rows


def test_unknown_format_is_refused_with_the_nearest():
    with pytest.raises(UnknownName) as refused:
        render([], "markdwn")
    assert str(refused.value) == (
        "there is no format 'markdwn'. Did you mean 'markdown'? There are: terminal, markdown, latex, csv, json."
    )


# The table of scores, whole


def test_terminal_table():
    expected = """\
strict F1 · fine types · conll2003 → … · supervised · selected on target-dev

variant             ai                 movie    average
───────────────────────────────────────────────────────
tagger    52.00 ± 2.00                 61.00      56.50
crf_big   40.50 ± 0.71 (2/3)ᵃ         failedᵇ         —
proto          skippedᶜ                    —          —
norm      general onlyᵈ         general onlyᵈ         —

ᵃ time limit: crf_big on ai
ᵇ out of memory: crf_big on movie
ᶜ needs a dev split: proto on ai
ᵈ general types only: norm; see the table of general types
(n/m) n of m cells are ok, and the number is theirs
— no record yet; no average without every target

mean ± sample deviation over 3 seeds; 1 seed for movie · backbone minilm ·
corpora v1 · scorer v1
"""
    assert text(board()) == expected


def test_markdown_table():
    expected = """\
**strict F1 · fine types · conll2003 → … · supervised · selected on target-dev**

| variant   |                             ai |                    movie |   average |
|:----------|-------------------------------:|-------------------------:|----------:|
| tagger    |               **52.00 ± 2.00** |                    61.00 |     56.50 |
| crf_big   | 40.50 ± 0.71 (2/3)<sup>a</sup> |       failed<sup>b</sup> |         — |
| proto     |            skipped<sup>c</sup> |                        — |         — |
| norm      |       general only<sup>d</sup> | general only<sup>d</sup> |         — |

- <sup>a</sup> time limit: crf_big on ai
- <sup>b</sup> out of memory: crf_big on movie
- <sup>c</sup> needs a dev split: proto on ai
- <sup>d</sup> general types only: norm; see the table of general types
- (n/m) n of m cells are ok, and the number is theirs
- — no record yet; no average without every target

mean ± sample deviation over 3 seeds; 1 seed for movie · backbone minilm · corpora v1 · scorer v1
"""
    assert text(board(), "markdown") == expected


def test_latex_table():
    expected = r"""
\begin{table}[t]
\centering
CAPTION
\label{tab:strict-f1-fine-types-conll2003-supervised-selected-on-target-dev}
\begin{tabular}{lrrr}
\toprule
variant & ai & movie & average \\
\midrule
tagger & \textbf{52.00 $\pm$ 2.00} & 61.00 & 56.50 \\
crf\_big & 40.50 $\pm$ 0.71 (2/3)$^{a}$ & failed$^{b}$ & --- \\
proto & skipped$^{c}$ & --- & --- \\
norm & general only$^{d}$ & general only$^{d}$ & --- \\
\bottomrule
\end{tabular}
\par\smallskip
\begin{minipage}{\linewidth}\footnotesize\raggedright
$^{a}$ time limit: crf\_big on ai \\
$^{b}$ out of memory: crf\_big on movie \\
$^{c}$ needs a dev split: proto on ai \\
$^{d}$ general types only: norm; see the table of general types \\
(n/m) n of m cells are ok, and the number is theirs \\
--- no record yet; no average without every target \\
mean $\pm$ sample deviation over 3 seeds; 1 seed for movie $\cdot$ backbone minilm $\cdot$ corpora v1 $\cdot$ scorer v1
\end{minipage}
\end{table}
"""
    caption = (
        r"\caption{strict F1 $\cdot$ fine types $\cdot$ conll2003 $\rightarrow$ \ldots{} "
        r"$\cdot$ supervised $\cdot$ selected on target-dev}"
    )
    assert "\n" + text(board(), "latex") == expected.replace("CAPTION", caption)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex on this machine")
def test_latex_table_compiles(tmp_path: Path):
    body = text([*board(), *nasty()], "latex")
    page = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + body + "\\end{document}\n"
    (tmp_path / "page.tex").write_text(page, encoding="utf8")

    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"], cwd=tmp_path, capture_output=True
    )

    assert done.returncode == 0, done.stdout.decode(errors="replace")


def nasty() -> list[tuple[Planned, dict[str, Any] | None]]:
    cell = Planned("[50%]_a&b", "ai")
    return [(cell, ended(cell, "failed", "{loss}: $x^2 ~ #3\\\n\n<nan> | 1 × 2"))]


def test_latex_has_nothing_that_it_would_read_as_a_command():
    page = text(nasty(), "latex")

    assert r"{[}50\%]\_a\&b & failed$^{a}$ \\" in page
    assert r"$^{a}$ \{loss\}: \$x\textasciicircum{}2 \textasciitilde{} \#3\textbackslash{} " in page
    assert r" $<$nan$>$ $|$ 1 $\times$ 2: {[}50\%]\_a\&b" in page
    assert page.isascii()
    for lines in page.split(r"\midrule")[0], page.split(r"\midrule")[1].split(r"\bottomrule")[0]:
        assert lines.replace(r"\&", "").count("&") == 1


def test_markdown_escapes_what_would_be_markup():
    page = text(nasty(), "markdown")

    assert "| failed<sup>a</sup> |" in page
    assert r"- <sup>a</sup> {loss}: $x^2 \~ #3\\ \<nan\> \| 1 × 2: \[50%\]\_a&b" in page


def test_csv_has_a_line_for_each_row():
    first, *_, last = csv.DictReader(io.StringIO(text(board(), "csv")))

    assert first == {
        "variant": "tagger",
        "method": "tagger",
        "backbone": "minilm",
        "sources": "conll2003",
        "target": "ai",
        "regime": "supervised",
        "select": "target-dev",
        "order": "sequence",
        "dev": "card",
        "types": "fine",
        "seeds": "1+2+3",
        "draws": "",
        "planned_seeds": "1+2+3",
        "planned_draws": "",
        "cells": "3",
        "expected": "3",
        "status": "ok",
        "reason": "",
        "precision_used": "bf16",
        "corpora": "conll2003=1+ai=1",
        "scorer": "1",
        "protocol": "strict",
        "f1": "52.0",
        "precision": "52.0",
        "recall": "52.0",
        "std": "2.0",
        **dict.fromkeys(("low", "high", "interval", "rank_low", "rank_high", "tied", "detectable"), ""),
    }
    assert (last["variant"], last["target"], last["status"], last["f1"]) == ("norm", "movie", "general only", "")


def test_json_has_what_the_contract_names():
    found = json.loads(text(board(), "json"))

    contract = (
        "variant method backbone sources target regime select types protocol metrics f1 std seeds draws status reason"
    )
    assert all(set(contract.split()) <= set(row) for row in found)
    assert found[0]["sources"] == ["conll2003"]
    assert found[0]["metrics"] == {"f1": 52.0, "precision": 52.0, "recall": 52.0}
    assert (found[1]["f1"], found[1]["std"], found[1]["reason"]) == (61.0, None, None)


def test_tables_render_as_their_rows_do():
    plan = board()
    found = rows([c for c, _ in plan], [r for _, r in plan if r])

    for format in ("terminal", "markdown", "latex", "csv", "json"):
        assert render(tables(found), format) == render(found, format)


def test_board_without_cells_has_no_table():
    assert render([], "terminal") == "No cells, so no table.\n"
    assert render([], "json") == "[]\n"
    assert render([], "csv").startswith("variant,method,backbone,")


# The terminal


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_terminal_table_fits_its_width(width: int):
    targets = ["ai", "literature", "music", "politics", "science", "movie", "restaurant"]
    plan = [scored(Planned(v, t, s), 50 + s) for v in ("tagger", "tagger-crf-large") for t in targets for s in (1, 2)]

    lines = text(plan, width=width).splitlines()

    assert max(map(len, lines)) <= width
    heads = [line.split() for line in lines if line.startswith("variant ")]
    assert [name for head in heads for name in head[1:]] == [*targets, "average"]
    assert all(line == line.rstrip() for line in lines)


def test_colour_is_there_only_if_asked_for():
    plan = [scored(Planned("a", "ai"), 50), scored(Planned("b", "ai"), 60)]

    assert "\x1b" not in text(plan)
    assert "\x1b[1m60.00\x1b[0m" in text(plan, colour=True)
    assert "\x1b[1m50.00" not in text(plan, colour=True)


def test_the_worst_target_of_a_line_is_marked_where_there_are_several():
    plan = [scored(Planned("a", t), f1) for t, f1 in (("ai", 50), ("music", 40), ("movie", 70))]
    plan += [scored(Planned("b", t), f1) for t, f1 in (("ai", 30), ("music", 45), ("movie", 30))]
    plan += [scored(Planned("c", "ai"), 30), (Planned("c", "music"), None), (Planned("c", "movie"), None)]
    found = [with_worst(table) for table in tables(rows([c for c, _ in plan], [r for _, r in plan if r]))]

    text = render(found, "markdown")
    cells = {line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]] for line in text.splitlines()[4:7]}
    assert [["(worst)" in c for c in cells[name]] for name in "abc"] == [
        [False, True, False, False], [True, False, True, False], [False] * 4,
    ]  # fmt: skip
    assert "- (worst) the lowest target of its line" in text


# Errors, types


def test_table_of_errors():
    plan = board()
    found = error_rows([c for c, _ in plan[:8]], [r for _, r in plan[:8] if r])
    expected = """\
mean counts of errors · fine types · conll2003 → … · supervised · selected on
target-dev

target   variant            hits   wrong type   boundary   missed   spurious
────────────────────────────────────────────────────────────────────────────
ai       tagger             52.0         20.0       10.0      5.0        4.0
         crf_big (2/3)ᵃ     40.5         20.0       10.0      5.0        4.0
movie    tagger             61.0         20.0       10.0      5.0        4.0
         crf_bigᵇ         failed       failed     failed   failed     failed

ᵃ time limit: crf_big on ai
ᵇ out of memory: crf_big on movie
(n/m) n of m cells are ok, and the number is theirs

3 seeds; 1 seed for movie · backbone minilm · corpora v1 · scorer v1
"""
    assert found[0].errors == {"hit": 52.0, "type": 20.0, "boundary": 10.0, "missed": 5.0, "spurious": 4.0}
    assert render(found, "terminal") == expected


def test_table_of_generated_pairs():
    """The mean over seeds; a method that writes no text has no row."""
    cells = [Planned("writer", "ai", seed) for seed in (1, 2)]
    pairs = {"exact": 8, "ambiguous": 2, "taken": 0, "absent": 3, "unknown": 1, "unparsable": 0, "folded": 2}
    audits = [{"decoding": "free", "pairs": pairs}, {"decoding": "free", "pairs": {**pairs, "exact": 9, "absent": 2}}]
    plan = [scored(Planned("tagger", "ai"), 50)]
    plan += [scored(cell, 50, audit=audit) for cell, audit in zip(cells, audits, strict=True)]
    plan.append((Planned("asked", "ai"), None))
    expected = """\
**mean counts of generated pairs · fine types · conll2003 → ai · supervised · selected on target-dev**

| target   | variant   | decoding   |   exact |   ambiguous |   taken |   not in sentence |   type not offered |   unparsable |   of placed: folded |
|:---------|:----------|:-----------|--------:|------------:|--------:|------------------:|-------------------:|-------------:|--------------------:|
| ai       | writer    | free       |     8.5 |         2.0 |     0.0 |               2.5 |                1.0 |          0.0 |                 2.0 |
|          | asked     | —          |       — |           — |       — |                 — |                  — |            — |                   — |

- — no record yet

2 seeds; 1 seed for asked · backbone minilm · corpora v1 · scorer v1
"""

    assert render(audit_rows([c for c, _ in plan], [r for _, r in plan if r]), "markdown") == expected


def test_table_of_types():
    plan = board()
    found = type_rows([c for c, _ in plan], [r for _, r in plan if r], target="ai")
    expected = """\
**strict F1 by type · fine types · conll2003 → ai · supervised · selected on target-dev**

| type   |   gold |           tagger |   crf_big (2/3)<sup>a</sup> |   proto<sup>b</sup> |   norm<sup>c</sup> |
|:-------|-------:|-----------------:|----------------------------:|--------------------:|-------------------:|
| field  |    100 | **52.00 ± 2.00** |                40.50 ± 0.71 |             skipped |       general only |
| task   |    100 | **42.00 ± 2.00** |                30.50 ± 0.71 |             skipped |       general only |

- <sup>a</sup> time limit: crf_big
- <sup>b</sup> needs a dev split: proto
- <sup>c</sup> general types only: norm; see the table of general types
- (n/m) n of m cells are ok, and the number is theirs

mean ± sample deviation over 3 seeds · backbone minilm · corpora v1 · scorer v1
"""
    assert render(found, "markdown") == expected


def test_types_nobody_knows_are_one_line():
    (row,) = type_rows([Planned("a", "ai")], [], target="ai")

    assert (row.type, row.status, row.mean) == (None, "missing", None)
    assert "| —      |      — |   — |" in render([row], "markdown")


@pytest.mark.parametrize("format", ["terminal", "markdown", "latex", "csv", "json"])
def test_every_kind_of_row_renders_in_every_format(format: str):
    plan = board()
    cells, records = [c for c, _ in plan], [r for _, r in plan if r]

    spoken = [r | {"audit": {"pairs": {}}} for r in records]

    for found in error_rows(cells, records), audit_rows(cells, spoken), type_rows(cells, records, target="ai"):
        assert "crf" in render(found, format)


# Imports


def test_tables_need_no_torch():
    heavy = {"torch", "pandas", "datasets", "rich", "tabulate"}
    script = f"import sys, benchmark.report.table; print(*{heavy} & set(sys.modules))"

    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "\n"
