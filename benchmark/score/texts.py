"""Rules that compare texts: a type and a text, wherever in the sentence they stand.

topt     a hit counts its words; a text that the sentence does not have is no false positive
cpner    multisets
uniner   sets of normalised texts, a query a type; miscellaneous is not asked for
b2ner    sets of lower-cased `type:text`

A mention is (type, text). Each rule takes one sentence and returns, for every type in it, [hit, extra, missed] as that
paper's public code counts them: repository, file and lines stand at the rule.
"""

import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache

Mention = tuple[str, str]
Tally = dict[str, list[int]]
Rule = Callable[[str, Sequence[Mention], Sequence[Mention], Collection[str]], Tally]

HIT, EXTRA, MISSED = range(3)
KEPT = 1 << 16  # texts whose normalised form is kept: those of gold come again with every record of a target


def topt(sentence: str, gold: Sequence[Mention], predicted: Sequence[Mention], offered: Collection[str]) -> Tally:
    """Count as TOPT does. No F1: perfect predictions come to more than 100.

    Gold is de-duplicated, predictions are not. A hit of L words adds L to the hits and L - 1 to gold, a missed mention
    is 1. So a mention that is found twice, and stands once in gold, is -1 missed. Wrong ones count their words, unless
    their text is no part of the sentence (its letters: `Ade` is part of `Aden`) or their type is not offered.

    Predictions are read as the code reads them off `(type, text) (type, text)`: an item ends with its first `) `, and
    a text with its first `, `. So neither a text with `, ` in it nor one with `) ` in it is ever a hit.

    ZelateCalcite/TOPT_NER, eval.py:16-100.

    >>> topt("to Port Said", [("port", "Port Said")], [("port", "Port Said"), ("port", "Cairo")], {"port"})
    {'port': [2, 0, 0]}
    """
    wanted = set(gold)
    tally = _tally()
    for type, _ in wanted:
        tally[type][MISSED] += 1
    for type, text in _as_topt_reads(predicted):
        words = len(text.split(" "))
        if (type, text) in wanted:
            tally[type][HIT] += words
            tally[type][MISSED] -= 1
        elif type in offered and text in sentence:
            tally[type][EXTRA] += words
    return dict(tally)


def cpner(sentence: str, gold: Sequence[Mention], predicted: Sequence[Mention], offered: Collection[str]) -> Tally:
    """Count as CP-NER does: mentions that are equal, each as often as it stands in gold.

    Whether the text is in the sentence does not matter. Departs: the code reads gold off targets that are cut at 192
    of a model's tokens, and drops a type that its schema does not have. Here gold is whole, and such a type is wrong.

    zjunlp/DeepKE, src/deepke/name_entity_re/cross/extraction/: scorer.py:49-77, extraction_metrics.py:9-47.

    >>> cpner("Aden to Aden", [("port", "Aden"), ("port", "Aden")], [("port", "Aden"), ("port", "Mocha")], {"port"})
    {'port': [1, 1, 1]}
    """
    return _compared(Counter(gold), Counter(predicted))


def uniner(sentence: str, gold: Sequence[Mention], predicted: Sequence[Mention], offered: Collection[str]) -> Tally:
    """Count as UniversalNER does: one query a type, whose answer is a list without repetitions of normalised texts.

    Nobody asks for `misc` (for `miscellaneous`, among general types): it is neither gold nor predicted.

    universal-ner/universal-ner, src/eval/evaluate.py:9-52.

    >>> uniner("", [("vessel", "The Queen Mary"), ("misc", "Dutch")], [("vessel", "queen mary .")], {"vessel", "misc"})
    {'vessel': [1, 0, 0]}
    """
    wanted, found = ({(type, _plain(text)) for type, text in said if type.lower() not in UNASKED}
                     for said in (gold, predicted))  # fmt: skip
    return _compared(Counter(wanted), Counter(found))


