"""Manifest: a CSV that lists cells, written by ``CellTable.write`` or by hand."""

from __future__ import annotations

import csv
import math
import os
from array import array
from collections.abc import Iterator, MutableSequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytodistill.data.sources.registry import SourceError
from cytodistill.data.storage import display, has_file
from cytodistill.data.table import BOX, COLUMNS, SPLITS, CellTable


def read_manifest(file: Path, require_labels: bool = True) -> CellTable:
    """Table of a CSV file in UTF-8 (a byte-order mark is fine), its rows in the file's order.

    ``path`` is needed, and ``label`` unless ``require_labels`` is False. Optional: ``root`` (folder or zip archive,
    relative to the CSV's folder, which is its default), ``group`` (default: the path), ``split``, ``fold``,
    ``x, y, width, height`` (all or none) and ``code``, which gives the classes another order than the sorted one.
    Other columns are passed over. Raises SourceError naming the file and line, or the column, of anything amiss.
    """
    lines = _lines(file)
    _, names = next(lines)
    folder = file.resolve().parent
    roots: dict[str, Path] = {}
    if missing := [c for c in ("path", "label") if c not in names and (c == "path" or require_labels)]:
        raise SourceError(f"{file}: no column {' and '.join(missing)}; a manifest needs path and label")
    columns: dict[str, MutableSequence[Any]] = {name: array("d") if name in BOX else [] for name in COLUMNS}
    numbers = array("q")
    codes: dict[str, int | None] = {}
    # A million cells of a few thousand fields name these again and again: one text of each is kept.
    texts: dict[str, str] = {}
    for line, values in lines:
        cells = dict(zip(names, values, strict=True))
        where = f"{file}, line {line}"
        given = cells.get("root", "")
        root = roots.get(given) or roots.setdefault(given, Path(os.path.normpath(folder / given)))
        row = _row(cells, where, root)
        if require_labels and not row["label"]:
            raise SourceError(f"{where}: no label; fill it or remove the line")
        if row["label"]:
            code = _integer(cells, "code", where, None)
            if codes.setdefault(row["label"], code) != code:
                raise SourceError(f"{where}: code {code} of {row['label']!r}, which had {codes[row['label']]} before")
        numbers.append(line)
        for column, value in row.items():
            columns[column].append(texts.setdefault(value, value) if isinstance(value, str) else value)
    if not numbers:
        raise SourceError(f"{file}: no rows; list at least one image")
    order = {name: code for name, code in codes.items() if code is not None}
    if order and (len(order) < len(codes) or len(set(order.values())) < len(order)):
        raise SourceError(f"{file}: column code must give every label its own number; correct it or remove the column")
    classes = sorted(codes, key=lambda name: (order.get(name, 0), name))
    table = CellTable.from_rows(columns, tuple(classes), "manifest")
    _check_repeats(table, numbers, file)
    return table


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The file's lines that are not empty, from the header on, each with its number, read as they are asked for."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = [name.strip() for name in next(reader, [])]
            if not header:
                raise SourceError(f"{file}: empty; a manifest needs a header with path and label")
            if len(set(header)) < len(header):
                raise SourceError(f"{file}: a column stands twice in the header; rename one")
            yield 1, header
            start = reader.line_num + 1
            for values in reader:
                if values and len(values) != len(header):
                    raise SourceError(
                        f"{file}, line {start}: {len(values)} values for {len(header)} columns; "
                        "quote values with commas"
                    )
                if values:
                    yield start, values
                start = reader.line_num + 1
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise SourceError(f"{file}: not a CSV file in UTF-8 ({error}); save it as CSV UTF-8") from None


def _row(cells: dict[str, str], where: str, root: Path) -> dict:
    path = cells["path"]
    if not path.strip():
        raise SourceError(f"{where}: no path; fill it or remove the line")
    if os.path.isabs(path):
        root = Path(Path(path).anchor)
        path = Path(path).relative_to(root).as_posix()
    if not has_file(root, path):
        raise SourceError(f"{where}: the image {display(root, path)} does not exist; correct path or root")
    split = cells.get("split", "")
    if split and split not in SPLITS:
        raise SourceError(f"{where}: split {split!r} is not known; use {', '.join(SPLITS)} or leave it empty")
    fold = _integer(cells, "fold", where, -1)
    if fold is None or fold < -1:
        raise SourceError(f"{where}: fold {fold} is negative; number the folds from 0")
    return {
        "root": str(root),
        "path": path,
        **_box(cells, where),
        "label": cells.get("label", "") if cells.get("label", "").strip() else "",
        "group": cells.get("group", "") or path,
        "split": split,
        "fold": fold,
    }


def _box(cells: dict[str, str], where: str) -> dict[str, float]:
    given = [column for column in BOX if cells.get(column, "").strip()]
    if not given:
        return dict.fromkeys(BOX, math.nan)
    if len(given) < len(BOX):
        missing = [column for column in BOX if column not in given]
        raise SourceError(f"{where}: a window without {', '.join(missing)}; give x, y, width and height, or none")
    box = {}
    for column in BOX:
        try:
            box[column] = float(cells[column])
        except ValueError:
            box[column] = math.nan
        if not math.isfinite(box[column]):
            raise SourceError(f"{where}: {column} {cells[column]!r} is not a number; correct it")
    if min(box["width"], box["height"]) <= 0:
        raise SourceError(f"{where}: a window of {box['width']:g}×{box['height']:g} pixels; its sides must be positive")
    return box


def _integer(cells: dict[str, str], column: str, where: str, default: int | None) -> int | None:
    text = cells.get(column, "").strip()
    try:
        return int(text) if text else default
    except ValueError:
        raise SourceError(f"{where}: {column} {text!r} is not a whole number; correct it") from None


def _check_repeats(table: CellTable, lines: array, file: Path) -> None:
    frame = table.frame
    key = ["root", "path", *BOX]
    again = frame.duplicated(key).to_numpy()
    # CRIC annotates a few nuclei twice alike: the same window again is refused only where it says something else.
    harmless = frame.duplicated().to_numpy() & frame["x"].notna().to_numpy()
    if not len(wrong := np.flatnonzero(again & ~harmless)):
        return
    row = frame.iloc[wrong[0]]
    same = np.logical_and.reduce(
        [frame[name].eq(row[name]) | (frame[name].isna() & pd.isna(row[name])) for name in key]
    )
    raise SourceError(
        f"{file}, line {lines[wrong[0]]}: the same image and window as line {lines[int(same.argmax())]}; keep one of "
        "them"
    )
