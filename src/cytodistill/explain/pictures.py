"""Pictures of where the exits looked: a panel a cell, and a sheet of all cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from cytodistill.explain.attention import ExitAttention
from cytodistill.explain.nucleus import Compartments

SHADES = "viridis"
"""Lightness and hue rise together, the same to colour-blind eyes and in print."""
STRENGTH = 0.7
"""How much of the colour lies over the cell where a map is 1; nothing does where it is 0."""
SHADOW = 0.6
"""How much of the cell's own light and dark the colour takes on, so that its outlines show through."""
# Okabe and Ito's colours, which colour-blind eyes tell apart.
NUCLEUS, CYTOPLASM = "#D55E00", "#56B4E9"
ORDERS = {"most": ("#D55E00", "-"), "random": ("#666666", ":"), "least": ("#0072B2", "--")}
PLAIN: dict[str, Any] = {"parse_math": False}  # classes may be named with dollar signs, which are no formulas


@dataclass(frozen=True)
class CellView:
    """All that a cell's panel shows: ``cell`` (S, S, 3) uint8; ``title``; and of each exit its ``maps`` (E, S, S), the
    line above it, its attention, its deletion ``curves`` (name of the order → (E, Q)) over ``shares``, and the
    ``figures`` (E,) of these. ``parts`` None where nucleus and cytoplasm are not known."""

    cell: np.ndarray
    title: str
    maps: np.ndarray
    headings: Sequence[str]
    attention: Sequence[ExitAttention]
    shares: np.ndarray
    curves: dict[str, np.ndarray]
    figures: np.ndarray
    parts: Compartments | None


def overlay(cell: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """(S, S, 3) uint8 cell in grey under an (S, S) map in [0, 1] → (S, S, 3) in [0, 1]. The map's weight grows with its
    value, so that the cell stays as it is where the map says nothing."""
    grey = (cell.astype(float) @ (0.299, 0.587, 0.114) / 255)[..., None]
    colour = matplotlib.colormaps[SHADES](heat)[..., :3]
    weight = STRENGTH * heat[..., None]
    return (1 - weight) * grey + weight * colour * (1 - SHADOW + SHADOW * grey)


def cell_figure(view: CellView) -> Figure:
    """Panel of one cell: the cell and each exit's overlay; its parts and each exit's global context, where there are
    any; and how the class's probability falls as pixels are blanked."""
    exits = len(view.maps)
    contexts = [part.context for part in view.attention]
    attends = any(context is not None for context in contexts)
    rows = 3 if attends or view.parts is not None else 2
    figure = Figure(figsize=(2.1 * (exits + 1) + 0.6, 2.15 * rows + 0.5), layout="constrained")
    figure.suptitle(view.title, fontsize=11, fontweight="bold", **PLAIN)
    grid = figure.subplots(rows, exits + 1, squeeze=False)
    _picture(grid[0, 0], view.cell, "cell")
    for exit in range(exits):
        _picture(grid[0, exit + 1], overlay(view.cell, view.maps[exit]), view.headings[exit])
        if view.maps[exit].any():
            grid[0, exit + 1].contour(view.maps[exit], levels=[0.5], colors="white", linewidths=0.8)
        else:
            grid[0, exit + 1].set_xlabel("no place speaks for it", fontsize=8)
    bar = figure.colorbar(ScalarMappable(cmap=SHADES), ax=grid[0, -1], fraction=0.05, pad=0.02, ticks=[0, 0.5, 1])
    bar.set_label("share of the maximum", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    if rows == 3:
        _parts(grid[1, 0], view)
        for exit, context in enumerate(contexts):
            if context is None:
                grid[1, exit + 1].axis("off")
                continue
            spread = view.attention[exit].spread
            said = "" if spread is None else f", spread {100 * float(spread[0]):.0f} %"
            _picture(grid[1, exit + 1], overlay(view.cell, context[0] / context[0].max()), f"global context{said}")
    _curves(grid[-1], view)
    return figure


def contact_sheet(views: Sequence[CellView], title: str, columns: int = 2) -> Figure:
    """All cells, a strip each: the cell and its exits' overlays, shallow → deep."""
    columns = min(columns, len(views))
    rows = -(-len(views) // columns)
    tiles = 1 + len(views[0].maps)
    figure = Figure(figsize=(columns * (1.15 * tiles + 0.2), 1.45 * rows + 0.6), layout="constrained")
    figure.suptitle(title, fontsize=11, fontweight="bold", wrap=True, **PLAIN)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(views) :]:
        axes.axis("off")
    for axes, view in zip(grid.flat, views, strict=False):
        _picture(axes, _strip([view.cell / 255, *(overlay(view.cell, heat) for heat in view.maps)]), view.title)
        axes.title.set_fontsize(8)
        axes.spines[:].set_visible(False)
    return figure


def _strip(tiles: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one size side by side with white between."""
    side = tiles[0].shape[0]
    gap = np.ones((side, max(1, side // 24), 3))
    return np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)


def _picture(axes: Axes, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture, interpolation="bicubic", vmin=0, vmax=1)
    axes.set_title(title, fontsize=8, **PLAIN)
    axes.set_xticks([])
    axes.set_yticks([])


def _parts(axes: Axes, view: CellView) -> None:
    if view.parts is None:
        axes.axis("off")
        return
    _picture(axes, view.cell, "contours, segmented" if view.parts.origin == "segmented" else "contours")
    for contour, colour in ((view.parts.cytoplasm, CYTOPLASM), (view.parts.nucleus, NUCLEUS)):
        closed = np.concatenate([contour, contour[:1]])
        axes.plot(*closed.T, color="white", linewidth=2.4)
        axes.plot(*closed.T, color=colour, linewidth=1.4)
    side = len(view.cell)
    axes.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))


def _curves(row: np.ndarray, view: CellView) -> None:
    """Deletion curves of each exit; the place under the cell has the legend."""
    for exit, axes in enumerate(row[1:]):
        for name, (colour, style) in ORDERS.items():
            axes.plot(
                100 * view.shares, view.curves[name][exit], style, color=colour, linewidth=1.3, label=f"{name} salient"
            )
        axes.set(xlim=(0, 100), ylim=(0, 1.02), xticks=[0, 50, 100], yticks=[0, 0.5, 1])
        axes.tick_params(labelsize=7, labelleft=exit == 0)
        axes.set_title(f"least − most {view.figures[exit]:+.2f}", fontsize=8)
        axes.set_xlabel("% of pixels blanked", fontsize=7)
    row[1].set_ylabel("probability", fontsize=7)
    row[0].axis("off")
    lines, _ = row[1].get_legend_handles_labels()
    names = ["most salient first", "at random", "least salient first"]
    row[0].legend(lines, names, loc="center", fontsize=7, frameon=False, title="blanked", title_fontsize=7)
