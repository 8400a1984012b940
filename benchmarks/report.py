"""How long the report of many cells takes to write, and how large it is.

    python benchmarks/report.py RUN [--cells 20000] [--groups 2000] [-o FOLDER] [--json FILE]

RUN is any finished run, such as `runs/demo/run` of `cytodistill demo`. Its own cells are drawn again and again until
there are so many, in so many groups of uneven sizes, and the answers to them are drawn too: the network does not run,
but for the maps of the cells that are shown. Timed are the figures (metrics, intervals, calibration, sets: what
`metrics.json` has), which `evaluate` needs with or without a report, and the report with the model card by itself.
The bounds are 60 s and 15 MB for the report.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.special import softmax

from cytodistill.data.class_map import map_for
from cytodistill.data.table import CellTable
from cytodistill.evaluation.applied import apply_fitted
from cytodistill.evaluation.predictions import predictions_frame
from cytodistill.evaluation.report import metrics_report
from cytodistill.evaluation.run import Evaluation
from cytodistill.evaluation.trust import trust_report
from cytodistill.evaluation.validation import fit_on_validation
from cytodistill.infer.predictor import Predictions
from cytodistill.report import write_report
from cytodistill.train.run_folder import Run

MOST_SECONDS, MOST_MEGABYTES = 60, 15
VALIDATION = 5000


def many_cells(run: Run, cells: int, groups: int, rng: np.random.Generator) -> CellTable:
    """So many rows of the run's table, drawn with replacement, in groups some of which are ten times others."""
    table = run.table()
    frame = table.frame.iloc[rng.integers(0, len(table), cells)].reset_index(drop=True)
    weights = rng.gamma(2.0, size=groups)
    drawn = rng.choice(groups, cells, p=weights / weights.sum())
    return table.with_frame(frame.assign(group=[f"field {group}" for group in drawn], split="test"))


def drawn_answers(table: CellTable, exits: int, rng: np.random.Generator) -> np.ndarray:
    """(N, E, C) probabilities, better with every exit and harder in some groups than in others."""
    classes = len(table.classes)
    hardness = dict(zip(np.unique(table.groups), rng.normal(2.0, 1.0, len(np.unique(table.groups))), strict=True))
    edge = np.array([hardness[group] for group in table.groups])[:, None] * np.linspace(0.7, 1.1, exits)
    shared = rng.normal(size=(len(table), 1, classes)) + 0.4 * rng.normal(size=(len(table), exits, classes))
    return softmax(1.5 * (shared + edge[..., None] * np.eye(classes)[table.labels][:, None]), axis=-1)


def evaluation_of(run: Run, table: CellTable, exits: np.ndarray, others: CellTable, on: np.ndarray) -> Evaluation:
    """What `evaluate` makes of these answers, with ``on`` the answers to the validation cells ``others``."""
    marked, mark = map_for(table.format, table.classes), run.info["fingerprint"]
    ensemble = exits.mean(axis=1)
    metrics = metrics_report(exits, ensemble, table.labels, table.groups, table.classes)
    fitted = fit_on_validation(mark, on, on.mean(axis=1), others.labels, others.groups, table.classes, marked)
    applied = apply_fitted(fitted, exits, ensemble, table.labels, table.classes, marked)
    metrics["trust"] = trust_report(applied, exits, table.labels, table.groups, table.classes)
    metrics |= {"split": "test", "source": None, "run": mark}
    predictions = predictions_frame(table, np.arange(len(table)), exits, ensemble)
    return Evaluation(metrics, predictions, [], Predictions(table.classes, ensemble, exits), table, applied)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--groups", type=int, default=2_000)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    chosen = parser.parse_args()
    run, rng = Run.open(chosen.run), np.random.default_rng(0)
    exits = run.network().exits
    table, others = (many_cells(run, cells, chosen.groups, rng) for cells in (chosen.cells, VALIDATION))
    answers, on = (drawn_answers(of, exits, rng) for of in (table, others))

    start, used = time.perf_counter(), time.process_time()
    evaluation = evaluation_of(run, table, answers, others, on)
    figures = (time.perf_counter() - start, time.process_time() - used)
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.out or Path(scratch)
        start, used = time.perf_counter(), time.process_time()
        page = write_report(evaluation, run, folder)[0]
        report = (time.perf_counter() - start, time.process_time() - used)
        megabytes = page.stat().st_size / 1e6
    found = {
        "cells": chosen.cells,
        "groups": len(np.unique(table.groups)),
        "classes": len(table.classes),
        "exits": exits,
        "figures_seconds": round(figures[0], 1),
        "figures_cpu_seconds": round(figures[1], 1),
        "report_seconds": round(report[0], 1),
        "report_cpu_seconds": round(report[1], 1),
        "megabytes": round(megabytes, 2),
        "within_bounds": bool(report[0] < MOST_SECONDS and megabytes < MOST_MEGABYTES),
    }
    text = json.dumps(found, indent=2)
    print(text)
    if chosen.json:
        chosen.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
