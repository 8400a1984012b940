"""What the service tells of itself: headers that bind browsers, a line a request, and figures for Prometheus.

Nothing here holds what a client named anything: addresses are given as the route's own template.
"""

from __future__ import annotations

import logging
import secrets
import time
import traceback

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cytodistill.serve.errors import problem

CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
log = logging.getLogger("cytodistill.serve")


class Figures:
    """Prometheus figures of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "cytodistill_requests", "Requests.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "cytodistill_request_seconds",
            "From a request's head to the end of its answer.",
            ("route",),
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self.registry,
        )
        self.cells = Counter("cytodistill_cells", "Cells that the network answered.", registry=self.registry)
        self.batch = Histogram(
            "cytodistill_batch_cells",
            "Cells of a forward pass.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=self.registry,
        )
        self.batch_seconds = Counter("cytodistill_network_seconds", "Time in the network.", registry=self.registry)
        self.waiting = Gauge("cytodistill_waiting_cells", "Cells that wait for the network.", registry=self.registry)
        self.under_way = Gauge(
            "cytodistill_requests_under_way", "Predictions and uploads under way.", registry=self.registry
        )
        self.killed = Gauge(
            "cytodistill_decoders_replaced", "Decoding processes that an image broke.", registry=self.registry
        )
        self.reviews = Counter("cytodistill_reviews", "Reviews.", ("action",), registry=self.registry)

    def batch_done(self, cells: int, seconds: float) -> None:
        """Count a forward pass."""
        self.cells.inc(cells)
        self.batch.observe(cells)
        self.batch_seconds.inc(seconds)


class Telemetry:
    """The outermost layer: counts, logs, sets the headers, and answers what nobody else has."""

    def __init__(self, app: ASGIApp, figures: Figures, log_names: bool) -> None:
        self._app, self._figures, self._log_names = app, figures, log_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _headers(scope, message.get("headers", []))
            await send(message)

        try:
            await self._app(scope, receive, with_headers)
        except Exception as error:
            mark = secrets.token_hex(4)
            self._report(error, mark)
            if not status:
                await problem(500, f"an error of the service; its log has more under {mark}")(
                    scope, receive, with_headers
                )
        finally:
            self._count(scope, status, time.perf_counter() - started)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "DELETE") else "other"
        self._figures.requests.labels(method, route, status or "gone").inc()
        self._figures.seconds.labels(route).observe(seconds)
        log.info("%s %s %s %.0f ms", method, route, status or "gone", 1000 * seconds)

    def _report(self, error: Exception, mark: str) -> None:
        """Log an error: where it was, and what it says only where names may be logged, for it may hold one."""
        said = f": {error}" if self._log_names else ""
        log.error("error %s, %s%s\n%s", mark, type(error).__name__, said, where(error))


def where(error: BaseException) -> str:
    """The lines of code that an error came through, without what it says."""
    return "".join(traceback.format_tb(error.__traceback__))


def _headers(scope: Scope, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    present = {name.lower() for name, _ in given}
    wanted = dict(HEADERS)
    if scope["path"].startswith(("/api", "/metrics", "/livez", "/readyz")):
        wanted["cache-control"] = "no-store"
    else:
        wanted["cache-control"] = "no-cache"
    if scope["scheme"] == "https":
        wanted["strict-transport-security"] = "max-age=31536000"
    extra = [(name.encode(), value.encode()) for name, value in wanted.items() if name.encode() not in present]
    return [*given, *extra]
