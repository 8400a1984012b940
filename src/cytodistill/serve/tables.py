"""Tables of the service: uploads, the fields and cells in them, and reviewers' events."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Float, ForeignKey, Index, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

FORMAT = "1"
"""Of these tables; another one is refused."""
ID = String(24)


class Base(DeclarativeBase):
    """All tables. Times are seconds since 1970 in UTC, which every database holds alike."""


class Meta(Base):
    """What the database is of: "format", "run" (a fingerprint) and "folder" (the mark of its folder of files)."""

    __tablename__ = "meta"
    key: Mapped[str] = mapped_column(String(16), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class UploadRow(Base):
    __tablename__ = "uploads"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    added: Mapped[float]
    state: Mapped[str] = mapped_column(String(16))
    detail: Mapped[str | None] = mapped_column(Text)
    keep: Mapped[bool]
    group: Mapped[str | None] = mapped_column("group_name", Text)
    total: Mapped[int | None]
    done: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)


class ProblemRow(Base):
    __tablename__ = "problems"
    id: Mapped[int] = mapped_column(primary_key=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text)


class FieldRow(Base):
    __tablename__ = "fields"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(Text)
    width: Mapped[int]
    height: Mapped[int]
    image: Mapped[bool]


class CellRow(Base):
    """A cell and what the run said of it, as it was shown to the reviewer; ``answer`` is the JSON of a `Prediction`, of
    which the columns that a gallery sorts by are copies."""

    __tablename__ = "cells"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), index=True)
    field_id: Mapped[str | None] = mapped_column(ForeignKey("fields.id", ondelete="SET NULL"), index=True)
    number: Mapped[int]
    """From 1: its place among the cells of its upload, of a field's in the list that was sent."""
    name: Mapped[str] = mapped_column(Text)
    group: Mapped[str | None] = mapped_column("group_name", Text)
    x: Mapped[float | None]
    y: Mapped[float | None]
    box_width: Mapped[float | None]
    box_height: Mapped[float | None]
    width: Mapped[int]
    height: Mapped[int]
    added: Mapped[float]
    predicted: Mapped[str] = mapped_column(Text)
    confidence: Mapped[float]
    doubt: Mapped[float]
    abnormal: Mapped[float | None]
    disagreement: Mapped[float | None]
    stops_at: Mapped[int]
    answer: Mapped[str] = mapped_column(Text)
    review_id: Mapped[int | None] = mapped_column(index=True)
    """The review that stands, and what it says."""
    label: Mapped[str | None] = mapped_column(Text)
    reviewer: Mapped[str | None] = mapped_column(Text)


for _column in ("abnormal", "doubt", "disagreement", "confidence", "added", "name"):
    Index(f"cells_by_{_column}", getattr(CellRow, _column), CellRow.id)


class ReviewRow(Base):
    """An event. Rows are added and, with their cell, deleted; none is changed."""

    __tablename__ = "reviews"
    # A number is never given to a second event, even where the first was deleted.
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012
    id: Mapped[int] = mapped_column(primary_key=True)
    cell_id: Mapped[str] = mapped_column(ForeignKey("cells.id", ondelete="CASCADE"), index=True)
    reviewer: Mapped[str] = mapped_column(Text)
    at: Mapped[float] = mapped_column(Float)
    action: Mapped[str] = mapped_column(String(16))
    label: Mapped[str | None] = mapped_column(Text)
    predicted: Mapped[str] = mapped_column(Text)
    undoes: Mapped[int | None]


def now() -> float:
    return datetime.now(UTC).timestamp()


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
