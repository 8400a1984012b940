"""Messages between the service and a process that decodes: a JSON header and raw bytes, and never a pickle."""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

PREFIX = struct.Struct(">IQ")
LARGEST_HEADER = 16 << 20


class BrokenFrame(Exception):
    """What arrived is no frame."""


def pack(header: dict[str, Any], payload_length: int = 0) -> bytes:
    """The beginning of a frame; its payload follows."""
    text = json.dumps(header).encode()
    return PREFIX.pack(len(text), payload_length) + text


def lengths(prefix: bytes, largest_payload: int) -> tuple[int, int]:
    """Bytes of header and payload that follow a prefix; the other side may have been broken into, so both are bounded.

    Raises:
        BrokenFrame: they are out of bounds.
    """
    header, payload = PREFIX.unpack(prefix)
    if header > LARGEST_HEADER or payload > largest_payload:
        raise BrokenFrame
    return header, payload


def unpack(text: bytes) -> dict[str, Any]:
    """A frame's header.

    Raises:
        BrokenFrame: it is no JSON object.
    """
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise BrokenFrame from None
    if not isinstance(header, dict):
        raise BrokenFrame
    return header


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """The next frame of a blocking stream; None where it has ended."""
    prefix = stream.read(PREFIX.size)
    if len(prefix) < PREFIX.size:
        return None
    header, payload = PREFIX.unpack(prefix)
    return unpack(stream.read(header)), stream.read(payload)


def write_frame(stream: BinaryIO, header: dict[str, Any], *payload: bytes) -> None:
    """Write a frame to a blocking stream."""
    stream.write(pack(header, sum(map(len, payload))))
    for part in payload:
        stream.write(part)
    stream.flush()
