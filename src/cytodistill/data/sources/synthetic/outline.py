"""Outlines of cells and nuclei: closed curves given by a radius for every direction from a centre."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

DIRECTIONS = 256
ANGLES = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)


@dataclass(frozen=True)
class Outline:
    """Centre (``x``, ``y``) in pixels and ``radii`` (256,) in pixels, one for each of ``ANGLES``."""

    x: float
    y: float
    radii: np.ndarray

    def points(self, count: int) -> np.ndarray:
        """(count, 2) x and y of points along the curve, in pixels; ``count`` divides 256."""
        step = DIRECTIONS // count
        radii, angles = self.radii[::step], ANGLES[::step]
        return np.stack([self.x + radii * np.cos(angles), self.y + radii * np.sin(angles)], axis=1)

    def polar(self, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance from the centre, and the curve's radius in that direction, both in pixels, for every pixel of the
        grid that ``xs`` (w,) and ``ys`` (h, 1) span: two arrays (h, w)."""
        dx, dy = xs - self.x, ys - self.y
        turn = np.arctan2(dy, dx) * (DIRECTIONS / (2 * np.pi)) % DIRECTIONS
        below = turn.astype(np.intp)
        part = turn - below
        closed = np.append(self.radii, self.radii[:2])
        return np.sqrt(dx * dx + dy * dy), closed[below] * (1 - part) + closed[below + 1] * part

    def scaled(self, factor: float) -> Outline:
        return replace(self, radii=self.radii * factor)

    def moved(self, x: float, y: float) -> Outline:
        return replace(self, x=x, y=y)

    def inside(self, outer: Outline, fill: float) -> Outline:
        """This outline, shrunk about its centre until all of it lies within ``fill`` of ``outer``'s radius."""
        shrunk = self
        while shrunk.reach(outer) > fill:
            shrunk = shrunk.scaled(0.95)
        return shrunk

    def reach(self, outer: Outline) -> float:
        """Largest share of ``outer``'s radius, seen from ``outer``'s centre, that a point of this outline takes."""
        points = self.points(64) - (outer.x, outer.y)
        radius = np.interp(np.arctan2(points[:, 1], points[:, 0]), ANGLES, outer.radii, period=2 * np.pi)
        return float((np.hypot(points[:, 0], points[:, 1]) / radius).max())


def of_radius(radii: np.ndarray, radius: float) -> np.ndarray:
    """``radii`` scaled so that the curve encloses the area of a disc of ``radius``."""
    return radii * (radius / np.sqrt(np.mean(radii**2)))


def ellipse(rng: np.random.Generator, elongation: float) -> np.ndarray:
    """(256,) radii of an ellipse of axes' ratio ``elongation`` >= 1, turned at random."""
    angles = ANGLES - rng.uniform(0, np.pi)
    return 1 / np.sqrt(np.cos(angles) ** 2 / elongation + np.sin(angles) ** 2 * elongation)


def polygon(rng: np.random.Generator, corners: int, sharpness: float) -> np.ndarray:
    """(256,) radii of an uneven polygon, from a disc (``sharpness`` 2) to hard corners (20 and more).

    The level set of the p-norm of the distances to the sides, p being the sharpness.
    """
    sides = (np.arange(corners) + rng.uniform(-0.25, 0.25, corners)) * (2 * np.pi / corners) + rng.uniform(0, 2 * np.pi)
    distances = rng.uniform(0.85, 1.15, corners)
    towards = np.maximum(np.cos(ANGLES[:, None] - sides), 0) / distances
    return (towards**sharpness).sum(axis=1) ** (-1 / sharpness)


def wobble(rng: np.random.Generator, amount: float, harmonics: tuple[int, int]) -> np.ndarray:
    """(256,) factors about 1 whose standard deviation is ``amount``, of the given range of waves a turn."""
    orders = np.arange(*harmonics)
    weights = rng.normal(size=orders.size) / np.sqrt(orders)
    phases = rng.uniform(0, 2 * np.pi, orders.size)
    waves = (weights[:, None] * np.cos(orders[:, None] * ANGLES + phases[:, None])).sum(axis=0)
    return np.maximum(1 + amount * waves / waves.std(), 0.4)


def twin(rng: np.random.Generator, apart: float) -> np.ndarray:
    """(256,) radii of two touching discs whose centres lie ``apart`` (0 to 0.95) of their radius from the middle."""
    angles = ANGLES - rng.uniform(0, np.pi)
    return apart * np.abs(np.cos(angles)) + np.sqrt(1 - (apart * np.sin(angles)) ** 2)
