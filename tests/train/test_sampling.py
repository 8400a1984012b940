import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cytodistill.train.sampling import batch_slices, class_weights, epoch_order


def test_order_is_a_permutation_drawn_from_seed_and_epoch():
    labels = torch.zeros(50, dtype=torch.long)
    order = epoch_order(labels, 0, 0, "none")
    assert sorted(order.tolist()) == list(range(50))
    assert torch.equal(order, epoch_order(labels, 0, 0, "none"))
    assert not torch.equal(order, epoch_order(labels, 0, 1, "none"))
    assert not torch.equal(order, epoch_order(labels, 1, 0, "none"))


@given(cells=st.integers(1, 3000), block=st.integers(1, 200))
def test_blocks_visit_every_cell_once(cells, block):
    order = epoch_order(torch.zeros(cells, dtype=torch.long), 0, 3, "none", block)
    assert sorted(order.tolist()) == list(range(cells))


@given(blocks=st.integers(1, 100), block=st.integers(1, 50))
def test_sixteen_blocks_are_visited_at_a_time(blocks, block):
    order = epoch_order(torch.zeros(blocks * block, dtype=torch.long), 0, 3, "none", block)
    for stretch in (order // block).split(16 * block):
        assert len(set(stretch.tolist())) == len(stretch) // block


def test_blocks_are_shuffled_within_a_stretch():
    labels = torch.zeros(4096, dtype=torch.long)
    order = epoch_order(labels, 0, 0, "none", 64)
    assert torch.equal(order, epoch_order(labels, 0, 0, "none", 64))
    assert not torch.equal(order, epoch_order(labels, 0, 1, "none", 64))
    # The first batch of 64 has cells of nearly all of the 16 blocks, about four of each.
    assert len(set((order[:64] // 64).tolist())) > 12


def test_resampling_evens_out_the_classes():
    labels = torch.tensor([0] * 900 + [1] * 90 + [3] * 10)
    drawn = np.bincount(labels[epoch_order(labels, 0, 0, "resample")], minlength=4)
    assert drawn.sum() == 1000
    assert drawn[2] == 0
    assert all(260 < drawn[c] < 410 for c in (0, 1, 3))


@given(st.integers(1, 300), st.integers(2, 64), st.integers(1, 4))
def test_batches_cover_the_epoch_but_for_a_remainder_too_small_to_normalise(cells, size, least):
    slices = batch_slices(cells, size, least)
    covered = [i for part in slices for i in range(part.start, part.stop)]
    assert covered == list(range(len(covered)))
    left = cells - len(covered)
    assert left < max(2, least)
    assert all(part.stop - part.start == size for part in slices[:-1])
    if len(slices) > 1:
        assert slices[-1].stop - slices[-1].start >= min(max(2, least), size)


def test_class_weights_average_one_over_the_cells():
    labels = torch.tensor([0] * 8 + [1] * 2)
    assert class_weights(labels, 3, "none") is None
    for kind, ratio in (("inverse", 4.0), ("sqrt_inverse", 2.0)):
        weights = class_weights(labels, 3, kind)
        assert weights[labels].mean().item() == pytest.approx(1)
        assert (weights[1] / weights[0]).item() == pytest.approx(ratio)
        assert weights[2] == 0
