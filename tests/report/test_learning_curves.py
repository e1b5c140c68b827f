"""Learning curves over added data."""

from pathlib import Path

import pytest
from fake_records import Planned, scored

from benchmark.errors import CdnerError
from benchmark.report.curves import Point, curves, draw, table
from benchmark.report.figures import FILES
from benchmark.report.rows import rows

ADDED = [
    ("supervised", 50), ("supervised+random-0.1", 52), ("supervised+random-0.5", 51), ("supervised+similar-0.1", 55),
]  # fmt: skip


def found(*more):
    plan = [
        scored(Planned("tagger", "ai", seed, regime=regime), f1 + seed) for regime, f1 in ADDED for seed in (1, 2, 3)
    ]
    plan += [scored(Planned("tagger", "music", regime="supervised+random-0.1"), 99), *more]
    return rows([cell for cell, _ in plan], [record for _, record in plan])


def test_a_curve_goes_from_no_added_data_to_the_most():
    random, similar = curves(found(), "ai")

    assert (random.variant, random.choose) == ("tagger", "random")
    assert random.points == (Point(0.0, 52.0, 1.0, 3), Point(0.1, 54.0, 1.0, 3), Point(0.5, 53.0, 1.0, 3))
    assert random.best.share == 0.1
    assert [point.share for point in similar.points] == [0.0, 0.1]


def test_another_order_of_learning_does_not_begin_a_curve():
    joint = [
        scored(Planned("crf", "ai", regime="supervised", order="joint"), 10),
        scored(Planned("crf", "ai", regime="supervised+random-0.1"), 20),
    ]

    assert curves(found(*joint), "ai")[-1].points == (Point(0.1, 20.0, None, 1),)


def test_each_regime_has_a_curve_of_its_own():
    few = [
        scored(Planned("tagger", "ai", regime="fraction-0.1"), 10),
        scored(Planned("tagger", "ai", regime="fraction-0.1+random-0.1"), 20),
    ]

    last = curves(found(*few), "ai")[-1]
    assert (last.added, last.points) == ("fraction-0.1, random", (Point(0.0, 10.0, None, 1), Point(0.1, 20.0, None, 1)))


def test_curves_are_printed_as_a_table():
    assert (
        table(curves(found(), "ai"))
        == """\
  variant    added            0%           10%           50%    best at
---------  -------  ------------  ------------  ------------  ---------
   tagger   random  52.00 ± 1.00  54.00 ± 1.00  53.00 ± 1.00        10%
   tagger  similar  52.00 ± 1.00  57.00 ± 1.00             –        10%

mean F1 ± sample deviation over 3 draws and seeds, by the share of the other domains' train added"""
    )


def test_without_added_data_there_is_no_curve():
    with pytest.raises(CdnerError, match="there is no number with added data on movie"):
        curves(found(), "movie")


def test_curves_differ_in_marker_and_stand_beside_each_other(monkeypatch):
    figures = []
    monkeypatch.setattr("benchmark.report.figures.save", lambda figure, path: figures.append(figure))
    draw(curves(found(), "ai"), "a board", Path("ai.png"))

    [axes] = figures[0].axes
    random, similar = (container.lines[0] for container in axes.containers)
    assert (random.get_marker(), similar.get_marker()) == ("o", "s")
    assert 0 < abs(random.get_xdata()[0] - similar.get_xdata()[0]) < 5
    assert [text.get_text() for text in axes.texts] == ["bars: sample deviation over draws and seeds"]


@pytest.mark.parametrize("end", FILES)
def test_a_figure_is_a_file_of_its_kind(tmp_path, end):
    draw(curves(found(), "ai"), "a board", tmp_path / "figures" / f"ai{end}")

    begins = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[end]
    assert (tmp_path / "figures" / f"ai{end}").read_bytes().startswith(begins)


def test_a_figure_of_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(CdnerError, match=r"ai.jpg: a figure is one of .png, .svg, .pdf"):
        draw(curves(found(), "ai"), "a board", tmp_path / "ai.jpg")
