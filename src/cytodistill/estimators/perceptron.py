"""Multilayer perceptron of one hidden layer."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch import Tensor
from torch.nn import functional as F

from cytodistill.estimators.numbers import Numbers, Sample


class PerceptronHead(Numbers):
    """W₂ ReLU(W₁ x + b₁) + b₂: (B, D) → (B, C)."""

    hidden_weight: Tensor
    hidden_bias: Tensor
    weight: Tensor
    bias: Tensor

    def forward(self, features: Tensor) -> Tensor:
        hidden = F.linear(features, self.hidden_weight, self.hidden_bias).relu()
        return F.linear(hidden, self.weight, self.bias)


def fit_perceptron(train: Sample, classes: int, hidden: int, epochs: int, seed: int) -> PerceptronHead:
    """Perceptron trained by scikit-learn on cells of every class: Adam on the cross-entropy with its own rate (0.001),
    weight decay (1e-4) and batches (200), for at most ``epochs``; it stops where the loss no longer falls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the epochs are a budget
        network = MLPClassifier((hidden,), max_iter=epochs, random_state=seed).fit(train.features, train.labels)
    (first, second), (hidden_bias, bias) = network.coefs_, network.intercepts_
    if classes == 2:  # scikit-learn has one logistic unit z then, which is the softmax of (0, z)
        second, bias = np.pad(second, ((0, 0), (1, 0))), np.pad(bias, (1, 0))
    return PerceptronHead(hidden_weight=first.T, hidden_bias=hidden_bias, weight=second.T, bias=bias)
