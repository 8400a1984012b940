"""Kinds of files by their first bytes; what a name or a header says counts for nothing."""

from __future__ import annotations

from typing import Literal

Kind = Literal["PNG", "JPEG", "BMP", "TIFF", "WEBP", "ZIP"]

HEAD = 16
"""Bytes that tell."""
_STARTS: tuple[tuple[bytes, Kind], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"PK\x03\x04", "ZIP"),
    (b"PK\x05\x06", "ZIP"),
)


def kind_of(head: bytes) -> Kind | None:
    """Kind of a file from its first `HEAD` bytes; None for one that is not taken.

    Example:
        >>> kind_of(b"BM\\x46..."), kind_of(b"GIF89a...")
        ('BMP', None)
    """
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    return "WEBP" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None
