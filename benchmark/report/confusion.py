"""What word tags are taken for: the confusion matrix and the classification report (Gravil et al., figures 3 and 4).

The tags are those that the protocol `token` counts: as emitted, or made of the spans. Accuracy and the macro average
are that protocol's.

of      gold, predictions -> Confusion
table   Confusion -> text, as scikit-learn lays its report out
write   Confusion -> a file: .md, .csv (the matrix), .json (all of it), or a figure, .png, .svg, .pdf
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmark.errors import CdnerError
from benchmark.files import write_whole
from benchmark.report import figures
from benchmark.score.protocols import Gold, Prediction, word_tags
from benchmark.score.spans import split_tag

KINDS = (".md", ".csv", ".json", *figures.FILES)


@dataclass(frozen=True)
class Line:
    """A line of the report: a tag, or an average. All but `support`, a number of words, are in percent."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Confusion:
    """Words by gold tag (rows) and predicted tag (columns), and what each tag comes to.

    tags       B-, I-, then O; those that gold or the predictions have
    accuracy   in percent
    """

    title: str
    tags: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]
    lines: tuple[Line, ...]
    averages: tuple[Line, ...]
    accuracy: float

    @property
    def words(self) -> int:
        """The number of words."""
        return sum(map(sum, self.matrix))


def of(gold: Sequence[Gold], predicted: Sequence[Prediction], title: str) -> Confusion:
    """Return the confusion of all words. Raises CdnerError where there is no word, RecordError as `score` does."""
    from sklearn.metrics import classification_report, confusion_matrix

    wanted, found = word_tags(gold, predicted)
    if not wanted:
        raise CdnerError(f"{title}: there is no word to report on.")
    tags = sorted({*wanted, *found}, key=lambda tag: ("BIO".find(split_tag(tag)[0]), tag))
    told: Any = classification_report(wanted, found, labels=tags, output_dict=True, zero_division=0.0)

    def line(name: str) -> Line:
        of_tag = told[name]
        precision, recall, f1 = (100 * of_tag[key] for key in ("precision", "recall", "f1-score"))
        return Line(name, precision, recall, f1, int(of_tag["support"]))

    matrix = confusion_matrix(wanted, found, labels=tags).tolist()
    right = sum(row[n] for n, row in enumerate(matrix))
    averages = tuple(map(line, ("macro avg", "weighted avg")))
    return Confusion(
        title, tuple(tags), tuple(map(tuple, matrix)), tuple(map(line, tags)), averages, 100 * right / len(wanted)
    )


def table(found: Confusion, layout: str = "simple") -> str:
    """Return the classification report."""
    rows = [[x.name, f"{x.precision:.2f}", f"{x.recall:.2f}", f"{x.f1:.2f}", x.support] for x in found.lines]
    rows.append(["accuracy", "", "", f"{found.accuracy:.2f}", found.words])
    rows += [[x.name, f"{x.precision:.2f}", f"{x.recall:.2f}", f"{x.f1:.2f}", x.support] for x in found.averages]
    heads = ["tag", "precision", "recall", "F1", "words"]
    return tabulate(rows, heads, tablefmt=layout, disable_numparse=True, colalign=("left", *["right"] * 4))


def write(found: Confusion, path: Path) -> None:
    """Write a report, a matrix or a figure. Raises CdnerError for a name of no known kind."""
    if path.suffix not in KINDS:
        raise CdnerError(f"{path}: expected a name that ends in {', '.join(KINDS)}.")
    if path.suffix in figures.FILES:
        draw(found, path)
    elif path.suffix == ".json":
        write_whole(path, json.dumps(asdict(found), indent=1) + "\n")
    elif path.suffix == ".csv":
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["gold \\ predicted", *found.tags])
        writer.writerows([tag, *row] for tag, row in zip(found.tags, found.matrix, strict=True))
        write_whole(path, stream.getvalue())
    else:
        heads = ["gold \\ predicted", *found.tags]
        rows = [[tag, *map(str, row)] for tag, row in zip(found.tags, found.matrix, strict=True)]
        matrix = tabulate(rows, heads, tablefmt="github", disable_numparse=True)
        write_whole(path, f"{found.title}\n\n{table(found, 'github')}\n\n{matrix}\n")


def draw(found: Confusion, path: Path) -> None:
    """Draw the matrix, shaded by the share of a gold tag's words, beside precision, recall and F1 of each tag."""
    size = len(found.tags)
    small = 8 if size <= 12 else 5
    figure = figures.new(4.5 + 0.36 * size, 2.2 + 0.27 * size)
    left, right = figure.subplots(1, 2, width_ratios=[max(size, 6), 5], sharey=True)
    shares = [[100 * n / (sum(row) or 1) for n in row] for row in found.matrix]
    of_tags = [[x.precision, x.recall, x.f1] for x in found.lines]
    for axes, values, texts in (
        (left, shares, [[str(n or "") for n in row] for row in found.matrix]),
        (right, of_tags, [[f"{value:.1f}" for value in row] for row in of_tags]),
    ):
        figures.heat(axes, values, texts, small)
    left.set(xlabel="predicted", ylabel="gold")
    left.set_xticks(range(size), found.tags, rotation=90)
    left.set_yticks(range(size), [f"{x.name} ({x.support})" for x in found.lines])
    right.set_xticks(range(3), ["precision", "recall", "F1"], rotation=90)
    right.tick_params(labelleft=False)
    figure.suptitle(f"{found.title}\n{found.words} words, accuracy {found.accuracy:.2f}%", fontsize=small + 2)
    figures.save(figure, path)
