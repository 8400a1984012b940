"""A reproduced table as Markdown; `page` writes it as a web page and `pictures` draws it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from cytodistill.reproduce.page import page
from cytodistill.reproduce.picture import pictures
from cytodistill.reproduce.sheet import Grid, sheet

__all__ = ["markdown", "page", "pictures"]

# An underscore within a word, a less-than that opens no tag and a bracket that no address follows are themselves.
MARKS = r"[\\`*|]|<(?=[\w/!?])|(?<!\w)_|_(?!\w)|(?<=\])\("


def markdown(content: dict[str, Any]) -> str:
    """A table's JSON content in Markdown: what was run in a paragraph, the figures, accuracy by exit, intervals, notes.

    Raises:
        CytodistillError: no row has been run.
    """
    words = sheet(content)
    parts = [f"# {_plain(words.title)}", _plain(f"{words.lead} {words.comparable}")]
    for number, grid in enumerate(words.grids):
        # The first one is what the heading announces.
        parts += [f"## {_plain(grid.title)}"] if number else []
        parts += [_plain(grid.caption)] if grid.caption else []
        parts += ["\n".join(_lines(grid))]
    parts += _list("Notes", words.notes) + _list("Not run", words.missing)
    return "\n\n".join([*parts, _plain(words.made)]) + "\n"


def _lines(grid: Grid) -> list[str]:
    lines = [_row("Method", grid.columns), _row("---", ["---:"] * len(grid.columns))]
    for line in grid.lines:
        name = _plain(line.name)
        if not line.cells:
            lines.append(_row(f"**{name}**", [""] * len(grid.columns)))
        else:
            lines.append(_row(f"*{name}*" if line.paper else name, [_plain(cell) for cell in line.cells]))
    return lines


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([name, *cells])} |"


def _list(title: str, entries: Sequence[tuple[str, str]]) -> list[str]:
    return [f"## {title}", "\n".join(f"- {_plain(name)}: {_plain(text)}" for name, text in entries)] if entries else []


def _plain(text: str) -> str:
    """Text in which nothing is Markdown: no cell ends early, nothing is emphasised, no tag and no link begins."""
    return " ".join(re.sub(MARKS, r"\\\g<0>", text).split())
