"""Pictures of a reproduced table: every row's figures with each seed's value, accuracy by exit, confusion matrices."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cytodistill.evaluation.confusion import confusion_figure
from cytodistill.files import save_figure
from cytodistill.reproduce.sheet import (
    COMPARED,
    FIGURES,
    TableRow,
    draws_of,
    exit_accuracies,
    names_of,
    paper_of,
    rows_of,
    several_exits,
)

# Blue and vermilion of Okabe and Ito's colours, apart to every eye; filled and hollow marks tell them apart without.
OURS, PAPER, OTHERS = "#0072B2", "#D55E00", "0.8"
NAME_WIDTH = 34
PANELS_A_ROW = 3


def pictures(content: dict[str, Any], folder: str | Path) -> list[Path]:
    """Draw a table's JSON content into ``folder``, each file whole or not at all.

    ``<table>.png`` has accuracy and F-measure by row; ``<table>-exits.png`` accuracy by exit, and
    ``<table>-confusion-<row>.png`` the confusion matrices of a row's exits and ensemble (Figure 4 of the paper), of the
    rows with several exits.

    Returns:
        The paths written.

    Raises:
        CytodistillError: no row has been run, or the folder cannot be written.
    """
    return [save_figure(draw(), Path(folder) / name) for name, (_, draw) in _plan(content).items()]


def captions(content: dict[str, Any]) -> dict[str, str]:
    """What each file of `pictures` shows, by its name, in their order."""
    return {name: caption for name, (caption, _) in _plan(content).items()}


def _plan(content: dict[str, Any]) -> dict[str, tuple[str, Callable[[], Figure]]]:
    """Caption and how to draw it, by the name of the file."""
    table, rows, draws = content["table"], rows_of(content), draws_of(content)
    values = f"the mean over {draws} and the value of each" if content["seeds"] > 1 else f"the value of {draws}"
    plan: dict[str, tuple[str, Callable[[], Figure]]] = {
        f"{table}.png": (
            f"Accuracy and F-measure by row: {values}; the 95 % interval over groups of test cells where there is one, "
            "and the paper's figure where it has one.",
            partial(rows_figure, content),
        )
    }
    if any(map(several_exits, rows)):
        caption = f"Accuracy by exit and of the ensemble: {values}; the paper's where it has them."
        plan[f"{table}-exits.png"] = (caption, partial(exits_figure, content))
    for title, row in zip(names_of(rows), rows, strict=True):
        if several_exits(row) and all("confusion" in run for run in row["runs"]):
            stem = f"{table}-confusion-{_slug(title)}"
            name, number = f"{stem}.png", 2
            while name in plan:
                name, number = f"{stem}-{number}.png", number + 1
            caption = f"{title}: confusion matrix of each exit, counts of test cells over {draws} together."
            plan[name] = (caption, partial(_confusions, content, row, title))
    return plan


def rows_figure(content: dict[str, Any]) -> Figure:
    """Accuracy and F-measure, a line for each row: dots for the mean, bars for seeds, hollow diamonds for the paper."""
    rows = rows_of(content)
    names: list[tuple[str, TableRow | None]] = []
    for number, one in enumerate(rows):
        if one.get("group") and (not number or rows[number - 1].get("group") != one["group"]):
            names.append((one["group"], None))
        names.append((one["name"], one))
    wrapped = [textwrap.fill(name, NAME_WIDTH) for name, _ in names]
    height = sum(0.19 + 0.15 * len(name.splitlines()) for name in wrapped) + 1.3
    figure = Figure(figsize=(10, max(2.6, height)), layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, len(COMPARED), sharey=True))
    for axes, figure_name in zip(panels, COMPARED, strict=True):
        for place, (_, row) in enumerate(names):
            if row is not None:
                _draw_row(axes, place, row, figure_name)
        axes.set_title(f"{FIGURES[figure_name]}, %", fontsize=10)
        axes.grid(axis="x", alpha=0.3)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    panels[0].set_yticks(range(len(names)), wrapped, fontsize=9, parse_math=False)
    for label, (_, row) in zip(panels[0].get_yticklabels(), names, strict=True):
        if row is None:
            label.set_fontweight("bold")
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    figure.suptitle(content["title"], fontsize=12, fontweight="bold", wrap=True, parse_math=False)
    _legend(figure, content, rows, "|", {*COMPARED})
    return figure


def _draw_row(axes: Axes, place: int, row: TableRow, name: str) -> None:
    values = [100 * run["ensemble"][name] for run in row["runs"] if run["ensemble"][name] is not None]
    interval = (row.get("interval") or {}).get(name)
    if interval:
        axes.plot([100 * interval["low"], 100 * interval["high"]], [place] * 2, color=OURS, lw=1.5, alpha=0.6, zorder=2)
    if len(values) > 1:
        axes.plot(values, [place] * len(values), "|", color=OURS, ms=8, mew=1.2, zorder=3)
    if values:
        mean = float(np.mean(values))
        axes.plot(mean, place, "o", color=OURS, ms=7, zorder=4)
        if row.get("reference"):
            axes.axvline(mean, color=OURS, ls=":", lw=1, zorder=1)
    if name in paper_of(row):
        axes.plot(paper_of(row)[name], place, "D", mfc="none", mec=PAPER, mew=1.4, ms=6, zorder=5)


def exits_figure(content: dict[str, Any]) -> Figure:
    """Accuracy against the exit, a panel for each row with several exits over the others' in grey."""
    rows = [row for row in rows_of(content) if several_exits(row)]
    columns = min(PANELS_A_ROW, len(rows))
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(max(6.0, 3.4 * columns), 2.9 * lines + 0.9), layout="constrained")
    grid: list[Axes] = list(figure.subplots(lines, columns, squeeze=False, sharey=True).flat)
    for spare in grid[len(rows) :]:
        spare.remove()
    for axes, title, row in zip(grid, names_of(rows), rows, strict=False):
        for other in rows:
            if other is not row and len(other["runs"][0]["exits"]) == len(row["runs"][0]["exits"]):
                axes.plot(100 * exit_accuracies(other).mean(axis=0)[:-1], color=OTHERS, lw=1.2, zorder=1)
        _draw_exits(axes, row)
        axes.set_title(textwrap.fill(title, NAME_WIDTH), fontsize=10, parse_math=False)
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if axes in grid[::columns]:
            axes.set_ylabel("accuracy, %")
    figure.suptitle("Accuracy by exit", fontsize=12, fontweight="bold")
    _legend(figure, content, rows, "_", {"exits", "ensemble"})
    return figure


