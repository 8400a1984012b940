"""What a section of the page is made of: words, charts, tables, matrices and cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cytodistill.report.chart import Chart
from cytodistill.report.tables import Table


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: ``counts`` and ``shares`` of the true class (None for a class without cells), true classes
    down and predicted ones across."""

    key: str
    caption: str
    classes: Sequence[str]
    counts: Sequence[Sequence[int]]
    shares: Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class Picture:
    """An inline picture (a data: address), what it shows in words, and the words printed below it."""

    address: str
    said: str
    below: Sequence[str] = ()


@dataclass(frozen=True)
class ShownCell:
    """A cell of the gallery: its picture, facts about it, and the maps of the exits."""

    picture: Picture
    title: str
    facts: Sequence[tuple[str, str]]
    maps: Sequence[Picture] = ()


@dataclass(frozen=True)
class Points:
    """Sentences in a list below a heading."""

    title: str
    sentences: Sequence[str]


@dataclass(frozen=True)
class Section:
    """A section of the page: ``text`` in paragraphs, ``lists`` below headings, then the rest in their order. Of
    ``folded`` tables only the caption shows until it is opened."""

    key: str
    title: str
    text: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    folded: Sequence[Table] = ()
    matrices: Sequence[Matrix] = ()
    cells: Sequence[ShownCell] = ()
    lists: Sequence[Points] = ()
