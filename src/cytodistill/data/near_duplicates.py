"""Cells that are nearly the same picture: re-encoded, resized, turned or mirrored copies, by perceptual hash or by a
network's features, and what they spoil.

Files of the very same bytes are found by ``inspect``. What is looked for here is what a copy looks like after it was
saved, cropped and labelled again: the same cell in training and test makes a figure too good, and one cell under two
labels makes both wrong.

The thresholds were chosen on the 685 cells of Herlev's development set at 96 px (232,844 pairs of different
acquisitions, which cannot be copies; the nearest of 8 turns):

| copy | bits that differ: 99 % / most | correlation: least |
| --- | --- | --- |
| JPEG quality 90 / 75 / 40 / 20 | 2 / 2, 2 / 4, 4 / 5, 6 / 9 | .999, .997, .989, .969 |
| to 48 px and back, JPEG 90 | 2 / 3 | .988 |
| to 64 px and back, JPEG 75 | 3 / 4 | .991 |
| shifted by 1 px / 2 px | 10 / 15, 16 / 23 | .905, .712 |
| **different cells** | least 9; 9 pairs up to 10 | most .939 |

So ``BITS`` = 8 has every copy but the worst JPEG, and ``CORRELATION`` = 0.95 what the hash alone would let through:
different cells get twice as many with each further bit, so that among the 2e8 pairs of 20,000 cells hundreds are within
8 by chance. Windows round the same nucleus that are shifted by a pixel or more are found in part, by 4 px not at all;
features find more of them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cytodistill.data.storage import display
from cytodistill.data.table import BOX, CellTable
from cytodistill.errors import CytodistillError

if TYPE_CHECKING:
    from rich.console import RenderableType

BITS = 8
CORRELATION = 0.95
MOST = 1_000_000
"""More pairs than this are a threshold that finds likeness, not copies."""
SHOWN = 10
"""Pairs of each kind named by ``render``; ``to_dict`` has them all."""

_SIDE = 32
_LOW = 8
_TURNS = 8
_TILE = 512
_GREY = np.array([0.299, 0.587, 0.114], np.float32)

Kind = Literal["hash", "embedding"]


class Pair(NamedTuple):
    """Two rows of a table, ``first`` < ``second``, and how far apart they are: bits that differ (``hash``, 0 to 64) or
    1 − cosine (``embedding``, 0 to 2)."""

    first: int
    second: int
    distance: float
    kind: Kind


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of a table, nearest first, and those of them that spoil a result."""

    pairs: tuple[Pair, ...]
    across_splits: tuple[Pair, ...]
    """In two splits, or in two folds: the same cell in training and test."""
    across_groups: tuple[Pair, ...]
    """In two groups: another split by group can leak, though this one may not."""
    conflicting: tuple[Pair, ...]
    """Under two labels: at least one is wrong."""

    def to_dict(self, table: CellTable) -> dict:
        """The findings as JSON takes them, cells by name; ``table`` is the one that was judged."""

        def entry(pair: Pair) -> dict:
            rows = table.frame.iloc[[pair.first, pair.second]]
            columns = {name: rows[name].tolist() for name in ("label", "group", "split", "fold")}
            named = [_name(table, row) for row in pair[:2]]
            return {"cells": named, "distance": pair.distance, "kind": pair.kind, **columns}

        kinds = ("pairs", "across_splits", "across_groups", "conflicting")
        return {kind: [entry(pair) for pair in getattr(self, kind)] for kind in kinds}


