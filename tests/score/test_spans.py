import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Tokens

from benchmark.score.spans import Span, chunks, from_tags, relabel_tag, split_tag, to_tags

TYPES = ["port", "vessel", "sea-port"]
TAGS = ["O", *(f"{prefix}-{type}" for prefix in "BI" for type in TYPES)]
sentences = st.lists(st.sampled_from(TAGS), max_size=12)


@st.composite
def flat_spans(draw: st.DrawFn) -> tuple[int, list[Span]]:
    """A length and spans that do not overlap, some of them touching."""
    spans, position = [], 0
    for gap, width, type in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(TYPES)), max_size=5)
    ):
        spans.append(Span(position + gap, position + gap + width, type))
        position += gap + width
    return position + draw(st.integers(0, 2)), spans


# ---- strict IOB2


def test_legal_tags_become_spans():
    #       The  Queen       Mary        left  Port      Said      Aden
    tags = ["O", "B-vessel", "I-vessel", "O", "B-port", "I-port", "B-port"]

    assert from_tags(tags) == [Span(1, 3, "vessel"), Span(4, 6, "port"), Span(6, 7, "port")]


def test_inner_tag_of_another_type_is_dropped_and_ends_the_span():
    assert from_tags(["B-vessel", "I-port"]) == [Span(0, 1, "vessel")]


def test_inner_tag_after_outside_is_dropped_with_all_that_continues_it():
    assert from_tags(["O", "I-port", "I-port", "B-port"]) == [Span(3, 4, "port")]


def test_span_does_not_resume_after_an_illegal_tag():
    assert from_tags(["B-port", "I-vessel", "I-port"]) == [Span(0, 1, "port")]


def test_span_may_end_with_the_sentence():
    assert from_tags(["B-port", "I-port"]) == [Span(0, 2, "port")]


@pytest.mark.parametrize("read", [from_tags, chunks])
def test_empty_sentence_has_no_spans(read):
    assert read([]) == []


@pytest.mark.parametrize("read", [from_tags, chunks])
@pytest.mark.parametrize("tag", ["B", "I", "B-", "", "E-port", "S-port", "B.port", "b-port", "port", "O-port"])
def test_what_is_no_tag_is_read_as_outside(read, tag):
    assert read(["B-port", tag, "B-port", "I-port"]) == [Span(0, 1, "port"), Span(2, 4, "port")]
    assert split_tag(tag) == ("O", "")


def test_type_keeps_its_hyphens():
    assert from_tags(["B-sea-port", "I-sea-port"]) == [Span(0, 2, "sea-port")]


@given(sentences)
def test_strict_reading_equals_seqeval(tags):
    theirs = [Span(e.start, e.end, e.tag) for e in Tokens(tags, IOB2).entities]

    assert from_tags(tags) == theirs


def test_seqeval_strips_hyphens_at_the_ends_of_a_type_and_we_keep_them():
    assert [e.tag for e in Tokens(["B--port-"], IOB2).entities] == ["port"]
    assert from_tags(["B--port-"]) == [Span(0, 1, "-port-")]


def test_seqeval_makes_up_a_type_for_a_tag_without_one_and_we_drop_it():
    assert [e.tag for e in Tokens(["B"], IOB2).entities] == ["_"]
    assert from_tags(["B"]) == []


# ---- the CoNLL script's reading


def test_inner_tag_after_outside_starts_a_chunk():
    assert chunks(["O", "I-port", "I-port"]) == [Span(1, 3, "port")]


def test_inner_tag_of_another_type_starts_a_chunk():
    assert chunks(["B-vessel", "I-port", "I-port"]) == [Span(0, 1, "vessel"), Span(1, 3, "port")]


def test_beginning_of_the_same_type_starts_a_chunk():
    assert chunks(["I-port", "B-port", "I-port"]) == [Span(0, 1, "port"), Span(1, 3, "port")]


@given(sentences)
def test_chunks_equal_seqeval_in_its_default_mode(tags):
    # Over B-, I- and O seqeval's default mode and the CoNLL script agree. They part, as do we, beyond IOB2: below.
    theirs = [Span(start, last + 1, type) for type, start, last in get_entities(tags)]

    assert chunks(tags) == theirs


