import csv
import io
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import RecordError, UnknownName
from benchmark.report.table import Row, error_rows, load, render, rows, tables, type_rows


@dataclass(frozen=True)
class Planned:
    variant: str
    target: str
    seed: int = 1
    draw: int | None = None
    sources: tuple[str, ...] = ("conll2003",)
    regime: str = "supervised"
    select: str = "target-dev"
    method: str = "tagger"

    @property
    def name(self) -> str:
        draw = "" if self.draw is None else f"draw{self.draw}-"
        return f"{self.variant}/{'+'.join(self.sources)}--{self.target}/{self.regime}/{draw}seed{self.seed}"


def counts(f1: int) -> list[int]:
    """Return counts whose precision, recall and F1 are all `f1`."""
    return [f1, 100 - f1, 100 - f1]


def ok(cell: Planned, f1: int, *, version: int = 1, **other: Any) -> dict[str, Any]:
    part = {"strict": {"all": counts(f1), "types": {"field": counts(f1), "task": counts(f1 - 10)}}}
    errors = {"hit": f1, "type": 20, "boundary": 10, "missed": 5, "spurious": 4}
    return {
        "cell": cell.name,
        "variant": cell.variant,
        "status": "ok",
        "reason": None,
        "backbone": "minilm",
        "level": "fine",
        "corpora": {name: {"version": version if name == cell.target else 1} for name in (*cell.sources, cell.target)},
        "scorer": 1,
        "scores": {"fine": part, "general": part},
        "errors": {"fine": errors, "general": errors},
        "provenance": {"precision": "bf16"},
    } | other


def ended(cell: Planned, status: str, reason: str) -> dict[str, Any]:
    whole = ok(cell, 0, status=status, reason=reason)
    return {name: value for name, value in whole.items() if name not in ("scores", "errors")}


def text(plan: list[tuple[Planned, dict[str, Any] | None]], format: str = "terminal", **settings: Any) -> str:
    return render(rows([cell for cell, _ in plan], [r for _, r in plan if r]), format, **settings)


def scored(cell: Planned, f1: int, **other: Any) -> tuple[Planned, dict[str, Any]]:
    return cell, ok(cell, f1, **other)


def board() -> list[tuple[Planned, dict[str, Any] | None]]:
    """Return a board in which everything that can happen to a cell happens once.

    tagger: ai 50, 52, 54 -> 52 ± 2; movie 61. crf: ai 40, 41 of three -> 40.5 ± 0.71; movie failed.
    proto: ai skipped; movie not there. norm: general types only.
    """
    tagger = [scored(Planned("tagger", "ai", s), f1) for s, f1 in ((1, 50), (2, 52), (3, 54))]
    crf = [scored(Planned("crf_big", "ai", s), f1) for s, f1 in ((1, 40), (2, 41))]
    norm = [
        scored(Planned("norm", t, s), 70, level="general") for t, s in (("ai", 1), ("ai", 2), ("ai", 3), ("movie", 1))
    ]
    for _, record in norm:
        del record["scores"]["fine"], record["errors"]["fine"]
    late, film = Planned("crf_big", "ai", 3), Planned("crf_big", "movie")
    skipped = [Planned("proto", "ai", s) for s in (1, 2, 3)]
    return [
        *tagger,
        scored(Planned("tagger", "movie"), 61),
        *crf,
        (late, ended(late, "failed", "time limit")),
        (film, ended(film, "failed", "out of memory")),
        *((cell, ended(cell, "skipped", "needs a dev split")) for cell in skipped),
        (Planned("proto", "movie"), None),
        *norm,
    ]


# Rows


def test_row_averages_over_seeds():
    (row,) = rows(*zip(*board()[:3], strict=True))

    assert row == Row(
        variant="tagger",
        method="tagger",
        backbone="minilm",
        sources=["conll2003"],
        target="ai",
        regime="supervised",
        select="target-dev",
        types="fine",
        seeds=[1, 2, 3],
        draws=[],
        planned_seeds=[1, 2, 3],
        planned_draws=[],
        cells=3,
        expected=3,
        status="ok",
        reason=None,
        precision_used=["bf16"],
        corpora={"conll2003": 1, "ai": 1},
        scorer=1,
        protocol="strict",
        metrics={"f1": 52.0, "precision": 52.0, "recall": 52.0},
        f1=52.0,
        std=2.0,
    )


def test_metric_is_the_mean_of_metrics_and_not_the_metric_of_summed_counts():
    cells = [Planned("tagger", "ai", 1), Planned("tagger", "ai", 2)]
    records = [ok(cell, 0) for cell in cells]
    for record, all in zip(records, ([1, 0, 0], [0, 50, 50]), strict=True):
        record["scores"]["fine"]["strict"]["all"] = all

    (row,) = rows(cells, records)

    assert row.f1 == 50.0
    assert row.std == pytest.approx(70.7107, abs=1e-4)


