"""Rows laid out as tables: what stands where, its marks, and the title and footer around it.

tables   rows -> Table     nothing in one column that may not be compared
with_evidence              each table of scores followed by intervals, ranks, and what could have been detected
Table    title, heads, lines of Entry, notes, footer
Entry    one box: a number or a word, and its marks
Marks    the letters and daggers of a table, and the notes that explain them

What a column never mixes (protocol, type level, regime, selection rule, corpus and scorer versions) is part of the
group that a table is made of, so no renderer has to look at it. A cell that has no number says why: `failed`,
`skipped` and partial cells carry a letter, and the letter's reason stands under the table.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from benchmark.report.rows import (
    AUDIT,
    ERRORS,
    INTERVALS,
    METRICS,
    MISSED,
    NO_RECORD,
    NO_SLICES,
    OVERVIEW,
    SPURIOUS,
    AnyRow,
    AuditRow,
    ConfusionRow,
    CostRow,
    ErrorRow,
    ProtocolRow,
    Row,
    SliceRow,
    Summary,
    TypeRow,
    apart,
    grouped,
    spread_over,
)
from benchmark.score.protocols import PROTOCOLS
from benchmark.score.statistics import ENOUGH, Ranks, ranks

DASH = "—"
SELECTED = {"last": "last model"}  # what is not here reads "selected on <rule>"
BOLD = (
    "the best of its column and what cannot be told from it: paired tests over the same sentences and seeds, corrected "
    "for their number, at 5%; nothing is bold where fewer than two variants have three seeds or draws"
)
RANKED = "the ranks that the tests leave open, among the variants with three seeds or draws; bold: rank 1 is open"
SLICED = {  # what slices are by -> in a title, and at the head of the buckets
    "type": ("type", "type"),
    "detection": ("what has to be right", "what is right"),
    "span-length": ("length of mentions", "words"),
    "sentence-length": ("length of sentences", "words"),
    "seen": ("where the text was seen as a mention", "seen in"),
    "shared": ("shared and new types", "types"),
    "consistency": ("label consistency", "its text in train"),
    "amount": ("amount of target gold", "amount"),
}
BUCKETS = {  # how buckets are printed that do not speak for themselves
    "detection": {"detection": "bounds", "typing": "type, of right bounds", "strict": "both"},
    "seen": {"target": "target train", "other": "elsewhere only", "unseen": "nowhere"},
    "consistency": {"this": "this type only", "several": "this type and others", "others": "other types only"},
}
TONES = {"failed": "red", "skipped": "yellow", "missing": "dim", "general only": "dim"}


@dataclass(frozen=True)
class Entry:
    """One box of a table: a number or a word, and its marks."""

    word: str = ""
    mean: float | None = None
    std: float | None = None
    part: str = ""  # (2/3): two of three cells are ok
    dagger: bool = False  # another precision than the rest of the table
    note: str = ""  # the letter of its reason
    best: bool = False
    tone: str = ""  # a rich style
    digits: int = 2

    @property
    def number(self) -> tuple[str, str]:
        """The mean and the deviation as printed; an empty text for what is not there."""
        mean, std = ("" if n is None else f"{n:.{self.digits}f}" for n in (self.mean, self.std))
        return mean, std


@dataclass(frozen=True)
class Table:
    """A table laid out, for any renderer. The first `labels` entries of `heads` and of each line are names."""

    title: str
    heads: list[Entry]
    lines: list[list[Entry]]
    notes: list[tuple[str, str]]  # mark, text; a mark of one or two small letters stands raised
    footer: str
    rows: list[Any]  # dataclasses: what CSV and JSON have
    labels: int = 1
    words: frozenset[int] = frozenset()  # columns behind the labels that are words, and stand to the left as they do

    def is_left(self, column: int) -> bool:
        """Tell whether a column stands to the left."""
        return column < self.labels or column in self.words


def tables(rows: Sequence[AnyRow]) -> list[Table]:
    """Return the rows laid out, one table per group whose numbers may be compared, in the order of the rows."""
    laid_out: list[Table] = []
    for group in grouped(rows, lambda row: (type(row), *_comparable(row))):
        parts = apart(group, _versions)
        several = {name for part in parts for name, version in _known(part).items() if _differs(name, version, parts)}
        for part in parts:
            present = {row.target for row in part}
            targets = [t for t in dict.fromkeys(row.target for row in group) if t in present]
            laid_out.append(
                _LAYOUTS[type(part[0])](part, targets, [f"{n} v{v}" for n, v in _known(part).items() if n in several])
            )
    return laid_out


def _comparable(row: AnyRow) -> tuple[Hashable, ...]:
    """Return all that must be equal within a table, but for versions."""
    alike = (tuple(row.sources), row.regime, row.select, row.order, row.dev, row.types)
    if isinstance(row, TypeRow):
        return *alike, row.protocol, row.target, row.metric
    if isinstance(row, ProtocolRow):
        return *alike, row.target, tuple(row.scores)
    if isinstance(row, SliceRow):
        return *alike, row.by, "" if row.by == "overview" else row.target
    if isinstance(row, ConfusionRow):
        return *alike, row.target, row.variant
    return (*alike, row.protocol) if isinstance(row, Row) else alike


def _versions(row: Summary) -> dict[str, int]:
    return row.corpora | ({} if row.scorer is None else {"scorer": row.scorer})


def _known(rows: Sequence[Summary]) -> dict[str, int]:
    return {name: version for row in rows for name, version in _versions(row).items()}


def _differs(name: str, version: int, parts: Sequence[Sequence[Summary]]) -> bool:
    return any(_known(part).get(name, version) != version for part in parts)


def _score_table(rows: list[Row], targets: list[str], versions: list[str]) -> Table:
    """Lay out variants by targets, and the average where there are several that do not build on each other."""
    marks = Marks.of(rows)
    averaged = len(targets) > 1 and not any("+" in target for target in targets)
    backbones = len({row.backbone for row in rows if row.backbone}) > 1
    lines = []
    for own in grouped(rows, lambda row: row.variant):
        at = {row.target: row for row in own}
        names = [Entry(own[0].variant), *([Entry(own[0].backbone or DASH)] if backbones else [])]
        values = [_value(at[t], marks) if t in at else Entry(DASH, tone="dim") for t in targets]
        lines.append([*names, *values, *([_average(at, targets)] if averaged else [])])
    labels = 1 + backbones
    heads = ["variant", *(["backbone"] if backbones else []), *_heads(targets), *(["average"] if averaged else [])]
    title = _title(f"{rows[0].protocol} F1", rows, versions)
    tied = {target: _tied(rows, target) for target in targets}
    tested = any(first is not None for first in tied.values())
    variants = [own[0].variant for own in grouped(rows, lambda row: row.variant)]
    columns = transposed(lines)
    for i, target in enumerate(targets, start=labels):
        first = tied[target]
        if first is not None:
            columns[i] = [replace(e, best=v in first) for e, v in zip(columns[i], variants, strict=True)]
        elif not tested:  # as printed; beside columns that were tested it would say more than it knows
            columns[i] = _crowned(columns[i])
    if averaged and not tested:
        columns[-1] = _crowned(columns[-1])
    lines = transposed(columns)
    notes = marks.notes + _dashes(rows, lines, averaged)
    if tested:
        notes.append(("bold", BOLD))
    return Table(title, [Entry(h) for h in heads], lines, notes, _footer(rows, backbones), [*rows], labels)


def _tied(rows: Sequence[Row], target: str) -> set[str] | None:
    """Return the variants that are best on a target or cannot be told from the best; None where nothing was tested."""
    known = [row for row in rows if row.target == target and row.tied is not None]
    return {row.variant for row in known if row.tied} if known else None


def with_evidence(laid_out: Sequence[Table]) -> list[Table]:
    """Return tables, those of scores with ranks followed by what their numbers are worth: intervals and ranks."""
    found = []
    for table in laid_out:
        found.append(table)
        own = [row for row in table.rows if isinstance(row, Row)]
        if any(row.rank_low is not None for row in own):
            found.append(_evidence_table(own, table.title))
    return found


def _evidence_table(rows: list[Row], title: str) -> Table:
    """Lay out intervals and ranks, variants by targets; and the average rank over targets that have all variants."""
    rows = [row for row in rows if row.low is not None]
    targets = list(dict.fromkeys(row.target for row in rows))
    average = average_ranks(rows)
    lines = []
    for own in grouped(rows, lambda row: row.variant):
        at = {row.target: row for row in own}
        values = [_interval(at[t]) if t in at else Entry(DASH, tone="dim") for t in targets]
        mean = None if average is None else average.average.get(own[0].variant)
        rank = [] if average is None else [Entry(DASH, tone="dim") if mean is None else Entry("", mean)]
        lines.append([Entry(own[0].variant), *values, *rank])
    heads = ["variant", *_heads(targets), *([] if average is None else ["average rank"])]
    notes = [("(a–b)", RANKED)]
    if any(row.interval == INTERVALS[2] for row in rows):
        notes.append(
            ("(s)", "an interval of the sentences only: fewer than three seeds, so neither rank nor tie group")
        )
    if average is not None:
        notes.append(("average rank", ranked_how(average)))
    smallest = [
        f"{t} {found:.1f}"
        for t in targets
        for found in [next((row.detectable for row in rows if row.target == t and row.detectable is not None), None)]
        if found is not None
    ]
    footer = "smallest true difference of two variants that is found with 80% probability, after the correction: "
    footer = footer + ", ".join(smallest) if smallest else ""
    what = title.partition(" · ")
    return Table(
        f"95% intervals and ranks of {what[0]} · {what[2]}", [Entry(h) for h in heads], lines, notes, footer, []
    )


def _interval(row: Row) -> Entry:
    """Return an interval, and the ranks that the tests leave open; the tie group of the best is bold."""
    part = "(s)" if row.rank_low is None else _span(row.rank_low, row.rank_high)
    return Entry(f"{row.low:.1f} to {row.high:.1f}", part=part, best=bool(row.tied))


def _span(low: int, high: int | None) -> str:
    """Return ranks as they are printed.

    >>> _span(1, 3), _span(2, 2)
    ('(1–3)', '(2)')
    """
    return f"({low})" if low == high else f"({low}–{high})"


def average_ranks(rows: Sequence[Row]) -> Ranks | None:
    """Return the average ranks over the targets on which two variants have three seeds or draws.

    Of the variants, those that have as many on each of these. None where two variants or two targets are lacking.
    """
    scores: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.f1 is not None and len(row.draws if len(row.planned_draws) > 1 else row.seeds) >= ENOUGH:
            scores.setdefault(row.variant, {})[row.target] = row.f1
    known = [target for at in scores.values() for target in at]
    targets = [target for target in dict.fromkeys(row.target for row in rows) if known.count(target) > 1]
    whole = {name: [at[t] for t in targets] for name, at in scores.items() if at.keys() >= {*targets}}
    return ranks(whole) if len(whole) > 1 and len(targets) > 1 else None


def ranked_how(found: Ranks) -> str:
    """Return what average ranks are worth, in words."""
    p = "" if found.p is None else f", Friedman p = {found.p:.2g}"
    most = len(found.average) - 1
    if found.critical > most:
        near = (
            f"on so few targets no two can be told apart: that takes {found.critical:.2f} (Nemenyi, 5%), and ranks of "
            f"{most + 1} variants differ by {most} at most"
        )
    else:
        near = f"two ranks less than {found.critical:.2f} apart cannot be told apart (Nemenyi, 5%)"
    return f"over {found.sets} targets, of variants with three seeds or draws on each{p}; {near}"


def _heads(targets: Sequence[str]) -> list[str]:
    """Return the heads of targets; one of a chain is named by what it adds to the one before it.

    >>> _heads(["politics", "politics+science", "politics+science+music", "ai+movie"])
    ['politics', '+science', '+music', 'ai+movie']
    """
    before = ["", *targets]
    return [name.removeprefix(last) if name.startswith(f"{last}+") else name
            for last, name in zip(before, targets, strict=False)]  # fmt: skip


def with_worst(table: Table) -> Table:
    """Return a table of scores in which each line's worst target is marked, where it has several with numbers."""
    targets = set(_heads(list(dict.fromkeys(row.target for row in table.rows))))
    columns = [n for n, head in enumerate(table.heads) if n >= table.labels and head.word in targets]
    lines, marked = [], False
    for line in table.lines:
        printed = {n: round(mean, line[n].digits) for n in columns if (mean := line[n].mean) is not None}
        low = {n for n in printed if len(printed) > 1 and printed[n] == min(printed.values())}
        marked |= bool(low)
        lines.append([replace(e, part=f"{e.part} (worst)".lstrip()) if n in low else e for n, e in enumerate(line)])
    note = [("(worst)", "the lowest target of its line")] if marked else []
    return replace(table, lines=lines, notes=table.notes + note)


