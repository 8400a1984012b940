"""Reviewers' events, and how often they and the run agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from cytodistill.serve.errors import Refused
from cytodistill.serve.gallery import cell_row
from cytodistill.serve.schemas import Agreement, GrowingAgreement, NewReview, Review, Reviewed
from cytodistill.serve.store import Store
from cytodistill.serve.tables import CellRow, ReviewRow, moment, now

GROWTH_POINTS = 200


def add_review(store: Store, cell: str, given: NewReview, reviewer: str, classes: Sequence[str]) -> Reviewed:
    """Store an event; it is on the disk when this returns.

    Args:
        store: of the cell.
        cell: its id.
        given: the event.
        reviewer: who.
        classes: of the run.

    Raises:
        Refused: no such cell or class, or nothing to undo.
    """
    if given.action == "correct" and given.label not in classes:
        raise Refused(422, f"label: give one of {', '.join(classes)}"[:300])
    if given.action != "correct" and given.label is not None:
        raise Refused(422, "label: goes with correct alone")
    with store.write() as session:
        row = cell_row(session, cell)
        events = _events(session, cell)
        event = ReviewRow(
            cell_id=cell, reviewer=reviewer, at=now(), action=given.action, predicted=row.predicted, label=given.label
        )
        if given.action == "accept":
            event.label = row.predicted
        elif given.action == "undo":
            own = [standing for standing in _standing(events) if standing.reviewer == reviewer]
            if not own:
                raise Refused(409, "undo: no review of yours stands on this cell")
            event.undoes = own[-1].id
        session.add(event)
        session.flush()
        left = _standing([*events, event])
        last = left[-1] if left else None
        row.review_id = last.id if last else None
        row.label, row.reviewer = (last.label, last.reviewer) if last else (None, None)
        return Reviewed(review=review_schema(event), label=row.label, reviewer=row.reviewer)


def reviews_of(session: Session, cell: str) -> list[Review]:
    """All events of a cell, oldest first."""
    return [review_schema(event) for event in _events(session, cell)]


def review_schema(row: ReviewRow) -> Review:
    copied = ("id", "reviewer", "action", "label", "predicted", "undoes")
    return Review(**{name: getattr(row, name) for name in copied}, cell=row.cell_id, at=moment(row.at))


def _events(session: Session, cell: str) -> list[ReviewRow]:
    return list(session.scalars(select(ReviewRow).where(ReviewRow.cell_id == cell).order_by(ReviewRow.id)))


def _standing(events: Sequence[ReviewRow]) -> list[ReviewRow]:
    """Those that were not undone, and are no undoing."""
    undone = {event.undoes for event in events}
    return [event for event in events if event.action != "undo" and event.id not in undone]


def agreement(store: Store, classes: Sequence[str], reviewer: str | None = None) -> Agreement:
    """Agreement over the cells with a standing review, in the order of the reviews.

    κ = (p₀ − pₑ) / (1 − pₑ), p₀ the share of agreement and pₑ that of two raters who know only how often each class is
    named (Cohen 1960).
    """
    query = select(CellRow.predicted, CellRow.label).where(CellRow.label.is_not(None)).order_by(CellRow.review_id)
    if reviewer is not None:
        query = query.where(CellRow.reviewer == reviewer)
    with store.read() as session:
        pairs = [(classes.index(said), classes.index(label)) for said, label in session.execute(query) if label]
    said, labels = np.array(pairs, int).reshape(-1, 2).T
    confusion = np.zeros((len(classes), len(classes)), int)
    np.add.at(confusion, (said, labels), 1)
    count, agreed = len(pairs), int((said == labels).sum())
    return Agreement(
        reviewed=count,
        agreed=agreed,
        agreement=agreed / count if count else None,
        kappa=_kappa(confusion),
        classes=list(classes),
        confusion=confusion.tolist(),
        growth=_growth(said == labels),
    )


def _kappa(confusion: np.ndarray) -> float | None:
    count = confusion.sum()
    if not count:
        return None
    shares = confusion / count
    by_chance = float(shares.sum(0) @ shares.sum(1))
    # Where both name one class alone, chance explains everything.
    return None if np.isclose(by_chance, 1) else float((np.trace(shares) - by_chance) / (1 - by_chance))


def _growth(same: np.ndarray) -> list[GrowingAgreement]:
    count = len(same)
    points = np.unique(np.linspace(1, count, min(count, GROWTH_POINTS)).round().astype(int))
    shares = np.cumsum(same) / np.arange(1, count + 1)
    return [GrowingAgreement(reviewed=int(n), agreement=float(shares[n - 1])) for n in points]
