"""Layout: what never shares a column, and the marks, averages and footers of a table."""

from typing import Any

import pytest
from fake_records import Planned, ended, ok, scored, text

from benchmark.report.layout import tables
from benchmark.report.rows import rows

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


def test_orders_of_learning_never_share_a_table():
    one, other = Planned("tagger", "ai"), Planned("tagger", "music", order="joint", dev="none")

    first, second = tables(rows([one, other], [ok(one, 50), ok(other, 60)]))

    assert first.title == "strict F1 · fine types · conll2003 → ai · supervised · selected on target-dev"
    assert second.title == (
        "strict F1 · fine types · conll2003 → music · supervised · joint · no dev cut · selected on target-dev"
    )


def test_a_chain_is_read_from_left_to_right_and_has_no_average():
    chain = ["politics", "politics+science", "politics+science+music"]
    plan = [scored(Planned("lar", target, regime="supervised+on-conll2003"), 60) for target in chain]

    first = text(plan, "markdown").splitlines()

    assert first[0] == "**strict F1 · fine types · conll2003 → … · supervised+on-conll2003 · selected on target-dev**"
    assert first[2] == "| variant   |   politics |   +science |   +music |"
