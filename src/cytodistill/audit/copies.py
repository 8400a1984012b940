"""Cells of a table that are the same picture, nearly or in part: exact copies, near copies, windows that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytodistill.data.inspect import Duplicate
from cytodistill.data.near_duplicates import Pair
from cytodistill.data.storage import display
from cytodistill.data.table import BOX, CellTable

OVERLAP = 0.5
"""Windows that share at least this part of the smaller one's area show much the same."""


@dataclass(frozen=True)
class Copies:
    """What is alike among the N rows of a table.

    ``exact`` (N,) codes: rows of one code are the same pixels. ``near`` pairs by perceptual hash and by embedding that
    are not exact copies; ``overlapping`` (n, 2) rows, first < second, whose windows in one image overlap.
    """

    exact: NDArray[np.int64]
    near: tuple[Pair, ...]
    overlapping: NDArray[np.int64]

    def pairs(self, kind: str) -> NDArray[np.int64]:
        """(n, 2) rows of the pairs of one kind: "exact", "hash", "embedding" or "overlap"."""
        if kind == "overlap":
            return self.overlapping
        if kind == "exact":
            return _neighbours(self.exact)
        return np.array([pair[:2] for pair in self.near if pair.kind == kind], np.int64).reshape(-1, 2)


def exact_copies(table: CellTable, duplicates: Sequence[Duplicate]) -> NDArray[np.int64]:
    """(N,) codes, equal for rows that are the same window of the same file, or of files of the same content.

    Args:
        table: the cells.
        duplicates: files of equal content, from ``inspect_source`` of this table.
    """
    frame = table.frame
    names = [display(root, path) for root, path in zip(frame["root"], frame["path"], strict=True)]
    content = {path: duplicate.paths[0] for duplicate in duplicates for path in duplicate.paths}
    cells = pd.DataFrame({"file": [content.get(name, name) for name in names]}, index=frame.index)
    cells = pd.concat([cells, frame[list(BOX)].fillna(-1.0).round(3)], axis=1)
    return np.asarray(cells.groupby(list(cells.columns), sort=False).ngroup(), np.int64)


def overlapping_windows(table: CellTable, share: float = OVERLAP) -> NDArray[np.int64]:
    """(n, 2) rows, first < second, whose windows in one image share at least ``share`` of the smaller one's area, and
    are not the very same window. None where cells are whole images."""
    frame = table.frame.reset_index(drop=True)
    found = [np.empty((0, 2), np.int64)]
    for _, rows in frame[frame["x"].notna()].groupby(["root", "path"], sort=False):
        x, y, width, height = (rows[side].to_numpy(float) for side in BOX)
        across = np.minimum.outer(x + width, x + width) - np.maximum.outer(x, x)
        down = np.minimum.outer(y + height, y + height) - np.maximum.outer(y, y)
        shared = np.clip(across, 0, None) * np.clip(down, 0, None)
        area = width * height
        alike = shared >= share * np.minimum.outer(area, area)
        same = (shared == area[:, None]) & (shared == area)
        first, second = np.nonzero(np.triu(alike & ~same, 1))
        index = rows.index.to_numpy(np.int64)
        found.append(np.sort(np.stack([index[first], index[second]], axis=1), axis=1))
    return np.concatenate(found)


def find_copies(
    table: CellTable, duplicates: Sequence[Duplicate], hashed: Sequence[Pair], embedded: Sequence[Pair]
) -> Copies:
    """All of it together; near copies that are exact ones are left out of ``near``."""
    exact = exact_copies(table, duplicates)
    near = tuple(pair for pair in (*hashed, *embedded) if exact[pair.first] != exact[pair.second])
    return Copies(exact, near, overlapping_windows(table))


def copies_frame(table: CellTable, copies: Copies) -> pd.DataFrame:
    """One row a pair of exact or near copies, the worst first: kind, distance (bits, or 1 − cosine), both cells with
    path, window, group and label, and whether they are of two groups or under two labels."""
    listed = [(first, second, 0.0, "exact") for first, second in copies.pairs("exact").tolist()]
    pairs = pd.DataFrame([*listed, *copies.near], columns=["first", "second", "distance", "kind"])
    frame = table.frame.reset_index(drop=True)
    boxed = [side for side in BOX if frame[side].notna().any()]
    columns = {"kind": pairs["kind"], "distance": pairs["distance"]}
    for end in ("first", "second"):
        cells = frame.iloc[pairs[end].to_numpy(int)].reset_index(drop=True)
        columns |= {f"{end}_row": pairs[end]} | {
            f"{end}_{name}": cells[name] for name in ("path", *boxed, "group", "label")
        }
    shown = pd.DataFrame(columns)
    known = (shown["first_label"] != "") & (shown["second_label"] != "")
    shown["labels_differ"] = known & (shown["first_label"] != shown["second_label"])
    shown["groups_differ"] = shown["first_group"] != shown["second_group"]
    worst = ["labels_differ", "groups_differ"]
    return shown.sort_values(
        [*worst, "kind", "distance"], ascending=[False, False, True, True], kind="stable", ignore_index=True
    )


def _neighbours(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n, 2) rows of each code, each with the next one: n − 1 pairs for n equal cells, not n²."""
    order = np.argsort(codes, kind="stable")
    same = codes[order][1:] == codes[order][:-1]
    return np.stack([order[:-1][same], order[1:][same]], axis=1)
