"""Answers and maps for images that are not kept."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from cytodistill.serve.bodies import BodyReader, Form
from cytodistill.serve.errors import Refused, problems
from cytodistill.serve.explaining import At, Method, Way
from cytodistill.serve.intake import Found
from cytodistill.serve.routes.common import FORM, ONE_IMAGE, PNG, Served, png
from cytodistill.serve.schemas import Box, PredictedCell, Predictions
from cytodistill.serve.service import Service

router = APIRouter(tags=["predict"])


@router.post("/predict", openapi_extra=FORM, responses=problems(415, 503))
async def predict(request: Request, service: Served) -> Predictions:
    """Answer to one image, several, a zip of them, or the cells of one field.

    Where several were sent, one that cannot be used has an ``error`` in its place; one alone is refused.
    """
    with service.admitted():
        most = service.settings.limits.images_at_once
        form = await BodyReader(service.store.incoming, service.settings.limits, most).read(request)
        try:
            found = await _answers(service, form, most)
        finally:
            form.discard()
    if len(found) == 1 and (failed := found[0].failed) is not None:
        raise Refused(failed.status, f"image: {failed.detail}")
    return Predictions(run=service.identity.fingerprint, cells=[_told(one) for one in found])


async def _answers(service: Service, form: Form, most: int) -> list[Found]:
    """All cells of a form, in order. One request has no more decoders than there are, so that others get theirs."""
    intake = await service.intake()
    boxes = await intake.boxes(form, most)
    turns = asyncio.Semaphore(service.settings.decoder_count())

    async def of_part(place: int) -> list[Found]:
        async with turns:
            return await intake.found(form.parts[place], boxes, most)

    tasks = [asyncio.create_task(of_part(place)) for place in range(len(form.parts))]
    try:
        found = [one for part in await asyncio.gather(*tasks) for one in part]
    finally:
        for task in tasks:
            task.cancel()
    if len(found) > most:
        raise Refused(413, f"images: {len(found)}, more than the {most} allowed; send an upload")
    return found


def _told(one: Found) -> PredictedCell:
    box = None
    if one.box is not None:
        box = Box(x=one.box[0], y=one.box[1], width=one.box[2], height=one.box[3])
    error = None if one.failed is None else one.failed.detail
    return PredictedCell(name=one.name, box=box, prediction=one.prediction, error=error)


@router.post("/explain", openapi_extra=ONE_IMAGE, response_class=Response, responses=problems(404, 409, 415, 503) | PNG)
async def explain(
    request: Request,
    service: Served,
    exit: int = Query(1, ge=1, le=64),
    method: Method = "hirescam",
    at: At = "tap",
    of: str | None = Query(None, max_length=256),
    plain: bool = False,
) -> Response:
    """Where one exit looked in one cell's image: a map over the cell, or in grey with ``plain``."""
    with service.admitted():
        form = await BodyReader(service.store.incoming, service.settings.limits, 1).read(request)
        try:
            part = form.parts[0]
            if part.content.kind == "ZIP" or "cells" in form.fields:
                raise Refused(422, "image: send the image of one cell")
            cell = await (await service.intake()).prepared(part)
            explainer = await service.explainer()
            found = await explainer.explain(cell, Way(method, at, of))
            return png(await explainer.picture(found, exit, plain))
        finally:
            form.discard()