def _error_table(rows: list[ErrorRow], targets: list[str], versions: list[str]) -> Table:
    """Lay out kinds of errors by variants, target after target."""
    return _count_table(rows, targets, versions, "errors", ERRORS, lambda row: row.errors)


def _audit_table(rows: list[AuditRow], targets: list[str], versions: list[str]) -> Table:
    """Lay out what became of generated pairs by variants, target after target, with how they were decoded."""
    decoding = {"decoding": lambda row: "+".join(row.decoding) or DASH}
    return _count_table(rows, targets, versions, "generated pairs", AUDIT, lambda row: row.audit, decoding)


def _count_table(
    rows: Sequence[Any], targets: list[str], versions: list[str], what: str, kinds: Mapping[str, str],
    counts: Callable[[Any], Mapping[str, float | None]], words: Mapping[str, Callable[[Any], str]] | None = None,
) -> Table:  # fmt: skip
    """Lay out mean counts by variants, target after target. The marks of a row stand at its variant.

    kinds   kind of what is counted -> its head
    words   head -> what stands there, between the variant and the counts
    """
    words = words or {}
    marks = Marks.of(rows)
    lines = []
    for block in ([row for row in rows if row.target == target] for target in targets):
        for i, row in enumerate(block):
            names = [Entry(row.target if i == 0 else ""), _marked(row, Entry(row.variant), marks)]
            names += [Entry(word(row)) for word in words.values()]
            lines.append([*names, *(_number_or_word(row, counts(row)[kind], None, digits=1) for kind in kinds)])
    heads = [Entry(h) for h in ("target", "variant", *words, *kinds.values())]
    title = _title(f"mean counts of {what}", rows, versions)
    notes = marks.notes + _dashes(rows, lines)
    return Table(title, heads, lines, notes, _footer(rows, False), [*rows], 2 + len(words))