def conll_script(tags: list[str]) -> list[Span]:
    """The script's bookkeeping, word by word: does a chunk end before this word, does one start at it?"""
    found, start, before, before_type = [], -1, "O", ""
    for position, tag in enumerate([*tags, "O"]):
        now, type = tag.split("-", 1) if "-" in tag else (tag, "")
        ends = (before in "BI" and now in "BO") or (before != "O" and before_type != type)
        starts = now == "B" or (before == "O" and now == "I") or (now != "O" and before_type != type)
        if ends:
            found.append(Span(start, position, before_type))
        if starts:
            start = position
        before, before_type = now, type
    return found


@given(sentences)
def test_chunks_equal_the_conll_script_step_by_step(tags):
    assert chunks(tags) == conll_script(tags)


def test_seqeval_departs_from_the_conll_script_beyond_iob2():
    """Over B-type, I-type and O the two agree; chakki-works/seqeval#57 sets the script beside seqeval's strict mode.

    Running both programs shows where they part. The script has no S-, and after an E- it starts no chunk at a B- of
    the same type; seqeval does both. A tag without a hyphen (`B.port`) starts no chunk there and one of type ".port"
    in seqeval. A tag without a type makes a nameless chunk there, and one of type "_" in seqeval. We read B-type,
    I-type and O, and take all of these for O.
    """
    assert get_entities(["S-port", "S-port"]) == [("port", 0, 0), ("port", 1, 1)]
    assert chunks(["S-port", "S-port"]) == []
    assert get_entities(["B-port", "E-port", "B-port"]) == [("port", 0, 1), ("port", 2, 2)]
    assert chunks(["B-port", "E-port", "B-port"]) == [Span(0, 1, "port"), Span(2, 3, "port")]
    assert get_entities(["B", "I"]) == [("_", 0, 1)]
    assert chunks(["B", "I"]) == []
    with pytest.warns(UserWarning, match=r"B\.port seems not to be NE tag"):
        assert get_entities(["B.port"]) == [(".port", 0, 0)]
    assert chunks(["B.port"]) == []


@given(sentences)
def test_strict_spans_are_among_the_chunks(tags):
    assert set(from_tags(tags)) <= set(chunks(tags))


# ---- writing tags


@given(flat_spans())
def test_tags_give_the_spans_back(made):
    length, spans = made
    tags = to_tags(length, reversed(spans))

    assert len(tags) == length
    assert from_tags(tags) == spans
    assert chunks(tags) == spans


def test_neighbours_of_one_type_stay_two_spans():
    assert to_tags(3, [Span(0, 2, "port"), Span(2, 3, "port")]) == ["B-port", "I-port", "B-port"]


@pytest.mark.parametrize("span", [Span(2, 4, "port"), Span(-1, 1, "port"), Span(2, 2, "port"), Span(2, 1, "port")])
def test_span_that_does_not_fit_is_refused(span):
    with pytest.raises(ValueError, match="does not fit") as caught:
        to_tags(3, [span])

    assert str(caught.value) == f"the span {tuple(span)} does not fit a sentence of 3 words."


def test_overlapping_spans_are_refused():
    with pytest.raises(ValueError, match="overlap") as caught:
        to_tags(5, [Span(2, 4, "port"), Span(0, 3, "vessel")])

    assert str(caught.value) == "the spans (0, 3, 'vessel') and (2, 4, 'port') overlap, and a word has one tag only."


def test_span_without_a_type_is_refused():
    with pytest.raises(ValueError, match="no type") as caught:
        to_tags(1, [Span(0, 1, "")])

    assert str(caught.value) == "the span (0, 1, '') has no type."


def test_relabelling_keeps_prefix_and_outside():
    mapping = {"sea-port": "location"}

    assert [relabel_tag(tag, mapping) for tag in ("B-sea-port", "I-sea-port", "O", "B.port")] == [
        "B-location",
        "I-location",
        "O",
        "B.port",
    ]


def test_relabelling_an_unmapped_type_is_a_key_error():
    with pytest.raises(KeyError, match="vessel"):
        relabel_tag("B-vessel", {"port": "location"})
