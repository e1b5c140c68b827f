"""Each quirk of each protocol that published work counts by, on sentences made by hand."""

import os
import random
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.corpus.corpus import load
from benchmark.score.protocols import PROTOCOLS, Counts, Gold, Prediction, conlleval_counts, relabel, score
from benchmark.score.spans import Span, to_tags

POSITIONS = [name for name, protocol in PROTOCOLS.items() if protocol.by == "position"]
TEXTS = [name for name, protocol in PROTOCOLS.items() if protocol.by == "text"]


def gold(text, *spans, id="harbour/test/1"):
    return Gold(id, text.split(), tuple(Span(*span) for span in spans))


def predicted(*spans, id="harbour/test/1", **more):
    return Prediction(id, tuple(Span(*span) for span in spans), **more)


def wrote(*pairs, id="harbour/test/1"):
    return Prediction(id, (), pairs=pairs)


def counted(protocol, sentence, answer):
    return score(protocol, [sentence], [answer]).all


def figures(protocol, sentences, answers):
    scores = score(protocol, sentences, answers)
    return PROTOCOLS[protocol].metrics(scores.all, scores.types)


MARY = gold("The Queen Mary left Port Said for Aden", (1, 3, "vessel"), (4, 6, "port"), (7, 8, "port"))
TWICE = gold("Aden , then Aden again", (0, 1, "port"), (3, 4, "port"))


def test_a_protocol_says_what_it_compares():
    assert POSITIONS == ["strict", "conlleval", "conlleval-stream", "gliner"]
    assert TEXTS == ["topt", "cpner", "uniner", "b2ner"]
    assert {protocol.by for protocol in PROTOCOLS.values()} == {"position", "text", "word"}


# ---- conlleval-stream

ENDS = gold("bound for Port", (2, 3, "port"), id="a")
STARTS = gold("Said is near Suez", (3, 4, "port"), id="b")
CONTINUES = [
    predicted((2, 3, "port"), id="a", tags=("O", "O", "B-port")),
    predicted((3, 4, "port"), id="b", tags=("I-port", "O", "O", "B-port")),
]


def test_stream_goes_on_with_the_last_chunk_of_the_sentence_before():
    stream, chunks = (score(name, [ENDS, STARTS], CONTINUES) for name in ("conlleval-stream", "conlleval"))

    assert stream.sentences == [Counts(extra=1, missed=1), Counts(hit=1)]
    assert chunks.sentences == [Counts(hit=1), Counts(hit=1, extra=1)]


def test_stream_goes_on_only_with_the_same_type_and_only_behind_a_chunk():
    other = [CONTINUES[0], predicted(id="b", tags=("I-vessel", "O", "O", "B-port"))]
    nothing = [predicted(id="a", tags=("O", "B-port", "O")), CONTINUES[1]]

    for answers in (other, nothing):
        assert score("conlleval-stream", [ENDS, STARTS], answers) == score("conlleval", [ENDS, STARTS], answers)


def test_stream_goes_on_over_a_sentence_without_words():
    between = [ENDS, gold("", id="empty"), STARTS]
    answers = [CONTINUES[0], predicted(id="empty", tags=()), CONTINUES[1]]

    assert score("conlleval-stream", between, answers).sentences == [
        Counts(extra=1, missed=1),
        Counts(),
        Counts(hit=1),
    ]


def test_stream_is_in_the_order_of_gold():
    assert score("conlleval-stream", [STARTS, ENDS], CONTINUES).all == Counts(hit=2, extra=1)


def test_stream_swaps_precision_and_recall_and_leaves_f1():
    answers = [predicted((1, 3, "vessel"))]

    assert score("conlleval-stream", [MARY], answers).all == Counts(hit=1, missed=2)
    assert figures("conlleval", [MARY], answers) == pytest.approx({"f1": 50, "precision": 100, "recall": 100 / 3})
    assert figures("conlleval-stream", [MARY], answers) == pytest.approx(
        {"f1": 50, "precision": 100 / 3, "recall": 100}
    )


tag = st.sampled_from(["O", "B-port", "I-port", "B-vessel", "I-vessel"])
tagged = st.lists(st.lists(tag, max_size=5), max_size=4)


