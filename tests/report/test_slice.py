"""Where variants differ: rows, tables and figures of slices, confusions, amounts of gold and costs."""

import json

import pytest
from fake_records import Planned, ended, ok

from benchmark.cli import main
from benchmark.errors import CdnerError
from benchmark.report import slices
from benchmark.report.figures import FILES
from benchmark.report.render import FORMATS, render
from benchmark.score.protocols import Counts

SEEN = {"target": [6, 2, 2], "other": [0, 0, 0], "unseen": [1, 4, 3]}
SLICES = {
    "span-length": {"1": [5, 5, 5], "2": [2, 1, 0], "3": [0, 0, 0], "4": [0, 0, 0], "5+": [0, 0, 0]},
    "sentence-length": {"1-10": [7, 6, 5], "11-20": [0, 0, 0], "21-30": [0, 0, 0], "31-40": [0, 0, 0], "41+": [0] * 3},
    "seen": SEEN,
    "shared": {"shared": [3, 3, 3], "new": [4, 3, 2]},
    "consistency": {"this": [6, 0, 1], "several": [0, 1, 1], "others": [0, 1, 0], "unseen": [1, 4, 3]},
    "confusion": {"types": ["field", "task"], "counts": [[4, 1, 2], [0, 3, 1], [2, 2, 0]]},
    "shared_types": ["task"],
}


def counted(cell, f1=50, seen=None, **other):
    found = SLICES | ({} if seen is None else {"seen": seen})
    return cell, ok(cell, f1, slices={"fine": found, "general": found}, **other)


def found(*plan, **chosen):
    return slices.find("a", [cell for cell, _ in plan], [r for _, r in plan if r is not None], **chosen)


def told(*plan, **chosen):
    return [(row.variant, row.bucket, row.gold, row.f1 and round(row.f1, 2)) for row in found(*plan, **chosen)]


def f1(*counts):
    return round(Counts(*counts).f1, 2)


# ---- rows


def test_a_slice_has_the_mean_over_seeds_of_the_f1_of_each_bucket():
    other = SEEN | {"target": [8, 0, 0]}
    target, unseen = found(counted(Planned("t", "ai", 1)), counted(Planned("t", "ai", 2), seen=other), by="seen")

    assert (target.bucket, target.gold, target.f1, target.cells) == ("target", 8.0, (75 + 100) / 2, 2)
    assert round(target.std, 4) == round(25 / 2**0.5, 4)
    assert (unseen.bucket, round(unseen.precision, 2), round(unseen.recall, 2)) == ("unseen", 20.0, 25.0)


def test_a_bucket_that_no_variant_has_is_left_out():
    assert [row.bucket for row in found(counted(Planned("t", "ai")), by="span-length")] == ["1", "2"]


def test_a_bucket_without_gold_and_predictions_in_one_variant_has_no_f1_there():
    empty = counted(Planned("u", "ai"), seen=SEEN | {"unseen": [0, 0, 0]})

    assert told(counted(Planned("t", "ai")), empty, by="seen")[-1] == ("u", "unseen", 0.0, None)


def test_types_are_counted_by_every_record_and_known_where_slices_are():
    plain = [(Planned("t", "ai"), ok(Planned("t", "ai"), 50))]

    assert [(row.bucket, row.kind, row.f1) for row in found(*plain, by="type")] == [
        ("field", None, 50.0), ("task", None, 40.0),
    ]  # fmt: skip
    assert [row.kind for row in found(counted(Planned("t", "ai")), by="type")] == ["new", "shared"]


def test_without_sources_no_type_is_called_new():
    alone = counted(Planned("t", "ai", sources=(), regime="in-domain"))

    assert {row.kind for row in found(alone, by="type")} == {None}


def test_detection_is_right_bounds_and_typing_the_right_types_among_them():
    cell = Planned("t", "ai")
    errors = {"hit": 60, "type": 20, "boundary": 10, "missed": 5, "spurious": 4}
    record = ok(cell, 60, errors={"fine": errors})

    assert told((cell, record), by="detection") == [
        ("t", "strict", 95.0, f1(60, 34, 35)), ("t", "detection", 95.0, f1(80, 14, 15)), ("t", "typing", None, 75.0),
    ]  # fmt: skip


