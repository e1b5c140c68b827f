import gzip
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support as seqeval_default
from seqeval.metrics.v1 import precision_recall_fscore_support as seqeval_strict
from seqeval.scheme import IOB2

from benchmark.errors import RecordError, UnknownName
from benchmark.score.protocols import (
    PROTOCOLS,
    Counts,
    Gold,
    Prediction,
    conlleval_counts,
    errors,
    read_predictions,
    relabel,
    score,
    strict_counts,
    write_predictions,
)
from benchmark.score.spans import Span, chunks, from_tags, to_tags

TYPES = ["port", "vessel", "person"]
TAGS = ["O", *(f"{prefix}-{type}" for prefix in "BI" for type in TYPES)]
ODD = ["B", "I", "E-port", "B.port", ""]  # no tags at all


def corpora(tags=TAGS):
    """Gold and predicted tags of a few sentences, of equal lengths."""
    pair = st.tuples(st.sampled_from(tags), st.sampled_from(tags))
    sentence = st.lists(pair, max_size=8).map(lambda pairs: ([a for a, _ in pairs], [b for _, b in pairs]))
    return st.lists(sentence, max_size=5).map(lambda made: ([g for g, _ in made], [p for _, p in made]))


counts = st.builds(Counts, st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))


@st.composite
def flat_spans(draw):
    spans, position = [], 0
    for gap, width, type in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(TYPES)))):
        position += gap
        if position + width <= 12:
            spans.append(Span(position, position + width, type))
        position += width
    return tuple(spans)


def gold(text, *spans, id="harbour/test/1"):
    return Gold(id, text.split(), tuple(Span(*span) for span in spans))


def predicted(*spans, id="harbour/test/1", **more):
    return Prediction(id, tuple(Span(*span) for span in spans), **more)


MARY = gold("The Queen Mary left Port Said for Aden", (1, 3, "vessel"), (4, 6, "port"), (7, 8, "port"))


# ---- counts


def test_counts_add_up():
    assert Counts(1, 2, 3) + Counts(10, 20, 30) == Counts(11, 22, 33)


def test_figures_are_in_percent():
    found = Counts(hit=3, extra=1, missed=2)

    assert found.precision == 75.0
    assert found.recall == 60.0
    assert found.f1 == 100 * 6 / 9


def test_nothing_to_find_and_nothing_found_is_zero():
    assert (Counts().precision, Counts().recall, Counts().f1) == (0.0, 0.0, 0.0)


@given(counts)
def test_f1_is_the_harmonic_mean(found):
    precision, recall = found.precision, found.recall

    if precision + recall:
        assert found.f1 == pytest.approx(2 * precision * recall / (precision + recall))
    else:
        assert found.f1 == 0.0


@given(counts)
def test_swapping_gold_and_prediction_swaps_precision_and_recall(found):
    swapped = Counts(hit=found.hit, extra=found.missed, missed=found.extra)

    assert (swapped.precision, swapped.recall, swapped.f1) == (found.recall, found.precision, found.f1)


# ---- strict


def test_span_one_word_too_long_is_both_extra_and_missed():
    scores = score("strict", [MARY], [predicted((1, 3, "vessel"), (4, 7, "port"), (7, 8, "port"))])

    assert scores.all == Counts(hit=2, extra=1, missed=1)
    assert scores.types == {"port": Counts(hit=1, extra=1, missed=1), "vessel": Counts(hit=1)}


def test_wrong_type_is_extra_for_one_type_and_missed_for_the_other():
    scores = score("strict", [MARY], [predicted((1, 3, "person"), (4, 6, "port"), (7, 8, "port"))])

    assert scores.all == Counts(hit=2, extra=1, missed=1)
    assert scores.types == {"person": Counts(extra=1), "port": Counts(hit=2), "vessel": Counts(missed=1)}


def test_span_predicted_twice_counts_once():
    scores = score("strict", [MARY], [predicted((1, 3, "vessel"), (1, 3, "vessel"), (0, 1, "port"), (0, 1, "port"))])

    assert scores.all == Counts(hit=1, extra=1, missed=2)


def test_nested_spans_are_counted_each():
    nested = gold("Port of Aden", (0, 3, "port"), (2, 3, "person"))

    assert score("strict", [nested], [predicted((2, 3, "person"))]).all == Counts(hit=1, missed=1)


