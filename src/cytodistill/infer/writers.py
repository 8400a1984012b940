"""Predictions as records, and records as text: the rows of a CSV or the lines of a JSON-lines file."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import numpy as np
from numpy.typing import ArrayLike

from cytodistill.errors import CytodistillError
from cytodistill.files import replacing

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """How records become text: what a file with these columns begins with, and the lines of some of its records."""

    head: Callable[[Sequence[str]], str]
    lines: Callable[[Sequence[str], Sequence[Record]], str]


def _csv_lines(columns: Sequence[str], records: Sequence[Record]) -> str:
    rows: list[str] = []
    # The csv module quotes a carriage return in a file's name only where its own line end has one.
    writer = csv.writer(SimpleNamespace(write=rows.append), lineterminator="\r\n")
    writer.writerows([record.get(column) for column in columns] for record in records)
    return "".join(row.removesuffix("\r\n") + "\n" for row in rows)


def _csv_head(columns: Sequence[str]) -> str:
    return _csv_lines(columns, [{column: column for column in columns}])


def _json_lines(columns: Sequence[str], records: Sequence[Record]) -> str:
    every = ({column: record.get(column) for column in columns} for record in records)
    return "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in every)


LAYOUTS = {".csv": Layout(_csv_head, _csv_lines), ".jsonl": Layout(lambda columns: "", _json_lines)}
"""By the file's extension. CSV has empty fields for what is missing, JSON lines have null."""


def layout_of(path: str | Path | None) -> Layout:
    """Layout of a file by its extension; CSV for None, which stands for standard output.

    Raises:
        CytodistillError: the extension is not a known one.
    """
    layout = LAYOUTS.get(".csv" if path is None else Path(path).suffix.lower())
    if layout is None:
        raise CytodistillError(f"{path}: predictions are written as {' or '.join(LAYOUTS)}; name the file so")
    return layout


def prediction_columns(classes: Sequence[str], exits: int, added: Sequence[str] = ()) -> list[str]:
    """path, predicted, confidence, prob_<class>…, the ``added`` ones, exit, exit<k>_predicted and exit<k>_confidence
    (k = 1..E), error."""
    each = [f"exit{e}_{what}" for e in range(1, exits + 1) for what in ("predicted", "confidence")]
    return ["path", "predicted", "confidence", *(f"prob_{name}" for name in classes), *added, "exit", *each, "error"]


def prediction_records(
    names: Sequence[str | Path],
    probabilities: ArrayLike,
    exits: Sequence[int | str],
    exit_probabilities: ArrayLike,
    classes: Sequence[str],
    added: Mapping[str, Sequence[Any]] | None = None,
) -> list[dict[str, Any]]:
    """The records of N cells that were read.

    Args:
        names: of the cells, as the user knows them.
        probabilities: (N, C) answers.
        exits: N times what gave the answer: an exit from 1, or "ensemble".
        exit_probabilities: (N, E, C) probabilities of the exits, shallow to deep, NaN where one was not computed.
        classes: the C class names.
        added: N values of each further column.
    """
    answers, each = np.asarray(probabilities), np.asarray(exit_probabilities)
    columns: dict[str, Sequence[Any]] = {
        "path": [_text(name) for name in names],
        "predicted": [classes[code] for code in answers.argmax(axis=1)],
        "confidence": _numbers(answers.max(axis=1)),
    }
    columns |= {f"prob_{name}": _numbers(answers[:, code]) for code, name in enumerate(classes)}
    columns |= added or {}
    columns["exit"] = list(exits)
    for e in range(each.shape[1]):
        computed = ~np.isnan(each[:, e, 0])
        predicted = zip(each[:, e].argmax(axis=1), computed, strict=True)
        columns[f"exit{e + 1}_predicted"] = [classes[code] if there else None for code, there in predicted]
        columns[f"exit{e + 1}_confidence"] = _numbers(each[:, e].max(axis=1))
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def error_record(path: str | Path, message: str) -> dict[str, Any]:
    """The record of a file that could not be read: its path and why, on one line, all else empty."""
    return {"path": _text(path), "error": _text(" ".join(message.split()))}


def _numbers(values: np.ndarray) -> list[float | None]:
    """Numbers to nine digits, which give a float32 back exactly; None for NaN."""
    return [None if value != value else float(f"{value:.9g}") for value in values.tolist()]


def _text(value: str | Path) -> str:
    """Text that UTF-8 can hold, whatever the file's name."""
    return str(value).encode("utf-8", "backslashreplace").decode()


class RecordWriter:
    """Writes records, a row or line each; made by `open_writer`."""

    def __init__(self, stream: TextIO, columns: Sequence[str], layout: Layout) -> None:
        self.columns = tuple(columns)
        self.layout = layout
        self._stream = stream
        self.put(layout.head(self.columns))

    def write(self, record: Record) -> None:
        """Write one record: values by column, columns left out empty. An unknown column is a ValueError."""
        if unknown := sorted(set(record) - set(self.columns)):
            raise ValueError(f"record has columns {', '.join(unknown)}; the writer has {', '.join(self.columns)}")
        self.put(self.layout.lines(self.columns, [record]))

    def put(self, text: str) -> None:
        """Write records that are text already. Standard output is often a pipe that someone reads as it comes."""
        self._stream.write(text)
        self._stream.flush()


@contextmanager
def open_writer(
    path: str | Path | None, classes: Sequence[str], exits: int, added: Sequence[str] = ()
) -> Iterator[RecordWriter]:
    """Writer of the records of `prediction_records` and `error_record`, in the columns of `prediction_columns`.

    A file takes its name when the block ends well; after an exception an older one is as it was. What is long enough to
    be worth resuming goes through `batch_output.Output`.

    Args:
        path: file to write, laid out by its extension, or None for CSV on standard output.
        classes: the C class names.
        exits: number of exits E.
        added: further columns.

    Raises:
        CytodistillError: the extension is not a known one, before anything is written.
    """
    columns, layout = prediction_columns(classes, exits, added), layout_of(path)
    if path is None:
        yield RecordWriter(sys.stdout, columns, layout)
        return
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as stream:
        yield RecordWriter(stream, columns, layout)
