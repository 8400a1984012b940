import numpy as np
import pytest
import torch

from cytodistill.distill import CrossEntropy, build_method
from cytodistill.distill.fitnet import Regressor
from cytodistill.errors import CytodistillError
from cytodistill.models.outputs import OutputShapes


def strided(x, kernel):
    """3×3 convolution, stride 2, a border of one zero: written out."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    high, wide = x.shape[2] // 2, x.shape[3] // 2
    out = np.zeros((len(x), len(kernel), high, wide))
    for i in range(high):
        for j in range(wide):
            out[:, :, i, j] = np.einsum("bcyx,ocyx->bo", padded[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3], kernel)
    return out


def transposed(x, kernel):
    """4×4 transposed convolution, stride 2: each place spreads the kernel, then a border of one is cut off."""
    high, wide = x.shape[2:]
    out = np.zeros((len(x), kernel.shape[1], 2 * high + 2, 2 * wide + 2))
    for i in range(high):
        for j in range(wide):
            out[:, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum("bc,coyx->boyx", x[:, :, i, j], kernel)
    return out[:, :, 1:-1, 1:-1]


def pointwise(x, kernel):
    return np.einsum("bchw,oc->bohw", x, kernel[:, :, 0, 0])


def normalised(x):
    mean, variance = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5)


@pytest.mark.parametrize(("stage", "convolve"), [(1, transposed), (2, pointwise), (3, pointwise)])
@pytest.mark.parametrize("relu", [True, False])
def test_hint(lesson, numbers, stages, stage, convolve, relu):
    taught = lesson("fitnet", hint_stage=stage, relu=relu)
    ours, theirs = stages(taught)[stage - 1]
    if stage == 1:  # a stage that the regressor resizes is not pooled
        ours, theirs = numbers(taught.outputs.maps[0]), numbers(taught.teacher.maps[1])
    regressed = normalised(convolve(ours, numbers(taught.method.regressor.convolution.weight)))
    regressed = np.maximum(regressed, 0) if relu else regressed
    assert regressed.shape == theirs.shape
    assert taught.values()["hint"] == pytest.approx(100 * ((regressed - theirs) ** 2).mean(), rel=1e-4)


def test_a_student_twice_as_large_is_strided(lesson, numbers):
    shapes = OutputShapes((11,), ((3, 10, 14),)), OutputShapes((13,), ((4, 5, 7),))
    taught = lesson("fitnet", *shapes, hint_stage=1)
    kernel = numbers(taught.method.regressor.convolution.weight)
    regressed = np.maximum(normalised(strided(numbers(taught.outputs.maps[0]), kernel)), 0)
    expected = 100 * ((regressed - numbers(taught.teacher.maps[0])) ** 2).mean()
    assert taught.values()["hint"] == pytest.approx(expected, rel=1e-4)


def test_only_the_hint_stage_gets_gradients(lesson):
    taught = lesson("fitnet")
    taught.parts()["hint"].backward()
    assert [maps.grad is not None for maps in taught.outputs.maps] == [False, True, False]


@pytest.mark.parametrize("side", [1, 2])
def test_one_cell_with_one_value_a_channel(side):
    regressor = Regressor((3, side, side), (4, 1, 1))
    ours, _ = regressor(torch.randn(1, 3, side, side), torch.randn(1, 4, 1, 1))
    ours.sum().backward()
    assert ours.shape == (1, 4, 1, 1)
    assert all(torch.isfinite(p.grad).all() for p in regressor.parameters())


def test_a_stage_that_is_not_shared_is_named():
    shapes = OutputShapes((8,), ((2, 4, 4), (3, 2, 2)))
    with pytest.raises(
        CytodistillError, match="method.hint_stage=3: student and teacher share 2 stages; use 2 or fewer"
    ):
        build_method("fitnet", {"hint_stage": 3}, CrossEntropy(), shapes, shapes)
