"""One field of view: several cells of a class, bystanders and debris, seen through a stain and a camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from cytodistill.data.sources.synthetic.cell import EOSIN, GREEN, HAEMATOXYLIN, ORANGE, Cell, grow, stain, step
from cytodistill.data.sources.synthetic.outline import DIRECTIONS
from cytodistill.data.sources.synthetic.traits import CLASSES, draw_traits

WIDTH, HEIGHT = 400, 300
CELLS = (3, 4, 5, 6)  # cells in a field, and how often: about the 4.2 cells a cluster of SIPaKMeD
CELLS_SHARE = (0.35, 0.30, 0.20, 0.15)
MARGIN = (2, 13)  # pixels about the cell in its crop, lowest and first beyond the highest, on each side
# Distance between neighbours against the sum of their radii, in the order of CLASSES: dyskeratotic cells lie in heaps.
SPACING = ((0.60, 0.95), (0.75, 1.10), (0.75, 1.10), (0.70, 1.05), (0.75, 1.10))
BORDER = 6  # pixels between a labelled cell and the end of the field

# Optical density that a unit of each dye adds to red, green and blue.
ABSORPTION = np.zeros((4, 3))
ABSORPTION[HAEMATOXYLIN] = (0.90, 0.88, 0.45)
ABSORPTION[EOSIN] = (0.06, 0.38, 0.16)
ABSORPTION[GREEN] = (0.40, 0.15, 0.13)
ABSORPTION[ORANGE] = (0.07, 0.30, 0.62)


@dataclass(frozen=True)
class Field:
    """``image`` (300, 400, 3) uint8 RGB, its labelled cells, and the crop of each: left, top, right, bottom."""

    image: np.ndarray
    cells: tuple[Cell, ...]
    boxes: tuple[tuple[int, int, int, int], ...]


def make_field(seed: int, kind: int, number: int) -> Field:
    """Field ``number`` of class ``kind`` (its place in CLASSES): the same three numbers give the same field."""
    # All in float64: machines differ in the last bits of exp or cos, far below what 8 bits of a pixel can show.
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, kind, number])))
    count = int(rng.choice(CELLS, p=CELLS_SHARE))
    typical = float(np.clip(33 * np.exp(rng.normal(0, 0.17)), 24, 43))
    textures = _textures(rng, typical)
    cells = _place(rng, [grow(rng, draw_traits(rng, kind), typical) for _ in range(count)], rng.uniform(*SPACING[kind]))
    green = rng.uniform(0, 1)
    dyes = np.zeros((4, HEIGHT, WIDTH))
    for cell in cells:
        stain(rng, cell, dyes, textures, green)
    for _ in range(int(rng.integers(0, 4))):
        bystander = grow(rng, draw_traits(rng, int(rng.integers(len(CLASSES)))), typical)
        bystander = bystander.moved(rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT))
        if all(_distance(bystander, cell) > 0.85 for cell in cells):
            stain(rng, bystander, dyes, textures, green)
    _litter(rng, dyes, typical)
    dyes[EOSIN] += np.maximum(rng.uniform(0, 0.03) * textures[0] + rng.uniform(-0.05, 0.1), 0)
    return Field(_photograph(rng, dyes), tuple(cells), tuple(_crop_box(rng, cell) for cell in cells))


def _textures(rng: np.random.Generator, typical: float) -> np.ndarray:
    """(3, H, W) noise of unit variance in bands about wavelengths of 1/2, 1/5 and 1/10 of a cell's diameter."""
    noise = np.fft.rfft2(rng.standard_normal((HEIGHT, WIDTH)))
    squared = np.fft.fftfreq(HEIGHT)[:, None] ** 2 + np.fft.rfftfreq(WIDTH) ** 2
    planes = []
    for parts in (2, 5, 10):
        relative = squared * (2 * typical / parts) ** 2
        plane = np.fft.irfft2(noise * relative * np.exp(-relative), s=(HEIGHT, WIDTH))
        planes.append(plane / plane.std())
    return np.stack(planes)


def _distance(a: Cell, b: Cell) -> float:
    """Distance between two cells' centres, in units of the sum of their mean radii: below 1 they overlap."""
    between = np.hypot(a.cytoplasm.x - b.cytoplasm.x, a.cytoplasm.y - b.cytoplasm.y)
    return float(between / (a.cytoplasm.radii.mean() + b.cytoplasm.radii.mean()))