def _type_table(rows: list[TypeRow], targets: list[str], versions: list[str]) -> Table:
    """Lay out variants by entity types. The marks of a variant stand in its head; the best of a line is bold."""
    marks = Marks.of(rows)
    columns = grouped(rows, lambda row: row.variant)
    heads = [Entry("type"), Entry("gold"), *(_marked(col[0], Entry(col[0].variant), marks) for col in columns)]
    lines = []
    for name in dict.fromkeys(row.type for row in rows):
        found = [next((row for row in col if row.type == name), None) for col in columns]
        gold = next((row.gold for row in found if row and row.gold is not None), None)
        values = [_number_or_word(r, r.mean, r.std) if r else Entry(DASH, tone="dim") for r in found]
        lines.append([Entry(name or DASH), Entry("", gold, digits=0) if name else Entry(DASH), *_crowned(values)])
    title = _title(f"{rows[0].protocol} {METRICS[rows[0].metric]} by type", rows, versions)
    return Table(title, heads, lines, marks.notes + _dashes(rows, lines), _footer(rows, False), [*rows], 1)


BY = {"position": "spans by position", "text": "texts, wherever they stand", "word": "tags of words"}


def _protocol_table(rows: list[ProtocolRow], targets: list[str], versions: list[str]) -> Table:
    """Lay out variants by protocols, one target a table: what a rule is worth differs with the target's mentions.

    The marks of a row stand at its variant; the best of a column is bold, and the last column is the spread. Deviations
    over seeds are left out: rules differ on the very same predictions, and tables of one protocol have them.
    """
    marks = Marks.of(rows)
    protocols = list(rows[0].scores)
    compared = spread_over(protocols)
    columns = [[_marked(row, Entry(row.variant), marks) for row in rows]]
    columns += [_crowned([_under(row, name) for row in rows]) for name in protocols]
    if len(compared) > 1:
        columns.append([Entry(DASH if row.cells and row.spread is None else "", row.spread) for row in rows])
    heads = [Entry(head) for head in ("variant", *protocols, *(["spread"] if len(compared) > 1 else []))]
    lines = transposed(columns)
    notes = marks.notes + _unscored(rows, protocols, compared) + _comparable_protocols(protocols, compared)
    return Table(_title("F1 by protocol", rows, versions), heads, lines, notes, _footer(rows, False), [*rows], 1)


