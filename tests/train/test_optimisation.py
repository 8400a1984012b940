import math

import numpy as np
import pytest
import torch

from cytodistill.models.matrix_conv import use_matrix_products
from cytodistill.models.multi_exit import build_network
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


def sgd_by_hand(train, start, steps):
    """Nesterov's momentum with the decay in the gradient, in float64."""
    x, momentum = start.astype(float), np.zeros(start.shape)
    for step in steps:
        gradient = step + train.weight_decay * x
        momentum = train.momentum * momentum + gradient
        x = x - train.lr * (gradient + train.momentum * momentum)
    return x


def adamw_by_hand(train, start, steps):
    """Algorithm 2 of Loshchilov & Hutter (ICLR 2019), in float64."""
    x, first, second = start.astype(float), np.zeros(start.shape), np.zeros(start.shape)
    for t, gradient in enumerate(steps, start=1):
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        direction = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        x = x - train.lr * (direction + train.weight_decay * x)
    return x


def test_gradients_lie_in_memory_as_their_parameters_do():
    """Which a fused step takes for granted: it goes through both in the order of memory."""
    network = build_network(Recipe.load("quick").student, 3, 64, seed=0).to(memory_format=torch.channels_last)
    use_matrix_products(network)
    answers = network(torch.rand(4, 3, 64, 64).contiguous(memory_format=torch.channels_last))
    sum(logits.sum() for logits in answers.logits).backward()
    checked = [p for p in network.parameters() if p.grad is not None]
    assert any(p.dim() == 4 and not p.is_contiguous() for p in checked)
    assert all(p.grad.stride() == p.stride() for p in checked)


@pytest.mark.parametrize(("optimizer", "by_hand"), [("sgd", sgd_by_hand), ("adamw", adamw_by_hand)])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_steps_are_those_of_the_formula(optimizer, by_hand, memory):
    train = Train(optimizer=optimizer, nesterov=True, weight_decay=0.05, lr=0.02)
    random = np.random.default_rng(0)
    starts = [random.normal(size=shape).astype(np.float32) for shape in ((7,), (3, 5), (4, 3, 3, 3))]
    steps = [[random.normal(size=start.shape).astype(np.float32) for start in starts] for _ in range(5)]

    def tensor(array):
        return torch.tensor(array).contiguous(memory_format=memory if array.ndim == 4 else torch.contiguous_format)

    parameters = [torch.nn.Parameter(tensor(start)) for start in starts]
    optimiser = optimiser_for(parameters, train)
    for gradients in steps:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = tensor(gradient)
        optimiser.step()
    for at, (parameter, start) in enumerate(zip(parameters, starts, strict=True)):
        expected = by_hand(train, start, [step[at] for step in steps])
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