def _place(rng: np.random.Generator, cells: list[Cell], wanted: float) -> list[Cell]:
    """The cells moved to places wholly inside the field, each about ``wanted`` from its nearest neighbour (see
    ``_distance``)."""
    placed: list[Cell] = []
    for cell in cells:
        reach = float(cell.cytoplasm.radii.max()) + BORDER
        best, best_cost = cell, np.inf
        for _ in range(24):
            at = cell.moved(rng.uniform(reach, WIDTH - reach), rng.uniform(reach, HEIGHT - reach))
            near = min((_distance(at, other) for other in placed), default=wanted)
            cost = near - wanted if near >= wanted else 10 * (wanted - near)
            if cost < best_cost:
                best, best_cost = at, cost
        placed.append(best)
    return placed


def _crop_box(rng: np.random.Generator, cell: Cell) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the cell's crop: its outline and an uneven margin, as a hand would cut it."""
    points = cell.cytoplasm.points(DIRECTIONS)
    left, top = np.maximum(np.floor(points.min(axis=0)) - rng.integers(*MARGIN, size=2), 0)
    right, bottom = np.minimum(np.ceil(points.max(axis=0)) + 1 + rng.integers(*MARGIN, size=2), (WIDTH, HEIGHT))
    return int(left), int(top), int(right), int(bottom)


def _litter(rng: np.random.Generator, dyes: np.ndarray, typical: float) -> None:
    """Add neutrophils (three or four small lobes in a pale cell) and specks of debris to ``dyes``."""

    def blob(x: float, y: float, radius: float, amounts: dict[int, float]) -> None:
        left, top = max(int(x - radius - 3), 0), max(int(y - radius - 3), 0)
        window = dyes[:, top : int(y + radius + 4), left : int(x + radius + 4)]
        dx = left + np.arange(window.shape[2]) - x
        dy = top + np.arange(window.shape[1])[:, None] - y
        disc = step(radius - np.sqrt(dx * dx + dy * dy), 1.2)
        for dye, amount in amounts.items():
            window[dye] += amount * disc

    for _ in range(int(rng.integers(0, 9)) * int(rng.integers(0, 2))):
        x, y, size = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), typical * rng.uniform(0.18, 0.24)
        blob(x, y, size, {GREEN: 0.25, EOSIN: 0.2})
        turn = rng.uniform(0, 2 * np.pi)
        for lobe in range(int(rng.integers(3, 5))):
            angle = turn + lobe * 1.7
            blob(x + 0.5 * size * np.cos(angle), y + 0.5 * size * np.sin(angle), 0.42 * size, {HAEMATOXYLIN: 1.1})
    for _ in range(int(rng.integers(0, 14))):
        dark = rng.uniform(0.2, 1.0)
        blob(rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), rng.uniform(0.6, 2.2), {HAEMATOXYLIN: dark, ORANGE: dark})


def _photograph(rng: np.random.Generator, dyes: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB of ``dyes`` under this field's own stain, lamp, focus and camera."""
    strength = np.exp(rng.normal(0, (0.22, 0.35, 0.35, 0.35)))
    colours = ABSORPTION * np.exp(rng.normal(0, 0.14, ABSORPTION.shape)) * strength[:, None]
    light = np.exp(-np.tensordot(colours * np.exp(rng.normal(0, 0.15)), dyes, axes=(0, 0)))
    sigma = rng.uniform(0.3, 1.3)
    x, y = np.linspace(-1, 1, WIDTH), np.linspace(-1, 1, HEIGHT)[:, None]
    slope = rng.normal(0, 0.04, 2)
    lamp = 1 + slope[0] * x + slope[1] * y - rng.uniform(0, 0.06) * (x * x + y * y)
    white = rng.uniform(205, 240) * np.exp(rng.normal(0, 0.035, 3))
    noise = rng.uniform(1, 4)
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    for channel in range(3):
        seen = gaussian_filter(light[channel], sigma, truncate=3.0) * lamp * white[channel]
        seen += noise * rng.standard_normal((HEIGHT, WIDTH))
        image[:, :, channel] = np.clip(np.rint(seen), 0, 255)
    return image
