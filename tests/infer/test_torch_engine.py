import numpy as np
import pytest
import torch

from cytodistill.data.augment import Preprocess
from cytodistill.estimators.inputs import inputs_of
from cytodistill.infer.engine import all_exits
from cytodistill.infer.torch_engine import TorchEngine
from cytodistill.models.multi_exit import build_network


@pytest.fixture(scope="module", params=["test_resnet", "msdnet_4", "vit_tiny_patch16_224"])
def made(request, tiny):
    """A network, its engine, and cells."""
    recipe = tiny.override({"student.backbone": request.param})
    network = build_network(recipe.student, 3, 64, seed=0).eval()
    cells = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    return network, TorchEngine(network, inputs_of(recipe)), cells, recipe.data


def test_whole_and_segments_answer_as_the_network(made):
    network, engine, cells, data = made
    with torch.no_grad():
        expected = torch.stack(network(Preprocess(data.mean, data.std)(torch.from_numpy(cells))).logits, 1).numpy()
    np.testing.assert_allclose(engine.whole(cells), expected, atol=2e-4)
    np.testing.assert_allclose(all_exits(engine, cells), expected, atol=2e-4)
    assert sum(engine.exits_of) == network.exits
    assert engine.segments == len(engine.exits_of)


def test_rows_taken_out_of_a_state_go_on_as_they_would_have(made):
    _, engine, cells, _ = made
    rows = np.array([3, 0])
    _, state = engine.run(0, engine.start(cells))
    if engine.segments == 1:
        assert state == ()
        return
    expected = engine.run(1, state)[0][rows]
    np.testing.assert_allclose(engine.run(1, engine.take(state, rows))[0], expected, atol=1e-4)