def test_a_record_without_slices_leaves_its_line_with_the_reason():
    old = Planned("u", "ai")
    last = found(counted(Planned("t", "ai")), (old, ok(old, 50)), by="seen")[-1]

    assert (last.variant, last.f1, last.status) == ("u", None, "missing")
    assert last.reason == "no slices: `cdner run` scores again where the corpora are (CDNER_DATA), and trains nothing"


def test_a_general_level_has_its_own_slices():
    cell = Planned("norm", "ai")
    record = ok(cell, 50, level="general", slices={"general": SLICES})
    del record["scores"]["fine"]

    assert told((cell, record), by="shared", types="general") == [
        ("norm", "shared", 6.0, f1(3, 3, 3)), ("norm", "new", 6.0, f1(4, 3, 2)),
    ]  # fmt: skip


def test_target_variant_and_regime_choose():
    plan = [
        counted(Planned("tagger", "ai")), counted(Planned("tagger-crf", "ai")), counted(Planned("laner", "ai")),
        counted(Planned("tagger", "music")), counted(Planned("tagger", "ai", regime="zero-shot")),
    ]  # fmt: skip
    rows = found(*plan, by="shared", targets=["ai"], variants=["tagger*"], regimes=["sup*"])

    assert {(row.variant, row.target, row.regime) for row in rows} == {
        ("tagger", "ai", "supervised"), ("tagger-crf", "ai", "supervised"),
    }  # fmt: skip


def test_several_targets_variants_and_regimes_may_be_chosen():
    plan = [counted(Planned(v, t)) for v in ("tagger", "tagger-crf", "laner") for t in ("ai", "music", "politics")]
    rows = found(*plan, by="shared", targets=["ai", "music"], variants=["laner", "*-crf"])

    assert {(row.variant, row.target) for row in rows} == {
        (v, t) for v in ("tagger-crf", "laner") for t in ("ai", "music")
    }


# ---- a board that is partly run


def partly_run():
    """Return a board that has records of one variant on one target alone."""
    left = [(Planned(v, t, sources=s), None) for v in "tu" for t in ("ai", "music") for s in (("conll2003",), ())]
    return [counted(Planned("t", "ai")), *left[1:]]


@pytest.mark.parametrize("by", [*slices.SLICES, "confusion", None])
@pytest.mark.parametrize("format", FORMATS)
def test_a_board_that_is_partly_run_has_tables(by, format):
    text = render(found(*partly_run(), by=by), format)

    assert format in ("csv", "json", "latex") or text.count("no record yet") == {"confusion": 7, None: 2}.get(by, 4)


def test_an_overview_without_records_has_its_columns_and_no_numbers():
    text = render(found(*partly_run()), "markdown")

    alone = text[text.index("**strict F1, where variants differ · fine types · each target alone") :].splitlines()
    assert alone[2].split("|")[1:5] == [" target   ", " variant   ", "   strict ", "   detection "]
    assert alone[4].split("|")[1:4] == [" ai       ", " t         ", "        — "]


# ---- amounts of gold

FEW = [("fraction-0.01", 30), ("fraction-0.1", 40), ("supervised", 50), ("zero-shot", 10)]


def amounts(*plan):
    return [(row.variant, row.regime, row.bucket, row.f1, row.std) for row in found(*plan, by="amount")]


def test_fractions_begin_with_nothing_and_end_with_the_whole():
    plan = [counted(Planned("t", "ai", regime=regime), f1) for regime, f1 in FEW]

    assert amounts(*plan) == [
        ("t", "fraction", "0", 10.0, None), ("t", "fraction", "0.01", 30.0, None),
        ("t", "fraction", "0.1", 40.0, None), ("t", "fraction", "1", 50.0, None),
    ]  # fmt: skip


def test_the_deviation_is_over_draws_and_seeds():
    plan = [counted(Planned("t", "ai", regime="sentences-40", draw=draw), 40 + draw) for draw in (1, 2, 3)]

    assert amounts(*plan) == [("t", "sentences", "40", 42.0, 1.0)]


def test_numbers_of_sentences_do_not_end_with_the_whole():
    plan = [counted(Planned("t", "ai", regime=regime)) for regime in ("sentences-40", "sentences-5", "supervised")]

    assert [bucket for _, _, bucket, _, _ in amounts(*plan)] == ["5", "40"]


