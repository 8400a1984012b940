import math

import pytest
import torch

from cytodistill.recipe import Recipe, Train
from cytodistill.train.optimisation import optimiser_for, rate_factor


def test_paper_schedule_to_the_letter():
    train = Recipe.load("paper").train
    rates = {epoch: train.lr * rate_factor(train, epoch) for epoch in (0, 99.99, 100, 149.99, 150, 179.99)}
    assert rates == pytest.approx({0: 0.1, 99.99: 0.1, 100: 0.01, 149.99: 0.01, 150: 0.001, 179.99: 0.001})
    group = optimiser_for([torch.nn.Parameter(torch.zeros(1))], train).param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.1, 0.9, 1e-4, False)


def test_cosine_warm_up_and_one_cycle():
    cosine = Train(epochs=10, schedule="cosine", warmup_epochs=2)
    assert rate_factor(cosine, 0) == 0
    assert rate_factor(cosine, 1) == pytest.approx(0.5 * (1 + math.cos(math.pi / 10)) / 2)
    assert rate_factor(cosine, 5) == pytest.approx(0.5)
    assert rate_factor(cosine, 10) == pytest.approx(0)
    cycle = Train(epochs=10, schedule="onecycle")
    factors = [rate_factor(cycle, e) for e in (0, 3, 10)]
    assert factors == pytest.approx([1 / 25, 1, 0])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_all_parameters_at_once_are_the_bits_of_one_by_one(optimizer):
    train = Train(optimizer=optimizer, nesterov=True)
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in ((3, 5), (7,), (2, 1, 3, 3))]
    steps = [[torch.randn_like(each) for each in start] for _ in range(5)]
    ends = []
    for foreach in (True, False):
        parameters = [torch.nn.Parameter(each.clone()) for each in start]
        optimiser = optimiser_for(parameters, train)
        assert optimiser.param_groups[0]["foreach"]
        optimiser.param_groups[0]["foreach"] = foreach
        for gradients in steps:
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient.clone()
            optimiser.step()
        ends.append(parameters)
    for at_once, single in zip(*ends, strict=True):
        assert torch.equal(at_once, single)
