"""What one epoch shows: which cells in which order, which view of each, and how large."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cytodistill.data.augment import draw_views
from cytodistill.data.fixed_views import draw_fixed_views, views_of_epoch
from cytodistill.distill.method import Method
from cytodistill.errors import CytodistillError, reason
from cytodistill.models.multi_exit import Network
from cytodistill.recipe import Recipe
from cytodistill.train.sampling import epoch_order

NOT_STORED = {"maps": "stage maps", "preactivations": "preactivations", "rotations": "answers to turned images"}
"""What a method may need of a teacher beside its logits and features: too large, or of views that are not stored."""


@dataclass(frozen=True)
class Visits:
    """Cells of an epoch, or of a part of it, in their order.

    ``cells`` (n,) positions into the training cells; ``draws`` (n, DRAWS) uniforms of their views; ``views`` (n,)
    numbers of these where they are fixed ones, whose answers are stored.
    """

    cells: Tensor
    draws: Tensor
    views: Tensor | None = None

    def __getitem__(self, part: slice) -> Visits:
        return Visits(self.cells[part], self.draws[part], None if self.views is None else self.views[part])

    def __len__(self) -> int:
        return len(self.cells)

    def to(self, device: torch.device) -> Visits:
        return Visits(
            self.cells.to(device), self.draws.to(device), None if self.views is None else self.views.to(device)
        )


def visits_of(recipe: Recipe, epoch: int, rows: Tensor, labels: Tensor, fixed: bool = False) -> Visits:
    """All visits of an epoch, on the CPU, from the seed and the epoch alone.

    Args:
        rows: (n,) rows of the training cells in the table.
        labels: (n,) their classes.
        fixed: show the ``teacher.views`` fixed views of each cell in turn, and not ever new ones.
    """
    order = epoch_order(labels, recipe.seed, epoch, recipe.train.imbalance, recipe.train.shuffle_block)
    if not fixed:
        return Visits(order, draw_views(len(order), recipe.seed, epoch))
    views = views_of_epoch(rows[order], recipe.seed, epoch, recipe.teacher.views)
    return Visits(order, draw_fixed_views(rows[order], views, recipe.seed), views)


def side_of(recipe: Recipe, epoch: int) -> int:
    """Side in pixels of the views of an epoch: ``train.sizes`` one after another, then the full one."""
    passed = 0.0
    for share, side in recipe.train.sizes:
        passed += share
        if epoch < int(passed * recipe.train.epochs + 1e-9):
            return round(side * recipe.data.image_size)
    return recipe.data.image_size


def refuse_unserved(method: type[Method], recipe: Recipe) -> None:
    """Raise CytodistillError where ``teacher.views`` or ``train.sizes`` asks for what the method cannot learn from."""
    asked = method.needs | method.uses
    unstored = [said for need, said in NOT_STORED.items() if need in asked]
    if recipe.teacher.views and recipe.teacher.source != "none" and unstored:
        raise CytodistillError(
            f"teacher.views={recipe.teacher.views}: method.name={method.registered_name} learns from the teacher's "
            f"{' and '.join(unstored)}, which are not stored; set teacher.views=0"
        )
    if recipe.train.sizes and "maps" in asked:
        raise CytodistillError(
            f"train.sizes: method.name={method.registered_name} compares stage maps, and those of smaller views are "
            "smaller than the teacher's; set train.sizes=[]"
        )


@torch.no_grad()
def check_sides(network: Network, recipe: Recipe) -> None:
    """Raise CytodistillError where the network cannot take views as small as ``train.sizes`` begins with."""
    if not recipe.train.sizes:
        return
    side, device = side_of(recipe, -1), next(network.parameters()).device
    try:
        network.eval()(torch.zeros(1, 3, side, side, device=device))
    except (RuntimeError, AssertionError) as error:  # a transformer asserts its one size
        raise CytodistillError(
            f"train.sizes={recipe.train.sizes[0]}: {recipe.student.backbone} cannot take views of {side} px "
            f"({reason(error)}); begin with larger ones, or set train.sizes=[]"
        ) from None
