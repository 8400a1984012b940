"""A teacher that knows the true probabilities must be worth something: KD against no KD on a task that is known."""

import pytest
import torch
from torch import nn

from cytodistill.distill import Batch, CrossEntropy, build_method
from cytodistill.models.outputs import ExitOutputs, OutputShapes

CLASSES, WIDTH, TRAINING, TEST = 6, 8, 90, 4000
SHAPES = OutputShapes((WIDTH,))


def task(seed):
    """Overlapping Gaussian classes, equally frequent: points, their labels, and the logits of their true posterior."""
    generator = torch.Generator().manual_seed(seed)
    centres = 1.2 * torch.randn(CLASSES, WIDTH, generator=generator)
    labels = torch.randint(CLASSES, (TRAINING + TEST,), generator=generator)
    points = centres[labels] + torch.randn(len(labels), WIDTH, generator=generator)
    # Equal priors and unit variance: ln p(x | c) up to what all classes share.
    return points, labels, -0.5 * torch.cdist(points, centres).square()


def accuracy(name, settings, seed):
    points, labels, posterior = task(seed)
    torch.manual_seed(seed)
    student = nn.Sequential(nn.Linear(WIDTH, 32), nn.ReLU(), nn.Linear(32, CLASSES))
    teacher = SHAPES if name == "kd" else None
    method = build_method(name, settings, CrossEntropy(), SHAPES, teacher)
    optimiser = torch.optim.Adam(student.parameters(), lr=0.01)
    x, y = points[:TRAINING], labels[:TRAINING]
    taught = ExitOutputs([posterior[:TRAINING]], [x]) if teacher else None
    for _ in range(300):
        loss = method(ExitOutputs([student(x)], [x]), Batch(x, y, torch.arange(TRAINING), taught))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        return (student(points[TRAINING:]).argmax(1) == labels[TRAINING:]).float().mean().item()


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 4.0, "ce_weight": 0.1, "kd_weight": 0.9}], ids=["paper", "field"]
)
def test_kd_from_a_perfect_teacher_beats_no_kd_over_five_seeds(settings):
    gains = [accuracy("kd", settings, seed) - accuracy("supervised", {}, seed) for seed in range(5)]
    assert min(gains) > 0
    assert sum(gains) / 5 > 0.02
