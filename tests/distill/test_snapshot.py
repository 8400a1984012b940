import numpy as np
import pytest
import torch

from cytodistill.distill import CrossEntropy, method_class


def log_softmax(logits):
    shifted = logits - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def cross_entropy(logits, labels):
    return -log_softmax(logits)[np.arange(len(labels)), labels].mean()


def test_the_first_cycle_is_plain_cross_entropy(lesson, numbers):
    given = lesson("snapshot", ce_weight=7.0)
    given.batch.teacher = None
    parts = given.values()
    assert set(parts) == {"loss", "ce"}
    expected = cross_entropy(numbers(given.outputs.logits[-1]), given.batch.labels.numpy())
    assert parts["loss"] == parts["ce"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "tau", "own_tau", "ce_weight", "kd_weight"),
    [
        ({}, 2, 1, 1.5, 1),
        ({"temperature": 5.0}, 5, 1, 1.2, 1),
        ({"ce_weight": 0.0, "kd_weight": 0.3, "student_temperature": 3.0}, 2, 3, 0, 0.3),
    ],
)
def test_later_cycles_learn_from_the_softened_teacher(lesson, numbers, settings, tau, own_tau, ce_weight, kd_weight):
    given = lesson("snapshot", **settings)
    student = log_softmax(numbers(given.outputs.logits[-1]) / own_tau)
    teacher = log_softmax(numbers(given.teacher.logits[-1]) / tau)
    ce = ce_weight * cross_entropy(numbers(given.outputs.logits[-1]), given.batch.labels.numpy())
    kd = kd_weight * (np.exp(teacher) * (teacher - student)).sum(1).mean()
    assert given.values() == pytest.approx({"loss": ce + kd, "ce": ce, "kd": kd}, rel=1e-5)


def test_alike_temperatures_make_it_kd(lesson):
    given = lesson("snapshot", temperature=3.0, student_temperature=3.0, ce_weight=1.0, kd_weight=9.0)
    assert given.values() == pytest.approx(lesson("kd", temperature=3.0).values(), rel=1e-5)


def test_the_gradient_is_that_of_the_formula_and_reaches_the_student_alone(lesson, numbers):
    given = lesson("snapshot", cells=1)
    given.parts()["kd"].backward()
    expected = np.exp(log_softmax(numbers(given.outputs.logits[-1])))
    expected -= np.exp(log_softmax(numbers(given.teacher.logits[-1]) / 2))  # s − t, whatever τ
    np.testing.assert_allclose(numbers(given.outputs.logits[-1].grad), expected, atol=1e-6)
    assert all(tensor.grad is None for tensor in given.teacher.logits)
    assert not list(given.method.parameters())


def test_class_weights_count_in_every_cycle(lesson):
    weights = torch.tensor([0.5, 2.0, 1.0, 3.0, 0.1, 1.0, 0.0])
    for taught in (False, True):
        plain, weighted = lesson("snapshot"), lesson("snapshot")
        weighted.method.cross_entropy = CrossEntropy(weights)
        if not taught:
            plain.batch.teacher = weighted.batch.teacher = None
        factor = 1.5 if taught else 1.0
        expected = factor * CrossEntropy(weights)(plain.outputs.logits[-1], plain.batch.labels).item()
        assert weighted.values()["ce"] == pytest.approx(expected, rel=1e-6)
        assert weighted.values()["ce"] != pytest.approx(plain.values()["ce"], rel=1e-2)


def test_half_precision_answers_are_compared_in_single(lesson):
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        given = lesson("snapshot")
        for outputs in (given.outputs, given.teacher):
            outputs.logits[:] = [logits.detach().bfloat16().to(dtype) for logits in outputs.logits]
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            parts = given.parts()
        assert {value.dtype for value in parts.values()} == {torch.float32}
        found.append(given.values())
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_it_wants_its_own_snapshots_and_no_teacher():
    assert method_class("snapshot").needs == {"snapshot"}
    assert not method_class("snapshot").trains_every_exit