def test_deviation_is_over_draws_and_seeds_together():
    plan = [
        scored(Planned("tagger", "ai", seed, draw), f1)
        for draw, seed, f1 in ((1, 1, 10), (1, 2, 12), (2, 1, 14), (2, 2, 16))
    ]

    (row,) = rows(*zip(*plan, strict=True))

    assert (row.f1, row.seeds, row.draws) == (13.0, [1, 2], [1, 2])
    assert row.std == pytest.approx((20 / 3) ** 0.5)


def test_one_seed_has_no_deviation():
    (row,) = rows(*zip(scored(Planned("tagger", "ai"), 61), strict=True))

    assert (row.f1, row.std) == (61.0, None)


def test_every_way_to_end_has_its_status_and_reason():
    plan = board()
    found = rows([c for c, _ in plan], [r for _, r in plan if r])

    assert [(r.variant, r.target, r.status, r.reason, r.f1) for r in found] == [
        ("tagger", "ai", "ok", None, 52.0),
        ("tagger", "movie", "ok", None, 61.0),
        ("crf_big", "ai", "partial", "time limit", 40.5),
        ("crf_big", "movie", "failed", "out of memory", None),
        ("proto", "ai", "skipped", "needs a dev split", None),
        ("proto", "movie", "missing", "no record", None),
        ("norm", "ai", "general only", "general types only", None),
        ("norm", "movie", "general only", "general types only", None),
    ]
    assert found[3].metrics == {"f1": None, "precision": None, "recall": None}
    assert found[2].seeds == [1, 2]


def test_method_of_general_types_has_numbers_in_the_general_table():
    plan = board()
    found = rows([c for c, _ in plan], [r for _, r in plan if r], types="general")

    assert [r.f1 for r in found if r.variant == "norm"] == [70.0, 70.0]


def test_failed_cell_outweighs_a_missing_one():
    cell, absent = Planned("tagger", "ai", 1), Planned("tagger", "ai", 2)

    (row,) = rows([absent, cell], [ended(cell, "failed", "time limit")])

    assert (row.status, row.reason) == ("failed", "no record; time limit")


def test_record_without_the_protocol_is_not_scored():
    cell = Planned("tagger", "ai")

    (row,) = rows([cell], [ok(cell, 50)], protocol="conlleval")

    assert (row.status, row.reason, row.f1) == ("missing", "not scored under conlleval", None)


def test_ok_record_is_not_hidden_by_a_failed_one_of_the_same_cell():
    cell = Planned("tagger", "ai")

    assert rows([cell], [ok(cell, 50), ended(cell, "failed", "time limit")])[0].f1 == 50.0
    assert rows([cell], [ended(cell, "failed", "time limit"), ok(cell, 50)])[0].f1 == 50.0


def test_record_that_no_cell_expects_is_left_out():
    cell = Planned("tagger", "ai")

    (row,) = rows([cell], [ok(cell, 50), ok(Planned("tagger", "ai", 9), 90)])

    assert row.f1 == 50.0


def test_versions_are_not_averaged():
    plan = [scored(Planned("tagger", "ai", 1), 50), scored(Planned("tagger", "ai", 2), 60, version=2)]

    newer, older = rows(*zip(*plan, strict=True))

    assert (newer.f1, newer.cells, newer.corpora["ai"], newer.status) == (60.0, 1, 2, "partial")
    assert (older.f1, older.cells, older.corpora["ai"], older.reason) == (50.0, 1, 1, "scored under other versions")


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UnknownName, match=r"^there is no protocol 'stric'\. Did you mean 'strict'\? There are: "):
        rows([], [], protocol="stric")
    with pytest.raises(UnknownName) as refused:
        rows([], [], types="fin")
    assert str(refused.value) == "there is no type level 'fin'. Did you mean 'fine'? There are: fine, general."
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


# What never shares a column


def titles(plan: list[tuple[Planned, dict[str, Any] | None]], **settings: str) -> list[str]:
    return [t.title for t in tables(rows([c for c, _ in plan], [r for _, r in plan if r], **settings))]


def test_selection_rules_have_a_table_each():
    plan = [scored(Planned("tagger", "ai", select=rule), 50) for rule in ("target-dev", "source-dev", "last")]

    assert titles(plan) == [
        "strict F1 · fine types · conll2003 → ai · supervised · selected on target-dev",
        "strict F1 · fine types · conll2003 → ai · supervised · selected on source-dev",
        "strict F1 · fine types · conll2003 → ai · supervised · last model",
    ]