def _under(row: ProtocolRow, protocol: str) -> Entry:
    """Return a row's F1 under a protocol, with how many of its cells are scored under it where some are not."""
    if not row.cells:  # the word once, so that columns stay narrow
        return _number_or_word(row, None, None) if protocol == next(iter(row.scores)) else Entry()
    scored = row.scored[protocol]
    if not scored:
        return Entry(DASH, tone="dim")
    part = f"({scored}/{row.cells})" if scored < row.cells else ""
    return Entry("", row.scores[protocol], part=part)


def _unscored(rows: Sequence[ProtocolRow], protocols: list[str], compared: list[str]) -> list[tuple[str, str]]:
    """Return the notes that say what a dash and (n/m) mean in a table of protocols, where it has them."""
    notes = []
    partly = any(0 < row.scored[name] < row.cells for row in rows for name in protocols)
    if partly and all(row.status != "partial" for row in rows):
        notes.append(("(n/m)", "n of m cells are scored under this protocol, and the number is theirs"))
    means = ["no record yet"] if any(row.reason == NO_RECORD and not row.cells for row in rows) else []
    told = [row for row in rows if row.cells]
    without = {name: [row for row in told if not row.scored[name]] for name in protocols}
    for names in grouped(filter(without.get, protocols), lambda name: tuple(map(id, without[name]))):
        places = "any variant" if without[names[0]] == told else _places(without[names[0]], rows)
        means.append(f"not scored under {', '.join(names)}: {places} (`cdner run` does it, where the corpora are)")
    if len(compared) > 1 and any(row.cells and row.spread is None for row in rows):
        means.append("no spread without every protocol")
    return [*notes, (DASH, "; ".join(means))] if means else notes


