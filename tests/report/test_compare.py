"""Intervals and ranks in tables, and two variants side by side, on boards made by hand."""

import csv
import io
import json

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.errors import CdnerError
from benchmark.report.compare import compare, draw, rank, render, told, words
from benchmark.report.layout import tables, with_evidence
from benchmark.report.render import render as text
from benchmark.report.rows import columns, rows
from benchmark.run.plan import TableCell
from tests.report.fake_records import Planned, ok


def counted(cell, chance, sentences=200, **other):
    """Return a record whose sentences have four mentions, each found with this chance."""
    dice = np.random.default_rng([7, *map(ord, cell.name)])
    hit = dice.binomial(4, chance, sentences)
    each = [[int(h), int(4 - h), int(4 - h)] for h in hit]
    total = [int(sum(c[i] for c in each)) for i in range(3)]
    part = {"strict": {"all": total, "types": {"field": total}}}
    return ok(cell, 50, scores={"fine": part, "general": part}, sentences={"fine": each, "general": each}, **other)


def board(chances, seeds=(1, 2, 3, 4), targets=("ai", "movie", "music")):
    cells = [Planned(v, t, s) for v in chances for t in targets for s in seeds]
    return cells, [counted(cell, chances[cell.variant]) for cell in cells]


def test_rows_have_intervals_and_ranks():
    found = {row.variant: row for row in rows(*board({"good": 0.8, "same": 0.8, "bad": 0.5}, targets=("ai",)))}

    good, bad = found["good"], found["bad"]
    assert good.low < good.f1 < good.high
    assert good.interval == "seeds and sentences"
    assert (good.rank_low, good.rank_high, good.tied) == (1, 2, True)
    assert (bad.rank_low, bad.rank_high, bad.tied) == (3, 3, False)
    assert 0 < good.detectable < 20
    assert good.detectable == bad.detectable


def test_with_two_seeds_there_is_an_interval_of_the_sentences_and_no_rank():
    found = rows(*board({"good": 0.8, "bad": 0.5}, seeds=(1, 2), targets=("ai",)))

    assert {row.interval for row in found} == {"sentences only"}
    assert {row.rank_low for row in found} == {row.tied for row in found} == {None}
    assert all(row.low < row.f1 < row.high for row in found)


def test_draws_are_the_units_where_there_are_several():
    cells = [Planned("a", "ai", 1, draw, regime="fraction-0.01") for draw in (1, 2, 3)]

    (found,) = rows(cells, [counted(cell, 0.5) for cell in cells])

    assert found.interval == "draws and sentences"


def test_other_protocols_have_no_interval():
    cells, records = board({"good": 0.8}, targets=("ai",))
    for record in records:
        record["scores"]["fine"]["token"] = record["scores"]["fine"]["strict"]

    (found,) = rows(cells, records, protocol="token")

    assert found.low is None


def test_records_without_counts_of_sentences_have_no_interval():
    cells, records = board({"good": 0.8}, targets=("ai",))
    for record in records:
        del record["sentences"]

    (found,) = rows(cells, records)

    assert found.f1 is not None
    assert found.low is None


def test_test_sets_of_other_lengths_are_not_compared():
    cells = [Planned(v, "ai", s) for v in ("a", "b") for s in (1, 2, 3)]
    records = [counted(cell, 0.5, sentences=200 if cell.variant == "a" else 199) for cell in cells]

    assert [[row.variant for row in own] for own, _ in columns(cells, records)] == [["a"], ["b"]]


def test_bold_are_the_best_and_those_that_are_not_told_from_it():
    (table, evidence) = with_evidence(tables(rows(*board({"good": 0.8, "same": 0.8, "bad": 0.5}))))

    assert [[e.best for e in line[1:4]] for line in table.lines] == [[True] * 3, [True] * 3, [False] * 3]
    assert not any(line[4].best for line in table.lines)  # averages are not tested
    assert [[e.part for e in line[1:4]] for line in evidence.lines] == [["(1–2)"] * 3, ["(1–2)"] * 3, ["(3)"] * 3]
    assert evidence.heads[-1].word == "average rank"
    assert evidence.footer.startswith(
        "smallest true difference of two variants that is found with 80% probability, after the correction: ai "
    )


def test_a_table_without_ranks_has_no_second_one():
    assert len(with_evidence(tables(rows(*board({"good": 0.8, "bad": 0.5}, seeds=(1,)))))) == 1


def test_intervals_stand_in_every_layout():
    laid_out = with_evidence(tables(rows(*board({"good": 0.8, "bad": 0.5}))))

    for format in ("terminal", "markdown", "latex"):
        page = text(laid_out, format, width=120) if format == "terminal" else text(laid_out, format)
        assert "95" in page
        assert "average rank" in page
        assert "smallest true difference of two variants" in " ".join(page.split())
    assert text(laid_out, "csv") == text(rows(*board({"good": 0.8, "bad": 0.5})), "csv")


# ---- two variants


