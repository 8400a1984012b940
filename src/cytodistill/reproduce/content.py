"""A table's content: what was run, the figures of every row over its draws, and the paper's own beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cytodistill.data.table import CellTable
from cytodistill.metrics.intervals import figure_differences, figure_intervals
from cytodistill.metrics.paired import holm
from cytodistill.recipe import Recipe
from cytodistill.reproduce.engine import Done
from cytodistill.reproduce.records import FIGURES, group_names, tallies_of
from cytodistill.reproduce.systems import System
from cytodistill.reproduce.tables import PaperTable, Row

WHOLE = {"sipakmed": 4_049, "cifar100": 60_000}
"""Cells of the data sets that the paper's figures are of."""


def table_content(
    table: PaperTable,
    rows: Sequence[Row],
    known: Mapping[str, System],
    draws: Mapping[str, tuple[Recipe, CellTable]],
    ends: Mapping[tuple[str, str], Done],
    recipe: Recipe,
    data: str,
) -> dict[str, Any]:
    """The JSON of a table, from whatever has ended so far.

    A row's figures are means and sample standard deviations over the draws that it has. Intervals are from a bootstrap
    over groups within every draw, of the mean over draws; ``difference`` is the row less the table's reference row, on
    the draws that both have, and its ``p_holm`` is corrected for all the rows of the table that have one.
    """
    records = {row.system: _records(row.system, draws, ends) for row in rows}
    found = [_row(row, known[row.system], table, records) for row in rows if records[row.system]]
    _correct(found)
    some = next(record for of_row in records.values() for record in of_row.values())
    cells = next(iter(draws.values()))[1]
    return {
        "table": table.name,
        "title": table.title,
        "data": {
            "name": data,
            "format": cells.format,
            "digests": [drawn.digest() for _, drawn in draws.values()],
            "cells": len(cells),
            "classes": list(cells.classes),
        },
        # A format is not yet the data set: synthetic and partial sets have it too.
        "comparable": cells.format in table.sources and len(cells) == WHOLE[cells.format],
        "recipe": recipe.model_dump(mode="json"),
        "draws": list(draws),
        "seeds": len(draws),
        "versions": some["versions"],
        "hardware": some["hardware"],
        "rows": found,
        "missing": [
            {"name": row.name, "group": row.group, "why": _why(row.system, draws, ends)}
            for row in rows
            if not records[row.system]
        ]
        + [
            {"name": row.name, "group": row.group, "why": "not asked for"}
            for row in table.rows
            if row not in rows and not row.extra
        ],
    }


Records = dict[str, dict[str, Any]]


def _records(key: str, draws: Mapping[str, Any], ends: Mapping[tuple[str, str], Done]) -> Records:
    """Records of a system by draw, where there are some."""
    found = {draw: ends[draw, key].record for draw in draws if (draw, key) in ends}
    return {draw: record for draw, record in found.items() if record is not None}


def _why(key: str, draws: Mapping[str, Any], ends: Mapping[tuple[str, str], Done]) -> str:
    problems = [ends[draw, key].problem for draw in draws if (draw, key) in ends]
    return next((problem for problem in problems if problem), "not run yet")


def _row(row: Row, system: System, table: PaperTable, records: Mapping[str, Records]) -> dict[str, Any]:
    own, reference = records[row.system], table.reference_of(row)
    runs = list(own.values())
    fresh = [run for run in runs if run["transfer"] and run["transfer"]["source"] == "none"]
    notes = [system.note] if system.note else []
    wanted = system.settings.get("student.pretrained")
    if fresh and wanted == "none" and row.system != "scratch":
        notes.append("from random weights")
    enough = all(run["groups"] > 1 for run in runs)
    intervals = figure_intervals([tallies_of(run) for run in runs]) if enough else {}
    return {
        "name": row.name,
        "group": row.group,
        "system": row.system,
        "settings": {key: _portable(value) for key, value in system.settings.items()},
        "teacher": system.teacher,
        "start": system.start,
        "note": "; ".join(notes) or None,
        "paper": row.paper,
        "reference": row.system == table.reference_of(row),
        **{name: _mean_sd([run["ensemble"][name] for run in runs]) for name in FIGURES},
        "interval": {name: {"low": found.low, "high": found.high} for name, found in intervals.items()},
        "difference": _difference(own, records.get(reference, {})) if row.system != reference else None,
        "parameters": runs[0]["parameters"],
        "macs": runs[0]["macs"],
        "runs": [
            {"draw": draw, **{key: value for key, value in run.items() if key not in _ELSEWHERE}}
            for draw, run in own.items()
        ],
    }


_ELSEWHERE = {"by_group", "versions", "hardware", "system", "transfer", "classes", "cells"}
"""Of a record, what stands in the table once or is too long for it."""


def _difference(own: Records, reference: Records) -> dict[str, Any] | None:
    """The row less the reference, each figure with its interval and p, on the draws and groups that both have."""
    shared = [draw for draw in own if draw in reference]
    pairs = [(own[draw], reference[draw]) for draw in shared]
    if not pairs or any(ours["groups"] < 2 or group_names(ours) != group_names(theirs) for ours, theirs in pairs):
        return None
    ours, theirs = ([tallies_of(pair[side]) for pair in pairs] for side in (0, 1))
    return {name: {**asdict(found), "draws": len(shared)} for name, found in figure_differences(ours, theirs).items()}


def _correct(rows: Sequence[dict[str, Any]]) -> None:
    """Add ``p_holm`` to the differences, figure by figure."""
    differences = [row["difference"] for row in rows if row["difference"]]
    for name in {name for difference in differences for name in difference}:
        family = [difference[name] for difference in differences if name in difference]
        for entry, corrected in zip(family, holm([entry["p"] for entry in family]).tolist(), strict=True):
            entry["p_holm"] = corrected


def _mean_sd(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean and sample standard deviation of the draws that have the figure; None where there are too few."""
    there = np.array([value for value in values if value is not None], float)
    if not len(there):
        return {"mean": None, "sd": None}
    return {"mean": float(there.mean()), "sd": float(there.std(ddof=1)) if len(there) > 1 else None}


def _portable(value: Any) -> Any:
    """A weight file by its name alone: where it lay on one machine says nothing."""
    return Path(value).name if isinstance(value, str) and "/" in value else value
