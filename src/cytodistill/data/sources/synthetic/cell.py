"""One cell: its outlines from its traits, and the dye that it adds to the field."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cytodistill.data.sources.synthetic.outline import Outline, ellipse, of_radius, polygon, twin, wobble
from cytodistill.data.sources.synthetic.traits import Traits

HAEMATOXYLIN, EOSIN, GREEN, ORANGE = range(4)
CLEARANCE = 0.9  # the nucleus stays within this share of the cell's radius


@dataclass(frozen=True)
class Cell:
    """A cell's outlines in the field's pixels, its traits, and how soft its borders are (pixels, its focus)."""

    cytoplasm: Outline
    nucleus: Outline
    traits: Traits
    softness: float

    def moved(self, x: float, y: float) -> Cell:
        """The same cell with its centre at (x, y)."""
        dx, dy = self.nucleus.x - self.cytoplasm.x, self.nucleus.y - self.cytoplasm.y
        return replace(self, cytoplasm=self.cytoplasm.moved(x, y), nucleus=self.nucleus.moved(x + dx, y + dy))


def grow(rng: np.random.Generator, traits: Traits, typical: float) -> Cell:
    """A cell about (0, 0) with ``traits``, in a field whose typical cell has the radius ``typical`` pixels."""
    radius = typical * traits.size
    shape = polygon(rng, int(rng.integers(4, 8)), traits.sharpness) * ellipse(rng, traits.elongation)
    cytoplasm = Outline(0.0, 0.0, of_radius(shape * wobble(rng, 0.03, (2, 8)), radius))
    two = rng.random() < traits.twin
    core = twin(rng, rng.uniform(0.6, 0.9)) if two else ellipse(rng, traits.stretch)
    core = of_radius(core * wobble(rng, traits.irregular, (2, 7)), radius * traits.nucleus)
    angle, shift = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.8) * radius * (1 - traits.nucleus) * 0.4
    nucleus = Outline(shift * np.cos(angle), shift * np.sin(angle), core).inside(cytoplasm, CLEARANCE)
    return Cell(cytoplasm, nucleus, traits, softness=rng.uniform(0.8, 2.2))


def step(distance: np.ndarray, softness: float) -> np.ndarray:
    """Smooth step from 0 to 1 as ``distance`` (pixels) goes from -softness to +softness: an anti-aliased border."""
    t = np.clip(distance / (2 * softness) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def ridge(distance: np.ndarray, width: float) -> np.ndarray:
    """Bump of height 1 where ``distance`` is 0 that falls to 0 at ``width`` pixels on either side."""
    t = np.maximum(1 - (distance / width) ** 2, 0)
    return t * t


def stain(rng: np.random.Generator, cell: Cell, dyes: np.ndarray, textures: np.ndarray, green: float) -> None:
    """Add the cell's dye to ``dyes`` (4, H, W), float64 amounts of the four dyes.

    ``textures`` (3, H, W) is noise of unit variance, coarse to fine, that is cut at a random place for each cell;
    ``green`` in [0, 1] is the field's leaning to light green, which outweighs the class's own.
    """
    traits, (height, width) = cell.traits, dyes.shape[1:]
    edge = cell.cytoplasm.radii.max() + 4
    left, right = max(int(cell.cytoplasm.x - edge), 0), min(int(cell.cytoplasm.x + edge) + 1, width)
    top, bottom = max(int(cell.cytoplasm.y - edge), 0), min(int(cell.cytoplasm.y + edge) + 1, height)
    if left >= right or top >= bottom:
        return
    xs, ys = np.arange(left, right, dtype=float), np.arange(top, bottom, dtype=float)[:, None]
    row, column = rng.integers(height - (bottom - top) + 1), rng.integers(width - (right - left) + 1)
    coarse, medium, fine = textures[:, row : row + bottom - top, column : column + right - left]

    body = _cytoplasm(rng, cell, xs, ys, coarse, medium)
    away, radius = cell.nucleus.polar(xs, ys)
    depth = radius - away
    body *= _halo(rng, cell, away, radius, coarse)
    within = step(depth, cell.softness)
    chroma = 1 + traits.chromatin * (0.6 * medium + 0.8 * fine)
    chroma += traits.membrane * ridge(depth - 1.2, 2.2)
    lean = np.clip(0.7 * green + 0.3 * traits.green + rng.normal(0, 0.06), 0, 1)
    keratin = np.clip(traits.orange + rng.normal(0, 0.05), 0, 1)
    window = dyes[:, top:bottom, left:right]
    window[HAEMATOXYLIN] += within * traits.dark * np.maximum(chroma, 0.25) + 0.08 * body
    # The nucleus lies within the cytoplasm's thickness, so some of the cytoplasm's dye shows over it.
    body *= 1 - 0.6 * within
    window[EOSIN] += body * (1 - keratin) * (1 - lean)
    window[GREEN] += body * (1 - keratin) * lean
    window[ORANGE] += body * keratin


def _cytoplasm(
    rng: np.random.Generator, cell: Cell, xs: np.ndarray, ys: np.ndarray, coarse: np.ndarray, medium: np.ndarray
) -> np.ndarray:
    """(h, w) dye of the cytoplasm alone: thickness, border, texture, folds and vacuoles."""
    traits = cell.traits
    away, radius = cell.cytoplasm.polar(xs, ys)
    depth, share = radius - away, np.minimum(away / radius, 1)
    typical = float(cell.cytoplasm.radii.mean())
    body = 1 + traits.dome * (1 - 2 * share * share)
    body += traits.rim * ridge(depth - 0.08 * typical, 0.16 * typical)
    body += traits.grain * (0.7 * coarse + 0.7 * medium)
    for _ in range(int(traits.folds + rng.random())):
        angle, bend = rng.uniform(0, np.pi), rng.uniform(-0.6, 0.6)
        along = (xs - cell.cytoplasm.x) * np.cos(angle) + (ys - cell.cytoplasm.y) * np.sin(angle)
        across = (ys - cell.cytoplasm.y) * np.cos(angle) - (xs - cell.cytoplasm.x) * np.sin(angle)
        offset = across - rng.uniform(-0.7, 0.7) * typical + bend * along * along / typical + 1.5 * coarse
        body += rng.uniform(0.25, 0.6) * ridge(offset, rng.uniform(1.5, 3.0))
    for _ in range(int(traits.vacuoles + rng.random())):
        angle, out, size = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.8), rng.uniform(0.06, 0.15) * typical
        dx = xs - cell.cytoplasm.x - out * typical * np.cos(angle)
        dy = ys - cell.cytoplasm.y - out * typical * np.sin(angle)
        bubble = size - np.sqrt(dx * dx + dy * dy)
        body += 0.35 * ridge(bubble, 2.0) - 0.75 * step(bubble, 1.2)
    return traits.density * np.maximum(body, 0.05) * step(depth, cell.softness)


def _halo(
    rng: np.random.Generator, cell: Cell, away: np.ndarray, radius: np.ndarray, coarse: np.ndarray
) -> np.ndarray | float:
    """(h, w) factor on the cytoplasm's dye: a cleared space about the nucleus with a condensed border."""
    clear = cell.traits.halo
    if clear < 0.04:
        return 1.0
    room = float(cell.cytoplasm.radii.mean()) - float(cell.nucleus.radii.mean())
    border = radius + rng.uniform(0.3, 0.6) * room * (1 + 0.12 * coarse) - away
    return 1 - 0.9 * clear * step(border, 1.3) + 0.7 * clear * ridge(border + 2.5, 4.5)
