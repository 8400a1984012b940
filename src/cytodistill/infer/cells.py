"""The cells that a run is asked about: its own, or those of another source in the run's order of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cytodistill.data.sources import read_source
from cytodistill.data.table import SPLITS, CellTable
from cytodistill.errors import CytodistillError
from cytodistill.train.leaks import refuse_seen
from cytodistill.train.run_folder import Run


def cells_of(
    run: Run,
    source: str | Path | CellTable | None,
    split: str,
    format: str | None = None,
    require_labels: bool = True,
) -> tuple[CellTable, np.ndarray, str]:
    """Table in the run's class order, the rows of the split, and the split: "all" where the source has none.

    Args:
        run: a run.
        source: cells; the run's own where it is None.
        split: "test", "val", "train" or "all".
        format: source format, recognised by itself where None.
        require_labels: refuse folders of images without labels.

    Raises:
        CytodistillError: the source cannot be read, has classes that the run does not know, or no such split.
    """
    if split not in (*SPLITS, "all"):
        raise CytodistillError(f"--split {split}: choose {', '.join(SPLITS)} or all")
    if source is None:
        table = run.table()
    else:
        if isinstance(source, CellTable):
            table = source
        else:
            table = read_source(source, format, window=run.recipe.data.window, require_labels=require_labels)
        unknown = sorted(set(table.frame["label"]) - set(run.classes) - {""})
        if unknown:
            raise CytodistillError(
                f"{source}: class {unknown[0]!r} is not one of the run's classes ({', '.join(run.classes)}); "
                "rename it, or leave its cells out"
            )
        table = CellTable(table.frame, run.classes, table.format)
        if not (table.frame["split"] != "").any():
            split = "all"
    rows = table.indices(split)
    if not len(rows):
        raise CytodistillError(f"{source or run.path}: no cells in split {split!r}; choose another with --split")
    return table, rows, split


def cells_to_judge(
    run: Run, source: str | Path | CellTable | None, split: str, format: str | None = None
) -> tuple[CellTable, np.ndarray, str]:
    """As ``cells_of``, for cells that say how good the run is.

    Raises:
        CytodistillError: as ``cells_of``, or cells without a label, or cells of another source that trained the run.
    """
    table, rows, split = cells_of(run, source, split, format)
    unlabelled = int((table.labels[rows] < 0).sum())
    if unlabelled:
        raise CytodistillError(f"{source}: {unlabelled} cells have no label; use `cytodistill predict` for them")
    if source is not None and split != "train":
        refuse_seen(
            run,
            table,
            rows,
            f"{source}: {{seen}} of its {{all}} cells trained this run, so they cannot test it; leave SOURCE out for "
            "the run's own test split, or give only cells that it has not seen",
        )
    return table, rows, split
