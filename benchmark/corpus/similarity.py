"""How far domains lie from each other: Euclidean distances of vectors of their words (Gravil et al., section 3.3).

The words are those of a train split, as scikit-learn's vectorizers cut them: letters and digits, two or more, without
case. No gold is read. The paper does not say what its features are. Counts give its distances from ai to the digit:
politics 530.5, science 383.7, literature 145.2. Its 150.6 for music is that of music from literature; from ai it is
157.4.

    counts        how often each word stands in the split: what is far is, first of all, large
    frequencies   the same as shares of all words
    tfidf         mean of its sentences' tf-idf vectors of length 1, fitted on all splits that are compared
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from benchmark.corpus.corpus import Split

FEATURES = ("counts", "frequencies", "tfidf")


@lru_cache(maxsize=256)
def distances(target: Split, others: tuple[Split, ...], features: str) -> dict[str, float]:
    """Return the distance of each other split from the target's, by corpus, the nearest first."""
    import numpy as np

    vectors = _vectors([target, *others], features)
    found = np.linalg.norm(vectors[1:] - vectors[0], axis=1).tolist()
    near = sorted(zip(found, (other.corpus for other in others), strict=True))
    return {name: distance for distance, name in near}


def table(splits: Mapping[str, Split], features: str) -> dict[str, dict[str, float]]:
    """Return the distances of all splits from each other, by name."""
    others = {name: tuple(split for other, split in splits.items() if other != name) for name in splits}
    return {name: distances(split, others[name], features) for name, split in splits.items()}


def _vectors(splits: Sequence[Split], features: str) -> Any:
    """Return one vector a split (S, W), W words."""
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

    texts = [" ".join(sentence.words) for split in splits for sentence in split.sentences]
    owner = np.repeat(np.arange(len(splits)), [len(split.sentences) for split in splits])
    found = CountVectorizer().fit_transform(texts)
    if features == "tfidf":
        found = TfidfTransformer().fit_transform(found)
    sums = np.stack([np.asarray(found[owner == n].sum(0), dtype=float)[0] for n in range(len(splits))])
    if features == "counts":
        return sums
    sizes = sums.sum(1) if features == "frequencies" else np.bincount(owner, minlength=len(splits))
    return sums / np.maximum(sizes, 1)[:, None]
