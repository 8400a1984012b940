"""What a split lets through: test cells that have a companion among the training cells."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytodistill.audit.copies import Copies
from cytodistill.data.table import CellTable

KINDS = {
    "own_group": "a cell of\ntheir group",
    "exact": "an exact\ncopy",
    "hash": "a near copy\n(hash)",
    "embedding": "a near copy\n(embedding)",
    "overlap": "a window that\noverlaps by half",
}
"""What a test cell can have in training, by the name in audit.json."""


def split_leaks(split: ArrayLike, groups: ArrayLike, copies: Copies) -> dict[str, int]:
    """{"test": n, "own_group": …, "exact": …, …}: how many of the n test cells have such a companion in training.

    Args:
        split: (N,) "train", "val" or "test" of each row.
        groups: (N,) the source's groups, whatever the split respected.
        copies: of the same N rows.
    """
    of = np.asarray(split)
    train, test = of == "train", of == "test"
    leaks = {"test": int(test.sum())}
    for name, codes in (("own_group", np.asarray(groups)), ("exact", copies.exact)):
        leaks[name] = int(np.isin(codes[test], codes[train]).sum())
    for name in ("hash", "embedding", "overlap"):
        leaks[name] = int((_joined(train, copies.pairs(name)) & test).sum())
    return leaks


def group_sizes(table: CellTable) -> dict[str, Any]:
    """How many groups, their sizes in cells, and the largest of them."""
    sizes = table.frame.groupby("group").size().sort_values(ascending=False, kind="stable")
    return {
        "count": len(sizes),
        "smallest": int(sizes.min()),
        "median": float(sizes.median()),
        "largest": int(sizes.max()),
        "of_one_cell": int((sizes == 1).sum()),
        "with_several_classes": int((table.frame.groupby("group")["label"].nunique() > 1).sum()),
        "most_cells": {str(name): int(count) for name, count in sizes.head(10).items()},
    }


def _joined(marked: NDArray[np.bool_], pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,) whether a row stands in a pair with a marked one."""
    found = np.zeros(len(marked), bool)
    for one, other in ((0, 1), (1, 0)):
        found[pairs[marked[pairs[:, one]], other]] = True
    return found
