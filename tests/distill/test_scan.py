"""SCAN's loss against NumPy, written from its formula."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from cytodistill.distill import Batch, CrossEntropy, build_method
from cytodistill.distill.divergence import soft_kl
from cytodistill.distill.scan import soft_cross_entropy
from cytodistill.errors import CytodistillError
from cytodistill.models.outputs import ExitOutputs, OutputShapes

EXITS = OutputShapes((11, 11, 11))


def np_ce(z, y):
    return -log_softmax(z, 1)[np.arange(len(y)), y].mean()


def np_soft_ce(z, teacher, t):
    return -(softmax(teacher / t, 1) * log_softmax(z / t, 1)).sum(1).mean()


@pytest.mark.parametrize("cells", [1, 5])
@pytest.mark.parametrize("reduction", ["squared_norm", "batch_sum"])
def test_every_part_is_its_formula(lesson, numbers, cells, reduction):
    settings = {"feature_weight": 0.3, "feature_reduction": reduction}
    taught = lesson("scan", student=EXITS, cells=cells, **settings)
    z, f = [numbers(x) for x in taught.outputs.logits], [numbers(x) for x in taught.outputs.features]
    y = taught.batch.labels.numpy()
    squares = [((f[m] - f[2]) ** 2).sum() / (1 if reduction == "batch_sum" else cells) for m in (0, 1)]
    expected = {
        "deepest_ce": np_ce(z[2], y),
        "shallow_ce": 0.5 * (np_ce(z[0], y) + np_ce(z[1], y)),
        "sd": 0.5 * 9 * (np_soft_ce(z[0], z[2], 3) + np_soft_ce(z[1], z[2], 3)),
        "feature": 0.3 * sum(squares),
    }
    parts = taught.values()
    assert parts == pytest.approx({**expected, "loss": sum(expected.values())}, rel=1e-5)


def test_default_feature_term_is_the_published_one_at_a_batch_of_128(lesson):
    default = lesson("scan", student=EXITS, cells=128).values()
    published = {"feature_weight": 5e-7, "feature_reduction": "batch_sum"}
    assert default == pytest.approx(lesson("scan", student=EXITS, cells=128, **published).values(), rel=1e-5)


def test_a_batch_twice_over_has_the_same_loss(lesson):
    taught = lesson("scan", student=EXITS)
    once = taught.values()
    for part in (taught.outputs.logits, taught.outputs.features):
        part[:] = [torch.cat([x, x]) for x in part]
    taught.batch.labels = torch.cat([taught.batch.labels] * 2)
    assert taught.values() == pytest.approx(once, rel=1e-5)


def test_every_weight_and_the_temperature_act_on_their_own_part(lesson):
    plain = lesson("scan", student=EXITS).values()
    for setting, part, default in (
        ("deepest_ce_weight", "deepest_ce", 1.0),
        ("shallow_ce_weight", "shallow_ce", 0.5),
        ("sd_weight", "sd", 0.5),
        ("feature_weight", "feature", 6.4e-5),
    ):
        scaled = lesson("scan", student=EXITS, **{setting: 3 * default}).values()
        for name, value in plain.items():
            if name != "loss":
                assert scaled[name] == pytest.approx(value * (3 if name == part else 1), rel=1e-5)
    hotter = lesson("scan", student=EXITS, temperature=6.0).values()
    assert {name for name in plain if hotter[name] != plain[name]} == {"loss", "sd"}


def test_soft_cross_entropy_has_the_gradient_of_the_divergence():
    student, teacher = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7)
    (of_ce,) = torch.autograd.grad(soft_cross_entropy(student, teacher, 3.0), student)
    (of_kl,) = torch.autograd.grad(soft_kl(student, teacher, 3.0), student)
    torch.testing.assert_close(of_ce, of_kl)


def test_the_deepest_exit_learns_from_its_cross_entropy_alone(lesson):
    taught = lesson("scan", student=EXITS)
    deepest = taught.outputs.logits[-1]
    taught.parts()["loss"].backward()
    (alone,) = torch.autograd.grad(torch.nn.functional.cross_entropy(deepest, taught.batch.labels), deepest)
    torch.testing.assert_close(deepest.grad, alone)
    assert taught.outputs.features[-1].grad is None
    assert all(x.grad.any() for x in (*taught.outputs.logits[:-1], *taught.outputs.features[:-1]))
    assert all(x.grad is None for x in (*taught.teacher.logits, *taught.teacher.features))


def test_a_confident_batch_of_one_in_half_precision_is_finite():
    method = build_method("scan", {}, CrossEntropy(), OutputShapes((4, 4)))
    logits = [torch.tensor([[90.0, -90.0]], dtype=torch.bfloat16, requires_grad=True) for _ in range(2)]
    features = [torch.zeros(1, 4, dtype=torch.bfloat16, requires_grad=True) for _ in range(2)]
    batch = Batch(torch.zeros(1, 3, 8, 8), torch.tensor([1]), torch.tensor([0]))
    parts = method(ExitOutputs(logits, features), batch)
    assert all(part.dtype == torch.float32 for part in parts.values())
    parts["loss"].backward()
    assert all(torch.isfinite(x.grad).all() for x in (*logits, features[0]))


def test_features_of_different_widths_are_refused_unless_they_are_not_compared(lesson):
    widths = OutputShapes((8, 11))
    with pytest.raises(CytodistillError, match=r"\(8, 11\) wide .*set method.feature_weight=0"):
        build_method("scan", {}, CrossEntropy(), widths)
    assert "feature" not in lesson("scan", student=widths, feature_weight=0).values()
    with pytest.raises(CytodistillError, match="has one exit"):
        build_method("scan", {}, CrossEntropy(), OutputShapes((8,)))
