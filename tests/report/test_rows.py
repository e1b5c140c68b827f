"""Rows: records read, averaged over seeds and draws, and a reason where there is no number."""

import pytest
from fake_records import Planned, board, ended, ok, scored

from benchmark.errors import UnknownName
from benchmark.report.rows import Row, rows, type_rows

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
        order="sequence",
        dev="card",
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


def test_unknown_protocol_or_type_level_is_refused_with_the_nearest():
    with pytest.raises(UnknownName, match=r"^there is no protocol 'stric'\. Did you mean 'strict'\? There are: "):
        rows([], [], protocol="stric")
    with pytest.raises(UnknownName) as refused:
        rows([], [], types="fin")
    assert str(refused.value) == "there is no type level 'fin'. Did you mean 'fine'? There are: fine, general."


# Types


def test_type_that_no_prediction_has_counts_as_nothing():
    cells = [Planned("a", "ai", 1), Planned("a", "ai", 2)]
    records = [ok(cell, 50) for cell in cells]
    del records[1]["scores"]["fine"]["strict"]["types"]["task"]

    found = {row.type: row for row in type_rows(cells, records, target="ai")}

    assert (found["task"].mean, found["field"].mean) == (20.0, 50.0)


def test_a_type_has_precision_and_recall_too():
    cell = Planned("a", "ai")
    record = ok(cell, 50)
    record["scores"]["fine"]["strict"]["types"]["task"] = [30, 10, 30]

    def of(metric):
        return {row.type: row.mean for row in type_rows([cell], [record], target="ai", metric=metric)}["task"]

    assert (of("precision"), of("recall")) == (75.0, 50.0)
    with pytest.raises(UnknownName, match=r"^there is no metric 'recal'\. Did you mean 'recall'\?"):
        of("recal")


def test_what_is_predicted_on_another_corpus_has_its_types():
    cells = [Planned("a", "ai"), Planned("a", "ai", regime="supervised+on-news")]
    records = [ok(cell, 50) for cell in cells]
    records[1]["scores"]["fine"]["strict"]["types"] = {"person": [1, 0, 0]}

    assert [row.type for row in type_rows(cells, records, target="ai")] == ["field", "task", "person"]


def test_a_record_of_other_settings_than_the_plans_is_no_number():
    cell = Planned("tagger", "ai", changed={"lr": 0.1})

    [row] = rows([cell], [ok(cell, 50, settings={"lr": 0.2, "batch": 8})])

    assert (row.status, row.f1, row.reason) == (
        "missing",
        None,
        "the record is not of this plan: lr 0.2 there, 0.1 here",
    )


def test_orders_of_learning_make_rows_apart():
    one, other = Planned("tagger", "ai"), Planned("tagger", "music", order="joint")

    found = rows([one, other], [ok(one, 50), ok(other, 60)])

    assert [(row.order, row.f1) for row in found] == [("sequence", 50.0), ("joint", 60.0)]
