"""Reviewers' labels: given, taken back, compared with the run's, and taken out for training."""

from __future__ import annotations

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from cytodistill.serve import exports, gallery
from cytodistill.serve.bodies import shown
from cytodistill.serve.errors import Refused, problems
from cytodistill.serve.reviews import add_review, agreement, reviews_of
from cytodistill.serve.routes.common import WITHOUT_NUL, Asking, IdPath, Served, attachment
from cytodistill.serve.schemas import Agreement, NewReview, Review, Reviewed

router = APIRouter(tags=["reviews"])


@router.post("/cells/{id}/reviews", status_code=201, responses=problems(404, 409))
def review(id: IdPath, given: NewReview, service: Served, visitor: Asking) -> Reviewed:
    """Accept the run's class, correct it, or undo one's own last review of the cell. It is on the disk when this
    answers."""
    said = shown(" ".join((given.reviewer or "").split()))
    if visitor.name and said not in ("", visitor.name):
        raise Refused(422, "reviewer: the token has another name; leave it out")
    reviewer = visitor.name or said
    if not reviewer:
        raise Refused(422, "reviewer: say who reviews")
    stored = add_review(service.store, id, given, reviewer, service.identity.classes)
    service.figures.reviews.labels(given.action).inc()
    return stored


@router.get("/cells/{id}/reviews", responses=problems(404))
def reviews(id: IdPath, service: Served) -> list[Review]:
    """All events of a cell, oldest first."""
    with service.store.read() as session:
        gallery.cell_row(session, id)
        return reviews_of(session, id)


@router.get("/agreement", responses=problems())
def agreements(service: Served, reviewer: str | None = Query(None, max_length=64, pattern=WITHOUT_NUL)) -> Agreement:
    """Agreement of reviewers and run, as it grew. The reviewers saw what the run said: it is no accuracy."""
    return agreement(service.store, service.identity.classes, reviewer)


@router.get(
    "/export/reviews.csv",
    response_class=StreamingResponse,
    responses=problems() | {200: {"content": {"text/csv": {}}, "description": "A row an event."}},
)
def reviews_csv(service: Served) -> StreamingResponse:
    """All events."""
    return attachment(exports.review_lines(service.store), "reviews.csv", "text/csv; charset=utf-8")


@router.get(
    "/export/training.zip",
    response_class=StreamingResponse,
    responses=problems(409, 503) | {200: {"content": {"application/zip": {}}, "description": "Manifest and cells."}},
)
async def training_zip(service: Served) -> StreamingResponse:
    """The reviewed cells and a manifest of them: unpacked, `cytodistill fit manifest.csv` trains on it."""
    with service.admitted():
        archive = await run_in_threadpool(exports.training_archive, service.store)
    return attachment(exports.parts_of(archive), "training.zip", "application/zip")
