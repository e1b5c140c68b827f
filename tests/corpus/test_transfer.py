"""A transfer shows the gold that its regime allows, and test words without gold."""

import re
from collections import Counter
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.corpus.card import Card, Format, TypeCard
from benchmark.corpus.corpus import Corpus, Sentence, Split
from benchmark.corpus.transfer import Annotation, Auxiliary, Domain, Spec, build, describe, sample, shown
from benchmark.errors import PlanError
from benchmark.score.spans import Span

KINDS = ("vessel", "port", "person")


def card(name: str) -> Card:
    types = {
        "vessel": TypeCard("vessel", "vessel", "miscellaneous"),
        "port": TypeCard("port", "port", "location", shares="location"),
        "person": TypeCard("person", "person", "person"),
    }
    return Card(name, 1, "", "", "", {}, Format(), {}, types, (), Path(f"{name}.yaml"))


def split(name: str, count: int, corpus: str = "harbour") -> Split:
    """Return a split of sentences with no, one, two or three mentions each, in turn."""
    return Split(
        corpus,
        name,
        tuple(
            Sentence(
                f"{corpus}/{name}/{n}",
                (f"word{n}", "met", "Aurora", "off", "Haven", "."),
                tuple(Span(2 * i, 2 * i + 1, KINDS[(n + i) % 3]) for i in range(n % 4)),
            )
            for n in range(count)
        ),
    )


def corpora(name, data=None, cards=(), dev="card") -> Corpus:
    """Return a made-up corpus of any name; one called `nodev` has no dev."""
    wanted = dev == "card" and name != "nodev"
    return Corpus(
        card(name), split("train", 60, name), split("dev", 20, name) if wanted else None, split("test", 9, name)
    )


# ---------------------------------------------------------------------------------------------- what means nothing


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            Spec(("news", "films"), "harbour", "in-domain"),
            "the regime in-domain learns from the target alone, but sources are given (news, films); "
            "leave `sources` out, or say `regime: supervised`.",
        ),
        (
            Spec((), "harbour", "supervised"),
            "the regime supervised needs `sources`; without any, say `regime: in-domain`.",
        ),
        (
            Spec((), "harbour", "fraction", 0.1),
            "the regime fraction needs `sources`; without any, say `regime: in-domain`.",
        ),
        (
            Spec(("news", "harbour"), "harbour"),
            "harbour is source and target at once; say `regime: in-domain` without sources.",
        ),
        (Spec(("news", "films", "news"), "harbour"), "a source stands twice in news, films, news."),
        (
            Spec(("news",), "harbour", "zero-shot"),
            "zero-shot shows no target gold, so nothing can be selected on target dev; "
            "say `select: source-dev` or `select: last`.",
        ),
        (
            Spec((), "harbour", "in-domain", select="source-dev"),
            "in-domain has no source to select on; say `select: target-dev` or `select: last`.",
        ),
        (Spec(("news",), "harbour", dev="none"), "`dev: none` leaves no dev to select on; say `select: last`."),
        (Spec(("news",), "harbour", "fraction", 0.0), "the amount of fraction must be above 0; found 0."),
        (Spec(("news",), "harbour", "shots", -5.0), "the amount of shots must be above 0; found -5."),
        (Spec(("news",), "harbour", "fraction", 5.0), "a fraction is at most 1; found 5. 5% is written 0.05."),
        (Spec(("news",), "harbour", "sentences", 2.5), "sentences takes a whole number; found 2.5."),
        (Spec(("news",), "harbour", "shots", 0.5), "shots takes a whole number; found 0.5."),
        (Spec(("news",), "harbour", evaluate="harbour"), "evaluate: harbour is the target, and predicted without it."),
        (
            Spec(("news",), "harbour", evaluate="news", annotate=Annotation("oracle")),
            "a transfer has `evaluate` or `annotate`, not both: say two transfers.",
        ),
        (Spec(("news",), "harbour", chain=("films", "news")), "chain: news is a source already."),
        (
            Spec(("news",), "harbour", chain=("films", "harbour")),
            "chain: one corpus stands twice in films, harbour, harbour.",
        ),
        (
            Spec(("news",), "harbour", "zero-shot", select="last", chain=("films",)),
            "chain: its targets are learned after `sources`, each from its gold; zero-shot has not both.",
        ),
        (
            Spec((), "harbour", "in-domain", chain=("films",)),
            "chain: its targets are learned after `sources`, each from its gold; in-domain has not both.",
        ),
        (
            Spec(("news",), "harbour", order="joint", chain=("films",)),
            "chain: targets are learned one after another; `order: joint` is not that.",
        ),
        (
            Spec(("news",), "harbour", chain=("films",), annotate=Annotation("oracle")),
            "a transfer has a `chain`, or `auxiliary` or `annotate`: say two transfers.",
        ),
    ],
)
def test_a_transfer_that_means_nothing_is_refused(spec, message):
    with pytest.raises(PlanError) as caught:
        spec.check()
    assert str(caught.value) == message

    with pytest.raises(PlanError) as caught:
        build(spec, corpora=corpora)
    assert str(caught.value) == message


