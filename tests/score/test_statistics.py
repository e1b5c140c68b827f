"""Statistics against hand-made cases, naive loops, and boards whose truth is known."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from benchmark.score.statistics import (
    Column,
    Estimate,
    combined,
    f1,
    holm,
    p_values,
    ranks,
    replicated,
    resamples,
    standings,
)
from tests.simulation import (
    World,
    alarms,
    boards,
    coverage,
    detectable,
    family_alarms,
    found_among,
    mean_alarms,
    planted_for,
)


def counts(runs: int, sentences: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (runs, sentences, 3))


def column(variants: int = 3, seeds: int = 4, sentences: int = 60) -> Column:
    whole = counts(variants * seeds, sentences)
    return Column({f"v{v}": {s: whole[[v * seeds + s]] for s in range(seeds)} for v in range(variants)})


# ---- the bootstrap


def test_every_resample_draws_as_many_sentences_as_there_are():
    drawn = resamples(7, 50)

    assert drawn.shape == (50, 7)
    assert (drawn.sum(axis=1) == 7).all()
    assert (drawn >= 0).all()


def test_resamples_are_the_same_each_time_and_differ_from_each_other():
    resamples.cache_clear()
    first = resamples(9, 20).copy()
    resamples.cache_clear()

    assert (resamples(9, 20) == first).all()
    assert len({tuple(row) for row in first}) > 15


def test_replicates_are_those_of_a_loop_over_sentences():
    runs = counts(2, 11)

    found = replicated(runs, 5)

    for b, times in enumerate(resamples(11, 5)):
        for r in range(2):
            hit, extra, missed = (
                sum(int(t) * int(s[i]) for t, s in zip(times, runs[r], strict=True)) for i in range(3)
            )
            assert found[b, r] == pytest.approx(200 * hit / (2 * hit + extra + missed))


def test_f1_of_nothing_is_zero():
    assert f1(np.zeros((2, 3))).tolist() == [0, 0]


# ---- estimates


def test_the_error_of_a_pair_is_that_of_a_loop():
    one, other = counts(3, seed=1), counts(3, seed=2)
    found = Column({"a": {s: one[[s]] for s in range(3)}, "b": {s: other[[s]] for s in range(3)}}).pair("a", "b")
    assert found is not None

    differences = [f1(one[s].sum(axis=0)) - f1(other[s].sum(axis=0)) for s in range(3)]
    drawn = np.array([
        [float(f1(times @ one[s]) - f1(times @ other[s])) for s in range(3)] for times in resamples(60)
    ])  # fmt: skip
    between = np.var(differences, ddof=1) / 3
    sentences = (3 * drawn.mean(axis=1).var(ddof=1) - drawn.var(axis=0, ddof=1).mean()) / 2
    assert found.value == pytest.approx(np.mean(differences))
    assert found.between == pytest.approx(between)
    assert found.within == pytest.approx(max(0.0, sentences))
    assert found.degrees == 2


def test_sentences_that_say_nothing_leave_students_t_with_one_degree_less_than_seeds():
    same = np.array([[[3, 1, 1]] * 50, [[3, 2, 1]] * 50, [[3, 0, 1]] * 50])  # each run's sentences are all alike

    found = Column({"a": {s: same[[s]] for s in range(3)}}).single("a")

    error = np.std([f1(run.sum(axis=0)) for run in same], ddof=1) / 3**0.5
    assert found.error == pytest.approx(error)
    assert found.half_width() == pytest.approx(stats.t.isf(0.025, 2) * error)


def test_with_two_seeds_the_interval_is_of_the_sentences_only():
    runs = counts(2)

    found = Column({"a": {1: runs[[0]], 2: runs[[1]]}}).single("a")

    assert not found.whole
    assert found.between == 0
    assert found.half_width() == pytest.approx(stats.norm.isf(0.025) * found.error)
    assert found.error == pytest.approx(replicated(runs).mean(axis=1).std(ddof=1))


def test_runs_of_one_draw_count_as_their_mean():
    runs = counts(6)

    found = Column({"a": {draw: runs[2 * draw : 2 * draw + 2] for draw in range(3)}}).single("a")

    each = f1(runs.sum(axis=1))
    assert found.units == 3
    assert found.value == pytest.approx(each.mean())


def test_a_pair_is_compared_on_the_seeds_that_both_have():
    runs = counts(7)
    whole = Column({"a": {s: runs[[s]] for s in range(4)}, "b": {s: runs[[s + 3]] for s in (1, 2, 3)}})

    found = whole.pair("a", "b")

    assert found is not None
    assert found.units == 3
    each = f1(runs.sum(axis=1))
    assert found.value == pytest.approx(np.mean([each[s] - each[s + 3] for s in (1, 2, 3)]))


def test_a_pair_without_a_common_seed_has_no_difference():
    runs = counts(2)

    assert Column({"a": {1: runs[[0]]}, "b": {2: runs[[1]]}}).pair("a", "b") is None


def test_the_same_predictions_are_never_told_apart():
    runs = counts(3)
    seeds = {s: runs[[s]] for s in range(3)}

    found = Column({"a": seeds, "b": dict(seeds)}).pair("a", "b")

    assert found is not None
    assert (found.value, found.error, found.p) == (0, 0, 1)


def test_runs_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="have not the same sentences"):
        Column({"a": {1: counts(1, 5)}, "b": {1: counts(1, 6)}})


def test_all_pairs_at_once_are_each_pair_alone():
    whole = column()

    for (one, other), found in whole.pairs().items():
        alone = whole.pair(one, other)
        assert alone is not None
        assert found.error == pytest.approx(alone.error)
        assert found.value == pytest.approx(alone.value)


@pytest.mark.parametrize("between", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("value", [0.5, 3.0, -8.0, 40.0])
def test_the_half_width_at_the_p_value_is_the_value(between, value):
    found = Estimate(value, between, 1.0, 2, 3)

    if found.p > 1.01e-12:
        assert found.half_width(found.p) == pytest.approx(abs(value), rel=1e-3)
    else:
        assert found.half_width(1e-11) < abs(value)


def test_without_variance_a_difference_is_sure_and_none_is_none():
    assert Estimate(1.0, 0.0, 0.0, 2, 3).p == pytest.approx(1e-12)
    assert Estimate(0.0, 0.0, 0.0, 2, 3).p == 1


def test_many_p_values_are_each_alone():
    some = [Estimate(2.0, 1.0, 0.5, 2, 3), Estimate(-1.0, 0.2, 0.5, 4, 5), Estimate(3.0, 0.0, 0.5, 2, 3)]

    assert p_values(some) == pytest.approx([e.p for e in some])


@pytest.mark.parametrize(("between", "within", "degrees"), [(1.7, 0.0, 4), (0.0, 1.7, 4)])
def test_what_is_detectable_is_found_with_the_stated_power(between, within, degrees):
    far = Estimate(0.0, between, within, degrees, 5).detectable() / 1.7**0.5

    if between:
        assert stats.nct.sf(stats.t.isf(0.025, degrees), degrees, far) == pytest.approx(0.8)
    else:
        assert stats.norm.sf(stats.norm.isf(0.025) - far) == pytest.approx(0.8)


def test_the_mean_over_test_sets_varies_as_the_means_of_its_units_do():
    each = [{1: 1.0, 2: 2.0, 3: 3.0, 4: 9.0}, {1: 3.0, 2: 4.0, 3: 5.0}]
    found = combined([Estimate(2.0, 1.0, 0.5, 2, 3), Estimate(4.0, 2.0, 1.5, 2, 3)], each)

    assert (found.value, found.units, found.degrees) == (3.0, 3, 2)
    assert found.between == pytest.approx(1 / 3)  # of 2, 3 and 4, over 3 units
    assert found.within == 2 / 4


def test_units_that_go_up_here_and_down_there_say_little_about_the_mean():
    each = [{1: 1.0, 2: 2.0, 3: 3.0}, {1: 3.0, 2: 2.0, 3: 1.0}]

    assert combined([Estimate(2.0, 1.0, 0.5, 2, 3)] * 2, each).between == 0


def test_there_is_no_mean_over_test_sets_without_three_units_that_all_have():
    each = [{1: 1.0, 2: 2.0, 3: 3.0}, {2: 4.0, 3: 5.0, 4: 6.0}]

    assert combined([Estimate(2.0, 1.0, 0.5, 2, 3)] * 2, each) is None


# ---- many pairs


def test_holm_raises_the_smallest_by_their_number_and_keeps_the_order():
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def shifted(shifts: list[float]) -> Column:
    """Return a column whose variants hit more by a share, without any noise between seeds."""
    dice = np.random.default_rng(3)
    found: dict[str, dict[int, np.ndarray]] = {}
    for v, shift in enumerate(shifts):
        found[f"v{v}"] = {}
        for seed in range(5):
            hit = dice.binomial(4, 0.4 + shift, 400)
            found[f"v{v}"][seed] = np.stack([hit, 4 - hit, 4 - hit], axis=-1)[None]
    return Column(found)


def test_ranks_stay_open_within_a_tie_group_only():
    found = standings(shifted([0.3, 0.302, 0.0])).of

    assert {name: s.rank for name, s in found.items()} == {"v0": (1, 2), "v1": (1, 2), "v2": (3, 3)}
    assert {name: s.tied for name, s in found.items()} == {"v0": True, "v1": True, "v2": False}


def test_a_variant_with_two_seeds_has_no_rank_and_does_not_count():
    runs = counts(8)
    seeds = {s: runs[[s]] for s in range(3)}
    whole = Column({"a": seeds, "b": {s: runs[[s + 3]] for s in range(3)}, "c": {1: runs[[6]], 2: runs[[7]]}})

    assert set(standings(whole).of) == {"a", "b"}


def test_one_variant_alone_has_no_rank():
    found = standings(column(variants=1))

    assert found.of == {}
    assert found.detectable is None


def test_all_pairs_of_a_column_are_corrected():
    found = standings(column(variants=4)).corrected

    assert list(found) == list(combinations(("v0", "v1", "v2", "v3"), 2))
    assert [p for _, p in found.values()] == pytest.approx(holm([e.p for e, _ in found.values()]))


# ---- across test sets


def test_average_ranks_are_demsars():
    found = ranks({"a": [80, 70, 60], "b": [75, 70, 65], "c": [70, 60, 50]})

    assert found.average == {"a": pytest.approx(4.5 / 3), "b": pytest.approx(4.5 / 3), "c": 3}
    assert found.sets == 3
    assert found.p == pytest.approx(stats.friedmanchisquare([80, 70, 60], [75, 70, 65], [70, 60, 50]).pvalue)


def test_the_critical_difference_is_that_of_demsars_example():
    found = ranks({f"v{v}": [float(v + s % 2) for s in range(14)] for v in range(4)})

    assert found.critical == pytest.approx(2.569 * (4 * 5 / (6 * 14)) ** 0.5, abs=1e-3)  # section 3.2.2: q = 2.569


def test_two_variants_have_ranks_and_no_friedman_test():
    assert ranks({"a": [1, 2], "b": [2, 3]}).p is None


def test_variants_that_are_all_alike_share_the_middle_rank():
    found = ranks({"a": [1, 2], "b": [1, 2], "c": [1, 2]})

    assert set(found.average.values()) == {2}
    assert found.p == 1


def test_one_test_set_has_no_average_rank():
    with pytest.raises(ValueError, match="two test sets"):
        ranks({"a": [1.0], "b": [2.0]})


# ---- boards whose truth is known. The bounds are those of a binomial share at three standard errors.

BOARDS = 300


def most(stated: float) -> float:
    return stated + 3 * (stated * (1 - stated) / BOARDS) ** 0.5


@pytest.mark.parametrize("spread", [0.0, 0.03])
@pytest.mark.parametrize("seeds", [3, 5])
def test_no_difference_raises_no_more_false_alarms_than_stated_and_not_many_fewer(seeds, spread):
    share = alarms(World(seeds=seeds, spread=spread), BOARDS)

    assert share <= most(0.05)
    assert share >= 0.01


def test_sentences_alone_would_raise_too_many():
    """What the tests would come to without seeds in them: the reason for three."""
    world = World(seeds=1, spread=0.03)

    assert alarms(world, BOARDS) > 0.2


def test_among_ten_pairs_a_false_alarm_is_as_rare_as_in_one():
    assert family_alarms(World(variants=5), BOARDS) <= most(0.05)


def test_intervals_cover_the_truth_as_stated():
    assert coverage(World(seeds=4, spread=0.02), BOARDS) >= 1 - most(0.05)


def test_a_planted_difference_is_found_at_the_stated_power():
    world = World(seeds=5, spread=0.01)
    planted = planted_for(detectable(world), world)

    share = alarms(World(seeds=5, spread=0.01, planted=planted), BOARDS)
    assert abs(share - 0.8) <= 3 * (0.8 * 0.2 / BOARDS) ** 0.5 + 0.03  # the difference itself is an estimate


def test_among_six_pairs_a_planted_difference_is_found_at_the_stated_power():
    world = World(variants=4, seeds=5, spread=0.01)
    planted = planted_for(detectable(world), world)

    share = found_among(replace(world, planted=planted), BOARDS)
    assert share >= 0.8 - 3 * (0.8 * 0.2 / BOARDS) ** 0.5 - 0.03


@pytest.mark.parametrize("common", [0.0, 1.0])
def test_the_mean_over_targets_raises_no_more_false_alarms_where_seeds_are_lucky_on_all(common):
    share = mean_alarms(World(sentences=150, spread=0.02, common=common), 1000, targets=3)

    assert share <= 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5


def test_boards_of_one_seed_are_equal_each_time():
    world = World()
    first, again = (next(boards(world, 1)) for _ in range(2))

    assert (first["v0"][0] == again["v0"][0]).all()
