"""The composition that the feature methods share, on one of them: γ·CE + α·KD + β·term."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from cytodistill.distill import CrossEntropy, build_method
from cytodistill.distill.feature_method import matched, pooled_alike
from cytodistill.errors import CytodistillError
from cytodistill.models.outputs import OutputShapes


def test_loss_is_the_weighted_sum(lesson, numbers):
    plain = lesson("attention_transfer").values()
    assert set(plain) == {"loss", "ce", "attention"}  # α = 0: no KD
    assert plain["loss"] == pytest.approx(plain["ce"] + plain["attention"], rel=1e-6)
    taught = lesson("attention_transfer", weight=10.0, ce_weight=0.5, kd_weight=0.3, temperature=2.0)
    parts = taught.values()
    z, t = numbers(taught.outputs.logits[-1]), numbers(taught.teacher.logits[-1])
    ce = -log_softmax(z, 1)[np.arange(len(z)), taught.batch.labels.numpy()].mean()
    log_s, log_t = log_softmax(z / 2, 1), log_softmax(t / 2, 1)
    assert plain["ce"] == pytest.approx(ce, rel=1e-5)
    assert parts["ce"] == pytest.approx(0.5 * ce, rel=1e-5)
    assert parts["kd"] == pytest.approx(0.3 * 4 * (np.exp(log_t) * (log_t - log_s)).sum(1).mean(), rel=1e-5)
    assert parts["attention"] == pytest.approx(plain["attention"] / 100, rel=1e-5)
    assert parts["loss"] == pytest.approx(sum(v for name, v in parts.items() if name != "loss"), rel=1e-6)


def test_stages_are_paired_from_the_deepest():
    assert matched([1, 2, 3], "abcd") == [(1, "b"), (2, "c"), (3, "d")]
    assert matched([1, 2, 3], "a") == [(3, "a")]
    assert matched([1], "ab") == [(1, "b")]


def test_the_larger_map_is_pooled_to_the_smaller(average_pool, numbers):
    ours, theirs = torch.randn(2, 3, 7, 2), torch.randn(2, 4, 3, 5)
    pooled = pooled_alike(ours, theirs)
    assert [tuple(part.shape) for part in pooled] == [(2, 3, 3, 2), (2, 4, 3, 2)]
    for part, whole in zip(pooled, (ours, theirs), strict=True):
        np.testing.assert_allclose(part.numpy(), average_pool(numbers(whole), (3, 2)), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_maps_that_are_missing_are_named(whose):
    shapes = {"student": OutputShapes((8,), ((2, 4, 4),)), "teacher": OutputShapes((8,), ((2, 4, 4),))}
    shapes[whose] = OutputShapes((8,))
    with pytest.raises(CytodistillError, match=f"compares stage maps, and the {whose} shows none"):
        build_method("similarity", {}, CrossEntropy(), **shapes)
