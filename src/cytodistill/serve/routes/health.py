"""Whether the service lives and is ready, and its figures."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from cytodistill.serve.errors import problems
from cytodistill.serve.routes.common import Served
from cytodistill.serve.schemas import Health

router = APIRouter(tags=["service"])


@router.get("/livez", responses=problems())
async def livez() -> Health:
    """The process answers."""
    return Health(status="ok")


@router.get("/readyz", responses=problems() | {503: {"model": Health}})
async def readyz(service: Served) -> JSONResponse:
    """200 where predictions are answered at once; 503 while the run is loaded, or the service stops."""
    health = service.health
    return JSONResponse(health.model_dump(), 200 if health.status == "ok" else 503)


@router.get("/metrics", response_class=Response, responses=problems())
async def metrics(service: Served) -> Response:
    """Figures for Prometheus."""
    service.observe()
    return Response(generate_latest(service.figures.registry), media_type=CONTENT_TYPE_LATEST)
