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
IdPath = Annotated[str, Path(pattern="^[0-9a-f]{24}$")]
PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}, "description": "PNG of the pixels alone."}}

FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}},
                        "cells": {
                            "type": "string",
                            "description": "JSON or CSV: boxes or points of one field's cells.",
                        },
                    },
                }
            },
            **{
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in ("image/png", "image/jpeg", "image/bmp", "image/tiff", "image/webp", "application/zip")
            },
        },
    }
}
"""Body of a request with images, for OpenAPI; it is read by `bodies.BodyReader`."""


def png(content: bytes) -> Response:
    return Response(content, media_type="image/png")
