"""Uploads, fields and cells in the database: adding, finding, deleting."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.orm import Session

from cytodistill.data.images import Box as BoxTuple
from cytodistill.serve.errors import Refused
from cytodistill.serve.schemas import Box, CellPage, CellSummary, FieldSummary, Problem, Sort, Upload
from cytodistill.serve.store import Store
from cytodistill.serve.tables import CellRow, FieldRow, ProblemRow, ReviewRow, UploadRow, moment, now

PROBLEMS = 100
"""Problems of an upload that are told in words; the rest is counted."""
UNDER_WAY = ("waiting", "working")
INTERRUPTED = "the service was stopped; send the rest again"
COLUMNS: dict[Sort, Any] = {
    "abnormal": CellRow.abnormal,
    "doubt": CellRow.doubt,
    "disagreement": CellRow.disagreement,
    "confidence": CellRow.confidence,
    "added": CellRow.added,
    "name": CellRow.name,
}


@dataclass(frozen=True)
class Filter:
    """Which cells; None is any."""

    upload: str | None = None
    field: str | None = None
    predicted: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    min_confidence: float | None = None
    max_confidence: float | None = None
    min_doubt: float | None = None
    max_doubt: float | None = None
    exit: int | None = None
    reviewed: bool | None = None
    reviewer: str | None = None
    agrees: bool | None = None


def find_cells(store: Store, chosen: Filter, sort: Sort, descending: bool, limit: int, offset: int) -> CellPage:
    """A page of cells; where the sorted figure is the same or missing, in a fixed order."""
    column = COLUMNS[sort]
    order = column.desc() if descending else column.asc()
    with store.read() as session:
        total = session.scalar(_where(select(func.count(CellRow.id)), chosen)) or 0
        rows = session.scalars(
            _where(select(CellRow), chosen).order_by(order.nulls_last(), CellRow.id).limit(limit).offset(offset)
        )
        return CellPage(total=total, offset=offset, cells=[CellSummary(**summary(row)) for row in rows])


def _where(query: Select[Any], chosen: Filter) -> Select[Any]:
    same = {CellRow.upload_id: chosen.upload, CellRow.field_id: chosen.field, CellRow.stops_at: chosen.exit}
    for column, value in same.items():
        if value is not None:
            query = query.where(column == value)
    if chosen.predicted:
        query = query.where(CellRow.predicted.in_(chosen.predicted))
    if chosen.label:
        query = query.where(CellRow.label.in_(chosen.label))
    least = {CellRow.confidence: chosen.min_confidence, CellRow.doubt: chosen.min_doubt}
    most = {CellRow.confidence: chosen.max_confidence, CellRow.doubt: chosen.max_doubt}
    query = query.where(*(column >= value for column, value in least.items() if value is not None))
    query = query.where(*(column <= value for column, value in most.items() if value is not None))
    if chosen.reviewed is not None:
        query = query.where(CellRow.label.is_not(None) if chosen.reviewed else CellRow.label.is_(None))
    if chosen.reviewer is not None:
        query = query.where(CellRow.reviewer == chosen.reviewer)
    if chosen.agrees is not None:
        same_class = CellRow.label == CellRow.predicted
        query = query.where(same_class if chosen.agrees else ~same_class)
    return query


def summary(row: CellRow) -> dict[str, Any]:
    """Fields of a `CellSummary`."""
    box = None
    if row.x is not None and row.y is not None and row.box_width is not None and row.box_height is not None:
        box = Box(x=row.x, y=row.y, width=row.box_width, height=row.box_height)
    copied = (
        *("id", "name", "width", "height", "predicted", "confidence", "doubt", "abnormal", "disagreement"),
        *("stops_at", "label", "reviewer"),
    )
    return {name: getattr(row, name) for name in copied} | {
        "upload": row.upload_id,
        "field": row.field_id,
        "box": box,
        "added": moment(row.added),
        "exit_classes": [exit["predicted"] for exit in json.loads(row.answer)["exits"]],
    }


def box_columns(box: BoxTuple | None) -> dict[str, float | None]:
    """Columns of a cell's window."""
    return dict(zip(("x", "y", "box_width", "box_height"), box or (None,) * 4, strict=True))


def cell_row(session: Session, id: str) -> CellRow:
    """A cell's row.

    Raises:
        Refused: there is none.
    """
    row = session.get(CellRow, id)
    if row is None:
        raise Refused(404, "cell: not here, or deleted")
    return row


def upload_row(session: Session, id: str) -> UploadRow:
    """An upload's row; raises as `cell_row`."""
    row = session.get(UploadRow, id)
    if row is None:
        raise Refused(404, "upload: not here, or deleted")
    return row