def _comparable_protocols(protocols: list[str], compared: list[str]) -> list[tuple[str, str]]:
    """Return what the protocols count, which of them the spread is over, and what is no F1."""
    kinds = grouped(protocols, lambda name: PROTOCOLS[name].by)
    told = "; ".join(f"{', '.join(names)}: {BY[PROTOCOLS[names[0]].by]}" for names in kinds)
    notes = [("columns:", f"{told}. A column compares with published numbers of its own rule alone")]
    if len(compared) > 1:
        over = "the columns" if compared == protocols else ", ".join(compared)
        notes.append(("spread:", f"largest less smallest over {over}; what the rule alone is worth, in points of F1"))
    if "topt" in protocols:
        notes.append(("topt:", "no F1, for a hit counts its words and a miss is one; over 100 is possible"))
    if "token" in protocols:
        notes.append(("token:", "the mean F1 of tags, O among them; no part of the spread, for it counts words"))
    return notes


def bucket_name(by: str, bucket: str | None, regime: str = "") -> str:
    """Return a bucket as it is printed; amounts of `fraction` in percent.

    >>> bucket_name("seen", "other"), bucket_name("span-length", "5+"), bucket_name("amount", "0.05", "fraction")
    ('elsewhere only', '5+', '5%')
    """
    if bucket is None:
        return DASH
    if by == "amount" and regime.startswith("fraction"):
        return f"{100 * float(bucket):g}%"
    return BUCKETS.get(by, {}).get(bucket, bucket)


def _slice_table(rows: list[SliceRow], targets: list[str], versions: list[str]) -> Table:
    """Lay out variants by buckets. The marks of a variant stand in its head; the best of a line is bold."""
    by = rows[0].by
    if by == "overview":
        return _overview_table(rows, targets, versions)
    marks = Marks.of(rows)
    columns = grouped(rows, lambda row: row.variant)
    kinds = {row.bucket: row.kind for row in rows if row.kind is not None}
    counted = any(row.gold is not None for row in rows)
    names = dict.fromkeys(row.bucket for row in rows)
    lines = []
    for name in sorted(names, key=lambda n: float(n or 0)) if by == "amount" else names:
        found = [next((row for row in col if row.bucket == name), None) for col in columns]
        gold = next((row.gold for row in found if row and row.gold is not None), None)
        values = [_number_or_word(r, r.f1, r.std) if r else Entry(DASH, tone="dim") for r in found]
        labels = [Entry(bucket_name(by, name, rows[0].regime))]
        labels += [Entry(kinds.get(name) or DASH)] * bool(kinds)
        lines.append([*labels, *[Entry("", gold, digits=0) if gold is not None else Entry(DASH)] * counted,
                      *_crowned(values)])  # fmt: skip
    heads = [Entry(SLICED[by][1]), *[Entry("known")] * bool(kinds), *[Entry("gold")] * counted]
    heads += [_marked(col[0], Entry(col[0].variant), marks) for col in columns]
    what = "F1 of bounds, of types, and of both" if by == "detection" else f"strict F1 by {SLICED[by][0]}"
    title = _title(what, rows, versions)
    notes = marks.notes + _dashes(rows, lines)
    if kinds and "new" in kinds.values():
        notes.append(("new:", "nothing else that is learned from has the type"))
    return Table(title, heads, lines, notes, _footer(rows, False), [*rows], 1 + bool(kinds))


