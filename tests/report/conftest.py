"""A report whose figures are known: drawn answers to the tiny run's cells, wrong often enough for every section."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import softmax

from cytodistill.data.class_map import ClassMap
from cytodistill.data.sources import read_source
from cytodistill.data.table import CellTable
from cytodistill.evaluation.applied import apply_fitted
from cytodistill.evaluation.predictions import predictions_frame
from cytodistill.evaluation.report import metrics_report
from cytodistill.evaluation.run import Evaluation
from cytodistill.evaluation.trust import trust_report
from cytodistill.evaluation.validation import fit_on_validation
from cytodistill.infer.predictor import Predictions
from cytodistill.report.judged import Judged, judged

EXITS = 3
RIGHT_IS_ABNORMAL = ClassMap(
    name="tiny-binary",
    version=1,
    source="folder",
    target="normal / abnormal",
    origin="these tests",
    classes={"left": "normal", "middle": "normal", "right": "abnormal"},
    target_classes=("normal", "abnormal"),
    abnormal=("abnormal",),
)


def drawn(seed: int, labels: np.ndarray, classes: int, exits: int = EXITS) -> np.ndarray:
    """(N, E, C) probabilities that are too sure, and better with every exit."""
    logits = np.random.default_rng(seed).normal(size=(len(labels), exits, classes))
    logits += np.linspace(0.6, 1.4, exits)[:, None] * np.eye(classes)[labels][:, None]
    return softmax(2 * logits, axis=-1)


def evaluation_of(
    table: CellTable, exits: np.ndarray, run: str = "mark", class_map: ClassMap | None = RIGHT_IS_ABNORMAL
) -> Evaluation:
    """What `evaluate` returns for these answers, where as many others validated the run."""
    ensemble, labels, groups = exits.mean(axis=1), table.labels, table.groups
    metrics = metrics_report(exits, ensemble, labels, groups, table.classes)
    others = drawn(99, labels, len(table.classes), exits.shape[1])
    fitted = fit_on_validation(run, others, others.mean(axis=1), labels, groups, table.classes, class_map)
    applied = apply_fitted(fitted, exits, ensemble, labels, table.classes, class_map)
    metrics["trust"] = trust_report(applied, exits, labels, groups, table.classes)
    metrics |= {"split": "test", "source": None, "run": run}
    predictions = predictions_frame(table, np.arange(len(table)), exits, ensemble)
    return Evaluation(metrics, predictions, [], Predictions(table.classes, ensemble, exits), table, applied)


@pytest.fixture(scope="session")
def evaluated() -> Callable[..., Evaluation]:
    """``evaluated(table, exits)``, as `evaluation_of`."""
    return evaluation_of


@pytest.fixture(scope="session")
def answers() -> Callable[..., np.ndarray]:
    """``answers(seed, labels, classes)``, as `drawn`."""
    return drawn


@pytest.fixture(scope="session")
def evaluation(cells) -> Evaluation:
    """Drawn answers to all 45 tiny cells of twelve groups, in three classes of which "right" is abnormal."""
    table = read_source(cells)
    return evaluation_of(table, drawn(0, table.labels, len(table.classes)))


@pytest.fixture(scope="session")
def found(evaluation, tiny_run) -> Judged:
    return judged(evaluation, tiny_run)