def test_an_endless_amount_is_refused():
    with pytest.raises(PlanError):
        Spec(("news",), "harbour", "shots", inf).check()


def test_an_amount_that_is_no_number_is_refused():
    with pytest.raises(PlanError):
        Spec(("news",), "harbour", "fraction", float("nan")).check()


@pytest.mark.parametrize(
    "spec",
    [
        Spec(("news",), "harbour"),
        Spec(("news",), "harbour", order="joint", select="source-dev"),
        Spec((), "harbour", "in-domain", select="last", dev="none"),
        Spec(("news",), "harbour", "zero-shot", select="source-dev", dev="none"),
        Spec(("news",), "harbour", "fraction", 1.0),
        Spec(("news",), "harbour", "shots", 5.0, draw=3, select="last"),
    ],
)
def test_a_transfer_that_means_something_passes(spec):
    spec.check()


def test_a_target_without_dev_cannot_select_on_it():
    with pytest.raises(PlanError) as caught:
        build(Spec(("news",), "nodev"), corpora=corpora)
    assert str(caught.value) == "nodev has no dev split to select on; say `select: last`."


def test_a_source_without_dev_cannot_select():
    with pytest.raises(PlanError) as caught:
        build(Spec(("news", "nodev"), "harbour", "zero-shot", select="source-dev"), corpora=corpora)
    assert str(caught.value) == "a source among news, nodev has no dev split to select on; say `select: last`."


def test_more_sentences_than_there_are_is_refused():
    with pytest.raises(PlanError) as caught:
        build(Spec(("news",), "harbour", "sentences", 61.0, select="last"), corpora=corpora)
    assert str(caught.value) == "harbour train has 60 sentences, and 61 are asked for."


# ---------------------------------------------------------------------------------------------- what is shown


@pytest.mark.parametrize(
    "spec",
    [
        Spec(("news",), "harbour"),
        Spec((), "harbour", "in-domain"),
        Spec(("news",), "harbour", "zero-shot", select="last"),
        Spec(("news",), "harbour", "fraction", 0.1),
        Spec(("news",), "harbour", "sentences", 7.0, select="last"),
        Spec(("news",), "harbour", "shots", 2.0, draw=2),
    ],
)
def test_test_is_words_only_in_every_regime(spec):
    transfer = build(spec, corpora=corpora)

    assert transfer.test == split("test", 9).words_only()
    assert all(s.spans is None for s in transfer.test.sentences)


def test_zero_shot_shows_no_gold_of_the_target():
    transfer = build(Spec(("news",), "harbour", "zero-shot", select="source-dev"), corpora=corpora)

    assert transfer.target.dev is not None
    assert all(s.spans is None for s in (*transfer.target.train.sentences, *transfer.target.dev.sentences))
    assert transfer.sources[0].train.mentions > 0


@pytest.mark.parametrize("regime", ["supervised", "in-domain"])
def test_full_regimes_show_the_whole_target(regime):
    sources = ("news",) if regime == "supervised" else ()
    transfer = build(Spec(sources, "harbour", regime), corpora=corpora)

    assert (transfer.target.train, transfer.target.dev) == (split("train", 60), split("dev", 20))
    assert [d.name for d in transfer.sources] == list(sources)


def test_dev_is_sampled_at_the_rate_of_train():
    transfer = build(Spec(("news",), "harbour", "fraction", 0.2), corpora=corpora)

    assert transfer.target.dev is not None
    assert len(transfer.target.train.sentences) == 12
    assert len(transfer.target.dev.sentences) == 4


def test_dev_of_a_tiny_sample_keeps_one_sentence():
    _, dev = shown(Spec(("news",), "harbour", "sentences", 1.0), split("train", 60), split("dev", 20))

    assert dev is not None
    assert len(dev.sentences) == 1


