"""Files of a data set, alike whether its root is a folder or a zip archive."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cytodistill.errors import CytodistillError

MAX_BYTES = 1 << 30


class StorageError(CytodistillError):
    """A file that cannot be read, or an archive that cannot be trusted."""


@dataclass(frozen=True)
class Listing:
    """What a root holds: POSIX paths inside it of its files and folders, each in code-point order."""

    files: tuple[str, ...]
    folders: tuple[str, ...]


def list_root(root: Path) -> Listing:
    """Every file and folder below ``root`` (a folder or zip archive), without hidden ones and system clutter.

    Raises StorageError for a root that is neither, a damaged archive, and a name that could not be written down
    again (not UTF-8) or that points out of its archive.
    """
    files, folders = _list_zip(root) if root.is_file() else _list_folder(root)
    for path in (*files, *folders):
        try:
            path.encode()
        except UnicodeEncodeError:
            raise StorageError(f"{root}: the name {path!a} is not UTF-8; rename the file") from None
    return Listing(tuple(sorted(files)), tuple(sorted(folders)))


def read_bytes(root: str | Path, path: str) -> bytes:
    """Content of the file ``path`` (POSIX, relative) of ``root``, a folder or zip archive.

    Raises StorageError, naming the file, where it is absent, larger than 1 GiB, encrypted or damaged.
    """
    root = Path(root)
    if not root.is_file():
        file = root / path
        try:
            if file.stat().st_size > MAX_BYTES:
                raise StorageError(f"{file}: larger than {MAX_BYTES >> 20} MiB, which no image of cells is; remove it")
            return file.read_bytes()
        except FileNotFoundError:
            raise StorageError(f"{file}: no such file; restore it or take it out of the data set") from None
        except OSError as error:
            raise StorageError(f"{file}: cannot be read ({error.strerror}); check its permissions") from None
    archive = _archive(root)
    try:
        member = archive.getinfo(path)
        _check_member(root, path)
        if member.file_size > MAX_BYTES:
            raise StorageError(f"{root}:{path}: larger than {MAX_BYTES >> 20} MiB; take it out of the archive")
        return archive.read(member)
    except KeyError:
        raise StorageError(f"{root}:{path}: no such member of the archive; check its path") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise StorageError(f"{root}:{path}: cannot be unpacked ({error}); make the archive again") from None


def has_file(root: str | Path, path: str) -> bool:
    """Whether ``root``, a folder or zip archive, holds the file ``path``."""
    if os.path.isfile(root):
        return path in _archive(Path(root)).NameToInfo
    return os.path.isfile(os.path.join(root, path))


def display(root: str | Path, path: str) -> str:
    """The file's name for messages: ``folder/path`` or ``archive.zip:path``."""
    root = Path(root)
    return f"{root}:{path}" if root.is_file() else str(root / path)


def _ignored(path: str) -> bool:
    return any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db", "desktop.ini") for part in path.split("/"))


def _list_folder(root: Path) -> tuple[list[str], list[str]]:
    if not root.is_dir():
        raise StorageError(f"{root}: no such folder or file; check the path")
    files, folders = [], []

    def refuse(error: OSError) -> None:
        raise StorageError(f"{error.filename}: cannot be listed ({error.strerror}); check its permissions")

    # Links to folders are followed; one that leads back to its own parent would never end.
    above = {str(root): {os.path.realpath(root)}}
    for folder, names, here in os.walk(root, followlinks=True, onerror=refuse):
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if relative == "." else f"{relative}/"
        seen = above.pop(folder)
        kept = []
        for name in names:
            real = os.path.realpath(os.path.join(folder, name))
            if not _ignored(name) and real not in seen:
                kept.append(name)
                above[os.path.join(folder, name)] = seen | {real}
        names[:] = kept
        folders += [prefix + name for name in kept]
        files += [prefix + name for name in here if not _ignored(name)]
    return files, folders


def _list_zip(root: Path) -> tuple[list[str], list[str]]:
    files, folders = [], set()
    for name in _archive(root).namelist():
        _check_member(root, name)
        if _ignored(name):
            continue
        if name.endswith("/"):
            folders.add(name.rstrip("/"))
        else:
            files.append(name)
        parts = name.rstrip("/").split("/")[:-1]
        while parts and (parent := "/".join(parts)) not in folders:
            folders.add(parent)
            parts.pop()
    return files, list(folders)


def _check_member(root: Path, name: str) -> None:
    if name.startswith("/") or "\\" in name or re.match("[A-Za-z]:", name) or ".." in name.split("/"):
        raise StorageError(f"{root}: member {name!r} points out of the archive; make it again with relative '/' paths")


def _archive(root: Path) -> zipfile.ZipFile:
    stamp = root.stat()
    return _open_archive(root, stamp.st_mtime_ns, stamp.st_size, os.getpid())


@lru_cache(maxsize=8)
def _open_archive(root: Path, changed: int, size: int, process: int) -> zipfile.ZipFile:
    """One handle an archive and process: forked workers must not share a file position; threads may share a ZipFile."""
    try:
        try:
            # Many tools write UTF-8 names without the flag that says so.
            return zipfile.ZipFile(root, metadata_encoding="utf-8")
        except UnicodeDecodeError:
            return zipfile.ZipFile(root)
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise StorageError(f"{root}: not a readable zip archive ({error}); make it or fetch it again") from None


def content_stamp(root: str | Path, path: str) -> str:
    """Short text that changes when the file's content does: a hash of a file, size and checksum of a zip's member."""
    root = Path(root)
    if not root.is_file():
        return hashlib.blake2b(read_bytes(root, path), digest_size=16).hexdigest()
    member = _archive(root).NameToInfo.get(path)
    return f"{member.file_size:x}-{member.CRC:08x}" if member else "absent"
