"""A table that training can start from: read, labelled, split, and checked for leaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cytodistill.data.sources import read_source
from cytodistill.data.split import split_table, split_validation
from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError
from cytodistill.recipe import Recipe


def prepare_table(source: str | Path | CellTable, recipe: Recipe, format: str | None = None) -> CellTable:
    """Table of ``source`` with every cell in a split, by the recipe's ``data`` section.

    Splits that the source has are kept; where it has no validation split, a share of its training cells becomes one.
    A source without splits is split by the recipe's ratio, by group.

    Raises:
        CytodistillError: the source cannot be read, cells lack a label or a split, a group is in two splits, or
            the training split has fewer than two classes.
    """
    data = recipe.data
    table = source if isinstance(source, CellTable) else read_source(source, format, window=data.window)
    if not len(table):
        raise CytodistillError(f"{source}: no cells")
    unlabelled = int((table.labels < 0).sum())
    if unlabelled:
        raise CytodistillError(f"{source}: {unlabelled} cells have no label; training needs one for each")
    assigned = (table.frame["split"] != "").to_numpy()
    if data.fold is not None:
        table = table.with_fold(data.fold)
    elif (table.frame["fold"] >= 0).any() and not assigned.any():
        raise CytodistillError(
            f"{source}: has folds and no splits; say which fold is the test split with --set data.fold=0 "
            f"(to {int(table.frame['fold'].max())})"
        )
    elif not assigned.any():
        table = split_table(table, ratio=data.ratio, group=data.group, seed=recipe.seed)
    elif not assigned.all():
        raise CytodistillError(
            f"{source}: {int((~assigned).sum())} cells have no split and the others have; give each one, or none"
        )
    elif data.val_fraction and len(table.indices("train")) and not len(table.indices("val")):
        try:
            ratio = round(1 - data.val_fraction, 6), round(data.val_fraction, 6)
            table = split_validation(table, ratio, recipe.seed, data.group)
        except CytodistillError as error:
            raise CytodistillError(f"{error}; or train without validation, data.val_fraction=0") from None
    if data.group != "none":
        table.check_groups()
    trained = np.unique(table.labels[table.indices("train")])
    if len(trained) < 2:
        raise CytodistillError(
            f"{source}: the training split has {len(table.indices('train'))} cells of {len(trained)} classes; "
            "it needs cells of at least two"
        )
    return table
