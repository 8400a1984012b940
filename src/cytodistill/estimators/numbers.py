"""Modules that are a few tensors and a formula, and the two that every estimator has: standardiser and temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F

TEMPERATURES = 0.1, 10.0
"""Bounds of a fitted temperature: on a validation split without an error the likelihood has no best one."""


@dataclass(frozen=True)
class Sample:
    """Standardised features (n, D) float32 of some cells, and their labels (n,)."""

    features: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


class Numbers(nn.Module):
    """Built from its named tensors, whether they were fitted just now or read from a file; none of them is trained.

    A subclass annotates its tensors: ``Tensor``, or ``Tensor | None`` for one that may be left out. Raises RuntimeError
    where others are given, as torch does for a state of another network.
    """

    def __init__(self, **numbers: Any) -> None:
        super().__init__()
        kinds = type(self).__annotations__
        wrong = (numbers.keys() - kinds.keys()) | {n for n, kind in kinds.items() if kind == "Tensor"} - numbers.keys()
        if wrong:
            raise RuntimeError(f"{type(self).__name__}: {', '.join(sorted(wrong))} missing or unexpected")
        for name, values in numbers.items():
            tensor = values.clone() if isinstance(values, Tensor) else torch.from_numpy(np.array(values, np.float32))
            self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))


class Standard(Numbers):
    """(x − mean) / deviation over the training cells and, where principal components are kept, P x + offset of
    that: (B, F) → (B, D)."""

    mean: Tensor
    deviation: Tensor
    components: Tensor | None
    offset: Tensor | None

    def forward(self, features: Tensor) -> Tensor:
        scaled = (features - self.mean) / self.deviation
        components = getattr(self, "components", None)
        return scaled if components is None else F.linear(scaled, components, self.offset)


class Temperature(Numbers):
    """(B, C) decision values divided by a number, which changes how sure an answer is and never the answer."""

    value: Tensor

    def forward(self, decisions: Tensor) -> Tensor:
        return decisions / self.value


def fit_standard(features: np.ndarray, components: int) -> Standard:
    """Standardiser of (n, F) training features; ``components`` 0 keeps all of them."""
    scaler = StandardScaler().fit(features.astype(np.float64))
    numbers = {"mean": scaler.mean_, "deviation": scaler.scale_}
    if components:
        pca = PCA(components, svd_solver="full").fit(scaler.transform(features.astype(np.float64)))
        numbers |= {"components": pca.components_, "offset": -pca.components_ @ pca.mean_}
    return Standard(**numbers)


def fit_temperature(decisions: np.ndarray, labels: np.ndarray) -> Temperature:
    """Temperature T of the highest likelihood of softmax(decisions / T) of (n, C) decision values (Guo et al. 2017); 1
    without cells."""
    if not len(labels):
        return Temperature(value=1.0)

    def loss(logarithm: float) -> float:
        soft = log_softmax(decisions.astype(np.float64) / np.exp(logarithm), axis=1)
        return -float(soft[np.arange(len(labels)), labels].mean())

    best = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return Temperature(value=np.exp(best.x))
