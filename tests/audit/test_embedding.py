"""Near copies by embedding, with a small network of known weights."""

import numpy as np
import pytest
from safetensors.torch import save_file

from cytodistill.audit import embedding
from cytodistill.audit.embedding import embedded_pairs
from cytodistill.data.near_duplicates import reencoded
from cytodistill.errors import CytodistillError
from cytodistill.models.multi_exit import build_network
from cytodistill.train.log import Silent


@pytest.fixture(scope="module")
def recipe(tiny, tmp_path_factory):
    """Random filters tell noise patterns apart well enough; they only have to come from a file."""
    file = tmp_path_factory.mktemp("weights") / "cifar_resnet8.safetensors"
    small = tiny.override({"student.backbone": "cifar_resnet8", "student.pretrained": str(file)})
    save_file(build_network(small.student, 2, 32, seed=3).state_dict(), file)
    return small


@pytest.fixture(scope="module")
def cells():
    """Eleven smooth random pictures, and the fourth of them saved again as the twelfth."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3)).astype(np.uint8)
    drawn = coarse.repeat(8, axis=1).repeat(8, axis=2)
    drawn[11] = reencoded(drawn[3:4], quality=90)[0]
    return drawn


def test_a_planted_copy_is_found_and_no_other(cells, recipe, tmp_path):
    pairs, distance = embedded_pairs(cells, recipe, tmp_path / "e.npz", "cpu", Silent())
    assert [(pair.first, pair.second) for pair in pairs] == [(3, 11)]
    assert 0 < pairs[0].distance <= distance < 0.1


def test_embeddings_are_computed_once_for_the_same_cells_and_weights(cells, recipe, tmp_path, monkeypatch):
    file, whole, calls = tmp_path / "e.npz", embedding._embed, []
    monkeypatch.setattr(embedding, "_embed", lambda *of: calls.append(1) or whole(*of))
    first = embedded_pairs(cells, recipe, file, "cpu", Silent())
    assert embedded_pairs(cells, recipe, file, "cpu", Silent()) == first
    assert len(calls) == 1
    embedded_pairs(255 - cells, recipe, file, "cpu", Silent())
    assert len(calls) == 2
    file.write_bytes(file.read_bytes()[:100])  # cut off: made anew
    assert embedded_pairs(cells, recipe, file, "cpu", Silent()) == first


def test_random_weights_are_refused(cells, tiny, tmp_path):
    with pytest.raises(CytodistillError, match=r"student\.pretrained=none: random weights embed nothing"):
        embedded_pairs(cells, tiny, tmp_path / "e.npz", "cpu", Silent())
    assert not list(tmp_path.iterdir())
