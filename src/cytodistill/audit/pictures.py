"""Pictures of an audit: the gap by seed, and sheets of the cells that are worth a look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

SHOWN = {"accuracy": "Accuracy", "f1": "F-measure, macro", "auc": "AUC, macro"}
# Okabe and Ito's vermilion and blue, apart to every eye; the marks' shapes tell them apart without colour.
COLOURS = {"random": "#D55E00", "grouped": "#0072B2"}
MARKERS = {"random": "s", "grouped": "o"}
SHEET = 40
"""Cells, or pairs, of a sheet; the CSV files have them all."""
COLUMNS = 8
PLAIN: dict[str, Any] = {"parse_math": False}  # classes may be named with dollar signs, which are no formulas


def gap_figure(compared: dict[str, Any], title: str) -> Figure:
    """Accuracy, F-measure and AUC of each seed under both splits, joined by a line, with means and 95 % intervals; and
    in the last panel the gap of each figure.

    Args:
        compared: from ``compare``.
        title: heading.
    """
    figure = Figure(figsize=(13, 4.3), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, len(SHOWN) + 1, width_ratios=[1] * len(SHOWN) + [1.3])
    for axes, (name, heading) in zip(panels, SHOWN.items(), strict=False):
        _draw_arms(axes, compared, name)
        axes.set_title(f"{heading}, %", fontsize=10)
    _draw_gaps(panels[-1], compared)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    figure.suptitle(title, fontsize=12, fontweight="bold", wrap=True, **PLAIN)
    marks = [
        Line2D([], [], color="0.6", lw=1, marker=".", label="a seed"),
        Line2D([], [], color="0.4", ls="", marker="D", ms=8, label="mean over seeds"),
        Line2D([], [], color="0.4", lw=2, label="95 % interval over seeds and groups"),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def _draw_arms(axes: Axes, compared: dict[str, Any], name: str) -> None:
    arms = list(compared["arms"])
    for seed in compared["seeds"]:
        values = [_percent(_of_run(compared, arm, seed)["figures"][name]["value"]) for arm in arms]
        axes.plot([0, 1], values, color="0.6", lw=1, zorder=1)
        for place, (arm, value) in enumerate(zip(arms, values, strict=True)):
            axes.plot(place, value, MARKERS[arm], color=COLOURS[arm], ms=6, zorder=3)
    for place, arm in enumerate(arms):
        _draw_mean(axes, place + (-0.18, 0.18)[place], compared["arms"][arm][name], COLOURS[arm])
    axes.set_xticks([0, 1], [f"{arm}\nsplit" for arm in arms])
    axes.set_xlim(-0.5, 1.5)


def _draw_gaps(axes: Axes, compared: dict[str, Any]) -> None:
    random, grouped = compared["arms"]
    axes.axhline(0, color="0.3", lw=1)
    for place, name in enumerate(SHOWN):
        for seed in compared["seeds"]:
            one, other = (_of_run(compared, arm, seed)["figures"][name]["value"] for arm in (random, grouped))
            if one is not None and other is not None:
                axes.plot(place, 100 * (one - other), ".", color="0.6", ms=8, zorder=2)
        _draw_mean(axes, place + 0.18, compared["gap"][name], "black")
    axes.set_xticks(range(len(SHOWN)), [heading.split(",")[0] for heading in SHOWN.values()])
    axes.set_xlim(-0.5, len(SHOWN) - 0.5)
    axes.set_title("Gap: random less grouped, points", fontsize=10)


def _draw_mean(axes: Axes, place: float, found: dict[str, float | None], colour: str) -> None:
    if found["low"] is not None and found["high"] is not None:
        axes.plot([place] * 2, [100 * found["low"], 100 * found["high"]], color=colour, lw=2, alpha=0.7, zorder=3)
    axes.plot(place, _percent(found["mean"]), "D", color=colour, ms=7, mec="white", mew=0.8, zorder=4)


def _of_run(compared: dict[str, Any], arm: str, seed: int) -> dict[str, Any]:
    return next(run for run in compared["runs"] if (run["arm"], run["seed"]) == (arm, seed))


def _percent(value: float | None) -> float:
    return np.nan if value is None else 100 * value


def label_sheet(doubts: pd.DataFrame, cells: NDArray[np.uint8]) -> Figure:
    """The most doubtful labels: each cell with its given and suggested label and the probability of the given one.

    Args:
        doubts: not empty; columns row, label, suggested, score, as ``doubtful_labels`` gives.
        cells: (N, S, S, 3) of the source's table.
    """
    shown = doubts.head(SHEET)
    titles = [
        f"{label}\n→ {suggested}\np {score:.2f}"
        for label, suggested, score in shown[["label", "suggested", "score"]].itertuples(index=False, name=None)
    ]
    heading = f"Likely label errors, worst first: given → suggested ({len(shown)} of {len(doubts)})"
    return _sheet([cells[row] for row in shown["row"]], titles, heading, COLUMNS)


def copies_sheet(pairs: pd.DataFrame, cells: NDArray[np.uint8]) -> Figure:
    """Pairs of copies side by side, those under two labels first, then those of two groups.

    Args:
        pairs: not empty; from ``copies_frame``.
        cells: (N, S, S, 3) of the source's table.
    """
    # A pair that the hash and the embedding both found is shown once.
    pairs = pairs.drop_duplicates(["first_row", "second_row"])
    shown = pairs.head(SHEET)
    strips, titles = [], []
    for pair in shown.to_dict("records"):
        both = [cells[pair["first_row"]], cells[pair["second_row"]]]
        gap = np.full((len(both[0]), max(2, len(both[0]) // 20), 3), 255, np.uint8)
        strips.append(np.concatenate([both[0], gap, both[1]], axis=1))
        labels = [pair["first_label"], pair["second_label"]]
        named = "\n≠ ".join(labels) if pair["labels_differ"] else labels[0]
        where = "two groups" if pair["groups_differ"] else "one group"
        titles.append(f"{named}\n{pair['kind']}, {where}")
    heading = f"Copies: two labels first, then two groups ({len(shown)} of {len(pairs)} pairs)"
    return _sheet(strips, titles, heading, COLUMNS // 2)


def _sheet(tiles: Sequence[NDArray[np.uint8]], titles: Sequence[str], heading: str, columns: int) -> Figure:
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    wide = tiles[0].shape[1] / tiles[0].shape[0]
    lines = max(title.count("\n") for title in titles) + 1
    figure = Figure(figsize=(max(4.0, 1.45 * wide * columns), (1.4 + 0.13 * lines) * rows + 0.6), layout="constrained")
    figure.suptitle(heading, fontsize=11, fontweight="bold", wrap=True)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, tile, title in zip(grid.flat, tiles, titles, strict=False):
        axes.imshow(tile, interpolation="bicubic")
        axes.set_title(title, fontsize=7, **PLAIN)
    return figure
