from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from cytodistill.estimators.numbers import Standard, fit_standard, fit_temperature


@pytest.fixture
def features() -> np.ndarray:
    draw = np.random.default_rng(0)
    return (draw.normal(size=(60, 12)) @ draw.normal(size=(12, 12)) * 50 + 200).astype(np.float32)


@pytest.mark.parametrize("components", [0, 5])
def test_standardiser_is_scikit_learns(features, components):
    expected = StandardScaler().fit_transform(features.astype(np.float64))
    if components:
        expected = PCA(components, svd_solver="full").fit_transform(expected)
    found = fit_standard(features, components)(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_constant_feature_stays_finite(features):
    features[:, 3] = 7
    found = fit_standard(features, 0)(torch.from_numpy(features)).numpy()
    assert (found[:, 3] == 0).all()


def test_numbers_are_built_again_from_their_state(features):
    fitted = fit_standard(features, 4)
    again = Standard(**fitted.state_dict())
    assert torch.equal(again(torch.from_numpy(features)), fitted(torch.from_numpy(features)))
    assert not any(parameter.requires_grad for parameter in again.parameters())


@pytest.mark.parametrize("true", [0.3, 2.5])
def test_the_temperature_that_made_the_labels_is_found(true):
    draw = np.random.default_rng(1)
    decisions = draw.normal(0, 2, (4000, 4))
    soft = np.exp(log_softmax(decisions / true, axis=1))
    labels = np.array([draw.choice(4, p=row) for row in soft])
    found = float(fit_temperature(decisions, labels).value)
    assert found == pytest.approx(true, rel=0.1)

    def likelihood(temperature: float) -> float:
        return log_softmax(decisions / temperature, axis=1)[np.arange(4000), labels].mean()

    assert likelihood(found) >= max(likelihood(found * 1.05), likelihood(found / 1.05))


def test_without_an_error_or_without_cells_the_temperature_is_bounded():
    labels = np.arange(40) % 3
    assert float(fit_temperature(np.eye(3)[labels] * 2.0, labels).value) == pytest.approx(0.1, rel=0.01)
    assert float(fit_temperature(np.zeros((0, 3)), labels[:0]).value) == 1


def test_the_temperature_leaves_the_answer():
    decisions = torch.randn(50, 5)
    temperature = fit_temperature(decisions.numpy(), np.arange(50) % 5)
    assert torch.equal(temperature(decisions).argmax(1), decisions.argmax(1))
