import numpy as np
import pytest
import torch

from cytodistill.distill.pkt import neighbours


def np_neighbours(features):
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    similarity = (unit @ unit.T + 1) / 2
    return similarity / similarity.sum(1, keepdims=True)


def test_neighbours(lesson, numbers):
    taught = lesson("pkt")
    ours, theirs = (
        np_neighbours(numbers(taught.outputs.features[-1])),
        np_neighbours(numbers(taught.teacher.features[-1])),
    )
    expected = 30000 * (theirs * np.log(theirs / ours)).mean()
    assert taught.values()["neighbours"] == pytest.approx(expected, rel=1e-4)


def test_opposite_and_silent_cells_stay_finite():
    features = torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 0.0]], requires_grad=True)
    logs = neighbours(features).log()
    assert torch.isfinite(logs).all()
    logs.sum().backward()
    assert torch.isfinite(features.grad).all()
