"""CRIC Cervix: fields of conventional cytology with the nuclei of their cells in ``classifications.csv``."""

from __future__ import annotations

import csv
import io
import math

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
    rows: list[dict] = []
    absent: dict[str, int] = {}
    sizes: dict[str, tuple[int, int] | None] = {}
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
        if (size := sizes[field]) and not (x < size[0] and y < size[1]):
            raise SourceError(
                f"{name}, line {line}: the nucleus at ({x:g}, {y:g}) is outside {field} of {size[0]}×{size[1]} pixels; "
                "use the coordinates of these images (the official ones are 1376 pixels wide)"
            )
        rows.append(
            {
                "root": str(tree.root),
                "path": tree.path(fields[field]),
                "x": x - window / 2,
                "y": y - window / 2,
                "width": window,
                "height": window,
                "label": label,
                "group": field,
            }
        )
    if absent:
        first, line = next(iter(absent.items()))
        raise SourceError(
            f"{name}, line {line}: the image {first!r} is neither beside it nor in images/ ({len(absent)} such "
            "images); add them or remove their lines"
        )
    if not rows:
        raise SourceError(f"{name}: no cells; fetch the file again")
    rows.sort(key=lambda row: (row["path"], row["y"], row["x"], row["label"]))
    return CellTable.from_rows(rows, ordered_classes((row["label"] for row in rows), CLASSES), "cric")


def _lines(tree: Tree, name: str) -> list[tuple[int, dict[str, str]]]:
    try:
        text = read_bytes(tree.root, tree.path(ANNOTATIONS)).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), restval="")
        header = reader.fieldnames or []
        if missing := [column for column in NEEDED if column not in header]:
            raise SourceError(f"{name}: no column {', '.join(missing)}; CRIC's file has {', '.join(NEEDED)}")
        return [(reader.line_num, row) for row in reader]
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
