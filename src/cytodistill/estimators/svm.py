"""Support vector machines (Cortes and Vapnik 1995), one a class against all others."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.svm import SVC
from torch import Tensor
from torch.nn import functional as F

from cytodistill.estimators.numbers import Numbers, Sample


class LinearHead(Numbers):
    """d(x) = W x + b: (B, D) → (B, C)."""

    weight: Tensor
    bias: Tensor

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight, self.bias)


class KernelHead(Numbers):
    """d_c(x) = Σ_i α_ci exp(−γ ‖x − s_i‖²) + b_c over the support vectors s of all C machines: (B, D) → (B, C)."""

    support: Tensor
    dual: Tensor
    bias: Tensor
    gamma: Tensor

    def forward(self, features: Tensor) -> Tensor:
        kernel = torch.exp(-self.gamma * squared_distances(features, self.support))
        return F.linear(kernel, self.dual, self.bias)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(N, M) squared distances between the rows of (N, D) and (M, D)."""
    return (a.square().sum(1, keepdim=True) + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)


def fit_svm(train: Sample, classes: int, kernel: str, c: float, gamma: float) -> LinearHead | KernelHead:
    """Machines fitted by scikit-learn on cells of every class.

    Args:
        train: the cells.
        classes: C.
        kernel: "rbf" or "linear".
        c: price of an error, against the margin's width.
        gamma: of the kernel; 0 is 1 / (D · variance of the features), scikit-learn's "scale".
    """
    features = train.features.astype(np.float64)
    gamma = gamma or 1 / (features.shape[1] * (features.var() or 1.0))
    machines = [SVC(C=c, kernel=kernel, gamma=gamma).fit(features, train.labels == code) for code in range(classes)]
    bias = [machine.intercept_[0] for machine in machines]
    if kernel == "linear":
        return LinearHead(weight=np.concatenate([machine.coef_ for machine in machines]), bias=bias)
    used = np.unique(np.concatenate([machine.support_ for machine in machines]))
    dual = np.zeros((classes, len(used)))
    for row, machine in zip(dual, machines, strict=True):
        row[np.searchsorted(used, machine.support_)] = machine.dual_coef_[0]
    return KernelHead(support=features[used], dual=dual, bias=bias, gamma=gamma)
