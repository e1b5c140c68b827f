"""The figures of explanations of mentions, as a table for people (TOPT, tables 1 and 3)."""

from collections.abc import Mapping

from tabulate import tabulate

from benchmark.corpus.knowledge import Statistics


def table(found: Mapping[str, Statistics]) -> str:
    """Return the figures of each corpus, a line each."""
    rows = [
        [name, s.texts, s.explanations, s.strange, s.negative, s.mentions, s.tokens, *s.rates.values()]
        for name, s in found.items()
    ]
    rates = [name.replace(" a ", "\na ").replace("fail ", "fail\n") for name in next(iter(found.values())).rates]
    heads = ["corpus", "texts", "explained", "of no\nmention", "negative", "mentions\nof train", "tokens", *rates]
    notes = "mentions of train: of each sentence, type and text once; tokens between blanks"
    return f"{tabulate(rows, heads, tablefmt='simple', floatfmt='.2f')}\n\n{notes}"
