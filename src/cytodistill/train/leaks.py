"""Cells that a run has seen must not judge it, nor judge what learnt from it."""

from __future__ import annotations

import numpy as np

from cytodistill.data.sources import read_source
from cytodistill.data.storage import content_stamp, has_file
from cytodistill.data.table import BOX, CellTable
from cytodistill.errors import CytodistillError
from cytodistill.train.run_folder import Run


def cells_seen(run: Run, table: CellTable, rows: np.ndarray) -> int:
    """How many of ``rows`` of a table were training or validation cells of ``run``.

    A cell is the same where its path inside the source, its box and the content of its file are; where the run's own
    file is gone, path and box decide. A run whose manifest is gone has nothing to be compared with: 0.
    """
    manifest = run.path / "manifest.csv"
    if not manifest.is_file():
        return 0
    try:
        frame = read_source(manifest).frame
    except CytodistillError:
        return 0  # its images were moved away, so these are not they
    used = frame[frame["split"].isin(["train", "val"])]
    roots = dict(zip(_keys(used), used["root"], strict=True))
    chosen = table.frame.iloc[rows]
    stamps: dict[tuple[str, str], str] = {}

    def stamp(root: str, path: str) -> str:
        if (root, path) not in stamps:
            stamps[root, path] = content_stamp(root, path) if has_file(root, path) else "gone"
        return stamps[root, path]

    seen = 0
    for key, root, path in zip(_keys(chosen), chosen["root"], chosen["path"], strict=True):
        if key in roots:
            before = roots[key]
            seen += before == root or stamp(before, path) in ("gone", stamp(root, path))
    return seen


def refuse_seen(run: Run, table: CellTable, rows: np.ndarray, message: str) -> None:
    """Raise CytodistillError where ``cells_seen`` counts any; ``message`` has {seen} and {all} to fill in."""
    if seen := cells_seen(run, table, rows):
        raise CytodistillError(message.format(seen=seen, all=len(rows)))


def _keys(frame) -> list[tuple]:
    boxes = frame[list(BOX)].fillna(-1.0).round(1)
    return list(zip(frame["path"], *(boxes[side] for side in BOX), strict=True))
