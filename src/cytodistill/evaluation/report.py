"""The metrics of every exit and the ensemble, and the folder that `cytodistill evaluate` leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cytodistill.errors import CytodistillError
from cytodistill.evaluation.confusion import confusion_figure
from cytodistill.evaluation.intervals import NO_INTERVALS, report_intervals
from cytodistill.evaluation.panels import panels
from cytodistill.files import atomic_write, save_figure
from cytodistill.metrics.classification import classification_metrics


def metrics_report(
    exit_probabilities: ArrayLike, ensemble: ArrayLike, labels: ArrayLike, groups: ArrayLike, classes: Sequence[str]
) -> dict[str, Any]:
    """The content of ``metrics.json``: {"classes", "n", "groups", "exits", "ensemble", "intervals"}, and
    "no_intervals", which says why, where "intervals" is None.

    "n" counts cells and "groups" the different groups they came from; "exits" is a list, shallow to deep, and it and
    "ensemble" hold what `classification_metrics` returns (averages macro, in [0, 1]); "intervals" is from
    `report_intervals`.

    Args:
        exit_probabilities: (N, E, C) probabilities of each exit.
        ensemble: (N, C) probabilities of the ensemble.
        labels: (N,) integer codes into ``classes``.
        groups: (N,) group of each cell.
        classes: the C class names.

    Raises:
        CytodistillError: shapes disagree, or what `classification_metrics` raises.
    """
    exits, groups = np.asarray(exit_probabilities), np.asarray(groups)
    cells = np.asarray(labels).shape
    if exits.ndim != 3 or not exits.shape[1] or exits.shape[:1] != cells or groups.shape != cells:
        raise CytodistillError(
            f"metrics: exit probabilities of shape {exits.shape} and groups of shape {groups.shape} do not fit labels "
            f"of shape {cells}; they must be (cells, exits, classes) and (cells,)"
        )
    intervals = report_intervals(exits, ensemble, labels, groups, classes)
    return {
        "classes": list(classes),
        "n": len(groups),
        "groups": int(pd.Series(groups).nunique()),
        "exits": [classification_metrics(exits[:, e], labels, classes) for e in range(exits.shape[1])],
        "ensemble": classification_metrics(ensemble, labels, classes),
        "intervals": intervals,
        **({} if intervals else {"no_intervals": NO_INTERVALS}),
    }


def write_evaluation(out_dir: str | Path, metrics: dict[str, Any], predictions: pd.DataFrame, title: str) -> list[Path]:
    """Write metrics.json, predictions.csv, confusion.png (a panel each for the exits and the ensemble, as Figure 4
    of the paper) and one confusion_exit<k>.png per exit, with confusion_ensemble.png where there is more than one.

    Args:
        out_dir: folder, made where it is missing; each file replaces an older one whole or not at all.
        metrics: from `metrics_report`.
        predictions: from `predictions_frame`; floats keep the nine digits that give a float32 back exactly.
        title: heading of the pictures, such as the run's name and the split.

    Returns:
        The paths written, metrics.json first.
    """
    out = Path(out_dir)
    content = {
        "metrics.json": json.dumps(metrics, indent=2, allow_nan=False, ensure_ascii=False) + "\n",
        "predictions.csv": predictions.to_csv(index=False, float_format="%.9g", lineterminator="\n"),
    }
    for name, text in content.items():
        atomic_write(out / name, text.encode())

    named = panels(metrics)
    pictures = {"confusion.png": named}
    pictures |= {f"confusion_{name.lower().replace(' ', '')}.png": {name: figures} for name, figures in named.items()}
    for name, chosen in pictures.items():
        save_figure(confusion_figure(chosen, metrics["classes"], title), out / name)
    return [out / name for name in (*content, *pictures)]
