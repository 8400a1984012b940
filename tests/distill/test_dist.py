import numpy as np
import pytest
import torch
from scipy.special import softmax

from cytodistill.distill.dist import decorrelation


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_relations(lesson, numbers, temperature):
    taught = lesson("dist", temperature=temperature, inter_weight=2.0, intra_weight=3.0)
    s, t = (softmax(numbers(o.logits[-1]) / temperature, 1) for o in (taught.outputs, taught.teacher))
    rows = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(s, t, strict=True)])
    columns = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(s.T, t.T, strict=True)])
    parts = taught.values()
    assert parts["inter"] == pytest.approx(2 * temperature**2 * rows, rel=1e-4)
    assert parts["intra"] == pytest.approx(3 * temperature**2 * columns, rel=1e-4)


def test_one_cell_has_classes_to_relate_and_no_cells(lesson):
    parts = lesson("dist", cells=1).values()
    assert parts["inter"] > 0
    assert parts["intra"] == 0


def test_what_is_constant_gets_no_gradient():
    flat = torch.full((2, 5), 0.2, requires_grad=True)
    varied = torch.randn(2, 5).softmax(1)
    loss = decorrelation(flat, varied, 1)
    loss.backward()
    assert loss.item() == pytest.approx(0.5)
    assert not flat.grad.any()
    assert decorrelation(flat, flat, 1).item() == 0