def test_another_way_of_selecting_is_no_end_of_a_curve():
    plan = [counted(Planned("t", "ai", regime="fraction-0.1", select="last")), counted(Planned("t", "ai"))]

    assert [bucket for _, _, bucket, _, _ in amounts(*plan)] == ["0.1"]


def test_amounts_stand_in_their_order_whichever_a_variant_has():
    plan = [
        counted(Planned("t", "ai", regime="fraction-0.1")), counted(Planned("u", "ai", regime="fraction-0.05")),
        counted(Planned("u", "ai")),
    ]  # fmt: skip
    text = render(found(*plan, by="amount"), "csv").splitlines()

    assert [line.split(",")[0] for line in text[1:]] == ["t", "u", "u"]
    lines = render(found(*plan, by="amount"), "markdown").splitlines()
    assert [line.split("|")[1].strip() for line in lines[4:7]] == ["5%", "10%", "100%"]


# ---- cost


def priced(variant, target, seconds, f1, **other):
    cell = Planned(variant, target)
    return counted(cell, f1, cost={"alone_seconds": seconds}, **other)


def costs(*plan):
    return [(row.target, row.variant, row.seconds, row.f1, row.front) for row in found(*plan, by="cost")]


def test_the_front_has_those_that_no_other_beats_in_both():
    plan = [priced("a", "ai", 10, 40), priced("b", "ai", 20, 50), priced("c", "ai", 20, 45), priced("d", "ai", 30, 50)]

    assert costs(*plan) == [
        ("ai", "a", 10, 40.0, True), ("ai", "b", 20, 50.0, True), ("ai", "c", 20, 45.0, False),
        ("ai", "d", 30, 50.0, False),
    ]  # fmt: skip


def test_equal_variants_are_on_the_front_together():
    assert [row[-1] for row in costs(priced("a", "ai", 10, 40), priced("b", "ai", 10, 40))] == [True, True]


def test_the_average_is_over_all_targets_and_of_those_alone_that_have_them():
    plan = [priced("a", "ai", 10, 40), priced("a", "music", 30, 60), priced("b", "ai", 5, 90)]

    assert [row for row in costs(*plan) if row[0] == "average"] == [("average", "a", 20.0, 50.0, True)]


def test_a_cost_that_is_not_known_is_on_no_front():
    assert costs(priced("a", "ai", None, 40), priced("b", "ai", 10, 30)) == [
        ("ai", "a", None, 40.0, None), ("ai", "b", 10, 30.0, True),
    ]  # fmt: skip


def test_costs_of_several_devices_are_marked():
    gpu, cpu = ({"precision": "bf16", "device": [device]} for device in ("gpu X", "cpu Y"))
    text = render(
        found(priced("a", "ai", 10, 40, provenance=gpu), priced("b", "ai", 20, 50, provenance=cpu), by="cost"),
        "markdown",
    )

    assert "- seconds: of all stages of a cell, as if it had been run alone; measured on cpu Y, gpu X" in text
    assert "- ! Not all were measured on the same device, so that their seconds say little of each other" in text


# ---- confusions


def test_a_confusion_is_the_mean_over_cells():
    second = {"types": ["field"], "counts": [[6, 0], [0, 0]]}
    cells = Planned("t", "ai", 1), Planned("t", "ai", 2)
    records = [
        ok(c, 50, slices={"fine": SLICES | more}) for c, more in zip(cells, ({}, {"confusion": second}), strict=True)
    ]
    rows = found(*zip(cells, records, strict=True), by="confusion")
    counts = {(row.gold, row.predicted): row.count for row in rows}

    assert len(rows) == 8
    assert (counts["field", "field"], counts["field", "task"], counts["field", "(missed)"]) == (5.0, 0.5, 1.0)
    assert counts["(spurious)", "task"] == 1.0


def test_a_confusion_is_a_table_of_gold_by_predicted_types():
    text = render(found(counted(Planned("t", "ai")), by="confusion"), "markdown")

    assert text.splitlines()[2:7] == [
        "| gold, then predicted   |   field |   task |   (missed) |",
        "|:-----------------------|--------:|-------:|-----------:|",
        "| field                  |   **4** |      1 |          2 |",
        "| task                   |         |  **3** |          1 |",
        "| (spurious)             |       2 |      2 |            |",
    ]


