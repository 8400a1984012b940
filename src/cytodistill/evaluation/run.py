"""evaluate: a run and a split in, figures of every exit and the ensemble out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytodistill.data.class_map import ClassMap, map_for
from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError
from cytodistill.estimators.inputs import contours_note
from cytodistill.evaluation.applied import Applied, apply_fitted
from cytodistill.evaluation.predictions import predictions_frame
from cytodistill.evaluation.report import metrics_report, write_evaluation
from cytodistill.evaluation.trust import trust_report
from cytodistill.evaluation.validation import fit_on_validation, group_points
from cytodistill.infer.artifact import is_artifact
from cytodistill.infer.cells import cells_to_judge
from cytodistill.infer.fitted import FILE, Fitted, read_fitted
from cytodistill.infer.policies import weights_digest
from cytodistill.infer.predictor import Predictions, Predictor, load
from cytodistill.metrics.calibration import clipped_log
from cytodistill.report import write_report
from cytodistill.report.overview import SEEN
from cytodistill.train.folds import Folds
from cytodistill.train.log import Silent, Watcher
from cytodistill.train.run_folder import Run


@dataclass(frozen=True)
class Evaluation:
    """``metrics`` as in metrics.json, ``predictions`` as in predictions.csv, the files written, and what they are made
    from: the answers of the exits and the ensemble, for the rows of ``table`` in order, and what the run's validation
    cells decided, applied to them; None where nothing was, or where they must not be judged by it."""

    metrics: dict[str, Any]
    predictions: pd.DataFrame
    files: list[Path]
    answers: Predictions
    table: CellTable
    applied: Applied | None = None


def evaluate(
    run: str | Path | Run,
    source: str | Path | CellTable | None = None,
    *,
    split: str | None = None,
    out: str | Path | None = None,
    class_map: str | Path | None = None,
    format: str | None = None,
    device: str = "auto",
    report: bool = True,
    one_group: bool = False,
    watcher: Watcher | None = None,
) -> Evaluation:
    """Figures of a finished run on one split of its own cells, or on another source of the same classes.

    Args:
        run: run folder.
        source: cells to evaluate on; by default the run's own manifest. A source without splits counts whole. For one
            of other classes there is `evaluate_external`.
        split: "test" (by default), "val", "train" or "all".
        class_map: name or file of the map that says which of the run's classes are abnormal, for the screening view; by
            default the data set's own. Where that has none, a run keeps the one that it is given, and `predict` its
            operating points.
        out: folder for metrics.json, predictions.csv, the confusion pictures, the report and the model card;
            ``run/report`` by default, and ``run/report-<split>`` for cells that trained or chose the run.
        format: source format, recognised by itself where None.
        device: "auto", "cpu" or "cuda".
        report: whether to write report.html and the model card, which takes seconds. Cells that trained or chose the
            run make no model card.
        one_group: accept cells of a single group, whose figures have no intervals.
        watcher: is told of progress.

    Raises:
        CytodistillError: the run cannot be used, the source cannot be read or has other classes or no such split, its
            cells trained the run or are of groups that did, they are of a single group, or some have no label.
    """
    watcher = watcher or Silent()
    run = run if isinstance(run, Run) else Run.open(run)
    predictor = load(run, device)
    table, rows, split = cells_to_judge(run, source, split or "test", format)
    marked = map_of(run, class_map)
    if not one_group:
        check_two_groups(table.groups[rows], source_name(source) or f"{run.path}, split {split}")
    answers = answers_to(predictor, table, rows, watcher)
    chosen = table.with_frame(table.frame.iloc[rows])
    metrics = metrics_report(
        answers.exit_probabilities, answers.probabilities, chosen.labels, chosen.groups, answers.classes
    )
    fitted, applied = fitted_of(run, predictor, marked, watcher), None
    metrics |= _shared(table, rows) if source is None and split == "test" else {}
    if fitted and "no_trust" not in metrics and _is_new(source, split):
        applied = apply_fitted(
            fitted, answers.exit_probabilities, answers.probabilities, chosen.labels, run.classes, marked
        )
        metrics["trust"] = trust_report(applied, answers.exit_probabilities, chosen.labels, chosen.groups, run.classes)
    named = source_name(source)
    metrics |= {"split": split, "source": named, "run": run.info["fingerprint"]}
    predictions = predictions_frame(chosen, np.arange(len(chosen)), answers.exit_probabilities, answers.probabilities)
    seen = seen_warning(metrics)
    if seen:
        watcher.say(f"{run.path}, split {split}: {seen}")
    folder = Path(out) if out is not None else run.path / ("report" if seen is None else f"report-{split}")
    title = f"{run.path.name}, {split if named is None else f'{Path(named).name}, {split}'} ({len(chosen)} cells)"
    files = write_evaluation(folder, metrics, predictions, title)
    # Once all the rest is written.
    if fitted and (class_map is None or own_map(run) is None):
        _keep(run, fitted, marked, watcher)
    found = Evaluation(metrics, predictions, files, answers, chosen, applied)
    return with_report(found, run, folder, watcher) if report else found


def with_report(found: Evaluation, run: Run | Folds, folder: Path, watcher: Watcher) -> Evaluation:
    """The evaluation with report.html and the model card among its files, written into its folder; cells that trained
    or chose the run say nothing that belongs on a card."""
    card = seen_warning(found.metrics) is None
    return replace(found, files=[*found.files, *write_report(found, run, folder, watcher, card=card)])


def seen_warning(metrics: dict[str, Any]) -> str | None:
    """What to say of figures of cells that had a part in making the run; None of cells that had none."""
    if metrics["source"] is None:
        return SEEN.get(metrics["split"])
    if metrics["split"] == "train" and not metrics.get("external"):  # of another data set none may have trained it
        return "These cells are of a training split: if they trained the model, the figures are too good."
    return None


def answers_to(predictor: Predictor, table: CellTable, rows: np.ndarray, watcher: Watcher) -> Predictions:
    """Answers to some rows of a table, in their order."""
    cells = predictor.inputs.of_table(table, rows, lambda done, total: watcher.step("decode", done, total))
    if note := contours_note(predictor.inputs):
        watcher.say(note)
    return predictor.predict_cells(cells, rows=rows, progress=lambda done, total: watcher.step("evaluate", done, total))


def source_name(source: str | Path | CellTable | None) -> str | None:
    """What metrics.json calls a source."""
    return None if source is None else "a table" if isinstance(source, CellTable) else str(source)


def map_of(run: Run, class_map: str | Path | None) -> ClassMap | None:
    """The map that is asked for, or that of the run's data set, or where that has none the one that the run was given.

    Raises:
        CytodistillError: the map that is asked for does not know a class of the run, or leaves one out.
    """
    if class_map is None:
        stored = read_fitted(run.path, run.info["fingerprint"])
        return own_map(run) or (stored.class_map if stored else None)
    named = ClassMap.load(class_map)
    left = [name for name in run.classes if named.classes.get(name) is None]
    if left:
        raise CytodistillError(
            f"--map {class_map}: does not say of class {left[0]!r} whether it is abnormal; add it to the map, or "
            "choose another"
        )
    return named


def own_map(run: Run) -> ClassMap | None:
    """The map of the run's data set, where there is one."""
    return map_for(run.info["table"]["format"], run.classes)


