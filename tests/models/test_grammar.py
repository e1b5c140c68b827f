"""What grounded decoding may write, and what is read of it."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmark.models import grammar
from benchmark.models.formats import FORMATS, Format, Item
from benchmark.models.grammar import Sentences, Standing

OPTIONS = ["ship", "port of call", "a"]
SHAPES = ["topt", "topt-text", "sentence", "typed"]
VOCABULARY = 400
END = 399


def encode(text: str) -> list[int]:
    """Return one number a letter, blanks gone: every mark may be part of a mention."""
    return [ord(letter) for letter in text if not letter.isspace()]


def target(name: str, pieces: list[list[int]], spans: list[tuple[int, int, str]]) -> list[int]:
    """Return what a format writes about spans of a sentence."""
    shape, found = FORMATS[name], []
    for number, (start, end, kind) in enumerate(spans):
        found += encode(shape.separator) if number else []
        for place, part in enumerate(shape.parts):
            if place % 2 == 0:
                found += encode(part)
            else:
                found += encode(kind) if part == "type" else [i for piece in pieces[start:end] for i in piece]
    return found or encode(shape.nothing)


def standing(made: grammar.Nodes, pieces: list[list[int]]) -> Standing:
    ids = torch.tensor([[7, *(i for piece in pieces for i in piece), 7]])
    begins, ends, inside = (torch.zeros_like(ids, dtype=torch.bool) for _ in range(3))
    at = 1
    for piece in pieces:
        begins[0, at], ends[0, at + len(piece) - 1], inside[0, at : at + len(piece)] = True, True, True
        at += len(piece)
    return Standing.start(made, Sentences(ids, begins, ends, inside))


def nodes(name: str) -> grammar.Nodes:
    return grammar.nodes(FORMATS[name], OPTIONS, encode, END)


def goes(found: Standing, ids: list[int]) -> bool:
    """Return whether every sub-word may follow those before it."""
    for number in ids:
        if not found.allowed(VOCABULARY)[0, number]:
            return False
        found.move(torch.tensor([number]))
    return True


words_of = st.lists(
    st.text(alphabet="ab:;,()=>. is", min_size=1, max_size=3).map(lambda word: "".join(word.split()) or "a"),
    min_size=1,
    max_size=7,
)


@st.composite
def sentences(draw) -> tuple[list[str], list[tuple[int, int, str]]]:
    words = draw(words_of)
    cuts = sorted(draw(st.sets(st.integers(0, len(words)), max_size=6)))
    spans = [(a, b, draw(st.sampled_from(OPTIONS))) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
    return words, spans


@pytest.mark.parametrize("name", SHAPES)
@given(given=sentences())
def test_every_target_may_be_written(name, given):
    words, spans = given
    pieces = [encode(word) for word in words]

    assert goes(standing(nodes(name), pieces), [*target(name, pieces, spans), END])


@pytest.mark.parametrize("name", SHAPES)
@given(given=sentences(), seed=st.integers(0, 1000))
def test_whatever_may_be_written_is_read_as_runs_of_words_and_options(name, given, seed):
    words, _ = given
    pieces, made, chance = [encode(word) for word in words], nodes(name), torch.Generator().manual_seed(seed)
    found, written = standing(made, pieces), []
    while True:
        allowed = found.allowed(VOCABULARY)[0].nonzero().flatten()
        assert len(allowed), "a text must never be stuck"
        number = int(allowed[torch.randint(len(allowed), (1,), generator=chance)])
        if number == END:
            break
        written.append(number)
        found.move(torch.tensor([number]))
    items, places, whole = grammar.read(made, written, pieces, words)

    assert whole
    assert all(item.type in OPTIONS for item in items)
    assert [item.text for item in items] == [" ".join(words[a:b]) for a, b in places]
    assert all(0 <= a < b <= len(words) for a, b in places)
    assert all(one[1] <= other[0] for one, other in pairwise(places))


@given(given=sentences())
def test_a_target_of_plain_words_is_read_back(given):
    words, spans = given
    words = [f"{number}{word.strip(':;')}x" for number, word in enumerate(words)]  # no mark is a word
    pieces = [encode(word) for word in words]

    items, places, whole = grammar.read(nodes("typed"), target("typed", pieces, spans), pieces, words)

    assert (items, whole) == ([Item(kind, " ".join(words[a:b])) for a, b, kind in spans], True)
    assert places == [(a, b) for a, b, _ in spans]


def test_of_words_with_equal_sub_words_the_next_one_is_meant():
    pieces = [encode("ada")] * 3  # of which the backbone sees no case

    found = grammar.read(nodes("typed"), encode("ship:ada;a:ada"), pieces, ["Ada", "ADA", "ada"])

    assert found == ([Item("ship", "Ada"), Item("a", "ADA")], [(0, 1), (1, 2)], True)


@pytest.mark.parametrize(
    ("written", "allowed"),
    [
        ("", "spa" + "n"),  # a type, or `none`
        ("ship", ":"),
        ("ship:", "A;"),  # the first letters of words
        ("ship:A", "d"),
        ("ship:Ada", ";;" + chr(END)),  # the next word, the separator, the end
        ("ship:Ada;", "spa" + chr(END)),  # the mention went on with `;`, the last word; or the next item begins
        ("ship:Ada;a:", ";"),  # behind the mention before it
        ("ship:;", chr(END)),  # no word is left
        ("none", chr(END)),
    ],
)
def test_what_may_follow(written, allowed):
    pieces = [encode(word) for word in ("Ada", ";")]
    found = standing(nodes("typed"), pieces)

    assert goes(found, encode(written))
    assert {chr(i) for i in found.allowed(VOCABULARY)[0].nonzero().flatten().tolist()} == set(allowed)


def test_a_format_without_marks_between_mentions_is_refused():
    with pytest.raises(ValueError, match="no mark between two mentions"):
        grammar.nodes(Format("bare", "{text}{type}", " "), [""], encode, END)


def test_a_text_that_was_cut_off_is_not_whole():
    pieces = [encode("Ada")]

    assert grammar.read(nodes("typed"), encode("ship:Ada;a:A"), pieces, ["Ada"]) == (
        [Item("ship", "Ada")],
        [(0, 1)],
        False,
    )


def test_a_batch_stands_where_each_of_its_texts_does():
    made = nodes("typed")
    one, other = [encode("Ada")], [encode("b"), encode("b")]
    apart = [standing(made, pieces) for pieces in (one, other)]
    size = apart[0].sentences.ids.size(1)
    wide = Sentences(*(
        torch.cat([x, torch.nn.functional.pad(y, (0, size - y.size(1)))])
        for x, y in zip(apart[0].sentences, apart[1].sentences, strict=True)
    ))  # fmt: skip
    both = Standing.start(made, wide)

    for first, second in zip(encode("ship:Ada"), encode("a:b;a:b;"), strict=True):
        assert torch.equal(both.allowed(VOCABULARY), torch.cat([x.allowed(VOCABULARY) for x in apart]))
        both.move(torch.tensor([first, second]))
        apart[0].move(torch.tensor([first]))
        apart[1].move(torch.tensor([second]))
    both.keep(torch.tensor([1]))
    assert torch.equal(both.allowed(VOCABULARY), apart[1].allowed(VOCABULARY))
