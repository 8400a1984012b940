import numpy as np
import pytest
import torch


def mix(maps, convolution, numbers):
    return np.einsum("bchw,oc->bohw", maps, numbers(convolution.weight)[:, :, 0, 0])


def test_information(lesson, numbers, stages):
    taught = lesson("vid")
    with torch.no_grad():  # variances of their own, so that their place counts
        for gaussian in taught.method.stages:
            gaussian.raw_variance.normal_()
    expected = 0.0
    for gaussian, (ours, theirs) in zip(taught.method.stages, stages(taught), strict=True):
        first, _, second, _, third = gaussian.mean
        mean = mix(np.maximum(mix(np.maximum(mix(ours, first, numbers), 0), second, numbers), 0), third, numbers)
        variance = np.log1p(np.exp(numbers(gaussian.raw_variance))) + 1e-5
        expected += (0.5 * ((mean - theirs) ** 2 / variance + np.log(variance))).mean()
    assert taught.values()["information"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("variance", [1e-3, 5.0, 5000.0])
def test_variance_starts_where_it_is_set(lesson, variance):
    taught = lesson("vid", initial_variance=variance)
    for gaussian, (channels, *_) in zip(taught.method.stages, ((5,), (7,), (9,)), strict=True):
        raw = gaussian.raw_variance
        assert raw.shape == (channels, 1, 1)
        assert (torch.nn.functional.softplus(raw) + 1e-5).numpy(force=True) == pytest.approx(variance, rel=1e-4)


def test_regressors_learn_to_predict_the_teacher(lesson):
    taught = lesson("vid")
    optimiser = torch.optim.Adam(taught.method.parameters(), lr=0.1)
    before = taught.values()["information"]
    for _ in range(60):
        optimiser.zero_grad()
        taught.parts()["information"].backward()
        optimiser.step()
    assert taught.values()["information"] < before - 1
