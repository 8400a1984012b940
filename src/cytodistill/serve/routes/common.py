"""What routes share: the service, the visitor, and kinds of parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, cast

from fastapi import Depends, Path, Request
from fastapi.responses import Response, StreamingResponse

from cytodistill.serve.security import Visitor
from cytodistill.serve.service import Service


def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


def _visitor(request: Request) -> Visitor:
    return cast(Visitor, request.state.visitor)


Served = Annotated[Service, Depends(_service)]
Asking = Annotated[Visitor, Depends(_visitor)]
WITHOUT_NUL = r"^[^\x00]*$"
"""Pattern of what is asked of the database; PostgreSQL holds no text with U+0000 in it."""
IdPath = Annotated[str, Path(pattern="^[0-9a-f]{24}$")]
PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}, "description": "PNG of the pixels alone."}}

KINDS = ("image/png", "image/jpeg", "image/bmp", "image/tiff", "image/webp")
BYTES = {"type": "string", "format": "binary"}


def _body(properties: dict[str, Any], kinds: tuple[str, ...]) -> dict[str, Any]:
    form = {"type": "object", "required": ["image"], "properties": properties}
    content = {"multipart/form-data": {"schema": form}} | {kind: {"schema": BYTES} for kind in kinds}
    return {"requestBody": {"required": True, "content": content}}


CELLS = {
    "type": "string",
    "description": "The cells of one field, in its pixels. GeoJSON, COCO or a CSV, which are cut by the run's rule "
    "(`cut` and `window` of `/model`); or JSON, whose `boxes` of [x, y, width, height] are cut as they are, and whose "
    "`points` of [x, y] have the `window` round them that it gives, or the run's.",
}
PIXEL_SIZE = {
    "type": "number",
    "exclusiveMinimum": 0,
    "description": "Pixel size of the field with `cells` in µm; needed where the run has one (`microns_per_pixel` of "
    "`/model`).",
}
IGNORE = {
    "type": "boolean",
    "default": False,
    "description": "Cut the `cells` as if the field's pixels were as large as those of the training.",
}
IMAGES = {"type": "array", "minItems": 1, "items": BYTES}
FORM = _body(
    {"image": IMAGES, "cells": CELLS, "microns_per_pixel": PIXEL_SIZE, "ignore_pixel_size": IGNORE},
    (*KINDS, "application/zip"),
)
"""Body of a request with images, for OpenAPI; it is read by `bodies.BodyReader`."""
ONE_IMAGE = _body({"image": BYTES}, KINDS)
"""Body of a request with the image of one cell."""


def attachment(parts: Iterator[Any], name: str, kind: str) -> StreamingResponse:
    """A file to be saved under a name."""
    return StreamingResponse(parts, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def png(content: bytes) -> Response:
    return Response(content, media_type="image/png")