def _overview_table(rows: list[SliceRow], targets: list[str], versions: list[str]) -> Table:
    """Lay out some buckets by variants, target after target."""
    marks = Marks.of(rows)
    heads = [name for name in dict.fromkeys(row.bucket for row in rows) if name is not None] or [*OVERVIEW]
    lines, uncounted = [], False
    for target in targets:
        block = grouped([row for row in rows if row.target == target], lambda row: row.variant)
        columns = [[_marked(own[0], Entry(own[0].variant), marks) for own in block]]
        for head in heads:
            found = [next((row for row in own if row.bucket == head), None) for own in block]
            uncounted |= any(row is not None and row.cells and row.gold is None and row.f1 is None for row in found)
            values = [_number_or_word(r, r.f1, r.std) if r else Entry(DASH, tone="dim") for r in found]
            columns.append(_crowned([replace(e, tone="dim", word=DASH) if e.word == "ok" else e for e in values]))
        names = [Entry(target if n == 0 else "") for n in range(len(block))]
        lines += transposed([names, *columns])
    notes = marks.notes + _dashes(rows, lines) + [(f"{DASH} in a line with numbers", NO_SLICES)] * uncounted
    title = _title("strict F1, where variants differ", rows, versions)
    return Table(title, [Entry(h) for h in ("target", "variant", *heads)], lines, notes, _footer(rows, False),
                 [*rows], 2)  # fmt: skip


def _cost_table(rows: list[CostRow], targets: list[str], versions: list[str]) -> Table:
    """Lay out cost and F1 by variants, target after target, the cheapest first."""
    marks = Marks.of(rows)
    lines = []
    for target in targets:
        block = sorted((row for row in rows if row.target == target), key=lambda r: (r.seconds is None, r.seconds))
        for n, row in enumerate(block):
            seconds = Entry(DASH, tone="dim") if row.seconds is None else Entry("", row.seconds, digits=0)
            names = [Entry(target if n == 0 else ""), _marked(row, Entry(row.variant), marks)]
            lines.append([*names, seconds, _number_or_word(row, row.f1, row.std), Entry("*" if row.front else "")])
    notes = [*marks.notes, *_dashes(rows, lines), ("*", "no other variant is as good for less, nor better for as much")]
    devices = sorted({device for row in rows for device in row.devices})
    notes.append(("seconds:", "of all stages of a cell, as if it had been run alone" + (
        f"; measured on {', '.join(devices)}" if devices else "")))  # fmt: skip
    if len({tuple(row.devices) for row in rows if row.seconds is not None}) > 1:
        notes.append(("!", "Not all were measured on the same device, so that their seconds say little of each other"))
    heads = [Entry(h) for h in ("target", "variant", "seconds", "strict F1", "front")]
    title = _title("cost and strict F1", rows, versions)
    return Table(title, heads, lines, notes, _footer(rows, False), [*rows], 2)


