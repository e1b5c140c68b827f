"""Lookup: a phrase is an entity where train says so, and always the same one. The floor that training must beat.

Paper    Tjong Kim Sang and De Meulder, "Introduction to the CoNLL-2003 Shared Task", 2003, section 3.1: the baseline
         "only identified entities which had a unique class in the training data. If a phrase was part of more than
         one entity, the system would select the longest one." Its English test F1 is 59.61.
Sources  their mentions count where the target has the type; what the target's train says of a phrase goes before
Departs  Overlapping matches are taken from left to right, the longest at each word; the paper does not say.

This is the smallest whole method: copy it to begin one of your own (docs/add-a-method.md).
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.corpus.corpus import Split
from benchmark.corpus.transfer import Transfer
from benchmark.errors import Unsupported
from benchmark.run.method import Method
from benchmark.run.stage import Stage
from benchmark.score.protocols import Prediction, write_predictions
from benchmark.score.spans import Span
from benchmark.work import Work


@dataclass(frozen=True)
class Settings:
    """The settings of the lookup; the defaults are the paper's."""

    fold_case: bool = False  # the paper is silent; its text is cased
    target_only: bool = False


def phrases(split: Split, *, fold_case: bool) -> dict[str, str]:
    """Return phrase -> type, for every phrase whose mentions all have one type.

    >>> from benchmark.corpus.corpus import Sentence
    >>> words = ("Paris", "met", "Paris", "Hilton")
    >>> one = Split("x", "train", (Sentence("x/train/0", words, (Span(0, 1, "place"), Span(2, 4, "person"))),))
    >>> phrases(one, fold_case=True)
    {'paris': 'place', 'paris hilton': 'person'}
    """
    types = defaultdict(set)
    for sentence in split.sentences:
        for start, end, name in sentence.spans or ():
            types[joined(sentence.words[start:end], fold_case=fold_case)].add(name)
    return {phrase: names.pop() for phrase, names in types.items() if len(names) == 1}


def joined(words: Sequence[str], *, fold_case: bool) -> str:
    """Return words as a phrase is looked up."""
    return " ".join(words).casefold() if fold_case else " ".join(words)


def longest_matches(words: Sequence[str], known: Mapping[str, str], *, longest: int, fold_case: bool) -> list[Span]:
    """Return the spans of known phrases, from left to right, the longest at each word.

    >>> longest_matches(["New", "York", "Times"], {"New York": "place", "New York Times": "paper"}, longest=3,
    ...                 fold_case=False)
    [Span(start=0, end=3, type='paper')]
    """
    found, start = [], 0
    while start < len(words):
        for end in range(min(len(words), start + longest), start, -1):
            name = known.get(joined(words[start:end], fold_case=fold_case))
            if name is not None:
                found.append(Span(start, end, name))
                break
        else:
            end = start + 1
        start = end
    return found


def collect(work: Work, *, splits: Sequence[Split], fold_case: bool) -> None:
    """Write the phrases of some splits; of two splits that know a phrase, the later is believed."""
    known: dict[str, str] = {}
    for split in splits:
        known |= phrases(split, fold_case=fold_case)
    (work.folder / "phrases.json").write_text(json.dumps(known, ensure_ascii=False, indent=0), encoding="utf8")


def look_up(work: Work, *, phrase_folder: Path, words: Split, fold_case: bool) -> None:
    """Write predictions.jsonl: the longest known phrases of every sentence."""
    known = json.loads((phrase_folder / "phrases.json").read_text(encoding="utf8"))
    longest = max((phrase.count(" ") + 1 for phrase in known), default=0)
    write_predictions(
        work.folder / "predictions.jsonl",
        (
            Prediction(s.id, tuple(longest_matches(s.words, known, longest=longest, fold_case=fold_case)))
            for s in words.sentences
        ),
    )


class Lookup(Method):
    """Phrases of train, looked up in test."""

    Settings = Settings

    def plan(self, transfer: Transfer, settings: Settings, seed: int) -> Stage:
        """Return the stage that looks the test words up. The seed changes nothing."""
        spec, target = transfer.spec, transfer.target
        if spec.order == "merge":
            raise Unsupported("there is nothing to merge in a lookup; say `order: sequence` or `order: joint`.")
        if settings.target_only and spec.regime == "zero-shot":
            raise Unsupported("with target_only there is nothing to look up in zero-shot.")
        here = {identity: key for key, identity in target.identities.items()}
        sources = [] if settings.target_only else transfer.sources
        renamed = [
            s.relabel({key: here.get(identity) for key, identity in s.identities.items()}).train for s in sources
        ]
        splits = tuple(renamed) if spec.regime == "zero-shot" else (*renamed, target.train)
        known = Stage(
            collect,
            title="+".join(s.corpus for s in splits),
            size=float(sum(s.n_words for s in splits)),
            splits=splits,
            fold_case=settings.fold_case,
        )
        return Stage(
            look_up,
            title=transfer.test.corpus,
            size=float(transfer.test.n_words),
            phrase_folder=known,
            words=transfer.test,
            fold_case=settings.fold_case,
        )
