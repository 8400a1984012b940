"""Line charts as SVG whose text stays text and whose colours are the page's.

Written here rather than drawn by matplotlib, whose SVG sets every colour by value, so that it stays white on a dark
page, and takes 20 to 60 kB a chart where this takes 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from matplotlib.ticker import MaxNLocator

from cytodistill.report.tables import Table

WIDTH, HEIGHT = 360.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 42.0, 348.0, 30.0, 226.0
"""Edges of the plot in the drawing's units, which are about CSS pixels."""
REFERENCE = 0
"""Style of what is drawn to compare with: grey and thin."""
STYLES = 6
"""Further styles: each a colour, a dash and a marker of its own, so that none is told by colour alone."""
MARKER = 3.5
MOST_MARKED = 16
"""A line of more points than this is drawn without markers."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """An axis from ``low`` to ``high`` with its label; in per cent, or with ``names`` at 0, 1, … for numbers."""

    label: str
    low: float = 0.0
    high: float = 1.0
    percent: bool = True
    names: Sequence[str] = ()

    @classmethod
    def round_values(cls, label: str, values: Sequence[float]) -> Axis:
        """An axis of shares that ends at the multiples of 0.05 round these, with room to spare."""
        low, high = math.floor(20 * min(values) - 0.25) / 20, math.ceil(20 * max(values) + 0.25) / 20
        return cls(label, max(0.0, low), min(1.0, high))

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Places and what stands there."""
        if self.names:
            return list(enumerate(self.names))
        steps = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        inside = [float(step) for step in steps if self.low - 1e-9 <= step <= self.high + 1e-9]
        return [(step, f"{100 * step:g}" if self.percent else f"{step:g}") for step in inside]


@dataclass(frozen=True)
class Series:
    """Points of one thing, from left to right.

    ``line`` joins them; ``sizes`` are the markers' areas as shares of the largest; ``whiskers`` the ends of each
    point's interval; ``badges`` stand in the place of markers and say what a point is.
    """

    name: str
    points: Sequence[Point]
    style: int
    line: bool = True
    sizes: Sequence[float] = ()
    whiskers: Sequence[Point | None] = ()
    badges: Sequence[str] = ()


@dataclass(frozen=True)
class Chart:
    """A chart by its ``key`` (unique on the page); ``said`` tells in words what it shows, for who cannot see it, and
    ``table`` has its figures."""

    key: str
    title: str
    said: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    table: Table

    @cached_property
    def drawn(self) -> list[Drawn]:
        """The series in the drawing's units."""
        return [Drawn.of(series, self) for series in self.series]

    def across(self, x: float) -> float:
        """A value of the x axis in the drawing's units."""
        return round(LEFT + (x - self.x.low) / (self.x.high - self.x.low) * (RIGHT - LEFT), 1)

    def down(self, y: float) -> float:
        """A value of the y axis in the drawing's units, which count from the top."""
        return round(BOTTOM - (y - self.y.low) / (self.y.high - self.y.low) * (BOTTOM - TOP), 1)


@dataclass(frozen=True)
class Drawn:
    """A series as paths: its ``line``, its ``whiskers``, its ``markers``; its ``badges`` as (x, y, text); and the
    ``sample`` marker of the legend, round 0."""

    name: str
    style: int
    line: str
    whiskers: str
    markers: str
    badges: Sequence[tuple[float, float, str]]
    sample: str

    @classmethod
    def of(cls, series: Series, chart: Chart) -> Drawn:
        """A series in the units of a chart's drawing."""
        at = [(chart.across(x), chart.down(y)) for x, y in series.points]
        whiskers = zip(at, series.whiskers, strict=True) if series.whiskers else ()
        lines = [f"M{x} {chart.down(ends[0])}V{chart.down(ends[1])}" for (x, _), ends in whiskers if ends]
        marked = not series.badges and (len(at) <= MOST_MARKED or not series.line) and series.style != REFERENCE
        radii = [2 * MARKER * math.sqrt(size) for size in series.sizes] or [MARKER] * len(at)
        return cls(
            series.name,
            series.style,
            "M" + "L".join(f"{x} {y}" for x, y in at) if series.line and at else "",
            "".join(lines),
            "".join(marker(series.style, x, y, max(1.5, r)) for (x, y), r in zip(at, radii, strict=True) if marked),
            [(x, y, text) for (x, y), text in zip(at, series.badges, strict=False)],
            marker(series.style, 0, 0, MARKER) if marked else "",
        )


def marker(style: int, x: float, y: float, radius: float) -> str:
    """Path of a style's marker round a place: in turn a disc, a square, a triangle, a square on its tip."""
    if style % 4 == 1:
        r = round(radius, 1)
        return f"M{round(x - r, 1)} {y}a{r} {r} 0 1 0 {round(2 * r, 1)} 0a{r} {r} 0 1 0 {round(-2 * r, 1)} 0Z"
    corners, turned = {2: (4, math.pi / 4), 3: (3, -math.pi / 2), 0: (4, 0.0)}[style % 4]
    angles = [turned + 2 * math.pi * corner / corners for corner in range(corners)]
    tips = [f"{x + 1.25 * radius * math.cos(a):.1f} {y + 1.25 * radius * math.sin(a):.1f}" for a in angles]
    return f"M{'L'.join(tips)}Z"


def spread(points: int, most: int) -> list[int]:
    """Indices of at most ``most`` of so many points, evenly, both ends among them.

    Example:
        >>> spread(9, 3), spread(2, 3)
        ([0, 4, 8], [0, 1])
    """
    if points <= most:
        return list(range(points))
    return [round(step * (points - 1) / (most - 1)) for step in range(most)]
