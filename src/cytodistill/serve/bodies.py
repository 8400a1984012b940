"""Bodies with images: a form of parts, or one image or zip as it is; read piece by piece, large ones to disk."""

from __future__ import annotations

import errno
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from cytodistill.serve.errors import Busy, Refused
from cytodistill.serve.formats import HEAD, Kind, kind_of
from cytodistill.serve.incoming import RETRY_SECONDS, Incoming
from cytodistill.serve.settings import Limits

IN_MEMORY = 512 << 10
"""Bytes of one request that are held in memory; the rest goes to a file."""
IMAGE = "image"
FIELDS = {"cells": 0, "keep": 16, "group": 256, "microns_per_pixel": 32, "ignore_pixel_size": 16}
"""Form fields beside the images, and their most bytes; of the cells the settings say."""
FULL = (errno.ENOSPC, errno.EDQUOT)
HEADERS = 8 << 10
"""Bytes of the headers of a part."""
NAME_LENGTH = 255


@dataclass(frozen=True)
class Content:
    """Bytes of a file, in memory or in a file of random name."""

    memory: bytes | None
    path: Path | None
    size: int
    head: bytes
    incoming: Incoming | None = None
    """What the file is deleted from."""

    @property
    def kind(self) -> Kind | None:
        return kind_of(self.head)

    def discard(self) -> None:
        """Delete what is on disk."""
        if self.incoming is not None and self.path is not None:
            self.incoming.remove(self.path)


@dataclass(frozen=True)
class Part:
    """An image or zip as it was sent, under the name that the sender gives it, for people alone."""

    name: str
    content: Content


@dataclass
class Form:
    """All that a request sent."""

    parts: list[Part] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)

    def flag(self, name: str) -> bool | None:
        """What a field says that is true or false; None where it is not given.

        Raises:
            Refused: it is neither.
        """
        given = self.fields.get(name)
        if given not in (None, "true", "false"):
            raise Refused(422, f"{name}: give true or false")
        return None if given is None else given == "true"

    def discard(self) -> None:
        """Delete what is on disk."""
        for part in self.parts:
            part.content.discard()


class _Spool:
    """One file on its way in."""

    def __init__(self, incoming: Incoming, room: int, most: int, most_incoming: int) -> None:
        self._incoming, self._room, self._most, self._most_incoming = incoming, room, most, most_incoming
        self._memory, self._size, self._head = bytearray(), 0, b""
        self._file: FileIO | None = None
        self._path = incoming.folder / secrets.token_hex(12)

    async def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._most:
            raise Refused(413, f"image: larger than {self._most >> 20} MiB; cut it into fields or cells")
        if len(self._head) < HEAD:
            self._head = (self._head + data)[:HEAD]
        self._memory += data
        if self._file is not None or len(self._memory) > self._room:
            self._incoming.claim(self._path, len(self._memory), self._most_incoming)
            await run_in_threadpool(self._flush)

    def _flush(self) -> None:
        if self._file is None:
            self._file = FileIO(self._path, "x")
        written = memoryview(self._memory)
        try:
            while written:
                written = written[self._file.write(written) :]
        except OSError as error:
            if error.errno in FULL:
                raise Busy("service: its disk is full; try again later", RETRY_SECONDS) from None
            raise
        written.release()
        self._memory = bytearray()

    def finish(self) -> Content:
        if self._file is not None:
            self._file.close()
            return Content(None, self._path, self._size, self._head, self._incoming)
        return Content(bytes(self._memory), None, self._size, self._head)

    def discard(self) -> None:
        if self._file is not None:
            self._file.close()
        self._incoming.remove(self._path)


