"""Signing in from a browser: a token once, then a cookie that scripts cannot read."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from cytodistill.serve.errors import Refused, problems
from cytodistill.serve.routes.common import Asking, Served
from cytodistill.serve.schemas import Session, Token
from cytodistill.serve.security import SESSION_SECONDS

router = APIRouter(prefix="/session", tags=["session"])


@router.get("", responses=problems())
async def session(service: Served, visitor: Asking) -> Session:
    """Whether a token is demanded, and who is signed in."""
    return Session(required=service.doorkeeper.required, signed_in=visitor.signed_in, name=visitor.name or None)


@router.post("", responses=problems())
async def sign_in(given: Token, request: Request, response: Response, service: Served) -> Session:
    """Sign in with a token; sets the session's cookie."""
    door = service.doorkeeper
    if not door.required:
        return Session(required=False, signed_in=True, name=None)
    name = door.name_of(given.token.encode("utf-8", "replace"))
    if name is None:
        raise Refused(401, "token: wrong")
    scheme = request.url.scheme
    response.set_cookie(
        door.cookie_name(scheme),
        door.open_session(name),
        max_age=SESSION_SECONDS,
        path="/",
        secure=scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return Session(required=True, signed_in=True, name=name or None)


@router.delete("", responses=problems(), status_code=204)
async def sign_out(request: Request, response: Response, service: Served) -> None:
    """Forget the session."""
    door, scheme = service.doorkeeper, request.url.scheme
    door.close_session(door.secret_of(request.headers, scheme))
    response.delete_cookie(door.cookie_name(scheme), path="/", secure=scheme == "https", httponly=True)