@given(tagged, st.randoms(use_true_random=False))
def test_stream_counts_as_conlleval_does_on_one_long_sentence(rows, chance):
    truth = [to_tags(len(row), [Span(n, n + 1, "port") for n in range(len(row)) if chance.random() < 0.3])
             for row in rows]  # fmt: skip
    sentences = [
        Gold(str(n), ["word"] * len(row), [Span(i, i + 1, "port") for i, tag in enumerate(row) if tag != "O"])
        for n, row in enumerate(truth)
    ]
    answers = [Prediction(str(n), (), tuple(row)) for n, row in enumerate(rows)]

    scores = score("conlleval-stream", sentences, answers)
    joined = conlleval_counts([list(chain.from_iterable(truth))], [list(chain.from_iterable(rows))])

    assert (scores.all, scores.types) == (joined.all, joined.types)
    assert sum(scores.sentences, Counts()) == joined.all


# ---- topt


def test_topt_counts_the_words_of_a_hit():
    assert counted("topt", MARY, predicted((1, 3, "vessel"))) == Counts(hit=2, missed=2)
    assert counted("topt", MARY, predicted((1, 3, "vessel"), (4, 6, "port"), (7, 8, "port"))) == Counts(hit=5)


def test_topt_adds_the_words_of_a_hit_to_gold_less_one():
    found = counted("topt", MARY, predicted((1, 3, "vessel")))

    assert found.hit + found.missed == 3 + (2 - 1)  # three mentions, one of them found with two words
    assert found.f1 == 100 * 2 * 2 / (2 + 4)  # strict has 50


def test_topt_counts_the_words_of_a_wrong_mention_and_one_for_a_missed_one():
    assert counted("topt", MARY, predicted((3, 6, "port"))) == Counts(extra=3, missed=3)


def test_topt_counts_gold_once_a_sentence_and_predictions_as_often_as_they_come():
    assert counted("topt", TWICE, wrote(("port", "Aden"))) == Counts(hit=1)
    assert counted("topt", TWICE, wrote(("port", "Aden"), ("port", "Aden"))) == Counts(hit=2, missed=-1)
    assert counted("topt", TWICE, wrote(("port", "then"), ("port", "then"))) == Counts(extra=2, missed=1)


def test_topt_has_perfect_predictions_over_a_hundred():
    answer = predicted((0, 1, "port"), (3, 4, "port"))
    metrics = figures("topt", [TWICE], [answer])

    assert metrics == pytest.approx({"f1": 100 * 4 / 3, "precision": 100, "recall": 200})
    assert score("topt", [TWICE], [answer]).types == {"port": Counts(hit=2, missed=-1)}


def test_topt_keeps_gold_of_two_sentences_apart():
    other = gold("Aden", (0, 1, "port"), id="b")

    found = score("topt", [TWICE, other], [predicted((0, 1, "port")), predicted((0, 1, "port"), id="b")])

    assert found.sentences == [Counts(hit=1), Counts(hit=1)]


def test_topt_does_not_count_a_text_that_the_sentence_does_not_have():
    assert counted("topt", MARY, wrote(("port", "Cairo"))) == Counts(missed=3)
    assert counted("topt", MARY, wrote(("port", "aden"))) == Counts(missed=3)
    assert counted("cpner", MARY, wrote(("port", "Cairo"))) == Counts(extra=1, missed=3)


def test_topt_takes_letters_of_a_word_for_a_text_of_the_sentence():
    assert counted("topt", MARY, wrote(("port", "Ade"))) == Counts(extra=1, missed=3)


def test_topt_does_not_count_a_type_that_gold_never_has():
    assert counted("topt", MARY, wrote(("person", "Queen Mary"))) == Counts(missed=3)
    assert counted("topt", MARY, wrote(("vessel", "Aden"))) == Counts(extra=1, missed=3)


def test_topt_takes_the_types_of_all_gold_for_those_that_are_offered():
    other = gold("Ann", (0, 1, "person"), id="b")
    answers = [wrote(("person", "Queen Mary")), wrote(id="b")]

    assert score("topt", [MARY, other], answers).types["person"] == Counts(extra=2, missed=1)


def test_topt_never_hits_a_text_with_a_comma_and_a_blank():
    capital = gold("off Aden , Yemen", (1, 4, "port"))

    assert counted("topt", capital, predicted((1, 4, "port"))) == Counts(extra=2, missed=1)  # reads `Aden `: two words
    assert counted("topt", capital, wrote(("port", "Aden , Yemen"))) == Counts(extra=2, missed=1)
    assert counted("strict", capital, predicted((1, 4, "port"))) == Counts(hit=1)


def test_topt_reads_a_text_up_to_its_first_comma():
    assert counted("topt", MARY, wrote(("port", "Aden, Yemen"))) == Counts(hit=1, missed=2)


