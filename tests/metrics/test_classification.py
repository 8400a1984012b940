"""classification_metrics against scikit-learn, NumPy and a worked example."""

from __future__ import annotations

import doctest
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

import cytodistill.metrics.classification
from cytodistill.errors import CytodistillError
from cytodistill.metrics import classification_metrics

MACRO = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "f1", "auc")


def names(count: int) -> list[str]:
    return [f"class {c}" for c in range(count)]


def case(seed: int, cells: int, classes: int, bits: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that lean to the label; rounded to a few levels they hold exact ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, cells)
    weights = rng.gamma(0.5, size=(cells, classes)) + np.eye(classes)[labels] * rng.random((cells, 1))
    if bits is not None:
        weights = np.ceil(weights * 2**bits)
    return weights / weights.sum(axis=1, keepdims=True), labels


def by_hand(p: np.ndarray, y: np.ndarray, classes: int) -> dict[int, dict[str, float]]:
    """Each class present against the rest, counted directly."""
    predicted, figures = p.argmax(1), {}
    for c in np.unique(y):
        true, said = y == c, predicted == c
        pairs = p[true, c][:, None] - p[~true, c][None, :]
        figures[int(c)] = {
            "n": int(true.sum()),
            "sensitivity": (true & said).sum() / true.sum(),
            "specificity": (~true & ~said).sum() / (~true).sum(),
            "precision": (true & said).sum() / said.sum() if said.any() else 0.0,
            "f1": 2 * (true & said).sum() / (true.sum() + said.sum()),
            "auc": ((pairs > 0) + 0.5 * (pairs == 0)).mean(),
        }
    return figures


def test_worked_example():
    p = [[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.3, 0.6, 0.1], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.2, 0.5, 0.3]]
    metrics = classification_metrics(p, [0, 0, 1, 1, 2, 2], ["a", "b", "c"])
    assert metrics["confusion_matrix"] == [[2, 0, 0], [1, 1, 0], [0, 1, 1]]
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert metrics["sensitivity"] == metrics["balanced_accuracy"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert metrics["specificity"] == pytest.approx((3 / 4 + 3 / 4 + 1) / 3)
    assert metrics["precision"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert metrics["f1"] == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
    # a: .7 beats all four others, .5 beats three; b: .6 beats four, .3 beats two; c: both beat all four.
    assert metrics["auc"] == pytest.approx((7 / 8 + 6 / 8 + 1) / 3)
    assert metrics["per_class"]["b"] == pytest.approx(
        {"n": 2, "sensitivity": 1 / 2, "specificity": 3 / 4, "precision": 1 / 2, "f1": 1 / 2, "auc": 6 / 8}
    )


@pytest.mark.parametrize("bits", [None, 1])
@pytest.mark.parametrize(("seed", "cells", "classes"), [(0, 300, 5), (1, 60, 7), (2, 40, 2), (3, 500, 20)])
def test_equals_scikit_learn(seed, cells, classes, bits):
    p, y = case(seed, cells, classes, bits)
    predicted = p.argmax(1)
    metrics = classification_metrics(p, y, names(classes))
    auc = [roc_auc_score(y == c, p[:, c]) for c in range(classes)]
    assert metrics["confusion_matrix"] == confusion_matrix(y, predicted, labels=range(classes)).tolist()
    expected = {
        "accuracy": accuracy_score(y, predicted),
        "balanced_accuracy": balanced_accuracy_score(y, predicted),
        "sensitivity": recall_score(y, predicted, average="macro"),
        "precision": precision_score(y, predicted, average="macro", zero_division=0),
        "f1": f1_score(y, predicted, average="macro"),
        "auc": np.mean(auc),
        "specificity": np.mean([recall_score(y != c, predicted != c) for c in range(classes)]),
    }
    assert {name: metrics[name] for name in MACRO} == pytest.approx(expected, abs=1e-12)
    assert [c["auc"] for c in metrics["per_class"].values()] == pytest.approx(auc, abs=1e-12)


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(2, 6), st.sampled_from([None, 0, 2]))
def test_equals_direct_counts_whichever_classes_are_present(seed, cells, classes, bits):
    p, y = case(seed, cells, classes, bits)
    y[:2] = [0, 1]
    metrics = classification_metrics(p, y, names(classes))
    expected = by_hand(p, y, classes)
    for c, name in enumerate(names(classes)):
        absent = {"n": 0, "sensitivity": None, "specificity": None, "precision": None, "f1": None, "auc": None}
        assert metrics["per_class"][name] == pytest.approx(expected.get(c, absent), abs=1e-12)
    for name in MACRO[2:]:
        mean = np.mean([figures[name] for figures in expected.values()])
        assert metrics[name] == pytest.approx(mean, abs=1e-12)
    assert all(0 <= metrics[name] <= 1 for name in MACRO)
    assert sum(map(sum, metrics["confusion_matrix"])) == cells
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(3, 60), st.integers(2, 6), st.sampled_from([None, 0, 1, 3]), st.booleans())
def test_equals_scikit_learn_whichever_classes_are_present(seed, cells, classes, bits, missing):
    p, y = case(seed, cells, classes, bits)
    y = np.minimum(y, classes - 2) if missing and classes > 2 else y
    y[:2] = [0, 1]
    here, predicted = np.unique(y), p.argmax(1)
    metrics = classification_metrics(p, y, names(classes))
    averaged = {"labels": here, "average": "macro", "zero_division": 0}
    expected = {
        "accuracy": accuracy_score(y, predicted),
        "balanced_accuracy": recall_score(y, predicted, **averaged),
        "sensitivity": recall_score(y, predicted, **averaged),
        "precision": precision_score(y, predicted, **averaged),
        "f1": f1_score(y, predicted, **averaged),
        "specificity": np.mean([recall_score(y != c, predicted != c) for c in here]),
        "auc": np.mean([roc_auc_score(y == c, p[:, c]) for c in here]),
    }
    assert {name: metrics[name] for name in MACRO} == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(2, 5))