def test_spans_do_not_match_across_sentences():
    first = gold("Aden", (0, 1, "port"), id="a")
    second = gold("Said", id="b")

    scores = score("strict", [first, second], [predicted(id="a"), predicted((0, 1, "port"), id="b")])

    assert scores.sentences == [Counts(missed=1), Counts(extra=1)]
    assert scores.all == Counts(extra=1, missed=1)


def test_tags_do_not_matter_to_strict():
    scores = score("strict", [gold("to Aden", (1, 2, "port"))], [predicted((1, 2, "port"), tags=("O", "I-port"))])

    assert scores.all == Counts(hit=1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_sentences_score_zero(protocol):
    scores = score(protocol, [], [])

    assert (scores.all, scores.types, scores.sentences) == (Counts(), {}, [])
    assert set(PROTOCOLS[protocol].metrics(scores.all, scores.types).values()) == {0.0}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_empty_sentence_counts_nothing(protocol):
    scores = score(protocol, [gold("")], [predicted(tags=())])

    assert (scores.all, scores.types, scores.sentences) == (Counts(), {}, [Counts()])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_perfect_predictions_score_a_hundred(protocol):
    scores = score(protocol, [MARY], [Prediction(MARY.id, tuple(MARY.spans))])

    assert set(PROTOCOLS[protocol].metrics(scores.all, scores.types).values()) == {100.0}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_order_of_predictions_does_not_matter(protocol):
    first, second = gold("Aden", (0, 1, "port"), id="a"), gold("Mary left", (0, 1, "vessel"), id="b")
    answers = [predicted((0, 1, "port"), id="a"), predicted((1, 2, "vessel"), id="b")]

    assert score(protocol, [first, second], answers) == score(protocol, [first, second], answers[::-1])


# ---- conlleval


def test_conlleval_reads_the_tags_as_emitted():
    answer = predicted(tags=("O", "I-vessel", "I-vessel", "O", "I-port", "I-port", "O", "O"))

    assert score("strict", [MARY], [answer]).all == Counts(missed=3)
    assert score("conlleval", [MARY], [answer]).all == Counts(hit=2, missed=1)


def test_conlleval_takes_the_spans_where_there_are_no_tags():
    answer = predicted((1, 3, "vessel"), (4, 7, "port"))

    assert score("conlleval", [MARY], [answer]) == score("strict", [MARY], [answer])


@given(corpora())
def test_protocols_over_predictions_equal_the_fast_counts(made):
    gold_tags, predicted_tags = made
    gold = [Gold(str(n), ["word"] * len(tags), chunks(tags)) for n, tags in enumerate(gold_tags)]
    answers = [Prediction(str(n), tuple(from_tags(tags)), tuple(tags)) for n, tags in enumerate(predicted_tags)]
    legal = [to_tags(len(g.words), g.spans) for g in gold]

    assert score("strict", gold, answers) == strict_counts(legal, predicted_tags)
    assert score("conlleval", gold, answers) == conlleval_counts(legal, predicted_tags)


# ---- the fast counts


def naive(gold_tags, predicted_tags, read):
    """Counts by looking for each predicted span among gold's, one by one."""
    hit, extra, missed = Counter(), Counter(), Counter()
    for wanted, found in zip(gold_tags, predicted_tags, strict=True):
        left = read(wanted)
        for span in read(found):
            if span in left:
                left.remove(span)
                hit[span.type] += 1
            else:
                extra[span.type] += 1
        missed.update(span.type for span in left)
    return {type: Counts(hit[type], extra[type], missed[type]) for type in sorted({*hit, *extra, *missed})}


@pytest.mark.parametrize(("count", "read"), [(strict_counts, from_tags), (conlleval_counts, chunks)])
@given(made=corpora([*TAGS, *ODD]))
def test_fast_counts_equal_the_naive_loop(count, read, made):
    scores = count(*made)

    assert scores.types == naive(*made, read)
    assert list(scores.types) == sorted(scores.types)
    assert scores.all == sum(scores.types.values(), Counts())
    assert scores.sentences == [count([g], [p]).all for g, p in zip(*made, strict=True)]


@given(corpora().filter(lambda made: made[0]))
def test_fast_strict_counts_equal_seqeval(made):
    scores = strict_counts(*made)
    precision, recall, f1, support = seqeval_strict(*made, scheme=IOB2, average=None, zero_division=0)

    assert support.tolist() == [c.hit + c.missed for c in scores.types.values()]
    assert (precision * 100).tolist() == pytest.approx([c.precision for c in scores.types.values()])
    assert (recall * 100).tolist() == pytest.approx([c.recall for c in scores.types.values()])
    assert (f1 * 100).tolist() == pytest.approx([c.f1 for c in scores.types.values()])
    assert 100 * f1_score(*made, mode="strict", scheme=IOB2, zero_division=0) == pytest.approx(scores.all.f1)


@given(corpora().filter(lambda made: made[0]))
def test_fast_conlleval_counts_equal_seqeval_in_its_default_mode(made):
    scores = conlleval_counts(*made)
    precision, recall, f1, support = seqeval_default(*made, average=None, zero_division=0)

    assert support.tolist() == [c.hit + c.missed for c in scores.types.values()]
    assert (precision * 100).tolist() == pytest.approx([c.precision for c in scores.types.values()])
    assert (recall * 100).tolist() == pytest.approx([c.recall for c in scores.types.values()])
    assert (f1 * 100).tolist() == pytest.approx([c.f1 for c in scores.types.values()])
    assert 100 * f1_score(*made, zero_division=0) == pytest.approx(scores.all.f1)


@pytest.mark.parametrize("count", [strict_counts, conlleval_counts])
def test_span_does_not_reach_into_the_next_sentence(count):
    scores = count([["O", "B-port"], ["I-port", "O"]], [["O", "B-port"], ["O", "O"]])

    assert scores.sentences[0] == Counts(hit=1)


def test_fast_counts_refuse_sentences_of_unequal_lengths():
    with pytest.raises(ValueError, match="tags") as caught:
        strict_counts([["O"], ["O", "O"]], [["O"], ["O"]])
    assert str(caught.value) == "sentence 1 has 2 gold tags and 1 predicted ones."

    with pytest.raises(ValueError, match="sentences") as caught:
        conlleval_counts([["O"]], [])
    assert str(caught.value) == "there are 1 gold sentences and 0 predicted ones."


# ---- token


def test_token_counts_every_word_and_outside_is_a_tag():
    answer = predicted(tags=("O", "B-vessel", "O", "O", "B-port", "I-port", "O", "B-person"))

    scores = score("token", [MARY], [answer])

    assert scores.all == Counts(hit=6, extra=2, missed=2)
    assert scores.types == {
        "B-person": Counts(extra=1),
        "B-port": Counts(hit=1, missed=1),
        "B-vessel": Counts(hit=1),
        "I-port": Counts(hit=1),
        "I-vessel": Counts(missed=1),
        "O": Counts(hit=3, extra=1),
    }
    metrics = PROTOCOLS["token"].metrics(scores.all, scores.types)
    assert metrics == pytest.approx(
        {
            "f1": 100 * (0 + 2 / 3 + 1 + 1 + 0 + 6 / 7) / 6,
            "precision": 100 * (0 + 1 + 1 + 1 + 0 + 3 / 4) / 6,
            "recall": 100 * (0 + 1 / 2 + 1 + 1 + 0 + 1) / 6,
            "accuracy": 75.0,
        }
    )


def test_token_makes_tags_of_spans_where_there_are_none():
    answer = predicted((1, 3, "vessel"), (1, 3, "vessel"))
    with_tags = replace(answer, tags=("O", "B-vessel", "I-vessel", "O", "O", "O", "O", "O"))

    assert score("token", [MARY], [answer]) == score("token", [MARY], [with_tags])


def test_token_counts_tags_that_are_no_tags_as_emitted():
    assert score("token", [gold("Aden", (0, 1, "port"))], [predicted(tags=("B.port",))]).types == {
        "B-port": Counts(missed=1),
        "B.port": Counts(extra=1),
    }


@given(corpora([*TAGS, "B.port"]))
def test_accuracy_and_label_counts_equal_the_naive_loop(made):
    gold_tags, predicted_tags = made
    gold = [Gold(str(n), ["word"] * len(tags), chunks(tags)) for n, tags in enumerate(gold_tags)]
    answers = [Prediction(str(n), (), tuple(tags)) for n, tags in enumerate(predicted_tags)]
    wanted = [tag for g in gold for tag in to_tags(len(g.words), g.spans)]
    pairs = list(zip(wanted, (tag for p in answers for tag in p.tags or ()), strict=True))

    scores = score("token", gold, answers)

    assert scores.all.hit == sum(a == b for a, b in pairs)
    assert scores.types == {
        label: Counts(
            hit=sum(a == b == label for a, b in pairs),
            extra=sum(b == label != a for a, b in pairs),
            missed=sum(a == label != b for a, b in pairs),
        )
        for label in sorted({label for pair in pairs for label in pair})
    }
    if pairs:
        accuracy = PROTOCOLS["token"].metrics(scores.all, scores.types)["accuracy"]
        assert accuracy == pytest.approx(100 * scores.all.hit / len(pairs))


def test_token_cannot_write_overlapping_spans_as_tags():
    with pytest.raises(RecordError) as caught:
        score("token", [MARY], [predicted((1, 3, "vessel"), (2, 4, "person"))])

    assert str(caught.value) == (
        "harbour/test/1: the predicted spans cannot be written as tags: "
        "the spans (1, 3, 'vessel') and (2, 4, 'person') overlap, and a word has one tag only."
    )


# ---- what does not belong together


def test_unknown_protocol_is_refused_with_the_nearest():
    with pytest.raises(UnknownName) as caught:
        score("conleval", [], [])

    assert str(caught.value) == (
        f"there is no protocol 'conleval'. Did you mean 'conlleval'? There are: {', '.join(PROTOCOLS)}."
    )


def test_missing_predictions_are_refused():
    ids = [f"harbour/test/{n}" for n in range(1, 6)]

    with pytest.raises(RecordError) as caught:
        score("strict", [gold("Aden", id=id) for id in ids], [predicted(id="harbour/test/3")])

    assert str(caught.value) == (
        "there is no prediction for 'harbour/test/1', 'harbour/test/2', 'harbour/test/4' and 1 more. "
        "A sentence in which nothing is found needs one too, with no spans."
    )


def test_extra_predictions_are_refused():
    with pytest.raises(RecordError) as caught:
        score("strict", [MARY], [predicted(), predicted(id="harbour/dev/7")])

    assert str(caught.value) == (
        "there is a prediction for 'harbour/dev/7', and gold has no such sentence. Is this its split?"
    )


def test_repeated_predictions_are_refused():
    with pytest.raises(RecordError) as caught:
        score("strict", [MARY], [predicted(), predicted()])

    assert str(caught.value) == "there is more than one prediction for 'harbour/test/1'. A sentence is predicted once."


def test_repeated_gold_is_refused():
    with pytest.raises(RecordError) as caught:
        score("strict", [MARY, MARY], [predicted()])

    assert str(caught.value) == "gold has more than one sentence 'harbour/test/1'. An id names one sentence."


@pytest.mark.parametrize("span", [(7, 9, "port"), (-1, 1, "port"), (3, 3, "port")])
def test_span_outside_its_sentence_is_refused(span):
    with pytest.raises(RecordError) as caught:
        score("strict", [MARY], [predicted(span)])

    assert str(caught.value) == (
        f"harbour/test/1: the predicted span {span} does not fit the sentence, which has 8 words."
    )


def test_gold_span_outside_its_sentence_is_refused():
    with pytest.raises(RecordError) as caught:
        score("strict", [gold("Aden", (0, 2, "port"))], [predicted()])

    assert str(caught.value) == (
        "harbour/test/1: the gold span (0, 2, 'port') does not fit the sentence, which has 1 words."
    )


def test_tags_of_another_length_are_refused():
    with pytest.raises(RecordError) as caught:
        score("strict", [MARY], [predicted(tags=("O", "O"))])

    assert str(caught.value) == "harbour/test/1: there are 2 predicted tags, and the sentence has 8 words."


# ---- general types

GENERAL = {"vessel": "miscellaneous", "port": "location", "dock": "location"}


def test_relabelled_gold_has_general_types():
    [general] = relabel([MARY], GENERAL)

    assert general == Gold(
        MARY.id, MARY.words, (Span(1, 3, "miscellaneous"), Span(4, 6, "location"), Span(7, 8, "location"))
    )


def test_relabelled_prediction_has_general_spans_tags_and_pairs():
    answer = predicted(
        (1, 2, "dock"), tags=("O", "B-dock", "I-vessel"), pairs=(("dock", "Aden"), ("sea", "Red Sea")), raw="text"
    )

    [general] = relabel([answer], GENERAL)

    assert general == predicted(
        (1, 2, "location"),
        tags=("O", "B-location", "I-miscellaneous"),
        pairs=(("location", "Aden"), ("sea", "Red Sea")),
        raw="text",
    )


def test_neighbours_that_come_to_share_a_type_stay_two_spans():
    tags = ("B-port", "I-port", "B-dock", "I-dock")

    [general] = relabel([Prediction("a", tuple(from_tags(tags)), tags)], GENERAL)

    assert general.spans == (Span(0, 2, "location"), Span(2, 4, "location"))
    assert general.tags == ("B-location", "I-location", "B-location", "I-location")
    assert tuple(from_tags(general.tags)) == general.spans


@pytest.mark.parametrize("item", [gold("Aden", (0, 1, "prot")), predicted((0, 1, "prot")), predicted(tags=("B-prot",))])
def test_unmapped_type_is_refused(item):
    with pytest.raises(RecordError) as caught:
        relabel([item], GENERAL)

    assert str(caught.value) == (
        "harbour/test/1: the type 'prot' has no general type. Did you mean 'port'? Mapped are: vessel, port, dock."
    )


# ---- kinds of errors


def kinds(answer, sentence=MARY):
    return {kind: times for kind, times in errors([sentence], [answer]).items() if times}


def test_each_kind_of_error_is_told_apart():
    assert errors([MARY], [predicted((1, 3, "person"), (4, 7, "port"), (0, 1, "port"))]) == {
        "hit": 0,
        "type": 1,
        "boundary": 1,
        "missed": 1,
        "spurious": 1,
    }


def test_perfect_prediction_has_hits_only():
    assert kinds(Prediction(MARY.id, tuple(MARY.spans))) == {"hit": 3}


def test_overlap_of_another_type_is_a_boundary_error():
    assert kinds(predicted((4, 5, "person"))) == {"boundary": 1, "missed": 2}


def test_touching_spans_do_not_overlap():
    assert kinds(predicted((3, 4, "port"))) == {"missed": 3, "spurious": 1}


def test_one_prediction_over_two_gold_spans_uses_one_of_them():
    assert kinds(predicted((4, 8, "port"))) == {"boundary": 1, "missed": 2}


def test_two_predictions_within_one_gold_span_use_it_once():
    assert kinds(predicted((4, 5, "port"), (5, 6, "port"))) == {"boundary": 1, "missed": 2, "spurious": 1}


def test_gold_span_that_was_hit_is_gone():
    assert kinds(predicted((1, 3, "vessel"), (1, 3, "person"), (2, 3, "vessel"))) == {
        "hit": 1,
        "missed": 2,
        "spurious": 2,
    }


def test_wrong_type_is_dealt_out_before_wrong_boundary():
    sentence = gold("Port of Aden", (0, 3, "port"))

    assert kinds(predicted((0, 2, "port"), (0, 3, "person")), sentence) == {"type": 1, "spurious": 1}


@given(flat_spans(), flat_spans())
def test_every_span_is_counted_once_and_swapping_sides_swaps_missed_and_spurious(wanted, found):
    words = ["word"] * 12
    there = errors([Gold("a", words, wanted)], [Prediction("a", found)])
    back = errors([Gold("a", words, found)], [Prediction("a", wanted)])

    assert there["hit"] == len(set(wanted) & set(found))
    assert len(wanted) == there["hit"] + there["type"] + there["boundary"] + there["missed"]
    assert len(found) == there["hit"] + there["type"] + there["boundary"] + there["spurious"]
    assert back == {**there, "missed": there["spurious"], "spurious": there["missed"]}


def test_errors_check_the_ids_too():
    with pytest.raises(RecordError, match="there is no prediction for 'harbour/test/1'"):
        errors([MARY], [])


# ---- the file

text = st.text(st.characters(exclude_categories=[]), max_size=8)
number = st.floats(allow_nan=False, allow_infinity=False)
predictions = st.builds(
    Prediction,
    id=text,
    spans=st.lists(st.builds(Span, st.integers(0, 9), st.integers(0, 9), text), max_size=3).map(tuple),
    tags=st.none() | st.lists(text, max_size=3).map(tuple),
    pairs=st.none() | st.lists(st.tuples(text, text), max_size=3).map(tuple),
    raw=st.none() | text,
    scores=st.none() | st.lists(number, max_size=3).map(tuple),
)


@pytest.mark.parametrize("name", ["predictions.jsonl", "predictions.jsonl.gz"])
@given(made=st.lists(predictions, max_size=3))
def test_predictions_survive_the_file(tmp_path_factory, name, made):
    path = tmp_path_factory.mktemp("store") / name
    write_predictions(path, made)

    assert read_predictions(path) == made


def test_file_has_one_object_a_line_without_what_is_none(tmp_path):
    path = tmp_path / "predictions.jsonl"
    write_predictions(path, [predicted((0, 1, "port"), id="a"), predicted(id="b", tags=("O",), scores=())])

    assert path.read_text() == (
        '{"id": "a", "spans": [[0, 1, "port"]]}\n{"id": "b", "spans": [], "tags": ["O"], "scores": []}\n'
    )


def test_compressed_bytes_do_not_depend_on_name_or_time(tmp_path, monkeypatch):
    write_predictions(tmp_path / "one.jsonl.gz", [predicted((0, 1, "port"))])
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    write_predictions(tmp_path / "two.jsonl.gz", [predicted((0, 1, "port"))])
    data = (tmp_path / "one.jsonl.gz").read_bytes()

    assert data == (tmp_path / "two.jsonl.gz").read_bytes()
    assert data[3:8] == bytes(5)  # no flags, so no file name; no time
    assert gzip.decompress(data).decode() == '{"id": "harbour/test/1", "spans": [[0, 1, "port"]]}\n'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "this is no JSON (Expecting value: line 1 column 1 (char 0))."),
        ("[1]", "found [1], expected an object with `id` and `spans`."),
        ('{"id": "a"}', "the key `spans` is missing."),
        ('{"spans": []}', "the key `id` is missing."),
        ('{"id": 7, "spans": []}', "`id` is 7, expected a string."),
        ('{"id": "a", "spans": [[0, 1]]}', "`spans` has [0, 1]; a span is [start, end, type]."),
        ('{"id": "a", "spans": [[0, true, "port"]]}', '`spans` has [0, true, "port"]; a span is [start, end, type].'),
        ('{"id": "a", "spans": [[0, 1.0, "port"]]}', '`spans` has [0, 1.0, "port"]; a span is [start, end, type].'),
        ('{"id": "a", "spans": null}', "`spans` is null, expected a list."),
        ('{"id": "a", "spans": [], "tags": "O"}', '`tags` is "O", expected a list.'),
        ('{"id": "a", "spans": [], "tags": [0]}', "`tags` has 0; a tag is a string."),
        ('{"id": "a", "spans": [], "pairs": [["port"]]}', '`pairs` has ["port"]; a pair is [type, text].'),
        ('{"id": "a", "spans": [], "scores": ["1"]}', '`scores` has "1"; a score is a number.'),
        ('{"id": "a", "spans": [], "raw": 1}', "`raw` is 1, expected a string."),
        (
            '{"id": "a", "spans": [], "tag": []}',
            "there is no key 'tag' in a prediction. There are: id, spans, tags, pairs, raw, scores.",
        ),
    ],
)
def test_malformed_line_is_named(tmp_path, line, said):
    path = tmp_path / "predictions.jsonl"
    path.write_text(f'{{"id": "first", "spans": []}}\n{line}\n')

    with pytest.raises(RecordError) as caught:
        read_predictions(path)

    assert str(caught.value) == f"{path}, line 2: {said}"


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(RecordError) as caught:
        read_predictions(tmp_path / "none.jsonl")

    assert str(caught.value) == f"{tmp_path / 'none.jsonl'}: there is no such file of predictions."


def test_file_that_was_cut_off_is_refused(tmp_path):
    path = tmp_path / "predictions.jsonl.gz"
    write_predictions(path, [predicted((0, 1, "port"))])
    path.write_bytes(path.read_bytes()[:-12])

    with pytest.raises(RecordError) as caught:
        read_predictions(path)

    assert str(caught.value) == (
        f"{path}: the predictions cannot be read "
        "(Compressed file ended before the end-of-stream marker was reached). Predict again."
    )


# ---- the room


def test_scoring_needs_no_torch():
    code = "import sys, benchmark.score.protocols; print('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