def test_regimes_and_sources_have_a_table_each():
    plan = [
        scored(Planned("tagger", "ai", regime="fraction-0.01"), 50),
        scored(Planned("tagger", "ai", sources=("conll2003", "politics")), 50),
        scored(Planned("tagger", "ai", sources=(), regime="in-domain"), 50),
    ]

    assert titles(plan) == [
        "strict F1 · fine types · conll2003 → ai · fraction-0.01 · selected on target-dev",
        "strict F1 · fine types · conll2003+politics → ai · supervised · selected on target-dev",
        "strict F1 · fine types · ai alone · in-domain · selected on target-dev",
    ]


def test_type_levels_and_protocols_have_a_table_each():
    cell, record = scored(Planned("tagger", "ai"), 50)
    record["scores"]["fine"]["token"] = {"all": [9, 1, 1], "types": {"O": [9, 1, 0], "B-task": [0, 0, 1]}}
    mixed = [
        *rows([cell], [record]),
        *rows([cell], [record], types="general"),
        *rows([cell], [record], protocol="token"),
    ]

    assert [t.title.split(" · ")[:2] for t in tables(mixed)] == [
        ["strict F1", "fine types"],
        ["strict F1", "general types"],
        ["token F1", "fine types"],
    ]
    assert mixed[2].metrics["accuracy"] == pytest.approx(90.0)


def test_corpus_versions_have_a_table_each_with_the_newest_first():
    plan = [
        scored(Planned("tagger", "ai"), 50),
        scored(Planned("tagger", "movie"), 51),
        scored(Planned("crf", "ai"), 60, version=2),
        scored(Planned("crf", "movie"), 61),
    ]

    first, second = tables(rows(*zip(*plan, strict=True)))

    assert first.title.endswith("conll2003 → … · supervised · selected on target-dev · ai v2")
    assert [[e.word or e.mean for e in line] for line in first.lines] == [
        ["tagger", "—", 51.0, "—"],
        ["crf", 60.0, 61.0, 60.5],
    ]
    assert second.title.endswith("conll2003 → ai · supervised · selected on target-dev · ai v1")
    assert [[e.word or e.mean for e in line] for line in second.lines] == [["tagger", 50.0]]


def test_scorer_versions_have_a_table_each():
    plan = [scored(Planned("tagger", "ai"), 50), scored(Planned("crf", "ai"), 60, scorer=2)]

    assert [title.rsplit(" · ")[-1] for title in titles(plan)] == ["scorer v2", "scorer v1"]


def test_mixed_precision_has_a_dagger():
    plan = [
        scored(Planned("tagger", "ai", 1), 50),
        scored(Planned("tagger", "ai", 2), 52, provenance={"precision": "fp32"}),
        scored(Planned("tagger", "movie"), 50),
        scored(Planned("crf", "ai"), 40, provenance={"precision": "fp32"}),
        scored(Planned("crf", "movie"), 40),
    ]
    expected = """\
strict F1 · fine types · conll2003 → … · supervised · selected on target-dev

variant             ai    movie   average
─────────────────────────────────────────
tagger    51.00 ± 1.41†   50.00     50.50
crf       40.00†          40.00     40.00

† not in bf16 like the rest: bf16 and fp32 (tagger on ai); fp32 (crf on ai)

mean ± sample deviation over 2 seeds; 1 seed for crf, movie · backbone minilm ·
corpora v1 · scorer v1
"""
    assert text(plan) == expected


# Numbers and marks


def best(plan: list[tuple[Planned, dict[str, Any] | None]]) -> list[list[bool]]:
    (table,) = tables(rows([c for c, _ in plan], [r for _, r in plan if r]))
    return [[e.best for e in line[table.labels :]] for line in table.lines]


def test_best_of_a_column_is_bold_where_two_variants_have_numbers():
    grid = [("a", "ai", 50), ("a", "movie", 70), ("b", "ai", 60), ("b", "movie", 40)]
    assert best([scored(Planned(v, t), f1) for v, t, f1 in grid]) == [[False, True, True], [True, False, False]]
    assert best([scored(Planned("a", "ai"), 50)]) == [[False]]


def test_equal_as_printed_is_equally_best():
    plan = [(Planned(v, "ai"), ok(Planned(v, "ai"), 50)) for v in ("a", "b")]
    for (_, record), all in zip(plan, ([100000, 0, 0], [100000, 0, 1]), strict=True):
        record["scores"]["fine"]["strict"]["all"] = all

    assert best(plan) == [[True], [True]]