def _confusion_table(rows: list[ConfusionRow], targets: list[str], versions: list[str]) -> Table:
    """Lay out gold types by predicted types."""
    marks = Marks.of(rows)
    counts = {(row.gold, row.predicted): row.count for row in rows}
    columns = [name for name in dict.fromkeys(row.predicted for row in rows) if name is not None]
    digits = 0 if all(count is None or count == int(count) for count in counts.values()) else 1
    lines = []
    for gold in (name for name in dict.fromkeys(row.gold for row in rows) if name is not None):
        found = [counts.get((gold, predicted)) for predicted in columns]
        lines.append([Entry(gold), *(Entry("", n, digits=digits, best=gold == p) if n else Entry("")
                                     for p, n in zip(columns, found, strict=True))])  # fmt: skip
    title = _title(f"{rows[0].variant}: mentions by gold type and predicted type", rows, versions)
    notes = [*marks.notes, *_dashes(rows, lines)]
    if lines:
        notes += [
            (MISSED, "nothing is predicted in the bounds of gold"),
            (SPURIOUS, "gold has nothing in those bounds"),
        ]
    heads = [Entry("gold, then predicted"), *map(Entry, columns)]
    return Table(title, heads, lines, notes, _footer(rows, False), [*rows], 1)


_LAYOUTS: dict[type[Summary], Callable[[Any, list[str], list[str]], Table]] = {
    Row: _score_table,
    ErrorRow: _error_table,
    AuditRow: _audit_table,
    TypeRow: _type_table,
    ProtocolRow: _protocol_table,
    SliceRow: _slice_table,
    CostRow: _cost_table,
    ConfusionRow: _confusion_table,
}


def _number_or_word(row: Summary, mean: float | None, std: float | None, digits: int = 2) -> Entry:
    """Return a row's number, or the word that says how it ended."""
    if mean is not None:
        return Entry("", mean, std, digits=digits)
    return Entry(DASH if row.status == "missing" else row.status, tone=TONES.get(row.status, "dim"))


def _marked(row: Summary, entry: Entry, marks: "Marks") -> Entry:
    part = f"({row.cells}/{row.expected})" if row.status == "partial" else ""
    return replace(entry, part=part, dagger=marks.odd(row), note=marks.letters.get(row.reason or "", ""))


def _value(row: Row, marks: "Marks") -> Entry:
    return _marked(row, _number_or_word(row, row.f1, row.std), marks)


def _average(at: Mapping[str, Row], targets: list[str]) -> Entry:
    """Return the mean over the targets, where each has a number."""
    found = [at[t] for t in targets if t in at]
    means = [row.f1 for row in found if row.f1 is not None]
    if len(means) < len(targets):
        return Entry(DASH, tone="dim")
    ok, expected = sum(row.cells for row in found), sum(row.expected for row in found)
    return Entry("", fmean(means), part=f"({ok}/{expected})" if ok < expected else "")


def _crowned(entries: list[Entry]) -> list[Entry]:
    """Mark the best as printed, where at least two entries have numbers."""
    printed = [round(e.mean, e.digits) for e in entries if e.mean is not None]
    if len(printed) < 2:
        return entries
    return [replace(e, best=e.mean is not None and round(e.mean, e.digits) == max(printed)) for e in entries]


def transposed(lines: list[list[Entry]]) -> list[list[Entry]]:
    """Return the columns of some lines, or the lines of some columns."""
    return [list(column) for column in zip(*lines, strict=True)]


@dataclass(frozen=True)
class Marks:
    """The letters and daggers of a table, and the notes that explain them."""

    letters: dict[str, str]  # reason -> letter
    precision: str  # the table's usual one
    notes: list[tuple[str, str]]

    @classmethod
    def of(cls, rows: Sequence[Summary]) -> "Marks":
        """Return the marks that these rows need. Rows with the same reason share a letter."""
        lettered = [row for row in rows if row.reason and row.reason != NO_RECORD]
        letters = {reason: _letter(i) for i, reason in enumerate(dict.fromkeys(str(r.reason) for r in lettered))}
        usual = Counter(p for row in rows for p in row.precision_used).most_common(1)
        marks = cls(letters, usual[0][0] if usual else "", [])
        for group in grouped(lettered, lambda row: row.reason):
            hint = "; see the table of general types" if group[0].status == "general only" else ""
            reason = " ".join(str(group[0].reason).split()).rstrip(".")  # a line, whatever line breaks it came with
            marks.notes.append((letters[str(group[0].reason)], f"{reason}: {_places(group, rows)}{hint}"))
        odd = grouped([row for row in rows if marks.odd(row)], lambda row: tuple(row.precision_used))
        if odd:
            each = "; ".join(f"{' and '.join(group[0].precision_used)} ({_places(group, rows)})" for group in odd)
            marks.notes.append(("†", f"not in {marks.precision} like the rest: {each}"))
        if any(row.status == "partial" for row in rows):
            marks.notes.append(("(n/m)", "n of m cells are ok, and the number is theirs"))
        return marks

    def odd(self, row: Summary) -> bool:
        """Tell whether a number was computed in another precision than most of its table."""
        return bool(row.precision_used) and row.precision_used != [self.precision]


