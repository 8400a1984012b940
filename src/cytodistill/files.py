"""Files that are either the old one or the new one, never half of one."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

from cytodistill.errors import CytodistillError

_NO_ROOM_OR_RIGHT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


def make_folder(path: str | Path) -> Path:
    """Make a folder and those above it, where they are not there yet.

    Raises:
        CytodistillError: a file is in the way, or the place cannot be written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CytodistillError(f"{path}: cannot be made a folder ({error.strerror}); choose another place") from None
    return path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Temporary path beside ``path``; on a clean exit it is synced and renamed over ``path``, else removed.

    Raises:
        CytodistillError: ``path`` is a folder, or there is no room or no right to write it.
    """
    path = Path(path)
    if path.is_dir():
        raise CytodistillError(f"{path}: is a folder, and a file is to be written; choose another name")
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in _NO_ROOM_OR_RIGHT:
            raise
        raise CytodistillError(
            f"{path}: cannot be written ({error.strerror}); make room, or choose another place"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: str | Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a reader or a crash sees the whole of it or nothing."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG at 150 dots an inch, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, bbox_inches="tight")
    return Path(path)
