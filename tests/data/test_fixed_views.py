import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cytodistill.data.augment import DRAWS
from cytodistill.data.fixed_views import draw_fixed_views, splitmix, views_of_epoch


def words(*numbers):
    return np.array(numbers, np.uint64)


def test_words_are_those_of_the_published_generator():
    # The first five of seed 1234567, as implementations in many languages have them.
    expected = words(
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821
    )
    assert (splitmix(np.full(5, 1234567, np.uint64), words(1, 2, 3, 4, 5)) == expected).all()


@given(st.integers(0, 2**32 - 1), st.integers(0, 10**6), st.integers(0, 63))
def test_a_view_is_of_its_seed_cell_and_number_alone(seed, cell, view):
    alone = draw_fixed_views(torch.tensor([cell]), torch.tensor([view]), seed)
    among = draw_fixed_views(torch.tensor([3, cell, cell]), torch.tensor([view, view, view + 1]), seed)
    assert alone.shape == (1, DRAWS)
    assert torch.equal(alone[0], among[1])
    assert not torch.equal(alone[0], among[2])
    assert ((among >= 0) & (among < 1)).all()


def test_draws_are_uniform_and_unrelated():
    cells, views = (grid.flatten() for grid in torch.meshgrid(torch.arange(500), torch.arange(8), indexing="ij"))
    draws = draw_fixed_views(cells, views, 5).double()
    counts = torch.stack([torch.histc(column, 10, 0, 1) for column in draws.mT])
    assert ((counts - 400).square() / 400).sum(1).max() < 33.7  # 1 in 10,000 of chi-square with 9 degrees of freedom
    # Of one draw with another of the view, of the cell's next view and of the next cell's.
    for other in (draws.roll(1, 1), draws.roll(-1, 0), draws.roll(-8, 0)):
        related = np.corrcoef(draws.flatten(), other.flatten())[0, 1]
        assert abs(related) < 4 / np.sqrt(draws.numel())


@given(st.integers(1, 12), st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_a_cell_goes_through_all_its_views_before_it_sees_one_again(views, seed, cycle):
    cells = torch.tensor([7, 0, 31])
    shown = torch.stack([views_of_epoch(cells, seed, cycle * views + epoch, views) for epoch in range(views)])
    assert (shown.sort(0).values == torch.arange(views)[:, None]).all()


def test_orders_differ_between_cells_and_cycles():
    cells = torch.arange(64)
    cycles = [
        torch.stack([views_of_epoch(cells, 0, epoch, 8) for epoch in range(start, start + 8)]) for start in (0, 8)
    ]
    assert len(torch.unique(cycles[0], dim=1).mT) > 60
    assert (cycles[0] != cycles[1]).any(0).sum() > 60
    assert torch.bincount(cycles[0][0], minlength=8).min() > 0  # the views of an epoch mix


def test_a_cell_that_is_there_more_than_once_shows_its_next_views():
    cells = torch.tensor([5, 2, 5, 5])
    shown = views_of_epoch(cells, 0, 0, 4)
    assert len(set(shown[[0, 2, 3]].tolist())) == 3
    next_ones = [views_of_epoch(torch.tensor([5]), 0, epoch, 4).item() for epoch in range(3)]
    assert shown[[0, 2, 3]].tolist() == next_ones
