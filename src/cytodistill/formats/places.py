"""Where the cells of a field are: outlines and points, checked, and the windows that are cut for them."""

from __future__ import annotations

import json
import math
from typing import Any, Literal, NoReturn

import numpy as np

from cytodistill.errors import CytodistillError, reason

Cut = Literal["window", "outline"]


class CellsError(CytodistillError):
    """A list of cells that cannot be used; whoever knows its name puts that before the message."""


def parse_json(text: str | bytes) -> Any:
    """JSON as it is; the NaN and Infinity that some tools write become floats.

    Raises:
        CellsError: it is no JSON.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise CellsError("not JSON (nested too deeply); export it again") from None
    except ValueError as error:
        raise CellsError(f"not JSON ({reason(error)}); export it again") from None


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number that coordinates can be made of."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def extent(points: list[list[float]]) -> tuple[float, float, float, float]:
    """x, y, width and height round some points."""
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def refuse_outside(extents: np.ndarray, size: tuple[int, int], called: str) -> None:
    """Check that all cells lie in their field.

    Args:
        extents: (N, 4) x, y, width, height.
        size: width and height of the field in pixels.
        called: what a cell is in its file, like "feature".

    Raises:
        CellsError: the centre of one does not.
    """
    centres = extents[:, :2] + extents[:, 2:] / 2
    beyond = np.maximum(-centres, centres - size).max(axis=1)
    outside = np.flatnonzero(beyond > 0)
    if not len(outside):
        return
    first = outside[0]
    more = f", and {len(outside) - 1} more are" if len(outside) > 1 else ""
    x, y = centres[first]
    raise CellsError(
        f"{called} {first + 1} is at ({x:g}, {y:g}), outside the field of {size[0]}×{size[1]} pixels{more}; give the "
        "cells of this field, in its pixels"
    )


def windows(extents: np.ndarray, side: float, cut: Cut) -> np.ndarray:
    """(N, 4) windows x, y, width, height to cut.

    Args:
        extents: (N, 4) x, y, width, height of outlines; points have no width and height.
        side: of a window round a centre.
        cut: what is cut of a cell that has an outline, the window round its centre, or what the outline spans. Points
            have their window.
    """
    corner = extents[:, :2] + extents[:, 2:] / 2 - side / 2
    squares = np.concatenate([corner, np.full((len(extents), 2), float(side))], axis=1)
    if cut == "window":
        return squares
    return np.where(extents[:, 2:].min(axis=1, keepdims=True) > 0, extents, squares)


def refuse(called: str, number: int, why: str) -> NoReturn:
    """Raise the CellsError of one cell, counted from 0 in the program and from 1 in the message."""
    raise CellsError(f"{called} {number + 1}: {why}")
