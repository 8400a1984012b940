"""Processes that decode what clients send, each replaced when an image breaks it or takes too long."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from cytodistill.serve.bodies import Content
from cytodistill.serve.errors import Refused
from cytodistill.serve.frames import PREFIX, BrokenFrame, lengths, pack, unpack
from cytodistill.serve.settings import Limits

# One image after another is decoded; threads inside would only reserve memory.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "VIRTUAL_ENV", "SYSTEMROOT")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
STATUS = {"kind": 415, "pixels": 413, "memory": 413, "large": 413, "damaged": 422, "outside": 422, "archive": 422}
BREAKING = 20
"""Images of one zip that may take their process down before the rest is refused."""
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Task:
    """What is wanted of images: ``size`` and ``mode`` of the network's input, or its pixels as they are where ``size``
    is None; ``png`` a picture of every cell; ``field`` a picture of the whole image first."""

    size: int | None
    mode: str
    png: bool = False
    field: bool = False


@dataclass(frozen=True)
class Cell:
    """A decoded cell: (H, W, 3) uint8 ``pixels``, its ``picture`` as PNG or nothing, the (width, height) of the image
    that it is of, and its place: the member of a zip, or the window of a field."""

    pixels: np.ndarray
    picture: bytes
    image: tuple[int, int]
    place: int
    name: str | None = None


@dataclass(frozen=True)
class Field:
    """The whole of an image that cells are cut from, as PNG."""

    picture: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Failed:
    """An image, or a window, that gives no cell."""

    status: int
    detail: str
    place: int = 0
    name: str | None = None


@dataclass(frozen=True)
class Listing:
    """How many images a zip has."""

    count: int


@dataclass(frozen=True)
class _NotUnpacked:
    """A zip that breaks a rule."""

    status: int
    detail: str


Decoded = Cell | Field | Failed | Listing


class Decoders:
    """A pool of decoding processes.

    Args:
        count: processes.
        limits: of images and zips.
    """

    def __init__(self, count: int, limits: Limits) -> None:
        self._count, self._limits = count, limits
        self._idle: asyncio.Queue[_Worker] = asyncio.Queue()
        self._all: set[_Worker] = set()
        self.killed = 0

    @property
    def count(self) -> int:
        return self._count

    async def start(self) -> None:
        """Start the processes."""
        for worker in await asyncio.gather(*(_Worker.start(self._limits) for _ in range(self._count))):
            self._all.add(worker)
            self._idle.put_nowait(worker)

    async def close(self) -> None:
        """End the processes."""
        await asyncio.gather(*(worker.kill() for worker in self._all))

    async def image(
        self, content: Content, task: Task, boxes: list[tuple[float, float, float, float]] | None = None
    ) -> AsyncGenerator[Decoded]:
        """Cells of one image, whole or its windows; the image fails as a whole, or a window of it."""
        header = {"task": "image", "boxes": boxes, "field": task.field} | self._wanted(task, content)
        async with aclosing(self._run(header, content)) as results:
            async for found in results:
                yield found

    async def archive(self, content: Content, task: Task) -> AsyncGenerator[Decoded]:
        """The number of images of a zip, then a cell or a failure for each, in order.

        Raises:
            Refused: the zip is not to be unpacked.
        """
        rules = {name: getattr(self._limits, name) for name in ("images", "file", "unpacked", "ratio")}
        header: dict[str, Any] = {"task": "zip", "rules": rules} | self._wanted(task, content)
        done, count = 0, 0
        for _ in range(1 + BREAKING):
            broken = None
            async with aclosing(self._run(header | {"from": done}, content)) as results:
                async for found in results:
                    if isinstance(found, Listing):
                        if not count:
                            yield found
                        count = found.count
                    elif isinstance(found, Failed) and found.name is None:
                        broken = found
                    elif isinstance(found, Cell | Failed):
                        done = found.place + 1
                        yield found
            if broken is None:
                return
            if not count:
                raise Refused(broken.status, f"zip: {broken.detail}")
            # The process went down with a member; the next one goes on behind it.
            yield Failed(broken.status, broken.detail, done, f"image {done + 1}")
            done += 1
        raise Refused(422, "zip: too many of its images cannot be decoded; make it again")

    def _wanted(self, task: Task, content: Content) -> dict[str, Any]:
        path = None if content.path is None else str(content.path)
        return {"path": path, "pixels": self._limits.pixels, "size": task.size, "mode": task.mode, "png": task.png}

    async def _run(self, header: dict[str, Any], content: Content) -> AsyncGenerator[Decoded]:
        worker = await self._idle.get()
        left = self._limits.pixels_in_all
        whole, refused = False, None
        try:
            async with aclosing(worker.run(header, content.memory or b"")) as results:
                async for found in results:
                    if isinstance(found, _NotUnpacked):
                        refused = found
                        continue
                    yield found
                    if isinstance(found, Cell) and (header["task"] == "zip" or found.place == 0):
                        left -= found.image[0] * found.image[1]
                        if left < 0:
                            raise Refused(413, "images: more pixels than one request may have; send them in parts")
            whole = True
        except TimeoutError:  # before OSError, of which it is one
            yield Failed(422, f"took longer than {self._limits.decode_seconds:g} s to decode; save it again as PNG")
        except (BrokenFrame, EOFError, OSError, KeyError, TypeError, ValueError):
            yield Failed(422, "could not be decoded; save it again as PNG or TIFF")
        finally:
            await asyncio.shield(self._return(worker, whole))
        if refused is not None:
            raise Refused(refused.status, refused.detail)

    async def _return(self, worker: _Worker, whole: bool) -> None:
        """Back into the pool, or another one for it where it was left in the middle."""
        if not whole or worker.ended:
            self.killed += 1
            self._all.discard(worker)
            await worker.kill()
            worker = await _Worker.start(self._limits)
            self._all.add(worker)
        self._idle.put_nowait(worker)


class _Worker:
    def __init__(self, process: Process, limits: Limits) -> None:
        self._process, self._limits = process, limits

    @classmethod
    async def start(cls, limits: Limits) -> _Worker:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | _ONE_THREAD
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "cytodistill.serve.worker"),
            *(str(limits.memory), str(ceil(limits.decode_seconds))),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env=environment,
            limit=1 << 20,
            # Ctrl-C is for the service, which lets its decoders finish.
            start_new_session=True,
        )
        return cls(process, limits)

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        # Before the wait, which is for the pipes' end too: one with more in it than its reader takes never ends.
        self._process._transport.close()  # type: ignore[attr-defined]
        await self._process.wait()

    async def run(self, header: dict[str, Any], payload: bytes) -> AsyncGenerator[Decoded | _NotUnpacked]:
        """Send a task and give its results. Raises TimeoutError, EOFError or BrokenFrame where the process fails."""
        assert self._process.stdin is not None
        seconds = self._limits.decode_seconds
        async with asyncio.timeout(seconds):
            self._process.stdin.write(pack(header, len(payload)))
            self._process.stdin.write(payload)
            await self._process.stdin.drain()
        while True:
            async with asyncio.timeout(seconds):
                said, data = await self._frame()
            if said["kind"] == "end":
                return
            yield _decoded(said, data)

    async def _frame(self) -> tuple[dict[str, Any], bytes]:
        assert self._process.stdout is not None
        # Twice the pixels: those of a cell, and its picture.
        most = 8 * self._limits.pixels + (1 << 20)
        prefix = await self._process.stdout.readexactly(PREFIX.size)
        header, payload = lengths(prefix, most)
        said = unpack(await self._process.stdout.readexactly(header))
        return said, await self._process.stdout.readexactly(payload)


def _decoded(said: dict[str, Any], data: bytes) -> Decoded | _NotUnpacked:
    """A result as it may be used: what comes from a process that read hostile bytes is checked like these."""
    kind = said["kind"]
    if kind == "listing":
        return Listing(int(said["count"]))
    if kind == "refused":
        return _NotUnpacked(STATUS[said["code"]], str(said["detail"]))
    place, name = int(said.get("number", said.get("place", 0))), said.get("name")
    if kind == "error":
        return Failed(STATUS[said["code"]], str(said["detail"]), place, name)
    length = int(said["png"])
    picture = data[len(data) - length :]
    if length and not picture.startswith(PNG):
        raise BrokenFrame
    width, height = int(said["width"]), int(said["height"])
    if kind == "field":
        return Field(picture, width, height)
    pixels = np.frombuffer(data[: len(data) - length], np.uint8).reshape(said["shape"])
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise BrokenFrame
    return Cell(pixels, picture, (width, height), place, name)
