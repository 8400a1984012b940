"""Size, pace and time of what a client sends, checked on every piece as it comes."""

from __future__ import annotations

import asyncio
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cytodistill.serve.errors import Refused, problem
from cytodistill.serve.settings import Limits

SMALL_BODY = 64 << 10
"""Of a request that carries no image."""
HEAD_BYTES = 16 << 10
"""Of the head of a request. The HTTP parser bounds a head that comes in pieces; one in a single piece is seen here."""
LARGE = re.compile(r"/api/v1/(predict|explain|uploads)/?")


class BodyLimits:
    """Refuses heads (431) and bodies that are too long (413) or come too slowly (408); Content-Length is only believed
    when it says too much."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._limits.body if LARGE.fullmatch(scope["path"]) else SMALL_BODY
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEAD_BYTES:
            await problem(431, f"head: longer than {HEAD_BYTES >> 10} KiB")(scope, receive, send)
            return
        headers = dict(scope["headers"])
        said = headers.get(b"content-length", b"0")
        if not said.isdigit() or int(said) > most:
            await problem(413, _too_long(most), {"Connection": "close"})(scope, receive, send)
            return
        if headers.get(b"content-encoding", b"identity") != b"identity":
            await problem(415, "Content-Encoding: send the body as it is")(scope, receive, send)
            return
        await self._app(scope, _Pace(receive, most, self._limits), send)


class _Pace:
    """``receive`` of one request."""

    def __init__(self, receive: Receive, most: int, limits: Limits) -> None:
        self._receive, self._most, self._limits = receive, most, limits
        self._size, self._done = 0, False
        self._started = asyncio.get_running_loop().time()

    async def __call__(self) -> Message:
        if self._done:  # what follows is the end of the connection, which may be long in coming
            return await self._receive()
        try:
            async with asyncio.timeout(self._limits.idle_seconds):
                message = await self._receive()
        except TimeoutError:
            raise self._slow() from None
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._done = not message.get("more_body", False)
            self._check()
        return message

    def _check(self) -> None:
        if self._size > self._most:
            raise Refused(413, _too_long(self._most), {"Connection": "close"})
        seconds = asyncio.get_running_loop().time() - self._started
        slow = seconds > self._limits.idle_seconds and self._size < self._limits.rate * seconds
        if not self._done and (slow or seconds > self._limits.upload_seconds):
            raise self._slow()

    def _slow(self) -> Refused:
        return Refused(408, "body: comes too slowly; try again over a better line", {"Connection": "close"})


def _too_long(most: int) -> str:
    return f"body: longer than {most >> 10} KiB; send it in parts"
