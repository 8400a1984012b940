"""Files, folders, zips and manifests to a list of cells, and such a list to records, with a predictor that is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pandas as pd

from cytodistill.data.sources import read_source
from cytodistill.data.table import CellTable
from cytodistill.infer.batch_answer import Answering
from cytodistill.infer.batch_list import Items
from cytodistill.infer.batch_rules import Rules
from cytodistill.infer.predictor import Predictor
from cytodistill.infer.writers import RecordWriter


def collect(inputs: Sequence[str | Path], format: str | None = None, window: int = 90, grouped: bool = False) -> Items:
    """Cells of all inputs, in their order; labels, where the inputs have some, are not used.

    Args:
        inputs: image files, folders, zip archives or manifests.
        format: source format, recognised by itself where None.
        window: side in pixels of a cell, where a source gives nuclei.
        grouped: keep the groups of the cells too; images of a folder or archive without more to go by are of the folder
            that they lie in.

    Raises:
        CytodistillError: an input that is not there, or holds no images.
    """
    tables = ((given, read_source(given, format, window=window, require_labels=False)) for given in inputs)
    return Items((by_folder(table, given) if grouped else table.frame for given, table in tables), grouped)


def by_folder(table: CellTable, given: str | Path) -> pd.DataFrame:
    """The rows of a source. Where each image stands alone, for nothing was known of it but its name, its group is its
    folder, and the source itself for images that lie in none."""
    frame = table.frame
    if Path(given).suffix.lower() == ".csv" or table.classes or not (frame["group"] == frame["path"]).all():
        return frame
    folder = frame["path"].str.rpartition("/")[0]
    return frame.assign(group=folder.where(folder != "", Path(given).name))


def predict_files(
    predictor: Predictor,
    items: Items,
    writer: RecordWriter,
    *,
    rules: Rules | None = None,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Write one record an item, in order, reading ahead of the network on all cores with bounded memory.

    Args:
        predictor: answers.
        items: from `collect`.
        writer: of the columns of the predictor and the rules.
        rules: what is made of the answers; by default they are left as the network gives them.
        batch_size: cells computed at once.
        progress: is told how many of how many items are done.

    Returns:
        The messages of the items that could not be read; each also stands in its own record.
    """
    problems: list[str] = []
    done = 0
    with closing(Answering([predictor], rules or Rules(), writer.layout, batch_size)) as answering:
        for block in answering.blocks(items):
            writer.put(block.text)
            problems += block.problems
            done += block.cells
            if progress:
                progress(done, len(items))
    return problems
