"""evaluate for a cross-validation: every cell tested once, by the run that has not seen it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError
from cytodistill.evaluation.applied import pool_applied
from cytodistill.evaluation.report import metrics_report, write_evaluation
from cytodistill.evaluation.run import Evaluation, evaluate, with_report
from cytodistill.evaluation.trust import trust_report
from cytodistill.infer.predictor import Predictions
from cytodistill.train.folds import Folds
from cytodistill.train.log import Silent, Watcher

FIGURES = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "f1", "auc")


def evaluate_folds(
    folds: str | Path | Folds,
    *,
    out: str | Path | None = None,
    class_map: str | Path | None = None,
    device: str = "auto",
    report: bool = True,
    watcher: Watcher | None = None,
) -> Evaluation:
    """Figures of the test cells of all folds together, and of each fold, with the mean and deviation over folds.

    The pooled figures and their intervals are of every cell, predicted by its own fold's run; "folds" in the metrics
    lists each fold's ensemble with its intervals, and "over_folds" the means and sample standard deviations.
    "pooled_trust" has the shape of a run's "trust": what each fold's validation cells decided is applied to that fold's
    test cells, and measured over all of them.

    Args:
        folds: folder of a finished cross-validation.
        out: folder for the files; ``report`` in the cross-validation's by default.
        class_map: name or file, for every fold's run; see `evaluate`.
        device: "auto", "cpu" or "cuda".
        report: whether to write report.html and the model card, of all folds together.
        watcher: is told of progress.

    Raises:
        CytodistillError: as ``evaluate``.
    """
    folds = folds if isinstance(folds, Folds) else Folds.open(folds)
    watcher = watcher or Silent()
    found = []
    for fold, run in enumerate(folds.runs):
        watcher.say(f"fold {fold + 1} of {folds.info['folds']}: {run.path}")
        found.append(evaluate(run, class_map=class_map, device=device, report=False, one_group=True, watcher=watcher))
    if len({evaluation.answers.exit_probabilities.shape[1:] for evaluation in found}) > 1:
        raise CytodistillError(f"{folds.path}: the chosen runs of its folds have different exits; fit them alike")
    exits = np.concatenate([evaluation.answers.exit_probabilities for evaluation in found])
    ensemble = np.concatenate([evaluation.answers.probabilities for evaluation in found])
    first = found[0].table
    table = CellTable(
        pd.concat([evaluation.table.frame for evaluation in found], ignore_index=True), first.classes, first.format
    )
    metrics = metrics_report(exits, ensemble, table.labels, table.groups, table.classes)
    parts = [evaluation.applied for evaluation in found if evaluation.applied is not None]
    applied = pool_applied(parts) if len(parts) == len(found) else None
    if applied is not None:
        metrics["pooled_trust"] = trust_report(applied, exits, table.labels, table.groups, table.classes)
    figures = [evaluation.metrics["ensemble"] for evaluation in found]
    metrics |= {
        "split": f"test cells of {len(found)} folds, {folds.info['kind']}",
        "source": None,
        "run": folds.info["digest"],
        "folds": [
            {"n": evaluation.metrics["n"], "run": folds.info["chosen"][fold]}
            | {name: evaluation.metrics["ensemble"][name] for name in FIGURES}
            | {"intervals": _fold_intervals(evaluation)}
            for fold, evaluation in enumerate(found)
        ],
        "over_folds": {name: _mean_sd([fold[name] for fold in figures]) for name in FIGURES},
    }
    predictions = pd.concat([evaluation.predictions for evaluation in found], ignore_index=True)
    predictions.insert(0, "fold", np.repeat(np.arange(len(found)), [len(e.predictions) for e in found]))
    folder = Path(out) if out is not None else folds.path / "report"
    title = f"{folds.path.name}, {len(found)} folds ({len(table)} cells)"
    files = write_evaluation(folder, metrics, predictions, title)
    pooled = Evaluation(metrics, predictions, files, Predictions(table.classes, ensemble, exits), table, applied)
    return with_report(pooled, folds, folder, watcher) if report else pooled


def _fold_intervals(evaluation: Evaluation) -> dict[str, list[float]] | None:
    """Of the fold's ensemble; None where its cells are of one group."""
    found = evaluation.metrics["intervals"]
    return {name: found["ensemble"][name] for name in FIGURES if name in found["ensemble"]} if found else None


def _mean_sd(values: list[float | None]) -> dict[str, float | None]:
    """Of the folds that define the figure; None where too few do."""
    known = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "sd": float(np.std(known, ddof=1)) if len(known) > 1 else None,
    }