@pytest.mark.parametrize("select", ["last", "source-dev"])
def test_limited_gold_shows_no_dev_where_it_selects_nothing(select):
    transfer = build(Spec(("news",), "harbour", "shots", 2.0, select=select), corpora=corpora)

    assert transfer.target.dev is None


def test_dev_none_leaves_every_dev_out():
    transfer = build(Spec(("news",), "harbour", select="last", dev="none"), corpora=corpora)

    assert transfer.target.dev is None
    assert transfer.sources[0].dev is None


# ---------------------------------------------------------------------------------------------- samples

DRAWS = st.integers(1, 5)


def ids(found: Split) -> list[str]:
    return [s.id for s in found.sentences]


@given(DRAWS, st.integers(1, 120), st.floats(0.001, 1), st.floats(0.001, 1))
def test_a_smaller_fraction_is_inside_a_larger(draw, count, one, other):
    train = split("train", count)
    small, large = (sample(train, "fraction", amount, draw) for amount in sorted((one, other)))

    assert set(ids(small)) <= set(ids(large)) <= set(ids(train))
    assert len(small.sentences) >= 1


@given(DRAWS, st.integers(1, 60), st.integers(1, 60))
def test_fewer_sentences_are_inside_more(draw, one, other):
    train = split("train", 60)
    small, large = (sample(train, "sentences", amount, draw) for amount in sorted((one, other)))

    assert set(ids(small)) <= set(ids(large))
    assert [len(small.sentences), len(large.sentences)] == sorted((one, other))


GOLD = st.lists(st.lists(st.sampled_from(KINDS), max_size=4), min_size=1, max_size=40)


def typed(gold: list[list[str]]) -> Split:
    """Return a split whose sentences have one mention a word, of these types."""
    return Split(
        "harbour",
        "train",
        tuple(
            Sentence(f"harbour/train/{n}", (*types, "."), tuple(Span(i, i + 1, t) for i, t in enumerate(types)))
            for n, types in enumerate(gold)
        ),
    )


def mentions(found: Split) -> Counter[str]:
    return Counter(span.type for s in found.sentences for span in s.spans or ())


@given(GOLD, DRAWS, st.integers(1, 8))
def test_shots_are_at_least_so_many_mentions_a_type(gold, draw, amount):
    train = typed(gold)
    found = mentions(sample(train, "shots", amount, draw))

    assert all(found[t] >= min(amount, there) for t, there in mentions(train).items())


@given(GOLD, DRAWS, st.integers(1, 8), st.integers(1, 8))
def test_fewer_shots_are_inside_more(gold, draw, one, other):
    train = typed(gold)
    small, large = (sample(train, "shots", amount, draw) for amount in sorted((one, other)))

    assert set(ids(small)) <= set(ids(large))


@given(GOLD, DRAWS, st.integers(1, 8))
def test_shots_take_no_sentence_without_a_mention(gold, draw, amount):
    assert all(s.spans for s in sample(typed(gold), "shots", amount, draw).sentences)


@pytest.mark.parametrize(("regime", "amount"), [("fraction", 0.3), ("sentences", 20), ("shots", 5)])
def test_a_sample_keeps_the_order_of_its_split(regime, amount):
    train = split("train", 60)
    found = sample(train, regime, amount, 1)

    assert found.sentences == tuple(s for s in train.sentences if s in found.sentences)
    assert (found.corpus, found.name) == ("harbour", "train")


@pytest.mark.parametrize(("regime", "amount"), [("fraction", 0.3), ("sentences", 20), ("shots", 5)])
def test_another_draw_is_another_sample_and_the_same_draw_the_same(regime, amount):
    train = split("train", 60)

    assert sample(train, regime, amount, 1) == sample(train, regime, amount, 1)
    assert sample(train, regime, amount, 1) != sample(train, regime, amount, 2)


def test_a_draw_does_not_hang_on_the_order_of_the_file():
    train = split("train", 60)
    turned = replace(train, sentences=train.sentences[::-1])

    assert set(ids(sample(train, "sentences", 10, 1))) == set(ids(sample(turned, "sentences", 10, 1)))


def test_a_draw_never_moves():
    assert ids(sample(split("train", 60), "sentences", 3, 1)) == [
        "harbour/train/2",
        "harbour/train/31",
        "harbour/train/41",
    ]


def test_no_draw_is_the_first_draw():
    spec = Spec(("news",), "harbour", "fraction", 0.1, select="last")

    assert build(spec, corpora=corpora).target == build(replace(spec, draw=1), corpora=corpora).target


