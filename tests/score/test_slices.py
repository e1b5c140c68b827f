"""Slices of strict counts, and which type is taken for which."""

from hypothesis import given
from hypothesis import strategies as st

from benchmark.score.protocols import Gold, Prediction, errors, relabel, score
from benchmark.score.slices import DIMENSIONS, Shown, count, types_of
from benchmark.score.spans import Span

NOTHING = Shown({}, frozenset(), frozenset())
SHOWN = Shown(
    own={
        "aurora": frozenset({"vessel"}),
        "haven": frozenset({"port", "vessel"}),
        "salt road": frozenset({"street"}),
    },
    others=frozenset({"haven", "noor"}),
    shared=frozenset({"port"}),
)  # fmt: skip
WORDS = ("Aurora", "left", "HAVEN", "by", "Salt", "Road", "with", "Noor")


def of(gold, predicted, shown=SHOWN, words=WORDS):
    return count([Gold("a/1", words, gold)], [Prediction("a/1", tuple(predicted))], shown)


def told(buckets):
    return {bucket: counts for bucket, counts in buckets.items() if any(counts)}


def test_a_hit_a_missed_and_an_extra_span_each_count_in_the_bucket_of_their_own_length():
    found = of([Span(0, 1, "vessel"), Span(4, 6, "port")], [Span(0, 1, "vessel"), Span(4, 8, "port")])

    assert told(found["span-length"]) == {"1": [1, 0, 0], "2": [0, 0, 1], "4": [0, 1, 0]}


def test_more_than_four_words_are_one_bucket():
    found = of([Span(0, 5, "port"), Span(0, 8, "port")], [])

    assert told(found["span-length"]) == {"5+": [0, 0, 2]}


def test_sentences_are_dealt_out_by_tens_of_words():
    lengths = [1, 10, 11, 20, 21, 30, 31, 40, 41, 90]
    gold = [Gold(f"a/{n}", ("x",) * n, [Span(0, 1, "port")]) for n in lengths]
    found = count(gold, [Prediction(g.id, ()) for g in gold], NOTHING)

    assert found["sentence-length"] == {bucket: [0, 0, 2] for bucket in DIMENSIONS["sentence-length"]}


def test_a_mention_is_seen_whatever_its_case_and_type_and_first_of_all_in_the_target():
    gold = [Span(0, 1, "port"), Span(2, 3, "port"), Span(7, 8, "person"), Span(1, 2, "port")]
    found = of(gold, [])

    assert found["seen"] == {"target": [0, 0, 2], "other": [0, 0, 1], "unseen": [0, 0, 1]}


def test_an_extra_span_is_shared_or_new_by_the_predicted_type():
    found = of([Span(0, 1, "vessel")], [Span(0, 1, "port")])

    assert found["shared"] == {"shared": [0, 1, 0], "new": [0, 0, 1]}
    assert found["shared_types"] == ["port"]


def test_label_consistency_goes_by_the_types_that_a_text_has_in_train():
    gold = [Span(0, 1, "vessel"), Span(2, 3, "port"), Span(4, 6, "port"), Span(7, 8, "person")]
    found = of(gold, [Span(0, 1, "vessel"), Span(2, 3, "street")])

    assert found["consistency"] == {
        "this": [1, 0, 0], "several": [0, 0, 1], "others": [0, 1, 1], "unseen": [0, 0, 1],
    }  # fmt: skip


def test_types_are_confused_within_the_same_bounds_alone():
    gold = [Span(0, 1, "vessel"), Span(2, 3, "port"), Span(4, 6, "street")]
    predicted = [Span(0, 1, "port"), Span(2, 3, "port"), Span(4, 5, "street")]

    assert of(gold, predicted)["confusion"] == {
        "types": ["port", "street", "vessel"],
        "counts": [[1, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]],
    }