def b2ner(sentence: str, gold: Sequence[Mention], predicted: Sequence[Mention], offered: Collection[str]) -> Tally:
    """Count as B2NER does: sets of `type:text`, in lower case, without blanks around punctuation.

    Gold and predictions are read off `type: text; type: text`. A text with `;` in it breaks there: what stands before
    is the text, what stands behind is lost, unless it has a `:`. So types are in lower case too, and `organisation` is
    `organization`.

    UmeanNever/B2NER, src/evaluation/evaluator.py:519-635.

    >>> b2ner("", [("organisation", "St . John 's")], [("organization", "st. john's"), ("port", "Aden; Mocha")], {})
    {'organization': [1, 0, 0], 'port': [0, 1, 0]}
    """
    wanted, found = (set(_as_b2ner_reads(tuple(said))) for said in (gold, predicted))
    return _compared(Counter(wanted), Counter(found))


def _tally() -> defaultdict[str, list[int]]:
    return defaultdict(lambda: [0, 0, 0])


def _compared(gold: Counter[Mention], predicted: Counter[Mention]) -> Tally:
    """Count mentions that are equal, each at most as often as both have it."""
    tally = _tally()
    for place, mentions in ((HIT, gold & predicted), (EXTRA, predicted - gold), (MISSED, gold - predicted)):
        for (type, _), times in mentions.items():
            tally[type][place] += times
    return dict(tally)


# ---- TOPT


def _as_topt_reads(mentions: Iterable[Mention]) -> Iterator[Mention]:
    """Yield what TOPT's code reads of mentions that are written in TOPT's format.

    >>> list(_as_topt_reads([("port", "Port Said"), ("port", "Aden , Yemen"), ("metrics", "f ( x ) of y")]))
    [('port', 'Port Said'), ('port', 'Aden '), ('metrics', 'f ( x ')]
    """
    written = " ".join(f"({type}, {text})" for type, text in mentions)
    for item in re.split(r"\) |\n", written.removesuffix(")")):
        type, *texts = item[1:].split(", ")
        if texts:
            yield type, texts[0]


# ---- UniversalNER

UNASKED = ("misc", "miscellaneous")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@lru_cache(KEPT)
def _plain(text: str) -> str:
    """Return a text in lower case, without ASCII punctuation, articles and needless blanks.

    >>> _plain("The U.S.S. Queen  Mary's"), _plain("A")
    ('uss queen marys', '')
    """
    return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", text.lower().translate(_NO_PUNCTUATION)).split())


# ---- B2NER

_B2NER_LETTERS = str.maketrans({"{": "", "}": ""})
_B2NER_MARKS = str.maketrans({"；": ";", "：": ":", "，": ",", "’": "'", "‘": "'", "“": '"', "”": '"'})
_BLANKS = re.compile(r" ?([,:().;_'-]) ?")
_REPEATED = re.compile(r"([,.;])\1+")
_AROUND = (re.compile("《(.+?)》"), re.compile("^[《》<>（）()]+(.+?)[《》<>（）()]+$"))


def _as_b2ner_reads(mentions: tuple[Mention, ...]) -> tuple[Mention, ...]:
    """Return what B2NER's code reads of mentions that are written in B2NER's format.

    >>> _as_b2ner_reads((("Located", "A . B ( c ) ; D: e"), ("port", "Aden")))
    (('location', 'a.b(c)'), ('d', 'e'), ('port', 'aden'))
    """
    written = _b2ner_form("; ".join(f"{type}: {text}" for type, text in mentions))
    parts = (item.partition(":") for item in map(_b2ner_form, written.split(";")) if ":" in item)
    return tuple((type, text) for type, _, text in parts)


@lru_cache(KEPT)
def _b2ner_form(text: str) -> str:
    """Return a text as B2NER compares it. Behind the last colon, marks and brackets around the whole are dropped."""
    text = _BLANKS.sub(r"\1", " ".join(text.split())).lower().translate(_B2NER_LETTERS)
    text = _REPEATED.sub(r"\1", text).translate(_B2NER_MARKS)
    text = text.replace("located", "location").replace("organisation", "organization")
    before, colon, last = text.rpartition(":")
    if not colon:
        return text
    last = last.strip("@#")
    for around in _AROUND:
        if inner := around.search(last):
            last = inner[1]
    return f"{before}:{last}"
