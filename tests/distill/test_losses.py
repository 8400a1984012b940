"""Every loss term against NumPy, written from the paper's equations."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from cytodistill.distill import Batch, CrossEntropy, build_method
from cytodistill.distill.divergence import soft_kl
from cytodistill.distill.self_distillation import feature_distance
from cytodistill.models.outputs import ExitOutputs, OutputShapes

B, C, D, EXITS, T = 5, 7, 11, 3, 3.0


def np_ce(z, y, weights=None):
    each = -log_softmax(z, 1)[np.arange(len(y)), y]
    return (each if weights is None else each * weights[y]).mean()


def np_kl(p_logits, q_logits, t):
    """t² · mean over the batch of Σ p ln(p/q)."""
    p, q = log_softmax(p_logits / t, 1), log_softmax(q_logits / t, 1)
    return t**2 * (np.exp(p) * (p - q)).sum(1).mean()


@pytest.fixture
def drawn():
    torch.manual_seed(3)
    logits = [torch.randn(B, C, requires_grad=True) for _ in range(EXITS)]
    features = [torch.randn(B, D, requires_grad=True) for _ in range(EXITS)]
    teacher = ExitOutputs([torch.randn(B, C, requires_grad=True)], [torch.randn(B, D, requires_grad=True)])
    labels = torch.randint(0, C, (B,))
    return ExitOutputs(logits, features), Batch(torch.zeros(B, 3, 8, 8), labels, torch.arange(B), teacher)


def arrays(outputs):
    return [z.detach().numpy() for z in outputs.logits], [f.detach().numpy() for f in outputs.features]


def build(name, **settings):
    return build_method(name, settings, CrossEntropy(), OutputShapes((D,) * EXITS))


@pytest.mark.parametrize("direction", ["teacher_student", "student_teacher"])
def test_soft_kl_in_both_directions(direction):
    s, t = torch.randn(4, 9), torch.randn(4, 9)
    expected = np_kl(t.numpy(), s.numpy(), 2.5) if direction == "teacher_student" else np_kl(s.numpy(), t.numpy(), 2.5)
    assert soft_kl(s, t, 2.5, direction).item() == pytest.approx(expected, rel=1e-5)


def test_supervised_is_the_deepest_cross_entropy(drawn):
    outputs, batch = drawn
    parts = build("supervised")(outputs, batch)
    assert parts["loss"].item() == pytest.approx(np_ce(arrays(outputs)[0][-1], batch.labels.numpy()), rel=1e-5)


def test_class_weights_and_label_smoothing():
    z, y = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 0, 1])
    w = torch.tensor([0.5, 1.0, 2.0])
    assert CrossEntropy(w)(z, y).item() == pytest.approx(np_ce(z.numpy(), y.numpy(), w.numpy()), rel=1e-5)
    smooth = 0.9 * np.eye(3)[y] + 0.1 / 3
    expected = -(smooth * log_softmax(z.numpy(), 1)).sum(1).mean()
    assert CrossEntropy(None, 0.1)(z, y).item() == pytest.approx(expected, rel=1e-5)


def test_kd(drawn):
    outputs, batch = drawn
    parts = build("kd", temperature=T, ce_weight=0.1, kd_weight=0.9)(outputs, batch)
    z, t = arrays(outputs)[0][-1], batch.teacher.logits[0].detach().numpy()
    expected = {"ce": 0.1 * np_ce(z, batch.labels.numpy()), "kd": 0.9 * np_kl(t, z, T)}
    for name, value in expected.items():
        assert parts[name].item() == pytest.approx(value, rel=1e-5)
    assert parts["loss"].item() == pytest.approx(sum(expected.values()), rel=1e-5)


def test_self_distillation_equals_equations_4_to_6_summed_literally(drawn):
    outputs, batch = drawn
    parts = build("self_distillation", temperature=T, feature_weight=0.03)(outputs, batch)
    logits, features = arrays(outputs)
    y, t = batch.labels.numpy(), batch.teacher.logits[0].detach().numpy()
    loss = 0.0
    for m in range(EXITS):
        loss_kd = np_kl(t, logits[m], T) + np_ce(logits[m], y) + np_ce(logits[-1], y)  # eq. 4
        loss_sd = np_kl(logits[-1], logits[m], T) + 0.03 * ((features[m] - features[-1]) ** 2).mean()  # eq. 5
        loss += loss_kd + loss_sd  # eq. 6
    assert parts["loss"].item() == pytest.approx(loss, rel=1e-5)
    # The deepest exit's cross-entropy stands in the sum n times, and once more as the m = n term's own.
    deepest = np_ce(logits[-1], y)
    assert parts["deepest_ce"].item() == pytest.approx(EXITS * deepest, rel=1e-5)
    own = sum(np_ce(z, y) for z in logits)
    assert parts["ce"].item() == pytest.approx(own, rel=1e-5)


def test_every_weight_scales_its_own_part(drawn):
    outputs, batch = drawn
    plain = build("self_distillation")(outputs, batch)
    named = {
        "kd_weight": "kd",
        "ce_weight": "ce",
        "deepest_ce_weight": "deepest_ce",
        "sd_weight": "sd",
        "feature_weight": "feature",
    }
    for setting, part in named.items():
        default = 0.03 if setting == "feature_weight" else 1.0
        scaled = build("self_distillation", **{setting: 2 * default})(outputs, batch)
        for name in named.values():
            factor = 2.0 if name == part else 1.0
            assert scaled[name].item() == pytest.approx(factor * plain[name].item(), rel=1e-5)


def test_teacher_free_mode_leaves_out_the_teachers_term_only(drawn):
    outputs, batch = drawn
    method = build("self_distillation")
    taught = method(outputs, batch)
    batch.teacher = None
    free = method(outputs, batch)
    assert "kd" not in free
    assert free["loss"].item() == pytest.approx((taught["loss"] - taught["kd"]).item(), rel=1e-5)


def test_no_gradient_reaches_a_teacher_and_deep_exits_are_not_pulled_to_shallow_ones(drawn):
    outputs, batch = drawn
    parts = build("self_distillation")(outputs, batch)
    (parts["sd"] + parts["feature"]).backward(retain_graph=True)
    assert outputs.logits[-1].grad is None
    assert outputs.features[-1].grad is None
    assert all(t.grad is not None for t in (*outputs.logits[:-1], *outputs.features[:-1]))
    parts["kd"].backward()
    assert batch.teacher.logits[0].grad is None
    assert all(z.grad is not None for z in outputs.logits)


def test_feature_reductions():
    d = torch.randn(6, 10)
    n = d.numpy().astype(np.float64)
    expected = {
        "mean_squared": (n**2).mean(),
        "squared_norm": (n**2).sum(1).mean(),
        "norm": np.sqrt((n**2).sum(1)).mean(),
        "batch_norm": np.sqrt((n**2).sum()),
    }
    for reduction, value in expected.items():
        assert feature_distance(d, reduction).item() == pytest.approx(value, rel=1e-5)
    # Only the one that is said to grow with the batch does.
    twice = torch.cat([d, d])
    for reduction in expected:
        ratio = feature_distance(twice, reduction) / feature_distance(d, reduction)
        assert ratio.item() == pytest.approx(2**0.5 if reduction == "batch_norm" else 1, rel=1e-5)


def test_adapters_are_trained_with_the_student(drawn):
    outputs, batch = drawn
    method = build("self_distillation", adapter="linear")
    assert sum(p.numel() for p in method.parameters()) == (EXITS - 1) * (D * D + D)
    method(outputs, batch)["feature"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())


def test_three_linear_512_adapters_have_the_published_count():
    method = build_method("self_distillation", {"adapter": "linear"}, CrossEntropy(), OutputShapes((512,) * 4))
    assert sum(p.numel() for p in method.parameters()) == 787_968
