"""An audit in words and tables: the same lines for the terminal and for Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cytodistill.audit.gap import FIGURES
from cytodistill.audit.leaks import KINDS

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 10
"""Label errors named in the report; the CSV has them all."""


@dataclass(frozen=True)
class Grid:
    """A table: its title, the headings of its columns, its rows; and what is said below it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())


def grids(content: dict[str, Any]) -> Iterator[Grid]:
    """The tables of an audit's JSON content, as far as it has come."""
    if content.get("models"):
        yield _gap(content["models"])
    yield _leaks(content["data"])
    yield _copies(content["data"])
    if content.get("models"):
        yield _runs(content["models"])
    if content.get("labels"):
        yield _labels(content["labels"])


def verdict(content: dict[str, Any]) -> list[str]:
    """What the audit comes to, a sentence a line."""
    lines = []
    if models := content.get("models"):
        for name in ("accuracy", "f1"):
            gap = models["gap"][name]
            if gap["mean"] is None or gap["low"] is None:
                lines.append(f"{FIGURES[name]}: too few groups of some class for a gap with an interval.")
                continue
            said = f"{100 * gap['mean']:+.1f} points, 95 % interval {100 * gap['low']:+.1f} to {100 * gap['high']:+.1f}"
            meaning = (
                "the random split flatters"
                if gap["low"] > 0
                else "the random split is the harder one"
                if gap["high"] < 0
                else "these cells do not tell it from none"
            )
            lines.append(f"{FIGURES[name]}, random less grouped: {said}; {meaning}.")
    random = [leaks for leaks in content["data"]["splits"] if leaks["arm"] == "random"]
    share = sum(leaks["own_group"] for leaks in random) / sum(leaks["test"] for leaks in random)
    lines.append(f"Under the random split {share:.0%} of the test cells have a cell of their own group in training.")
    return lines


def number(count: int, of: str) -> str:
    """ "1 seed", "3 seeds"."""
    return f"{count} {of}" if count == 1 else f"{count} {of}s"


def markdown(content: dict[str, Any]) -> str:
    """The audit as Markdown."""
    data, recipe = content["data"], content["recipe"]
    groups = data["groups"]
    lead = (
        f"{data['cells']} cells of {len(data['classes'])} classes in {groups['count']} groups of {groups['smallest']} "
        f"to {groups['largest']} cells, median {groups['median']:g} ({groups['of_one_cell']} of a single cell). "
    )
    if models := content.get("models"):
        lead += (
            f"Recipe {recipe['name']}: {recipe['student']['backbone']} at {recipe['data']['image_size']} px, "
            f"{number(recipe['train']['epochs'], 'epoch')}, the same under both splits; "
            f"{number(len(models['seeds']), 'seed')}, each a split and a training of its own."
        )
    parts = [f"# Leakage audit of {_plain(content['source'])}", _plain(lead)]
    parts += ["\n".join(f"- {_plain(line)}" for line in verdict(content))]
    for grid in grids(content):
        head = [_row([_plain(column) for column in grid.columns]), _row(["---", *["---:"] * (len(grid.columns) - 1)])]
        body = [_row([_plain(cell) for cell in row]) for row in grid.rows]
        parts += [f"## {_plain(grid.title)}", "\n".join([*head, *body]), *map(_plain, grid.notes)]
    return "\n\n".join(parts) + "\n"


