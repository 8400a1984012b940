"""The cells that a run is asked about: its own, or those of another source in the run's order of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cytodistill.data.class_map import maps_between
from cytodistill.data.sources import read_source
from cytodistill.data.table import SPLITS, CellTable
from cytodistill.errors import CytodistillError
from cytodistill.infer.training_groups import training_groups
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
            raise CytodistillError(_other_classes(run, source, table, unknown[0]))
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
        CytodistillError: as ``cells_of``, or cells without a label, or cells of another source that trained the run or
            are of a group that did.
    """
    table, rows, split = cells_of(run, source, split, format)
    if source is None:
        refuse_unlabelled(str(run.path), table, rows)
    else:
        refuse_unlabelled(str(source), table, rows)
        if split != "train":
            refuse_trained(run, str(source), table, rows)
    return table, rows, split


def external_cells(run: Run, source: str | Path | CellTable, split: str | None, format: str | None) -> CellTable:
    """The labelled cells of another data set, of whatever classes: all of them, or one of its splits.

    Raises:
        CytodistillError: the source cannot be read, has no such split, cells without a label, or cells of groups that
            trained the run.
    """
    if split is not None and split not in (*SPLITS, "all"):
        raise CytodistillError(f"--split {split}: choose {', '.join(SPLITS)} or all")
    table = source if isinstance(source, CellTable) else read_source(source, format, window=run.recipe.data.window)
    rows = table.indices(split or "all")
    if not len(rows):
        raise CytodistillError(f"{source}: no cells in split {split!r}; leave --split out, and all are taken")
    refuse_unlabelled(str(source), table, rows)
    refuse_trained(run, str(source), table, rows)
    return table.with_frame(table.frame.iloc[rows])


def refuse_unlabelled(source: str, table: CellTable, rows: np.ndarray) -> None:
    """Raise CytodistillError where some of the cells have no label."""
    if unlabelled := int((table.labels[rows] < 0).sum()):
        raise CytodistillError(f"{source}: {unlabelled} cells have no label; use `cytodistill predict` for them")


def refuse_trained(run: Run, source: str, table: CellTable, rows: np.ndarray) -> None:
    """Raise CytodistillError where some of the cells trained the run, or others of their group did."""
    refuse_seen(
        run,
        table,
        rows,
        f"{source}: {{seen}} of its {{all}} cells trained this run, so they cannot test it; leave SOURCE out for "
        "the run's own test split, or give only cells that it has not seen",
    )
    if groups := training_groups(run, table, rows):
        cells = int(table.frame["group"].iloc[rows].isin(groups).sum())
        raise CytodistillError(
            f"{source}: {cells} of its {len(rows)} cells are of groups that trained this run ({_some(groups)}), and "
            "cells of one field are alike; give only cells of other groups"
        )


def _other_classes(run: Run, source: str | Path | CellTable, table: CellTable, unknown: str) -> str:
    """What to say of a source whose classes are not the run's: which maps would join the two, where some are known."""
    where = "the table" if isinstance(source, CellTable) else str(source)
    said = f"{where}: class {unknown!r} is not one of the run's classes ({', '.join(run.classes)}); "
    maps = maps_between(run.classes, table.classes)
    if maps is None:
        return f"{said}rename it, or leave its cells out"
    first, second = maps
    return (
        f"{said}for a test across data sets name both class maps: `cytodistill evaluate {run.path} {where} "
        f"--map {first.name} --source-map {second.name}`"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