class BodyReader:
    """Reads the body of a request into a form.

    Args:
        incoming: for what is too large for memory.
        limits: of a request.
        images: most files of this one.
    """

    def __init__(self, incoming: Incoming, limits: Limits, images: int) -> None:
        self._incoming, self._limits, self._images = incoming, limits, images
        self._form = Form()
        self._held = 0
        self._spool: _Spool | None = None

    async def read(self, request: Request) -> Form:
        """Read the body; nothing stays on disk where it is refused.

        Raises:
            Refused: it is not what is taken, too large, or cut off.
            Busy: the disk holds too much of other requests.
        """
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        try:
            if kind == b"multipart/form-data":
                await self._parts(request.stream(), options.get(b"boundary", b""))
            elif kind.startswith(b"image/") or kind in (b"application/zip", b"application/octet-stream"):
                self._begin_file()
                async for chunk in request.stream():
                    await self._data(chunk)
                self._end_file("")
            else:
                raise Refused(415, "Content-Type: send multipart/form-data, image/…, or application/zip")
            if not self._form.parts or not any(part.content.size for part in self._form.parts):
                raise Refused(422, f"{IMAGE}: nothing was sent; give an image or a zip of images")
        except BaseException as error:
            if self._spool is not None:
                self._spool.discard()
            self._form.discard()
            if isinstance(error, ClientDisconnect):
                raise Refused(400, "body: cut off") from None
            raise
        return self._form

    async def _parts(self, stream: AsyncIterator[bytes], boundary: bytes) -> None:
        if not 0 < len(boundary) <= 200:
            raise Refused(400, "Content-Type: no boundary of the parts; send multipart/form-data as browsers do")
        events: list[tuple[str, bytes]] = []
        parser = MultipartParser(boundary, _callbacks(events))
        part = _FormPart()
        async for chunk in stream:
            try:
                parser.write(chunk)
            except FormParserError:
                raise Refused(400, "body: not a form of parts; send multipart/form-data as browsers do") from None
            for event, data in events:
                await self._event(part, event, data)
            events.clear()
        if not part.ended:
            raise Refused(400, "body: cut off before its last part ended")

    async def _event(self, part: _FormPart, event: str, data: bytes) -> None:
        if event == "begin":
            part.begin()
        elif event in ("field", "value"):
            part.header(event, data)
        elif event == "headers":
            part.place()
            if part.is_file:
                self._begin_file()
            elif part.name in self._form.fields:
                raise Refused(422, f"{part.name}: given twice; give it once")
        elif event == "data" and part.is_file:
            await self._data(data)
        elif event == "data":
            part.text += data
            if len(part.text) > (FIELDS[part.name] or self._limits.coordinates):
                raise Refused(413, f"{part.name}: too long; give less of it")
        elif event == "end":
            if part.is_file:
                self._end_file(part.file_name)
            else:
                self._form.fields[part.name] = _text(bytes(part.text), part.name)
        else:
            part.ended = True

    def _begin_file(self) -> None:
        if len(self._form.parts) >= self._images:
            raise Refused(413, f"{IMAGE}: more than {self._images} files; send them in parts, or as an upload")
        most = max(self._limits.file, self._limits.body)
        self._spool = _Spool(self._incoming, IN_MEMORY - self._held, most, self._limits.incoming)

    async def _data(self, data: bytes) -> None:
        assert self._spool is not None
        await self._spool.write(data)

    def _end_file(self, name: str) -> None:
        assert self._spool is not None
        content, self._spool = self._spool.finish(), None
        self._form.parts.append(Part(shown(name), content))
        self._held += len(content.memory or b"")
        if content.kind != "ZIP" and content.size > self._limits.file:
            raise Refused(413, f"{IMAGE}: larger than {self._limits.file >> 20} MiB; cut it into fields or cells")


class _FormPart:
    """Where the parser is."""

    def __init__(self) -> None:
        self.ended = False
        self.begin()

    def begin(self) -> None:
        self.name, self.file_name, self.is_file = "", "", False
        self.text = bytearray()
        self._headers: list[tuple[bytearray, bytearray]] = []
        self._size, self._last = 0, ""

    def header(self, event: str, data: bytes) -> None:
        self._size += len(data)
        if event == "field" and self._last != "field":
            self._headers.append((bytearray(), bytearray()))
        if self._size > HEADERS or not self._headers:
            raise Refused(400, "body: headers of a part are too long, or none")
        self._headers[-1][event == "value"].extend(data)
        self._last = event

    def place(self) -> None:
        """Know the part by its headers."""
        said = {bytes(name).lower(): bytes(value) for name, value in self._headers}
        _, options = parse_options_header(said.get(b"content-disposition", b""))
        self.name = options.get(b"name", b"").decode("utf-8", "replace")
        self.is_file = b"filename" in options
        self.file_name = options.get(b"filename", b"").decode("utf-8", "replace")
        if self.is_file and self.name != IMAGE:
            raise Refused(422, f"body: files go by the name {IMAGE}")
        if not self.is_file and self.name not in FIELDS:
            raise Refused(422, f"body: a part of unknown name; there are {IMAGE} (a file), {', '.join(FIELDS)}")


def _callbacks(events: list[tuple[str, bytes]]) -> Any:
    def told(event: str) -> Any:
        return lambda: events.append((event, b""))

    def given(event: str) -> Any:
        return lambda data, start, end: events.append((event, bytes(data[start:end])))

    return {
        "on_part_begin": told("begin"),
        "on_header_field": given("field"),
        "on_header_value": given("value"),
        "on_headers_finished": told("headers"),
        "on_part_data": given("data"),
        "on_part_end": told("end"),
        "on_end": told("ended"),
    }


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Refused(422, f"{name}: not text in UTF-8") from None


def shown(name: str) -> str:
    """A name as it is stored and shown: text of one line, not too long. It is never a path of this machine's.

    Example:
        >>> shown("slide 1/cell\\n.png")
        'slide 1/cell�.png'
    """
    printable = (letter if letter.isprintable() else "\ufffd" for letter in name)
    return "".join(printable)[-NAME_LENGTH:]
