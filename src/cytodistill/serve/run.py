"""Runs the service on a socket until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from cytodistill.errors import CytodistillError
from cytodistill.serve.app import create_app, create_crowded
from cytodistill.serve.identity import identify
from cytodistill.serve.limits import HEAD_BYTES
from cytodistill.serve.service import Service
from cytodistill.serve.settings import Limits, Settings
from cytodistill.serve.store import Store

BACKLOG = 512


def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, and finish what was accepted.

    Args:
        settings: checked.
        say: told where the service is, and what the user should know.

    Raises:
        CytodistillError: the run, the data folder, a token file or the address is not to be had.
    """
    settings.tokens()
    identity = identify(settings.run)
    bound = bind(settings)
    try:
        store = Store(settings.folder, identity, settings.database)
        asyncio.run(_serve(settings, Service(settings, identity, store), bound, say))
    finally:
        bound.close()


async def _serve(settings: Settings, service: Service, bound: socket.socket, say: Callable[[str], None]) -> None:
    _quiet(settings.log_names)
    server = _Server(server_config(settings, service), service)
    for line in _introduction(settings, bound):
        say(line)
    watching = asyncio.create_task(_watch(service, server, say))
    try:
        await server.serve(sockets=[bound])
    finally:
        watching.cancel()
    if service.error is not None:
        raise service.error


def server_config(settings: Settings, service: Service) -> uvicorn.Config:
    """How uvicorn is to serve."""
    return uvicorn.Config(
        create_app(service),
        http=_steady(settings.limits, create_crowded(service)),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=settings.behind_proxy,
        h11_max_incomplete_event_size=HEAD_BYTES,
        timeout_keep_alive=int(settings.limits.header_seconds),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )


async def _watch(service: Service, server: uvicorn.Server, say: Callable[[str], None]) -> None:
    """Say when the run is loaded; stop where it cannot be."""
    with contextlib.suppress(Exception):
        await service.model()
    if service.error is not None:
        server.should_exit = True
    else:
        say("ready")


def _introduction(settings: Settings, bound: socket.socket) -> Iterator[str]:
    host, port = bound.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    yield f"http{'s' if settings.secure else ''}://{shown}:{port}/ serves {settings.run}; data in {settings.folder}"
    if not settings.local and not settings.secure and not settings.behind_proxy:
        yield "without TLS, token and images can be read on their way; give --tls-cert, or use a proxy that has it"
    if not settings.keep_uploads:
        yield "uploads are deleted when the service stops, but for reviewed cells; --keep-uploads keeps them"


def bind(settings: Settings) -> socket.socket:
    """A listening socket, taken before anything is loaded, so that a port in use is known at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio sends at once (TCP_NODELAY) only on sockets that say they are TCP. Without it the body of an answer waits
    # for the client's acknowledgement of its head, 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise CytodistillError(
            f"--host {settings.host} --port {settings.port}: cannot be used ({error.strerror}); choose another"
        ) from None
    return bound


class _Server(uvicorn.Server):
    """Ends when it is told to, without passing the signal on once more: what was asked for has been done."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        self._loop = asyncio.get_running_loop()
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # A second Ctrl-C waits neither for uploads that are worked on nor for answers.
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
            self._loop.call_soon_threadsafe(self._hurry)
        self.should_exit = True

    def _hurry(self) -> None:
        # uvicorn looks at force_exit before it ends the application, not while that takes its time.
        self._service.hurry()
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()


def _steady(limits: Limits, crowded: ASGIApp) -> type[H11Protocol]:
    """The HTTP protocol, closing connections whose head does not come in time, which uvicorn itself waits for without
    end, and leaving those too many to another application, where uvicorn's own answer is of another kind than ours."""
    seconds = limits.header_seconds

    class Steady(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                self.app = crowded
            self._await_head()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._await_head()

        def _await_head(self) -> None:
            answered = self.cycle
            self.loop.call_later(seconds, self._close_unless_asked, answered)

        def _close_unless_asked(self, answered: Any) -> None:
            if self.cycle is answered and not self.transport.is_closing():
                self.transport.close()

    return Steady


def _quiet(log_names: bool) -> None:
    """A line a request of our own, and nothing of libraries that may hold what a client sent."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("cytodistill").setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL if not log_names else logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
