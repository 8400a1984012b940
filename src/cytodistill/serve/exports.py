"""Reviews as a CSV for people, and as an archive that `fit` trains on."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from sqlalchemy import select

from cytodistill.serve.errors import Refused
from cytodistill.serve.store import Store, new_id
from cytodistill.serve.tables import CellRow, ReviewRow, moment

HEADER = (
    *("review", "at", "reviewer", "action", "label", "predicted", "undoes", "stands", "cell", "upload", "field"),
    *("name", "x", "y", "width", "height", "confidence", "doubt", "abnormal", "disagreement", "run"),
)
PART = 1 << 16


def review_lines(store: Store) -> Iterator[str]:
    """A CSV of all events, oldest first, with what the run had said of the cell; "stands" is 1 for the event whose
    label the cell has."""
    yield _line(HEADER)
    query = select(ReviewRow, CellRow).join(CellRow, CellRow.id == ReviewRow.cell_id).order_by(ReviewRow.id)
    with store.read() as session:
        for event, cell in session.execute(query.execution_options(yield_per=500)):
            values = (
                *(event.id, moment(event.at).isoformat(), _tame(event.reviewer), event.action, event.label),
                *(event.predicted, event.undoes, int(cell.review_id == event.id), cell.id, cell.upload_id),
                *(cell.field_id, _tame(cell.name), cell.x, cell.y, cell.box_width, cell.box_height),
                *(cell.confidence, cell.doubt, cell.abnormal, cell.disagreement, store.identity.fingerprint),
            )
            yield _line(values)


def _line(values: tuple[object, ...]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue()


def _tame(text: str) -> str:
    """Text that a spreadsheet does not take for a formula; whoever named the image is not to be trusted."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def training_archive(store: Store) -> IO[bytes]:
    """A zip of the reviewed cells, for training: ``manifest.csv`` (path, label, group; `fit` takes it once the zip is
    unpacked) and ``cells/<id>.png``. The file has no name and goes when it is closed.

    Raises:
        Refused: no cell has a standing review.
    """
    with store.read() as session:
        query = select(CellRow.id, CellRow.label, CellRow.group).where(CellRow.label.is_not(None))
        rows = [
            {"root": ".", "path": f"cells/{id}.png", "label": str(label), "group": group or id}
            for id, label, group in session.execute(query.order_by(CellRow.review_id))
        ]
    if not rows:
        raise Refused(409, "export: no cell has been reviewed yet")
    archive = tempfile.TemporaryFile(dir=store.incoming.folder)  # noqa: SIM115
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        written = []
        for row in rows:
            # Of a cell that is being deleted, the picture may have gone.
            with contextlib.suppress(FileNotFoundError):
                file.write(store.cell_file(Path(row["path"]).stem), row["path"])
                written.append(row)
        file.writestr("manifest.csv", _manifest(store, written))
        file.writestr("about.json", json.dumps({"run": store.identity.fingerprint, "cells": len(written)}))
    archive.seek(0)
    return archive


def _manifest(store: Store, rows: list[dict[str, str]]) -> bytes:
    from cytodistill.data.table import CellTable

    labels = {row["label"] for row in rows}
    classes = tuple(name for name in store.identity.classes if name in labels)
    table = store.incoming.folder / f"{new_id()}.csv"
    try:
        CellTable.from_rows(rows, classes, "manifest").write(table)
        return table.read_bytes()
    finally:
        table.unlink(missing_ok=True)


def parts_of(file: IO[bytes]) -> Iterator[bytes]:
    """A file in pieces; it is closed at the end, or where the reader goes before."""
    with file:
        while part := file.read(PART):
            yield part
