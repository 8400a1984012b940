import numpy as np
import pytest
import torch

from cytodistill.distill.rkd import relations


def smooth_l1(a, b):
    d = np.abs(a - b)
    return np.where(d < 1, 0.5 * d**2, d - 0.5).mean()


def np_relations(features):
    cells = len(features)
    distances = np.array([[np.linalg.norm(a - b) for a in features] for b in features])
    cosines = np.zeros((cells,) * 3)
    for j in range(cells):
        for i in range(cells):
            for k in range(cells):
                if i != j != k:
                    a, b = features[i] - features[j], features[k] - features[j]
                    cosines[j, i, k] = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return distances / distances[distances > 0].mean(), cosines


def test_distances_and_angles(lesson, numbers):
    taught = lesson("rkd")
    distances, cosines = np_relations(numbers(taught.outputs.features[-1]))
    their_distances, their_cosines = np_relations(numbers(taught.teacher.features[-1]))
    parts = taught.values()
    assert parts["distance"] == pytest.approx(25 * smooth_l1(distances, their_distances), rel=1e-4)
    assert parts["angle"] == pytest.approx(50 * smooth_l1(cosines, their_cosines), rel=1e-4)
    own = lesson("rkd", distance_weight=1.0, angle_weight=2.0, weight=3.0).values()
    assert own["distance"] == pytest.approx(3 / 25 * parts["distance"], rel=1e-5)
    assert own["angle"] == pytest.approx(6 / 50 * parts["angle"], rel=1e-5)


@pytest.mark.parametrize("cells", [1, 2])
def test_one_or_two_cells_have_no_relations_to_learn(lesson, cells):
    taught = lesson("rkd", cells=cells)
    parts = taught.parts()
    assert parts["distance"].item() == pytest.approx(0, abs=1e-5)
    assert parts["angle"].item() == pytest.approx(0, abs=1e-5)
    parts["loss"].backward()
    assert torch.isfinite(taught.outputs.features[-1].grad).all()


def test_coincident_cells_have_finite_gradients():
    features = torch.randn(5, 11)
    features[3] = features[1]
    features.requires_grad_()
    distances, cosines = relations(features)
    assert distances[1, 3] == 0
    (distances.square().sum() + (cosines * torch.randn(5, 5, 5)).sum()).backward()
    assert torch.isfinite(features.grad).all()
    assert features.grad.abs().max() < 1e3


def test_scale_and_place_of_the_features_do_not_count():
    features = torch.randn(5, 11)
    for plain, moved in zip(relations(features), relations(40 * features + 3), strict=True):
        torch.testing.assert_close(plain, moved, rtol=1e-3, atol=1e-4)
