"""Distances between the words of domains."""

import os

import pytest

from benchmark.corpus.corpus import Sentence, Split, load
from benchmark.corpus.similarity import FEATURES, distances, table


def split(corpus: str, *texts: str) -> Split:
    return Split(
        corpus, "train", tuple(Sentence(f"{corpus}/train/{n}", tuple(t.split()), ()) for n, t in enumerate(texts))
    )


SEA = split("sea", "ships sail", "ships sink")


def test_counts_are_those_of_words_without_case():
    assert distances(SEA, (split("port", "Ships sail , ships sink"), split("sky", "stars")), "counts") == {
        "port": 0.0,
        "sky": pytest.approx((4 + 1 + 1 + 1) ** 0.5),
    }


def test_size_counts_in_counts_and_not_in_frequencies():
    twice = split("twice", *(2 * ["ships sail", "ships sink"]))

    assert distances(SEA, (twice,), "counts") == {"twice": pytest.approx(6**0.5)}
    for features in ("frequencies", "tfidf"):
        assert distances(SEA, (twice,), features)["twice"] == pytest.approx(0.0)


@pytest.mark.parametrize("features", FEATURES)
def test_a_table_is_the_same_from_both_sides_with_the_nearest_first(features):
    splits = {s.corpus: s for s in (SEA, split("port", "ships dock", "ships"), split("sky", "stars shine", "stars"))}
    found = table(splits, features)

    assert list(found["sea"]) == ["port", "sky"]
    assert all(found[a][b] == pytest.approx(found[b][a]) for a in found for b in found[a])


@pytest.mark.skipif(not os.environ.get("CDNER_DATA"), reason="the corpora are not here: set CDNER_DATA")
def test_counts_are_the_distances_that_the_paper_prints():
    """Gravil et al., section 4.5: politics 530.5, science 383.7, literature 145.2; for music they print 150.6."""
    others = tuple(load(name).train for name in ("politics", "science", "music", "literature"))
    found = {name: round(value, 1) for name, value in distances(load("ai").train, others, "counts").items()}

    assert found == {"literature": 145.2, "music": 157.4, "science": 383.7, "politics": 530.5}
