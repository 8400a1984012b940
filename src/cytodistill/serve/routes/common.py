"""What routes share: the service, the visitor, and kinds of parameters."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import Depends, Path, Request
from fastapi.responses import Response

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


CELLS = {"type": "string", "description": "JSON, CSV or GeoJSON: boxes, points or outlines of one field's cells."}
FORM = _body({"image": {"type": "array", "minItems": 1, "items": BYTES}, "cells": CELLS}, (*KINDS, "application/zip"))
"""Body of a request with images, for OpenAPI; it is read by `bodies.BodyReader`."""
ONE_IMAGE = _body({"image": BYTES}, KINDS)
"""Body of a request with the image of one cell."""


def png(content: bytes) -> Response:
    return Response(content, media_type="image/png")