def test_topt_ends_an_item_with_its_first_bracket_and_blank():
    shaft = gold("the f ( x ) of g ( x )", (1, 6, "port"), (6, 10, "port"))

    assert counted("topt", shaft, predicted((1, 6, "port"))) == Counts(extra=4, missed=2)  # reads `f ( x `
    assert counted("topt", shaft, predicted((6, 10, "port"))) == Counts(hit=4, missed=1)


def test_topt_has_counts_of_each_type():
    answer = predicted((1, 3, "vessel"), (3, 6, "port"), (7, 8, "port"))

    assert score("topt", [MARY], [answer]).types == {
        "port": Counts(hit=1, extra=3, missed=1),
        "vessel": Counts(hit=2),
    }


# ---- cpner


def test_cpner_does_not_look_where_a_text_stands():
    elsewhere = predicted((3, 4, "port"))

    assert counted("cpner", gold("Aden , then Aden", (0, 1, "port")), elsewhere) == Counts(hit=1)
    assert counted("strict", gold("Aden , then Aden", (0, 1, "port")), elsewhere) == Counts(extra=1, missed=1)


def test_cpner_counts_a_text_as_often_as_gold_has_it():
    assert counted("cpner", TWICE, wrote(("port", "Aden"))) == Counts(hit=1, missed=1)
    assert counted("cpner", TWICE, wrote(*[("port", "Aden")] * 3)) == Counts(hit=2, extra=1)


def test_cpner_does_not_check_that_a_text_is_in_the_sentence():
    assert counted("cpner", MARY, wrote(("port", "Cairo"), ("vessel", "Queen Mary"))) == Counts(1, 1, 2)


def test_cpner_tells_case_and_type_apart():
    answer = wrote(("vessel", "queen mary"), ("vessel", "Aden"))

    assert score("cpner", [MARY], [answer]).types == {"port": Counts(missed=2), "vessel": Counts(extra=2, missed=1)}


# ---- uniner


@pytest.mark.parametrize("text", ["queen mary", "The Queen Mary", "Queen  Mary .", "'Queen' Mary", "a queen, an Mary"])
def test_uniner_folds_case_punctuation_articles_and_blanks(text):
    assert score("uniner", [MARY], [wrote(("vessel", text))]).types["vessel"] == Counts(hit=1)


@pytest.mark.parametrize("text", ["Queen-Mary", "Queen Marya", "Queen Theo Mary"])
def test_uniner_drops_no_more_than_that(text):
    assert score("uniner", [MARY], [wrote(("vessel", text))]).types["vessel"] == Counts(extra=1, missed=1)


def test_uniner_counts_equal_texts_once_on_either_side():
    answer = wrote(("port", "Aden"), ("port", "ADEN"), ("port", "Mocha"), ("port", "the Mocha"))

    assert counted("uniner", TWICE, answer) == Counts(hit=1, extra=1)


def test_uniner_asks_for_each_type_by_itself():
    both = gold("Aden", (0, 1, "port"))

    assert score("uniner", [both], [wrote(("port", "Aden"), ("vessel", "Aden"))]).types == {
        "port": Counts(hit=1),
        "vessel": Counts(extra=1),
    }


@pytest.mark.parametrize("type", ["misc", "miscellaneous", "MISC"])
def test_uniner_has_no_query_for_misc(type):
    dutch = gold("Dutch ships at Aden", (0, 1, type), (3, 4, "port"))
    answer = predicted((1, 2, type), (3, 4, "port"))

    scores = score("uniner", [dutch], [answer])

    assert (scores.all, scores.types) == (Counts(hit=1), {"port": Counts(hit=1)})
    assert set(figures("uniner", [dutch], [answer]).values()) == {100.0}


def test_uniner_averages_over_mentions_and_over_types():
    answer = wrote(("vessel", "queen mary"), ("port", "Aden"), ("port", "Mocha"))

    assert figures("uniner", [MARY], [answer]) == pytest.approx(
        {"f1": 200 / 3, "precision": 200 / 3, "recall": 200 / 3, "macro_f1": (100 + 50) / 2}
    )


# ---- b2ner


