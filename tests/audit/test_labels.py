"""Doubtful labels from several runs' test predictions."""

from types import SimpleNamespace

import numpy as np
import pytest

from cytodistill.audit.labels import doubtful_labels, mean_probabilities
from cytodistill.data.table import CellTable


def test_the_mean_is_over_the_runs_that_tested_a_cell():
    one = SimpleNamespace(rows=np.array([0, 2]), probabilities=np.array([[0.8, 0.2], [0.1, 0.9]]))
    other = SimpleNamespace(rows=np.array([2, 3]), probabilities=np.array([[0.5, 0.5], [0.4, 0.6]]))
    rows, probabilities, times = mean_probabilities(5, [one, other])
    assert rows.tolist() == [0, 2, 3]
    assert times.tolist() == [1, 2, 1]
    assert probabilities == pytest.approx(np.array([[0.8, 0.2], [0.3, 0.7], [0.4, 0.6]]))


def test_a_planted_wrong_label_is_named_with_its_cell():
    random = np.random.default_rng(0)
    truth = np.arange(60) % 3
    given = truth.copy()
    given[41] = (truth[41] + 1) % 3
    classes = ("a", "b", "c")
    cells = [{"root": "/", "path": f"{n}.png", "label": classes[code]} for n, code in enumerate(given)]
    scores = random.random((60, 3)) * 0.2
    scores[np.arange(60), truth] += 2
    probabilities = scores / scores.sum(1, keepdims=True)
    rows = np.arange(20, 60)
    found = doubtful_labels(
        CellTable.from_rows(cells, classes, "folder"), [SimpleNamespace(rows=rows, probabilities=probabilities[rows])]
    )
    assert found.judged == 40
    assert found.right == pytest.approx(39 / 40)
    assert found.frame[["row", "path", "suggested", "seeds"]].to_numpy().tolist() == [
        [41, "41.png", classes[truth[41]], 1]
    ]