def perceptual_hashes(cells: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(N, 8) hashes of (N, S, S, 3) uint8 cells: column 0 of the cell as it is, the others of its turns and mirrors.

    pHash (Zauner 2010): the cell in grey, averaged to 32×32; its discrete cosine transform (DCT-II); of that the 8×8
    coefficients of frequencies 1 to 8, a bit each. A bit says whether its coefficient is positive, where Zauner has it
    above their median: a mirror image changes the sign of the odd frequencies and a transposition swaps u and v, so
    signs make the distance the same from either cell, and all eight hashes come from one transform. The median of
    coefficients without the constant one is nearly 0 anyway. On the cells of the module's table signs tell copies from
    others at least as well.
    """
    return _signs(_thumbnails(cells))


def hash_pairs(cells: NDArray[np.uint8], bits: int = BITS, correlation: float = CORRELATION) -> list[Pair]:
    """Pairs of cells of which one is a copy of the other, maybe turned or mirrored; nearest first.

    A pair's hashes differ by at most ``bits`` in one of the 8 turns, and in one of them the two grey 32×32 pictures
    correlate by at least ``correlation`` (Pearson; brightness and contrast do not matter). A picture of one grey
    correlates with nothing.

    Args:
        cells: (N, S, S, 3) uint8, such as ``cached_cells`` gives.
        bits: 0 to 64. See the module's table.
        correlation: -1 to 1; -1 leaves it to the hash alone.

    Raises:
        CytodistillError: a threshold out of range, or one that a million pairs and more meet.
    """
    if not 0 <= bits <= 64:
        raise CytodistillError(f"bits={bits}: a hash has 64 bits; give 0 to 64, for example {BITS}")
    if not -1 <= correlation <= 1:
        raise CytodistillError(f"correlation={correlation:g}: give -1 to 1, for example {CORRELATION}")
    grey = _thumbnails(cells)
    hashes = _signs(grey)
    first, second, distance = _joined(_near_hashes(hashes, bits), f"bits={bits}")
    if correlation > -1 and len(first):
        grey -= grey.mean(axis=(1, 2), keepdims=True)
        length = np.sqrt((grey**2).sum(axis=(1, 2), keepdims=True))
        # Below half a grey level of contrast there is rounding, not a picture.
        grey = np.where(length > 0.5 * _SIDE, grey / np.maximum(length, 1e-6), 0)
        like = np.concatenate(
            [_best_correlation(grey[first[n : n + _TILE]], grey[second[n : n + _TILE]]) for n in _starts(len(first))]
        )
        kept = like >= correlation
        first, second, distance = first[kept], second[kept], distance[kept]
    return _pairs(first, second, distance, "hash")


def embedding_pairs(vectors: NDArray[np.floating], distance: float) -> list[Pair]:
    """Pairs of cells whose embeddings differ by 1 − cosine of at most ``distance``; nearest first.

    There is no threshold for every network: a trained classifier draws a class together, so that its distances are
    smaller than those of a network that was not trained on these cells, which is the better choice here. Take
    ``copy_distance`` of the same network: how far apart it puts a cell and a re-encoded copy.

    Args:
        vectors: (N, D) of length one, row by row of the table.
        distance: 0 to 2.

    Raises:
        CytodistillError: vectors of another length, a distance out of range, or one that a million pairs and more
            meet.
    """
    if not 0 <= distance <= 2:
        raise CytodistillError(f"distance={distance:g}: 1 − cosine is from 0 to 2; give copy_distance of the network")
    unit = _checked(vectors)
    return _pairs(*_joined(_near_vectors(unit, distance), f"distance={distance:g}"), "embedding")


def copy_distance(vectors: NDArray[np.floating], copies: NDArray[np.floating], share: float = 0.99) -> float:
    """1 − cosine that ``share`` of the cells keep to their own copy: the threshold for ``embedding_pairs``.

    Args:
        vectors: (N, D) embeddings of length one; a few hundred cells are enough.
        copies: (N, D) of the same network for ``reencoded`` copies of the same cells.
        share: of the copies that shall be found.
    """
    if not 0 < share <= 1:
        raise CytodistillError(f"share={share:g}: give a share of the copies above 0 and up to 1, for example 0.99")
    one, other = _checked(vectors), _checked(copies)
    if one.shape != other.shape or not len(one):
        raise CytodistillError(f"copies: {other.shape} embeddings for {one.shape} cells; give one copy of each cell")
    return float(np.quantile(np.clip(1 - (one * other).sum(axis=1), 0, 2), share))


def reencoded(cells: NDArray[np.uint8], quality: int = 40) -> NDArray[np.uint8]:
    """(N, S, S, 3) uint8 copies of the cells, saved as JPEG of that quality and read again."""
    copies = np.empty_like(cells)
    for row, cell in enumerate(cells):
        file = io.BytesIO()
        Image.fromarray(cell).save(file, "JPEG", quality=quality)
        copies[row] = np.asarray(Image.open(file))
    return copies


def judge_pairs(table: CellTable, pairs: Sequence[Pair]) -> NearDuplicates:
    """Which pairs of rows of ``table`` lie across splits (or folds), across groups, and under two labels. Cells
    without a label, a split or a fold are no finding for it."""
    frame = table.frame
    if pairs and max(pair.second for pair in pairs) >= len(frame):
        raise CytodistillError(f"pairs: name rows beyond the table's {len(frame)}; find them on the same table")
    columns = {name: frame[name].to_numpy(object) for name in ("split", "fold", "group", "label")}
    unassigned = {"split": "", "fold": -1, "group": None, "label": ""}

    def differ(pair: Pair, column: str) -> bool:
        one, other = columns[column][pair.first], columns[column][pair.second]
        return one != other and unassigned[column] not in (one, other)

    ordered = tuple(sorted(pairs, key=lambda pair: (pair.kind, pair.distance, pair.first, pair.second)))
    return NearDuplicates(
        pairs=ordered,
        across_splits=tuple(pair for pair in ordered if differ(pair, "split") or differ(pair, "fold")),
        across_groups=tuple(pair for pair in ordered if differ(pair, "group")),
        conflicting=tuple(pair for pair in ordered if differ(pair, "label")),
    )


def join_groups(table: CellTable, pairs: Sequence[Pair]) -> CellTable:
    """The table with groups that share a cell made one, so that a split by group cannot part copies: the mend for
    pairs across groups.

    A joined group has the name of the first of its groups, sorted. Splits and folds stay as they are; split again
    (``CellTable.check_groups`` says where that is needed).
    """
    names, codes = np.unique(table.groups.astype(str), return_inverse=True)
    rows = np.array([pair[:2] for pair in pairs], np.int64).reshape(-1, 2)
    linked = codes[rows]
    graph = coo_array((np.ones(len(linked), np.int8), (linked[:, 0], linked[:, 1])), shape=(len(names), len(names)))
    _, part = connected_components(graph, directed=False)
    # Codes rise with the sorted names, so a part's first occurrence is its first name.
    _, first = np.unique(part, return_index=True)
    return table.with_frame(table.frame.assign(group=names[first[part[codes]]].tolist()))


def render(found: NearDuplicates, table: CellTable) -> Iterator[RenderableType]:
    """The findings for a terminal, as rich renderables to be printed one after another."""
    from rich.text import Text

    yield Text(f"near duplicates: {len(found.pairs) or 'none'}", style="yellow" if found.pairs else "green")
    for title, column, pairs in (
        (
            "in different splits: one of each pair must go, or split again by joined groups",
            "split",
            found.across_splits,
        ),
        ("under different labels: look at them, at least one is wrong", "label", found.conflicting),
        ("in different groups: join the groups before you split", "group", found.across_groups),
    ):
        if not pairs:
            continue
        yield Text(f"  of these {title}: {len(pairs)}", style="red")
        for pair in pairs[:SHOWN]:
            says = " = ".join(f"{_name(table, row)} ({_of(table, row, column)})" for row in pair[:2])
            yield Text(f"    {says}, {_far(pair)}")
        if len(pairs) > SHOWN:
            yield Text(f"    and {len(pairs) - SHOWN} more (--json lists all)")


def _of(table: CellTable, row: int, column: str) -> str:
    cell = table.frame.iloc[row]
    return f"fold {cell['fold']}" if column == "split" and not cell["split"] else cell[column]


def _far(pair: Pair) -> str:
    return f"{pair.distance:g} of 64 bits" if pair.kind == "hash" else f"1 − cosine {pair.distance:.3f}"


def _name(table: CellTable, row: int) -> str:
    cell = table.frame.iloc[row]
    name = display(cell["root"], cell["path"])
    window = [cell[side] for side in BOX]
    return name if np.isnan(window[0]) else f"{name} at ({window[0]:g}, {window[1]:g})"


def _thumbnails(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 32, 32) grey pictures, each pixel the average of the area that it covers."""
    if cells.ndim != 4 or cells.shape[1] != cells.shape[2] or cells.shape[3] != 3 or cells.dtype != np.uint8:
        raise CytodistillError(
            f"cells: {cells.dtype} of shape {cells.shape}; give uint8 of shape (N, S, S, 3), as cached_cells does"
        )
    side = cells.shape[1]
    edges = np.linspace(0, side, _SIDE + 1)
    pixel = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    average = (np.clip(overlap, 0, None) * (_SIDE / side)).astype(np.float32)
    grey = np.empty((len(cells), _SIDE, _SIDE), np.float32)
    # By blocks: the cells are a memory map that may be larger than the memory.
    for start in range(0, len(cells), 256):
        grey[start : start + 256] = average @ (cells[start : start + 256] @ _GREY) @ average.T
    return grey


def _signs(grey: NDArray[np.float32]) -> NDArray[np.uint64]:
    """(N, 8) hashes of (N, 32, 32) pictures."""
    low = dctn(grey, type=2, norm="ortho", axes=(1, 2))[:, 1 : _LOW + 1, 1 : _LOW + 1]
    odd = np.where(np.arange(1, _LOW + 1) % 2, -1, 1).astype(np.float32)
    hashes = np.empty((len(grey), _TURNS), np.uint64)
    for turn in range(_TURNS):
        turned = low.transpose(0, 2, 1) if turn & 4 else low
        turned = turned * (odd[:, None] if turn & 2 else 1) * (odd if turn & 1 else 1)
        # What a symmetric picture lacks is 0 up to rounding, and shall not become random bits.
        bits = (turned > 1e-3).reshape(len(grey), 64)
        hashes[:, turn] = np.packbits(bits, axis=1).view(np.uint64)[:, 0]
    return hashes


def _starts(length: int) -> range:
    return range(0, length, _TILE)


Found = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def _near_hashes(hashes: NDArray[np.uint64], bits: int) -> Iterator[Found]:
    """Pairs within ``bits``, tile by tile of the upper triangle: XOR and a count of bits for each turn. A tile's
    intermediate results stay in the processor's cache; an index of parts of the hash would save little at 8 turns."""
    for top in _starts(len(hashes)):
        for left in range(top, len(hashes), _TILE):
            one, others = hashes[top : top + _TILE, :1], hashes[left : left + _TILE]
            nearest = np.full((len(one), len(others)), 65, np.uint8)
            for turn in range(_TURNS):
                np.minimum(nearest, np.bitwise_count(one ^ others[:, turn]), out=nearest)
            yield _within(nearest, bits, top, left)


def _near_vectors(unit: NDArray[np.float32], distance: float) -> Iterator[Found]:
    for top in _starts(len(unit)):
        for left in range(top, len(unit), _TILE):
            apart = 1 - unit[top : top + _TILE] @ unit[left : left + _TILE].T
            # float32 puts a vector and itself up to 1e-6 apart, on either side of 0.
            yield _within(np.clip(apart, 0, None), distance + 1e-6, top, left)


def _within(apart: NDArray, most: float, top: int, left: int) -> Found:
    row, column = np.nonzero(apart <= most)
    upper = row + top < column + left
    row, column = row[upper], column[upper]
    return row + top, column + left, apart[row, column].astype(np.float64)


def _joined(tiles: Iterator[Found], setting: str) -> Found:
    parts: list[Found] = []
    count = 0
    for part in tiles:
        count += len(part[0])
        if count > MOST:
            raise CytodistillError(
                f"{setting}: more than {MOST:,} pairs of cells are that near, so it finds likeness and not copies; "
                "lower it"
            )
        parts.append(part)
    first, second, distance = (np.concatenate([part[n] for part in parts] or [np.empty(0)]) for n in range(3))
    return first.astype(np.int64), second.astype(np.int64), distance


def _best_correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) highest sum of products of (n, 32, 32) pictures over the eight turns of the other."""
    best = np.full(len(one), -1, np.float32)
    for turn in range(_TURNS):
        turned = other.transpose(0, 2, 1) if turn & 4 else other
        turned = turned[:, :: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1]
        np.maximum(best, (one * turned).sum(axis=(1, 2)), out=best)
    return best


def _pairs(first: NDArray, second: NDArray, distance: NDArray, kind: Kind) -> list[Pair]:
    order = np.lexsort((second, first, distance))
    columns = (first[order].tolist(), second[order].tolist(), distance[order].tolist())
    return [Pair(*found, kind) for found in zip(*columns, strict=True)]


def _checked(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    known = np.asarray(vectors, np.float32)
    if known.ndim != 2 or not np.allclose(np.linalg.norm(known, axis=1), 1, atol=1e-3):
        raise CytodistillError(
            f"embeddings: of shape {known.shape} and not all of length one; give (N, D), each row divided by its norm"
        )
    return known
