"""Reading cells for the network: many at once, in threads, and every field once for all of its cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from cytodistill.data.images import Box, ImageError, cut, read_field
from cytodistill.data.slides import slide_of
from cytodistill.data.storage import display
from cytodistill.errors import CytodistillError
from cytodistill.estimators.inputs import ImageInputs, Inputs

# Cells that a thread is given at once, so that handing over costs little beside decoding.
PIECE = 16


@dataclass(frozen=True, slots=True)
class Item:
    """One cell to predict: its image, the window in it where the image holds more than the cell, and its name for
    people."""

    root: str
    path: str
    box: Box | None
    name: str


def read_items(inputs: Inputs, items: Sequence[Item], pool: Executor) -> tuple[np.ndarray, dict[int, str]]:
    """The network's inputs for cells, and why some could not be read.

    Args:
        inputs: of the network.
        items: N cells.
        pool: threads to decode in.

    Returns:
        (N, S, S, 3) uint8, or (N, 27) of an estimator of shapes, and what is wrong with the cells that could not be
        read, by their position; their rows mean nothing.
    """
    cells = np.zeros((len(items), *inputs.shape), inputs.dtype)
    problems: dict[int, str] = {}
    for found in pool.map(lambda piece: _read_piece(inputs, items, piece, cells), _pieces(items)):
        problems |= found
    return cells, problems


def _pieces(items: Sequence[Item]) -> Iterator[list[list[int]]]:
    """The positions of all items, those of one image together, in pieces of ``PIECE`` cells and more."""
    images: dict[tuple[str, str], list[int]] = {}
    for position, item in enumerate(items):
        images.setdefault((item.root, item.path), []).append(position)
    piece: list[list[int]] = []
    for (root, path), positions in images.items():
        if _is_slide(root, path):
            # Windows of a slide are read one by one, by all threads.
            yield from ([positions[at : at + PIECE]] for at in range(0, len(positions), PIECE))
            continue
        piece.append(positions)
        if sum(map(len, piece)) >= PIECE:
            yield piece
            piece = []
    if piece:
        yield piece


def _read_piece(
    inputs: Inputs, items: Sequence[Item], piece: Sequence[Sequence[int]], cells: np.ndarray
) -> dict[int, str]:
    problems: dict[int, str] = {}
    for positions in piece:
        first = items[positions[0]]
        try:
            # Shapes are measured with the contours beside an image, so that they need more of it than its pixels.
            at_once = len(positions) > 1 and isinstance(inputs, ImageInputs) and not _is_slide(first.root, first.path)
            field = read_field(first.root, first.path) if at_once else None
        except CytodistillError as error:
            problems |= dict.fromkeys(positions, str(error))
            continue
        for position in positions:
            item = items[position]
            try:
                if field is None:
                    cells[position] = inputs.read(item.root, item.path, item.box)
                else:
                    cells[position] = inputs.of_image(field if item.box is None else _cut(field, item))
            except CytodistillError as error:
                problems[position] = str(error)
    return problems


def _is_slide(root: str, path: str) -> bool:
    try:
        return slide_of(root, path) is not None
    except CytodistillError:
        # Each of its cells says why it cannot be read.
        return True


def _cut(field: Image.Image, item: Item) -> Image.Image:
    assert item.box is not None
    try:
        return cut(field, *item.box)
    except ImageError as error:
        raise ImageError(f"{display(item.root, item.path)}: {error}") from None
