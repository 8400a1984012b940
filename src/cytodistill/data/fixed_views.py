"""A fixed family of K views a cell: a view has a number, and can be had again in any epoch, batch or rank.

``augment.draw_views`` draws an epoch's views by their places in it; what is drawn here depends on the seed, the cell
and the view's number alone. So what a teacher answered to a view once is its answer whenever that view is shown.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cytodistill.data.augment import DRAWS

Words = NDArray[np.uint64]
ORDERS = 2**32
"""Numbers of a cell's stream from which the orders of its views are drawn; below it are the views themselves."""


def splitmix(seed: Words, number: Words) -> Words:
    """The ``number``-th (from 1) 64-bit word of SplitMix64 from ``seed``, element by element (Steele, Lea and Flood
    2014, "Fast splittable pseudorandom number generators"): any word of any stream, without those before it.

    Example:
        >>> splitmix(np.array([1234567], np.uint64), np.array([1], np.uint64)).tolist()
        [6457827717110365317]
    """
    word = seed + number * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


def draw_fixed_views(cells: Tensor, views: Tensor, seed: int) -> Tensor:
    """(n, DRAWS) float32 uniforms in [0, 1), on the CPU, of the (n,) view numbers of (n,) cells (rows of the table)."""
    streams = splitmix(_streams(cells, seed), _words(views) + np.uint64(1))
    words = splitmix(streams[:, None], np.arange(1, DRAWS + 1, dtype=np.uint64)[None])
    # The highest 24 bits are what a float32 in [0, 1) can hold.
    return torch.from_numpy((words >> np.uint64(40)).astype(np.float32) / np.float32(2**24))


def views_of_epoch(cells: Tensor, seed: int, epoch: int, views: int) -> Tensor:
    """(n,) numbers below ``views``, on the CPU, of the views that an epoch shows of (n,) cells, in the epoch's order.

    Seen once an epoch, a cell goes through all its views before it sees one again, each time in another order, apart
    from other cells'. Seen more often (resampling), it is shown its next views too.
    """
    rows = cells.cpu().numpy()
    place = epoch + _seen_before(rows)
    round_, place = np.divmod(place, views)
    streams = splitmix(_streams(cells, seed), round_.astype(np.uint64) + np.uint64(ORDERS))
    keys = splitmix(streams[:, None], np.arange(1, views + 1, dtype=np.uint64)[None])
    order = keys.argsort(axis=1, kind="stable")
    return torch.from_numpy(np.take_along_axis(order, place[:, None], axis=1)[:, 0])


def _streams(cells: Tensor, seed: int) -> Words:
    return splitmix(np.array([seed], np.uint64), _words(cells) + np.uint64(1))


def _words(numbers: Tensor) -> Words:
    return numbers.cpu().numpy().astype(np.uint64)


def _seen_before(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) how often each row stands before its place."""
    order = rows.argsort(kind="stable")
    grouped = rows[order]
    places = np.arange(len(rows))
    starts = np.ones(len(rows), bool)
    starts[1:] = grouped[1:] != grouped[:-1]
    seen = np.empty(len(rows), np.int64)
    seen[order] = places - np.maximum.accumulate(np.where(starts, places, 0))
    return seen
