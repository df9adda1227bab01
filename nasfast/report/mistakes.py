"""What a page shows of the mistakes that a trained network makes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from nasfast.report.formats import percent
from nasfast.report.run_data import RunData
from nasfast.training.mistakes import Mistakes, WorstImage

_MOST_SQUARE = 20  # classes that a matrix is drawn for
_MOST_CLASSES = 100  # rows of the table, those with the lowest accuracy


@dataclass(frozen=True)
class ClassRow:
    """A class: images to learn from and to test on, the share of these that was right, and what it is taken for."""

    name: str
    train: int
    test: int
    accuracy: float | None
    taken_for: str


@dataclass(frozen=True)
class Square:
    """A cell of the confusion matrix: test images, and their share of the row's, from 0 to 1."""

    count: int
    share: float
    title: str


@dataclass(frozen=True)
class Shown:
    """The mistakes of one network.

    Attributes:
        label: Of the network.
        rows: Classes, the least accurate first; ``left_out`` more are not among them.
        matrix: By class and what it was taken for; empty where there are too many classes.
        worst: Images that were taken for another class.
    """

    label: str
    classes: Sequence[str]
    rows: Sequence[ClassRow]
    left_out: int
    matrix: Sequence[Sequence[Square]]
    worst: Sequence[tuple[WorstImage, str]]


def mistakes_of(data: RunData) -> list[Shown]:
    """Of every network of a run, the derived one first."""
    labels = sorted(data.mistakes, key=lambda label: (label == "random", label != "derived", label))
    return [_shown(label, data.mistakes[label]) for label in labels]


def _shown(label: str, found: Mistakes) -> Shown:
    taken: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for own, seen, count in found.confusion:
        taken[own][seen] += count
    rows = [_row(found, own, taken[own]) for own in range(len(found.classes))]
    rows.sort(key=lambda row: 2.0 if row.accuracy is None else row.accuracy)
    square = len(found.classes) <= _MOST_SQUARE
    matrix = [_line(found.classes, own, taken[own]) for own in range(len(found.classes))] if square else []
    worst = [(image, _caption(found.classes, image)) for image in found.worst]
    return Shown(label, found.classes, rows[:_MOST_CLASSES], max(0, len(rows) - _MOST_CLASSES), matrix, worst)


def _row(found: Mistakes, own: int, taken: Counter[int]) -> ClassRow:
    total = taken.total()
    wrong = [f"{found.classes[seen]} ({count})" for seen, count in taken.most_common(4) if seen != own][:3]
    accuracy = taken[own] / total if total else None
    return ClassRow(found.classes[own], found.train_images[own], total, accuracy, ", ".join(wrong))


def _line(classes: Sequence[str], own: int, taken: Counter[int]) -> list[Square]:
    total = taken.total()
    return [
        Square(
            taken[seen],
            taken[seen] / total if total else 0.0,
            f"{taken[seen]} of {total} images of {classes[own]} taken for {classes[seen]}",
        )
        for seen in range(len(classes))
    ]


def _caption(classes: Sequence[str], image: WorstImage) -> str:
    return f"{classes[image.label]}, taken for {classes[image.seen]} ({percent(image.probability)})"