def test_of_two_types_in_the_same_bounds_a_hit_goes_first_and_the_rest_are_partners():
    gold = [Span(0, 1, "port"), Span(0, 1, "street")]
    found = of(gold, [Span(0, 1, "street"), Span(0, 1, "vessel")])

    assert found["confusion"]["counts"] == [[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_a_span_that_is_predicted_twice_counts_once():
    found = of([Span(0, 1, "port")], [Span(0, 1, "port")] * 2)

    assert told(found["span-length"]) == {"1": [1, 0, 0]}


def test_predictions_may_come_in_any_order():
    gold = [Gold(f"a/{n}", WORDS, [Span(n, n + 1, "port")]) for n in range(3)]
    predicted = [Prediction(g.id, tuple(g.spans)) for g in gold]

    assert count(gold, predicted[::-1], SHOWN) == count(gold, predicted, SHOWN)


def test_a_sentence_without_words_is_in_no_slice():
    assert of([], [], words=())["confusion"] == {"types": [], "counts": [[0]]}


def test_mentions_of_a_train_are_looked_up_by_their_folded_text():
    train = [(("Salt", "Road"), [Span(0, 2, "street")]), (("SALT", "road"), [Span(0, 2, "port")]), ((), [])]

    assert types_of(train) == {"salt road": {"street", "port"}}


def test_general_types_may_be_one_where_fine_types_are_two():
    broad = SHOWN.relabel({"vessel": "thing", "port": "thing", "street": "place"}, ["place"])
    found = of([Span(2, 3, "thing")], [], broad)

    assert told(found["consistency"]) == {"this": [0, 0, 1]}
    assert told(found["shared"]) == {"new": [0, 0, 1]}


# ---- whatever gold and predictions are

TYPES = ("port", "street", "vessel")
SPANS = st.tuples(st.integers(0, 6), st.integers(1, 6), st.sampled_from(TYPES)).map(
    lambda drawn: Span(drawn[0], min(drawn[0] + drawn[1], len(WORDS)), drawn[2])
)
SENTENCES = st.lists(st.tuples(st.lists(SPANS, max_size=5), st.lists(SPANS, max_size=5)), max_size=4)


@given(SENTENCES)
def test_the_slices_of_each_dimension_add_up_to_the_strict_counts(sentences):
    gold = [Gold(f"a/{n}", WORDS * (n + 1), spans) for n, (spans, _) in enumerate(sentences)]
    predicted = [Prediction(f"a/{n}", tuple(spans)) for n, (_, spans) in enumerate(sentences)]
    strict = score("strict", gold, predicted)
    found = count(gold, predicted, SHOWN)

    for name in DIMENSIONS:
        total = [sum(column) for column in zip(*found[name].values(), strict=True)]
        assert total == [strict.all.hit, strict.all.extra, strict.all.missed]
    by_type = {name: [c.hit, c.extra, c.missed] for name, c in strict.types.items()}
    shared = [by_type.get(name, [0, 0, 0]) for name in SHOWN.shared]
    assert found["shared"]["shared"] == [sum(column) for column in zip(*shared, strict=True)]


@given(SENTENCES)
def test_a_confusion_has_every_span_once_and_the_kinds_of_errors(sentences):
    gold = [Gold(f"a/{n}", WORDS, spans) for n, (spans, _) in enumerate(sentences)]
    predicted = [Prediction(f"a/{n}", tuple(spans)) for n, (_, spans) in enumerate(sentences)]
    kinds = errors(gold, predicted)
    strict = score("strict", gold, predicted)
    confusion = count(gold, predicted, SHOWN)["confusion"]
    types, counts = confusion["types"], confusion["counts"]

    right = [counts[n][n] for n in range(len(types))]
    assert sum(right) == kinds["hit"]
    assert sum(map(sum, (row[:-1] for row in counts[:-1]))) == kinds["hit"] + kinds["type"]
    for n, name in enumerate(types):
        own = strict.types[name]
        assert sum(counts[n]) == own.hit + own.missed
        assert sum(row[n] for row in counts) == own.hit + own.extra
    assert counts[-1][-1] == 0


def test_general_types_are_counted_of_relabelled_spans():
    mapping = {"vessel": "thing", "port": "thing", "street": "place"}
    gold = relabel([Gold("a/1", WORDS, [Span(0, 1, "vessel")])], mapping)
    predicted = relabel([Prediction("a/1", (Span(0, 1, "port"),))], mapping)

    assert count(gold, predicted, NOTHING)["confusion"] == {"types": ["thing"], "counts": [[1, 0], [0, 0]]}