def _keep(run: Run, fitted: Fitted, marked: ClassMap | None, watcher: Watcher) -> None:
    """Store in the run what its validation cells decided by its map. An artifact stays as it was exported, and what was
    decided is not given up where the cells are gone that could decide by another map."""
    if is_artifact(run.path) or fitted.class_map != marked:
        return
    before = read_fitted(run.path, run.info["fingerprint"])
    fitted.write(run.path)
    if marked != own_map(run) and fitted.points and not (before and before.class_map == marked):
        assert marked is not None
        watcher.say(f"{run.path / FILE}: operating points are by the class map {marked.label} from now on")


def fitted_of(run: Run, predictor: Predictor, marked: ClassMap | None, watcher: Watcher) -> Fitted | None:
    """What the run's validation cells decided, with operating points by a map: as it is stored in the run, or anew.

    None where it has no validation cells. Where its table is gone, what is stored stands, but for another map's points.

    Raises:
        CytodistillError: what is stored was not fitted on this run's validation cells.
    """
    fingerprint = run.info["fingerprint"]
    stored = read_fitted(run.path, fingerprint)
    same = stored is not None and stored.class_map == marked
    if same and stored and stored.group_points is not None:
        return stored
    try:
        table = run.table()
    except CytodistillError:
        return stored if same or not stored else replace(stored, class_map=None, points=(), group_points=None)
    rows = table.indices("val")
    if not len(rows):
        return None
    cells = predictor.inputs.of_table(table, rows, lambda done, total: watcher.step("decode", done, total))
    answers = predictor.predict_cells(cells, rows=rows)
    if same and stored:
        # Of an earlier version, which chose none for groups; the rest stays as it was.
        calibrated = stored.temperature[-1].calibrated(clipped_log(answers.probabilities))
        points = group_points(calibrated, table.labels[rows], table.groups[rows], run.classes, marked)
        return replace(stored, group_points=points)
    return fit_on_validation(
        fingerprint,
        answers.exit_probabilities,
        answers.probabilities,
        table.labels[rows],
        table.groups[rows],
        run.classes,
        marked,
        weights_digest(run),
    )


def check_two_groups(groups: np.ndarray, where: str) -> None:
    """Raise CytodistillError where all cells are of one group: nothing then says how far the figures would go astray on
    another field, slide or patient."""
    if len(np.unique(groups)) == 1:
        raise CytodistillError(
            f"{where}: its {len(groups)} cells are all of the group {groups[0]!r}, and intervals need two groups or "
            "more; add cells of others, or accept figures without intervals with --one-group"
        )


def _is_new(source: str | Path | CellTable | None, split: str) -> bool:
    """Whether the cells had no part in training the run nor in fitting what they would be judged by."""
    return split == "test" if source is None else split not in ("train", "val")


def _shared(table: CellTable, rows: np.ndarray) -> dict[str, str]:
    """What is to be said where groups of the test cells are in other splits too, which ``--group none`` allows."""
    found: dict[str, str] = {}
    tested = table.frame["group"].iloc[rows]
    for split, note, what in (
        ("train", "shared_groups", "trained the run: the figures are too good for cells of new groups"),
        ("val", "no_trust", "have validation cells too: no probabilities, sets or operating points are judged by them"),
    ):
        shared = tested.isin(table.frame["group"].iloc[table.indices(split)])
        if cells := int(shared.sum()):
            found[note] = f"{cells} of {len(rows)} test cells are of {tested[shared].nunique()} groups that {what}"
    return found