def test_the_order_of_cells_does_not_matter(seed, cells, classes):
    p, y = case(seed, cells, classes, 2)
    order = np.random.default_rng(seed).permutation(cells)
    assert classification_metrics(p, y, names(classes)) == classification_metrics(p[order], y[order], names(classes))


def test_missing_class_is_left_out_but_its_predictions_count_as_errors():
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.2, 0.7], [0.1, 0.8, 0.1]])
    metrics = classification_metrics(p, [0, 0, 1], ["a", "b", "absent"])
    assert metrics["per_class"]["absent"] == {"n": 0, **dict.fromkeys(MACRO[2:])}
    assert metrics["sensitivity"] == pytest.approx((1 / 2 + 1) / 2)
    assert metrics["precision"] == 1.0
    assert metrics["confusion_matrix"][0] == [1, 0, 1]


def test_never_predicted_class_has_precision_0():
    metrics = classification_metrics([[0.9, 0.1], [0.8, 0.2]], [0, 1], ["a", "b"])
    assert metrics["per_class"]["b"]["precision"] == 0.0
    assert metrics["precision"] == pytest.approx(1 / 4)


def test_one_class_present_has_no_rest():
    metrics = classification_metrics([[0.9, 0.1], [0.2, 0.8]], [0, 0], ["a", "b"])
    assert metrics["auc"] is None
    assert metrics["specificity"] is None
    assert metrics["accuracy"] == metrics["sensitivity"] == 0.5
    assert metrics["per_class"]["a"]["auc"] is None


def test_ties_take_the_first_class_and_count_one_half():
    metrics = classification_metrics([[0.5, 0.5], [0.5, 0.5]], [0, 1], ["a", "b"])
    assert metrics["confusion_matrix"] == [[1, 0], [1, 0]]
    assert metrics["auc"] == 0.5


def test_the_smallest_difference_is_no_tie():
    above = np.nextafter(0.5, 1)
    assert classification_metrics([[above, 1 - above], [0.5, 0.5]], [0, 1], ["a", "b"])["auc"] == 1.0


def test_float32_probabilities_and_int32_labels():
    p, y = case(4, 50, 5)
    metrics = classification_metrics(p.astype(np.float32), y.astype(np.int32), names(5))
    assert metrics["f1"] == pytest.approx(classification_metrics(p, y, names(5))["f1"], abs=1e-6)


@pytest.mark.parametrize(
    ("p", "y", "classes", "message"),
    [
        ([[0.5, 0.5]], [0, 1], ["a", "b"], "shape"),
        ([[0.5, 0.5]], [0], ["a", "b", "c"], "3 classes"),
        ([0.5, 0.5], [0], ["a", "b"], "shape"),
        (np.empty((0, 2)), np.empty(0, int), ["a", "b"], "no cells"),
        ([[0.5, 0.5]], [2], ["a", "b"], "label 2 is outside 0 to 1"),
        ([[0.5, 0.5]], [-1], ["a", "b"], "label -1"),
        ([[0.5, 0.5]], [0.0], ["a", "b"], "integer"),
        ([[0.5, 0.5], [np.nan, 1]], [0, 0], ["a", "b"], "cell 1 are not finite"),
        ([[0.5, 0.5], [np.inf, 1]], [0, 0], ["a", "b"], "cell 1 are not finite"),
        ([[3.0, -2.0]], [0], ["a", "b"], "softmax"),
        ([[0.5, 0.6]], [0], ["a", "b"], "sum to 1.1"),
        ([[0.5, 0.5]], [0], ["a", "a"], "repeat"),
    ],
)
def test_bad_input_is_one_clear_line(p, y, classes, message):
    with pytest.raises(CytodistillError, match=message) as raised:
        classification_metrics(p, y, classes)
    assert "\n" not in str(raised.value)


def test_docstring_example_runs():
    result = doctest.testmod(cytodistill.metrics.classification)
    assert result.attempted
    assert not result.failed