def test_b2ner_folds_case_and_counts_sets():
    assert counted("b2ner", TWICE, wrote(("port", "ADEN"), ("Port", "aden"))) == Counts(hit=1)
    assert counted("b2ner", TWICE, wrote(("port", "Mocha"), ("port", "mocha"))) == Counts(extra=1, missed=1)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("St . John 's", "St. John's"),
        ("Aden ( Yemen )", "aden(yemen)"),
        ("Suez - Canal", "Suez-Canal"),
        ("A , B : C _ D", "a,b:c_d"),
        ("the “ Mary ”", 'the " mary "'),
        ("Mary ’ s", "mary's"),
        ("Aden . . .", "aden."),
        ("《 Moby Dick 》", "Moby Dick"),
        ("( Aden )", "Aden"),
        ("@@Aden##", "aden"),
    ],
)
def test_b2ner_does_not_see_blanks_around_punctuation_nor_marks_around_the_whole(text, written):
    words = text.split()

    assert counted("b2ner", gold(text, (0, len(words), "port")), wrote(("port", written))) == Counts(hit=1)


def test_b2ner_sees_blanks_between_words():
    assert counted("b2ner", MARY, wrote(("vessel", "QueenMary"))) == Counts(extra=1, missed=3)


def test_b2ner_has_one_name_for_organisation_and_for_location():
    firm = gold("Lloyd of London", (0, 1, "organisation"), (2, 3, "located"))
    answer = wrote(("organization", "Lloyd"), ("location", "London"))

    assert score("b2ner", [firm], [answer]).types == {"location": Counts(hit=1), "organization": Counts(hit=1)}
    assert counted("cpner", firm, answer) == Counts(extra=2, missed=2)


def test_b2ner_replaces_these_names_in_texts_too():
    assert counted("b2ner", gold("World Trade Organisation", (0, 3, "port")), wrote(("port", "world trade organization"))) == Counts(hit=1)  # fmt: skip


def test_b2ner_breaks_a_text_at_a_semicolon():
    pair = gold("Aden ; Mocha", (0, 3, "port"))

    assert counted("b2ner", pair, predicted((0, 3, "port"))) == Counts(hit=1)
    assert counted("b2ner", pair, predicted((0, 1, "port"))) == Counts(hit=1)
    assert counted("b2ner", pair, wrote(("port", "Aden ; vessel: Mary"))) == Counts(hit=1, extra=1)
    assert counted("b2ner", pair, wrote(("port", "Mocha"))) == Counts(extra=1, missed=1)


# ---- gliner


def test_gliner_has_types_in_lower_case():
    mixed = gold("Mary left Aden", (0, 1, "Vessel"), (2, 3, "Port"))

    assert score("gliner", [mixed], [predicted((0, 1, "vessel"), (2, 3, "PORT"))]).types == {
        "port": Counts(hit=1),
        "vessel": Counts(hit=1),
    }


def test_gliner_predicts_nothing_over_twelve_words_and_misses_it():
    plot = gold(" ".join(["word"] * 30), (0, 13, "plot"), (13, 25, "plot"))

    assert counted("gliner", plot, predicted((0, 13, "plot"), (13, 25, "plot"))) == Counts(hit=1, missed=1)
    assert counted("gliner", plot, predicted((0, 14, "plot"))) == Counts(missed=2)
    assert counted("strict", plot, predicted((0, 14, "plot"))) == Counts(extra=1, missed=2)


def test_gliner_predicts_no_two_spans_that_overlap():
    over = [(1, 3, "vessel"), (2, 4, "vessel")]

    assert counted("gliner", MARY, predicted(*over)) == Counts(hit=1, missed=2)
    assert counted("gliner", MARY, predicted(*over, scores=(0.4, 0.9))) == Counts(extra=1, missed=3)
    assert counted("strict", MARY, predicted(*over)) == Counts(hit=1, extra=1, missed=2)


def test_gliner_looks_where_a_span_stands():
    assert counted("gliner", TWICE, predicted((0, 1, "port"), (3, 4, "vessel"))) == Counts(1, 1, 1)


# ---- what they have in common


@pytest.mark.parametrize("protocol", TEXTS)
def test_texts_are_those_that_were_generated_and_else_those_of_the_spans(protocol):
    spans = ((1, 3, "vessel"), (7, 8, "port"))
    pairs = (("vessel", "Queen Mary"), ("port", "Aden"))

    assert counted(protocol, MARY, predicted(*spans)) == counted(protocol, MARY, wrote(*pairs))
    assert counted(protocol, MARY, predicted(*spans, pairs=())) == counted(protocol, MARY, wrote())


@pytest.mark.parametrize("protocol", TEXTS)
def test_a_span_that_is_named_twice_is_one_text(protocol):
    assert counted(protocol, MARY, predicted((7, 8, "port"), (7, 8, "port"))) == counted(
        protocol, MARY, predicted((7, 8, "port"))
    )


