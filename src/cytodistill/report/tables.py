"""Tables of the page and the model card, before anything is said of how they look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A table's entry: ``text`` and, smaller, ``under`` it, its interval."""

    text: str
    under: str | None = None


@dataclass(frozen=True)
class Row:
    """A row by its name; one that is ``strong`` stands out."""

    name: str
    entries: Sequence[Entry]
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table by its ``key`` (unique on the page), with the heading of its first column in ``corner``; ``words``
    are the places of the columns that hold text, which is set to the left."""

    key: str
    caption: str
    corner: str
    columns: Sequence[str]
    rows: Sequence[Row]
    words: Sequence[int] = ()
