"""evaluate on another data set: both sides brought to the same classes by a class map each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cytodistill.data.class_map import ClassMap, Mapped
from cytodistill.data.table import CellTable
from cytodistill.evaluation.applied import Applied, apply_fitted, collapse_applied, screen
from cytodistill.evaluation.intervals import share_interval
from cytodistill.evaluation.predictions import predictions_frame
from cytodistill.evaluation.report import metrics_report, write_evaluation
from cytodistill.evaluation.run import Evaluation, answers_to, check_two_groups, fitted_of, source_name, with_report
from cytodistill.evaluation.trust import trust_report
from cytodistill.infer.cells import external_cells
from cytodistill.infer.fitted import Fitted
from cytodistill.infer.predictor import Predictions, load
from cytodistill.metrics.abnormal_score import abnormal_score
from cytodistill.train.log import Silent, Watcher
from cytodistill.train.run_folder import Run


def evaluate_external(
    run: str | Path | Run,
    source: str | Path | CellTable,
    *,
    class_map: str | Path,
    source_map: str | Path,
    split: str | None = None,
    out: str | Path | None = None,
    format: str | None = None,
    device: str = "auto",
    report: bool = True,
    one_group: bool = False,
    watcher: Watcher | None = None,
) -> Evaluation:
    """Figures of a finished run on a data set of other classes, in the classes that two maps have in common.

    The run's probabilities are collapsed by ``class_map``, the source's labels renamed by ``source_map``; cells of
    classes that it leaves out are dropped and counted. What the run's own validation cells decided is carried over as
    it is: calibrators are applied in the run's classes before these are collapsed, and operating points are not chosen
    anew. How well that goes is "carried_over" in the metrics, of the shape of "trust"; `docs/evaluation.md` has the
    rest of what metrics.json says of an external test.

    Args:
        run: run folder.
        source: cells of another data set; all of them, whatever splits they have.
        class_map: name or file of the map of the run's classes.
        source_map: name or file of the map of the source's classes; its target classes must be the same.
        split: only these of the source's cells: "train", "val" or "test".
        out: folder for the files; ``run/external/<source>`` by default.
        format: source format, recognised by itself where None.
        device: "auto", "cpu" or "cuda".
        report: whether to write report.html and the model card, which takes seconds.
        one_group: accept cells of a single group, whose figures have no intervals.
        watcher: is told of progress.

    Raises:
        CytodistillError: the run or the source cannot be used, the maps have different targets or miss a class, or the
            source has cells of groups that trained the run, or of a single group.
    """
    watcher = watcher or Silent()
    run = run if isinstance(run, Run) else Run.open(run)
    own_map, other_map = ClassMap.load(class_map), ClassMap.load(source_map)
    own_map.check_same_target(other_map)
    own_map.matrix(run.classes)  # a class that it misses is known now, before a cell is read
    predictor = load(run, device)
    mapped = other_map.apply(external_cells(run, source, split, format))
    if not one_group:
        check_two_groups(mapped.table.groups, source_name(source) or "")
    answers = answers_to(predictor, mapped.table, np.arange(len(mapped.table)), watcher)
    collapsed = _collapse(answers, own_map)
    table = mapped.table
    metrics = metrics_report(
        collapsed.exit_probabilities, collapsed.probabilities, table.labels, table.groups, table.classes
    )
    fitted = fitted_of(run, predictor, own_map, watcher)
    applied = None
    if fitted:
        applied = _carried_over(fitted, answers, table.labels, run.classes, own_map)
        metrics["carried_over"] = trust_report(
            applied, collapsed.exit_probabilities, table.labels, table.groups, table.classes
        )
    metrics |= {"split": split or "all", "source": source_name(source), "run": run.info["fingerprint"]}
    before = mapped.source_labels
    metrics |= _facts(own_map, other_map, mapped, answers, before, collapsed)
    predictions = predictions_frame(table, np.arange(len(table)), collapsed.exit_probabilities, collapsed.probabilities)
    place = list(predictions.columns).index("label")
    predictions.insert(place + 1, "source_label", before)
    predictions.insert(place + 3, "run_predicted", answers.predicted)
    named = Path(str(metrics["source"]))
    folder = Path(out) if out is not None else run.path / "external" / named.stem
    title = f"{run.path.name} on {named.name}, {other_map.target} ({len(table)} cells)"
    files = write_evaluation(folder, metrics, predictions, title)
    found = Evaluation(metrics, predictions, files, collapsed, table, applied)
    return with_report(found, run, folder, watcher) if report else found


def _collapse(answers: Predictions, class_map: ClassMap) -> Predictions:
    """Answers in the target classes; of the ensemble, its own probabilities, not the mean of the collapsed exits'."""
    exits = answers.exit_probabilities
    each = [class_map.collapse(exits[:, exit], answers.classes) for exit in range(exits.shape[1])]
    whole = class_map.collapse(answers.probabilities, answers.classes)
    return Predictions(class_map.target_classes, whole, np.stack(each, axis=1))


def _carried_over(
    fitted: Fitted, answers: Predictions, labels: np.ndarray, classes: tuple[str, ...], class_map: ClassMap
) -> Applied:
    """What the run's validation cells decided, applied to the other data set's cells in the target classes."""
    whole = apply_fitted(fitted, answers.exit_probabilities, answers.probabilities, labels, classes, None)
    applied = collapse_applied(whole, class_map, classes)
    if not class_map.abnormal:
        return applied
    of_target = np.isin(class_map.target_classes, class_map.abnormal)
    scores = abnormal_score(applied.ensemble, of_target)
    screened = screen(class_map.label, class_map.abnormal, scores, of_target[labels], fitted)
    return applied.with_screened(screened)


def _facts(
    own_map: ClassMap,
    other_map: ClassMap,
    mapped: Mapped,
    answers: Predictions,
    before: np.ndarray,
    collapsed: Predictions,
) -> dict[str, Any]:
    """What metrics.json says beside the figures: the maps, what they left out, and each source class by itself."""
    right = collapsed.probabilities.argmax(1) == mapped.table.labels
    groups = mapped.table.groups
    share = own_map.left_out_share(answers.probabilities, answers.classes)
    return {
        "external": True,
        "class_map": own_map.label,
        "source_map": other_map.label,
        "left_out": {
            "cells": sum(mapped.left_out.values()),
            "by_class": mapped.left_out,
            "probability": float(share.mean()),
        },
        "by_source_class": {
            name: {
                "counts_as": other_map.classes[name],
                "n": int(own.sum()),
                "right": float(right[own].mean()),
                "interval": share_interval(right[own], groups[own]),
            }
            for name in other_map.classes
            if (own := before == name).any()
        },
    }


def external_lines(metrics: dict[str, Any]) -> list[str]:
    """What of an external test is worth a line on the screen; none of any other."""
    if not metrics.get("external"):
        return []
    left = metrics["left_out"]
    dropped = ", ".join(f"{name} {count}" for name, count in left["by_class"].items() if count)
    said = f"{left['cells']} cells left out ({dropped})" if dropped else "no cell left out"
    lines = [f"External test: {metrics['class_map']} against {metrics['source_map']}; {said}"]
    if left["probability"] > 0:
        lines.append(
            f"On average {100 * left['probability']:.1f} % of the model's probability is in classes that "
            f"{metrics['class_map']} leaves out"
        )
    return lines
