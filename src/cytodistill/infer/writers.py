"""Predictions as they come, to a CSV or JSON-lines file that appears whole, or to standard output."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import numpy as np
from numpy.typing import ArrayLike

from cytodistill.errors import CytodistillError
from cytodistill.files import replacing

FORMATS = (".csv", ".jsonl")


class RecordWriter:
    """Writes records, a row or line each; made by `open_writer`."""

    def __init__(self, columns: Sequence[str], put: Callable[[dict[str, Any]], None]) -> None:
        self.columns = tuple(columns)
        self._put = put

    def write(self, record: Mapping[str, Any]) -> None:
        """Write one record: values by column, columns left out empty. An unknown column is a ValueError."""
        if unknown := sorted(set(record) - set(self.columns)):
            raise ValueError(f"record has columns {', '.join(unknown)}; the writer has {', '.join(self.columns)}")
        self._put({column: _plain(record.get(column)) for column in self.columns})


def prediction_columns(classes: Sequence[str], exits: int) -> list[str]:
    """path, predicted, confidence, prob_<class>…, exit, exit<k>_predicted and exit<k>_confidence (k = 1..E), error."""
    each = [f"exit{e}_{what}" for e in range(1, exits + 1) for what in ("predicted", "confidence")]
    return ["path", "predicted", "confidence", *(f"prob_{name}" for name in classes), "exit", *each, "error"]


def prediction_record(
    path: str | Path,
    probabilities: ArrayLike,
    exit: int | str,
    exit_probabilities: ArrayLike,
    classes: Sequence[str],
) -> dict[str, Any]:
    """The record of one image that was read.

    Args:
        path: the image, as the user named it.
        probabilities: (C,) answer.
        exit: what gave the answer: an exit from 1, or "ensemble".
        exit_probabilities: (K, C) probabilities of the exits that were computed, shallow to deep, K at most E.
        classes: the C class names.
    """
    answer = np.asarray(probabilities)
    record = {"path": str(path), "predicted": classes[int(answer.argmax())], "confidence": answer.max(), "exit": exit}
    record |= {f"prob_{name}": p for name, p in zip(classes, answer, strict=True)}
    for e, p in enumerate(np.asarray(exit_probabilities), start=1):
        record |= {f"exit{e}_predicted": classes[int(p.argmax())], f"exit{e}_confidence": p.max()}
    return record


def error_record(path: str | Path, message: str) -> dict[str, Any]:
    """The record of a file that could not be read: its path and why, on one line, all else empty."""
    return {"path": str(path), "error": " ".join(message.split())}


@contextmanager
def open_writer(path: str | Path | None, classes: Sequence[str], exits: int) -> Iterator[RecordWriter]:
    """Writer of the records of `prediction_record` and `error_record`, in the columns of `prediction_columns`.

    The extension decides: .csv (a header, empty fields for what is missing) or .jsonl (an object a line, null for what
    is missing); None is CSV on standard output. Numbers keep the nine digits that give a float32 back
    exactly. A file takes its name when the block ends well; after an exception an older one is as it was.

    Args:
        path: file to write, or None.
        classes: the C class names.
        exits: number of exits E.

    Raises:
        CytodistillError: the extension is not a known one, before anything is written.
    """
    columns = prediction_columns(classes, exits)
    if path is None:
        yield RecordWriter(columns, _csv(sys.stdout, columns))
        return
    make = {".csv": _csv, ".jsonl": _jsonl}.get(Path(path).suffix.lower())
    if make is None:
        raise CytodistillError(f"{path}: predictions are written as {' or '.join(FORMATS)}; name the file so")
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as stream:
        yield RecordWriter(columns, make(stream, columns))


def _csv(stream: TextIO, columns: Sequence[str]) -> Callable[[dict[str, Any]], None]:
    # The csv module quotes a carriage return in a file's name only where its own line end has one.
    lines = SimpleNamespace(write=lambda row: stream.write(row.removesuffix("\r\n") + "\n"))
    rows = csv.DictWriter(lines, columns, lineterminator="\r\n")
    rows.writeheader()

    def put(record: dict[str, Any]) -> None:
        rows.writerow(record)
        # Standard output is often a pipe that someone reads row by row.
        stream.flush()

    return put


def _jsonl(stream: TextIO, columns: Sequence[str]) -> Callable[[dict[str, Any]], None]:
    def put(record: dict[str, Any]) -> None:
        stream.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")

    return put


def _plain(value: Any) -> Any:
    """A NumPy number as Python's own, nine digits of a float, and text that UTF-8 can hold whatever the file's name."""
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.9g}")
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value