def test_a_clear_winner_is_said_to_be_one_in_two_lines():
    cells, records = board({"good": 0.8, "bad": 0.5}, targets=("ai", "music"))

    found = compare("good", "bad", cells, records)
    first, second = words(found).split("\n")

    assert first.startswith("good is ahead of bad on 2 of 2 (")
    assert second.startswith("More than noise: ai +")
    assert "Mean over ai, music: +" in second
    assert second.endswith(", more than noise.")
    assert found.overall is not None


def test_two_that_were_chosen_before_are_corrected_for_transfers_and_others_for_all_pairs():
    cells, records = board({"one": 0.62, "two": 0.58, "three": 0.6, "four": 0.6})

    for line in compare("two", "one", cells, records).lines:
        assert line.p <= line.corrected <= 1
        assert line.p <= line.of_column <= 1
    [alone] = compare("one", "two", *board({"one": 0.62, "two": 0.58}, targets=("ai",))).lines
    assert alone.p == alone.corrected == alone.of_column


def test_a_difference_is_that_of_the_numbers_beside_it():
    cells, records = board({"one": 0.6, "two": 0.5}, targets=("ai",))
    more = [Planned("one", "ai", seed) for seed in (5, 6)]
    records += [counted(cell, 0.9) for cell in more]

    found = compare("one", "two", [*cells, *more], records)
    [line] = found.lines
    assert line.difference == pytest.approx(line.first - line.second)
    assert (line.units, line.left_out) == (4, 2)
    shown = render(found, "terminal")
    assert "target-dev (c)" in shown
    assert "(c) over the seeds or draws that both have alone; a table has the means over all" in shown


def test_two_regimes_are_compared_variant_by_variant():
    cells = [
        Planned(v, "ai", s, regime=regime)
        for v in ("one", "two") for regime in ("supervised", "supervised+similar-0.5") for s in (1, 2, 3, 4)
    ]  # fmt: skip
    records = [counted(cell, 0.8 if "similar" in cell.regime and cell.variant == "one" else 0.5) for cell in cells]

    cells = [
        TableCell(
            c.name, c.variant, c.method, c.sources, c.target, c.regime, c.select, c.order, c.dev, {}, None, c.seed
        )
        for c in cells
    ]

    found = compare("supervised+similar-0.5", "supervised", cells, records, by="regime")
    one, two = found.lines
    assert (one.transfer, two.transfer) == ("conll2003 → ai, one, target-dev", "conll2003 → ai, two, target-dev")
    assert one.sure
    assert not two.sure
    assert words(found).startswith("supervised+similar-0.5 is ahead of supervised on ")
    assert "More than noise: one on ai +" in words(found)
    with pytest.raises(CdnerError, match="there is no regime 'one' here"):
        compare("one", "two", cells, records, by="regime")


def test_a_comparison_fits_its_width():
    found = compare("one", "two", *board({"one": 0.6, "two": 0.5}))

    for width in (60, 80, 120):
        assert max(map(len, render(found, "terminal", width).splitlines())) <= width


def test_an_untested_column_has_nothing_bold_beside_tested_ones():
    cells, records = board({"good": 0.8, "bad": 0.5}, targets=("ai",))
    few = [Planned(v, "movie", 1) for v in ("good", "bad")]
    records += [counted(cell, 0.5 + 0.3 * (cell.variant == "good")) for cell in few]

    (table, _) = with_evidence(tables(rows([*cells, *few], records)))
    assert [[e.best for e in line[1:4]] for line in table.lines] == [[True, False, False], [False] * 3]
    (alone,) = tables(rows(few, records))
    assert [line[1].best for line in alone.lines] == [True, False]


def test_what_may_be_noise_is_said_to_be_that_with_what_would_have_been_found():
    _, second = words(compare("one", "two", *board({"one": 0.6, "two": 0.6}, targets=("ai",)))).split("\n")

    assert second.startswith("On no target alone more than noise: ai; four times of five, a true difference of ")
    assert second.endswith(" would have been found.")


def test_one_seed_cannot_tell():
    found = compare("one", "two", *board({"one": 0.9, "two": 0.3}, seeds=(1,), targets=("ai",)))

    assert words(found).split("\n")[1] == (
        "Whether that is more than noise cannot be told: it takes three seeds (or draws) that both have, and the "
        "intervals here are of the sentences only."
    )
    assert found.lines[0].p is None
    assert found.lines[0].interval == "sentences only"
    assert "Holm" not in render(found, "terminal")
    assert "all pairs" in render(compare("one", "two", *board({"one": 0.9, "two": 0.3}, targets=("ai",))), "markdown")


def test_equal_predictions_are_level():
    cells, records = board({"one": 0.6, "two": 0.6}, targets=("ai",))
    for record, twin in zip(records[:4], records[4:], strict=True):
        twin["scores"], twin["sentences"] = record["scores"], record["sentences"]

    assert words(compare("one", "two", cells, records)).startswith("one is ahead of two on 0 of 1, level on 1.\n")


def test_comparisons_are_corrected_for_their_number():
    found = compare("one", "two", *board({"one": 0.62, "two": 0.6}))

    assert all(line.corrected >= line.p for line in found.lines)
    assert max(line.corrected for line in found.lines) >= max(line.p for line in found.lines)
    assert min(line.corrected for line in found.lines) == pytest.approx(min(1, 3 * min(x.p for x in found.lines)))


