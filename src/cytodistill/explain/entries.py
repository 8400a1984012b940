"""What explain.json says of a cell, and of the cells together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cytodistill.data.table import BOX, CellTable
from cytodistill.explain.agreement import Agreement, map_correlations
from cytodistill.explain.attention import ExitAttention
from cytodistill.explain.cam import ClassMaps
from cytodistill.explain.nucleus import PARTS, Compartments, mass_shares
from cytodistill.explain.occlusion import Deletion
from cytodistill.explain.pictures import CellView
from cytodistill.infer.predictor import Predictions


class Heading:
    """What is said of a cell as a whole."""

    def __init__(self, answers: Predictions, position: int, table: CellTable, row: int, number: int) -> None:
        self.probabilities = answers.probabilities[position]
        self.row = int(row)
        self.cell = table.frame.iloc[row]
        self.number = number
        self.predicted = answers.classes[int(self.probabilities.argmax())]
        self.label = str(self.cell["label"])

    @property
    def title(self) -> str:
        sure = f"{self.predicted} {self.probabilities.max():.2f}"
        if not self.label:
            return f"{self.number}: {sure}"
        return f"{self.number}: {sure}" + (" (right)" if self.predicted == self.label else f", truly {self.label}")

    def entry(self, agreement: Agreement, position: int, classes: tuple[str, ...]) -> dict[str, Any]:
        box = {} if np.isnan(self.cell["x"]) else {"box": [float(self.cell[side]) for side in BOX]}
        return {
            "picture": f"maps/{self.number:03d}.png",
            "row": self.row,
            "path": str(self.cell["path"]),
            **box,
            "group": str(self.cell["group"]),
            "label": self.label or None,
            "predicted": self.predicted,
            "confidence": float(self.probabilities.max()),
            "correct": self.predicted == self.label if self.label else None,
            "exits_predict": [classes[code] for code in agreement.predicted[position]],
            "settled_at_exit": int(agreement.settled[position]) + 1,
            "agreeing_with_deepest": float(agreement.agreeing[position]),
        }


@dataclass(frozen=True)
class CellMaps:
    """The maps of cell ``n`` of a batch and all that was found out about them."""

    found: ClassMaps
    curves: Deletion
    stays: np.ndarray
    attention: list[ExitAttention]
    n: int
    classes: tuple[str, ...]

    def entry(self, part: Compartments | None) -> dict[str, Any]:
        n, found, curves = self.n, self.found, self.curves
        shares = None if part is None else mass_shares(found.maps[n], part.masks)
        exits = []
        for exit, code in enumerate(found.classes[n]):
            probabilities = found.probabilities[n, exit]
            spread = self.attention[exit].spread
            gate = self.attention[exit].gate
            exits.append(
                {
                    "predicted": self.classes[int(probabilities.argmax())],
                    "confidence": float(probabilities.max()),
                    "explained": self.classes[code],
                    "probability": float(probabilities[code]),
                    "empty_map": not found.maps[n, exit].any(),
                    "deletion": float(curves.figure[n, exit]),
                    "deletion_over_random": float(curves.over_random[n, exit]),
                    "curves": {name: _rounded(getattr(curves, name)[n, exit]) for name in ("most", "least", "random")},
                    "correlation_with_redrawn_weights": _number(self.stays[n, exit]),
                    "mass": None if shares is None else dict(zip(PARTS, map(_number, shares[exit]), strict=True)),
                    "context_spread": None if spread is None else float(spread[n]),
                    "gate_mean": None if gate is None else float(gate[n].mean()),
                }
            )
        correlations = map_correlations(found.maps[n : n + 1])[0]
        area = None if part is None else dict(zip(PARTS, part.masks.mean((1, 2)).tolist(), strict=True))
        return {
            "exits": exits,
            "area": area,
            "contours": None if part is None else part.origin,
            "map_correlations": [[_number(value) for value in row] for row in correlations],
        }

    def view(self, cell: np.ndarray, title: str, part: Compartments | None) -> CellView:
        n, found = self.n, self.found
        headings = []
        for exit, code in enumerate(found.classes[n]):
            headings.append(f"exit {exit + 1}: {self.classes[code]} {found.probabilities[n, exit, code]:.2f}")
        attention = [
            ExitAttention(*(None if value is None else value[n : n + 1] for value in (a.context, a.spread, a.gate)))
            for a in self.attention
        ]
        curves = {name: getattr(self.curves, name)[n] for name in ("most", "least", "random")}
        return CellView(
            cell, title, found.maps[n], headings, attention, self.curves.shares, curves, self.curves.figure[n], part
        )


def agreement_entry(agreement: Agreement, labels: np.ndarray) -> dict[str, Any]:
    """Over all cells of the split: how many settle at each exit, how often they are right, and each exit's agreement
    with the deepest."""
    exits = agreement.predicted.shape[1]
    known = labels >= 0
    right = agreement.predicted[:, -1] == labels
    settled = []
    for exit in range(exits):
        here = agreement.settled == exit
        judged = here & known
        settled.append(
            {
                "exit": exit + 1,
                "cells": int(here.sum()),
                "deepest_exit_accuracy": float(right[judged].mean()) if judged.any() else None,
            }
        )
    same = agreement.predicted == agreement.predicted[:, -1:]
    return {"cells": len(labels), "settled_at_exit": settled, "agrees_with_deepest": same.mean(0).tolist()}


def summary(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the cells shown, exit by exit. These are the wrong and doubtful ones, not a sample of the split."""
    exits: list[dict[str, Any]] = []
    for exit in range(len(entries[0]["exits"])):
        own = [entry["exits"][exit] for entry in entries]
        measured = [(entry["area"], e["mass"]) for entry, e in zip(entries, own, strict=True) if entry["area"]]
        exits.append(
            {
                "deletion": _mean([e["deletion"] for e in own]),
                "deletion_above_zero": float(np.mean([e["deletion"] > 0 for e in own])),
                "deletion_over_random": _mean([e["deletion_over_random"] for e in own]),
                "correlation_with_redrawn_weights": _mean([e["correlation_with_redrawn_weights"] for e in own]),
                "empty_maps": sum(e["empty_map"] for e in own),
                "context_spread": _mean([e["context_spread"] for e in own]),
                "mass": {name: _mean([mass[name] for _, mass in measured]) for name in PARTS} if measured else None,
            }
        )
    areas = [entry["area"] for entry in entries if entry["area"]]
    pairs = np.array([entry["map_correlations"] for entry in entries], float)
    return {
        "cells": len(entries),
        "exits": exits,
        "area": {name: _mean([area[name] for area in areas]) for name in PARTS} if areas else None,
        "map_correlations": [[_mean(list(cells)) for cells in row] for row in np.moveaxis(pairs, 0, -1)],
    }


