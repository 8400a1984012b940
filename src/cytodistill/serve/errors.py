"""What a client is told when it is refused: one problem document (RFC 9457), and never a traceback or a path."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """Why a request was refused."""

    status: int
    title: str
    """The status in words."""
    detail: str
    """What is wrong, and the mend."""


class Refused(HTTPException):
    """A request that is not served, with the HTTP status and what the client is told."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))


class Busy(Refused):
    """503: the queue is full; ``seconds`` is when to try again."""

    def __init__(self, detail: str, seconds: int) -> None:
        super().__init__(503, detail, {"Retry-After": str(seconds)})


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response of a refusal."""
    content = Problem(status=status, title=HTTPStatus(status).phrase, detail=detail)
    return JSONResponse(content.model_dump(), status, dict(headers or {}), MEDIA_TYPE)


def problems(*statuses: int) -> dict[int | str, dict]:
    """The ``responses`` of a route that may refuse with these statuses besides those that every route has."""
    common = (400, 401, 403, 408, 413, 422, 500)
    schema = {"schema": Problem.model_json_schema()}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: schema}}
        for status in sorted({*common, *statuses})
    }


def handle_refusals(app: FastAPI) -> None:
    """Answer every refusal of the application with a problem document."""

    @app.exception_handler(HTTPException)
    async def _refused(_: Request, error: HTTPException) -> JSONResponse:
        detail = error.detail if isinstance(error, Refused) else HTTPStatus(error.status_code).phrase
        return problem(error.status_code, detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        # What was sent is not sent back: it may be large, or no text at all.
        first = error.errors()[0]
        where = " ".join(str(part) for part in first["loc"])
        return problem(422, f"{where}: {first['msg']}"[:300])
