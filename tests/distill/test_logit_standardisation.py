import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from cytodistill.distill.logit_standardisation import z_scores


def test_kd_of_z_scores(lesson, numbers):
    taught = lesson("logit_standardisation")
    log_s, log_t = (
        log_softmax((z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True) / 2, 1)
        for z in (numbers(taught.outputs.logits[-1]), numbers(taught.teacher.logits[-1]))
    )
    parts = taught.values()
    assert parts["kd"] == pytest.approx(9 * 4 * (np.exp(log_t) * (log_t - log_s)).sum(1).mean(), rel=1e-4)
    z, labels = numbers(taught.outputs.logits[-1]), taught.batch.labels.numpy()
    assert parts["ce"] == pytest.approx(0.1 * -log_softmax(z, 1)[np.arange(len(z)), labels].mean(), rel=1e-5)


def test_scale_and_shift_of_either_do_not_count(lesson):
    taught = lesson("logit_standardisation")
    before = taught.values()["kd"]
    taught.teacher.logits[-1] = 5 * taught.teacher.logits[-1] + 2
    taught.outputs.logits[-1] = 0.1 * taught.outputs.logits[-1] - 1
    assert taught.values()["kd"] == pytest.approx(before, rel=1e-4)


def test_logits_that_are_all_alike_get_no_gradient():
    logits = torch.zeros(2, 5, requires_grad=True)
    z_scores(logits).square().sum().backward()
    assert not logits.grad.any()