# Notes, titles, footers


def _dashes(rows: Sequence[Summary], lines: list[list[Entry]], averaged: bool = False) -> list[tuple[str, str]]:
    """Return the note that says what a dash means in this table, where it has one."""
    absent = any(row.reason == NO_RECORD and not row.cells for row in rows)
    gaps = averaged and any(line[-1].mean is None for line in lines)
    means = ["no record yet"] * absent + ["no average without every target"] * gaps
    return [(DASH, "; ".join(means))] if means else []


def _letter(index: int) -> str:
    """Return a, b, ... z, aa, ab, ...

    >>> [_letter(i) for i in (0, 25, 26)]
    ['a', 'z', 'aa']
    """
    before = _letter(index // 26 - 1) if index >= 26 else ""
    return before + chr(ord("a") + index % 26)


def _places(chosen: Sequence[Summary], rows: Sequence[Summary]) -> str:
    """Say where the chosen rows stand in a table: whole variants, whole targets, then `crf on ai, movie`."""
    grid = dict.fromkeys((row.variant, row.target) for row in rows)
    wanted = dict.fromkeys((row.variant, row.target) for row in chosen)
    left, parts = [*wanted], []
    for axis in (0, 1):
        for name in dict.fromkeys(pair[axis] for pair in left):
            own = [pair for pair in grid if pair[axis] == name]
            if all(pair in wanted for pair in own) and any(pair in left for pair in own):
                parts.append(name)
                left = [pair for pair in left if pair not in own]
    for variant in dict.fromkeys(pair[0] for pair in left):
        parts.append(f"{variant} on {', '.join(pair[1] for pair in left if pair[0] == variant)}")
    return "; ".join(parts) if left else ", ".join(parts)


def _title(what: str, rows: Sequence[Summary], versions: list[str]) -> str:
    first = rows[0]
    targets = {row.target for row in rows}
    target = first.target if len(targets) == 1 else ("…" if first.sources else "each target")
    route = f"{'+'.join(first.sources)} → {target}" if first.sources else f"{target} alone"
    select = SELECTED.get(first.select, f"selected on {first.select}")
    aside = [first.order] * (first.order != "sequence") + ["no dev cut"] * (first.dev == "none")
    return " · ".join([what, f"{first.types} types", route, first.regime, *aside, select, *versions])


def _footer(rows: Sequence[Summary], backbones_shown: bool) -> str:
    backbones = [] if backbones_shown else list(dict.fromkeys(row.backbone for row in rows if row.backbone))
    parts = [_repeats(rows), f"backbone {', '.join(backbones)}" if backbones else "", _versions_used(rows)]
    return " · ".join(part for part in parts if part)


def _repeats(rows: Sequence[Summary]) -> str:
    """Say how many seeds and draws the plan has, and where it has other numbers of them."""
    plans: dict[tuple[int, int], list[Summary]] = {}
    for row in rows:
        plans.setdefault((len(row.planned_seeds), len(row.planned_draws)), []).append(row)
    usual = max(plans, key=lambda plan: (max(plan) > 1, len(plans[plan])))
    others = [f"; {_plan(plan)} for {_places(plans[plan], rows)}" for plan in plans if plan != usual]
    plain = max(usual) <= 1 or not any(getattr(row, "std", None) is not None for row in rows)
    return ("" if plain else "mean ± sample deviation over ") + _plan(usual) + "".join(others)


def _plan(plan: tuple[int, int]) -> str:
    seeds, draws = (f"{n} {name}{'s' * (n != 1)}" for n, name in zip(plan, ("seed", "draw"), strict=True))
    return f"{draws} × {seeds}" if plan[1] else seeds


def _versions_used(rows: Sequence[Summary]) -> str:
    known = _known(rows)
    scorer = f"scorer v{known.pop('scorer')}" if "scorer" in known else ""
    same = f"corpora v{next(iter(known.values()))}" if len(set(known.values())) == 1 else ""
    return " · ".join(p for p in (same or ", ".join(f"{n} v{v}" for n, v in known.items()), scorer) if p)
