"""The gallery and its cells: pictures, what was said of them, and where the exits looked."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, Response
from starlette.concurrency import run_in_threadpool

from cytodistill.serve import gallery
from cytodistill.serve.errors import Refused, problems
from cytodistill.serve.explaining import At, Explained, Explainer, Method, Way
from cytodistill.serve.reviews import reviews_of
from cytodistill.serve.routes.common import PNG, WITHOUT_NUL, IdPath, Served, png
from cytodistill.serve.schemas import Cell, CellPage, Deleted, Maps, Prediction, Sort
from cytodistill.serve.service import Service

router = APIRouter(prefix="/cells", tags=["cells"])
Name = Annotated[str, Query(max_length=256, pattern=WITHOUT_NUL)]
Names = Annotated[list[Name], Query(max_length=64)]
Share = Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)]
MOST_ON_A_PAGE = 500
FARTHEST = 100_000_000


@router.get("", responses=problems())
def cells(
    service: Served,
    sort: Sort = "abnormal",
    descending: bool = True,
    limit: Annotated[int, Query(ge=1, le=MOST_ON_A_PAGE)] = 100,
    offset: Annotated[int, Query(ge=0, le=FARTHEST)] = 0,
    upload: Annotated[str | None, Query(max_length=24, pattern=WITHOUT_NUL)] = None,
    field: Annotated[str | None, Query(max_length=24, pattern=WITHOUT_NUL)] = None,
    predicted: Names = [],  # noqa: B006
    label: Names = [],  # noqa: B006
    min_confidence: Share = None,
    max_confidence: Share = None,
    min_doubt: Share = None,
    max_doubt: Share = None,
    exit: Annotated[int | None, Query(ge=1, le=64)] = None,
    reviewed: bool | None = None,
    reviewer: Annotated[str | None, Query(max_length=64, pattern=WITHOUT_NUL)] = None,
    agrees: bool | None = None,
) -> CellPage:
    """A page of the gallery, what most deserves a look first.

    ``predicted`` and ``label`` (of the standing review) may be repeated. ``exit`` is where early exit would have
    stopped. ``agrees``: whether the review says what the run says.
    """
    chosen = gallery.Filter(
        upload,
        field,
        tuple(predicted),
        tuple(label),
        min_confidence,
        max_confidence,
        min_doubt,
        max_doubt,
        exit,
        reviewed,
        reviewer,
        agrees,
    )
    return gallery.find_cells(service.store, chosen, sort, descending, limit, offset)


@router.get("/{id}", responses=problems(404))
def cell(id: IdPath, service: Served) -> Cell:
    """One cell: its prediction, each exit's answer, and its reviews."""
    with service.store.read() as session:
        row = gallery.cell_row(session, id)
        return Cell(
            **gallery.summary(row),
            run=service.identity.fingerprint,
            prediction=Prediction.model_validate_json(row.answer),
            reviews=reviews_of(session, id),
        )


@router.delete("/{id}", responses=problems(404, 409))
async def delete(id: IdPath, service: Served, reviews: bool = Query(False)) -> Deleted:
    """Delete a cell with its picture, and with ``reviews`` its reviews too."""

    def gone() -> tuple[int, int]:
        with service.store.read() as session:
            gallery.cell_row(session, id)
        return gallery.delete_cells(service.store, [id], reviews)

    cells, events = await run_in_threadpool(gone)
    await service.drop_maps()
    return Deleted(cells=cells, reviews=events)


@router.get("/{id}/image", response_class=FileResponse, responses=problems(404) | PNG)
def image(id: IdPath, service: Served) -> FileResponse:
    """The cell's pixels as PNG, whatever it was sent as."""
    with service.store.read() as session:
        row = gallery.cell_row(session, id)
    file = service.store.cell_file(row.id)
    if not file.is_file():
        raise Refused(404, "cell: its picture is not here any more")
    return FileResponse(file, media_type="image/png")


@router.get("/{id}/maps", responses=problems(404, 409, 503))
async def maps(
    id: IdPath,
    service: Served,
    method: Method = "hirescam",
    at: At = "tap",
    of: str | None = Query(None, max_length=256),
) -> Maps:
    """Where each exit looked, in words and figures. Whether a map means anything is another matter: see `cytodistill
    explain`."""
    way = Way(method, at, of)
    explainer, found = await _explained(service, id, way)
    return explainer.describe(found, way)


@router.get("/{id}/maps/{exit}", response_class=Response, responses=problems(404, 409, 503) | PNG)
async def map_picture(
    id: IdPath,
    exit: int,
    service: Served,
    method: Method = "hirescam",
    at: At = "tap",
    of: str | None = Query(None, max_length=256),
    plain: bool = False,
) -> Response:
    """One exit's map over the cell at the network's size, or in grey with ``plain``."""
    explainer, found = await _explained(service, id, Way(method, at, of))
    return png(await explainer.picture(found, exit, plain))


async def _explained(service: Service, id: str, way: Way) -> tuple[Explainer, Explained]:
    def known() -> None:
        with service.store.read() as session:
            gallery.cell_row(session, id)

    await run_in_threadpool(known)
    with service.admitted():
        explainer = await service.explainer()
        return explainer, await explainer.stored(id, service.store.cell_file(id), way)
