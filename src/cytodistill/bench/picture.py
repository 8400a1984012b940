"""Picture of a comparison: what each contestant takes, with and without early exit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's, apart to every eye; the lightest last, for bars have numbers on them.
COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00")
Entry = dict[str, Any]


def bench_figure(content: dict[str, Any]) -> Figure:
    """Bars of the content of bench.json: latency of one cell, cells a second of the network alone at the largest batch,
    and from files to lines; a bar a number of threads."""
    network, files = content["network"], content["files"]
    largest = max(row["batch"] for row in network)
    panels: list[tuple[str, list[Entry], Callable[[Entry], float]]] = []
    if any(row["latency_ms"] for row in network):
        one = [row for row in network if row["latency_ms"]]
        panels.append(("one cell, ms (median)\nless is better", one, lambda row: row["latency_ms"]["median"]))
    if largest > 1:
        whole = [row for row in network if row["batch"] == largest]
        panels.append((f"network, batches of {largest}\ncells a second", whole, lambda row: row["cells_a_second"]))
    if files:
        title = f"files to CSV, batches of {files[0]['batch']}\ncells a second"
        panels.append((title, files, lambda row: row["cells_a_second"]))
    names = list(dict.fromkeys(map(label, network)))
    threads = sorted({row["threads"] for row in network})
    figure = Figure(figsize=(4 * len(panels) + 2, 1.6 + 0.3 * len(names) * len(threads)), layout="constrained")
    figure.suptitle(content["title"])
    for number, axes in enumerate(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]):
        title, rows, value = panels[number]
        _bars(axes, rows, value, names, threads)
        axes.set_title(title, fontsize=10)
        if number == 0:
            axes.set_yticks(range(len(names)), names)
            axes.invert_yaxis()
    if len(threads) > 1:
        figure.axes[0].legend(title="threads", fontsize=8)
    return figure


def label(row: Entry) -> str:
    """What a row is called: its contestant, and its policy where it has one."""
    return row["name"] if row["policy"] is None else f"{row['name']}, {row['policy']}"


def _bars(
    axes: Axes, rows: Sequence[Entry], value: Callable[[Entry], float], names: list[str], threads: list[int]
) -> None:
    height = 0.8 / len(threads)
    for place, cores in enumerate(threads):
        own = [row for row in rows if row["threads"] == cores]
        at = np.array([names.index(label(row)) for row in own]) + (place - (len(threads) - 1) / 2) * height
        bars = axes.barh(at, [value(row) for row in own], height, color=COLOURS[place % len(COLOURS)], label=str(cores))
        axes.bar_label(bars, fmt="{:,.3g}", fontsize=8, padding=2)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