# ---------------------------------------------------------------------------------------------- names


def test_types_are_shared_by_identity():
    domain = Domain(card("harbour"), split("train", 4), None)

    assert domain.types == ("vessel", "port", "person")
    assert domain.identities == {"vessel": "vessel", "port": "location", "person": "person"}
    assert domain.general == {"vessel": "miscellaneous", "port": "location", "person": "person"}


def test_a_domain_is_relabelled_in_train_and_dev():
    domain = Domain(card("harbour"), split("train", 4), split("dev", 4))

    found = domain.relabel(domain.general)

    assert found.dev is not None
    assert set(mentions(found.train)) == set(mentions(found.dev)) == {"miscellaneous", "location", "person"}
    assert replace(domain, dev=None).relabel(domain.general).dev is None


def test_a_spec_is_described_without_its_draw():
    assert describe(Spec(("news",), "harbour", "shots", 5.0, "joint", "last", 3, "none")) == {
        "sources": ["news"],
        "order": "joint",
        "target": "harbour",
        "regime": "shots",
        "amount": 5.0,
        "select": "last",
        "dev": "none",
    }


def test_a_place_names_sources_target_and_regime():
    assert Spec(("news", "films"), "harbour", "shots", 5.0).place == "news+films--harbour/shots-5"
    assert Spec((), "harbour", "in-domain").place == "--harbour/in-domain"


