"""Learning curves of a run, drawn from its log without pyplot's global state."""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cytodistill.errors import CytodistillError
from cytodistill.files import save_figure

# Of the whole loss and of the ensemble, apart from the coloured parts and exits.
TOTAL_COLOUR = "black"
LINE_STYLES = ("-", "--", "-.", ":")


def learning_curves(log_jsonl_path: str | Path, out_png: str | Path) -> Path:
    """Draw the parts of the loss and the accuracy of each exit and the ensemble against the epoch.

    Lines of the log other than {"event": "epoch", "epoch", "loss": {part: number}, "train_accuracy": [per exit],
    "val": {"exits": [{"accuracy"}], "ensemble": {"accuracy"}}} are passed over; loss, train_accuracy and val may each
    be missing in some or all of them. An epoch logged again (a resumed run) counts as its last line, and a last line
    cut off by a kill is left out.

    Args:
        log_jsonl_path: ``log.jsonl`` of a run folder.
        out_png: the picture to write.

    Returns:
        The path of the picture.

    Raises:
        CytodistillError: the log cannot be read, a line of it is not JSON, or it has no epoch.
    """
    epochs = _epochs(Path(log_jsonl_path))
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    _draw_loss(loss, epochs)
    _draw_accuracy(accuracy, epochs)
    for axes in (loss, accuracy):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    return save_figure(figure, out_png)


def _epochs(log: Path) -> list[dict[str, Any]]:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise CytodistillError(f"{log}: cannot be read ({error.strerror}); give the log.jsonl of a run") from error
    epochs = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise CytodistillError(f"{log}: line {number} is not JSON; remove it to draw the others") from error
        if record.get("event") == "epoch":
            epochs[record["epoch"]] = record
    if not epochs:
        raise CytodistillError(f"{log}: no epochs to draw; the run has not finished its first one")
    return [epochs[epoch] for epoch in sorted(epochs)]


def _draw_loss(axes: Axes, epochs: list[dict[str, Any]]) -> None:
    parts = list(dict.fromkeys(part for epoch in epochs for part in epoch.get("loss") or {}))
    x = [epoch["epoch"] + 1 for epoch in epochs]  # people count from one
    drawn = []
    for part, colour, style in zip(parts, _colours(len(parts), "cividis"), cycle(LINE_STYLES), strict=False):
        drawn.append(y := _numbers([(epoch.get("loss") or {}).get(part) for epoch in epochs]))
        total = part == "loss"
        look = {"color": TOTAL_COLOUR, "lw": 2} if total else {"color": colour, "ls": style}
        axes.plot(x, y, label=part, marker=_marker(x), **look)
    values = np.concatenate([*drawn, []])
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 30 * values.min():
        axes.set_yscale("log")
    axes.set(title="Training loss", ylabel="loss")
    if parts:
        _legend(axes)


def _draw_accuracy(axes: Axes, epochs: list[dict[str, Any]]) -> None:
    x = [epoch["epoch"] + 1 for epoch in epochs]  # people count from one
    train = [epoch.get("train_accuracy") or [] for epoch in epochs]
    val = [[e.get("accuracy") for e in (epoch.get("val") or {}).get("exits", [])] for epoch in epochs]
    ensemble = [(epoch.get("val") or {}).get("ensemble", {}).get("accuracy") for epoch in epochs]
    exits = max(map(len, train + val))
    for e, colour in enumerate(_colours(exits, "viridis")):
        for name, values, style in (("validation", val, "-"), ("training", train, ":")):
            y = _numbers([of[e] if e < len(of) else None for of in values])
            if np.isfinite(y).any():
                axes.plot(x, 100 * y, style, color=colour, marker=_marker(x), label=f"exit {e + 1}, {name}")
    y = _numbers(ensemble)
    if np.isfinite(y).any():
        axes.plot(x, 100 * y, "-", color=TOTAL_COLOUR, marker=_marker(x), lw=2, label="ensemble, validation")
    axes.set(title="Accuracy", ylabel="accuracy, %")
    if axes.lines:
        _legend(axes)


def _legend(axes: Axes) -> None:
    axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def _colours(count: int, name: str) -> NDArray[np.floating]:
    """(count, 4) colours from dark to light of a colour-blind-safe map, short of its palest end."""
    return colormaps[name](np.linspace(0.1, 0.85, count))


def _marker(epochs: list[int]) -> str | None:
    """A single epoch makes no line, so few of them are marked."""
    return "." if len(epochs) <= 30 else None


def _numbers(values: list[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=float)