def field_row(session: Session, id: str) -> FieldRow:
    """A field's row; raises as `cell_row`."""
    row = session.get(FieldRow, id)
    if row is None:
        raise Refused(404, "field: not here, or deleted")
    return row


def upload_schema(session: Session, row: UploadRow) -> Upload:
    """An upload as the API tells it."""
    problems = session.scalars(
        select(ProblemRow).where(ProblemRow.upload_id == row.id).order_by(ProblemRow.id).limit(PROBLEMS)
    )
    fields = session.scalars(select(FieldRow).where(FieldRow.upload_id == row.id).order_by(FieldRow.name, FieldRow.id))
    copied = ("id", "state", "detail", "keep", "group", "total", "done", "failed")
    return Upload(
        **{name: getattr(row, name) for name in copied},
        added=moment(row.added),
        problems=[Problem(name=problem.name, detail=problem.detail) for problem in problems],
        fields=[field_schema(field) for field in fields],
    )


def field_schema(row: FieldRow) -> FieldSummary:
    return FieldSummary(
        id=row.id, upload=row.upload_id, name=row.name, width=row.width, height=row.height, image=row.image
    )


def delete_cells(store: Store, ids: list[str], with_reviews: bool) -> tuple[int, int]:
    """Delete cells with their pictures and reviews; numbers of cells and reviews.

    Raises:
        Refused: there are reviews, and they are not to be deleted.
    """
    with store.write() as session:
        reviews = session.scalar(select(func.count(ReviewRow.id)).where(ReviewRow.cell_id.in_(ids))) or 0
        _spare(reviews, with_reviews)
        session.execute(delete(CellRow).where(CellRow.id.in_(ids)))
    store.erase([store.cell_file(id) for id in ids])
    return len(ids), reviews


def delete_upload(store: Store, id: str, with_reviews: bool) -> tuple[int, int]:
    """Delete an upload with all that is of it; as `delete_cells`."""
    with store.write() as session:
        row = upload_row(session, id)
        cells = list(session.scalars(select(CellRow.id).where(CellRow.upload_id == id)))
        of_upload = select(CellRow.id).where(CellRow.upload_id == id)
        reviews = session.scalar(select(func.count(ReviewRow.id)).where(ReviewRow.cell_id.in_(of_upload))) or 0
        _spare(reviews, with_reviews)
        fields = list(session.scalars(select(FieldRow.id).where(FieldRow.upload_id == id)))
        session.execute(delete(UploadRow).where(UploadRow.id == row.id))
    store.erase([*map(store.cell_file, cells), *map(store.field_file, fields), *map(store.list_file, fields)])
    return len(cells), reviews


def _spare(reviews: int, with_reviews: bool) -> None:
    if reviews and not with_reviews:
        raise Refused(409, f"{reviews} reviews would be deleted too; export them, and say reviews=true")


def forget(store: Store, older_than: float | None = None, spared: Collection[str] = ()) -> int:
    """Delete what was not to be kept: fields' pictures and lists, cells without a standing review, and uploads of which
    nothing is left.

    Args:
        store: all of it.
        older_than: seconds since 1970; uploads before it, or all.
        spared: uploads that stay.

    Returns:
        Number of cells deleted.
    """
    files: list[Path] = []
    with store.write() as session:
        query = select(UploadRow.id).where(UploadRow.keep.is_(False), UploadRow.state.not_in(UNDER_WAY))
        if older_than is not None:
            query = query.where(UploadRow.added < older_than)
        uploads = [id for id in session.scalars(query) if id not in spared]
        for upload in uploads:
            gone = select(CellRow.id).where(CellRow.upload_id == upload, CellRow.label.is_(None))
            ids = list(session.scalars(gone))
            files += map(store.cell_file, ids)
            session.execute(delete(CellRow).where(CellRow.upload_id == upload, CellRow.label.is_(None)))
            fields = list(session.scalars(select(FieldRow.id).where(FieldRow.upload_id == upload, FieldRow.image)))
            files += [*map(store.field_file, fields), *map(store.list_file, fields)]
            session.execute(update(FieldRow).where(FieldRow.upload_id == upload).values(image=False))
            session.execute(delete(ProblemRow).where(ProblemRow.upload_id == upload))
            if not session.scalar(select(func.count(CellRow.id)).where(CellRow.upload_id == upload)):
                session.execute(delete(UploadRow).where(UploadRow.id == upload))
    if uploads:
        store.erase(files)
    return sum(file.parent.parent == store.cells for file in files)


def stop_unfinished(store: Store) -> None:
    """Say of uploads that a killed process was working on that they were stopped."""
    with store.write() as session:
        session.execute(
            update(UploadRow).where(UploadRow.state.in_(UNDER_WAY)).values(state="stopped", detail=INTERRUPTED)
        )


def older(hours: float) -> float:
    """The moment so many hours ago."""
    return now() - 3600 * hours