def test_a_comparison_is_written_in_every_format():
    found = compare("good", "bad", *board({"good": 0.8, "bad": 0.5}))

    assert len(list(csv.DictReader(io.StringIO(render(found, "csv"))))) == 3
    assert len(json.loads(render(found, "json"))["lines"]) == 3
    assert "| transfer" in render(found, "markdown")
    assert "conll2003 → ai, supervised, target-dev" in render(found, "terminal")


def test_an_unknown_variant_is_named_with_the_nearest():
    with pytest.raises(CdnerError) as error:
        compare("god", "bad", *board({"good": 0.8, "bad": 0.5}))

    assert str(error.value) == "there is no variant 'god' here. Did you mean 'good'? There are: good, bad."


def test_a_variant_is_not_compared_with_itself():
    with pytest.raises(CdnerError) as error:
        compare("bad", "bad", *board({"good": 0.8, "bad": 0.5}))

    assert str(error.value) == "bad cannot be compared with itself: name two variants."


def test_variants_without_a_common_transfer_are_refused():
    cells = [Planned("one", "ai"), Planned("two", "movie")]

    with pytest.raises(CdnerError) as error:
        compare("one", "two", cells, [counted(cell, 0.5) for cell in cells])

    assert str(error.value) == (
        "one and two have no transfer in common on which both have numbers of fine types, with the same seeds or draws "
        "and the counts of each sentence. `cdner status BOARD` says what is missing."
    )


# ---- average ranks


def test_average_ranks_are_told_from_the_best_on():
    found = rank(rows(*board({"bad": 0.5, "good": 0.8, "fair": 0.65})))

    assert found.average == {"bad": 3, "good": 1, "fair": 2}
    assert told(found).splitlines()[2].split() == ["good", "1.00"]
    assert told(found).endswith("two ranks less than 1.91 apart cannot be told apart (Nemenyi, 5%)")


def test_ranks_that_no_test_can_tell_apart_are_said_to_be_that():
    found = rank(rows(*board({"bad": 0.5, "good": 0.8, "fair": 0.65}, targets=("ai", "music"))))

    assert told(found).endswith(
        "on so few targets no two can be told apart: that takes 2.34 (Nemenyi, 5%), and ranks of 3 variants differ by 2 at most"
    )


def test_average_ranks_are_of_variants_and_targets_with_three_seeds():
    cells, records = board({"bad": 0.5, "good": 0.8})
    few = [Planned(v, "restaurant", 1) for v in ("bad", "good")] + [
        Planned("new", t, 1) for t in ("ai", "movie", "music")
    ]
    records += [counted(cell, 0.9) for cell in few]

    found = rank(rows([*cells, *few], records))
    assert found.average == {"bad": 2, "good": 1}
    assert found.sets == 3


def test_a_single_target_has_no_average_rank():
    with pytest.raises(CdnerError) as error:
        rank(rows(*board({"bad": 0.5, "good": 0.8}, targets=("ai",))))

    assert str(error.value) == (
        "average ranks want two variants that have three seeds (or draws) on each of two targets at least; name "
        "other targets (--target) or other variants (--variant)."
    )


@pytest.mark.parametrize(("kind", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of what draws it
def test_the_diagram_is_drawn(kind, start, tmp_path):
    found = rank(rows(*board({"bad": 0.5, "good": 0.8, "fair": 0.65})))

    draw(found, "a board", tmp_path / f"ranks{kind}")

    assert (tmp_path / f"ranks{kind}").read_bytes().startswith(start)


def test_a_figure_of_no_known_kind_is_refused(tmp_path):
    with pytest.raises(CdnerError) as error:
        draw(rank(rows(*board({"bad": 0.5, "good": 0.8}))), "a board", tmp_path / "ranks.gif")

    assert str(error.value) == f"{tmp_path / 'ranks.gif'}: a figure is one of .png, .svg, .pdf, by the end of its name."


# ---- the commands, on a committed board


def test_compare_reads_committed_records(capsys):
    assert main(["compare", "minilm/laner", "tagger-target-only"]) == 0

    assert capsys.readouterr().out.startswith("laner is ahead of tagger-target-only on 6 of 8 (")


def test_compare_wants_a_board_where_several_have_both(capsys):
    assert main(["compare", "tagger", "laner"]) == 1

    told = capsys.readouterr().err
    assert told.startswith("cdner: the boards that have both tagger and laner: ")
    assert told.endswith(". Name one: --board BOARD, or BOARD/tagger.\n")


def test_compare_refuses_two_boards(capsys):
    assert main(["compare", "minilm/laner", "laner-budget/tagger"]) == 1

    assert capsys.readouterr().err == (
        "cdner: minilm/laner and laner-budget/tagger are of different boards: a test wants one board, with the same "
        "plan.\n"
    )


def test_ranks_reads_committed_records(capsys):
    assert main(["ranks", "minilm", "--variant", "tagger*", "--variant", "laner"]) == 0

    assert "laner                         1.60" in capsys.readouterr().out
