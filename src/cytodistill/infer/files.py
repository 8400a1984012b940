"""predict: files, folders, zips and manifests in; one record a cell out, as they come, bad files passed over."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cytodistill.data.sources import read_source
from cytodistill.data.storage import display
from cytodistill.data.table import BOX
from cytodistill.errors import CytodistillError
from cytodistill.infer.predictor import Predictor
from cytodistill.infer.writers import RecordWriter, error_record, prediction_record


@dataclass(frozen=True)
class Item:
    """One cell to predict: where it is, and its name for people."""

    root: str
    path: str
    box: tuple[float, float, float, float]
    name: str


def collect(inputs: Sequence[str | Path], format: str | None = None, window: int = 90) -> list[Item]:
    """Cells of all inputs, in their order; labels, where the inputs have some, are not used.

    Raises:
        CytodistillError: an input that is not there, or holds no images.
    """
    items = []
    for given in inputs:
        table = read_source(given, format, window=window, require_labels=False)
        for root, path, *box in table.frame[["root", "path", *BOX]].itertuples(index=False, name=None):
            name = display(root, path)
            if not np.isnan(box[0]):
                name = f"{name}#{box[0]:g},{box[1]:g},{box[2]:g},{box[3]:g}"
            items.append(Item(root, path, tuple(box), name))
    return items


def predict_files(
    predictor: Predictor,
    items: Sequence[Item],
    writer: RecordWriter,
    *,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Write one record an item, in order, decoding ahead of the network on all cores with bounded memory.

    Returns:
        The messages of the items that could not be read; each also stands in its own record.
    """
    problems: list[str] = []
    done = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for batch in _batches(_decoded(predictor, items, pool, 4 * batch_size), batch_size):
            read = [cell for _, cell in batch if not isinstance(cell, CytodistillError)]
            answers = predictor.predict_cells(predictor.stack(read))
            row = 0
            for item, cell in batch:
                writer.write(_record(item, cell, answers, row, predictor))
                if isinstance(cell, CytodistillError):
                    problems.append(str(cell))
                else:
                    row += 1
            done += len(batch)
            if progress:
                progress(done, len(items))
    return problems


def _record(item: Item, cell: Any, answers: Any, row: int, predictor: Predictor) -> dict[str, Any]:
    if isinstance(cell, CytodistillError):
        return error_record(item.name, str(cell))
    used = "ensemble" if predictor.exits > 1 else 1
    return prediction_record(
        item.name, answers.probabilities[row], used, answers.exit_probabilities[row], predictor.classes
    )


def _decoded(
    predictor: Predictor, items: Sequence[Item], pool: ThreadPoolExecutor, ahead: int
) -> Iterator[tuple[Item, np.ndarray | CytodistillError]]:
    """Items with their cells, in order; at most ``ahead`` decoded cells wait."""

    def decode(item: Item) -> np.ndarray | CytodistillError:
        try:
            return predictor.read(item.root, item.path, item.box)
        except CytodistillError as error:
            return error

    waiting: deque[tuple[Item, Future]] = deque()
    for item in items:
        waiting.append((item, pool.submit(decode, item)))
        if len(waiting) >= ahead:
            first, future = waiting.popleft()
            yield first, future.result()
    while waiting:
        first, future = waiting.popleft()
        yield first, future.result()


def _batches(stream: Iterator, size: int) -> Iterator[list]:
    batch: list = []
    for entry in stream:
        batch.append(entry)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
