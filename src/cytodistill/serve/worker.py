"""The process that decodes images and zips for the service. It may be killed at any time, and holds nothing to lose.

Run as ``python -m cytodistill.serve.worker MEMORY SECONDS``: frames of tasks on standard input, frames of results on
standard output. A task's frames end with one of kind "end". Address space and processor time are bounded, and it can
write no file.
"""

from __future__ import annotations

import io
import os
import re
import resource
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

# Loaded before the limits are set, and so that no other reader of Pillow's is ever asked.
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from cytodistill.data.images import FORMATS, ImageError, crop_box, decode, resize
from cytodistill.serve.archive import ArchiveRefused, Rules, image_members, open_archive, read_member
from cytodistill.serve.formats import HEAD, kind_of
from cytodistill.serve.frames import read_frame, write_frame

PLUGINS = (BmpImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin)
NAME = "image"
OPEN_FILES = 64

Result = tuple[dict[str, Any], tuple[bytes, ...]]


class Unusable(Exception):
    """An image that gives no cell: a code for the service and a line for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def main() -> None:
    memory, seconds = int(sys.argv[1]), int(sys.argv[2])
    Image.MAX_IMAGE_PIXELS = None  # the task's own limit is asked first
    # What a library prints must not be taken for a frame.
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _bound(memory)
    tasks = sys.stdin.buffer
    while (frame := read_frame(tasks)) is not None:
        task, payload = frame
        for header, parts in _answers(task, payload, seconds):
            write_frame(results, header, *parts)
        write_frame(results, {"kind": "end"})


def _bound(memory: int) -> None:
    for limit, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
    ):
        resource.setrlimit(limit, (most, most))


def _allow(seconds: int) -> None:
    """Processor time for one image more; beyond it the system ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _answers(task: dict[str, Any], payload: bytes, seconds: int) -> Iterator[Result]:
    _allow(seconds)
    try:
        if task["task"] == "zip":
            yield from _zip(task, payload, seconds)
        else:
            content = _content(task, payload)
            yield from _image(task, content)
    except ArchiveRefused as error:
        yield {"kind": "refused", "code": error.code, "detail": str(error)}, ()
    except Unusable as error:
        yield {"kind": "error", "code": error.code, "detail": str(error)}, ()
    except MemoryError:
        yield {"kind": "error", "code": "memory", "detail": _MEMORY}, ()


def _content(task: dict[str, Any], payload: bytes) -> bytes:
    if task.get("path") is None:
        return payload
    with open(task["path"], "rb") as file:
        return file.read()


def _zip(task: dict[str, Any], payload: bytes, seconds: int) -> Iterator[Result]:
    """One result an image, in their order from ``from`` on; an image that cannot be used is an error and no more."""
    path = task.get("path")
    stream: BinaryIO = io.BytesIO(payload) if path is None else open(path, "rb")  # noqa: SIM115
    with stream, open_archive(stream) as archive:
        members = image_members(archive, Rules(**task["rules"]))
        yield {"kind": "listing", "count": len(members)}, ()
        for number, member in enumerate(members[task["from"] :], start=task["from"]):
            _allow(seconds)
            said = {"number": number, "name": member.filename}
            try:
                for header, parts in _image(task, read_member(archive, member, task["rules"]["file"])):
                    yield header | said, parts
            except (Unusable, ArchiveRefused) as error:
                yield {"kind": "error", "code": error.code, "detail": str(error)} | said, ()
            except MemoryError:
                yield {"kind": "error", "code": "memory", "detail": _MEMORY} | said, ()


def _image(task: dict[str, Any], content: bytes) -> Iterator[Result]:
    """The cells of one image: the whole of it, or its windows ``boxes``; before them the field, where asked for."""
    image = _decoded(content, task["pixels"])
    height, width = image.shape[:2]
    if task.get("field"):
        picture = _png(image)
        yield {"kind": "field", "width": width, "height": height, "png": len(picture)}, (picture,)
    boxes = task.get("boxes")
    for place, box in enumerate([None] if boxes is None else boxes):
        said = {"place": place, "width": width, "height": height}
        try:
            cell = image if box is None else crop_box(image, *box)
        except ImageError as error:
            yield {"kind": "error", "code": "outside", "detail": str(error)} | said, ()
            continue
        yield _cell(task, cell, said)


def _cell(task: dict[str, Any], cell: np.ndarray, said: dict[str, Any]) -> Result:
    size = task["size"]
    given = np.ascontiguousarray(cell if size is None else resize(cell, size, task["mode"]))
    picture = _png(cell) if task["png"] else b""
    header = {"kind": "cell", "shape": list(given.shape), "png": len(picture)} | said
    return header, (given.tobytes(), picture)


def _decoded(content: bytes, pixels: int) -> np.ndarray:
    """(H, W, 3) uint8 by the rules of `data.images.decode`, which every other way into a run has too."""
    if kind_of(content[:HEAD]) in (None, "ZIP"):
        raise Unusable("kind", "not a PNG, JPEG, BMP, TIFF or WebP image; convert it")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as header:
            width, height = header.size
    except MemoryError:
        raise
    except Exception:
        raise Unusable("damaged", "damaged or truncated; save it again as PNG or TIFF") from None
    if width * height > pixels:
        raise Unusable("pixels", f"{width}×{height} pixels, more than the {pixels // 1_000_000} megapixels allowed")
    try:
        return decode(content, NAME)
    except ImageError as error:
        # What a library says in brackets may be of its own insides.
        raise Unusable("damaged", re.sub(r" \(.*\)", "", str(error).removeprefix(f"{NAME}: "))) from None


def _png(image: np.ndarray) -> bytes:
    """PNG of nothing but the pixels."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


_MEMORY = "needs more memory than one image may have; cut it into fields or cells"

if __name__ == "__main__":
    main()