def test_numbers_have_two_decimals():
    plan = [scored(Planned("a", "ai", seed), f1) for seed, f1 in ((1, 50), (2, 50), (3, 51))]

    assert "50.33 ± 0.58" in text(plan)  # 151 / 3, and the root of 1 / 3


def test_average_waits_for_every_target():
    plan = [scored(Planned("a", "ai"), 50), (Planned("a", "movie"), None)]
    (table,) = tables(rows([c for c, _ in plan], [r for _, r in plan if r]))
    assert [e.word or e.mean for e in table.lines[0]] == ["a", 50.0, "—", "—"]
    assert table.notes == [("—", "no record yet; no average without every target")]


def test_same_reason_is_told_once():
    oom = [
        (c, ended(c, "failed", "out of memory"))
        for c in (Planned("a", "ai"), Planned("b", "ai"), Planned("b", "movie"))
    ]
    plan = [
        oom[0],
        scored(Planned("a", "movie"), 50),
        *oom[1:],
        scored(Planned("c", "ai"), 1),
        scored(Planned("c", "movie"), 1),
    ]

    (table,) = tables(rows([c for c, _ in plan], [r for _, r in plan if r]))

    assert table.notes[0] == ("a", "out of memory: b; a on ai")


def test_footer_counts_draws_and_seeds():
    plan = [scored(Planned("a", "ai", s, d, regime="shots-5"), 50) for d in (1, 2, 3, 4, 5) for s in (1, 2)]

    assert "mean ± sample deviation over 5 draws × 2 seeds · backbone minilm · corpora v1" in text(plan)


def test_footer_of_single_seeds_promises_no_deviation():
    assert text([scored(Planned("a", "ai"), 50)]).endswith("\n1 seed · backbone minilm · corpora v1 · scorer v1\n")


def test_differing_backbones_have_a_column():
    plan = [scored(Planned("a", "ai"), 50), scored(Planned("b", "ai"), 60, backbone="bert-base-cased")]

    assert "| b         | bert-base-cased | **60.00** |" in text(plan, "markdown")


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


def test_type_that_no_prediction_has_counts_as_nothing():
    cells = [Planned("a", "ai", 1), Planned("a", "ai", 2)]
    records = [ok(cell, 50) for cell in cells]
    del records[1]["scores"]["fine"]["strict"]["types"]["task"]

    found = {row.type: row for row in type_rows(cells, records, target="ai")}

    assert (found["task"].f1, found["field"].f1) == (20.0, 50.0)


def test_types_nobody_knows_are_one_line():
    (row,) = type_rows([Planned("a", "ai")], [], target="ai")

    assert (row.type, row.status, row.f1) == (None, "missing", None)
    assert "| —      |      — |   — |" in render([row], "markdown")


@pytest.mark.parametrize("format", ["terminal", "markdown", "latex", "csv", "json"])
def test_every_kind_of_row_renders_in_every_format(format: str):
    plan = board()
    cells, records = [c for c, _ in plan], [r for _, r in plan if r]

    for found in error_rows(cells, records), type_rows(cells, records, target="ai"):
        assert "crf" in render(found, format)


# Reading


def test_load_reads_every_record_in_the_order_of_paths(tmp_path: Path):
    for name in ("b/seed1", "a/seed2", "a/seed1"):
        path = tmp_path / "records" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"cell": name, "status": "ok"}), encoding="utf8")
    (tmp_path / "records" / "a" / "seed1.jsonl.gz").write_bytes(b"predictions")
    (tmp_path / "other.json").write_text("no record")

    assert [record["cell"] for record in load(tmp_path)] == ["a/seed1", "a/seed2", "b/seed1"]


def test_board_without_records_loads_as_nothing(tmp_path: Path):
    assert load(tmp_path) == []


def test_broken_record_is_named(tmp_path: Path):
    path = tmp_path / "records" / "seed1.json"
    path.parent.mkdir()
    mend = "Mend or delete it and run the board again."

    path.write_text('{"cell": ')
    with pytest.raises(RecordError) as refused:
        load(tmp_path)
    assert str(refused.value) == (
        f"{path}: this record cannot be read (Expecting value: line 1 column 10 (char 9)). {mend}"
    )

    path.write_text("[1]")
    with pytest.raises(RecordError) as refused:
        load(tmp_path)
    assert str(refused.value) == f"{path}: a record is an object with `cell` and `status`, and this is none. {mend}"


def test_tables_need_no_torch():
    heavy = {"torch", "pandas", "datasets", "rich", "tabulate"}
    script = f"import sys, benchmark.report.table; print(*{heavy} & set(sys.modules))"

    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "\n"