def verdict_lines(content: dict[str, Any]) -> list[str]:
    """What the checks of explain.json come to, exit by exit, in two lines, and a third where contours exist."""
    said, cells = content["of_the_chosen_cells"], content["of_the_chosen_cells"]["cells"]
    exits = said["exits"]
    ranked = _by_exit(exits, "deletion_above_zero")
    alike = _by_exit(exits, "correlation_with_redrawn_weights", 1, 2)
    lines = [
        f"Deletion: maps rank pixels as the exits use them for {ranked} % of {cells} cells, exits shallow to deep (by "
        "chance 50)",
        f"Redrawn weights: maps correlate {alike} with those of weights drawn anew; near 1 a map shows the picture and "
        "nothing learnt",
    ]
    if said["area"] is not None:
        of_maps = ", ".join(_shown(exit["mass"]["nucleus"], 100, 0) for exit in exits)
        area = _shown(said["area"]["nucleus"], 100, 0)
        lines.append(f"Nucleus: {of_maps} % of the maps lie in it, which is {area} % of the pictures")
    return lines


def _by_exit(exits: list[dict[str, Any]], name: str, scale: float = 100, digits: int = 0) -> str:
    return ", ".join(_shown(exit[name], scale, digits) for exit in exits)


def _shown(value: float | None, scale: float, digits: int) -> str:
    return "–" if value is None else f"{scale * value:.{digits}f}"


def _number(value: float) -> float | None:
    """A figure as JSON knows it: one that is not defined is null."""
    return float(value) if np.isfinite(value) else None


def _mean(values: list[float | None]) -> float | None:
    """Mean of those that are defined."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(known)) if known else None


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 5) for value in values]
