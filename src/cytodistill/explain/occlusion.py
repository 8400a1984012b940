"""Does a map mean anything? It should say which pixels the answer hangs on, and it should hang on the weights.

A map that passes neither check is a picture of the image, or of nothing, whatever it looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cytodistill.errors import CytodistillError
from cytodistill.explain.agreement import rank_correlation
from cytodistill.explain.cam import CamMethod, ClassMaps, Place, class_maps, resized
from cytodistill.models.multi_exit import Network, build_network
from cytodistill.recipe import Recipe

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Shares of an image's pixels that are blanked."""


@dataclass(frozen=True)
class Deletion:
    """Probability of the class of each map as pixels are blanked, of N cells and E exits.

    ``shares`` (Q,) of the pixels, from 0 to 1; ``most``, ``least`` and ``random`` (N, E, Q) float64 probabilities at
    the exit, with the most salient pixels blanked first, the least salient first, and patches drawn at random.
    """

    shares: np.ndarray
    most: np.ndarray
    least: np.ndarray
    random: np.ndarray

    def area(self, order: str) -> np.ndarray:
        """(N, E) area under the curves of one order ("most", "least", "random"): the mean probability."""
        return np.trapezoid(getattr(self, order), self.shares, axis=2)

    @property
    def figure(self) -> np.ndarray:
        """(N, E) area of ``least`` less that of ``most``, in [-1, 1]: above 0 where the map ranks the pixels as the
        network uses them, about 0 where it says nothing, below where it is upside down."""
        return self.area("least") - self.area("most")

    @property
    def over_random(self) -> np.ndarray:
        """(N, E) area of ``random`` less that of ``most``."""
        return self.area("random") - self.area("most")


@torch.inference_mode()
def deletion(
    network: Network,
    images: Tensor,
    found: ClassMaps,
    *,
    shares: Sequence[float] = SHARES,
    draws: int = 2,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Deletion:
    """Deletion curves (after Petsiuk et al. 2018) of every cell and exit.

    Blanked pixels get the recipe's mean colour, zero after normalisation. Single pixels strewn at random would be
    noise, which upsets a network more than any patch does; "random" is therefore a smooth random field of the map's own
    grain, and such a field also orders pixels that a map holds for equal.

    Args:
        network: in eval mode.
        images: (N, 3, S, S) normalised, on the network's device.
        found: their maps.
        shares: rising, from 0 to 1.
        draws: random fields a cell and exit, whose curves are averaged.
        seed: of the fields.
        progress: is told of cells done.

    Raises:
        CytodistillError: shares that do not rise from 0 to 1, or no draws.
    """
    steps = np.asarray(shares, float)
    if len(steps) < 2 or steps[0] != 0 or steps[-1] != 1 or (np.diff(steps) <= 0).any():
        raise CytodistillError(f"shares={tuple(shares)}: give rising shares from 0 to 1")
    if draws < 1:
        raise CytodistillError(f"draws={draws}: give 1 or more")
    cells, exits, height, width = found.maps.shape
    pixels = height * width
    blanked = torch.from_numpy(np.rint(steps[1:-1] * pixels).astype(np.int64)).to(images.device)
    curves = np.empty((2 + draws, cells, exits, len(steps)))
    blank = network(torch.zeros_like(images[:1])).probabilities()[0].cpu().numpy()
    for cell in range(cells):
        whole = network(images[cell : cell + 1]).probabilities()[0].cpu().numpy()
        for exit in range(exits):
            code = found.classes[cell, exit]
            rng = np.random.default_rng([seed, cell, exit])
            fields = [_field(rng, found.grids[exit], (height, width)) for _ in range(1 + draws)]
            salience = found.maps[cell, exit].ravel()
            orders = [np.lexsort((fields[0], -salience)), np.lexsort((fields[0], salience))]
            orders += [np.argsort(field) for field in fields[1:]]
            # A pixel's rank in each order; it is blanked where the rank is below the number that are.
            ranks = torch.from_numpy(np.stack([np.argsort(order) for order in orders])).to(images.device)
            gone = (ranks[:, None] < blanked[:, None]).reshape(-1, 1, height, width)
            answers = network(images[cell].masked_fill(gone, 0.0)).probabilities()[:, exit, code]
            curves[:, cell, exit, 1:-1] = answers.reshape(len(orders), -1).cpu().numpy()
            curves[:, cell, exit, 0], curves[:, cell, exit, -1] = whole[exit, code], blank[exit, code]
        if progress:
            progress(cell + 1, cells)
    return Deletion(steps, curves[0], curves[1], curves[2:].mean(axis=0))


def randomisation(
    redrawn: Sequence[Network], images: Tensor, found: ClassMaps, *, method: CamMethod, at: Place
) -> np.ndarray:
    """Model randomisation check (Adebayo et al. 2018): (N, E) rank correlations of the maps with those that networks of
    re-drawn weights give for the same classes, the mean over these networks.

    About 0 where the map shows what was learnt; near 1 where it shows the image whatever the weights. NaN where all
    maps of the re-drawn networks, or the map itself, are the same everywhere. Maps of few places correlate by chance:
    read the mean over cells.

    Args:
        redrawn: networks of the same design, from ``redrawn_networks``.
        images: (N, 3, S, S), on the networks' device.
        found: the trained network's maps.
        method: and ``at``, what these were made with.
    """
    correlations = np.stack(
        [
            rank_correlation(found.maps, class_maps(other, images, found.classes, method=method, at=at).maps)
            for other in redrawn
        ]
    )
    valid = np.isfinite(correlations)
    count = valid.sum(axis=0)
    total = np.where(valid, correlations, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def redrawn_networks(recipe: Recipe, classes: int, count: int = 3) -> list[Network]:
    """``count`` networks of a recipe's student as they are before any training, from seeds of their own."""
    return [
        build_network(recipe.student, classes, recipe.data.image_size, (recipe.seed + 1 + draw) % 2**32).eval()
        for draw in range(count)
    ]


def _field(rng: np.random.Generator, grid: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """(H·W,) smooth random values: evenly drawn at the places of a map's grid and resized as a map is."""
    drawn = torch.from_numpy(rng.random((1, *grid)))
    return resized(drawn, size).numpy().ravel()