# ---- tables


def test_a_slice_is_a_table_of_buckets_by_variants():
    other = counted(Planned("u", "ai"), seen=SEEN | {"unseen": [2, 2, 2]})

    assert (
        render(found(counted(Planned("t", "ai")), other, by="seen"), "markdown")
        == """\
**strict F1 by where the text was seen as a mention · fine types · conll2003 → ai · supervised · selected on target-dev**

| seen in      |   gold |         t |         u |
|:-------------|-------:|----------:|----------:|
| target train |      8 | **75.00** | **75.00** |
| nowhere      |      4 |     22.22 | **50.00** |

1 seed · backbone minilm · corpora v1 · scorer v1
"""
    )


def test_the_overview_says_where_slices_are_not_counted():
    old = Planned("old", "ai")
    text = render(found(counted(Planned("new", "ai")), (old, ok(old, 50))), "markdown")

    assert text.splitlines()[2:6] == [
        "| target   | variant   |    strict |   detection |    typing |   seen |   elsewhere |   unseen |   shared types |   new types |",
        "|:---------|:----------|----------:|------------:|----------:|-------:|------------:|---------:|---------------:|------------:|",
        "| ai       | new       | **59.17** |   **82.84** | **71.43** |  75.00 |           — |    22.22 |          50.00 |       61.54 |",
        "|          | old       | **59.17** |   **82.84** | **71.43** |      — |           — |        — |              — |           — |",
    ]  # fmt: skip
    assert "— in a line with numbers no slices: \\`cdner run\\` scores again where the corpora are" in text


def test_a_type_that_nothing_else_has_is_told_in_the_table():
    text = render(found(counted(Planned("t", "ai")), by="type"), "markdown")

    assert "| field  | new     |    100 | 50.00 |" in text
    assert "- new: nothing else that is learned from has the type" in text


def test_every_slice_is_written_as_data():
    plan = [priced(variant, target, 10, 50) for variant in "ab" for target in ("ai", "music")]
    few = [counted(Planned("t", "ai", regime="fraction-0.1"))]
    for by in (*slices.BY, None):
        rows = found(*(few if by == "amount" else plan), by=by)
        assert len(json.loads(render(rows, "json"))) == len(render(rows, "csv").splitlines()) - 1 == len(rows)
        assert r"\toprule" in render(rows, "latex")


# ---- figures

MANY = [
    priced(variant, target, 10.0 + n * m, 10 * n + 30)
    for n, variant in enumerate(("a", "b", "c"))
    for m, target in enumerate(("ai", "music", "politics"))
]
CURVES = [
    counted(Planned(variant, "ai", regime=regime, draw=draw), f1 + draw)
    for variant in "ab"
    for regime, f1 in FEW
    for draw in (1, 2)
]


@pytest.mark.parametrize("by", [*slices.BY, None])
@pytest.mark.parametrize("end", FILES)
def test_a_figure_is_a_file_of_its_kind(tmp_path, by, end):
    slices.write(found(*(CURVES if by == "amount" else MANY), by=by), "a board", tmp_path / "figures" / f"a{end}")

    begins = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[end]
    assert (tmp_path / "figures" / f"a{end}").read_bytes().startswith(begins)


@pytest.mark.parametrize("by", [*slices.BY, None])
def test_no_point_is_cut_off(tmp_path, monkeypatch, by):
    figures = []
    monkeypatch.setattr(slices.figures, "save", lambda figure, path: figures.append(figure))
    slices.draw(found(*(CURVES if by == "amount" else MANY), by=by), "a board", tmp_path / "a.png")

    [figure] = figures
    assert len(figure.axes) == {"amount": 1, "cost": 4}.get(by, 3)
    for axes in figure.axes:
        low, high = sorted(axes.get_xlim())
        bottom, top = sorted(axes.get_ylim())
        points = [line for line in axes.lines if line.get_marker() in slices.figures.MARKERS]
        assert points or by == "confusion"
        for line in points:
            assert all(low <= x <= high for x in line.get_xdata())
            assert all(bottom <= y <= top for y in line.get_ydata())