def _draw_exits(axes: Axes, row: TableRow) -> None:
    accuracies, paper = 100 * exit_accuracies(row), paper_of(row)
    exits, theirs = accuracies.shape[1] - 1, len(paper.get("exits", []))
    last = max(exits, theirs)
    # The ensemble comes after the exits and is none of them, so no line leads to it.
    places = [*range(exits), last]
    if len(accuracies) > 1:
        for run in accuracies:
            axes.plot(places, run, "_", color=OURS, ms=9, mew=1.2, zorder=3)
    mean = accuracies.mean(axis=0)
    axes.plot(places[:-1], mean[:-1], "-o", color=OURS, ms=6, zorder=4)
    axes.plot(last, mean[-1], "o", color=OURS, ms=7, zorder=4)
    hollow: dict[str, Any] = {"mfc": "none", "mec": PAPER, "mew": 1.4, "color": PAPER, "zorder": 5}
    if theirs:
        axes.plot(range(theirs), paper["exits"], "--D", ms=6, lw=1, **hollow)
    if "ensemble" in paper:
        axes.plot(last, paper["ensemble"], "D", ms=6, **hollow)
    axes.set_xticks(range(last + 1), [*(str(x + 1) for x in range(last)), "ens."])
    axes.set_xlabel("exit (ens.: the ensemble)")


def _legend(figure: Figure, content: dict[str, Any], rows: list[TableRow], seed_mark: str, names: set[str]) -> None:
    """What the marks are, of those that are drawn; ``names`` are the figures that the paper may have."""
    draws, many = draws_of(content), content["seeds"] > 1
    marks: dict[str, dict[str, Any]] = {f"mean over {draws}" if many else draws: {"marker": "o", "color": OURS}}
    if many:
        marks["each of them"] = {"marker": seed_mark, "color": OURS, "mew": 1.2, "ms": 9}
    if seed_mark == "|" and any(row.get("interval") for row in rows):
        marks["95 % interval"] = {"color": OURS, "alpha": 0.6, "ls": "-"}
    if seed_mark == "|" and any(row.get("reference") for row in rows):
        marks["mean of the reference"] = {"color": OURS, "ls": ":", "lw": 1}
    if seed_mark == "_" and len(rows) > 1:
        marks["the other rows"] = {"color": OTHERS, "ls": "-"}
    if any(names & paper_of(row).keys() for row in rows):
        label = "the paper" if content["comparable"] else "the paper, on other data"
        marks[label] = {"marker": "D", "mfc": "none", "mec": PAPER, "mew": 1.4}
    handles = [Line2D([], [], **{"ls": "", "ms": 7, **mark}, label=label) for label, mark in marks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9, frameon=False)


def _confusions(content: dict[str, Any], row: TableRow, title: str) -> Figure:
    """Counts of all runs together, a panel for each exit and the ensemble."""
    exits = np.array([run["confusion"]["exits"] for run in row["runs"]]).sum(axis=0)
    ensemble = np.array([run["confusion"]["ensemble"] for run in row["runs"]]).sum(axis=0)
    named = {f"Exit {e}": matrix for e, matrix in enumerate(exits, start=1)} | {"Ensemble": ensemble}
    panels = {
        name: {"confusion_matrix": matrix.tolist(), "accuracy": float(np.trace(matrix) / matrix.sum())}
        for name, matrix in named.items()
    }
    classes = content["data"].get("classes") or [f"class {c + 1}" for c in range(len(ensemble))]
    return confusion_figure(panels, classes, f"{title}, {content['data']['name']}, {draws_of(content)}")


def _slug(name: str) -> str:
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
