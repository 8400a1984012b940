"""The heads by name: fitted on features, or built again from their tensors."""

from __future__ import annotations

from torch import Tensor

from cytodistill.estimators.graph import GraphHead, fit_graph
from cytodistill.estimators.numbers import Numbers, Sample
from cytodistill.estimators.perceptron import PerceptronHead, fit_perceptron
from cytodistill.estimators.svm import KernelHead, LinearHead, fit_svm
from cytodistill.recipe import Estimator


def fit_head(settings: Estimator, train: Sample, val: Sample, classes: int, seed: int) -> tuple[Numbers, int]:
    """Head of the settings, fitted on training cells of every class, and the epoch that it is of (0 where it has none).
    Of the heads the graph alone looks at ``val``, to choose its epoch."""
    if settings.head == "svm":
        return fit_svm(train, classes, settings.kernel, settings.c, settings.gamma), 0
    if settings.head == "mlp":
        return fit_perceptron(train, classes, settings.hidden, settings.epochs, seed), 0
    return fit_graph(
        train,
        val,
        classes,
        clusters=settings.clusters,
        neighbours=settings.neighbours,
        hidden=settings.hidden,
        epochs=settings.epochs,
        seed=seed,
    )


def restore_head(settings: Estimator, numbers: dict[str, Tensor]) -> Numbers:
    """Head of the settings from the tensors of a fitted one."""
    machine = LinearHead if settings.kernel == "linear" else KernelHead
    kinds: dict[str, type[Numbers]] = {"svm": machine, "mlp": PerceptronHead, "gcn": GraphHead}
    return kinds[settings.head](**numbers)