def drawn(monkeypatch, plan, by):
    figures = []
    monkeypatch.setattr(slices.figures, "save", lambda figure, path: figures.append(figure))
    slices.draw(found(*plan, by=by), "a board", "a.png")
    [figure] = figures
    figure.draw_without_rendering()
    return figure


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("by", ["type", "cost", None])
def test_variants_that_predict_the_same_are_drawn_once_and_named_together(monkeypatch, by):
    same = [priced(variant, target, 20.0, 40) for variant in ("b", "c") for target in ("ai", "music")]
    figure = drawn(monkeypatch, [priced("a", "ai", 10.0, 30), *same, priced("d", "ai", 20.0, 40)], by)

    assert labels(figure) == ["a", "b (= c, d, where run)"]


def test_confusions_of_variants_that_predict_the_same_are_one_panel(monkeypatch):
    figure = drawn(monkeypatch, [counted(Planned("b", "ai")), counted(Planned("c", "ai"))], "confusion")

    assert [axes.get_title() for axes in figure.axes] == ["b (= c), ai"]


def test_variants_that_differ_in_one_number_are_two(monkeypatch):
    plan = [counted(Planned(v, t), 50 + (v == "c" and t == "music")) for v in "bc" for t in ("ai", "music")]

    assert labels(drawn(monkeypatch, plan, "type")) == ["b", "c"]


def typed(variant, target, number):
    cell = Planned(variant, target)
    record = ok(cell, 40 + len(variant))
    record["scores"]["fine"]["strict"]["types"] = {f"type{n}": [40 + len(variant), 50, 60 + n] for n in range(number)}
    return cell, record


def test_panels_are_as_tall_as_they_have_types_and_a_figure_is_no_taller_than_a_page(monkeypatch):
    sizes = {"ai": 14, "politics": 9, "science": 17, "music": 13, "literature": 12, "conll": 4, "movie": 12, "food": 8}
    figure = drawn(monkeypatch, [typed("v" * n, t, size) for t, size in sizes.items() for n in range(1, 10)], "type")
    width, height = figure.get_size_inches()

    assert (width <= 15, height <= 12) == (True, True)
    per_type = [axes.get_position().height * height / len(axes.get_yticks()) for axes in figure.axes]
    assert max(per_type) < 1.4 * min(per_type)


@pytest.mark.parametrize("by", ["type", "seen", "cost", None])
def test_the_legend_is_above_the_panels_and_no_heading_is_cut_off(monkeypatch, by):
    joined = "others of ai, politics, science, music, literature"
    cell = Planned("a", "ai", sources=("conll2003", joined), order="merge")
    figure = drawn(monkeypatch, [*MANY, counted(cell, cost={"alone_seconds": 9.0})], by)
    box = figure.legends[0].get_window_extent()

    for axes in figure.axes:
        heading = axes.title.get_window_extent()
        assert box.y0 >= heading.y0
        assert heading.x0 >= 0
        assert heading.x1 <= figure.bbox.x1


def test_many_variants_leave_panels_their_height_and_a_panels_own_stand_in_its_middle(monkeypatch):
    names = [f"variant-{n}-of-a-long-name" for n in range(12)]
    many = [counted(Planned(name, "ai"), 40 + n) for n, name in enumerate(names)]
    other = [counted(Planned("alone", "ai", sources=("conll2003", "music"), order="merge"), 30)]
    figure = drawn(monkeypatch, [*many, *other], "seen")

    inches = [axes.get_position().height * figure.get_figheight() for axes in figure.axes]
    assert min(inches) > 1.0
    points = [line for line in figure.axes[1].lines if line.get_marker() in slices.figures.MARKERS]
    assert [float(x) for line in points for x in line.get_xdata()] == pytest.approx(range(len(points[0].get_xdata())))


def test_a_heading_names_no_other_targets(monkeypatch):
    others = Planned("a", "ai", sources=("conll2003", "others of ai, politics, science"), order="merge")
    figure = drawn(monkeypatch, [*MANY, counted(others)], "seen")

    assert [axes.get_title().replace("\n", " ") for axes in figure.axes][-1] == "ai: from conll2003 + others, merge"


def test_text_in_a_pdf_is_text_that_publishers_take(tmp_path):
    slices.write(found(*MANY, by="seen"), "a board", tmp_path / "a.pdf")

    written = (tmp_path / "a.pdf").read_bytes()
    assert b"/Type3" not in written
    assert b"/TrueType" in written or b"/CIDFontType2" in written


