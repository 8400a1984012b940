"""What a zip of images may be. It is read in a process that can be killed, and nothing of it is written to disk."""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from cytodistill.data.images import is_image_name

SMALL = 1 << 20
"""Unpacked bytes below which no ratio counts."""
_ARCHIVES = (".zip", ".jar", ".7z", ".rar", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".zst")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class ArchiveRefused(Exception):
    """A zip that is not unpacked; ``code`` "archive", or "large" where it is a matter of size."""

    def __init__(self, detail: str, code: str = "archive") -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True)
class Rules:
    """Most images, bytes of one and of all unpacked, and ratio of unpacked to packed."""

    images: int
    file: int
    unpacked: int
    ratio: int


def open_archive(stream: BinaryIO) -> zipfile.ZipFile:
    """Open a zip.

    Raises:
        ArchiveRefused: it cannot be read as one.
    """
    try:
        return zipfile.ZipFile(stream)
    # A damaged directory may break the reader in many ways.
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, OverflowError):
        raise ArchiveRefused("zip: damaged or truncated; make it again") from None


def image_members(archive: zipfile.ZipFile, rules: Rules) -> list[zipfile.ZipInfo]:
    """The members to read, in their order: images by name, without hidden files and what systems add.

    Raises:
        ArchiveRefused: the zip breaks a rule; nothing of it has been unpacked.
    """
    members = archive.infolist()
    # Beside each image a zip of macOS has a file of its own, and there are folders.
    if len(members) > 3 * rules.images:
        raise ArchiveRefused(f"zip: more than {3 * rules.images} members; send it in parts", "large")
    seen: set[str] = set()
    kept = []
    for member in members:
        _check_name(member.orig_filename)
        _check_kind(member)
        if member.filename in seen:
            raise ArchiveRefused("zip: a name stands in it twice; make it again")
        seen.add(member.filename)
        if not member.is_dir() and not _clutter(member.filename) and is_image_name(member.filename):
            kept.append(member)
    if not kept:
        raise ArchiveRefused("zip: no images in it (PNG, JPEG, BMP, TIFF, WebP, by the names' ends)")
    if len(kept) > rules.images:
        raise ArchiveRefused(
            f"zip: {len(kept)} images, more than the {rules.images} allowed; send it in parts", "large"
        )
    if sum(member.file_size for member in members) > rules.unpacked:
        raise ArchiveRefused(f"zip: unpacked larger than {rules.unpacked >> 20} MiB; send it in parts", "large")
    for member in members:
        if member.file_size > SMALL and member.file_size > rules.ratio * max(member.compress_size, 1):
            raise ArchiveRefused(
                f"zip: a member unpacks to more than {rules.ratio} times its size; send images", "large"
            )
    return kept


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes:
    """Content of a member of at most so many bytes, whatever its size is said to be.

    Raises:
        ArchiveRefused: it is larger, or damaged.
    """
    try:
        with archive.open(member) as stream:
            content = stream.read(most + 1)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, ValueError):
        raise ArchiveRefused("damaged in the zip; make the zip again") from None
    if len(content) > most:
        raise ArchiveRefused(f"larger than {most >> 20} MiB; cut it into fields or cells", "large")
    return content


def _check_name(name: str) -> None:
    if name.startswith("/") or "\\" in name or re.match("[A-Za-z]:", name) or ".." in name.split("/"):
        raise ArchiveRefused("zip: a name in it points out of it; make it again with relative '/' paths")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise ArchiveRefused("zip: a name in it has control characters; make it again")


def _check_kind(member: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise ArchiveRefused("zip: a link or device in it; make it again with the files themselves")
    if member.flag_bits & 1:
        raise ArchiveRefused("zip: encrypted; make it again without a password")
    if member.compress_type not in _METHODS:
        raise ArchiveRefused("zip: packed by an unusual method; make it again with deflate")
    if member.filename.lower().endswith(_ARCHIVES):
        raise ArchiveRefused("zip: an archive inside it; send the images themselves")


def _clutter(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
