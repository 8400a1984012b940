"""evaluate: a run and a split in, figures of every exit and the ensemble out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytodistill.data.class_map import ClassMap
from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError
from cytodistill.evaluation.predictions import predictions_frame
from cytodistill.evaluation.report import metrics_report, write_evaluation
from cytodistill.evaluation.trust import trust_report
from cytodistill.evaluation.validation import fit_on_validation, map_for
from cytodistill.infer.cells import cells_to_judge
from cytodistill.infer.fitted import Fitted, read_fitted
from cytodistill.infer.predictor import Predictions, Predictor, load
from cytodistill.train.estimator import say_contours
from cytodistill.train.log import Silent, Watcher
from cytodistill.train.run_folder import Run


@dataclass(frozen=True)
class Evaluation:
    """``metrics`` as in metrics.json, ``predictions`` as in predictions.csv, the files written, and what they are made
    from: the answers of the exits and the ensemble, for the rows of ``table`` in order."""

    metrics: dict[str, Any]
    predictions: pd.DataFrame
    files: list[Path]
    answers: Predictions
    table: CellTable


def evaluate(
    run: str | Path | Run,
    source: str | Path | CellTable | None = None,
    *,
    split: str = "test",
    out: str | Path | None = None,
    class_map: str | Path | None = None,
    format: str | None = None,
    device: str = "auto",
    watcher: Watcher | None = None,
) -> Evaluation:
    """Figures of a finished run on one split of its own cells, or on another source.

    Args:
        run: run folder.
        source: cells to evaluate on; by default the run's own manifest. A source without splits counts whole.
        split: "test", "val", "train" or "all".
        class_map: name or file of the map that says which of the run's classes are abnormal, for the screening view; by
            default the one of the data set's format.
        out: folder for metrics.json, predictions.csv and the confusion pictures; ``run/report`` by default.
        format: source format, recognised by itself where None.
        device: "auto", "cpu" or "cuda".
        watcher: is told of progress.

    Raises:
        CytodistillError: the run cannot be used, the source cannot be read or has other classes or no such split, or
            cells without a label.
    """
    watcher = watcher or Silent()
    run = run if isinstance(run, Run) else Run.open(run)
    predictor = load(run, device)
    table, rows, split = cells_to_judge(run, source, split, format)
    cells = predictor.inputs.of_table(table, rows, lambda done, total: watcher.step("decode", done, total))
    say_contours(predictor.inputs, watcher)
    answers = predictor.predict_cells(
        cells, rows=rows, progress=lambda done, total: watcher.step("evaluate", done, total)
    )
    chosen = table.with_frame(table.frame.iloc[rows])
    metrics = _metrics(answers, chosen)
    if (fitted := _fitted(run, predictor, class_map, watcher)) and split != "val":
        marked = _map(class_map, run)
        metrics["trust"] = trust_report(
            fitted,
            answers.exit_probabilities,
            answers.probabilities,
            chosen.labels,
            chosen.groups,
            run.classes,
            marked,
        )
    named = None if source is None else "a table" if isinstance(source, CellTable) else str(source)
    metrics |= {"split": split, "source": named, "run": run.info["fingerprint"]}
    predictions = predictions_frame(chosen, np.arange(len(chosen)), answers.exit_probabilities, answers.probabilities)
    folder = Path(out) if out is not None else run.path / "report"
    title = f"{run.path.name}, {split if named is None else f'{Path(named).name}, {split}'} ({len(chosen)} cells)"
    files = write_evaluation(folder, metrics, predictions, title)
    if fitted and class_map is None:  # the run keeps what its own map made of it, once all the rest is written
        fitted.write(run.path)
    return Evaluation(metrics, predictions, files, answers, chosen)


def _metrics(answers: Predictions, table: CellTable) -> dict[str, Any]:
    return metrics_report(
        answers.exit_probabilities, answers.probabilities, table.labels, table.groups, answers.classes
    )


def _map(class_map: str | Path | None, run: Run) -> ClassMap | None:
    """The map that is asked for, or that of the run's data set where it has one.

    Raises:
        CytodistillError: the map that is asked for does not know a class of the run, or leaves one out.
    """
    if class_map is None:
        return map_for(run.info["table"]["format"], run.classes)
    named = ClassMap.load(class_map)
    left = [name for name in run.classes if named.classes.get(name) is None]
    if left:
        raise CytodistillError(
            f"--map {class_map}: does not say of class {left[0]!r} whether it is abnormal; add it to the map, or "
            "choose another"
        )
    return named


def _fitted(run: Run, predictor: Predictor, class_map: str | Path | None, watcher: Watcher) -> Fitted | None:
    """What the run's validation cells decided, as it is stored in the run or anew. None where it has no validation
    cells, or where its table is gone."""
    marked = _map(class_map, run)
    fingerprint = run.info["fingerprint"]
    stored = read_fitted(run.path, fingerprint)
    if stored is not None and stored.class_map == (marked.name if marked else None):
        return stored
    try:
        table = run.table()
    except CytodistillError:
        return stored
    rows = table.indices("val")
    if not len(rows):
        return None
    cells = predictor.inputs.of_table(table, rows, lambda done, total: watcher.step("decode", done, total))
    answers = predictor.predict_cells(cells, rows=rows)
    return fit_on_validation(
        fingerprint,
        answers.exit_probabilities,
        answers.probabilities,
        table.labels[rows],
        table.groups[rows],
        run.classes,
        marked,
    )