def test_variants_differ_in_colour_or_marker():
    looks = [slices.figures.look(n) for n in range(72)]

    assert len({(look["color"], look["marker"]) for look in looks}) == 72


# ---- what cannot be told


def refused(*plan, **chosen):
    with pytest.raises(CdnerError) as caught:
        found(*plan, **chosen)
    return str(caught.value)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"targets": ["movie"], "variants": ["u*"]}, "--target movie --variant u*"),
        ({"targets": ["ai", "movie"]}, "--target movie"),
        ({"variants": ["t", "u"]}, "--variant u"),
        ({"regimes": ["zero-shot"]}, "--regime zero-shot"),
        ({"targets": ["music"], "variants": ["t"]}, "--target music --variant t --regime *"),
    ],
)
def test_a_choice_that_fits_nothing_says_what_there_is(chosen, said):
    plan = [counted(Planned("t", "ai")), counted(Planned("v", "music"))]

    assert refused(*plan, by="seen", **chosen) == (
        f"a: no cell fits {said}. There are the variants t, v and the targets ai (supervised), music (supervised)."
    )


@pytest.mark.parametrize("by", ["seen", "confusion"])
def test_records_without_slices_say_what_to_do(by):
    cell = Planned("t", "ai")

    assert refused((cell, ok(cell, 50)), by=by) == (
        f"a: its records were written before slices were counted, so there is none by {by}. Run it once more where its "
        "corpora are: cdner run a --data DIR (or CDNER_DATA). The stored predictions are scored again, and nothing is "
        "trained."
    )


def test_a_board_without_a_good_record_says_what_to_do():
    cell = Planned("t", "ai")

    assert refused((cell, ended(cell, "failed", "out of memory")), by="type") == (
        "a: there is no good record of what was asked for. Run it first: cdner run a."
    )


def test_methods_of_general_types_say_where_they_have_numbers():
    cell = Planned("norm", "ai")

    assert refused((cell, ok(cell, 50, level="general")), by="type") == (
        "a: its methods predict general types alone: say --types general."
    )


def test_a_board_without_amounts_says_what_they_need():
    assert refused(counted(Planned("t", "ai")), by="amount") == (
        "a: no regime has an amount of target gold. `--by amount` needs transfers of the regimes fraction, sentences or "
        "shots."
    )


def test_costs_that_no_record_tells_are_said_to_be_missing():
    assert refused(counted(Planned("t", "ai")), by="cost") == (
        "a: its records have no number by cost at the level of fine types."
    )


def test_a_file_of_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(CdnerError) as caught:
        slices.write(found(*MANY, by="seen"), "a board", tmp_path / "a.jpg")

    assert str(caught.value) == (
        f"{tmp_path / 'a.jpg'}: expected a name that ends in .md, .tex, .csv, .json, .png, .svg, .pdf."
    )


def test_too_many_panels_are_refused(tmp_path):
    plan = [counted(Planned("t", f"corpus{n}")) for n in range(13)]
    with pytest.raises(CdnerError) as caught:
        slices.write(found(*plan, by="seen"), "a board", tmp_path / "a.png")

    assert str(caught.value) == (
        f"{tmp_path / 'a.png'}: 13 panels are too many for a figure, which has 12 at most: say --target, --variant or "
        "--regime."
    )


# ---- the command


def test_the_command_prints_and_writes(tmp_path, capsys):
    files = [str(tmp_path / f"types{end}") for end in (".csv", ".pdf")]

    assert main(["slice", "minilm", "--by", "type", "--target", "ai", "--variant", "tagger", "--out", *files]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("strict F1 by type · fine types · conll2003 → ai · supervised · selected on")
    assert printed.endswith(f"written: {files[0]}\nwritten: {files[1]}\n")
    assert (tmp_path / "types.csv").read_text().count("\n") == 15


def test_the_command_takes_several_targets_and_variants(capsys):
    chosen = ["--target", "ai", "--target", "music", "--variant", "laner", "--variant", "tagger"]

    assert main(["slice", "minilm", "--by", "seen", *chosen, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {(row["variant"], row["target"]) for row in found} == {
        (variant, target) for variant in ("laner", "tagger") for target in ("ai", "music")
    }  # fmt: skip
