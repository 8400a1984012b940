"""Who may ask: the name that the service was reached by, the page that asks, and the token."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from cytodistill.serve.errors import problem
from cytodistill.serve.settings import is_loopback

READING = ("GET", "HEAD", "OPTIONS")
OPEN = ("/livez", "/readyz", "/api/v1/session", "/api/v1/openapi.json")
"""What answers without a token, beside the page's own files."""
SESSION_SECONDS = 12 * 3600
MOST_SESSIONS = 1000


@dataclass(frozen=True)
class Visitor:
    """Who asks: ``name`` of the token, "" where it has none or none is needed."""

    signed_in: bool
    name: str = ""


class Doorkeeper:
    """Tokens, and the sessions of browsers that gave one. A session is in memory: after a restart one signs in again.

    Args:
        tokens: token → name; without any, whoever reaches the service may use it.
        secure: whether the service speaks TLS itself.
    """

    def __init__(self, tokens: Mapping[str, str], secure: bool) -> None:
        self._tokens = [(token.encode(), name) for token, name in tokens.items()]
        self._sessions: dict[bytes, tuple[str, float]] = {}
        self.secure = secure

    @property
    def required(self) -> bool:
        """Whether a token is demanded."""
        return bool(self._tokens)

    def name_of(self, token: bytes) -> str | None:
        """Name of a token; None for a wrong one. Every token is compared, in a time that does not tell how much of it
        is right."""
        found = None
        for known, name in self._tokens:
            if hmac.compare_digest(known, token):
                found = name
        return found

    def open_session(self, name: str) -> str:
        """A new session's secret, for a cookie."""
        now = time.monotonic()
        self._sessions = {key: value for key, value in self._sessions.items() if value[1] > now}
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        secret = secrets.token_urlsafe(32)
        self._sessions[_digest(secret)] = (name, now + SESSION_SECONDS)
        return secret

    def close_session(self, secret: str) -> None:
        """Forget a session."""
        self._sessions.pop(_digest(secret), None)

    def cookie_name(self, scheme: str) -> str:
        """With TLS a name that browsers take from this host alone."""
        return "__Host-cytodistill" if scheme == "https" else "cytodistill"

    def visitor(self, headers: Headers, scheme: str) -> Visitor:
        """Who asks, by the Authorization header or the session's cookie."""
        if not self.required:
            return Visitor(True)
        given = headers.getlist("authorization")
        if len(given) == 1:
            kind, _, token = given[0].partition(" ")
            name = self.name_of(token.strip().encode("latin-1")) if kind.lower() == "bearer" else None
            return Visitor(name is not None, name or "")
        session = self._sessions.get(_digest(self.secret_of(headers, scheme))) if not given else None
        if session is None or session[1] < time.monotonic():
            return Visitor(False)
        return Visitor(True, session[0])

    def secret_of(self, headers: Headers, scheme: str) -> str:
        """The session's secret from the cookie; "" where there is none."""
        try:
            cookie = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return ""
        found = cookie.get(self.cookie_name(scheme))
        return found.value if found is not None else ""


class Guard:
    """Lets in requests that name this service as their host, that no other page has a browser send, and that have a
    token where one is demanded."""

    def __init__(self, app: ASGIApp, doorkeeper: Doorkeeper, host: str, allowed_hosts: tuple[str, ...]) -> None:
        self._app, self._doorkeeper = app, doorkeeper
        self._local = is_loopback(host)
        self._allowed = {name.lower() for name in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            status, detail, extra = refusal
            await problem(status, detail, extra)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str, dict[str, str]] | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._known(hosts[0]):
            return 403, "Host: not a name of this service; reach it by its address, or allow the name", {}
        if scope["method"] not in READING and not _own_page(headers, hosts[0]):
            return 403, "Origin: another page may not write here", {}
        visitor = self._doorkeeper.visitor(headers, scope["scheme"])
        scope.setdefault("state", {})["visitor"] = visitor
        path = scope["path"]
        closed = path.startswith(("/api", "/metrics"))
        if closed and path not in OPEN and not visitor.signed_in:
            return 401, "token: missing or wrong; send Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"}
        return None

    def _known(self, host: str) -> bool:
        """Whether a Host header names this service. Another site's name may be made to lead here (DNS rebinding), but
        no site has an address for a name."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._allowed or is_loopback(name):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._local


def _own_page(headers: Headers, host: str) -> bool:
    """Whether a request that writes is from this service's page, or from no page at all: browsers say where from."""
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    origins = headers.getlist("origin")
    if not origins:
        return True
    try:
        return len(origins) == 1 and urlsplit(origins[0]).netloc.lower() == host.lower()
    except ValueError:
        return False


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
