"""Confusion matrices as a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

# One hue of steadily falling lightness: the same picture to colour-blind eyes and in print.
SHADES = "Blues"
# More classes than this and a count no longer fits its cell: shading and a few ticks are left.
MOST_COUNTED = 20
TICKS_BEYOND = 10


def confusion_figure(panels: dict[str, dict[str, Any]], classes: list[str], title: str) -> Figure:
    """Confusion matrices side by side, as Figure 4 of the paper: counts, shaded by the share of the true class.

    Args:
        panels: metrics (from `classification_metrics`) by the name of the panel, at least one.
        classes: the C class names, along both axes.
        title: heading over all panels.
    """
    count = len(panels)
    columns = count if count < 4 else (count + 1) // 2
    rows = -(-count // columns)
    side = max(2.6, 0.4 * len(classes)) if len(classes) <= MOST_COUNTED else 4.0
    names = 0.075 * max(map(len, classes))
    size = (columns * (side + names / 2 + 0.2) + names + 1.2, rows * (side + 0.4) + names + 1.3)
    figure = Figure(figsize=size, layout="compressed")
    figure.suptitle(title, fontsize=12, fontweight="bold", wrap=True, parse_math=False)
    grid: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    if count < len(grid):
        # The place to spare is the last of the first row: the bottom row is whole, and it alone needs names below.
        grid.pop(columns - 1).remove()
    for axes, (name, figures) in zip(grid, panels.items(), strict=True):
        heading = f"{name}: accuracy {100 * figures['accuracy']:.2f} %"
        _draw_confusion(axes, np.array(figures["confusion_matrix"]), classes, heading)
    bar = figure.colorbar(grid[0].images[0], ax=grid, shrink=0.6, pad=0.01)
    bar.set_label("share of the true class")
    return figure


def _draw_confusion(axes: Axes, matrix: NDArray[np.integer], classes: list[str], title: str) -> None:
    place = axes.get_subplotspec()
    left, bottom = place is None or place.is_first_col(), place is None or place.is_last_row()
    total = matrix.sum(axis=1, keepdims=True)
    share = matrix / np.maximum(total, 1)
    axes.imshow(share, cmap=SHADES, vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=10)
    counted = len(classes) <= MOST_COUNTED
    ticks = np.arange(0, len(classes), 1 if counted else -(-len(classes) // TICKS_BEYOND))
    names = [classes[t] for t in ticks]
    # A class or run may be named with dollar signs, which are no formulas here.
    plain: dict[str, Any] = {"fontsize": 9, "parse_math": False}
    axes.set_xticks(ticks, names if bottom else [], rotation=60, ha="right", rotation_mode="anchor", **plain)
    axes.set_yticks(ticks, names if left else [], **plain)
    axes.set_xlabel("predicted" if bottom else "")
    axes.set_ylabel("true" if left else "")
    if counted:
        for (row, column), cells in np.ndenumerate(matrix):
            colour = "white" if share[row, column] > 0.6 else "black"
            axes.text(column, row, str(cells), ha="center", va="center", color=colour, fontsize=8)
