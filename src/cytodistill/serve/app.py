"""The ASGI application: routes, and the layers that every request goes through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from cytodistill.serve.errors import handle_refusals, problem
from cytodistill.serve.limits import BodyLimits
from cytodistill.serve.routes import cells, health, model, predict, reviews, session, uploads
from cytodistill.serve.security import Guard
from cytodistill.serve.service import Service
from cytodistill.serve.telemetry import Telemetry

API = "/api/v1"
OPENAPI = f"{API}/openapi.json"
STATIC = Path(__file__).parent / "static"
CROWDED_SECONDS = 10


def create_app(service: Service) -> FastAPI:
    """Application of a service, which it starts and stops.

    A request goes through `Telemetry`, `Guard` and `BodyLimits`, in this order, before any route sees it.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    # The usual pages of documentation load scripts from elsewhere; the description itself is offered alone.
    app = FastAPI(
        title="cytodistill",
        version=version("cytodistill"),
        description="Predictions, maps and reviews of single cells by one run.",
        openapi_url=OPENAPI,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    handle_refusals(app)
    app.add_middleware(BodyLimits, limits=service.settings.limits)
    app.add_middleware(
        Guard,
        doorkeeper=service.doorkeeper,
        host=service.settings.host,
        allowed_hosts=service.settings.allowed_hosts,
    )
    app.add_middleware(Telemetry, figures=service.figures, log_names=service.settings.log_names)
    app.include_router(health.router)
    versioned = APIRouter(prefix=API)
    for module in (session, model, predict, uploads, cells, reviews):
        versioned.include_router(module.router)
    app.include_router(versioned)
    if STATIC.is_dir():
        app.mount("/", StaticFiles(directory=STATIC, html=True), name="page")
    else:

        @app.get("/", include_in_schema=False)
        async def root() -> RedirectResponse:
            return RedirectResponse(OPENAPI)

    return app


def create_crowded(service: Service) -> ASGIApp:
    """What answers on a connection too many: 503 whatever is asked, before anything is looked at."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"Retry-After": str(CROWDED_SECONDS), "Connection": "close"}
        await problem(503, "service: too many connections; try again later", headers)(scope, receive, send)

    return Telemetry(refuse, figures=service.figures, log_names=service.settings.log_names)
