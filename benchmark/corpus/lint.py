"""What in a corpus would make a number lie: leaks between splits, repeats, shifts, texts with two types.

A corpus that cannot be read raises. What is read and merely surprises is a finding: a `warning` where scores are
inflated or cannot be reached, a `note` where a reader of the table should know.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import wrap
from typing import Literal

from benchmark.corpus.card import SourceFile, load_card
from benchmark.corpus.corpus import Corpus, Split, load, load_split
from benchmark.corpus.fetch import locate, sha256

POINTS = 10  # a type's share of mentions moves by more percentage points than this
FACTOR = 3  # or by more than this factor,
ENOUGH = 20  # with at least this many test mentions
SHOWN = 5  # examples in a finding


@dataclass(frozen=True)
class Finding:
    """One thing to know before believing a number."""

    code: str
    severity: Literal["note", "warning"]
    text: str


@dataclass
class Report:
    """The findings on one corpus, and figures of each split: counts, and the share of mentions seen in train."""

    corpus: str
    findings: list[Finding] = field(default_factory=list)
    figures: dict[str, dict[str, int | float]] = field(default_factory=dict)

    def note(self, code: str, text: str) -> None:
        """Add a finding that a reader of the table should know."""
        self.findings.append(Finding(code, "note", text))

    def warn(self, code: str, text: str) -> None:
        """Add a finding that inflates a score, or keeps it out of reach."""
        self.findings.append(Finding(code, "warning", text))


def lint(name: str, *, data: Path | None = None, cards: tuple[Path, ...] = (), source: str | None = None) -> Report:
    """Return what would make a number on the corpus `name` lie; `source` adds what a transfer from it would leak.

    Train is the whole file here, with what the card cuts off it. Raises whatever reading the corpora raises.
    """
    card = load_card(name, cards)
    corpus = load(card, data)
    whole = load_split(card, "train", data, dev="none")
    report = Report(name)
    report.figures["train"] = _figures(whole)
    if corpus.dev:
        report.figures["dev"] = _figures(corpus.dev, corpus.train)  # a cut dev stands in the whole train
    report.figures["test"] = _figures(corpus.test, whole)
    _same_files(corpus, data, report)
    _shared_sentences(corpus, whole, report)
    _repeats(corpus.test, report)
    _types(corpus, whole, report)
    _shifts(corpus, whole, report)
    _two_types(corpus.test, report)
    if source is not None:
        _transfer(load_split(load_card(source, cards), "train", data, dev="none"), corpus, report)
    return report


def render(report: Report) -> str:
    """Return a report in plain text: the figures, then the findings, warnings first."""
    columns = list(dict.fromkeys(column for row in report.figures.values() for column in row))
    width = max((len(split) for split in report.figures), default=0)
    lines = [report.corpus, "", "  ".join([" " * width, *columns])]
    for split, row in report.figures.items():
        cells = (_cell(row.get(column)).rjust(len(column)) for column in columns)
        lines.append("  ".join([split.ljust(width), *cells]))
    lines.append("")
    for severity in ("warning", "note"):
        for finding in report.findings:
            if finding.severity == severity:
                lead = f"{severity:<8} {finding.code}: "
                lines += wrap(lead + finding.text, 100, subsequent_indent=" " * 9, break_long_words=False)
    warnings = sum(finding.severity == "warning" for finding in report.findings)
    counts = f"{_n(warnings, 'warning')}, {_n(len(report.findings) - warnings, 'note')}"
    lines += ["", counts] if report.findings else ["Nothing to report."]
    return "\n".join(lines) + "\n"


def _cell(value: int | float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0%}" if isinstance(value, float) else f"{value:,}"


def _figures(split: Split, train: Split | None = None) -> dict[str, int | float]:
    figures: dict[str, int | float] = {
        "sentences": len(split.sentences),
        "words": split.n_words,
        "mentions": split.mentions,
        "types": len(_by_type(split)),
    }
    if train and split.mentions:
        figures["seen in train"] = _seen(split, train) / split.mentions
    return figures


def _same_files(corpus: Corpus, data: Path | None, report: Report) -> None:
    """Compare dev with test, and with test any dev.txt beside it that the card does not read."""
    if corpus.dev and _sentences(corpus.dev) == _sentences(corpus.test):
        report.warn(
            "dev-is-test", "dev and test are the same sentences: whatever is selected on dev is selected on test."
        )
    test = locate(corpus.card, "test", data)
    beside = test.with_name("dev.txt")
    unread = not isinstance(corpus.card.source["dev"], SourceFile)
    if unread and beside.is_file() and beside != test and sha256(beside) == sha256(test):
        report.note(
            "dev-file-is-test",
            f"{beside} is {test.name} to the byte. The card does not read it; work that selects on it selects on test.",
        )


def _shared_sentences(corpus: Corpus, whole: Split, report: Report) -> None:
    dev, test = corpus.dev, corpus.test
    pairs = [(test, whole)]
    if dev and _sentences(dev) != _sentences(test):
        pairs.append((test, dev))
    if dev and isinstance(corpus.card.source["dev"], SourceFile):
        pairs.append((dev, whole))
    for here, there in pairs:
        if shared := _shared(here, there):
            report.warn(
                f"{here.name}-in-{there.name}",
                f"{_of(shared, len(here.sentences), 'sentence')} of {here.name} {_stand(shared)} in {there.name} too.",
            )


def _repeats(test: Split, report: Report) -> None:
    if repeats := len(test.sentences) - len(set(_sentences(test))):
        report.note(
            "repeats", f"{_of(repeats, len(test.sentences), 'sentence')} of test only {_repeat(repeats)} another."
        )


def _types(corpus: Corpus, whole: Split, report: Report) -> None:
    train, test = _by_type(whole), _by_type(corpus.test)
    if only := [f"{type_} ({test[type_]})" for type_ in corpus.card.types if test[type_] and not train[type_]]:
        report.warn("unseen-type", f"in test and never in train, with test mentions: {', '.join(only)}.")
    if never := [type_ for type_ in corpus.card.types if not test[type_]]:
        report.note("untested-type", f"never in test, so no score speaks of them: {', '.join(never)}.")


def _shifts(corpus: Corpus, whole: Split, report: Report) -> None:
    train, test = _by_type(whole), _by_type(corpus.test)
    moved = []
    for type_ in corpus.card.types:
        if train[type_] and test[type_]:
            before, after = train[type_] / train.total(), test[type_] / test.total()
            far = abs(after - before) * 100 > POINTS
            steep = test[type_] >= ENOUGH and max(after / before, before / after) > FACTOR
            if far or steep:
                moved.append((abs(after - before), f"{type_} {before:.1%} to {after:.1%}"))
    if moved:
        told = "; ".join(text for _, text in sorted(moved, reverse=True))
        report.note("prior-shift", f"a type's share of all mentions differs from train to test: {told}.")


def _two_types(test: Split, report: Report) -> None:
    types: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for text, type_ in _mentions(test):
        types[text][type_] += 1
    mixed = sorted(((text, seen) for text, seen in types.items() if len(seen) > 1), key=lambda m: -m[1].total())
    if mixed:
        told = "; ".join(
            f"{text!r} {', '.join(f'{type_} {n}' for type_, n in seen.most_common())}" for text, seen in mixed[:SHOWN]
        )
        first = " The most frequent" if len(mixed) > SHOWN else " They are"
        report.note(
            "two-types", f"{_of(len(mixed), len(types), 'text')} in test with more than one type.{first}: {told}."
        )


def _transfer(source: Split, corpus: Corpus, report: Report) -> None:
    """Say what of the target stands in the source's train split."""
    for split in (corpus.train, corpus.dev, corpus.test):
        if split and (shared := _shared(split, source)):
            told = f"{_of(shared, len(split.sentences), 'sentence')} of {split.name}"
            text = f"{told} {_stand(shared)} in the train split of {source.corpus}."
            (report.warn if split.name == "test" else report.note)(f"{split.name}-in-source", text)
    if seen := _seen(corpus.test, source):
        told = _of(seen, corpus.test.mentions, "test mention")
        report.note("mentions-in-source", f"{told} {_have(seen)} a text that is a mention in train of {source.corpus}.")


def _sentences(split: Split) -> list[tuple[str, ...]]:
    return [sentence.words for sentence in split.sentences]


def _shared(here: Split, there: Split) -> int:
    known = set(_sentences(there))
    return sum(words in known for words in _sentences(here))


def _mentions(split: Split) -> Iterable[tuple[str, str]]:
    for sentence in split.sentences:
        for start, end, type_ in sentence.spans or ():
            yield " ".join(sentence.words[start:end]), type_


def _by_type(split: Split) -> Counter[str]:
    return Counter(type_ for _, type_ in _mentions(split))


def _seen(split: Split, train: Split) -> int:
    """Count the mentions whose text, case folded, is a mention in train, of whichever type."""
    known = {text.casefold() for text, _ in _mentions(train)}
    return sum(text.casefold() in known for text, _ in _mentions(split))


def _n(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _of(count: int, total: int, noun: str) -> str:
    return f"{_n(count, noun)} of {total:,} ({count / total:.1%})" if total else _n(count, noun)


def _stand(count: int) -> str:
    return "stands" if count == 1 else "stand"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _repeat(count: int) -> str:
    return "repeats" if count == 1 else "repeat"
