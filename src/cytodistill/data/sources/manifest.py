"""Manifest: a CSV that lists cells, written by ``CellTable.write`` or by hand."""

from __future__ import annotations

import csv
import io
import math
import os
from pathlib import Path

from cytodistill.data.sources.registry import SourceError
from cytodistill.data.storage import display, has_file
from cytodistill.data.table import BOX, SPLITS, CellTable


def read_manifest(file: Path, require_labels: bool = True) -> CellTable:
    """Table of a CSV file in UTF-8 (a byte-order mark is fine), its rows in the file's order.

    ``path`` is needed, and ``label`` unless ``require_labels`` is False. Optional: ``root`` (folder or zip archive,
    relative to the CSV's folder, which is its default), ``group`` (default: the path), ``split``, ``fold``,
    ``x, y, width, height`` (all or none) and ``code``, which gives the classes another order than the sorted one.
    Other columns are passed over. Raises SourceError naming the file and line, or the column, of anything amiss.
    """
    columns, lines = _lines(file)
    folder = file.resolve().parent
    roots: dict[str, Path] = {}
    if missing := [c for c in ("path", "label") if c not in columns and (c == "path" or require_labels)]:
        raise SourceError(f"{file}: no column {' and '.join(missing)}; a manifest needs path and label")
    rows = []
    codes: dict[str, int | None] = {}
    seen: dict[tuple, tuple[int, dict]] = {}
    for line, cells in lines:
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
        _check_repeat(row, seen, line, where)
        rows.append(row)
    if not rows:
        raise SourceError(f"{file}: no rows; list at least one image")
    order = {name: code for name, code in codes.items() if code is not None}
    if order and (len(order) < len(codes) or len(set(order.values())) < len(order)):
        raise SourceError(f"{file}: column code must give every label its own number; correct it or remove the column")
    classes = sorted(codes, key=lambda name: (order.get(name, 0), name))
    return CellTable.from_rows(rows, tuple(classes), "manifest")


def _lines(file: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [name.strip() for name in next(reader, [])]
        if not header:
            raise SourceError(f"{file}: empty; a manifest needs a header with path and label")
        if len(set(header)) < len(header):
            raise SourceError(f"{file}: a column stands twice in the header; rename one")
        lines = []
        start = reader.line_num + 1
        for values in reader:
            if values and len(values) != len(header):
                raise SourceError(
                    f"{file}, line {start}: {len(values)} values for {len(header)} columns; quote values with commas"
                )
            if values:
                lines.append((start, dict(zip(header, values, strict=True))))
            start = reader.line_num + 1
        return header, lines
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


def _check_repeat(row: dict, seen: dict[tuple, tuple[int, dict]], line: int, where: str) -> None:
    boxed = not math.isnan(row["x"])
    key = (row["root"], row["path"], *(row[column] for column in BOX if boxed))
    first, before = seen.setdefault(key, (line, row))
    # CRIC annotates a few nuclei twice alike: the same window again is refused only where it says something else.
    if before is not row and (not boxed or before != row):
        raise SourceError(f"{where}: the same image and window as line {first}; keep one of them")
