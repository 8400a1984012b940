"""CRIC Cervix: fields of conventional cytology with the nuclei of their cells in ``classifications.csv``."""

from __future__ import annotations

import csv
import io
import math
from array import array
from collections.abc import Iterator, MutableSequence
from typing import Any

from cytodistill.data.images import ImageError, image_size
from cytodistill.data.sources.registry import Format, SourceError, Tree, ordered_classes
from cytodistill.data.storage import read_bytes
from cytodistill.data.table import CellTable

CLASSES = ("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC")
"""The Bethesda classes, from negative to carcinoma."""

NAMES = {**{name.casefold(): name for name in CLASSES}, "negative for intraepithelial lesion": "NILM"}
ANNOTATIONS = "classifications.csv"
NEEDED = ("image_filename", "bethesda_system", "nucleus_x", "nucleus_y")


def recognise(tree: Tree) -> bool:
    return ANNOTATIONS in tree.files


def read(tree: Tree, window: int = 90) -> CellTable:
    """Table of ``classifications.csv`` and the fields beside it or in ``images/``.

    A cell is a square window of ``window`` pixels round its nucleus; the group is the field. Raises SourceError
    naming the line of the csv for a coordinate that is no number or outside its field, an unknown class and a field
    that is absent. A field that is there but damaged is left to ``data inspect`` and to the reading of its pixels.
    """
    if window < 2:
        raise SourceError(f"window={window}: a cell's window needs at least 2 pixels; 90 fits CRIC")
    name = tree.name(ANNOTATIONS)
    fields = {path.removeprefix("images/"): path for path in tree.images if "/" not in path.removeprefix("images/")}
    columns: dict[str, MutableSequence[Any]] = {"path": [], "x": array("d"), "y": array("d"), "label": [], "group": []}
    absent: dict[str, int] = {}
    sizes: dict[str, tuple[int, int] | None] = {}
    # One text of a field's name and one of its path, however many cells it has.
    paths: dict[str, tuple[str, str]] = {}
    for line, row in _lines(tree, name):
        label = NAMES.get(row["bethesda_system"].strip().casefold())
        if label is None:
            raise SourceError(
                f"{name}, line {line}: bethesda_system {row['bethesda_system']!r} is not one of {', '.join(CLASSES)}"
            )
        x, y = (_coordinate(row, column, f"{name}, line {line}") for column in ("nucleus_x", "nucleus_y"))
        field = row["image_filename"].strip()
        if field not in fields:
            absent.setdefault(field, line)
            continue
        if field not in sizes:
            sizes[field] = _size(tree, fields[field])
            paths[field] = field, tree.path(fields[field])
        if (size := sizes[field]) and not (x < size[0] and y < size[1]):
            raise SourceError(
                f"{name}, line {line}: the nucleus at ({x:g}, {y:g}) is outside {field} of {size[0]}×{size[1]} pixels; "
                "use the coordinates of these images (the official ones are 1376 pixels wide)"
            )
        group, path = paths[field]
        for column, value in zip(columns, (path, x - window / 2, y - window / 2, label, group), strict=True):
            columns[column].append(value)
    if absent:
        first, line = next(iter(absent.items()))
        raise SourceError(
            f"{name}, line {line}: the image {first!r} is neither beside it nor in images/ ({len(absent)} such "
            "images); add them or remove their lines"
        )
    if not columns["path"]:
        raise SourceError(f"{name}: no cells; fetch the file again")
    every = {"root": str(tree.root), **columns, "width": float(window), "height": float(window)}
    table = CellTable.from_rows(every, ordered_classes(set(columns["label"]), CLASSES), "cric")
    return table.with_frame(table.frame.sort_values(["path", "y", "x", "label"]))


def _lines(tree: Tree, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    content = io.BytesIO(read_bytes(tree.root, tree.path(ANNOTATIONS)))
    try:
        reader = csv.DictReader(io.TextIOWrapper(content, encoding="utf-8-sig", newline=""), restval="")
        header = reader.fieldnames or []
        if missing := [column for column in NEEDED if column not in header]:
            raise SourceError(f"{name}: no column {', '.join(missing)}; CRIC's file has {', '.join(NEEDED)}")
        for row in reader:
            yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{name}: not a CSV file in UTF-8 ({error}); fetch it again") from None


def _coordinate(row: dict[str, str], column: str, where: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SourceError(f"{where}: {column} {row[column]!r} is not a number; mend the line")
    if value < 0:
        raise SourceError(f"{where}: {column} {value:g} is negative, outside the image; mend or remove the line")
    return value


def _size(tree: Tree, path: str) -> tuple[int, int] | None:
    try:
        return image_size(tree.root, tree.path(path))
    except ImageError:
        return None


FORMAT = Format(
    "cric", f"{ANNOTATIONS} with the fields beside it or in images/", recognise, recognise, read, windowed=True
)
