import numpy as np
import pytest
import torch

from cytodistill.distill.activation_boundaries import Connector
from cytodistill.models.outputs import OutputShapes

TINIEST = OutputShapes((11,), ((4, 2, 2), (8, 1, 1))), OutputShapes((13,), ((5, 1, 1),))


@pytest.fixture
def boundaries(lesson):
    """A lesson of two networks that show their pre-activations."""

    def give(*shapes, **settings):
        taught = lesson("ab", *shapes, **settings)
        for outputs in (taught.outputs, taught.teacher):
            outputs.preactivations = [torch.randn(maps.shape, requires_grad=True) for maps in outputs.maps]
        return taught

    return give


def pretrained(taught):
    taught.method.begin("pretrain")
    return taught.method.pretrain(taught.outputs, taught.batch)


def reference(taught, numbers, average_pool, margin=1.0, factor=2.0):
    """The stage before, neuron by neuron."""
    pairs = list(zip(taught.outputs.preactivations[::-1], taught.teacher.preactivations[::-1], strict=False))[::-1]
    total = 0.0
    for i, ((ours, theirs), connector) in enumerate(zip(pairs, taught.method.connectors, strict=True)):
        size = (min(ours.shape[2], theirs.shape[2]), min(ours.shape[3], theirs.shape[3]))
        ours, theirs = average_pool(numbers(ours), size), average_pool(numbers(theirs), size)
        ours = np.einsum("bchw,oc->bohw", ours, numbers(connector.convolution.weight)[:, :, 0, 0])
        ours = (ours - ours.mean((0, 2, 3), keepdims=True)) / np.sqrt(ours.var((0, 2, 3), keepdims=True) + 1e-5)
        stage = 0.0
        for s, t in zip(ours.ravel(), theirs.ravel(), strict=True):
            if t <= 0 and s > -margin:
                stage += (s + margin) ** 2
            elif t > 0 and s <= margin:
                stage += (s - margin) ** 2
        total += factor ** (i - len(pairs) + 1) * stage / len(ours)
    return total


@pytest.mark.parametrize(
    "settings", [{}, {"margin": 0.3}, {"margin": 0.0, "weight": 2.0}, {"stage_factor": 3.0, "weight": 1.0}]
)
def test_boundaries(boundaries, numbers, average_pool, settings):
    taught = boundaries(**settings)
    parts = pretrained(taught)
    total = reference(taught, numbers, average_pool, settings.get("margin", 1.0), settings.get("stage_factor", 2.0))
    assert set(parts) == {"loss", "boundaries"}
    assert parts["boundaries"].item() == pytest.approx(settings.get("weight", 0.003) * total, rel=1e-4)
    assert parts["loss"] is parts["boundaries"]


def test_the_boundary_itself_counts_as_off(boundaries):
    shapes = OutputShapes((3,), ((2, 1, 1),))
    taught = boundaries(shapes, shapes, weight=1.0, cells=2)
    connector = taught.method.connectors[0]
    with torch.no_grad():  # the student's neurons at +1 and −1 whatever the connector
        connector.convolution.weight.copy_(torch.eye(2)[:, :, None, None])
        taught.outputs.preactivations[0].copy_(torch.tensor([[1.0, 1.0], [-1.0, -1.0]])[:, :, None, None])
        taught.teacher.preactivations[0].zero_()
    # Two neurons of one cell are 2 from −1, those of the other are there.
    assert pretrained(taught)["boundaries"].item() == pytest.approx((4 + 4) / 2, rel=1e-4)


def test_the_stage_before(boundaries):
    stage = boundaries().method.pretraining()
    assert (stage.epochs, stage.student, stage.train) == (30, True, {"schedule": "constant"})
    assert boundaries(pretrain_epochs=7).method.pretraining().epochs == 7


def test_gradients_in_the_stage_before(boundaries):
    taught = boundaries()
    pretrained(taught)["loss"].backward()
    assert all(before.grad.any() for before in taught.outputs.preactivations)
    assert all(p.grad.any() for p in taught.method.parameters() if p.ndim == 4)
    assert all(p.grad is not None for p in taught.method.parameters())
    rest = (*taught.outputs.logits, *taught.outputs.features, *taught.outputs.maps)
    assert all(tensor.grad is None for tensor in (*rest, *taught.teacher.preactivations))


def test_the_training_is_on_labels_and_trains_the_student_alone(boundaries, numbers):
    taught = boundaries()
    taught.method.begin("train")
    assert not any(p.requires_grad for p in taught.method.parameters())
    parts = taught.parts()
    logits, labels = numbers(taught.outputs.logits[-1]), taught.batch.labels.numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert set(parts) == {"loss", "ce"}
    assert parts["loss"].item() == pytest.approx(-np.log(probabilities[range(len(labels)), labels]).mean(), rel=1e-5)
    parts["loss"].backward()
    assert taught.outputs.logits[-1].grad.any()
    assert all(before.grad is None for before in taught.outputs.preactivations)


def test_a_teachers_logits_are_learnt_from_where_that_is_asked_for(boundaries):
    taught = boundaries(kd_weight=0.5)
    taught.method.begin("train")
    parts = taught.parts()
    assert set(parts) == {"loss", "ce", "kd"}
    assert parts["loss"].item() == pytest.approx(parts["ce"].item() + parts["kd"].item(), rel=1e-6)


def test_neurons_learn_the_teachers_side(boundaries):
    shapes = OutputShapes((3,), ((4, 3, 3),)), OutputShapes((3,), ((5, 3, 3),))
    taught = boundaries(*shapes, weight=1.0)
    taught.method.begin("pretrain")
    (connector,), (ours,), (theirs,) = (
        taught.method.connectors,
        taught.outputs.preactivations,
        taught.teacher.preactivations,
    )
    optimiser = torch.optim.Adam([*connector.parameters(), ours], lr=0.05)

    def agreement() -> float:
        return ((connector(ours) > 0) == (theirs > 0)).float().mean().item()

    assert agreement() < 0.7
    for _ in range(150):
        optimiser.zero_grad()
        pretrained(taught)["loss"].backward()
        optimiser.step()
    assert agreement() > 0.9


@pytest.mark.parametrize("cells", [1, 2])
@pytest.mark.parametrize("tiny", [True, False])
def test_a_batch_of_one_or_two_cells_is_finite(boundaries, cells, tiny):
    taught = boundaries(*(TINIEST if tiny else ()), cells=cells)
    loss = pretrained(taught)["loss"]
    loss.backward()
    assert loss > 0
    assert all(torch.isfinite(p.grad).all() for p in taught.method.parameters())
    assert torch.isfinite(taught.outputs.preactivations[-1].grad).all()


def test_one_cell_with_one_value_a_channel_takes_the_running_statistics():
    connector = Connector(3, 4)
    with torch.no_grad():
        connector.norm.running_mean.fill_(0.5)
        connector.norm.running_var.fill_(4.0)
    ours = torch.randn(1, 3, 1, 1)
    expected = (connector.convolution(ours) - 0.5) / (4.0 + 1e-5) ** 0.5
    torch.testing.assert_close(connector(ours), expected)


def test_half_precision_is_compared_in_single(boundaries):
    taught = boundaries()
    for outputs in (taught.outputs, taught.teacher):
        outputs.preactivations = [before.detach().bfloat16() for before in outputs.preactivations]
    with torch.autocast("cpu", torch.bfloat16):
        half = pretrained(taught)["boundaries"]
    for outputs in (taught.outputs, taught.teacher):
        outputs.preactivations = [before.float() for before in outputs.preactivations]
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(pretrained(taught)["boundaries"].item(), rel=1e-5)