def test_a_place_names_the_chain_and_what_else_is_predicted():
    spec = Spec(("news",), "harbour", chain=("films", "sky"), evaluate="news")

    assert spec.place == "news--films+sky+harbour/supervised+on-news"
    assert {name: describe(spec)[name] for name in ("target", "chain", "evaluate")} == {
        "target": "harbour", "chain": ["films", "sky"], "evaluate": "news"
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------- added data


POOL = Auxiliary(("north", "south"), 0.5)


def added(auxiliary: Auxiliary, draw: int | None = None, read=corpora) -> dict[str, list[str]]:
    """Return the ids of the sentences that are added, by corpus."""
    transfer = build(Spec(("sea",), "harbour", draw=draw, auxiliary=auxiliary), corpora=read)
    return {domain.name: [s.id for s in domain.train.sentences] for domain in transfer.added}


def test_added_data_is_a_share_of_the_merged_pool_with_its_gold():
    transfer = build(Spec(("sea",), "harbour", auxiliary=POOL), corpora=corpora)

    assert sum(len(domain.train.sentences) for domain in transfer.added) == 60
    assert {domain.name for domain in transfer.added} == {"north", "south"}
    assert all(domain.dev is None for domain in transfer.added)
    known = {s.id: s for name in POOL.corpora for s in split("train", 60, name).sentences}
    assert all(s == known[s.id] for domain in transfer.added for s in domain.train.sentences)


@pytest.mark.parametrize("choose", ["random", "similar", "dissimilar"])
@given(draw=st.integers(1, 5), one=st.floats(0.01, 1), other=st.floats(0.01, 1))
def test_less_added_data_is_inside_more(choose, draw, one, other):
    small, large = (added(replace(POOL, share=share, choose=choose), draw) for share in sorted((one, other)))

    assert all(set(ids) <= set(large[name]) for name, ids in small.items())


def test_the_nearest_domain_is_added_first_and_the_farthest():
    """The north speaks as the harbour does, the south of other things."""

    def read(name, **options):
        found = corpora(name, **options)
        words = ("far", "away", "no", "ship", "ever", "came")
        other = [replace(s, words=words) for s in found.train.sentences]
        return replace(found, train=replace(found.train, sentences=tuple(other))) if name == "south" else found

    near, far = (added(replace(POOL, share=0.25, choose=choose), read=read) for choose in ("similar", "dissimilar"))

    assert {name: len(ids) for name, ids in near.items()} == {"north": 30}
    assert {name: len(ids) for name, ids in far.items()} == {"south": 30}
    assert len(added(replace(POOL, share=0.75, choose="similar"), read=read)["north"]) == 60


def foreign(types: str) -> set[str]:
    """Return the identities of the added mentions, where the target knows persons and miscellaneous alone."""

    def read(name, **options):
        found = corpora(name, **options)
        misc = TypeCard("miscellaneous", "miscellaneous", "miscellaneous")
        kinds = {"person": found.card.types["person"], "miscellaneous": misc}
        if name != "harbour":
            kinds |= found.card.types
        return replace(found, card=replace(found.card, types=kinds))

    transfer = build(Spec(("sea",), "harbour", auxiliary=replace(POOL, types=types)), corpora=read)
    return {
        domain.identities[span.type] for domain in transfer.added for s in domain.train.sentences for span in s.spans
    }


def test_types_that_the_target_lacks_become_what_is_asked_for():
    assert foreign("own") == {"vessel", "location", "person"}
    assert foreign("shared") == {"person"}
    assert foreign("miscellaneous") == {"person", "miscellaneous"}


def test_what_a_card_calls_misc_is_miscellaneous():
    added = Auxiliary(("demo-astronomy",), 0.5, types="miscellaneous")

    transfer = build(Spec(("demo-news",), "demo-cinema", auxiliary=added))

    kinds = {span.type for domain in transfer.added for s in domain.train.sentences for span in s.spans}
    assert "misc" in kinds
    assert kinds <= set(transfer.target.types)


def test_where_nothing_is_miscellaneous_nothing_can_become_it():
    with pytest.raises(PlanError, match="north and harbour share no type named miscellaneous"):
        build(Spec(("sea",), "harbour", auxiliary=replace(POOL, types="miscellaneous")), corpora=corpora)


@pytest.mark.parametrize(
    ("changed", "spec", "message"),
    [
        ({"corpora": ("harbour",)}, {}, "harbour is the target already"),
        ({"corpora": ("sea",)}, {}, "sea is the source already"),
        ({"corpora": ()}, {}, "name the corpora to add from"),
        ({"share": 0.0}, {}, "share is above 0 and at most 1; found 0"),
        ({"share": 30.0}, {}, "found 30. 30% is written 0.3"),
        ({}, {"regime": "zero-shot", "select": "last"}, "in zero-shot nothing is learned of the target"),
    ],
)
def test_added_data_that_means_nothing_is_refused(changed, spec, message):
    with pytest.raises(PlanError, match=message):
        Spec(("sea",), "harbour", auxiliary=replace(POOL, **changed), **spec).check()


def test_added_data_is_told_in_place_and_record():
    spec = Spec(("sea",), "harbour", auxiliary=replace(POOL, choose="similar"))

    assert spec.place == "sea--harbour/supervised+similar-0.5"
    assert describe(spec)["auxiliary"] == {
        "corpora": ("north", "south"), "share": 0.5, "choose": "similar", "features": "counts", "types": "own",
    }  # fmt: skip
    assert "auxiliary" not in describe(Spec(("sea",), "harbour"))


# ---------------------------------------------------------------------------------------------- annotated anew


@pytest.mark.parametrize(
    ("changed", "spec", "message"),
    [
        ({"threshold": -1.0}, {}, "annotate: threshold is 0 or more; found -1."),
        ({"threshold": float("nan")}, {}, "annotate: threshold is 0 or more; found nan."),
        ({}, {"regime": "zero-shot", "select": "last"}, "annotate: in zero-shot nothing is learned of the target, so there is nothing to annotate."),
        ({}, {"sources": (), "regime": "in-domain"}, "annotate: in-domain has no sources, so no model has labels to start from; say `start: gold`."),
        ({"by": "nobody", "start": "gold"}, {}, "annotate: where train starts with gold, by nobody changes nothing; say `start: model`, or leave `annotate` out."),
        ({"model": "m"}, {}, "annotate: model and base_url are for `by: llm`; found `by: oracle`."),
        ({}, {"auxiliary": POOL}, "a transfer has `auxiliary` or `annotate`, not both: say two transfers."),
    ],
)  # fmt: skip
def test_an_annotation_that_means_nothing_is_refused(changed, spec, message):
    asked = replace(Annotation("oracle"), **changed)
    with pytest.raises(PlanError, match=f"^{re.escape(message)}$"):
        Spec(**{"sources": ("sea",), "target": "harbour", "annotate": asked, **spec}).check()


def test_an_annotation_is_told_in_place_and_record():
    spec = Spec(("sea",), "harbour", "fraction", 0.5, annotate=Annotation("oracle", 0.5))

    assert spec.place == "sea--harbour/fraction-0.5+oracle-0.5"
    assert describe(spec)["annotate"] == {
        "by": "oracle", "threshold": 0.5, "measure": "entropy", "start": "model", "model": "", "base_url": ""
    }  # fmt: skip
    assert "annotate" not in describe(Spec(("sea",), "harbour"))
    assert Auxiliary.read(spec.regime_label) == ("fraction-0.5+oracle-0.5", "", 0.0)