@pytest.mark.parametrize("protocol", POSITIONS)
def test_protocols_by_position_do_not_look_at_what_was_generated(protocol):
    assert counted(protocol, MARY, predicted((7, 8, "port"), pairs=(("port", "Cairo"),))) == Counts(hit=1, missed=2)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sentences_and_types_add_up_to_the_whole(protocol):
    chance = random.Random(3)
    sentences, answers = [], []
    for n in range(40):
        words = [chance.choice(["Aden", "Port", "Said", ",", "(", ")", ";", "the"]) for _ in range(8)]
        bounds = [(0, chance.randrange(1, 3)), (3, chance.randrange(4, 6)), (6, 8)]
        true, said = (
            [Span(a, b, chance.choice(["port", "vessel", "misc"])) for a, b in bounds if chance.random() < 0.8]
            for _ in range(2)
        )
        sentences.append(Gold(str(n), words, tuple(true)))
        answers.append(Prediction(str(n), tuple(said)))

    scores = score(protocol, sentences, answers)

    assert sum(scores.types.values(), Counts()) == sum(scores.sentences, Counts()) == scores.all
    assert list(scores.types) == sorted(scores.types)
    assert scores.all.hit > 0


mention = st.tuples(st.sampled_from(["port", "vessel"]), st.sampled_from(["Aden", "Port Said", "aden", "the Aden"]))


@given(st.lists(mention, max_size=5), st.lists(mention, max_size=5))
def test_cpner_equals_taking_gold_away_one_by_one(true, said):
    words = " | ".join(text for _, text in true).split()
    spans, at = [], 0
    for type, text in true:
        spans.append(Span(at, at + len(text.split()), type))
        at += len(text.split()) + 1
    left, hit = list(true), 0
    for pair in said:
        if pair in left:
            left.remove(pair)
            hit += 1

    assert counted("cpner", Gold("harbour/test/1", words, spans), wrote(*said)) == Counts(
        hit, len(said) - hit, len(true) - hit
    )


# ---- on the corpora

DATA = os.environ.get("CDNER_DATA")  # as it is before a test's own folders hide it
needs_data = pytest.mark.skipif(not DATA, reason="gold is not here: set CDNER_DATA")


def gold_of(name):
    return [Gold(s.id, s.words, s.spans or ()) for s in load(name, Path(DATA)).test.sentences]


@needs_data
@pytest.mark.parametrize(
    ("target", "f1"),
    [("politics", 100.16), ("science", 99.85), ("music", 99.87), ("literature", 100.0), ("ai", 99.93)],
)
def test_topt_has_perfect_predictions_over_a_hundred_on_each_target_but_for_texts_that_it_cannot_read(target, f1):
    sentences = gold_of(target)
    texts = {g.id: [" ".join(g.words[a:b]) for a, b, _ in g.spans] for g in sentences}
    plain = [g for g in sentences if not any(mark in text for text in texts[g.id] for mark in (", ", ") "))]
    perfect = {g.id: Prediction(g.id, tuple(g.spans)) for g in sentences}

    over = score("topt", plain, [perfect[g.id] for g in plain]).all
    again = sum(
        times - 1 for g in plain for times in Counter((" ".join(g.words[a:b]), t) for a, b, t in g.spans).values()
    )

    assert (over.extra, over.missed) == (0, -again)
    assert again > 0
    assert over.f1 > 100
    assert score("topt", sentences, list(perfect.values())).all.f1 == pytest.approx(f1, abs=0.005)


@needs_data
@pytest.mark.parametrize("protocol", ["cpner", "uniner", "b2ner", "conlleval-stream"])
def test_perfect_predictions_are_a_hundred_under_the_others(protocol):
    sentences = gold_of("science")

    assert score(protocol, sentences, [Prediction(g.id, tuple(g.spans)) for g in sentences]).all.f1 == 100


@needs_data
def test_gliner_misses_the_494_mentions_of_movie_that_are_too_wide():
    sentences = gold_of("movie")

    found = score("gliner", sentences, [Prediction(g.id, tuple(g.spans)) for g in sentences]).all

    assert (found.extra, found.missed) == (0, 494)


def test_general_types_are_counted_by_texts_too():
    mapping = {"vessel": "miscellaneous", "port": "location"}
    broad = relabel([MARY], mapping)
    answers = relabel([wrote(("port", "Aden"), ("nonsense", "Queen Mary"))], mapping)

    assert score("topt", broad, answers).types == {
        "location": Counts(hit=1, missed=1),
        "miscellaneous": Counts(0, 0, 1),
    }
    assert score("uniner", broad, answers).types["location"] == Counts(hit=1, missed=1)