def rich_table(grid: Grid) -> Table:
    """A grid for the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(grid.title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for number, column in enumerate(grid.columns):
        table.add_column(Text(column), justify="right" if number else "left", overflow="fold")
    for row in grid.rows:
        table.add_row(*map(Text, row))
    if grid.notes:
        table.caption, table.caption_justify = Text(" ".join(grid.notes)), "left"
    return table


def _gap(models: dict[str, Any]) -> Grid:
    rows = [
        [
            heading,
            *(_over_seeds(models["arms"][arm][name]) for arm in models["arms"]),
            _over_seeds(models["gap"][name], "+"),
            _between(models["gap"][name], "+", "groups_"),
        ]
        for name, heading in FIGURES.items()
    ]
    seeds = len(models["seeds"])
    note = (
        "In brackets 95 % intervals from drawing seeds and groups anew; the last column is for these networks as they "
        "are, from groups alone."
    )
    note = f"Mean ± standard deviation over {seeds} seeds, in %. {note}" if seeds > 1 else f"One seed, in %. {note}"
    return Grid(
        "Random against grouped split", ["", "Random", "Grouped", "Gap, points", "These networks"], rows, [note]
    )


def _runs(models: dict[str, Any]) -> Grid:
    rows = [
        [
            f"seed {run['seed']}, {run['arm']}",
            f"{run['n']}\nof {run['groups']}",
            *(_with_interval(run["figures"][name]) for name in FIGURES),
        ]
        for run in models["runs"]
    ]
    return Grid("Every run", ["", "Cells\nof groups", *FIGURES.values()], rows, ["Intervals over groups, in %."])


def _leaks(data: dict[str, Any]) -> Grid:
    splits = data["splits"]
    names = [f"seed {leaks['seed']}, {leaks['arm']}" if leaks["seed"] is not None else "its own" for leaks in splits]
    kinds = [kind for kind in KINDS if any(leaks[kind] is not None for leaks in splits)]
    rows = [
        [name, str(leaks["test"]), *(_share(leaks[kind], leaks["test"]) for kind in kinds)]
        for name, leaks in zip(names, splits, strict=True)
    ]
    columns = ["Split", "Test\ncells", *(KINDS[kind] for kind in kinds)]
    return Grid("Test cells that have in training …", columns, rows)


def _copies(data: dict[str, Any]) -> Grid:
    rows = [
        [kind, str(found["pairs"]), str(found["across_groups"]), str(found["labels_differ"])]
        for kind, found in data["copies"].items()
        if found is not None
    ]
    notes = [data["embedding"]["note"]] if data["embedding"].get("note") else []
    return Grid("Copies among all cells", ["Kind", "Pairs", "Of two groups", "Under two labels"], rows, notes)


def _labels(labels: dict[str, Any]) -> Grid:
    rows = [
        [_cell(entry), entry["label"], entry["suggested"], f"{entry['score']:.3f}"] for entry in labels["worst"][:SHOWN]
    ]
    note = (
        f"{labels['found']} of the {labels['judged']} cells that the grouped arm tested, of which it got "
        f"{labels['right']:.0%} right; all are in label_errors.csv. By confident learning {labels['noise']:.1%} of the "
        "labels would be wrong: too many where the networks are weak. A network's doubt is a reason to look, not a "
        "finding."
    )
    return Grid("Likely label errors", ["Cell", "Given", "Suggested", "p(given)"], rows, [note])


def _cell(entry: dict[str, Any]) -> str:
    return entry["path"] if "x" not in entry else f"{entry['path']} at ({entry['x']:g}, {entry['y']:g})"


def _over_seeds(found: dict[str, float | None], sign: str = "") -> str:
    if found["mean"] is None:
        return "–"
    text = f"{100 * found['mean']:{sign}.1f}"
    text += "" if found["sd"] is None else f" ± {100 * found['sd']:.1f}"
    return f"{text}\n{_between(found, sign)}"


def _with_interval(found: dict[str, float | None]) -> str:
    return "–" if found["value"] is None else f"{100 * found['value']:.1f}\n{_between(found)}"


def _between(found: dict[str, float | None], sign: str = "", of: str = "") -> str:
    low, high = found[f"{of}low"], found[f"{of}high"]
    return "–" if low is None or high is None else f"[{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def _share(count: int | None, of: int) -> str:
    return "–" if count is None else f"{count} ({count / of:.0%})" if of else str(count)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Text in which nothing is Markdown: no cell ends early, no tag or link begins."""
    return " ".join(re.sub(r"[\\`*|<]|\[(?![-+\d.]+, )", r"\\\g<0>", text).split())
