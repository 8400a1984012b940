"""Heads against scikit-learn and against the formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from cytodistill.estimators.graph import GraphHead, cluster_graph, fit_graph
from cytodistill.estimators.heads import fit_head, restore_head
from cytodistill.estimators.numbers import Sample
from cytodistill.estimators.perceptron import fit_perceptron
from cytodistill.estimators.svm import fit_svm
from cytodistill.recipe import Recipe


def cells(classes: int = 4, seed: int = 0) -> tuple[Sample, Sample]:
    """Training and validation cells of noisy features."""
    features, labels = make_classification(
        240, 20, n_informative=8, n_classes=classes, n_clusters_per_class=1, class_sep=1.0, random_state=seed
    )
    features = ((features - features.mean(0)) / features.std(0)).astype(np.float32)
    return Sample(features[:160], labels[:160]), Sample(features[160:], labels[160:])


def decisions(head: torch.nn.Module, sample: Sample) -> np.ndarray:
    return head(torch.from_numpy(sample.features)).numpy()


@pytest.mark.parametrize(("kernel", "gamma"), [("rbf", "scale"), ("rbf", 0.07), ("linear", "scale")])
def test_svm_has_scikit_learns_decision_values(kernel, gamma):
    train, val = cells()
    head = fit_svm(train, 4, kernel, 2.0, 0.0 if gamma == "scale" else gamma)
    reference = OneVsRestClassifier(SVC(C=2.0, kernel=kernel, gamma=gamma)).fit(train.features, train.labels)
    np.testing.assert_allclose(decisions(head, val), reference.decision_function(val.features), atol=1e-5)
    np.testing.assert_array_equal(decisions(head, val).argmax(1), reference.predict(val.features))


def test_svm_of_two_classes_has_two_opposite_machines():
    train, val = cells(2)
    found = decisions(fit_svm(train, 2, "rbf", 1.0, 0.0), val)
    reference = SVC(C=1.0, gamma="scale").fit(train.features, train.labels).decision_function(val.features)
    np.testing.assert_allclose(found[:, 1], reference, atol=1e-5)
    # The solver stops at a tolerance of 1e-3, for a machine and its mirror image at slightly different places.
    np.testing.assert_allclose(found[:, 0], -reference, atol=5e-3)


@pytest.mark.parametrize("classes", [2, 3])
def test_perceptron_has_scikit_learns_probabilities(classes):
    train, val = cells(classes)
    head = fit_perceptron(train, classes, hidden=16, epochs=40, seed=3)
    with pytest.warns(ConvergenceWarning):
        reference = MLPClassifier((16,), max_iter=40, random_state=3).fit(train.features, train.labels)
    found = torch.from_numpy(decisions(head, val)).softmax(1).numpy()
    np.testing.assert_allclose(found, reference.predict_proba(val.features), atol=1e-5)


def test_cluster_graph_is_what_the_docstring_says():
    nodes = np.random.default_rng(0).normal(size=(9, 3))
    found, width = cluster_graph(nodes, 2)
    distance = np.array([[((a - b) ** 2).sum() for b in nodes] for a in nodes])
    nearest = [sorted((d, j) for j, d in enumerate(row) if j != i)[:2] for i, row in enumerate(distance)]
    assert width == pytest.approx(np.mean([d for row in nearest for d, _ in row]))
    expected = np.eye(9)
    for i, row in enumerate(nearest):
        for d, j in row:
            expected[i, j] = expected[j, i] = np.exp(-d / width)
    degree = expected.sum(1)
    np.testing.assert_allclose(found, expected / np.sqrt(np.outer(degree, degree)))
    assert (found > 0).sum() < 81  # not everything is linked
    assert np.linalg.eigvalsh(found).max() == pytest.approx(1)


def test_graph_head_is_its_formula():
    train, val = cells(3)
    head, _ = fit_graph(train, val, 3, clusters=7, neighbours=2, hidden=5, epochs=4, seed=0)
    part = {name: values.numpy().astype(np.float64) for name, values in head.state_dict().items()}
    nodes = part["adjacency"] @ np.maximum(part["adjacency"] @ part["centroids"] @ part["first"], 0) @ part["second"]
    expected = []
    for x in val.features:
        near = np.exp(-((x - part["centroids"]) ** 2).sum(1) / part["width"])
        reading = (near / near.sum()) @ nodes
        expected.append(part["weight"] @ np.concatenate([x, reading]) + part["bias"])
    np.testing.assert_allclose(decisions(head, val), expected, atol=1e-4)


def test_graph_is_trained_through_both_convolutions_and_keeps_the_best_epoch():
    train, val = cells(3)
    settings = {"clusters": 8, "neighbours": 3, "hidden": 16, "seed": 1}
    short, _ = fit_graph(train, val, 3, epochs=1, **settings)
    head, epoch = fit_graph(train, val, 3, epochs=60, **settings)
    for name in ("first", "second", "weight", "bias"):
        assert not torch.equal(getattr(head, name), getattr(short, name))
    for name in ("centroids", "adjacency", "width"):
        assert torch.equal(getattr(head, name), getattr(short, name))
    assert (decisions(head, val).argmax(1) == val.labels).mean() > 0.7

    def loss(head: GraphHead) -> float:
        labels = torch.from_numpy(val.labels)
        return float(torch.nn.functional.cross_entropy(torch.from_numpy(decisions(head, val)), labels))

    again, kept = fit_graph(train, val, 3, epochs=epoch + 1, **settings)
    assert (kept, loss(again)) == (epoch, loss(head))
    assert all(loss(head) <= loss(fit_graph(train, val, 3, epochs=n, **settings)[0]) + 1e-9 for n in (2, 20, 60))
    last, kept = fit_graph(train, Sample(val.features[:0], val.labels[:0]), 3, epochs=60, **settings)
    assert kept == 59
    assert not torch.equal(last.weight, head.weight) or epoch == 59


@pytest.mark.parametrize(
    "settings",
    [
        {"head": "svm"},
        {"head": "svm", "kernel": "linear"},
        {"head": "mlp", "hidden": 8, "epochs": 5},
        {"head": "gcn", "clusters": 5, "neighbours": 2, "hidden": 8, "epochs": 5},
    ],
)
def test_every_head_is_deterministic_and_restored_from_its_state(settings):
    train, val = cells()
    chosen = Recipe().override({f"estimator.{key}": value for key, value in settings.items()}).estimator
    head, _ = fit_head(chosen, train, val, 4, seed=5)
    again, _ = fit_head(chosen, train, val, 4, seed=5)
    restored = restore_head(chosen, head.state_dict())
    np.testing.assert_array_equal(decisions(again, val), decisions(head, val))
    np.testing.assert_array_equal(decisions(restored, val), decisions(head, val))
