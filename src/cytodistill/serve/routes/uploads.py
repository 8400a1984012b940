"""Images that are sent to be looked at and reviewed: accepted at once, worked on as a job, deleted on request."""

from __future__ import annotations

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, StreamingResponse
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from cytodistill.serve import gallery
from cytodistill.serve.bodies import BodyReader, shown
from cytodistill.serve.errors import Refused, problems
from cytodistill.serve.field_export import GEOJSON, field_lines
from cytodistill.serve.routes.common import FORM, PNG, IdPath, Served, attachment
from cytodistill.serve.schemas import Deleted, FieldSummary, Upload
from cytodistill.serve.tables import UploadRow

router = APIRouter(tags=["uploads"])
MOST_LISTED = 500


@router.post("/uploads", openapi_extra=FORM, status_code=202, responses=problems(415, 503))
async def add(request: Request, service: Served) -> Upload:
    """Send images, a zip or a field for review. The form may also have ``keep`` (true or false) and ``group``, the
    slide or patient that all of them are of."""
    with service.admitted():
        service.jobs.check_room()
        limits = service.settings.limits
        form = await BodyReader(service.store.incoming, limits, limits.images).read(request)
        try:
            keep = service.settings.keep_uploads if (said := form.flag("keep")) is None else said
            group = shown(form.fields.get("group", "")).strip() or None
            boxes = await (await service.intake()).boxes(form, limits.images)
            id = await service.jobs.submit(form, boxes, keep=keep, group=group)
        except BaseException:
            form.discard()
            raise
    return await run_in_threadpool(_upload, service, id)


def _upload(service: Served, id: str) -> Upload:
    with service.store.read() as session:
        return gallery.upload_schema(session, gallery.upload_row(session, id))


@router.get("/uploads", responses=problems())
def uploads(service: Served) -> list[Upload]:
    """The latest uploads, the newest first."""
    with service.store.read() as session:
        rows = session.scalars(select(UploadRow).order_by(UploadRow.added.desc(), UploadRow.id).limit(MOST_LISTED))
        return [gallery.upload_schema(session, row) for row in rows]


@router.get("/uploads/{id}", responses=problems(404))
def upload(id: IdPath, service: Served) -> Upload:
    """One upload: how far it is, and what could not be used."""
    return _upload(service, id)


@router.post("/uploads/{id}/stop", responses=problems(404))
async def stop(id: IdPath, service: Served) -> Upload:
    """Stop working on an upload; the cells that it has so far stay."""
    await service.jobs.stop(id)
    return await run_in_threadpool(_upload, service, id)


@router.delete("/uploads/{id}", responses=problems(404, 409))
async def delete(id: IdPath, service: Served, reviews: bool = Query(False)) -> Deleted:
    """Delete an upload and all that is of it: pictures, cells, and with ``reviews`` their reviews too."""
    await run_in_threadpool(_upload, service, id)
    await service.jobs.stop(id)
    cells, events = await run_in_threadpool(gallery.delete_upload, service.store, id, reviews)
    await service.drop_maps()
    return Deleted(cells=cells, reviews=events)


@router.get("/fields/{id}", responses=problems(404))
def field(id: IdPath, service: Served) -> FieldSummary:
    """A field that cells were cut from."""
    with service.store.read() as session:
        return gallery.field_schema(gallery.field_row(session, id))


@router.get("/fields/{id}/image", response_class=FileResponse, responses=problems(404) | PNG)
def field_image(id: IdPath, service: Served) -> FileResponse:
    """The field's pixels as PNG, whatever it was sent as."""
    with service.store.read() as session:
        row = gallery.field_row(session, id)
    file = service.store.field_file(row.id)
    if not file.is_file():
        raise Refused(404, "field: its picture is not here any more")
    return FileResponse(file, media_type="image/png")


@router.get(
    "/fields/{id}/export.geojson",
    response_class=StreamingResponse,
    responses=problems(404) | {200: {"content": {GEOJSON: {}}, "description": "A feature a cell."}},
)
def field_geojson(id: IdPath, service: Served) -> StreamingResponse:
    """The field's cells with answers and reviews as GeoJSON that QuPath opens: the features that were sent, or the
    cells' windows, in the order that they were sent in."""
    with service.store.read() as session:
        gallery.field_row(session, id)
    return attachment(field_lines(service.store, id), f"{id}.geojson", GEOJSON)
