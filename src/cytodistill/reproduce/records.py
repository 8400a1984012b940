"""Record: all that a table needs of one finished run, in one small file beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytodistill.data.table import CellTable
from cytodistill.evaluation.run import evaluate
from cytodistill.files import atomic_write
from cytodistill.metrics.intervals import group_tallies
from cytodistill.models.count import network_cost
from cytodistill.recipe import Recipe
from cytodistill.reproduce.systems import System
from cytodistill.train.fit import fingerprint, fit
from cytodistill.train.log import Watcher
from cytodistill.train.run_folder import Run

FIGURES = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1", "auc")
RECORD = "record.json"


def settings_of(system: System, folder: Path) -> dict[str, Any]:
    """The system's settings, with the runs that it needs, which lie beside its own in ``folder``."""
    settings = dict(system.settings)
    if system.teacher:
        settings["teacher.source"] = str(folder / system.homes[system.teacher])
    if system.start:
        # What a frozen network is, its own run says.
        start = folder / system.homes[system.start]
        started = Run.open(start).recipe
        settings |= {
            "student.pretrained": str(start),
            "student.backbone": started.student.backbone,
            "data.image_size": started.data.image_size,
        }
    return settings


def stored_record(folder: Path, system: System, recipe: Recipe, table: CellTable) -> dict[str, Any] | None:
    """The record of a finished run of this system with this recipe on these cells, if there is one."""
    file = folder / system.home / RECORD
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        same = record["fingerprint"] == fingerprint(recipe.override(settings_of(system, folder)), table)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none yet, or one that cannot be used: the run's own files decide
    return record if same else None


def run_system(
    system: System, folder: Path, recipe: Recipe, table: CellTable, device: str, watcher: Watcher
) -> dict[str, Any]:
    """Fit and evaluate one system in ``folder/<key>``, or go on with what is there; its record.

    Raises:
        CytodistillError: as ``fit`` and ``evaluate``.
    """
    chosen = recipe.override(settings_of(system, folder))
    run = fit(table, folder / system.home, recipe=chosen, resume=True, device=device, watcher=watcher)
    evaluation = evaluate(run, device=device, report=False, one_group=True)
    metrics, info = evaluation.metrics, run.info
    images = chosen.estimator.head == "none" or chosen.estimator.features != "shape"
    record = {
        "system": system.key,
        "fingerprint": fingerprint(chosen, table),
        "n": metrics["n"],
        "groups": metrics["groups"],
        "classes": metrics["classes"],
        "exits": [{name: exit[name] for name in FIGURES} for exit in metrics["exits"]],
        "ensemble": {name: metrics["ensemble"][name] for name in FIGURES},
        "confusion": {
            "exits": [exit["confusion_matrix"] for exit in metrics["exits"]],
            "ensemble": metrics["ensemble"]["confusion_matrix"],
        },
        "by_group": counts_by_group(evaluation.predictions, metrics["classes"]),
        "parameters": info["parameters"],
        # Measures made by hand have no multiply-accumulates that a network's could be compared with.
        "macs": network_cost(run.network(), chosen.data.image_size).macs if images else None,
        "seconds": info["result"]["seconds"],
        "best_epoch": info["result"]["best_epoch"],
        "transfer": info.get("transfer"),
        "cells": info["table"]["cells"],
        "versions": info["versions"],
        "hardware": info["hardware"],
    }
    atomic_write(folder / system.home / RECORD, (json.dumps(record, ensure_ascii=False) + "\n").encode())
    return record


def counts_by_group(predictions: pd.DataFrame, classes: Sequence[str]) -> list[list[Any]]:
    """The ensemble's confusion in every group, which is what a bootstrap over groups needs: [group, true, predicted,
    cells], classes as codes, sorted."""
    codes = {name: code for code, name in enumerate(classes)}
    frame = pd.DataFrame(
        {
            "group": predictions["group"].astype(str),
            "true": predictions["label"].map(codes),
            "predicted": predictions["predicted"].map(codes),
        }
    )
    counted = frame.groupby(["group", "true", "predicted"]).size().reset_index(name="cells")
    return [
        [group, int(true), int(predicted), int(cells)]
        for group, true, predicted, cells in counted.itertuples(index=False, name=None)
    ]


def group_names(record: dict[str, Any]) -> list[str]:
    """Names of the groups that a record's test cells come from, sorted."""
    return sorted({group for group, *_ in record["by_group"]})


def tallies_of(record: dict[str, Any]) -> np.ndarray:
    """(G, 3, C) of a record, as ``group_tallies`` makes them from the cells."""
    groups, true, predicted, cells = zip(*record["by_group"], strict=True)
    labels, said, of = (np.repeat(np.asarray(column), cells) for column in (true, predicted, groups))
    return group_tallies(labels, said, of, len(record["classes"]))
